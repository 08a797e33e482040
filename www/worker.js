// Owns the wasm, off the page's thread, so that the page stays alive while a picture is drawn.

import init, { Studio, check } from "./pkg/darkroom.js";

// The wasm loads once; requests that come before it is there wait for it.
const loaded = init();
// Each request reports a failure to load. Without this line a failure before the first request would also be reported
// by the browser as one that nobody handled.
loaded.catch(() => {});

/** @type {Studio | undefined} */
let studio;
/** The files of the model that was loaded last, so that changing the runner downloads nothing. */
let kept = { source: "", files: new Map() };
/** Drawings run one after another: each waits for the one before. */
let last_drawing = Promise.resolve();
/** Requests up to this id are cancelled. */
let cancelled_to = 0;

/**
 * Lets messages in: a cancel is heard between two steps. A message to oneself comes back without the delay that browsers
 * put on timers.
 */
function yield_to_messages() {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve(undefined);
    };
    port2.postMessage(null);
  });
}

/**
 * Downloads one file.
 * @param {string} url
 * @param {(n_bytes: number) => void} on_bytes
 */
async function download(url, on_bytes) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server answered ${response.status} ${response.statusText}`);
  const parts = [];
  let n_bytes = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    n_bytes += value.length;
    on_bytes(value.length);
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
 * @param {import("./protocol.js").LoadRequest} request
 * @param {(stage: string, fraction: number) => void} progress
 */
async function load({ endpoint, repository, runner }, progress) {
  const source = `${endpoint}/${repository}`;
  if (kept.source !== source) kept = { source, files: await download_model(endpoint, repository, progress) };
  progress("Loading the model", 1);
  const next = await Studio.load(repository, kept.files, runner);
  studio?.free();
  studio = next;
  return studio.info();
}

/**
 * Downloads every file of a model.
 * @param {string} endpoint
 * @param {string} repository
 * @param {(stage: string, fraction: number) => void} progress
 * @returns {Promise<Map<string, Uint8Array>>}
 */
async function download_model(endpoint, repository, progress) {
  const listing = await download(`${endpoint}/api/models/${repository}/tree/main?recursive=true`, () => {});
  const wanted = JSON.parse(new TextDecoder().decode(listing)).filter(
    ({ type, path }) => type === "file" && /\.(json|txt|safetensors)$/.test(path),
  );
  const total = wanted.reduce((sum, { size }) => sum + size, 0);
  let n_bytes = 0;
  const files = new Map();
  for (const { path, size } of wanted) {
    const bytes = await download(`${endpoint}/${repository}/resolve/main/${path}`, (n) => {
      n_bytes += n;
      progress("Downloading the model", Math.min(1, n_bytes / total));
    });
    if (bytes.length !== size) throw new Error(`${path} has ${bytes.length} bytes instead of ${size}: load again`);
    files.set(path, bytes);
  }
  return files;
}

/**
 * @param {number} id
 * @param {import("./protocol.js").Settings} settings
 * @param {(stage: string, fraction: number) => void} progress
 * @returns {Promise<import("./protocol.js").Drawn>}
 */
async function generate(id, settings, progress) {
  if (!studio) throw new Error("no model is loaded yet");
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  if (id <= cancelled_to) return { cancelled: true, seconds: 0 };
  const drawing = studio.draw(settings);
  try {
    let stage = "Reading the prompt";
    let truncated;
    for (;;) {
      const report = await drawing.step((fraction) => progress(stage, fraction));
      if (report.stage === "encoded") {
        truncated = report.truncated;
        stage = "Step 1";
      } else if (report.stage === "denoised") {
        stage = report.step < report.n_steps ? `Step ${report.step + 1} of ${report.n_steps}` : "Developing the picture";
      } else if (report.stage === "done") {
        return { cancelled: false, png: drawing.png(), truncated, seconds: seconds() };
      }
      await yield_to_messages();
      if (id <= cancelled_to) return { cancelled: true, seconds: seconds() };
    }
  } finally {
    drawing.free();
  }
}

/**
 * @param {import("./protocol.js").Request & {id: number}} request
 * @param {(stage: string, fraction: number) => void} progress
 */
async function answer(request, progress) {
  await loaded;
  switch (request.type) {
    case "check":
      return await check();
    case "load":
      return await load(request, progress);
    case "tokens":
      return studio ? studio.count_tokens(request.prompt) : [0, 0];
    case "generate": {
      const drawing = last_drawing.then(() => generate(request.id, request.settings, progress));
      // Whoever asked for a drawing hears of its failure; the next one only waits for its end.
      last_drawing = drawing.then(
        () => {},
        () => {},
      );
      return await drawing;
    }
    case "cancel":
      cancelled_to = request.id;
      return undefined;
    default:
      throw new Error(`the worker does not know the request "${request.type}"`);
  }
}

addEventListener("message", async ({ data: request }) => {
  const { id } = request;
  try {
    const value = await answer(request, (stage, fraction) => postMessage({ id, type: "progress", stage, fraction }));
    postMessage({ id, type: "done", value }, value?.png ? [value.png.buffer] : []);
  } catch (error) {
    postMessage({ id, type: "error", message: error instanceof Error ? error.message : String(error) });
  }
});
