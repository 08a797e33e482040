// A grid over two settings, as AUTOMATIC1111's X/Y plot: its panel, its pictures, which are queued like others, and the sheet that is
// assembled once the last one is done.

import { all } from "./album.js";
import { estimated_seconds, next_request } from "./check.js";
import { element, make, part } from "./elements.js";
import { add_picture } from "./gallery.js";
import { settings } from "./grid_axes.js";
import { MAX_PIXELS, MAX_SIDE, grid_file, size_of_grid } from "./grid_sheet.js";
import { remember_prompt } from "./history.js";
import { read, write } from "./memory.js";
import { message_of } from "./messages.js";
import { announce, notify } from "./notices.js";
import { show_panel } from "./panel.js";
import { request } from "./request.js";
import { put_on_stage, show_bitmap, stage_is } from "./stage.js";
import { given, picture_and_mask } from "./start_picture.js";
import { text } from "./texts.js";
import { draw, is_busy } from "./tray.js";
import { look_at } from "./viewer.js";
import { wildcards } from "./wildcards.js";
import { sentence } from "./words.js";

/** @typedef {import("./grid_axes.js").Value} Value */
/** @typedef {import("./grid_axes.js").Request} Request */
/** @typedef {import("./gallery.js").Item} Item */

/** Where it is kept between visits what was chosen. */
const GRID_KEY = "darkroom.grid";
/** So many pictures a grid has at most. */
const MAX_CELLS = 100;

/** An axis as the panel has it. @typedef {{menu: HTMLSelectElement, list: HTMLTextAreaElement, fault: HTMLElement, all: HTMLElement}} Axis */

/**
 * A picture of a grid, as the queue keeps it: which grid, which of its pictures, and what makes the sheet.
 * @typedef {object} Cell
 * @property {string} grid
 * @property {number} i its place, in rows
 * @property {number} n how many there are
 * @property {import("./grid_sheet.js").Grid} sheet
 * @property {number} width of a cell
 * @property {number} height of a cell
 */

/** What the page gives. @typedef {{is_ready: () => Promise<boolean>, refused: (error: unknown) => void}} Page */

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
/** @type {Page} */
let page;
/** @type {{x: Axis, y: Axis}} */
let axes;
/** @type {HTMLElement} */
let sum;
/** @type {HTMLButtonElement} */
let start;
/** @type {HTMLButtonElement} */
let cancel;
/** Cancels the grid that is being made. @type {AbortController | null} */
let running = null;
let is_asking = false;

/** @param {import("../darkroom.js").Darkroom} of_program @param {Page} of_page */
export function open_grid(of_program, of_page) {
  darkroom = of_program;
  page = of_page;
  axes = { x: make_axis("x"), y: make_axis("y") };
  sum = make("p", { class: "quiet", id: "grid-sum" });
  start = make("button", { type: "button", class: "plain strong", id: "grid-start", onclick: run }, text.grid.generate);
  cancel = make("button", { type: "button", class: "plain", hidden: true, onclick: () => running?.abort() }, text.grid.cancel);
  const hint = make("p", { class: "quiet", id: "grid-hint" }, text.grid.hint);
  const section = make("details", { class: "section", id: "grid" }, make("summary", {}, text.grid.title), make("div", { class: "grid-panel" }, ...rows(), hint, sum, make("div", { class: "row" }, start, cancel)));
  element("advanced").after(section);
  const kept = read(GRID_KEY);
  fill_menus(kept);
  for (const which of /** @type {const} */ (["x", "y"])) axes[which].list.value = typeof kept[which] === "string" ? kept[which] : "";
  section.addEventListener("toggle", () => {
    fill_menus();
    show();
  });
  section.addEventListener("focusin", () => fill_menus());
  // The form's own fields change what a grid is, as much as these do.
  element("request").addEventListener("input", () => section.open && show());
}

/** @param {"x" | "y"} which @returns {Axis} */
function make_axis(which) {
  const menu = make("select", { id: `grid-${which}-type`, onchange: () => choose(which) });
  const list = make("textarea", { id: `grid-${which}`, rows: 1, dir: "auto", autocapitalize: "off", spellcheck: false, "aria-label": text.grid.values[which], "aria-describedby": `grid-${which}-fault grid-hint` });
  const fault = make("p", { class: "fault", id: `grid-${which}-fault`, hidden: true });
  const fill_all = () => {
    list.value = setting_of(axes[which])?.all?.() ?? "";
    list.dispatchEvent(new Event("input", { bubbles: true }));
  };
  return { menu, list, fault, all: make("button", { type: "button", class: "plain small", hidden: true, onclick: fill_all }, text.grid.all) };
}

const rows = () =>
  /** @type {const} */ (["x", "y"]).flatMap((which) => {
    const { menu, list, fault, all } = axes[which];
    return [make("div", { class: "field" }, make("div", { class: "label-row" }, make("label", { htmlFor: menu.id }, text.grid.axis[which]), all), menu, list, fault)];
  });

/** @param {"x" | "y"} which */
function choose(which) {
  axes[which].list.value = "";
  show();
}

/** The settings that there are now; what was chosen stays, as far as it is there. @param {Record<string, unknown>} [kept] */
function fill_menus(kept) {
  const known = settings();
  for (const which of /** @type {const} */ (["x", "y"])) {
    const { menu } = axes[which];
    const wanted = kept ? String(kept[`${which}_type`] ?? (which === "x" ? "seed" : "")) : menu.value;
    const options = [...(which === "y" ? [["", text.grid.none]] : []), ...known.map(({ key, name }) => [key, name])];
    const is_same = options.length === menu.options.length && options.every(([key], i) => menu.options[i]?.value === key);
    if (!is_same) menu.replaceChildren(...options.map(([key, name]) => new Option(name, key)));
    menu.value = options.some(([key]) => key === wanted) ? wanted : (options[0]?.[0] ?? "");
  }
}

/** @param {Axis} axis */
const setting_of = ({ menu }) => settings().find(({ key }) => key === menu.value);

/**
 * The values of an axis; null where something is wrong, which is said there.
 * @param {Axis} axis
 * @param {Request} base
 * @returns {Value[] | null}
 */
function values_of(axis, base) {
  const setting = setting_of(axis);
  say(axis, "");
  if (!setting && axis === axes.y) return [];
  try {
    const values = setting ? setting.values(axis.list.value, base) : [];
    if (values.length === 0) throw new Error(text.grid.no_values);
    return values;
  } catch (error) {
    say(axis, message_of(error));
    return null;
  }
}

/** @param {Axis} axis @param {string} wrong nothing where all is well */
function say({ list, fault }, wrong) {
  list.setAttribute("aria-invalid", String(wrong !== ""));
  fault.hidden = wrong === "";
  fault.textContent = wrong === "" ? "" : sentence(wrong);
}

/** What the panel describes. @typedef {{x: Value[], y: Value[], sheet: import("./grid_sheet.js").Grid}} Plan */

/**
 * What the panel describes; null where something is wrong, which is said.
 * @param {Request} base
 * @returns {Plan | null}
 */
function plan(base) {
  const [x, y] = [values_of(axes.x, base), values_of(axes.y, base)];
  sum.textContent = "";
  if (!x || !y) return null;
  const told = (/** @type {Axis} */ axis, /** @type {Value[]} */ values) => {
    const { name = "", is_named = false } = setting_of(axis) ?? {};
    return { setting: name, values: values.map(({ said }) => said), is_named };
  };
  const sheet = { x: told(axes.x, x), ...(y.length > 0 ? { y: told(axes.y, y) } : {}) };
  const n = x.length * Math.max(1, y.length);
  const { width, height } = size_of_grid(sheet, base.width, base.height);
  const is_same = y.length > 0 && axes.x.menu.value === axes.y.menu.value;
  const too_large = n > MAX_CELLS ? text.grid.too_many(n, MAX_CELLS) : Math.max(width, height) > MAX_SIDE || width * height > MAX_PIXELS ? text.grid.too_large(width, height, MAX_SIDE, MAX_PIXELS / 1e6) : "";
  if (is_same || too_large) {
    say(is_same || y.length > 1 ? axes.y : axes.x, is_same ? text.grid.same_axes : too_large);
    return null;
  }
  sum.textContent = text.grid.sum(x.length, Math.max(1, y.length), Number.isFinite(width) ? width : 0, Number.isFinite(height) ? height : 0);
  return { x, y, sheet };
}

/** Shows what the panel describes, and what is wrong with it once something is written there. */
function show() {
  for (const axis of [axes.x, axes.y]) {
    const setting = setting_of(axis);
    axis.list.hidden = !setting;
    axis.list.placeholder = setting?.example ?? "";
    axis.all.hidden = setting?.all === undefined;
  }
  write(GRID_KEY, { x_type: axes.x.menu.value, x: axes.x.list.value, y_type: axes.y.menu.value, y: axes.y.list.value });
  plan(request());
  // Nothing is wrong where nothing was written yet.
  for (const axis of [axes.x, axes.y]) if (axis.list.value.trim() === "") say(axis, "");
}

/** Puts the focus where something is wrong, and says it. */
function go_to_fault() {
  const axis = axes.x.fault.hidden ? axes.y : axes.x;
  axis.list.focus();
  announce(axis.fault.textContent ?? "");
}

/** Asks the model about each value, so that nothing is queued that fails later. @param {Plan} planned @param {Request} base */
async function is_possible({ x, y }, base) {
  for (const [axis, values] of /** @type {const} */ ([[axes.x, x], [axes.y, y]])) {
    for (const { apply, said } of values) {
      try {
        await darkroom.work({ ...apply(base), count: 1 }, { ...given(), wildcards: wildcards() });
      } catch (error) {
        say(axis, `${said}: ${message_of(error)}`);
        return false;
      }
    }
  }
  return true;
}

async function run() {
  if (running || is_asking) return;
  is_asking = true;
  try {
    if (!(await page.is_ready())) return;
    const planned = plan(request());
    if (!planned || !(await is_possible(planned, request()))) {
      go_to_fault();
      return;
    }
    const base = await next_request();
    // It may have been changed while it was checked.
    const final = base && plan(/** @type {Request} */ (base));
    if (base && final) await make_grid(/** @type {Request} */ (base), final);
  } finally {
    is_asking = false;
  }
}

/** Queues the pictures of a grid, and makes the sheet of them. @param {Request} base @param {Plan} planned */
async function make_grid(base, { x, y, sheet }) {
  const pictures = { ...picture_and_mask(), wildcards: wildcards() };
  const controller = new AbortController();
  running = controller;
  show_running();
  remember_prompt(base);
  show_panel(false);
  // Pages that are not secure have no `randomUUID`.
  const grid = [...crypto.getRandomValues(new Uint32Array(4))].map((word) => word.toString(36)).join("");
  /** @type {(Item | undefined)[]} */
  const cells = [];
  const refused = (/** @type {unknown} */ error) => {
    // What fails once fails for all of them, most of the time.
    if (!controller.signal.aborted) page.refused(error);
    controller.abort();
  };
  const requests = (y.length > 0 ? y : [{ apply: (/** @type {Request} */ same) => same }]).flatMap((down) => x.map((across) => ({ ...down.apply(across.apply(base)), count: 1 })));
  is_asking = false;
  try {
    await Promise.all(
      requests.map((asked, i) => {
        const { signal } = controller;
        const cell = { grid, i, n: requests.length, sheet, width: base.width, height: base.height };
        return draw(asked, pictures, refused, { seconds: estimated_seconds(), signal, cell, on_kept: (item) => (cells[i] = item) });
      }),
    );
  } finally {
    running = null;
    show_running();
  }
  await make_sheet({ n: requests.length, sheet, width: base.width, height: base.height }, cells.flatMap((item) => item?.picture ?? []));
}

/**
 * Makes the sheet of a grid, unless pictures of it are missing, which is said then.
 * @param {Pick<Cell, "n" | "sheet" | "width" | "height">} grid
 * @param {import("./album.js").Kept[]} made
 */
async function make_sheet({ n, sheet, width, height }, made) {
  if (made.length < n) {
    notify("info", text.grid.not_made(made.length, n));
    return;
  }
  try {
    const png = await grid_file(sheet, made.map((picture) => picture.png), width, height);
    const parameters = await darkroom.read_parameters(png);
    if (!parameters) throw new Error(text.unwritten_parameters);
    const item = await add_picture({ png, parameters, seconds: made.reduce((sum, { seconds }) => sum + seconds, 0), made_at: Date.now(), grid: sheet });
    if (!is_busy()) {
      show_bitmap(await createImageBitmap(png), `${text.grid.title}: ${parameters.prompt}`);
      put_on_stage(item);
      stage_is("done");
    }
    notify("info", text.grid.made(sheet.x.setting, sheet.y?.setting ?? ""), { [text.grid.open]: () => look_at(item) });
  } catch (error) {
    notify("error", text.grid.failed(message_of(error)));
  }
}

/**
 * Makes the sheets of grids that were cut when the page was left, once what was missing of them is drawn.
 * @param {{cell: Cell, drawn: Promise<void>}[]} resumed
 */
export async function finish_grids(resumed) {
  for (const grid of new Set(resumed.map(({ cell }) => cell.grid))) {
    const cells = resumed.filter(({ cell }) => cell.grid === grid);
    await Promise.all(cells.map(({ drawn }) => drawn));
    // One that was drawn just before the page was left may have been drawn again.
    const made = new Map((await all()).flatMap((picture) => (picture.cell?.grid === grid ? [[picture.cell.i, picture]] : [])));
    await make_sheet(/** @type {Cell} */ (cells[0]?.cell), [...made].sort(([a], [b]) => a - b).map(([, picture]) => picture));
  }
}

function show_running() {
  const had_focus = document.activeElement === cancel || document.activeElement === start;
  start.hidden = running !== null;
  cancel.hidden = running === null;
  if (had_focus) (running ? cancel : start).focus();
  part(document, "#grid summary", HTMLElement).dataset.running = String(running !== null);
}
