// The first visit: what this is, examples of the loaded model to click, and which models draw more than it does.

import { EMBEDDED_REPOSITORY } from "../darkroom.js";
import { OFFERS } from "./catalog.js";
import { element, make } from "./elements.js";
import { find_needs, show_needs } from "./plans.js";
import { text } from "./texts.js";
import { bytes } from "./words.js";

/** @typedef {import("../protocol.js").LoadedModel} LoadedModel */

/** Prompts that the demo model draws well, each with its picture in `samples/`. Models read English, whatever the page speaks. */
const DEMO_EXAMPLES = ["a red apple on a blue background", "a rocket on a black background", "a cat on a yellow background", "a castle on a pink background", "a sunflower on a blue background", "an owl on a purple background"];
/** Prompts for every other model. */
const EXAMPLES = [
  "a lighthouse on a cliff at dusk, oil painting",
  "portrait of an astronaut, studio light, 85 mm photo",
  "isometric cutaway of a cosy bookshop, soft light",
  "a fox in the snow, watercolour",
  "macro photo of dew on a spider web, morning sun",
  "art deco travel poster of a harbour town",
];

/** @type {(prompt: string) => void} */
let use = () => {};
/** @type {(version: string) => void} */
let download = () => {};

/**
 * @param {(prompt: string) => void} on_example is called with a prompt that was clicked
 * @param {(version: string) => void} on_download
 */
export function open_welcome(on_example, on_download) {
  use = on_example;
  download = on_download;
}

/** Shows it while there are no pictures. @param {boolean} is_shown */
export function show_welcome(is_shown) {
  element("welcome").hidden = !is_shown;
}

/** Whether the first picture is still to come. */
export const is_welcoming = () => !element("welcome").hidden;

/**
 * Examples and offers for a loaded model.
 * @param {LoadedModel} model
 * @param {import("../darkroom.js").Darkroom} darkroom
 */
export async function welcome_for(model, darkroom) {
  const is_demo = model.repository === EMBEDDED_REPOSITORY;
  const examples = is_demo ? DEMO_EXAMPLES.map((prompt, idx) => [prompt, `samples/${idx + 1}.webp`]) : EXAMPLES.map((prompt) => [prompt]);
  element("samples").replaceChildren(
    ...examples.map(([prompt = "", picture]) =>
      make("button", { type: "button", class: "sample", onclick: () => use(prompt) }, ...(picture ? [make("img", { src: picture, alt: "", width: 128, height: 128 })] : []), make("span", {}, prompt)),
    ),
  );
  element("welcome-model").textContent = is_demo ? (model.runner === "cpu" ? `${text.demo_knows} ${text.needs_gpu}` : text.demo_knows) : text.model_ready(model.name);
  if (!is_demo) {
    element("offers").replaceChildren();
    return;
  }
  const versions = await darkroom.versions();
  /** @type {[import("../protocol.js").VersionInfo, HTMLElement][]} */
  const asked = [];
  const cards = OFFERS.flatMap((key) => {
    const version = versions.find((each) => each.key === key);
    if (!version) return [];
    const needs = make("small", { class: "count memory" });
    asked.push([version, needs]);
    const get = make("button", { type: "button", class: "plain small strong", "aria-label": `${text.download}: ${version.name}`, onclick: () => download(key) }, text.download);
    return [
      make(
        "li",
        { class: "offer" },
        make("strong", {}, version.name),
        make("span", { class: "quiet" }, text.purposes[key] ?? ""),
        needs,
        make("div", { class: "row" }, make("span", { class: "count" }, `${bytes(version.download_bytes)} · ${text.steps(version.steps)}`), get),
      ),
    ];
  });
  element("offers").replaceChildren(...cards);
  // A software adapter's memory is nobody's question, and the answers would keep the worker from the first picture.
  if (model.runner !== "gpu") return;
  // One after another, so that a drawing goes on in between.
  for (const [version, needs] of asked) {
    if (!needs.isConnected || !is_welcoming()) return;
    show_needs(needs, await find_needs(darkroom, version));
  }
}
