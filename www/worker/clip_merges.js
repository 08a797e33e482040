// CLIP's merges, from which the vocabulary follows that a checkpoint in one file does not have.

import { fetch_file } from "./fetch_model.js";

const ADDRESS = new URL("../clip_merges.txt", import.meta.url).href;

/** The text of `merges.txt`. */
export async function clip_merges() {
  return new TextDecoder().decode(await fetch_file(ADDRESS, () => {}));
}
