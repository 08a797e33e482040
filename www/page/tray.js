// What is being drawn and what waits: the developing picture, one bar for the whole job, stop, pause, the queue.

import { open_queue_drawer, show_queue } from "./drawer.js";
import { element } from "./elements.js";
import { add_picture, show_gallery } from "./gallery.js";
import { forget_job, keep_job, keep_place } from "./kept_form.js";
import { progress_ended, progress_is } from "./look.js";
import { message_of } from "./messages.js";
import { announce, notify } from "./notices.js";
import { fresh_paper, put_on_stage, show_bitmap, show_pixels, stage_is } from "./stage.js";
import { text } from "./texts.js";
import { duration, sentence, stage } from "./words.js";

/** Below this part of the work the time that is left cannot be told. */
const TELLING_FRACTION = 0.04;
/** So much of a prompt that was cut is quoted, in characters. */
const MAX_QUOTED = 60;
/** Screen readers are told of the progress so often. */
const TELLINGS = 4;

/**
 * @typedef {object} Sheet
 * @property {import("../darkroom.js").Job} job
 * @property {import("../protocol.js").DrawRequest} request
 * @property {import("../options.js").Pictures} given
 * @property {number} seconds how long it will take, as far as that is known; NaN otherwise
 * @property {import("../protocol.js").Progress | null} progress
 * @property {boolean} is_stopping
 * @property {((item: import("./gallery.js").Item) => void)} [on_kept] is called with each picture once it is in the gallery
 * @property {import("./grid.js").Cell} [cell] which picture of a grid it is
 * @property {number} asked_at milliseconds since 1970
 * @property {Promise<number | undefined>} kept_as its name in the kept queue, where it has one
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
  open_queue_drawer({ sheets: () => sheets, take_out, move });
}

/** Whether something is drawn or waits. */
export const is_busy = () => sheets.length > 0;

/** Stops what is being drawn; what waits goes on. */
export function stop() {
  const sheet = sheets[0];
  if (!sheet || sheet.is_stopping) return;
  sheet.is_stopping = true;
  element("stop").disabled = true;
  element("stage").textContent = text.stopping;
  take_out(sheet);
}

/** Cancels a job, whether it waits or is being drawn. @param {Sheet} sheet */
function take_out(sheet) {
  sheet.job.cancel().catch((error) => notify("error", message_of(error)));
}

/**
 * Moves a job that waits to another place of those that wait. The worker knows no order but that of asking, so all that wait are
 * asked for again.
 * @param {Sheet} sheet
 * @param {number} to its place, 0 is the next
 */
function move(sheet, to) {
  const waiting = sheets.slice(1);
  const from = waiting.indexOf(sheet);
  if (from < 0 || to < 0 || to >= waiting.length || from === to) return;
  waiting.splice(from, 1);
  waiting.splice(to, 0, sheet);
  sheets.splice(1, waiting.length, ...waiting);
  for (const each of waiting) {
    const old = each.job;
    each.job = ask(each);
    old.cancel().catch((error) => notify("error", message_of(error)));
  }
  keep_order(waiting).catch(() => {});
  show_queue();
}

/** The order outlives a reload. @param {Sheet[]} waiting */
async function keep_order(waiting) {
  // Behind what is being drawn, and before whatever is asked for later.
  const first = Math.min(...waiting.map(({ asked_at }) => asked_at));
  for (const [idx, sheet] of waiting.entries()) {
    const name = await sheet.kept_as;
    if (name === undefined) continue;
    await keep_place(name, first + idx / (waiting.length + 1));
    // It may have been drawn meanwhile.
    if (!sheets.includes(sheet)) await forget_job(name);
  }
}

/** @param {boolean} hold */
async function pause(hold) {
  try {
    await (hold ? darkroom.pause() : darkroom.resume());
  } catch (error) {
    notify("error", message_of(error));
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

/** @param {string} said */
export function say(said) {
  if (is_busy()) return;
  element("stage").textContent = said;
  element("progress").value = 0;
}

/** Asks the worker for what a sheet describes. @param {Sheet} sheet */
function ask(sheet) {
  return darkroom.generate(sheet.request, {
    ...sheet.given,
    on_progress: (progress) => follow(sheet, progress),
    on_preview: (preview) => sheet === sheets[0] && show_pixels(preview),
    on_picture: (picture) => kept_of(sheet).push(keep(picture, sheet)),
  });
}

/** Pictures that are being kept, by their sheets. @type {WeakMap<Sheet, Promise<void>[]>} */
const being_kept = new WeakMap();

/** @param {Sheet} sheet */
function kept_of(sheet) {
  const kept = being_kept.get(sheet) ?? [];
  being_kept.set(sheet, kept);
  return kept;
}

/** What came of a job; where it was moved meanwhile, of the one that was asked for in its place. @param {Sheet} sheet */
async function outcome_of(sheet) {
  for (;;) {
    const { job } = sheet;
    try {
      const outcome = await job.done;
      if (job === sheet.job) return outcome;
    } catch (error) {
      if (job === sheet.job) throw error;
    }
  }
}

/**
 * Asks for a picture and follows it until it is done.
 * @param {import("../protocol.js").DrawRequest} request
 * @param {import("../options.js").Pictures} given
 * @param {(error: unknown) => void} on_error
 * @param {{seconds?: number, kept_as?: number, signal?: AbortSignal, cell?: Sheet["cell"], on_kept?: Sheet["on_kept"]}} [known] how long it will take; its name in
 *   the kept queue, where it has one; what cancels it; which picture of a grid it is; and who is told of its pictures
 */
export async function draw(request, given, on_error, { seconds = Number.NaN, kept_as, signal, cell, on_kept } = {}) {
  const sheet = /** @type {Sheet} */ ({ request, given, seconds, progress: null, is_stopping: false, told: 0, asked_at: Date.now(), cell, on_kept });
  sheet.job = ask(sheet);
  const cancel = () => take_out(sheet);
  signal?.addEventListener("abort", cancel, { once: true });
  // A browser that keeps nothing draws all the same.
  sheet.kept_as = Promise.resolve(kept_as ?? keep_job({ model: element("model").value, request, given, asked_at: sheet.asked_at, ...(cell ? { cell } : {}) }).catch(() => undefined));
  sheets.push(sheet);
  show_queue();
  show_buttons();
  if (sheets[0] === sheet) begin(sheet);
  let outcome = null;
  try {
    outcome = await outcome_of(sheet);
    await Promise.all(kept_of(sheet));
  } catch (error) {
    on_error(error);
  }
  signal?.removeEventListener("abort", cancel);
  const kept_name = await sheet.kept_as;
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
  const { prompt, seed, timesteps, sigmas = [0], width = 0, height = 0 } = sheet.request;
  stage_is("developing");
  show_gallery(false);
  document.documentElement.dataset.state = "drawing";
  fresh_paper(width, height, text.generating(prompt));
  const steps = sheet.request.steps ?? timesteps?.length ?? sigmas.length - 1;
  element("what").textContent = prompt;
  element("what-settings").textContent = `${width} × ${height} · ${text.steps(steps)} · ${text.seed(seed)}`;
  follow(sheet, sheet.progress ?? { stage: "encoding", fraction: 0 });
  announce(text.generating(prompt));
}

/**
 * @param {Sheet} sheet
 * @param {import("../protocol.js").Progress} progress
 */
function follow(sheet, progress) {
  sheet.progress = progress;
  if (sheet !== sheets[0]) {
    show_queue();
    return;
  }
  if (sheet.is_stopping) return;
  const said = stage(progress);
  const bar = element("progress");
  if (element("stage").textContent !== said) {
    element("stage").textContent = said;
    bar.setAttribute("aria-valuetext", text.percent(said, Math.round(progress.fraction * 100)));
  }
  bar.value = progress.fraction;
  progress_is(progress.fraction);
  const quarter = Math.floor(progress.fraction * TELLINGS);
  if (progress.stage === "denoising" && quarter > sheet.told) {
    sheet.told = quarter;
    announce(said);
  }
  const { fraction, seconds = 0 } = progress;
  const can_tell = fraction > TELLING_FRACTION && progress.stage !== "paused";
  element("left").textContent = can_tell ? text.time_left(duration((seconds * (1 - fraction)) / fraction)) : "";
}

/**
 * @param {Sheet} sheet
 * @param {(import("../protocol.js").Outcome) | null} outcome null after an error
 */
function end(sheet, outcome) {
  const { step = 0, n_steps = 0 } = sheet.progress ?? {};
  const { prompt } = sheet.request;
  const canvas = element("developing");
  /** @type {(state: "failed" | "stopped" | "done", said: string) => void} */
  const says = (state, said) => {
    stage_is(state);
    element("stage").textContent = said;
    announce(said);
  };
  document.documentElement.dataset.state = "ready";
  element("left").textContent = "";
  if (!outcome) {
    says("failed", text.failed);
    element("progress").value = 0;
    canvas.setAttribute("aria-label", text.not_generated(prompt));
  } else if (outcome.cancelled) {
    says("stopped", n_steps > 0 ? text.stopped_at(step, n_steps) : text.stopped);
    canvas.setAttribute("aria-label", text.stopped_picture(prompt));
  } else {
    says("done", text.done_in(duration(outcome.seconds)));
    element("progress").value = 1;
    finished(outcome);
    if (outcome.n_recoveries > 0) notify("info", text.gpu_lost);
    if (outcome.repeated_in_f32) notify("info", text.repeated);
    if (outcome.truncated) {
      const { truncated: cut } = outcome;
      notify("info", text.truncated(cut.length > MAX_QUOTED ? `${cut.slice(0, MAX_QUOTED).trimEnd()} …` : cut));
    }
  }
  if (sheets.length <= 1) progress_ended(outcome && !outcome.cancelled ? prompt : null);
}

/**
 * Shows a finished picture and keeps it.
 * @param {import("../protocol.js").Picture} picture
 * @param {Sheet} sheet
 */
async function keep({ png }, sheet) {
  const file = new Blob([png], { type: "image/png" });
  const seconds = sheet.progress?.seconds ?? 0;
  const { picture: source } = sheet.given;
  const cell = sheet.cell && { grid: sheet.cell.grid, i: sheet.cell.i };
  try {
    const bitmap = await createImageBitmap(file);
    show_bitmap(bitmap, sheet.request.prompt);
    const parameters = await darkroom.read_parameters(file);
    if (!parameters) throw new Error(text.unwritten_parameters);
    const kept = { png: file, parameters, seconds, made_at: Date.now(), ...(source instanceof Blob ? { source } : {}), ...(cell ? { cell } : {}) };
    const item = await add_picture(kept);
    sheet.on_kept?.(item);
    // The next one may be on the stage by now.
    if (sheet === sheets[0]) put_on_stage(item);
  } catch (error) {
    notify("error", sentence(text.not_shown(message_of(error))));
  }
}

function show_buttons() {
  element("draw").textContent = is_busy() ? text.add_to_queue : text.generate;
  element("stop").disabled = !is_busy() || sheets[0].is_stopping;
  element("pause").disabled = !is_busy();
  element("pause").textContent = is_paused ? text.resume : text.pause;
  element("pause").setAttribute("aria-pressed", String(is_paused));
}
