// The settings that everybody uses, as chips: shape, quality, and a seed with dice and lock. They set the fields under Advanced.

import { element } from "./elements.js";
import { next_seed, next_seed_is, random_seed } from "./seed.js";
import { text } from "./texts.js";

/** @typedef {import("../protocol.js").LoadedModel} LoadedModel */
/** What a chip sets. @typedef {{width?: number, height?: number, steps?: number, seed?: string}} Choice */

/** How many steps a quality has, of the model's own number. */
const QUALITIES = /** @type {const} */ ({ draft: 0.6, good: 1, best: 1.75 });

/** @type {LoadedModel | null} */
let model = null;
/** Puts values into the fields. @type {(choice: Choice) => void} */
let choose = () => {};
/** Whether sides may be any multiple of 8. */
let is_any_size = () => false;

/**
 * @param {(choice: Choice) => void} on_choice
 * @param {() => boolean} any_size
 */
export function open_simple(on_choice, any_size) {
  choose = on_choice;
  is_any_size = any_size;
  for (const chip of chips("shapes", "shape")) {
    chip.addEventListener("click", () => model && choose(size_of_shape(ratio_of(chip.dataset.shape), model)));
  }
  for (const chip of chips("qualities", "quality")) {
    chip.addEventListener("click", () => model && choose({ steps: steps_of(chip.dataset.quality, model) }));
  }
  element("swap-sides").addEventListener("click", () => choose({ width: element("height").valueAsNumber, height: element("width").valueAsNumber }));
  element("seed-dice").addEventListener("click", () => {
    next_seed_is("random");
    choose({ seed: random_seed() });
  });
  element("seed-lock").addEventListener("click", () => {
    next_seed_is(is_locked() ? "random" : "keep");
    choose({});
  });
}

const is_locked = () => next_seed() === "keep";

/** @param {"shapes" | "qualities"} id @param {string} kind */
const chips = (id, kind) => [...element(id).querySelectorAll(`[data-${kind}]`)].filter((chip) => chip instanceof HTMLElement);

/** @param {string | undefined} shape such as `3:2` */
function ratio_of(shape = "1:1") {
  const [across = 1, down = 1] = shape.split(":").map(Number);
  return across / down;
}

/**
 * The size of a shape that a model draws best: about as many pixels as its own size, in multiples that it takes.
 * @param {number} ratio
 * @param {Pick<LoadedModel, "width" | "height" | "size_multiple" | "max_side">} own
 */
export function size_of_shape(ratio, own, multiple = is_any_size() ? Math.min(8, own.size_multiple) : own.size_multiple) {
  const area = own.width * own.height;
  let best = { width: own.width, height: own.height };
  let least = Infinity;
  for (let width = multiple; width <= own.max_side; width += multiple) {
    for (const round of [Math.floor, Math.ceil]) {
      const height = Math.min(own.max_side, Math.max(multiple, multiple * round(width / ratio / multiple)));
      // A wrong shape is worse than a few pixels more or less.
      const off = 2 * Math.abs(Math.log(width / height / ratio)) + Math.abs(Math.log((width * height) / area));
      if (off < least) [least, best] = [off, { width, height }];
    }
  }
  return best;
}

/** @param {string | undefined} quality @param {LoadedModel} own */
function steps_of(quality, { steps, max_steps }) {
  const factor = QUALITIES[/** @type {keyof typeof QUALITIES} */ (quality)] ?? 1;
  // Models of one step take a few more, too.
  const wanted = factor > 1 ? Math.max(steps + 1, Math.round(steps * factor)) : Math.max(1, Math.round(steps * factor));
  return Math.min(max_steps, wanted);
}

/** @param {LoadedModel | null} loaded */
export function simple_for(loaded) {
  model = loaded;
  show_simple();
}

/** Shows which chips the fields are. */
export function show_simple() {
  const [width, height, steps] = [element("width"), element("height"), element("steps")].map((field) => field.valueAsNumber);
  element("shape-size").textContent = width > 0 && height > 0 ? `${width} × ${height}` : "";
  element("quality-steps").textContent = steps > 0 ? text.steps(steps) : "";
  const lock = is_locked();
  element("seed-lock").setAttribute("aria-pressed", String(lock));
  element("seed").toggleAttribute("data-random", next_seed() === "random");
  const loaded = model;
  if (!loaded) return;
  const shapes = chips("shapes", "shape").map((chip) => ({ chip, ratio: ratio_of(chip.dataset.shape), ...size_of_shape(ratio_of(chip.dataset.shape), loaded) }));
  // Small models have one size for several shapes: the closest is theirs.
  const off = (/** @type {{ratio: number}} */ { ratio }) => Math.abs(Math.log(width / height / ratio));
  const [shape] = shapes.filter((each) => each.width === width && each.height === height).sort((a, b) => off(a) - off(b));
  for (const each of shapes) {
    each.chip.setAttribute("aria-pressed", String(each === shape));
    each.chip.title = `${each.width} × ${each.height}`;
  }
  const qualities = chips("qualities", "quality");
  const fitting = qualities.filter((chip) => steps_of(chip.dataset.quality, loaded) === steps);
  // The draft of a model of one step is its good.
  const chosen = fitting.find((chip) => chip.dataset.quality === "good") ?? fitting[0];
  for (const chip of qualities) {
    chip.setAttribute("aria-pressed", String(chip === chosen));
    chip.title = text.steps(steps_of(chip.dataset.quality, loaded));
  }
}
