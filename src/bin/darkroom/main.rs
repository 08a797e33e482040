//! The command line: `darkroom generate`, `plan`, `inspect`, `show`, `models`, `download` and `serve`.
//!
//! Exit codes: 0 done, 2 a request that cannot be drawn, 3 a model that cannot be loaded, 4 a device that failed, 5 a file
//! that cannot be read or written, 130 stopped by Ctrl-C. Errors are one line on standard error.

// `wasm-pack test` compiles every target for the browser, where there is no command line.
#![cfg_attr(target_arch = "wasm32", no_main)]
#![cfg(not(target_arch = "wasm32"))]
#![deny(clippy::unwrap_used)]

mod bar;
mod convert;
mod engine_args;
mod generate;
mod inspect;
mod logger;
mod loras;
mod model_args;
mod models;
mod numbers;
mod output_file;
mod part_file;
mod plan;
mod random;
mod serve;
mod show;
mod source;
mod tiles_folder;
mod visible;
mod wildcards;

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};
use darkroom::error::Class;
use darkroom::{Error, Result};
use visible::{visible, visible_json, visible_line};

/// Stable Diffusion on this machine: prompts and pictures stay here.
#[derive(Parser)]
#[command(name = "darkroom", version, after_help = EXIT_CODES)]
struct Cli {
    /// Tell what is done; twice: in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 2 a request that cannot be drawn, 3 a model that cannot be loaded, \
    4 a device that failed, 5 a file that cannot be read or written, 130 stopped by Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    /// Draw pictures from text, from a picture, or into the masked part of one.
    Generate(Box<generate::Args>),
    /// Tell what a picture will ask of a GPU, without drawing it: memory, work, whether it fits.
    Plan(plan::Args),
    /// Tell what a file, a folder or a repository is, by its headers: family, components, prediction, LoRA, whether it fits.
    Inspect(inspect::Args),
    /// Print the parameters that a picture carries.
    Show(show::Args),
    /// List the versions with their sizes, and whether they are in the cache.
    Models(models::ListArgs),
    /// Bring a model into the cache.
    Download(models::DownloadArgs),
    /// Write a model in another layout: a diffusers folder, one safetensors file, or GGUF.
    Convert(convert::Args),
    /// Serve the page, and an HTTP API, on this machine.
    Serve(serve::Args),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.get(1).is_some_and(|command| command == "generate")
        && let Some(message) = generate::forgotten_text(&args)
    {
        complain(&message);
        return ExitCode::from(2);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    logger::install(cli.verbose);
    let result = match cli.command {
        Command::Generate(args) => generate::run(*args),
        Command::Plan(args) => plan::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Models(args) => models::list(&args),
        Command::Download(args) => models::download(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Serve(args) => serve::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    complain(&match error {
        Error::Io { path, source } => format!("{path}: {}", of_the_system(source)),
        other => other.to_string(),
    });
    ExitCode::from(exit_code(error))
}

/// What the system says of a file, without its number for it.
fn of_the_system(error: &std::io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        (_, None) => error.to_string(),
        (ErrorKind::NotFound, _) => "there is no such file or folder".to_owned(),
        (ErrorKind::PermissionDenied, _) => "this user may not open it, or not write there".to_owned(),
        (ErrorKind::IsADirectory, _) => "this is a folder: give a file".to_owned(),
        (_, Some(number)) => error.to_string().replace(&format!(" (os error {number})"), ""),
    }
}

/// One line on standard error, whatever a file's name or a library's message has in it.
fn complain(message: &str) {
    let parts: Vec<&str> = message.split(['\n', '\r', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect();
    eprintln!("darkroom: {}", visible(&parts.join(" ")));
}

/// What the parser of arguments says, as one line with what the argument takes; help and version as they are.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(u8::MAX);
    let text = error.to_string();
    let Some(text) = text.strip_prefix("error: ") else {
        return match error.print() {
            Ok(()) => ExitCode::from(code),
            // A reader that has gone, as `head` goes, has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(code),
            Err(error) => fail(&Error::io(Path::new("standard output"), error)),
        };
    };
    let text = text.split("\n\nUsage:").next().unwrap_or(text).replace("For more information, try '--help'.", "");
    let parts: Vec<&str> = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty()).collect();
    let mut message = parts.join("; ");
    if let Some((start, reason)) = message.rsplit_once("': ")
        && let Some(plain) = numbers::in_plain_words(reason)
    {
        message = format!("{start}': {plain}");
    }
    let mut command = Cli::command();
    // Arguments have no names to print before.
    command.build();
    let called = std::env::args_os().skip(1).find_map(|name| command.find_subcommand(name));
    if let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) {
        let mut arguments = called.into_iter().flat_map(clap::Command::get_arguments);
        if let Some(help) = arguments.find_map(|a| (a.to_string() == *arg).then(|| a.get_help()).flatten()) {
            message += &format!(" ({help})");
        }
    }
    complain(&format!("{message}; see also darkroom help"));
    ExitCode::from(code)
}

/// Prints a line on standard output, with what a terminal would act on, or what would end the line, made visible. A reader
/// that has gone, as `head` goes, is no fault.
///
/// # Errors
/// [`Error::Io`] when the line cannot be written for another reason.
fn print_line(line: impl Display) -> Result<()> {
    print(&visible_line(&line.to_string()))
}

/// Prints two texts with a tab between them, as [`print_line`] prints.
///
/// # Errors
/// As [`print_line`].
fn print_pair(first: impl Display, second: impl Display) -> Result<()> {
    print(&format!("{}\t{}", visible_line(&first.to_string()), visible_line(&second.to_string())))
}

/// Prints a text of several lines, otherwise as [`print_line`] prints.
///
/// # Errors
/// As [`print_line`].
fn print_text(text: impl Display) -> Result<()> {
    print(&visible(&text.to_string()))
}

/// Prints JSON on standard output, as [`print_line`] prints.
///
/// # Errors
/// As [`print_line`].
fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&visible_json(&value.to_string()))
}

fn print(line: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io(Path::new("standard output"), error)),
        _ => Ok(()),
    }
}

fn exit_code(error: &Error) -> u8 {
    match error.class() {
        Class::Request => 2,
        Class::Model | Class::Network => 3,
        Class::Device | Class::Memory | Class::Lost => 4,
        Class::Picture | Class::File | Class::Storage => 5,
        Class::Cancelled => 130,
    }
}
