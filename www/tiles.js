// Which tile suits which matrix product on which GPU, in IndexedDB: measured once, remembered by the adapter's name.
//
// What is lost here is measured again, so a browser that keeps nothing is no failure.

import { message_of } from "./errors.js";

const NAME = "darkroom-tiles";
const STORE = "tiles";

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} ask
 * @returns {Promise<T | undefined>}
 */
async function in_store(mode, ask) {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  const db = await settled(request);
  try {
    return await settled(ask(db.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    db.close();
  }
}

/**
 * What was measured on an adapter, if anything.
 * @param {string} adapter
 * @returns {Promise<string | undefined>}
 */
export async function read_tiles(adapter) {
  try {
    return await in_store("readonly", (store) => store.get(adapter));
  } catch (error) {
    console.info(`the measured tiles cannot be read (${message_of(error)}): they are measured again`);
    return undefined;
  }
}

/**
 * @param {string} adapter
 * @param {string} tiles
 */
export async function keep_tiles(adapter, tiles) {
  try {
    await in_store("readwrite", (store) => store.put(tiles, adapter));
  } catch (error) {
    console.info(`the measured tiles cannot be kept (${message_of(error)}): the next visit measures again`);
  }
}
