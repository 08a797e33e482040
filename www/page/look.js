// What shows outside of the page and around it: the theme, progress in the title and the icon, the screen that stays on, a
// notification when a picture is done.

import { element } from "./elements.js";
import { read, write } from "./memory.js";
import { text } from "./texts.js";

/** Where it is kept between visits. */
const LOOK_KEY = "darkroom.look";
const TITLE = "Darkroom";

const icon = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));
const own_icon = icon.href;
/** The progress that the icon shows, in tenths, so that it is drawn seldom. */
let tenths = -1;
/** @type {WakeLockSentinel | null} */
let lock = null;
/** Whether a picture is being made, for which the screen stays on. */
let is_busy = false;

/** Shows the kept theme, and follows what is chosen. */
export function open_look() {
  const { theme = "dark", tell = false } = read(LOOK_KEY);
  element("theme").value = String(theme);
  if (element("theme").value === "") element("theme").value = "dark";
  element("tell-when-done").checked = tell === true;
  show_theme();
  element("theme").addEventListener("change", () => {
    show_theme();
    keep();
  });
  element("tell-when-done").addEventListener("change", async () => {
    const box = element("tell-when-done");
    if (box.checked && (!("Notification" in window) || (await Notification.requestPermission()) !== "granted")) box.checked = false;
    keep();
  });
  document.addEventListener("visibilitychange", () => {
    // Browsers let the screen sleep again once the page was hidden.
    if (!document.hidden) {
      if (is_busy) stay_awake();
      else document.title = TITLE;
    }
  });
}

function keep() {
  write(LOOK_KEY, { theme: element("theme").value, tell: element("tell-when-done").checked });
}

function show_theme() {
  document.documentElement.dataset.theme = element("theme").value;
}

async function stay_awake() {
  try {
    lock ??= await navigator.wakeLock.request("screen");
    lock.addEventListener("release", () => (lock = null), { once: true });
    if (!is_busy) await lock?.release();
  } catch {
    // On battery, or a browser without it: the screen goes off as ever.
  }
}

/** Shows how far the whole work is. @param {number} fraction 0 to 1 */
export function progress_is(fraction) {
  if (!is_busy) {
    is_busy = true;
    stay_awake();
  }
  const percent = `${Math.floor(fraction * 100)} % · ${TITLE}`;
  if (document.title !== percent) document.title = percent;
  const now = Math.floor(fraction * 10);
  if (now === tenths) return;
  tenths = now;
  const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 });
  const pen = canvas.getContext("2d");
  if (!pen) return;
  pen.lineWidth = 6;
  pen.strokeStyle = "#5a4a44";
  pen.beginPath();
  pen.arc(16, 16, 12, 0, 2 * Math.PI);
  pen.stroke();
  pen.strokeStyle = "#ff6a42";
  pen.beginPath();
  pen.arc(16, 16, 12, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * Math.max(0.02, fraction));
  pen.stroke();
  icon.href = canvas.toDataURL();
}

/** Nothing is being made any more. @param {string | null} prompt of what is done, or null */
export function progress_ended(prompt) {
  is_busy = false;
  tenths = -1;
  lock?.release();
  icon.href = own_icon;
  document.title = prompt !== null && document.hidden ? text.done_title(TITLE) : TITLE;
  if (prompt === null || !document.hidden || !element("tell-when-done").checked || !("Notification" in window) || Notification.permission !== "granted") return;
  const notice = new Notification(text.done_notice, { body: prompt, icon: own_icon, tag: "darkroom" });
  notice.addEventListener("click", () => {
    window.focus();
    notice.close();
  });
}
