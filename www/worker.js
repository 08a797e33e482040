// Owns the wasm and the GPU, off the page's thread, so that the page stays alive while a picture is drawn.
//
// Here each request is answered by whom it concerns: the queue, the loaded model, the models that are kept, or the wasm.

import { Failure, code_of, field_of, message_of, needs_of } from "./errors.js";
import { nothing_drawn } from "./protocol.js";
import { check_browser } from "./worker/browser.js";
import { clip_merges, merges_are_in } from "./worker/clip_merges.js";
import { draw } from "./worker/draw.js";
import { KeptModels } from "./worker/kept_models.js";
import { LoadedModel } from "./worker/loaded_model.js";
import { throttled } from "./worker/pace.js";
import { open_program, program, threads } from "./worker/program.js";
import { reason_of } from "./worker/policy.js";
import { Queue } from "./worker/queue.js";
import { shown } from "./worker/shown.js";

/** @typedef {import("./protocol.js").Answers} Answers */
/** @typedef {import("./worker/queue.js").Post} Post */

/** Called by the first request, which says where the wasm is. @type {(where: {address: string | undefined, failures: string | undefined}) => void} */
let begin = () => {};
// The wasm loads once; requests that come before it is there wait for it.
const wasm = new Promise((/** @type {(where: {address: string | undefined, failures: string | undefined}) => void} */ resolve) => {
  begin = resolve;
}).then(open_program);
// Each request reports a failure to load. Without this line a failure before the first request would also be reported
// by the browser as one that nobody handled.
wasm.catch(() => {});

const queue = new Queue();
const kept_models = new KeptModels();
/** Tells what another worker would have to know. @param {import("./protocol.js").StateReply} reply */
const tell_state = (reply) => postMessage({ id: 0, ...reply });
const tell_held = () => tell_state({ type: "held", is_held: queue.is_held });
const model = new LoadedModel(kept_models, (state) => tell_state({ type: "model", model: state }));

/**
 * @param {Post} post
 * @param {import("./protocol.js").Transfer["stage"]} stage
 */
const transfer_of = (post, stage) =>
  throttled((/** @type {import("./protocol.js").TransferProgress} */ report) =>
    post({ type: "transfer", stage, fraction: report.bytes / report.total, ...report }),
  );

/**
 * @template {keyof Answers} Type
 * @typedef {(request: import("./protocol.js").RequestOf<Type>, post: Post, id: number) => Answers[Type] | Promise<Answers[Type]>} Answer
 */

/** How each type of request is answered. @type {{[Type in keyof Answers]: Answer<Type>}} */
const answers = {
  async open({ cancelled, base_url, earlier: { hub, is_held, model: before } }, post) {
    if (base_url !== undefined) merges_are_in(base_url);
    if (cancelled) queue.share_cancels(cancelled);
    if (is_held) queue.hold();
    if (hub) kept_models.hub_is(hub);
    if (!before) return { model_failure: null };
    try {
      await model.restore(before, throttled((fraction) => post({ type: "progress", stage: "loading", fraction })));
      return { model_failure: null };
    } catch (error) {
      return { model_failure: { message: message_of(error), code: code_of(error) ?? "worker" } };
    }
  },
  check: async () => ({ ...(await check_browser()), cancels_within_a_step: queue.cancels_within_a_step, ...threads() }),
  versions: () => program().versions(),
  async plan({ request }) {
    const { caps } = await check_browser();
    if (!caps) throw new Failure("there is no GPU to plan for: the processor's memory is not planned", "device");
    return request.version === undefined ? model.studio.plan(request, caps) : program().plan(request, caps);
  },

  hub: ({ endpoint, token }) => kept_models.use_hub({ endpoint, token }),
  models: async () => (await kept_models.opened()).list(),
  async extra_networks() {
    const models = await kept_models.opened();
    return model.loaded ? model.loaded.extra_networks(models) : models.extra_networks();
  },
  needed: async (request) => (await kept_models.opened()).needed(request.model),
  async download(request, post) {
    try {
      return await kept_models.download(request.model, transfer_of(post, "downloading"));
    } catch (error) {
      model.drop_kept(request.model);
      throw error;
    }
  },
  stop_download: async () => (await kept_models.opened()).pause(),
  remove: async (request) => (await kept_models.opened()).remove(request.model),
  import: async ({ name, files }, post) => (await kept_models.opened()).import(name, files, transfer_of(post, "importing")),
  // Without the vocabulary nothing is planned.
  inspect: async (request) => (await kept_models.opened()).inspect(request.model, request.plan ? await clip_merges() : undefined),
  inspect_file: async ({ file, name, yaml, plan }) => program().inspect_file(file, name, yaml, plan ? await clip_merges() : undefined),
  verify: async (request, post) => (await kept_models.opened()).verify(request.model, transfer_of(post, "verifying")),

  load: (request, post, id) => queue.in_turn(id, post, (job) => model.load(request, job)),
  tokens: ({ prompt, syntax }) => model.studio.count_tokens(prompt, syntax),
  size_of_picture: ({ width, height, any_size }) => model.studio.size_of_picture(width, height, any_size),
  async work({ request, has_picture, has_mask, wildcards = {} }) {
    const { studio } = model;
    const chosen = program().choose_prompts(request, wildcards);
    const all = { n_steps: 0, flops: 0, notes: [...chosen.notes] };
    for (const picture of chosen.pictures) {
      const own = { ...request, ...picture };
      const of_loras = await model.open_loras(studio, own);
      const { n_steps, flops, notes } = studio.work(own, has_picture, has_mask);
      all.n_steps = Math.max(all.n_steps, n_steps);
      all.flops += flops;
      all.notes.push(...of_loras, ...notes);
    }
    return { ...all, notes: [...new Set(all.notes)] };
  },
  generate: (request, post, id) =>
    queue.in_turn(id, post, (job) => draw(job, request, model, queue), { answer: nothing_drawn() }),
  cancel({ job }) {
    queue.cancel(job);
    // A queue without jobs is held no longer.
    tell_held();
    kept_models.nudge();
  },
  pause() {
    queue.hold();
    tell_held();
  },
  resume() {
    queue.release();
    tell_held();
  },

  parameters: ({ file }) => program().picture_parameters(file),
  pixels: ({ file }) => program().picture_pixels(file),
  shown: ({ file, max_side }) => shown(program().picture_pixels(file), max_side),
};

/**
 * @template {keyof Answers} Type
 * @param {import("./protocol.js").RequestOf<Type> & {type: Type, id: number}} request
 * @param {Post} post
 */
async function answer(request, post) {
  if (request.type === "open") {
    const { base_url, wasm_url, failures } = /** @type {import("./protocol.js").RequestOf<"open">} */ (request);
    const address = wasm_url ?? (base_url === undefined ? undefined : new URL("pkg/darkroom_bg.wasm", base_url).href);
    begin({ address, failures });
  }
  try {
    await wasm;
  } catch (error) {
    throw new Failure(`the program could not be loaded (${await reason_of(error)}): reload the page`, "worker");
  }
  const answered = answers[request.type];
  if (!answered) throw new Failure(`the worker does not know the request "${request.type}"`, "request");
  return answered(request, post, request.id);
}

addEventListener("message", async ({ data: request }) => {
  const { id } = request;
  /** @type {Post} */
  const post = (reply, transfer = []) => postMessage({ id, ...reply }, { transfer });
  try {
    post({ type: "done", value: await answer(request, post) });
  } catch (error) {
    const code = code_of(error) ?? "worker";
    const message = code === "network" ? await reason_of(error) : message_of(error);
    post({ type: "error", message, code, needs: needs_of(error), field: field_of(error) });
  }
});
