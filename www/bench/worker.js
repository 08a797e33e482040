// Darkroom's own contender: one component of a model on one runner, in a thread of its own.

import init, { Bench, check, plan, versions } from "../pkg/darkroom.js";
import { calls_since, count_gpu_calls } from "./gpu_calls.js";
import { answer_calls } from "./remote.js";

const gpu_calls = count_gpu_calls();
// Not awaited here: a message that comes while a module still runs is lost.
const ready = init();

/** @type {import("../pkg/darkroom.js").Bench | undefined} */
let bench;

answer_calls({
  async check() {
    await ready;
    return check();
  },

  async versions() {
    await ready;
    return versions();
  },

  async plan(request, caps) {
    await ready;
    return plan(request, caps);
  },

  async version() {
    await ready;
    return Bench.version();
  },

  /** Loads a component; gives the seconds and what was asked of WebGPU. */
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
    const run = await bench.run();
    return { ...run, calls: calls_since(gpu_calls(), before) };
  },

  result: () => bench.result(),
  profile: () => bench.profile(),
  tiles: () => bench.tiles(),

  /** Bytes of the wasm's memory, which never shrinks. */
  heap: async () => (await ready).memory.buffer.byteLength,
});
