// When messages go out, and when they are let in.

/** Progress is posted at most this often: the page draws no faster, and a step on the CPU tells of each operation. */
const PROGRESS_MS = 40;

/**
 * Calls `call` no more often than the page can use.
 * @template T
 * @param {(report: T) => void} call
 * @returns {(report: T) => void}
 */
export function throttled(call) {
  let last = -Infinity;
  return (report) => {
    const now = performance.now();
    if (now - last < PROGRESS_MS) return;
    last = now;
    call(report);
  };
}

/**
 * Lets messages in: a cancel is heard between two steps. A message to oneself comes back without the delay that browsers
 * put on timers.
 * @returns {Promise<void>}
 */
export function yield_to_messages() {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
