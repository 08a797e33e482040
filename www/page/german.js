// German: the texts of texts.js that are translated; the rest stays English.

/** @type {Partial<import("./texts.js").Texts>} */
export const german = {};
