//! Files of the Hub and of other hosts, read by ranges: for their headers and configurations. Nothing is kept.

use std::rc::Rc;

use super::http::{Get, Http, Reply};
use super::remote::{Remote, is_html};
use super::retry::is_of_server;
use super::{Component, ModelFile, RepoId, Source, Variant};
use crate::error::{Error, Result};
use crate::weights::{ByteSource, LocalFuture};

/// What is asked for at first; most headers are no longer.
const FIRST_BYTES: u64 = 256 << 10;

/// The longest text that is read.
const MAX_TEXT_BYTES: u64 = 32 << 20;

/// A file behind an address, whose beginning is here.
struct PeekedFile {
    http: Rc<dyn Http>,
    name: String,
    get: Get,
    len: u64,
    start: Vec<u8>,
}

/// Where requests go, with what a failure is told about.
struct Asked<'a> {
    http: &'a Rc<dyn Http>,
    name: &'a str,
    remote: Option<(&'a Remote, &'a RepoId)>,
}

impl Asked<'_> {
    fn fail(&self, reason: String) -> Error {
        Error::Hub { repo: self.name.to_owned(), reason }
    }

    fn broken(&self, reason: String) -> Error {
        Error::Network { repo: self.name.to_owned(), reason }
    }

    async fn send(&self, get: &Get) -> Result<Box<dyn Reply>> {
        let reply = self.http.get(get).await.map_err(|broken| {
            let hint = self.http.unreachable_hint();
            self.broken(format!("it cannot be reached ({}): connect to the network and try again{hint}", broken.0))
        })?;
        match (reply.status(), self.remote) {
            (200 | 206, _) if is_html(&*reply) => Err(self.fail("the address gives a web page, not a file".into())),
            (200 | 206, _) => Ok(reply),
            (status, Some((remote, repo))) => Err(remote.refusal(repo.path(), Some(self.name), status)),
            (status, None) if is_of_server(status) => {
                Err(self.broken(format!("the host answers with HTTP status {status}: try again later")))
            }
            (status, None) => Err(self.fail(format!("the host answers with HTTP status {status}: check the address"))),
        }
    }

    /// A body of at most `most` bytes; more is a failure.
    async fn body(&self, mut reply: Box<dyn Reply>, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            match reply.next().await {
                Ok(Some(piece)) if (bytes.len() + piece.len()) as u64 <= most => bytes.extend(piece),
                Ok(Some(_)) => {
                    return Err(self.fail("the host gives whole files and no parts of them: download it first".into()));
                }
                Ok(None) => return Ok(bytes),
                Err(broken) => return Err(self.broken(format!("the transfer broke off ({}): try again", broken.0))),
            }
        }
    }

    async fn open(&self, get: Get) -> Result<PeekedFile> {
        let first = Get { range: Some((0, FIRST_BYTES)), ..get.clone() };
        let reply = self.send(&first).await?;
        let total = match reply.status() {
            206 => reply.header("content-range").and_then(|range| range.rsplit('/').next()?.trim().parse().ok()),
            _ => None,
        };
        let start = self.body(reply, FIRST_BYTES).await?;
        let len = total.unwrap_or(start.len() as u64);
        Ok(PeekedFile { http: Rc::clone(self.http), name: self.name.to_owned(), get, len, start })
    }
}

impl ByteSource for PeekedFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let end = offset.saturating_add(len as u64);
            if end <= self.start.len() as u64 {
                return Ok(self.start[offset as usize..end as usize].to_vec());
            }
            let asked = Asked { http: &self.http, name: &self.name, remote: None };
            let reply = asked.send(&Get { range: Some((offset, end)), ..self.get.clone() }).await?;
            if reply.status() != 206 {
                return Err(asked.fail("the host gives whole files and no parts of them: download it first".into()));
            }
            asked.body(reply, len as u64).await
        })
    }
}

/// The file at any address.
///
/// # Errors
/// [`Error::Hub`] with what the host answered; [`Error::Network`] where it cannot be reached, is busy or broken.
pub async fn open_address(http: &Rc<dyn Http>, address: &str) -> Result<Rc<dyn ByteSource>> {
    let asked = Asked { http, name: address, remote: None };
    Ok(Rc::new(asked.open(Get::whole(address, None)).await?))
}

/// One file of a repository.
///
/// # Errors
/// [`Error::Hub`] with what the Hub answered; [`Error::Network`] where it cannot be reached, is busy or broken.
pub async fn open_file(http: &Rc<dyn Http>, remote: &Remote, repo: &RepoId, path: &str) -> Result<Rc<dyn ByteSource>> {
    let name = format!("{repo}/{path}");
    let url = remote.file_url(repo.path(), repo.revision(), path);
    let get = Get::whole(url.clone(), remote.token_for(&url));
    let asked = Asked { http, name: &name, remote: Some((remote, repo)) };
    Ok(Rc::new(asked.open(get).await?))
}

/// A model in diffusers' layout on the Hub, of which texts and headers are read.
pub struct PeekedModel {
    http: Rc<dyn Http>,
    remote: Remote,
    repo: RepoId,
    commit: String,
    files: Vec<ModelFile>,
}

impl PeekedModel {
    /// Finds a model, with its fp16 files where there are any, as a download takes them.
    ///
    /// # Errors
    /// As [`Remote::find`].
    pub async fn find(http: &Rc<dyn Http>, remote: Remote, repo: &RepoId) -> Result<Self> {
        let found = remote.find(&**http, &repo.to_string(), &Variant::Fp16First).await?;
        let files = found.files.into_iter().map(|file| ModelFile {
            component: component(&file.path),
            f16: file.path.contains(".fp16."),
            path: file.path,
            bytes: Some(file.bytes),
            sha256: file.sha256,
        });
        let (http, files) = (Rc::clone(http), files.collect());
        Ok(PeekedModel { http, repo: repo.clone(), commit: found.commit, files, remote })
    }

    fn get(&self, path: &str) -> Get {
        let url = self.remote.file_url(self.repo.path(), &self.commit, path);
        Get::whole(url.clone(), self.remote.token_for(&url))
    }

    fn asked<'a>(&'a self, path: &'a str) -> Asked<'a> {
        Asked { http: &self.http, name: path, remote: Some((&self.remote, &self.repo)) }
    }
}

fn component(path: &str) -> Component {
    use Component::*;
    let folder = path.split_once('/').map_or("", |(folder, _)| folder);
    let all = [Scheduler, Tokenizer, Tokenizer2, TextEncoder, TextEncoder2, Unet, Vae];
    all.into_iter().find(|component| component.folder() == folder).unwrap_or(ModelIndex)
}

impl Source for PeekedModel {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(std::future::ready(Ok(self.files.clone())))
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Box::pin(async move {
            let asked = self.asked(path);
            let reply = asked.send(&self.get(path)).await?;
            let bytes = asked.body(reply, MAX_TEXT_BYTES).await?;
            String::from_utf8(bytes).map_err(|_| asked.fail("it is not UTF-8".into()))
        })
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move { Ok(Box::new(self.asked(path).open(self.get(path)).await?) as Box<dyn ByteSource>) })
    }

    fn describe(&self) -> String {
        self.repo.to_string()
    }
}
