//! Numbers as Go writes and reads them, since that is what exposers and Prometheus do.

use super::error::Reason;

/// The NaN that Prometheus stores for any exposed NaN; never its staleness marker, which has other bits.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Digits of which every integer is exact in an `f64` and cannot overflow the fast path's `u64`.
const EXACT_DIGITS: usize = 15;

/// The value of a sample: what Go's `ParseFloat` accepts without `_` and hexadecimal forms, as Prometheus does. A
/// finite literal beyond the range of `f64` is refused, not turned into an infinity.
pub fn value(token: &[u8]) -> Option<f64> {
    match short(token) {
        Some((value, len)) if len == token.len() => Some(value),
        Some(_) | None => general(token),
    }
}

/// The number at the start of `bytes`, and its length, if it is a short decimal that a blank or the end follows: most
/// values are, and this spares them the search for their end and the general parser. Exact: up to fifteen digits are
/// an integer that an `f64` holds, and so is the power of ten that divides it, so the only rounding is that of the
/// division.
#[inline]
pub fn short(bytes: &[u8]) -> Option<(f64, usize)> {
    const TENS: [f64; EXACT_DIGITS + 1] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let (mut sum, whole) = digits(0, &bytes[sign..]);
    let mut len = sign + whole;
    let mut fraction = 0;
    if bytes.get(len) == Some(&b'.') {
        (sum, fraction) = digits(sum, &bytes[len + 1..]);
        len += 1 + fraction;
    }
    if !(1..=EXACT_DIGITS).contains(&(whole + fraction)) || !matches!(bytes.get(len), None | Some(b' ' | b'\t')) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "fifteen digits are exact")]
    let magnitude = if fraction == 0 { sum as f64 } else { sum as f64 / TENS[fraction] };
    Some((if sign == 1 { -magnitude } else { magnitude }, len))
}

/// `sum` with the decimal digits at the start of `bytes` behind it, and how many those are. Beyond what a `u64` holds
/// the sum means nothing.
#[inline]
fn digits(mut sum: u64, bytes: &[u8]) -> (u64, usize) {
    let mut len = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        sum = sum.wrapping_mul(10).wrapping_add(u64::from(digit));
        len += 1;
    }
    (sum, len)
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

/// A timestamp of OpenMetrics, seconds, as milliseconds; what is finer is cut off, as in Prometheus. What an `i64` cannot
/// hold becomes its least or its greatest: OpenMetrics sets no bound.
pub fn timestamp_seconds(token: &[u8]) -> Result<i64, Reason> {
    let seconds = value(token).filter(|seconds| seconds.is_finite()).ok_or(Reason::TimestampSeconds)?;
    #[expect(clippy::cast_possible_truncation, reason = "cutting off is meant, and so is saturating")]
    Ok((seconds * 1000.0) as i64)
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
