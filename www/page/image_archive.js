// Archives of images: the files as they are, with a list of what they do not say themselves. How they come back into the gallery is in
// gallery_import.js.

import { zip } from "./zip.js";

/** The list in an archive. */
export const LIST_NAME = "darkroom.json";

/** What the list says of a file. @typedef {{favourite?: boolean, seconds?: number, made_at?: number}} Listed */

/** An archive of pictures. @param {import("./album.js").Kept[]} pictures */
export function archive_of(pictures) {
  const digits = String(pictures.length).length;
  const files = pictures.map(({ png, parameters, made_at }, i) => ({ name: `${String(i + 1).padStart(digits, "0")}-darkroom-${parameters.seed}.png`, file: png, made_at }));
  const images = pictures.map(({ favourite = false, seconds, made_at }, i) => ({ name: files[i]?.name, favourite, seconds, made_at }));
  const list = new Blob([JSON.stringify({ kind: "darkroom images", version: 1, images }, null, 1)]);
  return zip([...files, { name: LIST_NAME, file: list, made_at: Date.now() }]);
}

/** What a list says, by the names of its files; all of it is checked. @param {Blob} file @returns {Promise<Map<string, Listed>>} */
export async function list_of(file) {
  const found = JSON.parse(await file.text())?.images;
  if (!Array.isArray(found)) return new Map();
  const number = (/** @type {unknown} */ value) => (typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined);
  return new Map(found.flatMap((each) => (typeof each?.name === "string" ? [[each.name, { favourite: each.favourite === true, seconds: number(each.seconds), made_at: number(each.made_at) }]] : [])));
}
