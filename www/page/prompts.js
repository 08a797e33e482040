// The dialog beside the prompt: the prompts that were drawn last, and styles. What they are is in history.js and styles.js.

import { make_dialog, show_dialog } from "./dialogs.js";
import { element, make, picked_files } from "./elements.js";
import { keep_focus } from "./focus.js";
import { is_same, open_history, prompt_history, prompts_of_form, use_prompts, write_history } from "./history.js";
import { message_of } from "./messages.js";
import { announce, notify } from "./notices.js";
import { save_file } from "./saving.js";
import { csv_of_styles, styled, styles, styles_of_csv, with_styles, write_styles } from "./styles.js";
import { text } from "./texts.js";

/** @typedef {import("./history.js").Prompts} Prompts */
/** @typedef {import("./styles.js").Style} Style */

/** A file of styles has so many bytes at most. */
const MAX_FILE_BYTES = 4 << 20;
/** How long it is offered to take back what was put into the form. */
const UNDO_MS = 20_000;

/** @type {HTMLDialogElement} */
let dialog;
/** @type {HTMLElement} */
let history_list;
/** @type {HTMLElement} */
let styles_list;
/** @type {HTMLInputElement} */
let search;
/** The style that is written or changed; its name before. @type {{form: HTMLElement, name: HTMLInputElement, prompt: HTMLTextAreaElement, negative: HTMLTextAreaElement, before: string | null}} */
let editor;

/** @type {(label: string, act: () => void, named?: string) => HTMLButtonElement} */
const button = (label, act, named = label) => make("button", { type: "button", class: "plain", "aria-label": named, onclick: act }, label);

/** @type {(id: string, label: string, field: HTMLElement) => HTMLElement} */
const field = (id, label, input) => make("div", { class: "field" }, make("label", { htmlFor: id }, label), Object.assign(input, { id }));

/** Makes the dialog, and opens it from the buttons at the prompt. */
export function open_prompts() {
  open_history();
  const said = text.prompts;
  search = make("input", { type: "search", placeholder: said.search, "aria-label": said.search, dir: "auto" });
  search.addEventListener("input", show);
  history_list = make("ul", { class: "prompt-list" });
  styles_list = make("ul", { class: "prompt-list" });
  const history = make("div", { class: "prompt-tab" }, make("p", { class: "quiet" }, said.history_hint), history_list, make("div", { class: "row" }, button(said.clear_history, clear_history)));
  const file = make("input", { type: "file", accept: ".csv,text/csv", hidden: true, id: "styles-file", "aria-label": said.import_styles });
  file.addEventListener("change", () => import_styles(picked_files(file)[0]));
  const tools = make(
    "div",
    { class: "row" },
    button(said.new_style, () => edit({ name: "", ...prompts_of_form() }, null)),
    button(said.import_styles, () => file.click()),
    button(said.export_styles, () => save_file(new Blob(["\uFEFF", csv_of_styles(styles())], { type: "text/csv" }), "styles.csv")),
    file,
  );
  const style_tab = make("div", { class: "prompt-tab" }, make("p", { class: "quiet" }, said.styles_hint), tools, make_editor(), styles_list);
  const radio = (/** @type {"history" | "styles"} */ value) => {
    const input = make("input", { type: "radio", name: "prompts-tab", value, onchange: () => show_tab(value) });
    return make("label", {}, input, make("span", {}, said[value]));
  };
  const show_tab = (/** @type {"history" | "styles"} */ which) => {
    history.hidden = which !== "history";
    style_tab.hidden = which !== "styles";
    for (const each of tabs.querySelectorAll("input")) each.checked = each.value === which;
    editor.form.hidden = true;
    show();
  };
  const tabs = make("div", { class: "segments", role: "radiogroup", "aria-label": said.title }, radio("history"), radio("styles"));
  dialog = make_dialog("prompts", said.title, [tabs], [search, history, style_tab]);
  for (const which of /** @type {const} */ (["history", "styles"])) {
    element(`open-${which}`).addEventListener("click", () => {
      search.value = "";
      show_tab(which);
      show_dialog(dialog);
    });
  }
}

function make_editor() {
  const said = text.prompts;
  const name = make("input", { type: "text", maxLength: 200, dir: "auto", autocomplete: "off" });
  const [prompt, negative] = [make("textarea", { rows: 2, dir: "auto" }), make("textarea", { rows: 1, dir: "auto" })];
  const cancel = () => {
    editor.form.hidden = true;
    element_in("button", styles_list.parentElement).focus();
  };
  const form = make(
    "form",
    { class: "style-editor", hidden: true, "aria-label": said.style, noValidate: true },
    field("style-name", said.name, name),
    field("style-prompt", said.style_prompt, prompt),
    field("style-negative", text.row.negative, negative),
    make("div", { class: "row" }, make("button", { type: "submit", class: "primary" }, said.save_style), button(said.cancel, cancel)),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save_style();
  });
  editor = { form, name, prompt, negative, before: null };
  return form;
}

/** @param {string} selector @param {ParentNode | null} within */
const element_in = (selector, within) => /** @type {HTMLElement} */ (within?.querySelector(selector));

/** Opens the editor. @param {Style} style @param {string | null} before its name, where it is one that is kept */
function edit({ name, prompt, negative }, before) {
  Object.assign(editor.name, { value: name });
  editor.prompt.value = prompt;
  editor.negative.value = negative;
  editor.before = before;
  editor.form.hidden = false;
  editor.name.setAttribute("aria-invalid", "false");
  editor.name.focus();
}

function save_style() {
  const style = { name: editor.name.value.trim(), prompt: editor.prompt.value.trim(), negative: editor.negative.value.trim() };
  editor.name.setAttribute("aria-invalid", String(style.name === ""));
  if (style.name === "") {
    editor.name.focus();
    announce(text.prompts.name_missing);
    return;
  }
  const before = styles();
  const takes_place = before.some(({ name }) => name === style.name && name !== editor.before);
  if (!keep(with_styles([style], before.filter(({ name }) => name !== editor.before)))) return;
  editor.form.hidden = true;
  if (takes_place) notify("info", text.prompts.style_replaced(style.name), { [text.undo]: () => keep(before) });
  else announce(text.prompts.style_saved(style.name));
  element_in(`[data-style="${CSS.escape(style.name)}"] button`, styles_list)?.focus();
}

/** Keeps other styles, or says why not. @param {Style[]} changed */
function keep(changed) {
  try {
    write_styles(changed);
  } catch (error) {
    notify("error", text.prompts.styles_not_kept(message_of(error)));
    return false;
  }
  show();
  return true;
}

/** Adds the styles of AUTOMATIC1111's file. @param {File | undefined} file */
export async function import_styles(file) {
  if (!file) return;
  try {
    if (file.size > MAX_FILE_BYTES) throw new Error(text.prompts.no_room);
    const added = styles_of_csv(await file.text());
    const before = styles();
    if (added.length === 0 || !keep(with_styles(added))) throw new Error(text.prompts.no_styles);
    notify("info", text.prompts.styles_imported(added.length), { [text.undo]: () => keep(before) });
  } catch (error) {
    notify("error", text.file_reason(file.name, message_of(error)));
  }
}

function clear_history() {
  const before = prompt_history();
  if (before.length === 0) return;
  write_history([]);
  show();
  notify("info", text.prompts.history_cleared, { [text.undo]: () => change_history(before) });
}

/** @param {Prompts[]} prompts */
function change_history(prompts) {
  write_history(prompts);
  show();
}

function show() {
  const words = search.value.toLowerCase().split(/\s+/);
  const passes = (/** @type {string} */ within) => words.every((word) => within.toLowerCase().includes(word));
  const prompts = prompt_history().filter(({ prompt, negative }) => passes(`${prompt} ${negative}`));
  const found = styles().filter(({ name, prompt, negative }) => passes(`${name} ${prompt} ${negative}`));
  fill(history_list, prompts.map(history_row), prompt_history().length === 0 ? text.prompts.no_history : text.prompts.nothing_found);
  fill(styles_list, found.map(style_row), styles().length === 0 ? text.prompts.no_styles_yet : text.prompts.nothing_found);
}

/** @param {HTMLElement} list @param {HTMLElement[]} rows @param {string} otherwise what is said where there are none */
function fill(list, rows, otherwise) {
  keep_focus(list, () => list.replaceChildren(...(rows.length > 0 ? rows : [make("li", { class: "quiet" }, otherwise)])), search);
}

/** Puts both into the form and goes there, which can be taken back for a while. @param {Prompts} prompts @param {string} said */
function use(prompts, said) {
  const before = prompts_of_form();
  dialog.close();
  use_prompts(prompts);
  const close = notify("info", said, { [text.undo]: () => use_prompts(before) });
  setTimeout(close, UNDO_MS);
}

/** @param {Prompts} prompts @param {string} [name] */
function use_button({ prompt, negative }, act = () => {}, name = "") {
  const title = name === "" ? [] : [make("strong", { dir: "auto" }, name)];
  const avoided = negative === "" ? [] : [make("small", { dir: "auto" }, `− ${negative}`)];
  return make("button", { type: "button", class: "plain use", onclick: act }, ...title, make("span", { dir: "auto" }, prompt), ...avoided);
}

/** @param {Prompts} prompts */
function history_row(prompts) {
  const remove = () => {
    const before = prompt_history();
    change_history(before.filter((each) => !is_same(each, prompts)));
    notify("info", text.prompts.prompt_removed, { [text.undo]: () => change_history(before) });
  };
  const named = `${text.remove}: ${prompts.prompt}`;
  return make("li", {}, use_button(prompts, () => use(prompts, text.prompts.prompt_used)), make("button", { type: "button", class: "plain square", "aria-label": named, title: text.remove, onclick: remove }, "×"));
}

/** @param {Style} style */
function style_row(style) {
  const apply = () => {
    const { prompt, negative } = prompts_of_form();
    use({ prompt: styled(style.prompt, prompt), negative: styled(style.negative, negative) }, text.prompts.style_applied(style.name));
  };
  const remove = () => {
    const before = styles();
    if (keep(before.filter(({ name }) => name !== style.name))) notify("info", text.prompts.style_deleted(style.name), { [text.undo]: () => keep(before) });
  };
  return make(
    "li",
    { "data-style": style.name },
    use_button(style, apply, style.name),
    button(text.prompts.edit_style, () => edit(style, style.name), `${text.prompts.edit_style}: ${style.name}`),
    button(text.delete, remove, `${text.delete}: ${style.name}`),
  );
}
