//! The TypeScript of what crosses to JavaScript, in src/web/types.d.ts: written from the Rust types by a native test, and
//! read by `web` for the generated package. Compiled for that test alone.
//!
//! A type takes part with `#[cfg_attr(test, derive(ts_rs::TS))]`, and is named in [`declarations`] or used by one that is.
//! What serde's attributes do not tell is said by `ts(…)` beside them: above all that an absent `Option` is `undefined`,
//! not `null`.

#[allow(dead_code, reason = "natively only the shapes of these types are of interest")]
#[path = "types.rs"]
mod types;

use std::collections::BTreeSet;

use ts_rs::{Config, TS, TypeVisitor};

/// What no Rust type describes.
const BY_HAND: &str = r#"/** Pixels as a canvas has them: red, green, blue and alpha. */
export type Pixels = {
  width: number,
  height: number,
  data: Uint8ClampedArray<ArrayBuffer>,
};

/** A picture given: a PNG, JPEG, WebP, GIF, BMP or TIFF file, or pixels as a canvas has them. */
export type GivenPicture = Uint8Array | ImageData | { width: number, height: number, data: Uint8ClampedArray };

/** What is thrown: `code` says what a page can do about it. */
export interface Failure extends Error {
  code: "request" | "model" | "device" | "memory" | "lost" | "storage" | "picture" | "cancelled";
}
"#;

/// The text so far, and the names that are in it.
struct Declarations<'a> {
    config: &'a Config,
    text: String,
    names: BTreeSet<String>,
}

impl TypeVisitor for Declarations<'_> {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Numbers, texts and lists of things are declared nowhere; their elements are visited by themselves.
        if T::output_path().is_none() || !self.names.insert(T::ident(self.config)) {
            return;
        }
        let docs = T::docs().unwrap_or_default();
        self.text.push_str(&laid_out(&format!("{docs}export {}", T::decl(self.config))));
        self.text.push('\n');
        T::visit_dependencies(self);
    }
}

/// A declaration with one field a line, without the links of rustdoc, which mean nothing there.
fn laid_out(declaration: &str) -> String {
    let mut text = String::new();
    let (mut comment, mut indent) = (Vec::new(), "");
    for line in declaration.lines().map(str::trim) {
        match line.strip_prefix('*') {
            Some("/") => {
                let lines: Vec<String> = comment.drain(..).collect();
                text.push_str(&match lines.as_slice() {
                    [line] => format!("{indent}/** {line} */\n"),
                    lines => {
                        format!("{indent}/**\n{indent} * {}\n{indent} */\n", lines.join(&format!("\n{indent} * ")))
                    }
                });
            }
            Some(words) => comment.push(words.trim().replace("[`", "`").replace("`]", "`")),
            None if line == "/**" => {}
            None => {
                for part in line.replace("{ ", "{\n").replace(", ", ",\n").replace(" }", "\n}").lines().map(str::trim) {
                    indent = if part.starts_with("export") || part.starts_with('}') { "" } else { "  " };
                    text.push_str(&format!("{indent}{part}\n"));
                    indent = "  ";
                }
            }
        }
    }
    text
}

/// All of src/web/types.d.ts.
fn declarations() -> String {
    let config = Config::new().with_large_int("number");
    let text = "// Written by `./build.sh types` from the Rust types; src/web/declarations.rs says how.\n\n".to_owned();
    let mut found = Declarations { config: &config, text, names: BTreeSet::new() };
    found.visit::<crate::request::Request>();
    found.visit::<crate::run::gpu::Caps>();
    found.visit::<crate::pipeline::plan::Plan>();
    found.visit::<types::PlanRequest>();
    found.visit::<types::LoadSettings>();
    found.visit::<types::ModelInfo>();
    found.visit::<types::VersionInfo>();
    found.visit::<types::Work>();
    found.visit::<types::StepReport>();
    found.visit::<types::PictureParameters>();
    found.visit::<types::ModelsSettings>();
    found.visit::<types::ModelReport>();
    found.visit::<types::TransferProgress<'static>>();
    found.visit::<types::DamageReport>();
    found.visit::<types::BenchSettings>();
    found.visit::<types::BenchRun>();
    found.visit::<types::BenchProfile>();
    found.visit::<types::BenchTiles>();
    found.text + BY_HAND
}

/// Compares the file with the types; with `DARKROOM_WRITE_TYPES` set, as `./build.sh types` does, it is written instead.
#[test]
fn typescript_declarations_are_those_of_the_rust_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/types.d.ts");
    let declared = declarations();
    if std::env::var_os("DARKROOM_WRITE_TYPES").is_some() {
        std::fs::write(path, &declared).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == declared, "src/web/types.d.ts is out of date: run ./build.sh types and commit it\n{declared}");
}
