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
//!    [`job::Png`], which shares its bytes and counts them), cancels with `desk.cancel(&id)`.
//! 4. Answers of more than a few kilobytes that are made of pictures are encoded in the room too, and are counted while
//!    they are sent: [`answer::json`].
//!
//! Every refusal is a [`failure::Failure`].

mod answer;
mod base64_text;
mod connection;
mod cors;
mod desk;
mod failure;
mod files;
mod follow;
mod form;
mod form_fields;
mod guard;
mod intake;
mod job;
mod json;
mod memory;
mod menu;
mod methods;
mod metrics;
mod models_folder;
mod openai;
mod openai_request;
mod openai_stream;
mod openapi;
mod page_files;
mod painter;
mod queue;
mod request;
mod room;
mod routes;
mod signals;
mod strict;
mod upload;
mod webui;

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use darkroom::checkpoint::identity::Prediction;
use darkroom::hub::Variant;
use darkroom::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::bar::Bar;
use crate::engine_args::EngineArgs;
use crate::loras::LoraFolder;
use crate::numbers::{between, parse_bytes};
use crate::wildcards::WildcardsFolder;
use crate::{print_line, source};
use connection::Hall;
use cors::Origins;
use desk::Desk;
use guard::Guard;
use memory::{Kind, Memory};
use menu::{Limits, Menu, Model};
use models_folder::{ModelsFolder, Parts};
use signals::Signals;

/// Threads for files of the page and for the room.
const N_THREADS: usize = 8;
/// How often free memory is given back to the system.
const TIDY_PAUSE: Duration = Duration::from_millis(250);
/// How long a job that is stopped may take for it when the server ends.
const STOP_TIME: Duration = Duration::from_secs(10);
/// How long clients have, when the server ends, to fetch what was drawn last; and to read the end of their answers.
const FETCH_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// `darkroom serve`.
#[derive(clap::Args)]
pub struct Args {
    /// A model to draw with: a version, owner/repo[@revision], a folder, or one file as for `generate`. May be given several
    /// times; the first one is used where a request names none [default: the small one that comes with the page].
    #[arg(long)]
    model: Vec<String>,
    /// A folder whose models are all served: every .safetensors and .gguf file and every folder in diffusers' layout in it.
    /// What comes or goes while the server runs is noticed.
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// A folder of LoRAs that requests may name, in `loras` or as tags in their prompts: <lora:NAME:WEIGHT>.
    #[arg(long, value_name = "FOLDER")]
    lora_dir: Option<PathBuf>,
    /// A folder of wildcards: __NAME__ in a prompt is a line of NAME.txt there, chosen by the seed. What changes in it is
    /// noticed.
    #[arg(long, value_name = "FOLDER")]
    wildcards: Option<PathBuf>,
    /// For models in one file: a folder with the JSON files and tokenizer, in place of the published ones.
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,
    /// Another VAE in place of the models' own: a file, a folder, owner/repo[/file], or https://….
    #[arg(long, value_name = "FILE|FOLDER|owner/repo")]
    vae: Option<String>,
    /// A tiny VAE (TAESD) to decode with: likewise.
    #[arg(long, value_name = "FILE|FOLDER|owner/repo")]
    taesd: Option<String>,
    /// What the UNets of models in one file predict, where they do not say: epsilon or v.
    #[arg(long, value_name = "epsilon|v")]
    prediction: Option<Prediction>,
    /// The weight files to take where there are several: fp16, or none for the plain ones [default: the plain ones of a
    /// folder or cache, as in diffusers; fp16 for downloads].
    #[arg(long, value_name = "fp16|none")]
    variant: Option<Variant>,
    /// The address or name to listen on. Any other than this machine's own lets the network in, so that it needs --token.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port; 0 takes a free one.
    #[arg(long, allow_negative_numbers = true, default_value_t = 8080, value_parser = between::<0, { u16::MAX }>)]
    port: u16,
    /// The folder of the page [default: www beside the program or where it is started].
    #[arg(long)]
    page: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// How many requests may wait; more are answered with 429.
    #[arg(long, allow_negative_numbers = true, default_value_t = 16, value_parser = between::<1, 1000>)]
    queue: u16,
    /// The longest side of a picture, in pixels.
    #[arg(long, allow_negative_numbers = true, default_value_t = 1024, value_parser = between::<8, 4096>)]
    max_side: u16,
    /// The most pictures of one request.
    #[arg(long, allow_negative_numbers = true, default_value_t = 8, value_parser = between::<1, 64>)]
    max_count: u16,
    /// What clients can make the server hold, beside the model and what drawing needs: bytes, or 512MB, 2GiB [default: a
    /// quarter of the memory that is available, 2 GiB at most].
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_memory)]
    memory: Option<u64>,
    /// What requests must carry: Authorization: Bearer TOKEN. Better given as DARKROOM_TOKEN in the environment, since
    /// other users of the machine see its command lines.
    #[arg(long)]
    token: Option<String>,
    /// Listen beyond this machine without a token: everyone who can reach it can draw.
    #[arg(long, conflicts_with = "token")]
    no_token: bool,
    /// An origin whose pages may use the API and frame the page, beside this server's own: https://example.org,
    /// http://localhost:5173, or * for every one. May be given several times.
    #[arg(long, value_name = "ORIGIN", value_parser = cors::parse_origin)]
    allow_origin: Vec<String>,
    /// What becomes of the job that is being drawn when the server is asked to end (Ctrl-C, SIGTERM); those that wait are
    /// cancelled. A second signal ends it at once.
    #[arg(long, value_enum, default_value_t = OnExit::Cancel)]
    on_exit: OnExit,
}

/// Bytes, and not fewer than the server can work with.
fn parse_memory(text: &str) -> Result<u64, String> {
    let n_bytes = parse_bytes(text)?;
    if n_bytes < memory::LEAST_LIMIT {
        return Err(format!("use {}MiB or more", memory::LEAST_LIMIT >> 20));
    }
    Ok(n_bytes)
}

/// What becomes of the job that is being drawn.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnExit {
    /// It stops between two operations.
    Cancel,
    /// It is finished, and its pictures can be fetched for a while.
    Finish,
}

/// The token, from the command line or the environment.
fn token(args: &Args) -> Result<Option<String>> {
    let from_env = || std::env::var("DARKROOM_TOKEN").ok().filter(|token| !token.is_empty());
    let token = if args.no_token { None } else { args.token.clone().or_else(from_env) };
    match token {
        Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => Err(Error::Request {
            field: "token",
            got: "that is empty or has spaces or other signs than ASCII's".into(),
            expected: "use letters, digits and signs, such as `openssl rand -hex 16` gives".into(),
        }),
        token => Ok(token),
    }
}

/// The addresses that `--host` names, IPv4 first.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let refused = |reason: String| Error::Request {
        field: "host",
        got: format!("{host:?}"),
        expected: format!("{reason}: use --host localhost, an address of this machine, or 0.0.0.0 for all of them"),
    };
    let found = (bare, port).to_socket_addrs().map_err(|_| refused("no address is known for it".into()))?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() { Err(refused("it has no address".into())) } else { Ok(addresses) }
}

/// Serves until the process is asked to end.
///
/// # Errors
/// When a model cannot be read, the device does not open, or the address is taken.
pub fn run(args: Args) -> Result<()> {
    let signals = Signals::install()?;
    let mut settings = args.engine.settings();
    settings.check()?;
    let addresses = resolve(&args.host, args.port)?;
    let token = token(&args)?;
    let is_local = addresses.iter().all(|address| guard::is_loopback(address.ip()));
    if !is_local && token.is_none() && !args.no_token {
        return Err(Error::Request {
            field: "host",
            got: args.host,
            expected:
                "everyone who can reach it could draw: give --token TOKEN (or DARKROOM_TOKEN in the environment), \
                       or say --no-token"
                    .into(),
        });
    }
    // A name is answered to as well; an address of this machine is known as one.
    let own_name = args.host.parse::<std::net::IpAddr>().is_err().then(|| args.host.clone());
    let origins = Arc::new(Origins::new(args.allow_origin));
    let guard = Guard::new(is_local.then_some(own_name), token.as_deref(), Arc::clone(&origins));
    let page = files::find_page(args.page)?;
    let mut named = args.model;
    if let Some(folder) = args.models.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Error::Request {
            field: "models",
            got: folder.display().to_string(),
            expected: "give a folder that exists".into(),
        });
    }
    if let Some(folder) = &args.models {
        std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
        if folder.join("model_index.json").is_file() {
            return Err(Error::Request {
                field: "models",
                got: folder.display().to_string(),
                expected: "this folder is itself a model: give it to --model, or the folder that it lies in".into(),
            });
        }
    }
    if named.is_empty() && args.models.is_none() {
        let embedded = page.as_ref().map(|page| page.join(files::EMBEDDED_MODEL)).filter(|folder| folder.is_dir());
        let folder = embedded.ok_or_else(|| Error::Request {
            field: "model",
            got: "left out".into(),
            expected: "no page with its small model was found, so name a model (--model) or the page's folder (--page)"
                .into(),
        })?;
        named.push(folder.display().to_string());
    }
    let loras = args.lora_dir.as_deref().map(LoraFolder::open).transpose()?;
    let wildcards = args.wildcards.as_deref().map(WildcardsFolder::open).transpose()?;
    let bar = Bar::new();
    let parts = Parts {
        vae: args.vae.as_deref().map(|vae| source::fetch_vae("vae", vae, &bar)).transpose()?,
        taesd: args.taesd.as_deref().map(|taesd| source::fetch_vae("taesd", taesd, &bar)).transpose()?,
        config: args.config,
        prediction: args.prediction,
    };
    settings.embeddings = pollster::block_on(args.engine.embeddings(&bar))?;
    let mut models = Vec::new();
    for name in &named {
        let model = source::parse(name)?;
        let version = model.version();
        let local = parts.put_into(model.fetch(&bar, args.variant.as_ref())?);
        let name = source::public_name(name);
        let model = pollster::block_on(Model::read(name, version, local));
        models.push(model.map_err(Error::of_model)?);
    }
    drop(bar);

    let memory = Memory::new(args.memory.unwrap_or_else(memory::default_limit));
    let n_connections = connection::most_connections(memory.share(Kind::Connections));
    let limits = Limits {
        n_waiting: usize::from(args.queue),
        side: usize::from(args.max_side),
        count: usize::from(args.max_count),
        n_listeners: n_connections / 2,
    };
    let results_bytes = memory.share(Kind::Results);
    let folder = args.models.map(|folder| ModelsFolder::new(folder, parts));
    let menu = Menu::new(models, folder, limits, results_bytes).with_loras(loras).with_wildcards(wildcards);
    let desk = Arc::new(Desk::new(menu, memory));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(N_THREADS).build();
    let runtime = runtime.map_err(|e| Error::Io { path: "the HTTP server".into(), source: e })?;
    let listeners = runtime.block_on(listen(&addresses))?;
    painter::start(Arc::clone(&desk), settings)?;
    let server = Server { hall: Hall::new(Arc::clone(&desk), n_connections), desk, guard, origins, page };
    runtime.block_on(server.serve(listeners, signals, args.on_exit));
    Ok(())
}

/// Why nothing can be listened to at an address, with what would work.
fn cannot_listen(address: SocketAddr, error: std::io::Error) -> Error {
    let refused = |field, got: String, expected: &str| Error::Request { field, got, expected: expected.into() };
    match error.kind() {
        ErrorKind::AddrInUse => {
            let expected = "another program listens there: use another --port, or --port 0 for a free one";
            refused("port", address.port().to_string(), expected)
        }
        ErrorKind::PermissionDenied => {
            let expected = "this user may not listen there: use a --port from 1024 on, or --port 0 for a free one";
            refused("port", address.port().to_string(), expected)
        }
        ErrorKind::AddrNotAvailable => {
            let expected = "this machine does not have that address: use --host localhost, an address that it has, or \
                0.0.0.0 for all of them";
            refused("host", address.ip().to_string(), expected)
        }
        _ => Error::Io { path: address.to_string(), source: error },
    }
}

/// Listens on the first address, and on the others where that is possible, on the same port.
async fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let mut address = *address;
        let failed = |error| cannot_listen(address, error);
        let Some(first) = listeners.first() else {
            listeners.push(TcpListener::bind(address).await.map_err(failed)?);
            continue;
        };
        address.set_port(first.local_addr().map_err(failed)?.port());
        // A machine may have a name for an address that it does not have.
        if let Ok(listener) = TcpListener::bind(address).await {
            listeners.push(listener);
        }
    }
    Ok(listeners)
}

/// Everything that answers.
struct Server {
    desk: Arc<Desk>,
    hall: Arc<Hall>,
    guard: Arc<Guard>,
    origins: Arc<Origins>,
    page: Option<PathBuf>,
}

impl Server {
    async fn serve(self, listeners: Vec<TcpListener>, mut signals: Signals, on_exit: OnExit) {
        let Server { desk, hall, guard, origins, page } = self;
        let has_page = page.is_some();
        let app = routes::routes(Arc::clone(&desk), Arc::clone(&hall), guard).fallback_service(files::service(page));
        let app = methods::with_methods(cors::with_origins(files::with_headers(app, &origins), origins));
        let (end, ending) = watch::channel(false);
        let mut first = None;
        for listener in listeners {
            first = first.or(listener.local_addr().ok());
            tokio::spawn(connection::accept(listener, Arc::clone(&hall), app.clone(), ending.clone()));
        }
        if !has_page {
            log::warn!("no page was found, so only the API is served; --page names its folder");
        }
        let memory = Arc::clone(&desk.memory);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TIDY_PAUSE).await;
                let memory = Arc::clone(&memory);
                // A thread that panics here does so again in a moment, and nobody waits for it.
                tokio::task::spawn_blocking(move || memory.tidy()).await.ok();
            }
        });
        signals.serve();
        if let Some(address) = first {
            // Whoever started this with a pipe may have closed it; that is no reason to stop serving.
            if let Err(error) = print_line(format_args!("http://{address}/ (Ctrl-C ends it)")) {
                log::warn!("{error}");
            }
        }
        signals.asked().await;
        let (_, last) = desk.queue();
        desk.end(on_exit == OnExit::Finish);
        match on_exit {
            OnExit::Cancel => {
                timeout(STOP_TIME, desk.idle()).await.ok();
            }
            OnExit::Finish => {
                log::warn!("finishing the job that is being drawn; a second signal ends at once");
                desk.idle().await;
                let fetched = async {
                    while last.as_deref().is_some_and(|id| desk.has_unfetched(id)) {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                timeout(FETCH_TIME, fetched).await.ok();
            }
        }
        end.send_replace(true);
        let answered = async {
            while hall.n_connections().0 > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(ANSWER_TIME, answered).await.ok();
    }
}
