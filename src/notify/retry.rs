//! When to try again: what the receiver asks for, or a capped exponential backoff with jitter.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::time::Timestamp;

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// A receiver that asks for more is asked again all the same: a wrong clock must not silence it for a day.
const ASKED_MAX: Duration = Duration::from_hours(1);

/// After the `attempt`th (counted from 1) failed: anywhere between one second and a limit that doubles from two
/// seconds to five minutes, so that the receivers of many daemons are not hit at once when they come back.
pub(super) fn backoff(attempt: u32) -> Duration {
    let limit = 2u32.checked_pow(attempt.max(1)).map_or(BACKOFF_MAX, |factor| (BACKOFF_MIN * factor).min(BACKOFF_MAX));
    BACKOFF_MIN + random_below(limit.saturating_sub(BACKOFF_MIN))
}

/// Uniform enough for jitter: the keys that the standard library draws for its hash maps.
fn random_below(limit: Duration) -> Duration {
    let drawn = u128::from(RandomState::new().hash_one(0u8));
    let nanos = (limit.as_nanos() * drawn) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), between one second and an hour. A date is measured from
/// the receiver's own `Date`, else from `wall`.
pub(super) fn asked(headers: &HeaderMap, wall: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has room for is longer than any cap.
        text.parse().map_or(ASKED_MAX, Duration::from_secs)
    } else {
        let until = date(text)?;
        let from = date_header(headers, &DATE).unwrap_or(wall);
        until.since(from)
    };
    Some(wait.clamp(BACKOFF_MIN, ASKED_MAX))
}

fn date_header(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    date(headers.get(name)?.to_str().ok()?.trim())
}

/// An IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`: the only form that senders may generate (RFC 9110, 5.6.7).
fn date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split(' ');
    let (weekday, day, month) = (parts.next()?, parts.next()?, parts.next()?);
    let (year, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    if weekday.len() != 4 || zone != "GMT" || parts.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let at = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
    Some(Timestamp::from_millis(i64::try_from(millis).ok()?))
}
