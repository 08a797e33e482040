// What the page knows of the models that have a short name, besides what the program says.

/** Offered on the first visit, the most useful first. */
export const OFFERS = /** @type {const} */ (["turbo", "v1-5", "xl"]);

/** The one that most people should begin with. */
export const RECOMMENDED = "turbo";

/** Their licences, by the name that people know. @type {Record<string, string>} */
export const LICENCES = {
  "v1-5": "CreativeML OpenRAIL-M",
  "v1-5-inpaint": "CreativeML OpenRAIL-M",
  "v2-1": "CreativeML OpenRAIL++-M",
  "v2-inpaint": "CreativeML OpenRAIL++-M",
  xl: "CreativeML OpenRAIL++-M",
  "xl-inpaint": "CreativeML OpenRAIL++-M",
  turbo: "Stability AI",
};

/** Those whose licence limits commercial use. */
export const COMMERCIALLY_LIMITED = ["turbo"];
