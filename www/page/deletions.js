// Deletions of models that can be taken back for a while. What was deleted when the page was left is deleted at the next visit.

import { TAB, living_tabs } from "./channel.js";
import { read, write } from "./memory.js";
import { notify } from "./notices.js";
import { text } from "./texts.js";

/** Where it is kept what is to be deleted. */
const KEY = "darkroom.deletions";
/** How long a deletion can be taken back. */
const UNDO_MS = 8_000;

/** What is to be deleted, each with what does it at once. @type {Map<string, () => Promise<void>>} */
const pending = new Map();

/** Keeps what is to be deleted by this tab, beside what other tabs keep. */
function write_pending() {
  const others = Object.entries(read(KEY)).filter(([, tab]) => tab !== TAB);
  write(KEY, Object.fromEntries([...others, ...[...pending.keys()].map((name) => [name, TAB])]));
}

/** Whether it is deleted, as far as the page shows. @param {string} name */
export const is_deleted = (name) => pending.has(name);

/**
 * Deletes after a while, unless it is taken back.
 * @param {string} name by which {@link is_deleted} knows it
 * @param {string} said that it is deleted
 * @param {() => Promise<void>} act deletes it, and tells of failures itself
 * @param {() => void} undone shows it again
 */
export function delete_later(name, said, act, undone) {
  const close = notify("info", said, {
    [text.undo]: () => {
      clearTimeout(timer);
      pending.delete(name);
      write_pending();
      undone();
    },
  });
  const now = async () => {
    clearTimeout(timer);
    close();
    try {
      await act();
    } finally {
      pending.delete(name);
      write_pending();
    }
  };
  const timer = setTimeout(now, UNDO_MS);
  pending.set(name, now);
  write_pending();
}

/** Deletes at once what still waits for it: another of the same name comes. @param {string} name */
export const delete_now = async (name) => pending.get(name)?.();

/** What was to be deleted by a tab that was left. */
export async function left_over() {
  const tabs = await living_tabs();
  const left = Object.entries(read(KEY)).filter(([, tab]) => !tabs.has(String(tab)));
  write(KEY, Object.fromEntries(Object.entries(read(KEY)).filter(([name]) => left.every(([gone]) => gone !== name))));
  return left.map(([name]) => name);
}
