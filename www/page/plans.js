// What the models with a short name take of this browser's GPU, in words: planned before anything is downloaded, for the memory limit and
// the type of weights in the settings.

import { code_of } from "../errors.js";
import { loaded_model } from "./form.js";
import { message_of, told } from "./messages.js";
import { load_options } from "./request.js";
import { seconds_of_plan } from "./speed.js";
import { text } from "./texts.js";
import { bytes, duration } from "./words.js";

/** @typedef {import("../protocol.js").Plan} Plan */
/** @typedef {import("../protocol.js").VersionInfo} VersionInfo */
/** @typedef {import("../protocol.js").WeightType} WeightType */

/**
 * What a version takes, in words, and whether it fits, where that is known; and the work of an image, where it was planned.
 * @typedef {{fits?: boolean, said: string, image?: {plan: Plan, steps: number}}} Needs
 */

/** What was found, by the version and the settings that it holds for. @type {Map<string, Needs>} */
const known = new Map();

/** @param {string} version */
function name_of(version) {
  const { dtype, weights, budget_bytes } = load_options();
  return JSON.stringify([version, dtype, weights, budget_bytes, loaded_model()?.device]);
}

/** What is known of a version with the settings as they are. @param {string} version */
export const known_needs = (version) => known.get(name_of(version));

/**
 * Finds what a version takes.
 * @param {import("../darkroom.js").Darkroom} darkroom
 * @param {VersionInfo} version
 * @returns {Promise<Needs | undefined>} undefined where there is no GPU to plan for
 */
export async function find_needs(darkroom, version) {
  const name = name_of(version.key);
  const found = known.get(name);
  if (found) return found;
  try {
    const needs = await plan_needs(darkroom, version);
    known.set(name, needs);
    return needs;
  } catch (error) {
    const code = code_of(error);
    if (code === "device") return undefined;
    const why = message_of(error);
    // The adapter's limits stay as they are; what else went wrong may go better the next time.
    if (code !== "memory") return { said: text.not_planned(why) };
    const needs = { fits: false, said: text.does_not_fit(why) };
    known.set(name, needs);
    return needs;
  }
}

/** @param {import("../darkroom.js").Darkroom} darkroom @param {VersionInfo} version @returns {Promise<Needs>} */
async function plan_needs(darkroom, { key, steps }) {
  const { dtype, weights, budget_bytes } = load_options();
  const plan_in = (/** @type {WeightType | undefined} */ type) => darkroom.plan({ version: key, dtype, weights: type, budget_bytes });
  if (budget_bytes === undefined) {
    const plan = await plan_in(weights ?? "f16");
    const least = async (/** @type {WeightType} */ type) => bytes((await plan_in(type)).staged_peak_bytes);
    const smaller = weights ? "" : text.in_fewer_bits(await least("q8_0"), await least("q4_0"));
    return { fits: true, said: text.fits(bytes(plan.peak_bytes), bytes(plan.staged_peak_bytes)) + smaller, image: { plan, steps } };
  }
  const limit = bytes(budget_bytes);
  const plan = await plan_in(weights);
  if (!plan.fits) return { fits: false, said: text.over_limit(limit, told(plan.advice ?? "")) };
  const held = plan.weights.startsWith("q") ? (text.weights_of[plan.weights] ?? "") : "";
  return { fits: true, said: text.fits_limit(limit, bytes(plan.peak_bytes), held, plan.residency), image: { plan, steps } };
}

/** How long an image takes at the speed that is known by now, in words. @param {Needs} needs */
function time_of({ image }) {
  const { runner, device } = loaded_model() ?? {};
  if (!image || runner !== "gpu") return "";
  const seconds = seconds_of_plan(image.plan, image.steps, device);
  return Number.isNaN(seconds) ? "" : ` · ${text.an_image(duration(seconds))}`;
}

/** @param {Element} shown @param {Needs | undefined} needs */
export function show_needs(shown, needs) {
  shown.textContent = needs ? needs.said + time_of(needs) : "";
  shown.toggleAttribute("data-fails", needs?.fits === false);
}
