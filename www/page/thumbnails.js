// The images on cards: small copies of large pictures, made when a card comes near the window. A browser holds the file of every image that
// it shows, and its pixels for as long as it likes: of sixty large pictures that would be half a gigabyte.

import { text } from "./texts.js";

/** The longer side of a copy, in pixels: a card of the gallery on a screen with two pixels for one. */
const SIDE = 384;

/** The files of images that are not shown yet, with their addresses. @type {WeakMap<Element, {png: Blob, url: string}>} */
const files = new WeakMap();

const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting || !(target instanceof HTMLImageElement)) continue;
      near.unobserve(target);
      const file = files.get(target);
      files.delete(target);
      // What cannot be read here the browser may show, or says that it cannot.
      if (file) show_copy(target, file.png).catch(() => (target.src = file.url));
    }
  },
  { rootMargin: "50%" },
);

/** @param {HTMLImageElement} image @param {Blob} png */
async function show_copy(image, png) {
  const whole = await createImageBitmap(png);
  const scale = Math.min(1, SIDE / Math.max(whole.width, whole.height));
  const [width, height] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width ?? 1, height ?? 1);
  const pen = canvas.getContext("2d");
  if (!pen) throw new Error(text.no_canvas);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
  const copy = URL.createObjectURL(await canvas.convertToBlob({ type: "image/webp", quality: 0.9 }));
  image.addEventListener("load", () => URL.revokeObjectURL(copy), { once: true });
  image.src = copy;
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
