// Downloading a model: one at a time, with its progress in the list and in the page's head. Which files belong to it and where they
// are kept is the program's.

import { code_of } from "../errors.js";
import { broadcast } from "./channel.js";
import { delete_now } from "./deletions.js";
import { element, part } from "./elements.js";
import { message_of } from "./messages.js";
import { network_came, network_of } from "./networks.js";
import { announce, notify } from "./notices.js";
import { text } from "./texts.js";
import { bytes, duration, sentence } from "./words.js";

/** How long a Hub may take to answer before the page says that it does. */
const ANSWER_MS = 5_000;

/** What the list of models does. @typedef {{refresh: () => Promise<void>, show: () => void, use: (model: string) => void}} List */

/** @type {import("../darkroom.js").Darkroom} */
let darkroom;
/** @type {List} */
let list;
/** The model that is being downloaded, if any. @type {string | null} */
let downloading = null;

/**
 * @param {import("../darkroom.js").Darkroom} given
 * @param {List} of_models `refresh` looks again what there is, `show` shows what is known already, `use` has a model draw
 */
export function open_downloads(given, of_models) {
  darkroom = given;
  list = of_models;
}

/** The name of the model that is being downloaded, if any. */
export const in_download = () => downloading;

/** Whether a model is on its way, by the name that it is loaded under. @param {string | undefined} model */
export const is_downloading = (model) => downloading === model;

/** Says something in the list of models. @param {string} said */
export function say_of_models(said) {
  element("models-now").textContent = said;
}

/** Shows how a transfer goes, in the list and in the page's head. @param {string} said @param {string} [short] nothing where it is over */
export function tell(said, short = "") {
  say_of_models(said);
  element("transfer").textContent = short;
  element("transfer").hidden = short === "";
}

/** @param {string} model */
export async function download(model) {
  if (downloading) {
    notify("info", text.already_downloading(downloading));
    return;
  }
  await delete_now(model);
  downloading = model;
  // At once, however busy the worker is.
  list.show();
  const hub = element("endpoint").value.trim() || "huggingface.co";
  tell(text.asking(hub, model), `… ${model}`);
  const waiting = setTimeout(() => {
    tell(text.no_answer_yet(hub), `… ${model}`);
  }, ANSWER_MS);
  await list.refresh();
  let is_listed = false;
  /** @param {import("../protocol.js").Transfer} progress */
  const follow = ({ bytes: done, total, bytes_per_sec, secs_left }) => {
    clearTimeout(waiting);
    // A repository that was named has a row once it is known what there is.
    if (!is_listed) list.refresh();
    is_listed = true;
    const line = element("models-list").querySelector(`[data-model="${CSS.escape(model)}"]`);
    const said = text.transfer(bytes(done), bytes(total), bytes(bytes_per_sec), secs_left === undefined ? "" : duration(secs_left));
    tell(`${model}: ${said}`, `↓ ${Math.floor((100 * done) / total)} % · ${model}`);
    if (!line) return;
    part(line, ".state", HTMLElement).textContent = said;
    const bar = part(line, "progress", HTMLProgressElement);
    bar.hidden = false;
    bar.value = done / total;
  };
  try {
    await darkroom.download(model, follow);
    announce(text.downloaded(model));
    broadcast({ type: "models" });
    await network_came(model);
    tell(text.model_ready(model));
    if (!network_of(model)) notify("info", text.model_ready(model), { [text.use]: () => list.use(model) });
  } catch (error) {
    if (code_of(error) === "cancelled") tell(text.paused(model));
    else {
      tell(sentence(message_of(error)));
      notify("error", text.not_downloaded(model, message_of(error)), { [text.resume]: () => download(model) });
    }
  }
  clearTimeout(waiting);
  downloading = null;
  list.show();
  await list.refresh();
}

export function stop_download() {
  darkroom.stop_download().catch((error) => notify("error", message_of(error)));
}
