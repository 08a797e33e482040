//! The page from end to end: headless Chromium, driven over WebDriver, opens `www/` from a real web server.
//!
//! Needs `www/pkg` (`build.sh wasm`), Chromium and its driver, so `cargo test` leaves it out and `build.sh test page`
//! runs it.
#![cfg(not(target_arch = "wasm32"))]

mod access;
mod api;
mod app;
mod backup;
mod bench;
mod brought;
mod browser;
mod clip_skip;
mod drawing;
mod faults;
mod files;
mod firefox;
#[path = "../../tools/serve/folder.rs"]
mod folder;
// What processes hold is read from /proc.
#[cfg(target_os = "linux")]
mod gallery_memory;
mod grid;
mod highlight;
mod kept;
mod keyboard;
mod large_file;
mod library;
mod loras;
mod lost;
mod models;
#[path = "../common/names.rs"]
mod names;
#[path = "../common/numbers.rs"]
mod numbers;
mod offers;
mod origins;
mod paint;
mod prompts;
mod reload;
mod repaint;
mod responsive;
mod shape;
#[path = "../common/single.rs"]
mod single;
mod speed;
mod stop;
mod threads;
mod tiles;
#[path = "../common/tiny.rs"]
mod tiny;
mod trouble;
mod viewer;
mod weights;
mod wildcards;
