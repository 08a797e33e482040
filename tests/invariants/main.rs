//! The invariants of the code's shape that `src/lib.rs` states, checked on the text of `src/`.
//!
//! The scan knows tokens, not types: it drops comments, strings and what is compiled only for tests, and looks at names
//! and paths. That is enough to catch a slip; it does not try to defeat someone who hides one.
#![cfg(not(target_arch = "wasm32"))]

mod scan;
mod tables;
mod wgpu;

use std::path::Path;

use scan::{cfgs_in_bodies, names_below, names_below_folder, names_below_root, tokens, without_tests};
use tables::{IMPURE_STD, IMPURE_WORDS, MAY_USE, ORDERS, PURE, RESERVED};

/// All violations in one file, given its path below `src/`.
fn violations(path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut report = |line: usize, reason: String| found.push(format!("src/{path}:{line}: {reason}"));
    let tokens = without_tests(tokens(source));
    let stem = path.trim_end_matches(".rs");
    let module: Vec<&str> = stem.trim_end_matches("/mod").split('/').collect();

    for (words, places, reason) in RESERVED {
        if places.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for token in tokens.iter().filter(|token| words.contains(&token.text.as_str())) {
            report(token.line, format!("`{}`: {reason}", token.text));
        }
    }

    if PURE.contains(&module[0]) {
        for (i, token) in tokens.iter().enumerate() {
            if token.text == "std" {
                for name in names_below(&tokens, i + 1).iter().filter(|n| IMPURE_STD.contains(&n.text.as_str())) {
                    report(name.line, format!("`std::{}`: {} computes and does no I/O", name.text, module[0]));
                }
            }
            if IMPURE_WORDS.contains(&token.text.as_str()) {
                report(token.line, format!("`{}`: {} computes and does no I/O", token.text, module[0]));
            }
        }
    }

    if module != ["lib"] {
        match MAY_USE.iter().find(|(name, _)| *name == module[0]) {
            None => report(1, format!("`{}` is not in the table of modules in tests/invariants/tables.rs", module[0])),
            Some((own, allowed)) => {
                for name in names_below_root(&tokens, &module) {
                    let is_module = MAY_USE.iter().any(|(module, _)| *module == name.text);
                    if is_module && name.text != *own && !allowed.contains(&name.text.as_str()) {
                        report(name.line, format!("{own} may not use `{}`", name.text));
                    }
                }
            }
        }
    }

    for (folder, rows) in ORDERS.iter().filter(|(folder, _)| module.starts_with(folder)) {
        let row_of = |name: &str| rows.iter().position(|row| row.contains(&name));
        let Some(own) = module.get(folder.len()) else { continue };
        let Some(own_row) = row_of(own) else {
            report(1, format!("`{own}` is not in the order of {} in tests/invariants/tables.rs", folder.join("/")));
            continue;
        };
        for name in names_below_folder(&tokens, &module, folder) {
            if row_of(&name.text).is_some_and(|row| row > own_row) {
                report(name.line, format!("{own} may not use `{}`, which stands on it", name.text));
            }
        }
    }

    for line in cfgs_in_bodies(&tokens) {
        report(line, "platforms differ by module, not by `cfg` inside a function".into());
    }
    found
}

fn rust_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn src_keeps_the_invariants() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 5, "src/ was not found");
    let mut found = Vec::new();
    for file in &files {
        let path = file.strip_prefix(&src).expect("a file below src").to_string_lossy().replace('\\', "/");
        found.extend(violations(&path, &std::fs::read_to_string(file).expect("a readable file")));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn violations_are_found() {
    for (path, source) in [
        ("pipeline/mod.rs", "use wasm_bindgen::JsValue;"),
        ("hub/native.rs", "fn a() { js_sys::Date::now(); }"),
        ("run/candle/mod.rs", "type A = wgpu::Device;"),
        ("run/mod.rs", "use candle_core::Tensor;"),
        ("run/cpu/conv.rs", "use candle_core::Tensor;"),
        ("bin/darkroom/serve/painter.rs", "use darkroom::pipeline::ModelLoader;"),
        ("model/unet.rs", "use std::fs;"),
        ("graph/mod.rs", "use std::{collections::HashMap, net::TcpStream};"),
        ("sampler/mod.rs", "pub async fn step() {}"),
        ("tokenizer.rs", "fn a() { println!(\"x\"); }"),
        ("graph/cost.rs", "use crate::model::unet;"),
        ("graph/cost.rs", "use super::super::run::Runner;"),
        ("rng.rs", "use super::graph::Graph;"),
        ("weights/mod.rs", "use crate::{Error, graph::{Graph, Op}, pipeline::Step};"),
        ("run/gpu/program.rs", "fn a() { let x = crate::pipeline::step(); }"),
        ("run/mod.rs", "fn a<T>(x: [u8; 2]) -> u8 { #[cfg(target_arch = \"wasm32\")] return 1; 2 }"),
        ("run/mod.rs", "impl A { fn a(&self) -> bool { cfg!(unix) } }"),
        ("run/gpu/kernel/mod.rs", "use crate::run::gpu::kernels::products::Gemm;"),
        ("run/gpu/kernel/source.rs", "use super::super::kernels::products;"),
        ("run/gpu/emit.rs", "use super::{kernels, kernel::Launch};"),
        ("run/gpu/kernels/layer_norm/mod.rs", "use crate::run::gpu::kernels::products::Gemm;"),
        ("run/gpu/kernels/products/emit.rs", "use super::super::attention;"),
        ("run/gpu/novelty.rs", ""),
        ("run/cpu/conv.rs", "use crate::run::candle::Precision;"),
        ("novelty/mod.rs", ""),
    ] {
        assert!(!violations(path, source).is_empty(), "not found in {path}: {source}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (path, source) in [
        ("web/mod.rs", "use wasm_bindgen::JsValue; use crate::pipeline::Step;"),
        ("hub/web.rs", "use js_sys::Promise;"),
        ("run/gpu/mod.rs", "use wgpu::Device; use crate::graph::Graph; use kernels::products;"),
        ("run/gpu/kernels/products/emit.rs", "use super::super::layer_norm; use crate::run::gpu::emit::Emitter;"),
        ("run/gpu/runner/load.rs", "use super::super::kernels::products; use super::GpuRunner;"),
        ("run/candle/mod.rs", "use candle_core::Tensor;"),
        (
            "model/unet.rs",
            "// std::fs and wgpu\nuse crate::graph::Graph; /* async /* nested */ wgpu */ const A: &str = \"wgpu\";",
        ),
        (
            "graph/mod.rs",
            "const A: &str = r#\"a \" wgpu\"#; const B: char = '\"'; fn a<'a>(x: &'a str) -> &'a str { x }",
        ),
        ("graph/mod.rs", "#[cfg(test)]\nmod tests { use std::fs; fn a() { println!(); } }"),
        ("graph/cost.rs", "use super::op::Op; use std::collections::BTreeMap;"),
        ("run/mod.rs", "#[cfg(not(target_arch = \"wasm32\"))]\npub mod candle;\nfn a();"),
        ("lib.rs", "#[cfg(target_arch = \"wasm32\")]\npub mod web;"),
    ] {
        assert_eq!(violations(path, source), Vec::<String>::new(), "in {path}: {source}");
    }
}
