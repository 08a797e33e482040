// Owns the wasm and the GPU, off the page's thread, so that the page stays alive while a picture is drawn.

import init, { check } from "./pkg/darkroom.js";

// The wasm loads once; requests that come before it is there wait for it.
const loaded = init();
// Each request reports a failure to load. Without this line a failure before the first request would also be reported
// by the browser as one that nobody handled.
loaded.catch(() => {});

/** @param {import("./protocol.js").Request} request */
async function answer(request) {
  await loaded;
  switch (request.type) {
    case "check":
      return await check();
    default:
      throw new Error(`the worker does not know the request "${request.type}"`);
  }
}

addEventListener("message", async ({ data: request }) => {
  try {
    postMessage({ id: request.id, type: "done", value: await answer(request) });
  } catch (error) {
    postMessage({ id: request.id, type: "error", message: error instanceof Error ? error.message : String(error) });
  }
});
