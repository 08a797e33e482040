// Where the keyboard goes on after the control that had it is gone.

const CONTROLS = "button:not([disabled]), a[href], input:not([disabled]), select:not([disabled]), textarea:not([disabled]), [tabindex='0']";

/** @param {ParentNode} within @returns {HTMLElement[]} */
const controls = (within) =>
  [.../** @type {NodeListOf<HTMLElement>} */ (within.querySelectorAll(CONTROLS))].filter((each) => each.checkVisibility());

/**
 * Changes what is in a list and keeps the focus there: on the control of the same name, else on the one in its place, else on
 * `otherwise`. Nothing moves where the focus was elsewhere.
 * @param {HTMLElement} list
 * @param {() => void} change
 * @param {HTMLElement} otherwise
 */
export function keep_focus(list, change, otherwise) {
  const focused = document.activeElement;
  const had_it = focused !== null && focused !== document.body && list.contains(focused);
  const place = had_it ? controls(list).indexOf(/** @type {HTMLElement} */ (focused)) : -1;
  const name = focused?.getAttribute("aria-label");
  change();
  if (!had_it || (focused.isConnected && document.activeElement === focused)) return;
  const left = controls(list);
  const same = left.find((each) => name && each.getAttribute("aria-label") === name);
  (same ?? left[Math.min(place, left.length - 1)] ?? otherwise).focus();
}

/**
 * Where the focus goes when an element goes that has it: to the one that had it before, as far as that is still there.
 * @param {HTMLElement} leaving
 * @param {Element | null} before
 * @param {HTMLElement} otherwise
 */
export function leave(leaving, before, otherwise) {
  const had_it = leaving.contains(document.activeElement);
  leaving.remove();
  if (!had_it) return;
  const can = before instanceof HTMLElement && before !== document.body && before.isConnected && before.checkVisibility();
  (can ? before : otherwise).focus();
}
