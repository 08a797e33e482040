// Jobs run one after another, in the order in which they were asked for; the queue can be held, and jobs cancelled.

import { Failure } from "../errors.js";
import { N_CANCEL_SLOTS } from "../protocol.js";

/**
 * Posts a reply to whoever asked.
 * @typedef {(reply: import("../protocol.js").Reply, transfer?: Transferable[]) => void} Post
 */

/** One thing that runs in its turn. */
export class Job {
  #is_cancelled = false;
  /** @type {Int32Array | null} */
  #shared_cancels;
  #abort = new AbortController();

  /**
   * @param {number} id
   * @param {Post} post
   * @param {Int32Array | null} shared_cancels
   */
  constructor(id, post, shared_cancels) {
    this.id = id;
    this.post = post;
    this.#shared_cancels = shared_cancels;
  }

  get is_cancelled() {
    const shared = this.#shared_cancels;
    if (shared && Atomics.load(shared, this.id % N_CANCEL_SLOTS) === this.id) this.#is_cancelled = true;
    return this.#is_cancelled;
  }

  /** Aborted when it is cancelled, where messages are heard. */
  get signal() {
    return this.#abort.signal;
  }

  cancel() {
    this.#is_cancelled = true;
    this.#abort.abort();
  }
}

/**
 * @typedef {object} Turn
 * @property {Job} job
 * @property {() => Promise<void>} run settles whoever asked, and never rejects
 * @property {() => void} give_up settles whoever asked without running
 * @property {boolean} is_drawing whether it is cancelled with all others, or by its id alone
 */

export class Queue {
  /** What was asked for and is not done, in order; the first one runs. @type {Turn[]} */
  #turns = [];
  #is_running = false;
  /** Cancels by job id, as the page shares them, where it can. @type {Int32Array | null} */
  #shared_cancels = null;
  /** Settled while the queue runs; pending while it is held. @type {Promise<void>} */
  #gate = Promise.resolve();
  /** @type {(() => void) | null} */
  #open_gate = null;

  /** A page that shares its cancels is heard within a step. @param {SharedArrayBuffer} memory */
  share_cancels(memory) {
    this.#shared_cancels = new Int32Array(memory);
  }

  get cancels_within_a_step() {
    return this.#shared_cancels !== null;
  }

  get is_held() {
    return this.#open_gate !== null;
  }

  /**
   * Runs something in its turn, behind what was asked for earlier.
   * @template T
   * @param {number} id
   * @param {Post} post
   * @param {(job: Job) => Promise<T>} run
   * @param {{answer: T} | null} [if_cancelled] of a drawing: what the answer is where it is cancelled before its turn. What is no
   *   drawing fails then
   * @returns {Promise<T>}
   */
  in_turn(id, post, run, if_cancelled = null) {
    const job = new Job(id, post, this.#shared_cancels);
    return new Promise((resolve, reject) => {
      const give_up = () => (if_cancelled ? resolve(if_cancelled.answer) : reject(new Failure("it was stopped before its turn", "cancelled")));
      this.#turns.push({ job, run: () => run(job).then(resolve, reject), give_up, is_drawing: if_cancelled !== null });
      this.#tell_positions();
      this.#take_turns();
    });
  }

  /** Runs the jobs one after another until none is left. It never rejects: each job's failure goes to whoever asked. */
  async #take_turns() {
    if (this.#is_running) return;
    this.#is_running = true;
    for (let turn = this.#turns[0]; turn; turn = this.#turns[0]) {
      const { job } = turn;
      while (this.is_held && !job.is_cancelled) {
        job.post({ type: "progress", stage: "paused", fraction: 0 });
        await this.#gate;
      }
      await turn.run();
      this.#turns.shift();
      this.#tell_positions();
    }
    this.#is_running = false;
  }

  /** Tells each job that waits how many are before it. */
  #tell_positions() {
    this.#turns.forEach(({ job }, position) => {
      if (position > 0) job.post({ type: "progress", stage: "queued", fraction: 0, position });
    });
  }

  /** Settles when the queue is let go, be it to be held again. */
  released() {
    return this.#gate;
  }

  hold() {
    if (this.is_held) return;
    this.#gate = new Promise((resolve) => {
      this.#open_gate = resolve;
    });
  }

  release() {
    this.#open_gate?.();
    this.#open_gate = null;
  }

  /** @param {number | null} id the job, or null for all drawings */
  cancel(id) {
    for (const turn of [...this.#turns]) {
      const { job, give_up, is_drawing } = turn;
      if (id === null ? !is_drawing : job.id !== id) continue;
      job.cancel();
      const place = this.#turns.indexOf(turn);
      if (place > 0) {
        this.#turns.splice(place, 1);
        give_up();
      }
    }
    this.#tell_positions();
    // A queue that is held lets go of what was cancelled, and is held again for the rest.
    if (this.is_held) {
      this.release();
      if (this.#turns.some(({ job }) => !job.is_cancelled)) this.hold();
    }
  }
}
