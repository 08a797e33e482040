//! Numbers on the command line, with what would work where one is none.

use std::num::IntErrorKind;

/// A whole number, 0 or more.
pub fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "use a whole number, 0 or more".to_owned())
}

/// A number, with a point for its fraction.
pub fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "use a number, such as 7.5".to_owned())
}

/// A seed.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let range = format!("use 0 to {}, or leave it out for a random one", u64::MAX);
        if *error.kind() == IntErrorKind::PosOverflow { format!("too large: {range}") } else { range }
    })
}
