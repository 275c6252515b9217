//! Which series an expression means: matchers over labels.

use std::fmt;
use std::sync::Arc;

use promql_parser::label::MatchOp;
use promql_parser::parser::VectorSelector;

use super::expr::parse;
use super::expr::text::{place_of, word_in};
use super::{Labels, ParseError};

/// How one matcher judges a label's value.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Equal(Box<str>),
    NotEqual(Box<str>),
    /// The pattern as it was written, and what it compiles to.
    Matches(Box<str>, regex::Regex),
    MatchesNot(Box<str>, regex::Regex),
}

/// Two tests are equal when they are written the same.
impl PartialEq for Test {
    fn eq(&self, other: &Test) -> bool {
        self.operator() == other.operator() && self.written() == other.written()
    }
}

impl Test {
    fn operator(&self) -> &'static str {
        match self {
            Test::Equal(_) => "=",
            Test::NotEqual(_) => "!=",
            Test::Matches(..) => "=~",
            Test::MatchesNot(..) => "!~",
        }
    }

    fn written(&self) -> &str {
        match self {
            Test::Equal(text) | Test::NotEqual(text) | Test::Matches(text, _) | Test::MatchesNot(text, _) => text,
        }
    }

    pub(super) fn accepts(&self, value: &str) -> bool {
        match self {
            Test::Equal(text) => text.as_ref() == value,
            Test::NotEqual(text) => text.as_ref() != value,
            Test::Matches(_, pattern) => pattern.is_match(value),
            Test::MatchesNot(_, pattern) => !pattern.is_match(value),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matcher {
    pub label: Box<str>,
    pub test: Test,
}

/// `name{label="value", …}`: all four matchers (`=`, `!=`, `=~`, `!~`).
///
/// A label that a series lacks has the empty value. Patterns match the whole value; `.` matches newline; `\d`, `\w`,
/// `\s` and `\b` mean ASCII, as in Go.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Those on `__name__` first, the rest as written.
    matchers: Arc<[Matcher]>,
}

/// Evaluations compare selectors at every target; mostly one is a copy of the other.
impl PartialEq for Selector {
    fn eq(&self, other: &Selector) -> bool {
        Arc::ptr_eq(&self.matchers, &other.matchers) || self.matchers == other.matchers
    }
}

impl Selector {
    /// Parses an instant selector. One that matches the empty label set is an error.
    pub fn parse(text: &str) -> Result<Selector, ParseError> {
        parse::selector(text)
    }

    pub(super) fn compile(vector: &VectorSelector, text: &str) -> Result<Selector, ParseError> {
        if !vector.matchers.or_matchers.is_empty() {
            return Err(ParseError {
                message: "`or` between the matchers of one selector is not PromQL".to_owned(),
                span: word_in(text, "or"),
                help: Some("Write two selectors with `or` between them, or one pattern with `=~`.".to_owned()),
            });
        }
        let mut matchers = Vec::new();
        if let Some(name) = &vector.name {
            matchers.push(Matcher { label: "__name__".into(), test: Test::Equal(name.as_str().into()) });
        }
        for matcher in &vector.matchers.matchers {
            let value: Box<str> = matcher.value.as_str().into();
            let judge = match &matcher.op {
                MatchOp::Equal => Test::Equal(value),
                MatchOp::NotEqual => Test::NotEqual(value),
                MatchOp::Re(_) => {
                    let pattern = anchored(&value, text)?;
                    Test::Matches(value, pattern)
                }
                MatchOp::NotRe(_) => {
                    let pattern = anchored(&value, text)?;
                    Test::MatchesNot(value, pattern)
                }
            };
            matchers.push(Matcher { label: matcher.name.as_str().into(), test: judge });
        }
        matchers.sort_by_key(|matcher| *matcher.label != *"__name__");
        if matchers.iter().all(|matcher| matcher.test.accepts("")) {
            return Err(ParseError {
                message: "the selector matches every series".to_owned(),
                span: None,
                help: Some("Name the metric, or give one matcher that the empty value does not pass.".to_owned()),
            });
        }
        Ok(Selector { matchers: matchers.into() })
    }

    /// The same selector with another metric name.
    pub(super) fn renamed(&self, name: &str) -> Selector {
        let named = Matcher { label: "__name__".into(), test: Test::Equal(name.into()) };
        let others = self.matchers.iter().filter(|matcher| *matcher.label != *"__name__").cloned();
        Selector { matchers: std::iter::once(named).chain(others).collect() }
    }

    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.test.accepts(labels.get(&matcher.label).unwrap_or("")))
    }

    /// The metric's name, if an `=` matcher fixes it.
    #[must_use]
    pub fn exact_name(&self) -> Option<&str> {
        self.name_tests().find_map(|test| match test {
            Test::Equal(name) => Some(name.as_ref()),
            Test::NotEqual(_) | Test::Matches(..) | Test::MatchesNot(..) => None,
        })
    }

    /// What the selector demands of the metric's name; nothing, if it takes any.
    pub(super) fn name_tests(&self) -> impl Iterator<Item = &Test> {
        self.matchers.iter().filter(|matcher| *matcher.label == *"__name__").map(|matcher| &matcher.test)
    }

    pub(super) fn matches_name(&self, name: &str) -> bool {
        self.name_tests().all(|test| test.accepts(name))
    }

    /// Does a label that every series of a target has rule all of them out?
    pub(super) fn contradicts(&self, target: &Labels) -> bool {
        self.matchers
            .iter()
            .filter(|matcher| *matcher.label != *"__name__")
            .any(|matcher| target.get(&matcher.label).is_some_and(|value| !matcher.test.accepts(value)))
    }

    pub(super) fn constrains(&self, label: &str) -> bool {
        self.matchers.iter().any(|matcher| *matcher.label == *label)
    }

    /// The labels that `absent` gives its result: those that exactly one matcher fixes by `=`.
    pub(super) fn fixed_labels(&self) -> Labels {
        let mut fixed: Vec<(&str, &str)> = Vec::new();
        for matcher in self.matchers.iter().filter(|matcher| *matcher.label != *"__name__") {
            let alone = self.matchers.iter().filter(|other| other.label == matcher.label).count() == 1;
            if let (Test::Equal(value), true) = (&matcher.test, alone) {
                fixed.push((&matcher.label, value));
            }
        }
        Labels::from_pairs(fixed)
    }
}

/// As PromQL writes it.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.exact_name().filter(|name| is_plain_name(name));
        if let Some(name) = name {
            f.write_str(name)?;
        }
        let mut first = true;
        let mut name_is_written = false;
        for matcher in self.matchers.iter() {
            if name.is_some() && !name_is_written && *matcher.label == *"__name__" && matcher.test.operator() == "=" {
                name_is_written = true;
                continue;
            }
            f.write_str(if first { "{" } else { ", " })?;
            first = false;
            write!(f, "{}{}", Name(&matcher.label), matcher.test.operator())?;
            write!(f, "{}", Quoted(matcher.test.written()))?;
        }
        if first { Ok(()) } else { f.write_str("}") }
    }
}

fn is_plain_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// A label's name, quoted where PromQL needs it.
pub(super) struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain_name(self.0) && !self.0.contains(':') {
            f.write_str(self.0)
        } else {
            write!(f, "{}", Quoted(self.0))
        }
    }
}

/// A string as PromQL quotes it.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// A pattern that must match the whole of a value, with Go's meaning.
fn anchored(pattern: &str, text: &str) -> Result<regex::Regex, ParseError> {
    compile_pattern(pattern).map_err(|why| ParseError {
        message: format!("`{pattern}` is not a regular expression: {why}"),
        span: place_of(text, pattern),
        help: None,
    })
}

/// Compiles a pattern as Prometheus does: anchored at both ends, `.` matching newline, classes in ASCII.
pub(super) fn compile_pattern(pattern: &str) -> Result<regex::Regex, String> {
    if let Some(why) = unlike_go(pattern) {
        return Err(why);
    }
    let anchored = format!("^(?s:{})$", from_go(pattern));
    let compiled = regex::RegexBuilder::new(&anchored).size_limit(PATTERN_SIZE_MAX).build();
    compiled.map_err(|error| first_line_of(&error))
}

/// What the regex crate takes and Go does not, or takes in another sense.
fn unlike_go(pattern: &str) -> Option<String> {
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                // Between ASCII characters in Go, between all in the crate.
                Some('B') => return Some("`\\B` is not evaluated".to_owned()),
                Some(escaped) if escaped.is_alphabetic() && !"AabDdfnPprSstvWwxz".contains(escaped) => {
                    return Some(format!("`\\{escaped}` is not an escape"));
                }
                Some('<' | '>') => return Some("`\\<` and `\\>` are not escapes".to_owned()),
                Some(_) | None => {}
            },
            '(' if rest.as_str().starts_with('?') => {
                let group = &rest.as_str()[1..];
                let named = group.starts_with("P<") || group.starts_with('<');
                let mut flags = group.chars().take_while(|c| !matches!(c, ':' | ')'));
                if !named && let Some(flag) = flags.find(|flag| !"imsU-".contains(*flag)) {
                    return Some(format!("`{flag}` is not a flag of a group"));
                }
            }
            _ => {}
        }
    }
    None
}

/// A pattern comes from the operator's file; this bounds what a slip such as `(.{1000}){1000}` costs.
const PATTERN_SIZE_MAX: usize = 4 << 20;

fn first_line_of(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it does not compile").trim().to_owned()
}

/// Rewrites what Go's syntax and Rust's read differently: Perl classes and word borders are ASCII in Go; within a class
/// Go knows no nested classes and no set operations; a brace that begins no repetition is a plain character.
fn from_go(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.char_indices().peekable();
    let mut in_class = false;
    let mut class_start = 0;
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' => {
                let Some((_, escaped)) = rest.next() else {
                    out.push('\\');
                    break;
                };
                match escaped {
                    'd' => out.push_str("[0-9]"),
                    'D' => out.push_str("[^0-9]"),
                    'w' => out.push_str("[0-9A-Za-z_]"),
                    'W' => out.push_str("[^0-9A-Za-z_]"),
                    's' => out.push_str(r"[\t\n\x0C\r ]"),
                    'S' => out.push_str(r"[^\t\n\x0C\r ]"),
                    'b' if !in_class => out.push_str(r"(?-u:\b)"),
                    other => out.extend(['\\', other]),
                }
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if rest.next_if(|(_, next)| *next == '^').is_some() {
                    out.push('^');
                }
                if rest.next_if(|(_, next)| *next == ']').is_some() {
                    out.push_str("\\]");
                }
                class_start = out.len();
            }
            '[' if pattern[at..].starts_with("[:") => {
                let end = pattern[at..].find(":]").map(|end| at + end + 2);
                let Some(end) = end else {
                    out.push_str("\\[");
                    continue;
                };
                out.push_str(&pattern[at..end]);
                while rest.next_if(|(next, _)| *next < end).is_some() {}
            }
            '[' => out.push_str("\\["),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', c]),
            '-' if in_class && out.len() > class_start && out.ends_with('-') => out.push_str("\\-"),
            '{' if !in_class && !begins_repetition(&pattern[at..]) => out.push_str("\\{"),
            other => out.push(other),
        }
    }
    out
}

fn begins_repetition(text: &str) -> bool {
    let Some(end) = text.find('}') else { return false };
    let mut bounds = text[1..end].splitn(2, ',');
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let low = bounds.next().unwrap_or("");
    !low.is_empty() && is_number(low) && bounds.next().is_none_or(is_number)
}
