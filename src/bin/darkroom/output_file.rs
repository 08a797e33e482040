//! Writing a picture so that its name holds the whole of it or what was there before.
//!
//! It is written under a name that nobody uses, in the folder of its target, and then renamed. Where the name is a symbolic
//! link, the file that it points to is replaced, and the link stays.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use darkroom::{Error, Result};

/// Links that are followed before they are called a circle, as in Linux.
const MAX_LINKS: usize = 40;
/// Names that are tried before it is said that none is free.
const MAX_NAMES: usize = 1000;

/// Writes `bytes` to `path`.
///
/// # Errors
/// [`Error::Io`] with the path; what was there is unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes).map_err(|error| Error::io(path, error))
}

/// Looks whether a file of that name could be written: the name, its folder, and the room for another file in it.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn check(path: &Path) -> Result<()> {
    let check = || {
        let target = target_of(path)?;
        if let Err(error) = fs::metadata(&target)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        if is_written_in_place(&target) {
            return Ok(());
        }
        // Whether the folder takes a file is known only once it has one.
        let (name, _) = free_file(&target)?;
        fs::remove_file(name)
    };
    check().map_err(|error: io::Error| Error::io(path, error))
}

/// The file at the end of the symbolic links.
fn target_of(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&target) {
            Ok(there) if there.file_type().is_symlink() => {
                let link = fs::read_link(&target)?;
                target = folder_of(&target).join(link);
            }
            _ => return Ok(target),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether it is there and no plain file: a pipe or a device is written to, not replaced.
fn is_written_in_place(target: &Path) -> bool {
    fs::metadata(target).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// A new file beside `target`, with a short name that is free.
fn free_file(target: &Path) -> io::Result<(PathBuf, File)> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let folder = folder_of(target);
    for _ in 0..MAX_NAMES {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = folder.join(format!(".darkroom-{}-{n}.part", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, "no name for a temporary file is free"))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = target_of(path)?;
    if is_written_in_place(&target) {
        return OpenOptions::new().write(true).open(&target)?.write_all(bytes);
    }
    let (name, mut file) = free_file(&target)?;
    let fill = || {
        file.write_all(bytes)?;
        if let Ok(there) = fs::metadata(&target) {
            // A file that takes another one's place has its permissions; where the file system has none, nothing is lost.
            fs::set_permissions(&name, there.permissions()).ok();
        }
        drop(file);
        fs::rename(&name, &target)
    };
    fill().inspect_err(|_| {
        // Why there is no picture matters more than what could not be tidied up after it.
        fs::remove_file(&name).ok();
    })
}
