// What has to be there: fetched, or a failure that names its address.

import { Failure, message_of } from "../errors.js";

/** Statuses that are about this moment and not about the file, as in src/hub/retry.rs. @param {number} status */
const is_passing = (status) => [408, 425, 429, 500, 502, 503, 504].includes(status) || (status >= 520 && status <= 524);

/**
 * @param {string} url
 * @param {"model" | "worker"} what the file belongs to, which is the code where it is not there or refused
 * @param {AbortSignal} [signal]
 */
export async function fetched(url, what, signal) {
  // A program that does not come is a worker that does not start, whatever the reason.
  const passing = what === "model" ? "network" : what;
  let response;
  try {
    response = await fetch(url, signal ? { signal } : {});
  } catch (error) {
    throw_if_stopped(signal);
    throw new Failure(`${url} cannot be reached (${message_of(error)})${what === "model" ? ": check the connection and try again" : ""}`, passing);
  }
  const { ok, status, statusText } = response;
  if (!ok) throw new Failure(`${url}: the server answered ${status} ${statusText}`.trim(), is_passing(status) ? passing : what);
  // Servers of apps answer so in place of a 404; nothing that is fetched here is a page.
  if (/html/i.test(response.headers.get("Content-Type") ?? "")) throw new Failure(`${url}: a web page came in place of the file, so there is no such file`, what);
  return response;
}

/** @param {AbortSignal | undefined} signal */
export function throw_if_stopped(signal) {
  if (signal?.aborted) throw new Failure("loading was stopped", "cancelled");
}
