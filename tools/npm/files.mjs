// Which files the npm package has: those that its entry points import or name by an address, and what those import in turn.
// `node files.mjs FOLDER` prints their paths, one a line, and fails where one of them is not in the folder.

import { existsSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";

/** What the package exports: the library, and the worker that it starts. */
const ENTRIES = ["darkroom.js", "worker.js"];

/** Imports, also those of types; and addresses beside a file. */
const NAMED = /(?:\bfrom\s+|\bimport\s+|\bimport\(\s*|\bnew URL\(\s*)"(\.{1,2}\/[^"]+\.[a-z]+)"/g;

/**
 * The paths below a folder of all files that some files lead to, those included.
 * @param {string} folder
 * @param {string[]} entries
 * @returns {{files: string[], missing: string[]}} `missing` are those that are not there, with the file that names them
 */
export function files_of(folder, entries = ENTRIES) {
  const files = new Set(entries);
  const missing = new Set();
  for (const file of files) {
    if (!file.endsWith(".js")) continue;
    for (const [, named] of readFileSync(join(folder, file), "utf8").matchAll(NAMED)) {
      const path = posix.join(posix.dirname(file), named);
      if (existsSync(join(folder, path))) files.add(path);
      else missing.add(`${path}, which ${file} names`);
    }
  }
  return { files: [...files].sort(), missing: [...missing] };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , folder = "."] = process.argv;
  const { files, missing } = files_of(folder);
  if (missing.length > 0) {
    console.error(`not in ${folder}: ${missing.join("; ")}`);
    process.exit(1);
  }
  for (const file of files) console.log(file);
}
