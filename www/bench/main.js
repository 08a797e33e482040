// The benchmark page: times the parts of a model on this machine, and shows what was found in words and as JSON.

import { message_of } from "../errors.js";
import { make } from "../page/elements.js";
import { BENCHMARK, remember_speed } from "../page/speed.js";
import { bytes, sentence } from "../page/words.js";
import { Remote } from "./remote.js";

/**
 * The elements of bench.html that have an id.
 * @typedef {Record<"device" | "needs" | "figures" | "stage" | "details" | "record", HTMLElement>
 *   & Record<"settings", HTMLFormElement>
 *   & Record<"version" | "runner" | "dtype", HTMLSelectElement>
 *   & Record<"width" | "height" | "runs" | "profile" | "tune", HTMLInputElement>
 *   & Record<"start" | "stop" | "copy", HTMLButtonElement>
 *   & Record<"times" | "asked", HTMLTableElement>
 *   & Record<"json", HTMLTextAreaElement>} BenchElements
 */

/**
 * @typedef {import("../pkg/darkroom.js").Caps} Caps
 * @typedef {import("../pkg/darkroom.js").VersionInfo} VersionInfo
 * @typedef {import("../pkg/darkroom.js").Part} Part
 * @typedef {import("../pkg/darkroom.js").BenchProfile} BenchProfile
 * @typedef {import("../pkg/darkroom.js").BenchTiles} BenchTiles
 * @typedef {import("./gpu_calls.js").GpuCalls} GpuCalls
 * @typedef {import("./worker.js").BenchFunctions} BenchFunctions
 */

/**
 * What was found of a part.
 * @typedef {object} Entry
 * @property {Part} part
 * @property {number} batch
 * @property {Awaited<ReturnType<BenchFunctions["run"]>>[]} runs
 * @property {number} [flops]
 * @property {string} [device]
 * @property {{secs: number, calls: GpuCalls}} [load]
 * @property {number} [heap_bytes]
 * @property {BenchTiles} [tiles]
 * @property {BenchProfile} [profile]
 */

/**
 * What was found, as it is shown and copied.
 * @typedef {object} Found
 * @property {string} bench
 * @property {string} at
 * @property {string} agent
 * @property {string} darkroom its version
 * @property {number} threads
 * @property {Caps | undefined} adapter
 * @property {ReturnType<typeof settings>} settings
 * @property {Entry[]} parts
 * @property {string} [failed]
 */

/**
 * @template {keyof BenchElements} Id
 * @param {Id} id
 */
const element = (id) => /** @type {BenchElements[Id]} */ (document.getElementById(id));

/** @returns {Remote<BenchFunctions>} */
const new_worker = () => new Remote(new URL("./worker.js", import.meta.url));

const part_names = { text_encoder: "Text encoder", unet: "UNet step", vae_decoder: "VAE decoder" };

/** Counts of a run, in the words of the page. */
const count_names = /** @type {const} */ ({
  dispatches: "Dispatches", submits: "Submits", bind_groups: "Bind groups made", pipelines: "Pipelines compiled",
  buffers: "Buffers made", allocated_bytes: "Bytes of buffers made", uploads: "Uploads",
  uploaded_bytes: "Bytes uploaded", readbacks: "Readbacks",
});

/** A pixel of the latents is so many of the picture. */
const vae_factor = 8;

let remote = new_worker();
/** @type {Caps | undefined} */
let caps;
/** @type {VersionInfo[]} */
let versions = [];
let is_running = false;
let n_asked = 0;

/** The least, the median and the most. @param {number[]} secs */
const spread = (secs) => {
  const sorted = [...secs].sort((a, b) => a - b);
  return [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)];
};

/** Seconds in three digits. @param {number | undefined} secs */
function seconds(secs) {
  if (secs === undefined) return "–";
  if (secs >= 1) return `${secs.toPrecision(3)} s`;
  return `${(secs * 1000).toPrecision(3)} ms`;
}

function chosen_version() {
  const chosen = versions.find(({ key }) => key === element("version").value);
  if (!chosen) throw new Error("choose a model");
  return chosen;
}

const chosen_parts = () =>
  [...document.querySelectorAll("[name=part]:checked")].map((box) => /** @type {Part} */ (box.getAttribute("value")));

/** What the form says, or what is wrong with it. */
function settings() {
  const { key: version, size_multiple, guidance_scale } = chosen_version();
  /** @type {(id: "width" | "height" | "runs", least: number, most: number, what: string) => number} */
  const whole = (id, least, most, what) => {
    const value = Number(element(id).value);
    if (!Number.isInteger(value) || value < least || value > most)
      throw new Error(`${what} is a whole number from ${least} to ${most}`);
    return value;
  };
  const [width, height] = [whole("width", 64, 2048, "the width"), whole("height", 64, 2048, "the height")];
  if (width % size_multiple || height % size_multiple)
    throw new Error(`width and height of ${version} are multiples of ${size_multiple}`);
  const parts = chosen_parts();
  if (!parts.length) throw new Error("choose at least one part");
  const runner = /** @type {import("../pkg/darkroom.js").RunnerName} */ (element("runner").value);
  return {
    version, width, height, parts, runner, guidance_scale,
    runs: whole("runs", 1, 100, "the number of runs"),
    dtype: /** @type {import("../pkg/darkroom.js").Dtype} */ (element("dtype").value),
    tune: runner === "gpu" && element("tune").checked,
    profile: element("profile").checked && (runner === "cpu" || caps?.timestamp_query === true),
  };
}

/** Says what the settings need, as far as it is known, and whether they can be run. */
async function show_needs() {
  const asked_now = (n_asked += 1);
  const needs = element("needs");
  const fail = (/** @type {string} */ message) => {
    needs.textContent = sentence(message);
    needs.dataset.state = "error";
    element("start").disabled = true;
  };
  let asked;
  try {
    asked = settings();
  } catch (error) {
    return fail(message_of(error));
  }
  if (asked.runner === "gpu" && !caps) return fail("this browser offers no GPU: choose the CPU");
  let text = "";
  if (asked.runner === "gpu" && caps) {
    const { version, width, height, dtype } = asked;
    try {
      const plan = await remote.call("plan", { version, width, height, dtype }, caps);
      // The form may have changed while the worker planned.
      if (asked_now !== n_asked) return;
      text = `Up to ${bytes(plan.staged_peak_bytes)} of GPU memory, one part at a time.`;
    } catch (error) {
      return asked_now === n_asked ? fail(message_of(error)) : undefined;
    }
    if (caps.software) text += " The adapter is software on the CPU: its times are not a GPU's, and large sizes take hours.";
  } else if (chosen_version().download_bytes > 4e9 && asked.parts.includes("unet")) {
    return fail("this UNet is larger than a browser can hold in memory: choose another model, or the GPU");
  } else {
    text = "On the CPU, in one thread.";
  }
  needs.textContent = text;
  needs.dataset.state = "ok";
  element("start").disabled = is_running;
}

/**
 * @param {HTMLTableElement} table
 * @param {string[]} head
 * @param {(string | number)[][]} lines
 */
function rows(table, head, lines) {
  const cells = (/** @type {(string | number)[]} */ line) => line.map((value, i) => make(i ? "td" : "th", {}, String(value)));
  table.tHead?.replaceChildren(make("tr", {}, ...head.map((text) => make("th", {}, text))));
  table.tBodies[0]?.replaceChildren(...lines.map((line) => make("tr", {}, ...cells(line))));
  table.hidden = lines.length === 0;
}

/** @param {Found} record */
function show(record) {
  const done = record.parts.filter(({ runs }) => runs.length > 0);
  rows(
    element("times"),
    ["Part", "Loading", "First run", "Least", "Median", "Most", "GFLOP/s"],
    done.map(({ part, load, runs, flops }) => {
      const later = runs.slice(1).map(({ secs }) => secs);
      const [least, median, most] = later.length ? spread(later) : [];
      const speed = median && flops ? (flops / median / 1e9).toPrecision(3) : "–";
      return [part_names[part], seconds(load?.secs), ...[runs[0]?.secs, least, median, most].map(seconds), speed];
    }),
  );
  const on_gpu = done.filter(({ runs }) => runs[0]?.counts);
  /** @param {keyof typeof count_names} name */
  const of_run = (name) => on_gpu.map(({ runs }) => {
    const say = (/** @type {number} */ n) => (name.endsWith("bytes") ? bytes(n) : n);
    return [...runs.slice(0, 1), ...runs.slice(-1)].map(({ calls }) => say(calls[name])).join(" → ");
  });
  const names = /** @type {(keyof typeof count_names)[]} */ (Object.keys(count_names));
  /** @type {string[][]} */
  const lines = names.map((name) => [count_names[name], ...of_run(name)]);
  lines.push(["GPU memory at the peak", ...on_gpu.map(({ runs }) => bytes(runs.at(-1)?.counts?.peak_bytes ?? 0))]);
  lines.push(["CPU time to record", ...on_gpu.map(({ runs }) => seconds(runs.at(-1)?.record_secs))]);
  lines.push(["Memory of the program", ...on_gpu.map(({ heap_bytes }) => (heap_bytes ? bytes(heap_bytes) : "–"))]);
  rows(element("asked"), ["", ...on_gpu.map(({ part }) => part_names[part])], on_gpu.length ? lines : []);
  element("details").replaceChildren(...done.flatMap(({ part, profile, tiles }) => {
    const made = [];
    if (profile) made.push(profile_table(part, profile));
    if (tiles?.measured.length) made.push(tiles_table(part, tiles));
    return made;
  }));
  element("json").value = JSON.stringify(record, null, 1);
  element("record").hidden = false;
  element("copy").textContent = "Copy";
}

/**
 * @param {string} title
 * @param {string[]} head
 * @param {(string | number)[][]} lines
 */
function details(title, head, lines) {
  const table = make("table", {}, make("thead"), make("tbody"));
  rows(table, head, lines);
  return make("details", {}, make("summary", {}, title), make("div", { class: "scroll" }, table));
}

/**
 * @param {Part} part
 * @param {BenchProfile} profile
 */
function profile_table(part, { lines }) {
  const total = lines.reduce((sum, { secs }) => sum + secs, 0);
  return details(
    `${part_names[part]}: operations one by one, ${seconds(total)} together`,
    ["Operation", "Shape", "Number", "Time", "%", "GFLOP/s", "GB/s"],
    lines.map(({ kernel, shape, n, secs, flops, n_bytes }) => [
      kernel, shape, n, seconds(secs), ((100 * secs) / total).toFixed(1), (flops / secs / 1e9).toPrecision(3),
      n_bytes ? (n_bytes / secs / 1e9).toPrecision(3) : "–",
    ]),
  );
}

/**
 * @param {Part} part
 * @param {BenchTiles} tiles
 */
function tiles_table(part, { measured, chosen }) {
  return details(
    `${part_names[part]}: tiles of matrix products`,
    ["Class", "Tile", "Sums in parts", "Time", "GFLOP/s", "Chosen"],
    measured.map(({ class: name, tile, splits, secs, gflops }) => {
      const is_chosen = chosen[name]?.tile === tile && chosen[name]?.splits === splits;
      return [name, tile, splits, seconds(secs), gflops.toPrecision(3), is_chosen ? "yes" : ""];
    }),
  );
}

/** @param {"idle" | "running"} state */
function set_state(state) {
  is_running = state === "running";
  document.documentElement.dataset.state = is_running ? "running" : "ready";
  element("start").disabled = is_running;
  element("stop").disabled = !is_running;
}

/**
 * @param {Part} part
 * @param {ReturnType<typeof settings>} asked
 * @param {Found} record gets what is found
 * @param {(text: string) => void} say
 */
async function time_part(part, asked, record, say) {
  const { version, width, height, runner, dtype, tune, runs, profile, guidance_scale } = asked;
  // Guidance asks for everything twice but the picture.
  /** @type {Entry} */
  const entry = { part, batch: guidance_scale > 1 && part !== "vae_decoder" ? 2 : 1, runs: [] };
  record.parts.push(entry);
  const name = part_names[part];
  say(`${name}: loading${tune ? " and measuring tiles" : ""} …`);
  const latents = { batch: entry.batch, height: height / vae_factor, width: width / vae_factor };
  const loaded = await remote.call("load", { part, version, ...latents, runner, dtype, tune });
  entry.flops = loaded.flops;
  entry.device = loaded.device;
  entry.load = { secs: loaded.secs, calls: loaded.calls };
  for (let i = 0; i <= runs; i++) {
    say(i ? `${name}: run ${i} of ${runs} …` : `${name}: first run, which compiles …`);
    entry.runs.push(await remote.call("run"));
    show(record);
  }
  // Nearly all of a drawing's work is the UNet's.
  if (part === "unet") remember_speed({ repository: BENCHMARK, device: loaded.device }, loaded.flops, spread(entry.runs.slice(1).map(({ secs }) => secs))[1] ?? 0);
  entry.heap_bytes = await remote.call("heap");
  entry.tiles = await remote.call("tiles");
  if (profile) {
    say(`${name}: timing every operation …`);
    entry.profile = await remote.call("profile");
  }
  show(record);
}

async function start() {
  const asked = settings();
  const say = (/** @type {string} */ text) => { element("stage").textContent = text; };
  /** @type {Found} */
  const record = {
    bench: "page", at: new Date().toISOString(), agent: navigator.userAgent, darkroom: await remote.call("version"),
    threads: navigator.hardwareConcurrency, adapter: caps, settings: asked, parts: [],
  };
  set_state("running");
  try {
    for (const part of asked.parts) {
      await time_part(part, asked, record, say);
      // A part's memory is given back with its worker.
      remote.end();
      remote = new_worker();
    }
    say("Done.");
  } catch (error) {
    record.failed = message_of(error);
    say(sentence(message_of(error)));
    if (record.parts.length) show(record);
    remote.end();
    remote = new_worker();
  }
  set_state("idle");
  await show_needs();
}

/** Sides that this machine can be expected to finish. */
function set_size() {
  const { width, height, size_multiple } = chosen_version();
  const is_slow = element("runner").value === "cpu" || !caps || caps.software;
  const least = Math.max(size_multiple, 64);
  element("width").value = String(is_slow ? Math.min(width, least * 2) : width);
  element("height").value = String(is_slow ? Math.min(height, least * 2) : height);
}

element("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!element("start").disabled) start();
});
element("settings").addEventListener("input", show_needs);
for (const id of /** @type {const} */ (["version", "runner"])) element(id).addEventListener("change", () => { set_size(); show_needs(); });
element("stop").addEventListener("click", () => remote.end());
element("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(element("json").value);
    element("copy").textContent = "Copied";
  } catch {
    // Where a page may not write there, a person can.
    element("json").select();
    element("copy").textContent = "Press Ctrl+C";
  }
});

const device = element("device");
try {
  versions = await remote.call("versions");
  for (const { key, name, is_inpaint } of versions)
    if (!is_inpaint) element("version").append(make("option", { value: key }, name));
  try {
    caps = await remote.call("check");
    device.textContent = `${caps.name}${caps.software ? ", software on the CPU" : ""}`;
    device.dataset.state = "ready";
    element("tune").checked = !caps.software;
  } catch (error) {
    device.textContent = sentence(message_of(error));
    device.dataset.state = "error";
    element("runner").value = "cpu";
  }
  set_size();
  await show_needs();
} catch (error) {
  device.textContent = sentence(message_of(error));
  device.dataset.state = "error";
}
document.documentElement.dataset.state = "ready";
