// Files that the page gives to the reader.

import { make } from "./elements.js";

/** Saves a file as the browser does it. @param {Blob} file @param {string} name */
export function save_file(file, name) {
  const url = URL.createObjectURL(file);
  make("a", { href: url, download: name }).click();
  // The browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
