// All that the page says, in one place. English is the reference; another language is a file of the same shape (german.js) and is
// taken where the browser asks for it. What stands in index.html is translated by what it says: `markup` in those files.

import { german } from "./german.js";

/** One or many. @param {number} n @param {string} one @param {string} many */
const counted = (n, one, many) => `${n} ${n === 1 ? one : many}`;

export const english = {
  /** @type {Record<string, string>} */
  markup: {},

  // Buttons
  generate: "Generate",
  add_to_queue: "Add to queue",
  resume: "Resume",
  pause: "Pause",
  save: "Save",
  copy: "Copy",
  copy_seed: "Copy seed",
  use_settings: "Use settings",
  use_settings_title: "Put its settings into the form",
  edit: "Edit",
  edit_title: "Use as source image: vary it, or repaint a part",
  delete: "Delete",
  undo: "Undo",
  remove: "Remove",
  retry: "Retry",
  dismiss: "Dismiss",
  download: "Download",
  gallery: "Gallery",
  back: "Back",
  fit: "Fit",
  reload: "Reload the page",
  use_cpu: "Use the CPU",
  reload_model: "Reload the model",
  use_as_source: "Use as source image",
  move_up: "Move up",
  options: "Options",
  close_options: "Done",

  // Numbers
  steps: (/** @type {number} */ n) => counted(n, "step", "steps"),
  n_pictures: (/** @type {number} */ n) => (n === 0 ? "none yet" : counted(n, "image", "images")),
  shown_of: (/** @type {number} */ shown, /** @type {number} */ n) => `${shown} of ${n} images`,
  seed: (/** @type {unknown} */ seed) => `seed ${seed}`,
  tokens: (/** @type {number} */ n, /** @type {number} */ limit, /** @type {number} */ chunks) => `${n} of ${limit} tokens${chunks > 1 ? ` in ${chunks} chunks` : ""}`,
  too_many_tokens: (/** @type {number} */ n, /** @type {number} */ limit) => `${n} tokens; the model reads ${limit}`,
  time_left: (/** @type {string} */ time) => `${time} left`,
  percent: (/** @type {string} */ what, /** @type {number} */ percent) => `${what}, ${percent} percent`,

  // The first visit; the examples are in welcome.js, because prompts are English in every language
  demo_knows: "You are using a small demo model (20 MB). It knows 117 emoji on nine background colours at 128 × 128, and nothing else. For real images, download a model.",
  needs_gpu: "It needs a GPU with WebGPU: on the CPU, one image takes very long.",
  model_ready: (/** @type {string} */ name) => `${name} is ready.`,
  needs_memory: (/** @type {string} */ peak, /** @type {string} */ staged) => `${peak} of GPU memory, ${staged} in low-memory mode`,
  /** @type {Record<string, string>} */
  purposes: {
    "v1-5": "The classic. Small and fast, with the most LoRAs and fine-tunes.",
    "v1-5-inpaint": "Repaints parts of an image, for SD 1.5.",
    "v2-1": "768 × 768, photographic.",
    "v2-inpaint": "Repaints parts of an image, for SD 2.",
    xl: "Best quality and prompt following, 1024 × 1024.",
    "xl-inpaint": "Repaints parts of an image, for SDXL.",
    turbo: "SDXL in 1 to 4 steps: good images in seconds.",
  },

  // The stage and the queue
  no_prompt: "No prompt",
  generating: (/** @type {string} */ prompt) => `Generating: ${prompt}`,
  not_generated: (/** @type {string} */ prompt) => `Failed: ${prompt}`,
  stopped_picture: (/** @type {string} */ prompt) => `Stopped: ${prompt}`,
  failed: "Generation failed.",
  stopped: "Stopped.",
  stopped_at: (/** @type {number} */ step, /** @type {number} */ n) => `Stopped at step ${step} of ${n}.`,
  done_in: (/** @type {string} */ time) => `Done in ${time}.`,
  stopping: "Stopping …",
  ready: "Ready.",
  queue: (/** @type {number} */ n) => `Queue: ${n}`,
  queue_time: (/** @type {number} */ n, /** @type {string} */ time) => `${counted(n, "image", "images")}${time ? ` · about ${time}` : ""}`,
  queue_next: "Next",
  queue_ahead: (/** @type {number} */ n) => `${n} ahead`,
  stage: {
    which: (/** @type {number} */ picture, /** @type {number} */ count) => `Image ${picture} of ${count}: `,
    downloading: "Downloading the model …",
    loading: "Loading the model …",
    encoding: "Reading the prompt …",
    step: (/** @type {number} */ step, /** @type {number} */ n) => `Step ${step} of ${n}`,
    decoding: "Decoding …",
    paused_at: (/** @type {number} */ step, /** @type {number} */ n) => `Paused at step ${step} of ${n}`,
    paused: "Paused",
    recovering: "The GPU was lost; resuming from the last step …",
  },
  gpu_lost: "The GPU was lost while this image was generated; it resumed from the last step",
  repeated: "16-bit precision overflowed, so part of this image was computed again in 32 bits. Set Precision to 32-bit to avoid that",
  truncated: (/** @type {string} */ end) => `The model could not read the end of the prompt: ${end}`,
  not_shown: (/** @type {string} */ why) => `The image was generated but cannot be shown: ${why}`,
  done_title: (/** @type {string} */ title) => `✓ ${title}`,
  done_notice: "Your image is ready",

  // Finished pictures
  open_picture: (/** @type {string} */ prompt, /** @type {unknown} */ seed) => `Open: ${prompt}, seed ${seed}`,
  source_image: "Source image",
  compared: (/** @type {string} */ other) => `← this image · ${other} →`,
  copied: "Image copied",
  seed_copied: "Seed copied",
  not_copied: (/** @type {string} */ why) => `Copying failed: ${why}`,
  not_deleted: (/** @type {string} */ why) => `The image could not be deleted: ${why}`,
  not_kept: (/** @type {string} */ why) => `This image will be gone after a reload, because ${why}. Save it, or delete others first`,
  storage_full: "the storage of this page is full",
  album_unreadable: (/** @type {string} */ why) => `Your earlier images cannot be read (${why}). The browser may not let this page store data`,
  row: { negative: "Negative prompt", size: "Size", steps: "Steps", guidance: "CFG scale", sampler: "Sampler", seed: "Seed", variation: "Variation seed, strength", strength: "Denoising strength", model: "Model", took: "Time", made: "Created" },

  // The form
  field: { width: "Width", height: "Height", steps: "Steps", count: "Images", guidance: "CFG scale", variation_strength: "Variation strength", mask_padding: "Padding", mask_blur: "Mask blur" },
  default_choice: (/** @type {string} */ name) => `${name} (default)`,
  settings_of: (/** @type {string} */ title) => `${title} settings`,
  custom_timesteps: "Custom timesteps",
  custom_sigmas: "Custom sigmas",
  original_size: (/** @type {string} */ size) => `Original size ${size}`,
  crop_at: (/** @type {string} */ place) => `Crop at ${place}`,
  long_chunks: "Long prompts in chunks",
  long_cut: "Long prompts truncated",
  prompt_missing: "Enter a prompt",
  seed_range: (/** @type {string} */ most) => `Seed must be a whole number from 0 to ${most}`,
  not_whole: (/** @type {string} */ name) => `${name} must be a whole number`,
  not_negative: (/** @type {string} */ name) => `${name}: use 0 or more`,
  not_a_number: (/** @type {string} */ name) => `${name} must be a number`,
  choose_any_size: " (set Size steps, under Advanced)",
  syntax_a1111: "the AUTOMATIC1111 syntax",
  gpu_memory: (/** @type {string} */ size) => `${size} of GPU memory`,
  read_each_step: (/** @type {string} */ size) => `, ${size} of weights read again in each step`,
  over_budget: (/** @type {string} */ advice) => `, more than the limit: ${advice}`,
  starts_while_downloading: "Starts while the model downloads",
  about: (/** @type {string} */ time) => `about ${time}`,
  estimate_later: "time estimate after your first image",
  only_painted: "Only the painted area changes.",
  paint_first: "Paint the part to redraw: only that is generated, at full size, and put back.",
  only_masked: (/** @type {string} */ size, /** @type {number} */ padding) => `Only the painted area changes. It is generated at ${size} with ${padding} pixels around it, and put back.`,
  outpaint_what: "Choose at least one side and how many pixels to add",
  outpaint_too_large: (/** @type {string} */ size, /** @type {number} */ most) => `${size} is too large: at most ${most} pixels a side`,
  outpaint_failed: "The browser could not make the larger image",
  outpainted: (/** @type {string} */ size) => `Extended to ${size}. The new border is the mask.`,
  whole_image: "The whole image is regenerated. Paint over a part to change only that.",
  reading: (/** @type {string} */ name) => (name ? `Reading ${name} …` : "Reading the image …"),
  file_reason: (/** @type {string} */ name, /** @type {string} */ why) => `The file ${name}: ${why}`,
  made_with_vae: (/** @type {string} */ vae) => `it was made with the VAE ${vae}`,

  // Wildcards
  wildcards: "Wildcards",
  add_wildcards: "Add wildcards (.txt) …",
  list_options: (/** @type {number} */ n) => counted(n, "option", "options"),
  unnamed_list: (/** @type {string} */ name) => `the list ${name} was not added: prompts could not name it; use letters, digits and single underscores`,
  unread_list: (/** @type {string} */ name, /** @type {string} */ why) => `the list ${name} could not be read: ${why}`,
  lists_too_large: "the lists were not added: together they may take 1 MiB at most",
  lists_not_kept: "this browser has no room for the lists, so they are gone after a reload",
  prompts_may_use: (/** @type {string} */ names) => `Prompts can use ${names}`,
  list_deleted: (/** @type {string} */ name) => `List ${name} deleted`,

  // Settings of a picture
  made_with_prediction: (/** @type {string} */ prediction) => `its model was told to predict ${prediction === "v" ? "velocity (v)" : "noise (epsilon)"}, which its options under Models can do`,
  made_with_weights: (/** @type {string | undefined} */ weights) => (weights ? `it was made with weights held in ${weights}` : "it was made with 16-bit or 32-bit weights"),
  /** @type {Record<string, string>} */
  weights_of: { f32: "32-bit weights", f16: "16-bit weights", q8_0: "8-bit weights", q4_0: "4-bit weights" },
  smaller_weights: (/** @type {string} */ weights) => `${weights}, because 16-bit ones do not fit the memory`,
  made_with_loras: (/** @type {string[]} */ names) => `it was made with the ${names.length === 1 ? "LoRA" : "LoRAs"} ${names.join(", ")}, not installed for this model`,
  made_with_model: (/** @type {string} */ model) => `it was made with the model ${model}`,
  made_from_source: "it was made from a source image, which the file does not contain",
  does_not_say: (/** @type {string[]} */ names) => `it does not say: ${names.join(", ")}`,
  unknown_sampler: (/** @type {string} */ sampler) => `the sampler ${sampler} is not supported`,
  settings_taken: (/** @type {string} */ by) => `Settings loaded${by ? ` from ${by}` : ""}`,
  settings_differ: (/** @type {string} */ by, /** @type {string[]} */ why) => `Settings loaded${by ? ` from ${by}` : ""}, but the image will differ: ${why.join("; ")}`,

  // LoRAs and embeddings
  loras_unlisted: (/** @type {string} */ why) => `The installed LoRAs could not be listed: ${why}`,
  network_unfit: (/** @type {string} */ kind, /** @type {string} */ name, /** @type {string} */ why) => `The ${kind} ${name} is installed, but does not fit the loaded model: ${why}`,
  lora_added: (/** @type {string} */ name) => `${name} added and on`,
  embedding_added: (/** @type {string} */ name) => `${name} added: use it as a word in prompts`,
  other_networks: (/** @type {number} */ n) => `${n} more for other models.`,
  loras_on: (/** @type {number} */ n) => (n === 0 ? "none" : `${n} on`),
  use_lora: (/** @type {string} */ name) => `Use the LoRA ${name}`,
  lora_weight: (/** @type {string} */ name) => `Weight of ${name}`,
  text_weight: (/** @type {string} */ name) => `Text encoder weight of ${name}`,
  same_text_weight: (/** @type {string} */ name) => `Same weight in the text encoder for ${name}`,
  text_weight_same: "Text encoder: same weight",
  text_weight_own: "Text encoder: own weight",
  text_weight_link: "Same weight in the text encoder",
  trigger_words: (/** @type {string} */ name) => `Trigger words of ${name}`,
  delete_network: (/** @type {string} */ kind, /** @type {string} */ name) => `Delete the ${kind} ${name}`,
  to_prompt: "Prompt",
  to_negative: "Negative",
  already_there: (/** @type {string} */ word) => `${word} is already in the prompt`,
  added_to_prompt: (/** @type {string} */ word) => `${word} added to the prompt`,

  // The program
  no_model: "No model loaded",
  model_not_loaded: (/** @type {string} */ why) => `The model could not be loaded: ${why}`,
  models_unlisted: (/** @type {string} */ why) => `The installed models could not be listed: ${why}`,
  runs_on: (/** @type {string} */ by, /** @type {string} */ why) => `Running on the ${by}: ${why}.`,
  predicts_noise: "It predicts noise (epsilon)",
  predicts_velocity: "It predicts velocity (v)",
  not_drawn: (/** @type {string} */ why) => `The image could not be generated: ${why}`,
  settings_unreadable: (/** @type {string} */ why) => `The settings could not be read: ${why}`,
  settings_found: "Settings found in this image",
  no_settings: "This image contains no settings",
  no_usable_settings: (/** @type {string} */ program) => `This image was made by ${program} and contains no settings that can be used here`,
  did_not_start: "Darkroom did not start",
  yes: "yes",
  no: "no",
  machine: {
    automatic: "Automatic",
    kind: "Type",
    software: "software: correct, but very slow",
    hardware: "hardware",
    f16: "16-bit floats",
    buffer: "Largest buffer",
    binding: "Largest binding",
    workgroup: "Workgroup memory",
    no_gpu: (/** @type {string} */ why) => `none: ${why}`,
    storage: "Storage",
    used: (/** @type {string} */ used, /** @type {string} */ quota) => `${used} of ${quota} used`,
    cancel: "Cancelling",
    immediate: "immediate",
    between: "after the current step",
  },

  // Models
  demo_model: "Emoji demo",
  use: "Use",
  verify: "Verify",
  inspect: "Inspect",
  hide: "Hide",
  keeps_no_settings: "This browser stores no settings, so nothing can be set for a model",
  fits: (/** @type {string} */ peak, /** @type {string} */ staged, /** @type {string} */ of_8_bits, /** @type {string} */ of_4_bits) =>
    ` · ${peak} of GPU memory; in low-memory mode ${staged}, or ${of_8_bits} with 8-bit and ${of_4_bits} with 4-bit weights`,
  does_not_fit: (/** @type {string} */ why) => ` · does not fit this GPU: ${why}`,
  models_space: (/** @type {string} */ used, /** @type {string} */ quota) => (used ? `${used} installed${quota ? ` of ${quota}` : ""}` : "No models downloaded yet"),
  download_of: (/** @type {string} */ name) => `Download of ${name}`,
  part_of: (/** @type {string} */ done, /** @type {string} */ total) => `${done} of ${total}`,
  to_download: (/** @type {string} */ size) => `${size} download`,
  licence: (/** @type {string} */ name) => `Licence: ${name}.`,
  network_for: (/** @type {string} */ kind, /** @type {string | undefined} */ family) => `, ${kind === "lora" ? "LoRA" : "embedding"}${family ? ` for ${family}` : ""}`,
  not_inspected: (/** @type {string} */ name, /** @type {string} */ why) => `The model ${name} could not be inspected: ${why}`,
  prediction: "Prediction type",
  prediction_of_file: "Prediction type: as in the file",
  epsilon: "Prediction type: noise (epsilon)",
  velocity: "Prediction type: velocity (v)",
  missing_components: "Missing components",
  no_components: "Missing components: none",
  components_from: "Missing components from ",
  own_vae: "VAE: built in",
  vae_of: "VAE: ",
  decoder: "Decoder",
  no_decoder: "Decoder: the VAE",
  decoded_by: "Decoder: ",
  already_downloading: (/** @type {string} */ name) => `${name} is downloading. Pause it first`,
  transfer: (/** @type {string} */ done, /** @type {string} */ total, /** @type {string} */ rate, /** @type {string} */ left) => `${done} of ${total}, ${rate}/s${left ? `, ${left} left` : ""}`,
  downloaded: (/** @type {string} */ name) => `${name} is downloaded`,
  paused: (/** @type {string} */ name) => `${name} is paused.`,
  not_downloaded: (/** @type {string} */ name, /** @type {string} */ why) => `The model ${name} could not be downloaded: ${why}`,
  is_pickle: "it is a Python pickle, which can run code when it is read; use a .safetensors file",
  not_imported: (/** @type {string} */ name, /** @type {string} */ why) => `The file ${name} was not imported: ${why}`,
  importing: (/** @type {string} */ name, /** @type {number} */ percent) => `Importing ${name}: ${percent} %`,
  import_failed: (/** @type {string} */ name, /** @type {string} */ why) => `The import of ${name} failed: ${why}`,
  folder_unreadable: (/** @type {string} */ name, /** @type {string} */ why) => `The folder ${name} could not be read: ${why}`,
  verifying: (/** @type {string} */ name, /** @type {number} */ percent) => `Verifying ${name}: ${percent} %`,
  verified: (/** @type {string} */ name) => `${name} is intact.`,
  damaged: (/** @type {string} */ name, /** @type {number} */ n) => `${name} is damaged in ${counted(n, "place", "places")}. Press Resume to repair it.`,
  not_verified: (/** @type {string} */ name, /** @type {string} */ why) => `The model ${name} could not be verified: ${why}`,
  model_deleted: (/** @type {string} */ name) => `${name} deleted.`,
  model_not_deleted: (/** @type {string} */ name, /** @type {string} */ why) => `The model ${name} could not be deleted: ${why}`,
  recommended: "Recommended",
  installed: "Installed",
  in_use: "In use",

  discard: "Discard",
  unfinished: (/** @type {number} */ n) => `${counted(n, "image was", "images were")} not finished when you left`,
  added_when_loaded: "Added to the queue once the model is loaded",
  pictures_added: (/** @type {number} */ n) => `${counted(n, "image", "images")} added`,
  files_without_settings: (/** @type {number} */ n, /** @type {string} */ names) => `${counted(n, "file is not a PNG", "files are not PNGs")} with settings: ${names}${n > 5 ? " …" : ""}`,
  source_removed: "Source image removed: this image was made without one",
  asking_hub: "Asking the hub …",
  asking: (/** @type {string} */ hub, /** @type {string} */ model) => `Asking ${hub} for ${model} …`,
  no_answer_yet: (/** @type {string} */ hub) => `${hub} has not answered yet. Pause to give up; finished parts are kept.`,
  model_back: (/** @type {string} */ name) => `${name} restored.`,
  fitted: { stretch: "stretched", crop: "cropped", pad: "padded" },
  other_shape: (/** @type {string} */ own, /** @type {string} */ fit, /** @type {string} */ size) => `The source is ${own}: it is ${fit} to ${size}.`,
  new_version: "A new version of Darkroom is ready",
  close_other_tabs: "Close the other tabs of Darkroom first. The new version starts the next time you open it",
  select: "Select",
  favourite: "Favourite",
  n_selected: (/** @type {number} */ n) => `${n} selected`,
  n_deleted: (/** @type {number} */ n) => (n === 1 ? "Image deleted" : `${n} images deleted`),
  not_zipped: (/** @type {string} */ why) => `The archive could not be made: ${why}`,
  n_saved: (/** @type {number} */ n) => `${counted(n, "image", "images")} saved`,
  favourite_lost: (/** @type {string} */ why) => `The favourite could not be saved: ${why}`,
  other_tab_unreadable: (/** @type {string} */ why) => `The images of another tab could not be read: ${why}`,

  /** Keys and what they do. @type {[string, string][]} */
  shortcuts: [
    ["Ctrl Enter", "Generate, or add to the queue"],
    ["Esc", "Stop the current image"],
    ["Ctrl V", "Paste an image as source"],
    ["G", "Gallery"],
    ["Enter", "Open the focused image"],
    ["← →", "Viewer: newer, older"],
    ["+ − 0", "Viewer: zoom in, out, fit"],
    ["C", "Viewer: compare"],
    ["Delete", "Viewer: delete"],
    ["?", "This help"],
    ["Arrows, Space", "Mask: move the brush, paint; Shift with arrows draws"],
    ["Ctrl Z", "Mask: undo"],
  ],
};

/** @typedef {typeof english} Texts */

/** The languages that there are, by the beginning of the browser's. @type {Record<string, Texts>} */
const LANGUAGES = { de: german };

const language = navigator.language.slice(0, 2);

/** What the page says. @type {Texts} */
export const text = LANGUAGES[language] ?? english;

/** Translates what stands in the page itself. */
export function translate_page() {
  const { markup } = text;
  if (Object.keys(markup).length === 0) return;
  document.documentElement.lang = language;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node instanceof Element) {
      for (const name of ["aria-label", "placeholder", "title"]) {
        const said = markup[node.getAttribute(name) ?? ""];
        if (said !== undefined) node.setAttribute(name, said);
      }
      continue;
    }
    const said = node.nodeValue ?? "";
    const found = markup[said.trim().replace(/\s+/g, " ")];
    if (found !== undefined) node.nodeValue = said.replace(/\S[^]*\S|\S/, () => found);
  }
}
