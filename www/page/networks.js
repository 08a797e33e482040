// Extra networks in the form: kept LoRAs of the loaded model's family, each on or off with its strengths, and the words that
// call for them; embeddings, whose words prompts may use. What was chosen is remembered by family.

import { broadcast } from "./channel.js";
import { delete_later, is_deleted } from "./deletions.js";
import { element, make, picked_files } from "./elements.js";
import { keep_focus } from "./focus.js";
import { read, write } from "./memory.js";
import { message_of } from "./messages.js";
import { announce, notify } from "./notices.js";
import { text as say } from "./texts.js";
import { bytes } from "./words.js";

/**
 * @typedef {import("../protocol.js").ExtraNetwork} ExtraNetwork
 * @typedef {NonNullable<ExtraNetwork["few_steps"]>} FewSteps
 * @typedef {NonNullable<import("../protocol.js").DrawRequest["loras"]>[number]} LoraUse
 * @typedef {NonNullable<import("../protocol.js").PictureParameters["loras"]>[number]} UsedLora
 */

/** What was chosen for a LoRA. @typedef {{on: boolean, strength: number, text_strength: number | null}} Choice */

/** Where it is kept between visits, by family and name. */
const CHOICES_KEY = "darkroom.loras";
/** The ends of the sliders; what is typed may go beyond. */
const MAX_STRENGTH = 2;
const STEP = 0.05;

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
/** All that are kept. @type {ExtraNetwork[]} */
let networks = [];
/** The loaded model's family, by which choices are remembered. @type {string | null} */
let family = null;
/** Is called when the request is another one. */
let changed = () => {};
/** Puts the settings of a LoRA of few steps into the form. @type {(few: FewSteps) => void} */
let use_few_steps = () => {};
/** Is called when one of the kept files is gone. @type {() => Promise<void>} */
let removed = async () => {};
/** Loads the model again, with the words of all that is kept. @type {() => Promise<unknown>} */
let reload = async () => {};

/**
 * @param {import("../darkroom.js").Darkroom} given
 * @param {{changed: () => void, use_few_steps: (few: FewSteps) => void, removed: () => Promise<void>, reload: () => Promise<unknown>, take: (files: File[]) => void}} actions
 */
export function open_networks(given, actions) {
  darkroom = given;
  ({ changed, removed, reload, use_few_steps } = actions);
  element("choose-network").addEventListener("click", () => element("network-file").click());
  element("network-file").addEventListener("change", () => {
    const picked = picked_files(element("network-file"));
    if (picked.length > 0) actions.take(picked);
  });
}

/** The kept file of that name, where it is no model but changes one. @param {string} model */
export const network_of = (model) => networks.find((network) => network.model === model);

/** The look at which there are that was begun last. */
let looking = Promise.resolve();

/** Looks again which there are. */
export function refresh_networks() {
  const look = async () => {
    try {
      networks = (await darkroom.extra_networks()).filter(({ model }) => !is_deleted(model));
    } catch (error) {
      notify("error", say.loras_unlisted(message_of(error)));
    }
    show();
  };
  looking = looking.then(look);
  return looking;
}

/** Settles once it is known which there are. */
export const networks_known = () => looking;

/**
 * The model is another one.
 * @param {string | null} loaded by which choices are remembered; null where none is loaded
 */
export async function family_is(loaded) {
  family = loaded;
  if (loaded !== null) await refresh_networks();
  else show();
}

/** Whether the loaded model takes it. @param {ExtraNetwork} network */
const fits = ({ problem, obstacle }) => family !== null && problem === undefined && obstacle === undefined;

const shown = () => networks.filter((network) => network.kind === "lora" && fits(network));

/** The words that prompts can use, of embeddings that the loaded model takes. */
export const embedding_words = () => networks.filter((network) => network.kind === "embedding" && fits(network)).map(({ name }) => name);

/** What was chosen for models of this family. @returns {Record<string, Choice>} */
const choices = () => /** @type {Record<string, Record<string, Choice>>} */ (read(CHOICES_KEY))[family ?? ""] ?? {};

/** @param {string} name @returns {Choice} */
function choice_of(name) {
  const { on = false, strength = 1, text_strength = null } = choices()[name] ?? {};
  return { on, strength, text_strength };
}

/** @param {string} name @param {Partial<Choice>} choice */
function choose(name, choice) {
  write(CHOICES_KEY, { ...read(CHOICES_KEY), [family ?? ""]: { ...choices(), [name]: { ...choice_of(name), ...choice } } });
}

/** The LoRAs that are on, as a request takes them. @returns {LoraUse[]} */
export function used_loras() {
  return shown().flatMap(({ name }) => {
    const { on, strength, text_strength } = choice_of(name);
    return on ? [{ name, strength, ...(text_strength === null ? {} : { text_strength }) }] : [];
  });
}

/**
 * Turns on those that a picture was made with, and all others off.
 * @param {UsedLora[]} wanted
 * @returns {string[]} the names of those that are not here
 */
export function use_loras(wanted) {
  const there = shown();
  for (const { name } of there) if (choice_of(name).on) choose(name, { on: false });
  const missing = [];
  for (const { name, strength, text_strength = null, sha256 } of wanted) {
    const same = (/** @type {string} */ a) => a.toLowerCase() === name.toLowerCase();
    const found =
      there.find((network) => sha256 !== undefined && network.sha256 === sha256) ??
      there.find((network) => network.name === name || network.output_name === name) ??
      there.find((network) => same(network.name));
    if (found) choose(found.name, { on: true, strength, text_strength });
    else missing.push(name);
  }
  show();
  return missing;
}

/** What it is called in a sentence. @param {ExtraNetwork} network */
function said_kind({ kind }) {
  return kind === "lora" ? "LoRA" : "embedding";
}

/**
 * A file was kept: it is listed, and turned on where the loaded model can take it.
 * @param {string} model the name that it is kept under
 */
export async function network_came(model) {
  await refresh_networks();
  const network = network_of(model);
  if (!network) return;
  // Words come with the model.
  const is_of_family = network.family === undefined || network.family === family;
  if (network.kind === "embedding" ? is_of_family : fits(network) && network.bundled_words > 0) await reload();
  const { problem, obstacle } = network_of(model) ?? network;
  if (problem ?? obstacle) {
    notify("info", say.network_unfit(said_kind(network), network.name, problem ?? obstacle ?? ""));
    return;
  }
  if (network.kind === "lora") choose(network.name, { on: true });
  show();
  element("networks").open = true;
  changed();
  announce(network.kind === "lora" ? say.lora_added(network.name) : say.embedding_added(network.name));
}

/** What is being done with a file, or nothing. @param {string} text */
export function say_of_networks(text) {
  element("networks-now").hidden = text === "";
  element("networks-now").textContent = text;
}

function show() {
  const open = new Set([...element("loras").querySelectorAll("details[open]")].map((details) => details.closest("li")?.dataset.lora));
  const embeddings = networks.filter((network) => network.kind === "embedding" && fits(network)).map(embedding_row);
  keep_focus(element("embeddings"), () => element("embeddings").replaceChildren(...embeddings), element("choose-network"));
  element("embeddings-title").hidden = embeddings.length === 0;
  const rows = shown().map((network) => row(network, open.has(network.name)));
  keep_focus(element("loras"), () => element("loras").replaceChildren(...rows), element("choose-network"));
  element("networks-title").hidden = rows.length === 0;
  const n_others = family === null ? 0 : networks.filter((network) => !fits(network)).length;
  element("networks-others").hidden = n_others === 0;
  element("networks-others").textContent = say.other_networks(n_others);
  count();
}

function count() {
  const n = used_loras().length;
  element("networks-count").textContent = say.loras_on(n);
}

/**
 * @param {ExtraNetwork} network
 * @param {boolean} is_open whether the strength of the text encoder is shown
 */
function row(network, is_open) {
  const { name } = network;
  const { on, strength, text_strength } = choice_of(name);
  const toggle = make("input", { type: "checkbox", checked: on, "aria-label": say.use_lora(name) });
  const head = make("div", { class: "lora-head" }, make("label", {}, toggle, make("span", {}, name)));
  const item = make("li", { class: "lora", "data-lora": name, "data-on": on }, head);
  toggle.addEventListener("change", () => {
    choose(name, { on: toggle.checked });
    show();
    changed();
  });
  if (on) {
    const [slider, number] = strength_of(say.lora_weight(name), strength, (value) => choose(name, { strength: value }));
    head.append(number);
    item.append(slider, few_steps(network), words(network), text_strength_of(name, text_strength, strength, is_open));
  }
  const title = network.family_name === undefined ? bytes(network.bytes) : `${bytes(network.bytes)}, ${network.family_name}`;
  head.append(make("button", { type: "button", class: "plain", title, "aria-label": say.delete_network("LoRA", name), onclick: () => remove(network) }, say.delete));
  return item;
}

/** @param {ExtraNetwork} network */
function embedding_row(network) {
  const { name } = network;
  /** @type {(text: string, label: string, act: () => void) => HTMLButtonElement} */
  const button = (text, label, act) => make("button", { type: "button", class: "plain", "aria-label": label, onclick: act }, text);
  const head = make(
    "div",
    { class: "lora-head" },
    make("span", { class: "name" }, name),
    button(say.to_prompt, `${say.to_prompt}: ${name}`, () => into_prompt(name)),
    button(say.to_negative, `${say.to_negative}: ${name}`, () => into_prompt(name, "negative")),
    button(say.delete, say.delete_network("embedding", name), () => remove(network)),
  );
  return make("li", { class: "lora", "data-embedding": name }, head);
}

/**
 * A slider and a number that say the same.
 * @param {string} label
 * @param {number} value
 * @param {(value: number) => void} take
 */
function strength_of(label, value, take) {
  const range = { min: -MAX_STRENGTH, max: MAX_STRENGTH, step: STEP };
  const slider = make("input", { type: "range", ...range, "aria-label": `${label}, slider` });
  const number = make("input", { type: "number", ...range, step: "any", inputMode: "decimal", "aria-label": label });
  // Ends and steps come first: a value is brought to them.
  slider.value = String(value);
  number.value = String(value);
  slider.addEventListener("input", () => {
    number.value = String(slider.valueAsNumber);
    take(slider.valueAsNumber);
  });
  number.addEventListener("input", () => {
    number.setAttribute("aria-invalid", String(!Number.isFinite(number.valueAsNumber)));
    if (!Number.isFinite(number.valueAsNumber)) return;
    slider.value = String(number.valueAsNumber);
    take(number.valueAsNumber);
  });
  return [slider, number];
}

/**
 * @param {string} name
 * @param {number | null} value
 * @param {number} strength what it is without a value
 * @param {boolean} is_open
 */
function text_strength_of(name, value, strength, is_open) {
  const [slider, number] = strength_of(say.text_weight(name), value ?? strength, (text_strength) => choose(name, { text_strength }));
  const same = make("input", { type: "checkbox", checked: value === null, "aria-label": say.same_text_weight(name) });
  const own = make("div", { class: "lora-own", hidden: value === null }, slider, number);
  same.addEventListener("change", () => {
    choose(name, { text_strength: same.checked ? null : choice_of(name).strength });
    show();
    changed();
  });
  const summary = value === null ? say.text_weight_same : say.text_weight_own;
  return make("details", { open: is_open }, make("summary", {}, summary), make("label", {}, same, make("span", {}, say.text_weight_link)), own);
}

/** Settings in one press, where it is one of few steps. @param {ExtraNetwork} network */
function few_steps({ name, few_steps: few }) {
  if (few === undefined) return "";
  const text = `${say.use_settings}: ${few.title}, ${say.steps(few.steps)}`;
  return make("button", { type: "button", class: "plain strong", "aria-label": `${text} (${name})`, onclick: () => use_few_steps(few) }, text);
}

/** The words that call for it, which go into the prompt. @param {ExtraNetwork} network */
function words({ name, words }) {
  const buttons = words.map((word) =>
    make("button", { type: "button", class: "plain", "aria-label": `${word}: ${say.to_prompt}`, onclick: () => into_prompt(escaped(word)) }, word),
  );
  return make("div", { class: "lora-words", role: "group", "aria-label": say.trigger_words(name), hidden: buttons.length === 0 }, ...buttons);
}

/** A word in the syntax of the prompt: its brackets are no emphasis. @param {string} word */
function escaped(word) {
  const syntax = element("syntax").value;
  if (syntax === "plain") return word;
  return word.replace(syntax === "a1111" ? /[()[\]]/g : /[()]/g, "\\$&");
}

/**
 * Puts words at the end of a prompt, once.
 * @param {string} text
 * @param {"prompt" | "negative"} id
 */
export function into_prompt(text, id = "prompt") {
  const field = element(id);
  const before = field.value.replace(/[\s,]+$/, "");
  if (before.split(",").some((part) => part.trim() === text)) {
    announce(say.already_there(text));
    return;
  }
  field.value = before === "" ? text : `${before}, ${text}`;
  announce(say.added_to_prompt(text));
  changed();
}

/** Deletes a file, which can be taken back for a while. @param {ExtraNetwork} network */
async function remove(network) {
  const { name, model } = network;
  const show_all = async () => {
    await refresh_networks();
    await removed();
    changed();
  };
  const act = async () => {
    try {
      await darkroom.remove(model);
      broadcast({ type: "models" });
    } catch (error) {
      notify("error", say.model_not_deleted(name, message_of(error)));
    }
    await show_all();
  };
  delete_later(model, say.model_deleted(name), act, show_all);
  announce(say.model_deleted(name));
  await show_all();
}
