// onnxruntime-web as a contender, in a thread of its own, with the same functions as Darkroom's own worker.
//
// Served beside the page by benches/browser.rs: the page's folder, and the package's `dist` under `dist/`.

import { calls_since, count_gpu_calls } from "./bench/gpu_calls.js";
import { answer_calls } from "./bench/remote.js";

const gpu_calls = count_gpu_calls();

let session;
let feeds;
let fetches;
let result_of_run;
let device;
let ort;

/** The largest of ORT's own wasm memories; each instance announces its memory to nobody, so making one is watched. */
let memory;
const inner_memory = WebAssembly.Memory;
WebAssembly.Memory = function (...given) {
  memory = new inner_memory(...given);
  return memory;
};
WebAssembly.Memory.prototype = inner_memory.prototype;
const inner_instantiate = WebAssembly.instantiate;
const keep_memory = (result) => {
  const exported = Object.values((result.instance ?? result).exports).find((value) => value instanceof inner_memory);
  memory = exported ?? memory;
  return result;
};
WebAssembly.instantiate = async (...given) => keep_memory(await inner_instantiate.apply(WebAssembly, given));
const inner_streaming = WebAssembly.instantiateStreaming;
WebAssembly.instantiateStreaming = async (...given) => keep_memory(await inner_streaming.apply(WebAssembly, given));

const types = { float32: Float32Array, int64: BigInt64Array };

/** A tensor on the GPU with these values. */
function on_gpu(dtype, values, dims) {
  const buffer = device.createBuffer({
    size: Math.ceil(values.byteLength / 16) * 16,
    usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC,
  });
  device.queue.writeBuffer(buffer, 0, values);
  return ort.Tensor.fromGpuBuffer(buffer, { dataType: dtype, dims });
}

answer_calls({
  /**
   * Makes a session from an ONNX file and keeps the inputs where the session reads them.
   * @param {{backend: "webgpu" | "wasm", n_threads: number, graph_capture: boolean, result: number[]}} settings `result` is its shape
   * @param {Uint8Array} model
   * @param {Array<{name: string, dtype: string, dims: number[], bytes: ArrayBuffer}>} inputs
   * @param {Array<{path: string, url: string}>} external files of weights by the names that the model has for them
   */
  async load({ backend, n_threads, graph_capture, result }, model, inputs, external) {
    const externalData = [];
    for (const { path, url } of external) {
      const response = await fetch(url);
      if (!response.ok) throw new Error(`${url}: ${response.status}`);
      externalData.push({ path, data: new Uint8Array(await response.arrayBuffer()) });
    }
    // As with ours, the weights' bytes are there when the clock starts.
    const [start, before] = [performance.now(), gpu_calls()];
    ort = await import(backend === "wasm" ? "./dist/ort.wasm.min.mjs" : "./dist/ort.min.mjs");
    ort.env.wasm.numThreads = n_threads;
    ort.env.wasm.wasmPaths = new URL("./dist/", import.meta.url).href;
    session = await ort.InferenceSession.create(model, {
      executionProviders: [backend],
      graphOptimizationLevel: "all",
      enableGraphCapture: graph_capture,
      preferredOutputLocation: backend === "webgpu" ? "gpu-buffer" : "cpu",
      externalData,
    });
    device = backend === "webgpu" ? await ort.env.webgpu.device : undefined;
    feeds = {};
    for (const { name, dtype, dims, bytes } of inputs) {
      const values = new types[dtype](bytes);
      feeds[name] = device ? on_gpu(dtype, values, dims) : new ort.Tensor(dtype, values, dims);
    }
    // What is recorded writes where it wrote, so the result has a place of its own.
    const n_results = result.reduce((n, side) => n * side, 1);
    if (graph_capture) fetches = { [session.outputNames[0]]: on_gpu("float32", new Float32Array(n_results), result) };
    const secs = (performance.now() - start) / 1000;
    return { secs, calls: calls_since(gpu_calls(), before), device: `onnxruntime-web ${ort.env.versions.web} ${backend}` };
  },

  /** One run, until the device is done; `record_secs` is the time until all of it was handed to the device. */
  async run() {
    const [start, before] = [performance.now(), gpu_calls()];
    if (!fetches) result_of_run?.dispose();
    const results = fetches ? await session.run(feeds, fetches) : await session.run(feeds);
    result_of_run = results[session.outputNames[0]];
    const recorded = performance.now();
    await device?.queue.onSubmittedWorkDone();
    const secs = (performance.now() - start) / 1000;
    const record_secs = device && (recorded - start) / 1000;
    return { secs, record_secs, calls: calls_since(gpu_calls(), before) };
  },

  async result() {
    if (!fetches) return new Float32Array(await result_of_run.getData());
    const { gpuBuffer, size } = result_of_run;
    const staging = device.createBuffer({ size: size * 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(gpuBuffer, 0, staging, 0, size * 4);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    return new Float32Array(staging.getMappedRange().slice(0));
  },
  heap: () => memory?.buffer.byteLength,
});
