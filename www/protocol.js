// What the page and its worker say to each other. The page sends requests, the worker answers each with replies that
// carry the request's id; `done` or `error` is the last one.

/**
 * What a GPU can do, as `src/run/gpu/caps.rs` reports it.
 * @typedef {object} Caps
 * @property {string} name
 * @property {string} backend
 * @property {boolean} software true where a processor draws in the GPU's place
 * @property {boolean} shader_f16
 * @property {boolean} timestamp_query
 * @property {number} max_buffer_bytes
 * @property {number} max_binding_bytes
 * @property {number} max_storage_buffers
 * @property {number} max_workgroup_bytes
 * @property {number} max_workgroup_invocations
 * @property {number} max_workgroups_per_dimension
 */

/**
 * A loaded model and its own settings, as `src/web/studio.rs` reports it.
 * @typedef {object} Model
 * @property {string} name
 * @property {string} runner what computes
 * @property {number} width in pixels
 * @property {number} height in pixels
 * @property {number} size_multiple sides of pictures are its multiples
 * @property {number} steps
 * @property {number} guidance_scale
 * @property {string} sampler
 * @property {string[]} samplers
 */

/**
 * What to draw. Absent settings are the model's own.
 * @typedef {object} Settings
 * @property {string} prompt
 * @property {string} [negative_prompt]
 * @property {number} [width] in pixels
 * @property {number} [height] in pixels
 * @property {number} [steps]
 * @property {number} [guidance_scale]
 * @property {string} [sampler]
 * @property {number} seed a whole number below 2^53
 */

/**
 * A finished picture, or what came of a request that was stopped.
 * @typedef {object} Drawn
 * @property {boolean} cancelled
 * @property {Uint8Array} [png] the file, with its parameters inside
 * @property {string} [truncated] the end of the prompt that the model could not read
 * @property {number} seconds
 */

/**
 * @typedef {{type: "check"}} CheckRequest
 * @typedef {{type: "load", endpoint: string, repository: string, runner: "cpu" | "gpu"}} LoadRequest
 * @typedef {{type: "tokens", prompt: string}} TokensRequest
 * @typedef {{type: "generate", settings: Settings}} GenerateRequest
 * @typedef {{type: "cancel"}} CancelRequest
 * @typedef {CheckRequest | LoadRequest | TokensRequest | GenerateRequest | CancelRequest} Request
 */

/**
 * How far a request is: `fraction` of the whole, 0 to 1, and in words what is being done.
 * @typedef {{id: number, type: "progress", stage: string, fraction: number}} ProgressReply
 * @typedef {{id: number, type: "done", value: any}} DoneReply
 * @typedef {{id: number, type: "error", message: string}} ErrorReply
 * @typedef {ProgressReply | DoneReply | ErrorReply} Reply
 */

/** Sends requests to a worker and gives each reply to whoever asked. */
export class Client {
  #worker;
  #next_id = 1;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (reason: Error) => void, on_progress: (p: ProgressReply) => void}>} */
  #waiting = new Map();

  /** @param {Worker} worker */
  constructor(worker) {
    this.#worker = worker;
    worker.addEventListener("message", ({ data }) => this.#receive(data));
    // A worker that does not load (a missing or broken module) never answers, so whoever waits is told here.
    worker.addEventListener("error", (event) => this.#fail(event.message || "the worker could not be loaded"));
    worker.addEventListener("messageerror", () => this.#fail("the worker sent something that could not be read"));
  }

  /** @returns {Promise<Caps>} */
  check() {
    return this.#send({ type: "check" });
  }

  /**
   * Downloads a model's files, unless they are there, and loads them.
   * @param {string} endpoint where the Hub, or a folder in its layout, is
   * @param {string} repository owner/name
   * @param {"cpu" | "gpu"} runner what computes
   * @param {(p: ProgressReply) => void} on_progress
   * @returns {Promise<Model>}
   */
  load(endpoint, repository, runner, on_progress) {
    return this.#send({ type: "load", endpoint, repository, runner }, on_progress);
  }

  /**
   * How many tokens a prompt has, and how many the model reads.
   * @param {string} prompt
   * @returns {Promise<[number, number]>}
   */
  tokens(prompt) {
    return this.#send({ type: "tokens", prompt });
  }

  /**
   * Draws one picture. Requests wait for those before them.
   * @param {Settings} settings
   * @param {(p: ProgressReply) => void} on_progress
   * @returns {Promise<Drawn>}
   */
  generate(settings, on_progress) {
    return this.#send({ type: "generate", settings }, on_progress);
  }

  /**
   * Stops what is being drawn and what waits, within a step.
   * @returns {Promise<void>}
   */
  cancel() {
    return this.#send({ type: "cancel" });
  }

  /**
   * @param {Request} request
   * @param {(p: ProgressReply) => void} [on_progress]
   * @returns {Promise<any>}
   */
  #send(request, on_progress = () => {}) {
    const id = this.#next_id++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, on_progress });
      this.#worker.postMessage({ id, ...request });
    });
  }

  /** @param {Reply} reply */
  #receive(reply) {
    const asker = this.#waiting.get(reply.id);
    if (reply.type === "progress") {
      asker?.on_progress(reply);
      return;
    }
    this.#waiting.delete(reply.id);
    if (reply.type === "done") asker?.resolve(reply.value);
    else asker?.reject(new Error(reply.message));
  }

  /** @param {string} message */
  #fail(message) {
    for (const { reject } of this.#waiting.values()) reject(new Error(message));
    this.#waiting.clear();
  }
}
