// Lists of values as AUTOMATIC1111's X/Y plot writes them: `1, 2, 3`, and ranges `1-5`, `10-30 (+5)`, `1-10 [5]`.

import { parse_csv } from "./csv.js";
import { text } from "./texts.js";

/** So many values are spelled out at most; a grid holds far fewer. */
const MAX_VALUES = 1000;

const WHOLE = "[+-]?\\d+";
const DECIMAL = "[+-]?\\d+(?:\\.\\d*)?|[+-]?\\.\\d+";

/** @param {string} number */
const patterns = (number) => ({
  one: new RegExp(`^(${number})$`),
  range: new RegExp(`^(${number})\\s*-\\s*(${number})(?:\\s*\\(([+-]?(?:${number.replaceAll("[+-]?", "")}))\\s*\\))?$`),
  counted: new RegExp(`^(${number})\\s*-\\s*(${number})\\s*\\[\\s*(\\d+)\\s*\\]$`),
});
const PATTERNS = { whole: patterns(WHOLE), decimal: patterns(DECIMAL) };

/** Parts of a list between commas, of which quoted ones may have some; empty ones are none. @param {string} list */
export const parts_of = (list) => parse_csv(list.replaceAll("\n", ",")).flat().map((part) => part.trim()).filter((part) => part !== "");

/** Without what sums of binary fractions add at the end. @param {number} value */
const rounded = (value) => Number(value.toPrecision(12));

/**
 * The numbers of a list.
 * @param {string} list
 * @param {"whole" | "decimal"} kind
 * @returns {number[]}
 * @throws that says which part is none
 */
export const numbers_of = (list, kind) => parts_of(list).flatMap((part) => numbers_of_part(part, kind));

/** @param {string} part @param {"whole" | "decimal"} kind */
function numbers_of_part(part, kind) {
  const { one, range, counted } = PATTERNS[kind];
  if (one.test(part)) return [Number(part)];
  const by_count = counted.exec(part);
  if (by_count) {
    const [start = 0, end = 0, n = 0] = by_count.slice(1).map(Number);
    if (n < 1 || n > MAX_VALUES) throw new Error(text.grid.too_many_values(part, MAX_VALUES));
    const at = (/** @type {number} */ i) => (n === 1 ? start : start + ((end - start) * i) / (n - 1));
    return Array.from({ length: n }, (_, i) => (kind === "whole" ? Math.trunc(rounded(at(i))) : rounded(at(i))));
  }
  const by_step = range.exec(part);
  if (!by_step) throw new Error(kind === "whole" ? text.grid.no_whole(part) : text.grid.no_number(part));
  const [start, end] = [Number(by_step[1]), Number(by_step[2])];
  const step = by_step[3] === undefined ? Math.sign(end - start) || 1 : Number(by_step[3]);
  if (step === 0 || (end - start) * step < 0) throw new Error(text.grid.never_there(part));
  const n = Math.floor(rounded((end - start) / step)) + 1;
  if (n > MAX_VALUES) throw new Error(text.grid.too_many_values(part, MAX_VALUES));
  return Array.from({ length: n }, (_, i) => rounded(start + i * step));
}
