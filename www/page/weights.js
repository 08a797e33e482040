// Weights by keyboard, as in AUTOMATIC1111: Ctrl with the arrows makes what is selected, or the word at the caret, count more or less.

import { element } from "./elements.js";
import { announce } from "./notices.js";
import { brackets_of, is_number } from "./prompt_marks.js";
import { syntax } from "./request.js";
import { text } from "./texts.js";
import { type_over } from "./typing.js";

/** By how much a press changes a weight. */
const STEP = 0.1;
/** What a bracket without a number weighs. */
const PLAIN_BRACKET = 1.1;
/** What ends a word. */
const ENDS = /[\s.,\\/!?%^*;:{}=`~()<>[\]|"]/;
const TAG = /<(?:lora|lyco|hypernet):[^<>:]*(:[^<>]*)?>/g;
const COMPEL_WEIGHT = /(\d+\.?\d*|\.\d+)|(\++)|(-+)/y;

/** @typedef {import("./prompt_marks.js").Syntax} Syntax */
/** A change of a text, and what is selected then, counted from the beginning of what is new. @typedef {{start: number, end: number, by: string, selected: [number, number], weight: number}} Change */

/** @param {number} weight */
const rounded = (weight) => Number(weight.toFixed(2));

/** What compel writes behind brackets or a word, in numbers. @param {string} written @param {number} at */
function compel_weight(written, at) {
  COMPEL_WEIGHT.lastIndex = at;
  const [found = "", number, more, less] = COMPEL_WEIGHT.exec(written) ?? [];
  const weight = number ? Number(number) : more ? 1.1 ** more.length : less ? 0.9 ** less.length : 1;
  return { weight, length: found.length };
}

/** @param {string} inside @param {number} weight @param {Syntax} of */
function weighed(inside, weight, of) {
  if (weight === 1) return { by: inside, before: 0 };
  return { by: of === "compel" ? `(${inside})${weight}` : `(${inside}:${weight})`, before: 1 };
}

/**
 * What a change of a weight makes of a text; null where nothing is there to be weighed.
 * @param {string} written
 * @param {number} start of what is selected
 * @param {number} end
 * @param {number} step
 * @param {Syntax} of
 * @returns {Change | null}
 */
export function change_weight(written, start, end, step, of) {
  if (of === "plain") return null;
  for (const { index, 0: tag, 1: numbers } of written.matchAll(TAG)) {
    if (index > start || end > index + tag.length) continue;
    const last = numbers === undefined ? -1 : tag.lastIndexOf(":");
    const said = last < 0 ? "1" : tag.slice(last + 1, -1);
    if (!is_number(said)) return null;
    const weight = rounded(Number(said) + step);
    const begin = index + (last < 0 ? tag.length - 1 : last);
    const caret = `:${weight}`.length;
    return { start: begin, end: index + tag.length - 1, by: `:${weight}`, selected: [caret, caret], weight };
  }
  // The innermost brackets around the caret, or those whose content is selected.
  const around = brackets_of(written, of).pairs.filter(({ open, close }) => written[open] === "(" && open < start && end <= close);
  const inner = around.sort((a, b) => b.open - a.open)[0];
  if (inner) {
    const colon = inner.colons.at(-1);
    const has_number = of !== "compel" && colon !== undefined && is_number(written, colon + 1, inner.close);
    const [from, to] = [inner.open + 1, has_number ? colon : inner.close];
    if (start === end || (start === from && end === to)) {
      const behind = of === "compel" ? compel_weight(written, inner.close + 1) : { weight: has_number ? Number(written.slice(colon + 1, inner.close)) : PLAIN_BRACKET, length: 0 };
      return replaced(written, [from, to], [inner.open, inner.close + 1 + behind.length], Math.max(0, behind.weight + step), of);
    }
  }
  if (start === end) {
    while (start > 0 && !ENDS.test(written[start - 1] ?? "")) start -= 1;
    while (end < written.length && !ENDS.test(written[end] ?? "")) end += 1;
  } else {
    // Spaces around what is selected are not meant.
    while (start < end && /\s/.test(written[start] ?? "")) start += 1;
    while (start < end && /\s/.test(written[end - 1] ?? "")) end -= 1;
  }
  if (of === "compel") {
    const signs = /[+-]+$/.exec(written.slice(start, end))?.[0] ?? "";
    const bare = end - signs.length;
    if (start === bare) return null;
    const weight = signs === "" ? 1 : compel_weight(written, bare).weight;
    return replaced(written, [start, bare], [start, end], Math.max(0, weight + step), of);
  }
  return start === end ? null : replaced(written, [start, end], [start, end], 1 + step, of);
}

/**
 * @param {string} written
 * @param {[number, number]} content
 * @param {[number, number]} whole with its brackets
 * @param {number} weight
 * @param {Syntax} of
 * @returns {Change}
 */
function replaced(written, [from, to], [start, end], weight, of) {
  const inside = written.slice(from, to);
  const { by, before } = weighed(inside, rounded(weight), of);
  return { start, end, by, selected: [before, before + inside.length], weight: rounded(weight) };
}

/** Has Ctrl and the arrows weigh words. */
export function open_weights() {
  for (const id of /** @type {const} */ (["prompt", "negative"])) {
    const field = element(id);
    field.addEventListener("keydown", (event) => {
      const is_meant = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && !event.isComposing;
      if (!is_meant || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
      const change = change_weight(field.value, field.selectionStart, field.selectionEnd, event.key === "ArrowUp" ? STEP : -STEP, syntax());
      if (!change) return;
      event.preventDefault();
      type_over(field, change.start, change.end, change.by);
      field.setSelectionRange(change.start + change.selected[0], change.start + change.selected[1]);
      announce(text.weight_is(change.weight));
    });
  }
}
