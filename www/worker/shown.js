// Pictures as a page shows them, made small where a page's thread would take long with them.

/**
 * @param {import("../protocol.js").Pixels} pixels
 * @param {number} max_side in pixels
 * @returns {Promise<import("../protocol.js").Shown>}
 */
export async function shown({ data, width, height }, max_side) {
  const scale = Math.min(1, max_side / Math.max(width, height));
  const image = new ImageData(data, width, height);
  if (scale === 1) return { bitmap: await createImageBitmap(image), width, height };
  const [resizeWidth, resizeHeight] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  return { bitmap: await createImageBitmap(image, { resizeWidth, resizeHeight, resizeQuality: "high" }), width, height };
}
