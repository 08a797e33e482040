// The form's fields: filling them, what shows beside them, and what they are kept as between visits, for all models and for each. What is
// asked for with them is in request.js.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { element } from "./elements.js";
import { read, write } from "./memory.js";
import { hold_seed, kept_seed, next_seed_is } from "./seed.js";
import * as start_picture from "./start_picture.js";
import { text } from "./texts.js";

/** Where the form is kept between visits. */
const FORM_KEY = "darkroom.form";
/** Where the settings of each model are kept, by its name in the form. */
const MODELS_KEY = "darkroom.model-settings";

/** Settings of how the model is loaded. */
const LOAD_FIELDS = /** @type {const} */ (["runner", "dtype", "weights", "budget", "endpoint"]);

export const FIELDS = /** @type {const} */ (
  ["prompt", "negative", "syntax", "clip-skip", "width", "height", "sides", "fit", "steps", "guidance", "sampler", "eta", "seed", "variation-seed", "variation-strength", "noise", "count", "strength", "inpaint-area", "mask-padding", "mask-blur"]
);

/** Settings that depend on the model. */
const OF_MODEL = /** @type {const} */ (["width", "height", "sides", "steps", "guidance", "sampler", "clip-skip"]);

/** @typedef {typeof FIELDS[number]} Field */
/** @typedef {import("../protocol.js").LoadedModel} LoadedModel */

/** The model that the form is filled for. @type {LoadedModel | null} */
let model = null;
/** The model whose settings the form has, by its name in the form. */
let form_of = EMBEDDED_REPOSITORY;
/** Whether the strength that is shown is the model's own, which the slider may only come close to. */
let has_own_strength = false;

/** The loaded model, if any. */
export const loaded_model = () => model;

/** @param {LoadedModel | null} loaded */
export function set_loaded_model(loaded) {
  model = loaded;
}

export function keep_form() {
  const kept = Object.fromEntries([...FIELDS, ...LOAD_FIELDS].map((id) => [id, element(id).value]));
  write(FORM_KEY, { ...kept, model: element("model").value, ...kept_seed() });
}

/** Remembers the settings of the model that they are of. */
export function keep_model_settings() {
  write(MODELS_KEY, { ...read(MODELS_KEY), [form_of]: Object.fromEntries(OF_MODEL.map((id) => [id, element(id).value])) });
}

/** Fills the form as it was left. */
export function restore_form() {
  const kept = read(FORM_KEY);
  for (const id of [...FIELDS, ...LOAD_FIELDS]) {
    const value = kept[id];
    if (typeof value === "string") element(id).value = value;
  }
  next_seed_is(String(kept.next_seed ?? "random"));
  if (kept.held_seed === "yes") hold_seed();
  show_strength();
}

/** Chooses the model of the last visit, once it is known which there are. */
export function restore_model() {
  const { model: wanted } = read(FORM_KEY);
  const option = [...element("model").options].find(({ value }) => value === wanted);
  if (option) element("model").value = option.value;
  form_of = element("model").value;
}

/** The model that was chosen is the one whose settings the form has now. @returns {Record<string, string> | undefined} those of the last time */
export function form_is_of_chosen() {
  form_of = element("model").value;
  return /** @type {Record<string, Record<string, string>>} */ (read(MODELS_KEY))[form_of];
}

/** Puts values into fields; what is undefined stays as it is. @param {Partial<Record<Field, string | number>>} values */
export function fill(values) {
  for (const id of FIELDS) if (values[id] !== undefined) element(id).value = String(values[id]);
}

/** Whether nobody chose the strength that is shown: it is the model's. */
export const is_own_strength = () => has_own_strength;

/** The strength that is shown was chosen. */
export function strength_is_chosen() {
  has_own_strength = false;
}

/** Shows the model's own strength. @param {boolean} has_mask whether a part is repainted, which is done whole */
export function use_own_strength(has_mask) {
  const own = { strength: 0.8, mask_strength: 1, ...model };
  element("strength").value = String(has_mask ? own.mask_strength : own.strength);
  has_own_strength = true;
  show_strength();
}

export function show_strength() {
  element("strength-value").textContent = element("strength").valueAsNumber.toFixed(2);
}

/** Whether the chosen sampler can add noise in each step. */
export const takes_eta = () => model?.samplers_with_eta.includes(element("sampler").value) ?? false;

export function show_eta() {
  element("eta-field").hidden = !takes_eta();
}

/** Whether sides may be any multiple of 8. */
export const is_any_size = () => element("sides").value === "any";

/** By how much the arrows of the fields for width and height change them. */
export function show_steps_of_sides() {
  if (!model) return;
  const step = is_any_size() ? Math.min(8, model.size_multiple) : model.size_multiple;
  for (const side of /** @type {const} */ (["width", "height"])) Object.assign(element(side), { min: step, step, max: model.max_side });
}

/** The picture to start from takes the form's size. */
export function show_size() {
  start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
}

/** Fills the menu of samplers with those of a model. @param {LoadedModel} loaded */
export function show_samplers({ samplers, sampler: own }) {
  const menu = element("sampler");
  const wanted = String(menu.value || read(FORM_KEY).sampler || own);
  menu.replaceChildren(...samplers.map((name) => new Option(name === own ? text.default_choice(name) : name, name)));
  menu.value = samplers.includes(wanted) ? wanted : own;
}

/** The sampler's option in the menu, if it is there. @param {string} name */
export const option_of_sampler = (name) => [...element("sampler").options].find(({ value }) => value.toLowerCase() === name.toLowerCase());

/** Chooses a sampler; not every schedule of every one is in the menu. @param {string} name */
export function choose_sampler(name) {
  const menu = element("sampler");
  const option = option_of_sampler(name);
  if (!option) menu.append(new Option(name, name));
  menu.value = option?.value ?? name;
}
