// What a file or model is, as the panel of models shows it.

import { fill_list, make } from "./elements.js";

/**
 * @param {string} name
 * @param {import("../protocol.js").Inspection} inspection
 */
export function report_of(name, { summary, rows }) {
  const list = make("dl", {});
  /** @type {[string, string][]} */
  const filled = [];
  for (const [what, text] of rows) {
    const last = filled.at(-1);
    // A row without a name goes on with the one before.
    if (what === "" && last) last[1] += `; ${text}`;
    else filled.push([what, text]);
  }
  fill_list(list, filled);
  return [make("p", {}, `${name}: ${summary}`), list];
}
