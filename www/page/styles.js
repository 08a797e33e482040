// Styles: named pairs of a prompt and a negative prompt that wrap the form's prompts or are appended to them, as in AUTOMATIC1111, and
// its file of them, styles.csv.

import { format_csv, parse_csv } from "./csv.js";
import { read, write } from "./memory.js";
import { text } from "./texts.js";

/** Where they are kept between visits. */
export const STYLES_KEY = "darkroom.styles";
/** Browsers keep some megabytes in all. */
const MAX_CHARACTERS = 1 << 20;
/** A style's prompt stands around what is written where this is. */
const PLACE = "{prompt}";

/** @typedef {{name: string, prompt: string, negative: string}} Style */

/** Those of something that was kept or imported, and nothing else that is there. @param {unknown} kept @returns {Style[]} */
export function styles_of(kept) {
  if (!Array.isArray(kept)) return [];
  const is_style = (/** @type {any} */ each) => [each?.name, each?.prompt, each?.negative].every((said) => typeof said === "string") && each.name.trim() !== "";
  return kept.filter(is_style).map(({ name, prompt, negative }) => ({ name, prompt, negative }));
}

/** The styles, in the order of their names. */
export const styles = () => styles_of(read(STYLES_KEY).styles);

/**
 * Keeps other styles.
 * @param {Style[]} kept
 * @throws where there is no room
 */
export function write_styles(kept) {
  const n = kept.reduce((sum, { name, prompt, negative }) => sum + name.length + prompt.length + negative.length, 0);
  if (n > MAX_CHARACTERS || !write(STYLES_KEY, { styles: kept })) throw new Error(text.prompts.no_room);
}

/** Adds styles to others, replacing those of the same name; sorted by name. @param {Style[]} added @param {Style[]} [to] */
export const with_styles = (added, to = styles()) =>
  [...new Map([...to, ...added].map((style) => [style.name, style])).values()].sort((a, b) => a.name.localeCompare(b.name));

/** What a style makes of a text. @param {string} style @param {string} written */
export function styled(style, written) {
  if (style.includes(PLACE)) return style.replaceAll(PLACE, () => written);
  return [written.trim(), style.trim()].filter((part) => part !== "").join(", ");
}

/**
 * The styles of AUTOMATIC1111's file: `name,prompt,negative_prompt`, of which the last may be missing, in any order.
 * @param {string} csv
 * @returns {Style[]}
 * @throws where it is no such file
 */
export function styles_of_csv(csv) {
  const [head = [], ...rows] = parse_csv(csv);
  const column = (/** @type {string[]} */ names) => head.findIndex((each) => names.includes(each.trim().toLowerCase()));
  // It was `text` in the first ones.
  const [name, prompt, negative] = [column(["name"]), column(["prompt", "text"]), column(["negative_prompt"])];
  if (name < 0 || prompt < 0) throw new Error(text.prompts.no_csv);
  const found = rows.map((row) => ({ name: (row[name] ?? "").trim(), prompt: row[prompt] ?? "", negative: row[negative] ?? "" }));
  // Rows without prompts separate groups in AUTOMATIC1111's menu.
  return found.filter((style) => style.name !== "" && style.prompt + style.negative !== "");
}

/** AUTOMATIC1111's file of them. @param {Style[]} listed */
export const csv_of_styles = (listed) => format_csv([["name", "prompt", "negative_prompt"], ...listed.map(({ name, prompt, negative }) => [name, prompt, negative])]);
