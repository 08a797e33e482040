// A picture's settings, put back into the form, with what of them it cannot have.

import { element } from "./elements.js";
import { changed } from "./check.js";
import { clip_skip_of_form, use_extras_of } from "./extras.js";
import { choose_sampler, fill, loaded_model, option_of_sampler, show_eta, show_size, show_steps_of_sides, show_strength, strength_is_chosen } from "./form.js";
import { use_loras } from "./networks.js";
import { announce, notify } from "./notices.js";
import { show_inpaint_area } from "./inpaint_area.js";
import { load_options } from "./request.js";
import { hold_seed } from "./seed.js";
import * as start_picture from "./start_picture.js";
import { text } from "./texts.js";

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
    // A picture with a prompt and without a clip skip was drawn with the last layer.
    "clip-skip": clip_skip_of_form(parameters) ?? (parameters.prompt === undefined ? undefined : 1),
    width: parameters.width,
    height: parameters.height,
    steps: parameters.steps,
    guidance: parameters.guidance_scale,
    seed: parameters.seed,
    // Who does not say it draws as most do.
    noise: parameters.seed === undefined ? undefined : (parameters.noise ?? "cpu"),
    "variation-seed": parameters.seed === undefined ? undefined : (parameters.variation_seed ?? ""),
    "variation-strength": parameters.seed === undefined ? undefined : (parameters.variation_strength ?? 0),
    strength: parameters.strength,
    fit: parameters.strength === undefined ? undefined : Object.hasOwn(text.fitted, parameters.fit ?? "") ? parameters.fit : "stretch",
    "inpaint-area": parameters.strength === undefined ? undefined : parameters.padding_mask_crop === undefined ? "whole" : "masked",
    "mask-padding": parameters.padding_mask_crop,
    "mask-blur": parameters.strength === undefined ? undefined : (parameters.mask_blur ?? 0),
    sides: parameters.width === undefined ? undefined : parameters.any_size ? "any" : "",
    // A picture with a sampler and without eta was drawn with the default.
    eta: parameters.eta ?? (parameters.sampler === undefined ? undefined : 0),
    count: 1,
  };
  fill(fields);
  show_steps_of_sides();
  show_inpaint_area();
  start_picture.show_shape();
  if (parameters.seed !== undefined) hold_seed();
  // A picture that was made from a prompt alone is drawn again from that alone.
  const removed = of_start || parameters.prompt === undefined || parameters.strength !== undefined ? null : start_picture.remove_picture();
  if (removed) notify("info", text.source_removed, { [text.undo]: () => start_picture.start_from(removed) });
  if (parameters.strength !== undefined) strength_is_chosen();
  const model = loaded_model();
  const differences = [...(parameters.notes ?? [])];
  if (parameters.vae) differences.push(text.made_with_vae(parameters.vae));
  const held = model?.weights?.startsWith("q") ? model.weights : undefined;
  if (parameters.weights !== held) differences.push(text.made_with_weights(parameters.weights));
  use_extras_of(parameters);
  // A picture with a prompt and without LoRAs had none.
  const missing_loras = parameters.prompt === undefined && !parameters.loras ? [] : use_loras(parameters.loras ?? []);
  if (missing_loras.length > 0) differences.push(text.made_with_loras(missing_loras));
  const { sampler, knows_sampler } = parameters;
  const told = { [text.row.size]: fields.width, [text.row.steps]: fields.steps, [text.row.guidance]: fields.guidance, [text.row.seed]: fields.seed, [text.row.sampler]: sampler };
  const missing = Object.keys(told).filter((name) => told[name] === undefined);
  if (missing.length > 0) differences.push(text.does_not_say(missing));
  if (sampler !== undefined) {
    if (option_of_sampler(sampler) || knows_sampler) choose_sampler(sampler);
    else differences.push(text.unknown_sampler(sampler));
  }
  show_eta();
  if (model && parameters.model && parameters.model !== model.name) differences.push(text.made_with_model(parameters.model));
  if (parameters.prediction && parameters.prediction !== load_options().prediction) differences.push(text.made_with_prediction(parameters.prediction));
  const { has_picture, has_mask } = start_picture.given();
  if (parameters.strength !== undefined && !has_picture) differences.push(text.made_from_source);
  const by = parameters.program && parameters.program !== "darkroom" ? parameters.program : "";
  // Whoever draws with a mask writes its blur, 0 included; that other programs used one is among the notes.
  if (by === "" && parameters.mask_blur !== undefined && !has_mask) differences.push(text.made_with_mask);
  if (differences.length > 0) notify("info", text.settings_differ(by, differences));
  else announce(text.settings_taken(by));
  show_strength();
  show_size();
  changed();
  element("prompt").focus();
}
