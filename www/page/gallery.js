// The pictures on the page, and the dialog that shows one large.

import { message_of } from "../errors.js";
import { all, forget, keep, picture_of, remove, restore, set_favourite } from "./album.js";
import { on_news } from "./channel.js";
import { closest, element, fill_list, make, part } from "./elements.js";
import { announce, notify } from "./notices.js";
import { duration } from "./words.js";
import { zip } from "./zip.js";

/** @typedef {import("./album.js").Kept} Kept */

/** What the buttons below a picture do. @typedef {{reuse: (parameters: Kept["parameters"]) => void, start_from: (png: Blob) => void}} Actions */

/**
 * A picture on the page.
 * @typedef {object} Shown
 * @property {Kept} picture
 * @property {HTMLElement} card
 * @property {string} url of its file
 * @property {boolean} is_chosen among those to save or delete together
 */

/** How long a deletion is offered to be taken back. */
const UNDO_MS = 20_000;

/** @type {Actions} */
let actions;
const viewer = element("viewer");
/** All on the page, by their ids; those that could not be kept have ids below 0. @type {Map<number, Shown>} */
const shown = new Map();
let n_unkept = 0;
/** Which of them are shown: with these words in their prompts, and only favourites or all. */
const filter = { words: "", favourites: false };

/**
 * Shows the pictures of earlier visits.
 * @param {Actions} given
 */
export async function open_gallery(given) {
  actions = given;
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer || closest(event, "[data-close]")) viewer.close();
  });
  open_tools();
  on_news("picture", ({ id }) => look_again(id).catch((error) => notify("error", `the pictures of another tab cannot be read: ${message_of(error)}`)));
  try {
    for (const picture of await all()) show(picture);
  } catch (error) {
    notify("error", `the pictures of earlier visits cannot be read (${message_of(error)}): the browser may forbid this page to keep data`);
  }
  count();
}

/** Another tab kept, changed or deleted a picture. @param {number} id */
async function look_again(id) {
  const picture = await picture_of(id);
  const here = shown.get(id);
  if (!picture || picture.deleted_at !== undefined) take_away(id);
  else if (!here) show(picture);
  else {
    here.picture.favourite = picture.favourite;
    show_favourite(here);
  }
  count();
}

/**
 * Keeps a new picture and shows it. A picture that cannot be kept is shown all the same.
 * @param {Omit<Kept, "id">} picture
 */
export async function add_picture(picture) {
  let id = 0;
  try {
    id = await keep(picture);
  } catch (error) {
    n_unkept += 1;
    id = -n_unkept;
    const is_full = error instanceof DOMException && error.name === "QuotaExceededError";
    const reason = is_full ? "this browser's space for the page is used up" : message_of(error);
    notify("error", `the picture is here, but it will be gone after a reload, because ${reason}: save it, or delete others first`);
  }
  show({ ...picture, id });
  count();
}

function count() {
  const n = shown.size;
  const n_visible = [...shown.values()].filter(({ card }) => !card.hidden).length;
  const all = n === 0 ? "none yet" : n === 1 ? "1 picture" : `${n} pictures`;
  element("pictures-count").textContent = n_visible === n ? all : `${n_visible} of ${all}`;
  const chosen = chosen_pictures().length;
  tools.hidden = n === 0;
  together.hidden = chosen === 0;
  part(together, "span", HTMLElement).textContent = chosen === 1 ? "1 selected" : `${chosen} selected`;
}

// Controls for many pictures.

const tools = make("div", { class: "row gallery-tools", role: "group", "aria-label": "Find pictures", hidden: true });
const together = make("div", { class: "row gallery-together", role: "group", "aria-label": "Selected pictures", hidden: true });

function open_tools() {
  const search = make("input", { type: "search", id: "gallery-search", class: "grow", placeholder: "Search in prompts", "aria-label": "Search in prompts" });
  search.addEventListener("input", () => filter_pictures({ words: search.value }));
  const favourites = make("input", { type: "checkbox", id: "gallery-favourites" });
  favourites.addEventListener("change", () => filter_pictures({ favourites: favourites.checked }));
  tools.append(search, make("label", {}, favourites, make("span", {}, "Favourites")));
  /** @type {(label: string, act: () => void) => HTMLButtonElement} */
  const button = (label, act) => make("button", { type: "button", class: "plain", onclick: act }, label);
  together.append(
    make("span", { class: "quiet" }),
    button("Download zip", () => save_together().catch((error) => notify("error", `the archive could not be made: ${message_of(error)}`))),
    button("Delete selected", () => delete_pictures(chosen_pictures())),
    button("Select none", () => select_pictures([])),
  );
  element("gallery").before(tools, together);
}

/** Shows those pictures alone that pass. @param {Partial<typeof filter>} changes */
export function filter_pictures(changes) {
  Object.assign(filter, changes);
  for (const each of shown.values()) each.card.hidden = !passes(each.picture);
  count();
}

/** @param {Kept} picture */
function passes({ parameters, favourite }) {
  const text = `${parameters.prompt ?? ""} ${parameters.seed ?? ""}`.toLowerCase();
  return (!filter.favourites || favourite === true) && filter.words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** Those that are selected and shown, in the order of the page. @returns {Kept[]} */
export const chosen_pictures = () =>
  [...shown.values()].filter(({ is_chosen, card }) => is_chosen && !card.hidden).map(({ picture }) => picture).reverse();

/** @param {number[]} ids */
export function select_pictures(ids) {
  for (const [id, each] of shown) choose(each, ids.includes(id));
  count();
}

/** @param {Shown} each @param {boolean} is_chosen */
function choose(each, is_chosen) {
  each.is_chosen = is_chosen;
  part(each.card, ".choose input", HTMLInputElement).checked = is_chosen;
  each.card.toggleAttribute("data-chosen", is_chosen);
}

/** An archive of the selected pictures, each file as Save gives it. */
export async function save_together() {
  const pictures = chosen_pictures();
  const digits = String(pictures.length).length;
  const files = pictures.map(({ png, parameters, made_at }, i) => ({ name: `${String(i + 1).padStart(digits, "0")}-darkroom-${parameters.seed}.png`, file: png, made_at }));
  const url = URL.createObjectURL(await zip(files));
  make("a", { href: url, download: "darkroom.zip" }).click();
  // The browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  announce(`${pictures.length} pictures are saved`);
}

/**
 * Deletes pictures, which can be taken back for a while.
 * @param {Kept[]} pictures
 */
export async function delete_pictures(pictures) {
  try {
    for (const { id } of pictures) if (id > 0) await remove(id);
  } catch (error) {
    notify("error", `the picture could not be deleted: ${message_of(error)}`);
    return;
  }
  if (viewer.open) viewer.close();
  const first = pictures[0] && shown.get(pictures[0].id)?.card;
  const gone = new Set(pictures.map(({ id }) => shown.get(id)?.card));
  const others = [...element("gallery").children].filter((card) => card instanceof HTMLElement && !card.hidden && !gone.has(card));
  // Whoever uses a keyboard goes on from the neighbour.
  const next = others.find((card) => first && first.compareDocumentPosition(card) & Node.DOCUMENT_POSITION_FOLLOWING) ?? others.at(-1);
  for (const { id } of pictures) take_away(id);
  count();
  (next ? part(next, ".open", HTMLElement) : element("prompt")).focus();
  const undo = async () => {
    clearTimeout(timer);
    for (const picture of pictures) {
      delete picture.deleted_at;
      if (picture.id > 0) await restore(picture.id);
      show(picture);
    }
    count();
    const [back] = pictures;
    const card = back && shown.get(back.id)?.card;
    if (card) part(card, ".open", HTMLElement).focus();
  };
  const close = notify("info", pictures.length === 1 ? "the picture is deleted" : `${pictures.length} pictures are deleted`, { Undo: undo });
  const timer = setTimeout(() => {
    close();
    for (const { id } of pictures) if (id > 0) forget(id).catch((error) => notify("error", `the picture could not be deleted: ${message_of(error)}`));
  }, UNDO_MS);
}

/** @param {number} id */
function take_away(id) {
  const here = shown.get(id);
  if (!here) return;
  here.card.remove();
  URL.revokeObjectURL(here.url);
  shown.delete(id);
}

/** @param {Shown} each */
function show_favourite({ picture, card }) {
  const button = part(card, ".favourite", HTMLElement);
  button.setAttribute("aria-pressed", String(picture.favourite === true));
  button.textContent = picture.favourite ? "★" : "☆";
  card.hidden = !passes(picture);
}

/** @param {Shown} each */
async function toggle_favourite(each) {
  const { picture } = each;
  picture.favourite = !picture.favourite;
  show_favourite(each);
  count();
  try {
    if (picture.id > 0) await set_favourite(picture.id, picture.favourite);
  } catch (error) {
    notify("error", `the favourite could not be kept: ${message_of(error)}`);
  }
}

/**
 * @param {Kept} picture
 * @param {string} url of its file
 */
function buttons(picture, url) {
  const { prompt, seed } = picture.parameters;
  const named = (/** @type {string} */ label) => `${label}: ${prompt}, seed ${seed}`;
  return [
    make("a", { href: url, download: `darkroom-${seed}.png`, "aria-label": named("Save") }, "Save"),
    make("button", { type: "button", "aria-label": named("Reuse the settings"), title: "Put its settings into the form", onclick: () => actions.reuse(picture.parameters) }, "Reuse"),
    make("button", { type: "button", "aria-label": named("Edit"), title: "Start from this picture: change it, or repaint a part", onclick: () => actions.start_from(picture.png) }, "Edit"),
    make("button", { type: "button", "aria-label": named("Delete"), onclick: () => delete_pictures([picture]) }, "Delete"),
  ];
}

/** @param {Kept} picture */
function show(picture) {
  const url = URL.createObjectURL(picture.png);
  const { prompt = "", seed } = picture.parameters;
  const card = make("li", { class: "card" });
  const each = { picture, card, url, is_chosen: false };
  const look = () => {
    element("viewer-image").src = url;
    element("viewer-image").alt = prompt;
    element("viewer-prompt").textContent = prompt;
    fill_list(element("viewer-parameters"), rows(picture));
    const acts = buttons(picture, url);
    for (const act of acts) {
      act.className = "plain";
      if (act.tagName === "BUTTON") act.addEventListener("click", () => viewer.close());
    }
    element("viewer-actions").replaceChildren(...acts);
    viewer.showModal();
  };
  const image = make("img", { src: url, alt: prompt, loading: "lazy" });
  const select = make("input", { type: "checkbox", "aria-label": `Select: ${prompt}, seed ${seed}` });
  select.addEventListener("change", () => {
    choose(each, select.checked);
    count();
  });
  card.append(
    make("button", { type: "button", class: "open", "aria-label": `Look at: ${prompt}, seed ${seed}`, onclick: look }, image),
    make("p", {}, prompt),
    make("small", {}, `seed ${seed} · ${picture.parameters.steps} steps`),
    make(
      "div",
      { class: "row" },
      ...buttons(picture, url),
      make("button", { type: "button", class: "favourite", "aria-label": `Favourite: ${prompt}, seed ${seed}`, onclick: () => toggle_favourite(each) }),
      make("label", { class: "choose" }, select),
    ),
  );
  shown.set(picture.id, each);
  // Ids count on, so that pictures that come back hang where they hung.
  const older = [...shown.keys()].filter((id) => id > 0 && picture.id > 0 && id < picture.id);
  const before = older.length === 0 ? undefined : shown.get(Math.max(...older))?.card;
  if (before) before.before(card);
  else if (picture.id > 0 && shown.size > 1 && Math.min(...[...shown.keys()].filter((id) => id > 0)) === picture.id) element("gallery").append(card);
  else element("gallery").prepend(card);
  show_favourite(each);
}

/** @param {Kept} picture @returns {[string, string][]} */
function rows({ parameters, seconds, made_at }) {
  /** @type {[string, string | undefined][]} */
  const rows = [
    ["Left out", parameters.negative_prompt],
    ["Size", `${parameters.width} × ${parameters.height}`],
    ["Steps", String(parameters.steps)],
    ["Guidance", String(parameters.guidance_scale)],
    ["Sampler", parameters.sampler],
    ["Seed", String(parameters.seed)],
    ["LoRAs", parameters.loras?.map(({ name, strength }) => `${name} ${strength}`).join(", ")],
    ["Strength", parameters.strength?.toFixed(2)],
    ["Model", parameters.model],
    ["Took", duration(seconds)],
    ["Made", new Date(made_at).toLocaleString()],
  ];
  // Pictures of earlier versions have null where there is nothing.
  return rows.flatMap(([name, value]) => (value === undefined || value === null ? [] : [[name, value]]));
}
