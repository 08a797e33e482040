//! A Hub of one repository, just true enough for hf-hub: a listing, ranges, the commit and the tag of a file, and
//! weights that are redirected to another address.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub const COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// How the Hub behaves. Statuses other than 200 are given to every request of their kind.
#[derive(Clone)]
pub struct Manner {
    pub api_status: u16,
    pub resolve_status: u16,
    /// How many transfers of more than 1 MB end in the middle.
    pub break_large_transfers: usize,
    /// A file whose length in the listing is wrong.
    pub lie_about: Option<&'static str>,
}

impl Default for Manner {
    fn default() -> Self {
        Manner { api_status: 200, resolve_status: 200, break_large_transfers: 0, lie_about: None }
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub range_start: usize,
    pub authorization: String,
}

pub struct FakeHub {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

struct State {
    endpoint: String,
    repo: String,
    root: PathBuf,
    manner: Manner,
    n_broken: AtomicUsize,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeHub {
    /// Serves the folder `root` as `repo` on a port of its own until the test ends.
    pub fn start(repo: &str, root: PathBuf, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let state = Arc::new(State {
            endpoint: endpoint.clone(),
            repo: repo.to_owned(),
            root,
            manner,
            n_broken: AtomicUsize::new(0),
            requests: Arc::clone(&requests),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                // A client that hangs up early is no failure of the Hub.
                std::thread::spawn(move || state.serve(stream).ok());
            }
        });
        FakeHub { endpoint, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// The tag of a file: 40 hexadecimal digits as git's, here of the path's FNV-1a hash.
pub fn tag(path: &str) -> String {
    let hash = path
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:040x}")
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let target = lines.next().transpose()?.unwrap_or_default();
        let path = target.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut range_start, mut range_end, mut authorization) = (0, None, String::new());
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "range" => {
                    let (start, end) = value.trim_start_matches("bytes=").split_once('-').unwrap();
                    (range_start, range_end) = (start.parse().unwrap(), end.parse::<usize>().ok());
                }
                "authorization" => authorization = value.to_owned(),
                _ => {}
            }
        }
        self.requests.lock().unwrap().push(Request { path: path.clone(), range_start, authorization });

        let plain = |stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]| {
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
                body.len()
            )?;
            stream.write_all(body)
        };
        let resolve = format!("/{}/resolve/main/", self.repo);
        let tags = |path: &str| format!("ETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n", tag(path));
        if path == format!("/api/models/{}/revision/main?blobs=true", self.repo) {
            let body = self.listing();
            plain(&mut stream, self.manner.api_status, "", body.as_bytes())
        } else if let Some(file) = path.strip_prefix(&resolve) {
            if self.manner.resolve_status != 200 {
                plain(&mut stream, self.manner.resolve_status, "", b"")
            } else if file.ends_with(".safetensors") {
                let headers = format!(
                    "Location: {}/cdn/{file}\r\nX-Linked-ETag: \"{}\"\r\n{}",
                    self.endpoint,
                    tag(file),
                    tags("redirect")
                );
                plain(&mut stream, 302, &headers, b"")
            } else {
                self.send_file(&mut stream, file, &tags(file), range_start, range_end)
            }
        } else if let Some(file) = path.strip_prefix("/cdn/") {
            self.send_file(&mut stream, file, "", range_start, range_end)
        } else {
            plain(&mut stream, 404, "", b"")
        }
    }

    fn listing(&self) -> String {
        let files = darkroom::hub::folder::Folder::open(&self.root).unwrap().files().unwrap();
        let siblings: Vec<String> = files
            .iter()
            .map(|file| {
                let lie = u64::from(self.manner.lie_about == Some(file.path.as_str()));
                format!(r#"{{"rfilename":"{}","size":{}}}"#, file.path, file.bytes.unwrap() + lie)
            })
            .collect();
        format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"README.md","size":9}},{}]}}"#, siblings.join(","))
    }

    fn send_file(
        &self,
        stream: &mut TcpStream,
        file: &str,
        headers: &str,
        start: usize,
        end: Option<usize>,
    ) -> std::io::Result<()> {
        let Ok(bytes) = std::fs::read(self.root.join(file)) else {
            return write!(stream, "HTTP/1.1 404 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        };
        if start >= bytes.len() {
            return write!(stream, "HTTP/1.1 416 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
        let end = end.map_or(bytes.len(), |last| (last + 1).min(bytes.len()));
        let part = &bytes[start..end];
        write!(
            stream,
            "HTTP/1.1 206 X\r\nConnection: close\r\n{headers}Content-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\n\r\n",
            end - 1,
            bytes.len(),
            part.len()
        )?;
        let breaks =
            part.len() > 1_000_000 && self.n_broken.fetch_add(1, Ordering::Relaxed) < self.manner.break_large_transfers;
        stream.write_all(if breaks { &part[..500_000] } else { part })
    }
}
