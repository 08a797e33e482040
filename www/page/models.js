// The models that this browser keeps: download, pause, go on, verify, delete; and which of them draws.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { code_of, message_of } from "../errors.js";
import { LICENCES, RECOMMENDED } from "./catalog.js";
import { show_dialog } from "./dialogs.js";
import { broadcast, on_news } from "./channel.js";
import { delete_later, delete_now, is_deleted, left_over } from "./deletions.js";
import { element, make, part } from "./elements.js";
import { keep_focus } from "./focus.js";
import { network_came, network_of, refresh_networks, say_of_networks } from "./networks.js";
import { announce, notify } from "./notices.js";
import { repository_of } from "./pasted.js";
import { report_of } from "./report.js";
import { text } from "./texts.js";
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
    notify("error", text.keeps_no_settings);
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
    show_dialog(element("models"));
    refresh();
    plan_versions();
  });
  element("transfer").addEventListener("click", () => element("open-models").click());
  element("model").addEventListener("change", () => chosen(element("model").value));
  const add = () => {
    const name = repository_of(element("repository").value, element("endpoint").value.trim());
    if (name) download(name);
  };
  element("add-model").addEventListener("submit", (event) => {
    event.preventDefault();
    add();
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
  for (const name of await left_over()) await darkroom.remove(name).catch((error) => notify("error", text.model_not_deleted(name, message_of(error))));
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
      const least = async (/** @type {import("../protocol.js").WeightType} */ weights) => bytes((await darkroom.plan({ version: key, weights })).staged_peak_bytes);
      memory.set(key, text.fits(bytes(peak_bytes), bytes(staged_peak_bytes), await least("q8_0"), await least("q4_0")));
    } catch (error) {
      // Without a GPU there is nothing to plan for; a version that is too large for this one says so in its row.
      if (code_of(error) === "device") return;
      memory.set(key, text.does_not_fit(message_of(error)));
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
  known = reports;
  show_models(reports);
  // Only the list asks for it.
  if (element("models").open) await inspect_kept(reports);
}

/** What there is, as it was known last. @type {ModelReport[]} */
let known = [];

/** The list, and the models to choose from. @param {ModelReport[]} reports */
function show_models(reports) {
  const of_version = (/** @type {import("../protocol.js").VersionInfo} */ version) => reports.find(({ model, repo }) => [model, repo].includes(version.key) || [model, repo].includes(version.repository));
  const listed = new Set(versions.map(of_version));
  /** Rows, and whether there is something of their models here. @type {[boolean, HTMLElement][]} */
  const rows = versions.map((version) => [of_version(version) !== undefined, row(version.key, version.name, version.download_bytes, of_version(version), reports)]);
  for (const report of reports) if (!listed.has(report)) rows.push([true, row(report.model, report.model, report.total_bytes, report, reports)]);
  // A repository that was named is not known before the Hub has answered.
  const is_known = downloading === null || versions.some(({ key }) => key === downloading) || reports.some(({ model }) => model === downloading);
  if (downloading !== null && !is_known) rows.push([true, row(downloading, downloading, 0, undefined, reports)]);
  // What is installed comes first, then what most should begin with.
  const rank = (/** @type {[boolean, HTMLElement]} */ [is_here, { dataset }]) => (is_here ? 0 : dataset.model === RECOMMENDED ? 1 : 2);
  rows.sort((a, b) => rank(a) - rank(b));
  keep_focus(element("models-list"), () => element("models-list").replaceChildren(...rows.map(([, row]) => row)), element("repository"));
  const used = reports.reduce((sum, { total_bytes, missing_bytes }) => sum + total_bytes - missing_bytes, 0);
  const quota = reports[0]?.quota_bytes;
  element("models-space").textContent = text.models_space(used === 0 ? "" : bytes(used), quota ? bytes(quota) : "");
  const select = element("model");
  const before = select.value;
  const options = [new Option(text.demo_model, EMBEDDED_REPOSITORY)];
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
  const bar = make("progress", { max: 1, hidden: true, "aria-label": text.download_of(name) });
  const buttons = make("div", { class: "row" });
  if (downloading === model) buttons.append(button(text.pause, stop));
  else if (!report?.complete) buttons.append(button(report ? text.resume : text.download, () => download(model)));
  if (report?.complete) {
    state.textContent = bytes(report.total_bytes);
    buttons.append(button(text.verify, () => verify(report.model, name)));
    buttons.append(button(shown.has(report.model) ? text.hide : text.inspect, () => toggle_report(report.model, name)));
  } else if (report) {
    state.textContent = text.part_of(bytes(report.total_bytes - report.missing_bytes), bytes(report.total_bytes));
    bar.hidden = false;
    bar.value = 1 - report.missing_bytes / report.total_bytes;
  } else {
    state.textContent = n_bytes === 0 ? text.asking_hub : text.to_download(bytes(n_bytes));
  }
  const network = report && network_of(report.model);
  if (network) state.textContent += text.network_for(network.kind, network.family_name);
  const is_model = report === undefined || (!network && !is_part(report));
  const is_named = report !== undefined || n_bytes > 0;
  if ((report?.complete || downloading === model) && is_model && is_named) buttons.prepend(button(text.use, () => use(model)));
  if (report && downloading !== model) buttons.append(button(text.delete, () => remove(model, report.model, name)));
  const choices = report?.complete && !network ? part_choices(model, report, name, reports) : [];
  const needs = make("small", { class: "count" }, state, make("span", { class: "memory" }, memory.get(model) ?? ""));
  const inspection = report && shown.get(report.model);
  const told = inspection ? [make("div", { class: "report" }, ...report_of(name, inspection))] : [];
  const is_loaded = report !== undefined && [model, `kept:${model}`].includes(element("model").value);
  const badge = is_loaded ? [text.in_use, "badge here"] : report?.complete ? [text.installed, "badge here"] : model === RECOMMENDED ? [text.recommended, "badge"] : [];
  const title = make("div", {}, make("strong", {}, name), ...(badge[0] ? [make("span", { class: badge[1] ?? "" }, badge[0])] : []));
  const licence = LICENCES[model];
  const purpose = text.purposes[model] ? [make("span", { class: "purpose" }, `${text.purposes[model]}${licence ? ` ${text.licence(licence)}` : ""}`)] : [];
  return make("li", { class: "model", "data-model": model, "data-loaded": is_loaded }, title, ...purpose, needs, bar, buttons, ...choices, ...told);
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
    notify("error", text.not_inspected(name, message_of(error)));
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
    choices.push(choice(model, name, "prediction", text.prediction, text.prediction_of_file, [[text.epsilon, "epsilon"], [text.velocity, "v"]]));
    const folders = others.filter((other) => other.complete && !is_single(other));
    choices.push(choice(model, name, "base", text.missing_components, text.no_components, named(folders), text.components_from));
  }
  choices.push(choice(model, name, "vae", "VAE", text.own_vae, named(others.filter(has_vae)), text.vae_of));
  choices.push(choice(model, name, "taesd", text.decoder, text.no_decoder, named(others.filter(is_decoder)), text.decoded_by));
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

/** Shows how a transfer goes, in the list and in the page's head. @param {string} said @param {string} [short] nothing where it is over */
function tell(said, short = "") {
  element("models-now").textContent = said;
  element("transfer").textContent = short;
  element("transfer").hidden = short === "";
}

/** @param {string} model */
export async function download(model) {
  if (downloading) {
    notify("info", text.already_downloading(downloading));
    return;
  }
  await delete_now(model);
  downloading = model;
  // At once, however busy the worker is.
  show_models(known);
  const hub = element("endpoint").value.trim() || "huggingface.co";
  tell(text.asking(hub, model), `… ${model}`);
  const waiting = setTimeout(() => {
    tell(text.no_answer_yet(hub), `… ${model}`);
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
    const said = text.transfer(bytes(done), bytes(total), bytes(bytes_per_sec), secs_left === undefined ? "" : duration(secs_left));
    tell(`${model}: ${said}`, `↓ ${Math.floor((100 * done) / total)} % · ${model}`);
    if (!line) return;
    part(line, ".state", HTMLElement).textContent = said;
    const bar = part(line, "progress", HTMLProgressElement);
    bar.hidden = false;
    bar.value = done / total;
  };
  try {
    await darkroom.download(model, follow);
    announce(text.downloaded(model));
    broadcast({ type: "models" });
    await network_came(model);
    tell(text.model_ready(model));
    if (!network_of(model)) notify("info", text.model_ready(model), { [text.use]: () => use(model) });
  } catch (error) {
    if (code_of(error) === "cancelled") tell(text.paused(model));
    else {
      tell(sentence(message_of(error)));
      notify("error", text.not_downloaded(model, message_of(error)), { [text.resume]: () => download(model) });
    }
  }
  clearTimeout(waiting);
  downloading = null;
  show_models(known);
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
    inspected.delete(name);
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
  inspected.delete(name);
  shown.delete(name);
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

/**
 * @param {string} model
 * @param {string} name
 */
async function verify(model, name) {
  try {
    const damaged = await darkroom.verify(model, ({ fraction }) => {
      tell(text.verifying(name, Math.round(fraction * 100)));
    });
    element("models-now").textContent =
      damaged.length === 0 ? text.verified(name) : text.damaged(name, damaged.length);
  } catch (error) {
    notify("error", text.not_verified(name, message_of(error)));
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
      notify("error", text.model_not_deleted(name, message_of(error)));
    }
    await refresh_networks();
    await refresh();
  };
  const show_again = async () => {
    for (const [each, chosen] of Object.entries(options)) set_options(each, chosen);
    tell(text.model_back(name));
    await refresh_networks();
    await refresh();
  };
  for (const each of [row, model]) forget_options(each);
  delete_later(model, text.model_deleted(name), act, show_again);
  tell(text.model_deleted(name));
  await refresh_networks();
  await refresh();
}
