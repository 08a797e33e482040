//! The wasm build without a browser: `wasm-pack test --node` runs this; natively the file is empty. The same tests run in
//! a browser as part of `web_model.rs`.
#![cfg(target_arch = "wasm32")]

#[path = "wasm/processor.rs"]
mod processor;
