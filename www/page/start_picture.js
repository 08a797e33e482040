// The picture to start from, and the mask that is painted on it.
//
// A new picture sets the request's size to its own, as far as the model can. Where another size is asked for, it is stretched, cropped
// or padded, as the reader chooses; the library does that, and the canvas shows it. The mask is a canvas of the request's shape: opaque
// where the picture is to be regenerated.

import { message_of } from "../errors.js";
import { element, part, pen_of, picked_files } from "./elements.js";
import { show_gallery } from "./gallery.js";
import { keep_start, kept_start } from "./kept_form.js";
import { notify } from "./notices.js";
import { show_panel } from "./panel.js";
import { show_side } from "./stage.js";
import { text } from "./texts.js";

/** How many strokes can be taken back. */
const MAX_UNDO = 30;
/** The longer side of what is shown and painted on, in pixels: the library brings a mask to the request's size. */
const MAX_CANVAS_SIDE = 1536;
/** How long a picture may take to read before the page says that it does. */
const READ_MS = 800;
/** How long painting rests before the mask is kept. */
const KEEP_MS = 500;

const shown = element("start-canvas");
const mask = element("mask-canvas");
const cursor = element("brush-cursor");
const pen = pen_of(mask, { willReadFrequently: true });

/** The picture: its file, its size in pixels, and what is shown of it, which may be smaller. @type {{file: Blob, bitmap: ImageBitmap, width: number, height: number} | null} */
let picture = null;
let keeping = 0;
/** Whether any of the mask is painted, as far as it is known since it changed. @type {boolean | null} */
let painted = null;
let size = { width: 128, height: 128 };
/** Earlier states of the mask. @type {ImageData[]} */
let undo = [];
/** Where the brush is, in the mask's pixels. */
let brush = { x: 0, y: 0 };
let changed = () => {};
/** Reads a file. @type {(file: Blob) => Promise<import("../protocol.js").Shown>} */
let read;
/** Asks for the request's size: width and height of a new picture, in pixels. @type {(width: number, height: number) => Promise<void>} */
let took = async () => {};

/** What the picture and mask are, for a request. */
export function given() {
  return { has_picture: picture !== null, has_mask: picture !== null && is_painted() };
}

/**
 * @param {(file: Blob) => Promise<import("../protocol.js").Shown>} read_picture reads a file as a drawing that starts from it does, or says why not
 * @param {() => void} on_change is called when there is another picture or mask
 * @param {(width: number, height: number) => Promise<void>} on_picture is called with the size of a new picture
 */
export function open_start_picture(read_picture, on_change, on_picture) {
  read = read_picture;
  changed = on_change;
  took = on_picture;
  element("fit").addEventListener("input", show_picture);
  const file = element("picture-file");
  element("choose-picture").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    const [chosen] = picked_files(file);
    if (chosen) start_from(chosen);
  });
  element("remove-picture").addEventListener("click", () => {
    remove();
    element("choose-picture").focus();
  });
  element("show-source").addEventListener("click", () => {
    show_panel(false);
    show_side("source");
    mask.focus();
  });
  element("mask-undo").addEventListener("click", take_back);
  element("mask-clear").addEventListener("click", () => {
    remember();
    pen.clearRect(0, 0, mask.width, mask.height);
    mask_changed();
  });
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
 * Takes a picture to start from.
 * @param {Blob} file
 * @param {{is_restored?: boolean}} [how] one of the last visit comes without a word
 * @returns {Promise<boolean>} whether it is one
 */
export async function start_from(file, { is_restored = false } = {}) {
  let shown;
  let close = () => {};
  const waiting = setTimeout(() => {
    close = notify("info", text.reading(file instanceof File ? file.name : ""));
  }, READ_MS);
  try {
    shown = await read(file);
  } catch (error) {
    const reason = message_of(error).replace(/^picture: /, "");
    notify("error", file instanceof File ? text.file_reason(file.name, reason) : reason);
    return false;
  } finally {
    clearTimeout(waiting);
    close();
  }
  picture?.bitmap.close();
  picture = { file, ...shown };
  element("start-empty").hidden = true;
  element("start-filled").hidden = false;
  if (!is_restored) {
    show_gallery(false);
    show_panel(false);
    show_side("source");
  }
  undo = [];
  await took(shown.width, shown.height);
  resize_mask(true);
  show_picture();
  mask_changed();
  // The mask is where to go on, unless somebody is writing.
  if (!is_restored && !document.activeElement?.matches("input, textarea, select")) mask.focus();
  return true;
}

/** Brings back what the request of the last visit started from. @param {() => void} given_size sets the request's size as it was */
export async function restore_start(given_size) {
  const { picture: file, mask: kept_mask } = await kept_start();
  if (!file || picture || !(await start_from(file, { is_restored: true }))) return;
  given_size();
  if (!kept_mask) return;
  const bitmap = await createImageBitmap(masked(kept_mask));
  pen.drawImage(bitmap, 0, 0, mask.width, mask.height);
  bitmap.close();
  mask_changed();
}

/** What is white in a picture as the brush paints it, the rest clear. @param {ImageData} kept */
function masked({ data, width, height }) {
  const made = new ImageData(width, height);
  for (let i = 0; i < data.length; i += 4) if (data[i] >= 128) made.data.set([0xff, 0x5a, 0x2a, 255], i);
  return made;
}

/** Keeps the picture and mask for the next visit, once painting rests. */
function keep_soon() {
  clearTimeout(keeping);
  // A browser that keeps nothing draws all the same.
  keeping = setTimeout(() => keep_start(picture_and_mask()).catch(() => {}), KEEP_MS);
}

/**
 * Takes the picture away.
 * @returns {Blob | null} its file
 */
export function remove_picture() {
  const file = picture?.file ?? null;
  if (file) remove();
  return file;
}

function remove() {
  keep_soon();
  picture?.bitmap.close();
  picture = null;
  undo = [];
  painted = null;
  pen.clearRect(0, 0, mask.width, mask.height);
  element("start-empty").hidden = false;
  element("start-filled").hidden = true;
  show_side("image");
  changed();
}

/**
 * The request's size is another one: the cut and the mask follow.
 * @param {number} width
 * @param {number} height
 */
export function set_size(width, height) {
  if (!(width >= 1 && height >= 1) || width > 4096 || height > 4096) return;
  if (size.width === width && size.height === height) return;
  size = { width, height };
  if (!picture) return;
  resize_mask(false);
  show_picture();
}

/** The size of the canvases: the request's, or smaller in its shape. */
function canvas_size() {
  const scale = Math.min(1, MAX_CANVAS_SIDE / Math.max(size.width, size.height));
  return { width: Math.round(size.width * scale), height: Math.round(size.height * scale) };
}

/** The shape of the request, filled with the picture as `fit` says. */
function show_picture() {
  if (!picture) return;
  const { bitmap, width: full_width, height: full_height } = picture;
  const { width, height } = bitmap;
  const to = canvas_size();
  const is_other_shape = full_width * size.height !== full_height * size.width;
  element("fit-field").hidden = !is_other_shape;
  [shown.width, shown.height] = [to.width, to.height];
  element("easel").style.setProperty("--ratio", String(size.width / size.height));
  const canvas = pen_of(shown);
  const fit = is_other_shape ? element("fit").value : "stretch";
  const across = to.width / width;
  const down = to.height / height;
  const scale = fit === "crop" ? Math.max(across, down) : fit === "pad" ? Math.min(across, down) : null;
  const [w, h] = scale === null ? [to.width, to.height] : [Math.floor(width * scale), Math.floor(height * scale)];
  const [x, y] = [Math.floor((to.width - w) / 2), Math.floor((to.height - h) / 2)];
  if (fit === "pad") {
    // The edges, drawn out to the sides that stay free.
    canvas.drawImage(bitmap, 0, 0, 1, height, 0, y, x, h);
    canvas.drawImage(bitmap, width - 1, 0, 1, height, x + w, y, to.width - x - w, h);
    canvas.drawImage(bitmap, 0, 0, width, 1, x, 0, w, y);
    canvas.drawImage(bitmap, 0, height - 1, width, 1, x, y + h, w, to.height - y - h);
  }
  canvas.drawImage(bitmap, x, y, w, h);
  show_hint();
}

/** @param {boolean} fresh whether what was painted is forgotten */
function resize_mask(fresh) {
  const { width, height } = canvas_size();
  painted = null;
  const before = fresh ? null : Object.assign(document.createElement("canvas"), { width: mask.width, height: mask.height });
  if (before) pen_of(before).drawImage(mask, 0, 0);
  [mask.width, mask.height] = [width, height];
  if (before) pen.drawImage(before, 0, 0, width, height);
  undo = [];
  brush = { x: width / 2, y: height / 2 };
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
  pen.strokeStyle = pen.fillStyle = "#ff5a2a";
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

/** Whether any of the mask is opaque enough to count, as `picture_and_mask` counts. */
function is_painted() {
  painted ??= look_for_paint();
  return painted;
}

function look_for_paint() {
  const { data } = pen.getImageData(0, 0, mask.width, mask.height);
  for (let i = 3; i < data.length; i += 4) if (data[i] >= 128) return true;
  return false;
}

function mask_changed() {
  painted = null;
  element("mask-undo").disabled = undo.length === 0;
  const { has_mask } = given();
  element("mask-clear").disabled = !has_mask;
  show_hint();
  keep_soon();
  changed();
}

/** What becomes of the picture, and of its shape. */
function show_hint() {
  const said = given().has_mask ? text.only_painted : text.whole_image;
  const { width = 0, height = 0 } = picture ?? {};
  const is_other_shape = width * size.height !== height * size.width;
  const fit = text.fitted[/** @type {keyof typeof text.fitted} */ (element("fit").value)];
  element("start-hint").textContent = is_other_shape ? `${said} ${text.other_shape(`${width} × ${height}`, fit, `${size.width} × ${size.height}`)}` : said;
}

/** What the request starts from: the file itself, and the mask, white on black, where something is painted. */
export function picture_and_mask() {
  if (!picture) return {};
  if (!is_painted()) return { picture: picture.file };
  const drawn = pen.getImageData(0, 0, mask.width, mask.height);
  for (let i = 0; i < drawn.data.length; i += 4) {
    drawn.data.fill(drawn.data[i + 3] >= 128 ? 255 : 0, i, i + 3);
    // The shape is in the colours.
    drawn.data[i + 3] = 255;
  }
  return { picture: picture.file, mask: drawn };
}
