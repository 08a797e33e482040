// The page as an app: a service worker keeps its files, so that it opens offline and at once; and a word before it is left in
// mid-picture.

import { notify } from "./notices.js";
import { text } from "./texts.js";

/** Asks before the page is left while `is_busy`. @param {() => boolean} is_busy */
export function warn_on_leaving(is_busy) {
  addEventListener("beforeunload", (event) => {
    if (is_busy()) event.preventDefault();
  });
}

/**
 * Has the files of this build kept. A page that is not secure, or a build without its list of files, comes from the network. With
 * `data-isolate` at its root the page is isolated by the service worker, where the host does not do so.
 */
export async function serve_offline() {
  const workers = navigator.serviceWorker;
  if (!workers) return;
  const file = document.documentElement.hasAttribute("data-isolate") ? "../sw.js?isolate" : "../sw.js";
  const registration = await workers.register(new URL(file, import.meta.url), { updateViaCache: "none" }).catch(() => null);
  if (!registration) return;
  const offer = () => {
    const { waiting } = registration;
    // The first one has nothing to take the place of.
    if (!waiting || !workers.controller) return;
    notify("info", text.new_version, {
      [text.reload]: () => {
        workers.addEventListener("controllerchange", () => location.reload(), { once: true });
        workers.addEventListener("message", ({ data }) => {
          if (data === "other tabs") notify("info", text.close_other_tabs);
        });
        waiting.postMessage("take over");
      },
    });
  };
  offer();
  registration.addEventListener("updatefound", () => {
    const { installing } = registration;
    installing?.addEventListener("statechange", () => {
      if (installing.state === "installed") offer();
    });
  });
}
