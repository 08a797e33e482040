// The models that this browser keeps, and the Hub that they come from.

import { Models } from "../pkg/darkroom.js";
import { on_cleared } from "./cleared.js";

export class KeptModels {
  /** Where models come from; the Hugging Face Hub where nothing is said. @type {{endpoint?: string, token?: string}} */
  #hub = {};
  /** Opened once for each Hub. @type {Promise<Models> | undefined} */
  #opened;
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
    const opened = (this.#opened ??= Models.open(this.#hub));
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
    this.#hub = hub;
    this.#opened = undefined;
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
    const models = await this.opened();
    this.#arriving = model;
    try {
      return await models.download(model, progress);
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
