// What tabs of this page tell each other, so that all show the same pictures and models.

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
