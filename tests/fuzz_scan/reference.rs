//! Another reader of expositions, written for being obviously right and not for being fast: one byte after the other,
//! no memory of other lines but the type, everything owned. It shares no code with the scan.

/// What a whole body says: its samples, each with the number of its line, or the number of the first line that is wrong.
pub type Body = Result<Vec<Sample>, usize>;

#[derive(Clone, Debug)]
pub struct Sample {
    pub line: usize,
    pub name: String,
    /// As they stand there, unescaped.
    pub labels: Vec<(String, String)>,
    pub value: f64,
    pub millis: Option<i64>,
    /// The label whose value is a number under the type that was declared last.
    pub numeric: Option<&'static str>,
}

/// Reads every line of a body.
pub fn body(bytes: &[u8], open: bool) -> Body {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or(b"");
    let mut samples = Vec::new();
    let mut numeric = None;
    for (index, line) in lines.iter().enumerate() {
        let number = index + 1;
        if open && *line == b"# EOF" {
            let is_end = lines.len() == number && last.is_empty();
            return if is_end { Ok(samples) } else { Err(number + 1) };
        }
        match self::line(line, open).ok_or(number)? {
            Line::Nothing => {}
            Line::Type(kind) => {
                numeric = match kind.as_str() {
                    "histogram" => Some("le"),
                    "summary" => Some("quantile"),
                    _ => None,
                }
            }
            Line::Sample(name, labels, value, millis) => {
                samples.push(Sample { line: number, name, labels, value, millis, numeric });
            }
        }
    }
    let ended = if open { last == b"# EOF" } else { last.is_empty() && !lines.is_empty() };
    if ended { Ok(samples) } else { Err((lines.len() + usize::from(!last.is_empty())).max(1)) }
}

pub enum Line {
    Nothing,
    Type(String),
    Sample(String, Vec<(String, String)>, f64, Option<i64>),
}

/// One line that is not an end mark; `None` where it is wrong.
pub fn line(bytes: &[u8], open: bool) -> Option<Line> {
    let mut at = Cursor { bytes, at: 0, open };
    at.blanks();
    match at.peek() {
        None => (!open).then_some(Line::Nothing),
        Some(b'#') => comment(at),
        Some(_) => sample(at),
    }
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
    open: bool,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn is_at_exemplar(&self) -> bool {
        self.open && self.bytes[self.at..].starts_with(b" # {")
    }

    fn while_in(&mut self, allowed: impl Fn(u8) -> bool) -> &[u8] {
        let from = self.at;
        while self.peek().is_some_and(&allowed) {
            self.at += 1;
        }
        &self.bytes[from..self.at]
    }

    /// Where the format has blanks at all. How many.
    fn blanks(&mut self) -> usize {
        if self.open { 0 } else { self.while_in(|byte| byte == b' ' || byte == b'\t').len() }
    }

    fn name(&mut self, colon: bool) -> Option<String> {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || colon && byte == b':';
        if self.peek().is_none_or(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let name = String::from_utf8_lossy(self.while_in(part)).into_owned();
        (!name.is_empty()).then_some(name)
    }

    /// What stands between quotes, with its escapes.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        self.eat(b'"')?;
        let mut content = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(content),
                b'\\' => {
                    content.extend([byte, self.peek()?]);
                    self.at += 1;
                }
                _ => content.push(byte),
            }
        }
    }

    /// Up to the next blank; not empty.
    fn word(&mut self) -> Option<String> {
        let open = self.open;
        let word = self.while_in(|byte| byte != b' ' && (open || byte != b'\t')).to_vec();
        String::from_utf8(word).ok().filter(|word| !word.is_empty())
    }

    /// The blank before a word: one in OpenMetrics, any number else.
    fn gap(&mut self) -> Option<()> {
        if self.open {
            return self.eat(b' ');
        }
        self.blanks();
        Some(())
    }
}

fn plain(escaped: &[u8]) -> Option<String> {
    let escaped = String::from_utf8(escaped.to_vec()).ok()?;
    let mut plain = String::new();
    let mut chars = escaped.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some(next @ ('\\' | '"'))) => plain.push(*next),
            ('\\', Some(next)) => plain.extend(['\\', *next]),
            (other, _) => {
                plain.push(other);
                continue;
            }
        }
        chars.next();
    }
    Some(plain)
}

fn comment(mut at: Cursor<'_>) -> Option<Line> {
    let open = at.open;
    at.eat(b'#')?;
    let gap = if open { usize::from(at.eat(b' ').is_some()) } else { at.blanks() };
    let keyword = at.while_in(|byte| byte != b' ' && byte != b'\t').to_vec();
    let is_known = matches!(keyword.as_slice(), b"HELP" | b"TYPE") || open && keyword == b"UNIT";
    if gap == 0 || !is_known || !open && at.is_at_end() {
        return (!open).then_some(Line::Nothing);
    }
    at.gap()?;
    let name = if at.peek() == Some(b'"') { at.quoted()? } else { at.name(true)?.into_bytes() };
    if keyword == b"TYPE" {
        let gap = if open { usize::from(at.eat(b' ').is_some()) } else { at.blanks() };
        let kind = String::from_utf8(at.bytes[at.at..].to_vec()).ok()?;
        let of_open = ["unknown", "gaugehistogram", "stateset", "info"];
        let is_kind = ["counter", "gauge", "histogram", "summary"].contains(&kind.as_str())
            || open && of_open.contains(&kind.as_str())
            || !open && kind == "untyped";
        return (gap > 0 && is_kind).then_some(Line::Type(kind));
    }
    if open {
        at.eat(b' ')?;
    }
    let text = &at.bytes[at.at..];
    if keyword == b"UNIT" && !text.is_empty() && !name.ends_with(&[b"_", text].concat()) {
        return None;
    }
    std::str::from_utf8(text).ok().map(|_| Line::Nothing)
}

type Labels = (Option<String>, Vec<(String, String)>);

/// From the opening brace through the closing one. `strict` looks at the names, too, as it must be done for a series.
fn labels(at: &mut Cursor<'_>, strict: bool) -> Option<Labels> {
    let mut name = None;
    let mut labels: Vec<(String, String)> = Vec::new();
    at.eat(b'{')?;
    loop {
        at.blanks();
        if at.eat(b'}').is_some() {
            return Some((name, labels));
        }
        let is_quoted = at.peek() == Some(b'"');
        let written = if is_quoted { at.quoted()? } else { at.name(false)?.into_bytes() };
        at.blanks();
        if is_quoted && matches!(at.peek(), Some(b',' | b'}')) {
            at.eat(b',');
            if name.replace(plain(&written)?).is_some() {
                return None;
            }
            continue;
        }
        at.eat(b'=')?;
        at.blanks();
        let value = plain(&at.quoted()?)?;
        at.blanks();
        if at.eat(b',').is_none() && at.open && at.peek() != Some(b'}') {
            return None;
        }
        let label = plain(&written)?;
        let is_odd = label.is_empty() || label == "__name__" || labels.iter().any(|(other, _)| *other == label);
        if strict && (is_odd || has_odd_escape(&written)) {
            return None;
        }
        labels.push((label, value));
    }
}

fn has_odd_escape(written: &[u8]) -> bool {
    let mut rest = written;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if !matches!(rest.get(at + 1), Some(b'\\' | b'"' | b'n')) {
            return true;
        }
        rest = &rest[at + 2..];
    }
    false
}

fn sample(mut at: Cursor<'_>) -> Option<Line> {
    let open = at.open;
    let mut name = at.name(true);
    let after_name = at.at;
    at.blanks();
    let mut found = Vec::new();
    if at.peek() == Some(b'{') {
        let (quoted, labels) = labels(&mut at, true)?;
        if name.is_some() && quoted.is_some() {
            return None;
        }
        name = name.or(quoted);
        found = labels;
    } else {
        at.at = after_name;
    }
    let name = name.filter(|name| !name.is_empty())?;
    at.gap()?;
    let value = number(&at.word()?)?;
    let mut millis = None;
    let gap = at.blanks();
    if !at.is_at_end() && !at.is_at_exemplar() {
        if open {
            at.eat(b' ')?;
        } else if gap == 0 {
            return None;
        }
        let word = at.word()?;
        millis = Some(if open { seconds(&word)? } else { whole(&word)? });
        at.blanks();
    }
    if at.is_at_exemplar() {
        std::str::from_utf8(&at.bytes[at.at..]).ok()?;
        at.at += 3;
        let (quoted, _) = labels(&mut at, false)?;
        if quoted.is_some() {
            return None;
        }
        at.eat(b' ')?;
        number(&at.word()?)?;
        if at.eat(b' ').is_some() {
            seconds(&at.word()?)?;
        }
    }
    at.is_at_end().then_some(Line::Sample(name, found, value, millis))
}

/// A number as Go reads it in base ten, without the underscores of its source code.
fn number(word: &str) -> Option<f64> {
    let lower = word.to_ascii_lowercase();
    if lower == "nan" {
        return Some(f64::NAN);
    }
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(&lower);
    if unsigned == "inf" || unsigned == "infinity" {
        return Some(if lower.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let is_number = is_digits(whole) && is_digits(fraction) && is_digits(exponent);
    if !is_number || whole.is_empty() && fraction.is_empty() || exponent.is_empty() {
        return None;
    }
    lower.parse().ok().filter(|value: &f64| value.is_finite())
}

fn whole(word: &str) -> Option<i64> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) { word.parse().ok() } else { None }
}

#[expect(clippy::cast_possible_truncation, reason = "what is finer than a millisecond is cut off")]
fn seconds(word: &str) -> Option<i64> {
    number(word).filter(|seconds| seconds.is_finite()).map(|seconds| (seconds * 1000.0) as i64)
}
