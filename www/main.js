// Owns the page: asks the worker and shows what it says.

import { Client } from "./protocol.js";

const status = document.querySelector("#status");
const list = document.querySelector("#caps");

/** @param {number} n */
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${Number(n.toFixed(1))} ${units[unit]}`;
}

/** @param {import("./protocol.js").Caps} caps */
function show_caps(caps) {
  const rows = [
    ["adapter", "Adapter", caps.name],
    ["kind", "Kind", caps.software ? "software (right, but very slow)" : "hardware"],
    ["f16", "16-bit floats", caps.shader_f16 ? "yes" : "no"],
    ["max-buffer", "Largest buffer", bytes(caps.max_buffer_bytes)],
    ["max-binding", "Largest binding", bytes(caps.max_binding_bytes)],
    ["max-storage-buffers", "Storage buffers per kernel", String(caps.max_storage_buffers)],
    ["workgroup-memory", "Workgroup memory", bytes(caps.max_workgroup_bytes)],
    ["workgroup-invocations", "Invocations per workgroup", String(caps.max_workgroup_invocations)],
  ];
  for (const [id, term, value] of rows) {
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = term;
    dd.textContent = value;
    dd.id = id;
    list.append(dt, dd);
  }
  list.hidden = false;
}

try {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  show_caps(await new Client(worker).check());
  status.textContent = "Ready: this browser can use the GPU.";
  status.dataset.state = "ready";
} catch (error) {
  let hint = "";
  if (!("gpu" in navigator)) {
    hint = " This browser has no WebGPU; a current Chrome, Edge, Firefox or Safari has.";
  } else if (error.message.startsWith("device ")) {
    hint = " It knows WebGPU but gives no GPU: its settings or the graphics driver may keep it off.";
  }
  status.textContent = `Darkroom cannot draw in this browser: ${error.message}.${hint}`;
  status.dataset.state = "error";
}
