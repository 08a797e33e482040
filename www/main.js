// Brings the page's parts together: opens the worker, loads the model, and takes what is dropped, pasted and pressed.

import { Darkroom, EMBEDDED_REPOSITORY } from "./darkroom.js";
import { code_of, message_of, needs_of } from "./errors.js";
import { changed, keep_form, last_settings, load_options, model_is, next_request, open_composer, restore_model, reuse, took, use_defaults, use_few_steps } from "./page/composer.js";
import { is_settings, picture_with } from "./page/pasted.js";
import { adopt_job, forget_job, left_jobs } from "./page/kept_form.js";
import { warn_on_leaving, serve_offline } from "./page/app.js";
import { enter_stays } from "./page/dialogs.js";
import { closest, element, fill_list } from "./page/elements.js";
import { add_picture, open_gallery } from "./page/gallery.js";
import { announce, notify } from "./page/notices.js";
import { choose_option, is_checkpoint, open_models, refresh, take_dropped_folder, take_file } from "./page/models.js";
import { open_networks } from "./page/networks.js";
import { picture_and_mask, restore_start, start_from } from "./page/start_picture.js";
import { draw, is_busy, open_tray, say, show_loading, stop } from "./page/tray.js";
import { bytes } from "./page/words.js";

/** @type {Darkroom} */
let darkroom;
let is_loaded = false;
/** The load that was asked for last. @type {Promise<unknown>} */
let loading = Promise.resolve();
let n_loads = 0;

/**
 * @param {"waiting" | "ready" | "error"} state
 * @param {string} text
 * @param {string} [why]
 */
function device(state, text, why = "") {
  element("device").dataset.state = state;
  element("device").textContent = text;
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
  device("waiting", "Loading the model …");
  try {
    const model = await darkroom.load(load_options(), show_loading);
    const by = model.runner === "gpu" ? "the GPU" : "the processor";
    element("runner-why").textContent = `Now it is ${by}, because ${model.why}.`;
    document.documentElement.dataset.runner = model.runner;
    await model_is(model);
    is_loaded = n === n_loads;
    device("ready", `${model.repository}, drawn by ${by}`, model.why);
    say("Ready.");
    return model;
  } catch (error) {
    await model_is(null);
    say("No model is loaded.");
    device("error", "No model is loaded");
    /** @type {Actions} */
    const actions = { "Try again": load_model };
    if (code_of(error) !== "network" && element("runner").value !== "cpu") {
      actions["Use the processor"] = () => choose_runner("cpu");
    }
    const { kept } = load_options();
    if (needs_of(error) === "prediction" && kept !== undefined) {
      actions["It predicts noise"] = () => choose_option(kept, "prediction", "epsilon");
      actions["It predicts velocity"] = () => choose_option(kept, "prediction", "v");
    }
    notify("error", `the model could not be loaded: ${message_of(error)}`, actions);
    return null;
  } finally {
    if (n === n_loads) {
      element("draw").disabled = false;
      document.documentElement.dataset.state = is_busy() ? "drawing" : "ready";
    }
  }
}

/** @param {string} runner */
async function choose_runner(runner) {
  element("runner").value = runner;
  keep_form();
  await load_model();
}

async function show_machine() {
  const { caps, gpu_error, reason, runner, storage, cancels_within_a_step } = await darkroom.check();
  const yes = (/** @type {boolean} */ is) => (is ? "yes" : "no");
  /** @type {[string, string][]} */
  const rows = [["Faster here", `${runner === "gpu" ? "the GPU" : "the processor"}: ${reason}`]];
  if (caps) {
    rows.push(
      ["GPU", caps.name],
      ["Kind", caps.software ? "software: right, but very slow" : "hardware"],
      ["16-bit floats", yes(caps.shader_f16)],
      ["Largest buffer", bytes(caps.max_buffer_bytes)],
      ["Largest binding", bytes(caps.max_binding_bytes)],
      ["Workgroup memory", bytes(caps.max_workgroup_bytes)],
    );
  } else {
    rows.push(["GPU", `none: ${gpu_error}`]);
  }
  if (storage) rows.push(["Space for this page", `${bytes(storage.used_bytes)} of ${bytes(storage.quota_bytes)} used`]);
  rows.push(["Stops", cancels_within_a_step ? "within a step" : "between steps"]);
  fill_list(element("machine"), rows);
}

/** Draws what the form describes; a model that is not there is loaded first. */
async function submit() {
  if (element("draw").disabled || document.querySelector("dialog[open]")) return;
  if (!is_loaded && is_busy()) {
    announce("Added when the model is loaded");
    await loading;
  }
  if (!is_loaded) {
    await load_model();
    if (!is_loaded) return;
  }
  const given = picture_and_mask();
  const request = await next_request();
  if (request) await draw(request, given, refused);
}

/** Says that a picture was not drawn, and what to do. @param {unknown} error */
function refused(error) {
  /** @type {Actions} */
  const actions = {};
  const code = code_of(error) ?? "";
  if (["device", "memory", "lost"].includes(code) && document.documentElement.dataset.runner === "gpu") {
    actions["Use the processor"] = () => choose_runner("cpu");
    actions["Load the model again"] = load_model;
  }
  if (code === "worker") actions["Reload the page"] = () => location.reload();
  notify("error", `the picture could not be drawn: ${message_of(error)}`, actions);
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
      draw(job.request, job.given, refused, id);
    }
  };
  notify("info", n === 1 ? "a picture was not finished when the page was left" : `${n} pictures were not finished when the page was left`, { Resume: resume, Discard: discard });
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
    notify("error", `the settings cannot be read: ${message_of(error).replace(/^picture: /, "")}`);
    return;
  }
  if (parameters && !parameters.is_empty) {
    reuse(parameters);
    return;
  }
  const message = parameters
    ? `this picture was made by ${parameters.program} and carries no settings that can be used here`
    : "this picture carries no settings";
  notify("info", message, { "Start from it": () => start(file) });
}

/**
 * Starts from a picture, and offers its settings where it carries some.
 * @param {Blob} file
 */
async function start(file) {
  if (!(await start_from(file))) return;
  try {
    const parameters = await darkroom.read_parameters(file);
    if (parameters && !parameters.is_empty) notify("info", "this picture carries the settings that made it", { "Use its settings": () => reuse(parameters, { of_start: true }) });
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
  const added = n === 0 ? [] : [n === 1 ? "1 picture is added" : `${n} pictures are added`];
  const shown = without.slice(0, 5).join(", ") + (without.length > 5 ? ` and ${without.length - 5} more` : "");
  if (without.length > 0) added.push(`${without.length === 1 ? "1 file is" : `${without.length} files are`} no PNG with settings: ${shown}`);
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
    const text = event.clipboardData?.getData("text/plain") ?? "";
    const field = closest(event, "input, textarea");
    if (is_settings(text) && (field === null || field === element("prompt"))) {
      event.preventDefault();
      picture_with(text).then(use_settings_of, (error) => notify("error", message_of(error)));
      return;
    }
    // Programs that copy a text give a picture of it, too.
    if (field && text.trim() !== "") return;
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    start(file);
  });
}

/** The code of keys that an input method takes, where a browser tells it in this way alone. */
const COMPOSING = 229;

function take_keys() {
  addEventListener("keydown", (event) => {
    // A key that is held, or that ends the writing of a word in an input method, is none of the page's.
    if (event.repeat || event.isComposing || event.keyCode === COMPOSING || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape") {
      stop();
    }
  });
  element("request").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
}

async function open() {
  // What is thrown where nobody looks is shown, too: the page has no silent failures.
  addEventListener("unhandledrejection", ({ reason }) => notify("error", message_of(reason)));
  addEventListener("error", ({ message }) => notify("error", message));
  try {
    darkroom = await Darkroom.open();
  } catch (error) {
    device("error", "The program did not start");
    say("The program did not start.");
    document.documentElement.dataset.state = "ready";
    element("draw").disabled = false;
    element("draw").textContent = "Reload the page";
    element("draw").addEventListener("click", () => location.reload());
    notify("error", `the program did not start: ${message_of(error)}`, { "Reload the page": () => location.reload() });
    return;
  }
  element("model").append(new Option("Emoji, 128 × 128 (comes with the page)", EMBEDDED_REPOSITORY));
  const choose_model = async () => {
    const model = await load_model();
    if (model) use_defaults(model, last_settings(model.repository));
  };
  open_tray(darkroom, took);
  open_networks(darkroom, { changed, removed: refresh, reload: load_model, use_few_steps, take: take_file });
  open_composer(darkroom);
  take_keys();
  take_drops();
  enter_stays(element("settings"));
  element("open-settings").addEventListener("click", () => element("settings").showModal());
  for (const id of /** @type {const} */ (["runner", "dtype", "budget"])) {
    element(id).addEventListener("change", () => choose_runner(element("runner").value));
  }
  const machine = show_machine().catch((error) => notify("error", `this browser cannot be asked what it can do: ${message_of(error)}`));
  const load = async () => {
    try {
      await open_models(darkroom, choose_model);
      restore_model();
    } catch (error) {
      notify("error", `the models that this browser keeps cannot be listed: ${message_of(error)}`);
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
  await Promise.all([open_gallery({ reuse, start_from: start }), load(), machine]);
}

await open();
