// Finished pictures in IndexedDB: they outlive the page, and other tabs hear of them.
//
// One object store of {id, png, parameters, seconds, made_at} and, where they are set, source, grid, cell, favourite and deleted_at. A deleted picture
// stays for a while, so that it can be brought back, and is gone for good at a later visit.

import { broadcast } from "./channel.js";
import { database_of } from "./database.js";

/** How long a deleted picture can be brought back at least, also in another tab. */
const KEEP_DELETED_MS = 60_000;

/** What is done when the reader has cleared the site's data: the ids that were given are those of other pictures then. */
let lost = () => {};

const in_store = database_of("darkroom-album", "pictures", { keyPath: "id", autoIncrement: true }, () => lost());

/** @param {() => void} act is called when the pictures that were kept are gone */
export function on_lost(act) {
  lost = act;
}

/**
 * @typedef {object} Kept
 * @property {number} id
 * @property {Blob} png
 * @property {import("../protocol.js").PictureParameters} parameters
 * @property {number} seconds
 * @property {number} made_at milliseconds since 1970
 * @property {Blob} [source] the picture that it was made from
 * @property {import("./grid_sheet.js").Grid} [grid] what it goes through, where it is a grid of pictures
 * @property {{grid: string, i: number}} [cell] which picture of which grid it is
 * @property {boolean} [favourite]
 * @property {number} [deleted_at] milliseconds since 1970
 */

/**
 * Keeps a picture; gives its id.
 * @param {Omit<Kept, "id">} picture
 * @returns {Promise<number>}
 */
export async function keep(picture) {
  const id = Number(await in_store("readwrite", (store) => store.add(picture)));
  broadcast({ type: "picture", id });
  return id;
}

/**
 * One picture; undefined where it is gone.
 * @param {number} id
 * @returns {Promise<Kept | undefined>}
 */
export const picture_of = (id) => in_store("readonly", (store) => store.get(id));

/**
 * All pictures that are not deleted, the oldest first. Those that were deleted long enough ago are dropped.
 * @returns {Promise<Kept[]>}
 */
export async function all() {
  /** @type {Kept[]} */
  const pictures = await in_store("readonly", (store) => store.getAll());
  const before = Date.now() - KEEP_DELETED_MS;
  const gone = pictures.filter(({ deleted_at = Infinity }) => deleted_at < before);
  await Promise.all(gone.map(({ id }) => in_store("readwrite", (store) => store.delete(id))));
  return pictures.filter(({ deleted_at }) => deleted_at === undefined);
}

/**
 * @param {number} id
 * @param {Partial<Pick<Kept, "favourite" | "deleted_at">>} changes
 */
async function change(id, changes) {
  const picture = await picture_of(id);
  if (!picture) return;
  Object.assign(picture, changes);
  if (changes.deleted_at === undefined && "deleted_at" in changes) delete picture.deleted_at;
  await in_store("readwrite", (store) => store.put(picture));
  broadcast({ type: "picture", id });
}

/** Deletes a picture; {@link restore} brings it back. @param {number} id */
export const remove = (id) => change(id, { deleted_at: Date.now() });

/** @param {number} id */
export const restore = (id) => change(id, { deleted_at: undefined });

/** @param {number} id */
export async function forget(id) {
  await in_store("readwrite", (store) => store.delete(id));
  broadcast({ type: "picture", id });
}

/**
 * @param {number} id
 * @param {boolean} favourite
 */
export const set_favourite = (id, favourite) => change(id, { favourite });
