//! The network natively: each request on a thread of its own, its pieces handed over as they come.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::http::{Broken, Get, Http, Reply};
use crate::error::Result;
use crate::store::LocalFuture;

/// How long a server may take to be reached, to answer, and between two pieces of a body.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a piece of a body is at most, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// How many pieces may wait to be taken.
const N_PIECES: usize = 16;

/// See the module.
pub struct NativeHttp {
    agent: ureq::Agent,
}

impl Default for NativeHttp {
    fn default() -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .user_agent(concat!("darkroom/", env!("CARGO_PKG_VERSION")))
            .build();
        NativeHttp { agent: agent.into() }
    }
}

/// What a thread sends.
enum Message {
    Head { status: u16, url: String, headers: ureq::http::HeaderMap },
    Piece(Vec<u8>),
    End,
    Broken(String),
}

/// One end of a request's channel. Whoever waits at the other end is woken with every message.
struct Sender {
    channel: SyncSender<Message>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Sender {
    /// Gives whether anybody still wants more.
    fn send(&self, message: Message) -> bool {
        let sent = self.channel.send(message).is_ok();
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
        sent
    }
}

struct Messages {
    channel: Receiver<Message>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Messages {
    fn start(run: impl FnOnce(&Sender) + Send + 'static) -> Self {
        let (send, receive) = sync_channel(N_PIECES);
        let waker = Arc::new(Mutex::new(None));
        let sender = Sender { channel: send, waker: Arc::clone(&waker) };
        std::thread::spawn(move || run(&sender));
        Messages { channel: receive, waker }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Message> {
        // The waker is left first, so that a message that comes between the two lines wakes.
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        match self.channel.try_recv() {
            Ok(message) => Poll::Ready(message),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Ready(Message::Broken("the request's thread ended".to_owned())),
        }
    }

    async fn next(&mut self) -> Message {
        std::future::poll_fn(|context| self.poll(context)).await
    }
}

fn fetch(agent: &ureq::Agent, request: &Get, sender: &Sender) -> Result<(), String> {
    let mut builder = agent.get(&request.url);
    if let Some((start, end)) = request.range {
        builder = builder.header("Range", format!("bytes={start}-{}", end - 1));
    }
    if let Some(token) = &request.token {
        builder = builder.header("Authorization", format!("Bearer {token}"));
    }
    let answer = builder.call().map_err(|error| error.to_string())?;
    let url = ureq::ResponseExt::get_uri(&answer).to_string();
    let (head, body) = answer.into_parts();
    let mut more = sender.send(Message::Head { status: head.status.as_u16(), url, headers: head.headers });
    let mut reader = body.into_with_config().limit(u64::MAX).reader();
    while more {
        let mut piece = vec![0; PIECE_BYTES];
        let n_bytes = reader.read(&mut piece).map_err(|error| error.to_string())?;
        piece.truncate(n_bytes);
        more = sender.send(if n_bytes == 0 { Message::End } else { Message::Piece(piece) }) && n_bytes > 0;
    }
    Ok(())
}

impl Http for NativeHttp {
    fn get<'a>(&'a self, request: &'a Get) -> LocalFuture<'a, Result<Box<dyn Reply>, Broken>> {
        Box::pin(async move {
            let (agent, request) = (self.agent.clone(), request.clone());
            let mut messages = Messages::start(move |sender| {
                if let Err(words) = fetch(&agent, &request, sender) {
                    sender.send(Message::Broken(words));
                }
            });
            match messages.next().await {
                Message::Head { status, url, headers } => {
                    Ok(Box::new(NativeReply { status, url, headers, messages }) as Box<dyn Reply>)
                }
                Message::Broken(words) => Err(Broken(words)),
                Message::Piece(_) | Message::End => Err(Broken("an answer without a head".to_owned())),
            }
        })
    }

    fn sleep<'a>(&'a self, ms: u64) -> LocalFuture<'a, ()> {
        Box::pin(async move {
            let mut messages = Messages::start(move |sender| {
                std::thread::sleep(Duration::from_millis(ms));
                sender.send(Message::End);
            });
            messages.next().await;
        })
    }

    fn jitter(&self) -> f64 {
        // The standard library seeds its hash maps at random.
        let random = RandomState::new().build_hasher().finish();
        (random >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct NativeReply {
    status: u16,
    url: String,
    headers: ureq::http::HeaderMap,
    messages: Messages,
}

impl Reply for NativeReply {
    fn status(&self) -> u16 {
        self.status
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }

    fn next<'a>(&'a mut self) -> LocalFuture<'a, Result<Option<Vec<u8>>, Broken>> {
        Box::pin(async move {
            match self.messages.next().await {
                Message::Piece(piece) => Ok(Some(piece)),
                Message::End => Ok(None),
                Message::Broken(words) => Err(Broken(words)),
                Message::Head { .. } => Err(Broken("an answer with two heads".to_owned())),
            }
        })
    }
}
