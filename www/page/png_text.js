// Reads and adds text chunks of PNG files; only uncompressed ones, which is how this page's files have them.

import { crc32 } from "./zip.js";

/** The signature and the header chunk. */
const HEAD_BYTES = 8 + 25;
const MAX_CHUNKS = 100_000;

/** @param {string} type @param {Uint8Array<ArrayBuffer>} content */
function chunk(type, content) {
  const named = new Uint8Array(4 + content.length);
  named.set(new TextEncoder().encode(type));
  named.set(content, 4);
  const number = (/** @type {number} */ n) => {
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, n);
    return new Uint8Array(view.buffer);
  };
  return [number(content.length), named, number(crc32(named))];
}

/** A file with texts in it, by their keywords, beside what it has already. @param {Blob} png @param {Record<string, string>} texts */
export function with_texts(png, texts) {
  const chunks = Object.entries(texts).flatMap(([key, said]) => chunk("iTXt", new TextEncoder().encode(`${key}\0\0\0\0\0${said}`)));
  return new Blob([png.slice(0, HEAD_BYTES), ...chunks, png.slice(HEAD_BYTES)], { type: "image/png" });
}

/**
 * The texts of a file, by their keywords; those that are compressed are left out, and what is no PNG has none.
 * @param {Blob} png
 * @returns {Promise<Record<string, string>>}
 */
export async function texts_of(png) {
  const bytes = new Uint8Array(await png.arrayBuffer());
  const view = new DataView(bytes.buffer);
  /** @type {[string, string][]} */
  const found = [];
  let at = 8;
  for (let n = 0; n < MAX_CHUNKS && at + 12 <= bytes.length; n += 1) {
    const length = view.getUint32(at);
    const type = new TextDecoder("latin1").decode(bytes.subarray(at + 4, at + 8));
    if (type === "IEND" || at + 12 + length > bytes.length) break;
    const content = bytes.subarray(at + 8, at + 8 + length);
    at += 12 + length;
    if (type !== "tEXt" && type !== "iTXt") continue;
    const nul = content.indexOf(0);
    if (nul < 1) continue;
    const key = new TextDecoder("latin1").decode(content.subarray(0, nul));
    if (type === "tEXt") {
      found.push([key, new TextDecoder("latin1").decode(content.subarray(nul + 1))]);
      continue;
    }
    // Behind the keyword: compressed or not, how, a language, the keyword in it.
    const language = content.indexOf(0, nul + 3);
    const keyword = language < 0 ? -1 : content.indexOf(0, language + 1);
    if (keyword >= 0 && content[nul + 1] === 0) found.push([key, new TextDecoder().decode(content.subarray(keyword + 1))]);
  }
  return Object.fromEntries(found);
}
