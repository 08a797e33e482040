//! A folder to run the binary in, and what to look at afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;

use darkroom::image::{RgbImage, decode, encode_png};
use serde_json::Value;
use tempfile::TempDir;

/// The prompt of the committed picture (tools/fixtures/emoji.py).
pub const APPLE: &str = "a red apple on a blue background";

/// The folder of the embedded model.
pub fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/hub/darkroom/tiny-emoji/resolve/main")
}

/// A committed picture of diffusers.
pub fn fixture(name: &str) -> RgbImage {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji").join(name))
}

fn read(path: &Path) -> RgbImage {
    decode(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// The largest difference of a level.
pub fn difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// The mean difference of levels.
pub fn mean_difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let sum: f64 = a.pixels.iter().zip(&b.pixels).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / a.pixels.len() as f64
}

/// Panics where two pictures are further apart than parity allows, after writing both and what is between them.
pub fn assert_parity(name: &str, got: &RgbImage, expected: &RgbImage) {
    let (max, mean) = (difference(got, expected), mean_difference(got, expected));
    if max <= 2 && mean <= 0.3 {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let amplified = got.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b).saturating_mul(32)).collect();
    let between = RgbImage::new(got.width, got.height, amplified).unwrap();
    for (kind, picture) in [("got", got), ("expected", expected), ("difference", &between)] {
        std::fs::write(folder.join(format!("{name}-{kind}.png")), encode_png(picture, &[]).unwrap()).unwrap();
    }
    panic!("{name}: levels differ by {max} at most and {mean:.3} on average; see {}", folder.display());
}

/// A picture whose left half has one colour and the other half another.
fn halves(width: usize, height: usize, left: [u8; 3], right: [u8; 3]) -> RgbImage {
    let pixel = |i: usize| if i % width < width / 2 { left } else { right };
    RgbImage::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
}

/// White on the left, black on the right: a mask.
pub fn white_left(width: usize, height: usize) -> RgbImage {
    halves(width, height, [255; 3], [0; 3])
}

/// Red on the left, grey on the right.
pub fn red_half(width: usize, height: usize) -> RgbImage {
    halves(width, height, [200, 0, 0], [90; 3])
}

/// All black: a mask that hides nothing.
pub fn black(width: usize, height: usize) -> RgbImage {
    halves(width, height, [0; 3], [0; 3])
}

/// What a run left on its streams.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Panics with everything there is to see unless the run succeeded.
    pub fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }

    /// Panics unless the run ended with `code` and one line on standard error that has all of `words` in it.
    pub fn was_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.ends_with('\n') && self.stderr.lines().count() == 1, "not one line: {self:?}");
        assert!(self.stderr.starts_with("darkroom: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
        for word in ["panicked", "RUST_BACKTRACE", "src/", "\u{1b}"] {
            assert!(!self.stderr.contains(word), "{word:?} in {}", self.stderr);
        }
    }
}

/// An empty folder that the binary is run in; beside it, outside of sight, an empty Hugging Face cache.
pub struct Desk {
    folder: TempDir,
    cache: TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Desk { folder: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn put(&self, name: &str, picture: &RgbImage) {
        std::fs::write(self.path(name), encode_png(picture, &[]).unwrap()).unwrap();
    }

    pub fn picture(&self, name: &str) -> RgbImage {
        read(&self.path(name))
    }

    /// Everything that lies in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
        for variable in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "http_proxy"]
        {
            command.env_remove(variable);
        }
        // Port 1 is reserved and closed, so every request fails at once.
        command.env("HF_HOME", self.cache.path()).env("HF_ENDPOINT", "http://127.0.0.1:1");
        command.current_dir(self.folder.path()).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// `generate` with the embedded model and out.png, unless `more` says otherwise.
    pub fn generate_args(&self, more: &[&str]) -> Vec<String> {
        let mut args = vec!["generate".to_string()];
        if !more.contains(&"--model") {
            args.extend(["--model".to_string(), model().to_str().unwrap().to_string()]);
        }
        if !more.contains(&"-o") {
            args.extend(["-o".to_string(), "out.png".to_string()]);
        }
        args.extend(more.iter().map(|arg| arg.to_string()));
        args
    }

    pub fn generate(&self, more: &[&str]) -> Run {
        let args = self.generate_args(more);
        self.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A run that must succeed, and its picture.
    pub fn draw(&self, more: &[&str]) -> RgbImage {
        self.generate(more).succeeded();
        self.picture("out.png")
    }

    /// The JSON that `show` prints of a picture.
    pub fn shown(&self, name: &str) -> Value {
        let run = self.run(&["show", name]);
        run.succeeded();
        let json = run.stdout.split_once("\ndarkroom:\n").unwrap_or_else(|| panic!("{}", run.stdout)).1;
        serde_json::from_str(json).unwrap()
    }
}
