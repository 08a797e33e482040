// Finds what the syntax of a prompt gives a meaning: weights, choices, tags, keywords, embeddings, and unmatched brackets.
// The program reads prompts by itself (src/prompt); this only finds what is worth marking while somebody types.

/** @typedef {NonNullable<import("../protocol.js").DrawRequest["prompt_syntax"]>} Syntax */
/** @typedef {"weight" | "tag" | "choice" | "word" | "embedding" | "wrong"} Kind */
/** A part of a text. @typedef {{start: number, end: number, kind: Kind}} Mark */

/** A bracket that is open: its place, and those of what separates parts directly within. @typedef {{at: number, bars: number[], colons: number[]}} Open */
/** Brackets that pair. @typedef {{open: number, close: number, bars: number[], colons: number[]}} Pair */

const TAG = /<(?:lora|lyco|hypernet):[^<>]*>/y;
const TAG_START = /<(?:lora|lyco|hypernet):/y;
const WILDCARD = /__[\p{L}\p{N}\-./ *](?:(?!__)[\p{L}\p{N}_\-./ *])*__/uy;
const COMFY_EMBEDDING = /embedding:[^\s,()[\]{}|<>]+/y;
const WORDS = /(?<![\p{L}\p{N}_])(BREAK|AND)(?![\p{L}\p{N}_])/gu;
const COMPEL_WEIGHT = /(?:\d+\.?\d*|\.\d+|\++|-+)/y;
const COMPEL_SIGNS = /(?<=[\p{L}\p{N}"])(?:\++|-+)(?=$|[\s,.()"])/gu;
const COMPEL_JOIN = /\)(\.(?:and|add|blend))$/;
const NUMBER = /^\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*$/;
const CLOSES = /** @type {Record<string, string>} */ ({ ")": "(", "]": "[", "}": "{" });

/** Whether a text, or a part of one, is a number. @param {string} text @param {number} [start] @param {number} [end] */
export const is_number = (text, start, end) => NUMBER.test(text.slice(start, end));

/** What a pattern finds at a place. @param {RegExp} pattern @param {string} text @param {number} at */
function found_at(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? "";
}

/**
 * The brackets of a text that pair, the inner ones first, those that pair with nothing, and tags and wildcards, within which none counts.
 * @param {string} text
 * @param {Syntax} syntax
 */
export function brackets_of(text, syntax) {
  /** @type {Record<string, Open[]>} */
  const open = { "(": [], "[": [], "{": [] };
  /** @type {Pair[]} */
  const pairs = [];
  /** @type {Mark[]} */
  const marks = [];
  const has_square = syntax === "a1111";
  /** @type {string[]} which kinds are open, the innermost last */
  const order = [];
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at] ?? "";
    if (char === "\\") {
      at += 1;
    } else if (char === "<" || (char === "_" && text[at + 1] === "_") || (char === "e" && syntax === "comfy")) {
      const [pattern, kind] = /** @type {[RegExp, Kind]} */ (char === "<" ? [TAG, "tag"] : char === "_" ? [WILDCARD, "choice"] : [COMFY_EMBEDDING, "embedding"]);
      const found = found_at(pattern, text, at).length;
      const broken = char === "<" && found === 0 ? found_at(TAG_START, text, at).length : 0;
      if (found + broken === 0) continue;
      marks.push({ start: at, end: at + found + broken, kind: broken > 0 ? "wrong" : kind });
      at += found + broken - 1;
    } else if (char === "(" || char === "{" || (char === "[" && has_square)) {
      if (char === "{" && text[at - 1] === "$") continue;
      open[char]?.push({ at, bars: [], colons: [] });
      order.push(char);
    } else if (char === ")" || char === "}" || (char === "]" && has_square)) {
      const kind = CLOSES[char] ?? "";
      // As AUTOMATIC1111 pairs them: each kind by itself.
      const begun = open[kind]?.pop();
      if (begun) {
        order.splice(order.lastIndexOf(kind), 1);
        pairs.push({ open: begun.at, close: at, bars: begun.bars, colons: begun.colons });
      } else if (char !== "}") {
        marks.push({ start: at, end: at + 1, kind: "wrong" });
      }
    } else if (char === "|" || char === ":") {
      const inner = open[order.at(-1) ?? ""]?.at(-1);
      (char === "|" ? inner?.bars : inner?.colons)?.push(at);
    }
  }
  for (const left of Object.values(open).flat()) marks.push({ start: left.at, end: left.at + 1, kind: "wrong" });
  return { pairs, marks };
}

/**
 * What is worth marking in a text, in order, none over another.
 * @param {string} text
 * @param {Syntax} syntax
 * @param {RegExp | null} embeddings finds the words of embeddings, all of them
 * @returns {Mark[]}
 */
export function marks_of(text, syntax, embeddings = null) {
  if (syntax === "plain") return [];
  const { pairs, marks } = brackets_of(text, syntax);
  /** @type {(start: number, end: number, kind: Kind) => void} */
  const mark = (start, end, kind) => marks.push({ start, end, kind });
  for (const { open, close, bars, colons } of pairs) {
    const [first, last] = [text[open], colons.at(-1)];
    if (first === "{") {
      // Others are text.
      if (bars.length === 0 && !text.slice(open, close).includes("$$")) continue;
      for (const at of [open, ...bars, close]) mark(at, at + 1, "choice");
    } else if (first === "[") {
      const is_scheduled = bars.length === 0 && last !== undefined && is_number(text, last + 1, close);
      for (const at of [open, ...(bars.length > 0 ? bars : is_scheduled ? colons.slice(-2, -1) : [])]) mark(at, at + 1, "weight");
      mark(is_scheduled ? last : close, close + 1, "weight");
    } else if (syntax === "compel") {
      const [, join] = COMPEL_JOIN.exec(text.slice(Math.max(0, open - 7), open)) ?? [];
      if (join && !text.slice(open + 1, close).includes("(")) {
        mark(open - join.length, close + 1, "word");
        continue;
      }
      mark(open, open + 1, "weight");
      mark(close, close + 1 + found_at(COMPEL_WEIGHT, text, close + 1).length, "weight");
    } else {
      mark(open, open + 1, "weight");
      mark(last !== undefined && is_number(text, last + 1, close) ? last : close, close + 1, "weight");
    }
  }
  const taken = new Uint8Array(text.length);
  for (const { start, end } of marks) taken.fill(1, start, end);
  /** @type {[RegExp | null, Kind][]} */
  const patterns = [[syntax === "a1111" ? WORDS : null, "word"], [syntax === "compel" ? COMPEL_SIGNS : null, "weight"], [embeddings, "embedding"]];
  for (const [pattern, kind] of patterns) {
    if (!pattern) continue;
    for (const { index, 0: found } of text.matchAll(pattern)) {
      if (found === "" || taken.subarray(index, index + found.length).includes(1)) continue;
      // Inside brackets it is a word like others.
      if (found === "BREAK" && pairs.some(({ open, close }) => text[open] !== "{" && open < index && index < close)) continue;
      mark(index, index + found.length, kind);
      taken.fill(1, index, index + found.length);
    }
  }
  return marks.sort((a, b) => a.start - b.start);
}

/** Finds words of embeddings in a text; null where there are none. @param {string[]} words */
export function embeddings_pattern(words) {
  const known = words.filter((word) => word !== "").sort((a, b) => b.length - a.length);
  if (known.length === 0) return null;
  return new RegExp(`(?<![\\p{L}\\p{N}_])(?:${known.map((word) => word.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")).join("|")})(?![\\p{L}\\p{N}_])`, "giu");
}
