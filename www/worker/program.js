// Which module of the wasm computes: the one with one thread, or, where the processor draws on an isolated page, the one with
// a thread for each core. Both have the same functions, and objects of one are invalid in the other. A module that was loaded stays,
// with its memory and its threads, which wait without computing.

import * as one_thread from "../pkg/darkroom.js";
import { threads_module } from "../pkg/threads.js";
import { message_of } from "../errors.js";
import { fetched } from "./fetched.js";
import { ask_for_subgroups } from "./subgroups.js";
import { load_wasm } from "./wasm.js";

/** @typedef {typeof one_thread} Program */
/** @typedef {import("../pkg/darkroom.js").InitOutput} InitOutput */
/** @typedef {{start_threads: (n: number) => void, shared_memory: () => WebAssembly.Memory}} Threads what the second module has besides */

/** More than this help little, and each takes memory. */
const MAX_THREADS = 16;
/** How long a thread may take to start. */
const START_MS = 30_000;

/** @type {Program} */
let current = one_thread;
/** @type {Promise<InitOutput> | undefined} */
let with_one_thread;
/** @type {Promise<Program> | undefined} */
let with_threads;
/** Why threads did not start, where they did not. @type {string | null} */
let failed = null;

/** Where the module with one thread is, where not beside its JavaScript. @type {string | undefined} */
let address_of_one_thread;
/** On which threads tell that they failed. @type {string | undefined} */
let channel_of_failures;

ask_for_subgroups();

/** The module that computes. */
export const program = () => current;

/** How many threads the processor draws with on this page, and where it is one, why. */
export function threads() {
  const one_thread_because = failed ?? obstacle_to_threads();
  return { n_threads: one_thread_because === null ? number_of_threads() : 1, one_thread_because };
}

/** How many threads the module in use has. */
export const threads_in_use = () => (current === one_thread ? 1 : number_of_threads());

/**
 * What a device is called that the module in use computes on: threads are part of it, and how fast it was is kept under that name.
 * @param {import("../protocol.js").RunnerName} runner
 * @param {string} device
 */
export function name_of_device(runner, device) {
  const n = runner === "cpu" ? threads_in_use() : 1;
  return n > 1 ? `${device}, ${n} threads` : device;
}

/** The memory of the module in use, which never shrinks, in bytes. */
export async function memory_bytes() {
  const memory = current === one_thread ? (await with_one_thread)?.memory : /** @type {Program & Threads} */ (current).shared_memory();
  return memory?.buffer.byteLength ?? 0;
}

/**
 * Loads the module that this page will most likely draw with: the processor's where no GPU is given to it.
 * @param {{address: string | undefined, failures: string | undefined}} where
 */
export async function open_program({ address, failures }) {
  [address_of_one_thread, channel_of_failures] = [address, failures];
  const is_for_cpu = threads().one_thread_because === null && !(await has_gpu());
  await use_program(is_for_cpu ? "cpu" : "gpu");
}

/**
 * Takes the module that is for a runner, unless what the other one does has to go on there. What it made stays valid.
 * @param {import("../protocol.js").RunnerName} runner
 * @param {() => boolean} [is_busy]
 */
export async function use_program(runner, is_busy = () => false) {
  if (is_busy()) return;
  const loaded = runner === "cpu" ? await load_threads() : null;
  if (!loaded) await (with_one_thread ??= load_wasm(address_of_one_thread));
  if (!is_busy()) current = loaded ?? one_thread;
}

/** The module with threads; null where there can be none. */
async function load_threads() {
  if (threads().one_thread_because !== null) return null;
  try {
    return await (with_threads ??= start_threads(number_of_threads()));
  } catch (error) {
    failed = `the threads did not start (${message_of(error)})`;
    return null;
  }
}

const number_of_threads = () => Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);

/** What keeps this page from threads, in words; null for nothing. */
function obstacle_to_threads() {
  if (!globalThis.crossOriginIsolated)
    return "this page is not cross-origin isolated: its server does not send the headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy";
  if (threads_module === null) return "this copy of the page was built without threads";
  if (number_of_threads() < 2) return "the processor has one core";
  return null;
}

/** Whether this page gets a hardware GPU. */
async function has_gpu() {
  // Browsers without WebGPU have none of it.
  const gpu = /** @type {{gpu?: {requestAdapter(options: object): Promise<any>}}} */ (navigator).gpu;
  try {
    const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" });
    return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
  } catch {
    return false;
  }
}

/** @param {number} n */
async function start_threads(n) {
  // Not spelled as bundlers look for it: they would take every file that the pattern could mean along.
  const here = import.meta.url;
  const [script, wasm] = [`../${threads_module}.js`, `../${threads_module}_bg.wasm`].map((path) => new URL(path, here).href);
  const [imported, compiled] = await Promise.all([import(/* webpackIgnore: true */ /* @vite-ignore */ script), compile(wasm)]);
  const module = /** @type {Program & Threads} */ (imported);
  await module.default({ module_or_path: compiled });
  const memory = module.shared_memory();
  /** @type {Worker[]} */
  const workers = [];
  try {
    await Promise.all(Array.from({ length: n - 1 }, () => start_worker(workers, { script, compiled, memory, failures: channel_of_failures })));
    module.start_threads(n);
  } catch (error) {
    for (const worker of workers) worker.terminate();
    throw error;
  }
  return module;
}

/** @param {string} address */
async function compile(address) {
  const response = await fetched(address, "worker");
  // Some hosts do not know the type, and browsers insist on it.
  const is_told = response.headers.get("Content-Type") === "application/wasm";
  return is_told ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

/**
 * Starts a worker that waits for its part of the pool.
 * @param {Worker[]} workers gets it, ready or not
 * @param {{script: string, compiled: WebAssembly.Module, memory: WebAssembly.Memory, failures: string | undefined}} given `failures` is the channel
 *   on which a thread tells whoever listens that it failed while the worker here waits for it
 */
function start_worker(workers, given) {
  const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module" });
  workers.push(worker);
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("a worker did not start in time")), START_MS);
    worker.addEventListener("message", ({ data: failed }) => {
      clearTimeout(late);
      if (failed === null) resolve(undefined);
      else reject(new Error(failed));
    });
    worker.addEventListener("error", (event) => {
      clearTimeout(late);
      reject(new Error(event.message || "a worker could not be loaded"));
    });
    worker.postMessage(given);
  });
}
