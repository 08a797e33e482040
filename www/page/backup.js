// Settings as one file: preferences, styles and prompts, to be taken to another browser. Models and images are not in it.

import { element, make, picked_files } from "./elements.js";
import { HISTORY_KEY, history_of, is_same, prompt_history } from "./history.js";
import { read, write } from "./memory.js";
import { message_of } from "./messages.js";
import { notify } from "./notices.js";
import { save_file } from "./saving.js";
import { STYLES_KEY, styles_of, with_styles } from "./styles.js";
import { text } from "./texts.js";
import { is_busy } from "./tray.js";

const KIND = "darkroom settings";
const VERSION = 1;
/** A file has so many bytes at most. */
const MAX_BYTES = 8 << 20;
const MAX_CHARACTERS = 1 << 20;
/** What was there before an import, as long as the tab is open. */
const BEFORE_KEY = "darkroom.before-import";

/** @typedef {Record<string, unknown>} Values */
/** Returns what of a parsed value is valid; undefined where nothing is. @typedef {(found: unknown) => unknown} Check */

/** @type {(type: "string" | "boolean" | "number") => Check} */
const a = (type) => (found) => (typeof found === type && (type !== "string" || String(found).length <= MAX_CHARACTERS) && !Number.isNaN(found) ? found : undefined);

/** The entries of a record whose values pass. @param {Check} check @returns {Check} */
const record_of = (check) => (found) => {
  if (typeof found !== "object" || found === null || Array.isArray(found)) return undefined;
  const entries = Object.entries(found).flatMap(([name, value]) => {
    const kept = name === "__proto__" ? undefined : check(value);
    return kept === undefined ? [] : [[name, kept]];
  });
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
};

/** @type {Check} */
const choice_of_lora = (found) => {
  const { on, strength, text_strength = null } = /** @type {Values} */ (found ?? {});
  const is_good = typeof on === "boolean" && Number.isFinite(strength) && (text_strength === null || Number.isFinite(text_strength));
  return is_good ? { on, strength, text_strength } : undefined;
};

/** @type {Check} */
const options_of_model = (found) => {
  const { prediction, base, vae, taesd } = /** @type {Values} */ (found ?? {});
  return record_of(a("string"))({ prediction: prediction === "epsilon" || prediction === "v" ? prediction : undefined, base, vae, taesd });
};

/** Menus whose values come with a model. */
const OF_MODEL = ["model", "sampler"];

/** The form's fields; a menu takes only the values that it has. @type {Check} */
const form = (found) => {
  const kept = Object.entries(/** @type {Record<string, string>} */ (record_of(a("string"))(found) ?? {}));
  const fits = kept.filter(([id, value]) => {
    const field = document.getElementById(id);
    return OF_MODEL.includes(id) || !(field instanceof HTMLSelectElement) || [...field.options].some((option) => option.value === value);
  });
  return fits.length > 0 ? Object.fromEntries(fits) : undefined;
};

/** What is kept, by the end of its key, with what it may be. @type {Record<string, Check>} */
const KEPT = {
  form,
  "model-settings": record_of(record_of(a("string"))),
  "model-options": record_of(options_of_model),
  look: record_of((found) => a("string")(found) ?? a("boolean")(found)),
  open: record_of(a("boolean")),
  grid: record_of(a("string")),
  loras: record_of(record_of(choice_of_lora)),
  wildcards: record_of(a("string")),
  styles: (found) => ({ styles: styles_of(/** @type {Values} */ (found ?? {}).styles) }),
  history: (found) => ({ prompts: history_of(/** @type {Values} */ (found ?? {}).prompts) }),
};

const key_of = (/** @type {string} */ name) => `darkroom.${name}`;

/** All settings, as a file says them. */
export function settings_file() {
  const settings = Object.fromEntries(Object.keys(KEPT).map((name) => [name, read(key_of(name))]));
  return JSON.stringify({ kind: KIND, version: VERSION, exported_at: new Date().toISOString(), settings }, null, 1);
}

/**
 * What a file's settings make of those that are here: preferences and lists take the place of their namesakes, styles and prompts are added.
 * @param {string} file
 * @returns {Record<string, Values>} by their keys
 * @throws where it is no such file
 */
export function settings_of(file) {
  let found;
  try {
    found = JSON.parse(file);
  } catch {
    throw new Error(text.backup.no_settings);
  }
  if (found?.kind !== KIND || typeof found.settings !== "object" || found.settings === null) throw new Error(text.backup.no_settings);
  if (!(found.version <= VERSION)) throw new Error(text.backup.newer);
  /** @type {Record<string, Values>} */
  const settings = {};
  for (const [name, check] of Object.entries(KEPT)) {
    const kept = Object.hasOwn(found.settings, name) ? check(found.settings[name]) : undefined;
    if (kept !== undefined) settings[key_of(name)] = { ...read(key_of(name)), .../** @type {Values} */ (kept) };
  }
  if (settings[STYLES_KEY]) settings[STYLES_KEY] = { styles: with_styles(styles_of(settings[STYLES_KEY].styles)) };
  const here = prompt_history();
  const added = history_of(settings[HISTORY_KEY]?.prompts).filter((each) => !here.some((one) => is_same(one, each)));
  if (settings[HISTORY_KEY]) settings[HISTORY_KEY] = { prompts: history_of([...here, ...added]) };
  return settings;
}

/** Keeps settings; where there is no room for all, none. @param {Record<string, Values>} settings */
function write_all(settings) {
  const before = Object.fromEntries(Object.keys(settings).map((key) => [key, read(key)]));
  if (Object.entries(settings).every(([key, value]) => write(key, value))) return before;
  for (const [key, value] of Object.entries(before)) write(key, value);
  throw new Error(text.storage_full);
}

/** Begins again with what is kept; what was before can be had back. @param {Record<string, Values>} before */
function begin_again(before) {
  try {
    sessionStorage.setItem(BEFORE_KEY, JSON.stringify(before));
  } catch {
    // There is no way back then.
  }
  location.reload();
}

/** @param {File | undefined} file */
export async function import_settings(file) {
  if (!file) return;
  try {
    // The page begins again, and with it what it draws.
    if (is_busy()) throw new Error(text.backup.busy);
    if (file.size > MAX_BYTES) throw new Error(text.backup.no_settings);
    begin_again(write_all(settings_of(await file.text())));
  } catch (error) {
    notify("error", text.file_reason(file.name, message_of(error)));
  }
}

/** Tells of an import that the page began again for. */
function tell_of_import() {
  let kept = null;
  try {
    kept = sessionStorage.getItem(BEFORE_KEY);
    sessionStorage.removeItem(BEFORE_KEY);
  } catch {
    // A browser that keeps nothing has imported nothing.
  }
  if (kept === null) return;
  const undo = () => {
    for (const [key, value] of Object.entries(JSON.parse(kept))) write(key, /** @type {Values} */ (value));
    location.reload();
  };
  notify("info", text.backup.imported, { [text.undo]: undo });
}

/** Puts both into the settings, and tells of an import before. */
export function open_backup() {
  const file = make("input", { type: "file", accept: ".json,application/json", hidden: true, id: "settings-file", "aria-label": text.backup.import });
  file.addEventListener("change", () => import_settings(picked_files(file)[0]));
  const save = () => save_file(new Blob([settings_file()], { type: "application/json" }), "darkroom-settings.json");
  element("settings").querySelector(".dialog-body")?.append(
    make("h3", {}, text.backup.title),
    make("p", { class: "quiet" }, text.backup.hint),
    make(
      "div",
      { class: "row" },
      make("button", { type: "button", class: "plain", onclick: save }, text.backup.export),
      make("button", { type: "button", class: "plain", onclick: () => file.click() }, text.backup.import),
      make("button", { type: "button", class: "plain", onclick: () => document.getElementById("gallery-file")?.click() }, text.gallery_import.import),
    ),
    file,
  );
  tell_of_import();
}
