// The prompts that were drawn last, the newest first, and walking through them in the prompt's field with Alt and the arrows.

import { element } from "./elements.js";
import { read, write } from "./memory.js";
import { announce } from "./notices.js";
import { text } from "./texts.js";
import { type_all } from "./typing.js";

/** Where they are kept between visits. */
export const HISTORY_KEY = "darkroom.history";
/** How many prompts are kept. */
const MAX_PROMPTS = 100;
/** The longest prompt that is kept, in characters with its negative prompt: browsers keep some megabytes in all. */
const MAX_CHARACTERS = 10_000;

/** A prompt and what to avoid. @typedef {{prompt: string, negative: string}} Prompts */

/** Where the walk is; -1 is what was in the fields before it. */
let place = -1;
/** What was in the fields before the walk. @type {Prompts} */
let own = { prompt: "", negative: "" };
/** What the walk goes through. @type {Prompts[]} */
let walked = [];
let is_walking = false;

/** Those of something that was kept or imported, and nothing else that is there. @param {unknown} kept @returns {Prompts[]} */
export function history_of(kept) {
  if (!Array.isArray(kept)) return [];
  const is_prompt = (/** @type {any} */ each) => typeof each?.prompt === "string" && typeof each?.negative === "string";
  return kept
    .filter((each) => is_prompt(each) && each.prompt.trim() !== "" && each.prompt.length + each.negative.length <= MAX_CHARACTERS)
    .slice(0, MAX_PROMPTS)
    .map(({ prompt, negative }) => ({ prompt, negative }));
}

/** The prompts that were drawn last, the newest first. */
export const prompt_history = () => history_of(read(HISTORY_KEY).prompts);

/** Keeps others; where there is no room, the newest. @param {Prompts[]} prompts */
export function write_history(prompts) {
  let kept = history_of(prompts);
  while (!write(HISTORY_KEY, { prompts: kept }) && kept.length > 0) kept = kept.slice(0, Math.floor(kept.length / 2));
}

/** @param {Prompts} a @param {Prompts} b */
export const is_same = (a, b) => a.prompt === b.prompt && a.negative === b.negative;

/** Remembers what is drawn. @param {{prompt: string, negative_prompt?: string}} request */
export function remember_prompt({ prompt, negative_prompt: negative = "" }) {
  const drawn = { prompt, negative };
  write_history([drawn, ...prompt_history().filter((each) => !is_same(each, drawn))]);
  place = -1;
}

/** What is in the form. @returns {Prompts} */
export const prompts_of_form = () => ({ prompt: element("prompt").value.trim(), negative: element("negative").value.trim() });

/** Puts both into the form, which the fields' own undo takes back. @param {Prompts} prompts */
export function use_prompts({ prompt, negative }) {
  type_all(element("negative"), negative);
  type_all(element("prompt"), prompt);
  element("prompt").focus();
}

/** @param {1 | -1} by */
function walk(by) {
  if (place === -1) {
    own = prompts_of_form();
    walked = prompt_history().filter((each) => !is_same(each, own));
  }
  const next = place + by;
  if (next < -1 || next >= walked.length) return;
  place = next;
  is_walking = true;
  use_prompts(walked[place] ?? own);
  is_walking = false;
  announce(place === -1 ? text.prompts.own : text.prompts.place(place + 1, walked.length));
}

/** Has Alt and the arrows walk through the prompts. */
export function open_history() {
  for (const id of /** @type {const} */ (["prompt", "negative"])) {
    element(id).addEventListener("input", () => {
      if (!is_walking) place = -1;
    });
  }
  element("prompt").addEventListener("keydown", (event) => {
    if (!event.altKey || event.ctrlKey || event.metaKey || event.isComposing || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    walk(event.key === "ArrowUp" ? 1 : -1);
  });
}
