//! Figures side by side: a table for people and a JSON file for the record.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

/// How many timed rounds there are after the first, unless `DARKROOM_ROUNDS` says otherwise.
pub fn n_rounds(usual: usize) -> usize {
    std::env::var("DARKROOM_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual).max(1)
}

/// Whether `DARKROOM_CASES` has the name, where it has any.
pub fn is_wanted(name: &str) -> bool {
    is_listed("DARKROOM_CASES", name)
}

/// Whether a variable has the name between commas, where it is set.
pub fn is_listed(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |wanted| wanted.split(',').any(|wanted| wanted == name))
}

/// Where `./build.sh setup peers` puts other programs.
pub fn peers_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("DARKROOM_PEERS") {
        return folder.into();
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    cache.join("darkroom/peers")
}

/// The Python that has PyTorch and diffusers.
pub fn peers_python() -> Option<PathBuf> {
    let named = std::env::var_os("DARKROOM_PYTHON").map(PathBuf::from);
    named.or_else(|| Some(peers_folder().join("venv/bin/python"))).filter(|python| python.is_file())
}

/// One of several that do the same work in turn.
#[derive(Clone, Debug)]
pub struct Contender {
    pub who: String,
    /// The first run, which compiles.
    pub first: f64,
    /// The runs after it, in the order of the rounds.
    pub secs: Vec<f64>,
    /// Anything else worth keeping.
    pub details: Map<String, Value>,
}

impl Contender {
    pub fn new(who: impl Into<String>) -> Self {
        Contender { who: who.into(), first: f64::NAN, secs: Vec::new(), details: Map::new() }
    }

    /// Takes the next run's seconds.
    pub fn took(&mut self, secs: f64) {
        if self.first.is_nan() { self.first = secs } else { self.secs.push(secs) }
    }

    /// Minimum, median, maximum.
    pub fn spread(&self) -> [f64; 3] {
        spread(&self.secs)
    }
}

pub fn spread(figures: &[f64]) -> [f64; 3] {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => [f64::NAN; 3],
        sorted => [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]],
    }
}

/// Seconds in three digits, whatever their size.
pub fn duration(secs: f64) -> String {
    match secs {
        s if s.is_nan() => "-".into(),
        s if s >= 100.0 => format!("{s:.0} s"),
        s if s >= 10.0 => format!("{s:.1} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} µs", s * 1e6),
    }
}

/// What one bench found.
pub struct Report {
    name: &'static str,
    facts: Map<String, Value>,
    rows: Vec<Value>,
    notes: Vec<&'static str>,
}

impl Report {
    /// Names the machine and the versions.
    pub fn start(name: &'static str) -> Self {
        let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(": ")?.1.to_owned())
        });
        let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.into());
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let git = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok();
        let commit = git.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        println!("{name}: darkroom {version} ({commit}), {processor}, {n_threads} threads");
        let mut report = Report { name, facts: Map::new(), rows: Vec::new(), notes: Vec::new() };
        report.fact("darkroom", json!({ "version": version, "commit": commit }));
        report.fact("machine", json!({ "processor": processor, "threads": n_threads, "os": std::env::consts::OS }));
        let secs = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        report.fact("unix_time", json!(secs.map_or(0, |secs| secs.as_secs())));
        report
    }

    /// Something that all figures depend on.
    pub fn fact(&mut self, name: &str, value: Value) {
        self.facts.insert(name.into(), value);
    }

    /// Which adapter computes; where it is a processor, what its figures do not mean is said in the end.
    pub fn adapter(&mut self, name: &str, software: bool) {
        println!("adapter: {name}{}", if software { " (software)" } else { "" });
        self.fact("adapter", json!({ "name": name, "software": software }));
        if software {
            self.notes.push(
                "This is a software adapter: its times tell who asks for less work on that processor; they \
                 tell nothing of tile choice, 16-bit or subgroup gains, bandwidth, or parts of a peak on a GPU. Counts of \
                 dispatches, submits, buffers and bytes are the same on any adapter.",
            );
        }
    }

    /// Something that a reader must know to read the figures.
    pub fn note(&mut self, text: &'static str) {
        self.notes.push(text);
    }

    /// A table of contenders on the same work, ours first: the others' median over ours says how much faster ours is, with
    /// the smallest and largest such ratio within one round.
    pub fn versus(&mut self, what: &str, flops: f64, contenders: &[Contender]) {
        let Some(ours) = contenders.first() else { return };
        println!("\n{what}: {:.2} GFLOP", flops / 1e9);
        println!(
            "  {:<34} {:>9} {:>9} {:>9} {:>9} {:>8}  our speed to theirs",
            "", "first", "min", "median", "max", "GFLOP/s"
        );
        for contender in contenders {
            let [least, median, most] = contender.spread();
            let ratio = if std::ptr::eq(contender, ours) {
                String::new()
            } else {
                let pairs: Vec<f64> =
                    ours.secs.iter().zip(&contender.secs).map(|(ours, theirs)| theirs / ours).collect();
                let [low, _, high] = spread(&pairs);
                format!("{:.2} ({low:.2} to {high:.2})", median / ours.spread()[1])
            };
            println!(
                "  {:<34} {:>9} {:>9} {:>9} {:>9} {:>8.1}  {ratio}",
                contender.who,
                duration(contender.first),
                duration(least),
                duration(median),
                duration(most),
                flops / median / 1e9
            );
            let mut row = contender.details.clone();
            row.insert("what".into(), json!(what));
            row.insert("who".into(), json!(contender.who));
            row.insert("flops".into(), json!(flops));
            row.insert("first_secs".into(), json!(contender.first));
            row.insert("secs".into(), json!(contender.secs));
            row.insert("our_speed_to_theirs".into(), json!(median / ours.spread()[1]));
            self.rows.push(Value::Object(row));
        }
    }

    /// A row that stands beside no other.
    pub fn row(&mut self, row: Value) {
        self.rows.push(row);
    }

    /// Writes the file and says what the figures do not mean.
    pub fn finish(self) {
        println!();
        for note in &self.notes {
            println!("{note}");
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let folder = target.join("bench");
        let file = folder.join(format!("{}.json", self.name));
        let text = json!({ "bench": self.name, "facts": self.facts, "notes": self.notes, "rows": self.rows });
        let text = serde_json::to_string_pretty(&text).expect("plain values");
        match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, text)) {
            Ok(()) => println!("written to {}", file.display()),
            Err(error) => eprintln!("{}: {error}", file.display()),
        }
    }
}
