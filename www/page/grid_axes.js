// The settings that a grid can vary: how their values are read, and how each value changes a request.

import { element } from "./elements.js";
import { option_of_sampler } from "./form.js";
import { numbers_of, parts_of } from "./grid_values.js";
import { used_loras } from "./networks.js";
import { MAX_SEED, random_seed, seed_of } from "./seed.js";
import * as start_picture from "./start_picture.js";
import { text } from "./texts.js";
import { has_variation, seed_of_variation } from "./variation.js";

/** @typedef {ReturnType<typeof import("./request.js").request>} Request */

/**
 * One value of an axis.
 * @typedef {object} Value
 * @property {string} said
 * @property {(request: Request) => Request} apply
 */

/**
 * A setting.
 * @typedef {object} Setting
 * @property {string} key
 * @property {string} name
 * @property {string} example
 * @property {boolean} is_named whether its name stands before its values in a grid: numbers alone say nothing
 * @property {(list: string, request: Request) => Value[]} values throws what is wrong with a list
 * @property {() => string} [all] a list of all that there are
 */

/**
 * @param {string} key
 * @param {string} name
 * @param {string} example
 * @param {"whole" | "decimal"} kind
 * @param {(request: Request, value: number) => Request} apply
 * @param {[number, number]} range the least and the most that are possible for every model
 * @returns {Setting}
 */
function of_numbers(key, name, example, kind, apply, [least, most]) {
  const values = (/** @type {string} */ list) =>
    numbers_of(list, kind).map((value) => {
      if (value < least || value > most) throw new Error(text.grid.out_of_range(name, value, least, most));
      return { said: String(value), apply: (/** @type {Request} */ request) => apply(request, value) };
    });
  return { key, name, example, is_named: true, values };
}

/**
 * @param {string} key
 * @param {string} name
 * @param {(request: Request, seed: number | string) => Request} apply
 * @returns {Setting}
 */
function seeds(key, name, apply) {
  const value_of = (/** @type {string} */ part) => {
    // What a range cannot hold exactly is written out.
    const found = part === "-1" ? [random_seed()] : /^\d+$/.test(part) ? [part] : numbers_of(part, "whole").map(String);
    return found.map((each) => {
      const seed = seed_of(each);
      if (Number.isNaN(seed)) throw new Error(text.seed_range(MAX_SEED));
      return { said: each, apply: (/** @type {Request} */ request) => apply(request, seed) };
    });
  };
  return { key, name, example: "1-5", is_named: true, values: (list) => parts_of(list).flatMap(value_of) };
}

/** @returns {Setting} */
function samplers() {
  const names = () => [...element("sampler").options].map(({ value }) => value);
  const values = (/** @type {string} */ list) =>
    parts_of(list).map((part) => {
      const sampler = option_of_sampler(part)?.value;
      if (sampler === undefined) throw new Error(text.grid.no_sampler(part, names().join(", ")));
      return { said: sampler, apply: (/** @type {Request} */ request) => ({ ...request, sampler }) };
    });
  return { key: "sampler", name: text.row.sampler, example: names().slice(0, 2).join(", "), is_named: false, values, all: () => names().join(", ") };
}

/** The first value is searched for, and replaced by each. @returns {Setting} */
function search_and_replace() {
  const values = (/** @type {string} */ list, /** @type {Request} */ { prompt, negative_prompt = "" }) => {
    const parts = parts_of(list);
    const [search] = parts;
    if (search !== undefined && !prompt.includes(search) && !negative_prompt.includes(search)) throw new Error(text.grid.not_in_prompt(search));
    return parts.map((part) => ({
      said: part,
      apply: (/** @type {Request} */ request) => ({
        ...request,
        prompt: request.prompt.replaceAll(search ?? "", () => part),
        negative_prompt: (request.negative_prompt ?? "").replaceAll(search ?? "", () => part),
      }),
    }));
  };
  return { key: "replace", name: text.grid.replace, example: text.grid.replace_example, is_named: false, values };
}

/** All of one variation seed: that of the form, or one that is chosen. @returns {Setting} */
function strength_of_variation() {
  const found = seed_of_variation();
  const apply = (/** @type {Request} */ request, /** @type {number} */ strength) => ({ ...request, variation_strength: strength, variation_seed: request.variation_seed ?? found });
  return of_numbers("variation_strength", text.field.variation_strength, "0-1 [5]", "decimal", apply, [0, 1]);
}

/** @param {string} lora @returns {Setting} */
function strength_of_lora(lora) {
  const apply = (/** @type {Request} */ request, /** @type {number} */ strength) => ({
    ...request,
    loras: (request.loras ?? []).map((each) => (each.name === lora ? { ...each, strength } : each)),
  });
  return of_numbers(`lora:${lora}`, `LoRA ${lora}`, "0-1 [5]", "decimal", apply, [-100, 100]);
}

/** The settings that can be gone through now. @returns {Setting[]} */
export function settings() {
  const { row, field } = text;
  const of_picture = of_numbers("strength", row.strength, "0.2-0.8 (+0.2)", "decimal", (request, strength) => ({ ...request, strength }), [0, 1]);
  return [
    seeds("seed", row.seed, (request, seed) => ({ ...request, seed })),
    of_numbers("steps", row.steps, "10-30 (+5)", "whole", (request, steps) => ({ ...request, steps }), [1, 1000]),
    of_numbers("guidance", row.guidance, "1-10 [4]", "decimal", (request, guidance_scale) => ({ ...request, guidance_scale }), [0, 1000]),
    samplers(),
    strength_of_variation(),
    ...(has_variation() ? [seeds("variation_seed", field.variation_seed, (request, variation_seed) => ({ ...request, variation_seed }))] : []),
    search_and_replace(),
    ...(start_picture.given().has_picture ? [of_picture] : []),
    of_numbers("clip_skip", field.clip_skip, "1-3", "whole", (request, clip_skip) => ({ ...request, clip_skip, clip_skip_counting: "a1111" }), [1, 12]),
    ...used_loras().map(({ name }) => strength_of_lora(name)),
  ];
}
