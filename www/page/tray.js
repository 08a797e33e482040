// What is being drawn and what waits: the developing picture, one bar for the whole job, stop, pause, the queue.

import { message_of } from "../errors.js";
import { add_picture } from "./gallery.js";
import { element, make, part, pen_of } from "./elements.js";
import { keep_focus } from "./focus.js";
import { forget_job, keep_job } from "./kept_form.js";
import { announce, notify } from "./notices.js";
import { duration, sentence, stage } from "./words.js";

/** Below this part of the work the time that is left cannot be told. */
const TELLING_FRACTION = 0.04;
/** So many of what waits are listed; the rest is a number. */
const MAX_ROWS = 20;
/** So much of a prompt that was cut is quoted, in characters. */
const MAX_QUOTED = 60;
/** Screen readers are told of the progress so often. */
const TELLINGS = 4;

const canvas = element("developing");

/**
 * @typedef {object} Sheet
 * @property {import("../darkroom.js").Job} job
 * @property {import("../protocol.js").DrawRequest} request
 * @property {HTMLElement} row its place in the queue
 * @property {import("../protocol.js").Progress | null} progress
 * @property {boolean} is_stopping
 * @property {number} told how many quarters of the work screen readers were told of
 */

/** What was asked for and is not done, in order. @type {Sheet[]} */
const sheets = [];
/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
let is_paused = false;
/** @type {(outcome: import("../protocol.js").Outcome) => void} */
let finished = () => {};

/**
 * @param {import("../darkroom.js").Darkroom} given
 * @param {(outcome: import("../protocol.js").Outcome) => void} on_finished
 */
export function open_tray(given, on_finished) {
  darkroom = given;
  finished = on_finished;
  element("stop").addEventListener("click", stop);
  element("pause").addEventListener("click", () => pause(!is_paused));
}

/** Whether something is drawn or waits. */
export const is_busy = () => sheets.length > 0;

/** Stops what is being drawn; what waits goes on. */
export function stop() {
  const sheet = sheets[0];
  if (!sheet || sheet.is_stopping) return;
  sheet.is_stopping = true;
  element("stop").disabled = true;
  element("stage").textContent = "Stopping …";
  sheet.job.cancel().catch((error) => notify("error", `it could not be stopped: ${message_of(error)}`));
}

/** @param {boolean} hold */
async function pause(hold) {
  try {
    await (hold ? darkroom.pause() : darkroom.resume());
  } catch (error) {
    notify("error", `that did not work: ${message_of(error)}`);
    return;
  }
  is_paused = hold;
  show_buttons();
}

/** Shows that a model is being loaded, on the same bar. @param {import("../protocol.js").Progress} progress */
export function show_loading(progress) {
  if (is_busy()) return;
  element("stage").textContent = stage(progress);
  element("progress").value = progress.fraction;
  element("left").textContent = "";
}

/** @param {string} text */
export function say(text) {
  if (is_busy()) return;
  element("stage").textContent = text;
  element("progress").value = 0;
}

/**
 * Asks for a picture and follows it until it is done.
 * @param {import("../protocol.js").DrawRequest} request
 * @param {import("../darkroom.js").Pictures} given
 * @param {(error: unknown) => void} on_error
 * @param {number} [kept_as] its name in the kept queue, where it has one already
 */
export async function draw(request, given, on_error, kept_as) {
  /** @type {Promise<void>[]} */
  const kept = [];
  const job = darkroom.generate(request, {
    ...given,
    on_progress: (progress) => follow(sheet, progress),
    on_preview: show_pixels,
    on_picture: (picture) => kept.push(keep(picture, sheet)),
  });
  /** @type {Sheet} */
  const sheet = { job, request, row: make("li"), progress: null, is_stopping: false, told: 0 };
  // A browser that keeps nothing draws all the same.
  const name = kept_as ?? keep_job({ model: element("model").value, request, given, asked_at: Date.now() }).catch(() => undefined);
  const drop = make("button", { type: "button", class: "plain", "aria-label": `Remove from the queue: ${request.prompt}` }, "Remove");
  drop.addEventListener("click", () => {
    sheet.job.cancel().catch((error) => notify("error", `it could not be removed: ${message_of(error)}`));
  });
  sheet.row.append(make("span", {}, request.prompt), make("small", { class: "count" }), drop);
  sheets.push(sheet);
  show_queue();
  show_buttons();
  if (sheets[0] === sheet) begin(sheet);
  // On a phone the form fills the window.
  element("bath").scrollIntoView({ block: "nearest" });
  let outcome = null;
  try {
    outcome = await sheet.job.done;
    await Promise.all(kept);
  } catch (error) {
    on_error(error);
  }
  const kept_name = await name;
  if (kept_name !== undefined) forget_job(kept_name).catch(() => {});
  const was_first = sheets[0] === sheet;
  sheets.splice(sheets.indexOf(sheet), 1);
  if (was_first) end(sheet, outcome);
  if (sheets.length === 0 && is_paused) await pause(false);
  show_queue();
  show_buttons();
  if (was_first && sheets[0]) begin(sheets[0]);
}

/** @param {Sheet} sheet */
function begin(sheet) {
  element("bath").dataset.state = "developing";
  document.documentElement.dataset.state = "drawing";
  element("sheet-hint").hidden = true;
  canvas.setAttribute("aria-label", `Developing: ${sheet.request.prompt}`);
  const { prompt, seed, timesteps, sigmas = [0], width, height } = sheet.request;
  const steps = sheet.request.steps ?? timesteps?.length ?? sigmas.length - 1;
  element("what").textContent = prompt;
  element("what-settings").textContent = `${width} × ${height} · ${steps} steps · seed ${seed}`;
  follow(sheet, sheet.progress ?? { stage: "encoding", fraction: 0 });
  announce(`Drawing ${sheet.request.prompt}`);
}

/**
 * @param {Sheet} sheet
 * @param {import("../protocol.js").Progress} progress
 */
function follow(sheet, progress) {
  sheet.progress = progress;
  if (sheet !== sheets[0]) {
    part(sheet.row, "small", HTMLElement).textContent = stage(progress);
    return;
  }
  if (sheet.is_stopping) return;
  const text = stage(progress);
  const bar = element("progress");
  if (element("stage").textContent !== text) {
    element("stage").textContent = text;
    bar.setAttribute("aria-valuetext", `${text}, ${Math.round(progress.fraction * 100)} per cent`);
  }
  bar.value = progress.fraction;
  const quarter = Math.floor(progress.fraction * TELLINGS);
  if (progress.stage === "denoising" && quarter > sheet.told) {
    sheet.told = quarter;
    announce(text);
  }
  const { fraction, seconds = 0 } = progress;
  const can_tell = fraction > TELLING_FRACTION && progress.stage !== "paused";
  element("left").textContent = can_tell ? `${duration((seconds * (1 - fraction)) / fraction)} left` : "";
}

/**
 * @param {Sheet} sheet
 * @param {(import("../protocol.js").Outcome) | null} outcome null after an error
 */
function end(sheet, outcome) {
  const { step = 0, n_steps = 0 } = sheet.progress ?? {};
  const { prompt } = sheet.request;
  /** @type {(state: "failed" | "stopped" | "done", text: string) => void} */
  const says = (state, text) => {
    element("bath").dataset.state = state;
    element("stage").textContent = text;
    announce(text);
  };
  document.documentElement.dataset.state = "ready";
  element("left").textContent = "";
  if (!outcome) {
    says("failed", "It could not be drawn.");
    element("progress").value = 0;
    canvas.setAttribute("aria-label", `Not drawn: ${prompt}`);
  } else if (outcome.cancelled) {
    says("stopped", n_steps > 0 ? `Stopped at step ${step} of ${n_steps}.` : "Stopped.");
    canvas.setAttribute("aria-label", `Stopped: ${prompt}`);
  } else {
    says("done", `Done in ${duration(outcome.seconds)}.`);
    element("progress").value = 1;
    canvas.setAttribute("aria-label", prompt);
    finished(outcome);
    if (outcome.n_recoveries > 0) notify("info", "the GPU was lost while this was drawn; the picture went on from its last step");
    if (outcome.repeated_in_f32) {
      notify("info", "16-bit numbers were not enough for this picture, so a part was computed again in 32 bits; the settings can ask for that at once");
    }
    if (outcome.truncated) {
      const { truncated: cut } = outcome;
      const quoted = cut.length > MAX_QUOTED ? `${cut.slice(0, MAX_QUOTED).trimEnd()} …` : cut;
      notify("info", `The model could not read the end of the prompt: ${quoted}`);
    }
  }
}

/** @param {import("../protocol.js").Preview} preview */
function show_pixels({ width, height, data }) {
  [canvas.width, canvas.height] = [width, height];
  pen_of(canvas).putImageData(new ImageData(data, width, height), 0, 0);
}

/**
 * Shows a finished picture and keeps it.
 * @param {import("../protocol.js").Picture} picture
 * @param {Sheet} sheet
 */
async function keep({ png }, sheet) {
  const file = new Blob([png], { type: "image/png" });
  const seconds = sheet.progress?.seconds ?? 0;
  try {
    const bitmap = await createImageBitmap(file);
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    pen_of(canvas).drawImage(bitmap, 0, 0);
    bitmap.close();
    const parameters = await darkroom.read_parameters(file);
    if (!parameters) throw new Error("its file does not say what made it");
    await add_picture({ png: file, parameters, seconds, made_at: Date.now() });
  } catch (error) {
    notify("error", sentence(`the picture was drawn but cannot be shown: ${message_of(error)}`));
  }
}

function show_queue() {
  const waiting = sheets.slice(1);
  const rows = waiting.slice(0, MAX_ROWS).map((sheet) => sheet.row);
  if (waiting.length > 1) {
    const n_more = waiting.length - rows.length;
    const more = make("li", { class: "more" }, make("span", {}, n_more > 0 ? `and ${n_more} more` : ""));
    more.append(make("button", { type: "button", class: "plain", "aria-label": "Clear the queue", onclick: clear }, "Clear"));
    rows.push(more);
  }
  const queue = element("queue");
  keep_focus(queue, () => queue.replaceChildren(...rows), element("pause"));
  queue.hidden = waiting.length === 0;
}

/** Takes out all that waits. */
function clear() {
  for (const sheet of sheets.slice(1).reverse()) sheet.job.cancel().catch((error) => notify("error", `it could not be removed: ${message_of(error)}`));
}

function show_buttons() {
  const draw_button = element("draw");
  draw_button.textContent = is_busy() ? "Add to the queue" : "Draw";
  element("stop").disabled = !is_busy() || sheets[0].is_stopping;
  element("pause").disabled = !is_busy();
  element("pause").textContent = is_paused ? "Go on" : "Pause";
  element("pause").setAttribute("aria-pressed", String(is_paused));
}
