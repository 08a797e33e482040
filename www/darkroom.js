// Stable Diffusion for any page: a small class around the worker that owns the wasm and the GPU.
//
//     import { Darkroom } from "./darkroom.js";
//     const darkroom = await Darkroom.open();
//     await darkroom.load();
//     const { pictures } = await darkroom.generate({ prompt: "a red apple on a blue background", seed: 1 }).done;
//     document.querySelector("img").src = URL.createObjectURL(new Blob([pictures[0].png], { type: "image/png" }));

import { Connection } from "./connection.js";
import { DarkroomError } from "./errors.js";
import { GENERATE, OPEN, PLAN, REQUEST, check_functions, check_load, check_names, check_request, check_signal } from "./options.js";
import { as_given, bytes_of, is_given } from "./pictures.js";
import { nothing_drawn } from "./protocol.js";
import { IS_WHOLE, absolute, model_folder } from "./start.js";

export { DarkroomError };

/** The model that comes with the page, in the Hub's own URL layout: beside these files; in a bundle, beside the page. */
export const EMBEDDED_ENDPOINT = model_folder();
export const EMBEDDED_REPOSITORY = "darkroom/tiny-emoji";

/**
 * Types of what goes in and out.
 * @typedef {import("./options.js").GenerateOptions} GenerateOptions
 * @typedef {import("./options.js").LoadOptions} LoadOptions
 * @typedef {import("./options.js").OpenOptions} OpenOptions
 * @typedef {import("./pictures.js").AnyPicture} AnyPicture
 * @typedef {import("./protocol.js").Check} Check
 * @typedef {import("./protocol.js").DamageReport} DamageReport
 * @typedef {import("./protocol.js").DrawRequest} DrawRequest
 * @typedef {import("./protocol.js").Dtype} Dtype
 * @typedef {import("./protocol.js").ErrorCode} ErrorCode
 * @typedef {import("./protocol.js").ExtraNetwork} ExtraNetwork
 * @typedef {import("./protocol.js").Inspection} Inspection
 * @typedef {import("./protocol.js").LoadedModel} LoadedModel
 * @typedef {import("./protocol.js").ModelReport} ModelReport
 * @typedef {import("./protocol.js").Need} Need
 * @typedef {import("./protocol.js").Outcome} Outcome
 * @typedef {import("./protocol.js").Picture} Picture
 * @typedef {import("./protocol.js").PictureParameters} PictureParameters
 * @typedef {import("./protocol.js").Plan} Plan
 * @typedef {import("./protocol.js").PlanRequest} PlanRequest
 * @typedef {import("./protocol.js").Preview} Preview
 * @typedef {import("./protocol.js").Progress} Progress
 * @typedef {import("./protocol.js").Runner} Runner
 * @typedef {import("./protocol.js").Transfer} Transfer
 * @typedef {import("./protocol.js").VersionInfo} VersionInfo
 * @typedef {import("./protocol.js").WeightType} WeightType
 * @typedef {import("./protocol.js").Work} Work
 */

/** One request: on its way, or waiting for those before it. */
export class Job {
  #darkroom;

  /**
   * @param {Darkroom} darkroom
   * @param {number} id
   * @param {Promise<Outcome & {pictures: Picture[]}>} done
   */
  constructor(darkroom, id, done) {
    this.#darkroom = darkroom;
    this.id = id;
    /** What came of it, with the finished pictures in order. Rejects with a {@link DarkroomError}. */
    this.done = done;
  }

  /** Stops it, or takes it out of the queue; pictures that are finished are kept. `done` says `cancelled`. */
  cancel() {
    return this.#darkroom.cancel(this);
  }
}

export class Darkroom {
  #connection;
  /** Where the model is that is loaded without options. */
  #model_folder = EMBEDDED_ENDPOINT;
  /** Jobs whose files are being read, and whether they were cancelled meanwhile. @type {Map<number, {cancelled: boolean}>} */
  #preparing = new Map();
  /** Jobs reach the worker in the order in which they were asked for, however long their files take to read. */
  #last_prepared = Promise.resolve();

  /** Use {@link Darkroom.open}. @param {Connection} connection */
  constructor(connection) {
    this.#connection = connection;
  }

  /**
   * Starts the worker and waits until its wasm is there.
   * @param {OpenOptions} [options]
   * @returns {Promise<Darkroom>} rejects with the code `worker` where something is not there or blocked, which the message names
   */
  static async open(options = {}) {
    check_names(options, OPEN, "open's options");
    const { base_url, signal, on_restart } = options;
    check_signal(signal, "open's options");
    check_functions({ on_restart }, "open's options");
    const stopped = () => new DarkroomError("it was stopped while it opened", "cancelled");
    if (signal?.aborted) throw stopped();
    const connection = new Connection(options);
    const darkroom = new Darkroom(connection);
    const stop = () => connection.fail(stopped());
    signal?.addEventListener("abort", stop, { once: true });
    try {
      if (base_url !== undefined) darkroom.#model_folder = model_folder(base_url);
      await connection.open();
      if (signal?.aborted) throw stopped();
    } catch (error) {
      darkroom.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
    return darkroom;
  }

  /**
   * What this browser can do, before anything is loaded. Never rejects for want of a GPU: the answer says so.
   * @returns {Promise<Check>}
   */
  check() {
    return this.#connection.ask({ type: "check" });
  }

  /**
   * The seven versions of Stable Diffusion, with their defaults.
   * @returns {Promise<VersionInfo[]>}
   */
  versions() {
    return this.#connection.ask({ type: "versions" });
  }

  /**
   * Loads a model, in its turn behind the jobs that wait.
   * @param {LoadOptions} [options]
   * @param {(progress: Progress) => void} [on_progress]
   * @returns {Promise<LoadedModel>}
   */
  async load(options = {}, on_progress = () => {}) {
    check_load(options);
    check_functions({ on_progress }, "load");
    const { repository = EMBEDDED_REPOSITORY, runner = "auto", signal } = options;
    const { dtype = "auto", weights, budget_bytes, kept, prediction, base, vae, taesd, embeddings } = options;
    const endpoint = absolute(options.endpoint ?? this.#model_folder).replace(/\/+$/, "");
    const from = kept === undefined ? { endpoint, repository } : { endpoint: null, repository: kept };
    const stopped = () => new DarkroomError("loading was stopped", "cancelled");
    if (signal?.aborted) throw stopped();
    const id = this.#connection.new_id();
    const stop = () => {
      this.#connection.give_up(id, stopped());
      this.#connection.cancel(id).catch(() => {});
    };
    signal?.addEventListener("abort", stop, { once: true });
    try {
      return await this.#connection.ask(
        { type: "load", ...from, runner, dtype, weights, budget_bytes, prediction, base, vae, taesd, embeddings },
        (reply) => {
          if (reply.type === "progress") on_progress?.(reply);
        },
        id,
      );
    } catch (error) {
      const is_demo = !IS_WHOLE && kept === undefined && options.endpoint === undefined && repository === EMBEDDED_REPOSITORY;
      // What is said of an address is that nothing is there; of a file, that it does not open.
      if (!is_demo || !(error instanceof DarkroomError) || error.code !== "model" || !/^https?:/.test(error.message)) throw error;
      throw new DarkroomError(`${error.message}; the demo model is not part of the npm package: name another with kept or endpoint, or serve its folder there`, "model");
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  /**
   * Where models come from: a Hub's address and, for models that want one, an access token, which is kept in memory only.
   * @param {{endpoint?: string, token?: string}} [hub] the Hugging Face Hub where nothing is given
   * @returns {Promise<void>}
   */
  async use_hub(hub = {}) {
    check_names(hub, { endpoint: true, token: true }, "use_hub's options");
    const { endpoint, token } = hub;
    return this.#connection.ask({ type: "hub", endpoint, token });
  }

  /**
   * The models that this browser keeps, complete or not.
   * @returns {Promise<ModelReport[]>}
   */
  models() {
    return this.#connection.ask({ type: "models" });
  }

  /**
   * The kept files that change a model: LoRAs and kin, whose names a request's `loras` and tags `<lora:name:weight>` in its
   * prompt use, with words that call for them; and embeddings, whose names are words of prompts. `obstacle` says why the
   * loaded model does not take one.
   * @returns {Promise<ExtraNetwork[]>}
   */
  extra_networks() {
    return this.#connection.ask({ type: "extra_networks" });
  }

  /**
   * What there is of a model and what is missing. A model is a version's key, `owner/repo[@revision]`, or a checkpoint in one
   * file: `owner/repo[@revision]/path/file.safetensors` or an address.
   * @param {string} model
   * @returns {Promise<ModelReport>}
   */
  needed(model) {
    return this.#connection.ask({ type: "needed", model });
  }

  /**
   * Downloads what is missing of a model, and goes on where an earlier download stopped. Then `load({kept: model})`.
   * @param {string} model
   * @param {(progress: Transfer) => void} [on_progress]
   * @returns {Promise<ModelReport>}
   */
  download(model, on_progress) {
    return this.#connection.ask({ type: "download", model }, on_transfer(on_progress));
  }

  /**
   * Stops the download; what came is kept. Its promise rejects with the code `cancelled`.
   * @returns {Promise<void>}
   */
  stop_download() {
    return this.#connection.ask({ type: "stop_download" });
  }

  /**
   * Deletes a model.
   * @param {string} model
   * @returns {Promise<void>}
   */
  remove(model) {
    return this.#connection.ask({ type: "remove", model });
  }

  /**
   * Keeps a model from files that were picked or dropped, as if it had been downloaded.
   * @param {string} name a word without a slash, under which it is kept
   * @param {Map<string, Blob>} files by their path in the model's folder, such as `unet/config.json`; or one `.safetensors` or
   *   `.gguf` file, perhaps with its `.yaml` and a folder of its configuration, in diffusers' layout without weights; or a
   *   LoRA or an embedding, which {@link Darkroom.extra_networks} lists
   * @param {(progress: Transfer) => void} [on_progress]
   * @returns {Promise<ModelReport>}
   */
  import(name, files, on_progress) {
    return this.#connection.ask({ type: "import", name, files }, on_transfer(on_progress));
  }

  /**
   * Tells what a file or model is, by its headers: kind, family, components, prediction, what it takes and what to do with it.
   * @param {Blob | string} what a file; a kept model by its name; or one that is not kept, by `owner/repo`,
   *   `owner/repo/path/file.safetensors` or an address
   * @param {{yaml?: string, plan?: boolean}} [options] the text of the `.yaml` beside a file; without `plan` it is not found
   *   out how much memory it takes, which is quicker
   * @returns {Promise<Inspection>}
   */
  async inspect(what, options = {}) {
    check_names(options, { yaml: true, plan: true }, "inspect's options");
    const { yaml, plan = true } = options;
    if (typeof what === "string") return this.#connection.ask({ type: "inspect", model: what, plan });
    return this.#connection.ask({ type: "inspect_file", file: what, name: what instanceof File ? what.name : "the file", yaml, plan });
  }

  /**
   * Reads a model back and drops what is damaged; the next download fetches that alone.
   * @param {string} model
   * @param {(progress: Transfer) => void} [on_progress]
   * @returns {Promise<DamageReport[]>} what was damaged
   */
  verify(model, on_progress) {
    return this.#connection.ask({ type: "verify", model }, on_transfer(on_progress));
  }

  /**
   * What a picture would ask of this browser's GPU: of the version that is named, before anything is downloaded, or else
   * of the loaded model.
   * @param {PlanRequest} [request]
   * @returns {Promise<Plan>}
   */
  async plan(request = {}) {
    check_names(request, PLAN, "plan's request");
    return this.#connection.ask({ type: "plan", request });
  }

  /**
   * How many tokens a prompt has, without its tags of LoRAs, how many the loaded model reads, and in how many chunks.
   * @param {string} prompt
   * @param {import("./protocol.js").PromptSyntax} [syntax] AUTOMATIC1111's where absent
   * @returns {Promise<[number, number, number]>}
   */
  count_tokens(prompt, syntax) {
    return this.#connection.ask({ type: "tokens", prompt, syntax });
  }

  /**
   * The size that the loaded model draws at where a request gives none and starts from a picture of this size.
   * @param {number} width in pixels
   * @param {number} height in pixels
   * @param {boolean} [any_size] whether sides may be any multiple of 8
   * @returns {Promise<[number, number]>}
   */
  size_of_picture(width, height, any_size = false) {
    return this.#connection.ask({ type: "size_of_picture", width, height, any_size });
  }

  /**
   * Checks a request against the loaded model and says how much work it is. LoRAs that it names have to be kept, and to be
   * for the family of the loaded model.
   * @param {DrawRequest} request
   * @param {{has_picture?: boolean, has_mask?: boolean, wildcards?: Record<string, string>}} [given]
   * @returns {Promise<Work>}
   */
  async work(request, given = {}) {
    check_names(given, { has_picture: true, has_mask: true, wildcards: true }, "work's second argument");
    const { has_picture = false, has_mask = false, wildcards } = given;
    check_request(request, has_picture, has_mask);
    return this.#connection.ask({ type: "work", request, has_picture, has_mask, wildcards });
  }

  /**
   * Draws. Jobs run one after another, in the order in which they were asked for. With `loras` in the request, kept LoRAs
   * change the model: `[{ name: "ink", strength: 0.8, text_strength: 0.5 }]`. Prompts may choose, `{red|blue}`, each picture's
   * by its own seed.
   * @param {DrawRequest} request without a `seed` it is a random one, which each picture tells
   * @param {GenerateOptions} [options]
   * @returns {Job} what is wrong with the request rejects its `done`, with the code `request`
   */
  generate(request, options = {}) {
    const { on_progress, on_preview, on_picture, signal } = options ?? {};
    const id = this.#connection.new_id();
    /** @type {Picture[]} */
    const pictures = [];
    /** @param {import("./protocol.js").PartReply} reply */
    const receive = (reply) => {
      if (reply.type === "progress") on_progress?.(reply);
      else if (reply.type === "preview") on_preview?.(reply);
      else if (reply.type === "image") {
        pictures.push(reply);
        on_picture?.(reply);
      }
    };
    const before = this.#last_prepared;
    const state = { cancelled: false };
    this.#preparing.set(id, state);
    const prepared = (async () => {
      try {
        check_names(options, GENERATE, "generate's options", { known: REQUEST, where: "the request, its first argument" });
        check_functions({ on_progress, on_preview, on_picture }, "generate's options");
        check_signal(signal, "generate's options");
        check_request(request, is_given(options.picture), is_given(options.mask));
        const given = await Promise.all([as_given(options.picture, "picture"), as_given(options.mask, "mask")]);
        await before;
        return given;
      } finally {
        this.#preparing.delete(id);
      }
    })();
    this.#last_prepared = prepared.then(
      () => {},
      () => {},
    );
    const run = async () => {
      const [picture, mask] = await prepared;
      if (state.cancelled) return { ...nothing_drawn(), pictures };
      const transfer = [picture, mask].flatMap((given) => (given instanceof Uint8Array ? [given.buffer] : []));
      /** @type {import("./protocol.js").GenerateRequest} */
      const message = { type: "generate", request, picture, mask, previews: is_given(on_preview), wildcards: options.wildcards };
      const outcome = await this.#connection.ask(message, receive, id, transfer);
      return { ...outcome, pictures };
    };
    const job = new Job(this, id, run());
    if (signal instanceof AbortSignal) {
      const stop = () => job.cancel().catch(() => {});
      if (signal.aborted) stop();
      else signal.addEventListener("abort", stop, { once: true });
      const forget = () => signal.removeEventListener("abort", stop);
      job.done.then(forget, forget);
    }
    return job;
  }

  /**
   * Cancels one job, or all that run and wait. Pictures that are finished are kept. A worker that computes and does not hear it is
   * ended; another one goes on with what waits.
   * @param {Job} [job]
   * @returns {Promise<void>}
   */
  cancel(job) {
    for (const [id, state] of this.#preparing) if (!job || job.id === id) state.cancelled = true;
    return this.#connection.cancel(job?.id ?? null);
  }

  /**
   * Holds the queue: what is being drawn stops after its step and keeps its place.
   * @returns {Promise<void>}
   */
  pause() {
    return this.#connection.ask({ type: "pause" });
  }

  /**
   * Goes on after {@link Darkroom.pause}.
   * @returns {Promise<void>}
   */
  resume() {
    return this.#connection.ask({ type: "resume" });
  }

  /**
   * What made a picture, as its file says, also one of another program; undefined where the file says nothing.
   * @param {Blob | Uint8Array | ArrayBuffer} file
   * @returns {Promise<PictureParameters | undefined>}
   */
  async read_parameters(file) {
    const bytes = await bytes_of(file);
    return this.#connection.ask({ type: "parameters", file: bytes }, () => {}, this.#connection.new_id(), [bytes.buffer]);
  }

  /**
   * A picture file's pixels, upright, as a drawing that starts from it takes them. Rejects with what works where it cannot
   * be read.
   * @param {Blob | Uint8Array | ArrayBuffer} file
   * @returns {Promise<ImageData>}
   */
  async read_picture(file) {
    const bytes = await bytes_of(file);
    const { data, width, height } = await this.#connection.ask({ type: "pixels", file: bytes }, () => {}, this.#connection.new_id(), [bytes.buffer]);
    return new ImageData(data, width, height);
  }

  /**
   * A picture file as a page shows it: upright, and its longer side not above `max_side` pixels. It is read and made small in the
   * worker. Rejects as {@link Darkroom.read_picture} does.
   * @param {Blob | Uint8Array | ArrayBuffer} file
   * @param {number} [max_side]
   * @returns {Promise<import("./protocol.js").Shown>} `width` and `height` are the file's own
   */
  async show_picture(file, max_side = 1024) {
    const bytes = await bytes_of(file);
    return this.#connection.ask({ type: "shown", file: bytes, max_side }, () => {}, this.#connection.new_id(), [bytes.buffer]);
  }

  /** Ends the worker; whatever waits is rejected. */
  close() {
    this.#connection.close();
  }
}

/**
 * Takes the reports of a transfer from among the replies.
 * @param {((progress: Transfer) => void) | undefined} on_progress
 */
function on_transfer(on_progress) {
  /** @param {import("./protocol.js").PartReply} reply */
  return (reply) => {
    if (reply.type === "transfer") on_progress?.(reply);
  };
}
