// The models that this browser keeps: download, pause, go on, verify, delete; and which of them draws.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { code_of, message_of } from "../errors.js";
import { element, make, part } from "./elements.js";
import { announce, notify } from "./notices.js";
import { bytes, duration, sentence } from "./words.js";

/** @typedef {import("../protocol.js").ModelReport} ModelReport */

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
  element("add-repository").addEventListener("click", () => {
    const name = element("repository").value.trim();
    if (name) download(name);
  });
  element("import-folder").addEventListener("click", () => element("import-files").click());
  element("import-files").addEventListener("change", take_folder);
  for (const id of /** @type {const} */ (["endpoint", "token"])) element(id).addEventListener("change", use_hub);
  versions = await darkroom.versions();
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
    reports = await darkroom.models();
  } catch (error) {
    element("models-space").textContent = sentence(message_of(error));
    return;
  }
  const of_version = (/** @type {import("../protocol.js").VersionInfo} */ version) => reports.find(({ model, repo }) => [model, repo].includes(version.key) || [model, repo].includes(version.repository));
  const rows = versions.map((version) => row(version.key, version.name, version.download_bytes, of_version(version)));
  const listed = new Set(versions.map(of_version));
  for (const report of reports) if (!listed.has(report)) rows.push(row(report.model, report.model, report.total_bytes, report));
  element("models-list").replaceChildren(...rows);
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
    if (!listed.has(report) && is_usable(report, report.model)) options.push(new Option(report.model, `kept:${report.model}`));
  }
  select.replaceChildren(...options);
  select.value = options.some(({ value }) => value === before) ? before : EMBEDDED_REPOSITORY;
  // The model that draws is gone.
  if (before !== "" && select.value !== before) chosen(select.value);
}

/**
 * @param {string} model
 * @param {string} name
 * @param {number} n_bytes
 * @param {ModelReport | undefined} report
 */
function row(model, name, n_bytes, report) {
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
  } else if (report) {
    state.textContent = `${bytes(report.total_bytes - report.missing_bytes)} of ${bytes(report.total_bytes)}`;
    bar.hidden = false;
    bar.value = 1 - report.missing_bytes / report.total_bytes;
  } else {
    state.textContent = `${bytes(n_bytes)} to download`;
  }
  if (report?.complete || downloading === model) buttons.append(button("Use", () => use(model)));
  if (report && downloading !== model) buttons.append(button("Delete", () => remove(report.model, name)));
  const needs = make("small", { class: "count" }, state, make("span", { class: "memory" }, memory.get(model) ?? ""));
  return make("li", { class: "model", "data-model": model }, make("strong", {}, name), needs, bar, buttons);
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
    notify("info", `${downloading} is being downloaded: pause that first`);
    return;
  }
  downloading = model;
  await refresh();
  let is_listed = false;
  /** @param {import("../protocol.js").Transfer} progress */
  const follow = ({ bytes: done, total, bytes_per_sec, secs_left }) => {
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
    element("models-now").textContent = `${model} is here: use it, or choose it in the form.`;
  } catch (error) {
    if (code_of(error) === "cancelled") element("models-now").textContent = `${model} is paused; what came is kept.`;
    else {
      element("models-now").textContent = sentence(message_of(error));
      notify("error", `${model} could not be downloaded: ${message_of(error)}`, { "Go on": () => download(model) });
    }
  }
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
  const files = new Map(picked.map((file) => [parts(file).slice(1).join("/") || file.name, file]));
  try {
    await darkroom.import(folder, files, ({ fraction }) => {
      element("models-now").textContent = `${folder}: ${Math.round(fraction * 100)} % taken over`;
    });
    element("models-now").textContent = `${folder} is here: choose it in the form.`;
  } catch (error) {
    element("models-now").textContent = sentence(message_of(error));
    notify("error", `${folder} could not be taken over: ${message_of(error)}`);
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
    notify("error", `${name} could not be verified: ${message_of(error)}`);
  }
  await refresh();
}

/**
 * @param {string} model
 * @param {string} name
 */
async function remove(model, name) {
  try {
    await darkroom.remove(model);
    element("models-now").textContent = `${name} is deleted.`;
  } catch (error) {
    notify("error", `${name} could not be deleted: ${message_of(error)}`);
  }
  await refresh();
}
