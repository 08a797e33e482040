// A whole model into memory, for the small one that comes with the page. What the browser keeps is downloaded in Rust.

import { Failure, message_of } from "../errors.js";
import { fetched, throw_if_stopped } from "./fetched.js";

/**
 * Downloads one file.
 * @param {string} url
 * @param {(n_bytes: number) => void} on_bytes
 * @param {AbortSignal} [signal]
 */
export async function fetch_file(url, on_bytes, signal) {
  const { body } = await fetched(url, "model", signal);
  if (!body) throw new Failure(`${url}: the server answered without a body`, "network");
  const parts = [];
  let n_bytes = 0;
  for (const reader = body.getReader(); ; ) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      throw_if_stopped(signal);
      throw new Failure(`${url} broke off at byte ${n_bytes} (${message_of(error)}): load again`, "network");
    }
    if (part.done) break;
    parts.push(part.value);
    n_bytes += part.value.length;
    on_bytes(part.value.length);
  }
  const bytes = new Uint8Array(n_bytes);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * The list of a model's files.
 * @param {string} url
 * @param {AbortSignal} signal
 * @returns {Promise<{type: string, path: string, size: number}[]>}
 */
async function fetch_list(url, signal) {
  const text = new TextDecoder().decode(await fetch_file(url, () => {}, signal));
  try {
    const listed = JSON.parse(text);
    if (Array.isArray(listed)) return listed;
  } catch {
    // Told below.
  }
  throw new Failure(`${url}: what came is not a list of a model's files, as the Hugging Face Hub gives it: there is no model, or a proxy answers`, "model");
}

/**
 * Downloads every file of a model.
 * @param {string} endpoint
 * @param {string} repository
 * @param {(fraction: number) => void} progress
 * @param {AbortSignal} signal
 * @returns {Promise<Map<string, Blob>>} which the browser holds, not the worker
 */
export async function fetch_model(endpoint, repository, progress, signal) {
  const listed = await fetch_list(`${endpoint}/api/models/${repository}/tree/main?recursive=true`, signal);
  const wanted = listed.filter(({ type, path }) => type === "file" && /\.(json|txt|safetensors)$/.test(path));
  const total = wanted.reduce((sum, { size }) => sum + size, 0);
  let n_bytes = 0;
  const files = new Map();
  for (const { path, size } of wanted) {
    const bytes = await fetch_file(`${endpoint}/${repository}/resolve/main/${path}`, (n) => {
      n_bytes += n;
      progress(Math.min(1, n_bytes / total));
    }, signal);
    if (bytes.length !== size) {
      throw new Failure(`${path} has ${bytes.length} bytes in place of ${size}: load again`, "network");
    }
    files.set(path, new Blob([bytes]));
  }
  return files;
}
