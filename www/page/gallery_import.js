// Images that come back into the gallery: PNG files with their settings, and archives of them, as the gallery saves them, with their
// favourites.

import { all } from "./album.js";
import { element, make, picked_files } from "./elements.js";
import { add_picture, select_all } from "./gallery.js";
import { grid_of } from "./grid_sheet.js";
import { LIST_NAME, list_of } from "./image_archive.js";
import { message_of } from "./messages.js";
import { notify } from "./notices.js";
import { text } from "./texts.js";
import { unzip } from "./unzip.js";

/** @typedef {import("./image_archive.js").Listed} Listed */
/** A file that may be an image, and what an archive says of it. @typedef {{name: string, made_at: number, read: () => Promise<Blob>, listed?: Listed}} Found */

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;

/** @param {import("../darkroom.js").Darkroom} given */
export function open_gallery_import(given) {
  darkroom = given;
  const file = make("input", { type: "file", accept: ".zip,.png,image/png,application/zip", multiple: true, hidden: true, id: "gallery-file", "aria-label": text.gallery_import.import });
  file.addEventListener("change", () => take_pictures(picked_files(file)));
  const button = (/** @type {string} */ said, /** @type {() => void} */ act) => make("button", { type: "button", class: "plain gallery-tool", onclick: act }, said);
  element("open-gallery").before(button(text.gallery_import.select_all, select_all), button(text.gallery_import.import, () => file.click()), file);
}

/** Whether a file is an archive, by its name or type. @param {File} file */
export const is_archive = ({ name, type }) => /\.zip$/i.test(name) || type === "application/zip";

/** What is in files and archives. @param {File[]} files @param {string[]} without gets the names of what cannot be read */
async function look_into(files, without) {
  /** @type {Found[]} */
  const found = [];
  for (const file of files) {
    if (!is_archive(file)) {
      found.push({ name: file.name, made_at: file.lastModified, read: async () => file });
      continue;
    }
    try {
      const entries = await unzip(file);
      const list = entries.find(({ name }) => name === LIST_NAME);
      const listed = list ? await list_of(await list.read()).catch(() => new Map()) : new Map();
      // What other programs put beside images is none.
      for (const entry of entries) if (/\.png$/i.test(entry.name)) found.push({ ...entry, listed: listed.get(entry.name) ?? {} });
    } catch (error) {
      without.push(`${file.name} (${message_of(error)})`);
    }
  }
  return found;
}

/** @param {Blob} a @param {Blob} b */
async function is_same(a, b) {
  const [left, right] = (await Promise.all([a.arrayBuffer(), b.arrayBuffer()])).map((each) => new Uint8Array(each));
  return left?.length === right?.length && left?.every((byte, i) => byte === right?.[i]) === true;
}

/**
 * Keeps images that carry settings in the gallery, those of archives once, and says which files do not.
 * @param {File[]} files
 */
export async function take_pictures(files) {
  /** @type {string[]} */
  const without = [];
  const found = await look_into(files, without);
  const close = found.length > 10 ? notify("info", text.gallery_import.reading(found.length)) : () => {};
  const time_of = (/** @type {Found} */ { listed, made_at }) => listed?.made_at ?? (Number.isFinite(made_at) ? made_at : Date.now());
  // The newest comes last, and hangs first; an archive has the newest first.
  const sorted = found.reverse().sort((a, b) => time_of(a) - time_of(b));
  const here = (await all().catch(() => [])).map(({ png }) => png);
  let [n, n_known] = [0, 0];
  for (const each of sorted) {
    try {
      const file = await each.read();
      const png = file.type === "image/png" ? file : new Blob([file], { type: "image/png" });
      // An archive may be opened twice; whoever chooses a file wants it.
      const same = each.listed ? here.filter(({ size }) => size === png.size) : [];
      if ((await Promise.all(same.map((one) => is_same(one, png)))).includes(true)) {
        n_known += 1;
        continue;
      }
      const is_png = new Uint8Array(await png.slice(0, 4).arrayBuffer()).join() === "137,80,78,71";
      const parameters = is_png ? await darkroom.read_parameters(png) : undefined;
      if (!parameters || parameters.is_empty) throw new Error(text.no_settings);
      const grid = await grid_of(png);
      const { favourite, seconds = 0 } = each.listed ?? {};
      const item = await add_picture({ png, parameters, seconds, made_at: time_of(each), ...(favourite ? { favourite } : {}), ...(grid ? { grid } : {}) });
      n += 1;
      here.push(png);
      // What cannot be kept any more has been said.
      if (item.picture.id < 0) break;
    } catch {
      without.push(each.name);
    }
  }
  close();
  const said = n === 0 ? [] : [text.pictures_added(n)];
  if (n_known > 0) said.push(text.gallery_import.known(n_known));
  if (without.length > 0) said.push(text.files_without_settings(without.length, without.slice(0, 5).join(", ")));
  notify("info", said.length > 0 ? said.join("; ") : text.gallery_import.nothing);
}
