//! `darkroom serve`: the page, and a small HTTP API in front of one queue.
//!
//! HTTP is answered on one thread and pictures are drawn on another, which alone holds the model: a runner cannot be
//! shared. It knows no users and no TLS, so it listens on this machine only unless it is told otherwise.
//!
//! # Doors
//!
//! A door is a family of routes that takes requests in somebody's form: ours ([`routes`]), OpenAI's ([`openai`]). What a
//! client can make the server hold is bounded ([`memory`]), and nothing heavy is done on the thread that answers, so a
//! door does not read, parse or decode by itself:
//!
//! 1. It takes its body as [`intake::Asked<T>`] (JSON; `T: DeserializeOwned`) or [`intake::Raw`] (bytes, for multipart).
//!    Both answer 429 before reading where the queue is full, bound bytes and time, and parse off the thread. Pictures
//!    in `T` are [`upload::Upload`], which reads base64 where it stands; from multipart, `Upload::from(bytes)`. `T` holds
//!    no `serde_json::Value`, which takes many times its text: fields that are passed over are `serde::de::IgnoredAny`.
//!    Where a form wants more than a few microseconds of work, [`room::Room::work`] does it on another thread.
//! 2. It makes a [`request::JobRequest`] of it and calls `desk.submit(request, held).await`, with the `held` that came
//!    with the body. That checks what is cheap first, decodes the pictures once in their turn, and gives the job's id.
//! 3. It waits with `desk.watch(&id)`, looks with `desk.look(&id, ..)`, takes pictures with `desk.fetch(&id, n)` (a
//!    [`jobs::Png`], which shares its bytes and counts them), cancels with `desk.cancel(&id)`.
//! 4. Answers of more than a few kilobytes that are made of pictures are encoded in the room too, and are counted while
//!    they are sent: [`answer::json`].
//!
//! Every refusal is a [`failure::Failure`].

mod answer;
mod base64_text;
mod failure;
mod files;
mod follow;
mod form;
mod intake;
mod jobs;
mod json;
mod memory;
mod metrics;
mod openai;
mod openai_request;
mod openai_stream;
mod painter;
mod request;
mod room;
mod routes;
mod upload;
mod webui;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use darkroom::{Error, Result};

use crate::bar::Bar;
use crate::{print_line, source};
use jobs::{Desk, Limits};
use memory::{Kind, Memory};
use request::Menu;

/// Where the models run.
#[derive(Clone, Copy, ValueEnum)]
pub enum DeviceName {
    /// This machine's processor.
    Cpu,
    /// An NVIDIA card, in a build with the feature `cuda`.
    Cuda,
    /// Any GPU, through WebGPU.
    Gpu,
}

/// `darkroom serve`.
#[derive(clap::Args)]
pub struct Args {
    /// A model to draw with: a version, owner/repo[@revision], or a folder. May be given several times; the first one
    /// is used where a request names none [default: the small one that comes with the page].
    #[arg(long)]
    model: Vec<String>,
    /// The address to listen on. Any other than this machine's own lets everyone on the network draw.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The folder of the page [default: www beside the program or where it is started].
    #[arg(long)]
    page: Option<PathBuf>,
    /// Where the models run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// How many requests may wait; more are answered with 429.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    queue: u16,
    /// The longest side of a picture, in pixels.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(8..=4096))]
    max_side: u16,
    /// The most pictures of one request.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    max_count: u16,
    /// What clients can make the server hold, beside the model and what drawing needs: bytes, or 512MB, 2GiB [default: a
    /// quarter of the memory that is available, 2 GiB at most].
    #[arg(long, value_name = "BYTES", value_parser = parse_memory)]
    memory: Option<u64>,
}

/// Bytes, and not fewer than the server can work with.
fn parse_memory(text: &str) -> Result<u64, String> {
    let n_bytes = crate::generate::parse_bytes(text)?;
    if n_bytes < memory::LEAST_LIMIT {
        return Err(format!("use {}MiB or more", memory::LEAST_LIMIT >> 20));
    }
    Ok(n_bytes)
}

/// Serves until the process is ended.
///
/// # Errors
/// When a model cannot be read, the device does not open, or the address is taken.
pub fn run(args: Args) -> Result<()> {
    let page = files::find_page(args.page)?;
    let mut named = args.model;
    if named.is_empty() {
        let embedded = page.as_ref().map(|page| page.join(files::EMBEDDED_MODEL)).filter(|folder| folder.is_dir());
        let folder = embedded.ok_or_else(|| Error::Request {
            field: "model",
            got: "left out".into(),
            expected: "no page with its small model was found, so name a model (--model) or the page's folder (--page)"
                .into(),
        })?;
        named.push(folder.display().to_string());
    }
    let bar = Bar::new();
    let mut models = Vec::new();
    for name in &named {
        let model = source::parse(name)?;
        let version = match model {
            source::Model::Version(version) => Some(version),
            source::Model::Folder(_) | source::Model::Repo(_) => None,
        };
        let folder = model.fetch(&bar)?;
        let name = source::public_name(name);
        models.push(pollster::block_on(request::Model::read(name, version, folder))?);
    }
    drop(bar);

    let limits = Limits {
        n_waiting: usize::from(args.queue),
        side: usize::from(args.max_side),
        count: usize::from(args.max_count),
    };
    let memory = Memory::new(args.memory.unwrap_or_else(memory::default_limit));
    let results_bytes = memory.share(Kind::Results);
    let desk = Arc::new(Desk::new(Menu { models, limits, results_bytes }, memory));
    painter::start(Arc::clone(&desk), args.device)?;
    let address = SocketAddr::new(args.host, args.port);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::Io { path: "the HTTP server".into(), source: e })?;
    runtime.block_on(serve(desk, page, address)).map_err(|source| Error::Io { path: address.to_string(), source })
}

async fn serve(desk: Arc<Desk>, page: Option<PathBuf>, address: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        eprintln!("darkroom: everyone who can reach {address} can draw here; there is no password and no encryption");
    }
    // Whoever started this with a pipe may have closed it; that is no reason to stop serving.
    if let Err(error) = print_line(format_args!("http://{address}/ (Ctrl-C ends it)")) {
        eprintln!("darkroom: {error}");
    }
    let has_page = page.is_some();
    let app = routes::routes(desk, address).fallback_service(files::service(page));
    let app = files::with_headers(app);
    if !has_page {
        eprintln!("darkroom: no page was found, so only the API is served; --page names its folder");
    }
    axum::serve(listener, app).await
}
