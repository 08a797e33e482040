//! Numbers on the command line, with what would work where one is none; and random seeds.

use std::num::IntErrorKind;

use darkroom::image::Border;

/// A whole number, 0 or more.
pub fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "use a whole number, 0 or more".to_owned())
}

/// A number, with a point for its fraction.
pub fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "use a number, such as 7.5".to_owned())
}

/// Two whole numbers: `1024x768`.
pub fn pair(text: &str) -> Result<(usize, usize), String> {
    let both = text.split_once('x').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    both.ok_or_else(|| "use two whole numbers, such as 1024x768".to_owned())
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
