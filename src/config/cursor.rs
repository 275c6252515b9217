//! Takes keys from a table, reads values, and reports what is wrong with either: each mistake once, at its place.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use super::places::{Place, Problem};
use super::scalar::{self, Wrong};
use super::suggest::closest;
use super::tree::{Entries, Key, Node, Value};
use super::{Diagnostic, Environment, Source};

/// What every reader needs: the texts, the environment, and where problems go.
pub(super) struct Cx<'a> {
    pub sources: &'a [Source],
    environment: &'a Environment<'a>,
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    unreadable: RefCell<BTreeSet<usize>>,
    incomplete: Cell<bool>,
    secrets: RefCell<Vec<Place>>,
}

impl<'a> Cx<'a> {
    pub fn new(sources: &'a [Source], environment: &'a Environment<'a>) -> Cx<'a> {
        Cx {
            sources,
            environment,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            unreadable: RefCell::default(),
            incomplete: Cell::new(false),
            secrets: RefCell::default(),
        }
    }

    pub fn hostname(&self) -> &str {
        self.environment.hostname
    }

    pub fn error(&self, problem: Problem) {
        self.errors.borrow_mut().push(problem);
    }

    pub fn warn(&self, problem: Problem) {
        self.warnings.borrow_mut().push(problem);
    }

    /// The file could not be read, and that was said.
    pub fn set_unreadable(&self, file: usize) {
        self.unreadable.borrow_mut().insert(file);
    }

    pub fn is_unreadable(&self, file: usize) -> bool {
        self.unreadable.borrow().contains(&file)
    }

    /// Some file is not in the tree: what seems to be missing may be there.
    pub fn set_incomplete(&self) {
        self.incomplete.set(true);
    }

    pub fn is_incomplete(&self) -> bool {
        self.incomplete.get()
    }

    /// The text there must not be shown.
    pub fn hide(&self, place: Place) {
        self.secrets.borrow_mut().push(place);
    }

    pub fn hidden(&self) -> Vec<Place> {
        self.secrets.borrow().clone()
    }

    /// Errors and warnings in the order of the files. What `[defaults]` says wrong is found for every service, and told
    /// once.
    pub fn diagnostics(&self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let ordered = |problems: &RefCell<Vec<Problem>>| {
            let mut problems = problems.take();
            problems.sort_by_key(Problem::place);
            problems.dedup_by(|next, problem| next.is_like(problem));
            problems.into_iter().map(|problem| problem.into_diagnostic(self.sources)).collect()
        };
        (ordered(&self.errors), ordered(&self.warnings))
    }

    /// The text as it is written there, quotes included.
    pub fn written(&self, place: Place) -> &str {
        self.sources[place.file].text.get(place.start..place.end).unwrap_or_default()
    }

    fn wrong(&self, place: Place, wrong: Wrong) {
        self.error(Problem::at(place, wrong.message).help(wrong.help));
    }

    fn mismatch(&self, node: &Node, expected: &str, help: &str) {
        let message = format!("expected {expected}, found {}", node.value.name());
        self.error(Problem::at(node.place, message).help(help));
    }

    pub fn table<'n>(&'n self, node: &'n Node, what: impl Into<String>) -> Option<Table<'n, 'a>> {
        let what = what.into();
        match &node.value {
            Value::Table(entries) => Some(Table::new(self, node.place, entries, what)),
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Datetime
            | Value::List(_) => {
                self.mismatch(node, "a table", &format!("{what} is a table: {{ key = value, … }}"));
                None
            }
        }
    }

    /// The names and values of a table whose keys are the operator's own.
    pub fn named<'n>(&self, node: &'n Node, what: &str) -> Option<&'n Entries> {
        match &node.value {
            Value::Table(entries) => Some(entries),
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Datetime
            | Value::List(_) => {
                self.mismatch(node, "a table", what);
                None
            }
        }
    }

    /// A string, with variables put in.
    pub fn text(&self, node: &Node, help: &str) -> Option<Text> {
        let Value::Text(written) = &node.value else {
            self.mismatch(node, "a string", help);
            return None;
        };
        match scalar::substitute(written, self.environment.variable) {
            Ok((value, substituted)) => {
                let offset = self.written(node.place).find(&value).filter(|_| !value.is_empty());
                Some(Text { value, place: node.place, offset, substituted })
            }
            Err(unresolved) => {
                let mut from = 0;
                for problem in unresolved {
                    let variable = &written[problem.range];
                    let found = self.written(node.place).get(from..).and_then(|rest| rest.find(variable));
                    let place = found.map_or(node.place, |at| {
                        let start = node.place.start + from + at;
                        from += at + variable.len();
                        Place { file: node.place.file, start, end: start + variable.len() }
                    });
                    self.wrong(place, problem.wrong);
                }
                None
            }
        }
    }

    /// A string that is not empty.
    pub fn some_text(&self, node: &Node, help: &str) -> Option<Text> {
        let text = self.text(node, help)?;
        if text.value.trim().is_empty() {
            self.error(Problem::at(node.place, "this is empty").help(help));
            return None;
        }
        Some(text)
    }

    pub fn boolean(&self, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Datetime
            | Value::List(_)
            | Value::Table(_) => {
                self.mismatch(node, "true or false", "write true or false, without quotes");
                None
            }
        }
    }

    /// A duration; zero is one.
    pub fn duration(&self, node: &Node) -> Option<Duration> {
        const HELP: &str = "write a number and a unit in quotes: \"500ms\", \"30s\", \"5m\", \"1h\"";
        if let Value::Integer(number) = &node.value {
            let message = "the duration has no unit";
            self.error(Problem::at(node.place, message).help(format!("is it seconds? write \"{number}s\"")));
            return None;
        }
        let text = self.text(node, HELP)?;
        scalar::duration(&text.value).map_err(|wrong| self.wrong(node.place, wrong)).ok()
    }

    /// A duration within bounds; `why` says what they are for.
    pub fn duration_in(&self, node: &Node, bounds: Range<Duration>, why: &str) -> Option<Duration> {
        let duration = self.duration(node)?;
        if duration.is_zero() && !bounds.contains(&duration) {
            self.error(Problem::at(node.place, "this must be longer than zero").help(why));
            return None;
        }
        if duration < bounds.start {
            let message = format!("this is shorter than {}", humantime::format_duration(bounds.start));
            self.error(Problem::at(node.place, message).help(why));
            return None;
        }
        if duration > bounds.end {
            let message = format!("this is longer than {}", humantime::format_duration(bounds.end));
            self.error(Problem::at(node.place, message).help(why));
            return None;
        }
        Some(duration)
    }

    /// More than zero.
    pub fn some_duration(&self, node: &Node, why: &str) -> Option<Duration> {
        self.duration_in(node, Duration::from_millis(1)..Duration::MAX, why)
    }

    pub fn whole(&self, node: &Node, bounds: Range<u64>, help: &str) -> Option<u64> {
        match &node.value {
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) if number >= bounds.start && number <= bounds.end => Some(number),
                Ok(_) | Err(_) => {
                    let message = format!("{number} is not between {} and {}", bounds.start, bounds.end);
                    self.error(Problem::at(node.place, message).help(help));
                    None
                }
            },
            Value::Bool(_) | Value::Float(_) | Value::Text(_) | Value::Datetime | Value::List(_) | Value::Table(_) => {
                self.mismatch(node, "a whole number", help);
                None
            }
        }
    }

    /// A percentage such as `"15%"` or a number, as a fraction of 1.
    pub fn share(&self, node: &Node, help: &str) -> Option<f64> {
        let share = match &node.value {
            Value::Integer(number) => number.to_string().parse().ok(),
            Value::Float(number) => Some(*number),
            Value::Text(_) => scalar::percentage(&self.text(node, help)?.value),
            Value::Bool(_) | Value::Datetime | Value::List(_) | Value::Table(_) => None,
        };
        match share {
            Some(share) if share > 0.0 && share <= 1.0 => Some(share),
            Some(share) if share > 1.0 && share <= 100.0 && !matches!(node.value, Value::Text(_)) => {
                let message = "a share is a percentage, or a number from 0 to 1";
                self.error(Problem::at(node.place, message).help(format!("did you mean \"{share}%\"?")));
                None
            }
            Some(_) => {
                self.error(Problem::at(node.place, "this is not between 0 and 100 %").help(help));
                None
            }
            None => {
                self.mismatch(node, "a percentage", help);
                None
            }
        }
    }

    pub fn size(&self, node: &Node, bounds: Range<usize>) -> Option<usize> {
        let size = match &node.value {
            Value::Integer(_) => {
                return self
                    .whole(node, bounds.start as u64..bounds.end as u64, "bytes, or \"16MiB\"")
                    .and_then(|bytes| usize::try_from(bytes).ok());
            }
            Value::Bool(_) | Value::Float(_) | Value::Text(_) | Value::Datetime | Value::List(_) | Value::Table(_) => {
                let text = self.text(node, "write a number and a unit in quotes: \"64KiB\", \"16MiB\"")?;
                scalar::size(&text.value).map_err(|wrong| self.wrong(node.place, wrong)).ok()?
            }
        };
        if size < bounds.start || size > bounds.end {
            let (least, most) = (bytesize::ByteSize(bounds.start as u64), bytesize::ByteSize(bounds.end as u64));
            let message = format!("this is not between {least} and {most}");
            self.error(Problem::at(node.place, message).help("the limit keeps one answer from filling the memory"));
            return None;
        }
        Some(size)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, node: &Node, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = format!("it is one of {}", list(&words).replace('`', "\""));
        let text = self.text(node, &help)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let problem = Problem::at(node.place, format!("{} is not known here", text.shown()));
        self.error(match closest(&text.value, words.iter().copied()) {
            Some(word) => problem.help(format!("did you mean \"{word}\"? {help}")),
            None => problem.help(help),
        });
        None
    }

    /// A list, each element by `read`; one bad element spoils the list, after all were read.
    pub fn list<T>(&self, node: &Node, help: &str, mut read: impl FnMut(&Node) -> Option<T>) -> Option<Vec<T>> {
        let Value::List(elements) = &node.value else {
            self.mismatch(node, "a list", help);
            return None;
        };
        let values: Vec<Option<T>> = elements.iter().map(&mut read).collect();
        values.into_iter().collect()
    }
}

/// A string and where its bytes stand.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub value: String,
    pub place: Place,
    /// Where the value begins in what is written, if it stands there as it is.
    offset: Option<usize>,
    pub substituted: bool,
}

impl Text {
    /// The place of some of its bytes; all of it, where escapes or variables stand between.
    pub fn part(&self, range: Option<&Range<usize>>) -> Place {
        match (range, self.offset) {
            (Some(range), Some(offset)) if range.start <= range.end && range.end <= self.value.len() => {
                let start = self.place.start + offset + range.start;
                Place { file: self.place.file, start, end: (start + range.len()).min(self.place.end) }
            }
            (Some(_) | None, _) => self.place,
        }
    }

    /// For a message: a value that came from the environment is not shown.
    pub fn shown(&self) -> String {
        if self.substituted { "what the variables give here".to_owned() } else { format!("`{}`", self.value) }
    }
}

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Got<T> {
    Absent,
    /// It was there, was wrong, and that was said.
    Bad,
    Is(T, Place),
}

impl<T> Got<T> {
    /// `None` only where the value was wrong.
    pub fn or(self, default: T) -> Option<T> {
        match self {
            Got::Absent => Some(default),
            Got::Bad => None,
            Got::Is(value, _) => Some(value),
        }
    }

    /// The same for what has no default.
    #[expect(clippy::option_option, reason = "the outer one, as everywhere here, is whether it was right")]
    pub fn optional(self) -> Option<Option<T>> {
        match self {
            Got::Absent => Some(None),
            Got::Bad => None,
            Got::Is(value, _) => Some(Some(value)),
        }
    }

    pub fn place(&self) -> Option<Place> {
        match self {
            Got::Absent | Got::Bad => None,
            Got::Is(_, place) => Some(*place),
        }
    }

    /// This one where it is given, the other otherwise.
    pub fn or_else(self, other: Got<T>) -> Got<T> {
        match self {
            Got::Absent => other,
            Got::Bad | Got::Is(..) => self,
        }
    }
}

/// A table whose keys are ours. Every key that is asked for is known; `finish` reports the others, and what is missing
/// where no mistyped key explains it.
#[must_use]
pub(super) struct Table<'n, 'a> {
    pub cx: &'n Cx<'a>,
    pub place: Place,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
    /// Keys that were refused by name.
    refused: Vec<&'static str>,
    missing: Vec<Missing>,
    /// As messages call it: "the trigger `error-rate`".
    pub what: String,
}

impl<'n, 'a> Table<'n, 'a> {
    pub fn new(cx: &'n Cx<'a>, place: Place, entries: &'n [(Key, Node)], what: String) -> Table<'n, 'a> {
        Table { cx, place, entries, known: Vec::new(), refused: Vec::new(), missing: Vec::new(), what }
    }

    /// Of a key that is not there: everything in it has its default.
    pub fn absent(cx: &'n Cx<'a>) -> Table<'n, 'a> {
        Table::new(cx, Place { file: 0, start: 0, end: 0 }, &[], String::new())
    }

    pub fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.take_entry(name).map(|(_, node)| node)
    }

    pub fn take_entry(&mut self, name: &'static str) -> Option<(&'n Key, &'n Node)> {
        self.known.push(name);
        self.entries.iter().find(|(key, _)| key.text == name).map(|(key, node)| (key, node))
    }

    pub fn get<T>(&mut self, name: &'static str, read: impl FnOnce(&'n Cx<'a>, &'n Node) -> Option<T>) -> Got<T> {
        match self.take(name) {
            None => Got::Absent,
            Some(node) => read(self.cx, node).map_or(Got::Bad, |value| Got::Is(value, node.place)),
        }
    }

    /// A key that must be there; `help` says what to write.
    pub fn need<T>(
        &mut self,
        name: &'static str,
        help: &str,
        read: impl FnOnce(&'n Cx<'a>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        match self.get(name, read) {
            Got::Absent => {
                let message = format!("{} has no `{name}`", self.what);
                let problem = Problem::at(self.place, message);
                self.missing.push(Missing { names: vec![name], problem, help: help.to_owned() });
                None
            }
            Got::Bad => None,
            Got::Is(value, _) => Some(value),
        }
    }

    /// The one of several keys that is there. None is no mistake, two are.
    pub fn one_at_most(&mut self, names: &[&'static str]) -> Got<(&'static str, &'n Node)> {
        let mut present = Vec::new();
        for name in names {
            if let Some((key, node)) = self.take_entry(name) {
                present.push((*name, key, node));
            }
        }
        present.sort_by_key(|(_, key, _)| key.place);
        match present.as_slice() {
            [] => Got::Absent,
            [(name, key, node)] => Got::Is((name, node), key.place),
            [(first, first_key, _), (second, second_key, _), ..] => {
                let message = format!("{} has both `{first}` and `{second}`", self.what);
                self.cx.error(
                    Problem::at(second_key.place, message)
                        .also(first_key.place, "the other one")
                        .help(format!("keep exactly one of {}", list(names))),
                );
                Got::Bad
            }
        }
    }

    /// The key that says what the thing is. `refused` are keys of later versions, each with what to do until then.
    pub fn one_of(
        &mut self,
        names: &[&'static str],
        refused: &[(&'static str, &str)],
        help: &str,
    ) -> Option<(&'static str, &'n Node)> {
        let mut was_refused = false;
        for (name, sentence) in refused {
            was_refused |= self.not_yet(name, sentence);
        }
        match self.one_at_most(names) {
            Got::Absent => {
                if !was_refused {
                    let message = format!("{} has none of {}", self.what, list(names));
                    let problem = Problem::at(self.place, message);
                    self.missing.push(Missing { names: names.to_vec(), problem, help: help.to_owned() });
                }
                None
            }
            Got::Bad => None,
            Got::Is(found, _) => Some(found),
        }
    }

    /// A key that people who know backstop's plans may use, but this version does not understand.
    pub fn not_yet(&mut self, name: &'static str, sentence: &str) -> bool {
        let Some((key, _)) = self.entries.iter().find(|(key, _)| key.text == name) else { return false };
        self.refused.push(name);
        self.cx.error(Problem::at(key.place, format!("`{name}` is not supported yet")).help(sentence));
        true
    }

    /// Something that may be said with any of several keys is missing.
    pub fn lacks(&mut self, names: &[&'static str], what: &str, help: &str) {
        let problem = Problem::at(self.place, format!("{} has no {what}", self.what));
        self.missing.push(Missing { names: names.to_vec(), problem, help: help.to_owned() });
    }

    /// Reports the keys that nobody asked for, and those that are missing. A key that is not known and one that is
    /// missing are taken for the same mistake where the one may have been meant as the other.
    pub fn finish(mut self) {
        for (key, _) in self.entries {
            let name = key.text.as_str();
            if self.known.contains(&name) || self.refused.contains(&name) {
                continue;
            }
            // What is there already is not what was meant.
            let open =
                self.known.iter().copied().filter(|known| self.entries.iter().all(|(key, _)| key.text != *known));
            let close = closest(name, open);
            let explained = self.missing.iter().position(|missing| match close {
                Some(close) => missing.names.contains(&close),
                None => missing.names.len() > 1,
            });
            let explained = explained.map(|at| self.missing.remove(at));
            let help = match (close, explained) {
                (Some(close), _) => format!("did you mean `{close}`?"),
                (None, Some(missing)) => missing.help,
                (None, None) => format!("its keys are {}", list(&self.known).replace(" or ", " and ")),
            };
            self.cx.error(Problem::at(key.place, format!("{} has no key `{name}`", self.what)).help(help));
        }
        for Missing { problem, help, .. } in self.missing {
            self.cx.error(problem.help(help));
        }
    }
}

/// What a table lacks, and the keys of which any would do.
struct Missing {
    names: Vec<&'static str>,
    problem: Problem,
    help: String,
}

/// `a, b or c`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [firsts @ .., last] => {
            let firsts: Vec<String> = firsts.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", firsts.join(", "))
        }
    }
}
