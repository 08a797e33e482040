// What kept models and files are: told by their names and lists of files, or by looking into them, which is done once. Nothing here
// downloads, imports or deletes.

/** @typedef {import("../protocol.js").Inspection} Inspection */
/** @typedef {import("../protocol.js").ModelReport} ModelReport */

/** What kept files are, as far as it is known; null while it is found out. @type {Map<string, Inspection | null>} */
const inspected = new Map();
/** Reports that are shown, by the names of their models. @type {Map<string, Inspection>} */
const shown = new Map();

/** Whether a file's name is that of weights. @param {string} name */
export const is_weights = (name) => /\.(safetensors|gguf)$/i.test(name);

/** Whether a model is a checkpoint in one file. @param {ModelReport} report */
export const is_single = ({ files }) => !files.some(({ path }) => path === "model_index.json") && files.filter(({ path }) => is_weights(path)).length === 1;

/** Whether a kept model has a VAE. @param {ModelReport} report */
export function has_vae(report) {
  if (!report.complete) return false;
  return !is_single(report) || inspected.get(report.model)?.components.present.vae !== undefined;
}

/** Whether a kept file is a tiny VAE that decodes. @param {ModelReport} report */
export function is_decoder({ model }) {
  const found = inspected.get(model);
  return found?.kind === "taesd" && !found.refused && found.components.present.decoder !== undefined;
}

/** Whether a kept file is no model but a part of one. @param {ModelReport} report */
export const is_part = ({ model }) => !["checkpoint", "unet", undefined].includes(inspected.get(model)?.kind);

/** A file of that name is another one now, or gone. @param {string} model */
export function forget_file(model) {
  inspected.delete(model);
  shown.delete(model);
}

/** The report of a model that is shown, if one is. @param {string} model */
export const shown_report = (model) => shown.get(model);

/**
 * Shows what a kept model is, or hides it.
 * @param {import("../darkroom.js").Darkroom} darkroom
 * @param {string} model
 */
export async function toggle_report(darkroom, model) {
  if (!shown.delete(model)) shown.set(model, await darkroom.inspect(model));
}

/**
 * Finds out what kept files are, so that those with a VAE can be chosen for others.
 * @param {import("../darkroom.js").Darkroom} darkroom
 * @param {ModelReport[]} reports
 * @returns {Promise<boolean>} whether any was new
 */
export async function inspect_kept(darkroom, reports) {
  const unknown = reports.filter((report) => report.complete && is_single(report) && !inspected.has(report.model));
  for (const { model } of unknown) inspected.set(model, null);
  for (const { model } of unknown) {
    // What cannot be read says so where it is used.
    const found = await darkroom.inspect(model, { plan: false }).catch(() => null);
    if (found) inspected.set(model, found);
  }
  return unknown.length > 0;
}
