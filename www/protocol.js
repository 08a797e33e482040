// What darkroom.js and its worker say to each other: types, and the little that both need.
//
// Requests carry an `id` and a `type`; every reply carries the request's id and one `type`. `done` or `error` is the last
// one. What the wasm takes and gives is typed in pkg/darkroom.d.ts, from the Rust types; it is only named here.

/**
 * @typedef {import("./pkg/darkroom.js").Caps} Caps
 * @typedef {import("./pkg/darkroom.js").DamageReport} DamageReport
 * @typedef {import("./pkg/darkroom.js").DrawRequest} DrawRequest
 * @typedef {import("./pkg/darkroom.js").Dtype} Dtype
 * @typedef {import("./pkg/darkroom.js").WeightType} WeightType
 * @typedef {import("./pkg/darkroom.js").ErrorCode} ErrorCode
 * @typedef {import("./pkg/darkroom.js").ExtraNetwork} ExtraNetwork
 * @typedef {import("./pkg/darkroom.js").GivenPicture} GivenPicture
 * @typedef {import("./pkg/darkroom.js").Inspection} Inspection
 * @typedef {import("./pkg/darkroom.js").LoadSettings} LoadSettings
 * @typedef {import("./pkg/darkroom.js").ModelInfo} ModelInfo
 * @typedef {import("./pkg/darkroom.js").ModelReport} ModelReport
 * @typedef {import("./pkg/darkroom.js").Need} Need
 * @typedef {import("./pkg/darkroom.js").PictureParameters} PictureParameters
 * @typedef {import("./pkg/darkroom.js").Pixels} Pixels
 * @typedef {import("./pkg/darkroom.js").Plan} Plan
 * @typedef {import("./pkg/darkroom.js").PlanRequest} PlanRequest
 * @typedef {import("./pkg/darkroom.js").PromptSyntax} PromptSyntax
 * @typedef {import("./pkg/darkroom.js").RunnerName} RunnerName
 * @typedef {import("./pkg/darkroom.js").TransferProgress} TransferProgress
 * @typedef {import("./pkg/darkroom.js").VersionInfo} VersionInfo
 * @typedef {import("./pkg/darkroom.js").Work} Work
 */

/**
 * Which runner computes. `auto` takes the GPU where there is a real one, else the processor, and says why.
 * @typedef {"auto" | RunnerName} Runner
 */

/**
 * What this browser gives, found before anything is loaded.
 * @typedef {object} Check
 * @property {Caps | null} caps the GPU, or null where there is none
 * @property {string | null} gpu_error why there is no GPU
 * @property {RunnerName} runner what `auto` takes
 * @property {string} reason why it does, in a sentence
 * @property {{quota_bytes: number, used_bytes: number, persisted: boolean} | null} storage what this origin may keep, where
 *   the browser tells
 * @property {boolean} cancels_within_a_step false where the processor hears no cancel within a step, because the page is not
 *   cross-origin isolated: then a worker that Darkroom started is ended and the model loaded again
 * @property {number} n_threads with which the processor draws
 * @property {string | null} one_thread_because where it is one, why
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
 * How far a model's files are: downloaded, copied into the store, or read back. `fraction` is 0 to 1.
 * @typedef {TransferProgress & {stage: "downloading" | "importing" | "verifying", fraction: number}} Transfer
 */

/**
 * A small picture of what is being drawn, as a canvas takes it.
 * @typedef {Pixels & {picture: number, step: number}} Preview
 */

/**
 * A picture file for a page to show: its size in pixels, and its pixels, made smaller where it is large.
 * @typedef {{bitmap: ImageBitmap, width: number, height: number}} Shown
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
 * @property {string[]} notes what is worth telling about the LoRAs, and what the prompts' syntax does not know
 * @property {number} flops the work of the whole job
 * @property {number} n_recoveries how often the GPU was lost on the way
 * @property {boolean} repeated_in_f32 whether 16 bits were not enough somewhere, so that a stage was repeated in 32
 */

/**
 * How a kept model is loaded: what the UNet of a checkpoint in one file predicts where the file does not say it, and other
 * kept models (`base`, `vae`, `taesd`, `embeddings`) that fill in for missing components, give their VAE, or decode.
 * @typedef {Pick<LoadSettings, "prediction" | "base" | "vae" | "taesd" | "embeddings">} KeptOptions
 */

/**
 * How the model of a worker was loaded, so that another worker can load it again.
 * @typedef {object} LoadedAs
 * @property {string} name
 * @property {boolean} is_kept whether it is in the store; else `files` are those of it
 * @property {LoadSettings} settings
 */

/**
 * What a worker has of a model.
 * @typedef {object} ModelState
 * @property {RunnerName} runner what computes
 * @property {LoadedAs} [as] nothing where none is loaded, or one that is not loaded yet
 * @property {string} source where the files that were fetched last come from
 * @property {Map<string, Blob>} files
 */

/**
 * What a worker has to know that takes the place of another one.
 * @typedef {{is_held: boolean, hub?: {endpoint?: string, token?: string}, model?: ModelState}} Earlier
 */

/**
 * @typedef {{type: "load", endpoint: string | null, repository: string, runner: Runner, dtype: Dtype,
 *   weights?: WeightType, budget_bytes?: number} & KeptOptions} LoadRequest without an endpoint it is a model that the browser keeps
 * @typedef {{type: "generate", request: DrawRequest, picture?: GivenPicture, mask?: GivenPicture, previews: boolean, wildcards?: Record<string, string>}} GenerateRequest
 * @typedef {{type: "open", cancelled: SharedArrayBuffer | null, failures?: string, base_url?: string, wasm_url?: string, earlier: Earlier}
 *   | {type: "check" | "versions" | "models" | "extra_networks" | "stop_download" | "pause" | "resume"}
 *   | {type: "plan", request: PlanRequest}
 *   | {type: "hub", endpoint?: string, token?: string}
 *   | {type: "needed" | "download" | "remove" | "verify", model: string}
 *   | {type: "import", name: string, files: Map<string, Blob>}
 *   | {type: "inspect", model: string, plan: boolean}
 *   | {type: "inspect_file", file: Blob, name: string, yaml?: string, plan: boolean}
 *   | LoadRequest
 *   | {type: "tokens", prompt: string, syntax?: PromptSyntax}
 *   | {type: "size_of_picture", width: number, height: number, any_size: boolean}
 *   | {type: "work", request: DrawRequest, has_picture: boolean, has_mask: boolean, wildcards?: Record<string, string>}
 *   | GenerateRequest
 *   | {type: "cancel", job: number | null}
 *   | {type: "shown", file: Uint8Array, max_side: number}
 *   | {type: "parameters" | "pixels", file: Uint8Array}} Request
 */

/**
 * What `done` brings, by the request's type.
 * @typedef {object} Answers
 * @property {{model_failure: {message: string, code: ErrorCode} | null}} open why the model of the worker before is not loaded
 * @property {Check} check
 * @property {VersionInfo[]} versions
 * @property {Plan} plan
 * @property {void} hub
 * @property {ModelReport[]} models
 * @property {ExtraNetwork[]} extra_networks
 * @property {ModelReport} needed
 * @property {ModelReport} download
 * @property {void} stop_download
 * @property {void} remove
 * @property {ModelReport} import
 * @property {Inspection} inspect
 * @property {Inspection} inspect_file
 * @property {DamageReport[]} verify
 * @property {LoadedModel} load
 * @property {[number, number, number]} tokens
 * @property {[number, number]} size_of_picture
 * @property {Work} work
 * @property {Outcome} generate
 * @property {void} cancel
 * @property {void} pause
 * @property {void} resume
 * @property {PictureParameters | undefined} parameters
 * @property {Pixels} pixels
 * @property {Shown} shown
 */

/**
 * The request of a type.
 * @template {keyof Answers} Type
 * @typedef {Extract<Request, {type: Type}> | (Request & {type: Type})} RequestOf
 */

/**
 * A reply before the last one.
 * @typedef {{type: "progress"} & Progress} ProgressReply
 * @typedef {{type: "transfer"} & Transfer} TransferReply
 * @typedef {{type: "preview"} & Preview} PreviewReply
 * @typedef {{type: "image"} & Picture} ImageReply
 * @typedef {ProgressReply | TransferReply | PreviewReply | ImageReply} PartReply
 */

/**
 * @typedef {{type: "done", value: unknown}} DoneReply
 * @typedef {{type: "error", message: string, code: ErrorCode, needs?: Need, field?: string}} ErrorReply
 * @typedef {{type: "outcome", outcome: Outcome}} OutcomeReply what came of a drawing so far, where it is cancelled and the worker cannot say it
 * @typedef {{type: "model", model: ModelState} | {type: "held", is_held: boolean}} StateReply belongs to no request: what another worker
 *   would have to know
 * @typedef {PartReply | DoneReply | ErrorReply | OutcomeReply | StateReply} Reply as it is made; it goes out with the request's `id`
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
    notes: [],
    flops: 0,
    n_recoveries: 0,
    repeated_in_f32: false,
  };
}
