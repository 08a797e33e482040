// Dialogs: they open at their beginning, close by their buttons and by a press beside them, and messages appear in front of them.

import { closest, element, make } from "./elements.js";
import { text } from "./texts.js";

/** The dialogs that are open, the topmost last. @type {HTMLDialogElement[]} */
const open = [];

/** What is behind a modal dialog is inert, so messages move into it. */
function move_messages() {
  (open.at(-1) ?? document.body).append(element("toasts"));
}

/**
 * Opens a dialog at its beginning.
 * @param {HTMLDialogElement} dialog
 */
export function show_dialog(dialog) {
  if (dialog.open) return;
  dialog.showModal();
  open.push(dialog);
  for (const part of dialog.querySelectorAll(".dialog-body, .viewer-side")) part.scrollTop = 0;
  move_messages();
}

/** Whether a dialog is open. */
export const is_dialog_open = () => open.length > 0;

/** Makes a dialog close by its buttons and by a press beside it. @param {HTMLDialogElement} dialog */
function open_dialog(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || closest(event, "[data-close]")) dialog.close();
  });
  dialog.addEventListener("close", () => {
    const at = open.indexOf(dialog);
    if (at >= 0) open.splice(at, 1);
    move_messages();
  });
}

/** Does so for every dialog of the page. */
export function open_dialogs() {
  for (const dialog of document.querySelectorAll("dialog")) open_dialog(dialog);
}

/**
 * A dialog that index.html does not have.
 * @param {string} id
 * @param {string} title
 * @param {HTMLElement[]} head what stands beside the title
 * @param {HTMLElement[]} body
 */
export function make_dialog(id, title, head, body) {
  const heading = make("h2", { id: `${id}-heading`, tabIndex: -1, autofocus: true }, title);
  const close = make("button", { type: "button", class: "plain square", "data-close": "", "aria-label": text.close }, "×");
  const dialog = make("dialog", { id, "aria-labelledby": heading.id }, make("div", { class: "dialog-head" }, heading, ...head, close), make("div", { class: "dialog-body" }, ...body));
  document.body.append(dialog);
  open_dialog(dialog);
  return dialog;
}
