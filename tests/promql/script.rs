//! The language of Prometheus's `.test` files, as `promql/promqltest/test.go` reads it.

use std::time::Duration;

use backstop::promql::Labels;
use regex::Regex;

/// One command with the line it stands on, counted from 1.
pub struct Command {
    pub line: usize,
    pub what: What,
}

pub enum What {
    Clear,
    Load(Load),
    Eval(Eval),
}

pub struct Load {
    pub step: Duration,
    /// Prometheus makes a native histogram of each classic one.
    pub converts: bool,
    pub series: Vec<(Labels, Vec<Slot>)>,
    /// Series whose samples have start timestamps.
    pub with_starts: Vec<Labels>,
}

pub struct Eval {
    /// Milliseconds: once, or from, to, in steps.
    pub instants: Vec<i64>,
    pub is_range: bool,
    pub text: String,
    pub expected: Expected,
    pub fails: Option<Matching>,
    pub ordered: bool,
    pub warns: Annotations,
    pub infos: Annotations,
}

pub enum Expected {
    Nothing,
    Scalar(f64),
    Series(Vec<(Labels, Vec<Slot>)>),
    Text,
    /// An instant query whose result is a range of samples.
    RangeVector,
}

/// What the script says of annotations of one kind.
pub enum Annotations {
    Unsaid,
    None,
    These(Vec<Matching>),
}

pub enum Matching {
    Anything,
    Text(String),
    Pattern(Regex),
}

impl Matching {
    pub fn fits(&self, text: &str) -> bool {
        match self {
            Matching::Anything => true,
            // Positions such as `(1:21)`: the parser's crate keeps none.
            Matching::Text(wanted) => text.contains(without_position(wanted)),
            Matching::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

fn without_position(text: &str) -> &str {
    match text.rsplit_once(" (") {
        Some((text, place)) if place.ends_with(')') && place.starts_with(|c: char| c.is_ascii_digit()) => text,
        Some(_) | None => text,
    }
}

/// A place in a sequence of points.
#[derive(Clone, Copy, Debug)]
pub enum Slot {
    Gap,
    Stale,
    Value(f64),
    /// A native histogram, `{{…}}`.
    Native,
}

/// All commands; an error names the line that is not understood.
pub fn parse(text: &str) -> Result<Vec<Command>, String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        // A comment ends a block, as an empty line does.
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let (line, head) = (at + 1, lines[at]);
        at += 1;
        if head.is_empty() {
            continue;
        }
        let body_from = at;
        let word = head.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        if word != "clear" {
            while at < lines.len() && !lines[at].is_empty() {
                at += 1;
            }
        }
        let body = &lines[body_from..at];
        let what = match word.as_str() {
            "clear" => Ok(What::Clear),
            word if word.starts_with("load") => load(head, body).map(What::Load),
            word if word.starts_with("eval") => eval(head, body).map(What::Eval),
            _ => Err("an unknown command".to_owned()),
        };
        commands.push(Command { line, what: what.map_err(|why| format!("line {line}: {head}: {why}"))? });
    }
    Ok(commands)
}

fn load(head: &str, body: &[&str]) -> Result<Load, String> {
    let (word, step) = head.split_once(char::is_whitespace).ok_or("load <step>")?;
    let step = duration(step.trim()).and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0).ok_or("a step")?;
    let (mut all, mut with_starts) = (Vec::new(), Vec::new());
    for line in body {
        match line.split_once("@st ") {
            Some((name, _)) => with_starts.push(series(name)?.0),
            None => all.push(series(line)?),
        }
    }
    Ok(Load { step: Duration::from_millis(step), converts: word.ends_with("_with_nhcb"), series: all, with_starts })
}

fn eval(head: &str, body: &[&str]) -> Result<Eval, String> {
    let (word, rest) = head.split_once(char::is_whitespace).ok_or("eval instant or range")?;
    let mode = word.strip_prefix("eval").unwrap_or("").trim_start_matches('_');
    let (instants, is_range, text) = times(rest.trim())?;
    let any = |wanted: bool| if wanted { Annotations::These(vec![Matching::Anything]) } else { Annotations::Unsaid };
    let mut eval = Eval {
        instants,
        is_range,
        text: text.to_owned(),
        expected: Expected::Nothing,
        fails: (mode == "fail").then_some(Matching::Anything),
        ordered: mode == "ordered",
        warns: any(mode == "warn"),
        infos: any(mode == "info"),
    };
    let mut rows = Vec::new();
    for line in body {
        if let Some(text) = line.strip_prefix("expected_fail_message") {
            eval.fails = Some(Matching::Text(text.trim().to_owned()));
        } else if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
            eval.fails = Some(Matching::Pattern(compile(pattern)?));
        } else if line.starts_with("expect range vector") {
            eval.expected = Expected::RangeVector;
        } else if line.starts_with("expect string") {
            eval.expected = Expected::Text;
        } else if let Some(expectation) = line.strip_prefix("expect ") {
            eval.expect(expectation.trim())?;
        } else if let Some(number) = number(line) {
            eval.expected = Expected::Scalar(number);
        } else {
            rows.push(series(line)?);
        }
    }
    if matches!(eval.expected, Expected::Nothing) && !rows.is_empty() {
        eval.expected = Expected::Series(rows);
    }
    Ok(eval)
}

impl Eval {
    /// `ordered`, or `fail|warn|no_warn|info|no_info [msg:…|regex:…]`.
    fn expect(&mut self, text: &str) -> Result<(), String> {
        let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let matching = match rest.trim().split_once(':') {
            None if rest.trim().is_empty() => Matching::Anything,
            Some(("msg", text)) => Matching::Text(text.trim().to_owned()),
            Some(("regex", pattern)) => Matching::Pattern(compile(pattern)?),
            Some(_) | None => return Err(format!("expect {text}")),
        };
        let add = |annotations: &mut Annotations, matching| match annotations {
            Annotations::These(all) => all.push(matching),
            Annotations::Unsaid | Annotations::None => *annotations = Annotations::These(vec![matching]),
        };
        // What is said of range queries as such: backstop has none, only instants.
        if matches!(&matching, Matching::Text(text) if text.contains("sort is ineffective for range queries")) {
            return Ok(());
        }
        match kind {
            "ordered" => self.ordered = true,
            "fail" => self.fails = Some(matching),
            "warn" => add(&mut self.warns, matching),
            "info" => add(&mut self.infos, matching),
            "no_warn" => self.warns = Annotations::None,
            "no_info" => self.infos = Annotations::None,
            _ => return Err(format!("expect {text}")),
        }
        Ok(())
    }
}

/// Without the position at its end.
fn compile(pattern: &str) -> Result<Regex, String> {
    let pattern = pattern.trim();
    let end = pattern.rfind(r" \(").filter(|_| pattern.ends_with(r"\)")).unwrap_or(pattern.len());
    Regex::new(&pattern[..end]).map_err(|error| error.to_string())
}

/// `instant [at T] EXPR`, or `range from A to B step S EXPR`.
fn times(rest: &str) -> Result<(Vec<i64>, bool, &str), String> {
    fn word<'a>(rest: &mut &'a str) -> &'a str {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((*rest, ""));
        *rest = after.trim_start();
        word
    }
    let mut rest = rest;
    match word(&mut rest) {
        "instant" => {
            let mut at = 0;
            let after = rest.strip_prefix("at").filter(|after| after.starts_with(char::is_whitespace));
            if let Some(after) = after {
                rest = after.trim_start();
                at = duration(word(&mut rest)).ok_or("an instant")?;
            }
            Ok((vec![at], false, rest.trim()))
        }
        "range" => {
            let mut named = |name: &str| {
                (word(&mut rest) == name).then(|| duration(word(&mut rest))).flatten().ok_or(format!("{name} …"))
            };
            let (from, to, step) = (named("from")?, named("to")?, named("step")?);
            let step = usize::try_from(step).ok().filter(|step| *step > 0).ok_or("a step")?;
            Ok(((from..=to).step_by(step).collect(), true, rest.trim()))
        }
        _ => Err("eval instant or range".to_owned()),
    }
}

/// Milliseconds of a duration such as `5m`, `1m30s`, `0`, or of plain seconds.
pub fn duration(text: &str) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a test file")]
    if let Ok(seconds) = text.parse::<f64>() {
        return Some((seconds * 1000.0).round() as i64);
    }
    let mut total = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let ms = match &rest[..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        total += number * ms;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

/// `name{label="value", …}`, `{"name", …}` or `{…}`, then the points.
fn series(line: &str) -> Result<(Labels, Vec<Slot>), String> {
    let name_end = line.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.'))).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(name_end);
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !name.is_empty() {
        pairs.push(("__name__".to_owned(), name.to_owned()));
    }
    if let Some(inside) = rest.trim_start().strip_prefix('{').filter(|inside| !inside.starts_with('{')) {
        rest = labels(inside, &mut pairs)?;
    }
    Ok((Labels::from_pairs(pairs), sequence(rest.trim())?))
}

fn labels<'a>(mut rest: &'a str, pairs: &mut Vec<(String, String)>) -> Result<&'a str, String> {
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (label, after) = if rest.starts_with(['"', '\'', '`']) {
            quoted(rest)?
        } else {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).ok_or("a label")?;
            (rest[..end].to_owned(), &rest[end..])
        };
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = quoted(after.trim_start())?;
            pairs.push((label, value));
            rest = after.trim_start();
        } else {
            pairs.push(("__name__".to_owned(), label));
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// A string as Go writes it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let open = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')).ok_or("a quoted string")?;
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == open => return Ok((out, &text[at + c.len_utf8()..])),
            '\\' if open != '`' => out.push(match chars.next().map(|(_, c)| c) {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(c @ ('\\' | '"' | '\'')) => c,
                _ => return Err(format!("an escape in {text}")),
            }),
            c => out.push(c),
        }
    }
    Err(format!("a string without end: {text}"))
}

/// `1+2x3`, `1x3`, `_x4`, `stale`, `{{…}}x5`, `{{…}}+{{…}}x5` and plain numbers.
fn sequence(text: &str) -> Result<Vec<Slot>, String> {
    let mut points = Vec::new();
    for item in items(text) {
        let (point, times) = match item.rsplit_once('x') {
            Some((point, times)) if !times.is_empty() && times.bytes().all(|byte| byte.is_ascii_digit()) => {
                (point, Some(times.parse::<usize>().map_err(|error| error.to_string())?))
            }
            Some(_) | None => (item, None),
        };
        match point {
            "_" => points.extend(std::iter::repeat_n(Slot::Gap, times.unwrap_or(1))),
            "stale" => points.extend(std::iter::repeat_n(Slot::Stale, times.map_or(1, |times| times + 1))),
            native if native.contains("{{") => {
                points.extend(std::iter::repeat_n(Slot::Native, times.map_or(1, |times| times + 1)));
            }
            point => {
                let cut = point
                    .char_indices()
                    .skip(1)
                    .map(|(at, _)| at)
                    .find(|at| point[*at..].starts_with(['+', '-']) && !point[..*at].ends_with(['e', 'E']));
                let (start, step) = match (times, cut) {
                    (Some(_), Some(cut)) => (number(&point[..cut]), number(&point[cut..])),
                    (Some(_) | None, _) => (number(point), Some(0.0)),
                };
                let (Some(mut value), Some(step)) = (start, step) else { return Err(format!("a point: {item}")) };
                for _ in 0..=times.unwrap_or(0) {
                    points.push(Slot::Value(value));
                    value += step;
                }
            }
        }
    }
    Ok(points)
}

/// Words, of which one may hold spaces within `{{…}}`.
fn items(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut depth = 0_usize;
    let mut start = None;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c.is_whitespace() && depth == 0 {
            if let Some(start) = start.take() {
                out.push(&text[start..at]);
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    out.extend(start.map(|start| &text[start..]));
    out
}

/// A number as Go reads it.
fn number(text: &str) -> Option<f64> {
    let plain = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    if let Some(digits) = plain.strip_prefix("0x") {
        let magnitude = f64::from(u32::from_str_radix(digits, 16).ok()?);
        return Some(if text.starts_with('-') { -magnitude } else { magnitude });
    }
    let begins = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') || matches!(plain.as_str(), "nan" | "inf");
    if begins { text.parse().ok() } else { None }
}
