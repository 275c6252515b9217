//! Text with `{{ expressions }}` over an incident: what they may name is checked with the file, not at 3 a.m.
//!
//! The expressions are minijinja's, strict about what is undefined and limited in fuel. Its statements (`{% if %}`) are
//! refused: a branch that is not taken cannot be checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, filters, tests as is};

use super::Subject;

/// What every template may name, beside `labels.…` and `captures.…`.
const NAMES: [&str; 8] =
    ["release.bad", "release.target", "release.running", "service", "trigger", "value", "incident", "level"];

/// Labels stand in `Plan::variables` under their whole names: `labels.pod`.
const LABELS: &str = "labels.";
const CAPTURES: &str = "captures.";

/// Instructions of one expression. A useful one takes fewer than 50.
const FUEL: u64 = 10_000;

/// A rendered text is a command's argument, a URL or a short body; longer ones are mistakes.
const RENDERED_BYTES_MAX: usize = 256 * 1024;

/// Length of a value from outside (DESIGN §7).
const VALUE_BYTES_MAX: usize = 128;

/// What is known where a template stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateNames {
    /// What earlier steps of the same level capture.
    pub captures: Vec<String>,
    /// There is no incident: what is asked while all is well.
    pub no_incident: bool,
}

/// Only an incident gives these a value.
const NAMES_OF_INCIDENT: [&str; 4] = ["trigger", "value", "incident", "level"];

impl TemplateNames {
    fn knows(&self, name: &str) -> bool {
        NAMES.contains(&name) && !(self.no_incident && NAMES_OF_INCIDENT.contains(&name))
    }
}

/// What is wrong with a template, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    pub message: String,
    /// The bytes of the template that are wrong.
    pub range: Option<Range<usize>>,
    /// The way out.
    pub help: Option<String>,
}

impl TemplateError {
    fn at(range: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> TemplateError {
        TemplateError { message: message.into(), range: Some(range), help: Some(help.into()) }
    }
}

/// Where a rendered value goes; decides what it may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One argument of a command: the expression is the whole of it, its value fits [`is_safe_value`].
    Argument,
    /// A variable of a command, a header, a raw body: each value fits [`is_safe_value`].
    Plain,
    /// Each value fits [`is_safe_value`] and is percent-encoded.
    Url,
    /// A string of a JSON body: any text, since it is encoded.
    Json,
}

/// Whether a value from outside may enter a command or a URL: `[A-Za-z0-9._:/@+-]{1,128}`, no leading `-` (DESIGN §7).
#[must_use]
pub fn is_safe_value(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte);
    (1..=VALUE_BYTES_MAX).contains(&value.len()) && !value.starts_with('-') && value.bytes().all(allowed)
}

/// Finds syntax errors, unknown names, filters and tests. The first one is returned.
pub fn check(text: &str, names: &TemplateNames) -> Result<(), TemplateError> {
    for part in parts(text)? {
        match part {
            Part::Text(_) => {}
            Part::Expression { source, inner, .. } => check_expression(source, &inner, names)?,
        }
    }
    Ok(())
}

/// [`check`] for an argument of a command behind its program: a template is the whole argument, so that a value can
/// neither become an option nor hide in one.
pub fn check_argument(text: &str, names: &TemplateNames) -> Result<(), TemplateError> {
    check(text, names)?;
    whole(text, &parts(text)?)
}

/// For what no value from outside may choose: a command's program and its directory.
pub fn check_literal(text: &str) -> Result<(), TemplateError> {
    for part in parts(text)? {
        match part {
            Part::Text(_) => {}
            Part::Expression { outer, .. } => {
                return Err(TemplateError::at(
                    outer,
                    "a template cannot stand here",
                    "write it out; the program of a command gets values as arguments or as BACKSTOP_… variables",
                ));
            }
        }
    }
    Ok(())
}

fn whole(text: &str, parts: &[Part<'_>]) -> Result<(), TemplateError> {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Expression { outer, .. } => {
                if *outer != (0..text.len()) {
                    return Err(TemplateError::at(
                        outer.clone(),
                        "a template must be a whole argument",
                        format!("make it an argument of its own: \"{}\"", &text[outer.clone()]),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// What the templates of one attempt can name.
#[derive(Clone, Debug)]
pub struct Context {
    values: Value,
    known: BTreeSet<String>,
}

impl Context {
    #[must_use]
    pub fn of<'a>(subject: impl Into<Subject<'a>>) -> Context {
        let subject = subject.into();
        let mut flat = BTreeMap::new();
        let releases =
            [("release.bad", subject.bad), ("release.target", subject.target), ("release.running", subject.running)];
        for (name, release) in releases {
            if let Some(release) = release {
                flat.insert(name.to_owned(), release.to_string());
            }
        }
        for (name, value) in subject.variables {
            flat.insert(name.clone(), value.clone());
        }
        for (name, value) in subject.captures {
            flat.insert(format!("{CAPTURES}{name}"), value.clone());
        }
        flat.insert("service".to_owned(), subject.service.to_owned());
        flat.extend(subject.incident.map(|incident| ("incident".to_owned(), incident.to_string())));
        // People read levels from 1.
        flat.extend(subject.level.map(|level| ("level".to_owned(), (level + 1).to_string())));
        Context::from_flat(&flat)
    }

    /// Every name that [`check`] lets through, with a value that any place takes.
    fn sample(names: &TemplateNames, labels: impl Iterator<Item = String>) -> Context {
        let captures = names.captures.iter().map(|name| format!("{CAPTURES}{name}"));
        let all = NAMES.iter().map(|&name| name.to_owned()).chain(labels).chain(captures);
        Context::from_flat(&all.map(|name| (name, "1".to_owned())).collect())
    }

    /// `release.bad` becomes `bad` in the map `release`; names are split at the first dot only.
    fn from_flat(flat: &BTreeMap<String, String>) -> Context {
        let known = flat.keys().cloned().collect();
        let mut top = BTreeMap::new();
        let mut groups: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
        for group in ["release", "labels", "captures"] {
            groups.insert(group, BTreeMap::new());
        }
        for (name, value) in flat {
            let within = name.split_once('.').and_then(|(group, name)| Some((groups.get_mut(group)?, name)));
            match within {
                Some((group, name)) => drop(group.insert(name.to_owned(), value.clone())),
                None => drop(top.insert(name.as_str(), Value::from(value))),
            }
        }
        // After the others: a text named `labels` would hide the map.
        top.extend(groups.into_iter().map(|(name, group)| (name, Value::from_pairs(group))));
        Context { values: Value::from_pairs(top), known }
    }
}

/// Renders a template for its place; `text` without expressions is itself.
pub fn render(text: &str, context: &Context, place: Place) -> Result<String, TemplateError> {
    let parts = parts(text)?;
    if place == Place::Argument {
        whole(text, &parts)?;
    }
    let mut rendered = String::with_capacity(text.len());
    for part in parts {
        match part {
            Part::Text(text) => rendered.push_str(text),
            Part::Expression { source, inner, .. } => {
                let value = evaluate(source, &inner, context)?;
                push_value(&mut rendered, &value, source, &inner, place)?;
            }
        }
        if rendered.len() > RENDERED_BYTES_MAX {
            let message = format!("the template gives more than {RENDERED_BYTES_MAX} bytes");
            return Err(TemplateError { message, range: None, help: None });
        }
    }
    Ok(rendered)
}

fn push_value(
    rendered: &mut String,
    value: &str,
    source: &str,
    inner: &Range<usize>,
    place: Place,
) -> Result<(), TemplateError> {
    // A part of a path that is only dots would name another part.
    let safe = is_safe_value(value) && !(place == Place::Url && matches!(value, "." | ".."));
    match place {
        Place::Json => rendered.push_str(value),
        Place::Argument | Place::Plain if safe => rendered.push_str(value),
        Place::Url if safe => push_percent_encoded(rendered, value),
        Place::Argument | Place::Plain | Place::Url => {
            let message = format!("the value of {} cannot be passed on: {}", source.trim(), shown(value));
            let help = "such a value has 1 to 128 characters of A-Z a-z 0-9 . _ : / @ + - and does not begin with -";
            return Err(TemplateError::at(inner.clone(), message, help));
        }
    }
    Ok(())
}

/// A value as a message may quote it: escaped, and not long.
pub(super) fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(40).flat_map(char::escape_default).collect();
    if value.chars().nth(40).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// All but RFC 3986's unreserved characters.
fn push_percent_encoded(to: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            write!(to, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
}

/// A template is text and expressions in turn.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Expression {
        /// Between the braces.
        source: &'a str,
        inner: Range<usize>,
        /// With the braces.
        outer: Range<usize>,
    },
}

/// Splits at `{{ … }}`; braces within an expression's quoted strings do not count.
fn parts(text: &str) -> Result<Vec<Part<'_>>, TemplateError> {
    let mut parts = Vec::new();
    let mut from = 0;
    while let Some(open) = text[from..].find("{{").map(|at| from + at) {
        let end = expression_end(text, open + 2).ok_or_else(|| {
            TemplateError::at(
                open..text.len(),
                "the template is not closed",
                "close it by }}, or write {{ \"{{\" }} for the two braces",
            )
        })?;
        push_text(&mut parts, text, from..open)?;
        parts.push(Part::Expression { source: &text[open + 2..end], inner: open + 2..end, outer: open..end + 2 });
        from = end + 2;
    }
    push_text(&mut parts, text, from..text.len())?;
    Ok(parts)
}

fn push_text<'a>(parts: &mut Vec<Part<'a>>, text: &'a str, range: Range<usize>) -> Result<(), TemplateError> {
    let piece = &text[range.clone()];
    for (open, what) in [("{%", "statements"), ("{#", "comments")] {
        if let Some(at) = piece.find(open) {
            let at = range.start + at;
            return Err(TemplateError::at(
                at..at + open.len(),
                format!("{what} ({open} … ) are not supported in templates"),
                format!(
                    "use {{{{ … }}}}, such as {{{{ release.target }}}}; for the two characters write {{{{ \"{open}\" }}}}"
                ),
            ));
        }
    }
    if !piece.is_empty() {
        parts.push(Part::Text(piece));
    }
    Ok(())
}

/// Where the `}}` is that closes the expression that begins at `from`. A `}` of a map literal is not skipped: `{a: {}}}`
/// is nothing that a template needs.
fn expression_end(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut at = from;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (Some(_) | None, _) => {}
        }
        at += 1;
    }
    None
}

/// Filters and tests are few, so that the documentation can list them all; none can make much out of little.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("default", filters::default);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("split", filters::split);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_test("defined", is::is_defined);
    environment.add_test("startingwith", is::is_startingwith);
    environment.add_test("endingwith", is::is_endingwith);
    environment
});

const FILTERS: &str = "default, lower, upper, trim, replace, split, first, last";
const TESTS: &str = "defined, startingwith, endingwith";

fn check_expression(source: &str, inner: &Range<usize>, names: &TemplateNames) -> Result<(), TemplateError> {
    let trimmed = source.trim();
    if trimmed.is_empty() {
        return Err(TemplateError::at(inner.clone(), "the template is empty", known_names(names)));
    }
    if source.starts_with(['-', '+']) || source.ends_with(['-', '+']) {
        let help = "write {{ … }}; whitespace around it is kept as it stands";
        return Err(TemplateError::at(inner.clone(), "whitespace control ({{- … -}}) is not supported", help));
    }
    let compiled = ENVIRONMENT.compile_expression(source).map_err(|error| explain(&error, source, inner))?;
    let used = compiled.undeclared_variables(true);
    let mut used: Vec<&str> = used.iter().map(String::as_str).collect();
    used.sort_unstable();
    for name in &used {
        let label = name.strip_prefix(LABELS).is_some_and(|label| !label.is_empty() && !label.contains('.'));
        let capture = name.strip_prefix(CAPTURES);
        let known = names.knows(name)
            || label
            || capture.is_some_and(|capture| names.captures.iter().any(|known| known == capture));
        if !known {
            let message = match capture {
                Some(capture) => format!("no earlier step of this level captures {capture}"),
                None if NAMES.contains(name) => format!("{name} is not known while there is no incident"),
                None => format!("{name} is not defined"),
            };
            return Err(TemplateError::at(range_of(name, source, inner), message, known_names(names)));
        }
    }
    check_words(source, inner)?;
    let labels = used.iter().filter(|name| name.starts_with(LABELS)).map(|&name| name.to_owned());
    evaluate(source, inner, &Context::sample(names, labels)).map(drop)
}

/// Filters and tests by name, also in what a trial does not reach (`a if b else c | nosuch`).
fn check_words(source: &str, inner: &Range<usize>) -> Result<(), TemplateError> {
    let words = words(source);
    for pair in words.windows(3) {
        let (before, word, after) = (&source[pair[0].clone()], &source[pair[1].clone()], &source[pair[2].clone()]);
        let named = if before == "|" {
            Some(("filter", word, &pair[1], format!("''|{word}"), FILTERS))
        } else if before == "is" && word == "not" {
            Some(("test", after, &pair[2], format!("'' is {after}"), TESTS))
        } else if before == "is" {
            Some(("test", word, &pair[1], format!("'' is {word}"), TESTS))
        } else {
            None
        };
        let Some((kind, word, range, trial, known)) = named else { continue };
        let trial = ENVIRONMENT.compile_expression(&trial).and_then(|trial| trial.eval(()));
        let unknown =
            trial.is_err_and(|error| matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest));
        if unknown {
            let range = inner.start + range.start..inner.start + range.end;
            return Err(TemplateError::at(range, format!("there is no {kind} {word}"), format!("known: {known}")));
        }
    }
    Ok(())
}

/// The words and single signs of an expression, without its quoted strings; padded, so that windows of three see all.
fn words(source: &str) -> Vec<Range<usize>> {
    let bytes = source.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    // Before the first and after the last there is nothing.
    let mut words = Vec::new();
    words.push(0..0);
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            byte if is_word(byte) => {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                words.push(start..at);
            }
            byte => {
                at += 1;
                // Other bytes are parts of characters that only strings may hold.
                if byte.is_ascii_graphic() {
                    words.push(start..at);
                }
            }
        }
    }
    words.extend([source.len()..source.len(), source.len()..source.len()]);
    words
}

fn evaluate(source: &str, inner: &Range<usize>, context: &Context) -> Result<String, TemplateError> {
    let compiled = ENVIRONMENT.compile_expression(source).map_err(|error| explain(&error, source, inner))?;
    let unknown = || {
        let mut missing: Vec<String> =
            compiled.undeclared_variables(true).into_iter().filter(|name| !context.known.contains(name)).collect();
        missing.sort_unstable();
        let range = missing.first().map_or(inner.clone(), |name| range_of(name, source, inner));
        let what = if missing.is_empty() { source.trim().to_owned() } else { missing.join(", ") };
        TemplateError::at(
            range,
            format!("{what} is not known"),
            "give a value for that case: {{ name | default(\"…\") }}",
        )
    };
    let value = match compiled.eval(context.values.clone()) {
        Ok(value) if value.is_undefined() => return Err(unknown()),
        Ok(value) => value,
        Err(error) if error.kind() == ErrorKind::UndefinedError => return Err(unknown()),
        Err(error) => return Err(explain(&error, source, inner)),
    };
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    if matches!(value.kind(), ValueKind::Number | ValueKind::Bool) {
        return Ok(value.to_string());
    }
    let message = format!("{} is not a text or a number", source.trim());
    Err(TemplateError::at(inner.clone(), message, "take one value out of it, such as {{ … | first }}"))
}

fn explain(error: &minijinja::Error, source: &str, inner: &Range<usize>) -> TemplateError {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    TemplateError {
        message: format!("the template {{{{{source}}}}} is not valid: {detail}"),
        range: Some(inner.clone()),
        help: None,
    }
}

/// Where a name stands in an expression; the whole expression if it is written in another way.
fn range_of(name: &str, source: &str, inner: &Range<usize>) -> Range<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let found = source.match_indices(name).find(|(at, _)| {
        !source[..*at].ends_with(is_word) && !source[at + name.len()..].starts_with(|c: char| is_word(c) && c != '.')
    });
    let Some((at, _)) = found else {
        let lead = source.len() - source.trim_start().len();
        return inner.start + lead..inner.start + lead + source.trim().len();
    };
    inner.start + at..inner.start + at + name.len()
}

fn known_names(names: &TemplateNames) -> String {
    let mut known: Vec<String> = NAMES.into_iter().filter(|name| names.knows(name)).map(str::to_owned).collect();
    known.push("labels.NAME".to_owned());
    known.extend(names.captures.iter().map(|name| format!("{CAPTURES}{name}")));
    format!("known: {}", known.join(", "))
}

#[cfg(test)]
mod tests;
