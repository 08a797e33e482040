// What of the form is in view: the parts that fold, and the options that lie over the stage where the window is narrow.

import { element, part } from "./elements.js";
import { read, write } from "./memory.js";
import { text } from "./texts.js";

/** Where it is kept which parts of the form are open. */
const OPEN_KEY = "darkroom.open";
/** Parts of the form that open and close. */
const SECTIONS = /** @type {const} */ (["networks", "advanced"]);

/** Parts of the form stay open or closed between visits. */
export function open_sections() {
  const kept = read(OPEN_KEY);
  for (const id of SECTIONS) {
    element(id).open = kept[id] === true;
    element(id).addEventListener("toggle", () => write(OPEN_KEY, Object.fromEntries(SECTIONS.map((each) => [each, element(each).open]))));
  }
}

/** Brings a field into view, wherever it is folded away. @param {import("./form.js").Field} id */
export function reveal(id) {
  const details = element(id).closest("details");
  if (details) details.open = true;
  if (element(id).closest("#panel")) show_panel(true);
}

/** Opens the options over the stage, where the window is too narrow for both. @param {boolean} is_open */
export function show_panel(is_open) {
  part(document, "main", HTMLElement).dataset.panel = is_open ? "open" : "closed";
  element("open-panel").setAttribute("aria-expanded", String(is_open));
  element("open-panel").textContent = is_open ? text.close_options : text.options;
}
