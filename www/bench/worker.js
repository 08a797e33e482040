// Darkroom's own contender: one component of a model on one runner, in a thread of its own.

import { memory_bytes, name_of_device, program, threads_in_use, use_program } from "../worker/program.js";
import { calls_since, count_gpu_calls } from "./gpu_calls.js";
import { answer_calls } from "./remote.js";

/** @typedef {import("../pkg/darkroom.js").Bench} Bench */

const gpu_calls = count_gpu_calls();
// Not awaited here: a message that comes while a module still runs is lost.
const ready = use_program("gpu");
/** Whether the processor is timed with one thread, whatever the page may have. */
const only_one_thread = new URL(import.meta.url).searchParams.has("one-thread");

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
    return program().check();
  },

  async versions() {
    await ready;
    return program().versions();
  },

  /**
   * @param {import("../pkg/darkroom.js").PlanRequest} request
   * @param {import("../pkg/darkroom.js").Caps} caps
   */
  async plan(request, caps) {
    await ready;
    return program().plan(request, caps);
  },

  async version() {
    await ready;
    return program().Bench.version();
  },

  /**
   * Loads a component; gives the seconds and what was asked of WebGPU.
   * @param {import("../pkg/darkroom.js").BenchSettings} settings
   * @param {Uint8Array} [weights]
   * @param {Record<string, Float32Array>} [inputs]
   */
  async load(settings, weights, inputs) {
    await ready;
    if (settings.runner === "cpu" && !only_one_thread) await use_program("cpu");
    const [start, before] = [performance.now(), gpu_calls()];
    bench = await program().Bench.load(settings, weights, inputs);
    const secs = (performance.now() - start) / 1000;
    return { secs, calls: calls_since(gpu_calls(), before), flops: bench.flops, device: name_of_device(settings.runner, bench.device), n_threads: threads_in_use() };
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
  heap: memory_bytes,
};

answer_calls(functions);
