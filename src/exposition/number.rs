//! Numbers as Go writes and reads them, since that is what exposers and Prometheus do.

use super::error::Reason;

/// The NaN that Prometheus stores for any exposed NaN; never its staleness marker, which has other bits.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Digits of which every integer is exact in an `f64` and cannot overflow the fast path's `u64`.
const EXACT_DIGITS: usize = 15;

/// The value of a sample: what Go's `ParseFloat` accepts without `_` and hexadecimal forms, as Prometheus does. A
/// finite literal beyond the range of `f64` is refused, not turned into an infinity.
pub fn value(token: &[u8]) -> Option<f64> {
    small_integer(token).or_else(|| general(token))
}

/// Counters and most gauges are short integers; this spares them the general parser.
fn small_integer(token: &[u8]) -> Option<f64> {
    let (negative, digits) = match token {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > EXACT_DIGITS {
        return None;
    }
    let mut sum: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum * 10 + u64::from(digit);
    }
    #[expect(clippy::cast_precision_loss, reason = "fifteen digits are exact")]
    let magnitude = sum as f64;
    Some(if negative { -magnitude } else { magnitude })
}

fn general(token: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(token).ok()?;
    let parsed: f64 = text.parse().ok()?;
    if parsed.is_nan() {
        // Rust reads a signed NaN, Go does not.
        return text.eq_ignore_ascii_case("nan").then(|| f64::from_bits(NORMAL_NAN_BITS));
    }
    if parsed.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(parsed)
}

/// A timestamp of the text format: digits only, as Prometheus reads it (the format's page allows a sign, Prometheus
/// refuses it).
pub fn timestamp_millis(token: &[u8]) -> Result<i64, Reason> {
    if token.is_empty() || !token.iter().all(u8::is_ascii_digit) {
        return Err(Reason::TimestampMillis);
    }
    let text = std::str::from_utf8(token).map_err(|_| Reason::TimestampMillis)?;
    text.parse().map_err(|_| Reason::TimestampMillis)
}

/// A timestamp of OpenMetrics, seconds, as milliseconds; what is finer is cut off, as in Prometheus.
pub fn timestamp_seconds(token: &[u8]) -> Result<i64, Reason> {
    /// 2^63 ms: what fits an `i64` is below it in magnitude.
    const RANGE_MILLIS: f64 = 9_223_372_036_854_775_808.0;
    let millis = value(token).ok_or(Reason::TimestampSeconds)? * 1000.0;
    if millis.is_nan() || millis.abs() >= RANGE_MILLIS {
        return Err(Reason::TimestampSeconds);
    }
    #[expect(clippy::cast_possible_truncation, reason = "cutting off is meant, and the range was checked")]
    Ok(millis as i64)
}

/// How Prometheus 3 writes an `le` of a histogram or a `quantile` of a summary, so that `1` and `1.0` are one series
/// (`FormatOpenMetricsFloat`): Go's shortest `%g`, and `.0` where neither a point nor an exponent shows. Without a
/// number there is nothing to write.
pub fn canonical(text: &str) -> Option<String> {
    let number = value(text.as_bytes())?;
    if number.is_nan() {
        return Some("NaN".to_owned());
    }
    if number.is_infinite() {
        return Some(if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned());
    }
    if number == 0.0 {
        return Some("0.0".to_owned());
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    // Go's `strconv` goes over to the exponent below -4 and from 6 on when it writes the shortest `%g`. (Its `fmt`
    // would do so from 21 on only; Prometheus calls `strconv`.)
    if (-4..6).contains(&exponent) {
        let plain = number.to_string();
        return Some(if plain.contains('.') { plain } else { plain + ".0" });
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    Some(format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs()))
}
