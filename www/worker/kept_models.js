// The models that this browser keeps, and the Hub that they come from.

import { on_cleared } from "./cleared.js";
import { program, use_program } from "./program.js";

/** @typedef {import("../pkg/darkroom.js").Models} Models */

export class KeptModels {
  /** Where models come from; the Hugging Face Hub where nothing is said. @type {{endpoint?: string, token?: string}} */
  #hub = {};
  /** Opened once for each Hub. @type {Promise<Models> | undefined} */
  #opened;
  /** By which module. @type {import("./program.js").Program | undefined} */
  #opened_by;
  /** The model that is being downloaded, under the name that was asked for. @type {string | undefined} */
  #arriving;

  constructor() {
    // What was opened writes to a database that is closed.
    on_cleared(() => {
      this.#opened = undefined;
    });
  }

  /** @returns {Promise<Models>} */
  opened() {
    const by = program();
    if (this.#opened_by !== by) [this.#opened, this.#opened_by] = [undefined, by];
    const opened = (this.#opened ??= by.Models.open(this.#hub));
    // The next request tries again.
    opened.catch(() => {
      if (this.#opened === opened) this.#opened = undefined;
    });
    return opened;
  }

  /**
   * Changes the Hub; what is being downloaded stops.
   * @param {{endpoint?: string, token?: string}} hub
   */
  async use_hub(hub) {
    (await this.#opened)?.pause();
    this.hub_is(hub);
  }

  /** Says what the Hub is, while nothing is downloaded. @param {{endpoint?: string, token?: string}} hub */
  hub_is({ endpoint, token }) {
    this.#hub = { endpoint, token };
    this.#opened = undefined;
  }

  /** Takes the module that is for a runner; while a model is being downloaded, the one that does so stays. @param {import("../protocol.js").RunnerName} runner */
  async use_program_for(runner) {
    await use_program(runner, () => this.#arriving !== undefined);
  }

  /** Whether a model is being downloaded. @param {string} model */
  is_arriving(model) {
    return this.#arriving === model;
  }

  /**
   * Downloads a model. It can be loaded meanwhile.
   * @param {string} model
   * @param {(report: import("../protocol.js").TransferProgress) => void} progress
   */
  async download(model, progress) {
    this.#arriving = model;
    try {
      return await (await this.opened()).download(model, progress);
    } finally {
      if (this.is_arriving(model)) this.#arriving = undefined;
    }
  }

  /** Has a drawing that waits for a file of a download look whether it was cancelled. */
  nudge() {
    this.#opened?.then(
      (models) => models.nudge(),
      () => {},
    );
  }
}
