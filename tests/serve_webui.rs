//! `darkroom serve` as front ends see it that were made for AUTOMATIC1111's web UI.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

mod clients;

#[test]
fn clients_of_the_web_ui_draw_repaint_look_and_stop() {
    clients::session("webui_session.py", "webui", &["webuiapi==0.9.17", "pillow==13.0.0", "requests==2.34.2"]);
}
