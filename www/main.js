// Brings the page's parts together: opens the worker, loads the model, draws what the form asks for, and takes keys.

import { Darkroom, EMBEDDED_REPOSITORY } from "./darkroom.js";
import { code_of, needs_of } from "./errors.js";
import { serve_offline, warn_on_leaving } from "./page/app.js";
import { open_backup } from "./page/backup.js";
import { changed, estimated_seconds, next_request, took } from "./page/check.js";
import { model_is, open_composer, use_defaults, use_few_steps } from "./page/composer.js";
import { is_dialog_open, open_dialogs, show_dialog } from "./page/dialogs.js";
import { download } from "./page/downloads.js";
import { open_drops } from "./page/drops.js";
import { element, fill_list, make, part } from "./page/elements.js";
import { form_is_of_chosen, keep_form, loaded_model, restore_model } from "./page/form.js";
import { n_pictures, open_gallery, show_gallery } from "./page/gallery.js";
import { take_file } from "./page/imports.js";
import { adopt_job, forget_job, left_jobs } from "./page/kept_form.js";
import { open_highlight } from "./page/highlight.js";
import { open_links } from "./page/link.js";
import { open_look } from "./page/look.js";
import { choose_option } from "./page/model_options.js";
import { open_models, refresh } from "./page/models.js";
import { open_networks } from "./page/networks.js";
import { announce, notify } from "./page/notices.js";
import { show_panel } from "./page/panel.js";
import { open_gallery_import } from "./page/gallery_import.js";
import { finish_grids, open_grid } from "./page/grid.js";
import { remember_prompt } from "./page/history.js";
import { message_of, told } from "./page/messages.js";
import { open_prompts } from "./page/prompts.js";
import { load_options } from "./page/request.js";
import { reuse } from "./page/reuse.js";
import { picture_and_mask, restore_start, start_from } from "./page/start_picture.js";
import { text, translate_page } from "./page/texts.js";
import { draw, is_busy, open_tray, say, show_loading, stop } from "./page/tray.js";
import { open_welcome, show_welcome, welcome_for } from "./page/welcome.js";
import { open_wildcards, wildcards } from "./page/wildcards.js";
import { open_weights } from "./page/weights.js";
import { bytes, sentence } from "./page/words.js";

/** @type {Darkroom} */
let darkroom;
let is_loaded = false;
/** The load that was asked for last. @type {Promise<import("./protocol.js").LoadedModel | null>} */
let loading = Promise.resolve(null);
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

/**
 * @param {number} n which load it is: an older one has no say any more
 * @returns {Promise<import("./protocol.js").LoadedModel | null>}
 */
async function load_now(n) {
  // What is asked for meanwhile waits for the model.
  element("draw").disabled = false;
  if (!is_busy()) document.documentElement.dataset.state = "starting";
  is_loaded = false;
  device("waiting", text.stage.loading);
  try {
    const model = await darkroom.load(load_options(), show_loading);
    if (n !== n_loads) return await loading;
    const by = model.runner === "gpu" ? "GPU" : "CPU";
    element("runner-why").textContent = text.runs_on(by, told(model.why));
    document.documentElement.dataset.runner = model.runner;
    await model_is(model);
    if (n !== n_loads) return await loading;
    is_loaded = true;
    const is_smaller = model.weights === "q8_0" || model.weights === "q4_0";
    const weights = text.weights_of[model.weights ?? ""] ?? "";
    const why_smaller = element("weights").value === "auto" ? text.smaller_weights(weights) : weights;
    if (is_smaller) element("runner-why").textContent += ` ${sentence(why_smaller)}`;
    device("ready", `${name_of(model)} · ${by}${is_smaller ? ` · ${weights}` : ""}`, told(model.why));
    say(text.ready);
    welcome_for(model, darkroom).catch((error) => notify("error", message_of(error)));
    return model;
  } catch (error) {
    if (n !== n_loads) return await loading;
    await model_is(null);
    element("needs").textContent = "";
    say(text.no_model);
    device("error", text.no_model);
    /** @type {Actions} */
    const actions = { [text.retry]: load_model };
    if (helps_on_cpu(error) && element("runner").value !== "cpu") {
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

/** Whether the processor may do what the GPU did not. @param {unknown} error */
const helps_on_cpu = (error) => ["device", "memory", "lost"].includes(code_of(error) ?? "");

/** A stop ended the worker: the model comes back by itself. @param {Promise<void>} restarted */
function restarted_by_stop(restarted) {
  const model = loaded_model();
  // Another one that was asked for shows itself.
  if (is_loaded && model) loading = come_back(restarted, model, ++n_loads);
}

/** Whether it is not back yet. The drawing that was stopped ends meanwhile, and the page is ready for the next. */
let is_coming_back = false;

/**
 * @param {Promise<void>} restarted
 * @param {import("./protocol.js").LoadedModel} model
 * @param {number} n which load it is
 * @returns {Promise<import("./protocol.js").LoadedModel | null>}
 */
async function come_back(restarted, model, n) {
  const { textContent, title } = element("device");
  is_loaded = false;
  is_coming_back = true;
  if (!is_busy()) document.documentElement.dataset.state = "starting";
  device("waiting", text.stage.loading);
  try {
    await restarted;
    if (n !== n_loads) return await loading;
    is_loaded = true;
    device("ready", textContent, title);
    return model;
  } catch (error) {
    if (n !== n_loads) return await loading;
    // What is wrong with the model is said where it is loaded once more.
    if (code_of(error) !== "worker") return await load_now(n);
    device("error", text.did_not_start);
    notify("error", `${text.did_not_start}: ${message_of(error)}`, { [text.reload]: () => location.reload() });
    return null;
  } finally {
    is_coming_back = false;
    if (n === n_loads) document.documentElement.dataset.state = is_busy() ? "drawing" : "ready";
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
  const { caps, gpu_error, reason, runner, storage, cancels_within_a_step, n_threads, one_thread_because } = await darkroom.check();
  const yes = (/** @type {boolean} */ is) => (is ? text.yes : text.no);
  /** @type {[string, string][]} */
  const rows = [[text.machine.automatic, `${runner === "gpu" ? "GPU" : "CPU"}: ${told(reason)}`]];
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
    rows.push(["GPU", text.machine.no_gpu(told(gpu_error ?? ""))]);
  }
  rows.push([text.machine.threads, one_thread_because === null ? String(n_threads) : text.machine.one_thread(told(one_thread_because))]);
  if (storage) rows.push([text.machine.storage, text.machine.used(bytes(storage.used_bytes), bytes(storage.quota_bytes))]);
  rows.push([text.machine.cancel, cancels_within_a_step ? text.machine.immediate : text.machine.immediate_then_loaded]);
  fill_list(element("machine"), rows);
}

/** Whether something was asked for that waits for the first model. */
let is_awaited = false;
/** Settles once the form has what was left in it, and what the page's address says. @type {Promise<void>} */
let form_is_whole = Promise.resolve();

/** Whether a model is there that draws; one that is not is loaded first. */
async function is_ready() {
  if (element("draw").disabled || is_dialog_open()) return false;
  const state = document.documentElement.dataset.state;
  if (!is_loaded && (is_busy() || is_coming_back || state === "starting")) {
    // Nothing else shows that the button was pressed, so it is pressed again: that is not one more image.
    if (is_awaited && !is_busy()) return false;
    is_awaited = true;
    announce(text.added_when_loaded);
    if (!is_busy()) element("needs").textContent = text.drawn_when_loaded;
    let awaited, model;
    do {
      awaited = loading;
      model = await awaited;
      await form_is_whole;
      // Another model may have been chosen.
    } while (awaited !== loading);
    is_awaited = false;
    // What is wrong is shown.
    if (!model) return false;
  }
  await form_is_whole;
  if (!is_loaded) await load_model();
  return is_loaded;
}

/** Draws what the form describes; a model that is not there is loaded first. */
async function submit() {
  if (!(await is_ready())) return;
  const given = { ...picture_and_mask(), wildcards: wildcards() };
  const request = await next_request();
  if (!request) return;
  show_panel(false);
  remember_prompt(request);
  await draw(request, given, refused, { seconds: estimated_seconds() });
}

/** Says that a picture was not drawn, and what to do. @param {unknown} error */
function refused(error) {
  /** @type {Actions} */
  const actions = {};
  if (helps_on_cpu(error) && document.documentElement.dataset.runner === "gpu") {
    actions[text.use_cpu] = () => choose_runner("cpu");
    actions[text.reload_model] = load_model;
  }
  if (code_of(error) === "worker") actions[text.reload] = () => location.reload();
  notify("error", text.not_drawn(message_of(error)), actions);
}

/** Offers what waited when the page was left. */
async function offer_queue() {
  const jobs = await left_jobs();
  const n = jobs.length;
  if (n === 0) return;
  const discard = () => jobs.forEach(([id]) => forget_job(id).catch(() => {}));
  const resume = async () => {
    /** @type {Parameters<typeof finish_grids>[0]} */
    const cells = [];
    const finish = () => finish_grids(cells).catch((error) => notify("error", text.grid.failed(message_of(error))));
    for (const [id, job] of jobs) {
      await adopt_job(id, job);
      const is_there = [...element("model").options].some(({ value }) => value === job.model);
      if (is_there && element("model").value !== job.model) {
        element("model").value = job.model;
        await load_model();
      }
      if (!is_loaded) break;
      const { cell } = job;
      const drawn = draw(job.request, job.given, refused, { kept_as: id, cell });
      if (cell) cells.push({ cell, drawn });
    }
    finish();
  };
  notify("info", text.unfinished(n), { [text.resume]: resume, [text.discard]: discard });
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

/**
 * Puts into the form what was left in it, and what the page's address says.
 * @param {Promise<unknown>} first_load
 * @param {() => Promise<void>} use_link
 */
async function fill_form(first_load, use_link) {
  await first_load;
  const { width, height } = { width: element("width").value, height: element("height").value };
  await restore_start(() => {
    element("width").value = width;
    element("height").value = height;
    element("width").dispatchEvent(new Event("input", { bubbles: true }));
  }).catch(() => {});
  await use_link();
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
    darkroom = await Darkroom.open({ on_restart: restarted_by_stop });
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
  open_prompts();
  open_highlight();
  open_weights();
  open_grid(darkroom, { is_ready, refused });
  open_gallery_import(darkroom);
  open_backup();
  const use_link = open_links((value) => {
    element("model").value = value;
    form_is_of_chosen();
    return load_model();
  });
  take_keys();
  open_drops(darkroom);
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
    form_is_whole = fill_form(load_model(), use_link);
    await form_is_whole;
    await offer_queue().catch(() => {});
  };
  warn_on_leaving(is_busy);
  serve_offline();
  await Promise.all([open_gallery({ reuse, start_from: (png) => start_from(png) }, () => show_welcome(n_pictures() === 0)), load(), machine]);
}

await open();
