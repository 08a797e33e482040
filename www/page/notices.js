// Messages that stay until they are read: what happened and what to do.

import { element, make } from "./elements.js";
import { leave } from "./focus.js";
import { text } from "./texts.js";
import { sentence } from "./words.js";

/** Messages that are longer than this stay until they are dismissed. */
const LONG = 60;
/** How long a short one stays. */
const READING_MS = 8000;
/** How long the place of announcements is empty before the next one. */
const NEXT_ANNOUNCEMENT_MS = 50;

/**
 * Shows a message with what can be done about it. It goes when an action is taken or it is dismissed.
 * @param {"info" | "error"} state
 * @param {string} message
 * @param {Record<string, () => void>} [actions] by what their buttons say
 * @returns {() => void} takes it away
 */
export function notify(state, message, actions = {}) {
  const said = sentence(message);
  const same = [...element("notices").children].find((notice) => notice.getAttribute("data-text") === said);
  same?.remove();
  const before = document.activeElement;
  const notice = make("div", { class: "notice", "data-state": state, "data-text": said, role: state === "error" ? "alert" : "status" });
  const close = () => {
    clearInterval(timer);
    // Whoever uses a keyboard goes on where they were, or with the next message.
    const next = notice.nextElementSibling ?? notice.previousElementSibling;
    const otherwise = next?.querySelector("button") ?? element("prompt");
    leave(notice, before && !notice.contains(before) ? before : null, otherwise);
  };
  notice.append(make("p", {}, said));
  for (const [label, act] of Object.entries(actions)) {
    const on_click = () => {
      close();
      act();
    };
    notice.append(make("button", { type: "button", class: "plain strong", onclick: on_click }, label));
  }
  notice.append(make("button", { type: "button", class: "plain square", "aria-label": text.dismiss, title: text.dismiss, onclick: close }, "×"));
  element("notices").append(notice);
  // What only tells goes by itself, once it was there to be read and nobody is at it.
  const is_short = state === "info" && said.length < LONG && Object.keys(actions).length === 0;
  const timer = is_short ? setInterval(() => notice.matches(":hover, :focus-within") || close(), READING_MS) : 0;
  return close;
}

/**
 * For screen readers: what just happened, without a place on the page. The same words again are said again.
 * @param {string} said
 */
export function announce(said) {
  element("announce").textContent = "";
  setTimeout(() => {
    element("announce").textContent = said;
  }, NEXT_ANNOUNCEMENT_MS);
}
