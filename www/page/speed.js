// How fast this machine draws, in floating-point operations a second: remembered after each drawing and benchmark, by model, device and
// type of weights. A model that has not drawn here yet is taken to be as fast as others on the same device; where nothing is known,
// nothing is said.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { read, write } from "./memory.js";

/** Where it is kept between visits. */
const SPEED_KEY = "darkroom.speed";
/** Under this name in place of a model's the benchmark page keeps what it found. */
export const BENCHMARK = "benchmark";

/** What draws: a model by its repository, on a device, with weights of a type. @typedef {{repository: string, device: string, weights?: string}} Drawer */

/** @param {Drawer} drawer */
const name_of = ({ repository, device, weights }) => `${repository} by ${device}${weights ? ` in ${weights}` : ""}`;

/** @param {Drawer} drawer @param {number} flops done @param {number} seconds that it took */
export function remember_speed(drawer, flops, seconds) {
  if (flops > 0 && seconds > 0) write(SPEED_KEY, { ...read(SPEED_KEY), [name_of(drawer)]: flops / seconds });
}

/**
 * Of other models on the same device the middle one.
 * @param {string} device
 */
function speed_of_device(device) {
  const known = Object.entries(read(SPEED_KEY)).flatMap(([name, speed]) => {
    const [repository, drawn_by = ""] = name.split(" by ");
    const is_same = drawn_by === device || drawn_by.startsWith(`${device} in `);
    // The layers of the model that comes with the page are so small that they keep no GPU busy.
    const is_telling = repository !== EMBEDDED_REPOSITORY || !device.startsWith("gpu");
    return is_same && is_telling && Number(speed) > 0 ? [Number(speed)] : [];
  });
  return known.sort((a, b) => a - b)[known.length >> 1] ?? Number.NaN;
}

/** How long a loaded model takes for so much work; NaN where that is not known. @param {Drawer} drawer @param {number} flops */
export function seconds_for(drawer, flops) {
  const own = Number(read(SPEED_KEY)[name_of(drawer)]);
  return flops / (own > 0 ? own : speed_of_device(drawer.device));
}

/**
 * How long one image of a planned model takes on a device, with so many steps; NaN where that is not known, or no device is.
 * @param {import("../protocol.js").Plan} plan
 * @param {number} steps
 * @param {string | undefined} device
 */
export function seconds_of_plan({ phases }, steps, device) {
  // The phase is each step after the first.
  const flops = phases.reduce((sum, phase) => sum + phase.flops * (phase.name === "step" ? steps - 1 : 1), 0);
  return device === undefined ? Number.NaN : flops / speed_of_device(device);
}
