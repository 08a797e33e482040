//! Numbers on the command line, with what would work where one is none; and random seeds.

use std::num::IntErrorKind;

use darkroom::image::Border;

const WHOLE: &str = "use a whole number, 0 or more";
const NUMBER: &str = "use a number, such as 7.5";

/// A whole number, 0 or more.
pub fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| WHOLE.to_owned())
}

/// A whole number, 1 or more. One that is too small is left to the check of the request, which has the range.
pub fn positive(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "use a whole number, 1 or more".to_owned())
}

/// A whole number between two, both included.
pub fn between<const LEAST: u16, const MOST: u16>(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
    number.ok_or_else(|| format!("use a whole number from {LEAST} to {MOST}"))
}

/// What the parsers of the standard library and of clap say of a text that is no number, in plain words; `None` for any
/// other message.
pub fn in_plain_words(reason: &str) -> Option<String> {
    match reason {
        "invalid digit found in string"
        | "cannot parse integer from empty string"
        | "number too small to fit in target type" => Some(WHOLE.to_owned()),
        "number too large to fit in target type" => Some("use a smaller whole number".to_owned()),
        "invalid float literal" | "cannot parse float from empty string" => Some(NUMBER.to_owned()),
        _ => {
            let (least, most) = reason.split_once(" is not in ")?.1.split_once("..=")?;
            Some(format!("use a whole number from {least} to {most}"))
        }
    }
}

/// A number, with a point for its fraction.
pub fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| NUMBER.to_owned())
}

/// A number of which the whole is 1. One that is too large is left to the check of the request.
pub fn fraction(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "use a number from 0 to 1, such as 0.5".to_owned())
}

/// One of several noise levels.
pub fn level(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "use numbers with commas between them, such as 14.6,2.9,0".to_owned())
}

/// One of several training steps.
pub fn timestep(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "use whole numbers with commas between them, such as 999,850,736".to_owned())
}

/// Width and height: `1024x768`.
pub fn size(text: &str) -> Result<(usize, usize), String> {
    pair(text).ok_or_else(|| "use two whole numbers, such as 1024x768".to_owned())
}

/// From the left and the top: `0x64`.
pub fn corner(text: &str) -> Result<(usize, usize), String> {
    pair(text).ok_or_else(|| "use two whole numbers, such as 0x0 or 0x64".to_owned())
}

fn pair(text: &str) -> Option<(usize, usize)> {
    text.split_once('x').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
}

/// Pixels on each side of a picture: `64,0,64,0`.
pub fn border(text: &str) -> Result<Border, String> {
    let sides: Option<Vec<usize>> = text.split(',').map(|side| side.trim().parse().ok()).collect();
    match sides.as_deref() {
        Some(&[left, top, right, bottom]) if [left, top, right, bottom] != [0; 4] => {
            Ok(Border { left, top, right, bottom })
        }
        _ => Err("use four whole numbers of pixels, not all 0, such as 64,0,64,0 for left and right".to_owned()),
    }
}

/// A seed.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let range = format!("use 0 to {}, or leave it out for a random one", u64::MAX);
        if *error.kind() == IntErrorKind::PosOverflow { format!("too large: {range}") } else { range }
    })
}

/// Bytes: a number alone, or with KB, MB, GB (powers of ten) or KiB, MiB, GiB (of two).
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 7] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("B", 1.0),
    ];
    let unit = UNITS.iter().find(|(unit, _)| text.to_lowercase().ends_with(&unit.to_lowercase()));
    let (number, scale) = match unit {
        Some((unit, scale)) => (&text[..text.len() - unit.len()], *scale),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number * scale < 1e18 => Ok((number * scale) as u64),
        _ => Err("give bytes as a number, or as 2GB, 1500MB, 2GiB".to_string()),
    }
}

/// A seed that differs from run to run, below 2^32.
pub fn random_seed() -> u64 {
    crate::random::number() & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages are other people's: if a new version words one otherwise, it is found here.
    #[test]
    fn what_other_parsers_say_is_put_in_plain_words() {
        let of = |error: &dyn ToString| in_plain_words(&error.to_string()).unwrap_or_default();
        assert_eq!(of(&"x".parse::<usize>().unwrap_err()), WHOLE);
        assert_eq!(of(&"-1".parse::<usize>().unwrap_err()), WHOLE);
        assert_eq!(of(&"".parse::<usize>().unwrap_err()), WHOLE);
        assert_eq!(of(&"-300".parse::<i8>().unwrap_err()), WHOLE);
        assert_eq!(of(&"300".parse::<u8>().unwrap_err()), "use a smaller whole number");
        assert_eq!(of(&"x".parse::<f64>().unwrap_err()), NUMBER);
        assert_eq!(of(&"".parse::<f64>().unwrap_err()), NUMBER);
        assert_eq!(of(&"0 is not in 1..=1000"), "use a whole number from 1 to 1000");
        assert_eq!(in_plain_words("give a file"), None);
        assert_eq!(between::<1, 9>("0").unwrap_err(), "use a whole number from 1 to 9");
        assert_eq!((between::<0, 9>("0"), size("1x2"), corner("0x8")), (Ok(0), Ok((1, 2)), Ok((0, 8))));
    }
}
