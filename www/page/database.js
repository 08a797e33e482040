// Databases of the browser, opened once and again where the browser closed them.

/**
 * What a request to a database gives.
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
export function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * A database with one object store.
 * @param {string} name
 * @param {string} store
 * @param {IDBObjectStoreParameters} parameters
 */
export function database_of(name, store, parameters) {
  /** @type {Promise<IDBDatabase> | undefined} */
  let opened;
  const open = () => {
    opened ??= (async () => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(store, parameters);
      const db = await settled(request);
      // A tab with a newer page waits for this one otherwise.
      db.onversionchange = () => {
        db.close();
        opened = undefined;
      };
      // The browser closes it when the reader clears the site's data.
      db.onclose = () => {
        opened = undefined;
      };
      return db;
    })();
    const opening = opened;
    // The next call tries again.
    opening.catch(() => {
      if (opened === opening) opened = undefined;
    });
    return opening;
  };
  /** @param {IDBTransactionMode} mode */
  const begin = async (mode) => {
    try {
      return (await open()).transaction(store, mode);
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "InvalidStateError") throw error;
      // It was closed, and nobody has said so yet.
      opened = undefined;
      return (await open()).transaction(store, mode);
    }
  };
  /**
   * Asks for one thing in a transaction of its own.
   * @template T
   * @param {IDBTransactionMode} mode
   * @param {(store: IDBObjectStore) => IDBRequest<T>} ask
   * @returns {Promise<T>}
   */
  return async function in_store(mode, ask) {
    const transaction = await begin(mode);
    const over = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
      transaction.onerror = () => reject(transaction.error);
    });
    // A failure is told by the request first.
    over.catch(() => {});
    const result = await settled(ask(transaction.objectStore(store)));
    // What is written is safe when the transaction is over, not when the request is.
    if (mode === "readwrite") await over;
    return result;
  };
}
