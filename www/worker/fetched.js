// What has to be there: fetched, or a failure that names its address.

import { Failure, message_of } from "../errors.js";

/**
 * @param {string} url
 * @param {import("../protocol.js").ErrorCode} code of the failure
 * @param {AbortSignal} [signal]
 */
export async function fetched(url, code, signal) {
  let response;
  try {
    response = await fetch(url, signal ? { signal } : {});
  } catch (error) {
    throw_if_stopped(signal);
    throw new Failure(`${url} cannot be reached (${message_of(error)}): check the connection and try again`, code);
  }
  if (!response.ok) throw new Failure(`${url}: the server answered ${response.status} ${response.statusText}`.trim(), code);
  // Servers of apps answer so in place of a 404; nothing that is fetched here is a page.
  if (/html/i.test(response.headers.get("Content-Type") ?? "")) throw new Failure(`${url}: a web page came in place of the file, so there is no such file`, code);
  return response;
}

/** @param {AbortSignal | undefined} signal */
export function throw_if_stopped(signal) {
  if (signal?.aborted) throw new Failure("loading was stopped", "cancelled");
}
