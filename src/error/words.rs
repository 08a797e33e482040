//! Amounts, as messages tell them.

use std::fmt::Display;

/// Bytes as people say them.
pub(crate) fn in_words(n_bytes: u64) -> String {
    match n_bytes {
        0..1_000 => counted(n_bytes, "byte"),
        1_000..1_000_000 => format!("{} kB", n_bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", n_bytes / 1_000_000),
        _ => format!("{:.2} GB", n_bytes as f64 / 1e9),
    }
}

/// The number that is told, which [`in_words`] gives as it is, and is no less than `n_bytes`.
pub(crate) fn rounded_up(n_bytes: u64) -> u64 {
    n_bytes.next_multiple_of(match n_bytes {
        0..1_000 => 1,
        1_000..1_000_000 => 1_000,
        1_000_000..1_000_000_000 => 1_000_000,
        _ => 10_000_000,
    })
}

/// So many of something.
pub(crate) fn counted(n: impl Display, what: &str) -> String {
    let n = n.to_string();
    if n == "1" { format!("{n} {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_suffice_does() {
        for (n_bytes, told) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (2, "2 bytes"),
            (698_260, "699 kB"),
            (631_000_000, "631 MB"),
            (631_000_001, "632 MB"),
            (999_999_999, "1.00 GB"),
            (1_231_000_000, "1.24 GB"),
        ] {
            assert_eq!(in_words(rounded_up(n_bytes)), told);
            assert!(rounded_up(n_bytes) >= n_bytes);
        }
    }
}
