// What the page gives to the reader: files, and what goes to the clipboard.

import { make } from "./elements.js";
import { message_of } from "./messages.js";
import { notify } from "./notices.js";
import { text } from "./texts.js";

/** Saves a file as the browser does it. @param {Blob} file @param {string} name */
export function save_file(file, name) {
  const url = URL.createObjectURL(file);
  make("a", { href: url, download: name }).click();
  // The browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Puts something on the clipboard, and says so. @param {string | ClipboardItem} what @param {string} said */
export async function copy(what, said) {
  try {
    await (typeof what === "string" ? navigator.clipboard.writeText(what) : navigator.clipboard.write([what]));
    notify("info", said);
  } catch (error) {
    notify("error", text.not_copied(message_of(error)));
  }
}
