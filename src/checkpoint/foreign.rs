//! Tells files by how they begin, so that what is no safetensors file is refused by its name and with what would work.

use crate::error::{Error, Result};
use crate::weights::{ByteSource, MAX_HEADER_BYTES};

/// How many bytes of a file are looked at.
const START_BYTES: u64 = 512;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// safetensors, or something that no other format begins as.
    Safetensors,
    /// GGUF, the format of llama.cpp and stable-diffusion.cpp.
    Gguf,
    /// What Python's pickle wrote, alone or in PyTorch's zip archive.
    Pickle,
    /// Another archive.
    Archive,
    /// A page of a website.
    Html,
    /// JSON or another text.
    Text,
    /// A picture.
    Picture,
    /// Nothing but zeros: space that a download reserved and did not fill.
    Zeros,
    /// No byte at all.
    Empty,
}

impl Format {
    /// Tells it by the first bytes, up to 512, of a file.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        if start.is_empty() {
            return Format::Empty;
        }
        // A header of a plausible length, and the first byte of its JSON.
        let n_header = start.first_chunk().map(|prefix| u64::from_le_bytes(*prefix));
        if n_header.is_some_and(|n| n <= MAX_HEADER_BYTES) && start.get(8) == Some(&b'{') {
            return Format::Safetensors;
        }
        let begins = |magic: &[u8]| start.starts_with(magic);
        if begins(b"GGUF") {
            return Format::Gguf;
        }
        if begins(b"PK\x03\x04") {
            // PyTorch's first entry is the pickle; its name begins at byte 30.
            let name = start.get(30..).unwrap_or_default();
            let is_torch = name.windows(8).take(200).any(|part| part == b"data.pkl");
            return if is_torch { Format::Pickle } else { Format::Archive };
        }
        // A pickle of protocol 2 to 5 begins with its number; the high bytes of a header's length would be zeros.
        if matches!(start, [0x80, 2..=5, third, ..] if *third != 0) {
            return Format::Pickle;
        }
        if [&b"7z\xbc\xaf"[..], b"Rar!", b"\x1f\x8b", b"BZh"].into_iter().any(begins) {
            return Format::Archive;
        }
        if [&b"\x89PNG"[..], b"\xff\xd8\xff", b"GIF8"].into_iter().any(begins)
            || begins(b"RIFF") && start.get(8..12) == Some(b"WEBP")
        {
            return Format::Picture;
        }
        if start.len() >= 16 && start.iter().all(|&byte| byte == 0) {
            return Format::Zeros;
        }
        let text = start.trim_ascii_start();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
        let is_tag = |tag: &[u8]| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
        if [&b"<!doctype"[..], b"<html", b"<head", b"<?xml", b"<body"].into_iter().any(is_tag) {
            return Format::Html;
        }
        let is_lfs = begins(b"version https://git-lfs");
        // The last letter may be cut in two.
        let is_utf8 = std::str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true);
        let is_hidden = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
        let is_text = start.len() >= 8 && is_utf8 && !start.iter().any(is_hidden);
        if is_text && !is_lfs { Format::Text } else { Format::Safetensors }
    }

    /// What is said about a file that is not read, and what would work; `None` for those that are read.
    #[must_use]
    pub fn refusal(self) -> Option<&'static str> {
        Some(match self {
            Format::Safetensors | Format::Gguf => return None,
            Format::Pickle => {
                "it is a Python pickle (.ckpt, .pt, .pth, .bin), which can run code when it is opened and so is not read: \
                 take the model's .safetensors file, or convert it with safetensors' or ComfyUI's converter"
            }
            Format::Archive => "it is an archive: unpack it and take the .safetensors file in it",
            Format::Html => {
                "it is a web page in place of the file: the download was answered with a page, often for want of a login or \
                 an access token; download it again"
            }
            Format::Text => {
                "it is a text, not a file of weights: an error message in place of a download, or a configuration"
            }
            Format::Picture => "it is a picture: darkroom show prints what a picture carries",
            Format::Zeros => "it begins with zeros: the download did not finish; download it again",
            Format::Empty => "it is empty: the download did not begin; download it again",
        })
    }

    /// Tells it by reading the beginning of a file.
    ///
    /// # Errors
    /// What the file returns when it cannot be read.
    pub async fn of_file(source: &dyn ByteSource) -> Result<Self> {
        let n = source.len().min(START_BYTES);
        Ok(Format::of(&source.read(0, n as usize).await?))
    }
}

/// Refuses what is no safetensors file.
///
/// # Errors
/// [`Error::Safetensors`] with what it is; what the file returns when it cannot be read.
pub async fn refuse(source: &dyn ByteSource) -> Result<()> {
    match Format::of_file(source).await?.refusal() {
        Some(reason) => Err(Error::Safetensors { file: source.name().to_owned(), reason: reason.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_how_they_begin() {
        let zip = |name: &[u8]| [b"PK\x03\x04".as_slice(), &[0; 26], name, b"\x80\x02}q"].concat();
        let safetensors = |n: u64| [&n.to_le_bytes()[..], b"{\"a\":"].concat();
        for (start, expected) in [
            (safetensors(640), Format::Safetensors),
            // Their lengths begin as a pickle and as a page do.
            (safetensors(0x0280), Format::Safetensors),
            (safetensors(0x3c), Format::Safetensors),
            (b"GGUF\x03\0\0\0{\0\0\0\0\0\0\0".to_vec(), Format::Gguf),
            (zip(b"archive/data.pkl"), Format::Pickle),
            (zip(b"model.safetensors"), Format::Archive),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), Format::Pickle),
            (b"\n<!DOCTYPE html><html>".to_vec(), Format::Html),
            (b"{\"error\":\"Unauthorized\"}".to_vec(), Format::Text),
            (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), Format::Safetensors),
            (vec![0; 512], Format::Zeros),
            ([&[0xff; 8][..], b"{}"].concat(), Format::Safetensors),
            (b"\x89PNG\r\n\x1a\n".to_vec(), Format::Picture),
            (Vec::new(), Format::Empty),
        ] {
            assert_eq!(Format::of(&start), expected, "{:?}", String::from_utf8_lossy(&start));
        }
    }
}
