// The list of models: what is kept here and what can be downloaded, which of them draws, and verifying and deleting them. How they get
// here is in downloads.js and imports.js, what is chosen for each in model_options.js.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { COMMERCIALLY_LIMITED, LICENCES, RECOMMENDED } from "./catalog.js";
import { broadcast, on_news } from "./channel.js";
import { delete_later, is_deleted, left_over } from "./deletions.js";
import { show_dialog } from "./dialogs.js";
import { download, in_download, is_downloading, open_downloads, say_of_models, stop_download } from "./downloads.js";
import { element, make } from "./elements.js";
import { keep_focus } from "./focus.js";
import { open_imports } from "./imports.js";
import { forget_file, inspect_kept, is_part, shown_report, toggle_report } from "./kept_files.js";
import { message_of } from "./messages.js";
import { all_options, forget_options, open_model_options, models_are, part_choices, set_options } from "./model_options.js";
import { network_of, refresh_networks } from "./networks.js";
import { notify } from "./notices.js";
import { repository_of } from "./pasted.js";
import { find_needs, known_needs, show_needs } from "./plans.js";
import { report_of } from "./report.js";
import { text } from "./texts.js";
import { bytes, sentence } from "./words.js";

/** @typedef {import("../protocol.js").ModelReport} ModelReport */
/** @typedef {import("../protocol.js").VersionInfo} VersionInfo */

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
/** @type {VersionInfo[]} */
let versions = [];
/** What there is, as it was known last. @type {ModelReport[]} */
let known = [];
/** @type {(model: string) => void} */
let chosen = () => {};

/**
 * @param {import("../darkroom.js").Darkroom} given
 * @param {(model: string) => void} on_chosen is called when another model is to draw
 */
export async function open_models(given, on_chosen) {
  darkroom = given;
  chosen = on_chosen;
  open_downloads(darkroom, { refresh, show: () => show_models(known), use });
  open_imports(darkroom, refresh);
  open_model_options(chosen);
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

/** Finds what each version takes of the GPU, one after another, so that a drawing goes on in between. */
async function plan_versions() {
  for (const version of versions) {
    if (!element("models").open) return;
    const needs = await find_needs(darkroom, version);
    // Without a GPU there is nothing to plan for.
    if (!needs) return;
    const shown = element("models-list").querySelector(`[data-model="${CSS.escape(version.key)}"] .memory`);
    if (shown) show_needs(shown, needs);
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
  models_are(reports);
  show_models(reports);
  // Only the list asks for it.
  if (element("models").open && (await inspect_kept(darkroom, reports))) await refresh();
}

/** The list, and the models to choose from. @param {ModelReport[]} reports */
function show_models(reports) {
  const downloading = in_download();
  const of_version = (/** @type {VersionInfo} */ version) => reports.find(({ model, repo }) => [model, repo].includes(version.key) || [model, repo].includes(version.repository));
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
  if (is_downloading(model)) buttons.append(button(text.pause, stop_download));
  else if (!report?.complete) buttons.append(button(report ? text.resume : text.download, () => download(model)));
  if (report?.complete) {
    state.textContent = bytes(report.total_bytes);
    buttons.append(button(text.verify, () => verify(report.model, name)));
    buttons.append(button(shown_report(report.model) ? text.hide : text.inspect, () => show_or_hide_report(report.model, name)));
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
  if ((report?.complete || is_downloading(model)) && is_model && is_named) buttons.prepend(button(text.use, () => use(model)));
  if (report && !is_downloading(model)) buttons.append(button(text.delete, () => remove(model, report.model, name)));
  const choices = report?.complete && !network ? part_choices(model, report, name, reports) : [];
  const memory = make("span", { class: "memory" });
  show_needs(memory, known_needs(model));
  const needs = make("small", { class: "count" }, state, memory);
  const inspection = report && shown_report(report.model);
  const told = inspection ? [make("div", { class: "report" }, ...report_of(name, inspection))] : [];
  const is_loaded = report !== undefined && [model, `kept:${model}`].includes(element("model").value);
  const badge = is_loaded ? [text.in_use, "badge here"] : report?.complete ? [text.installed, "badge here"] : model === RECOMMENDED ? [text.recommended, "badge"] : [];
  const title = make("div", {}, make("strong", {}, name), ...(badge[0] ? [make("span", { class: badge[1] ?? "" }, badge[0])] : []));
  const licence = LICENCES[model];
  const purpose = text.purposes[model] ? [make("span", { class: "purpose" }, `${text.purposes[model]}${licence ? ` ${text.licence(licence, COMMERCIALLY_LIMITED.includes(model))}` : ""}`)] : [];
  return make("li", { class: "model", "data-model": model, "data-loaded": is_loaded }, title, ...purpose, needs, bar, buttons, ...choices, ...told);
}

/**
 * Shows what a kept model is, or hides it.
 * @param {string} model
 * @param {string} name
 */
async function show_or_hide_report(model, name) {
  try {
    await toggle_report(darkroom, model);
  } catch (error) {
    notify("error", text.not_inspected(name, message_of(error)));
  }
  await refresh();
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

/**
 * @param {string} model
 * @param {string} name
 */
async function verify(model, name) {
  try {
    const damaged = await darkroom.verify(model, ({ fraction }) => {
      say_of_models(text.verifying(name, Math.round(fraction * 100)));
    });
    say_of_models(damaged.length === 0 ? text.verified(name) : text.damaged(name, damaged.length));
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
      forget_file(model);
      broadcast({ type: "models" });
    } catch (error) {
      notify("error", text.model_not_deleted(name, message_of(error)));
    }
    await refresh_networks();
    await refresh();
  };
  const show_again = async () => {
    for (const [each, chosen] of Object.entries(options)) set_options(each, chosen);
    say_of_models(text.model_back(name));
    await refresh_networks();
    await refresh();
  };
  for (const each of [row, model]) forget_options(each);
  delete_later(model, text.model_deleted(name), act, show_again);
  say_of_models(text.model_deleted(name));
  await refresh_networks();
  await refresh();
}
