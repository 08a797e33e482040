//! The TypeScript of what crosses to JavaScript, in src/web/types.d.ts: written from the Rust types by a native test, and
//! read by `web` for the generated package. Compiled for that test alone.
//!
//! A type takes part with `#[cfg_attr(test, derive(ts_rs::TS))]`, and is named in [`declarations`] or used by one that is.
//! What serde's attributes do not tell is said by `ts(…)` beside them: above all that an absent `Option` is `undefined`,
//! not `null`.

#[allow(dead_code, reason = "natively only the shapes of these types are of interest")]
#[path = "types.rs"]
mod types;

use std::collections::BTreeMap;

use ts_rs::{Config, TS, TypeVisitor};

use crate::error::{Class, Remedy};

/// What no Rust type describes.
const BY_HAND: &str = r#"/** Pixels as a canvas has them: red, green, blue and alpha. */
export type Pixels = {
  width: number,
  height: number,
  data: Uint8ClampedArray<ArrayBuffer>,
};

/** A picture given: a PNG, JPEG, WebP, GIF, BMP or TIFF file, or pixels as a canvas has them. */
export type GivenPicture = Uint8Array | ImageData | { width: number, height: number, data: Uint8ClampedArray };
"#;

/// Declarations by their names: ts-rs gives dependencies in another order after each compilation.
struct Declarations<'a> {
    config: &'a Config,
    found: BTreeMap<String, String>,
}

impl TypeVisitor for Declarations<'_> {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Numbers, texts and lists of things are declared nowhere; their elements are visited by themselves.
        if T::output_path().is_none() {
            return;
        }
        let name = T::ident(self.config);
        if self.found.contains_key(&name) {
            return;
        }
        let docs = T::docs().unwrap_or_default();
        self.found.insert(name, laid_out(&format!("{docs}export {}", T::decl(self.config))));
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
                let lines: Vec<String> = std::mem::take(&mut comment);
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
                for part in fields_of(line).lines().map(str::trim).filter(|part| !part.is_empty()) {
                    indent = if part.starts_with("export") || part.starts_with('}') { "" } else { "  " };
                    text.push_str(&format!("{indent}{part}\n"));
                    indent = "  ";
                }
            }
        }
    }
    text
}

/// A line with breaks between fields, but not within a tuple.
fn fields_of(line: &str) -> String {
    let mut depth = 0;
    let mut text = String::new();
    for c in line.replace("{ ", "{\n").replace(" }", "\n}").chars() {
        depth += i32::from(c == '[') - i32::from(c == ']');
        text.push(c);
        if c == ',' && depth == 0 {
            text.push('\n');
        }
    }
    text
}

/// All of src/web/types.d.ts.
fn declarations() -> String {
    let config = Config::new().with_large_int("number");
    let mut all = Declarations { config: &config, found: BTreeMap::new() };
    all.visit::<crate::request::Request>();
    all.visit::<crate::run::gpu::Caps>();
    all.visit::<crate::pipeline::plan::Plan>();
    all.visit::<types::PlanRequest>();
    all.visit::<types::LoadSettings>();
    all.visit::<types::ModelInfo>();
    all.visit::<types::VersionInfo>();
    all.visit::<types::Work>();
    all.visit::<types::ChosenPrompts>();
    all.visit::<types::StepReport>();
    all.visit::<types::PictureParameters>();
    all.visit::<types::ModelsSettings>();
    all.visit::<types::ModelReport>();
    all.visit::<types::ExtraNetwork>();
    all.visit::<types::Inspection>();
    all.visit::<types::TransferProgress<'static>>();
    all.visit::<types::DamageReport>();
    all.visit::<types::BenchSettings>();
    all.visit::<types::BenchRun>();
    all.visit::<types::BenchProfile>();
    all.visit::<types::BenchTiles>();
    let head = "// Written by `./build.sh types` from the Rust types; src/web/declarations.rs says how.\n";
    let declared: Vec<String> = all.found.into_values().collect();
    let codes = Class::ALL.map(|class| format!("{:?}", class.code())).join(" | ");
    let needs = Remedy::ALL.map(|remedy| format!("{:?}", remedy.code())).join(" | ");
    let codes = format!(
        "/** What can be done about an error, in a word. `worker` is for errors of the worker itself, and no wasm throws it. */\nexport type ErrorCode = {codes} | \"worker\";\n\n/** What a checkpoint that cannot be used as it is takes to be usable. */\nexport type Need = {needs};\n"
    );
    let failure = "/** What is thrown: `field` names the setting at fault, where it is one. */\nexport interface Failure extends Error {\n  code: Exclude<ErrorCode, \"worker\">;\n  needs?: Need;\n  field?: string;\n}\n";
    format!("{head}\n{}\n{BY_HAND}\n{codes}\n{failure}", declared.join("\n"))
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
    let differs = declared.lines().zip(written.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
    let what = differs.map(|(new, old)| format!("it says {old:?}, the types {new:?}")).unwrap_or_default();
    assert!(written == declared, "src/web/types.d.ts is out of date: run ./build.sh types and commit it\n{what}");
}

/// The page's documentation has a row for each code, and for no other.
#[test]
fn the_documentation_lists_every_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/javascript.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| `code` | what to do |\n|---|---|\n").expect("the table of codes");
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split('`').next());
    let mut documented: Vec<&str> = rows.collect();
    let mut codes: Vec<&str> = Class::ALL.iter().map(|class| class.code()).chain(["worker"]).collect();
    documented.sort_unstable();
    codes.sort_unstable();
    assert_eq!(documented, codes);
}

/// The names of a declaration's fields, sorted.
fn field_names<T: TS>() -> Vec<String> {
    let laid_out = laid_out(&T::decl(&Config::new()));
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let name = |line: &str| Some(line.trim().split_once(": ")?.0.trim_end_matches('?').to_owned());
    let mut names: Vec<String> = laid_out.lines().filter_map(name).filter(|name| is_name(name)).collect();
    names.sort_unstable();
    names
}

/// What a page may send is refused by its name where it is not in these lists.
#[test]
fn the_lists_of_settings_are_whole() {
    let sorted = |fields: &[&str]| {
        let mut fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        fields.sort_unstable();
        fields
    };
    assert_eq!(field_names::<types::LoadSettings>(), sorted(types::LoadSettings::FIELDS));
    assert_eq!(field_names::<types::PlanRequest>(), sorted(types::PlanRequest::FIELDS));
    // A component is loaded whole, whatever it takes.
    let mut of_bench = field_names::<types::BenchSettings>();
    let of_models = ["budget_bytes", "prediction", "clip_merges", "base", "vae", "taesd", "embeddings"];
    of_bench.retain(|name| !of_models.contains(&name.as_str()));
    assert_eq!(of_bench, sorted(types::BenchSettings::FIELDS));
}
