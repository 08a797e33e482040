// The queue's drawer: what waits, how long all of it takes, and the order, which can be changed.

import { show_dialog } from "./dialogs.js";
import { element, make } from "./elements.js";
import { text } from "./texts.js";
import { duration, stage } from "./words.js";

/** @typedef {import("./tray.js").Sheet} Sheet */
/** What the drawer asks of the queue. @typedef {{sheets: () => Sheet[], take_out: (sheet: Sheet) => void, move: (sheet: Sheet, to: number) => void}} Queue */

/** So many rows are shown; a long queue takes no more room than that. */
const MAX_ROWS = 200;

/** @type {Queue} */
let queue;
let is_to_be_shown = false;

/** @param {Queue} given */
export function open_queue_drawer(given) {
  queue = given;
  element("open-queue").addEventListener("click", () => {
    show_dialog(element("queue-drawer"));
    show_queue();
  });
  element("queue-clear").addEventListener("click", () => {
    for (const sheet of queue.sheets().slice(1)) queue.take_out(sheet);
  });
}

/** Shows the queue as it is, once a frame however much changes. */
export function show_queue() {
  if (is_to_be_shown) return;
  is_to_be_shown = true;
  requestAnimationFrame(() => {
    is_to_be_shown = false;
    show();
  });
}

function show() {
  const [first, ...waiting] = queue.sheets();
  const n = waiting.length;
  element("open-queue").hidden = n === 0;
  element("open-queue").textContent = text.queue(n);
  element("queue-clear").disabled = n === 0;
  const left = first ? first.seconds * (1 - (first.progress?.fraction ?? 0)) : 0;
  const seconds = waiting.reduce((sum, sheet) => sum + sheet.seconds, left);
  const n_pictures = waiting.reduce((sum, { request }) => sum + (request.count ?? 1), 0);
  element("queue-time").textContent = n === 0 ? "" : text.queue_time(n_pictures, seconds > 0 ? duration(seconds) : "");
  const list = element("queue");
  const focused = document.activeElement?.closest("#queue li");
  const at = focused ? [...list.children].indexOf(focused) : -1;
  list.replaceChildren(...waiting.slice(0, MAX_ROWS).map(row));
  // Whoever uses a keyboard stays where they were.
  if (at < 0) return;
  const again = list.children[Math.min(at, list.childElementCount - 1)]?.querySelector("button:last-child");
  (again instanceof HTMLElement ? again : element("queue-heading")).focus();
}

/** @param {Sheet} sheet @param {number} idx its place */
function row(sheet, idx) {
  const { prompt } = sheet.request;
  /** @type {(label: string, sign: string, act: () => void) => HTMLElement} */
  const button = (label, sign, act) => make("button", { type: "button", class: "plain square", "aria-label": `${label}: ${prompt}`, title: label, onclick: act }, sign);
  const up = idx > 0 ? [button(text.move_up, "↑", () => queue.move(sheet, idx - 1))] : [];
  return make(
    "li",
    {},
    make("span", { dir: "auto", title: prompt }, prompt),
    make("small", { class: "count" }, stage({ stage: "queued", fraction: 0, position: idx + 1 })),
    ...up,
    button(text.remove, "×", () => queue.take_out(sheet)),
  );
}
