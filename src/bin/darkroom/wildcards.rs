//! `--wildcards FOLDER`: the text files below a folder, by their paths without `.txt`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use darkroom::prompt::wildcards::Wildcards;
use darkroom::{Error, Result};

/// How deep a folder is looked through, how many files of it, and the longest one in bytes.
const MAX_DEPTH: usize = 8;
const MAX_FILES: usize = 10_000;
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Bytes of all files, and files of any kind that are met.
const MAX_BYTES: u64 = 128 << 20;
const MAX_MET: usize = 100_000;

/// What was met in a folder so far.
#[derive(Default)]
struct Met {
    n_entries: usize,
    n_files: usize,
    n_bytes: u64,
    /// Where they really are, so that a link back is not followed.
    folders: BTreeSet<PathBuf>,
}

/// Reads the folder.
///
/// # Errors
/// When it is no folder, or a file of it cannot be read.
pub fn read(folder: &Path) -> Result<Wildcards> {
    let mut wildcards = Wildcards::new();
    // The folder that was named has to be one; below it, what cannot be opened is left out.
    std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    collect(folder, "", 0, &mut Met::default(), &mut wildcards)?;
    Ok(wildcards)
}

fn collect(folder: &Path, prefix: &str, depth: usize, met: &mut Met, wildcards: &mut Wildcards) -> Result<()> {
    if folder.canonicalize().is_ok_and(|folder| !met.folders.insert(folder)) {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        met.n_entries += 1;
        if met.n_entries > MAX_MET || met.n_bytes > MAX_BYTES {
            let (got, expected) =
                (folder.display().to_string(), "give a folder of lists alone: this has too much in it");
            return Err(Error::Request { field: "wildcards", got, expected: expected.into() });
        }
        let path = entry.path();
        let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            if depth < MAX_DEPTH {
                let name = entry.file_name().to_string_lossy().into_owned();
                collect(&path, &format!("{prefix}{name}/"), depth + 1, met, wildcards)?;
            }
        } else if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("txt")) && met.n_files < MAX_FILES {
            met.n_files += 1;
            let length = std::fs::metadata(&path).map_err(|error| Error::io(&path, error))?.len();
            if length > MAX_FILE_BYTES {
                let expected = format!("files of at most {} MiB work", MAX_FILE_BYTES >> 20);
                return Err(Error::Request { field: "wildcards", got: path.display().to_string(), expected });
            }
            met.n_bytes += length;
            let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
            wildcards.add(&format!("{prefix}{}", stem(&path)), &String::from_utf8_lossy(&bytes));
        }
    }
    Ok(())
}
