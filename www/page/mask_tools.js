// Operations on the whole mask: invert, grow, shrink.

import { element } from "./elements.js";
import { mask_copy, paint } from "./mask.js";

/** By how much a mask grows at a time, as a share of the longer side. */
const GROWN = 0.01;
/** In how many directions the mask is shifted to grow. */
const N_DIRECTIONS = 32;

/** @typedef {(pen: CanvasRenderingContext2D, width: number, height: number) => void} Draw */

/** Swaps what is painted and what is not. @type {Draw} */
const invert = (pen, width, height) => {
  pen.globalCompositeOperation = "source-out";
  pen.fillRect(0, 0, width, height);
  pen.globalCompositeOperation = "source-over";
};

/** @type {Draw} */
const grow = (pen, width, height) => {
  const before = mask_copy();
  const by = Math.max(1, Math.round(Math.max(width, height) * GROWN));
  for (let i = 0; i < N_DIRECTIONS; i += 1) {
    const angle = (2 * Math.PI * i) / N_DIRECTIONS;
    pen.drawImage(before, Math.round(by * Math.cos(angle)), Math.round(by * Math.sin(angle)));
  }
};

/** @type {Draw} */
const shrink = (pen, width, height) => {
  invert(pen, width, height);
  grow(pen, width, height);
  invert(pen, width, height);
};

export function open_mask_tools() {
  element("mask-invert").addEventListener("click", () => paint(invert));
  element("mask-grow").addEventListener("click", () => paint(grow));
  element("mask-shrink").addEventListener("click", () => paint(shrink));
}
