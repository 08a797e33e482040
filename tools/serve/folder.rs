//! A small web server for folders: what `build.sh serve` and the page's test open in a browser.
//!
//! Standard library only, so that it compiles in a second. It answers GET and HEAD with the right type for modules and
//! wasm, single byte ranges, which weight files are read by, and `304 Not Modified`. Of a file it sends the compressed copy
//! that `build.sh` made beside it, where the browser takes that. It is for this machine's own browser: no TLS, no listing of
//! folders.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// What makes the page cross-origin isolated, so that the processor has threads and a cancel reaches a step that computes; and
/// types are not guessed.
const ISOLATION: &str = "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\nX-Content-Type-Options: nosniff\r\n";

/// The longest request head that is read, in bytes; no browser comes near it.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// Serves the files below `roots` on `listener`, one thread a connection, until the process ends. What several folders
/// have is that of the first of them.
///
/// # Errors
/// When one of them is not a folder, or the listener stops accepting.
pub fn serve(roots: &[PathBuf], listener: &TcpListener) -> io::Result<()> {
    serve_with(ISOLATION, roots, listener)
}

/// [`serve`] as a plain host does it, which isolates nothing.
///
/// # Errors
/// As [`serve`].
#[allow(dead_code, reason = "for the page's tests")]
pub fn serve_plainly(roots: &[PathBuf], listener: &TcpListener) -> io::Result<()> {
    serve_with("", roots, listener)
}

fn serve_with(headers: &'static str, roots: &[PathBuf], listener: &TcpListener) -> io::Result<()> {
    let roots: Arc<[PathBuf]> = roots.iter().map(|root| root.canonicalize()).collect::<io::Result<_>>()?;
    for stream in listener.incoming() {
        let (roots, stream) = (Arc::clone(&roots), stream?);
        std::thread::spawn(move || {
            // A browser that closes the tab breaks the connection; there is nobody left to tell.
            if let Err(error) = answer_all(headers, &roots, &stream)
                && !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
            {
                eprintln!("connection: {error}");
            }
        });
    }
    Ok(())
}

/// Answers request after request on one connection until the browser closes it.
fn answer_all(headers: &str, roots: &[PathBuf], stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        for line in reader.by_ref().take(MAX_HEAD_BYTES).lines() {
            match line? {
                line if line.is_empty() => break,
                line => head.push(line),
            }
        }
        if head.is_empty() {
            return Ok(());
        }
        answer(headers, roots, &head, stream)?;
    }
}

/// Answers one request, given its lines without the empty one at the end, with some more headers.
fn answer(more: &str, roots: &[PathBuf], head: &[String], mut stream: &TcpStream) -> io::Result<()> {
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return refuse(stream, "405 Method Not Allowed"),
    };
    let Some(path) = roots.iter().find_map(|root| local_path(root, target)) else {
        return refuse(stream, "404 Not Found");
    };
    let header = |wanted: &str| {
        head.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    // The rest of a file that was changed meanwhile would be joined to what is there.
    let is_of_another = |tag: &str| path.metadata().is_ok_and(|metadata| tag_of(&metadata) != tag);
    let range = header("range").filter(|_| !header("if-range").is_some_and(is_of_another));
    let coding = if range.is_none() { compressed(&path, header("accept-encoding").unwrap_or_default()) } else { None };
    let sent = coding.as_ref().map_or(&path, |(_, copy)| copy);
    let Ok(mut file) = File::open(sent) else { return refuse(stream, "404 Not Found") };
    let metadata = file.metadata()?;
    let tag = tag_of(&metadata);
    let lasting = format!("ETag: {tag}\r\nVary: Accept-Encoding\r\nCache-Control: no-cache\r\n{more}");
    if header("if-none-match")
        .is_some_and(|known| known.split(',').map(str::trim).any(|known| known == "*" || known == tag))
    {
        return stream.write_all(format!("HTTP/1.1 304 Not Modified\r\n{lasting}\r\n").as_bytes());
    }
    let file_bytes = metadata.len();
    let (status, start, n_bytes) = match range.map(|range| parse_range(range, file_bytes)) {
        None => ("200 OK", 0, file_bytes),
        Some(Some((start, end))) => ("206 Partial Content", start, end - start),
        Some(None) => return refuse(stream, "416 Range Not Satisfiable"),
    };
    let mut headers = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {n_bytes}\r\nAccept-Ranges: bytes\r\n{lasting}",
        content_type(&path)
    );
    if let Some((coding, _)) = coding {
        headers += &format!("Content-Encoding: {coding}\r\n");
    }
    if status.starts_with("206") {
        headers += &format!("Content-Range: bytes {start}-{}/{file_bytes}\r\n", start + n_bytes - 1);
    }
    stream.write_all((headers + "\r\n").as_bytes())?;
    if with_body {
        file.seek(SeekFrom::Start(start))?;
        io::copy(&mut file.take(n_bytes), &mut stream)?;
    }
    Ok(())
}

/// What changes when a file does: its length and when it was written.
fn tag_of(metadata: &Metadata) -> String {
    let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("\"{:x}-{:x}\"", metadata.len(), written.as_nanos())
}

/// The compressed copy beside a file that a browser takes, with its coding; one that is older than the file is of another.
fn compressed(path: &Path, accepted: &str) -> Option<(&'static str, PathBuf)> {
    let written = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    [("br", ".br"), ("gzip", ".gz")].into_iter().find_map(|(coding, ending)| {
        let takes = accepted.split(',').any(|entry| {
            let (name, quality) = entry.split_once(';').unwrap_or((entry, ""));
            name.trim().eq_ignore_ascii_case(coding)
                && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
        });
        let mut copy = path.as_os_str().to_owned();
        copy.push(ending);
        let copy = PathBuf::from(copy);
        (takes && written(&copy)? >= written(path)?).then_some((coding, copy))
    })
}

fn refuse(mut stream: &TcpStream, status: &str) -> io::Result<()> {
    let body = format!("{status}\n");
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The file that a request's target names, or nothing when it lies outside `root` or is no file.
fn local_path(root: &Path, target: &str) -> Option<PathBuf> {
    let target = target.split(['?', '#']).next()?.trim_start_matches('/');
    let relative = PathBuf::from(percent_decoded(target)?);
    if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
        return None;
    }
    let mut path = root.join(relative);
    if path.is_dir() {
        path.push("index.html");
    }
    // A link inside the folder may point outside of it.
    path.canonicalize().ok().filter(|path| path.starts_with(root) && path.is_file())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// First byte and the byte after the last of `bytes=a-b`, `bytes=a-` or `bytes=-n`, or nothing when it cannot be met.
fn parse_range(range: &str, file_bytes: u64) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (from, to) {
        ("", n) => (file_bytes.saturating_sub(n.parse().ok()?), file_bytes),
        (from, "") => (from.parse().ok()?, file_bytes),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.saturating_add(1).min(file_bytes)),
    };
    (start < end).then_some((start, end))
}

/// The type that browsers insist on for modules and wasm; for the rest, the ordinary one.
fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("wasm") => "application/wasm",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file_and_impossible_ones_refused() {
        assert_eq!(parse_range("bytes=0-3", 10), Some((0, 4)));
        assert_eq!(parse_range("bytes=4-", 10), Some((4, 10)));
        assert_eq!(parse_range("bytes=-3", 10), Some((7, 10)));
        assert_eq!(parse_range("bytes=8-99", 10), Some((8, 10)));
        assert_eq!(parse_range("bytes=10-", 10), None);
        assert_eq!(parse_range("bytes=5-4", 10), None);
        assert_eq!(parse_range("pages=1-2", 10), None);
    }

    #[test]
    fn a_compressed_copy_is_sent_where_it_is_taken_and_not_older() {
        let name = std::env::temp_dir().join(format!("darkroom-serve-{}.js", std::process::id()));
        let copy = PathBuf::from(format!("{}.gz", name.display()));
        std::fs::write(&name, "let a;").unwrap();
        assert_eq!(compressed(&name, "gzip, br"), None);
        std::fs::write(&copy, "compressed").unwrap();
        assert_eq!(compressed(&name, "deflate, gzip;q=0.5"), Some(("gzip", copy.clone())));
        assert_eq!(compressed(&name, "br, gzip;q=0"), None);
        assert_eq!(compressed(&name, ""), None);
        let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        File::options().write(true).open(&copy).unwrap().set_modified(earlier).unwrap();
        assert_eq!(compressed(&name, "gzip"), None);
        [name, copy].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }

    #[test]
    fn only_files_inside_the_folder_are_found() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").canonicalize().unwrap();
        assert_eq!(local_path(&src, "/lib.rs?x=1"), Some(src.join("lib.rs")));
        assert_eq!(local_path(&src, "/%6cib.rs"), Some(src.join("lib.rs")));
        assert_eq!(local_path(&src, "/../Cargo.toml"), None);
        assert_eq!(local_path(&src, "/%2e%2e/Cargo.toml"), None);
        assert_eq!(local_path(&src, "/run"), None, "a folder without index.html");
        assert_eq!(local_path(&src, "/%zz"), None);
    }
}
