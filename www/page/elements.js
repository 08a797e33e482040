// Finding and making elements.

/**
 * The element with that id. The page has every id that is asked for; a missing one is a mistake in the page.
 * @param {string} id
 * @returns {any}
 */
export const element = (id) => document.getElementById(id);

/**
 * A new element.
 * @param {string} tag
 * @param {Record<string, any>} [properties] `class`, `on…` and attributes with a dash or `aria`/`role` are set as such
 * @param {(Node | string)[]} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class" || name === "role" || name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
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
