// What a request needs, or what is wrong with it: it is checked once typing rests, and again before it is drawn. Nothing is drawn here.

import { is_downloading } from "./downloads.js";
import { element } from "./elements.js";
import { FIELDS, keep_form, keep_model_settings, loaded_model } from "./form.js";
import { show_marks } from "./highlight.js";
import { field_of, message_of as raw_message_of } from "../errors.js";
import { told } from "./messages.js";
import { networks_known } from "./networks.js";
import { announce } from "./notices.js";
import { reveal } from "./panel.js";
import { fault, load_options, request, syntax } from "./request.js";
import { next_seed, random_seed, use_up_seed } from "./seed.js";
import { show_simple } from "./simple.js";
import { remember_speed, seconds_for } from "./speed.js";
import * as start_picture from "./start_picture.js";
import { text } from "./texts.js";
import { with_variation_seed } from "./variation.js";
import { wildcards } from "./wildcards.js";
import { bytes, duration, sentence } from "./words.js";

/** How long typing rests before a screen reader is told what is wrong. */
const TELL_MS = 1_000;
/** How long typing rests before tokens are counted and the request is checked. */
const REST_MS = 150;

/** @typedef {import("./form.js").Field} Field */
/** @typedef {import("../protocol.js").DrawRequest} DrawRequest */
/** @typedef {import("../protocol.js").LoadedModel} LoadedModel */

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
let resting = 0;
let telling = 0;
/** Checks that were started: the answer to an old one is not shown any more. */
let n_checks = 0;
/** How long the request of the last check takes, as far as this machine's speed is known. */
let seconds = Number.NaN;

/** @param {import("../darkroom.js").Darkroom} given */
export function open_check(given) {
  darkroom = given;
}

/** The request may be another one: once typing rests it is checked. */
export function changed() {
  keep_form();
  show_marks();
  show_simple();
  keep_model_settings();
  clearTimeout(resting);
  resting = setTimeout(look, REST_MS);
}

/** The fields whose settings have other names. @type {Record<string, Field>} */
const FIELD_OF = { guidance_scale: "guidance", padding_mask_crop: "mask-padding" };

/** Which field of the form an error is about. @param {unknown} error @returns {Field | null} */
function faulty_field(error) {
  const name = field_of(error) ?? "";
  return FIELD_OF[name] ?? FIELDS.find((id) => id === name.replaceAll("_", "-")) ?? null;
}

/**
 * Shows what a request needs, or what is wrong with it: that of the form, where none is given.
 * @param {ReturnType<typeof request>} [asked]
 * @returns {Promise<import("../protocol.js").Work | null>} null where it cannot be drawn
 */
async function check(asked = request()) {
  const check_id = ++n_checks;
  /** @type {(state: "ready" | "error", said: string, field: Field | null) => void} */
  const say = (state, said, field) => {
    if (check_id !== n_checks) return;
    element("needs").dataset.state = state;
    element("needs").textContent = said;
    for (const id of FIELDS) element(id).setAttribute("aria-invalid", String(id === field));
    clearTimeout(telling);
    if (state === "error") telling = setTimeout(() => announce(said), TELL_MS);
  };
  const wrong = fault(asked);
  if (wrong) {
    say("error", sentence(wrong[1]), wrong[0]);
    return null;
  }
  const loaded = loaded_model();
  if (!loaded) return null;
  try {
    const work = await darkroom.work(asked, { ...start_picture.given(), wildcards: wildcards() });
    if (check_id === n_checks) {
      show_notes(work.notes);
      seconds = seconds_for(loaded, work.flops);
    }
    say("ready", needs(asked, work, await memory(asked, loaded), loaded), null);
    return work;
  } catch (error) {
    say("error", sentence(told(as_choices(raw_message_of(error)))), faulty_field(error));
    return null;
  }
}

/** What the command line and programs spell out is a choice of the form here. @param {string} message */
const as_choices = (message) =>
  message
    .replace(" with --any-size (any_size)", text.choose_any_size)
    .replace("--prompt-syntax a1111", text.syntax_a1111)
    .replace("--prompt-syntax compel", text.syntax_compel);

/** What is worth telling about the prompts and LoRAs, below the prompts. @param {string[]} notes */
function show_notes(notes) {
  element("prompt-notes").hidden = notes.length === 0;
  element("prompt-notes").textContent = notes.map((note) => sentence(as_choices(note))).join(" ");
}

/**
 * What the request takes of the GPU's memory, in words; nothing where the processor draws.
 * @param {DrawRequest} asked
 * @param {LoadedModel} loaded
 */
async function memory({ width, height, any_size, guidance_scale, prompt, negative_prompt, prompt_syntax, count, steps, sampler }, loaded) {
  if (loaded.runner !== "gpu") return null;
  const { dtype, budget_bytes } = load_options();
  const { has_picture } = start_picture.given();
  const of_request = { width, height, any_size, guidance_scale, prompt, negative_prompt, prompt_syntax, count, steps, sampler };
  const plan = await darkroom.plan({ ...of_request, from_picture: has_picture, dtype, weights: loaded.weights, budget_bytes });
  const streamed = plan.streamed_bytes_per_step;
  const again = streamed > 0 ? text.read_each_step(bytes(streamed)) : "";
  return text.gpu_memory(bytes(plan.peak_bytes)) + again + (plan.fits ? "" : text.over_budget(told(plan.advice ?? "")));
}

/**
 * @param {DrawRequest} asked
 * @param {import("../protocol.js").Work} work
 * @param {string | null} memory
 * @param {LoadedModel} loaded
 */
function needs(asked, work, memory, loaded) {
  const parts = is_downloading(load_options().kept) ? [text.starts_while_downloading] : [];
  parts.push(`${asked.count === 1 ? "" : `${asked.count} × `}${asked.width} × ${asked.height}`, text.steps(work.n_steps));
  if (memory) parts.push(memory);
  const takes = seconds_for(loaded, work.flops);
  parts.push(Number.isNaN(takes) ? text.estimate_later : text.about(duration(takes)));
  return parts.join(" · ");
}

/**
 * Remembers how fast this machine was.
 * @param {import("../protocol.js").Outcome} outcome
 */
export function took({ flops, seconds }) {
  const loaded = loaded_model();
  if (!loaded) return;
  remember_speed(loaded, flops, seconds);
  changed();
}

/** Counts the tokens of both prompts, and checks the request. */
export async function look() {
  if (!loaded_model()) {
    await check();
    return;
  }
  for (const id of /** @type {const} */ (["prompt", "negative"])) {
    const written = element(id).value;
    const shown = element(/** @type {const} */ (`${id}-tokens`));
    try {
      const [n_tokens, limit, n_chunks] = await darkroom.count_tokens(written, syntax());
      const is_over = n_tokens > limit;
      shown.textContent = is_over ? text.too_many_tokens(n_tokens, limit) : written ? text.tokens(n_tokens, limit, n_chunks) : "";
      shown.dataset.state = is_over ? "over" : "";
    } catch (error) {
      shown.textContent = sentence(told(raw_message_of(error)));
    }
  }
  await check();
}

/** How long the request that was checked last takes, as far as this machine's speed is known; NaN otherwise. */
export const estimated_seconds = () => seconds;

/**
 * The request to draw now, its seed chosen; null where the form says what is wrong.
 * @returns {Promise<DrawRequest | null>}
 */
export async function next_request() {
  await networks_known();
  if (next_seed() === "random") element("seed").value = random_seed();
  // Taken as it is now: what is typed while it is checked is for the next one, which has its own seed.
  const asked = with_variation_seed(request());
  // Variations are all of one seed.
  const n_seeds = asked.variation_strength === undefined ? asked.count : 1;
  const put_back = use_up_seed(asked.seed ?? 0, fault(asked) === null ? n_seeds : 0);
  const work = await check(asked);
  if (!work) {
    put_back();
    clearTimeout(telling);
    announce(element("needs").textContent);
    const wrong = FIELDS.find((id) => element(id).getAttribute("aria-invalid") === "true");
    if (wrong) {
      reveal(wrong);
      element(wrong).focus();
    }
    return null;
  }
  keep_form();
  return asked;
}
