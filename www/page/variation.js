// The variation seed: the noise of the seed is interpolated towards that of this one, by the variation strength.

import { element } from "./elements.js";
import { next_seed, next_seed_is, random_seed, seed_of } from "./seed.js";

/** @typedef {import("../protocol.js").DrawRequest} DrawRequest */

const strength = () => element("variation-strength").valueAsNumber;

/** Whether the noise is mixed. */
export const has_variation = () => strength() !== 0;

/** @param {() => void} changed */
export function open_variation(changed) {
  element("variation-dice").addEventListener("click", () => {
    element("variation-seed").value = "";
    changed();
    element("variation-seed").focus();
  });
  element("variation-strength").addEventListener("input", () => {
    // A variation is one of a picture: its seed stays.
    if (strength() > 0 && next_seed() === "random") next_seed_is("keep");
  });
}

/** The seed in the form, or a random one where it is left empty. */
export function seed_of_variation() {
  return seed_of(element("variation-seed").value.trim() || random_seed());
}

/** What it adds to a request; a field that is left empty is a random seed, which the drawing chooses. @returns {Partial<DrawRequest>} */
export function of_variation() {
  if (!has_variation()) return {};
  const seed = element("variation-seed").value.trim();
  return { variation_strength: strength(), ...(seed === "" ? {} : { variation_seed: seed_of(seed) }) };
}

/** The request with a seed for its variation, where it has none. @template {Partial<DrawRequest>} Asked @param {Asked} asked */
export const with_variation_seed = (asked) =>
  asked.variation_strength !== undefined && asked.variation_seed === undefined ? { ...asked, variation_seed: seed_of(random_seed()) } : asked;
