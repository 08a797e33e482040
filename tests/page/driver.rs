//! A WebDriver server as a process of its own: it chooses its port, is started again where it cannot start, and what it
//! says is kept for the message of a failure.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

/// How often a driver, or the browser behind it, is started before a test gives up.
///
/// One start is not enough. chromedriver takes a free IPv4 port and then the same number on IPv6, where another program
/// may have it: "bind() failed: Address already in use". geckodriver looks for a free port and leaves it to Firefox to take
/// it, a moment later.
const N_STARTS: u32 = 5;

/// How long a driver may take to print its port.
const START: Duration = Duration::from_secs(60);

/// How long to wait before the next start: what is in the way may be gone by then.
const BETWEEN_STARTS: Duration = Duration::from_secs(1);

/// As many of its last lines are kept.
const N_LINES: usize = 60;

type Lines = Arc<Mutex<VecDeque<String>>>;

/// Starts something again until it comes up, and says why it did not.
pub fn until_it_starts<T>(mut start: impl FnMut() -> Result<T, String>) -> T {
    let mut refusals = String::new();
    for n in 1..=N_STARTS {
        match start() {
            Ok(started) => return started,
            Err(refusal) => {
                let refusal = format!("start {n} of {N_STARTS}: {refusal}\n");
                eprint!("{refusal}");
                refusals += &refusal;
            }
        }
        std::thread::sleep(BETWEEN_STARTS);
    }
    panic!("no browser could be started\n{refusals}");
}

/// A driver that listens. It ends when it is dropped.
pub struct Driver {
    process: Child,
    lines: Lines,
    pub port: u16,
    /// Where the driver and its browser write, profiles of a hundred megabytes among it, which neither deletes when it is
    /// killed.
    _temporary: TempDir,
}

impl Driver {
    /// Starts a driver that was told to choose its port and prints it behind `before_port`. The error says why it did not
    /// come up, with all that it printed.
    pub fn start(name: &str, arguments: &[&str], before_port: &'static str) -> Result<Self, String> {
        let temporary = tempfile::tempdir().map_err(|e| format!("no temporary folder for {name}: {e}"))?;
        let mut process = Command::new(name)
            .args(arguments)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}; `./build.sh setup` installs it"));
        let lines = Lines::default();
        let (found, port) = mpsc::channel();
        if let Some(pipe) = process.stdout.take() {
            read(pipe, before_port, Arc::clone(&lines), found.clone());
        }
        if let Some(pipe) = process.stderr.take() {
            read(pipe, before_port, Arc::clone(&lines), found);
        }
        let mut driver = Driver { process, lines, port: 0, _temporary: temporary };
        // A driver that ends closes its pipes, and then nobody is left to send a port.
        match port.recv_timeout(START) {
            Ok(port) => driver.port = port,
            Err(why) => return Err(format!("{name} did not print its port ({why})\n{}", driver.last_lines())),
        }
        Ok(driver)
    }

    /// What it printed last.
    pub fn last_lines(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("    {line}\n")).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // This must not panic, because a failing test may be the reason.
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("could not end the driver: {error}");
        }
    }
}

/// Reads to the end in a thread: a driver whose output nobody reads stops when the pipe is full.
fn read(pipe: impl Read + Send + 'static, before_port: &'static str, lines: Lines, found: Sender<u16>) {
    std::thread::spawn(move || {
        let mut found = Some(found);
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let port = line.split_once(before_port).and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
            if let Some(port) = port
                && let Some(found) = found.take()
            {
                // Whoever asked may have given up.
                found.send(port).ok();
            }
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == N_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

#[cfg(all(test, unix))]
mod tests {
    /// A driver that loses the race for its port twice, as chromedriver says it, and then listens.
    #[test]
    fn a_driver_that_cannot_start_is_started_again() {
        // Not above, because benches compile this module without its tests.
        use super::{Driver, until_it_starts};

        let folder = tempfile::tempdir().expect("a folder");
        // What it leaves in its temporary folder goes with it.
        let script = "mktemp -d >>\"$0/left\"; echo x >>\"$0/starts\"
            if [ $(wc -l <\"$0/starts\") -le 2 ]; then echo 'bind() failed: Address already in use' >&2; exit 1; fi
            echo 'started successfully on port 12345.'; exec sleep 60";
        let folder = folder.path().display().to_string();
        let start = || Driver::start("sh", &["-c", script, &folder], "started successfully on port ");
        let refusal = start().err().expect("the first start fails");
        assert!(refusal.contains("    bind() failed: Address already in use\n"), "{refusal}");
        let driver = until_it_starts(start);
        assert_eq!(driver.port, 12345);
        let left = std::fs::read_to_string(format!("{folder}/left")).expect("a file");
        let left: Vec<_> = left.lines().map(std::path::Path::new).collect();
        assert_eq!(left.iter().map(|folder| folder.is_dir()).collect::<Vec<_>>(), [false, false, true]);
        drop(driver);
        assert!(!left[2].exists());
        let starts = std::fs::read_to_string(format!("{folder}/starts")).expect("a file");
        assert_eq!(starts.lines().count(), 3);
    }
}
