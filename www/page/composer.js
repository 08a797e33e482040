// The form: its fields, what they are kept as between visits, what a request needs before it starts, and pictures' settings
// put back into it.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { message_of } from "../errors.js";
import { element, make, part } from "./elements.js";
import { read, write } from "./memory.js";
import { is_downloading, options_of } from "./models.js";
import { family_is, networks_known, use_loras, used_loras } from "./networks.js";
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
const LOAD_FIELDS = /** @type {const} */ (["runner", "dtype", "budget", "endpoint"]);

const FIELDS = /** @type {const} */ (
  ["prompt", "negative", "syntax", "width", "height", "sides", "fit", "steps", "guidance", "sampler", "eta", "seed", "noise", "count", "strength"]
);

/** @typedef {typeof FIELDS[number]} Field */
/** @typedef {import("../protocol.js").DrawRequest} DrawRequest */
/** @typedef {import("../protocol.js").LoadedModel} LoadedModel */

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
/** @type {LoadedModel | null} */
let model = null;
let resting = 0;
/** Whether the strength that is shown is the model's own, which the slider may only come close to. */
let is_own_strength = false;
/** What was taken that the form has no field for: its name for people, and its part of a request. @type {Map<string, Partial<DrawRequest>>} */
let extras = new Map();
/** Checks that were started: the answer to an old one is not shown any more. */
let n_checks = 0;

/** What the prompts are written in. */
const syntax = () => /** @type {NonNullable<DrawRequest["prompt_syntax"]>} */ (element("syntax").value);

const next_seed = () => part(document, "[name=next-seed]:checked", HTMLInputElement).value;

export function keep_form() {
  const kept = Object.fromEntries([...FIELDS, ...LOAD_FIELDS].map((id) => [id, element(id).value]));
  write(FORM_KEY, { ...kept, model: element("model").value, next_seed: next_seed() });
}

function restore_form() {
  const kept = read(FORM_KEY);
  for (const id of [...FIELDS, ...LOAD_FIELDS]) {
    const value = kept[id];
    if (typeof value === "string") element(id).value = value;
  }
  const choice = document.querySelector(`[name=next-seed][value="${CSS.escape(String(kept.next_seed ?? "random"))}"]`);
  if (choice instanceof HTMLInputElement) choice.checked = true;
  show_strength();
}

/** Chooses the model of the last visit, once it is known which there are. */
export function restore_model() {
  const { model: wanted } = read(FORM_KEY);
  const option = [...element("model").options].find(({ value }) => value === wanted);
  if (option) element("model").value = option.value;
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
  start_picture.open_start_picture((file) => darkroom.read_picture(file), () => {
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
  element("request").addEventListener("input", ({ target }) => {
    const id = target instanceof Element ? target.id : "";
    show_strength();
    if (id === "strength") is_own_strength = false;
    show_eta();
    if (id === "width" || id === "height") {
      start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
    }
    if (id === "sides") show_steps_of_sides();
    changed();
  });
}

/** Whether sides may be any multiple of 8. */
const is_any_size = () => element("sides").value === "any";

/** By how much the arrows of the fields for width and height change them. */
function show_steps_of_sides() {
  if (!model) return;
  const step = is_any_size() ? Math.min(8, model.size_multiple) : model.size_multiple;
  for (const side of /** @type {const} */ (["width", "height"])) Object.assign(element(side), { min: step, step, max: model.max_side });
}

/**
 * A new start picture keeps its size, as far as the model can.
 * @param {number} width
 * @param {number} height
 */
async function own_size(width, height) {
  if (!model) return;
  [width, height] = await darkroom.size_of_picture(width, height, is_any_size());
  element("width").value = String(width);
  element("height").value = String(height);
  start_picture.set_size(width, height);
}

/** The request may be another one: once typing rests it is checked. */
export function changed() {
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
  const runner = /** @type {import("../protocol.js").Runner} */ (element("runner").value);
  const dtype = /** @type {import("../protocol.js").Dtype} */ (element("dtype").value);
  return { kept, runner, dtype, budget_bytes, ...options_of(kept) };
}

/** @param {LoadedModel | null} loaded */
export async function model_is(loaded) {
  model = loaded;
  // The model that comes with the page is of a family by its layers, and of other sizes than all that is made for it.
  family_is(loaded?.repository === EMBEDDED_REPOSITORY ? EMBEDDED_REPOSITORY : (loaded?.family ?? null)).then(changed);
  if (!loaded) return;
  const { samplers, sampler: own } = loaded;
  const menu = element("sampler");
  const wanted = String(menu.value || read(FORM_KEY).sampler || own);
  menu.replaceChildren(...samplers.map((name) => new Option(name === own ? `${name} (default)` : name, name)));
  menu.value = samplers.includes(wanted) ? wanted : own;
  show_steps_of_sides();
  show_eta();
  await look();
}

/** Puts the model's own settings into the form. @param {LoadedModel} own */
export function use_defaults(own) {
  fill({ width: own.width, height: own.height, steps: own.steps, guidance: own.guidance_scale });
  element("sampler").value = own.sampler;
  show_eta();
  start_picture.set_size(own.width, own.height);
  changed();
}

/**
 * Puts the settings of a LoRA of few steps into the form. Guidance has no place there.
 * @param {import("./networks.js").FewSteps} few
 */
export function use_few_steps({ preset, title, steps, sampler, eta }) {
  fill({ steps, guidance: 1, ...(eta === undefined ? {} : { eta }) });
  choose_sampler(sampler);
  for (const name of [...extras.keys()]) if (extras.get(name)?.preset !== undefined) extras.delete(name);
  // What belongs to it that the form has no field for: how steps are spaced.
  extras.set(`${title} settings`, { preset });
  show_extras();
  show_eta();
  changed();
  announce(`The settings of ${title} are in the form`);
}

/** Chooses a sampler; not every schedule of every one is in the menu. @param {string} name */
function choose_sampler(name) {
  const menu = element("sampler");
  const option = [...menu.options].find(({ value }) => value.toLowerCase() === name.toLowerCase());
  if (!option) menu.append(new Option(name, name));
  menu.value = option?.value ?? name;
}

/** Puts values into fields; what is undefined stays as it is. @param {Partial<Record<Field, string | number>>} values */
function fill(values) {
  for (const id of FIELDS) if (values[id] !== undefined) element(id).value = String(values[id]);
}

/**
 * Settings that only mean something with a start picture. A strength that nobody chose is left to the model.
 * @param {number} strength
 */
function of_picture(strength) {
  return { fit: /** @type {DrawRequest["fit"]} */ (element("fit").value), ...(is_own_strength ? {} : { strength }) };
}

/**
 * A seed as a request takes it: a number where JavaScript's numbers hold it, otherwise its digits; NaN where it is none.
 * @param {string} text
 */
function seed_of(text) {
  if (!/^\d+$/.test(text.trim()) || BigInt(text) >= 2n ** 64n) return Number.NaN;
  return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text).toString();
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
    width: number("width"),
    height: number("height"),
    any_size: is_any_size(),
    steps: number("steps"),
    guidance_scale: number("guidance"),
    sampler: element("sampler").value,
    ...(takes_eta() ? { eta: number("eta") } : {}),
    seed: seed_of(element("seed").value),
    noise: /** @type {NonNullable<DrawRequest["noise"]>} */ (element("noise").value),
    count: number("count"),
    loras: used_loras(),
    ...(start_picture.given().has_picture ? of_picture(number("strength")) : {}),
  };
  return Object.assign(asked, ...extras.values());
}

/** Shows what was taken without a field, each to be left out again. */
function show_extras() {
  const buttons = [...extras.keys()].map((name) => {
    const leave_out = () => {
      extras.delete(name);
      show_extras();
      changed();
      element("prompt").focus();
    };
    return make("button", { type: "button", class: "plain", "aria-label": `Leave out: ${name}`, title: "Leave it out", onclick: leave_out }, `${name} ×`);
  });
  element("extras").hidden = buttons.length === 0;
  element("extras").replaceChildren(...buttons);
}

/**
 * What a picture was made with that the form has no field for.
 * @param {import("../protocol.js").PictureParameters} parameters
 * @returns {Map<string, Partial<DrawRequest>>}
 */
function extras_of({ spacing, clip_skip, clip_skip_counting, timesteps, sigmas, original_size, crop, prompt_syntax, long_prompt_chunks = false }) {
  /** @type {[string, Partial<DrawRequest>][]} */
  const found = [];
  if (clip_skip !== undefined) {
    const counted = clip_skip_counting === "a1111" ? "" : ", counted as in diffusers";
    found.push([`CLIP skip ${clip_skip}${counted}`, { clip_skip, clip_skip_counting }]);
  }
  if (spacing !== undefined) found.push([`Spacing ${spacing}`, { spacing }]);
  // Steps that are given one by one are counted.
  if (timesteps !== undefined) found.push(["Its own timesteps", { timesteps, steps: undefined }]);
  if (sigmas !== undefined) found.push(["Its own sigmas", { sigmas, steps: undefined }]);
  if (original_size !== undefined) found.push([`Original size ${original_size.join(" × ")}`, { original_size }]);
  if (crop !== undefined) found.push([`Crop at ${crop.join(", ")}`, { crop }]);
  if (prompt_syntax !== undefined && long_prompt_chunks !== (prompt_syntax !== "plain")) {
    found.push(long_prompt_chunks ? ["Long prompts in chunks", { long_prompt: "chunks" }] : ["Long prompts cut", { long_prompt: "truncate" }]);
  }
  return new Map(found);
}

/**
 * What is wrong with the form that the model need not be asked about: the field and a sentence.
 * @param {ReturnType<typeof request>} asked
 * @returns {[Field, string] | null}
 */
function fault(asked) {
  if (asked.prompt === "") return ["prompt", "write what to draw"];
  if (Number.isNaN(asked.seed)) return ["seed", `Seed has to be a whole number, 0 to ${2n ** 64n - 1n}`];
  /** @type {["width" | "height" | "steps" | "count", string][]} */
  const whole = [["width", "Width"], ["height", "Height"], ["steps", "Steps"], ["count", "Pictures"]];
  for (const [id, name] of whole) {
    const value = asked[id] ?? 0;
    if (!Number.isSafeInteger(value) || value < 0) return [id, `${name} has to be a whole number`];
  }
  if (!Number.isFinite(asked.guidance_scale)) return ["guidance", "Guidance has to be a number"];
  if (asked.eta !== undefined && !Number.isFinite(asked.eta)) return ["eta", "Fresh noise has to be a number"];
  return null;
}

/** Which field a refusal of the model is about. @param {string} message */
function field_of(message) {
  const fields = /** @type {const} */ (["width", "height", "steps", "guidance", "count", "seed", "sampler", "eta"]);
  return fields.find((name) => message.startsWith(name)) ?? null;
}

/**
 * Shows what the request needs, or what is wrong with it.
 * @returns {Promise<import("../protocol.js").Work | null>} null where it cannot be drawn
 */
async function check() {
  const asked = request();
  const check_id = ++n_checks;
  /** @type {(state: "ready" | "error", text: string, field: Field | null) => void} */
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
  const loaded = model;
  if (!loaded) return null;
  try {
    const work = await darkroom.work(asked, start_picture.given());
    if (check_id === n_checks) show_notes(work.notes);
    say("ready", needs(asked, work, await memory(asked, loaded), loaded), null);
    return work;
  } catch (error) {
    // What the command line and programs call it is here a choice.
    const text = message_of(error).replace(" with --any-size (any_size)", " (choose it at Sides)");
    say("error", sentence(text), field_of(message_of(error)));
    return null;
  }
}

/** What is worth telling about the prompts and LoRAs, below the prompts. @param {string[]} notes */
function show_notes(notes) {
  element("prompt-notes").hidden = notes.length === 0;
  // What the command line calls it is here a choice.
  const told = notes.map((note) => sentence(note.replace("--prompt-syntax a1111", "the syntax AUTOMATIC1111")));
  element("prompt-notes").textContent = told.join(" ");
}

/** @param {LoadedModel} loaded */
const speed_name = (loaded) => `${loaded.repository} by ${loaded.device}`;

/**
 * What the request takes of the GPU's memory, in words; nothing where the processor draws.
 * @param {DrawRequest} asked
 * @param {LoadedModel} loaded
 */
async function memory({ width, height, any_size, guidance_scale }, loaded) {
  if (loaded.runner !== "gpu") return null;
  const { dtype, budget_bytes } = load_options();
  const { has_picture } = start_picture.given();
  const plan = await darkroom.plan({ width, height, any_size, guidance_scale, from_picture: has_picture, dtype, budget_bytes });
  const streamed = plan.streamed_bytes_per_step > 0 ? `, ${bytes(plan.streamed_bytes_per_step)} of weights read anew in each step` : "";
  return `${bytes(plan.peak_bytes)} of GPU memory${streamed}${plan.fits ? "" : `, which is more than allowed: ${plan.advice}`}`;
}

/**
 * @param {DrawRequest} asked
 * @param {import("../protocol.js").Work} work
 * @param {string | null} memory
 * @param {LoadedModel} loaded
 */
function needs(asked, work, memory, loaded) {
  const parts = [is_downloading(load_options().kept) ? "Begins while the model is downloaded" : "Nothing to download"];
  const pictures = asked.count === 1 ? "" : `${asked.count} pictures of `;
  parts.push(`${pictures}${work.n_steps} steps at ${asked.width} × ${asked.height}`);
  if (memory) parts.push(memory);
  const speed = Number(read(SPEED_KEY)[speed_name(loaded)] ?? 0);
  parts.push(speed > 0 ? `about ${duration(work.flops / speed)} here` : "how long it takes is known after the first picture");
  return `${parts.join(" · ")}.`;
}

/**
 * Remembers how fast this machine was.
 * @param {import("../protocol.js").Outcome} outcome
 */
export function took({ flops, seconds }) {
  if (!model || !(seconds > 0)) return;
  write(SPEED_KEY, { ...read(SPEED_KEY), [speed_name(model)]: flops / seconds });
  changed();
}

/** Tokens of both prompts, and the check. */
async function look() {
  if (!model) {
    await check();
    return;
  }
  for (const id of /** @type {const} */ (["prompt", "negative"])) {
    const text = element(id).value;
    const shown = element(/** @type {const} */ (`${id}-tokens`));
    try {
      const [n_tokens, limit, n_chunks] = await darkroom.count_tokens(text, syntax());
      const is_over = n_tokens > limit;
      const chunks = n_chunks > 1 ? ` in ${n_chunks} chunks` : "";
      shown.textContent = is_over ? `${n_tokens} tokens; the model reads ${limit}` : text ? `${n_tokens} of ${limit} tokens${chunks}` : "";
      shown.dataset.state = is_over ? "over" : "";
    } catch (error) {
      shown.textContent = sentence(message_of(error));
    }
  }
  await check();
}

/**
 * The request to draw now, its seed chosen; null where the form says what is wrong.
 * @returns {Promise<DrawRequest | null>}
 */
export async function next_request() {
  await networks_known();
  if (next_seed() === "random") element("seed").value = String(Math.floor(Math.random() * 2 ** 32));
  const work = await check();
  if (!work) {
    announce(element("needs").textContent);
    FIELDS.map(element).find((field) => field.getAttribute("aria-invalid") === "true")?.focus();
    return null;
  }
  const asked = request();
  if (next_seed() === "next") element("seed").value = String((BigInt(asked.seed) + BigInt(asked.count)) % 2n ** 64n);
  keep_form();
  return asked;
}

/**
 * Puts a picture's settings into the form; what it does not say stays as it is.
 * @param {import("../protocol.js").PictureParameters} parameters
 */
export function reuse(parameters) {
  const fields = {
    prompt: parameters.prompt,
    // A picture with a prompt and without a negative one had none.
    negative: parameters.negative_prompt ?? (parameters.prompt === undefined ? undefined : ""),
    syntax: parameters.prompt_syntax,
    width: parameters.width,
    height: parameters.height,
    steps: parameters.steps,
    guidance: parameters.guidance_scale,
    seed: parameters.seed,
    // Who does not say it draws as most do.
    noise: parameters.seed === undefined ? undefined : (parameters.noise ?? "cpu"),
    strength: parameters.strength,
  };
  if (parameters.width !== undefined) {
    element("sides").value = parameters.any_size ? "any" : "";
    show_steps_of_sides();
  }
  fill(fields);
  element("count").value = "1";
  if (parameters.seed !== undefined) part(document, "[name=next-seed][value=keep]", HTMLInputElement).checked = true;
  if (parameters.strength !== undefined) is_own_strength = false;
  const differences = [...(parameters.notes ?? [])];
  if (parameters.vae) differences.push(`it was made with the VAE ${parameters.vae}`);
  const held = model?.weights?.startsWith("q") ? model.weights : undefined;
  if (parameters.weights !== held) differences.push(`its model's weights were ${parameters.weights ? `held in ${parameters.weights}` : "not quantised"}`);
  extras = extras_of(parameters);
  show_extras();
  // A picture with a prompt and without LoRAs had none.
  const missing_loras = parameters.prompt === undefined && !parameters.loras ? [] : use_loras(parameters.loras ?? []);
  if (missing_loras.length > 0) differences.push(`it was made with ${missing_loras.length === 1 ? "the LoRA" : "LoRAs"} ${missing_loras.join(", ")}, which this browser does not keep for this model`);
  const { width: size, steps, guidance, seed } = fields;
  const { sampler, knows_sampler } = parameters;
  const missing = Object.entries({ size, steps, guidance, seed, sampler }).filter(([, value]) => value === undefined);
  if (missing.length > 0) differences.push(`it does not say its ${missing.map(([name]) => name).join(", ")}`);
  if (sampler !== undefined) {
    const menu = element("sampler");
    const is_in_menu = [...menu.options].some(({ value }) => value.toLowerCase() === sampler.toLowerCase());
    if (is_in_menu || knows_sampler) choose_sampler(sampler);
    else differences.push(`its sampler ${sampler} is not one of ours`);
  }
  if (parameters.eta !== undefined) element("eta").value = String(parameters.eta);
  show_eta();
  if (model && parameters.model && parameters.model !== model.name) differences.push(`it was made with the model ${parameters.model}`);
  if (parameters.strength !== undefined && !start_picture.given().has_picture) {
    differences.push("it was made from another picture, which the file does not hold");
  }
  const by = parameters.program && parameters.program !== "darkroom" ? ` of ${parameters.program}` : "";
  if (differences.length > 0) notify("info", `The settings${by} are in the form, but the picture will differ: ${differences.join("; ")}`);
  else announce("The picture's settings are in the form");
  show_strength();
  start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
  changed();
  element("prompt").focus();
}
