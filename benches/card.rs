//! What one graphics card does with Darkroom, for a machine that is borrowed for minutes: `./build.sh kit` packs it with a
//! script that runs the most telling things first. Every subcommand is a process of its own with a time limit of its own,
//! prints as it goes and adds rows to a file of JSON lines, so that whatever ends early leaves what it found.
//!
//! `card facts|parity|steps|ops|weights|load|faults|compare|note|collect`; see [`USAGE`].

#[path = "card/collect.rs"]
mod collect;
#[path = "card/compare.rs"]
mod compare;
#[path = "card/facts.rs"]
mod facts;
#[path = "card/faults.rs"]
mod faults;
#[path = "card/load.rs"]
mod load;
#[path = "card/models.rs"]
mod models;
#[path = "card/ops.rs"]
mod ops;
#[path = "card/parity.rs"]
mod parity;
#[path = "common/peak.rs"]
mod peak;
#[path = "card/peer.rs"]
mod peer;
#[path = "common/report.rs"]
mod report;
#[path = "card/rows.rs"]
mod rows;
#[path = "card/steps.rs"]
mod steps;
#[path = "common/weight_types.rs"]
mod weight_types;

use std::path::Path;
use std::time::{Duration, Instant};

use darkroom::run::gpu::{Caps, Element, Gpu};
use rows::Rows;

/// Seconds that a subcommand may take where none are given.
const DEFAULT_SECS: u64 = 60;

const USAGE: &str = "\
card facts                          adapters, limits, features, what the card does at most
card parity BINARY [ARGUMENT …]     a test binary: what passes, and the first difference
card steps MODEL[,MODEL] f16|f32|f16,f32  components, timed beside PyTorch where that is: time, memory, counts, profile
card ops MODEL f16|f32              its operations one by one beside PyTorch's and burn's
card weights MODEL f16|f32          a component with weights in f16, q8_0, q4_0 and f32, in turn
card load FOLDER                    bytes a second from a file in the folder to the card
card faults memory|loss             what running out of memory and losing the device look like
card compare A.png B.png LEVELS     how far apart two pictures are; fails if that is more than LEVELS
card note KIND NAME VALUE           a row of somebody else's
card collect ROWS KIT.json          the rows of all of these as one JSON file
card summary ROWS                   their steps as a table

--rows FILE    where rows are added [default: nowhere]     --tiles FILE   where measured tiles are kept
--secs N       seconds to take at most, about [default: 60]
--plain        without cooperative matrices
DARKROOM_KIT_PYTHON, DARKROOM_KIT_PEER and DARKROOM_KIT_CONFIGS name a Python with PyTorch, the script peer.py and a copy
of src/model/published; DARKROOM_KIT_BURN the program of tools/peers/burn.";

/// What all subcommands are given.
pub struct Options {
    pub rows: Rows,
    pub tiles: Option<String>,
    /// Without cooperative matrices.
    pub plain: bool,
    pub deadline: Instant,
}

impl Options {
    /// Whether there is a part of the time left.
    pub fn has_time(&self) -> bool {
        Instant::now() < self.deadline
    }
}

fn main() -> std::process::ExitCode {
    let mut words = Vec::new();
    let mut options = Options { rows: Rows::nowhere(), tiles: None, plain: false, deadline: Instant::now() };
    let mut secs = DEFAULT_SECS;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What `cargo bench` adds.
            "--bench" => {}
            "--rows" => options.rows = Rows::to(&arguments.next().unwrap_or_default()),
            "--plain" => options.plain = true,
            "--tiles" => options.tiles = arguments.next(),
            // What follows is a test binary's.
            "--" => words.extend(arguments.by_ref()),
            "--secs" => secs = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(secs),
            _ => words.push(argument),
        }
    }
    options.deadline += Duration::from_secs(secs);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = pollster::block_on(async {
        match words[..] {
            ["facts"] => facts::run(&options).await,
            ["parity", binary, ref rest @ ..] => parity::run(&options, binary, rest),
            ["steps", model, elements] => steps::run(&options, model, &elements_of(elements)?).await,
            ["ops", model, element] => ops::run(&options, model, elements_of(element)?[0]).await,
            ["weights", name, element] => weights(&options, name, elements_of(element)?[0]).await,
            ["load", folder] => load::run(&options, Path::new(folder)).await,
            ["faults", "memory"] => faults::memory(&options).await,
            ["faults", "loss"] => faults::loss(&options).await,
            ["compare", a, b, allowed] => compare::run(&options, Path::new(a), Path::new(b), allowed.parse()?),
            ["note", kind, name, value] => {
                options.rows.add(kind, serde_json::json!({ "name": name, "said": value }));
                Ok(())
            }
            ["summary", rows] => collect::summary(Path::new(rows)),
            ["collect", rows, file] => collect::run(Path::new(rows), Path::new(file)),
            [] => {
                println!("{USAGE}");
                Ok(())
            }
            _ => Err(USAGE.into()),
        }
    });
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error}");
            options.rows.add("error", serde_json::json!({ "command": words.join(" "), "error": error.to_string() }));
            std::process::ExitCode::FAILURE
        }
    }
}

/// One component with its weights held in each type.
async fn weights(options: &Options, name: &str, element: Element) -> Outcome<()> {
    let model = models::model(name)?;
    let plain = if options.plain { ", without cooperative matrices" } else { "" };
    println!("{name}: {}, {element:?}{plain}", model.what);
    let open = async || {
        let mut gpu = Gpu::open_with_matrices().await?;
        if options.plain {
            gpu.caps.matrices = None;
        }
        Ok(gpu)
    };
    let most = 20;
    let goes_on =
        |caps: &Caps, round| round < steps::min_rounds(caps) || (!caps.software && round < most && options.has_time());
    let rows = weight_types::compare(&model.case, element, open, goes_on).await?;
    options.rows.add(
        "weights",
        serde_json::json!({ "model": name, "element": format!("{element:?}"), "plain": options.plain, "types": rows }),
    );
    Ok(())
}

/// Any error; each is printed and becomes a row.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn elements_of(text: &str) -> Outcome<Vec<Element>> {
    let element = |name| match name {
        "f16" => Ok(Element::F16),
        "f32" => Ok(Element::F32),
        _ => Err(format!("{name} is neither f16 nor f32")),
    };
    Ok(text.split(',').map(element).collect::<Result<Vec<_>, _>>()?)
}
