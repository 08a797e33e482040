// Finished pictures: the film strip below the stage, and the gallery that it opens into. Both are one list. Pictures are found by
// words, marked as favourites, selected, saved together, and deleted with a way back; other tabs show the same.

import { all, forget, keep, on_lost, picture_of, remove, restore, set_favourite } from "./album.js";
import { on_news } from "./channel.js";
import { element, make, part } from "./elements.js";
import { archive_of } from "./image_archive.js";
import { message_of } from "./messages.js";
import { announce, notify } from "./notices.js";
import { buttons_of } from "./picture_buttons.js";
import { rows_of } from "./picture_rows.js";
import { save_file } from "./saving.js";
import { on_stage, open_stage, put_on_stage, show_bitmap, stage_is } from "./stage.js";
import { text } from "./texts.js";
import { show_thumbnail } from "./thumbnails.js";
import { look_at, open_viewer, viewer_lost } from "./viewer.js";

/** @typedef {import("./album.js").Kept} Kept */

/**
 * A picture of the list.
 * @typedef {object} Item
 * @property {Kept} picture
 * @property {HTMLElement} card
 * @property {string} url of its file
 * @property {boolean} is_chosen among those to save or delete together
 */

/** How long a deletion is offered to be taken back. */
const UNDO_MS = 20_000;

/** The buttons of a picture. @type {(item: Item, where: import("./picture_buttons.js").Place) => HTMLElement[]} */
let buttons;
/** All on the page, by their ids; those that could not be kept have ids below 0. @type {Map<number, Item>} */
const shown = new Map();
let n_unkept = 0;
/** Which of them are shown: with these words, and only favourites or all. */
const filter = { words: "", favourites: false };
/** Is called when there are more or fewer pictures. */
let counted = () => {};

const is_drawing = () => document.documentElement.dataset.state === "drawing";

/**
 * Shows the pictures of earlier visits.
 * @param {Omit<import("./picture_buttons.js").Actions, "remove">} actions
 * @param {() => void} on_count
 */
export async function open_gallery(actions, on_count) {
  buttons = (item, where) => buttons_of(item, where, { ...actions, remove: (picture) => delete_pictures([picture]) });
  counted = on_count;
  open_stage((item) => buttons(item, "stage"), look_at);
  open_viewer({ items: visible, actions: (item) => buttons(item, "viewer"), rows: rows_of, remove: ({ picture }) => delete_pictures([picture]) });
  element("open-gallery").addEventListener("click", () => show_gallery(part(document, "main", HTMLElement).dataset.view !== "gallery"));
  element("gallery-search").addEventListener("input", () => filter_pictures({ words: element("gallery-search").value }));
  element("gallery-favourites").addEventListener("change", () => filter_pictures({ favourites: element("gallery-favourites").checked }));
  element("save-selected").addEventListener("click", () => save_together().catch((error) => notify("error", text.not_zipped(message_of(error)))));
  element("delete-selected").addEventListener("click", () => delete_pictures(chosen_pictures()));
  element("select-none").addEventListener("click", () => select_pictures([]));
  on_news("picture", ({ id }) => look_again(id).catch((error) => notify("error", text.other_tab_unreadable(message_of(error)))));
  on_lost(forget_ids);
  try {
    for (const picture of await all()) show(picture);
  } catch (error) {
    notify("error", text.album_unreadable(message_of(error)));
  }
  count();
  await show_newest();
}

/** What is on the page is kept no more, and the next pictures get the ids that these had: theirs are below all of those from now on. */
function forget_ids() {
  for (const [id, item] of [...shown]) {
    if (id < 0) continue;
    shown.delete(id);
    item.picture.id = id * 1e-6;
    shown.set(item.picture.id, item);
  }
}

/** How many pictures there are. */
export const n_pictures = () => shown.size;

/** Those that are shown, in the order of the page. @returns {Item[]} */
function visible() {
  const by_card = new Map([...shown.values()].map((item) => [/** @type {Element} */ (item.card), item]));
  return [...element("gallery").children].flatMap((card) => by_card.get(card) ?? []).filter(({ card }) => !card.hidden);
}

/** Another tab kept, changed or deleted a picture. @param {number} id */
async function look_again(id) {
  const picture = await picture_of(id);
  const here = shown.get(id);
  if (!picture || picture.deleted_at !== undefined) await take_away(id);
  else if (!here) show(picture);
  else {
    here.picture.favourite = picture.favourite;
    show_favourite(here);
  }
  count();
}

/** Opens the gallery over the stage, or goes back. @param {boolean} is_open */
export function show_gallery(is_open) {
  const main = part(document, "main", HTMLElement);
  if ((main.dataset.view === "gallery") === is_open) return;
  main.dataset.view = is_open ? "gallery" : "stage";
  const button = element("open-gallery");
  button.setAttribute("aria-expanded", String(is_open));
  button.textContent = is_open ? text.back : text.gallery;
  element("gallery-search").value = "";
  element("gallery-favourites").checked = false;
  filter_pictures({ words: "", favourites: false });
  if (!is_open) select_pictures([]);
}

/** Puts a finished picture on the stage. @param {Item} item */
async function stage_shows(item) {
  const bitmap = await createImageBitmap(item.picture.png).catch(() => null);
  // What is drawn meanwhile has the stage.
  if (!bitmap || is_drawing()) {
    bitmap?.close();
    return;
  }
  show_bitmap(bitmap, item.picture.parameters.prompt ?? "");
  put_on_stage(item);
  stage_is("done");
}

/** Puts the newest picture on the stage, where nothing else is. */
async function show_newest() {
  const [newest] = visible();
  if (on_stage() || is_drawing()) return;
  if (newest) await stage_shows(newest);
  else if (shown.size === 0) stage_is("empty");
}

/**
 * Keeps a new picture and shows it. A picture that cannot be kept is shown all the same.
 * @param {Omit<Kept, "id">} picture
 * @returns {Promise<Item>}
 */
export async function add_picture(picture) {
  let id = 0;
  let kept = picture;
  try {
    id = await keep(picture);
    // What was drawn is in memory; what the browser gives back is read from the disk.
    kept = (await picture_of(id).catch(() => undefined)) ?? picture;
  } catch (error) {
    n_unkept += 1;
    id = -n_unkept;
    const is_full = error instanceof DOMException && error.name === "QuotaExceededError";
    notify("error", text.not_kept(is_full ? text.storage_full : message_of(error)));
  }
  const lost = shown.get(id);
  if (lost) {
    // Ids begin anew where the site's data was cleared: what was kept then is not any more.
    n_unkept += 1;
    lost.picture.id = -n_unkept;
    shown.delete(id);
    shown.set(-n_unkept, lost);
  }
  const item = show({ ...kept, id });
  element("gallery").prepend(item.card);
  count();
  return item;
}

function count() {
  const n = shown.size;
  const n_visible = visible().length;
  element("pictures-count").textContent = n_visible < n ? text.shown_of(n_visible, n) : text.n_pictures(n);
  const chosen = chosen_pictures().length;
  element("selected").hidden = chosen === 0;
  element("n-selected").textContent = text.n_selected(chosen);
  counted();
}

/** Shows those pictures alone that pass. @param {Partial<typeof filter>} changes */
export function filter_pictures(changes) {
  Object.assign(filter, changes);
  for (const each of shown.values()) each.card.hidden = !passes(each.picture);
  count();
}

/** @param {Kept} picture */
function passes({ parameters, favourite }) {
  const { prompt = "", negative_prompt = "", model = "", seed } = parameters;
  const within = `${prompt} ${negative_prompt} ${model} ${seed}`.toLowerCase();
  return (!filter.favourites || favourite === true) && filter.words.toLowerCase().split(/\s+/).every((word) => within.includes(word));
}

/** Those that are selected and shown, in the order of the page. @returns {Kept[]} */
export const chosen_pictures = () => visible().flatMap(({ is_chosen, picture }) => (is_chosen ? [picture] : []));

/** @param {number[]} ids */
export function select_pictures(ids) {
  for (const [id, each] of shown) choose(each, ids.includes(id));
  count();
}

/** @param {Item} each @param {boolean} is_chosen */
function choose(each, is_chosen) {
  each.is_chosen = is_chosen;
  part(each.card, ".choose input", HTMLInputElement).checked = is_chosen;
  each.card.toggleAttribute("data-chosen", is_chosen);
}

/** Selects all that are shown. */
export const select_all = () => select_pictures(visible().map(({ picture }) => picture.id));

/** Saves the selected pictures as one archive. */
export async function save_together() {
  const pictures = chosen_pictures();
  save_file(await archive_of(pictures), "darkroom.zip");
  announce(text.n_saved(pictures.length));
}

/**
 * Deletes pictures, which can be taken back for a while.
 * @param {Kept[]} pictures
 */
export async function delete_pictures(pictures) {
  try {
    for (const { id } of pictures) if (id > 0) await remove(id);
  } catch (error) {
    notify("error", text.not_deleted(message_of(error)));
    return;
  }
  const gone = pictures.flatMap(({ id }) => shown.get(id) ?? []);
  const seen = visible();
  const at = seen.findIndex((item) => gone.includes(item));
  const left = seen.filter((item) => !gone.includes(item));
  const next = left[Math.min(Math.max(0, at), left.length - 1)];
  for (const item of gone) viewer_lost(item, next);
  const had_focus = gone.some(({ card }) => card.contains(document.activeElement)) || element("stage-actions").contains(document.activeElement) || element("selected").contains(document.activeElement);
  for (const { id } of pictures) await take_away(id, next);
  count();
  // Whoever uses a keyboard goes on from the neighbour.
  if (had_focus) (next ? part(next.card, ".open", HTMLElement) : element("prompt")).focus();
  const undo = async () => {
    clearTimeout(timer);
    for (const picture of pictures) {
      delete picture.deleted_at;
      if (picture.id > 0) await restore(picture.id);
      if (!shown.has(picture.id)) show(picture);
    }
    count();
    await show_newest();
    const back = pictures[0] && shown.get(pictures[0].id);
    if (back && !element("viewer").open) part(back.card, ".open", HTMLElement).focus();
  };
  const close = notify("info", text.n_deleted(pictures.length), { [text.undo]: undo });
  const timer = setTimeout(() => {
    close();
    for (const { id } of pictures) if (id > 0) forget(id).catch((error) => notify("error", text.not_deleted(message_of(error))));
  }, UNDO_MS);
}

/** @param {number} id @param {Item} [next] what comes on the stage in its place */
async function take_away(id, next) {
  const here = shown.get(id);
  if (!here) return;
  here.card.remove();
  URL.revokeObjectURL(here.url);
  URL.revokeObjectURL(part(here.card, ".open img", HTMLImageElement).src);
  shown.delete(id);
  if (on_stage() !== here) return;
  put_on_stage(null);
  if (next && shown.has(next.picture.id)) await stage_shows(next);
  await show_newest();
}

/** @param {Item} each */
function show_favourite({ picture, card }) {
  const button = part(card, ".favourite", HTMLElement);
  button.setAttribute("aria-pressed", String(picture.favourite === true));
  button.textContent = picture.favourite ? "★" : "☆";
  card.hidden = !passes(picture);
}

/** @param {Item} each */
async function toggle_favourite(each) {
  const { picture } = each;
  picture.favourite = !picture.favourite;
  show_favourite(each);
  count();
  try {
    if (picture.id > 0) await set_favourite(picture.id, picture.favourite);
  } catch (error) {
    notify("error", text.favourite_lost(message_of(error)));
  }
}

/** @param {Kept} picture @returns {Item} */
function show(picture) {
  const url = URL.createObjectURL(picture.png);
  const { prompt = "", seed, steps = 0 } = picture.parameters;
  const card = make("li", { class: "card" });
  const image = make("img", { alt: prompt, loading: "lazy", decoding: "async" });
  show_thumbnail(image, url, picture);
  /** @type {Item} */
  const each = { picture, card, url, is_chosen: false };
  const select = make("input", { type: "checkbox", "aria-label": `${text.select}: ${prompt}, ${text.seed(seed)}` });
  select.addEventListener("change", () => {
    choose(each, select.checked);
    count();
  });
  card.append(
    make("button", { type: "button", class: "open", "aria-label": text.open_picture(prompt, seed), onclick: () => look_at(each) }, image),
    make("div", { class: "over" }, ...buttons(each, "card")),
    make(
      "div",
      { class: "marks" },
      make("label", { class: "choose" }, select),
      make("button", { type: "button", class: "favourite", title: text.favourite, "aria-label": `${text.favourite}: ${prompt}, ${text.seed(seed)}`, onclick: () => toggle_favourite(each) }),
    ),
    make("p", { dir: "auto" }, prompt),
    make("small", {}, picture.grid ? text.grid.title : `${text.seed(seed)} · ${text.steps(steps)}`),
  );
  shown.set(picture.id, each);
  // Ids count on, so that pictures that come back hang where they hung; those without one are the newest.
  const newer = (/** @type {number} */ id) => (picture.id < 0 ? id < picture.id : id < 0 || id > picture.id);
  const after = [...shown].filter(([id]) => id !== picture.id && newer(id)).length;
  const neighbour = element("gallery").children[after];
  if (neighbour) neighbour.before(card);
  else element("gallery").append(card);
  show_favourite(each);
  return each;
}
