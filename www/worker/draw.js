// The loop that draws one request: a step, what it reports, a look at cancels and pauses, and again.

import { code_of } from "../errors.js";
import { nothing_drawn } from "../protocol.js";
import { throttled, yield_to_messages } from "./pace.js";
import { program } from "./program.js";

/** @typedef {import("../pkg/darkroom.js").Drawing} Drawing */
/** @typedef {import("../pkg/darkroom.js").StepReport} StepReport */
/** @typedef {import("../protocol.js").Outcome} Outcome */

/** A GPU that is lost again and again does not come back. */
const MAX_RECOVERIES = 3;

/**
 * Draws. A job that is cancelled keeps the pictures that are finished, and is no failure. Where prompts choose, each picture
 * has a drawing of its own.
 * @param {import("./queue.js").Job} job
 * @param {import("../protocol.js").GenerateRequest} asked
 * @param {import("./loaded_model.js").LoadedModel} model
 * @param {import("./queue.js").Queue} queue
 * @returns {Promise<Outcome>}
 */
export async function draw(job, { request, picture, mask, previews, wildcards = {} }, model, queue) {
  const clock = new Clock();
  let outcome = nothing_drawn();
  if (job.is_cancelled) return outcome;
  const { pictures, notes } = program().choose_prompts(request, wildcards);
  outcome = { ...outcome, cancelled: false, notes };
  for (const [before, chosen] of pictures.entries()) {
    const own = { ...request, ...chosen };
    const studio = await model.ensure(job);
    const of_loras = await model.open_loras(studio, own);
    const drawing = studio.draw(own, picture, mask);
    const run = new Run(job, drawing, model, queue, clock, own, previews, of_loras, { before, n: pictures.length, earlier: outcome });
    try {
      outcome = together(outcome, await run.to_its_end());
    } finally {
      drawing.free();
    }
    if (outcome.cancelled) break;
  }
  return outcome;
}

/** What came of two drawings of one job, of which the second ended last. @param {Outcome} first @param {Outcome} second @returns {Outcome} */
function together(first, second) {
  return {
    cancelled: second.cancelled,
    seconds: second.seconds,
    n_tokens: Math.max(first.n_tokens, second.n_tokens),
    truncated: first.truncated ?? second.truncated,
    notes: [...new Set([...first.notes, ...second.notes])],
    flops: first.flops + second.flops,
    n_recoveries: first.n_recoveries + second.n_recoveries,
    repeated_in_f32: first.repeated_in_f32 || second.repeated_in_f32,
  };
}

/** Seconds since it was made, less those that do not count. */
class Clock {
  #start = performance.now();
  #paused_ms = 0;

  get seconds() {
    return (performance.now() - this.#start - this.#paused_ms) / 1000;
  }

  /** Stands still while something is awaited. @template T @param {Promise<T>} waiting */
  async without(waiting) {
    const from = performance.now();
    const value = await waiting;
    this.#paused_ms += performance.now() - from;
    return value;
  }
}

/** One drawing on its way, of a job that may have several. */
class Run {
  #job;
  #drawing;
  #model;
  #queue;
  #clock;
  #request;
  #previews;
  #is_gpu;
  #place;
  #outcome = nothing_drawn();
  /** What it is doing, as the page is told. @type {import("../protocol.js").Progress & {step: number, n_steps: number}} */
  #now;
  #tell_within = throttled(() => this.#tell());

  /**
   * @param {import("./queue.js").Job} job
   * @param {Drawing} drawing
   * @param {import("./loaded_model.js").LoadedModel} model
   * @param {import("./queue.js").Queue} queue
   * @param {Clock} clock
   * @param {import("../protocol.js").DrawRequest} request
   * @param {boolean} previews
   * @param {string[]} notes
   * @param {{before: number, n: number, earlier: Outcome}} place how many drawings of the job came before, how many there are, and
   *   what came of those before
   */
  constructor(job, drawing, model, queue, clock, request, previews, notes, place) {
    this.#job = job;
    this.#drawing = drawing;
    this.#model = model;
    this.#queue = queue;
    this.#clock = clock;
    this.#request = request;
    this.#previews = previews;
    this.#place = place;
    this.#is_gpu = model.studio.info().runner === "gpu";
    this.#outcome.flops = drawing.flops();
    this.#outcome.notes = notes;
    this.#now = { stage: "encoding", picture: place.before, count: (request.count ?? 1) * place.n, step: 0, n_steps: 0, fraction: place.before / place.n };
  }

  /** @returns {Promise<Outcome>} */
  async to_its_end() {
    try {
      this.#tell();
      this.#tell_outcome();
      for (;;) {
        const report = await this.#step();
        if (!report) continue;
        this.#take(report);
        if (report.stage === "done") return this.#end(false);
        await yield_to_messages();
        await this.#wait_while_held();
        if (this.#job.is_cancelled) return this.#end(true);
      }
    } catch (error) {
      // The step that was told to stop says so; that is no failure.
      if (code_of(error) === "cancelled" && this.#job.is_cancelled) return this.#end(true);
      throw error;
    }
  }

  /**
   * One step, and what is done with the GPU right after it.
   * @returns {Promise<StepReport | null>} nothing where the GPU was lost and is back
   */
  async #step() {
    const drawing = this.#drawing;
    try {
      const step = drawing.step((fraction) => {
        this.#now.fraction = (this.#place.before + fraction) / this.#place.n;
        this.#tell_within(undefined);
        return !this.#job.is_cancelled;
      });
      // How fast the network is says nothing of how fast this machine draws.
      const report = await (this.#stage() === "downloading" ? this.#clock.without(step) : step);
      if (report.stage === "encoded" || report.stage === "decoded") await this.#model.keep_measured();
      // Little is read back, and only a GPU can be lost.
      if (report.stage === "denoised" && this.#is_gpu) await drawing.keep();
      if (report.stage === "denoised" && this.#previews) await this.#preview(report);
      return report;
    } catch (error) {
      if (code_of(error) !== "lost" || this.#outcome.n_recoveries === MAX_RECOVERIES) throw error;
      this.#outcome.n_recoveries += 1;
      this.#job.post({ type: "progress", ...this.#now, stage: "recovering" });
      const studio = await this.#model.reload();
      await this.#model.open_loras(studio, this.#request);
      drawing.move_to(studio);
      return null;
    }
  }

  /** @param {StepReport & {stage: "denoised"}} at */
  async #preview({ picture, step }) {
    const preview = await this.#drawing.preview();
    if (preview) this.#job.post({ type: "preview", picture: this.#place.before + picture, step, ...preview }, [preview.data.buffer]);
  }

  /** Tells of what a step did. @param {StepReport} report */
  #take(report) {
    const now = this.#now;
    if ("repeated_in_f32" in report && report.repeated_in_f32) this.#outcome.repeated_in_f32 = true;
    switch (report.stage) {
      case "encoded":
        this.#outcome.n_tokens = report.n_tokens;
        this.#outcome.truncated = report.truncated;
        // After a recovery they come again.
        this.#outcome.notes = [...new Set([...this.#outcome.notes, ...report.notes])];
        this.#tell_outcome();
        // After a recovery the steps go on where they were.
        now.stage = now.n_steps > 0 ? "denoising" : "encoding";
        break;
      case "prepared":
        Object.assign(now, { stage: "denoising", picture: this.#place.before + report.picture, step: 1, n_steps: this.#drawing.n_steps() });
        this.#tell();
        break;
      case "denoised":
        if (report.step < report.n_steps) now.step = report.step + 1;
        else now.stage = "decoding";
        this.#tell();
        break;
      case "decoded": {
        const png = /** @type {Uint8Array<ArrayBuffer>} */ (this.#drawing.png());
        this.#job.post({ type: "image", picture: this.#place.before + report.picture, seed: report.seed, png }, [png.buffer]);
        break;
      }
      case "done":
        break;
    }
  }

  async #wait_while_held() {
    while (this.#queue.is_held && !this.#job.is_cancelled) {
      this.#job.post({ type: "progress", ...this.#now, stage: "paused", seconds: this.#clock.seconds });
      await this.#clock.without(this.#queue.released());
      if (!this.#queue.is_held) this.#tell();
    }
  }

  /** Between the prompt and the first step the UNet has to be there. */
  #stage() {
    return this.#now.stage === "encoding" && this.#model.is_arriving ? "downloading" : this.#now.stage;
  }

  #tell() {
    this.#job.post({ type: "progress", ...this.#now, stage: this.#stage(), seconds: this.#clock.seconds });
  }

  /** What came of the job, should it be cancelled where nobody here hears it. */
  #tell_outcome() {
    this.#job.post({ type: "outcome", outcome: together(this.#place.earlier, this.#end(true)) });
  }

  /**
   * @param {boolean} cancelled
   * @returns {Outcome}
   */
  #end(cancelled) {
    return { ...this.#outcome, cancelled, seconds: this.#clock.seconds };
  }
}
