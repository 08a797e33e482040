// Reading zip archives whose files are stored or deflated. Offsets, sizes and checksums are verified, and a file that inflates beyond the
// size that the archive gives is refused.

import { text } from "./texts.js";
import { crc32 } from "./zip.js";

/** The end of an archive with the longest comment. */
const MAX_END = 22 + 0xffff;
/** The largest file within. */
const MAX_FILE_BYTES = 512 << 20;

/** A file of an archive. @typedef {{name: string, made_at: number, read: () => Promise<Blob>}} Entry */

/** @param {Blob} blob @param {number} start @param {number} length */
async function view_of(blob, start, length) {
  if (start < 0 || length < 0 || start + length > blob.size) throw new Error(text.gallery_import.broken);
  return new DataView(await blob.slice(start, start + length).arrayBuffer());
}

/** Milliseconds since 1970 of a date and time of MS-DOS. @param {number} time @param {number} day */
const date_of = (time, day) => new Date((day >> 9) + 1980, ((day >> 5) & 15) - 1, day & 31, time >> 11, (time >> 5) & 63, (time & 31) * 2).getTime();

/**
 * The files of an archive.
 * @param {Blob} archive
 * @returns {Promise<Entry[]>}
 * @throws where it is no archive, or Zip64; reading an encrypted or damaged file throws
 */
export async function unzip(archive) {
  const tail = await view_of(archive, Math.max(0, archive.size - MAX_END), Math.min(archive.size, MAX_END));
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error(text.gallery_import.no_zip);
  const [n, length, start] = [tail.getUint16(end + 10, true), tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  if (n === 0xffff || start === 0xffffffff) throw new Error(text.gallery_import.zip64);
  const directory = await view_of(archive, start, length);
  /** @type {Entry[]} */
  const entries = [];
  let at = 0;
  for (let i = 0; i < n; i += 1) {
    if (at + 46 > directory.byteLength || directory.getUint32(at, true) !== 0x02014b50) throw new Error(text.gallery_import.broken);
    const two = (/** @type {number} */ offset) => directory.getUint16(at + offset, true);
    const four = (/** @type {number} */ offset) => directory.getUint32(at + offset, true);
    const [flags, method, crc, packed, size, local] = [two(8), two(10), four(16), four(20), four(24), four(42)];
    const made_at = date_of(two(12), two(14));
    const next = at + 46 + two(28) + two(30) + two(32);
    if (next > directory.byteLength) throw new Error(text.gallery_import.broken);
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, at + 46, two(28)));
    at = next;
    if (name.endsWith("/")) continue;
    const read = async () => {
      if (flags & 1) throw new Error(text.gallery_import.encrypted);
      if (packed === 0xffffffff || size === 0xffffffff) throw new Error(text.gallery_import.zip64);
      if (size > MAX_FILE_BYTES) throw new Error(text.gallery_import.too_large);
      const head = await view_of(archive, local, 30);
      if (head.getUint32(0, true) !== 0x04034b50) throw new Error(text.gallery_import.broken);
      const begin = local + 30 + head.getUint16(26, true) + head.getUint16(28, true);
      if (begin + packed > archive.size) throw new Error(text.gallery_import.broken);
      const stored = archive.slice(begin, begin + packed);
      const bytes = method === 0 ? new Uint8Array(await stored.arrayBuffer()) : method === 8 ? await inflate(stored, size) : null;
      if (!bytes) throw new Error(text.gallery_import.no_method);
      if (bytes.length !== size || crc32(bytes) !== crc) throw new Error(text.gallery_import.broken);
      return new Blob([bytes]);
    };
    entries.push({ name, made_at, read });
  }
  return entries;
}

/** @param {Blob} packed @param {number} size in bytes once inflated; more is an error */
async function inflate(packed, size) {
  const bytes = new Uint8Array(size);
  let at = 0;
  const reader = packed.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(text.gallery_import.broken);
    });
    if (done) return bytes.subarray(0, at);
    if (at + value.length > size) {
      reader.cancel().catch(() => {});
      throw new Error(text.gallery_import.broken);
    }
    bytes.set(value, at);
    at += value.length;
  }
}
