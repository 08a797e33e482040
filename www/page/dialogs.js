// Dialogs: they open at their beginning, close by their buttons and by a press beside them, and messages appear in front of them.

import { closest, element } from "./elements.js";

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

/** Makes every dialog of the page close by its buttons and by a press beside it. */
export function open_dialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || closest(event, "[data-close]")) dialog.close();
    });
    dialog.addEventListener("close", () => {
      const at = open.indexOf(dialog);
      if (at >= 0) open.splice(at, 1);
      move_messages();
    });
  }
}
