//! The network natively: one thread a request, which sends the pieces of the body as they come.

use std::io::Read;
use std::time::Duration;

use futures_channel::mpsc::{Receiver, Sender, channel};
use futures_timer::Delay;
use futures_util::{SinkExt, StreamExt};
use pollster::block_on;

use super::http::{Broken, Get, Http, Reply};
use crate::error::Result;
use crate::store::LocalFuture;

/// The time limit for reaching a server, and again for the head of its answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest piece of a body, in bytes.
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

/// What a request's thread sends.
enum Message {
    Head { status: u16, url: String, headers: http::HeaderMap },
    Piece(Vec<u8>),
    End,
    Broken(String),
}

/// Sends a message, waiting while the channel is full. Returns whether anybody still listens.
fn send(sender: &mut Sender<Message>, message: Message) -> bool {
    block_on(sender.send(message)).is_ok()
}

fn fetch(agent: &ureq::Agent, request: &Get, sender: &mut Sender<Message>) -> Result<(), String> {
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
    let mut more = send(sender, Message::Head { status: head.status.as_u16(), url, headers: head.headers });
    let mut reader = body.into_with_config().limit(u64::MAX).reader();
    while more {
        let mut piece = vec![0; PIECE_BYTES];
        let n_bytes = reader.read(&mut piece).map_err(|error| error.to_string())?;
        piece.truncate(n_bytes);
        more = send(sender, if n_bytes == 0 { Message::End } else { Message::Piece(piece) }) && n_bytes > 0;
    }
    Ok(())
}

impl Http for NativeHttp {
    fn get<'a>(&'a self, request: &'a Get) -> LocalFuture<'a, Result<Box<dyn Reply>, Broken>> {
        Box::pin(async move {
            let (agent, request) = (self.agent.clone(), request.clone());
            let (mut sender, mut messages) = channel(N_PIECES);
            std::thread::spawn(move || {
                if let Err(reason) = fetch(&agent, &request, &mut sender) {
                    send(&mut sender, Message::Broken(reason));
                }
            });
            match messages.next().await {
                Some(Message::Head { status, url, headers }) => {
                    Ok(Box::new(NativeReply { status, url, headers, messages }) as Box<dyn Reply>)
                }
                Some(Message::Broken(reason)) => Err(Broken(reason)),
                Some(Message::Piece(_) | Message::End) | None => Err(Broken("an answer without a head".to_owned())),
            }
        })
    }

    fn sleep<'a>(&'a self, ms: u64) -> LocalFuture<'a, ()> {
        Box::pin(Delay::new(Duration::from_millis(ms)))
    }

    fn jitter(&self) -> f64 {
        // Without a source of random numbers all clients retry at the same time, which still works.
        getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
    }
}

struct NativeReply {
    status: u16,
    url: String,
    headers: http::HeaderMap,
    messages: Receiver<Message>,
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
                Some(Message::Piece(piece)) => Ok(Some(piece)),
                Some(Message::End) => Ok(None),
                None => Err(Broken("the request's thread ended".to_owned())),
                Some(Message::Broken(reason)) => Err(Broken(reason)),
                Some(Message::Head { .. }) => Err(Broken("an answer with two heads".to_owned())),
            }
        })
    }
}
