// Finding and making elements.

import { text } from "./texts.js";

/**
 * The elements of index.html that have an id.
 * @typedef {Record<"device" | "prompt-tokens" | "negative-tokens" | "panel" | "start" | "start-empty" | "start-filled" | "easel" |
 *     "brush-cursor" | "start-hint" | "prompt-notes" | "extras" | "embeddings-title" | "embeddings" | "networks-title" | "networks-count" |
 *     "networks-others" | "networks-now" | "loras" | "fit-field" | "mask-padding-field" | "eta-field" | "needs" | "toasts" | "notices" | "bath" | "sheet" | "frame" |
 *     "stage-actions" | "welcome" | "welcome-model" | "samples" | "offers" | "source" | "mask-tools" | "shapes" | "shape-size" |
 *     "qualities" | "quality-steps" | "what" | "what-settings" | "stage" | "left" | "queue" | "queue-heading" | "queue-time" |
 *     "pictures-count" | "selected" | "n-selected" | "gallery" | "announce" | "drop-here" | "viewer-stage" | "viewer-prompt" | "viewer-parameters" | "viewer-place" |
 *     "viewer-names" | "viewer-actions" | "models-space" | "models-list" | "models-now" | "models-report" | "runner-why" | "machine" |
 *     "shortcuts", HTMLElement>
 *   & Record<"open-models" | "open-settings" | "open-help" | "open-queue" | "open-gallery" | "open-panel" | "transfer" | "look" |
 *     "choose-picture" | "choose-network" | "show-source" | "show-result" | "mask-undo" | "mask-clear" | "mask-invert" | "mask-grow" | "mask-shrink" | "outpaint" | "variation-dice" | "remove-picture" | "swap-sides" |
 *     "seed-dice" | "seed-lock" | "draw" | "stop" | "pause" | "queue-clear" | "viewer-previous" | "viewer-next" | "zoom-in" | "zoom-out" |
 *     "zoom-fit" | "viewer-compare" | "save-selected" | "delete-selected" | "select-none" | "add-repository" | "import-folder" | "import-file" |
 *     "open-history" | "open-styles", HTMLButtonElement>
 *   & Record<"request" | "add-model", HTMLFormElement>
 *   & Record<"networks" | "advanced", HTMLDetailsElement>
 *   & Record<"prompt" | "negative", HTMLTextAreaElement>
 *   & Record<"picture-file" | "network-file" | "brush-size" | "strength" | "width" | "height" | "steps" | "guidance" | "eta" |
 *     "count" | "seed" | "clip-skip" | "variation-seed" | "variation-strength" | "mask-padding" | "mask-blur" | "outpaint-pixels" | "outpaint-left" | "outpaint-top" |
 *     "outpaint-right" | "outpaint-bottom" | "repository" | "import-files" | "single-file" | "endpoint" | "token" | "budget" | "tell-when-done" |
 *     "gallery-search" | "gallery-favourites" | "viewer-split", HTMLInputElement>
 *   & Record<"start-canvas" | "mask-canvas" | "developing", HTMLCanvasElement>
 *   & Record<"strength-value", HTMLOutputElement>
 *   & Record<"fit" | "inpaint-area" | "syntax" | "noise" | "model" | "sides" | "sampler" | "runner" | "dtype" | "weights" | "theme" | "viewer-with", HTMLSelectElement>
 *   & Record<"progress", HTMLProgressElement>
 *   & Record<"viewer" | "models" | "settings" | "help" | "queue-drawer", HTMLDialogElement>
 *   & Record<"viewer-image" | "viewer-other", HTMLImageElement>} PageElements
 */

/**
 * The element with that id. The page has every id that is asked for; a missing one is a mistake in the page.
 * @template {keyof PageElements} Id
 * @param {Id} id
 */
export const element = (id) => /** @type {PageElements[Id]} */ (document.getElementById(id));

/**
 * The first element within another, which is a mistake in the page where there is none.
 * @template {HTMLElement} Kind
 * @param {ParentNode} within
 * @param {string} selector
 * @param {new () => Kind} kind
 */
export function part(within, selector, kind) {
  const found = within.querySelector(selector);
  if (!(found instanceof kind)) throw new Error(`there is no ${kind.name} ${selector}`);
  return found;
}

/**
 * The element that an event is about, or one around it, that a selector describes.
 * @param {Event} event
 * @param {string} selector
 * @returns {HTMLElement | null}
 */
export const closest = ({ target }, selector) => (target instanceof Element ? target.closest(selector) : null);

/**
 * The files that were picked, which can be picked again.
 * @param {HTMLInputElement} input
 */
export function picked_files(input) {
  const files = [...(input.files ?? [])];
  input.value = "";
  return files;
}

/**
 * What draws on a canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
export function pen_of(canvas, settings) {
  const pen = canvas.getContext("2d", settings);
  if (!pen) throw new Error(text.no_canvas);
  return pen;
}

/**
 * What is on a canvas, as a PNG file.
 * @param {HTMLCanvasElement} canvas
 * @returns {Promise<Blob | null>} null where the browser cannot make one, as of a canvas that is too large
 */
export const png_of = (canvas) => new Promise((resolve) => canvas.toBlob(resolve));

/**
 * A new element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | (() => void)>} [properties] `class`, `on…` and attributes with a dash or
 *   `aria`/`role` are set as such
 * @param {(Node | string)[]} children
 */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") made.addEventListener(name.slice("on".length), value);
    else if (name === "class" || name === "role" || name.includes("-")) made.setAttribute(name, String(value));
    else Object.assign(made, { [name]: value });
  }
  made.append(...children);
  return made;
}

/**
 * Terms and their descriptions.
 * @param {HTMLElement} list
 * @param {[string, string][]} rows
 */
export function fill_list(list, rows) {
  list.replaceChildren(...rows.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));
}
