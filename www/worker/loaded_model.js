// The one model that is loaded: how it was, so that it can be again after a lost GPU, and which tiles were measured for it.

import { keep_tiles, read_tiles } from "../tiles.js";
import { Failure, code_of } from "../errors.js";
import { check_browser } from "./browser.js";
import { clip_merges } from "./clip_merges.js";
import { fetch_model } from "./fetch_model.js";
import { throttled } from "./pace.js";
import { name_of_device, program, threads, threads_in_use } from "./program.js";

/** @typedef {import("../pkg/darkroom.js").Studio} Studio */
/** @typedef {import("../protocol.js").LoadSettings} LoadSettings */
/** @typedef {import("../pkg/darkroom.js").WeightType} WeightType */

/**
 * @param {import("./queue.js").Job} job
 * @param {"downloading" | "loading"} stage
 */
function tells(job, stage) {
  const tell = throttled((/** @type {number} */ fraction) => job.post({ type: "progress", stage, fraction }));
  // Whether to go on.
  return (/** @type {number} */ fraction) => {
    tell(fraction);
    return !job.is_cancelled;
  };
}

/** Types of weights for a GPU whose memory does not hold a model in 16 bits, in turn. @type {readonly WeightType[]} */
const SMALLER = ["q8_0", "q4_0"];

export class LoadedModel {
  #kept_models;
  /** @type {Studio | undefined} */
  #studio;
  /** How it was loaded, to load it again. @type {import("../protocol.js").LoadedAs | undefined} */
  #loaded_as;
  /** The adapter, and what is known of its tiles. @type {{adapter: string, known?: string} | undefined} */
  #tiles_of;
  /** The files that were fetched last, so that neither another runner nor another worker downloads them. @type {Map<string, Blob>} */
  #files = new Map();
  /** Where those come from. */
  #files_source = "";
  #tell_state;

  /**
   * @param {import("./kept_models.js").KeptModels} kept_models
   * @param {(state: import("../protocol.js").ModelState) => void} tell_state is told what another worker needs to load the model again
   */
  constructor(kept_models, tell_state) {
    this.#kept_models = kept_models;
    this.#tell_state = tell_state;
  }

  /** The model, where one is loaded. */
  get loaded() {
    return this.#studio;
  }

  /** The model, or a failure that says that none is loaded. */
  get studio() {
    if (!this.#studio) throw new Failure("no model is loaded: load one first", "model");
    return this.#studio;
  }

  /** Whether it is loaded while its files come. */
  get is_arriving() {
    return this.#loaded_as !== undefined && this.#loaded_as.is_kept && this.#kept_models.is_arriving(this.#loaded_as.name);
  }

  /**
   * @param {import("../protocol.js").LoadRequest} request
   * @param {import("./queue.js").Job} job
   * @returns {Promise<import("../protocol.js").LoadedModel>}
   */
  async load({ endpoint, repository, runner: wanted, dtype, weights, budget_bytes, prediction, base, vae, taesd, embeddings }, job) {
    const { runner, why } = await choose(wanted);
    const source = `${endpoint}/${repository}`;
    const is_other = endpoint !== null && this.#files_source !== source;
    const files = is_other ? await fetch_model(endpoint, repository, tells(job, "downloading"), job.signal) : this.#files;
    if (job.is_cancelled) throw new Failure("loading was stopped", "cancelled");
    if (is_other) [this.#files, this.#files_source] = [files, source];
    // What is there goes first: two models at once may be more than the memory holds.
    this.drop();
    this.#loaded_as = undefined;
    this.#tell(runner);
    await this.#kept_models.use_program_for(runner);
    // Only a GPU's memory has a budget here.
    const settings = { runner, dtype, weights, budget_bytes: runner === "gpu" ? budget_bytes : undefined, prediction, base, vae, taesd, embeddings };
    job.post({ type: "progress", stage: "loading", fraction: 0 });
    // A browser does not say how much memory a GPU has, so it is tried: first as the budget wants it, then smaller.
    const left = weights === undefined && runner === "gpu" ? [...SMALLER] : [];
    for (let held = weights; ; held = left.shift()) {
      this.#loaded_as = { name: repository, is_kept: endpoint === null, settings: { ...settings, weights: held } };
      try {
        const studio = await this.#open(this.#loaded_as, tells(job, "loading"));
        const info = studio.info();
        return { ...info, device: name_of_device(info.runner, info.device), repository, why: runner === "cpu" ? `${why}; ${of_threads()}` : why };
      } catch (error) {
        // What was not to be loaded is not loaded by the next job either.
        if (code_of(error) === "cancelled") this.#loaded_as = undefined;
        if (code_of(error) !== "memory" || left.length === 0) throw error;
        this.drop();
      } finally {
        this.#tell(runner);
      }
    }
  }

  /** @param {import("../protocol.js").RunnerName} runner */
  #tell(runner) {
    this.#tell_state({ runner, as: this.#loaded_as, source: this.#files_source, files: this.#files });
  }

  /**
   * Loads the model of a worker that was ended. Where that fails, the next job tries it again.
   * @param {import("../protocol.js").ModelState} state
   * @param {(fraction: number) => void} progress
   */
  async restore({ as, source, files }, progress) {
    [this.#loaded_as, this.#files_source, this.#files] = [as, source, files];
    if (!as) return;
    await this.#kept_models.use_program_for(as.settings.runner);
    await this.#open(as, progress);
  }

  /** Loads it again where a recovery that failed left nothing; perhaps the GPU is back by now. @param {import("./queue.js").Job} job */
  async ensure(job) {
    const tell = tells(job, "loading");
    // The job itself looks whether it was cancelled.
    if (!this.#studio && this.#loaded_as) await this.#open(this.#loaded_as, (fraction) => void tell(fraction));
    return this.studio;
  }

  /** After a lost GPU: opens it anew. */
  async reload() {
    this.drop();
    if (this.#loaded_as) await this.#open(this.#loaded_as, () => {});
    return this.studio;
  }

  /**
   * Fits the LoRAs that a request names to a loaded model; what is worth telling about them. Where it names none, the store is
   * not looked at.
   * @param {Studio} studio
   * @param {import("../protocol.js").DrawRequest} request
   */
  async open_loras(studio, request) {
    const names_some = (request.loras?.length ?? 0) > 0 || request.prompt?.includes("<");
    return names_some ? studio.open_loras(await this.#kept_models.opened(), request) : [];
  }

  /** Gives the memory back. */
  drop() {
    const old = this.#studio;
    this.#studio = undefined;
    try {
      old?.free();
    } catch {
      // Something is being planned with it at this moment; the browser frees it afterwards.
    }
  }

  /** Drops it where it is that one, whose missing files do not come any more; the next job loads it anew. @param {string} kept */
  drop_kept(kept) {
    if (this.#loaded_as?.is_kept && this.#loaded_as.name === kept) this.drop();
  }

  /**
   * @param {import("../protocol.js").LoadedAs} as
   * @param {(fraction: number) => boolean | void} progress
   */
  async #open({ name, is_kept, settings: given }, progress) {
    const settings = { ...given };
    this.#tiles_of = undefined;
    const { caps } = settings.runner === "gpu" ? await check_browser() : { caps: null };
    if (caps) {
      const known = await read_tiles(caps.name);
      this.#tiles_of = { adapter: caps.name, known };
      Object.assign(settings, { tiles: known, tune: !caps.software });
    }
    const studio = is_kept ? await this.#open_kept(name, settings, progress) : await program().Studio.load(name, await bytes_of(this.#files), settings, progress);
    this.#studio = studio;
    return studio;
  }

  /**
   * A checkpoint in one file has no vocabulary: CLIP's is beside the page.
   * @param {string} name
   * @param {LoadSettings} settings
   * @param {(fraction: number) => boolean | void} progress
   */
  async #open_kept(name, settings, progress) {
    const models = await this.#kept_models.opened();
    const merges = (await models.is_single_file(name)) ? await clip_merges() : undefined;
    return program().Studio.load_stored(models, name, { ...settings, clip_merges: merges }, progress);
  }

  /** Keeps what was measured while a picture was prepared. */
  async keep_measured() {
    const measured = this.#studio?.tiles();
    if (!this.#tiles_of || !measured || measured === this.#tiles_of.known) return;
    this.#tiles_of.known = measured;
    await keep_tiles(this.#tiles_of.adapter, measured);
  }
}

/** @param {Map<string, Blob>} files */
async function bytes_of(files) {
  const read = [...files].map(async ([path, file]) => /** @type {const} */ ([path, new Uint8Array(await file.arrayBuffer())]));
  return new Map(await Promise.all(read));
}

/** How many threads the processor draws with, and why, in words. */
function of_threads() {
  const n = threads_in_use();
  if (n > 1) return `${n} threads compute`;
  return `one thread computes, because ${threads().one_thread_because ?? "a model is being downloaded: load again afterwards"}`;
}

/**
 * Which runner computes, and the sentence why.
 * @param {import("../protocol.js").Runner} wanted
 */
async function choose(wanted) {
  switch (wanted) {
    case "auto": {
      const { runner, reason } = await check_browser();
      return { runner, why: reason };
    }
    case "cpu":
      return { runner: wanted, why: "the processor was chosen" };
    case "gpu":
      return { runner: wanted, why: "the GPU was chosen" };
    default:
      throw new Failure(`runner ${wanted} is not possible: use auto, cpu or gpu`, "request");
  }
}
