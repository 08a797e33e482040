// Owns the wasm and the GPU, off the page's thread, so that the page stays alive while a picture is drawn.

import { keep_tiles, read_tiles } from "./tiles.js";
import { N_CANCEL_SLOTS, nothing_drawn } from "./protocol.js";
import init, { Models, Studio, check, picture_parameters, picture_pixels, plan, versions } from "./pkg/darkroom.js";

// The wasm loads once; requests that come before it is there wait for it.
const wasm = init();
// Each request reports a failure to load. Without this line a failure before the first request would also be reported
// by the browser as one that nobody handled.
wasm.catch(() => {});

/** Progress is posted at most this often: the page draws no faster, and a step on the processor tells of each operation. */
const PROGRESS_MS = 40;

/** A GPU that is lost again and again does not come back. */
const MAX_RECOVERIES = 3;

/** @type {Studio | undefined} */
let studio;
/** How the model was loaded, to load it again after a lost device. @type {{name: string, is_kept: boolean, settings: object} | undefined} */
let loaded_as;
/** The adapter and what is known of its tiles. @type {{adapter: string, known?: string} | undefined} */
let tiles_of;
/** The files of the model that was loaded last, so that changing the runner downloads nothing. */
let kept = { source: "", files: new Map() };
/** @type {Promise<import("./protocol.js").Check> | undefined} */
let checked;
/** Where models come from; the Hub itself where nothing is said. @type {{endpoint?: string, token?: string}} */
let hub = {};
/** What this browser keeps of them. @type {Promise<Models> | undefined} */
let opened_models;

/** The model that is being downloaded, under the name that was asked for. @type {string | undefined} */
let arriving;

/** Jobs that were asked for and are not done, in order; the first one runs. @type {Job[]} */
const jobs = [];
/** Whether somebody takes the jobs' turns. */
let running = false;
/** Cancels by job id, as the page shares them, where it can. @type {Int32Array | null} */
let shared_cancels = null;
/** Settled while the queue runs; pending while it is held. */
let gate = Promise.resolve();
let open_gate = null;

/**
 * @typedef {object} Job
 * @property {number} id
 * @property {boolean} cancelled
 * @property {(message: object, transfer?: Transferable[]) => void} post
 * @property {(job: Job) => Promise<any>} run
 * @property {(value: any) => void} resolve
 * @property {(reason: any) => void} reject
 * @property {object} [if_cancelled]
 */

/** What a page can be told and can act upon. */
class Failure extends Error {
  /**
   * @param {string} message
   * @param {string} code
   */
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

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

/** @param {Job} job */
function is_cancelled(job) {
  if (shared_cancels && Atomics.load(shared_cancels, job.id % N_CANCEL_SLOTS) === job.id) job.cancelled = true;
  return job.cancelled;
}

/**
 * Downloads one file.
 * @param {string} url
 * @param {(n_bytes: number) => void} on_bytes
 */
async function download(url, on_bytes) {
  let response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new Failure(`${url} cannot be reached (${error.message}): check the connection and load again`, "network");
  }
  if (!response.ok) {
    throw new Failure(`${url}: the server answered ${response.status} ${response.statusText}`, "network");
  }
  const parts = [];
  let n_bytes = 0;
  for (const reader = response.body.getReader(); ; ) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      throw new Failure(`${url} broke off after ${n_bytes} bytes (${error.message}): load again`, "network");
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
 * Downloads every file of a model.
 * @param {string} endpoint
 * @param {string} repository
 * @param {(fraction: number) => void} progress
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
      progress(Math.min(1, n_bytes / total));
    });
    if (bytes.length !== size) {
      throw new Failure(`${path} has ${bytes.length} bytes instead of ${size}: load again`, "network");
    }
    files.set(path, bytes);
  }
  return files;
}

/** What this browser gives. Asked once: an adapter does not change while a page is open. */
async function look_around() {
  let caps = null;
  let gpu_error = null;
  try {
    caps = await check();
  } catch (error) {
    gpu_error = error.message;
  }
  let runner = "cpu";
  let reason;
  if (!("gpu" in navigator)) {
    reason = "this browser has no WebGPU; a current Chrome, Edge, Firefox or Safari has, on pages from https or localhost";
  } else if (!caps) {
    reason = "this browser knows WebGPU but gives no GPU: its settings or the graphics driver may keep it off";
  } else if (caps.software) {
    reason = `the only adapter here (${caps.name}) is software, on which the same picture takes many times longer`;
  } else {
    runner = "gpu";
    reason = `this browser gives the GPU ${caps.name}`;
  }
  let storage = null;
  if (navigator.storage?.estimate) {
    const { quota = 0, usage = 0 } = await navigator.storage.estimate();
    storage = { quota_bytes: quota, used_bytes: usage, persisted: await navigator.storage.persisted() };
  }
  return { caps, gpu_error, runner, reason, storage, cancels_within_a_step: shared_cancels !== null };
}

/**
 * @param {import("./protocol.js").LoadRequest} request
 * @param {Job} job
 */
async function load(request, job) {
  const { endpoint, repository, dtype, budget_bytes } = request;
  let { runner } = request;
  let why = runner === "cpu" ? "the processor was chosen" : "the GPU was chosen";
  if (runner === "auto") {
    checked ??= look_around();
    ({ runner, reason: why } = await checked);
  }
  if (!["cpu", "gpu"].includes(runner)) {
    throw new Failure(`runner ${runner} is not possible: use auto, cpu or gpu`, "request");
  }
  const source = `${endpoint}/${repository}`;
  const is_kept = endpoint === null;
  if (!is_kept && kept.source !== source) {
    const progress = throttled((fraction) => job.post({ type: "progress", stage: "downloading", fraction }));
    kept = { source, files: await download_model(endpoint, repository, progress) };
  }
  // What is there goes first: two models at once may be more than the memory holds.
  drop_studio();
  // Only a GPU's memory has a budget here.
  loaded_as = { name: repository, is_kept, settings: { runner, dtype, budget_bytes: runner === "gpu" ? budget_bytes : undefined } };
  job.post({ type: "progress", stage: "loading", fraction: 0 });
  await load_studio(throttled((fraction) => job.post({ type: "progress", stage: "loading", fraction })));
  return { ...studio.info(), repository, why };
}

/** The models that this browser keeps, opened once for each Hub. */
function models() {
  opened_models ??= Models.open(hub);
  // The next request tries again.
  opened_models.catch(() => {
    opened_models = undefined;
  });
  return opened_models;
}

/**
 * Downloads a model that this browser is to keep. It can be loaded meanwhile.
 * @param {string} model
 * @param {(report: object) => void} progress
 */
async function download_kept(model, progress) {
  const kept_models = await models();
  arriving = model;
  try {
    return await kept_models.download(model, progress);
  } catch (error) {
    // What is loaded of it lacks files that do not come any more; the next job loads it anew.
    if (loaded_as?.is_kept && loaded_as.name === model) drop_studio();
    throw error;
  } finally {
    if (arriving === model) arriving = undefined;
  }
}

/** Gives the model's memory back. */
function drop_studio() {
  const old = studio;
  studio = undefined;
  try {
    old?.free();
  } catch {
    // Something is being planned with it at this moment; the browser frees it afterwards.
  }
}

/** @param {(fraction: number) => void} progress */
async function load_studio(progress) {
  const settings = { ...loaded_as.settings };
  tiles_of = undefined;
  if (settings.runner === "gpu") {
    checked ??= look_around();
    const { caps } = await checked;
    if (caps) {
      const known = await read_tiles(caps.name);
      tiles_of = { adapter: caps.name, known };
      Object.assign(settings, { tiles: known, tune: !caps.software });
    }
  }
  const { name, is_kept } = loaded_as;
  studio = is_kept
    ? await Studio.load_stored(await models(), name, settings, progress)
    : await Studio.load(name, kept.files, settings, progress);
}

/** Keeps what was measured while a picture was prepared. */
async function keep_measured() {
  const measured = studio?.tiles();
  if (!tiles_of || !measured || measured === tiles_of.known) return;
  tiles_of.known = measured;
  await keep_tiles(tiles_of.adapter, measured);
}

/**
 * After a lost GPU: opens it again with the model, and lets the drawing go on from its last step.
 * @param {Job} job
 * @param {import("./pkg/darkroom.js").Drawing} drawing
 * @param {object} now what the job was doing
 */
async function recover(job, drawing, now) {
  job.post({ type: "progress", ...now, stage: "recovering" });
  drop_studio();
  await load_studio(() => {});
  drawing.move_to(studio);
}

/**
 * Calls `call` no more often than the page can use.
 * @template T
 * @param {(report: T) => void} call
 */
function throttled(call) {
  let last = -Infinity;
  return (report) => {
    const now = performance.now();
    if (now - last < PROGRESS_MS) return;
    last = now;
    call(report);
  };
}

function loaded_studio() {
  if (!studio) throw new Failure("no model is loaded: load one first", "model");
  return studio;
}

/**
 * @param {Job} job
 * @param {import("./pkg/darkroom.js").Drawing} drawing
 * @param {{picture: number, step: number}} at
 */
async function post_preview(job, drawing, { picture, step }) {
  const preview = await drawing.preview();
  if (preview) job.post({ type: "preview", picture, step, ...preview }, [preview.data.buffer]);
}

/**
 * @param {Job} job
 * @param {import("./protocol.js").GenerateRequest} asked
 * @returns {Promise<import("./protocol.js").Outcome>}
 */
async function generate(job, { request, picture, mask, previews }) {
  const start = performance.now();
  let paused_ms = 0;
  const outcome = nothing_drawn();
  const seconds = () => (performance.now() - start - paused_ms) / 1000;
  if (is_cancelled(job)) return outcome;
  // A recovery that failed left nothing loaded; perhaps the GPU is back by now.
  if (!studio && loaded_as) await load_studio(throttled((fraction) => job.post({ type: "progress", stage: "loading", fraction })));
  const drawing = loaded_studio().draw(request, picture, mask);
  outcome.flops = drawing.flops();
  const is_gpu = loaded_studio().info().runner === "gpu";
  const now = { stage: "encoding", picture: 0, count: request.count ?? 1, step: 0, n_steps: 0, fraction: 0 };
  // Between the prompt and the first step the UNet has to be there.
  const stage = () => (now.stage === "encoding" && loaded_as?.is_kept && loaded_as.name === arriving ? "downloading" : now.stage);
  const tell = () => job.post({ type: "progress", ...now, stage: stage(), seconds: seconds() });
  const tell_within = throttled(tell);
  const on_progress = (fraction) => {
    now.fraction = fraction;
    tell_within(fraction);
    return !is_cancelled(job);
  };
  try {
    tell();
    for (;;) {
      let report;
      const from = performance.now();
      const waits = stage() === "downloading";
      try {
        report = await drawing.step(on_progress);
        // How fast the network is says nothing of how fast this machine draws.
        if (waits) paused_ms += performance.now() - from;
        if (report.stage === "encoded" || report.stage === "decoded") await keep_measured();
        // Little is read back, and only a GPU can be lost.
        if (report.stage === "denoised" && is_gpu) await drawing.keep();
        if (report.stage === "denoised" && previews) await post_preview(job, drawing, report);
      } catch (error) {
        if (error?.code !== "lost" || outcome.n_recoveries === MAX_RECOVERIES) throw error;
        outcome.n_recoveries += 1;
        await recover(job, drawing, now);
        continue;
      }
      if (report.repeated_in_f32) outcome.repeated_in_f32 = true;
      if (report.stage === "encoded") {
        outcome.n_tokens = report.n_tokens;
        outcome.truncated = report.truncated;
        // After a recovery the steps go on where they were.
        now.stage = now.n_steps > 0 ? "denoising" : "encoding";
      } else if (report.stage === "prepared") {
        Object.assign(now, { stage: "denoising", picture: report.picture, step: 1, n_steps: drawing.n_steps() });
        tell();
      } else if (report.stage === "denoised") {
        if (report.step < report.n_steps) now.step = report.step + 1;
        else now.stage = "decoding";
        tell();
      } else if (report.stage === "decoded") {
        const png = drawing.png();
        job.post({ type: "image", picture: report.picture, seed: report.seed, png }, [png.buffer]);
      } else {
        return { ...outcome, cancelled: false, seconds: seconds() };
      }
      await yield_to_messages();
      while (open_gate && !is_cancelled(job)) {
        const from = performance.now();
        job.post({ type: "progress", ...now, stage: "paused", seconds: seconds() });
        await gate;
        paused_ms += performance.now() - from;
        if (!open_gate) tell();
      }
      if (is_cancelled(job)) return { ...outcome, seconds: seconds() };
    }
  } catch (error) {
    // The step that was told to stop says so; that is no failure.
    if (error?.code === "cancelled" && is_cancelled(job)) return { ...outcome, seconds: seconds() };
    throw error;
  } finally {
    drawing.free();
  }
}

/** Tells each job that waits how many are before it. */
function tell_positions() {
  jobs.forEach((job, position) => {
    if (position > 0) job.post({ type: "progress", stage: "queued", fraction: 0, position });
  });
}

/**
 * Runs something in its turn, behind what was asked for earlier.
 * @param {number} id
 * @param {(message: object, transfer?: Transferable[]) => void} post
 * @param {(job: Job) => Promise<any>} run
 * @param {object} [if_cancelled] what the answer is where it is cancelled before its turn; without it cannot be
 */
function in_turn(id, post, run, if_cancelled) {
  return new Promise((resolve, reject) => {
    jobs.push({ id, post, run, resolve, reject, if_cancelled, cancelled: false });
    tell_positions();
    take_turns();
  });
}

/** Runs the jobs one after another until none is left. It never rejects: each job's failure goes to whoever asked. */
async function take_turns() {
  if (running) return;
  running = true;
  while (jobs.length > 0) {
    const job = jobs[0];
    while (open_gate && !is_cancelled(job)) {
      job.post({ type: "progress", stage: "paused", fraction: 0 });
      await gate;
    }
    try {
      job.resolve(await job.run(job));
    } catch (error) {
      job.reject(error);
    }
    jobs.shift();
    tell_positions();
  }
  running = false;
}

function pause() {
  if (open_gate) return;
  gate = new Promise((resolve) => {
    open_gate = resolve;
  });
}

function resume() {
  open_gate?.();
  open_gate = null;
}

/** @param {number | null} id the job, or null for all drawings */
function cancel(id) {
  for (const job of [...jobs]) {
    if (!job.if_cancelled || (id !== null && job.id !== id)) continue;
    job.cancelled = true;
    const place = jobs.indexOf(job);
    if (place > 0) {
      jobs.splice(place, 1);
      job.resolve(job.if_cancelled);
    }
  }
  tell_positions();
  opened_models?.then(
    (kept_models) => kept_models.nudge(),
    () => {},
  );
  // A queue that is held lets go of what was cancelled, and is held again for the rest.
  if (open_gate) {
    resume();
    if (jobs.some((job) => !job.cancelled)) pause();
  }
}

/**
 * @param {import("./protocol.js").Request & {id: number}} request
 * @param {(message: object, transfer?: Transferable[]) => void} post
 */
async function answer(request, post) {
  if (request.type === "open" && request.cancelled) shared_cancels = new Int32Array(request.cancelled);
  try {
    await wasm;
  } catch (error) {
    throw new Failure(`the program could not be loaded (${error.message}): reload the page`, "worker");
  }
  switch (request.type) {
    case "open":
      return undefined;
    case "check":
      checked ??= look_around();
      return await checked;
    case "versions":
      return versions();
    case "plan": {
      checked ??= look_around();
      const { caps } = await checked;
      if (!caps) throw new Failure("there is no GPU to plan for: the processor's memory is not planned", "device");
      if (request.request.version !== undefined) return await plan(request.request, caps);
      return await loaded_studio().plan(request.request, caps);
    }
    case "hub":
      (await opened_models)?.pause();
      hub = { endpoint: request.endpoint, token: request.token };
      opened_models = undefined;
      return undefined;
    case "models":
      return await (await models()).list();
    case "needed":
      return await (await models()).needed(request.model);
    case "download": {
      const progress = throttled((report) => post({ type: "progress", stage: "downloading", fraction: report.bytes / report.total, ...report }));
      return await download_kept(request.model, progress);
    }
    case "stop_download":
      return (await models()).pause();
    case "remove":
      return await (await models()).remove(request.model);
    case "import": {
      const progress = throttled((report) => post({ type: "progress", stage: "importing", fraction: report.bytes / report.total }));
      return await (await models()).import(request.name, request.files, progress);
    }
    case "verify": {
      const progress = throttled((report) => post({ type: "progress", stage: "verifying", fraction: report.bytes / report.total }));
      return await (await models()).verify(request.model, progress);
    }
    case "load":
      return await in_turn(request.id, post, (job) => load(request, job));
    case "tokens":
      return loaded_studio().count_tokens(request.prompt);
    case "size_of_picture":
      return loaded_studio().size_of_picture(request.width, request.height, request.any_size);
    case "work":
      return loaded_studio().work(request.request, request.has_picture, request.has_mask);
    case "generate":
      return await in_turn(request.id, post, (job) => generate(job, request), nothing_drawn());
    case "cancel":
      return cancel(request.job);
    case "pause":
      return pause();
    case "resume":
      return resume();
    case "parameters":
      return picture_parameters(request.file);
    case "pixels":
      return picture_pixels(request.file);
    default:
      throw new Failure(`the worker does not know the request "${request.type}"`, "request");
  }
}

addEventListener("message", async ({ data: request }) => {
  const { id } = request;
  const post = (message, transfer = []) => postMessage({ id, ...message }, transfer);
  try {
    post({ type: "done", value: await answer(request, post) });
  } catch (error) {
    post({ type: "error", message: error?.message ?? String(error), code: error?.code ?? "worker" });
  }
});
