// The way to the worker and back: it is started, requests go out with their replies, and all who wait are told when it fails. A
// worker that does not respond to a cancel while it computes is ended, and another one goes on with what waits.

import { DarkroomError, message_of } from "./errors.js";
import { N_CANCEL_SLOTS, nothing_drawn } from "./protocol.js";
import { absolute, folder, start } from "./start.js";

/** How long a worker may take to respond to a cancel before it is ended, in milliseconds. */
const CANCEL_TIMEOUT_MS = 300;

/** @typedef {import("./protocol.js").Request} Request */
/** @typedef {import("./protocol.js").PartReply} PartReply */

/**
 * A request that waits for its last reply.
 * @typedef {object} PendingRequest
 * @property {Request} request as it is sent, and sent again to the next worker
 * @property {Transferable[]} transfer
 * @property {(value: unknown) => void} resolve
 * @property {(reason: unknown) => void} reject
 * @property {(reply: PartReply) => void} receive
 * @property {boolean} is_sent
 * @property {boolean} is_cancelled
 * @property {import("./protocol.js").Outcome} so_far what came of a drawing, where it ends now
 */

export class Connection {
  #options;
  /** @type {Worker | null} */
  #worker = null;
  /** Whether another worker can be started in its place: not of one that was given. */
  #can_restart = false;
  /** Until its wasm and model are there, requests wait. */
  #is_starting = true;
  #next_id = 1;
  /** In the order in which they were asked. @type {Map<number, PendingRequest>} */
  #waiting = new Map();
  /** What the worker has to do one after another, by id; it is at the first. @type {Set<number>} */
  #turns = new Set();
  /** What the next worker has to know. @type {import("./protocol.js").Earlier} */
  #earlier = { is_held: false };
  /** @type {Int32Array | null} */
  #cancelled = null;
  /** Where the worker's threads tell that one of them failed. @type {BroadcastChannel | null} */
  #failures = null;
  /** @type {DarkroomError | null} */
  #broken = null;

  /** @param {Pick<import("./options.js").OpenOptions, "worker" | "wasm_url" | "base_url" | "on_restart">} options */
  constructor(options) {
    this.#options = options;
  }

  /** Starts the worker, and waits until its wasm is there. */
  async open() {
    await this.#start();
  }

  /** The id of a request that is sent later. */
  new_id() {
    return this.#next_id++;
  }

  /**
   * Sends a request and waits for its last reply.
   * @template {keyof import("./protocol.js").Answers} Type
   * @param {import("./protocol.js").RequestOf<Type> & {type: Type}} request
   * @param {(reply: PartReply) => void} [receive] takes what comes before the last reply
   * @param {number} [id]
   * @param {Transferable[]} [transfer]
   * @returns {Promise<import("./protocol.js").Answers[Type]>}
   */
  async ask(request, receive = () => {}, id = this.new_id(), transfer = []) {
    if (request.type === "hub") this.#earlier.hub = /** @type {import("./protocol.js").RequestOf<"hub">} */ (request);
    const answer = await new Promise((resolve, reject) => {
      if (this.#broken) {
        reject(this.#broken);
        return;
      }
      const asker = { request, transfer, resolve, reject, receive, is_sent: false, is_cancelled: false, so_far: nothing_drawn() };
      this.#waiting.set(id, asker);
      if (!this.#is_starting || request.type === "open") this.#send(id, asker);
    });
    return /** @type {import("./protocol.js").Answers[Type]} */ (answer);
  }

  /**
   * Cancels a drawing or a load by its id, or all drawings. What waits for its turn ends at once.
   * @param {number | null} id
   * @returns {Promise<void>} settles when the worker has responded, or is ended because it did not
   */
  async cancel(id) {
    const ids = id === null ? [...this.#waiting].flatMap(([each, { request }]) => (request.type === "generate" ? [each] : [])) : [id];
    if (this.#cancelled) for (const each of ids) Atomics.store(this.#cancelled, each % N_CANCEL_SLOTS, each);
    const [running] = this.#turns;
    for (const each of ids) {
      const asker = this.#waiting.get(each);
      if (!asker || asker.request.type !== "generate") continue;
      asker.is_cancelled = true;
      if (each !== running) this.#settle(each);
    }
    const heard = this.ask({ type: "cancel", job: id });
    if (this.#can_restart) this.#restart_if_unresponsive(ids, heard);
    return heard;
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
    this.#worker?.terminate();
  }

  /**
   * Starts a worker, and waits until its wasm is there and the model that the one before it had; then it gets what waits.
   * @returns {Promise<DarkroomError | null>} why that model is not there; drawings that wait for it have rejected with it
   */
  async #start() {
    this.#is_starting = true;
    const { base_url, wasm_url } = this.#options;
    const started = start(this.#options);
    const { worker } = started;
    this.#worker = worker;
    // Isolated pages share memory, through which cancels are heard.
    this.#can_restart = started.can_start_again && !globalThis.crossOriginIsolated;
    let is_open = false;
    worker.addEventListener("message", ({ data }) => {
      if (this.#worker === worker) this.#receive(data);
    });
    worker.addEventListener("messageerror", () => {
      if (this.#worker === worker) this.fail("the worker sent something that could not be read");
    });
    // A worker that does not load (a missing or broken module) never answers, so whoever waits is told here.
    worker.addEventListener("error", async (event) => {
      const why = is_open ? event.message || "the worker failed" : await started.why_not(event);
      if (this.#worker === worker) this.fail(why);
    });
    try {
      const base = base_url === undefined ? undefined : folder(base_url);
      const wasm = wasm_url === undefined ? undefined : absolute(wasm_url);
      // Whoever is next sees the model come back.
      const receive = (/** @type {PartReply} */ reply) => [...this.#waiting.values()].find(({ request }) => request.type === "generate")?.receive(reply);
      const opened = this.ask({ type: "open", ...this.#share(), base_url: base, wasm_url: wasm, earlier: this.#earlier }, receive);
      // The model may be one whose files are still coming.
      for (const [id, asker] of this.#waiting) if (asker.request.type === "download") this.#send(id, asker);
      const { model_failure } = await opened;
      is_open = true;
      this.#is_starting = false;
      const lost = model_failure && new DarkroomError(model_failure.message, model_failure.code);
      if (lost) for (const [id, { request }] of this.#waiting) if (request.type === "generate") this.give_up(id, lost);
      for (const [id, asker] of this.#waiting) if (!asker.is_sent) this.#send(id, asker);
      return lost;
    } finally {
      started.forget();
    }
  }

  /**
   * What an isolated page shares with its worker: memory, through which a cancel reaches a step that computes without a pause, and
   * the name of the channel on which threads tell that they failed. Other pages have neither.
   */
  #share() {
    if (!globalThis.crossOriginIsolated) return { cancelled: null };
    const cancelled = new SharedArrayBuffer(4 * N_CANCEL_SLOTS);
    this.#cancelled = new Int32Array(cancelled);
    const failures = `darkroom ${crypto.randomUUID()}`;
    this.#failures = new BroadcastChannel(failures);
    // The worker waits for a thread that failed, and hears nothing any more.
    this.#failures.addEventListener("message", ({ data }) => {
      this.fail(`a thread of the processor failed: ${data}`);
      this.#worker?.terminate();
    });
    return { cancelled, failures };
  }

  /** @param {number} id @param {PendingRequest} asker */
  #send(id, asker) {
    asker.is_sent = true;
    if (asker.request.type === "generate" || asker.request.type === "load") this.#turns.add(id);
    try {
      // What another worker may have to be sent stays here.
      this.#worker?.postMessage({ id, ...asker.request }, this.#can_restart ? [] : asker.transfer);
    } catch (error) {
      // Something that cannot be sent to a worker, such as a function inside the request.
      this.#turns.delete(id);
      this.give_up(id, new DarkroomError(`the request cannot be sent: ${message_of(error)}`, "request"));
    }
  }

  /** Settles a request that was cancelled, before the worker says so. @param {number} id */
  #settle(id) {
    const asker = this.#waiting.get(id);
    asker?.resolve(asker.request.type === "generate" ? { ...asker.so_far, cancelled: true } : undefined);
    this.#waiting.delete(id);
  }

  /**
   * Ends a worker that computes what was cancelled and does not respond, and starts another one.
   * @param {number[]} ids of what was cancelled
   * @param {Promise<void>} heard
   */
  async #restart_if_unresponsive(ids, heard) {
    const is_heard = heard.then(
      () => true,
      () => true,
    );
    const [first] = this.#turns;
    for (let running = first; ; [running] = this.#turns) {
      const late = new Promise((/** @type {(is_heard: boolean) => void} */ resolve) => setTimeout(() => resolve(false), CANCEL_TIMEOUT_MS));
      if (await Promise.race([is_heard, late])) return;
      // On a GPU the worker listens while it computes; where it is busy for a moment, a restart would take longer.
      if (running !== undefined && ids.includes(running) && this.#turns.has(running) && this.#earlier.model?.runner === "cpu") break;
    }
    this.#worker?.terminate();
    this.#turns.clear();
    for (const [id, asker] of this.#waiting) {
      asker.is_sent = false;
      if (asker.is_cancelled || asker.request.type === "cancel") this.#settle(id);
    }
    const started = this.#start();
    started.catch((error) => {
      this.fail(error instanceof DarkroomError ? error : message_of(error));
      this.#worker?.terminate();
    });
    const restarted = started.then((lost) => {
      if (lost) throw lost;
    });
    // Whoever waits is told in any case.
    restarted.catch(() => {});
    // What the callback throws is reported as an error of the page, as with every other callback.
    queueMicrotask(() => this.#options.on_restart?.(restarted));
  }

  /** @param {import("./protocol.js").Reply & {id: number}} reply */
  #receive(reply) {
    if (reply.type === "model") {
      this.#earlier.model = reply.model;
      return;
    }
    if (reply.type === "held") {
      this.#earlier.is_held = reply.is_held;
      return;
    }
    const is_last = reply.type === "done" || reply.type === "error";
    if (is_last) this.#turns.delete(reply.id);
    const asker = this.#waiting.get(reply.id);
    if (!asker) return;
    if (is_last) this.#waiting.delete(reply.id);
    if (reply.type === "done") asker.resolve(reply.value);
    else if (reply.type === "error") asker.reject(new DarkroomError(reply.message, reply.code, reply));
    else if (reply.type === "outcome") asker.so_far = reply.outcome;
    else {
      if (reply.type === "progress") asker.so_far.seconds = reply.seconds ?? asker.so_far.seconds;
      asker.receive(reply);
    }
  }
}
