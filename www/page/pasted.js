// Texts that are pasted: settings as other programs show them, and addresses of the Hub.

import { make, png_of } from "./elements.js";
import { with_texts } from "./png_text.js";
import { text as words } from "./texts.js";

/** Whether a text is settings as AUTOMATIC1111 writes them below a picture. @param {string} text */
export const is_settings = (text) => /(^|\n)\s*Steps: \d+, (.*, )?(Sampler|Seed|CFG scale|Size): /.test(text);

/**
 * A picture of one pixel that carries a text as AUTOMATIC1111's pictures do: what reads pictures' settings reads it.
 * @param {string} text
 */
export async function picture_with(text) {
  const png = await png_of(make("canvas", { width: 1, height: 1 }));
  if (!png) throw new Error(words.no_png);
  return with_texts(png, { parameters: text });
}

/**
 * What a Hub calls a model, from the address of its page, of a folder or of a file there; anything else stays as it is.
 * @param {string} text
 * @param {string} [endpoint] a Hub of its own
 */
export function repository_of(text, endpoint) {
  const hubs = ["https://huggingface.co", "https://www.huggingface.co", "https://hf.co", ...(endpoint ? [endpoint] : [])];
  const given = text.trim().replace(/^(www\.)?(huggingface\.co|hf\.co)\//i, "https://huggingface.co/");
  const hub = hubs.find((each) => given.toLowerCase().startsWith(`${each.toLowerCase().replace(/\/+$/, "")}/`));
  if (!hub) return given;
  const path = given.slice(hub.replace(/\/+$/, "").length + 1).split(/[?#]/)[0] ?? "";
  const [owner, name, kind, revision, ...file] = path.split("/").filter((part) => part !== "");
  if (!owner || !name || ["api", "datasets", "spaces"].includes(owner)) return given;
  const at = revision === undefined || revision === "main" ? "" : `@${decodeURIComponent(revision)}`;
  const below = ["blob", "resolve", "raw"].includes(kind ?? "") && file.length > 0 ? `/${file.map(decodeURIComponent).join("/")}` : "";
  return `${owner}/${name}${at}${below}`;
}
