//! One line: where its series ends, what its value is, and what a comment says.

use memchr::{memchr, memchr2, memrchr};

use super::error::Reason;
use super::labels::{Item, Items, closing_quote, metric_name_len, trim_start};
use super::number;
use super::options::Format;
use super::sample::Kind;

/// The series at the start of a sample line, and the rest of the line. `name_len` is the length of its unquoted name,
/// 0 if the name is quoted between the braces.
///
/// This only finds the end. What lies between is for [`super::labels::check_series`]: without it, or without an
/// earlier scan that checked the same bytes, the split means nothing.
pub fn split(line: &[u8], name_len: usize, format: Format) -> Result<(&[u8], &[u8]), Reason> {
    let after_name = match format {
        Format::Text => trim_start(&line[name_len..]),
        Format::OpenMetrics => &line[name_len..],
    };
    if after_name.first() != Some(&b'{') {
        return Ok(line.split_at(name_len));
    }
    let open = line.len() - after_name.len();
    let close = match format {
        // After its labels a line of the text format has no brace, so the last one closes them, unless the line is
        // malformed; then the check of the series, which goes forward and knows quotes, ends elsewhere.
        Format::Text => memrchr(b'}', after_name).ok_or(Reason::OpenBrace)?,
        // An exemplar may follow and has braces of its own.
        Format::OpenMetrics => closing_brace(&after_name[1..])? + 1,
    };
    Ok(line.split_at(open + close + 1))
}

fn closing_brace(labels: &[u8]) -> Result<usize, Reason> {
    let mut at = 0;
    loop {
        let found = memchr2(b'"', b'}', &labels[at..]).ok_or(Reason::OpenBrace)? + at;
        if labels[found] == b'}' {
            return Ok(found);
        }
        let content = found + 1;
        at = content + closing_quote(&labels[content..])? + 1;
    }
}

/// The name in quotes between the braces of a line that begins with one.
pub fn quoted_name(line: &[u8], format: Format) -> Result<&[u8], Reason> {
    if line.first() != Some(&b'{') {
        return Err(Reason::NotALine);
    }
    let mut items = Items::new(&line[1..], format);
    loop {
        match items.next()? {
            Item::Name(name) => return Ok(name),
            Item::Label(..) => {}
            Item::End => return Err(Reason::NoName),
        }
    }
}

/// Value and timestamp (in milliseconds) from what follows the series.
pub fn value(tail: &[u8], format: Format) -> Result<(f64, Option<i64>), Reason> {
    match format {
        Format::Text => value_text(tail),
        Format::OpenMetrics => value_openmetrics(tail),
    }
}

fn value_text(tail: &[u8]) -> Result<(f64, Option<i64>), Reason> {
    let tail = trim_start(tail);
    let (value, rest) = if let Some((value, len)) = number::short(tail) {
        (value, &tail[len..])
    } else {
        let (token, rest) = token(tail);
        if token.is_empty() {
            return Err(Reason::NoValue);
        }
        (number::value(token).ok_or(Reason::Value)?, rest)
    };
    let rest = trim_start(rest);
    if rest.is_empty() {
        return Ok((value, None));
    }
    let (token, rest) = self::token(rest);
    let timestamp = number::timestamp_millis(token)?;
    if !trim_start(rest).is_empty() {
        return Err(Reason::Trailing);
    }
    Ok((value, Some(timestamp)))
}

/// The bytes up to the next blank, and the rest with it.
fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    bytes.split_at(end)
}

fn value_openmetrics(tail: &[u8]) -> Result<(f64, Option<i64>), Reason> {
    let (token, rest) = spaced_token(tail).ok_or(Reason::NoValue)?;
    let value = number::value(token).ok_or(Reason::Value)?;
    if rest.is_empty() {
        return Ok((value, None));
    }
    if let Some(exemplar) = rest.strip_prefix(b" # {") {
        check_exemplar(exemplar)?;
        return Ok((value, None));
    }
    let (token, rest) = spaced_token(rest).ok_or(Reason::Blank)?;
    let timestamp = Some(number::timestamp_seconds(token)?);
    if rest.is_empty() {
        return Ok((value, timestamp));
    }
    check_exemplar(rest.strip_prefix(b" # {").ok_or(Reason::Trailing)?)?;
    Ok((value, timestamp))
}

/// OpenMetrics has exactly one space before each token.
fn spaced_token(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = bytes.strip_prefix(b" ")?;
    let end = memchr(b' ', bytes).unwrap_or(bytes.len());
    (end > 0).then(|| bytes.split_at(end))
}

/// Exemplars are not kept, but a line that has a broken one is a broken line. `exemplar` begins after its brace.
fn check_exemplar(exemplar: &[u8]) -> Result<(), Reason> {
    if std::str::from_utf8(exemplar).is_err() {
        return Err(Reason::NotUtf8);
    }
    let mut items = Items::new(exemplar, Format::OpenMetrics);
    loop {
        match items.next().map_err(|_| Reason::Exemplar)? {
            Item::Label(..) => {}
            Item::Name(_) => return Err(Reason::Exemplar),
            Item::End => break,
        }
    }
    let (token, rest) = spaced_token(items.rest()).ok_or(Reason::Exemplar)?;
    number::value(token).ok_or(Reason::Exemplar)?;
    if rest.is_empty() {
        return Ok(());
    }
    let (token, rest) = spaced_token(rest).ok_or(Reason::Exemplar)?;
    number::timestamp_seconds(token).map_err(|_| Reason::Exemplar)?;
    if rest.is_empty() { Ok(()) } else { Err(Reason::Exemplar) }
}

/// What a comment line means to the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comment {
    Type(Kind),
    /// The end of an OpenMetrics body.
    Eof,
    Other,
}

/// The end mark of an OpenMetrics body.
pub fn is_eof(line: &[u8], format: Format) -> bool {
    format == Format::OpenMetrics && line == b"# EOF"
}

/// Reads a line that begins with `#`. Help texts and units are not used, and so not looked at beyond their form.
pub fn comment(line: &[u8], format: Format) -> Result<Comment, Reason> {
    if is_eof(line, format) {
        return Ok(Comment::Eof);
    }
    let after_hash = &line[1..];
    let content = trim_start(after_hash);
    let (keyword, rest) = token(content);
    match format {
        Format::OpenMetrics => {
            let one_space = after_hash.first() == Some(&b' ') && after_hash.len() == content.len() + 1;
            if !one_space || !matches!(keyword, b"HELP" | b"TYPE" | b"UNIT") {
                return Err(Reason::CommentKind);
            }
        }
        Format::Text => {
            let blanks_around = after_hash.len() > content.len() && !rest.is_empty();
            if !blanks_around || !matches!(keyword, b"HELP" | b"TYPE") {
                return Ok(Comment::Other);
            }
        }
    }
    let named = match format {
        Format::Text => trim_start(rest),
        Format::OpenMetrics => rest.strip_prefix(b" ").ok_or(Reason::CommentName)?,
    };
    let name_len = family_name_len(named)?;
    let text = &named[name_len..];
    if keyword == b"TYPE" {
        return family_kind(text, format).map(Comment::Type);
    }
    if format == Format::OpenMetrics && text.first() != Some(&b' ') {
        return Err(Reason::CommentName);
    }
    if keyword == b"UNIT" {
        check_unit(&named[..name_len], &text[1..])?;
    }
    if std::str::from_utf8(text).is_err() {
        return Err(Reason::NotUtf8);
    }
    Ok(Comment::Other)
}

/// A unit is the last word of its metric's name; an empty one says nothing.
fn check_unit(name: &[u8], unit: &[u8]) -> Result<(), Reason> {
    let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
    let before = name.strip_suffix(unit).ok_or(Reason::CommentUnit)?;
    if unit.is_empty() || before.ends_with(b"_") { Ok(()) } else { Err(Reason::CommentUnit) }
}

/// The length of the name at the start of `named`, quotes included.
fn family_name_len(named: &[u8]) -> Result<usize, Reason> {
    let len = match named.first() {
        Some(b'"') => closing_quote(&named[1..])? + 2,
        Some(_) | None => metric_name_len(named),
    };
    if len == 0 { Err(Reason::CommentName) } else { Ok(len) }
}

/// `text` is what follows the family's name, with the blank before it.
fn family_kind(text: &[u8], format: Format) -> Result<Kind, Reason> {
    let word = match format {
        Format::Text => trim_start(text),
        Format::OpenMetrics => text.strip_prefix(b" ").ok_or(Reason::CommentType)?,
    };
    if word.len() == text.len() {
        return Err(Reason::CommentType);
    }
    match (word, format) {
        (b"histogram", _) => Ok(Kind::Histogram),
        (b"summary", _) => Ok(Kind::Summary),
        (b"counter" | b"gauge", _)
        | (b"untyped", Format::Text)
        | (b"gaugehistogram" | b"info" | b"stateset" | b"unknown", Format::OpenMetrics) => Ok(Kind::Other),
        (_, _) => Err(Reason::CommentType),
    }
}
