//! TOML as nodes that know their places, and several files merged into one tree.

use toml::de::{DeTable, DeValue};

use super::cursor::Cx;
use super::mask::may_hold_secret;
use super::places::{Place, Problem};

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub text: String,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The value; of a table its header, of one that is only implied the last key of its name.
    pub place: Place,
    pub value: Value,
}

pub(super) type Entries = Vec<(Key, Node)>;

#[derive(Clone, Debug)]
pub(super) enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Datetime,
    List(Vec<Node>),
    /// In the order of the file.
    Table(Entries),
}

impl Value {
    pub fn name(&self) -> &'static str {
        match self {
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number with a fraction",
            Value::Text(_) => "a string",
            Value::Datetime => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// Reads and merges every file. Files that are no TOML are reported and left out; what refers to them is then not
/// reported as missing.
pub(super) fn read(cx: &Cx<'_>) -> Entries {
    let mut files = Vec::new();
    for (file, source) in cx.sources.iter().enumerate() {
        if cx.is_unreadable(file) {
            cx.set_incomplete();
            continue;
        }
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        let entries = entries_of(file, table.get_ref());
        if !errors.is_empty() {
            syntax_errors(cx, file, &errors, &entries);
            cx.set_incomplete();
            continue;
        }
        if entries.is_empty() {
            empty(cx, file);
            continue;
        }
        files.push(entries);
    }
    files.into_iter().reduce(|first, next| merge(cx, first, next, &mut Vec::new())).unwrap_or_default()
}

fn entries_of(file: usize, table: &DeTable<'_>) -> Entries {
    let mut entries: Entries = table
        .iter()
        .map(|(key, value)| {
            let span = key.span();
            let place = Place { file, start: span.start, end: span.end };
            let key = Key { text: key.get_ref().clone().into_owned(), place };
            (key, node_of(file, value))
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.place);
    entries
}

fn node_of(file: usize, value: &toml::Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let place = Place { file, start: span.start, end: span.end };
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Float(integer.as_str().parse().unwrap_or(f64::INFINITY)),
        },
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(list) => Value::List(list.iter().map(|element| node_of(file, element)).collect()),
        DeValue::Table(table) => Value::Table(entries_of(file, table)),
    };
    Node { place, value }
}

fn empty(cx: &Cx<'_>, file: usize) {
    let place = Place { file, start: 0, end: 0 };
    if cx.sources[file].text.trim().is_empty() {
        cx.error(
            Problem::at(place, "the file is empty").help("config/backstop.toml is a complete example to start from"),
        );
    } else {
        cx.warn(Problem::at(place, "the file holds nothing but comments"));
    }
}

/// The parser goes on behind an error and then stumbles over its consequences: one message per line, and none behind
/// the first that breaks the structure.
fn syntax_errors(cx: &Cx<'_>, file: usize, errors: &[toml::de::Error], entries: &Entries) {
    let text = &cx.sources[file].text;
    let mut found: Vec<(usize, bool, Place, &str)> = errors
        .iter()
        .map(|error| {
            let place = error.span().map_or(Place { file, start: 0, end: 0 }, |span| visible(file, text, span));
            (super::places::line_and_column(text, place.start).0, !is_local(error.message()), place, error.message())
        })
        .collect();
    for (_, structural, place, message) in &mut found {
        if message.starts_with("string values must be quoted") && is_header(text, *place) {
            (*structural, *message) = (true, HEADER_IN_LIST);
        }
    }
    found.sort_by_key(|(line, structural, place, _)| (*line, !structural, *place));
    let mut shown = 0;
    for (line, structural, place, message) in found {
        if line == shown {
            continue;
        }
        shown = line;
        cx.error(syntax_error(place, message, text, entries));
        if structural {
            break;
        }
    }
}

const HEADER_IN_LIST: &str = "a list above is not closed";

/// A table's header that is read as a list, since one above it is open.
fn is_header(text: &str, place: Place) -> bool {
    let line_start = text[..place.start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default().trim();
    text[line_start..place.start].trim().trim_start_matches('[').is_empty()
        && line.starts_with('[')
        && !line.trim_end_matches(']').trim_start_matches('[').is_empty()
        && line.ends_with(']')
}

/// An end of line or of file is shown as the character before it.
fn visible(file: usize, text: &str, span: std::ops::Range<usize>) -> Place {
    let mut start = span.start.min(text.len());
    let at_end = text[start..].chars().next().is_none_or(|next| next == '\n' || next == '\r');
    if at_end && span.end <= start + 1 {
        start = text[..start].trim_end_matches(['\n', '\r']).len();
    }
    Place { file, start, end: span.end.min(text.len()).max(start) }
}

fn is_local(message: &str) -> bool {
    ["string values must be quoted", "invalid boolean", "duplicate key"].iter().any(|local| message.starts_with(local))
}

fn syntax_error(place: Place, message: &str, text: &str, entries: &Entries) -> Problem {
    let written = text.get(place.start..place.end).unwrap_or_default();
    if message.starts_with("string values must be quoted") {
        let line = text[text[..place.start].rfind('\n').map_or(0, |at| at + 1)..].lines().next().unwrap_or_default();
        let help = if written.is_empty() || written.contains(['"', '\'']) || may_hold_secret(line) {
            "write a value behind the `=`, strings in quotes".to_owned()
        } else {
            format!("write \"{written}\"")
        };
        let message = if written.is_empty() { "the value is missing" } else { "a string must stand in quotes" };
        return Problem::at(place, message).help(help);
    }
    if message == "duplicate key" {
        let problem = Problem::at(place, format!("`{written}` is defined twice"))
            .label("defined again here")
            .help("keep one of them; a table's header may stand only once in a file");
        return match first_key(entries, written, place) {
            Some(first) => problem.also(first, "first defined here"),
            None => problem,
        };
    }
    if message == HEADER_IN_LIST {
        let problem = Problem::at(place, "a list above this table is not closed");
        return problem.help("is a `]` missing at its end?");
    }
    let help = if message.starts_with("unclosed") || message.contains("string") {
        "something opened here or on a line above is not closed"
    } else if message.starts_with("unexpected `=` in array") {
        "a list above is not closed: is a `]` missing?"
    } else {
        "a line is `key = value` or `[table]`; strings stand in quotes, lists in [ ], tables in { }"
    };
    Problem::at(place, format!("this is not TOML: {message}")).help(help)
}

fn first_key(entries: &Entries, name: &str, before: Place) -> Option<Place> {
    let mut found = None;
    for (key, node) in entries {
        let inside = match &node.value {
            Value::Table(inner) => first_key(inner, name, before),
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Datetime
            | Value::List(_) => None,
        };
        let own = (key.text == name && key.place < before).then_some(key.place);
        // The nearest one above is the most likely.
        found = found.max(own).max(inside);
    }
    found
}

/// Tables that only group names may be continued in another file; everything else is defined once.
fn is_group(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["daemon" | "receivers" | "scrapes" | "services" | "defaults"] | ["services" | "defaults", _] => true,
        ["services", _, group] => ["guard", "labels", "probes", "scrapes", "triggers"].contains(group),
        _ => false,
    }
}

fn merge(cx: &Cx<'_>, mut first: Entries, next: Entries, path: &mut Vec<String>) -> Entries {
    for (key, node) in next {
        let Some(at) = first.iter().position(|(have, _)| have.text == key.text) else {
            first.push((key, node));
            continue;
        };
        path.push(key.text.clone());
        let (have_key, have) = &mut first[at];
        match (&mut have.value, node.value) {
            (Value::Table(old), Value::Table(new)) if is_group(path) => {
                *old = merge(cx, std::mem::take(old), new, path);
            }
            (_, _) => cx.error(twice(path, have_key.place, key.place)),
        }
        path.pop();
    }
    first
}

fn twice(path: &[String], first: Place, second: Place) -> Problem {
    let name = match path {
        [group, name] if group == "receivers" => format!("the receiver `{name}`"),
        [group, name] if group == "scrapes" => format!("the shared scrape `{name}`"),
        [_, service, group, name] if group != "guard" && group != "labels" => {
            format!("the {} `{name}` of service `{service}`", group.trim_end_matches('s'))
        }
        [_, service, list] if list == "rollback" => format!("the ladder `rollback` of service `{service}`"),
        _ => format!("`{}`", path.join(".")),
    };
    Problem::at(second, format!("{name} is defined twice"))
        .label("defined again here")
        .also(first, "first defined here")
        .help("keep one of the two, or give one another name")
}
