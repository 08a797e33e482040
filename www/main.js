// Brings the page's parts together: opens the worker, loads the model, and takes what is dropped, pasted and pressed.

import { Darkroom, EMBEDDED_REPOSITORY } from "./darkroom.js";
import { code_of, message_of, needs_of } from "./errors.js";
import { changed, keep_form, load_options, model_is, next_request, open_composer, restore_model, reuse, took, use_defaults, use_few_steps } from "./page/composer.js";
import { closest, element, fill_list } from "./page/elements.js";
import { open_gallery } from "./page/gallery.js";
import { notify } from "./page/notices.js";
import { choose_option, is_checkpoint, open_models, refresh, take_dropped_folder, take_file } from "./page/models.js";
import { open_networks } from "./page/networks.js";
import { picture_and_mask, start_from } from "./page/start_picture.js";
import { draw, is_busy, open_tray, say, show_loading, stop } from "./page/tray.js";
import { is_wildcards, open_wildcards, take_wildcards, wildcards } from "./page/wildcards.js";
import { bytes } from "./page/words.js";

/** @type {Darkroom} */
let darkroom;
let is_loaded = false;

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
async function load_model() {
  element("draw").disabled = true;
  document.documentElement.dataset.state = "starting";
  is_loaded = false;
  device("waiting", "Loading the model …");
  try {
    const model = await darkroom.load(load_options(), show_loading);
    const by = model.runner === "gpu" ? "the GPU" : "the processor";
    element("runner-why").textContent = `Now it is ${by}, because ${model.why}.`;
    document.documentElement.dataset.runner = model.runner;
    await model_is(model);
    is_loaded = true;
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
    element("draw").disabled = false;
    document.documentElement.dataset.state = is_busy() ? "drawing" : "ready";
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
  if (element("draw").disabled) return;
  if (!is_loaded) {
    await load_model();
    if (!is_loaded) return;
  }
  const given = { ...picture_and_mask(), wildcards: wildcards() };
  const request = await next_request();
  if (!request) return;
  await draw(request, given, (error) => {
    /** @type {Actions} */
    const actions = {};
    const code = code_of(error) ?? "";
    if (["device", "memory", "lost"].includes(code) && document.documentElement.dataset.runner === "gpu") {
      actions["Use the processor"] = () => choose_runner("cpu");
      actions["Load the model again"] = load_model;
    }
    if (code === "worker") actions["Reload the page"] = () => location.reload();
    notify("error", `the picture could not be drawn: ${message_of(error)}`, actions);
  });
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
    if (parameters && !parameters.is_empty) notify("info", "this picture carries the settings that made it", { "Use its settings": () => reuse(parameters) });
  } catch {
    // Settings of another program that cannot be understood: the picture is there, which is what was asked for.
  }
}

/**
 * Keeps a checkpoint wherever it was dropped; a picture goes where it was dropped.
 * @param {File[]} files
 * @param {File} first
 * @param {string | undefined} target
 */
async function take_dropped(files, first, target) {
  if (files.every(is_wildcards)) take_wildcards(files);
  else if (await is_checkpoint(files.find(({ name }) => !name.endsWith(".yaml")) ?? first)) take_file(files);
  else if (target === "start") start(first);
  else use_settings_of(first);
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
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    const target = closest(event, ".target")?.dataset.target;
    take_dropped([...(event.dataTransfer?.files ?? [])], file, target);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    start(file);
  });
}

function take_keys() {
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
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
    if (model) use_defaults(model);
  };
  open_tray(darkroom, took);
  open_networks(darkroom, { changed, removed: refresh, reload: load_model, use_few_steps, take: take_file });
  open_wildcards(changed);
  open_composer(darkroom);
  take_keys();
  take_drops();
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
  };
  await Promise.all([open_gallery({ reuse, start_from: start }), load(), machine]);
}

await open();
