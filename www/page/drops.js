// What is dropped on the page or pasted into it goes where it belongs: checkpoints to the models, lists to the wildcards, a picture to the
// source image or its settings to the form, several pictures and archives of them into the gallery, and a file of settings or styles to
// the others.

import { import_settings } from "./backup.js";
import { closest, element } from "./elements.js";
import { is_archive, take_pictures } from "./gallery_import.js";
import { is_checkpoint, take_dropped_folder, take_file } from "./imports.js";
import { message_of } from "./messages.js";
import { notify } from "./notices.js";
import { is_settings, picture_with } from "./pasted.js";
import { import_styles } from "./prompts.js";
import { reuse } from "./reuse.js";
import { start_from } from "./start_picture.js";
import { text } from "./texts.js";
import { is_wildcards, take_wildcards } from "./wildcards.js";

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;

/** @param {import("../darkroom.js").Darkroom} given */
export function open_drops(given) {
  darkroom = given;
  const overlay = element("drop-here");
  const has_files = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  const mark = (/** @type {HTMLElement | null} */ target) => {
    for (const each of overlay.children) each.classList.toggle("aimed", each === target);
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
  if (files.length === 1 && /\.json$/i.test(files[0]?.name ?? "")) {
    await import_settings(files[0]);
    return;
  }
  if (files[0] && files.every(({ name }) => /\.csv$/i.test(name))) {
    for (const file of files) await import_styles(file);
    return;
  }
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
  if (others.length > 0 || is_archive(first)) {
    if (target === "start" && !is_archive(first)) start(first);
    await take_pictures(pictures);
  }
  else if (target === "start") start(first);
  else use_settings_of(first);
}
