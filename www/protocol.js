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

/** @typedef {{id: number, type: "check"}} Request */

/**
 * @typedef {{id: number, type: "done", value: Caps}} DoneReply
 * @typedef {{id: number, type: "error", message: string}} ErrorReply
 * @typedef {DoneReply | ErrorReply} Reply
 */

/** Sends requests to a worker and gives each reply to whoever asked. */
export class Client {
  #worker;
  #next_id = 1;
  /** @type {Map<number, {resolve: (value: Caps) => void, reject: (reason: Error) => void}>} */
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
    return this.#send({ id: this.#next_id++, type: "check" });
  }

  /** @param {Request} request */
  #send(request) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(request.id, { resolve, reject });
      this.#worker.postMessage(request);
    });
  }

  /** @param {Reply} reply */
  #receive(reply) {
    const asker = this.#waiting.get(reply.id);
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
