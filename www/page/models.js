// The models that this browser keeps: download, pause, go on, verify, delete; and which of them draws.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { code_of, message_of } from "../errors.js";
import { broadcast, on_news } from "./channel.js";
import { enter_stays } from "./dialogs.js";
import { delete_later, delete_now, is_deleted, left_over } from "./deletions.js";
import { element, make, part } from "./elements.js";
import { keep_focus } from "./focus.js";
import { network_came, network_of, refresh_networks, say_of_networks } from "./networks.js";
import { announce, notify } from "./notices.js";
import { repository_of } from "./pasted.js";
import { report_of } from "./report.js";
import { bytes, duration, sentence } from "./words.js";

/**
 * @typedef {import("../protocol.js").Inspection} Inspection
 * @typedef {Omit<import("../protocol.js").KeptOptions, "embeddings">} KeptOptions
 * @typedef {import("../protocol.js").ModelReport} ModelReport
 */

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
/** @type {import("../protocol.js").VersionInfo[]} */
let versions = [];
/** The model that is being downloaded, if any. @type {string | null} */
let downloading = null;
/** What each version takes of this browser's GPU, in words, as far as it is known. @type {Map<string, string>} */
const memory = new Map();
/** @type {(model: string) => void} */
let chosen = () => {};

/** How long a Hub may take to answer before the page says that it does. */
const ANSWER_MS = 5_000;
/** What the reader chose for kept models, by their names under this one. */
const OPTIONS_KEY = "darkroom.model-options";
/** What kept files are, as far as it is known; null while it is found out. @type {Map<string, Inspection | null>} */
const inspected = new Map();
/** Reports that are shown, by the names of their models. @type {Map<string, Inspection>} */
const shown = new Map();

/** @returns {Record<string, KeptOptions>} */
function all_options() {
  try {
    return JSON.parse(localStorage.getItem(OPTIONS_KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/**
 * What the reader said of a kept model: what it predicts, and the kept models that its parts come from.
 * @param {string | undefined} model
 * @returns {KeptOptions}
 */
export function options_of(model) {
  return (model === undefined ? undefined : all_options()[model]) ?? {};
}

/**
 * @param {string} model
 * @param {KeptOptions} options
 */
function set_options(model, options) {
  const { [model]: _, ...others } = all_options();
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value));
  try {
    localStorage.setItem(OPTIONS_KEY, JSON.stringify(Object.keys(given).length > 0 ? { ...others, [model]: given } : others));
  } catch {
    notify("error", "this browser keeps no settings, so nothing can be chosen for a model");
  }
}

/** Forgets what was said of a model, also as a part of others. @param {string} model */
function forget_options(model) {
  set_options(model, {});
  for (const [other, options] of Object.entries(all_options())) {
    const kept = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== model));
    if (Object.keys(kept).length < Object.keys(options).length) set_options(other, kept);
  }
}

/** Whether a file's name is that of weights. @param {string} name */
const is_weights = (name) => /\.(safetensors|gguf)$/i.test(name);

/** Whether a model is a checkpoint in one file. @param {ModelReport} report */
const is_single = ({ files }) => !files.some(({ path }) => path === "model_index.json") && files.filter(({ path }) => is_weights(path)).length === 1;

/** Whether a model is on its way, by the name that it is loaded under. @param {string | undefined} model */
export const is_downloading = (model) => downloading !== null && downloading === model;

/**
 * @param {import("../darkroom.js").Darkroom} given
 * @param {(model: string) => void} on_chosen is called when another model is to draw
 */
export async function open_models(given, on_chosen) {
  darkroom = given;
  chosen = on_chosen;
  element("open-models").addEventListener("click", () => {
    element("models").showModal();
    refresh();
    plan_versions();
  });
  element("model").addEventListener("change", () => chosen(element("model").value));
  const add = () => {
    const name = repository_of(element("repository").value, element("endpoint").value.trim());
    if (name) download(name);
  };
  element("add-repository").addEventListener("click", add);
  enter_stays(element("models"), (field) => {
    if (field === element("repository")) add();
  });
  on_news("models", refresh);
  element("import-folder").addEventListener("click", () => element("import-files").click());
  element("import-files").addEventListener("change", take_folder);
  element("import-file").addEventListener("click", () => element("single-file").click());
  element("single-file").addEventListener("change", () => {
    const picked = [...(element("single-file").files ?? [])];
    element("single-file").value = "";
    if (picked.length > 0) take_file(picked);
  });
  for (const id of /** @type {const} */ (["endpoint", "token"])) element(id).addEventListener("change", use_hub);
  versions = await darkroom.versions();
  for (const name of left_over()) await darkroom.remove(name).catch((error) => notify("error", `the model ${name} could not be deleted: ${message_of(error)}`));
  await use_hub();
}

async function use_hub() {
  try {
    await darkroom.use_hub({ endpoint: element("endpoint").value.trim() || undefined, token: element("token").value || undefined });
  } catch (error) {
    notify("error", message_of(error));
  }
  await refresh();
}

/** Finds what each version would take of the GPU, one after another, so that a drawing goes on in between. */
async function plan_versions() {
  for (const { key } of versions) {
    if (memory.has(key)) continue;
    if (!element("models").open) return;
    try {
      const { peak_bytes, staged_peak_bytes } = await darkroom.plan({ version: key });
      memory.set(key, ` · ${bytes(peak_bytes)} of GPU memory, ${bytes(staged_peak_bytes)} part by part`);
    } catch (error) {
      // Without a GPU there is nothing to plan for; a version that is too large for this one says so in its row.
      if (code_of(error) === "device") return;
      memory.set(key, ` · not on this GPU: ${message_of(error)}`);
    }
    const shown = element("models-list").querySelector(`[data-model="${CSS.escape(key)}"] .memory`);
    if (shown) shown.textContent = memory.get(key) ?? "";
  }
}

/** The versions, and whatever else is there. */
export async function refresh() {
  let reports;
  try {
    reports = (await darkroom.models()).filter(({ model }) => !is_deleted(model));
  } catch (error) {
    element("models-space").textContent = sentence(message_of(error));
    return;
  }
  const of_version = (/** @type {import("../protocol.js").VersionInfo} */ version) => reports.find(({ model, repo }) => [model, repo].includes(version.key) || [model, repo].includes(version.repository));
  const rows = versions.map((version) => row(version.key, version.name, version.download_bytes, of_version(version), reports));
  const listed = new Set(versions.map(of_version));
  for (const report of reports) if (!listed.has(report)) rows.push(row(report.model, report.model, report.total_bytes, report, reports));
  // A repository that was named is not known before the Hub has answered.
  const is_known = downloading === null || versions.some(({ key }) => key === downloading) || reports.some(({ model }) => model === downloading);
  if (downloading !== null && !is_known) rows.push(row(downloading, downloading, 0, undefined, reports));
  keep_focus(element("models-list"), () => element("models-list").replaceChildren(...rows), element("repository"));
  const used = reports.reduce((sum, { total_bytes, missing_bytes }) => sum + total_bytes - missing_bytes, 0);
  const quota = reports[0]?.quota_bytes;
  element("models-space").textContent = `${bytes(used)} of models are kept${quota ? `; this page may keep ${bytes(quota)} in all` : ""}.`;
  const select = element("model");
  const before = select.value;
  const options = [new Option("Emoji, 128 × 128 (comes with the page)", EMBEDDED_REPOSITORY)];
  // What is being downloaded can be used already.
  /** @type {(report: ModelReport | undefined, name: string) => boolean | undefined} */
  const is_usable = (report, name) => report?.complete || downloading === name;
  for (const version of versions) if (is_usable(of_version(version), version.key)) options.push(new Option(version.name, version.key));
  for (const report of reports) {
    if (!listed.has(report) && is_usable(report, report.model) && !network_of(report.model) && !is_part(report)) options.push(new Option(report.model, `kept:${report.model}`));
  }
  select.replaceChildren(...options);
  select.value = options.some(({ value }) => value === before) ? before : EMBEDDED_REPOSITORY;
  // The model that draws is gone.
  if (before !== "" && select.value !== before) chosen(select.value);
  // Only the list asks for it.
  if (element("models").open) await inspect_kept(reports);
}

/** Finds out what kept files are, so that those with a VAE can be chosen for others. @param {ModelReport[]} reports */
async function inspect_kept(reports) {
  const unknown = reports.filter((report) => report.complete && is_single(report) && !inspected.has(report.model));
  for (const { model } of unknown) inspected.set(model, null);
  for (const { model } of unknown) {
    // What cannot be read says so where it is used.
    const found = await darkroom.inspect(model, { plan: false }).catch(() => null);
    if (found) inspected.set(model, found);
  }
  if (unknown.length > 0) await refresh();
}

/**
 * @param {string} model
 * @param {string} name
 * @param {number} n_bytes
 * @param {ModelReport | undefined} report
 * @param {ModelReport[]} reports all of them, of which parts may come
 */
function row(model, name, n_bytes, report, reports) {
  /** @type {(label: string, act: () => void) => HTMLButtonElement} */
  const button = (label, act) => make("button", { type: "button", class: "plain", "aria-label": `${label}: ${name}`, onclick: act }, label);
  const state = make("span", { class: "state" });
  const bar = make("progress", { max: 1, hidden: true, "aria-label": `Download of ${name}` });
  const buttons = make("div", { class: "row" });
  if (downloading === model) buttons.append(button("Pause", stop));
  else if (!report?.complete) buttons.append(button(report ? "Go on" : "Download", () => download(model)));
  if (report?.complete) {
    state.textContent = `${bytes(report.total_bytes)}, kept`;
    buttons.append(button("Verify", () => verify(report.model, name)));
    buttons.append(button(shown.has(report.model) ? "Hide" : "Inspect", () => toggle_report(report.model, name)));
  } else if (report) {
    state.textContent = `${bytes(report.total_bytes - report.missing_bytes)} of ${bytes(report.total_bytes)}`;
    bar.hidden = false;
    bar.value = 1 - report.missing_bytes / report.total_bytes;
  } else {
    state.textContent = n_bytes === 0 ? "Asking the Hub …" : `${bytes(n_bytes)} to download`;
  }
  const network = report && network_of(report.model);
  if (network) state.textContent += `, ${network.kind === "lora" ? "LoRA" : "embedding"}${network.family_name === undefined ? "" : ` for ${network.family_name}`}`;
  const is_model = report === undefined || (!network && !is_part(report));
  const is_named = report !== undefined || n_bytes > 0;
  if ((report?.complete || downloading === model) && is_model && is_named) buttons.append(button("Use", () => use(model)));
  if (report && downloading !== model) buttons.append(button("Delete", () => remove(model, report.model, name)));
  const choices = report?.complete && !network ? part_choices(model, report, name, reports) : [];
  const needs = make("small", { class: "count" }, state, make("span", { class: "memory" }, memory.get(model) ?? ""));
  const inspection = report && shown.get(report.model);
  const told = inspection ? [make("div", { class: "report" }, ...report_of(name, inspection))] : [];
  return make("li", { class: "model", "data-model": model }, make("strong", {}, name), needs, bar, buttons, ...choices, ...told);
}

/**
 * Shows what a kept model is, or hides it.
 * @param {string} model
 * @param {string} name
 */
async function toggle_report(model, name) {
  try {
    if (!shown.delete(model)) shown.set(model, await darkroom.inspect(model));
  } catch (error) {
    notify("error", `the model ${name} cannot be inspected: ${message_of(error)}`);
  }
  await refresh();
}

/** Whether a kept model has a VAE. @param {ModelReport} report */
function has_vae(report) {
  if (!report.complete) return false;
  return !is_single(report) || inspected.get(report.model)?.components.present.vae !== undefined;
}

/** Whether a kept file is a tiny VAE that decodes. @param {ModelReport} report */
function is_decoder({ model }) {
  const found = inspected.get(model);
  return found?.kind === "taesd" && !found.refused && found.components.present.decoder !== undefined;
}

/** Whether a kept file is no model but a part of one. @param {ModelReport} report */
const is_part = ({ model }) => !["checkpoint", "unet", undefined].includes(inspected.get(model)?.kind);

/**
 * What the reader can choose for a kept model: what the file cannot always say, and parts of other kept models.
 * @param {string} model the name that it is loaded under
 * @param {ModelReport} report
 * @param {string} name
 * @param {ModelReport[]} reports
 */
function part_choices(model, report, name, reports) {
  if (is_part(report)) return [];
  const others = reports.filter((other) => other !== report);
  /** @type {(found: ModelReport[]) => [string, string][]} */
  const named = (found) => found.map(({ model }) => [model, model]);
  const choices = [];
  if (is_single(report)) {
    choices.push(choice(model, name, "prediction", "What it predicts", "Predicts what the file says", [["Predicts noise (epsilon)", "epsilon"], ["Predicts velocity (v)", "v"]]));
    const folders = others.filter((other) => other.complete && !is_single(other));
    choices.push(choice(model, name, "base", "Missing components", "Nothing from other models", named(folders), "What it lacks from "));
  }
  choices.push(choice(model, name, "vae", "VAE", "Its own VAE", named(others.filter(has_vae)), "VAE of "));
  choices.push(choice(model, name, "taesd", "Decoder", "No tiny decoder", named(others.filter(is_decoder)), "Decoded by "));
  return choices.flat();
}

/**
 * One of them; none where there is nothing to choose.
 * @param {string} model
 * @param {string} name
 * @param {keyof KeptOptions} field
 * @param {string} label
 * @param {string} none what is chosen where nothing is
 * @param {[string, string][]} options texts and values
 * @param {string} before what comes before the texts
 */
function choice(model, name, field, label, none, options, before = "") {
  if (options.length === 0) return [];
  const select = make("select", { "aria-label": `${label}: ${name}`, "data-field": field });
  select.append(new Option(none, ""), ...options.map(([text, value]) => new Option(before + text, value)));
  const value = options_of(model)[field] ?? "";
  select.value = [...select.options].some((option) => option.value === value) ? value : "";
  select.addEventListener("change", () => choose_option(model, field, select.value));
  return [select];
}

/**
 * @param {string} model
 * @param {keyof KeptOptions} field
 * @param {string} value
 */
export function choose_option(model, field, value) {
  set_options(model, { ...options_of(model), [field]: value });
  // The model that draws is loaded again.
  if ([model, `kept:${model}`].includes(element("model").value)) chosen(element("model").value);
}

/** Has a model draw. @param {string} model */
function use(model) {
  const select = element("model");
  const values = [...select.options].map(({ value }) => value);
  // The model that comes with the page may be kept, too, under the same name.
  const wanted = [`kept:${model}`, model].find((value) => values.includes(value));
  // A repository that was named is in the list once its manifest is.
  if (!wanted) return;
  element("models").close();
  if (select.value === wanted) return;
  select.value = wanted;
  chosen(wanted);
}

/** @param {string} model */
async function download(model) {
  if (downloading) {
    notify("info", `the model ${downloading} is being downloaded: pause that first`);
    return;
  }
  await delete_now(model);
  downloading = model;
  const hub = element("endpoint").value.trim() || "huggingface.co";
  element("models-now").textContent = `Asking ${hub} for ${model} …`;
  const waiting = setTimeout(() => {
    element("models-now").textContent = `${hub} has not answered yet. Pause gives up; what came is kept.`;
  }, ANSWER_MS);
  await refresh();
  let is_listed = false;
  /** @param {import("../protocol.js").Transfer} progress */
  const follow = ({ bytes: done, total, bytes_per_sec, secs_left }) => {
    clearTimeout(waiting);
    // A repository that was named has a row once it is known what there is.
    if (!is_listed) refresh();
    is_listed = true;
    const line = element("models-list").querySelector(`[data-model="${CSS.escape(model)}"]`);
    const left = secs_left === undefined ? "" : `, ${duration(secs_left)} left`;
    const text = `${bytes(done)} of ${bytes(total)}, ${bytes(bytes_per_sec)} a second${left}`;
    element("models-now").textContent = `${model}: ${text}`;
    if (!line) return;
    part(line, ".state", HTMLElement).textContent = text;
    const bar = part(line, "progress", HTMLProgressElement);
    bar.hidden = false;
    bar.value = done / total;
  };
  try {
    await darkroom.download(model, follow);
    announce(`${model} is downloaded`);
    broadcast({ type: "models" });
    await network_came(model);
    element("models-now").textContent = `${model} is here: use it, or choose it in the form.`;
  } catch (error) {
    if (code_of(error) === "cancelled") element("models-now").textContent = `${model} is paused; what came is kept.`;
    else {
      element("models-now").textContent = sentence(message_of(error));
      notify("error", `the model ${model} could not be downloaded: ${message_of(error)}`, { "Go on": () => download(model) });
    }
  }
  clearTimeout(waiting);
  downloading = null;
  await refresh();
}

function stop() {
  darkroom.stop_download().catch((error) => notify("error", message_of(error)));
}

/** Keeps the model in a folder that was picked, under the folder's name. */
async function take_folder() {
  const picked = [...(element("import-files").files ?? [])];
  element("import-files").value = "";
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
    const refused = await darkroom.inspect(file).then(() => "it is a pickle", message_of);
    notify("error", `the file ${file.name} is not kept: ${refused}`);
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
  if (!element("models").open) element("models").showModal();
  show_report(name, found);
  if (found?.refused) {
    notify("error", `the file ${name} is not kept: ${found.problem}`);
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
    await darkroom.import(name, new Map([[name, file]]), ({ fraction }) => say_of_networks(`${name}: ${Math.round(fraction * 100)} % imported`));
    inspected.delete(name);
    broadcast({ type: "models" });
    await network_came(name);
  } catch (error) {
    notify("error", `the import of ${name} failed: ${message_of(error)}`);
  }
  say_of_networks("");
  await refresh();
}

/**
 * Shows what a file is that was picked or dropped.
 * @param {string} name
 * @param {Inspection | null} found
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
  if (!element("models").open) element("models").showModal();
  let files;
  try {
    files = await files_below(folder);
  } catch (error) {
    notify("error", `the folder ${folder.name} cannot be read: ${message_of(error)}`);
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
  inspected.delete(name);
  shown.delete(name);
  try {
    await darkroom.import(name, files, ({ fraction }) => {
      element("models-now").textContent = `${name}: ${Math.round(fraction * 100)} % imported`;
    });
    element("models-now").textContent = `${name} is here: choose it in the form.`;
    broadcast({ type: "models" });
  } catch (error) {
    element("models-now").textContent = sentence(message_of(error));
    notify("error", `the import of ${name} failed: ${message_of(error)}`);
  }
  await refresh();
}

/**
 * @param {string} model
 * @param {string} name
 */
async function verify(model, name) {
  try {
    const damaged = await darkroom.verify(model, ({ fraction }) => {
      element("models-now").textContent = `${name}: ${Math.round(fraction * 100)} % verified`;
    });
    element("models-now").textContent =
      damaged.length === 0 ? `${name} is whole.` : `${name} was damaged in ${damaged.length} places: go on downloading to mend it.`;
  } catch (error) {
    notify("error", `the model ${name} could not be verified: ${message_of(error)}`);
  }
  await refresh();
}

/**
 * Deletes a model, which can be taken back for a while.
 * @param {string} row the name that it is loaded under
 * @param {string} model the name that it is kept under
 * @param {string} name
 */
async function remove(row, model, name) {
  const options = all_options();
  const act = async () => {
    try {
      await darkroom.remove(model);
      inspected.delete(model);
      shown.delete(model);
      broadcast({ type: "models" });
    } catch (error) {
      notify("error", `the model ${name} could not be deleted: ${message_of(error)}`);
    }
    await refresh_networks();
    await refresh();
  };
  const show_again = async () => {
    for (const [each, chosen] of Object.entries(options)) set_options(each, chosen);
    element("models-now").textContent = `${name} is back.`;
    await refresh_networks();
    await refresh();
  };
  for (const each of [row, model]) forget_options(each);
  delete_later(model, `the model ${name}`, act, show_again);
  element("models-now").textContent = `${name} is deleted.`;
  await refresh_networks();
  await refresh();
}
