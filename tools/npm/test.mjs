// The packed npm package in new projects, as its users set them up: installed with npm, bundled, and drawn with in headless
// Chromium. `./build.sh test npm [NAME ...]` runs it, `./build.sh npm` packs what it installs.
//
// Everything that a project installs comes from the npm registry. Each page draws with the model that comes with Darkroom's
// page, and compares the picture with a fixture.

import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
const PATIENCE_MS = 300_000;

/** Ends when the test does. @type {(() => unknown)[]} */
const endings = [];

/**
 * Runs a program to its end.
 * @param {string} cwd
 * @param {string} program
 * @param {...string} args
 */
function run(cwd, program, ...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NODE_OPTIONS: "" } });
    let said = "";
    child.stdout.on("data", (text) => (said += text));
    child.stderr.on("data", (text) => (said += text));
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve(said) : reject(new Error(`${program} ${args.join(" ")} ended with ${code}:\n${said.slice(-4000)}`))));
  });
}

/**
 * Starts a program that goes on, and waits for a line of it.
 * @param {string} cwd
 * @param {RegExp} line
 * @param {string} program
 * @param {...string} args
 * @returns {Promise<RegExpExecArray>}
 */
function start(cwd, line, program, ...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"], detached: true });
    endings.push(() => process.kill(-child.pid, "SIGKILL"));
    let said = "";
    const hear = (text) => {
      // Colours are not part of what it says.
      said += String(text).replace(/\u001b\[[0-9;]*m/g, "");
      const found = line.exec(said);
      if (found) resolve(found);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("error", reject);
    child.on("close", (code) => reject(new Error(`${program} ended with ${code}:\n${said}`)));
  });
}

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json", ".wasm": "application/wasm", ".png": "image/png", ".css": "text/css" };

/**
 * Serves a folder on an origin of its own.
 * @param {string} folder
 * @param {Record<string, string>} [headers]
 */
async function serve(folder, headers = {}) {
  const server = createServer(async (request, response) => {
    const path = join(folder, normalize(decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname)));
    const found = await stat(path).catch(() => null);
    const file = found?.isDirectory() ? join(path, "index.html") : path;
    if (!(await stat(file).catch(() => null))?.isFile()) {
      response.writeHead(404, headers).end("not found");
      return;
    }
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", ...headers });
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  endings.push(() => server.closeAllConnections());
  endings.push(() => server.close());
  return `http://127.0.0.1:${server.address().port}/`;
}

/** One headless Chromium for all projects. */
class Browser {
  static async start() {
    const [, port] = await start(ROOT, /started successfully on port (\d+)/, process.env.CHROMEDRIVER ?? "chromedriver", "--port=0");
    const browser = new Browser();
    browser.url = `http://127.0.0.1:${port}/session`;
    const options = JSON.parse(await readFile(join(ROOT, "webdriver.json"), "utf8"))["goog:chromeOptions"];
    const alwaysMatch = { "goog:chromeOptions": options, "goog:loggingPrefs": { browser: "ALL" }, timeouts: { script: PATIENCE_MS } };
    const { sessionId } = await browser.post("", { capabilities: { alwaysMatch } });
    browser.url += `/${sessionId}`;
    endings.unshift(() => fetch(browser.url, { method: "DELETE" }));
    return browser;
  }

  /** @param {string} command @param {unknown} body */
  async post(command, body) {
    const response = await fetch(this.url + command, { method: "POST", body: JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${command}: ${JSON.stringify(value).slice(0, 2000)}`);
    return value;
  }

  /** Opens a page and waits for what it says in `document.body.dataset.result`. @param {string} url */
  async result_of(url) {
    await this.post("/url", { url });
    const from = performance.now();
    while (performance.now() - from < PATIENCE_MS) {
      const said = await this.post("/execute/sync", { script: "return document.body?.dataset.result ?? null", args: [] });
      if (said !== null) {
        const log = (await this.post("/se/log", { type: "browser" })).map(({ message }) => message);
        if (said !== "ok") throw new Error(`${said}\n${log.join("\n")}`);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`${url} says nothing: ${JSON.stringify(await this.post("/se/log", { type: "browser" })).slice(0, 2000)}`);
  }
}

/** A page's script that draws, and compares the picture with the fixture. @param {string} from @param {string} [options] */
const page_script = (from, options = "") => `
import { Darkroom, DarkroomError } from ${JSON.stringify(from)};
async function pixels(blob) {
  const bitmap = await createImageBitmap(blob);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}
async function main() {
  const darkroom = await Darkroom.open(${options});
  const nowhere = await darkroom.load({ endpoint: "nowhere" }).then(() => null, (error) => error);
  if (!(nowhere instanceof DarkroomError) || !/nowhere\\/api\\/models/.test(nowhere.message)) throw new Error("no model: " + nowhere?.message);
  await darkroom.load({ runner: "cpu", endpoint: "hub" });
  const { pictures } = await darkroom.generate({ prompt: "a red apple on a blue background", steps: 6, guidance_scale: 4, seed: 1 }).done;
  const [drawn, expected] = await Promise.all([pixels(new Blob([pictures[0].png])), fetch("apple.png").then((file) => file.blob()).then(pixels)]);
  const worst = drawn.reduce((most, level, place) => Math.max(most, Math.abs(level - expected[place])), 0);
  if (drawn.length !== expected.length || worst > 2) throw new Error("another picture: " + worst);
  darkroom.close();
}
main().then(() => "ok", (error) => error.name + ": " + error.message + " " + error.stack).then((result) => (document.body.dataset.result = result));
`;

/** @param {string} script */
const html = (script) => `<!doctype html><meta charset="utf-8"><title>Darkroom</title><link rel="icon" href="data:,"><body>${script}</body>`;

/**
 * Makes a project with the package and others installed, and the model and the fixture in `public`.
 * @param {string} folder
 * @param {...string} packages
 */
async function project(folder, ...packages) {
  await mkdir(join(folder, "public"), { recursive: true });
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "project", private: true, type: "module" }));
  const packed = (await readdir(join(TARGET, "npm"))).find((name) => /^darkroom-.*\.tgz$/.test(name));
  if (!packed) throw new Error("there is no package: run ./build.sh npm");
  await run(folder, "npm", "install", "--no-audit", "--no-fund", "--prefer-offline", join(TARGET, "npm", packed), ...packages);
  await cp(join(ROOT, "www/hub"), join(folder, "public/hub"), { recursive: true });
  await cp(join(ROOT, "tests/fixtures/emoji/apple.png"), join(folder, "public/apple.png"));
  await writeFile(join(folder, "index.html"), html('<script type="module" src="./main.js"></script>'));
  await writeFile(join(folder, "main.js"), page_script("darkroom"));
}

/** The most scripts that a bundle has: the page's, the worker's, the wasm's, and parts that they share. */
const MAX_SCRIPTS = 8;

/** A bundler that takes an address for a pattern carries every file along that it could mean. @param {string} folder */
async function has_few_scripts(folder) {
  const scripts = (await readdir(folder, { recursive: true })).filter((name) => /\.m?js$/.test(name));
  if (scripts.length > MAX_SCRIPTS) throw new Error(`${scripts.length} scripts in the bundle: ${scripts.join(", ")}`);
}

/** @param {string} version @param {string} folder @param {Browser} browser */
async function vite(version, folder, browser) {
  await project(folder, `vite@${version}`);
  const [url] = await start(folder, /http:\/\/127\.0\.0\.1:\d+\//, "npx", "vite", "--host", "127.0.0.1", "--port", "0");
  await browser.result_of(url);
  await run(folder, "npx", "vite", "build");
  await has_few_scripts(join(folder, "dist"));
  await browser.result_of(await serve(join(folder, "dist")));
}

/** @type {Record<string, (folder: string, browser: Browser) => Promise<void>>} */
const tests = {
  "vite5 (dev, build)": (folder, browser) => vite("5", folder, browser),
  "vite8 (dev, build)": (folder, browser) => vite("8", folder, browser),
  async webpack5(folder, browser) {
    await project(folder, "webpack@5", "webpack-cli");
    for (const mode of ["development", "production"]) {
      await run(folder, "npx", "webpack", "--mode", mode, "--entry", "./main.js", "--output-path", join(folder, mode), "--output-filename", "bundle.js");
      await has_few_scripts(join(folder, mode));
    }
    await cp(join(folder, "production"), join(folder, "public"), { recursive: true });
    await writeFile(join(folder, "public/index.html"), html('<script src="bundle.js"></script>'));
    await browser.result_of(await serve(join(folder, "public")));
  },
  async "esbuild (files copied)"(folder, browser) {
    await project(folder, "esbuild");
    await writeFile(join(folder, "main.js"), page_script("darkroom", '{ base_url: "darkroom" }'));
    await run(folder, "npx", "esbuild", "main.js", "--bundle", "--format=esm", "--outfile=public/bundle.js");
    await cp(join(folder, "node_modules/darkroom"), join(folder, "public/darkroom"), { recursive: true });
    await writeFile(join(folder, "public/index.html"), html('<script type="module" src="bundle.js"></script>'));
    await browser.result_of(await serve(join(folder, "public")));
  },
  async "esbuild (worker bundled)"(folder, browser) {
    await project(folder, "esbuild");
    await writeFile(join(folder, "main.js"), page_script("darkroom", '{ worker: "out/worker.js", wasm_url: "out/darkroom_bg.wasm" }'));
    await writeFile(join(folder, "worker.js"), 'import "darkroom/worker";');
    await run(folder, "npx", "esbuild", "main.js", "worker.js", "--bundle", "--format=esm", "--outdir=public/out");
    await cp(join(folder, "node_modules/darkroom/pkg/darkroom_bg.wasm"), join(folder, "public/out/darkroom_bg.wasm"));
    await writeFile(join(folder, "public/index.html"), html('<script type="module" src="out/main.js"></script>'));
    await browser.result_of(await serve(join(folder, "public")));
  },
  /** A worker of the page's own bundle, and the wasm's address from the bundler. */
  async "vite8 (own worker)"(folder, browser) {
    await project(folder, "vite@8");
    const options = '{ worker: () => new Worker(new URL("./own_worker.js", import.meta.url), { type: "module" }), wasm_url }';
    await writeFile(join(folder, "own_worker.js"), 'import "darkroom/worker";');
    await writeFile(join(folder, "main.js"), `import wasm_url from "darkroom/darkroom_bg.wasm?url";\n${page_script("darkroom", options)}`);
    await run(folder, "npx", "vite", "build");
    await browser.result_of(await serve(join(folder, "dist")));
  },
  /** As from a CDN: no bundler, and another origin that allows its files. */
  async "another origin"(folder, browser) {
    await project(folder);
    const cdn = await serve(join(folder, "node_modules/darkroom"), { "Access-Control-Allow-Origin": "*" });
    await writeFile(join(folder, "public/index.html"), html(`<script type="module">${page_script(`${cdn}darkroom.js`)}</script>`));
    await browser.result_of(await serve(join(folder, "public")));
  },
  /** The documentation's hook. StrictMode mounts twice: one worker is left, and it draws. */
  async "react (StrictMode)"(folder, browser) {
    await project(folder, "vite@8", "react@19", "react-dom@19");
    const hook = /^```jsx\n([^`]*useDarkroom[^`]*)^```/m.exec(await readFile(join(ROOT, "docs/javascript.md"), "utf8"))?.[1] ?? "";
    await writeFile(join(folder, "use_darkroom.js"), hook);
    await writeFile(
      join(folder, "main.js"),
      `import { StrictMode, createElement, useEffect } from "react";
      import { createRoot } from "react-dom/client";
      import { useDarkroom } from "./use_darkroom.js";
      let [made, alive] = [0, 0];
      const Given = globalThis.Worker;
      globalThis.Worker = class extends Given {
        constructor(...args) { super(...args); made++; alive++; }
        terminate() { alive--; super.terminate(); }
      };
      async function draw(darkroom) {
        const { pictures } = await darkroom.generate({ prompt: "a red apple", steps: 2 }).done;
        document.body.dataset.result = made === 2 && alive === 1 && pictures.length === 1 ? "ok" : JSON.stringify({ made, alive, n: pictures.length });
      }
      function App() {
        const [darkroom, error] = useDarkroom({ runner: "cpu", endpoint: "hub" });
        useEffect(() => {
          if (error) document.body.dataset.result = error.message;
          if (darkroom) draw(darkroom).catch((error) => (document.body.dataset.result = error.message));
        }, [darkroom, error]);
        return null;
      }
      const root = document.createElement("div");
      document.body.append(root);
      createRoot(root).render(createElement(StrictMode, null, createElement(App)));`,
    );
    const [url] = await start(folder, /http:\/\/127\.0\.0\.1:\d+\//, "npx", "vite", "--host", "127.0.0.1", "--port", "0");
    await browser.result_of(url);
  },
  /** A server that renders pages imports it, and starts nothing. */
  async "node (import alone)"(folder) {
    await project(folder);
    await writeFile(join(folder, "main.js"), 'import { Darkroom } from "darkroom"; if (typeof Darkroom.open !== "function") throw new Error("no open");');
    await run(folder, "node", "main.js");
  },
  "typescript (5.4, 5.9)": async (folder) => {
    await project(folder);
    for (const name of await readdir(join(ROOT, "tools/npm/consumer"))) if (name !== "package.json") await cp(join(ROOT, "tools/npm/consumer", name), join(folder, name));
    for (const version of ["5.4", "5.9"]) {
      await run(folder, "npm", "install", "--no-audit", "--no-fund", "--prefer-offline", `typescript@${version}`);
      await run(folder, "npx", "tsc", "--project", "tsconfig.json");
      await run(folder, "npx", "tsc", "--project", "tsconfig.json", "--module", "esnext", "--moduleResolution", "bundler");
    }
  },
};

const asked = process.argv.slice(2);
const chosen = Object.entries(tests).filter(([name]) => asked.length === 0 || asked.some((word) => name.includes(word)));
const place = await mkdtemp(join(tmpdir(), "darkroom-npm-"));
let [passed, failed] = [0, 0];
try {
  const browser = await Browser.start();
  for (const [name, test] of chosen) {
    const from = performance.now();
    const folder = join(place, name.replace(/\W+/g, "-"));
    try {
      await test(folder, browser);
      passed++;
      console.log(`${name} ... ok, ${((performance.now() - from) / 1000).toFixed(0)} s`);
    } catch (error) {
      failed++;
      console.log(`${name} ... FAILED\n${error.message}`);
    }
    await rm(folder, { recursive: true, force: true });
  }
} finally {
  for (const end of endings) await Promise.resolve().then(end).catch(() => {});
  await rm(place, { recursive: true, force: true });
}
console.log(`test result: ${failed ? "FAILED" : "ok"}. ${passed} passed; ${failed} failed`);
process.exit(failed ? 1 : 0);
