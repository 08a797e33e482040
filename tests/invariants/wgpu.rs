//! No public item names wgpu.

use std::path::Path;

use crate::rust_files;

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
