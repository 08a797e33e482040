//! Clients that other people wrote, from PyPI, spoken to a real server: a virtual environment a client in the user's cache
//! folder, made once, with pinned versions.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server process with the embedded model; it ends when this is dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_darkroom"))
            .args(["serve", "--port", "0", "--model"])
            .arg(root.join("www/hub/darkroom/tiny-emoji/resolve/main"))
            // Where no page lies about.
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split('/').nth(2).unwrap_or_default().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "no address: {line:?}");
        Server { process, address: format!("http://{address}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The interpreter of an environment that has `packages`, or why there can be none.
fn python_with(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let run = |command: &mut Command| -> Result<(), String> {
        let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
    };
    run(Command::new("python3").arg("--version"))?;
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).ok_or("no HOME")?;
    let folder = cache.join("darkroom/clients");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    // Two test processes may want it at once.
    let lock = File::create(folder.join(format!("{name}.lock"))).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    let (environment, wanted) = (folder.join(name), packages.join("\n"));
    let (python, note) = (environment.join("bin/python"), environment.join("packages.txt"));
    if std::fs::read_to_string(&note).is_ok_and(|has| has == wanted)
        && run(Command::new(&python).arg("--version")).is_ok()
    {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    std::fs::write(&note, wanted).map_err(|e| e.to_string())?;
    Ok(python)
}

/// Runs a script of this folder against a server of its own, and prints what it says.
pub fn session(script: &str, name: &str, packages: &[&str]) {
    let python = match python_with(name, packages) {
        Ok(python) => python,
        Err(why) => {
            eprintln!("SKIPPED {script}: it needs python3 with venv and PyPI. {why}");
            return;
        }
    };
    let server = Server::start();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let output = Command::new(python).arg(path).arg(&server.address).output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}{complained}");
    assert!(output.status.success(), "{script}: {}", said.lines().last().unwrap_or_default());
}
