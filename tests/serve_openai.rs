//! `darkroom serve` as the official OpenAI Python client sees it.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

mod clients;

#[test]
fn the_official_client_generates_edits_streams_and_is_refused_by_name() {
    clients::session("openai_session.py", "openai", &["openai==3.57.0", "pillow==13.0.0"]);
}
