//! The grammar between the braces: one cursor, used both to check a series and to read its labels.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::error::Reason;
use super::options::{Format, Limits};

const NAME_START: u8 = 1;
const NAME_PART: u8 = 2;
const COLON: u8 = 4;

/// What each byte may be in an unquoted name. A table, since every byte of every new name passes here.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        class[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => NAME_START | NAME_PART,
            b'0'..=b'9' => NAME_PART,
            b':' => COLON,
            _ => 0,
        };
        byte += 1;
    }
    class
};

/// Whether the byte can go on a metric name.
pub fn is_metric_name_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] & (NAME_PART | COLON) != 0
}

/// The length of the unquoted metric name at the start of `bytes`; 0 if there is none.
pub fn metric_name_len(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(first) if CLASS[usize::from(*first)] & (NAME_START | COLON) != 0 => {
            bytes.iter().position(|byte| !is_metric_name_byte(*byte)).unwrap_or(bytes.len())
        }
        Some(_) | None => 0,
    }
}

fn label_name_len(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(first) if CLASS[usize::from(*first)] & NAME_START != 0 => {
            bytes.iter().position(|byte| CLASS[usize::from(*byte)] & NAME_PART == 0).unwrap_or(bytes.len())
        }
        Some(_) | None => 0,
    }
}

/// Where the content of a quoted string ends: `bytes` begin after the opening quote, the answer is the index of the
/// closing one.
#[inline]
pub fn closing_quote(bytes: &[u8]) -> Result<usize, Reason> {
    let mut at = 0;
    loop {
        let found = quote_or_backslash(bytes.get(at..).unwrap_or(b"")).ok_or(Reason::OpenQuote)? + at;
        if bytes[found] == b'"' {
            return Ok(found);
        }
        at = found + 2;
    }
}

/// Most label values are shorter than what a call of `memchr2` costs, so the first bytes are looked at here, eight at a
/// time.
#[inline]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const WORDS: usize = 4;
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words.iter().take(WORDS) {
        let word = u64::from_le_bytes(*word);
        let found = first_byte(word, b'"') | first_byte(word, b'\\');
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found)
}

/// The lowest bit that is set is the highest one of the first byte of `word` that equals `byte`; bits above it mean
/// nothing.
const fn first_byte(word: u64, byte: u8) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    let zeroed = word ^ (LOW * byte as u64);
    zeroed.wrapping_sub(LOW) & !zeroed & (LOW << 7)
}

/// Undoes `\\`, `\"` and `\n`. Any other escape stays as it is, as in Prometheus's parser.
pub fn unescape(content: &[u8]) -> Cow<'_, str> {
    // The content was checked to be UTF-8 when its series was; a caller who claimed to know a series that no scan has
    // checked gets replacement characters, not a panic.
    let text = String::from_utf8_lossy(content);
    if memchr(b'\\', content).is_none() {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some(escaped @ ('\\' | '"')) => plain.push(escaped),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    Cow::Owned(plain)
}

/// One thing between the braces; contents without their quotes, still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'b> {
    /// A quoted string alone is the metric's name.
    Name(&'b [u8]),
    Label(&'b [u8], &'b [u8]),
    /// The closing brace; what the cursor has left begins after it.
    End,
}

/// Walks the items after an opening brace.
#[derive(Clone, Copy, Debug)]
pub struct Items<'b> {
    rest: &'b [u8],
    format: Format,
}

impl<'b> Items<'b> {
    /// `rest` begins after the opening brace.
    pub const fn new(rest: &'b [u8], format: Format) -> Items<'b> {
        Items { rest, format }
    }

    /// What follows the items read so far.
    pub const fn rest(&self) -> &'b [u8] {
        self.rest
    }

    #[inline]
    pub fn next(&mut self) -> Result<Item<'b>, Reason> {
        self.skip_blanks();
        let (name, quoted) = match self.rest.first() {
            Some(b'}') => {
                self.rest = &self.rest[1..];
                return Ok(Item::End);
            }
            Some(b'"') => (self.quoted()?, true),
            Some(_) => {
                let len = label_name_len(self.rest);
                if len == 0 {
                    return Err(Reason::LabelName);
                }
                (self.take(len), false)
            }
            None => return Err(Reason::OpenBrace),
        };
        self.skip_blanks();
        match self.rest.first() {
            Some(b',') if quoted => {
                self.rest = &self.rest[1..];
                return Ok(Item::Name(name));
            }
            Some(b'}') if quoted => return Ok(Item::Name(name)),
            Some(b'=') => self.rest = &self.rest[1..],
            Some(_) | None => return Err(Reason::Equal),
        }
        self.skip_blanks();
        if self.rest.first() != Some(&b'"') {
            return Err(Reason::LabelValue);
        }
        let value = self.quoted()?;
        self.skip_blanks();
        match (self.rest.first(), self.format) {
            (Some(b','), _) => self.rest = &self.rest[1..],
            // Prometheus reads labels of the text format without commas between them, and so do we.
            (Some(b'}'), _) | (Some(_), Format::Text) => {}
            (Some(_), Format::OpenMetrics) => return Err(Reason::Comma),
            (None, _) => return Err(Reason::OpenBrace),
        }
        Ok(Item::Label(name, value))
    }

    /// Blanks are allowed everywhere between the braces of the text format, and nowhere in OpenMetrics.
    fn skip_blanks(&mut self) {
        if self.format == Format::Text {
            self.rest = trim_start(self.rest);
        }
    }

    fn take(&mut self, len: usize) -> &'b [u8] {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    #[inline]
    fn quoted(&mut self) -> Result<&'b [u8], Reason> {
        let content = &self.rest[1..];
        let end = closing_quote(content)?;
        self.rest = &content[end + 1..];
        Ok(&content[..end])
    }
}

/// Without the spaces and tabs at the start.
pub fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// The strict check of a series: everything from its name through the closing brace. `name_len` is the length of its
/// unquoted name, 0 if it has none; `seen` is scratch space. Without limits only the grammar is checked.
pub fn check_series<'b>(
    series: &'b [u8],
    name_len: usize,
    format: Format,
    limits: Option<&Limits>,
    seen: &mut Vec<&'b [u8]>,
) -> Result<(), Reason> {
    check_utf8(series)?;
    let mut name = (name_len > 0).then(|| &series[..name_len]);
    seen.clear();
    if let Some(open) = memchr(b'{', &series[name_len..]) {
        let mut items = Items::new(&series[name_len + open + 1..], format);
        loop {
            match items.next()? {
                Item::End => break,
                Item::Name(_) if name.is_some() => return Err(Reason::NameTwice),
                Item::Name(quoted) => name = Some(quoted),
                Item::Label(b"", _) => return Err(Reason::LabelName),
                Item::Label(label, value) => {
                    if let Some(limits) = limits {
                        check_label(label, value, limits, seen.len())?;
                        seen.push(label);
                    }
                }
            }
        }
        if !items.rest().is_empty() {
            // The labels end before the last brace of the line, so what comes after them is not only a value.
            return Err(Reason::Value);
        }
        check_names(seen, memchr(b'\\', series).is_some())?;
    }
    match (name, limits) {
        (None | Some(b""), _) => Err(Reason::NoName),
        (Some(name), Some(limits)) if name.len() > limits.name_bytes => Err(Reason::NameTooLong(limits.name_bytes)),
        (Some(_), _) => Ok(()),
    }
}

/// The part of [`check_series`] that is left for a series whose labels have the shape of a checked one.
#[inline]
pub fn check_content(series: &[u8], name_len: usize, limits: &Limits) -> Result<(), Reason> {
    if name_len > limits.name_bytes {
        return Err(Reason::NameTooLong(limits.name_bytes));
    }
    check_utf8(series)
}

fn check_utf8(bytes: &[u8]) -> Result<(), Reason> {
    if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() { Ok(()) } else { Err(Reason::NotUtf8) }
}

fn check_label(label: &[u8], value: &[u8], limits: &Limits, earlier: usize) -> Result<(), Reason> {
    if label.len() > limits.name_bytes {
        return Err(Reason::NameTooLong(limits.name_bytes));
    }
    if value.len() > limits.label_value_bytes {
        return Err(Reason::LabelValueTooLong(limits.label_value_bytes));
    }
    if earlier >= limits.labels {
        return Err(Reason::TooManyLabels(limits.labels));
    }
    Ok(())
}

/// No label name twice. `__name__` between the braces would be a second metric name: Prometheus's parser lets it pass
/// and its scrape then refuses the series, as it does any label given twice.
///
/// Names are compared as written. That is right because an escape that is not one of the three is refused here: only
/// such a one could write a name in a second way. `escapes` says whether there can be any.
fn check_names(names: &[&[u8]], escapes: bool) -> Result<(), Reason> {
    if escapes && names.iter().any(|name| has_unknown_escape(name)) {
        return Err(Reason::LabelEscape);
    }
    // A bit for each name seen, by what can be had of it without a loop; only where two share a bit are they compared.
    let mut bits = 0_u64;
    for (index, name) in names.iter().enumerate() {
        let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
        let bit = 1 << ((usize::from(first) + usize::from(last) * 5 + name.len() * 11) % 64);
        if *name == b"__name__" || bits & bit != 0 && names[..index].contains(name) {
            return Err(Reason::LabelTwice);
        }
        bits |= bit;
    }
    Ok(())
}

fn has_unknown_escape(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'\\' && !matches!(bytes.next(), Some(b'\\' | b'"' | b'n')) {
            return true;
        }
    }
    false
}
