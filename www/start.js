// Starts the worker: beside these files, from a bundle, or from another origin; and says why where it does not start.

import { DarkroomError, message_of } from "./errors.js";

/** This file's address, or whatever a bundler makes of it. */
const HERE = import.meta.url ?? "";

/** Addresses are relative to the page; a server that renders pages imports this, too, and has none. */
const page_address = () => globalThis.document?.baseURI ?? globalThis.location?.href ?? (HERE || "file:///");

/** Whether this file is served as it is, beside the others. */
export const IS_WHOLE = /^https?:\/\/[^?#]*\/start\.js([?#]|$)/.test(HERE);

/** The folder of these files; the page's own where a bundler has put them elsewhere. */
const HOME = IS_WHOLE ? HERE : page_address();

/** An absolute address. @param {string | URL} address */
export const absolute = (address) => new URL(address, page_address()).href;

/** A folder's address, with the slash at its end. @param {string | URL} address */
export const folder = (address) => absolute(address).replace(/\/*([?#].*)?$/, "/");

/** The folder that the model is expected in which comes with the page. @param {string | URL} [base_url] */
export const model_folder = (base_url) => new URL("hub", base_url === undefined ? HOME : folder(base_url)).href;

/**
 * A worker that was started.
 * @typedef {object} Started
 * @property {Worker} worker
 * @property {string | undefined} address where its script is, as far as that is known
 * @property {string | undefined} shim the address of a Blob that imports the script
 */

/**
 * Starts a worker from any address. Browsers start workers of the page's own origin alone, so a script of another one is
 * imported by one of the page's own, which takes that the other origin allows it (CORS).
 * @param {string} address
 * @returns {Started}
 */
function start_at(address) {
  if (new URL(address).origin === globalThis.location.origin) {
    return { worker: new Worker(address, { type: "module", name: "darkroom" }), address, shim: undefined };
  }
  const shim = URL.createObjectURL(new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" }));
  return { worker: new Worker(shim, { type: "module", name: "darkroom" }), address, shim };
}

/** The worker that is beside this file, or that a bundler has made of it. @returns {Started} */
function start_own() {
  if (IS_WHOLE) return start_at(new URL("worker.js", HERE).href);
  // HACK: Vite's development server moves this file into a folder of its own, and the worker stays where it was
  // (https://github.com/vitejs/vite/issues/8427).
  const of_vite = /^(.*\/node_modules\/)\.vite\/deps\/[^/]*$/.exec(HERE)?.[1];
  if (of_vite) return start_at(`${of_vite}darkroom/worker.js`);
  try {
    // Bundlers look for exactly this.
    return { worker: new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "darkroom" }), address: undefined, shim: undefined };
  } catch (error) {
    // A bundle on another origin: browsers name the script that they refuse.
    const address = /https?:\/\/[^'"\s]+/.exec(message_of(error))?.[0];
    if (address && new URL(address).origin !== globalThis.location.origin) return start_at(address);
    throw error;
  }
}

/**
 * What the page's Content-Security-Policy has blocked since it was made.
 */
class Blocked {
  /** @type {SecurityPolicyViolationEvent[]} */
  #seen = [];
  #listen = (/** @type {SecurityPolicyViolationEvent} */ event) => this.#seen.push(event);

  constructor() {
    globalThis.document?.addEventListener("securitypolicyviolation", this.#listen);
  }

  end() {
    globalThis.document?.removeEventListener("securitypolicyviolation", this.#listen);
  }

  /** The directive that blocks a worker. */
  get directive() {
    const directives = this.#seen.map(({ effectiveDirective, violatedDirective }) => effectiveDirective || violatedDirective);
    return directives.find((directive) => /^(worker-src|child-src|script-src)/.test(directive));
  }
}

/** Whatever a browser reports of a policy it reports soon after the failure. */
const REPORT_MS = 100;

/**
 * Whether it is a worker, also one of another window or of a class that stands in for it.
 * @param {import("./options.js").OpenOptions["worker"]} worker
 * @returns {worker is Worker}
 */
const is_worker = (worker) => typeof worker === "object" && "postMessage" in worker;

/**
 * Starts the worker.
 * @param {Pick<import("./options.js").OpenOptions, "worker" | "base_url">} options
 * @returns {Started & {can_start_again: boolean, why_not: (event: ErrorEvent | undefined) => Promise<DarkroomError>, forget: () => void}}
 *   `can_start_again` is false where a worker was given, `why_not` says why the worker did not start, and `forget` is called when it did
 */
export function start({ worker, base_url }) {
  const blocked = new Blocked();
  /** @type {Started} */
  let started;
  try {
    const given = typeof worker === "function" ? worker() : worker;
    if (is_worker(given)) started = { worker: given, address: undefined, shim: undefined };
    else if (typeof worker === "function") throw new TypeError("the function gave no worker");
    else if (given !== undefined) started = start_at(absolute(given));
    else if (base_url !== undefined) started = start_at(new URL("worker.js", folder(base_url)).href);
    else started = start_own();
  } catch (error) {
    blocked.end();
    const advice = /Content Security Policy|CSP/i.test(message_of(error))
      ? csp_advice("worker-src", undefined)
      : "give its address as worker, or the folder of Darkroom's files as base_url";
    throw new DarkroomError(`the worker could not be started (${message_of(error)}): ${advice}`, "worker");
  }
  const forget = () => {
    blocked.end();
    if (started.shim) URL.revokeObjectURL(started.shim);
  };
  return {
    ...started,
    can_start_again: !is_worker(worker),
    forget,
    async why_not(event) {
      await new Promise((resolve) => setTimeout(resolve, REPORT_MS));
      const { directive } = blocked;
      forget();
      const named = started.address ? `the worker ${started.address}` : "the worker";
      if (directive) return new DarkroomError(`${named} is blocked by the page's Content-Security-Policy (${directive}): ${csp_advice(directive, started)}`, "worker");
      const why = event?.message || (started.address ? await looked_at(started.address, started.shim !== undefined) : "its script is not there, or is no JavaScript");
      return new DarkroomError(`${named} could not be loaded: ${why}`, "worker");
    },
  };
}

/** @param {string} directive @param {Started | undefined} started */
function csp_advice(directive, started) {
  const address = started?.address;
  const origin = address === undefined || new URL(address).origin === globalThis.location.origin ? "'self'" : new URL(address).origin;
  const worker = started?.shim ? "blob:" : origin;
  return started?.shim || directive.startsWith("script-src")
    ? `allow it with "worker-src ${worker}; script-src ${origin} 'wasm-unsafe-eval'"`
    : `allow it with "worker-src ${worker}"`;
}

/**
 * Why a script cannot be loaded, found by asking for it again.
 * @param {string} address
 * @param {boolean} is_imported whether a Blob imports it, of which browsers do not tell what a policy blocks
 */
async function looked_at(address, is_imported) {
  try {
    const response = await fetch(address, { cache: "no-store" });
    const type = response.headers.get("Content-Type") ?? "";
    if (!response.ok) return `the server answered ${response.status} ${response.statusText}`.trim();
    if (!/javascript/i.test(type)) return `the server sent ${type || "something without a type"} in place of JavaScript`;
    const is_bare = globalThis.crossOriginIsolated && !is_imported && !response.headers.get("Cross-Origin-Embedder-Policy");
    if (is_bare) return "the page is cross-origin isolated, so that every script needs the header Cross-Origin-Embedder-Policy: require-corp, too";
    const broken = "it, or one of the modules that it imports, has an error or is not there";
    return is_imported ? `${broken}, or a Content-Security-Policy blocks it: allow it with "script-src ${new URL(address).origin} 'wasm-unsafe-eval'"` : broken;
  } catch (error) {
    return `${message_of(error)}; a server of another origin has to allow that its files are read (Access-Control-Allow-Origin)`;
  }
}
