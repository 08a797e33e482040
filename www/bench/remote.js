// Functions of a worker, called from the page: one message there, one back.

/**
 * Lets the page call these functions. Their arguments and results are cloned; an error keeps its message and code.
 * @param {Record<string, (...given: any[]) => any>} functions
 */
export function answer_calls(functions) {
  self.addEventListener("message", async ({ data: { id, name, given } }) => {
    try {
      self.postMessage({ id, value: await functions[name](...given) });
    } catch (error) {
      self.postMessage({ id, error: { message: String(error?.message ?? error), code: error?.code } });
    }
  });
}

/** A worker whose functions can be called. */
export class Remote {
  #worker;
  #n_calls = 0;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();

  /** @param {string | URL} url of a module that calls {@link answer_calls} */
  constructor(url) {
    this.#worker = new Worker(url, { type: "module" });
    this.#worker.addEventListener("message", ({ data: { id, value, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) reject(Object.assign(new Error(error.message), { code: error.code }));
      else resolve(value);
    });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#fail(new Error(event.message ?? `the worker ${url} did not start`));
    });
  }

  /** @param {Error} error */
  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  /**
   * Calls a function; its arguments are cloned.
   * @param {string} name
   * @param {...any} given
   * @returns {Promise<any>}
   */
  call(name, ...given) {
    return this.hand_over([], name, ...given);
  }

  /**
   * Calls a function; of its arguments these buffers are given away, which costs no copy.
   * @param {Transferable[]} buffers
   * @param {string} name
   * @param {...any} given
   * @returns {Promise<any>}
   */
  hand_over(buffers, name, ...given) {
    const id = (this.#n_calls += 1);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, name, given }, buffers);
    });
  }

  /** Ends the worker; what still waits for it fails. */
  end() {
    this.#worker.terminate();
    this.#fail(new Error("stopped"));
  }
}
