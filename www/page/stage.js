// The stage: the picture as large as the window allows in its own shape, with its actions laid over it, or the source picture
// and its mask.

import { element, pen_of } from "./elements.js";

/** @typedef {import("./gallery.js").Item} Item */

const canvas = element("developing");
const bath = element("bath");

/** The finished picture that is on the stage, if it is one. @type {Item | null} */
let current = null;
/** The buttons for a picture. @type {(item: Item) => HTMLElement[]} */
let actions = () => [];

/**
 * @param {(item: Item) => HTMLElement[]} actions_of makes the buttons that lie over a picture
 * @param {(item: Item) => void} look opens the viewer
 */
export function open_stage(actions_of, look) {
  actions = actions_of;
  element("look").addEventListener("click", () => current && look(current));
  element("show-result").addEventListener("click", () => {
    show_side("image");
    element("prompt").focus();
  });
}

/** The finished picture on the stage. */
export const on_stage = () => current;

/** @param {"empty" | "developing" | "done" | "stopped" | "failed"} state */
export function stage_is(state) {
  bath.dataset.state = state;
}

/**
 * Shows the picture, or what it starts from with its mask.
 * @param {"image" | "source"} side
 */
export function show_side(side) {
  bath.dataset.shows = side;
  element("source").hidden = side !== "source";
  element("mask-tools").hidden = side !== "source";
}

/**
 * Gives the stage the shape of what comes.
 * @param {number} width
 * @param {number} height
 */
export function frame_is(width, height) {
  element("frame").style.setProperty("--ratio", String(width / height));
}

/** Puts a finished picture on the stage, or none. @param {Item | null} item */
export function put_on_stage(item) {
  if (current) delete current.card.dataset.onStage;
  current = item;
  element("look").hidden = item === null;
  element("stage-actions").hidden = item === null;
  element("stage-actions").replaceChildren(...(item ? actions(item) : []));
  if (item) item.card.dataset.onStage = "true";
}

/**
 * Shows a finished picture's pixels.
 * @param {ImageBitmap} bitmap is closed
 * @param {string} label
 */
export function show_bitmap(bitmap, label) {
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  frame_is(bitmap.width, bitmap.height);
  pen_of(canvas).drawImage(bitmap, 0, 0);
  bitmap.close();
  canvas.setAttribute("aria-label", label);
}

/** Shows pixels on the way to a picture. @param {import("../protocol.js").Preview} preview */
export function show_pixels({ width, height, data }) {
  [canvas.width, canvas.height] = [width, height];
  pen_of(canvas).putImageData(new ImageData(data, width, height), 0, 0);
}

/** Empty paper for a picture of that size. @param {number} width @param {number} height @param {string} label */
export function fresh_paper(width, height, label) {
  put_on_stage(null);
  show_side("image");
  [canvas.width, canvas.height] = [1, 1];
  if (width > 0 && height > 0) frame_is(width, height);
  canvas.setAttribute("aria-label", label);
}
