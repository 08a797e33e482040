//! A test binary run on this machine: how many tests pass, and the first difference in time.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::{Options, Outcome};

/// Lines of a panic that are kept.
const N_LINES: usize = 6;

/// Characters of one of them.
const MAX_CHARS: usize = 400;

pub fn run(options: &Options, binary: &str, arguments: &[&str]) -> Outcome<()> {
    // As it happens, not when all are done: what is killed has said what it found.
    let mut child = Command::new(binary)
        .arg("--nocapture")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{binary}: {error}"))?;
    let stderr = child.stderr.take().ok_or("no stderr")?;
    let first = std::thread::spawn(move || {
        let (mut first, mut wanted): (Vec<String>, usize) = (Vec::new(), 0);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let line: String = line.chars().take(MAX_CHARS).collect();
            if line.contains("panicked at") && first.is_empty() {
                println!("  the first difference:");
                wanted = N_LINES;
            }
            if wanted > 0 {
                println!("    {line}");
                first.push(line);
                wanted -= 1;
            }
        }
        first
    });
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            continue;
        };
        println!("  {line}");
        if result == "ok" { passed.push(name.to_owned()) } else { failed.push(name.to_owned()) }
    }
    let status = child.wait()?;
    let first = first.join().unwrap_or_default();
    let name = binary.rsplit('/').next().unwrap_or(binary);
    println!(
        "{name}: {} passed, {} failed{}",
        passed.len(),
        failed.len(),
        failed.iter().map(|name| format!(" {name}")).collect::<String>()
    );
    options.rows.add(
        "parity",
        json!({ "binary": name, "passed": passed, "failed": failed, "first_difference": first, "status": status.code() }),
    );
    if !status.success() {
        return Err(format!("{name} failed: {}", first.join(" ")).into());
    }
    if passed.is_empty() {
        return Err(format!("{name} ran no test").into());
    }
    Ok(())
}
