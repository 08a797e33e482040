// Errors, as far as the page and its worker share them.

/**
 * The message of whatever was thrown.
 * @param {unknown} error
 */
export function message_of(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * What can be done about it, in a word; undefined where it has no `code`.
 * @param {unknown} error
 * @returns {string | undefined}
 */
export function code_of(error) {
  const { code } = /** @type {{code?: unknown}} */ (error ?? {});
  return typeof code === "string" ? code : undefined;
}

/**
 * What would make a checkpoint usable (`prediction`, `config`, `vae`, …); undefined where the error is about something else.
 * @param {unknown} error
 * @returns {string | undefined}
 */
export function needs_of(error) {
  const { needs } = /** @type {{needs?: unknown}} */ (error ?? {});
  return typeof needs === "string" ? needs : undefined;
}

/** What the worker throws and the page can act upon. */
export class Failure extends Error {
  /**
   * @param {string} message
   * @param {string} code
   */
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}
