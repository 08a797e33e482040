// The mask that is painted on the source picture: a canvas, opaque where the picture is to be regenerated, with its brush, by pointer and
// by keyboard. What is done to a mask as a whole is in mask_tools.js.

import { element, make, part, pen_of } from "./elements.js";

/** How many strokes can be taken back. */
const MAX_UNDO = 30;
/** What the brush paints with. */
const COLOUR = "#ff5a2a";

const mask = element("mask-canvas");
const cursor = element("brush-cursor");
const pen = pen_of(mask, { willReadFrequently: true });

/** Whether any of the mask is painted, as far as it is known since it changed. @type {boolean | null} */
let painted = null;
/** Earlier states of the mask. @type {ImageData[]} */
let undo = [];
/** Where the brush is, in the mask's pixels. */
let brush = { x: 0, y: 0 };
let changed = () => {};

/** @param {() => void} on_change is called when another part is painted */
export function open_mask(on_change) {
  changed = on_change;
  element("mask-undo").addEventListener("click", take_back);
  element("mask-clear").addEventListener("click", () => paint((pen, width, height) => pen.clearRect(0, 0, width, height)));
  mask.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    mask.focus();
    mask.setPointerCapture(event.pointerId);
    remember();
    const at = place(event);
    stroke(at, at);
    brush = at;
  });
  mask.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (mask.hasPointerCapture(event.pointerId)) stroke(brush, at);
    brush = at;
    show_cursor();
  });
  mask.addEventListener("pointerup", mask_changed);
  mask.addEventListener("pointercancel", mask_changed);
  mask.addEventListener("pointerleave", () => {
    cursor.hidden = true;
  });
  mask.addEventListener("blur", () => {
    cursor.hidden = true;
  });
  mask.addEventListener("focus", show_cursor);
  mask.addEventListener("keydown", key);
  element("brush-size").addEventListener("input", () => {
    if (!cursor.hidden) show_cursor();
  });
}

/**
 * Gives the mask another size.
 * @param {{width: number, height: number}} size
 * @param {boolean} fresh whether what was painted is forgotten
 */
export function mask_is({ width, height }, fresh) {
  painted = null;
  const before = fresh ? null : mask_copy();
  [mask.width, mask.height] = [width, height];
  if (before) pen.drawImage(before, 0, 0, width, height);
  undo = [];
  brush = { x: width / 2, y: height / 2 };
}

/** What is painted now, apart from what is painted later. */
export function mask_copy() {
  const copy = make("canvas", { width: mask.width, height: mask.height });
  pen_of(copy).drawImage(mask, 0, 0);
  return copy;
}

/** Nothing is painted any more, and nothing can be taken back. */
export function forget_mask() {
  undo = [];
  painted = null;
  pen.clearRect(0, 0, mask.width, mask.height);
}

/** Paints a mask that was kept, white where it is painted. @param {ImageData} kept */
export async function show_kept_mask(kept) {
  const bitmap = await createImageBitmap(masked(kept));
  pen.drawImage(bitmap, 0, 0, mask.width, mask.height);
  bitmap.close();
  mask_changed();
}

/**
 * Changes the mask as a whole, which can be taken back.
 * @param {(pen: CanvasRenderingContext2D, width: number, height: number) => void} draw
 */
export function paint(draw) {
  remember();
  pen.save();
  pen.globalCompositeOperation = "source-over";
  pen.fillStyle = COLOUR;
  draw(pen, mask.width, mask.height);
  pen.restore();
  mask_changed();
}

export const focus_mask = () => mask.focus();

/** The mask as a request takes it: white on black. */
export function mask_pixels() {
  const drawn = pen.getImageData(0, 0, mask.width, mask.height);
  for (let i = 0; i < drawn.data.length; i += 4) {
    drawn.data.fill(drawn.data[i + 3] >= 128 ? 255 : 0, i, i + 3);
    // The shape is in the colours.
    drawn.data[i + 3] = 255;
  }
  return drawn;
}

/** What is white in a picture as the brush paints it, the rest clear. @param {ImageData} kept */
function masked({ data, width, height }) {
  const made = new ImageData(width, height);
  for (let i = 0; i < data.length; i += 4) if (data[i] >= 128) made.data.set([0xff, 0x5a, 0x2a, 255], i);
  return made;
}

/** Half the brush's width, in the mask's pixels. */
const radius = () => (Math.max(mask.width, mask.height) * element("brush-size").valueAsNumber) / 200;

const is_erasing = () => part(document, "[name=tool][value=erase]", HTMLInputElement).checked;

/** @param {PointerEvent} event */
function place(event) {
  const box = mask.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * mask.width,
    y: ((event.clientY - box.top) / box.height) * mask.height,
  };
}

function remember() {
  undo.push(pen.getImageData(0, 0, mask.width, mask.height));
  if (undo.length > MAX_UNDO) undo.shift();
}

/** Takes the last stroke back. */
function take_back() {
  const before = undo.pop();
  if (before) pen.putImageData(before, 0, 0);
  mask_changed();
}

/**
 * Paints or erases along a line.
 * @param {{x: number, y: number}} from
 * @param {{x: number, y: number}} to
 */
function stroke(from, to, erase = is_erasing()) {
  pen.globalCompositeOperation = erase ? "destination-out" : "source-over";
  pen.strokeStyle = pen.fillStyle = COLOUR;
  // A line without length is nothing to a browser, but a touch of the brush is a dot.
  pen.beginPath();
  pen.arc(to.x, to.y, radius(), 0, 2 * Math.PI);
  pen.fill();
  pen.lineWidth = 2 * radius();
  pen.lineCap = "round";
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x, to.y);
  pen.stroke();
}

function show_cursor() {
  const box = mask.getBoundingClientRect();
  const scale = box.width / mask.width;
  cursor.hidden = false;
  cursor.style.left = `${brush.x * scale}px`;
  cursor.style.top = `${brush.y * scale}px`;
  cursor.style.width = cursor.style.height = `${2 * radius() * scale}px`;
}

/** @param {KeyboardEvent} event */
function key(event) {
  const by = Math.max(1, radius() / 2);
  /** @type {Record<string, [number, number]>} */
  const moves = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
  const from = { ...brush };
  const move = moves[event.key];
  if (move) {
    const [dx, dy] = move;
    brush = { x: Math.min(mask.width, Math.max(0, brush.x + dx)), y: Math.min(mask.height, Math.max(0, brush.y + dy)) };
    if (event.shiftKey) {
      remember();
      stroke(from, brush);
      mask_changed();
    }
  } else if (event.key === " " || event.key === "Delete" || event.key === "Backspace") {
    remember();
    stroke(brush, brush, event.key === " " ? is_erasing() : true);
    mask_changed();
  } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && undo.length > 0) {
    take_back();
  } else {
    return;
  }
  event.preventDefault();
  show_cursor();
}

/** Whether any of the mask is opaque enough to count, as {@link mask_pixels} counts. */
export function is_painted() {
  painted ??= look_for_paint();
  return painted;
}

function look_for_paint() {
  const { data } = pen.getImageData(0, 0, mask.width, mask.height);
  for (let i = 3; i < data.length; i += 4) if (data[i] >= 128) return true;
  return false;
}

/** Another part is painted, or none. */
export function mask_changed() {
  painted = null;
  element("mask-undo").disabled = undo.length === 0;
  element("mask-clear").disabled = !is_painted();
  changed();
}
