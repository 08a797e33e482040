// What a Content-Security-Policy blocks in the worker: browsers report it beside the failure, which does not name it.

import { message_of } from "../errors.js";

/** The last thing that was blocked, and when. @type {{event: SecurityPolicyViolationEvent, at: number} | undefined} */
let last;

addEventListener("securitypolicyviolation", (event) => {
  last = { event: /** @type {SecurityPolicyViolationEvent} */ (event), at: performance.now() };
});

/** A report comes soon after the failure, if not before; what was reported long ago is about something else. In milliseconds. */
const NEAR_MS = 1000;
const REPORT_MS = 50;

/**
 * The message of a failure to fetch or to compile, with the directive that is to be changed where a policy blocks it.
 * @param {unknown} error
 */
export async function reason_of(error) {
  const message = message_of(error);
  await new Promise((resolve) => setTimeout(resolve, REPORT_MS));
  const is_near = last && performance.now() - last.at < NEAR_MS + REPORT_MS;
  const of_wasm = /unsafe-eval|Content Security Policy|blocked by CSP/i.test(message) || (is_near && last?.event.blockedURI === "wasm-eval");
  if (of_wasm) return `the Content-Security-Policy blocks WebAssembly: allow it with "script-src 'wasm-unsafe-eval'"; ${message}`;
  if (!is_near || !last || !last.event.effectiveDirective.startsWith("connect-src")) return message;
  const { blockedURI } = last.event;
  const origin = URL.canParse?.(blockedURI) ? new URL(blockedURI).origin : blockedURI;
  const source = origin === globalThis.location.origin ? "'self'" : origin;
  return `the Content-Security-Policy blocks ${blockedURI}: allow it with "connect-src ${source}"; ${message}`;
}
