//! The command line: `darkroom generate`, `show`, `models` and `download`.
//!
//! Exit codes: 0 done, 2 a request that cannot be drawn, 3 a model that cannot be loaded, 4 a device that failed, 5 a file
//! that cannot be read or written, 130 stopped by Ctrl-C. Errors are one line on standard error.

mod bar;
mod generate;
mod models;
mod show;
mod source;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use darkroom::Error;

/// Stable Diffusion on this machine: prompts and pictures stay here.
#[derive(Parser)]
#[command(name = "darkroom", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 2 a request that cannot be drawn, 3 a model that cannot be loaded, \
    4 a device that failed, 5 a file that cannot be read or written, 130 stopped by Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    /// Draw pictures from text, from a picture, or into the masked part of one.
    Generate(Box<generate::Args>),
    /// Print the parameters that a picture carries.
    Show(show::Args),
    /// List the versions with their sizes, and whether they are in the cache.
    Models(models::ListArgs),
    /// Bring a model into the cache.
    Download(models::DownloadArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Generate(args) => generate::run(*args),
        Command::Show(args) => show::run(&args),
        Command::Models(args) => models::list(&args),
        Command::Download(args) => models::download(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("darkroom: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Request { .. } => 2,
        Error::Config { .. }
        | Error::Safetensors { .. }
        | Error::TensorMissing { .. }
        | Error::TensorSurplus { .. }
        | Error::TensorShape { .. }
        | Error::TensorDtype { .. }
        | Error::Shape { .. }
        | Error::Tokenizer { .. }
        | Error::Hub { .. } => 3,
        Error::Device { .. } | Error::Run { .. } | Error::NotFinite { .. } => 4,
        Error::Image { .. } | Error::Io { .. } => 5,
        Error::Cancelled => 130,
    }
}
