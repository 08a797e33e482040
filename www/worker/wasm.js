// The wasm with one thread.

import init from "../pkg/darkroom.js";
import { fetched } from "./fetched.js";

/**
 * Loads it from its address, or from beside its JavaScript.
 * @param {string | undefined} address
 */
export async function load_wasm(address) {
  // Bundlers look for an address that is written like this.
  return init({ module_or_path: await fetched(address ?? new URL("../pkg/darkroom_bg.wasm", import.meta.url).href, "worker") });
}
