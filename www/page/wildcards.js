// Lists that prompts choose from: text files, one option a line, kept in this browser. `__name__` in a prompt is a line of the
// list of that name, chosen by the seed of each picture. The panel is made here and stands below the embeddings.

import { make, picked_files } from "./elements.js";
import { read, write } from "./memory.js";
import { message_of } from "./messages.js";
import { into_prompt } from "./networks.js";
import { announce, notify } from "./notices.js";
import { text } from "./texts.js";

/** Where the lists are kept between visits, by name. */
const KEY = "darkroom.wildcards";
/** Browsers keep some megabytes in all. */
const MAX_BYTES = 1 << 20;

/** Is called when prompts may mean something else. */
let changed = () => {};
/** Lists by name. @type {Record<string, string>} */
let lists = {};
/** What is listed, with its heading. @type {HTMLElement} */
let panel;

/** @param {() => void} on_change */
export function open_wildcards(on_change) {
  changed = on_change;
  for (const [name, list] of Object.entries(read(KEY))) if (typeof list === "string") lists[name] = list;
  panel = make("div", { id: "wildcards" });
  const input = make("input", { type: "file", accept: ".txt", multiple: true, hidden: true, id: "wildcards-file" });
  input.addEventListener("change", () => take_wildcards(picked_files(input)));
  const choose = make("button", { type: "button", class: "plain", onclick: () => input.click() }, text.add_wildcards);
  document.querySelector(".networks")?.append(panel, make("div", { class: "drop" }, choose), input);
  show();
}

/** The lists by name. */
export const wildcards = () => lists;

/** Whether a file is a list, by its name. @param {File} file */
export const is_wildcards = ({ name }) => /\.txt$/i.test(name);

/** Keeps lists. @param {File[]} files */
export async function take_wildcards(files) {
  const added = { ...lists };
  for (const file of files) {
    const name = file.name.replace(/\.txt$/i, "");
    if (!/^[\p{L}\p{N}_\-. ]+$/u.test(name) || name !== name.trim() || name.includes("__")) {
      notify("error", text.unnamed_list(file.name));
      return;
    }
    try {
      added[name] = file.size > MAX_BYTES ? "x".repeat(MAX_BYTES + 1) : await file.text();
    } catch (error) {
      notify("error", text.unread_list(file.name, message_of(error)));
      return;
    }
  }
  if (Object.values(added).reduce((sum, list) => sum + list.length, 0) > MAX_BYTES) {
    notify("error", text.lists_too_large);
    return;
  }
  keep(added);
  const names = files.map(({ name }) => `__${name.replace(/\.txt$/i, "")}__`).join(", ");
  announce(text.prompts_may_use(names));
}

/** @param {Record<string, string>} next */
function keep(next) {
  lists = next;
  if (!write(KEY, lists)) notify("info", text.lists_not_kept);
  show();
  changed();
}

/** The options of a list. @param {string} list */
const options = (list) => list.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("#"));

function show() {
  const rows = Object.entries(lists).map(([name, list]) => {
    const n = options(list).length;
    /** @type {(says: string, label: string, act: () => void) => HTMLButtonElement} */
    const button = (says, label, act) => make("button", { type: "button", class: "plain", "aria-label": label, onclick: act }, says);
    const remove = () => {
      const { [name]: _, ...others } = lists;
      keep(others);
      announce(text.list_deleted(name));
    };
    const head = make(
      "div",
      { class: "lora-head" },
      make("span", { class: "name", title: text.list_options(n) }, `__${name}__`),
      button(text.to_prompt, `${text.to_prompt}: __${name}__`, () => into_prompt(`__${name}__`)),
      button(text.to_negative, `${text.to_negative}: __${name}__`, () => into_prompt(`__${name}__`, "negative")),
      button(text.delete, `${text.delete}: __${name}__`, remove),
    );
    return make("li", { class: "lora", "data-wildcards": name }, head);
  });
  const title = make("div", { class: "label-row" }, make("span", { class: "label" }, text.wildcards));
  panel.replaceChildren(...(rows.length > 0 ? [title, make("ul", { class: "loras" }, ...rows)] : []));
}
