// The images on cards: small copies of large pictures, made when a card comes near the window. A browser holds the file of every image that
// it shows, and its pixels for as long as it likes: of sixty large pictures that would be half a gigabyte.

import { element } from "./elements.js";
import { text } from "./texts.js";

/** The longer side of a copy, in pixels: a card of the gallery on a screen with two pixels for one. */
const SIDE = 384;

/** The files of images that are not shown yet, with their addresses. @type {WeakMap<Element, {png: Blob, url: string}>} */
const files = new WeakMap();

/** Copies are made one after another: each reads a whole picture. */
let made = Promise.resolve();

const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting || !(target instanceof HTMLImageElement)) continue;
      near.unobserve(target);
      const file = files.get(target);
      files.delete(target);
      // What cannot be read here the browser may show, or says that it cannot.
      if (file) made = made.then(() => show_copy(target, file.png)).catch(() => void (target.src = file.url));
    }
  },
  // The gallery scrolls by itself.
  { root: element("gallery"), rootMargin: "50%" },
);

/** @param {HTMLImageElement} image @param {Blob} png */
async function show_copy(image, png) {
  // Deleted meanwhile.
  if (!image.isConnected) return;
  const whole = await createImageBitmap(png);
  try {
    const scale = Math.min(1, SIDE / Math.max(whole.width, whole.height));
    const [width = 1, height = 1] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(side * scale)));
    const canvas = new OffscreenCanvas(width, height);
    const pen = canvas.getContext("2d");
    if (!pen) throw new Error(text.no_canvas);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(whole, 0, 0, width, height);
    // The address lasts as long as the card.
    image.src = URL.createObjectURL(await canvas.convertToBlob({ type: "image/webp", quality: 0.9 }));
  } finally {
    whole.close();
  }
}

/**
 * Shows a picture on its card: a small one as it is.
 * @param {HTMLImageElement} image
 * @param {string} url of its file
 * @param {import("./album.js").Kept} picture
 */
export function show_thumbnail(image, url, { png, grid, parameters: { width = Infinity, height = Infinity } }) {
  // The settings of a grid are those of its cells.
  if (!grid && Math.max(width, height) <= SIDE) {
    image.src = url;
    return;
  }
  files.set(image, { png, url });
  near.observe(image);
}
