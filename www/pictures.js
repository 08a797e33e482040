// Pictures as callers give them, and as the worker takes them.

import { DarkroomError, message_of } from "./errors.js";
import { kind_of } from "./options.js";

/**
 * A picture: a file, as a Blob or its bytes, or pixels.
 * @typedef {Blob | ArrayBuffer | HTMLCanvasElement | OffscreenCanvas | ImageBitmap | import("./protocol.js").GivenPicture} AnyPicture
 */

/** @param {unknown} value */
export const is_given = (value) => value !== undefined && value !== null;

/**
 * A file's bytes, in memory that can be given away: what the caller holds is copied, so that it can be given again.
 * @param {Blob | Uint8Array | ArrayBuffer} file
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function bytes_of(file) {
  if (file instanceof Blob) return new Uint8Array(await file.arrayBuffer());
  if (file instanceof ArrayBuffer) return new Uint8Array(file.slice(0));
  if (file instanceof Uint8Array) return new Uint8Array(file);
  throw new DarkroomError(`a picture file must be a Blob, an ArrayBuffer or a Uint8Array, not ${kind_of(file)}`, "picture");
}

/** Whether it is of a class that this browser may not have. @param {unknown} value @param {string} name */
function is_a(value, name) {
  const kind = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (globalThis))[name];
  return typeof kind === "function" && value instanceof kind;
}

/**
 * A picture as the worker takes it. Files are read, and pixels are copied when they are sent.
 * @param {AnyPicture | null | undefined} given
 * @param {"picture" | "mask"} name
 * @returns {Promise<import("./protocol.js").GivenPicture | undefined>}
 */
export async function as_given(given, name) {
  if (!is_given(given)) return undefined;
  if (given instanceof Blob || given instanceof ArrayBuffer || given instanceof Uint8Array) return bytes_of(given);
  if (is_a(given, "HTMLCanvasElement") || is_a(given, "OffscreenCanvas") || is_a(given, "ImageBitmap")) {
    return pixels_of(/** @type {HTMLCanvasElement | OffscreenCanvas | ImageBitmap} */ (given), name);
  }
  const { width, height, data } = /** @type {ImageData} */ (given);
  if (typeof width === "number" && typeof height === "number" && data instanceof Uint8ClampedArray) return { width, height, data };
  const message = `${name} must be a file (Blob, ArrayBuffer, Uint8Array) or pixels (ImageData, a canvas, ImageBitmap), not ${kind_of(given)}`;
  throw new DarkroomError(message, "picture", { field: name });
}

/** @param {HTMLCanvasElement | OffscreenCanvas | ImageBitmap} source @param {string} name */
function pixels_of(source, name) {
  const { width, height } = source;
  if (width === 0 || height === 0) throw new DarkroomError(`${name} has no pixels: it is empty, or was closed or transferred`, "picture", { field: name });
  try {
    const context = new OffscreenCanvas(width, height).getContext("2d");
    if (!context) throw new Error("there is no 2D canvas");
    context.drawImage(source, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    return { width, height, data };
  } catch (error) {
    throw new DarkroomError(`${name} cannot be read (${message_of(error)}): a canvas with pixels of another origin needs that origin's leave (CORS)`, "picture", { field: name });
  }
}
