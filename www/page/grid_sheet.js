// A grid as one picture: cells with labels above and to their left, black on white as other programs draw theirs.

import { make, pen_of, png_of } from "./elements.js";
import { texts_of, with_texts } from "./png_text.js";
import { text } from "./texts.js";

/** Browsers refuse larger canvases, or lose them without a word. */
export const MAX_SIDE = 16_384;
export const MAX_PIXELS = 64e6;
/** Keyword of what a grid goes through, in its file. */
const GRID_KEY = "darkroom-grid";

const GAP = 4;
const MAX_LINES = 3;

/** What an axis is, in words; whether the setting stands before its values. @typedef {{setting: string, values: string[], is_named: boolean}} Axis */
/** What a grid goes through: across, and down if there are two. @typedef {{x: Axis, y?: Axis}} Grid */

/** How large the letters are. @param {number} width @param {number} height of a cell */
const letters = (width, height) => Math.round(Math.min(48, Math.max(12, Math.min(width, height) / 20)));

/** What stands beside the cells. @param {Axis} axis */
const labels = ({ setting, values, is_named }) => values.map((value) => (is_named ? `${setting}: ${value}` : value));

/** Room for the labels to the left; none where there is one row alone. @param {Grid} grid @param {number} width of a cell */
const left_of = ({ y }, width) => (y ? Math.round(Math.max(90, width * 0.4)) : 0);

/**
 * The size of a grid of cells of a size.
 * @param {Grid} grid
 * @param {number} width
 * @param {number} height
 */
export function size_of_grid(grid, width, height) {
  const [across, down] = [grid.x.values.length, grid.y?.values.length ?? 1];
  const top = Math.round(letters(width, height) * 1.3 * MAX_LINES) + 2 * GAP;
  const left = left_of(grid, width);
  return { width: left + across * (width + GAP) - GAP, height: top + down * (height + GAP) - GAP, left, top };
}

/**
 * Lines of a text that are no wider than that.
 * @param {CanvasRenderingContext2D} pen
 * @param {string} said
 * @param {number} width
 */
function lines_of(pen, said, width) {
  const fits = (/** @type {string} */ line) => pen.measureText(line).width <= width;
  /** @type {string[]} */
  const lines = [];
  let line = "";
  // A word that is wider than that is broken.
  for (const part of said.split(/(?<=\s)/).flatMap((word) => (fits(word) ? [word] : [...word]))) {
    if (line !== "" && !fits((line + part).trimEnd())) {
      lines.push(line.trim());
      line = "";
    }
    line += part;
  }
  lines.push(line.trim());
  if (lines.length <= MAX_LINES) return lines;
  let last = `${lines[MAX_LINES - 1]} …`;
  while (!fits(last) && last.length > 2) last = `${last.slice(0, -3)} …`;
  return [...lines.slice(0, MAX_LINES - 1), last];
}

/**
 * Draws a grid.
 * @param {Grid} grid
 * @param {Blob[]} cells in rows, from the top left
 * @param {number} width of a cell
 * @param {number} height of a cell
 * @returns {Promise<Blob>} a PNG file
 * @throws where the browser gives no canvas of that size
 */
async function draw_grid(grid, cells, width, height) {
  const size = size_of_grid(grid, width, height);
  const canvas = make("canvas", { width: size.width, height: size.height });
  const pen = pen_of(canvas, { alpha: false });
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, size.width, size.height);
  pen.fillStyle = "#000";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  const line_height = letters(width, height) * 1.3;
  pen.font = `${letters(width, height)}px system-ui, sans-serif`;
  const label = (/** @type {string} */ said, /** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ room) => {
    const lines = lines_of(pen, said, room);
    lines.forEach((line, i) => pen.fillText(line, x, y + (i - (lines.length - 1) / 2) * line_height, room));
  };
  labels(grid.x).forEach((said, i) => label(said, size.left + i * (width + GAP) + width / 2, size.top / 2, width - 2 * GAP));
  (grid.y ? labels(grid.y) : []).forEach((said, i) => label(said, size.left / 2, size.top + i * (height + GAP) + height / 2, size.left - 2 * GAP));
  const across = grid.x.values.length;
  for (const [i, cell] of cells.entries()) {
    const bitmap = await createImageBitmap(cell);
    pen.drawImage(bitmap, size.left + (i % across) * (width + GAP), size.top + Math.floor(i / across) * (height + GAP), width, height);
    bitmap.close();
  }
  const png = await png_of(canvas);
  // The memory is needed for the next picture.
  canvas.width = canvas.height = 0;
  if (!png) throw new Error(text.canvas_too_large);
  return png;
}

/** One value in a list of AUTOMATIC1111's line. @param {Axis} axis */
const quoted = ({ values }) => JSON.stringify(values.join(", "));

/**
 * A grid as a file: the settings are those of its first cell, and what it goes through is beside them, as other programs write it, too.
 * @param {Grid} grid
 * @param {Blob[]} cells in rows, from the top left
 * @param {number} width of a cell
 * @param {number} height of a cell
 */
export async function grid_file(grid, cells, width, height) {
  const png = await draw_grid(grid, cells, width, height);
  const { darkroom, parameters } = await texts_of(cells[0] ?? png);
  const y = grid.y ? `, Y Type: ${grid.y.setting}, Y Values: ${quoted(grid.y)}` : "";
  return with_texts(png, {
    ...(parameters === undefined ? {} : { parameters: `${parameters}, Script: X/Y/Z plot, X Type: ${grid.x.setting}, X Values: ${quoted(grid.x)}${y}` }),
    ...(darkroom === undefined ? {} : { darkroom }),
    [GRID_KEY]: JSON.stringify(grid),
  });
}

/** @param {unknown} found @returns {Axis | undefined} */
function axis_of(found) {
  const { setting, values, is_named = false } = /** @type {Partial<Axis>} */ (found ?? {});
  if (typeof setting !== "string" || !Array.isArray(values) || !values.every((value) => typeof value === "string")) return undefined;
  return { setting: setting.slice(0, 200), values: values.slice(0, 1000).map((value) => value.slice(0, 1000)), is_named: is_named === true };
}

/** What a file's grid goes through; undefined where it is none. @param {Blob} png @returns {Promise<Grid | undefined>} */
export async function grid_of(png) {
  const written = (await texts_of(png))[GRID_KEY];
  if (written === undefined) return undefined;
  try {
    const found = JSON.parse(written);
    const [x, y] = [axis_of(found?.x), axis_of(found?.y)];
    return x && { x, ...(y ? { y } : {}) };
  } catch {
    return undefined;
  }
}
