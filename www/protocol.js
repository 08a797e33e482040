// What darkroom.js and its worker say to each other: types, and the little that both need.
//
// Requests carry an `id` and a `type`; every reply carries the request's id and one `type`. `done` or `error` is the last
// one. Types of the wasm package are in pkg/darkroom.d.ts, which wasm-bindgen writes.

/**
 * @typedef {import("./pkg/darkroom.js").Caps} Caps
 * @typedef {import("./pkg/darkroom.js").DrawRequest} DrawRequest
 * @typedef {import("./pkg/darkroom.js").GivenPicture} GivenPicture
 * @typedef {import("./pkg/darkroom.js").ModelInfo} ModelInfo
 * @typedef {import("./pkg/darkroom.js").VersionInfo} VersionInfo
 * @typedef {import("./pkg/darkroom.js").PictureParameters} PictureParameters
 * @typedef {import("./pkg/darkroom.js").Work} Work
 * @typedef {import("./pkg/darkroom.js").Plan} Plan
 * @typedef {import("./pkg/darkroom.js").PlanRequest} PlanRequest
 */

/**
 * Which runner computes. `auto` takes the GPU where there is a real one, else the processor, and says why.
 * @typedef {"auto" | "cpu" | "gpu"} Runner
 */

/**
 * What this browser gives, found before anything is loaded.
 * @typedef {object} Check
 * @property {Caps | null} caps the GPU, or null where there is none
 * @property {string | null} gpu_error why there is no GPU
 * @property {"cpu" | "gpu"} runner what `auto` takes
 * @property {string} reason why it does, in a sentence
 * @property {{quota_bytes: number, used_bytes: number, persisted: boolean} | null} storage what this origin may keep, where
 *   the browser tells
 * @property {boolean} cancels_within_a_step false where a processor's step is over before a cancel is heard, because the
 *   page is not cross-origin isolated
 */

/**
 * A model that is loaded.
 * @typedef {ModelInfo & {repository: string, why: string}} LoadedModel `why` is the sentence why that runner computes
 */

/**
 * What a job is doing. `fraction` is the part of the whole job that is done, 0 to 1; `position` counts the jobs before
 * this one.
 * @typedef {object} Progress
 * @property {"queued" | "downloading" | "loading" | "encoding" | "denoising" | "decoding" | "paused" | "recovering"} stage
 * @property {number} fraction
 * @property {number} [position] jobs before this one, while it is queued
 * @property {number} [picture] which of the request's pictures, from 0
 * @property {number} [count] how many pictures the request has
 * @property {number} [step] the step that is being computed, from 1
 * @property {number} [n_steps]
 * @property {number} [seconds] since the job's turn came, less the time it was paused or waited for a download
 */

/**
 * A small picture of what is being drawn, as a canvas takes it.
 * @typedef {object} Preview
 * @property {number} picture
 * @property {number} step
 * @property {number} width
 * @property {number} height
 * @property {Uint8ClampedArray<ArrayBuffer>} data red, green, blue and alpha
 */

/**
 * A finished picture: a PNG file with its parameters inside.
 * @typedef {object} Picture
 * @property {number} picture which of the request's pictures, from 0
 * @property {number | string} seed a text from 2^53 on
 * @property {Uint8Array<ArrayBuffer>} png
 */

/**
 * What came of a job.
 * @typedef {object} Outcome
 * @property {boolean} cancelled whether it was stopped before its last picture
 * @property {number} seconds
 * @property {number} n_tokens in the prompt
 * @property {string} [truncated] the end of the prompt that the model could not read
 * @property {number} flops the work of the whole job
 * @property {number} n_recoveries how often the GPU was lost on the way
 * @property {boolean} repeated_in_f32 whether 16 bits were not enough somewhere, so that a stage was repeated in 32
 */

/**
 * @typedef {{type: "open", cancelled: SharedArrayBuffer | null}} OpenRequest
 * @typedef {{type: "check"}} CheckRequest
 * @typedef {{type: "versions"}} VersionsRequest
 * @typedef {{type: "load", endpoint: string | null, repository: string, runner: Runner, dtype: "auto" | "f32" | "f16",
 *   budget_bytes?: number}} LoadRequest
 * @typedef {{type: "plan", request: PlanRequest}} PlanMessage
 * @typedef {{type: "hub", endpoint?: string, token?: string}} HubRequest
 * @typedef {{type: "models"} | {type: "stop_download"}} ModelsRequest
 * @typedef {{type: "needed" | "download" | "remove" | "verify", model: string}} ModelRequest
 * @typedef {{type: "import", name: string, files: Map<string, Blob>}} ImportRequest
 * @typedef {{type: "tokens", prompt: string}} TokensRequest
 * @typedef {{type: "size_of_picture", width: number, height: number, any_size: boolean}} SizeRequest
 * @typedef {{type: "work", request: DrawRequest, has_picture: boolean, has_mask: boolean}} WorkRequest
 * @typedef {{type: "generate", request: DrawRequest, picture?: GivenPicture, mask?: GivenPicture, previews: boolean}} GenerateRequest
 * @typedef {{type: "cancel", job: number | null}} CancelRequest
 * @typedef {{type: "pause"} | {type: "resume"}} PauseRequest
 * @typedef {{type: "parameters" | "pixels", file: Uint8Array}} FileRequest
 * @typedef {OpenRequest | CheckRequest | VersionsRequest | LoadRequest | PlanMessage | HubRequest | ModelsRequest | ModelRequest | TokensRequest | SizeRequest | WorkRequest | GenerateRequest
 *   | CancelRequest | PauseRequest | FileRequest} Request
 */

/**
 * @typedef {{id: number, type: "progress"} & Progress} ProgressReply
 * @typedef {{id: number, type: "preview"} & Preview} PreviewReply
 * @typedef {{id: number, type: "image"} & Picture} ImageReply
 * @typedef {{id: number, type: "done", value: any}} DoneReply
 * @typedef {{id: number, type: "error", message: string, code: string}} ErrorReply
 * @typedef {ProgressReply | PreviewReply | ImageReply | DoneReply | ErrorReply} Reply
 */

/**
 * A model that this browser keeps, or could: what there is of it.
 * @typedef {object} ModelReport
 * @property {string} model
 * @property {string} repo
 * @property {number} total_bytes
 * @property {number} missing_bytes
 * @property {boolean} complete
 * @property {number | null} quota_bytes
 * @property {number | null} usage_bytes
 */

/** How many jobs can be cancelled within a step at once: each has a place in shared memory by its id. */
export const N_CANCEL_SLOTS = 1024;

/** What came of a job that was cancelled before anything was done. @returns {Outcome} */
export function nothing_drawn() {
  return {
    cancelled: true,
    seconds: 0,
    n_tokens: 0,
    truncated: undefined,
    flops: 0,
    n_recoveries: 0,
    repeated_in_f32: false,
  };
}
