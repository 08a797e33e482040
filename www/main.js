// Owns the page: asks the worker and shows what it says.

import { Client } from "./protocol.js";

/** The model that comes with the page, in the Hub's own URL layout. */
const ENDPOINT = new URL("./hub", import.meta.url).href;
const REPOSITORY = "darkroom/tiny-emoji";
/** Where the form's settings are kept between visits. */
const SETTINGS_KEY = "darkroom.settings";

const element = (id) => document.getElementById(id);
const form = element("request");
const fields = ["prompt", "negative", "steps", "guidance", "sampler", "runner", "seed", "random"].map(element);
const [prompt, negative, steps, guidance, sampler, runner, seed, random] = fields;

const client = new Client(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
/** How many drawings are asked for and not finished. */
let n_waiting = 0;

/**
 * @param {HTMLElement} where
 * @param {"waiting" | "ready" | "error"} state
 * @param {string} text
 */
function say(where, state, text) {
  where.textContent = text;
  where.dataset.state = state;
}

/** @param {number} fraction */
function show_progress(fraction) {
  const bar = element("progress");
  bar.hidden = false;
  bar.value = fraction;
}

/** @param {number} n */
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${Number(n.toFixed(1))} ${units[unit]}`;
}

/** @param {import("./protocol.js").Caps} caps */
function show_caps(caps) {
  const rows = [
    ["adapter", "Adapter", caps.name],
    ["kind", "Kind", caps.software ? "software (right, but very slow)" : "hardware"],
    ["f16", "16-bit floats", caps.shader_f16 ? "yes" : "no"],
    ["max-buffer", "Largest buffer", bytes(caps.max_buffer_bytes)],
    ["max-binding", "Largest binding", bytes(caps.max_binding_bytes)],
    ["max-storage-buffers", "Storage buffers per kernel", String(caps.max_storage_buffers)],
    ["workgroup-memory", "Workgroup memory", bytes(caps.max_workgroup_bytes)],
    ["workgroup-invocations", "Invocations per workgroup", String(caps.max_workgroup_invocations)],
  ];
  for (const [id, term, value] of rows) {
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = term;
    dd.textContent = value;
    dd.id = id;
    element("caps").append(dt, dd);
  }
  element("caps").hidden = false;
}

async function look_for_gpu() {
  const status = element("status");
  try {
    show_caps(await client.check());
    say(status, "ready", "This browser can use the GPU: choose in the settings what draws.");
  } catch (error) {
    let hint = "";
    if (!("gpu" in navigator)) {
      hint = " This browser has no WebGPU; a current Chrome, Edge, Firefox or Safari has.";
    } else if (error.message.startsWith("device ")) {
      hint = " It knows WebGPU but gives no GPU: its settings or the graphics driver may keep it off.";
    }
    say(status, "error", `No GPU here: ${error.message}.${hint} Pictures are drawn by the processor.`);
  }
}

function restore_settings() {
  let saved = {};
  try {
    saved = JSON.parse(localStorage.getItem(SETTINGS_KEY) ?? "{}");
  } catch {
    // A browser that keeps no data for the page, or data that somebody changed: the defaults serve.
  }
  for (const field of fields) {
    if (!(field.id in saved)) continue;
    if (field.type === "checkbox") field.checked = saved[field.id] === true;
    else field.value = saved[field.id];
  }
}

function keep_settings() {
  const saved = fields.map((field) => [field.id, field.type === "checkbox" ? field.checked : field.value]);
  try {
    localStorage.setItem(SETTINGS_KEY, JSON.stringify(Object.fromEntries(saved)));
  } catch {
    // As above; nothing that the reader asked for is lost.
  }
}

async function load_model() {
  element("draw").disabled = true;
  try {
    const model = await client.load(ENDPOINT, REPOSITORY, runner.value, ({ stage, fraction }) => {
      say(element("model"), "waiting", `${stage} …`);
      show_progress(fraction);
    });
    if (sampler.options.length === 0) {
      for (const name of model.samplers) {
        sampler.append(new Option(name === model.sampler ? `${name} (the model's own)` : name, name));
      }
      sampler.value = model.sampler;
      restore_settings();
    }
    const what = `emojis on plain backgrounds, ${model.width}x${model.height}`;
    say(element("model"), "ready", `${model.name} is ready: ${what}, by ${model.runner}.`);
    element("draw").disabled = false;
    await count_tokens();
  } catch (error) {
    const hint = runner.value === "gpu" ? "Choose the processor in the settings." : "Reload the page to try again.";
    say(element("model"), "error", `The model could not be loaded: ${error.message}. ${hint}`);
  } finally {
    element("progress").hidden = true;
  }
}

async function count_tokens() {
  const [n_tokens, limit] = await client.tokens(prompt.value);
  element("tokens").textContent =
    n_tokens > limit ? `${n_tokens} tokens; the model reads the first ${limit}.` : `${n_tokens} of ${limit} tokens`;
}

/**
 * @param {import("./protocol.js").Drawn} drawn
 * @param {import("./protocol.js").Settings} settings
 */
function show_picture(drawn, settings) {
  const url = URL.createObjectURL(new Blob([drawn.png], { type: "image/png" }));
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  image.src = url;
  image.alt = settings.prompt;
  const caption = document.createElement("figcaption");
  caption.textContent = `${settings.prompt} · seed ${settings.seed} · ${drawn.seconds.toFixed(1)} s `;
  const link = document.createElement("a");
  link.href = url;
  link.download = `darkroom-${settings.seed}.png`;
  link.textContent = "Save";
  link.setAttribute("aria-label", `Save the picture of ${settings.prompt}, seed ${settings.seed}`);
  caption.append(link);
  figure.append(image, caption);
  element("gallery").prepend(figure);
  element("pictures").hidden = false;
}

async function draw() {
  if (element("draw").disabled || !form.reportValidity()) return;
  if (random.checked) seed.value = String(Math.floor(Math.random() * 2 ** 32));
  keep_settings();
  const settings = {
    prompt: prompt.value,
    negative_prompt: negative.value,
    steps: steps.valueAsNumber,
    guidance_scale: guidance.valueAsNumber,
    sampler: sampler.value,
    seed: seed.valueAsNumber,
  };
  n_waiting += 1;
  element("stop").hidden = false;
  say(element("model"), "waiting", n_waiting > 1 ? `${n_waiting - 1} before this one …` : "Reading the prompt …");
  try {
    const drawn = await client.generate(settings, ({ stage, fraction }) => {
      say(element("model"), "waiting", `${stage} …`);
      show_progress(fraction);
    });
    if (drawn.cancelled) {
      say(element("model"), "ready", "Stopped.");
    } else {
      show_picture(drawn, settings);
      const cut = drawn.truncated ? ` The model could not read the end of the prompt: ${drawn.truncated}` : "";
      say(element("model"), "ready", `Done in ${drawn.seconds.toFixed(1)} s.${cut}`);
    }
  } catch (error) {
    say(element("model"), "error", `The picture could not be drawn: ${error.message}.`);
  } finally {
    n_waiting -= 1;
    if (n_waiting === 0) {
      element("progress").hidden = true;
      element("stop").hidden = true;
    }
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  draw();
});
element("stop").addEventListener("click", () => client.cancel());
runner.addEventListener("change", async () => {
  keep_settings();
  await client.cancel();
  await load_model();
});
prompt.addEventListener("input", () => count_tokens().catch((error) => say(element("model"), "error", error.message)));
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    draw();
  } else if (event.key === "Escape" && n_waiting > 0) {
    client.cancel();
  }
});

restore_settings();
await Promise.all([look_for_gpu(), load_model()]);
