// Changing what is in a text field as if it were typed: the field's own undo takes it back.

/**
 * Replaces a part of a field's text; the caret is behind it.
 * @param {HTMLTextAreaElement} field
 * @param {number} start
 * @param {number} end
 * @param {string} by
 */
export function type_over(field, start, end, by) {
  if (field.value.slice(start, end) === by) return;
  field.focus();
  field.setSelectionRange(start, end);
  // No other way keeps the undo of a text field in every browser. A field that is out of view takes no focus.
  const is_typed = document.activeElement === field && (by === "" ? document.execCommand("delete") : document.execCommand("insertText", false, by));
  if (is_typed) return;
  field.setRangeText(by, start, end, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Replaces all of a field's text. @param {HTMLTextAreaElement} field @param {string} by */
export const type_all = (field, by) => type_over(field, 0, field.value.length, by);
