//! Where the committed test data lies. A test binary that runs on another machine than the one that compiled it is told by
//! `DARKROOM_FIXTURES` (what tests/fixtures holds) and `DARKROOM_HUB` (what www/hub holds).

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

use std::path::{Path, PathBuf};

/// The folder of committed fixtures.
pub fn fixtures_dir() -> PathBuf {
    given_or("DARKROOM_FIXTURES", "tests/fixtures")
}

/// The folder that the page serves models from, by owner and name.
pub fn hub_dir() -> PathBuf {
    given_or("DARKROOM_HUB", "www/hub")
}

/// Where a failing test leaves its pictures.
pub fn failures_dir() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if folder.is_dir() { folder } else { std::env::temp_dir() }
}

fn given_or(variable: &str, in_checkout: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join(in_checkout),
    }
}
