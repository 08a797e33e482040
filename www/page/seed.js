// The seed's field, and what becomes of the seed after a drawing: another one, the same, or the next.

import { element, part } from "./elements.js";

/** What becomes of the seed. @typedef {"random" | "keep" | "next"} NextSeed */

/** One more than the largest seed. */
const END = 2n ** 64n;

/** What was chosen before a picture's seed was taken, which holds for one drawing. @type {NextSeed | null} */
let choice_before = null;

/** What becomes of the seed. */
export const next_seed = () => /** @type {NextSeed} */ (part(document, "[name=next-seed]:checked", HTMLInputElement).value);

/** What becomes of the seed after the next drawing: what was chosen, where the seed is held for one; and whether it is. */
export const kept_seed = () => ({ next_seed: choice_before ?? next_seed(), ...(choice_before === null ? {} : { held_seed: "yes" }) });

/** Chooses what becomes of the seed; what is no such choice changes nothing. @param {string} choice */
export function next_seed_is(choice) {
  choice_before = null;
  const button = document.querySelector(`[name=next-seed][value="${CSS.escape(choice)}"]`);
  if (button instanceof HTMLInputElement) button.checked = true;
}

/** A seed as most programs choose one: of 32 bits. */
export const random_seed = () => String(Math.floor(Math.random() * 2 ** 32));

/** The largest seed. */
export const MAX_SEED = String(END - 1n);

/**
 * A seed as a request takes it: a number where JavaScript's numbers hold it, otherwise its digits; NaN where it is none.
 * @param {string} text
 */
export function seed_of(text) {
  if (!/^\d+$/.test(text.trim()) || BigInt(text) >= END) return Number.NaN;
  return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text).toString();
}

/** The seed in the form is that of a picture, to be drawn once more. */
export function hold_seed() {
  const choice = next_seed() === "keep" ? choice_before : next_seed();
  next_seed_is("keep");
  choice_before = choice;
}

/**
 * Puts the seed of the next drawing into the form.
 * @param {number | string} seed the one that is drawn now
 * @param {number} count how many are used up from that one on; 0 where nothing can be drawn
 * @returns {() => void} takes that back: nothing was drawn
 */
export function use_up_seed(seed, count) {
  const field = element("seed");
  const { value: own } = field;
  const choice = choice_before;
  if (choice !== null) next_seed_is(choice);
  else if (next_seed() === "next" && count > 0) field.value = String((BigInt(seed) + BigInt(count)) % END);
  const { value: next } = field;
  return () => {
    if (field.value === next) field.value = own;
    if (choice === null) return;
    next_seed_is("keep");
    choice_before = choice;
  };
}
