//! PyTorch or burn in a process of its own, asked for one thing at a time in JSON lines (tools/kit/peer.py, tools/peers/burn).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

pub struct Peer {
    name: &'static str,
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
        let configs = variable("DARKROOM_KIT_CONFIGS").unwrap_or_else(|| "src/model/published".into());
        Self::open("PyTorch", Command::new(&python).args(["-u", &script, "--configs", &configs]))
    }

    /// burn's wgpu backend, where the kit has it.
    pub fn burn() -> Result<Self, String> {
        let program = std::env::var("DARKROOM_KIT_BURN").ok().filter(|value| !value.is_empty());
        Self::open("burn", &mut Command::new(program.ok_or("no program of burn's was given")?))
    }

    fn open(name: &'static str, command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut peer = Peer { name, who: String::new(), child, stdin, stdout };
        let first = peer.line()?;
        let Some(who) = first["who"].as_str() else {
            let why = first["missing"].as_str().or(first["error"].as_str()).unwrap_or("it said nothing");
            return Err(format!("{name} is left out: {why}"));
        };
        peer.who = first["adapter"].as_str().map_or_else(|| who.to_owned(), |adapter| format!("{who} on {adapter}"));
        Ok(peer)
    }

    fn line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        loop {
            line.clear();
            match self.stdout.read_line(&mut line) {
                Ok(0) => return Err(format!("{}'s process ended", self.name)),
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

    /// Whether its process is over, as where a driver crashed in it.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
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
