//! PyTorch in a process of its own, asked for one thing at a time in JSON lines (tools/kit/peer.py).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

pub struct Peer {
    pub who: String,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it where there is one; else says why not.
    pub fn start() -> Result<Self, String> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let script = variable("DARKROOM_KIT_PEER").ok_or("no script of PyTorch's was given")?;
        let python = variable("DARKROOM_KIT_PYTHON").unwrap_or_else(|| "python3".into());
        let mut child = Command::new(&python)
            .args(["-u", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("{python}: {error}"))?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut peer = Peer { who: String::new(), child, stdin, stdout };
        let first = peer.line()?;
        match first["who"].as_str() {
            Some(who) => peer.who = who.to_owned(),
            None => {
                return Err(format!("PyTorch is left out: {}", first["missing"].as_str().unwrap_or("it said nothing")));
            }
        }
        Ok(peer)
    }

    fn line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        loop {
            line.clear();
            match self.stdout.read_line(&mut line) {
                Ok(0) => return Err("PyTorch's process ended".into()),
                Err(error) => return Err(error.to_string()),
                // Libraries print to stdout what they like.
                Ok(_) if !line.starts_with('{') => continue,
                Ok(_) => return serde_json::from_str(&line).map_err(|error| format!("{error} in {line}")),
            }
        }
    }

    /// One request and its answer; its error is one here.
    pub fn ask(&mut self, request: &Value) -> Result<Value, String> {
        let mut line = request.to_string();
        line.push('\n');
        self.stdin.write_all(line.as_bytes()).and_then(|()| self.stdin.flush()).map_err(|error| error.to_string())?;
        let answer = self.line()?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    /// Seconds of what was loaded: as it is written, and as a CUDA graph.
    pub fn round(&mut self) -> Result<[f64; 2], String> {
        let answer = self.ask(&json!({ "round": true }))?;
        Ok(["secs", "graph_secs"].map(|name| answer[name].as_f64().unwrap_or(f64::NAN)))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends by itself when its input does; a kill covers the case that it hangs.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}
