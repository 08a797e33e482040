// Notices when the reader clears the site's data: the browser then closes every database of this origin.

/** An empty database that tells of it. */
const NAME = "darkroom-watch";

/** @param {() => void} act */
export function on_cleared(act) {
  const request = indexedDB.open(NAME, 1);
  request.onsuccess = () => {
    const db = request.result;
    db.onversionchange = () => {
      db.close();
      act();
      on_cleared(act);
    };
    db.onclose = () => {
      act();
      on_cleared(act);
    };
  };
  // A browser that keeps nothing has nothing to clear.
  request.onerror = (event) => event.preventDefault();
}
