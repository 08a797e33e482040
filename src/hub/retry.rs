//! Which failed requests are repeated, and after how long.

use std::time::UNIX_EPOCH;

use web_time::SystemTime;

/// The longest wait that a server may ask for, in milliseconds. A longer one is reported to the user instead.
pub const MAX_RETRY_AFTER_MS: u64 = 10 * 60 * 1000;

/// Whether a status is about this moment and not about the file: the same request may succeed later.
#[must_use]
pub fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=524)
}

/// Whether a status is the server's own trouble, and not about the file: it is busy, broken or away.
#[must_use]
pub fn is_of_server(status: u16) -> bool {
    is_passing(status) || (500..600).contains(&status)
}

/// The wait before attempt number `attempt` + 1, in milliseconds: doubled with each attempt up to `max_ms`, and between
/// half and all of that by `jitter`, 0 to 1, so that those who were turned away together do not come back together.
#[must_use]
pub fn backoff_ms(attempt: u32, base_ms: u64, max_ms: u64, jitter: f64) -> u64 {
    let full = base_ms.saturating_mul(1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX)).min(max_ms);
    (full as f64 * (0.5 + 0.5 * jitter)) as u64
}

/// Reads the header `Retry-After`, seconds or a date, as milliseconds from now on.
#[must_use]
pub fn retry_after_ms(header: &str) -> Option<u64> {
    let header = header.trim();
    if let Ok(secs) = header.parse::<u64>() {
        return secs.checked_mul(1000);
    }
    let at = httpdate::parse_http_date(header).ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(at.saturating_sub(now) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        assert_eq!(retry_after_ms(" 7 "), Some(7000));
        assert_eq!(retry_after_ms("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0), "a date that is past");
        for junk in ["", "soon", "-1", "Wed, 21 Oct", "Wed, 21 Oct 2015 07:28 GMT", "Wed, 99 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after_ms(junk), None, "{junk}");
        }
    }

    #[test]
    fn waits_double_and_have_an_end() {
        let waits: Vec<u64> = (1..=6).map(|attempt| backoff_ms(attempt, 500, 8000, 1.0)).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 8000]);
        assert_eq!(backoff_ms(1, 500, 8000, 0.0), 250);
        assert_eq!(backoff_ms(200, 500, 8000, 1.0), 8000);
    }
}
