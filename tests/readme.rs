//! The README's Rust, which is a part of docs/rust.md, whose programs `cargo test --doc` runs.
#![cfg(not(target_arch = "wasm32"))]

#[test]
fn the_readmes_rust_is_what_is_run() {
    let blocks = |text: &str| -> Vec<String> {
        let after = text.split("```rust\n").skip(1);
        after.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
    };
    let of_readme = blocks(include_str!("../README.md"));
    let run = blocks(include_str!("../docs/rust.md"));
    assert!(!of_readme.is_empty() && run.len() >= 3);
    for block in of_readme {
        assert!(run.contains(&block), "docs/rust.md has not the README's\n{block}");
    }
}
