//! Numbers of bytes, as people are told them.

/// Bytes as people say them.
pub(crate) fn in_words(n_bytes: u64) -> String {
    match n_bytes {
        0..1_000 => format!("{n_bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", n_bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", n_bytes / 1_000_000),
        _ => format!("{:.2} GB", n_bytes as f64 / 1e9),
    }
}
