// Errors, as far as the page and its worker share them.

/** @typedef {import("./protocol.js").ErrorCode} ErrorCode */
/** @typedef {import("./protocol.js").Need} Need */

/** All codes. @type {Record<ErrorCode, true>} */
const CODES = {
  request: true,
  model: true,
  device: true,
  memory: true,
  lost: true,
  picture: true,
  file: true,
  network: true,
  storage: true,
  cancelled: true,
  worker: true,
};

/**
 * What is thrown. `code` says what can be done about it: `request` (change a setting), `model` (load another one or again),
 * `device` (choose the other runner, or load the model again), `memory` (draw a smaller picture, allow more, or choose the
 * other runner), `lost` (the GPU went away and did not come back), `picture` (give another picture), `file` (a file cannot be
 * read), `network` (try again), `storage` (free space), `cancelled` (what was asked for was stopped), `worker` (open again).
 */
export class DarkroomError extends Error {
  name = "DarkroomError";

  /**
   * @param {string} message
   * @param {ErrorCode} code
   * @param {{needs?: Need, field?: string}} [about]
   */
  constructor(message, code, { needs, field } = {}) {
    super(message);
    /** What can be done about it. */
    this.code = code;
    /** What would make a checkpoint usable that is not as it is: `prediction`, `config`, `text_encoder` or `vae` are to be
     * given, and what is `as_vae`, `as_decoder` or `as_text_encoder` is a part of a model. */
    this.needs = needs;
    /** The setting or option at fault, where it is one. */
    this.field = field;
  }
}

/**
 * The message of whatever was thrown.
 * @param {unknown} error
 */
export function message_of(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * What can be done about it, in a word; undefined where it has no `code` of ours.
 * @param {unknown} error
 * @returns {ErrorCode | undefined}
 */
export function code_of(error) {
  const { code } = /** @type {{code?: unknown}} */ (error ?? {});
  return typeof code === "string" && Object.keys(CODES).includes(code) ? /** @type {ErrorCode} */ (code) : undefined;
}

/**
 * What would make a checkpoint usable (`prediction`, `config`, `vae`, …); undefined where the error is about something else.
 * @param {unknown} error
 * @returns {Need | undefined}
 */
export function needs_of(error) {
  const { needs } = /** @type {{needs?: unknown}} */ (error ?? {});
  return typeof needs === "string" ? /** @type {Need} */ (needs) : undefined;
}

/**
 * The setting at fault; undefined where the error is about something else.
 * @param {unknown} error
 * @returns {string | undefined}
 */
export function field_of(error) {
  const { field } = /** @type {{field?: unknown}} */ (error ?? {});
  return typeof field === "string" ? field : undefined;
}

/** What the worker throws and the page can act upon. */
export class Failure extends Error {
  /**
   * @param {string} message
   * @param {ErrorCode} code
   */
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}
