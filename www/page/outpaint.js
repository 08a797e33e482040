// Outpainting: extends the source picture on the chosen sides and masks the new border. The border is filled with the picture mirrored
// at its edges, under noise, so that less than full strength starts from the picture's colours and not from a flat one.

import { element, make, pen_of, png_of } from "./elements.js";
import { mask_copy, paint } from "./mask.js";
import { message_of } from "./messages.js";
import { announce, notify } from "./notices.js";
import { picture_place, source, start_from } from "./start_picture.js";
import { text } from "./texts.js";

/** How many pixels of the picture beside a new border are masked too, so that no seam is left; fewer for narrow borders. */
const OVERLAP = 16;
/** The longest side of a picture, in pixels. */
const MAX_SIDE = 4096;
/** The side of a tile of noise, in pixels. */
const TILE = 128;
/** Opacity of the noise, 0 to 255. */
const NOISE_OPACITY = 60;

/** Pixels on each side. @typedef {{left: number, top: number, right: number, bottom: number}} Border */

const SIDES = /** @type {const} */ (["left", "top", "right", "bottom"]);

/** @param {(file: Blob) => Promise<ImageData>} read_pixels reads a picture whole */
export function open_outpaint(read_pixels) {
  element("outpaint").addEventListener("click", async () => {
    element("outpaint").disabled = true;
    try {
      await extend(read_pixels);
    } catch (error) {
      notify("error", message_of(error));
    } finally {
      element("outpaint").disabled = false;
    }
  });
}

/** @param {(file: Blob) => Promise<ImageData>} read_pixels */
async function extend(read_pixels) {
  const before = source();
  const pixels = element("outpaint-pixels").valueAsNumber;
  const chosen = SIDES.filter((side) => element(/** @type {const} */ (`outpaint-${side}`)).checked);
  if (!before) return;
  if (!(Number.isSafeInteger(pixels) && pixels > 0) || chosen.length === 0) {
    notify("error", text.outpaint_what);
    return;
  }
  const border = /** @type {Border} */ (Object.fromEntries(SIDES.map((side) => [side, chosen.includes(side) ? pixels : 0])));
  const size = { width: before.width + border.left + border.right, height: before.height + border.top + border.bottom };
  if (Math.max(size.width, size.height) > MAX_SIDE) {
    notify("error", text.outpaint_too_large(`${size.width} × ${size.height}`, MAX_SIDE));
    return;
  }
  const bitmap = await createImageBitmap(await read_pixels(before.file));
  const file = await extended(bitmap, border, size);
  bitmap.close();
  const painted = mask_copy();
  const place = picture_place();
  if (!(await start_from(file))) return;
  paint((pen, width, height) => {
    const now = picture_place();
    const overlap = Math.min(OVERLAP, Math.ceil(pixels / 4));
    const inside = inset(size, (side) => (border[side] > 0 ? border[side] + overlap : 0));
    pen.fillRect(0, 0, width, height);
    // From here on in pixels of the picture; the mask lay on it as it was fitted.
    pen.translate(now.x, now.y);
    pen.scale(now.w / size.width, now.h / size.height);
    pen.clearRect(inside.x, inside.y, inside.width, inside.height);
    const [across, down] = [before.width / place.w, before.height / place.h];
    pen.drawImage(painted, border.left - place.x * across, border.top - place.y * down, painted.width * across, painted.height * down);
  });
  announce(text.outpainted(`${size.width} × ${size.height}`));
}

/**
 * What is left of a size without some pixels on each side.
 * @param {{width: number, height: number}} size
 * @param {(side: keyof Border) => number} of
 */
function inset({ width, height }, of) {
  return { x: of("left"), y: of("top"), width: Math.max(0, width - of("left") - of("right")), height: Math.max(0, height - of("top") - of("bottom")) };
}

/**
 * The picture with its border, as a file.
 * @param {ImageBitmap} bitmap
 * @param {Border} border
 * @param {{width: number, height: number}} size
 * @returns {Promise<Blob>}
 */
async function extended(bitmap, border, size) {
  const canvas = make("canvas", size);
  const pen = pen_of(canvas);
  const { width, height } = bitmap;
  // Tiles of the picture, every other one mirrored.
  for (let column = -Math.ceil(border.left / width); column <= Math.ceil(border.right / width); column += 1) {
    for (let row = -Math.ceil(border.top / height); row <= Math.ceil(border.bottom / height); row += 1) {
      const [turned_x, turned_y] = [column % 2 !== 0, row % 2 !== 0];
      const x = border.left + (column + (turned_x ? 1 : 0)) * width;
      const y = border.top + (row + (turned_y ? 1 : 0)) * height;
      pen.setTransform(turned_x ? -1 : 1, 0, 0, turned_y ? -1 : 1, x, y);
      pen.drawImage(bitmap, 0, 0);
    }
  }
  pen.resetTransform();
  const tile = make("canvas", { width: TILE, height: TILE });
  const noise = new ImageData(TILE, TILE);
  for (let i = 0; i < noise.data.length; i += 1) noise.data[i] = i % 4 === 3 ? NOISE_OPACITY : Math.floor(256 * Math.random());
  pen_of(tile).putImageData(noise, 0, 0);
  const pattern = pen.createPattern(tile, "repeat");
  if (pattern) pen.fillStyle = pattern;
  pen.fillRect(0, 0, size.width, size.height);
  // The picture itself, to the pixel.
  pen.drawImage(bitmap, border.left, border.top);
  const file = await png_of(canvas);
  if (!file) throw new Error(text.outpaint_failed);
  return file;
}
