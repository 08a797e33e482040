// Files and folders that the reader gives the page: weights go to the models or to the extra networks, by what is in them. What a file is
// is found out by the program, and so is what is wrong with it.

import { broadcast } from "./channel.js";
import { delete_now } from "./deletions.js";
import { show_dialog } from "./dialogs.js";
import { tell } from "./downloads.js";
import { element, picked_files } from "./elements.js";
import { forget_file, is_weights } from "./kept_files.js";
import { message_of } from "./messages.js";
import { network_came, say_of_networks } from "./networks.js";
import { notify } from "./notices.js";
import { report_of } from "./report.js";
import { text } from "./texts.js";
import { sentence } from "./words.js";

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
/** Looks again which models there are. */
let refresh = async () => {};

/**
 * @param {import("../darkroom.js").Darkroom} given
 * @param {() => Promise<void>} on_import is called once another model is here, or failed to come
 */
export function open_imports(given, on_import) {
  darkroom = given;
  refresh = on_import;
  element("import-folder").addEventListener("click", () => element("import-files").click());
  element("import-files").addEventListener("change", take_folder);
  element("import-file").addEventListener("click", () => element("single-file").click());
  element("single-file").addEventListener("change", () => {
    const picked = picked_files(element("single-file"));
    if (picked.length > 0) take_file(picked);
  });
}

/** Keeps the model in a folder that was picked, under the folder's name. */
async function take_folder() {
  const picked = picked_files(element("import-files"));
  const first = picked[0];
  if (!first) return;
  // Paths begin with the folder that was picked.
  const parts = (/** @type {File} */ { webkitRelativePath, name }) => (webkitRelativePath || name).split("/");
  const [folder = "model"] = parts(first).slice(0, -1);
  await take_over(folder, new Map(picked.map((file) => [parts(file).slice(1).join("/") || file.name, file])));
}

/** Whether a file's name is that of a Python pickle, as PyTorch writes it. @param {string} name */
const is_pickle = (name) => /\.(ckpt|pt|pth|bin)$/i.test(name);

/** Whether a file begins as GGUF does. @param {File} file */
const is_gguf = async (file) => (await file.slice(0, 4).text().catch(() => "")) === "GGUF";

/**
 * Whether a file is a checkpoint: by its name, or by its first bytes where those are GGUF's.
 * @param {File} file
 */
export async function is_checkpoint(file) {
  return is_weights(file.name) || is_pickle(file.name) || is_gguf(file);
}

/**
 * Keeps a checkpoint in one file under its own name, perhaps with its `.yaml`.
 * @param {File[]} picked
 */
export async function take_file(picked) {
  const weights = picked.filter(({ name }) => is_weights(name));
  if (weights.length > 1) {
    // Several at once are as many times one, each with the `.yaml` of its name.
    for (const each of weights) await take_file([each, ...picked.filter(({ name }) => name === each.name.replace(/\.\w+$/, ".yaml"))]);
    return;
  }
  const file = weights[0] ?? picked[0];
  if (!file) return;
  const path_of = (/** @type {File} */ { name }) => (is_weights(name) || name.endsWith(".yaml") ? name : `${name}.gguf`);
  if (is_pickle(file.name) && !(await is_gguf(file))) {
    const refused = await darkroom.inspect(file).then(() => text.is_pickle, message_of);
    notify("error", text.not_imported(file.name, refused));
    return;
  }
  const name = path_of(file);
  const yaml = await picked.find((each) => each.name.endsWith(".yaml"))?.text();
  // What is wrong with a file is said by the import.
  const found = await darkroom.inspect(new File([file], name), { yaml }).catch(() => null);
  if ((found?.kind === "lora" || found?.kind === "embedding") && !found.refused) {
    await take_network(name, file);
    return;
  }
  show_dialog(element("models"));
  show_report(name, found);
  if (found?.refused) {
    notify("error", text.not_imported(name, found.problem ?? ""));
    return;
  }
  await take_over(name, new Map(picked.map((each) => [path_of(each), each])));
}

/**
 * Keeps a file that changes a model.
 * @param {string} name
 * @param {File} file
 */
async function take_network(name, file) {
  await delete_now(name);
  try {
    await darkroom.import(name, new Map([[name, file]]), ({ fraction }) => say_of_networks(text.importing(name, Math.round(fraction * 100))));
    forget_file(name);
    broadcast({ type: "models" });
    await network_came(name);
  } catch (error) {
    notify("error", text.import_failed(name, message_of(error)));
  }
  say_of_networks("");
  await refresh();
}

/**
 * Shows what a file is that was picked or dropped.
 * @param {string} name
 * @param {import("../protocol.js").Inspection | null} found
 */
function show_report(name, found) {
  element("models-report").hidden = found === null;
  element("models-report").replaceChildren(...(found ? report_of(name, found) : []));
}

/**
 * All files below a folder, by their paths in it.
 * @param {FileSystemDirectoryEntry} folder
 * @param {string} front
 * @returns {Promise<[string, File][]>}
 */
async function files_below(folder, front = "") {
  const reader = folder.createReader();
  /** @type {[string, File][]} */
  const files = [];
  for (;;) {
    // Browsers give a part of a large folder at a time, and nothing behind the last one.
    const entries = await new Promise((/** @type {(entries: FileSystemEntry[]) => void} */ resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return files;
    for (const entry of entries) {
      const path = `${front}${entry.name}`;
      if (entry.isDirectory) files.push(...(await files_below(/** @type {FileSystemDirectoryEntry} */ (entry), `${path}/`)));
      else files.push([path, await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject))]);
    }
  }
}

/**
 * Keeps the model in a folder that was dropped: one in diffusers' layout, or the one file of weights that it has.
 * @param {FileSystemDirectoryEntry} folder
 */
export async function take_dropped_folder(folder) {
  show_dialog(element("models"));
  let files;
  try {
    files = await files_below(folder);
  } catch (error) {
    notify("error", text.folder_unreadable(folder.name, message_of(error)));
    return;
  }
  const weights = files.filter(([path]) => is_weights(path));
  const is_model = files.some(([path]) => path === "model_index.json");
  if (!is_model && weights.length === 1) await take_file(files.filter(([path]) => is_weights(path) || path.endsWith(".yaml")).map(([, file]) => file));
  else await take_over(folder.name, new Map(files));
}

/**
 * @param {string} name
 * @param {Map<string, File>} files
 */
async function take_over(name, files) {
  await delete_now(name);
  forget_file(name);
  try {
    await darkroom.import(name, files, ({ fraction }) => {
      tell(text.importing(name, Math.round(fraction * 100)), `${Math.round(fraction * 100)} % · ${name}`);
    });
    tell(text.model_ready(name));
    broadcast({ type: "models" });
  } catch (error) {
    tell(sentence(message_of(error)));
    notify("error", text.import_failed(name, message_of(error)));
  }
  await refresh();
}
