// What the engine says, in the words and the language of the page.

import { message_of as own_message_of } from "../errors.js";
import { text } from "./texts.js";

/** A message of the engine as the page says it: what has no other words here stays as it is. @param {string} message */
export const told = (message) => text.engine.reduce((said, [pattern, words]) => said.replace(pattern, words), message);

/** The message of whatever was thrown. @param {unknown} error */
export const message_of = (error) => told(own_message_of(error));
