// A link that carries the settings in the fragment of the address, which browsers do not send. A link is untrusted input: all of it is
// checked, and opening one draws and downloads nothing.

import { changed } from "./check.js";
import { element, make } from "./elements.js";
import { clip_skip_of_form, extras_of, of_extras, use_extras_of } from "./extras.js";
import { FIELDS, choose_sampler, fill, option_of_sampler, show_eta, show_size, show_steps_of_sides } from "./form.js";
import { networks_known, use_loras, used_loras } from "./networks.js";
import { message_of } from "./messages.js";
import { notify } from "./notices.js";
import { copy } from "./saving.js";
import { hold_seed, next_seed, next_seed_is, seed_of } from "./seed.js";
import * as start_picture from "./start_picture.js";
import { text } from "./texts.js";

/** The longest link, in characters; some programs cut longer ones. */
const MAX_LINK = 16_000;
/** The longest name that is shown. */
const MAX_NAME = 60;
/** How long it is offered to take back what a link put into the form. */
const UNDO_MS = 60_000;

/** What a link carries, by the field of the form that it goes to, each with what it may be. */
const CARRIED = /** @type {const} */ ({
  prompt: /^[^]{0,10000}$/,
  negative: /^[^]{0,10000}$/,
  seed: /^\d{1,20}$/,
  width: /^\d{1,5}$/,
  height: /^\d{1,5}$/,
  steps: /^\d{1,4}$/,
  guidance: /^\d{1,3}(\.\d{1,6})?$/,
  sampler: /^[\w+. -]{1,60}$/,
  eta: /^\d(\.\d{1,6})?$/,
  "clip-skip": /^[1-9]\d?$/,
  "variation-seed": /^\d{1,20}$/,
  "variation-strength": /^[01](\.\d{1,6})?$/,
  syntax: /^(a1111|comfy|compel|plain)$/,
  noise: /^(cpu|philox)$/,
  sides: /^(any)?$/,
  model: /^[^\p{C}]{1,200}$/u,
});

/** What fields are where a link leaves them out. */
const LEFT_OUT = { eta: "0", "clip-skip": "1", "variation-seed": "", "variation-strength": "0" };
/** Fields that hold a seed. */
const SEEDS = ["seed", "variation-seed"];

/** LoRAs come one by one, each as its name, its strength and, where it has one of its own, its strength in the text encoder. */
const LORA = /^([^\p{C}]{1,200}):(-?\d{1,3}(?:\.\d{1,6})?):(-?\d{1,3}(?:\.\d{1,6})?)?$/u;
const MAX_LORAS = 20;

/** @typedef {keyof typeof CARRIED} Key */
/** @typedef {{name: string, strength: number, text_strength?: number}} Lora */
/** What a link says, and the names of what cannot be taken of it. @typedef {{values: Partial<Record<Key, string>>, loras: Lora[], faults: string[]}} Asked */

/** Has another model draw, with the settings of the form as they are. @type {(value: string) => Promise<unknown>} */
let use_model = async () => {};
/** Takes away what was said of the last link. */
let close_last = () => {};

/**
 * A link with these settings; a variation seed without a strength means nothing.
 * @param {Partial<Record<Key, string | number | undefined>>} values
 * @param {{name: string, strength?: number, text_strength?: number}[]} loras
 */
function link_of(values, loras) {
  const carried = new URLSearchParams({ v: "1" });
  const defaults = /** @type {Partial<Record<Key, string>>} */ (LEFT_OUT);
  for (const key of /** @type {Key[]} */ (Object.keys(CARRIED))) {
    const value = values[key];
    if (value === undefined || value === "" || String(value) === defaults[key]) continue;
    if (key !== "variation-seed" || Number(values["variation-strength"]) > 0) carried.set(key, String(value));
  }
  for (const { name, strength = 1, text_strength = strength } of loras) carried.append("lora", `${name}:${strength}:${text_strength === strength ? "" : text_strength}`);
  return `${location.origin}${location.pathname}#${carried}`;
}

/** A model as links name it: without where it is kept. @param {string} value */
const model_name = (value) => value.replace(/^kept:/, "");

/** The settings of the form. */
const link_of_form = () => {
  const fields = /** @type {Key[]} */ (Object.keys(CARRIED)).map((key) => [key, element(key).value]);
  return link_of({ ...Object.fromEntries(fields), model: model_name(element("model").value) }, used_loras());
};

/** The settings of a picture. @param {import("../protocol.js").PictureParameters} parameters */
export const link_of_picture = ({ negative_prompt: negative, guidance_scale: guidance, prompt_syntax: syntax, any_size, clip_skip, clip_skip_counting, variation_seed, variation_strength, loras, ...same }) =>
  link_of({ ...same, negative, guidance, syntax, sides: any_size ? "any" : "", "clip-skip": clip_skip_of_form({ clip_skip, clip_skip_counting }), "variation-seed": variation_seed, "variation-strength": variation_strength }, loras ?? []);

/** Copies a link. @param {string} link @param {boolean} has_more whether there is more than a link carries */
export async function copy_link(link, has_more) {
  if (link.length > MAX_LINK) notify("error", text.link.too_long);
  else await copy(link, has_more ? text.link.copied_without : text.link.copied);
}

/** Invisible characters can make a text say something else than it shows: of control and format characters only line ends and joiners stay. @param {string} said */
const plain = (said) => said.replace(/\r\n?/g, "\n").replaceAll("\t", " ").replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, (char) => (char === "\n" || char === "\u200d" || char === "\u200c" ? char : ""));

/** @param {string} name */
const short = (name) => (name.length > MAX_NAME ? `${name.slice(0, MAX_NAME)} …` : name);

/** What a fragment asks for; null where it is none of ours. @param {string} hash @returns {Asked | null} */
export function asked_by(hash) {
  if (!/^#v=1(&|$)/.test(hash)) return null;
  if (hash.length > MAX_LINK) return { values: {}, loras: [], faults: [text.link.whole] };
  /** @type {Asked} */
  const asked = { values: {}, loras: [], faults: [] };
  const carried = new URLSearchParams(hash.slice(1));
  carried.delete("v");
  for (const said of carried.getAll("lora").map(plain)) {
    const [, name, strength, text_strength] = LORA.exec(said) ?? [];
    if (name === undefined || asked.loras.length === MAX_LORAS) asked.faults.push(`lora ${short(said)}`);
    else asked.loras.push({ name, strength: Number(strength), ...(text_strength === undefined ? {} : { text_strength: Number(text_strength) }) });
  }
  carried.delete("lora");
  for (const key of new Set(carried.keys())) {
    const value = plain(carried.get(key) ?? "");
    const is_known = Object.hasOwn(CARRIED, key);
    const is_good = is_known && CARRIED[/** @type {Key} */ (key)].test(value) && !(SEEDS.includes(key) && Number.isNaN(seed_of(value)));
    if (is_good) asked.values[/** @type {Key} */ (key)] = value;
    else asked.faults.push(is_known ? `${key} ${short(value)}` : short(plain(key)));
  }
  if (asked.faults.length > 5) asked.faults.splice(5, Infinity, "…");
  return asked;
}

/** What the address asks for, which it does not say any more afterwards. */
function take_address() {
  const asked = asked_by(location.hash);
  if (asked) history.replaceState(null, "", location.pathname + location.search);
  return asked;
}

/** Puts what a link says into the form, and names what of it cannot be had. @param {Asked} asked */
async function use_link(asked) {
  const { values, faults } = asked;
  await networks_known();
  close_last();
  if (Object.keys(values).length + asked.loras.length === 0) {
    notify("error", text.link.unusable(faults));
    return;
  }
  const said = [...faults];
  const before = Object.fromEntries(FIELDS.map((id) => [id, element(id).value]));
  const [seed_before, loras] = [next_seed(), used_loras()];
  const { model, sampler, ...fields } = values;
  fill({ ...LEFT_OUT, ...fields, ...(values.prompt === undefined ? {} : { negative: values.negative ?? "" }), count: 1 });
  if (sampler !== undefined && option_of_sampler(sampler)) choose_sampler(sampler);
  else if (sampler !== undefined) said.push(text.unknown_sampler(sampler));
  if (values.seed !== undefined) hold_seed();
  // A link draws without a source image, and with its own LoRAs alone.
  const removed = start_picture.remove_picture();
  const missing = use_loras(asked.loras);
  if (missing.length > 0) said.push(text.made_with_loras(missing.map(short)));
  const put_back_extras = use_extras_of(/** @type {import("../protocol.js").PictureParameters} */ ({}));
  /** @type {Record<string, () => void>} */
  const actions = {};
  if (model !== undefined && model !== model_name(element("model").value)) {
    const there = [...element("model").options].find(({ value }) => model_name(value) === model);
    said.push(there ? text.link.other_model(short(there.text)) : text.link.no_model(short(model)));
    if (there) {
      // What this model does not know, such as a sampler, that one may.
      actions[text.link.use_model(short(there.text))] = () => use_model(there.value).then(() => use_link(asked));
    }
  }
  const show = () => {
    show_eta();
    show_steps_of_sides();
    show_size();
    changed();
  };
  show();
  actions[text.undo] = () => {
    fill(before);
    next_seed_is(seed_before);
    use_loras(loras.map(({ strength = 1, ...lora }) => ({ ...lora, strength })));
    put_back_extras();
    show();
    if (removed) start_picture.start_from(removed);
  };
  close_last = notify("info", said.length > 0 ? text.link.loaded_but(said) : text.link.loaded, actions);
  setTimeout(close_last, UNDO_MS);
}

/**
 * Takes the link that the page was opened by, and those that are opened in it later.
 * @param {(value: string) => Promise<unknown>} choose_model has another model draw, with the settings of the form as they are
 * @returns {() => Promise<void>} puts what the link says into the form, once there is a model
 */
export function open_links(choose_model) {
  use_model = choose_model;
  let is_ready = false;
  let waiting = take_address();
  // One after another: what undoes a link is taken before it.
  let used = Promise.resolve();
  const use = () => {
    used = used.then(async () => {
      const asked = waiting;
      waiting = null;
      if (asked) await use_link(asked);
    }).catch((error) => void notify("error", message_of(error)));
    return used;
  };
  addEventListener("hashchange", () => {
    waiting = take_address() ?? waiting;
    if (is_ready) use();
  });
  const copy = () => copy_link(link_of_form(), start_picture.given().has_picture || Object.keys(of_extras()).length > 0);
  const button = make("button", { type: "button", class: "plain", id: "copy-link", title: text.link.title, onclick: copy }, text.link.copy);
  element("extras").after(make("div", { class: "row" }, button));
  return () => {
    is_ready = true;
    return use();
  };
}

/** Whether a picture has more settings than a link carries. @param {import("../protocol.js").PictureParameters} parameters */
export const has_more = (parameters) => parameters.strength !== undefined || extras_of(parameters).size > 0;
