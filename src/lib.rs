//! Darkroom: Stable Diffusion inside the reader's own browser, in Rust. Prompts and pictures never leave the machine.
//!
//! One crate, compiled twice: to WebAssembly for the page, and natively for the command line and for the tests that prove
//! parity with diffusers. This page is the map; each module says on its first lines what it does and what it does not.
//!
//! # The way of the data
//!
//! ```text
//! prompt ─ tokenizer ─► ids ─► text encoder graph ─► context ─┐
//! seed ─── rng ───────► noise ─────────────► latents ─────────┤─► UNet graph ─► sampler ─► latents ─┐
//! image, mask ─ VAE encoder graph ─► latents ─────────────────┘         ▲_______ once per step _____│
//!                                                                   latents ─► VAE decoder graph ─► picture ─► PNG
//! hub (files and where they are) ─► weights (layers over files) ─► run (candle tensors, GPU buffers)
//! ```
//!
//! # The modules, lowest first
//!
//! - [`error`]: one enum; its variants carry what a caller needs to act on. [`json`]: JSON as Python reads it.
//! - [`rng`]: torch's CPU generator, bit for bit, so that a seed means the same noise as in diffusers.
//! - [`tokenizer`]: CLIP's byte-pair encoding, with the ids of transformers.
//! - [`prompt`]: the prompt languages that people write: weights, chunks of 75 tokens, prompts that change over the
//!   steps or choose by the seed ([`prompt::wildcards`]).
//! - [`image`]: pictures in and out, what files carry beside them, Pillow's resampling, masks.
//! - [`graph`]: models as plain data: operations, shapes, names, weights, costs.
//! - [`store`]: verified chunks of downloaded files, as an interface; IndexedDB in the browser.
//! - [`weights`]: safetensors and GGUF headers read as hostile input, lazy views of tensors, and layers above them for names,
//!   types, cuts, and values with adapters in them ([`weights::merged`]), as sums or as factors for a device. Which type each
//!   weight is held in while a model is drawn with ([`weights::WeightType`]), and blocks of 8 or 4 bits ([`weights::blocks`]).
//! - [`model`]: the seven versions, diffusers' JSON as types, and CLIP, UNet and VAE as functions that append to a graph.
//! - [`sampler`]: schedules and samplers as scalar coefficients of linear combinations; no sampler touches a tensor (the
//!   pipeline applies dynamic thresholding, whose bound depends on the latents).
//! - [`request`]: what a caller may ask for, and what would work instead of what does not.
//! - [`parameters`]: what made a picture, as text in its PNG, and back to the request; read of other programs' pictures too.
//! - [`hub`]: which files a model needs and where they are: a folder, memory, the browser's store, the Hugging Face cache.
//!   One engine downloads into the last two by ranges, resumed and verified ([`hub::download`]); files are usable while the
//!   rest comes ([`hub::arrival`]). What can be planned with before weights are there: the seven versions' configs, and
//!   headers alone ([`hub::published`]).
//! - [`run`]: runners execute graphs. [`run::candle`] on the CPU and in wasm, with kernels of our own (`run::cpu`), and on
//!   CUDA; [`run::gpu`] through WebGPU, where a graph is fused ([`run::gpu::lower`]) by families of kernels
//!   ([`run::gpu::kernels`]), placed in one arena ([`run::gpu::arena`]) and replayed; weights above a budget are streamed
//!   from where they are stored while it is replayed ([`run::Runner::load_within`]). Everything that a device is asked for is
//!   counted ([`run::gpu::ledger`]), with a device or without.
//! - [`pipeline`]: text, picture and mask to pictures, one [`pipeline::Generation::step`] at a time; what that will ask of a
//!   GPU ([`pipeline::plan`]), found by drawing on none.
//! - [`checkpoint`]: what a file of weights is ([`checkpoint::inspect`]), checkpoints in one file in the place of a folder
//!   ([`checkpoint::single`]), parts of other models ([`checkpoint::assembled`]), LoRAs fitted to a model
//!   ([`checkpoint::lora`]), and models written in another layout ([`checkpoint::convert`]).
//! - [`engine`]: the front door of the command line, the server and the page: a model opened on a device, which plans, draws,
//!   cancels and resumes.
//! - [`prelude`]: common imports for programs that generate images.
//! - [`mod@bench`]: one component of a model, or one operation of it, timed on any runner; random weights.
//! - `web`: what JavaScript can call (wasm only). The command line is `src/bin/darkroom`.
//!
//! # Invariants
//!
//! tests/invariants keeps the first four by reading `src/`.
//!
//! 1. Only `web`, `hub::web` and `store::indexed_db` mention JavaScript. Only `run::gpu` mentions wgpu, only
//!    `run::candle` candle. A type that crosses to the page derives its TypeScript, in builds for tests alone; a test compares
//!    it with src/web/types.d.ts.
//! 2. `model`, `graph`, `sampler`, `request`, `prompt`, `tokenizer`, `rng`, `image`, `parameters` do no I/O, know no device, and are
//!    not async.
//! 3. Dependencies point one way: web, bin → engine, bench → checkpoint → pipeline → model, sampler, run, hub → graph,
//!    weights → leaves; below `run` too, down to what every GPU kernel stands on ([`run::gpu::kernel`]).
//! 4. Platforms differ by module, never by `cfg` inside a function body, never by a dummy module.
//! 5. Everything about a checkpoint comes from its own JSON files; the table of versions has names, repositories and
//!    defaults only.
//! 6. Weights never exist twice in memory: a tensor goes from where it is stored to its device through a bounded piece, once,
//!    or each time it is used where a budget has no room for it. Of the table of token embeddings only a prompt's rows are read.
//!
//! # Shapes
//!
//! B batch, H W image, h w latents, C channels, T tokens, S keys, D width, G groups, O channels or width out. Pictures
//! are channels-last, \[B,H,W,C\]; checkpoints and torch's noise are channels-first, and are turned where they enter.

#![cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), doc = "", doc = include_str!("../docs/rust.md"))]
#![deny(clippy::unwrap_used)]

pub mod error;
pub mod json;

pub mod image;
pub mod rng;
pub mod tokenizer;

pub mod prompt;

pub mod graph;
pub mod store;
pub mod weights;

pub mod model;
pub mod parameters;
pub mod request;
pub mod sampler;

pub mod hub;

pub mod run;

pub mod pipeline;

pub mod checkpoint;

#[cfg(any(target_arch = "wasm32", all(feature = "cpu", feature = "gpu")))]
pub mod engine;

#[cfg(any(target_arch = "wasm32", all(feature = "cpu", feature = "gpu")))]
pub mod bench;

#[cfg(all(test, not(target_arch = "wasm32"), feature = "cpu", feature = "gpu"))]
#[path = "web/declarations.rs"]
mod declarations;
#[cfg(target_arch = "wasm32")]
pub mod web;

pub mod prelude;

pub use error::{Error, Result};
