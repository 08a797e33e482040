// Numbers and stages in words.

import { text } from "./texts.js";

/**
 * A number of bytes in decimal units, as shops and hubs give them.
 * @param {number} n_bytes
 */
export function bytes(n_bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (n_bytes >= 1000 && unit < units.length - 1) {
    n_bytes /= 1000;
    unit += 1;
  }
  return `${Number(n_bytes.toFixed(n_bytes < 10 ? 1 : 0))} ${units[unit]}`;
}

/**
 * A span of time as a person says it.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/**
 * @param {import("../protocol.js").Progress} progress
 */
export function stage({ stage, picture = 0, count = 1, step = 0, n_steps = 0, position = 0 }) {
  const which = count > 1 ? text.stage.which(picture + 1, count) : "";
  switch (stage) {
    case "queued":
      return position === 1 ? text.queue_next : text.queue_ahead(position);
    case "downloading":
      return text.stage.downloading;
    case "loading":
      return text.stage.loading;
    case "encoding":
      return text.stage.encoding;
    case "denoising":
      return which + text.stage.step(step, n_steps);
    case "decoding":
      return which + text.stage.decoding;
    case "paused":
      return n_steps > 0 ? which + text.stage.paused_at(step, n_steps) : text.stage.paused;
    case "recovering":
      return text.stage.recovering;
    default:
      return "";
  }
}

/**
 * A message as a sentence: it begins with a capital, unless with the name of a file, and ends with a full stop.
 * @param {string} message
 */
export function sentence(message) {
  const text = message.trim();
  const begin = /^\p{Ll}+['’]?\p{Ll}*[,:;]?(\s|$)/u.test(text) ? text.charAt(0).toUpperCase() : text.charAt(0);
  return begin + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
