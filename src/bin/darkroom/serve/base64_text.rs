//! Base64 as clients write it: with line breaks, with or without padding, in either alphabet, bare or as a `data:` URL.
//!
//! Decoding allocates three quarters of the text and nothing else. It deliberately fetches no address: a server that loads
//! what strangers name can be sent anywhere.

/// Why no text is no picture.
pub const EMPTY: &str = "it is empty";

/// Marks a character that is not of either alphabet.
const NONE: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut i = 0;
    while i < alphabet.len() {
        values[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    // The alphabet for addresses and file names.
    values[b'-' as usize] = 62;
    values[b'_' as usize] = 63;
    values
};

/// The bytes that the text spells.
///
/// # Errors
/// Why it spells none, in words that follow "… is not base64: ".
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim_start();
    let is_url = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if is_url("http://") || is_url("https://") || is_url("file://") {
        return Err("it is an address, and nothing is fetched from there: send the file itself".into());
    }
    if !is_url("data:") {
        return decode_digits(text.as_bytes(), false);
    }
    let Some((head, data)) = text.split_once(',') else {
        return Err("the data: URL has no comma: write data:image/png;base64,…".into());
    };
    let is_base64 = head.rsplit(';').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("base64"));
    if !is_base64 {
        return Err("the data: URL is not in base64: write data:image/png;base64,…".into());
    }
    decode_digits(data.as_bytes(), true)
}

/// `is_url` says that characters may be written as `%2B`.
fn decode_digits(text: &[u8], is_url: bool) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut group, mut n_digits, mut n_padding) = (0u32, 0, 0);
    let mut at = 0;
    while at < text.len() {
        let start = at;
        let mut byte = text[at];
        at += 1;
        if is_url && byte == b'%' {
            let hex = text.get(at..at + 2).and_then(|hex| std::str::from_utf8(hex).ok());
            byte = hex
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                .ok_or_else(|| format!("the %-escape at character {start} is malformed"))?;
            at += 2;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        if byte == b'=' {
            n_padding += 1;
            continue;
        }
        let value = VALUES[usize::from(byte)];
        if value == NONE || n_padding > 0 {
            let found = if byte.is_ascii_graphic() { format!("{:?}", char::from(byte)) } else { "a character".into() };
            let place = if value == NONE { "does not belong in it" } else { "comes after the end" };
            return Err(format!("{found} at character {start} {place}"));
        }
        group = group << 6 | u32::from(value);
        n_digits += 1;
        if n_digits == 4 {
            bytes.extend_from_slice(&group.to_be_bytes()[1..]);
            (group, n_digits) = (0, 0);
        }
    }
    match n_digits {
        0 => {}
        1 => return Err("it ends in the middle of a byte".into()),
        n => bytes.extend_from_slice(&(group << (6 * (4 - n))).to_be_bytes()[1..n]),
    }
    // Padding fills up to four and no further, where there is any.
    if n_padding > 0 && (n_digits + n_padding) % 4 != 0 {
        return Err("its padding is not of its length".into());
    }
    if bytes.is_empty() {
        return Err(EMPTY.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_in_use_spell_the_same_bytes() {
        let bytes: Vec<u8> = (0..=255).chain([0xfb, 0xff]).collect();
        use base64::Engine;
        let (standard, url) =
            (base64::engine::general_purpose::STANDARD, base64::engine::general_purpose::URL_SAFE_NO_PAD);
        let text = standard.encode(&bytes);
        let lines = |end: &str| {
            let pieces: Vec<String> = text.as_bytes().chunks(76).map(|c| String::from_utf8_lossy(c).into()).collect();
            pieces.join(end)
        };
        for form in [
            text.clone(),
            lines("\n"),
            lines("\r\n") + "\r\n",
            lines("\t "),
            text.trim_end_matches('=').into(),
            url.encode(&bytes),
            format!("data:image/png;base64,{text}"),
            format!("DATA:image/png;charset=utf-8;BASE64, {text}"),
            format!("data:;base64,{}", text.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D")),
            format!("  {text}"),
        ] {
            assert_eq!(decode(&form).unwrap(), bytes, "{form}");
        }
        for n in 1..5 {
            assert_eq!(decode(&url.encode(&bytes[..n])).unwrap(), &bytes[..n]);
            assert_eq!(decode(&standard.encode(&bytes[..n])).unwrap(), &bytes[..n]);
        }
    }

    #[test]
    fn what_is_not_base64_says_why() {
        for (text, words) in [
            ("?", "'?' at character 0"),
            ("QUJ\u{e9}", "character 3"),
            ("", "empty"),
            ("====", "empty"),
            ("QUJDR", "middle"),
            ("QQ=", "padding"),
            ("QUI=QUI=", "after the end"),
            ("data:image/png,abc", "base64"),
            ("data:image/png;base64", "comma"),
            ("https://example.com/a.png", "fetched"),
            ("data:;base64,QU%4", "escape"),
        ] {
            let error = decode(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn no_more_is_allocated_than_the_text_is_long() {
        assert!(decode(&("QUJD".to_owned() + &"\n".repeat(1 << 20))).unwrap().capacity() <= 1 << 20);
    }
}
