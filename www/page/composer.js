// The form: its fields, what they are kept as between visits, what a request needs before it starts, and pictures' settings
// put back into it.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { element } from "./elements.js";
import { is_downloading } from "./models.js";
import { announce, notify } from "./notices.js";
import * as start_picture from "./start_picture.js";
import { bytes, duration, sentence } from "./words.js";

/** Where the form is kept between visits. */
const FORM_KEY = "darkroom.form";
/** Where it is kept how fast this machine was, by model and device. */
const SPEED_KEY = "darkroom.speed";
/** How long typing rests before tokens are counted and the request is checked. */
const REST_MS = 150;

/** Settings of how the model is loaded. */
const LOAD_FIELDS = ["runner", "dtype", "budget", "endpoint"];

const FIELDS = ["prompt", "negative", "width", "height", "sides", "fit", "steps", "guidance", "sampler", "eta", "seed", "count", "strength"];

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
/** @type {import("../protocol.js").LoadedModel | null} */
let model = null;
let resting = 0;
/** Whether the strength that is shown is the model's own, which the slider may only come close to. */
let is_own_strength = false;
/** Checks that were started: the answer to an old one is not shown any more. */
let n_checks = 0;

/** Reads what is kept; a browser that keeps nothing, or something that somebody changed, is like a first visit. */
function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/** Nothing that the reader asked for is lost where a browser keeps nothing, so it is no failure to tell of. */
export function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    return;
  }
}

const next_seed = () => document.querySelector("[name=next-seed]:checked").value;

export function keep_form() {
  const kept = Object.fromEntries([...FIELDS, ...LOAD_FIELDS].map((id) => [id, element(id).value]));
  write(FORM_KEY, { ...kept, model: element("model").value, next_seed: next_seed() });
}

function restore_form() {
  const kept = read(FORM_KEY);
  for (const id of [...FIELDS, ...LOAD_FIELDS]) if (typeof kept[id] === "string") element(id).value = kept[id];
  const choice = document.querySelector(`[name=next-seed][value="${CSS.escape(kept.next_seed ?? "random")}"]`);
  if (choice) choice.checked = true;
  show_strength();
}

/** Chooses the model of the last visit, once it is known which there are. */
export function restore_model() {
  const { model: wanted } = read(FORM_KEY);
  const options = [...element("model").options];
  if (options.some(({ value }) => value === wanted)) element("model").value = wanted;
}

function show_strength() {
  element("strength-value").textContent = element("strength").valueAsNumber.toFixed(2);
}

/** Whether the chosen sampler can add noise in each step. */
const takes_eta = () => ["ddim", "tcd"].includes(element("sampler").value);

function show_eta() {
  element("eta-field").hidden = !takes_eta();
}

/** @param {import("../darkroom.js").Darkroom} given */
export function open_composer(given) {
  darkroom = given;
  restore_form();
  start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
  let had_mask = false;
  start_picture.open_start_picture(() => {
    // A part is repainted whole, a picture is changed by some: until the reader says otherwise.
    const { has_mask } = start_picture.given();
    if (has_mask !== had_mask) {
      const own = { strength: 0.8, mask_strength: 1, ...model };
      element("strength").value = String(has_mask ? own.mask_strength : own.strength);
      is_own_strength = true;
      show_strength();
    }
    had_mask = has_mask;
    changed();
  }, own_size);
  element("request").addEventListener("input", (event) => {
    show_strength();
    if (event.target.id === "strength") is_own_strength = false;
    show_eta();
    if (event.target.id === "width" || event.target.id === "height") {
      start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
    }
    if (event.target.id === "sides") show_steps_of_sides();
    changed();
  });
}

/** Whether sides may be any multiple of 8. */
const is_any_size = () => element("sides").value === "any";

/** By how much the arrows of the fields for width and height change them. */
function show_steps_of_sides() {
  if (!model) return;
  const step = is_any_size() ? Math.min(8, model.size_multiple) : model.size_multiple;
  for (const side of ["width", "height"]) Object.assign(element(side), { min: step, step, max: model.max_side });
}

/** A new start picture keeps its size, as far as the model can. */
async function own_size(width, height) {
  if (!model) return;
  [width, height] = await darkroom.size_of_picture(width, height, is_any_size());
  element("width").value = String(width);
  element("height").value = String(height);
  start_picture.set_size(width, height);
}

function changed() {
  keep_form();
  clearTimeout(resting);
  resting = setTimeout(look, REST_MS);
}

/** How the model is to be loaded, as the settings say. */
export function load_options() {
  const gigabytes = element("budget").valueAsNumber;
  const budget_bytes = gigabytes > 0 ? Math.round(gigabytes * 1e9) : undefined;
  const chosen = element("model").value;
  const kept = chosen === "" || chosen === EMBEDDED_REPOSITORY ? undefined : chosen.replace(/^kept:/, "");
  return { kept, runner: element("runner").value, dtype: element("dtype").value, budget_bytes };
}

/** @param {import("../protocol.js").LoadedModel | null} loaded */
export async function model_is(loaded) {
  model = loaded;
  if (!model) return;
  const sampler = element("sampler");
  const wanted = sampler.value || read(FORM_KEY).sampler || model.sampler;
  sampler.replaceChildren(
    ...model.samplers.map((name) => new Option(name === model.sampler ? `${name} (default)` : name, name)),
  );
  sampler.value = model.samplers.includes(wanted) ? wanted : model.sampler;
  show_steps_of_sides();
  show_eta();
  await look();
}

/** Puts the model's own settings into the form. @param {import("../protocol.js").LoadedModel} own */
export function use_defaults(own) {
  for (const [id, value] of Object.entries({ width: own.width, height: own.height, steps: own.steps, guidance: own.guidance_scale })) {
    element(id).value = String(value);
  }
  element("sampler").value = own.sampler;
  show_eta();
  start_picture.set_size(own.width, own.height);
  changed();
}

/** Settings that only mean something with a start picture. A strength that nobody chose is left to the model. */
function of_picture(strength) {
  return { fit: element("fit").value, ...(is_own_strength ? {} : { strength }) };
}

/**
 * The request that the form describes.
 * @returns {import("../protocol.js").DrawRequest}
 */
export function request() {
  const number = (id) => (Number.isFinite(element(id).valueAsNumber) ? element(id).valueAsNumber : Number.NaN);
  return {
    prompt: element("prompt").value.trim(),
    negative_prompt: element("negative").value.trim(),
    width: number("width"),
    height: number("height"),
    any_size: is_any_size(),
    steps: number("steps"),
    guidance_scale: number("guidance"),
    sampler: element("sampler").value,
    ...(takes_eta() ? { eta: number("eta") } : {}),
    seed: number("seed"),
    count: number("count"),
    ...(start_picture.given().has_picture ? of_picture(number("strength")) : {}),
  };
}

/** What is wrong with the form that the model need not be asked about: the field and a sentence. */
function fault(asked) {
  if (asked.prompt === "") return ["prompt", "write what to draw"];
  const whole = { width: "Width", height: "Height", steps: "Steps", seed: "Seed", count: "Pictures" };
  for (const [id, name] of Object.entries(whole)) {
    if (!Number.isSafeInteger(asked[id]) || asked[id] < 0) return [id, `${name} has to be a whole number`];
  }
  if (!Number.isFinite(asked.guidance_scale)) return ["guidance", "Guidance has to be a number"];
  if (asked.eta !== undefined && !Number.isFinite(asked.eta)) return ["eta", "Fresh noise has to be a number"];
  return null;
}

/** Which field a refusal of the model is about. */
function field_of(message) {
  const names = { width: "width", height: "height", steps: "steps", guidance: "guidance", count: "count", seed: "seed", sampler: "sampler", eta: "eta" };
  const found = Object.keys(names).find((name) => message.startsWith(name));
  return found ? names[found] : null;
}

/**
 * Shows what the request needs, or what is wrong with it.
 * @returns {Promise<import("../protocol.js").Work | null>} null where it cannot be drawn
 */
async function check() {
  const asked = request();
  const check_id = ++n_checks;
  const say = (state, text, field) => {
    if (check_id !== n_checks) return;
    element("needs").dataset.state = state;
    element("needs").textContent = text;
    for (const id of FIELDS) element(id).setAttribute("aria-invalid", String(id === field));
  };
  const wrong = fault(asked);
  if (wrong) {
    say("error", sentence(wrong[1]), wrong[0]);
    return null;
  }
  if (!model) return null;
  try {
    const work = await darkroom.work(asked, start_picture.given());
    say("ready", needs(asked, work, await memory(asked)), null);
    return work;
  } catch (error) {
    // What the command line and programs call it is here a choice.
    const text = error.message.replace(" with --any-size (any_size)", " (choose it at Sides)");
    say("error", sentence(text), field_of(error.message));
    return null;
  }
}

const speed_name = () => `${model.repository} by ${model.device}`;

/**
 * What the request takes of the GPU's memory, in words; nothing where the processor draws.
 * @param {import("../protocol.js").DrawRequest} asked
 */
async function memory({ width, height, any_size, guidance_scale }) {
  if (model.runner !== "gpu") return null;
  const { dtype, budget_bytes } = load_options();
  const { has_picture } = start_picture.given();
  const plan = await darkroom.plan({ width, height, any_size, guidance_scale, from_picture: has_picture, dtype, budget_bytes });
  return `${bytes(plan.peak_bytes)} of GPU memory${plan.fits ? "" : `, which is more than allowed: ${plan.advice}`}`;
}

/**
 * @param {import("../protocol.js").DrawRequest} asked
 * @param {import("../protocol.js").Work} work
 * @param {string | null} memory
 */
function needs(asked, work, memory) {
  const parts = [is_downloading(load_options().kept) ? "Begins while the model is downloaded" : "Nothing to download"];
  const pictures = asked.count === 1 ? "" : `${asked.count} pictures of `;
  parts.push(`${pictures}${work.n_steps} steps at ${asked.width} × ${asked.height}`);
  if (memory) parts.push(memory);
  const speed = read(SPEED_KEY)[speed_name()];
  parts.push(speed > 0 ? `about ${duration(work.flops / speed)} here` : "how long it takes is known after the first picture");
  return `${parts.join(" · ")}.`;
}

/**
 * Remembers how fast this machine was.
 * @param {import("../protocol.js").Outcome} outcome
 */
export function took({ flops, seconds }) {
  if (!model || !(seconds > 0)) return;
  write(SPEED_KEY, { ...read(SPEED_KEY), [speed_name()]: flops / seconds });
  changed();
}

/** Tokens of both prompts, and the check. */
async function look() {
  if (!model) {
    await check();
    return;
  }
  for (const id of ["prompt", "negative"]) {
    const text = element(id).value;
    const shown = element(`${id}-tokens`);
    try {
      const [n_tokens, limit] = await darkroom.count_tokens(text);
      const is_over = n_tokens > limit;
      shown.textContent = is_over ? `${n_tokens} tokens; the model reads ${limit}` : text ? `${n_tokens} of ${limit} tokens` : "";
      shown.dataset.state = is_over ? "over" : "";
    } catch (error) {
      shown.textContent = sentence(error.message);
    }
  }
  await check();
}

/**
 * The request to draw now, its seed chosen; null where the form says what is wrong.
 * @returns {Promise<import("../protocol.js").DrawRequest | null>}
 */
export async function next_request() {
  if (next_seed() === "random") element("seed").value = String(Math.floor(Math.random() * 2 ** 32));
  const work = await check();
  if (!work) {
    announce(element("needs").textContent);
    document.querySelector("[aria-invalid=true]")?.focus();
    return null;
  }
  const asked = request();
  if (next_seed() === "next") element("seed").value = String(asked.seed + asked.count);
  keep_form();
  const { has_picture } = start_picture.given();
X
  return asked;
}

/**
 * Puts a picture's settings into the form.
 * @param {import("../protocol.js").PictureParameters} parameters
 */
export function reuse(parameters) {
  element("prompt").value = parameters.prompt;
  element("negative").value = parameters.negative_prompt ?? "";
  element("width").value = String(parameters.width);
  element("height").value = String(parameters.height);
  element("sides").value = parameters.any_size ? "any" : "";
  show_steps_of_sides();
  element("steps").value = String(parameters.steps);
  element("guidance").value = String(parameters.guidance_scale);
  element("seed").value = String(parameters.seed);
  element("count").value = "1";
  document.querySelector("[name=next-seed][value=keep]").checked = true;
  if (parameters.strength !== undefined) {
    element("strength").value = String(parameters.strength);
    is_own_strength = false;
  }
  const differences = [];
  const sampler = [...element("sampler").options].find((option) => option.value.toLowerCase() === parameters.sampler.toLowerCase());
  if (sampler) element("sampler").value = sampler.value;
  show_eta();
  else differences.push(`its sampler ${parameters.sampler} is not one of ours`);
  if (model && parameters.model && parameters.model !== model.name) differences.push(`it was made with the model ${parameters.model}`);
  if (parameters.strength !== undefined && !start_picture.given().has_picture) {
    differences.push("it was made from another picture, which the file does not hold");
  }
  if (differences.length > 0) notify("info", `The settings are in the form, but the picture will differ: ${differences.join("; ")}`);
  else announce("The picture's settings are in the form");
  show_strength();
  start_picture.set_size(parameters.width, parameters.height);
  changed();
  element("prompt").focus();
}
