// Messages that stay until they are read: what happened and what to do.

import { element, make } from "./elements.js";
import { leave } from "./focus.js";
import { sentence } from "./words.js";

const home = element("notices").parentElement;

/** Messages are where the reader is: what is behind an open dialog can be neither read nor pressed. */
function place() {
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
  const notices = element("notices");
  if (dialog && !dialog.contains(notices)) dialog.prepend(notices);
  else if (!dialog && home && notices.parentElement !== home) home.prepend(notices);
}

document.addEventListener("close", place, { capture: true });

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
  const text = sentence(message);
  const same = [...element("notices").children].find((notice) => notice.getAttribute("data-text") === text);
  same?.remove();
  const before = document.activeElement;
  const notice = make("div", { class: "notice", "data-state": state, "data-text": text, role: state === "error" ? "alert" : "status" });
  const close = () => {
    // Whoever uses a keyboard goes on where they were, or with the next message.
    const next = notice.nextElementSibling ?? notice.previousElementSibling;
    const otherwise = next?.querySelector("button") ?? element("prompt");
    leave(notice, before && !notice.contains(before) ? before : null, otherwise);
  };
  notice.append(make("p", {}, text));
  for (const [label, act] of Object.entries(actions)) {
    const on_click = () => {
      close();
      act();
    };
    notice.append(make("button", { type: "button", class: "plain strong", onclick: on_click }, label));
  }
  notice.append(make("button", { type: "button", class: "plain", onclick: close }, "Dismiss"));
  place();
  element("notices").append(notice);
  return close;
}

/**
 * For screen readers: what just happened, without a place on the page. The same words again are said again.
 * @param {string} text
 */
export function announce(text) {
  element("announce").textContent = "";
  setTimeout(() => {
    element("announce").textContent = text;
  }, NEXT_ANNOUNCEMENT_MS);
}
