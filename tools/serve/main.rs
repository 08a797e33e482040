//! Serves a folder to this machine's browser: `serve <folder> <port>`. `build.sh serve` compiles it with rustc alone, so
//! that the page opens without the minutes that the native build of the whole crate takes; `darkroom serve` has an HTTP API
//! besides.

mod folder;

use std::net::TcpListener;
use std::path::PathBuf;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, root, port] = arguments.as_slice() else {
        eprintln!("usage: serve <folder> <port>");
        return std::process::ExitCode::from(2);
    };
    let address = format!("127.0.0.1:{port}");
    let served = TcpListener::bind(&address).and_then(|listener| {
        println!("http://{}/ (Ctrl-C ends it)", listener.local_addr()?);
        folder::serve(&[PathBuf::from(root)], &listener)
    });
    match served {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{address}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
