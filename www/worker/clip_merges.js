// CLIP's merges, from which the vocabulary follows that a checkpoint in one file does not have.

import { fetch_file } from "./fetch_model.js";

let address = new URL("../clip_merges.txt", import.meta.url).href;

/** Says in which folder the file is. @param {string} folder */
export function merges_are_in(folder) {
  address = new URL("clip_merges.txt", folder).href;
}

/** The text of `merges.txt`. */
export async function clip_merges() {
  return new TextDecoder().decode(await fetch_file(address, () => {}));
}
