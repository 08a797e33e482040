// What the reader chooses for a kept model and the browser remembers: what it predicts, and the kept models that its parts come
// from. Loading the model with it is the page's.

import { element, make } from "./elements.js";
import { has_vae, is_decoder, is_part, is_single } from "./kept_files.js";
import { read, write } from "./memory.js";
import { notify } from "./notices.js";
import { text } from "./texts.js";

/**
 * @typedef {Omit<import("../protocol.js").KeptOptions, "embeddings">} KeptOptions
 * @typedef {import("../protocol.js").ModelReport} ModelReport
 */

/** Where it is kept between visits, by the models' names. */
const OPTIONS_KEY = "darkroom.model-options";

/** Loads a model again. @type {(model: string) => void} */
let load_again = () => {};

/** @param {(model: string) => void} on_change is called with the model in the form where one of its options changed */
export function open_model_options(on_change) {
  load_again = on_change;
}

/** What was chosen, by the models' names. */
export const all_options = () => /** @type {Record<string, KeptOptions>} */ (read(OPTIONS_KEY));

/** The names of the models that are here, once they are known. @type {Set<unknown> | null} */
let here = null;

/** @param {ModelReport[]} reports of all that are here */
export function models_are(reports) {
  here = new Set(reports.map(({ model }) => model));
}

/**
 * What the reader said of a kept model: what it predicts, and the kept models that its parts come from. Settings of another browser may
 * name some that are not here: the model has its own parts then, as its row says.
 * @param {string | undefined} model
 * @returns {KeptOptions}
 */
export function options_of(model) {
  const options = (model === undefined ? undefined : all_options()[model]) ?? {};
  return Object.fromEntries(Object.entries(options).filter(([field, value]) => field === "prediction" || !here || here.has(value)));
}

/**
 * @param {string} model
 * @param {KeptOptions} options
 */
export function set_options(model, options) {
  const { [model]: _, ...others } = all_options();
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value));
  if (!write(OPTIONS_KEY, Object.keys(given).length > 0 ? { ...others, [model]: given } : others)) notify("error", text.keeps_no_settings);
}

/** Forgets what was said of a model, also as a part of others. @param {string} model */
export function forget_options(model) {
  set_options(model, {});
  for (const [other, options] of Object.entries(all_options())) {
    const kept = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== model));
    if (Object.keys(kept).length < Object.keys(options).length) set_options(other, kept);
  }
}

/**
 * What the reader can choose for a kept model: what the file cannot always say, and parts of other kept models.
 * @param {string} model the name that it is loaded under
 * @param {ModelReport} report
 * @param {string} name
 * @param {ModelReport[]} reports
 */
export function part_choices(model, report, name, reports) {
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
  if ([model, `kept:${model}`].includes(element("model").value)) load_again(element("model").value);
}
