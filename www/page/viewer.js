// The viewer: one picture in the whole window, with zoom, arrows to its neighbours, and a slider that compares two.

import { show_dialog } from "./dialogs.js";
import { element, fill_list } from "./elements.js";
import { text } from "./texts.js";

/** @typedef {import("./gallery.js").Item} Item */

/** What the viewer asks of the gallery. @typedef {{items: () => Item[], actions: (item: Item) => HTMLElement[], rows: (item: Item) => [string, string][], remove: (item: Item) => void}} Source */

const dialog = element("viewer");
const stage = element("viewer-stage");
const image = element("viewer-image");
const other = element("viewer-other");
const split = element("viewer-split");

/** How far one press or notch zooms. */
const ZOOM_STEP = 1.25;
const MAX_ZOOM = 32;
/** From so many screen pixels a pixel it is shown as a square, where the reader zoomed in. */
const SHARP_FROM = 6;

/** @type {Source} */
let source;
/** @type {Item | null} */
let shown = null;
/** Where the picture is: its scale, and its corner's offset in pixels of the window. */
let view = { scale: 1, x: 0, y: 0 };
/** Fingers or buttons that are down. @type {Map<number, {x: number, y: number}>} */
const pointers = new Map();
/** Addresses of source pictures, which are given back when another picture is shown. @type {string | null} */
let before_url = null;

/** @param {Source} given */
export function open_viewer(given) {
  source = given;
  element("viewer-previous").addEventListener("click", () => step(-1));
  element("viewer-next").addEventListener("click", () => step(1));
  element("zoom-in").addEventListener("click", () => zoom_by(ZOOM_STEP));
  element("zoom-out").addEventListener("click", () => zoom_by(1 / ZOOM_STEP));
  element("zoom-fit").addEventListener("click", toggle_fit);
  element("viewer-compare").addEventListener("click", () => compare(Boolean(other.hidden)));
  element("viewer-with").addEventListener("change", show_other);
  split.addEventListener("input", place);
  stage.addEventListener("wheel", on_wheel, { passive: false });
  stage.addEventListener("pointerdown", on_down);
  stage.addEventListener("pointermove", on_move);
  for (const type of /** @type {const} */ (["pointerup", "pointercancel"])) stage.addEventListener(type, ({ pointerId }) => pointers.delete(pointerId));
  stage.addEventListener("dblclick", (event) => toggle_fit(event));
  dialog.addEventListener("keydown", on_key);
  dialog.addEventListener("close", () => {
    // The addresses stay the gallery's.
    image.removeAttribute("src");
    drop_before();
    shown?.card.querySelector("button")?.focus();
  });
  addEventListener("resize", () => dialog.open && place());
}

/** Shows a picture large. @param {Item} item */
export function look_at(item) {
  compare(false);
  show(item);
  show_dialog(dialog);
  place();
}

/** Shows the neighbour of a picture that is gone, or closes. @param {Item} gone @param {Item | undefined} next */
export function viewer_lost(gone, next) {
  if (!dialog.open || shown !== gone) return;
  if (next) show(next);
  else dialog.close();
}

/** @param {Item} item */
function show(item) {
  shown = item;
  const { prompt = "" } = item.picture.parameters;
  image.src = item.url;
  image.alt = prompt;
  element("viewer-prompt").textContent = prompt || text.no_prompt;
  fill_list(element("viewer-parameters"), source.rows(item));
  element("viewer-actions").replaceChildren(...source.actions(item));
  const all = source.items();
  const at = all.indexOf(item);
  element("viewer-place").textContent = `${at + 1} / ${all.length}`;
  element("viewer-previous").disabled = at <= 0;
  element("viewer-next").disabled = at >= all.length - 1;
  element("viewer-compare").disabled = all.length < 2 && !item.picture.source;
  if (!other.hidden) fill_others();
  fit();
}

/** @param {number} by */
function step(by) {
  const all = source.items();
  const next = shown && all[all.indexOf(shown) + by];
  if (next) show(next);
}

/** The picture at full size, on the screen: how many screen pixels one of its pixels has at scale 1. */
function fit_scale() {
  const { width, height } = stage.getBoundingClientRect();
  return Math.min(width / (image.naturalWidth || 1), height / (image.naturalHeight || 1));
}

function fit() {
  view = { scale: 1, x: 0, y: 0 };
  place();
}

/** Between the whole picture and its actual size. @param {MouseEvent} [event] */
function toggle_fit(event) {
  if (Math.abs(view.scale - 1) > 0.001) {
    fit();
    return;
  }
  const actual = 1 / fit_scale() / devicePixelRatio;
  // A picture that is smaller than the window is enlarged instead.
  zoom_by(actual > 1.05 ? actual : 2, event);
}

/**
 * Zooms, with what is below the pointer staying there.
 * @param {number} factor
 * @param {{clientX: number, clientY: number}} [at] the middle where nothing is said
 */
function zoom_by(factor, at) {
  const box = stage.getBoundingClientRect();
  const x = at?.clientX ? at.clientX - box.left : box.width / 2;
  const y = at?.clientY ? at.clientY - box.top : box.height / 2;
  const scale = Math.min(MAX_ZOOM, Math.max(1, view.scale * factor));
  const by = scale / view.scale;
  view = { scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
  place();
}

/** Brings both pictures where the view is, and the split where the slider is. */
function place() {
  const { width, height } = stage.getBoundingClientRect();
  view.x = Math.min(0, Math.max(width - width * view.scale, view.x));
  view.y = Math.min(0, Math.max(height - height * view.scale, view.y));
  for (const each of [image, other]) each.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  stage.dataset.sharp = String(view.scale > 1 && fit_scale() * view.scale >= SHARP_FROM);
  // The clip is in the picture's own coordinates, before it is zoomed.
  const at = ((split.valueAsNumber / 100) * width - view.x) / view.scale;
  other.style.clipPath = `inset(0 0 0 ${at}px)`;
  element("zoom-fit").textContent = view.scale === 1 ? text.fit : `${Math.round(fit_scale() * view.scale * devicePixelRatio * 100)} %`;
}

/** @param {WheelEvent} event */
function on_wheel(event) {
  event.preventDefault();
  zoom_by(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event);
}

/** @param {PointerEvent} event */
function on_down(event) {
  if (event.target === split || event.button !== 0) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
}

/** @param {PointerEvent} event */
function on_move(event) {
  const last = pointers.get(event.pointerId);
  if (!last) return;
  const now = { x: event.clientX, y: event.clientY };
  const rest = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  if (rest) {
    const distance = (/** @type {{x: number, y: number}} */ a) => Math.hypot(a.x - rest.x, a.y - rest.y) || 1;
    zoom_by(distance(now) / distance(last), { clientX: (now.x + rest.x) / 2, clientY: (now.y + rest.y) / 2 });
  } else {
    view = { ...view, x: view.x + now.x - last.x, y: view.y + now.y - last.y };
    place();
  }
  pointers.set(event.pointerId, now);
}

/** @param {KeyboardEvent} event */
function on_key(event) {
  if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  /** @type {Record<string, () => void>} */
  const keys = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    "+": () => zoom_by(ZOOM_STEP),
    "=": () => zoom_by(ZOOM_STEP),
    "-": () => zoom_by(1 / ZOOM_STEP),
    0: toggle_fit,
    c: () => compare(Boolean(other.hidden)),
    Delete: () => shown && source.remove(shown),
  };
  const act = keys[event.key] ?? keys[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
}

/** @param {boolean} is_on */
function compare(is_on) {
  if (is_on && element("viewer-compare").disabled) return;
  for (const each of [other, split, element("viewer-with"), element("viewer-names")]) each.hidden = !is_on;
  element("viewer-compare").setAttribute("aria-pressed", String(is_on));
  if (is_on) fill_others();
  else drop_before();
}

/** What the picture can be compared with: what it was made from, and the others. */
function fill_others() {
  if (!shown) return;
  const all = source.items();
  const at = all.indexOf(shown);
  const options = shown.picture.source ? [new Option(text.source_image, "source")] : [];
  // The neighbours first.
  const near = all.filter((item) => item !== shown).sort((a, b) => Math.abs(all.indexOf(a) - at) - Math.abs(all.indexOf(b) - at) || all.indexOf(b) - all.indexOf(a));
  for (const item of near.slice(0, 40)) {
    const { prompt = "", seed } = item.picture.parameters;
    options.push(new Option(`${prompt.slice(0, 40)} · ${seed}`, String(all.indexOf(item))));
  }
  element("viewer-with").replaceChildren(...options);
  show_other();
}

function drop_before() {
  if (before_url) URL.revokeObjectURL(before_url);
  before_url = null;
  other.removeAttribute("src");
}

function show_other() {
  drop_before();
  const { value, selectedOptions } = element("viewer-with");
  const item = source.items()[Number(value)];
  if (value === "source" && shown?.picture.source) before_url = URL.createObjectURL(shown.picture.source);
  other.src = before_url ?? item?.url ?? "";
  element("viewer-names").textContent = text.compared(selectedOptions[0]?.textContent ?? "");
  place();
}
