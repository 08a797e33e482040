//! Files of the Hub and of other hosts, read by ranges: for their headers. Nothing is kept.

use std::rc::Rc;

use darkroom::checkpoint::inspect::Report;
use darkroom::hub::cache::HubSettings;
use darkroom::hub::http::{Get, Http, Reply};
use darkroom::hub::native::NativeHttp;
use darkroom::hub::remote::{Remote, is_html};
use darkroom::hub::{Component, ModelFile, RepoId, Source, Variant};
use darkroom::weights::{ByteSource, LocalFuture};
use darkroom::{Error, Result};
use pollster::block_on;

/// What is asked for at first; most headers are no longer.
const FIRST_BYTES: u64 = 256 << 10;

/// A file behind an address, whose beginning is here.
struct RemoteFile {
    name: String,
    get: Get,
    len: u64,
    start: Vec<u8>,
}

/// A request, with what a failure is told about.
struct Asked<'a> {
    name: &'a str,
    remote: Option<(&'a Remote, &'a RepoId)>,
}

impl Asked<'_> {
    fn fail(&self, reason: String) -> Error {
        Error::Hub { repo: self.name.to_owned(), reason }
    }

    async fn send(&self, get: &Get) -> Result<Box<dyn Reply>> {
        let http = NativeHttp::default();
        let reply = http.get(get).await.map_err(|broken| {
            self.fail(format!("it cannot be reached ({}): connect to the network and try again", broken.0))
        })?;
        match (reply.status(), self.remote) {
            (200 | 206, _) if is_html(&*reply) => Err(self.fail("the address gives a web page, not a file".into())),
            (200 | 206, _) => Ok(reply),
            (status, Some((remote, repo))) => Err(remote.refusal(repo.path(), Some(self.name), status)),
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
                Err(broken) => return Err(self.fail(format!("the transfer broke off ({}): try again", broken.0))),
            }
        }
    }

    async fn open(&self, get: Get) -> Result<RemoteFile> {
        let first = Get { range: Some((0, FIRST_BYTES)), ..get.clone() };
        let reply = self.send(&first).await?;
        let total = match reply.status() {
            206 => reply.header("content-range").and_then(|range| range.rsplit('/').next()?.trim().parse().ok()),
            _ => None,
        };
        let start = self.body(reply, FIRST_BYTES).await?;
        let len = total.unwrap_or(start.len() as u64);
        Ok(RemoteFile { name: self.name.to_owned(), get, len, start })
    }
}

impl ByteSource for RemoteFile {
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
            let asked = Asked { name: &self.name, remote: None };
            let reply = asked.send(&Get { range: Some((offset, end)), ..self.get.clone() }).await?;
            if reply.status() != 206 {
                return Err(asked.fail("the host gives whole files and no parts of them: download it first".into()));
            }
            asked.body(reply, len as u64).await
        })
    }
}

/// What is behind any address.
///
/// # Errors
/// [`Error::Hub`] with what the host answered; as [`darkroom::checkpoint::inspect::inspect`].
pub fn url(address: &str) -> Result<Report> {
    let asked = Asked { name: address, remote: None };
    let file = block_on(asked.open(Get::whole(address, None)))?;
    super::with_fit(Rc::new(file), None)
}

/// One file of a repository.
///
/// # Errors
/// [`Error::Hub`] with what the Hub answered.
pub fn file(settings: &HubSettings, repo: &RepoId, path: &str) -> Result<Rc<dyn ByteSource>> {
    let remote = Remote::hub(&settings.endpoint, settings.token.as_deref())?;
    let name = format!("{repo}/{path}");
    let url = remote.file_url(repo.path(), repo.revision(), path);
    let get = Get::whole(url.clone(), remote.token_for(&url));
    let asked = Asked { name: &name, remote: Some((&remote, repo)) };
    Ok(Rc::new(block_on(asked.open(get))?))
}

/// A model in diffusers' layout on the Hub, of which texts and headers are read.
pub struct RemoteModel {
    remote: Remote,
    repo: RepoId,
    commit: String,
    files: Vec<ModelFile>,
}

/// Finds a model, with its fp16 files where there are any, as a download takes them.
///
/// # Errors
/// As [`Remote::find`].
pub fn model(settings: &HubSettings, repo: &RepoId) -> Result<RemoteModel> {
    let remote = Remote::hub(&settings.endpoint, settings.token.as_deref())?;
    let found = block_on(remote.find(&NativeHttp::default(), &repo.to_string(), &Variant::Fp16First))?;
    let files = found.files.into_iter().map(|file| ModelFile {
        component: component(&file.path),
        f16: file.path.contains(".fp16."),
        path: file.path,
        bytes: Some(file.bytes),
        sha256: file.sha256,
    });
    Ok(RemoteModel { repo: repo.clone(), commit: found.commit, files: files.collect(), remote })
}

fn component(path: &str) -> Component {
    use Component::*;
    let folder = path.split_once('/').map_or("", |(folder, _)| folder);
    let all = [Scheduler, Tokenizer, Tokenizer2, TextEncoder, TextEncoder2, Unet, Vae];
    all.into_iter().find(|component| component.folder() == folder).unwrap_or(ModelIndex)
}

impl RemoteModel {
    fn get(&self, path: &str) -> Get {
        let url = self.remote.file_url(self.repo.path(), &self.commit, path);
        Get::whole(url.clone(), self.remote.token_for(&url))
    }
}

impl Source for RemoteModel {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(std::future::ready(Ok(self.files.clone())))
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Box::pin(async move {
            let asked = Asked { name: path, remote: Some((&self.remote, &self.repo)) };
            let reply = asked.send(&self.get(path)).await?;
            let bytes = asked.body(reply, 32 << 20).await?;
            String::from_utf8(bytes).map_err(|_| asked.fail("it is not UTF-8".into()))
        })
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            let asked = Asked { name: path, remote: Some((&self.remote, &self.repo)) };
            Ok(Box::new(asked.open(self.get(path)).await?) as Box<dyn ByteSource>)
        })
    }

    fn describe(&self) -> String {
        self.repo.to_string()
    }
}
