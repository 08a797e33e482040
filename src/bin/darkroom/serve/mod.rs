//! `darkroom serve`: the page, and a small HTTP API in front of one queue.
//!
//! HTTP is answered on one thread and pictures are drawn on another, which alone holds the model: a runner cannot be
//! shared. It knows no users and no TLS, so it listens on this machine only unless it is told otherwise.

mod failure;
mod files;
mod jobs;
mod openai;
mod painter;
mod request;
mod routes;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use darkroom::hub::Variant;
use darkroom::{Error, Result};

use crate::bar::Bar;
use crate::{print_line, source};
use jobs::{Desk, Limits};
use request::Menu;

/// The largest body that is read, in bytes: two pictures of a few megapixels, in base64.
const MAX_BODY_BYTES: usize = 64 << 20;

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
    /// The weight files to take where there are several: fp16, or none for the plain ones [default: the plain ones of a
    /// folder or cache, as in diffusers; fp16 for downloads].
    #[arg(long, value_name = "fp16|none")]
    variant: Option<Variant>,
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
        let folder = source::parse(name)?.fetch(&bar, args.variant.as_ref())?;
        let model = pollster::block_on(request::Model::read(source::public_name(name), folder));
        models.push(model.map_err(source::model_fault)?);
    }
    drop(bar);

    let limits = Limits {
        n_waiting: usize::from(args.queue),
        side: usize::from(args.max_side),
        count: usize::from(args.max_count),
    };
    let desk = Arc::new(Desk::new(Menu { models, limits }));
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
