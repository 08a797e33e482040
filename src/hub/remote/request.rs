//! Single requests for texts and lengths, repeated where that may help.

use super::super::RepoId;
use super::super::http::{Get, Http, Reply};
use super::super::retry::{MAX_RETRY_AFTER_MS, backoff_ms, is_passing, retry_after_ms};
use super::refusal::Refusal;
use super::{Remote, is_html};

/// The longest listing or configuration that is read, in bytes.
const MAX_TEXT_BYTES: usize = 32 << 20;

/// The longest wait between two attempts, in milliseconds, unless the server asks for a longer one.
const MAX_WAIT_MS: u64 = 8000;

/// The head of an answer to a request for the first byte of a file.
pub(super) struct Head {
    /// The whole file's length, where the server tells it.
    pub(super) bytes: Option<u64>,
    /// The header `Content-Disposition`.
    pub(super) disposition: Option<String>,
    /// The address behind all redirects.
    pub(super) url: String,
}

impl Remote {
    /// Asks for a file's first byte, to learn its length.
    pub(super) async fn head(&self, http: &dyn Http, name: &str, url: &str) -> Result<Head, Refusal> {
        let get = Get { range: Some((0, 1)), ..Get::whole(url, self.token_for(url)) };
        let mut reply = self.reply(http, name, &get).await?;
        let has_ranges = reply.status() == 206;
        let mut bytes: Option<u64> = reply
            .header("content-range")
            .and_then(|range| range.rsplit('/').next()?.parse().ok())
            .filter(|_| has_ranges);
        if has_ranges && bytes.is_none() {
            // A page sees another host's Content-Range only where the host allows it, and Content-Length always. Only the
            // head is read.
            reply = self.reply(http, name, &Get::whole(url, self.token_for(url))).await?;
        }
        match reply.status() {
            206 => {}
            200 if is_html(&*reply) => return Err(Refusal::Status(404)),
            200 => bytes = bytes.or_else(|| reply.header("content-length")?.parse().ok()),
            status => return Err(Refusal::Status(status)),
        }
        Ok(Head { bytes, disposition: reply.header("content-disposition"), url: reply.url() })
    }

    /// A text and the header `Link`.
    pub(super) async fn text(
        &self,
        http: &dyn Http,
        repo: &RepoId,
        url: &str,
    ) -> Result<(String, Option<String>), Refusal> {
        let (get, name) = (Get::whole(url, self.token_for(url)), repo.to_string());
        let mut attempt = 1;
        loop {
            let mut reply = self.reply(http, &name, &get).await?;
            if reply.status() != 200 {
                return Err(Refusal::Status(reply.status()));
            }
            if is_html(&*reply) {
                return Err(self.odd(repo, &format!("{url} is an HTML page")).into());
            }
            let mut bytes = Vec::new();
            let broken = loop {
                match reply.next().await {
                    Ok(Some(piece)) if bytes.len() + piece.len() <= MAX_TEXT_BYTES => bytes.extend(piece),
                    Ok(Some(_)) => return Err(self.odd(repo, &format!("{url} is too long")).into()),
                    Ok(None) => break None,
                    Err(broken) => break Some(broken),
                }
            };
            match broken {
                None => {
                    let text = String::from_utf8(bytes).map_err(|_| self.odd(repo, &format!("{url} is not UTF-8")))?;
                    return Ok((text, reply.header("link")));
                }
                Some(broken) if attempt >= self.max_attempts || http.is_offline() => {
                    return Err(self.unreachable(http, &name, &broken).into());
                }
                Some(_) => http.sleep(backoff_ms(attempt, self.base_ms, MAX_WAIT_MS, http.jitter())).await,
            }
            attempt += 1;
        }
    }

    /// Sends a request until its answer is one to act upon. `name` is the model's, for messages.
    async fn reply(&self, http: &dyn Http, name: &str, get: &Get) -> Result<Box<dyn Reply>, Refusal> {
        let mut attempt = 1;
        loop {
            let mut wait_ms = backoff_ms(attempt, self.base_ms, MAX_WAIT_MS, http.jitter());
            match http.get(get).await {
                Ok(reply) if !is_passing(reply.status()) => return Ok(reply),
                Ok(reply) if attempt >= self.max_attempts => return Err(Refusal::Status(reply.status())),
                Ok(reply) => {
                    let asked = reply.header("retry-after").and_then(|header| retry_after_ms(&header)).unwrap_or(0);
                    if asked > MAX_RETRY_AFTER_MS {
                        return Err(Refusal::Status(reply.status()));
                    }
                    wait_ms = wait_ms.max(asked);
                }
                Err(broken) if attempt >= self.max_attempts || http.is_offline() => {
                    return Err(self.unreachable(http, name, &broken).into());
                }
                Err(_) => {}
            }
            http.sleep(wait_ms).await;
            attempt += 1;
        }
    }
}
