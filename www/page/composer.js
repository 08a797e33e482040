// The form: its fields, what they are kept as between visits, what a request needs before it starts, and pictures' settings
// put back into it.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { message_of } from "../errors.js";
import { element, make, part } from "./elements.js";
import { read, write } from "./memory.js";
import { is_downloading, options_of } from "./models.js";
import { family_is, networks_known, use_loras, used_loras } from "./networks.js";
import { announce, notify } from "./notices.js";
import { next_seed_is, open_simple, show_simple, simple_for } from "./simple.js";
import * as start_picture from "./start_picture.js";
import { text } from "./texts.js";
import { wildcards } from "./wildcards.js";
import { bytes, duration, sentence } from "./words.js";

/** Where the form is kept between visits. */
const FORM_KEY = "darkroom.form";
/** Where it is kept how fast this machine was, by model and device. */
const SPEED_KEY = "darkroom.speed";
/** Where it is kept which parts of the form are open. */
const OPEN_KEY = "darkroom.open";
/** Parts of the form that open and close. */
const SECTIONS = /** @type {const} */ (["networks", "advanced"]);
/** Where the settings of each model are kept, by its name in the form. */
const MODELS_KEY = "darkroom.model-settings";
/** How long typing rests before a screen reader is told what is wrong. */
const TELL_MS = 1_000;
/** How long typing rests before tokens are counted and the request is checked. */
const REST_MS = 150;

/** A start picture that has more than so many times the sides of the model's pictures is drawn at the model's size: a photo of a camera
 * would take hours. */
const MAX_ENLARGED = 2;

/** Settings of how the model is loaded. */
const LOAD_FIELDS = /** @type {const} */ (["runner", "dtype", "weights", "budget", "endpoint"]);

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
/** How long the request of the last check takes, as far as this machine's speed is known. */
let seconds = Number.NaN;
let telling = 0;
/** How the next seed was chosen before a picture's seed was taken, which holds for one drawing. @type {string | null} */
let seed_choice = null;

/** What the prompts are written in. */
const syntax = () => /** @type {NonNullable<DrawRequest["prompt_syntax"]>} */ (element("syntax").value);

const next_seed = () => part(document, "[name=next-seed]:checked", HTMLInputElement).value;

export function keep_form() {
  const kept = Object.fromEntries([...FIELDS, ...LOAD_FIELDS].map((id) => [id, element(id).value]));
  write(FORM_KEY, { ...kept, model: element("model").value, next_seed: next_seed() });
}

/** @param {string} choice */
function choose_next_seed(choice) {
  part(document, `[name=next-seed][value=${choice}]`, HTMLInputElement).checked = true;
}

/** Settings that depend on the model. */
const OF_MODEL = /** @type {const} */ (["width", "height", "sides", "steps", "guidance", "sampler"]);

/** The model whose settings the form has, by its name in the form. */
let form_of = EMBEDDED_REPOSITORY;

/** Remembers the settings of the model that they are of. */
function keep_model_settings() {
  write(MODELS_KEY, { ...read(MODELS_KEY), [form_of]: Object.fromEntries(OF_MODEL.map((id) => [id, element(id).value])) });
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
  form_of = element("model").value;
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
  open_sections();
  open_simple(choose, is_any_size);
  start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
  let had_mask = false;
  start_picture.open_start_picture((file) => darkroom.show_picture(file), () => {
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
  }, own_size, show_panel);
  element("request").addEventListener("input", ({ target }) => {
    const id = target instanceof Element ? target.id : "";
    const is_of_seed = id === "seed" || (target instanceof HTMLInputElement && target.name === "next-seed");
    if (is_of_seed) seed_choice = null;
    // Who types a seed wants it.
    if (id === "seed") choose_next_seed("keep");
    show_strength();
    // Whoever types a seed wants that one.
    if (id === "seed") next_seed_is("keep");
    if (id === "strength") is_own_strength = false;
    show_eta();
    if (id === "width" || id === "height") {
      start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
    }
    if (id === "sides") show_steps_of_sides();
    changed();
  });
}

/** Parts of the form stay open or closed between visits. */
function open_sections() {
  const { [SECTIONS[0]]: networks = false, [SECTIONS[1]]: advanced = false } = read(OPEN_KEY);
  element("networks").open = networks === true;
  element("advanced").open = advanced === true;
  for (const id of SECTIONS) {
    element(id).addEventListener("toggle", () => write(OPEN_KEY, Object.fromEntries(SECTIONS.map((each) => [each, element(each).open]))));
  }
}

/** Takes what a chip chose. @param {import("./simple.js").Choice} choice */
function choose({ width, height, ...others }) {
  fill({ ...others, ...(width && height ? { width, height } : {}) });
  if (width && height) start_picture.set_size(width, height);
  changed();
}

/** Brings a field into view, wherever it is folded away. @param {Field} id */
function reveal(id) {
  const details = element(id).closest("details");
  if (details) details.open = true;
  if (element(id).closest("#panel")) show_panel(true);
}

/** Opens the options over the stage, where the window is too narrow for both. @param {boolean} is_open */
export function show_panel(is_open) {
  part(document, "main", HTMLElement).dataset.panel = is_open ? "open" : "closed";
  element("open-panel").setAttribute("aria-expanded", String(is_open));
  element("open-panel").textContent = is_open ? text.close_options : text.options;
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
  const too_large = Math.sqrt((width * height) / (model.width * model.height));
  if (too_large > MAX_ENLARGED) [width, height] = [width, height].map((side) => Math.max(1, Math.round(side / too_large)));
  [width, height] = await darkroom.size_of_picture(width, height, is_any_size());
  element("width").value = String(width);
  element("height").value = String(height);
  start_picture.set_size(width, height);
}

/** The request may be another one: once typing rests it is checked. */
export function changed() {
  keep_form();
  show_simple();
  keep_model_settings();
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
  const held = /** @type {import("../protocol.js").WeightType | "auto"} */ (element("weights").value);
  const weights = held === "auto" ? undefined : held;
  return { kept, runner, dtype, weights, budget_bytes, ...options_of(kept) };
}

/** @param {LoadedModel | null} loaded */
export async function model_is(loaded) {
  model = loaded;
  simple_for(loaded);
  // The model that comes with the page is of a family by its layers, and of other sizes than all that is made for it.
  family_is(loaded?.repository === EMBEDDED_REPOSITORY ? EMBEDDED_REPOSITORY : (loaded?.family ?? null)).then(changed);
  if (!loaded) return;
  const { samplers, sampler: own } = loaded;
  const menu = element("sampler");
  const wanted = String(menu.value || read(FORM_KEY).sampler || own);
  menu.replaceChildren(...samplers.map((name) => new Option(name === own ? text.default_choice(name) : name, name)));
  menu.value = samplers.includes(wanted) ? wanted : own;
  show_steps_of_sides();
  show_eta();
  await look();
}

/**
 * Puts the settings of the model that was chosen into the form: those of the last time, or its own.
 * @param {LoadedModel} own
 */
export function use_defaults(own) {
  form_of = element("model").value;
  const last = /** @type {Record<string, Record<string, string>>} */ (read(MODELS_KEY))[form_of];
  if (last) {
    fill(last);
    choose_sampler(last.sampler ?? own.sampler);
    show_steps_of_sides();
  } else {
    fill({ width: own.width, height: own.height, steps: own.steps, guidance: own.guidance_scale });
    element("sampler").value = own.sampler;
  }
  show_eta();
  start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
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
  extras.set(text.settings_of(title), { preset });
  show_extras();
  show_eta();
  changed();
  announce(text.settings_taken(""));
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
    return make("button", { type: "button", class: "plain", "aria-label": `${name}: ${text.remove}`, title: text.remove, onclick: leave_out }, `${name} ×`);
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
    const counted = clip_skip_counting === "a1111" ? "" : " (diffusers)";
    found.push([`CLIP skip ${clip_skip}${counted}`, { clip_skip, clip_skip_counting }]);
  }
  if (spacing !== undefined) found.push([`Spacing ${spacing}`, { spacing }]);
  // Steps that are given one by one are counted.
  if (timesteps !== undefined) found.push([text.custom_timesteps, { timesteps, steps: undefined }]);
  if (sigmas !== undefined) found.push([text.custom_sigmas, { sigmas, steps: undefined }]);
  if (original_size !== undefined) found.push([text.original_size(original_size.join(" × ")), { original_size }]);
  if (crop !== undefined) found.push([text.crop_at(crop.join(", ")), { crop }]);
  if (prompt_syntax !== undefined && long_prompt_chunks !== (prompt_syntax !== "plain")) {
    found.push(long_prompt_chunks ? [text.long_chunks, { long_prompt: "chunks" }] : [text.long_cut, { long_prompt: "truncate" }]);
  }
  return new Map(found);
}

/**
 * What is wrong with the form that the model need not be asked about: the field and a sentence.
 * @param {ReturnType<typeof request>} asked
 * @returns {[Field, string] | null}
 */
function fault(asked) {
  if (asked.prompt === "") return ["prompt", text.prompt_missing];
  if (Number.isNaN(asked.seed)) return ["seed", text.seed_range(String(2n ** 64n - 1n))];
  /** @type {["width" | "height" | "steps" | "count", string][]} */
  const whole = [["width", text.field.width], ["height", text.field.height], ["steps", text.field.steps], ["count", text.field.count]];
  for (const [id, name] of whole) {
    const value = asked[id] ?? 0;
    if (!Number.isSafeInteger(value) || value < 0) return [id, value < 0 ? text.not_negative(name) : text.not_whole(name)];
  }
  if (!Number.isFinite(asked.guidance_scale)) return ["guidance", text.not_a_number(text.field.guidance)];
  if (asked.eta !== undefined && !Number.isFinite(asked.eta)) return ["eta", text.not_a_number("Eta")];
  return null;
}

/** Which field a refusal of the model is about. @param {string} message */
function field_of(message) {
  const fields = /** @type {const} */ (["width", "height", "steps", "guidance", "count", "seed", "sampler", "eta"]);
  return fields.find((name) => message.startsWith(name)) ?? null;
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
  const loaded = model;
  if (!loaded) return null;
  try {
    const work = await darkroom.work(asked, { ...start_picture.given(), wildcards: wildcards() });
    if (check_id === n_checks) {
      show_notes(work.notes);
      seconds = work.flops / Number(read(SPEED_KEY)[speed_name(loaded)] ?? Number.NaN);
    }
    say("ready", needs(asked, work, await memory(asked, loaded), loaded), null);
    return work;
  } catch (error) {
    // What the command line and programs call it is here a choice.
    const said = message_of(error).replace(" with --any-size (any_size)", text.choose_any_size);
    say("error", sentence(said), field_of(message_of(error)));
    return null;
  }
}

/** What is worth telling about the prompts and LoRAs, below the prompts. @param {string[]} notes */
function show_notes(notes) {
  element("prompt-notes").hidden = notes.length === 0;
  // What the command line calls it is here a choice.
  const told = notes.map((note) => sentence(note.replace("--prompt-syntax a1111", text.syntax_a1111)));
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
  const plan = await darkroom.plan({ width, height, any_size, guidance_scale, from_picture: has_picture, dtype, weights: loaded.weights, budget_bytes });
  const streamed = plan.streamed_bytes_per_step;
  const again = streamed > 0 ? text.read_each_step(bytes(streamed)) : "";
  return text.gpu_memory(bytes(plan.peak_bytes)) + again + (plan.fits ? "" : text.over_budget(plan.advice ?? ""));
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
  const speed = Number(read(SPEED_KEY)[speed_name(loaded)] ?? 0);
  parts.push(speed > 0 ? text.about(duration(work.flops / speed)) : text.estimate_later);
  return parts.join(" · ");
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
    const written = element(id).value;
    const shown = element(/** @type {const} */ (`${id}-tokens`));
    try {
      const [n_tokens, limit, n_chunks] = await darkroom.count_tokens(written, syntax());
      const is_over = n_tokens > limit;
      shown.textContent = is_over ? text.too_many_tokens(n_tokens, limit) : written ? text.tokens(n_tokens, limit, n_chunks) : "";
      shown.dataset.state = is_over ? "over" : "";
    } catch (error) {
      shown.textContent = sentence(message_of(error));
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
  if (next_seed() === "random") element("seed").value = String(Math.floor(Math.random() * 2 ** 32));
  // Taken as it is now: what is typed while it is checked is for the next one, which has its own seed.
  const asked = request();
  const choice = seed_choice;
  const { value: own_seed } = element("seed");
  let next = own_seed;
  if (choice !== null) choose_next_seed(choice);
  else if (next_seed() === "next" && fault(asked) === null) next = String((BigInt(asked.seed) + BigInt(asked.count)) % 2n ** 64n);
  element("seed").value = next;
  seed_choice = null;
  const work = await check(asked);
  if (!work) {
    // Nothing was drawn, so that nothing was used up.
    if (element("seed").value === next) element("seed").value = own_seed;
    if (choice !== null) {
      choose_next_seed("keep");
      seed_choice = choice;
    }
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

/**
 * Puts a picture's settings into the form; what it does not say stays as it is.
 * @param {import("../protocol.js").PictureParameters} parameters
 * @param {{of_start?: boolean}} [about] `of_start`: they are those of the picture that the request starts from
 */
export function reuse(parameters, { of_start = false } = {}) {
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
  if (parameters.seed !== undefined) {
    if (next_seed() !== "keep") seed_choice = next_seed();
    choose_next_seed("keep");
  }
  // A picture that was made from a prompt alone is drawn again from that alone.
  const removed = of_start || parameters.prompt === undefined || parameters.strength !== undefined ? null : start_picture.remove_picture();
  if (removed) notify("info", text.source_removed, { [text.undo]: () => start_picture.start_from(removed) });
  if (parameters.strength !== undefined) is_own_strength = false;
  const differences = [...(parameters.notes ?? [])];
  if (parameters.vae) differences.push(text.made_with_vae(parameters.vae));
  const held = model?.weights?.startsWith("q") ? model.weights : undefined;
  if (parameters.weights !== held) differences.push(text.made_with_weights(parameters.weights));
  extras = extras_of(parameters);
  show_extras();
  // A picture with a prompt and without LoRAs had none.
  const missing_loras = parameters.prompt === undefined && !parameters.loras ? [] : use_loras(parameters.loras ?? []);
  if (missing_loras.length > 0) differences.push(text.made_with_loras(missing_loras));
  const { width: size, steps, guidance, seed } = fields;
  const { sampler, knows_sampler } = parameters;
  const missing = Object.entries({ size, steps, guidance, seed, sampler }).filter(([, value]) => value === undefined);
  if (missing.length > 0) differences.push(text.does_not_say(missing.map(([name]) => name)));
  if (sampler !== undefined) {
    const menu = element("sampler");
    const is_in_menu = [...menu.options].some(({ value }) => value.toLowerCase() === sampler.toLowerCase());
    if (is_in_menu || knows_sampler) choose_sampler(sampler);
    else differences.push(text.unknown_sampler(sampler));
  }
  if (parameters.eta !== undefined) element("eta").value = String(parameters.eta);
  show_eta();
  if (model && parameters.model && parameters.model !== model.name) differences.push(text.made_with_model(parameters.model));
  if (parameters.prediction && parameters.prediction !== load_options().prediction) differences.push(text.made_with_prediction(parameters.prediction));
  if (parameters.strength !== undefined && !start_picture.given().has_picture) {
    differences.push(text.made_from_source);
  }
  const by = parameters.program && parameters.program !== "darkroom" ? parameters.program : "";
  if (differences.length > 0) notify("info", text.settings_differ(by, differences));
  else announce(text.settings_taken(by));
  show_strength();
  start_picture.set_size(element("width").valueAsNumber, element("height").valueAsNumber);
  changed();
  element("prompt").focus();
}
