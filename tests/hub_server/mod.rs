//! A real HTTP server that speaks the Hub's API for one model of random numbers and misbehaves on command. Any origin may
//! read its answers, as on the Hub. Shared by the tests that download.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use darkroom::store::{CHUNK_BYTES, sha256_hex};

pub const COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";
pub const REPO: &str = "owner/repo";
pub const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";

/// What the server does wrong with a request for a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// No answer at all.
    Reset,
    /// The body is whole by its own headers, and this many bytes too short.
    Short(usize),
    /// The body is whole by its own headers, and this many bytes too long.
    Long(usize),
    /// One byte is another.
    Corrupt,
    /// A status with this header line.
    Status(u16, &'static str),
    /// An HTML page with status 200 and this type.
    Html(&'static str),
    /// Another tag than before.
    Etag,
    /// The range is ignored.
    NoRange,
    /// Another range comes than was asked for.
    WrongRange,
    /// The head comes late, after so many milliseconds.
    Delay(u64),
    /// Nothing more comes after half of the body, and the connection stays open for so many milliseconds.
    Stall(u64),
    /// 64 KiB come each time so many milliseconds have passed.
    Throttle(u64),
    /// The second half comes when [`Hub::release`] is called, or `/release` asked for.
    Held,
}

/// How long a wait of a test may take: a busy machine takes seconds, not this.
const PATIENCE: Duration = Duration::from_secs(200);

/// A fault for requests whose address contains `path`, so many times.
#[derive(Clone, Debug)]
struct Order {
    path: String,
    fault: Fault,
    times: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub path: String,
    pub range: Option<(usize, usize)>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct Shared {
    orders: Vec<Order>,
    requests: Vec<Request>,
    /// Bytes of bodies of files that went out.
    body_bytes: usize,
    /// Requests that are being answered.
    n_answering: usize,
    /// Whether the rest of what was [`Fault::Held`] may come.
    released: bool,
    /// Whether the listing leaves the digests out.
    without_digests: bool,
    /// Whether the API is absent, as on a server of plain files.
    without_api: bool,
    /// The listing comes in two pages.
    in_pages: bool,
    /// A file whose length in the listing is too large by one.
    wrong_length: Option<String>,
}

pub struct Hub {
    pub endpoint: String,
    pub files: Arc<Vec<(String, Vec<u8>)>>,
    shared: Arc<Mutex<Shared>>,
}

/// The numbers of xorshift64*, which do not compress and are the same in every run.
pub fn noise(n_bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(n_bytes + 8);
    while bytes.len() < n_bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(n_bytes);
    bytes
}

/// A model with a UNet of `unet_bytes` in random numbers and next to nothing else.
pub fn model(unet_bytes: usize) -> Vec<(String, Vec<u8>)> {
    let index = r#"{"_class_name":"StableDiffusionPipeline","unet":["diffusers","UNet2DConditionModel"],"vae":["diffusers","AutoencoderKL"],
        "text_encoder":["transformers","CLIPTextModel"],"tokenizer":["transformers","CLIPTokenizer"],"scheduler":["diffusers","DDIMScheduler"]}"#;
    let text = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
    vec![
        text("README.md", "not needed"),
        text("model_index.json", index),
        text("scheduler/scheduler_config.json", "{}"),
        text("tokenizer/vocab.json", "{\"a\":0}"),
        text("tokenizer/merges.txt", "#version: 0.2\n"),
        text("text_encoder/config.json", "{}"),
        ("text_encoder/model.fp16.safetensors".to_owned(), noise(300_001, 3)),
        text("unet/config.json", "{}"),
        (UNET.to_owned(), noise(unet_bytes, 7)),
        text("vae/config.json", "{}"),
        ("vae/diffusion_pytorch_model.fp16.safetensors".to_owned(), noise(CHUNK_BYTES as usize, 9)),
    ]
}

/// The bytes of all files that the model needs.
pub fn needed_bytes(files: &[(String, Vec<u8>)]) -> u64 {
    files.iter().filter(|(path, _)| path != "README.md").map(|(_, bytes)| bytes.len() as u64).sum()
}

/// The embedded model's files.
pub fn emoji_files() -> Vec<(String, Vec<u8>)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("www/hub/darkroom/tiny-emoji/resolve/main");
    let mut files = Vec::new();
    for folder in ["", "scheduler", "text_encoder", "tokenizer", "unet", "vae"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    files
}

impl Hub {
    /// Serves the files as [`REPO`] on a port of its own until the test ends.
    pub fn start(files: Vec<(String, Vec<u8>)>) -> Self {
        Hub::start_as(REPO, files)
    }

    /// Serves the files as another repository. Outside it, `/files/` has them at plain addresses, and `/download/` under
    /// names that only a header tells.
    pub fn start_as(repo: &str, files: Vec<(String, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (files, shared) = (Arc::new(files), Arc::new(Mutex::new(Shared::default())));
        let server = Arc::new(Server {
            endpoint: endpoint.clone(),
            repo: repo.to_owned(),
            files: Arc::clone(&files),
            shared: Arc::clone(&shared),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                // A client that hangs up early is no failure of the server.
                std::thread::spawn(move || server.serve(stream).ok());
            }
        });
        Hub { endpoint, files, shared }
    }

    /// Misbehaves with the next `times` requests for a file whose address contains `path`.
    pub fn order(&self, path: &str, fault: Fault, times: usize) {
        self.shared.lock().unwrap().orders.push(Order { path: path.to_owned(), fault, times });
    }

    /// Lets the rest of what was [`Fault::Held`] come, from now on.
    pub fn release(&self) {
        self.shared.lock().unwrap().released = true;
    }

    /// Waits until no request is being answered any more, and none has come for a moment. Somebody who has gone is
    /// noticed by the next write to the connection, and what was written by then would be counted later.
    pub fn wait_until_quiet(&self) {
        let (start, mut quiet_since) = (Instant::now(), Instant::now());
        while quiet_since.elapsed() < Duration::from_millis(300) {
            if self.shared.lock().unwrap().n_answering > 0 {
                quiet_since = Instant::now();
            }
            assert!(start.elapsed() < PATIENCE, "the Hub is still answering after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Behaves from now on.
    pub fn behave(&self) {
        self.shared.lock().unwrap().orders.clear();
    }

    pub fn leave_digests_out(&self) {
        self.shared.lock().unwrap().without_digests = true;
    }

    pub fn leave_api_out(&self) {
        self.shared.lock().unwrap().without_api = true;
    }

    pub fn list_in_pages(&self) {
        self.shared.lock().unwrap().in_pages = true;
    }

    pub fn list_wrong_length_of(&self, path: &str) {
        self.shared.lock().unwrap().wrong_length = Some(path.to_owned());
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().unwrap().requests.clone()
    }

    /// The bytes of files that went out since the last call.
    pub fn take_body_bytes(&self) -> usize {
        std::mem::take(&mut self.shared.lock().unwrap().body_bytes)
    }

    pub fn file(&self, path: &str) -> &[u8] {
        &self.files.iter().find(|(of, _)| of == path).expect("a file of the model").1
    }
}

struct Server {
    endpoint: String,
    repo: String,
    files: Arc<Vec<(String, Vec<u8>)>>,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    /// Answers one request; browsers open another connection for the next.
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let target = lines.next().transpose()?.unwrap_or_default();
        let mut words = target.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        let mut request = Request { path: path.clone(), range: None, authorization: None };
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "range" => {
                    let (start, end) = value.trim_start_matches("bytes=").split_once('-').unwrap();
                    request.range = Some((start.parse().unwrap(), end.parse::<usize>().unwrap() + 1));
                }
                "authorization" => request.authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        self.shared.lock().unwrap().n_answering += 1;
        let answered = self.answer(stream, &method, &path, request);
        self.shared.lock().unwrap().n_answering -= 1;
        answered
    }

    fn answer(&self, mut stream: TcpStream, method: &str, path: &str, request: Request) -> std::io::Result<()> {
        if method == "OPTIONS" {
            return answer(&mut stream, 204, "Access-Control-Allow-Headers: range, authorization\r\n", b"");
        }
        if path == "/release" {
            self.shared.lock().unwrap().released = true;
            return answer(&mut stream, 200, "", b"released");
        }
        self.shared.lock().unwrap().requests.push(request.clone());
        let repo = &self.repo;
        let api = format!("/api/models/{repo}/");
        if let Some(rest) = path.strip_prefix(&api) {
            if let Some(Fault::Status(status, header)) = self.fault(path, true) {
                return answer(&mut stream, status, &format!("{header}\r\n"), b"refused");
            }
            let (without_api, in_pages) = {
                let shared = self.shared.lock().unwrap();
                (shared.without_api, shared.in_pages)
            };
            let half = self.files.len() / 2;
            return match rest {
                _ if without_api => answer(&mut stream, 404, "", b"no such file"),
                "revision/main" => {
                    answer(&mut stream, 200, JSON, format!(r#"{{"id":"{repo}","sha":"{COMMIT}"}}"#).as_bytes())
                }
                _ if !rest.starts_with(&format!("tree/{COMMIT}?recursive=true")) => {
                    answer(&mut stream, 404, JSON, b"{}")
                }
                _ if in_pages && !rest.contains("cursor") => {
                    let next = format!("Link: <{}{path}&cursor=2>; rel=\"next\"\r\n{JSON}", self.endpoint);
                    answer(&mut stream, 200, &next, self.tree(0..half).as_bytes())
                }
                _ if in_pages => answer(&mut stream, 200, JSON, self.tree(half..self.files.len()).as_bytes()),
                _ => answer(&mut stream, 200, JSON, self.tree(0..self.files.len()).as_bytes()),
            };
        }
        for revision in [COMMIT, "main"] {
            if let Some(file) = path.strip_prefix(&format!("/{repo}/resolve/{revision}/")) {
                if revision == COMMIT && file.ends_with(".safetensors") {
                    if let Some(Fault::Status(status, header)) = self.fault(path, true) {
                        return answer(&mut stream, status, &format!("{header}\r\n"), b"refused");
                    }
                    let location = format!("Location: {}/cdn/{file}\r\n", self.endpoint);
                    return answer(&mut stream, 302, &location, b"");
                }
                return self.send(&mut stream, file, &request, "");
            }
        }
        let plain = path.split('?').next().unwrap_or(path);
        if let Some(file) = plain.strip_prefix("/download/") {
            let name = file.rsplit('/').next().unwrap_or(file);
            let header = format!("Content-Disposition: attachment; filename=\"{name}\"\r\n");
            return self.send(&mut stream, file, &request, &header);
        }
        match plain.strip_prefix("/cdn/").or_else(|| plain.strip_prefix("/files/")) {
            Some(file) => self.send(&mut stream, file, &request, ""),
            None => answer(&mut stream, 404, "", b"no such file"),
        }
    }

    /// What is ordered for this request, if anything. Statuses are for the address in front of a redirect.
    fn fault(&self, path: &str, in_front: bool) -> Option<Fault> {
        let mut shared = self.shared.lock().unwrap();
        let order = shared.orders.iter_mut().find(|order| {
            order.times > 0 && path.contains(&order.path) && (!in_front || matches!(order.fault, Fault::Status(..)))
        })?;
        order.times -= 1;
        Some(order.fault.clone())
    }

    fn tree(&self, which: std::ops::Range<usize>) -> String {
        let (without_digests, wrong_length) = {
            let shared = self.shared.lock().unwrap();
            (shared.without_digests, shared.wrong_length.clone())
        };
        let entries: Vec<String> = self.files[which]
            .iter()
            .map(|(path, bytes)| {
                let lfs = if path.ends_with(".safetensors") && !without_digests {
                    format!(r#","lfs":{{"oid":"{}","size":{}}}"#, sha256_hex(bytes), bytes.len())
                } else {
                    String::new()
                };
                let size = bytes.len() + usize::from(wrong_length.as_ref() == Some(path));
                format!(r#"{{"type":"file","oid":"{}","size":{size},"path":"{path}"{lfs}}}"#, git_oid(path))
            })
            .collect();
        format!("[{}]", entries.join(","))
    }

    fn send(&self, stream: &mut TcpStream, file: &str, request: &Request, more: &str) -> std::io::Result<()> {
        let Some((_, bytes)) = self.files.iter().find(|(path, _)| path == file) else {
            return answer(stream, 404, "", b"no such file");
        };
        let fault = self.fault(&request.path, false);
        let mut range = request.range;
        match fault {
            Some(Fault::Reset) => return Ok(()),
            Some(Fault::Status(status, header)) => {
                return answer(stream, status, &format!("{header}\r\n"), b"refused");
            }
            Some(Fault::Html(kind)) => {
                return answer(
                    stream,
                    200,
                    &format!("Content-Type: {kind}\r\n"),
                    b"<!DOCTYPE html><title>Log in</title>",
                );
            }
            Some(Fault::Delay(ms)) => std::thread::sleep(Duration::from_millis(ms)),
            Some(Fault::NoRange) => range = None,
            Some(Fault::WrongRange) => range = range.map(|(start, end)| (start + 1, (end + 1).min(bytes.len()))),
            _ => {}
        }
        let (status, (start, end)) = match range {
            None => (200, (0, bytes.len())),
            Some((start, _)) if start >= bytes.len() => return answer(stream, 416, "", b""),
            Some((start, end)) => (206, (start, end.min(bytes.len()))),
        };
        let mut body = bytes[start..end].to_vec();
        match fault {
            Some(Fault::Corrupt) => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
            }
            Some(Fault::Short(n)) => body.truncate(body.len() - n),
            Some(Fault::Long(n)) => body.extend(vec![b'x'; n]),
            _ => {}
        }
        let tag = if fault == Some(Fault::Etag) { "another" } else { "first" };
        let mut headers = format!("ETag: \"{tag}-{file}\"\r\nContent-Type: application/octet-stream\r\n{more}");
        if status == 206 {
            headers += &format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, bytes.len());
        }
        head(stream, status, &headers, body.len())?;
        let n_bytes = match fault {
            Some(Fault::Cut(n)) => n.min(body.len()),
            Some(Fault::Stall(_) | Fault::Held) => body.len() / 2,
            _ => body.len(),
        };
        self.write(stream, &body[..n_bytes], &fault)?;
        match fault {
            Some(Fault::Stall(ms)) => std::thread::sleep(Duration::from_millis(ms)),
            Some(Fault::Held) => {
                self.wait_for_release(stream)?;
                self.write(stream, &body[n_bytes..], &fault)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Fails once the other side has gone.
    fn wait_for_release(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_millis(10)))?;
        while !self.shared.lock().unwrap().released {
            match stream.peek(&mut [0]) {
                Ok(0) => return Err(ErrorKind::ConnectionAborted.into()),
                Ok(_) => std::thread::sleep(Duration::from_millis(10)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a part of a body, and counts it.
    fn write(&self, stream: &mut TcpStream, bytes: &[u8], fault: &Option<Fault>) -> std::io::Result<()> {
        for piece in bytes.chunks(64 * 1024) {
            // Counted first: who has read the last byte may ask at once.
            self.shared.lock().unwrap().body_bytes += piece.len();
            if let Err(error) = stream.write_all(piece) {
                self.shared.lock().unwrap().body_bytes -= piece.len();
                return Err(error);
            }
            if let Some(Fault::Throttle(ms)) = fault {
                std::thread::sleep(Duration::from_millis(*ms));
            }
        }
        Ok(())
    }
}

/// What the listing gives for git's identifier of a file: 40 hexadecimal digits, here of the path's FNV-1a hash.
pub fn git_oid(path: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:040x}", path.bytes().fold(0xcbf2_9ce4_8422_2325u64, step))
}

const JSON: &str = "Content-Type: application/json\r\n";

fn head(stream: &mut TcpStream, status: u16, headers: &str, n_bytes: usize) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\n\
         Access-Control-Expose-Headers: ETag, Link, Content-Range, Retry-After\r\n{headers}Content-Length: {n_bytes}\r\n\r\n"
    )
}

fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    head(stream, status, headers, body.len())?;
    stream.write_all(body)
}
