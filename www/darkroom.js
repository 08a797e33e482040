// Stable Diffusion for any page: a small class around the worker that owns the wasm and the GPU.
//
//     import { Darkroom } from "./darkroom.js";
//     const darkroom = await Darkroom.open();
//     await darkroom.load();
//     const { pictures } = await darkroom.generate({ prompt: "a red apple on a blue background", seed: 1 }).done;
//     document.querySelector("img").src = URL.createObjectURL(new Blob([pictures[0].png], { type: "image/png" }));

import { message_of } from "./errors.js";
import { N_CANCEL_SLOTS, nothing_drawn } from "./protocol.js";

/** The model that comes with these files, in the Hub's own URL layout. */
export const EMBEDDED_ENDPOINT = new URL("./hub", import.meta.url).href;
export const EMBEDDED_REPOSITORY = "darkroom/tiny-emoji";

/**
 * What is thrown. `code` says what can be done about it: `request` (change a setting), `model` (load another one or again),
 * `device` (choose the other runner, or load the model again), `memory` (draw a smaller picture, allow more, or choose the
 * other runner), `lost` (the GPU went away and did not come back), `picture` (give another picture), `network` (try again),
 * `worker` (open again). `needs` says what would make a checkpoint usable: `prediction`, `config`, `text_encoder` or `vae` are
 * to be given, and what is `as_vae`, `as_decoder` or `as_text_encoder` is a part of a model.
 */
export class DarkroomError extends Error {
  name = "DarkroomError";

  /**
   * @param {string} message
   * @param {string} code
   * @param {string} [needs]
   */
  constructor(message, code, needs) {
    super(message);
    this.code = code;
    this.needs = needs;
  }
}

/**
 * @typedef {object} Handlers
 * @property {(progress: import("./protocol.js").Progress) => void} [on_progress]
 * @property {(preview: import("./protocol.js").Preview) => void} [on_preview] after each step
 * @property {(picture: import("./protocol.js").Picture) => void} [on_picture] as each picture is finished
 * @property {AbortSignal} [signal] cancels
 */

/**
 * @typedef {object} Pictures
 * @property {Blob | import("./protocol.js").GivenPicture} [picture] what to start from: a file or pixels
 * @property {Blob | import("./protocol.js").GivenPicture} [mask] white where that picture is to be drawn anew
 * @property {Record<string, string>} [wildcards] lists by name, one option a line, that `__name__` in a prompt chooses from
 */

/**
 * A request that waits for its last reply.
 * @typedef {object} Asker
 * @property {(value: unknown) => void} resolve
 * @property {(reason: Error) => void} reject
 * @property {(reply: import("./protocol.js").PartReply) => void} receive
 */

/** One request: on its way, or waiting for those before it. */
export class Job {
  #darkroom;

  /**
   * @param {Darkroom} darkroom
   * @param {number} id
   * @param {Promise<import("./protocol.js").Outcome & {pictures: import("./protocol.js").Picture[]}>} done
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
  #worker;
  #next_id = 1;
  /** @type {Map<number, Asker>} */
  #waiting = new Map();
  /** @type {Int32Array | null} */
  #cancelled = null;
  /** @type {DarkroomError | null} */
  #broken = null;
  /** Jobs whose files are being read, and whether they were cancelled meanwhile. @type {Map<number, {cancelled: boolean}>} */
  #preparing = new Map();
  /** Jobs reach the worker in the order in which they were asked for, however long their files take to read. */
  #last_prepared = Promise.resolve();

  /** Where the worker's threads tell that one of them failed. @type {BroadcastChannel | null} */
  #failures = null;

  /**
   * Use {@link Darkroom.open}.
   * @param {Worker} worker
   * @param {string} [name] that of the worker
   */
  constructor(worker, name) {
    this.#worker = worker;
    if (name) {
      this.#failures = new BroadcastChannel(name);
      // The worker waits for that thread, and hears nothing any more.
      this.#failures.addEventListener("message", ({ data }) => {
        this.#fail(`a thread of the processor failed: ${data}`);
        worker.terminate();
      });
    }
    worker.addEventListener("message", ({ data }) => this.#receive(data));
    // A worker that does not load (a missing or broken module) never answers, so whoever waits is told here.
    worker.addEventListener("error", (event) => this.#fail(event.message || "the worker could not be loaded"));
    worker.addEventListener("messageerror", () => this.#fail("the worker sent something that could not be read"));
  }

  /**
   * Starts the worker and waits until its wasm is there.
   * @returns {Promise<Darkroom>}
   */
  static async open() {
    // Only isolated pages have threads.
    const name = globalThis.crossOriginIsolated ? `darkroom ${crypto.randomUUID()}` : "";
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name });
    const darkroom = new Darkroom(worker, name);
    // Shared memory is how a cancel reaches a step that computes without a pause. Browsers give it to isolated pages.
    const cancelled = globalThis.crossOriginIsolated ? new SharedArrayBuffer(4 * N_CANCEL_SLOTS) : null;
    if (cancelled) darkroom.#cancelled = new Int32Array(cancelled);
    try {
      await darkroom.#ask({ type: "open", cancelled });
    } catch (error) {
      darkroom.close();
      throw error;
    }
    return darkroom;
  }

  /**
   * What this browser can do, before anything is loaded. Never rejects for want of a GPU: the answer says so.
   * @returns {Promise<import("./protocol.js").Check>}
   */
  check() {
    return this.#ask({ type: "check" });
  }

  /**
   * The seven versions of Stable Diffusion, with their defaults.
   * @returns {Promise<import("./protocol.js").VersionInfo[]>}
   */
  versions() {
    return this.#ask({ type: "versions" });
  }

  /**
   * Loads a model, in its turn behind the jobs that wait. Without options it is the model that comes with these files.
   * `dtype` is the type of values, `weights` the one that weights are held in (f16 on the GPU; q8_0 takes half the memory of that,
   * q4_0 a third); a `budget_bytes` of GPU memory that is too little for the whole model has its parts
   * loaded one after another.
   * With `kept` it is a model that was downloaded or imported, or that is being downloaded: then a job waits for the parts that
   * it needs, and the load for all of a checkpoint in one file. `prediction` says what its UNet predicts, in place of
   * what the model says; `vae`, `taesd` and `base` name other kept models: for another VAE, for a tiny VAE that decodes, and for
   * what a checkpoint in one file lacks. `embeddings` are the kept embeddings whose words prompts may use; all that fit the
   * model where they are not given.
   * @param {{kept?: string, endpoint?: string, repository?: string, runner?: import("./protocol.js").Runner, dtype?: import("./protocol.js").Dtype,
   *   weights?: import("./protocol.js").WeightType, budget_bytes?: number} & import("./protocol.js").KeptOptions} [options]
   * @param {(progress: import("./protocol.js").Progress) => void} [on_progress]
   * @returns {Promise<import("./protocol.js").LoadedModel>}
   */
  load(options = {}, on_progress = () => {}) {
    const { endpoint = EMBEDDED_ENDPOINT, repository = EMBEDDED_REPOSITORY, runner = "auto" } = options;
    const { dtype = "auto", weights, budget_bytes, kept, prediction, base, vae, taesd, embeddings } = options;
    const from = kept === undefined ? { endpoint, repository } : { endpoint: null, repository: kept };
    return this.#ask({ type: "load", ...from, runner, dtype, weights, budget_bytes, prediction, base, vae, taesd, embeddings }, (reply) => {
      if (reply.type === "progress") on_progress(reply);
    });
  }

  /**
   * Where models come from: a Hub's address and, for models that want one, an access token, which is kept in memory only.
   * @param {{endpoint?: string, token?: string}} hub the Hugging Face Hub where nothing is given
   * @returns {Promise<void>}
   */
  use_hub({ endpoint, token } = {}) {
    return this.#ask({ type: "hub", endpoint, token });
  }

  /**
   * The models that this browser keeps, complete or not.
   * @returns {Promise<import("./protocol.js").ModelReport[]>}
   */
  models() {
    return this.#ask({ type: "models" });
  }

  /**
   * The kept files that change a model: LoRAs and kin, whose names a request's `loras` and tags `<lora:name:weight>` in its
   * prompt use, with words that call for them; and embeddings, whose names are words of prompts. `obstacle` says why the
   * loaded model does not take one.
   * @returns {Promise<import("./protocol.js").ExtraNetwork[]>}
   */
  extra_networks() {
    return this.#ask({ type: "extra_networks" });
  }

  /**
   * What there is of a model and what is missing. A model is a version's key, `owner/repo[@revision]`, or a checkpoint in one
   * file: `owner/repo[@revision]/path/file.safetensors` or an address.
   * @param {string} model
   * @returns {Promise<import("./protocol.js").ModelReport>}
   */
  needed(model) {
    return this.#ask({ type: "needed", model });
  }

  /**
   * Downloads what is missing of a model, and goes on where an earlier download stopped. Then `load({kept: model})`.
   * @param {string} model
   * @param {(progress: import("./protocol.js").Transfer) => void} [on_progress]
   * @returns {Promise<import("./protocol.js").ModelReport>}
   */
  download(model, on_progress) {
    return this.#ask({ type: "download", model }, on_transfer(on_progress));
  }

  /**
   * Stops the download; what came is kept. Its promise rejects with the code `cancelled`.
   * @returns {Promise<void>}
   */
  stop_download() {
    return this.#ask({ type: "stop_download" });
  }

  /**
   * Deletes a model.
   * @param {string} model
   * @returns {Promise<void>}
   */
  remove(model) {
    return this.#ask({ type: "remove", model });
  }

  /**
   * Keeps a model from files that were picked or dropped, as if it had been downloaded.
   * @param {string} name a word without a slash, under which it is kept
   * @param {Map<string, Blob>} files by their path in the model's folder, such as `unet/config.json`; or one `.safetensors` or
   *   `.gguf` file, perhaps with its `.yaml` and a folder of its configuration, in diffusers' layout without weights; or a
   *   LoRA or an embedding, which {@link Darkroom.extra_networks} lists
   * @param {(progress: import("./protocol.js").Transfer) => void} [on_progress]
   * @returns {Promise<import("./protocol.js").ModelReport>}
   */
  import(name, files, on_progress) {
    return this.#ask({ type: "import", name, files }, on_transfer(on_progress));
  }

  /**
   * Tells what a file or model is, by its headers: kind, family, components, prediction, what it takes and what to do with it.
   * @param {Blob | string} what a file; a kept model by its name; or one that is not kept, by `owner/repo`,
   *   `owner/repo/path/file.safetensors` or an address
   * @param {{yaml?: string, plan?: boolean}} [options] the text of the `.yaml` beside a file; without `plan` it is not found
   *   out how much memory it takes, which is quicker
   * @returns {Promise<import("./protocol.js").Inspection>}
   */
  inspect(what, { yaml, plan = true } = {}) {
    if (typeof what === "string") return this.#ask({ type: "inspect", model: what, plan });
    return this.#ask({ type: "inspect_file", file: what, name: what instanceof File ? what.name : "the file", yaml, plan });
  }

  /**
   * Reads a model back and drops what is damaged; the next download fetches that alone.
   * @param {string} model
   * @param {(progress: import("./protocol.js").Transfer) => void} [on_progress]
   * @returns {Promise<import("./protocol.js").DamageReport[]>} what was damaged
   */
  verify(model, on_progress) {
    return this.#ask({ type: "verify", model }, on_transfer(on_progress));
  }

  /**
   * What a picture would ask of this browser's GPU: of the version that is named, before anything is downloaded, or else
   * of the loaded model.
   * @param {import("./protocol.js").PlanRequest} [request]
   * @returns {Promise<import("./protocol.js").Plan>}
   */
  plan(request = {}) {
    return this.#ask({ type: "plan", request });
  }

  /**
   * How many tokens a prompt has, without its tags of LoRAs, how many the loaded model reads, and in how many chunks.
   * @param {string} prompt
   * @param {import("./protocol.js").PromptSyntax} [syntax] AUTOMATIC1111's where absent
   * @returns {Promise<[number, number, number]>}
   */
  count_tokens(prompt, syntax) {
    return this.#ask({ type: "tokens", prompt, syntax });
  }

  /**
   * The size that the loaded model draws at where a request gives none and starts from a picture of this size.
   * @param {number} width in pixels
   * @param {number} height in pixels
   * @param {boolean} [any_size] whether sides may be any multiple of 8
   * @returns {Promise<[number, number]>}
   */
  size_of_picture(width, height, any_size = false) {
    return this.#ask({ type: "size_of_picture", width, height, any_size });
  }

  /**
   * Checks a request against the loaded model and says how much work it is. LoRAs that it names have to be kept, and to be
   * for the family of the loaded model.
   * @param {import("./protocol.js").DrawRequest} request
   * @param {{has_picture?: boolean, has_mask?: boolean, wildcards?: Record<string, string>}} [given]
   * @returns {Promise<import("./protocol.js").Work>}
   */
  work(request, { has_picture = false, has_mask = false, wildcards } = {}) {
    return this.#ask({ type: "work", request, has_picture, has_mask, wildcards });
  }

  /**
   * Draws. Jobs run one after another, in the order in which they were asked for. With `loras` in the request, kept LoRAs
   * change the model: `[{ name: "ink", strength: 0.8, text_strength: 0.5 }]`. Prompts may choose, `{red|blue}`, each picture's
   * by its own seed.
   * @param {import("./protocol.js").DrawRequest} request
   * @param {Handlers & Pictures} [options]
   * @returns {Job}
   */
  generate(request, options = {}) {
    const { on_progress, on_preview, on_picture, signal } = options;
    const id = this.#next_id++;
    /** @type {import("./protocol.js").Picture[]} */
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
        const given = await Promise.all([as_given(options.picture), as_given(options.mask)]);
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
      const message = { type: "generate", request, picture, mask, previews: on_preview !== undefined, wildcards: options.wildcards };
      const outcome = await this.#ask(message, receive, id, transfer);
      return { ...outcome, pictures };
    };
    const job = new Job(this, id, run());
    if (signal) {
      const stop = () => job.cancel().catch(() => {});
      if (signal.aborted) stop();
      else signal.addEventListener("abort", stop, { once: true });
      const forget = () => signal.removeEventListener("abort", stop);
      job.done.then(forget, forget);
    }
    return job;
  }

  /**
   * Cancels one job, or all that run and wait. Pictures that are finished are kept.
   * @param {Job} [job]
   * @returns {Promise<void>}
   */
  cancel(job) {
    if (this.#cancelled) {
      for (const id of job ? [job.id] : this.#waiting.keys()) {
        Atomics.store(this.#cancelled, id % N_CANCEL_SLOTS, id);
      }
    }
    for (const [id, state] of this.#preparing) if (!job || job.id === id) state.cancelled = true;
    return this.#ask({ type: "cancel", job: job?.id ?? null });
  }

  /**
   * Holds the queue: what is being drawn stops after its step and keeps its place.
   * @returns {Promise<void>}
   */
  pause() {
    return this.#ask({ type: "pause" });
  }

  /**
   * Goes on after {@link Darkroom.pause}.
   * @returns {Promise<void>}
   */
  resume() {
    return this.#ask({ type: "resume" });
  }

  /**
   * What made a picture, as its file says, also one of another program; undefined where the file says nothing.
   * @param {Blob | Uint8Array} file
   * @returns {Promise<import("./protocol.js").PictureParameters | undefined>}
   */
  async read_parameters(file) {
    const bytes = await bytes_of(file);
    return this.#ask({ type: "parameters", file: bytes }, () => {}, this.#next_id++, [bytes.buffer]);
  }

  /**
   * A picture file's pixels, upright, as a drawing that starts from it takes them. Rejects with what works where it cannot
   * be read.
   * @param {Blob | Uint8Array} file
   * @returns {Promise<ImageData>}
   */
  async read_picture(file) {
    const bytes = await bytes_of(file);
    const { data, width, height } = await this.#ask({ type: "pixels", file: bytes }, () => {}, this.#next_id++, [bytes.buffer]);
    return new ImageData(data, width, height);
  }

  /**
   * A picture file as a page shows it: upright, and its longer side not above `max_side` pixels. It is read and made small in the
   * worker. Rejects as {@link Darkroom.read_picture} does.
   * @param {Blob | Uint8Array} file
   * @param {number} [max_side]
   * @returns {Promise<import("./protocol.js").Shown>} `width` and `height` are the file's own
   */
  async show_picture(file, max_side = 1024) {
    const bytes = await bytes_of(file);
    return this.#ask({ type: "shown", file: bytes, max_side }, () => {}, this.#next_id++, [bytes.buffer]);
  }

  /** Ends the worker; whatever waits is rejected. */
  close() {
    this.#fail("it was closed");
    this.#worker.terminate();
  }

  /**
   * @template {keyof import("./protocol.js").Answers} Type
   * @param {import("./protocol.js").RequestOf<Type> & {type: Type}} request
   * @param {(reply: import("./protocol.js").PartReply) => void} [receive] takes what comes before the last reply
   * @param {number} [id]
   * @param {Transferable[]} [transfer]
   * @returns {Promise<import("./protocol.js").Answers[Type]>}
   */
  async #ask(request, receive = () => {}, id = this.#next_id++, transfer = []) {
    const answer = await new Promise((resolve, reject) => {
      if (this.#broken) {
        reject(this.#broken);
        return;
      }
      this.#waiting.set(id, { resolve, reject, receive });
      try {
        this.#worker.postMessage({ id, ...request }, transfer);
      } catch (error) {
        // Something that cannot be sent to a worker, such as a function inside the request.
        this.#waiting.delete(id);
        reject(new DarkroomError(`the request cannot be sent: ${message_of(error)}`, "request"));
      }
    });
    return /** @type {import("./protocol.js").Answers[Type]} */ (answer);
  }

  /** @param {import("./protocol.js").Reply & {id: number}} reply */
  #receive(reply) {
    const asker = this.#waiting.get(reply.id);
    if (!asker) return;
    if (reply.type === "done") asker.resolve(reply.value);
    else if (reply.type === "error") asker.reject(new DarkroomError(reply.message, reply.code, reply.needs));
    else {
      asker.receive(reply);
      return;
    }
    this.#waiting.delete(reply.id);
  }

  /** @param {string} message */
  #fail(message) {
    this.#failures?.close();
    this.#broken = new DarkroomError(message, "worker");
    for (const { reject } of this.#waiting.values()) reject(this.#broken);
    this.#waiting.clear();
  }
}

/**
 * Takes the reports of a transfer from among the replies.
 * @param {((progress: import("./protocol.js").Transfer) => void) | undefined} on_progress
 */
function on_transfer(on_progress) {
  /** @param {import("./protocol.js").PartReply} reply */
  return (reply) => {
    if (reply.type === "transfer") on_progress?.(reply);
  };
}

/**
 * A file's bytes, in memory that can be given away: what the caller holds is copied, so that it can be given again.
 * @param {Blob | Uint8Array} file
 */
async function bytes_of(file) {
  return file instanceof Blob ? new Uint8Array(await file.arrayBuffer()) : file.slice();
}

/**
 * A picture as the worker takes it. Files are read, and pixels are copied when they are sent.
 * @param {Blob | import("./protocol.js").GivenPicture | undefined} given
 */
async function as_given(given) {
  if (given === undefined || given === null) return undefined;
  if (given instanceof Blob || given instanceof Uint8Array) return bytes_of(given);
  return { width: given.width, height: given.height, data: given.data };
}
