// Zip archives without compression, which pictures have already; and the checksum that PNG has, too.

import { text } from "./texts.js";

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** The checksum of zip and PNG. @param {Uint8Array} bytes */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Numbers in little-endian order, each with its bytes. @param {[number, 2 | 4][]} numbers */
function numbers(numbers) {
  const view = new DataView(new ArrayBuffer(numbers.reduce((sum, [, size]) => sum + size, 0)));
  let at = 0;
  for (const [number, size] of numbers) {
    if (size === 2) view.setUint16(at, number, true);
    else view.setUint32(at, number, true);
    at += size;
  }
  return new Uint8Array(view.buffer);
}

/** The date and time of MS-DOS, in steps of two seconds. @param {Date} date */
function dos_time(date) {
  const year = Math.min(2107, Math.max(1980, date.getFullYear()));
  return [
    (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1),
    ((year - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate(),
  ];
}

/**
 * An archive of files, each as it is. At most 65,535 files and 4 GiB, which is what the plain format counts.
 * @param {{name: string, file: Blob, made_at: number}[]} files
 * @returns {Promise<Blob>}
 */
export async function zip(files) {
  const total = files.reduce((sum, { file }) => sum + file.size + 256, 0);
  if (files.length > 0xffff || total > 0xffffffff) throw new Error(text.archive_too_large);
  const parts = [];
  const directory = [];
  let offset = 0;
  let directory_bytes = 0;
  for (const { name, file, made_at } of files) {
    const path = new TextEncoder().encode(name);
    const crc = crc32(new Uint8Array(await file.arrayBuffer()));
    const [time, day] = dos_time(new Date(made_at));
    // Version 1.0, names in UTF-8, stored.
    /** @type {[number, 2 | 4][]} */
    const common = [[10, 2], [0x800, 2], [0, 2], [time, 2], [day, 2], [crc, 4], [file.size, 4], [file.size, 4], [path.length, 2], [0, 2]];
    const head = numbers([[0x04034b50, 4], ...common]);
    parts.push(head, path, file);
    const entry = numbers([[0x02014b50, 4], [10, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]);
    directory.push(entry, path);
    directory_bytes += entry.length + path.length;
    offset += head.length + path.length + file.size;
  }
  const n = files.length;
  const end = numbers([[0x06054b50, 4], [0, 2], [0, 2], [n, 2], [n, 2], [directory_bytes, 4], [offset, 4], [0, 2]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
