// The wasm: where it is, and why it is not there.

import init from "../pkg/darkroom.js";
import { Failure, message_of } from "../errors.js";

/**
 * Loads it from its address, or from beside its JavaScript.
 * @param {string | undefined} address
 */
export async function load_wasm(address) {
  // Bundlers look for an address that is written like this.
  const url = address ?? new URL("../pkg/darkroom_bg.wasm", import.meta.url).href;
  let response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new Failure(`${url} cannot be reached: ${message_of(error)}`, "worker");
  }
  if (!response.ok) throw new Failure(`${url}: the server answered ${response.status} ${response.statusText}`.trim(), "worker");
  if (/html/i.test(response.headers.get("Content-Type") ?? "")) throw new Failure(`${url}: a web page came in place of the wasm`, "worker");
  return init({ module_or_path: response });
}
