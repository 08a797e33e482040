// What is told about a picture beside it: what it was made with, how long it took and when.

import { clip_skip_of_form } from "./extras.js";
import { text } from "./texts.js";
import { duration } from "./words.js";

/** Names and values, without those that it does not have. @param {import("./gallery.js").Item} item @returns {[string, string][]} */
export function rows_of({ picture: { parameters, seconds, made_at, grid } }) {
  const axes = grid ? [grid.x, ...(grid.y ? [grid.y] : [])].map(({ setting, values }) => `${setting} (${values.join(", ")})`).join(" × ") : undefined;
  /** @type {[string, string | undefined][]} */
  const rows = [
    [text.grid.title, axes],
    [text.row.negative, parameters.negative_prompt],
    [text.row.size, `${parameters.width} × ${parameters.height}`],
    [text.row.steps, String(parameters.steps)],
    [text.row.guidance, String(parameters.guidance_scale)],
    [text.row.sampler, parameters.sampler],
    [text.field.clip_skip, !parameters.clip_skip ? undefined : String(clip_skip_of_form(parameters) ?? text.of_diffusers(parameters.clip_skip))],
    [text.row.seed, String(parameters.seed)],
    [text.row.variation, parameters.variation_seed === undefined ? undefined : `${parameters.variation_seed}, ${parameters.variation_strength}`],
    ["LoRAs", parameters.loras?.map(({ name, strength }) => `${name} ${strength}`).join(", ")],
    [text.row.strength, parameters.strength?.toFixed(2)],
    [text.row.model, parameters.model],
    [text.row.took, duration(seconds)],
    [text.row.made, new Date(made_at).toLocaleString()],
  ];
  // Pictures of earlier versions have null where there is nothing.
  return rows.flatMap(([name, value]) => (value === undefined || value === null || value === "" ? [] : [[name, value]]));
}
