// The buttons of a finished picture: on its card, on the stage and in the viewer.

import { element, make } from "./elements.js";
import { copy_link, has_more, link_of_picture } from "./link.js";
import { copy } from "./saving.js";
import { text } from "./texts.js";

/** @typedef {import("./album.js").Kept} Kept */
/** @typedef {"card" | "stage" | "viewer"} Place */
/** What the buttons do. @typedef {{reuse: (parameters: Kept["parameters"]) => void, start_from: (png: Blob) => void, remove: (picture: Kept) => void}} Actions */

/**
 * The buttons; a card has room for the most used alone.
 * @param {import("./gallery.js").Item} item
 * @param {Place} where
 * @param {Actions} actions
 */
export function buttons_of(item, where, actions) {
  const { picture, url } = item;
  const { prompt, seed } = picture.parameters;
  const named = (/** @type {string} */ label) => `${label}: ${prompt}, ${text.seed(seed)}`;
  const look = where === "viewer" ? "plain" : "";
  /** @type {(label: string, act: () => void, title?: string, classes?: string) => HTMLElement} */
  const button = (label, act, title = "", classes = look) => make("button", { type: "button", class: classes, "aria-label": named(label), title, onclick: act }, label);
  const close = () => where === "viewer" && element("viewer").close();
  const made = [
    make("a", { href: url, download: `darkroom-${seed}.png`, class: look, "aria-label": named(text.save) }, text.save),
    button(text.use_settings, () => {
      close();
      actions.reuse(picture.parameters);
    }, text.use_settings_title),
    button(text.edit, () => {
      close();
      actions.start_from(picture.png);
    }, text.edit_title),
  ];
  if (where !== "card") {
    made.splice(1, 0, button(text.copy, () => copy(new ClipboardItem({ "image/png": picture.png }), text.copied)));
    made.push(button(text.link.copy, () => copy_link(link_of_picture(picture.parameters), has_more(picture.parameters)), text.link.title, `${look} seldom`));
    made.push(button(text.copy_seed, () => copy(String(seed), text.seed_copied), "", `${look} seldom`));
  }
  made.push(button(text.delete, () => actions.remove(picture)));
  return made;
}
