// What this browser offers: the GPU, storage, and which runner `auto` takes.

import { message_of } from "../errors.js";
import { program } from "./program.js";

/** @typedef {import("../protocol.js").Check} Check */
/** @typedef {Omit<Check, "cancels_within_a_step" | "n_threads" | "one_thread_because">} Seen */

/** @type {Promise<Seen> | undefined} */
let checked;

/** Asked once: an adapter does not change while a page is open. */
export function check_browser() {
  checked ??= look_around();
  return checked;
}

/** @returns {Promise<Seen>} */
async function look_around() {
  let caps = null;
  let gpu_error = null;
  try {
    caps = await program().check();
  } catch (error) {
    gpu_error = message_of(error);
  }
  return { caps, gpu_error, ...choose_runner(caps), storage: await space() };
}

/**
 * @param {import("../protocol.js").Caps | null} caps
 * @returns {Pick<Check, "runner" | "reason">}
 */
function choose_runner(caps) {
  if (!("gpu" in navigator)) {
    return {
      runner: "cpu",
      reason: "this browser has no WebGPU; a current Chrome, Edge, Firefox or Safari has, on pages from https or localhost",
    };
  }
  if (!caps) {
    return {
      runner: "cpu",
      reason: "this browser knows WebGPU but offers no GPU: its settings or the graphics driver may keep it off",
    };
  }
  if (caps.software) {
    return {
      runner: "cpu",
      reason: `the only adapter here (${caps.name}) is software, on which the same picture takes many times longer`,
    };
  }
  return { runner: "gpu", reason: `this browser offers the GPU ${caps.name}` };
}

/** @returns {Promise<Check["storage"]>} */
async function space() {
  // Older browsers, and pages that are not secure, have none of it.
  const storage = /** @type {StorageManager | undefined} */ (navigator.storage);
  if (!storage?.estimate) return null;
  const { quota = 0, usage = 0 } = await storage.estimate();
  return { quota_bytes: quota, used_bytes: usage, persisted: await storage.persisted() };
}
