// Keeps the page's files, all of one build: pkg/files.js, which the build writes, lists them with their digests. A build is kept whole
// or not at all, in a cache of its own, and another one takes its place when no page uses the old one any more. The module with
// threads, which few pages use, is kept once it was asked for. As sw.js?isolate it adds the headers that isolate the page, for hosts
// that send none: from the second visit on.

(() => {
  // The types that this is checked against are a page's.
  const worker = /** @type {any} */ (globalThis);
  worker.importScripts("./pkg/files.js");
  /** @type {{build: string, files: Record<string, string>, once_asked_for?: Record<string, string>}} */
  const { build, files, once_asked_for = {} } = worker.darkroom_files;
  const digests = { ...files, ...once_asked_for };
  const isolates = new URL(worker.location.href).searchParams.has("isolate");
  const scope = new URL("./", worker.location.href).href;
  // Copies of the page in other folders have caches of their own.
  const family = `darkroom ${scope} `;
  const name = `${family}${isolates ? "isolated " : ""}${build}`;

  /** @param {ArrayBuffer} bytes */
  const digest = async (bytes) => Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");

  /**
   * The file that an address means; undefined where it is none of the page's.
   * @param {string} address
   */
  function file_of(address) {
    const url = new URL(address);
    if (!url.href.startsWith(scope)) return undefined;
    const path = decodeURIComponent(url.origin + url.pathname).slice(decodeURIComponent(scope).length) || "index.html";
    return Object.hasOwn(digests, path) ? path : undefined;
  }

  /** Fetches a file and keeps it, if it is the build's. @param {Cache} cache @param {string} path */
  async function keep(cache, path) {
    const url = new URL(path.split("/").map(encodeURIComponent).join("/"), scope).href;
    // index.html may only be there as the folder: some hosts lead from one to the other.
    const response = await fetch(path === "index.html" ? scope : url, { cache: "no-cache" });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    const bytes = await response.arrayBuffer();
    if ((await digest(bytes)) !== digests[path]) throw new Error(`${path} is of another build`);
    const headers = new Headers(response.headers);
    // They were of the transfer.
    headers.delete("content-encoding");
    headers.set("content-length", String(bytes.byteLength));
    if (isolates) {
      headers.set("cross-origin-opener-policy", "same-origin");
      headers.set("cross-origin-embedder-policy", "require-corp");
      headers.set("cross-origin-resource-policy", "same-origin");
    }
    await cache.put(url, new Response(bytes, { headers }));
  }

  async function install() {
    const cache = await caches.open(name);
    const paths = Object.keys(files);
    try {
      // A few at a time, the page comes first.
      const next = paths.values();
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          for (const path of next) await keep(cache, path);
        }),
      );
    } catch (error) {
      await caches.delete(name);
      throw error;
    }
  }

  async function activate() {
    for (const key of await caches.keys()) if (key.startsWith(family) && key !== name) await caches.delete(key);
  }

  /** A part of a file, as a header asks for it. @param {Response} response @param {string} range */
  async function part_of(response, range) {
    const bytes = await response.arrayBuffer();
    const total = bytes.byteLength;
    const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(range) ?? [];
    const start = from ? Number(from) : Math.max(0, total - Number(to ?? 0));
    const end = from && to ? Math.min(total, Number(to) + 1) : total;
    const headers = new Headers(response.headers);
    if (from === undefined || start >= end) return new Response(null, { status: 416, headers: { "content-range": `bytes */${total}` } });
    headers.set("content-range", `bytes ${start}-${end - 1}/${total}`);
    headers.set("content-length", String(end - start));
    return new Response(bytes.slice(start, end), { status: 206, headers });
  }

  /** @param {Request} request @param {string} path */
  async function answer(request, path) {
    const cache = await caches.open(name);
    const url = new URL(path.split("/").map(encodeURIComponent).join("/"), scope).href;
    let kept = await cache.match(url);
    if (!kept && Object.hasOwn(once_asked_for, path)) {
      // That of another build would not fit: rather none.
      const is_kept = await keep(cache, path).then(() => true, () => false);
      kept = is_kept ? await cache.match(url) : Response.error();
    }
    // The browser dropped it: the network has it, of this build or a later one.
    if (!kept) return fetch(request);
    const range = request.headers.get("range");
    return range ? part_of(kept, range) : kept;
  }

  worker.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(install()));
  worker.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(activate()));
  worker.addEventListener("fetch", (/** @type {any} */ event) => {
    const path = event.request.method === "GET" ? file_of(event.request.url) : undefined;
    if (path !== undefined) event.respondWith(answer(event.request, path));
  });
  worker.addEventListener("message", (/** @type {any} */ event) => {
    if (event.data !== "take over") return;
    const take_over = async () => {
      const pages = await worker.clients.matchAll({ type: "window" });
      // Another tab would go on with half of this build.
      if (pages.length > 1) event.source.postMessage("other tabs");
      else await worker.skipWaiting();
    };
    event.waitUntil(take_over());
  });
})();
