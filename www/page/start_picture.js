// The picture to start from. The mask that is painted on it is in mask.js.
//
// A new picture sets the request's size to its own, as far as the model can. Where another size is asked for, it is stretched, cropped
// or padded, as the reader chooses; the library does that, and the canvas shows it. The mask has the request's shape, or, where only
// what is masked is drawn, the picture's own.

import { element, pen_of, picked_files } from "./elements.js";
import { show_gallery } from "./gallery.js";
import { is_only_masked, padding } from "./inpaint_area.js";
import { keep_start, kept_start } from "./kept_form.js";
import { focus_mask, forget_mask, is_painted, mask_changed, mask_is, mask_pixels, open_mask, show_kept_mask } from "./mask.js";
import { message_of } from "./messages.js";
import { notify } from "./notices.js";
import { show_panel } from "./panel.js";
import { show_side } from "./stage.js";
import { text } from "./texts.js";

/** The longer side of what is shown and painted on, in pixels: the library brings a mask to the request's size. */
const MAX_CANVAS_SIDE = 1536;
/** How long a picture may take to read before the page says that it does. */
const READ_MS = 800;
/** How long painting rests before the mask is kept. */
const KEEP_MS = 500;

const shown = element("start-canvas");

/** The picture: its file, its size in pixels, and what is shown of it, which may be smaller. @type {{file: Blob, bitmap: ImageBitmap, width: number, height: number} | null} */
let picture = null;
let keeping = 0;
let size = { width: 128, height: 128 };
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
    focus_mask();
  });
  open_mask(() => {
    show_hint();
    keep_soon();
    changed();
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
  await took(shown.width, shown.height);
  mask_is(canvas_size(), true);
  show_picture();
  mask_changed();
  // The mask is where to go on, unless somebody is writing.
  if (!is_restored && !document.activeElement?.matches("input, textarea, select")) focus_mask();
  return true;
}

/** Brings back what the request of the last visit started from. @param {() => void} given_size sets the request's size as it was */
export async function restore_start(given_size) {
  const { picture: file, mask: kept_mask } = await kept_start();
  if (!file || picture || !(await start_from(file, { is_restored: true }))) return;
  given_size();
  if (!kept_mask) return;
  await show_kept_mask(kept_mask);
}

/** Keeps the picture and mask for the next visit, once painting rests. */
function keep_soon() {
  clearTimeout(keeping);
  keeping = setTimeout(keep, KEEP_MS);
}

function keep() {
  clearTimeout(keeping);
  // A browser that keeps nothing draws all the same.
  keep_start(picture_and_mask()).catch(() => {});
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
  picture?.bitmap.close();
  picture = null;
  forget_mask();
  keep();
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
  if (picture && is_only_masked()) show_hint();
  else show_shape();
}

/** The request has another shape, or takes the picture's own. */
export function show_shape() {
  if (!picture) return;
  mask_is(canvas_size(), false);
  show_picture();
}

/** The picture's file and its size in pixels, if there is one. */
export const source = () => picture;

/** The size that is shown: the request's, or the picture's own where only a part of it is drawn. */
const shown_size = () => (picture && is_only_masked() ? { width: picture.width, height: picture.height } : size);

/** The size of the canvases: that, or smaller in its shape. */
function canvas_size() {
  const { width, height } = shown_size();
  const scale = Math.min(1, MAX_CANVAS_SIDE / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** Whether what is shown has another shape than the picture. */
function is_other_shape() {
  const { width = 0, height = 0 } = picture ?? {};
  const of = shown_size();
  return width * of.height !== height * of.width;
}

/** Where the picture lies on the canvases, in their pixels: cropped, it goes beyond them, and padded, it leaves some free. */
export function picture_place() {
  const { width, height } = picture?.bitmap ?? { width: 1, height: 1 };
  const to = canvas_size();
  const [across, down] = [to.width / width, to.height / height];
  const fit = is_other_shape() ? element("fit").value : "stretch";
  const scale = fit === "crop" ? Math.max(across, down) : fit === "pad" ? Math.min(across, down) : null;
  const [w, h] = scale === null ? [to.width, to.height] : [Math.floor(width * scale), Math.floor(height * scale)];
  return { x: Math.floor((to.width - w) / 2), y: Math.floor((to.height - h) / 2), w, h };
}

/** The shape that is shown, filled with the picture as `fit` says. */
function show_picture() {
  if (!picture) return;
  const { bitmap } = picture;
  const { width, height } = bitmap;
  const to = canvas_size();
  const of = shown_size();
  element("fit-field").hidden = !is_other_shape();
  [shown.width, shown.height] = [to.width, to.height];
  element("easel").style.setProperty("--ratio", String(of.width / of.height));
  const canvas = pen_of(shown);
  const { x, y, w, h } = picture_place();
  if (is_other_shape() && element("fit").value === "pad") {
    // The edges, drawn out to the sides that stay free.
    canvas.drawImage(bitmap, 0, 0, 1, height, 0, y, x, h);
    canvas.drawImage(bitmap, width - 1, 0, 1, height, x + w, y, to.width - x - w, h);
    canvas.drawImage(bitmap, 0, 0, width, 1, x, 0, w, y);
    canvas.drawImage(bitmap, 0, height - 1, width, 1, x, y + h, w, to.height - y - h);
  }
  canvas.drawImage(bitmap, x, y, w, h);
  show_hint();
}

/** What becomes of the picture, and of its shape. */
export function show_hint() {
  const { has_mask } = given();
  if (is_only_masked()) {
    element("start-hint").textContent = has_mask ? text.only_masked(`${size.width} × ${size.height}`, padding()) : text.paint_first;
    return;
  }
  const said = has_mask ? text.only_painted : text.whole_image;
  const { width = 0, height = 0 } = picture ?? {};
  const fit = text.fitted[/** @type {keyof typeof text.fitted} */ (element("fit").value)];
  element("start-hint").textContent = is_other_shape() ? `${said} ${text.other_shape(`${width} × ${height}`, fit, `${size.width} × ${size.height}`)}` : said;
}

/** What the request starts from: the file itself, and the mask, white on black, where something is painted. */
export function picture_and_mask() {
  if (!picture) return {};
  if (!is_painted()) return { picture: picture.file };
  return { picture: picture.file, mask: mask_pixels() };
}
