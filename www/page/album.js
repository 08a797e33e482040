// Finished pictures in IndexedDB: they outlive the page.
//
// One object store of {id, png, parameters, seconds, made_at, source}. Nothing else is kept with them.

const NAME = "darkroom-album";
const STORE = "pictures";

/**
 * @typedef {object} Kept
 * @property {number} id
 * @property {Blob} png
 * @property {import("../protocol.js").PictureParameters} parameters
 * @property {number} seconds
 * @property {number} made_at milliseconds since 1970
 * @property {Blob} [source] the picture that it was made from
 */

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

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

function database() {
  opened ??= (async () => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
    const db = await settled(request);
    // Another tab with a newer page waits for this one otherwise.
    db.onversionchange = () => db.close();
    return db;
  })();
  // The next call tries again.
  opened.catch(() => {
    opened = undefined;
  });
  return opened;
}

/**
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest} ask
 */
async function in_store(mode, ask) {
  const transaction = (await database()).transaction(STORE, mode);
  const result = await settled(ask(transaction.objectStore(STORE)));
  if (mode === "readwrite") {
    // What is written is safe when the transaction is over, not when the request is.
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
      transaction.onerror = () => reject(transaction.error);
    });
  }
  return result;
}

/**
 * Keeps a picture; gives its id.
 * @param {Omit<Kept, "id">} picture
 * @returns {Promise<number>}
 */
export const keep = (picture) => in_store("readwrite", (store) => store.add(picture));

/** Keeps a picture again that was deleted, under its old id. @param {Kept} picture */
export const put_back = (picture) => in_store("readwrite", (store) => store.put(picture));

/**
 * All pictures, the oldest first.
 * @returns {Promise<Kept[]>}
 */
export const all = () => in_store("readonly", (store) => store.getAll());

/** @param {number} id */
export const forget = (id) => in_store("readwrite", (store) => store.delete(id));
