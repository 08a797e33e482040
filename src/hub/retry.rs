//! When a request that failed is made again: after how long, and which failures are worth it.

use web_time::{SystemTime, UNIX_EPOCH};

/// The longest wait that a server may ask for, in milliseconds. Whoever asks for more is told to the user instead.
pub const MAX_RETRY_AFTER_MS: u64 = 10 * 60 * 1000;

/// Whether a status is about this moment and not about the file: the same request may succeed later.
#[must_use]
pub fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=524)
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(unix_secs(header)?.saturating_sub(now) * 1000)
}

/// Reads the one form of dates that HTTP still sends: `Wed, 21 Oct 2015 07:28:00 GMT`.
fn unix_secs(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = date.split_ascii_whitespace().collect();
    let [_, day, month, year, clock, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, secs] = clock.as_slice() else { return None };
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from 1 March of the year 0 on, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hours * 3600 + minutes * 60 + secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds() {
        assert_eq!(unix_secs("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(unix_secs("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(unix_secs("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
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
