//! The target `embedding` of tests/fuzz.rs, run by libFuzzer.
#![no_main]

#[path = "../../tests/fuzz/targets.rs"]
#[allow(dead_code, reason = "one of them is used here")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::embedding(bytes);
});
