// What tabs of this page tell each other, so that all show the same pictures and models; and which of them there are.

/** This tab's name among those of the page; a lock of that name is held as long as the tab lives. */
export const TAB = `darkroom-tab-${Math.random().toString(36).slice(2)}`;
// Pages that are not secure have no locks.
navigator.locks?.request(TAB, () => new Promise(() => {}));

/** Tells which tabs live; every one of which nothing is known may, where the browser has no locks. */
export async function living_tabs() {
  if (!navigator.locks) return { has: (/** @type {string | undefined} */ _tab) => true };
  const { held = [] } = await navigator.locks.query();
  return new Set(held.map(({ name }) => name));
}

/**
 * `picture`: one came, changed or went. `models`: another list of kept models.
 * @typedef {{type: "picture", id: number} | {type: "models"}} News
 */

// Pages in other folders of the origin have the same album: its databases are the origin's.
const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("darkroom") : null;

/** @param {News} news */
export function broadcast(news) {
  channel?.postMessage(news);
}

/**
 * @template {News["type"]} Type
 * @param {Type} type
 * @param {(news: Extract<News, {type: Type}>) => void} act
 */
export function on_news(type, act) {
  channel?.addEventListener("message", ({ data }) => {
    if (data?.type === type) act(data);
  });
}
