//! `--wildcards FOLDER`: the text files below a folder, by their paths without `.txt`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use darkroom::prompt::wildcards::Wildcards;
use darkroom::{Error, Result};

/// How deep a folder is looked through, how many files of it, and the longest one in bytes.
const MAX_DEPTH: usize = 8;
const MAX_FILES: usize = 10_000;
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Bytes of all files, and files of any kind that are met.
const MAX_BYTES: u64 = 128 << 20;
const MAX_MET: usize = 100_000;

/// How long a look at a folder is good for.
const FRESH: Duration = Duration::from_secs(1);

/// A text file: its name in prompts, where it is, and what it was when it was met.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListFile {
    name: String,
    path: PathBuf,
    n_bytes: u64,
    written: Option<SystemTime>,
}

/// What was met in a folder so far.
#[derive(Default)]
struct Met {
    n_entries: usize,
    n_bytes: u64,
    files: Vec<ListFile>,
    /// Where they really are, so that a link back is not followed.
    folders: BTreeSet<PathBuf>,
}

/// Reads the folder.
///
/// # Errors
/// When it is no folder, or a file of it cannot be read.
pub fn read(folder: &Path) -> Result<Wildcards> {
    read_files(&list(folder)?)
}

/// A folder that is looked through again when somebody asks.
pub struct WildcardsFolder {
    folder: PathBuf,
    seen: Mutex<(Instant, Vec<ListFile>, Arc<Wildcards>)>,
}

impl WildcardsFolder {
    /// A folder that can be read.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(folder: &Path) -> Result<Self> {
        let files = list(folder)?;
        let wildcards = Arc::new(read_files(&files)?);
        Ok(WildcardsFolder { folder: folder.to_path_buf(), seen: Mutex::new((Instant::now(), files, wildcards)) })
    }

    /// Its lists as they are now.
    ///
    /// # Errors
    /// As [`read`].
    pub fn lists(&self) -> Result<Arc<Wildcards>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.elapsed() >= FRESH {
            let files = list(&self.folder)?;
            if files != seen.1 {
                *seen = (Instant::now(), files.clone(), Arc::new(read_files(&files)?));
            }
            seen.0 = Instant::now();
        }
        Ok(Arc::clone(&seen.2))
    }
}

/// The folder's text files, in the order of their names.
fn list(folder: &Path) -> Result<Vec<ListFile>> {
    // The folder that was named has to be one; below it, what cannot be opened is left out.
    if !folder.is_dir() {
        let (got, expected) = (folder.display().to_string(), "give a folder that exists".into());
        return Err(Error::Request { field: "wildcards", got, expected });
    }
    std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    let mut met = Met::default();
    collect(folder, "", 0, &mut met)?;
    met.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(met.files)
}

fn read_files(files: &[ListFile]) -> Result<Wildcards> {
    let mut wildcards = Wildcards::new();
    for ListFile { name, path, .. } in files {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        wildcards.add_bytes(name, &bytes);
    }
    Ok(wildcards)
}

fn collect(folder: &Path, prefix: &str, depth: usize, met: &mut Met) -> Result<()> {
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
                collect(&path, &format!("{prefix}{name}/"), depth + 1, met)?;
            }
        } else if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("txt")) && met.files.len() < MAX_FILES {
            let file = std::fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
            let n_bytes = file.len();
            if n_bytes > MAX_FILE_BYTES {
                let expected = format!("files of at most {} MiB work", MAX_FILE_BYTES >> 20);
                return Err(Error::Request { field: "wildcards", got: path.display().to_string(), expected });
            }
            met.n_bytes += n_bytes;
            let name = format!("{prefix}{}", stem(&path));
            met.files.push(ListFile { name, path, n_bytes, written: file.modified().ok() });
        }
    }
    Ok(())
}
