// Dialogs whose forms are not sent by the Enter key.

/**
 * Enter in a field takes what is written there, and the dialog stays open: its form would close it otherwise.
 * @param {HTMLDialogElement} dialog
 * @param {(field: HTMLInputElement) => void} [entered]
 */
export function enter_stays(dialog, entered) {
  dialog.addEventListener("keydown", (event) => {
    const { target } = event;
    if (event.key !== "Enter" || event.isComposing || !(target instanceof HTMLInputElement)) return;
    event.preventDefault();
    target.dispatchEvent(new Event("change", { bubbles: true }));
    entered?.(target);
  });
}
