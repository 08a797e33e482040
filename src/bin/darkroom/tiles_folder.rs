//! The user's folder of measured tiles, a file for each adapter.

use std::path::{Path, PathBuf};

use darkroom::engine::TileCache;
use darkroom::run::gpu::Caps;
use darkroom::run::gpu::tiles::Tiles;

/// The folder, which is made when the first file is written.
pub struct TilesFolder(PathBuf);

impl TilesFolder {
    /// The one in the user's cache folder, if there is such a folder.
    pub fn of_user() -> Option<Self> {
        let from_env = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let folder = from_env("XDG_CACHE_HOME")
            .or_else(|| from_env("LOCALAPPDATA"))
            .or_else(|| Some(from_env("HOME")?.join(".cache")))?;
        Some(TilesFolder(folder.join("darkroom").join("tiles")))
    }

    /// An adapter's file: with matrices other tiles are the best.
    fn file(&self, caps: &Caps) -> PathBuf {
        let name = format!("{}{}", caps.name, if caps.matrices.is_some() { " with matrices" } else { "" });
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.0.join(format!("{name}.json"))
    }
}

impl TileCache for TilesFolder {
    fn read(&self, caps: &Caps) -> Option<Tiles> {
        serde_json::from_slice(&std::fs::read(self.file(caps)).ok()?).ok()
    }

    /// Where that fails, says so, since the next run will measure again.
    fn write(&self, caps: &Caps, tiles: &Tiles) {
        let file = self.file(caps);
        let written = serde_json::to_vec(tiles).map_err(std::io::Error::from).and_then(|bytes| {
            std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
            std::fs::write(&file, bytes)
        });
        if let Err(error) = written {
            log::warn!("the measured tiles could not be kept: {}: {error}", file.display());
        }
    }
}
