// The inpaint area: the whole picture, or only the masked part, which is generated at the request's size and pasted back; and the blur of
// the mask.

import { element } from "./elements.js";

/** @typedef {import("../protocol.js").DrawRequest} DrawRequest */

/** Whether only what is masked is drawn. */
export const is_only_masked = () => element("inpaint-area").value === "masked";

/** How many pixels of the picture are drawn around it. */
export const padding = () => element("mask-padding").valueAsNumber;

/** Shows the fields that mean something for the choice. */
export function show_inpaint_area() {
  element("mask-padding-field").hidden = !is_only_masked();
}

/** What it adds to a request with a mask. @returns {Partial<DrawRequest>} */
export function of_inpaint_area() {
  const mask_blur = element("mask-blur").valueAsNumber;
  return { ...(is_only_masked() ? { padding_mask_crop: padding() } : {}), ...(mask_blur === 0 ? {} : { mask_blur }) };
}
