//! The invariants of the code's shape that `src/lib.rs` states, checked on the text of `src/`.
//!
//! The scan knows tokens, not types: it drops comments, strings and what is compiled only for tests, and looks at names
//! and paths. That is enough to catch a slip; it does not try to defeat someone who hides one.
#![cfg(not(target_arch = "wasm32"))]

use std::path::Path;

/// Words that only some files may use: the words, the files or folders, and the reason.
const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (
        &[
            "js_sys",
            "web_sys",
            "wasm_bindgen",
            "wasm_bindgen_futures",
            "serde_wasm_bindgen",
            "console_error_panic_hook",
        ],
        &["web/", "hub/web.rs", "store/indexed_db"],
        "only web/, hub/web.rs and store/indexed_db know JavaScript",
    ),
    (&["wgpu", "naga"], &["run/gpu/"], "only run/gpu/ knows wgpu"),
    (&["candle_core", "candle_nn", "candle_transformers"], &["run/candle/"], "only run/candle/ knows candle"),
    (
        &["ModelLoader", "ModelComponents", "CandleRunner", "GpuRunner"],
        &["run/", "pipeline/", "engine.rs", "engine/", "bench.rs", "bench/", "web/bench.rs", "lib.rs"],
        "the command line, the server and the page draw through engine",
    ),
];

/// The modules that compute and nothing else.
const PURE: &[&str] =
    &["json", "model", "graph", "sampler", "request", "prompt", "tokenizer", "rng", "image", "parameters"];

/// What a pure module may not name below `std`.
const IMPURE_STD: &[&str] = &["fs", "net", "env", "process", "thread", "time"];

/// What a pure module may not say at all.
const IMPURE_WORDS: &[&str] =
    &["async", "await", "stdin", "stdout", "stderr", "println", "eprintln", "print", "eprint"];

/// Each module and the modules it may use, lowest first. A module uses only modules above its own line, so the table
/// cannot describe a cycle.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("json", &[]),
    ("rng", &["error"]),
    ("image", &["error"]),
    ("tokenizer", &["error", "json"]),
    ("prompt", &["error", "tokenizer"]),
    ("store", &["error"]),
    ("graph", &["error"]),
    ("weights", &["error", "store", "graph"]),
    ("model", &["error", "json", "graph", "weights"]),
    ("sampler", &["error", "json", "model"]),
    ("request", &["error", "rng", "image", "prompt", "model", "sampler"]),
    ("parameters", &["error", "rng", "image", "prompt", "weights", "sampler", "request"]),
    ("hub", &["error", "json", "store", "graph", "weights", "model"]),
    ("run", &["error", "graph", "weights"]),
    (
        "pipeline",
        &[
            "error",
            "rng",
            "image",
            "tokenizer",
            "prompt",
            "store",
            "graph",
            "weights",
            "model",
            "sampler",
            "request",
            "hub",
            "run",
            "parameters",
        ],
    ),
    (
        "checkpoint",
        &["error", "json", "tokenizer", "graph", "weights", "model", "sampler", "request", "hub", "run", "pipeline"],
    ),
    (
        "engine",
        &[
            "error",
            "image",
            "weights",
            "model",
            "sampler",
            "request",
            "prompt",
            "hub",
            "run",
            "parameters",
            "pipeline",
            "checkpoint",
        ],
    ),
    ("bench", &["error", "graph", "weights", "model", "run"]),
    ("prelude", &["error", "image", "tokenizer", "model", "sampler", "request", "hub", "pipeline", "engine"]),
    (
        "web",
        &[
            "error",
            "rng",
            "image",
            "tokenizer",
            "prompt",
            "store",
            "graph",
            "weights",
            "model",
            "sampler",
            "request",
            "hub",
            "checkpoint",
            "run",
            "pipeline",
            "engine",
            "bench",
            "parameters",
        ],
    ),
    (
        "bin",
        &[
            "error",
            "rng",
            "image",
            "tokenizer",
            "prompt",
            "store",
            "graph",
            "weights",
            "model",
            "sampler",
            "request",
            "hub",
            "checkpoint",
            "run",
            "pipeline",
            "engine",
            "bench",
            "parameters",
        ],
    ),
];

/// Folders with an order of their own: the folder's path, and its modules, lowest first. A module uses none that stands
/// behind it, however the path is spelled; modules in one row may use each other.
const ORDERS: &[(&[&str], &[&[&str]])] = &[
    (&["run"], &[&["cpu"], &["candle", "gpu"]]),
    (
        &["run", "gpu"],
        &[
            &["kernel", "weight_layout", "arena", "bands"],
            &["fusing"],
            &["emit"],
            &["kernels"],
            &["lower"],
            &["program"],
            &["caps", "ledger", "instance"],
            &["readback", "profile", "proof", "buffer", "faults", "compiler", "recorder"],
            &["runner"],
        ],
    ),
    (
        &["run", "gpu", "kernels"],
        &[&["sampling"], &["elementwise"], &["layer_norm"], &["products"], &["attention", "group_norm"]],
    ),
];

/// A word or a punctuation mark, with its line.
#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

/// Splits Rust source into words and marks, without comments, strings, characters and lifetimes' quotes.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut found, mut line, mut i) = (Vec::new(), 1, 0);
    while i < chars.len() {
        let start = i;
        match chars[i] {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && chars[i] != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => i = after_string(&chars, i),
            // A character such as 'x' or '\n'; anything else after a quote is a lifetime.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            }
            'r' | 'b' | 'c' if raw_hashes(&chars, i).is_some() => i = after_raw_string(&chars, i),
            c if c.is_alphanumeric() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                found.push(Token { text: chars[start..i].iter().collect(), line });
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token { text: c.into(), line });
                }
                i += 1;
            }
        }
        line += chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// The index after a string whose opening quote is at `i`.
fn after_string(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// How many `#` the raw string at `i` (`r"`, `br#"`, …) opens with, or nothing when there is none.
fn raw_hashes(chars: &[char], i: usize) -> Option<usize> {
    let r = if chars[i] == 'r' { i } else { i + 1 };
    if chars.get(r) != Some(&'r') || (i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_')) {
        return None;
    }
    let n_hashes = chars[r + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(r + 1 + n_hashes) == Some(&'"')).then_some(n_hashes)
}

/// The index after the raw string that starts at `i`.
fn after_raw_string(chars: &[char], i: usize) -> usize {
    let n_hashes = raw_hashes(chars, i).expect("a raw string");
    let mut j = i;
    while chars[j] != '"' {
        j += 1;
    }
    loop {
        j += 1;
        match chars.get(j) {
            None => return j,
            Some('"') if chars[j + 1..].iter().take_while(|c| **c == '#').count() >= n_hashes => {
                return j + 1 + n_hashes;
            }
            Some(_) => {}
        }
    }
}

/// Whether the tokens from `i` on read as `words`.
fn reads(tokens: &[Token], i: usize, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(k, word)| tokens.get(i + k).is_some_and(|token| token.text == *word))
}

/// The index after the bracket that closes the one at `i`.
fn after_group(tokens: &[Token], mut i: usize) -> usize {
    let mut depth = 0;
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        i += 1;
        if depth == 0 {
            break;
        }
    }
    i
}

/// Drops every item marked `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if !reads(&tokens, i, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        // The item ends with its first braces, or with a semicolon before them.
        while i < tokens.len() {
            match tokens[i].text.as_str() {
                "{" => {
                    i = after_group(&tokens, i);
                    break;
                }
                ";" => {
                    i += 1;
                    break;
                }
                "(" | "[" => i = after_group(&tokens, i),
                _ => i += 1,
            }
        }
    }
    kept
}

/// The names that stand directly below the path that ends at `i` (`::a` or `::{a::b, c}`), with their lines.
fn names_below(tokens: &[Token], i: usize) -> Vec<Token> {
    if !reads(tokens, i, &[":", ":"]) {
        return Vec::new();
    }
    if !reads(tokens, i + 2, &["{"]) {
        return tokens.get(i + 2).cloned().into_iter().collect();
    }
    let end = after_group(tokens, i + 2);
    let (mut names, mut depth) = (Vec::new(), 0);
    for k in i + 2..end {
        match tokens[k].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && matches!(tokens[k - 1].text.as_str(), "{" | ",") => names.push(tokens[k].clone()),
            _ => {}
        }
    }
    names
}

/// The names that `tokens`, found in the module with path `module`, uses directly below the crate's root.
fn names_below_root(tokens: &[Token], module: &[&str]) -> Vec<Token> {
    let mut names = Vec::new();
    for i in 0..tokens.len() {
        let below_something = i > 0 && tokens[i - 1].text == ":";
        match tokens[i].text.as_str() {
            "crate" | "darkroom" if !below_something => names.extend(names_below(tokens, i + 1)),
            "super" if !below_something => {
                let mut n_up = 1;
                while reads(tokens, i + 3 * n_up - 2, &[":", ":", "super"]) {
                    n_up += 1;
                }
                if n_up == module.len() {
                    names.extend(names_below(tokens, i + 3 * n_up - 2));
                }
            }
            _ => {}
        }
    }
    names
}

/// The names that `tokens`, found in the module with path `module`, uses directly below the module with path `folder`.
fn names_below_folder(tokens: &[Token], module: &[&str], folder: &[&str]) -> Vec<Token> {
    let mut names = Vec::new();
    for i in 0..tokens.len() {
        let below_something = i > 0 && tokens[i - 1].text == ":";
        let from = match tokens[i].text.as_str() {
            "crate" if !below_something => Some((Vec::new(), i + 1)),
            "super" if !below_something => {
                let mut n_up = 1;
                while reads(tokens, i + 3 * n_up - 2, &[":", ":", "super"]) {
                    n_up += 1;
                }
                Some((module[..module.len().saturating_sub(n_up)].to_vec(), i + 3 * n_up - 2))
            }
            _ => None,
        };
        let Some((mut at, mut next)) = from else { continue };
        // Along the folder's path, as far as it is spelled here.
        while at.len() < folder.len() && folder.starts_with(&at) && reads(tokens, next, &[":", ":", folder[at.len()]]) {
            at.push(folder[at.len()]);
            next += 3;
        }
        if at == folder {
            names.extend(names_below(tokens, next));
        }
    }
    names
}

/// Lines inside function bodies on which the code asks what it is compiled for.
fn cfgs_in_bodies(tokens: &[Token]) -> Vec<usize> {
    let (mut lines, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if tokens[i].text != "fn" {
            i += 1;
            continue;
        }
        while i < tokens.len() && !matches!(tokens[i].text.as_str(), "{" | ";") {
            i = if matches!(tokens[i].text.as_str(), "(" | "[") { after_group(tokens, i) } else { i + 1 };
        }
        if !reads(tokens, i, &["{"]) {
            continue;
        }
        let end = after_group(tokens, i);
        for k in i..end {
            let attribute = reads(tokens, k, &["#", "[", "cfg", "("]) || reads(tokens, k, &["#", "[", "cfg_attr", "("]);
            let in_macro = reads(tokens, k, &["cfg", "!"]) || reads(tokens, k, &["cfg_select", "!"]);
            if attribute || in_macro {
                lines.push(tokens[k].line);
            }
        }
        i = end;
    }
    lines
}

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
            None => report(1, format!("`{}` is not in the table of modules in tests/invariants.rs", module[0])),
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
            report(1, format!("`{own}` is not in the order of {} in tests/invariants.rs", folder.join("/")));
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

/// Modules of run/gpu that nobody outside of it sees, and those that are hidden from the documentation.
const UNSEEN: &[&str] =
    &["buffer", "compiler", "faults", "instance", "proof", "recorder", "readback", "kernel/pipeline", "runner/"];

/// Public items that name wgpu and are not hidden: `source` without tests, line by line.
fn public_wgpu(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_hidden = false;
    let lines: Vec<&str> = source.split("#[cfg(test)]").next().unwrap_or_default().lines().map(str::trim).collect();
    for (idx, line) in lines.iter().enumerate() {
        if line.starts_with("pub ") {
            let ends = |line: &&str| line.ends_with(['{', ';', ','].as_slice());
            let is_list = line.ends_with('(');
            let n_lines = lines[idx..].iter().position(|line| if is_list { line.ends_with('{') } else { ends(line) });
            let item = lines[idx..=idx + n_lines.unwrap_or(0)].join(" ");
            if item.contains("wgpu::") && !is_hidden {
                found.push(format!("{}: {item}", idx + 1));
            }
        }
        is_hidden = *line == "#[doc(hidden)]" || (is_hidden && line.starts_with("#["));
    }
    found
}

/// Another version of wgpu is no break of this crate's interface.
#[test]
fn no_public_item_names_wgpu() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/run/gpu");
    let mut files = Vec::new();
    rust_files(&folder, &mut files);
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(&folder).expect("a file below run/gpu").to_string_lossy().replace('\\', "/");
        if UNSEEN.iter().all(|unseen| !path.starts_with(unseen)) {
            let source = std::fs::read_to_string(&file).expect("a readable file");
            found.extend(public_wgpu(&source).into_iter().map(|item| format!("run/gpu/{path}:{item}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(public_wgpu("pub fn of(adapter: &wgpu::Adapter) -> Self {").len(), 1);
    assert_eq!(public_wgpu("pub fn of(\n    adapter: &wgpu::Adapter,\n) -> Self {").len(), 1);
    assert_eq!(public_wgpu("#[doc(hidden)]\npub device: wgpu::Device,").len(), 0);
    assert_eq!(public_wgpu("pub(super) fn of(adapter: &wgpu::Adapter) {\n    wgpu::x();").len(), 0);
}

#[test]
fn the_table_of_modules_has_no_cycle() {
    for (i, (name, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            assert!(MAY_USE[..i].iter().any(|(earlier, _)| earlier == used), "{name} uses {used}, which comes later");
        }
    }
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
