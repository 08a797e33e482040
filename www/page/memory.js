// What the page remembers between visits, in the browser's local storage.

/**
 * Reads what is kept; a browser that keeps nothing, or something that somebody changed, is like a first visit.
 * @param {string} key
 * @returns {Record<string, unknown>}
 */
export function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/**
 * Keeps something. Most of it is a convenience, so that a browser that keeps nothing is no failure to tell of.
 * @param {string} key
 * @param {Record<string, unknown>} value
 * @returns {boolean} whether it is kept
 */
export function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    return false;
  }
  return true;
}
