// The form as a whole: opens its parts, follows what is typed and chosen in it, and fills it for the model that is loaded. The fields are
// in form.js, what they ask for in request.js, and whether that can be drawn in check.js.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { changed, look, open_check } from "./check.js";
import { element } from "./elements.js";
import { leave_out, open_extras, use_preset } from "./extras.js";
import { choose_sampler, fill, form_is_of_chosen, is_any_size, loaded_model, restore_form, set_loaded_model, show_eta, show_samplers, show_size, show_steps_of_sides, show_strength, strength_is_chosen, use_own_strength } from "./form.js";
import { is_only_masked, show_inpaint_area } from "./inpaint_area.js";
import { open_mask_tools } from "./mask_tools.js";
import { family_is } from "./networks.js";
import { announce } from "./notices.js";
import { open_outpaint } from "./outpaint.js";
import { open_sections } from "./panel.js";
import { next_seed_is } from "./seed.js";
import { open_simple, simple_for } from "./simple.js";
import * as start_picture from "./start_picture.js";
import { text } from "./texts.js";
import { open_variation } from "./variation.js";

/** A start picture that has more than so many times the sides of the model's pictures is drawn at the model's size: a photo of a camera
 * would take hours. */
const MAX_ENLARGED = 2;

/** @typedef {import("../protocol.js").LoadedModel} LoadedModel */

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;

/** @param {import("../darkroom.js").Darkroom} given */
export function open_composer(given) {
  darkroom = given;
  open_check(darkroom);
  restore_form();
  open_sections();
  open_extras(changed);
  open_simple(choose, is_any_size);
  open_variation(changed);
  open_mask_tools();
  open_outpaint((file) => darkroom.read_picture(file));
  show_inpaint_area();
  show_size();
  let had_mask = false;
  start_picture.open_start_picture((file) => darkroom.show_picture(file), () => {
    // A part is repainted whole, a picture is changed by some: until the reader says otherwise.
    const { has_mask } = start_picture.given();
    if (has_mask !== had_mask) use_own_strength(has_mask);
    had_mask = has_mask;
    changed();
  }, own_size);
  element("request").addEventListener("input", ({ target }) => {
    const id = target instanceof Element ? target.id : "";
    // Whoever types a seed wants that one.
    if (id === "seed") next_seed_is("keep");
    if (target instanceof HTMLInputElement && target.name === "next-seed") next_seed_is(target.value);
    if (id === "strength") strength_is_chosen();
    // What is typed counts, not what was taken from a picture.
    if (id === "clip-skip") leave_out("clip_skip");
    if (id === "inpaint-area") area_is_chosen();
    if (id === "mask-padding") start_picture.show_hint();
    show_strength();
    show_eta();
    if (id === "width" || id === "height") show_size();
    if (id === "sides") show_steps_of_sides();
    changed();
  });
}

/** Takes what a chip chose. @param {import("./simple.js").Choice} choice */
function choose({ width, height, ...others }) {
  fill({ ...others, ...(width && height ? { width, height } : {}) });
  show_size();
  changed();
}

/**
 * A new start picture keeps its size, as far as the model can.
 * @param {number} width
 * @param {number} height
 */
async function own_size(width, height) {
  const model = loaded_model();
  // Only a part of it is drawn at the request's size.
  if (!model || is_only_masked()) return;
  const too_large = Math.sqrt((width * height) / (model.width * model.height));
  if (too_large > MAX_ENLARGED) [width, height] = [width, height].map((side) => Math.max(1, Math.round(side / too_large)));
  [width, height] = await darkroom.size_of_picture(width, height, is_any_size());
  fill({ width, height });
  show_size();
}

/** A part is drawn at the model's own size, until the reader says otherwise, and a whole picture at its own. */
async function area_is_chosen() {
  show_inpaint_area();
  start_picture.show_shape();
  const [model, source] = [loaded_model(), start_picture.source()];
  if (!is_only_masked() && source) await own_size(source.width, source.height);
  else if (model) fill({ width: model.width, height: model.height });
  show_size();
  changed();
}

/** @param {LoadedModel | null} loaded */
export async function model_is(loaded) {
  set_loaded_model(loaded);
  simple_for(loaded);
  // The model that comes with the page is of a family by its layers, and of other sizes than all that is made for it.
  family_is(loaded?.repository === EMBEDDED_REPOSITORY ? EMBEDDED_REPOSITORY : (loaded?.family ?? null)).then(changed);
  if (!loaded) return;
  show_samplers(loaded);
  show_steps_of_sides();
  show_eta();
  await look();
}

/**
 * Puts the settings of the model that was chosen into the form: those of the last time, or its own.
 * @param {LoadedModel} own
 */
export function use_defaults(own) {
  const last = form_is_of_chosen();
  if (last) {
    fill({ "clip-skip": 1, ...last });
    choose_sampler(last.sampler ?? own.sampler);
    show_steps_of_sides();
  } else {
    fill({ width: own.width, height: own.height, steps: own.steps, guidance: own.guidance_scale, "clip-skip": 1 });
    element("sampler").value = own.sampler;
  }
  show_eta();
  show_size();
  changed();
}

/**
 * Puts the settings of a LoRA of few steps into the form. Guidance has no place there.
 * @param {import("./networks.js").FewSteps} few
 */
export function use_few_steps(few) {
  const { steps, sampler, eta } = few;
  fill({ steps, guidance: 1, ...(eta === undefined ? {} : { eta }) });
  choose_sampler(sampler);
  use_preset(few);
  show_eta();
  changed();
  announce(text.settings_taken(""));
}
