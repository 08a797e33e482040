// What callers may give, by name. A name that is not known is refused, with the one that was probably meant: a setting that
// is passed over in silence gives another picture than was asked for.
//
// Values are checked where they are used, in the worker and the wasm.

import { DarkroomError } from "./errors.js";

/** @typedef {import("./protocol.js").DrawRequest} DrawRequest */

/**
 * How a worker is started. Without options it is the one beside these files, or that a bundler has made of it.
 * @typedef {object} OpenOptions
 * @property {Worker | string | URL | (() => Worker)} [worker] the worker's address, also on another origin that allows it (CORS); or a
 *   function that starts one from `darkroom/worker`; or one that was started, which then belongs to the `Darkroom`, and in whose
 *   place no other can be started: where it computes on the processor of a page that is not isolated, it responds to cancels late
 * @property {string | URL} [wasm_url] the address of `darkroom_bg.wasm`
 * @property {string | URL} [base_url] the address of the folder of Darkroom's files, from which the others follow: on a CDN, or
 *   where they were copied to. The model that `load` takes without options is in `hub` there
 * @property {AbortSignal} [signal] ends the worker while it starts; afterwards `Darkroom.close` does
 * @property {(restarted: Promise<void>) => void} [on_restart] is called where a cancel ended the worker, with what settles once another
 *   one has the model loaded; until then requests wait. Where it rejects, drawings that wait reject with the same error: with the code
 *   `worker` no other worker could be started, with another one the model could not be loaded, and `load` may try again
 */

/**
 * How a model is loaded; without options it is the one that comes with the page.
 * @typedef {object} LoadOptions
 * @property {string} [kept] a model that was downloaded or imported, or that is being downloaded: then a job waits for the parts that
 *   it needs, and the load for all of a checkpoint in one file
 * @property {string} [endpoint] the address of a folder in the Hub's URL layout, whose model is loaded into memory
 * @property {string} [repository] which model of that
 * @property {import("./protocol.js").Runner} [runner] what computes; `auto` where it is not said
 * @property {import("./protocol.js").Dtype} [dtype] the type of values; `auto` where it is not said
 * @property {import("./protocol.js").WeightType} [weights] the type that weights are held in: f16 on the GPU where it is not said; q8_0
 *   takes half the memory of that, q4_0 a third
 * @property {number} [budget_bytes] of GPU memory: where it is too little for the whole model, its parts are loaded one after another
 * @property {"epsilon" | "v"} [prediction] what the UNet predicts, in place of what the model says
 * @property {string} [base] a kept model that has what a checkpoint in one file lacks
 * @property {string} [vae] a kept model with another VAE
 * @property {string} [taesd] a kept tiny VAE that decodes
 * @property {string[]} [embeddings] the kept embeddings whose words prompts may use; all that fit the model where they are not given
 * @property {AbortSignal} [signal] stops it: it rejects with the code `cancelled`, and no model is loaded, or still the one before
 */

/**
 * @typedef {object} Handlers
 * @property {(progress: import("./protocol.js").Progress) => void} [on_progress]
 * @property {(preview: import("./protocol.js").Preview) => void} [on_preview] after each step
 * @property {(picture: import("./protocol.js").Picture) => void} [on_picture] as each picture is finished
 * @property {AbortSignal} [signal] cancels
 */

/**
 * @typedef {object} Pictures
 * @property {import("./pictures.js").AnyPicture} [picture] what to start from: a file or pixels
 * @property {import("./pictures.js").AnyPicture} [mask] white where that picture is to be drawn anew
 * @property {Record<string, string>} [wildcards] lists by name, one option a line, that `__name__` in a prompt chooses from
 */

/** @typedef {Handlers & Pictures} GenerateOptions */

/** @type {Record<keyof DrawRequest, true>} */
export const REQUEST = {
  prompt: true,
  negative_prompt: true,
  template: true,
  negative_template: true,
  preset: true,
  width: true,
  height: true,
  any_size: true,
  fit: true,
  padding_mask_crop: true,
  mask_blur: true,
  steps: true,
  guidance_scale: true,
  strength: true,
  sampler: true,
  spacing: true,
  eta: true,
  timesteps: true,
  sigmas: true,
  seed: true,
  variation_seed: true,
  variation_strength: true,
  noise: true,
  count: true,
  clip_skip: true,
  clip_skip_counting: true,
  prompt_syntax: true,
  long_prompt: true,
  attention: true,
  original_size: true,
  crop: true,
  loras: true,
};

/** @type {Record<keyof GenerateOptions, true>} */
export const GENERATE = { picture: true, mask: true, wildcards: true, on_progress: true, on_preview: true, on_picture: true, signal: true };

/** @type {Record<keyof LoadOptions, true>} */
export const LOAD = {
  kept: true,
  endpoint: true,
  repository: true,
  runner: true,
  dtype: true,
  weights: true,
  budget_bytes: true,
  prediction: true,
  base: true,
  vae: true,
  taesd: true,
  embeddings: true,
  signal: true,
};

/** @type {Record<keyof OpenOptions, true>} */
export const OPEN = { worker: true, wasm_url: true, base_url: true, signal: true, on_restart: true };

/** @type {Record<keyof import("./protocol.js").PlanRequest, true>} */
export const PLAN = {
  version: true,
  width: true,
  height: true,
  any_size: true,
  guidance_scale: true,
  prompt: true,
  negative_prompt: true,
  prompt_syntax: true,
  count: true,
  steps: true,
  sampler: true,
  from_picture: true,
  dtype: true,
  weights: true,
  budget_bytes: true,
};

/** What other programs call it. @type {Record<string, string>} */
const KNOWN_AS = {
  num_inference_steps: "steps",
  cfg_scale: "guidance_scale",
  cfg: "guidance_scale",
  sampler_name: "sampler",
  scheduler: "sampler",
  num_images_per_prompt: "count",
  batch_size: "count",
  n_iter: "count",
  n: "count",
  image: "picture",
  init_image: "picture",
  mask_image: "mask",
  denoising_strength: "strength",
  device: "runner",
  model: "kept",
  abort_signal: "signal",
  url: "base_url",
  wasm: "wasm_url",
};

/** Letters and digits alone: `onProgress` is `on_progress`. @param {string} name */
const plain = (name) => name.toLowerCase().replace(/[^a-z0-9]/g, "");

/** How many letters have to be changed, added or left out. @param {string} a @param {string} b */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, place) => place);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/**
 * The name that was probably meant.
 * @param {string} name
 * @param {string[]} names
 */
export function nearest(name, names) {
  const known = KNOWN_AS[name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)];
  if (known !== undefined && names.includes(known)) return known;
  let [best, least] = [/** @type {string | undefined} */ (undefined), Math.max(1, Math.floor(plain(name).length / 3)) + 1];
  for (const each of names) {
    const n = distance(plain(name), plain(each));
    if (n < least) [best, least] = [each, n];
  }
  return best;
}

/** @param {string} message @param {string} field */
const refusal = (message, field) => new DarkroomError(message, "request", { field });

/** The kind of a value, for messages. @param {unknown} value */
export function kind_of(value) {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" || typeof value === "function") return value.constructor?.name || typeof value;
  return `the ${typeof value} ${JSON.stringify(value)}`;
}

/**
 * Refuses what is no object, and names that are not known. Names without a value are as good as absent.
 * @param {unknown} given
 * @param {Record<string, true>} known
 * @param {string} where such as `load's options`
 * @param {{known: Record<string, true>, where: string}} [other] where else the name could belong
 */
export function check_names(given, known, where, other) {
  if (typeof given !== "object" || given === null) throw refusal(`${where} must be an object, not ${kind_of(given)}`, where);
  const names = Object.keys(known);
  for (const [name, value] of Object.entries(given)) {
    if (names.includes(name) || value === undefined) continue;
    const meant = nearest(name, names);
    const elsewhere = other && nearest(name, Object.keys(other.known));
    const is_other = elsewhere && (elsewhere === name || !meant);
    const advice = is_other ? `"${elsewhere}" belongs to ${other?.where}` : meant ? `did you mean "${meant}"?` : `there are ${names.join(", ")}`;
    throw refusal(`${where}: no setting "${name}": ${advice}`, name);
  }
}

/**
 * Refuses callbacks that are not functions.
 * @param {Record<string, unknown>} given
 * @param {string} where
 */
export function check_functions(given, where) {
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined && value !== null && typeof value !== "function") throw refusal(`${where}: ${name} must be a function, not ${kind_of(value)}`, name);
  }
}

/** Refuses what is no signal. @param {unknown} signal @param {string} where */
export function check_signal(signal, where) {
  if (signal !== undefined && signal !== null && !(signal instanceof AbortSignal)) {
    throw refusal(`${where}: signal must be an AbortSignal, not ${kind_of(signal)}`, "signal");
  }
}

/**
 * Refuses a request with names that are not known, or with settings that only mean something with a picture.
 * @param {DrawRequest} request
 * @param {boolean} has_picture
 * @param {boolean} has_mask
 */
export function check_request(request, has_picture, has_mask) {
  check_names(request, REQUEST, "the request", { known: GENERATE, where: "generate's second argument" });
  if (typeof request.prompt !== "string") throw refusal(`the request: prompt must be a text, not ${kind_of(request.prompt)}`, "prompt");
  for (const name of /** @type {const} */ (["strength", "fit", "padding_mask_crop", "mask_blur"])) {
    const is_given = request[name] !== undefined && request[name] !== null;
    const needs_mask = name === "padding_mask_crop" || name === "mask_blur";
    // A blur of 0 is none.
    if (!is_given || (name === "mask_blur" && request[name] === 0) || (needs_mask ? has_mask : has_picture)) continue;
    const missing = needs_mask ? "mask" : "picture";
    throw refusal(`the request: ${name} without a ${missing} is not possible: give a ${missing} too, in generate's second argument`, name);
  }
  if (has_mask && !has_picture) throw refusal("mask without a picture is not possible: give the picture to repaint too", "mask");
}

/**
 * Refuses options of `load` that exclude each other.
 * @param {LoadOptions} options
 */
export function check_load(options) {
  check_names(options, LOAD, "load's options");
  check_signal(options.signal, "load's options");
  if (options.kept !== undefined) {
    for (const name of /** @type {const} */ (["endpoint", "repository"])) {
      if (options[name] !== undefined) throw refusal(`load's options: ${name} is for a model that is not kept: give it or kept`, name);
    }
    return;
  }
  for (const name of /** @type {const} */ (["base", "vae", "taesd", "embeddings"])) {
    if (options[name] !== undefined) throw refusal(`load's options: ${name} is for a kept model: give its name as kept`, name);
  }
}
