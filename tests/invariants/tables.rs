//! What may be used where: the tables that the scan compares `src/` with.

/// Words that only some files may use: the words, the files or folders, and the reason.
pub const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (
        &[
            "js_sys",
            "web_sys",
            "wasm_bindgen",
            "wasm_bindgen_futures",
            "serde_wasm_bindgen",
            "console_error_panic_hook",
        ],
        &["web/", "hub/web.rs", "store/indexed_db"],
        "only web/, hub/web.rs and store/indexed_db know JavaScript",
    ),
    (&["wgpu", "naga"], &["run/gpu/"], "only run/gpu/ knows wgpu"),
    (&["candle_core", "candle_nn", "candle_transformers"], &["run/candle/"], "only run/candle/ knows candle"),
    (
        &["ModelLoader", "ModelComponents", "CandleRunner", "GpuRunner"],
        &["run/", "pipeline/", "engine.rs", "engine/", "bench.rs", "bench/", "web/bench.rs", "lib.rs"],
        "the command line, the server and the page draw through engine",
    ),
];

/// The modules that compute and nothing else.
pub const PURE: &[&str] =
    &["json", "model", "graph", "sampler", "request", "prompt", "tokenizer", "rng", "image", "parameters"];

/// What a pure module may not name below `std`.
pub const IMPURE_STD: &[&str] = &["fs", "net", "env", "process", "thread", "time"];

/// What a pure module may not say at all.
pub const IMPURE_WORDS: &[&str] =
    &["async", "await", "stdin", "stdout", "stderr", "println", "eprintln", "print", "eprint"];

/// Each module and the modules it may use, lowest first. A module uses only modules above its own line, so the table
/// cannot describe a cycle.
pub const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("json", &[]),
    ("rng", &["error"]),
    ("image", &["error"]),
    ("tokenizer", &["error", "json"]),
    ("prompt", &["error", "tokenizer"]),
    ("store", &["error"]),
    ("graph", &["error"]),
    ("weights", &["error", "store", "graph"]),
    ("model", &["error", "json", "graph", "weights"]),
    ("sampler", &["error", "json", "model"]),
    ("request", &["error", "rng", "image", "prompt", "model", "sampler"]),
    ("parameters", &["error", "rng", "image", "prompt", "weights", "sampler", "request"]),
    ("hub", &["error", "json", "store", "graph", "weights", "model"]),
    ("run", &["error", "graph", "weights"]),
    (
        "pipeline",
        &[
            "error",
            "rng",
            "image",
            "tokenizer",
            "prompt",
            "store",
            "graph",
            "weights",
            "model",
            "sampler",
            "request",
            "hub",
            "run",
            "parameters",
        ],
    ),
    (
        "checkpoint",
        &["error", "json", "tokenizer", "graph", "weights", "model", "sampler", "request", "hub", "run", "pipeline"],
    ),
    (
        "engine",
        &[
            "error",
            "image",
            "weights",
            "model",
            "sampler",
            "request",
            "prompt",
            "hub",
            "run",
            "parameters",
            "pipeline",
            "checkpoint",
        ],
    ),
    ("bench", &["error", "graph", "weights", "model", "run"]),
    ("prelude", &["error", "image", "tokenizer", "model", "sampler", "request", "hub", "pipeline", "engine"]),
    ("web", BY_FRONT_ENDS),
    ("bin", BY_FRONT_ENDS),
];

/// What the page and the command line use.
const BY_FRONT_ENDS: &[&str] = &[
    "error",
    "rng",
    "image",
    "tokenizer",
    "prompt",
    "store",
    "graph",
    "weights",
    "model",
    "sampler",
    "request",
    "hub",
    "checkpoint",
    "run",
    "pipeline",
    "engine",
    "bench",
    "parameters",
];

/// Folders with an order of their own: the folder's path, and its modules, lowest first. A module uses none that stands
/// behind it, however the path is spelled; modules in one row may use each other.
pub const ORDERS: &[(&[&str], &[&[&str]])] = &[
    (&["run"], &[&["cpu"], &["candle", "gpu"]]),
    (
        &["run", "gpu"],
        &[
            &["kernel", "weight_layout", "arena", "bands"],
            &["fusing"],
            &["emit"],
            &["kernels"],
            &["lower"],
            &["program"],
            &["caps", "ledger", "instance"],
            &["readback", "profile", "proof", "buffer", "faults", "compiler", "recorder"],
            &["runner"],
        ],
    ),
    (
        &["run", "gpu", "kernels"],
        &[&["sampling", "subgroups"], &["elementwise"], &["layer_norm"], &["products"], &["attention", "group_norm"]],
    ),
];

#[test]
fn the_table_of_modules_has_no_cycle() {
    for (i, (name, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            assert!(MAY_USE[..i].iter().any(|(earlier, _)| earlier == used), "{name} uses {used}, which comes later");
        }
    }
}
