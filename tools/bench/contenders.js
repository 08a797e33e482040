// Darkroom and onnxruntime-web on the cases that tools/bench/models.py wrote, for benches/browser.rs to call one by one.

import { Remote } from "./bench/remote.js";

/** @type {Map<string, {remote: Remote, info: any, channels_last: boolean}>} */
const contenders = new Map();

const url_of = (name, path) => `./cases/${name}/${path}`;

const file = async (name, path) => {
  const response = await fetch(url_of(name, path));
  if (!response.ok) throw new Error(`${name}/${path}: ${response.status}`);
  return response.arrayBuffer();
};

/** A picture's values with the channels last instead of first; anything else as it is. */
function channels_last(values, dims) {
  if (dims.length !== 4) return values;
  const [n, channels, height, width] = dims;
  const [pixels, turned] = [height * width, new Float32Array(values.length)];
  for (let i = 0; i < n; i++)
    for (let c = 0; c < channels; c++)
      for (let p = 0; p < pixels; p++) turned[(i * pixels + p) * channels + c] = values[(i * channels + c) * pixels + p];
  return turned;
}

/** A tensor of a safetensors file in 16-bit floats, as numbers. @param {Uint8Array} weights @param {string} name */
function tensor(weights, name) {
  const header_bytes = Number(new DataView(weights.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(weights.subarray(8, 8 + header_bytes)));
  const [from, to] = header[name].data_offsets;
  const bits = new Uint16Array(weights.slice(8 + header_bytes + from, 8 + header_bytes + to).buffer);
  const value = (/** @type {number} */ x) => {
    const [exponent, fraction] = [(x >> 10) & 31, x & 1023];
    return (x >> 15 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  };
  return Float32Array.from(bits, value);
}

/** What our text encoder starts from: for each token its row and its place's, added up. */
function embeddings(weights, ids, n_tokens) {
  const [tokens, places] = ["token", "position"].map((table) => tensor(weights, `text_model.embeddings.${table}_embedding.weight`));
  const width = places.length / n_tokens;
  const rows = new Float32Array(ids.length * width);
  for (const [i, id] of ids.entries())
    for (let d = 0; d < width; d++) rows[i * width + d] = tokens[id * width + d] + places[(i % n_tokens) * width + d];
  return rows;
}

async function load_ours(remote, name, info, runner) {
  const inputs = {};
  let [height, width] = [1, 1];
  const weights = new Uint8Array(await file(name, "weights.safetensors"));
  for (const { name: input, file: path, dims } of info.inputs) {
    const bytes = await file(name, path);
    if (input === "input_ids") inputs.embeddings = embeddings(weights, Array.from(new BigInt64Array(bytes), Number), dims[1]);
    else inputs[input] = channels_last(new Float32Array(bytes), dims);
    if (dims.length === 4) [height, width] = dims.slice(2);
  }
  const config = new TextDecoder().decode(await file(name, "config.json"));
  const settings = { part: info.component, config, batch: info.inputs[0].dims[0], height, width, runner, dtype: "f32" };
  return remote.hand_over([weights.buffer], "load", settings, weights, inputs);
}

async function load_peer(remote, name, info, computes_by, graph_capture) {
  const inputs = [];
  for (const input of info.inputs) inputs.push({ ...input, bytes: await file(name, input.file) });
  if (!Array.isArray(info.external)) throw new Error("the models are of an earlier version: ./build.sh setup peers makes them anew");
  const external = info.external.map((path) => ({ path, url: new URL(url_of(name, path), document.baseURI).href }));
  const result = info.result.dims;
  const backend = computes_by === "webgpu" ? "webgpu" : "wasm";
  const n_threads = computes_by === "threads" ? navigator.hardwareConcurrency : 1;
  return remote.call("load", { backend, n_threads, graph_capture, result }, new Uint8Array(await file(name, "model.onnx")), inputs, external);
}

/** Starts a contender on a case. Gives what loading took, and what computes. */
export async function load(who, name) {
  const info = JSON.parse(new TextDecoder().decode(await file(name, "case.json")));
  const [side, backend] = who.split(" ");
  const is_ours = side === "darkroom";
  const ours = backend === "threads" ? "./bench/worker.js" : "./bench/worker.js?one-thread";
  const remote = new Remote(new URL(is_ours ? ours : "./peer_worker.js", import.meta.url));
  contenders.set(who, { remote, info, channels_last: is_ours });
  if (is_ours) return load_ours(remote, name, info, backend === "webgpu" ? "gpu" : "cpu");
  return load_peer(remote, name, info, backend, who.endsWith("captured"));
}

export const run = (who) => contenders.get(who).remote.call("run");
export const heap = (who) => contenders.get(who).remote.call("heap");
export const profile = (who) => contenders.get(who).remote.call("profile");

/** How far the last result is from PyTorch's, as a part of the largest value. */
export async function error(who, name) {
  const { remote, info, channels_last: turned } = contenders.get(who);
  const got = await remote.call("result");
  let expected = new Float32Array(await file(name, info.result.file));
  if (turned) expected = channels_last(expected, info.result.dims);
  if (got.length !== expected.length) throw new Error(`${who} gave ${got.length} values instead of ${expected.length}`);
  let [off, largest] = [0, 0];
  for (let i = 0; i < got.length; i++) {
    // A comparison with NaN is false, so that it counts as far off.
    const difference = Math.abs(got[i] - expected[i]);
    off = difference <= off ? off : difference;
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return off / largest;
}

/** Ends all of them. */
export function end() {
  for (const { remote } of contenders.values()) remote.end();
  contenders.clear();
}
