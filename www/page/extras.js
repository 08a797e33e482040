// Settings without a field in the form, taken from a picture or a LoRA: each is shown as a button that leaves it out again.

import { element, make } from "./elements.js";
import { text } from "./texts.js";

/** @typedef {import("../protocol.js").DrawRequest} DrawRequest */

/** What was taken: its name for people, and its part of a request. @type {Map<string, Partial<DrawRequest>>} */
let extras = new Map();
/** Is called when one is left out. */
let changed = () => {};

/** @param {() => void} on_change */
export function open_extras(on_change) {
  changed = on_change;
}

/** What they add to a request. @returns {Partial<DrawRequest>} */
export const of_extras = () => Object.assign({}, ...extras.values());

/**
 * Takes those of a picture, and none else.
 * @param {import("../protocol.js").PictureParameters} parameters
 * @returns {() => void} puts back those that were there
 */
export function use_extras_of(parameters) {
  const before = extras;
  extras = extras_of(parameters);
  show_extras();
  return () => {
    extras = before;
    show_extras();
  };
}

/** Takes how a LoRA of few steps spaces them. @param {import("./networks.js").FewSteps} few */
export function use_preset({ preset, title }) {
  leave_out("preset");
  extras.set(text.settings_of(title), { preset });
  show_extras();
}

/** Leaves out what sets a part of the request. @param {keyof DrawRequest} part */
export function leave_out(part) {
  for (const [name, extra] of extras) if (extra[part] !== undefined) extras.delete(name);
  show_extras();
}

/** Shows what was taken without a field, each to be left out again. */
function show_extras() {
  const buttons = [...extras.keys()].map((name) => {
    const remove = () => {
      extras.delete(name);
      show_extras();
      changed();
      element("prompt").focus();
    };
    return make("button", { type: "button", class: "plain", "aria-label": `${name}: ${text.remove}`, title: text.remove, onclick: remove }, `${name} ×`);
  });
  element("extras").hidden = buttons.length === 0;
  element("extras").replaceChildren(...buttons);
}

/**
 * A picture's clip skip as the form counts it; undefined where it counts as diffusers do.
 * @param {Pick<import("../protocol.js").DrawRequest, "clip_skip" | "clip_skip_counting">} settings
 */
export const clip_skip_of_form = ({ clip_skip, clip_skip_counting }) => (clip_skip_counting === "a1111" ? clip_skip : undefined);

/**
 * What a picture was made with that the form has no field for.
 * @param {import("../protocol.js").PictureParameters} parameters
 * @returns {Map<string, Partial<DrawRequest>>}
 */
export function extras_of({ spacing, clip_skip, clip_skip_counting, timesteps, sigmas, original_size, crop, prompt_syntax, long_prompt_chunks = false }) {
  /** @type {[string, Partial<DrawRequest>][]} */
  const found = [];
  // The form's field counts as AUTOMATIC1111 does, for both prompts; diffusers skips layers for the prompt alone.
  if (clip_skip !== undefined && clip_skip_of_form({ clip_skip, clip_skip_counting }) === undefined) found.push([`${text.field.clip_skip} ${text.of_diffusers(clip_skip)}`, { clip_skip, clip_skip_counting }]);
  if (spacing !== undefined) found.push([text.spacing(spacing), { spacing }]);
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
