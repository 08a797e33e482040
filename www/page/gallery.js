// Finished pictures: the film strip below the stage, and the gallery that it opens into. Both are one list.

import { message_of } from "../errors.js";
import { all, forget, keep, put_back } from "./album.js";
import { element, make, part } from "./elements.js";
import { announce, notify } from "./notices.js";
import { on_stage, open_stage, put_on_stage, show_bitmap, stage_is } from "./stage.js";
import { text } from "./texts.js";
import { look_at, open_viewer, viewer_lost } from "./viewer.js";
import { duration } from "./words.js";

/** @typedef {import("./album.js").Kept} Kept */

/** A picture of the list: what is kept, its file's address, and its place. @typedef {{picture: Kept, url: string, card: HTMLElement}} Item */

/** What the buttons at a picture do. @typedef {{reuse: (parameters: Kept["parameters"]) => void, start_from: (png: Blob) => void}} Actions */

/** @type {Actions} */
let actions;
/** The newest first. @type {Item[]} */
const items = [];
/** Is called when there are more or fewer pictures. */
let counted = () => {};

/**
 * Shows the pictures of earlier visits.
 * @param {Actions} given
 * @param {() => void} on_count
 */
export async function open_gallery(given, on_count) {
  actions = given;
  counted = on_count;
  open_stage((item) => buttons(item, "stage"), look_at);
  open_viewer({ items: visible, actions: (item) => buttons(item, "viewer"), rows, remove });
  element("open-gallery").addEventListener("click", () => show_gallery(document.querySelector("main")?.dataset.view !== "gallery"));
  element("pictures-search").addEventListener("input", search);
  try {
    for (const picture of await all()) show(picture);
  } catch (error) {
    notify("error", text.album_unreadable(message_of(error)));
  }
  count();
  const [newest] = items;
  if (newest && document.documentElement.dataset.state !== "drawing") await stage_shows(newest);
}

/** How many pictures there are. */
export const n_pictures = () => items.length;

/** Opens the gallery over the stage, or goes back. @param {boolean} is_open */
export function show_gallery(is_open) {
  part(document, "main", HTMLElement).dataset.view = is_open ? "gallery" : "stage";
  const button = element("open-gallery");
  button.setAttribute("aria-expanded", String(is_open));
  button.textContent = is_open ? text.back : text.gallery;
  element("pictures-search").value = "";
  search();
}

/** Shows the pictures whose prompts have the words that are searched for. */
function search() {
  const words = element("pictures-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { picture, card } of items) {
    const { prompt = "", negative_prompt = "", model = "", seed } = picture.parameters;
    const within = `${prompt} ${negative_prompt} ${model} ${seed}`.toLowerCase();
    card.hidden = !words.every((word) => within.includes(word));
  }
  count();
}

const visible = () => items.filter(({ card }) => !card.hidden);

/** Puts a finished picture on the stage. @param {Item} item */
export async function stage_shows(item) {
  const bitmap = await createImageBitmap(item.picture.png).catch(() => null);
  if (!bitmap) return;
  show_bitmap(bitmap, item.picture.parameters.prompt ?? "");
  put_on_stage(item);
  stage_is("done");
}

/**
 * Keeps a new picture and shows it. A picture that cannot be kept is shown all the same.
 * @param {Omit<Kept, "id">} picture
 * @returns {Promise<Item>}
 */
export async function add_picture(picture) {
  let id = 0;
  try {
    id = await keep(picture);
  } catch (error) {
    const is_full = error instanceof DOMException && error.name === "QuotaExceededError";
    notify("error", text.not_kept(is_full ? text.storage_full : message_of(error)));
  }
  const item = show({ ...picture, id });
  count();
  return item;
}

function count() {
  const n = items.length;
  const n_shown = visible().length;
  element("pictures-count").textContent = n_shown < n ? text.shown_of(n_shown, n) : text.n_pictures(n);
  counted();
}

/**
 * @param {Item} item
 * @param {"card" | "stage" | "viewer"} where
 */
function buttons(item, where) {
  const { picture, url } = item;
  const { prompt, seed } = picture.parameters;
  const named = (/** @type {string} */ label) => `${label}: ${prompt}, ${text.seed(seed)}`;
  const look = where === "viewer" ? "plain" : "";
  /** @type {(label: string, act: () => void, title?: string) => HTMLElement} */
  const button = (label, act, title = "") => make("button", { type: "button", class: look, "aria-label": named(label), title, onclick: act }, label);
  const close = () => where === "viewer" && element("viewer").close();
  const save = make("a", { href: url, download: `darkroom-${seed}.png`, class: look, "aria-label": named(text.save) }, text.save);
  const made = [
    save,
    button(text.use_settings, () => {
      close();
      actions.reuse(picture.parameters);
    }, text.use_settings_title),
    button(text.edit, () => {
      close();
      actions.start_from(picture.png);
    }, text.edit_title),
  ];
  if (where !== "card") {
    made.splice(1, 0, button(text.copy, () => copy(new ClipboardItem({ "image/png": picture.png }), text.copied)));
    made.push(button(text.copy_seed, () => copy(String(seed), text.seed_copied)));
  }
  made.push(button(text.delete, () => remove(item)));
  return made;
}

/** @param {string | ClipboardItem} what @param {string} said */
async function copy(what, said) {
  try {
    await (typeof what === "string" ? navigator.clipboard.writeText(what) : navigator.clipboard.write([what]));
    notify("info", said);
  } catch (error) {
    notify("error", text.not_copied(message_of(error)));
  }
}

/** @param {Kept} picture @returns {Item} */
function show(picture) {
  const url = URL.createObjectURL(picture.png);
  const { prompt = "", seed, steps = 0 } = picture.parameters;
  const card = make("li", { class: "card" });
  const item = { picture, url, card };
  const image = make("img", { src: url, alt: prompt, loading: "lazy", decoding: "async" });
  card.append(
    make("button", { type: "button", class: "open", "aria-label": text.open_picture(prompt, seed), onclick: () => look_at(item) }, image),
    make("div", { class: "over" }, ...buttons(item, "card")),
    make("p", { dir: "auto" }, prompt),
    make("small", {}, `${text.seed(seed)} · ${text.steps(steps)}`),
  );
  // By age, so that what is put back is where it was.
  const at = items.findIndex((other) => picture.id > 0 && other.picture.id > 0 && other.picture.id < picture.id);
  const place = at < 0 ? items.length : at;
  if (items.length === 0 || picture.id === 0) items.unshift(item);
  else items.splice(place, 0, item);
  const after = items[items.indexOf(item) + 1];
  if (after) after.card.before(card);
  else element("gallery").append(card);
  return item;
}

/** Deletes a picture, with a way back. @param {Item} item */
async function remove(item) {
  const { picture, url, card } = item;
  const at = items.indexOf(item);
  if (at < 0) return;
  try {
    if (picture.id) await forget(picture.id);
  } catch (error) {
    notify("error", text.not_deleted(message_of(error)));
    return;
  }
  const seen = visible();
  const next = seen[seen.indexOf(item) + 1] ?? seen[seen.indexOf(item) - 1];
  const had_focus = card.contains(document.activeElement);
  items.splice(at, 1);
  card.remove();
  viewer_lost(item, next);
  if (on_stage() === item) {
    put_on_stage(null);
    const newest = items[Math.min(at, items.length - 1)];
    if (newest) await stage_shows(newest);
    else stage_is("empty");
  }
  count();
  // Whoever uses a keyboard goes on from the neighbour.
  if (had_focus) (next ? part(next.card, ".open", HTMLElement) : element("gallery")).focus();
  announce(text.deleted);
  const undo = async () => {
    try {
      if (picture.id) await put_back(picture);
    } catch (error) {
      notify("error", text.not_kept(message_of(error)));
    }
    URL.revokeObjectURL(url);
    const again = show(picture);
    if (!on_stage() && document.documentElement.dataset.state !== "drawing") await stage_shows(again);
    count();
  };
  notify("info", text.deleted, { [text.undo]: undo });
}

/** @param {Item} item @returns {[string, string][]} */
function rows({ picture: { parameters, seconds, made_at } }) {
  /** @type {[string, string | undefined][]} */
  const rows = [
    [text.row.negative, parameters.negative_prompt],
    [text.row.size, `${parameters.width} × ${parameters.height}`],
    [text.row.steps, String(parameters.steps)],
    [text.row.guidance, String(parameters.guidance_scale)],
    [text.row.sampler, parameters.sampler],
    [text.row.seed, String(parameters.seed)],
    ["LoRAs", parameters.loras?.map(({ name, strength }) => `${name} ${strength}`).join(", ")],
    [text.row.strength, parameters.strength?.toFixed(2)],
    [text.row.model, parameters.model],
    [text.row.took, duration(seconds)],
    [text.row.made, new Date(made_at).toLocaleString()],
  ];
  // Pictures of earlier versions have null where there is nothing.
  return rows.flatMap(([name, value]) => (value === undefined || value === null || value === "" ? [] : [[name, value]]));
}
