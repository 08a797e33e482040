// Brings the page's parts together: opens the worker, loads the model, and takes what is dropped, pasted and pressed.

import { Darkroom, EMBEDDED_REPOSITORY } from "./darkroom.js";
import { code_of, message_of, needs_of } from "./errors.js";
import { serve_offline, warn_on_leaving } from "./page/app.js";
import { changed, estimated_seconds, next_request, took } from "./page/check.js";
import { model_is, open_composer, use_defaults, use_few_steps } from "./page/composer.js";
import { is_dialog_open, open_dialogs, show_dialog } from "./page/dialogs.js";
import { download } from "./page/downloads.js";
import { closest, element, fill_list, make, part } from "./page/elements.js";
import { keep_form, restore_model } from "./page/form.js";
import { add_picture, n_pictures, open_gallery, show_gallery } from "./page/gallery.js";
import { adopt_job, forget_job, left_jobs } from "./page/kept_form.js";
import { is_checkpoint, take_dropped_folder, take_file } from "./page/imports.js";
import { open_look } from "./page/look.js";
import { choose_option } from "./page/model_options.js";
import { open_models, refresh } from "./page/models.js";
import { announce, notify } from "./page/notices.js";
import { is_settings, picture_with } from "./page/pasted.js";
import { open_networks } from "./page/networks.js";
import { show_panel } from "./page/panel.js";
import { load_options } from "./page/request.js";
import { reuse } from "./page/reuse.js";
import { picture_and_mask, restore_start, start_from } from "./page/start_picture.js";
import { draw, is_busy, open_tray, say, show_loading, stop } from "./page/tray.js";
import { text, translate_page } from "./page/texts.js";
import { show_welcome, welcome_for, open_welcome } from "./page/welcome.js";
import { is_wildcards, open_wildcards, take_wildcards, wildcards } from "./page/wildcards.js";
import { bytes, sentence } from "./page/words.js";

/** @type {Darkroom} */
let darkroom;
let is_loaded = false;
/** The load that was asked for last. @type {Promise<unknown>} */
let loading = Promise.resolve();
let n_loads = 0;

/**
 * @param {"waiting" | "ready" | "error"} state
 * @param {string} said
 * @param {string} [why]
 */
function device(state, said, why = "") {
  element("device").dataset.state = state;
  element("device").textContent = said;
  element("device").title = why;
}

/** What can be done about an error, by what the buttons say. @typedef {Record<string, () => void>} Actions */

/** @returns {Promise<import("./protocol.js").LoadedModel | null>} null where none is loaded, which the page then says */
function load_model() {
  const load = load_now(++n_loads);
  loading = load;
  return load;
}

/** @param {number} n which load it is: an older one has no say any more */
async function load_now(n) {
  // In mid-queue it waits for its turn, and more can be asked for.
  element("draw").disabled = !is_busy();
  if (!is_busy()) document.documentElement.dataset.state = "starting";
  is_loaded = false;
  device("waiting", text.stage.loading);
  try {
    const model = await darkroom.load(load_options(), show_loading);
    const by = model.runner === "gpu" ? "GPU" : "CPU";
    element("runner-why").textContent = text.runs_on(by, model.why);
    document.documentElement.dataset.runner = model.runner;
    await model_is(model);
    is_loaded = n === n_loads;
    const is_smaller = model.weights === "q8_0" || model.weights === "q4_0";
    const weights = text.weights_of[model.weights ?? ""] ?? "";
    const why_smaller = element("weights").value === "auto" ? text.smaller_weights(weights) : weights;
    if (is_smaller) element("runner-why").textContent += ` ${sentence(why_smaller)}`;
    device("ready", `${name_of(model)} · ${by}${is_smaller ? ` · ${weights}` : ""}`, model.why);
    say(text.ready);
    welcome_for(model, darkroom).catch((error) => notify("error", message_of(error)));
    return model;
  } catch (error) {
    await model_is(null);
    say(text.no_model);
    device("error", text.no_model);
    /** @type {Actions} */
    const actions = { [text.retry]: load_model };
    if (code_of(error) !== "network" && element("runner").value !== "cpu") {
      actions[text.use_cpu] = () => choose_runner("cpu");
    }
    const { kept } = load_options();
    if (needs_of(error) === "prediction" && kept !== undefined) {
      actions[text.predicts_noise] = () => choose_option(kept, "prediction", "epsilon");
      actions[text.predicts_velocity] = () => choose_option(kept, "prediction", "v");
    }
    notify("error", text.model_not_loaded(message_of(error)), actions);
    return null;
  } finally {
    if (n === n_loads) {
      element("draw").disabled = false;
      document.documentElement.dataset.state = is_busy() ? "drawing" : "ready";
    }
  }
}

/** What a model is called in the page. @param {import("./protocol.js").LoadedModel} model */
const name_of = ({ repository }) => (repository === EMBEDDED_REPOSITORY ? text.demo_model : repository);

/** @param {string} runner */
async function choose_runner(runner) {
  element("runner").value = runner;
  keep_form();
  await load_model();
}

async function show_machine() {
  const { caps, gpu_error, reason, runner, storage, cancels_within_a_step } = await darkroom.check();
  const yes = (/** @type {boolean} */ is) => (is ? text.yes : text.no);
  /** @type {[string, string][]} */
  const rows = [[text.machine.automatic, `${runner === "gpu" ? "GPU" : "CPU"}: ${reason}`]];
  if (caps) {
    rows.push(
      ["GPU", caps.name],
      [text.machine.kind, caps.software ? text.machine.software : text.machine.hardware],
      [text.machine.f16, yes(caps.shader_f16)],
      [text.machine.buffer, bytes(caps.max_buffer_bytes)],
      [text.machine.binding, bytes(caps.max_binding_bytes)],
      [text.machine.workgroup, bytes(caps.max_workgroup_bytes)],
    );
  } else {
    rows.push(["GPU", text.machine.no_gpu(gpu_error ?? "")]);
  }
  if (storage) rows.push([text.machine.storage, text.machine.used(bytes(storage.used_bytes), bytes(storage.quota_bytes))]);
  rows.push([text.machine.cancel, cancels_within_a_step ? text.machine.immediate : text.machine.between]);
  fill_list(element("machine"), rows);
}

/** Draws what the form describes; a model that is not there is loaded first. */
async function submit() {
  if (element("draw").disabled || is_dialog_open()) return;
  if (!is_loaded && is_busy()) {
    announce(text.added_when_loaded);
    await loading;
  }
  if (!is_loaded) {
    await load_model();
    if (!is_loaded) return;
  }
  const given = { ...picture_and_mask(), wildcards: wildcards() };
  const request = await next_request();
  if (!request) return;
  show_panel(false);
  await draw(request, given, refused, { seconds: estimated_seconds() });
}

/** Says that a picture was not drawn, and what to do. @param {unknown} error */
function refused(error) {
  /** @type {Actions} */
  const actions = {};
  const code = code_of(error) ?? "";
  if (["device", "memory", "lost"].includes(code) && document.documentElement.dataset.runner === "gpu") {
    actions[text.use_cpu] = () => choose_runner("cpu");
    actions[text.reload_model] = load_model;
  }
  if (code === "worker") actions[text.reload] = () => location.reload();
  notify("error", text.not_drawn(message_of(error)), actions);
}

/** Offers what waited when the page was left. */
async function offer_queue() {
  const jobs = await left_jobs();
  const n = jobs.length;
  if (n === 0) return;
  const discard = () => jobs.forEach(([id]) => forget_job(id).catch(() => {}));
  const resume = async () => {
    for (const [id, job] of jobs) {
      await adopt_job(id, job);
      const is_there = [...element("model").options].some(({ value }) => value === job.model);
      if (is_there && element("model").value !== job.model) {
        element("model").value = job.model;
        await load_model();
      }
      if (!is_loaded) return;
      draw(job.request, job.given, refused, { kept_as: id });
    }
  };
  notify("info", text.unfinished(n), { [text.resume]: resume, [text.discard]: discard });
}

/**
 * Takes a picture's settings, or says that it carries none.
 * @param {Blob} file
 */
async function use_settings_of(file) {
  let parameters;
  try {
    parameters = await darkroom.read_parameters(file);
  } catch (error) {
    notify("error", text.settings_unreadable(message_of(error).replace(/^picture: /, "")));
    return;
  }
  if (parameters && !parameters.is_empty) {
    reuse(parameters);
    return;
  }
  notify("info", parameters ? text.no_usable_settings(parameters.program) : text.no_settings, { [text.use_as_source]: () => start(file) });
}

/**
 * Starts from a picture, and offers its settings where it carries some.
 * @param {Blob} file
 */
async function start(file) {
  if (!(await start_from(file))) return;
  try {
    const parameters = await darkroom.read_parameters(file);
    if (parameters && !parameters.is_empty) notify("info", text.settings_found, { [text.use_settings]: () => reuse(parameters, { of_start: true }) });
  } catch {
    // Settings of another program that cannot be understood: the picture is there, which is what was asked for.
  }
}

/**
 * Keeps checkpoints wherever they were dropped; a picture goes where it was dropped, and several go into the gallery.
 * @param {File[]} files
 * @param {string | undefined} target
 */
async function take_dropped(files, target) {
  if (files.every(is_wildcards)) {
    take_wildcards(files);
    return;
  }
  /** @type {File[]} */
  const weights = [];
  /** @type {File[]} */
  const pictures = [];
  for (const file of files) (file.name.endsWith(".yaml") || (await is_checkpoint(file)) ? weights : pictures).push(file);
  if (weights.length > 0) take_file(weights);
  const [first, ...others] = pictures;
  if (!first) return;
  if (others.length > 0) await take_pictures(pictures, target === "start");
  else if (target === "start") start(first);
  else use_settings_of(first);
}

/**
 * Keeps pictures that carry settings in the gallery, and says which do not.
 * @param {File[]} files
 * @param {boolean} is_start whether the first one is to be started from
 */
async function take_pictures(files, is_start) {
  if (is_start && files[0]) start(files[0]);
  const without = [];
  let n = 0;
  for (const file of files) {
    const parameters = await darkroom.read_parameters(file).catch(() => undefined);
    if (parameters && !parameters.is_empty && file.type === "image/png") {
      await add_picture({ png: file, parameters, seconds: 0, made_at: file.lastModified });
      n += 1;
    } else {
      without.push(file.name);
    }
  }
  const added = n === 0 ? [] : [text.pictures_added(n)];
  if (without.length > 0) added.push(text.files_without_settings(without.length, without.slice(0, 5).join(", ")));
  if (added.length > 0) notify("info", added.join("; "));
}

function take_drops() {
  const overlay = element("drop-here");
  const has_files = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  const mark = (/** @type {HTMLElement | null} */ target) => {
    for (const each of overlay.children) each.classList.toggle("over", each === target);
  };
  addEventListener("dragenter", (event) => {
    if (!has_files(event)) return;
    event.preventDefault();
    overlay.hidden = false;
  });
  addEventListener("dragover", (event) => {
    if (!has_files(event)) return;
    event.preventDefault();
    mark(closest(event, ".target"));
  });
  addEventListener("dragleave", (event) => {
    // Leaving the window has nowhere to go.
    if (!event.relatedTarget) overlay.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!has_files(event)) return;
    event.preventDefault();
    overlay.hidden = true;
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry());
    const folder = entries.find((entry) => entry?.isDirectory);
    if (folder) {
      take_dropped_folder(/** @type {FileSystemDirectoryEntry} */ (folder));
      return;
    }
    const target = closest(event, ".target")?.dataset.target;
    take_dropped([...(event.dataTransfer?.files ?? [])], target);
  });
  addEventListener("paste", (event) => {
    const said = event.clipboardData?.getData("text/plain") ?? "";
    const field = closest(event, "input, textarea");
    if (is_settings(said) && (field === null || field === element("prompt"))) {
      event.preventDefault();
      picture_with(said).then(use_settings_of, (error) => notify("error", message_of(error)));
      return;
    }
    // Programs that copy a text give a picture of it, too.
    if (field && said.trim() !== "") return;
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    start(file);
  });
}

/** Whether keys are letters there. @param {EventTarget | null} target */
const is_typing = (target) => target instanceof Element && target.matches("input:not([type=radio], [type=checkbox], [type=range]), textarea, select, #mask-canvas");
/** The code of keys that an input method takes, where a browser tells it in this way alone. */
const COMPOSING = 229;

function take_keys() {
  addEventListener("keydown", (event) => {
    // A key that is held, or that ends the writing of a word in an input method, is none of the page's.
    if (event.repeat || event.isComposing || event.keyCode === COMPOSING || is_dialog_open()) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape") {
      if (part(document, "main", HTMLElement).dataset.view === "gallery") show_gallery(false);
      else stop();
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey && !is_typing(event.target)) {
      if (event.key === "?") show_dialog(element("help"));
      else if (event.key.toLowerCase() === "g") element("open-gallery").click();
      else return;
      event.preventDefault();
    }
  });
  element("open-panel").addEventListener("click", () => show_panel(part(document, "main", HTMLElement).dataset.panel !== "open"));
  element("request").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
}

function open_help() {
  element("open-help").addEventListener("click", () => show_dialog(element("help")));
  const keys = (/** @type {string} */ said) => said.split(" ").map((key) => make("kbd", {}, key));
  element("shortcuts").replaceChildren(...text.shortcuts.flatMap(([said, does]) => [make("dt", {}, ...keys(said)), make("dd", {}, does)]));
}

/** Puts an example into the form and draws it. @param {string} prompt */
function draw_example(prompt) {
  element("prompt").value = prompt;
  changed();
  submit();
}

async function open() {
  translate_page();
  open_look();
  open_dialogs();
  open_help();
  // What is thrown where nobody looks is shown, too: the page has no silent failures.
  addEventListener("unhandledrejection", ({ reason }) => notify("error", message_of(reason)));
  addEventListener("error", ({ message }) => notify("error", message));
  try {
    darkroom = await Darkroom.open();
  } catch (error) {
    device("error", text.did_not_start);
    say(`${text.did_not_start}.`);
    document.documentElement.dataset.state = "ready";
    element("draw").disabled = false;
    element("draw").textContent = text.reload;
    element("draw").addEventListener("click", () => location.reload());
    notify("error", `${text.did_not_start}: ${message_of(error)}`, { [text.reload]: () => location.reload() });
    return;
  }
  element("model").append(new Option(text.demo_model, EMBEDDED_REPOSITORY));
  const choose_model = async () => {
    const model = await load_model();
    if (model) use_defaults(model);
  };
  open_tray(darkroom, took);
  open_networks(darkroom, { changed, removed: refresh, reload: load_model, use_few_steps, take: take_file });
  open_wildcards(changed);
  open_composer(darkroom);
  take_keys();
  take_drops();
  element("open-settings").addEventListener("click", () => show_dialog(element("settings")));
  open_welcome(draw_example, (version) => {
    element("open-models").click();
    download(version);
  });
  for (const id of /** @type {const} */ (["runner", "dtype", "weights", "budget"])) {
    element(id).addEventListener("change", () => choose_runner(element("runner").value));
  }
  const machine = show_machine().catch((error) => notify("error", message_of(error)));
  const load = async () => {
    try {
      await open_models(darkroom, choose_model);
      restore_model();
    } catch (error) {
      notify("error", text.models_unlisted(message_of(error)));
    }
    await load_model();
    const { width, height } = { width: element("width").value, height: element("height").value };
    await restore_start(() => {
      element("width").value = width;
      element("height").value = height;
      element("width").dispatchEvent(new Event("input", { bubbles: true }));
    }).catch(() => {});
    await offer_queue().catch(() => {});
  };
  warn_on_leaving(is_busy);
  serve_offline();
  await Promise.all([open_gallery({ reuse, start_from: (png) => start_from(png) }, () => show_welcome(n_pictures() === 0)), load(), machine]);
}

await open();
