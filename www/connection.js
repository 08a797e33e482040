// The way to the worker and back: requests with their replies, what an isolated page shares with its worker, and what all who wait
// are told when the worker fails.

import { DarkroomError, message_of } from "./errors.js";
import { N_CANCEL_SLOTS } from "./protocol.js";

/**
 * A request that waits for its last reply.
 * @typedef {object} Asker
 * @property {(value: unknown) => void} resolve
 * @property {(reason: unknown) => void} reject
 * @property {(reply: import("./protocol.js").PartReply) => void} receive
 */

export class Connection {
  #worker;
  #next_id = 1;
  /** @type {Map<number, Asker>} */
  #waiting = new Map();
  /** @type {Int32Array | null} */
  #cancelled = null;
  /** Where the worker's threads tell that one of them failed. @type {BroadcastChannel | null} */
  #failures = null;
  /** @type {DarkroomError | null} */
  #broken = null;

  /** @param {Worker} worker */
  constructor(worker) {
    this.#worker = worker;
    worker.addEventListener("message", ({ data }) => this.#receive(data));
    worker.addEventListener("messageerror", () => this.fail("the worker sent something that could not be read"));
  }

  /** The id of a request that is sent later. */
  new_id() {
    return this.#next_id++;
  }

  /**
   * Sends a request and waits for its last reply.
   * @template {keyof import("./protocol.js").Answers} Type
   * @param {import("./protocol.js").RequestOf<Type> & {type: Type}} request
   * @param {(reply: import("./protocol.js").PartReply) => void} [receive] takes what comes before the last reply
   * @param {number} [id]
   * @param {Transferable[]} [transfer]
   * @returns {Promise<import("./protocol.js").Answers[Type]>}
   */
  async ask(request, receive = () => {}, id = this.new_id(), transfer = []) {
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
        this.give_up(id, new DarkroomError(`the request cannot be sent: ${message_of(error)}`, "request"));
      }
    });
    return /** @type {import("./protocol.js").Answers[Type]} */ (answer);
  }

  /**
   * What an isolated page shares with its worker: memory, through which a cancel reaches a step that computes without a pause, and
   * the name of the channel on which threads tell that they failed. Other pages have neither.
   */
  share() {
    if (!globalThis.crossOriginIsolated) return { cancelled: null };
    const cancelled = new SharedArrayBuffer(4 * N_CANCEL_SLOTS);
    this.#cancelled = new Int32Array(cancelled);
    const failures = `darkroom ${crypto.randomUUID()}`;
    this.#failures = new BroadcastChannel(failures);
    // The worker waits for a thread that failed, and hears nothing any more.
    this.#failures.addEventListener("message", ({ data }) => {
      this.fail(`a thread of the processor failed: ${data}`);
      this.#worker.terminate();
    });
    return { cancelled, failures };
  }

  /** Has the worker stop computing for these requests, where memory is shared; for all where none are given. @param {Iterable<number>} [ids] */
  interrupt(ids = this.#waiting.keys()) {
    if (this.#cancelled) for (const id of ids) Atomics.store(this.#cancelled, id % N_CANCEL_SLOTS, id);
  }

  /** Waits no longer for a request. @param {number} id @param {DarkroomError} why */
  give_up(id, why) {
    this.#waiting.get(id)?.reject(why);
    this.#waiting.delete(id);
  }

  /** Rejects all that waits, and all that is asked later. The first failure counts. @param {string | DarkroomError} why */
  fail(why) {
    this.#failures?.close();
    this.#broken ??= typeof why === "string" ? new DarkroomError(why, "worker") : why;
    for (const { reject } of this.#waiting.values()) reject(this.#broken);
    this.#waiting.clear();
  }

  /** Ends the worker; whatever waits is rejected. */
  close() {
    this.fail("it was closed");
    this.#worker.terminate();
  }

  /** @param {import("./protocol.js").Reply & {id: number}} reply */
  #receive(reply) {
    const asker = this.#waiting.get(reply.id);
    if (!asker) return;
    if (reply.type === "done") asker.resolve(reply.value);
    else if (reply.type === "error") asker.reject(new DarkroomError(reply.message, reply.code, reply));
    else {
      asker.receive(reply);
      return;
    }
    this.#waiting.delete(reply.id);
  }
}
