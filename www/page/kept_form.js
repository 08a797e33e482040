// What the page keeps of a request that is more than text: the picture to start from with its mask, and the queue. It is in IndexedDB,
// because pictures are too large for the local storage.

import { TAB, living_tabs } from "./channel.js";
import { database_of } from "./database.js";

const in_start = database_of("darkroom-start", "start", {});
const in_queue = database_of("darkroom-queue", "jobs", { autoIncrement: true });

/**
 * The picture to start from, and the mask, white where it is painted.
 * @typedef {{picture?: Blob, mask?: ImageData}} Start
 */

/**
 * A job that waits or is drawn.
 * @typedef {object} KeptJob
 * @property {string} model as the form names it
 * @property {import("../protocol.js").DrawRequest} request
 * @property {import("../options.js").Pictures} given
 * @property {number} asked_at milliseconds since 1970
 * @property {import("./grid.js").Cell} [cell] which picture of a grid it is
 * @property {string} [tab] whose it is
 * @property {number} [order] its place among the others, where it was moved, in the terms of `asked_at`
 */

/** @param {Start} start */
export async function keep_start(start) {
  if (start.picture) await in_start("readwrite", (store) => store.put(start, 0));
  else await in_start("readwrite", (store) => store.delete(0));
}

/** @returns {Promise<Start>} */
export const kept_start = async () => (await in_start("readonly", (store) => store.get(0))) ?? {};

/**
 * @param {KeptJob} job
 * @returns {Promise<number>} its name here
 */
export const keep_job = async (job) => Number(await in_queue("readwrite", (store) => store.add({ ...job, tab: TAB })));

/** @param {number} id */
export const forget_job = (id) => in_queue("readwrite", (store) => store.delete(id));

/**
 * Jobs that no tab draws any more, in order, with their names here.
 * @returns {Promise<[number, KeptJob][]>}
 */
export async function left_jobs() {
  const ids = await in_queue("readonly", (store) => store.getAllKeys());
  /** @type {KeptJob[]} */
  const jobs = await in_queue("readonly", (store) => store.getAll());
  const tabs = await living_tabs();
  const place = (/** @type {KeptJob} */ { order, asked_at }) => order ?? asked_at;
  /** @type {[number, KeptJob][]} */
  const left = jobs.flatMap((job, i) => (tabs.has(job.tab) ? [] : [[Number(ids[i]), job]]));
  return left.sort(([, a], [, b]) => place(a) - place(b));
}

/** Keeps a job's place. @param {number} id @param {number} order */
export async function keep_place(id, order) {
  const job = await in_queue("readonly", (store) => store.get(id));
  if (job) await in_queue("readwrite", (store) => store.put({ ...job, order }, id));
}

/** This tab draws a job of an earlier visit. @param {number} id @param {KeptJob} job */
export const adopt_job = (id, job) => in_queue("readwrite", (store) => store.put({ ...job, tab: TAB }, id));
