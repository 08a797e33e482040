// Functions of a worker, called from the page: one message there, one back.

import { code_of, message_of } from "../errors.js";

/** Functions by their names. @typedef {Record<string, (...given: never[]) => unknown>} Functions */

/**
 * Lets the page call these functions. Their arguments and results are cloned; an error keeps its message and code.
 * @param {Functions} functions
 */
export function answer_calls(functions) {
  self.addEventListener("message", async ({ data: { id, name, given } }) => {
    try {
      const called = functions[name];
      if (!called) throw new Error(`the worker has no function ${name}`);
      self.postMessage({ id, value: await called(.../** @type {never[]} */ (given)) });
    } catch (error) {
      self.postMessage({ id, error: { message: message_of(error), code: code_of(error) } });
    }
  });
}

/**
 * A worker whose functions can be called.
 * @template {Functions} F
 */
export class Remote {
  #worker;
  #n_calls = 0;
  /** @type {Map<number, {resolve: (value: unknown) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();

  /** @param {string | URL} url of a module that calls {@link answer_calls} */
  constructor(url) {
    this.#worker = new Worker(url, { type: "module" });
    this.#worker.addEventListener("message", ({ data: { id, value, error } }) => {
      const asker = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) asker?.reject(Object.assign(new Error(error.message), { code: error.code }));
      else asker?.resolve(value);
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
   * @template {keyof F & string} Name
   * @param {Name} name
   * @param {Parameters<F[Name]>} given
   * @returns {Promise<Awaited<ReturnType<F[Name]>>>}
   */
  call(name, ...given) {
    return this.hand_over([], name, ...given);
  }

  /**
   * Calls a function; of its arguments these buffers are given away, which costs no copy.
   * @template {keyof F & string} Name
   * @param {Transferable[]} buffers
   * @param {Name} name
   * @param {Parameters<F[Name]>} given
   * @returns {Promise<Awaited<ReturnType<F[Name]>>>}
   */
  async hand_over(buffers, name, ...given) {
    const id = (this.#n_calls += 1);
    const value = await new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, name, given }, buffers);
    });
    return /** @type {Awaited<ReturnType<F[Name]>>} */ (value);
  }

  /** Ends the worker; what still waits for it fails. */
  end() {
    this.#worker.terminate();
    this.#fail(new Error("stopped"));
  }
}
