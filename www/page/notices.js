// Messages that stay until they are read: what happened and what to do.

import { element, make } from "./elements.js";
import { sentence } from "./words.js";

/**
 * Shows a message with what can be done about it. It goes when an action is taken or it is dismissed.
 * @param {"info" | "error"} state
 * @param {string} message
 * @param {Record<string, () => void>} [actions] by what their buttons say
 */
export function notify(state, message, actions = {}) {
  const text = sentence(message);
  const same = [...element("notices").children].find((notice) => notice.getAttribute("data-text") === text);
  same?.remove();
  const notice = make("div", { class: "notice", "data-state": state, "data-text": text, role: state === "error" ? "alert" : "status" });
  notice.append(make("p", {}, text));
  for (const [label, act] of Object.entries(actions)) {
    const on_click = () => {
      notice.remove();
      act();
    };
    notice.append(make("button", { type: "button", class: "plain strong", onclick: on_click }, label));
  }
  notice.append(make("button", { type: "button", class: "plain", onclick: () => notice.remove() }, "Dismiss"));
  element("notices").append(notice);
}

/**
 * For screen readers: what just happened, without a place on the page.
 * @param {string} text
 */
export function announce(text) {
  element("announce").textContent = text;
}
