// Marks of the prompt's syntax, on a layer behind the fields: the fields themselves stay as they are, with their caret, undo, input
// methods and what screen readers read.

import { element, make } from "./elements.js";
import { embedding_words } from "./networks.js";
import { embeddings_pattern, marks_of } from "./prompt_marks.js";
import { syntax } from "./request.js";

/** A longer text is not marked, so that typing never waits for it. */
const MAX_CHARACTERS = 20_000;
/** What of a field's look decides where its letters are. */
const METRICS = /** @type {const} */ (["fontFamily", "fontSize", "fontWeight", "fontStyle", "lineHeight", "letterSpacing", "wordSpacing", "tabSize", "textIndent", "padding"]);

/** @type {RegExp | null} */
let embeddings = null;
/** @type {(() => void)[]} */
const shows = [];

/** Puts the layers behind both prompts. */
export function open_highlight() {
  for (const id of /** @type {const} */ (["prompt", "negative"])) open_layer(element(id));
  // Words come and go with the model and its files.
  new MutationObserver(() => {
    embeddings = embeddings_pattern(embedding_words());
    show_marks();
  }).observe(element("embeddings"), { childList: true });
}

/** Shows what is written now, however it came there. */
export const show_marks = () => shows.forEach((show) => show());

/** @param {HTMLTextAreaElement} field */
function open_layer(field) {
  const layer = make("div", { class: "marks-layer", dir: "auto", "aria-hidden": "true" });
  const box = make("div", { class: "prompt-box" });
  field.replaceWith(box);
  box.append(layer, field);
  let shown = "";
  let is_waiting = false;
  const scroll = () => {
    layer.scrollTop = field.scrollTop;
  };
  const show = () => {
    is_waiting = false;
    const [written, of] = [field.value, syntax()];
    const now = `${of}\n${embeddings?.source ?? ""}\n${written}`;
    if (now === shown) return;
    shown = now;
    const marks = written.length > MAX_CHARACTERS ? [] : marks_of(written, of, embeddings);
    box.toggleAttribute("data-marked", marks.length > 0);
    layer.replaceChildren(...(marks.length > 0 ? pieces(written, marks) : []));
    scroll();
  };
  const soon = () => {
    if (is_waiting) return;
    is_waiting = true;
    requestAnimationFrame(show);
  };
  shows.push(soon);
  field.addEventListener("input", soon);
  field.addEventListener("scroll", scroll);
  // What is filled in by the page changes the field's size, or comes with the focus at the latest.
  field.addEventListener("focus", soon);
  new ResizeObserver(() => {
    const look = getComputedStyle(field);
    for (const each of METRICS) layer.style[each] = look[each];
    // Without the scroll bar, where one is shown.
    layer.style.width = `${field.clientWidth + Number.parseFloat(look.borderLeftWidth) + Number.parseFloat(look.borderRightWidth)}px`;
    soon();
  }).observe(field);
  show();
}

/** @param {string} written @param {import("./prompt_marks.js").Mark[]} marks */
function pieces(written, marks) {
  /** @type {(Node | string)[]} */
  const parts = [];
  let at = 0;
  for (const { start, end, kind } of marks) {
    parts.push(written.slice(at, start), make("span", { "data-kind": kind }, written.slice(start, end)));
    at = end;
  }
  // A field shows a line behind the last end of a line, too.
  parts.push(`${written.slice(at)}\u200b`);
  return parts;
}
