// What the form asks for: a request to draw, and how to load the model; and what is wrong with it that the model need not be asked about.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { element } from "./elements.js";
import { of_extras } from "./extras.js";
import { is_any_size, is_own_strength, takes_eta } from "./form.js";
import { of_inpaint_area } from "./inpaint_area.js";
import { options_of } from "./model_options.js";
import { used_loras } from "./networks.js";
import { MAX_SEED, seed_of } from "./seed.js";
import * as start_picture from "./start_picture.js";
import { text } from "./texts.js";
import { of_variation } from "./variation.js";

/** @typedef {import("./form.js").Field} Field */
/** @typedef {import("../protocol.js").DrawRequest} DrawRequest */

/** What the prompts are written in. */
export const syntax = () => /** @type {NonNullable<DrawRequest["prompt_syntax"]>} */ (element("syntax").value);

/** How the model is to be loaded, as the settings say. */
export function load_options() {
  const gigabytes = element("budget").valueAsNumber;
  const budget_bytes = gigabytes > 0 ? Math.round(gigabytes * 1e9) : undefined;
  const chosen = element("model").value;
  const kept = chosen === "" || chosen === EMBEDDED_REPOSITORY ? undefined : chosen.replace(/^kept:/, "");
  const runner = /** @type {import("../protocol.js").Runner} */ (element("runner").value);
  const dtype = /** @type {import("../protocol.js").Dtype} */ (element("dtype").value);
  const held = /** @type {import("../protocol.js").WeightType | "auto"} */ (element("weights").value);
  const weights = held === "auto" ? undefined : held;
  return { kept, runner, dtype, weights, budget_bytes, ...options_of(kept) };
}

/**
 * Settings that only mean something with a start picture. A strength that nobody chose is left to the model.
 * @param {number} strength
 */
function of_picture(strength) {
  const of_mask = start_picture.given().has_mask ? of_inpaint_area() : {};
  // Only a part keeps its proportions by itself.
  const fit = /** @type {DrawRequest["fit"]} */ (element("fit").value);
  return { ...(of_mask.padding_mask_crop === undefined ? { fit } : {}), ...of_mask, ...(is_own_strength() ? {} : { strength }) };
}

/** The layer of the text encoder that is read, counted from the last; nothing where it is that one. @returns {Partial<DrawRequest>} */
function of_clip_skip() {
  const clip_skip = element("clip-skip").valueAsNumber;
  return clip_skip === 1 ? {} : { clip_skip, clip_skip_counting: "a1111" };
}

/**
 * The request that the form describes.
 * @returns {Required<Pick<DrawRequest, "width" | "height" | "steps" | "guidance_scale" | "count">> & DrawRequest}
 */
export function request() {
  /** @param {"width" | "height" | "steps" | "guidance" | "eta" | "count" | "strength"} id */
  const number = (id) => (Number.isFinite(element(id).valueAsNumber) ? element(id).valueAsNumber : Number.NaN);
  const asked = {
    prompt: element("prompt").value.trim(),
    negative_prompt: element("negative").value.trim(),
    prompt_syntax: syntax(),
    ...of_clip_skip(),
    width: number("width"),
    height: number("height"),
    any_size: is_any_size(),
    steps: number("steps"),
    guidance_scale: number("guidance"),
    sampler: element("sampler").value,
    ...(takes_eta() ? { eta: number("eta") } : {}),
    seed: seed_of(element("seed").value),
    ...of_variation(),
    noise: /** @type {NonNullable<DrawRequest["noise"]>} */ (element("noise").value),
    count: number("count"),
    loras: used_loras(),
    ...(start_picture.given().has_picture ? of_picture(number("strength")) : {}),
  };
  return Object.assign(asked, of_extras());
}

/**
 * What is wrong with the form that the model need not be asked about: the field and a sentence.
 * @param {ReturnType<typeof request>} asked
 * @returns {[Field, string] | null}
 */
export function fault(asked) {
  if (asked.prompt === "") return ["prompt", text.prompt_missing];
  if (Number.isNaN(asked.seed)) return ["seed", text.seed_range(MAX_SEED)];
  /** @type {[Field, string, number | undefined][]} */
  const whole = [
    ["width", text.field.width, asked.width],
    ["height", text.field.height, asked.height],
    ["steps", text.field.steps, asked.steps],
    ["count", text.field.count, asked.count],
    ["clip-skip", text.field.clip_skip, asked.clip_skip],
    ["mask-padding", text.field.mask_padding, asked.padding_mask_crop],
  ];
  for (const [id, name, value = 0] of whole) {
    const least = id === "clip-skip" ? 1 : 0;
    if (!Number.isSafeInteger(value) || value < 0) return [id, value < 0 ? text.at_least(name, least) : text.not_whole(name)];
  }
  if (!Number.isFinite(asked.guidance_scale)) return ["guidance", text.not_a_number(text.field.guidance)];
  if (Number.isNaN(asked.variation_seed)) return ["variation-seed", text.seed_range(MAX_SEED)];
  if (Number.isNaN(asked.variation_strength)) return ["variation-strength", text.not_a_number(text.field.variation_strength)];
  if (Number.isNaN(asked.mask_blur)) return ["mask-blur", text.not_a_number(text.field.mask_blur)];
  if (asked.eta !== undefined && !Number.isFinite(asked.eta)) return ["eta", text.not_a_number("Eta")];
  return null;
}
