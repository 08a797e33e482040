// Messages that stay until they are read: what happened and what to do.

import { element, make } from "./elements.js";
import { text } from "./texts.js";
import { sentence } from "./words.js";

/** Messages that are longer than this stay until they are dismissed. */
const LONG = 60;
/** How long a short one stays. */
const READING_MS = 8000;
/** What can be done for that long only. */
const BRIEF = new Set([text.undo]);

/**
 * Shows a message with what can be done about it. It goes when an action is taken or it is dismissed.
 * @param {"info" | "error"} state
 * @param {string} message
 * @param {Record<string, () => void>} [actions] by what their buttons say
 */
export function notify(state, message, actions = {}) {
  const said = sentence(message);
  const same = [...element("notices").children].find((notice) => notice.getAttribute("data-text") === said);
  same?.remove();
  const notice = make("div", { class: "notice", "data-state": state, "data-text": said, role: state === "error" ? "alert" : "status" });
  notice.append(make("p", {}, said));
  for (const [label, act] of Object.entries(actions)) {
    const on_click = () => {
      notice.remove();
      act();
    };
    notice.append(make("button", { type: "button", class: "plain strong", onclick: on_click }, label));
  }
  const close = () => {
    clearTimeout(timer);
    // Whoever uses a keyboard is not thrown to the page's beginning.
    if (notice.contains(document.activeElement)) (came_from instanceof HTMLElement && came_from.isConnected ? came_from : element("prompt")).focus();
    notice.remove();
  };
  const came_from = document.activeElement;
  notice.append(make("button", { type: "button", class: "plain square", "aria-label": `${text.dismiss}: ${said}`, title: text.dismiss, onclick: close }, "×"));
  element("notices").append(notice);
  // What only tells goes by itself, once it was there to be read and nobody is at it.
  const is_short = state === "info" && said.length < LONG && Object.keys(actions).every((label) => BRIEF.has(label));
  const timer = is_short ? setInterval(() => notice.matches(":hover, :focus-within") || close(), READING_MS) : 0;
}

/**
 * For screen readers: what just happened, without a place on the page.
 * @param {string} text
 */
export function announce(text) {
  element("announce").textContent = text;
}
