// The pictures on the page, and the dialog that shows one large.

import { message_of } from "../errors.js";
import { forget, keep, all } from "./album.js";
import { closest, element, fill_list, make, part } from "./elements.js";
import { notify } from "./notices.js";
import { duration } from "./words.js";

/** @typedef {import("./album.js").Kept} Kept */

/** What the buttons below a picture do. @typedef {{reuse: (parameters: Kept["parameters"]) => void, start_from: (png: Blob) => void}} Actions */

/** @type {Actions} */
let actions;
const viewer = element("viewer");

/**
 * Shows the pictures of earlier visits.
 * @param {Actions} given
 */
export async function open_gallery(given) {
  actions = given;
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer || closest(event, "[data-close]")) viewer.close();
  });
  try {
    for (const picture of await all()) show(picture);
  } catch (error) {
    notify("error", `the pictures of earlier visits cannot be read (${message_of(error)}): the browser may forbid this page to keep data`);
  }
  count();
}

/**
 * Keeps a new picture and shows it. A picture that cannot be kept is shown all the same.
 * @param {Omit<Kept, "id">} picture
 */
export async function add_picture(picture) {
  let id = 0;
  try {
    id = await keep(picture);
  } catch (error) {
    const is_full = error instanceof DOMException && error.name === "QuotaExceededError";
    const reason = is_full ? "this browser's space for the page is used up" : message_of(error);
    notify("error", `the picture is here, but it will be gone after a reload, because ${reason}: save it, or delete others first`);
  }
  show({ ...picture, id });
  count();
}

function count() {
  const n = element("gallery").childElementCount;
  element("pictures-count").textContent = n === 0 ? "none yet" : n === 1 ? "1 picture" : `${n} pictures`;
}

/**
 * @param {Kept} picture
 * @param {string} url of its file
 * @param {() => void} remove
 */
function buttons(picture, url, remove) {
  const { prompt, seed } = picture.parameters;
  const named = (/** @type {string} */ label) => `${label}: ${prompt}, seed ${seed}`;
  return [
    make("a", { href: url, download: `darkroom-${seed}.png`, "aria-label": named("Save") }, "Save"),
    make("button", { type: "button", "aria-label": named("Use the settings of"), title: "Put its settings into the form", onclick: () => actions.reuse(picture.parameters) }, "Reuse"),
    make("button", { type: "button", "aria-label": named("Start from"), title: "Start from this picture: change it, or repaint a part", onclick: () => actions.start_from(picture.png) }, "Edit"),
    make("button", { type: "button", "aria-label": named("Delete"), onclick: remove }, "Delete"),
  ];
}

/** @param {Kept} picture */
function show(picture) {
  const url = URL.createObjectURL(picture.png);
  const { prompt = "", seed } = picture.parameters;
  const card = make("li", { class: "card" });
  const remove = async () => {
    try {
      if (picture.id) await forget(picture.id);
    } catch (error) {
      notify("error", `the picture could not be deleted: ${message_of(error)}`);
      return;
    }
    const next = card.nextElementSibling ?? card.previousElementSibling;
    card.remove();
    if (viewer.open) viewer.close();
    URL.revokeObjectURL(url);
    count();
    // Whoever uses a keyboard goes on from the neighbour.
    if (next) part(next, ".open", HTMLElement).focus();
  };
  const look = () => {
    element("viewer-image").src = url;
    element("viewer-image").alt = prompt;
    element("viewer-prompt").textContent = prompt;
    fill_list(element("viewer-parameters"), rows(picture));
    const acts = buttons(picture, url, remove);
    for (const act of acts) {
      act.className = "plain";
      if (act.tagName === "BUTTON") act.addEventListener("click", () => viewer.close());
    }
    element("viewer-actions").replaceChildren(...acts);
    viewer.showModal();
  };
  const image = make("img", { src: url, alt: prompt, loading: "lazy" });
  card.append(
    make("button", { type: "button", class: "open", "aria-label": `Look at: ${prompt}, seed ${seed}`, onclick: look }, image),
    make("p", {}, prompt),
    make("small", {}, `seed ${seed} · ${picture.parameters.steps} steps`),
    make("div", { class: "row" }, ...buttons(picture, url, remove)),
  );
  element("gallery").prepend(card);
}

/** @param {Kept} picture @returns {[string, string][]} */
function rows({ parameters, seconds, made_at }) {
  /** @type {[string, string | undefined][]} */
  const rows = [
    ["Left out", parameters.negative_prompt],
    ["Size", `${parameters.width} × ${parameters.height}`],
    ["Steps", String(parameters.steps)],
    ["Guidance", String(parameters.guidance_scale)],
    ["Sampler", parameters.sampler],
    ["Seed", String(parameters.seed)],
    ["LoRAs", parameters.loras?.map(({ name, strength }) => `${name} ${strength}`).join(", ")],
    ["Strength", parameters.strength?.toFixed(2)],
    ["Model", parameters.model],
    ["Took", duration(seconds)],
    ["Made", new Date(made_at).toLocaleString()],
  ];
  // Pictures of earlier versions have null where there is nothing.
  return rows.flatMap(([name, value]) => (value === undefined || value === null ? [] : [[name, value]]));
}
