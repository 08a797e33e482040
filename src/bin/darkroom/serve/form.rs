//! Bodies of forms with files, `multipart/form-data` (RFC 7578), cut into their parts without copying any.
//!
//! The whole body is there already, within its bound: this is a search for lines, not a stream. It deliberately knows no
//! transfer encodings (nothing sends them over HTTP) and no other character set than UTF-8.

use axum::body::Bytes;
use axum::http::{HeaderMap, header};

use super::failure::Failure;

/// The most parts of one form: each field of a request once, and several pictures to tell that they are too many.
const MAX_PARTS: usize = 128;
/// The most bytes of a part's head, and of what stands in front of the first part or behind the last one.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// One field of a form.
#[derive(Debug)]
pub struct Part {
    /// Its name, `image[]` for one of a list.
    pub name: String,
    /// Whether it came as a file, with a name of its own.
    pub is_file: bool,
    pub bytes: Bytes,
}

/// Whether the body is a form, by its header.
pub fn is_form(headers: &HeaderMap) -> bool {
    content_type(headers).get(..19).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/form-data"))
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

fn malformed(why: &str) -> Failure {
    Failure::request(format!("the form is malformed: {why}"))
}

/// The parts, in order.
///
/// # Errors
/// 400 where the form is cut off or malformed, or has more parts than a request has fields.
pub fn parts(headers: &HeaderMap, body: &Bytes) -> Result<Vec<Part>, Failure> {
    let boundary = parameter(content_type(headers), "boundary").filter(|b| (1..=70).contains(&b.len()));
    let boundary = boundary.ok_or_else(|| malformed("its Content-Type names no boundary"))?;
    let line = format!("--{boundary}").into_bytes();
    let mut at = find_boundary(body, &line, 0).filter(|&at| at <= MAX_HEAD_BYTES);
    let mut parts = Vec::new();
    while let Some(start) = at {
        let start = start + line.len();
        if body[start..].starts_with(b"--") {
            if body.len() - start > MAX_HEAD_BYTES {
                return Err(malformed("something follows its end"));
            }
            return Ok(parts);
        }
        if parts.len() == MAX_PARTS {
            return Err(malformed(&format!("it has more than {MAX_PARTS} parts")));
        }
        // The rest of the boundary's line is empty, or blanks.
        let head = find(&body[..body.len().min(start + 256)], b"\n", start).map(|end| end + 1);
        let head = head.ok_or_else(|| malformed("a part has no head"))?;
        let (fields, data) = head_of(body, head)?;
        let end = find_boundary(body, &line, data).ok_or_else(|| malformed("it is cut off"))?;
        // The line break in front of a boundary belongs to the boundary.
        let without_break = body[data..end].strip_suffix(b"\n").unwrap_or(&body[data..end]);
        let without_break = without_break.strip_suffix(b"\r").unwrap_or(without_break);
        let bytes = body.slice(data..data + without_break.len());
        let disposition = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"));
        let name = disposition.and_then(|(_, value)| parameter(value, "name"));
        let name = name.ok_or_else(|| malformed("a part has no name"))?;
        let is_file = disposition.is_some_and(|(_, value)| {
            parameter(value, "filename").is_some() || parameter(value, "filename*").is_some()
        });
        parts.push(Part { name, is_file, bytes });
        at = Some(end);
    }
    Err(malformed(if parts.is_empty() { "it does not begin with its boundary" } else { "it is cut off" }))
}

/// The fields of a part's head, and where its data begins.
fn head_of(body: &[u8], start: usize) -> Result<(Vec<(String, String)>, usize), Failure> {
    let mut fields = Vec::new();
    let mut at = start;
    loop {
        let limit = body.len().min(start + MAX_HEAD_BYTES);
        let end = find(&body[..limit], b"\n", at).ok_or_else(|| malformed("a part's head does not end"))?;
        let line = String::from_utf8_lossy(&body[at..end]);
        let line = line.trim_end_matches('\r');
        at = end + 1;
        if line.is_empty() {
            return Ok((fields, at));
        }
        if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

/// Where `wanted` begins at or after `from`.
fn find(bytes: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let first = *wanted.first()?;
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.iter().position(|byte| *byte == first) {
        at += found;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Where the next boundary begins, at or after `from`: a line that holds it and `--` or blanks.
fn find_boundary(bytes: &[u8], line: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = find(bytes, line, at)?;
        at = found + 1;
        let begins = found == 0 || bytes[found - 1] == b'\n';
        let rest = &bytes[found + line.len()..];
        let is_blank = || rest.iter().find(|byte| !b" \t\r".contains(byte)) == Some(&b'\n');
        if begins && (rest.starts_with(b"--") || is_blank()) {
            return Some(found);
        }
    }
}

/// A parameter of a header's value: `name="a.png"` or `name=a`. Inside quotes, `\"` (as curl writes it) and `%22` (as
/// browsers do) are a quote.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (name, after) = (name.trim_matches([' ', '\t', ';']), after.trim_start());
        let (text, next) = match after.strip_prefix('"') {
            Some(inside) => {
                let mut text = String::new();
                let mut chars = inside.char_indices();
                loop {
                    match chars.next()? {
                        (end, '"') => break (text.replace("%22", "\""), &inside[end + 1..]),
                        (_, '\\') => match chars.next()?.1 {
                            c @ ('"' | '\\') => text.push(c),
                            // A path of Windows, written as it is.
                            c => text.extend(['\\', c]),
                        },
                        (_, c) => text.push(c),
                    }
                }
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = next.strip_prefix(';').unwrap_or(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, body: &[u8]) -> Result<Vec<(String, bool, Vec<u8>)>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        assert!(is_form(&headers));
        let parts = parts(&headers, &Bytes::copy_from_slice(body))?;
        Ok(parts.into_iter().map(|part| (part.name, part.is_file, part.bytes.to_vec())).collect())
    }

    #[test]
    fn forms_of_several_clients_are_read() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\r\n--x y\r\n\r\n--x\r\n\
            content-disposition: form-data; filename=\"a;\\\"b\\\".png\"; name=\"image[]\"\r\nContent-Type: image/png\r\n\r\n\
            \x89PNG\r\n\n--\r\n--xx--\r\n--x\r\nContent-Disposition: form-data; name=n; filename*=utf-8''%e2\r\n\r\n\r\n--x--\r\n";
        assert_eq!(
            read("Multipart/Form-Data; charset=utf-8; boundary=\"x\"", body).unwrap(),
            [
                ("prompt".to_owned(), false, b"a\r\n--x y\r\n".to_vec()),
                ("image[]".to_owned(), true, b"\x89PNG\r\n\n--\r\n--xx--".to_vec()),
                ("n".to_owned(), true, Vec::new()),
            ]
        );
        let plain = b"--b\nContent-Disposition: form-data; name=\"q\"\n\n1\n--b--";
        assert_eq!(read("multipart/form-data; boundary=b", plain).unwrap(), [("q".to_owned(), false, b"1".to_vec())]);
        assert_eq!(read("multipart/form-data; boundary=b", b"--b--\r\n").unwrap(), []);
    }

    #[test]
    fn malformed_forms_are_refused() {
        let whole = b"--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n1\r\n--b--\r\n";
        assert!(read("multipart/form-data; boundary=b", whole).is_ok());
        for end in 0..whole.len() - 4 {
            assert!(read("multipart/form-data; boundary=b", &whole[..end]).is_err(), "{end}");
        }
        assert!(read("multipart/form-data", whole).is_err());
        assert!(read("multipart/form-data; boundary=", whole).is_err());
        assert!(read("multipart/form-data; boundary=c", whole).is_err());
        assert!(read("multipart/form-data; boundary=b", b"--b\r\nContent-Type: a/b\r\n\r\n1\r\n--b--").is_err());
        let far = [&[b'x'; MAX_HEAD_BYTES + 1][..], b"\n", whole].concat();
        assert!(read("multipart/form-data; boundary=b", &far).is_err());
        let many = whole[..whole.len() - 7].repeat(MAX_PARTS + 1);
        assert!(read("multipart/form-data; boundary=b", &[&many[..], b"--b--"].concat()).is_err());
    }
}
