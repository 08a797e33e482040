// Darkroom's own contender: one component of a model on one runner, in a thread of its own.

import init, { Bench, check, plan, versions } from "../pkg/darkroom.js";
import { calls_since, count_gpu_calls } from "./gpu_calls.js";
import { answer_calls } from "./remote.js";

const gpu_calls = count_gpu_calls();
// Not awaited here: a message that comes while a module still runs is lost.
const ready = init();

/** @type {Bench | undefined} */
let bench;

function loaded() {
  if (!bench) throw new Error("nothing is loaded: load a component first");
  return bench;
}

/** What the page can call. @typedef {typeof functions} BenchFunctions */

const functions = {
  async check() {
    await ready;
    return check();
  },

  async versions() {
    await ready;
    return versions();
  },

  /**
   * @param {import("../pkg/darkroom.js").PlanRequest} request
   * @param {import("../pkg/darkroom.js").Caps} caps
   */
  async plan(request, caps) {
    await ready;
    return plan(request, caps);
  },

  async version() {
    await ready;
    return Bench.version();
  },

  /**
   * Loads a component; gives the seconds and what was asked of WebGPU.
   * @param {import("../pkg/darkroom.js").BenchSettings} settings
   * @param {Uint8Array} [weights]
   * @param {Record<string, Float32Array>} [inputs]
   */
  async load(settings, weights, inputs) {
    await ready;
    const [start, before] = [performance.now(), gpu_calls()];
    bench = await Bench.load(settings, weights, inputs);
    const secs = (performance.now() - start) / 1000;
    return { secs, calls: calls_since(gpu_calls(), before), flops: bench.flops, device: bench.device };
  },

  /** One run, until the device is done. */
  async run() {
    const before = gpu_calls();
    const run = await loaded().run();
    return { ...run, calls: calls_since(gpu_calls(), before) };
  },

  result: () => loaded().result(),
  profile: () => loaded().profile(),
  tiles: () => loaded().tiles(),

  /** Bytes of the wasm's memory, which never shrinks. */
  heap: async () => (await ready).memory.buffer.byteLength,
};

answer_calls(functions);
