// Finding and making elements.

/**
 * The elements of index.html that have an id.
 * @typedef {Record<"device" | "prompt-tokens" | "negative-tokens" | "start" | "start-empty" | "start-filled" | "easel" |
 *     "brush-cursor" | "start-hint" | "prompt-notes" | "extras" | "embeddings-title" | "embeddings" | "networks-title" | "networks-count" | "networks-others" | "networks-now" | "loras" | "fit-field" | "eta-field" | "needs" | "notices" | "bath" | "sheet" |
 *     "sheet-hint" | "what" | "what-settings" | "stage" | "left" | "queue" | "pictures-heading" | "pictures-count" |
 *     "pictures-hint" | "gallery" | "announce" | "drop-here" | "viewer-prompt" | "viewer-parameters" |
 *     "viewer-actions" | "models-heading" | "models-space" | "models-list" | "models-now" | "models-report" | "settings-heading" |
 *     "runner-why" | "machine", HTMLElement>
 *   & Record<"open-models" | "open-settings" | "choose-picture" | "choose-network" | "mask-undo" | "mask-clear" | "remove-picture" |
 *     "draw" | "stop" | "pause" | "add-repository" | "import-folder" | "import-file", HTMLButtonElement>
 *   & Record<"request", HTMLFormElement>
 *   & Record<"prompt" | "negative", HTMLTextAreaElement>
 *   & Record<"picture-file" | "network-file" | "brush-size" | "strength" | "width" | "height" | "steps" | "guidance" | "eta" |
 *     "count" | "seed" | "repository" | "import-files" | "single-file" | "endpoint" | "token" | "budget", HTMLInputElement>
 *   & Record<"start-canvas" | "mask-canvas" | "developing", HTMLCanvasElement>
 *   & Record<"strength-value", HTMLOutputElement>
 *   & Record<"fit" | "syntax" | "noise" | "model" | "sides" | "sampler" | "runner" | "dtype", HTMLSelectElement>
 *   & Record<"progress", HTMLProgressElement>
 *   & Record<"viewer" | "models" | "settings", HTMLDialogElement>
 *   & Record<"viewer-image", HTMLImageElement>} PageElements
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
 * What draws on a canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
export function pen_of(canvas, settings) {
  const pen = canvas.getContext("2d", settings);
  if (!pen) throw new Error("this browser gives no canvas to draw on");
  return pen;
}

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
