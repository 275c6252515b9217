//! `[services.X.severity.Y]` and `[defaults.severity.Y]`: what an incident's severity changes, and who may approve.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::cursor::{Cx, Got, Text};
use super::super::places::Problem;
use super::super::tree::{Node, Value};
use super::service;
use crate::decide::event::{Autonomy, OnSilence, Severity};
use crate::decide::rules::SeverityRules;

/// The words of the file.
pub(super) const WORDS: [(&str, Severity); 4] =
    [("low", Severity::Low), ("medium", Severity::Medium), ("high", Severity::High), ("critical", Severity::Critical)];

/// A level of the ladder, before the ladder is known.
#[derive(Clone, Debug)]
enum Start {
    /// Counted from 1.
    Number(u64),
    Name(Text),
}

#[derive(Clone)]
struct Severe {
    autonomy: Got<Autonomy>,
    approvers: Got<Vec<String>>,
    respond_within: Got<Duration>,
    on_silence: Got<OnSilence>,
    start_level: Got<Start>,
}

/// What stands in one place, by severity.
#[derive(Clone, Default)]
pub(super) struct Severities {
    by: BTreeMap<Severity, Severe>,
    /// Something was wrong that belongs to none of them.
    bad: bool,
}

/// What came of both places.
pub(super) struct Compiled {
    pub rules: BTreeMap<Severity, SeverityRules>,
    pub start_levels: BTreeMap<Severity, usize>,
}

/// `autonomy`: the service's, to tell where a severity's is bolder.
pub(super) fn severities(cx: &Cx<'_>, node: Option<&Node>, autonomy: Option<Autonomy>) -> Severities {
    let Some(node) = node else { return Severities::default() };
    let Some(mut table) = cx.table(node, "severity") else {
        return Severities { by: BTreeMap::new(), bad: true };
    };
    let mut read = Severities::default();
    for (word, severity) in WORDS {
        let Some(node) = table.take(word) else { continue };
        match cx.table(node, format!("the severity `{word}`")) {
            Some(table) => drop(read.by.insert(severity, severe(table, autonomy))),
            None => read.bad = true,
        }
    }
    table.finish();
    read
}

fn severe(mut table: super::super::cursor::Table<'_, '_>, autonomy: Option<Autonomy>) -> Severe {
    const APPROVERS: &str = "names of who may approve: [\"alice\", \"deploys\"]";
    let silence = [OnSilence::Decline, OnSilence::Approve, OnSilence::Escalate].map(|word| (word.as_str(), word));
    let severe = Severe {
        autonomy: table.get("autonomy", |cx, node| service::autonomy(cx, node, autonomy)),
        approvers: table.get("approvers", |cx, node| {
            let names = cx.list(node, APPROVERS, |element| Some(cx.some_text(element, APPROVERS)?.value))?;
            if names.is_empty() {
                // Whether an empty list means everybody or nobody, people would have to guess.
                let problem = Problem::at(node.place, "this list names nobody");
                cx.error(problem.help("write who may approve, or take it out: then everyone who may command"));
                return None;
            }
            Some(names)
        }),
        respond_within: table.get("respond_within", |cx, node| cx.some_duration(node, "such as \"15m\"")),
        on_silence: table.get("on_silence", |cx, node| cx.choice(node, &silence)),
        start_level: table.get("start_level", start),
    };
    table.finish();
    severe
}

fn start(cx: &Cx<'_>, node: &Node) -> Option<Start> {
    const HELP: &str = "the name of a [[rollback]] level, or its number, counted from 1";
    match &node.value {
        Value::Text(_) => cx.some_text(node, HELP).map(Start::Name),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Datetime | Value::List(_) | Value::Table(_) => {
            cx.whole(node, 1..1000, HELP).map(Start::Number)
        }
    }
}

/// The names of the levels, as far as they can be read before the ladder is.
pub(super) fn level_names(node: Option<&Node>) -> Vec<String> {
    let Some(Value::List(levels)) = node.map(|node| &node.value) else { return Vec::new() };
    let name = |(place, level): (usize, &Node)| {
        let Value::Table(entries) = &level.value else { return format!("level {}", place + 1) };
        match entries.iter().find(|(key, _)| key.text == "name").map(|(_, node)| &node.value) {
            Some(Value::Text(name)) => name.clone(),
            Some(_) | None => format!("level {}", place + 1),
        }
    };
    levels.iter().enumerate().map(name).collect()
}

/// The service's own win, key by key. A level that the ladder does not have is reported; one that only `[defaults]`
/// names is passed over by a service without a ladder.
pub(super) fn compile(cx: &Cx<'_>, own: &Severities, shared: &Severities, levels: &[String]) -> Option<Compiled> {
    let mut compiled = Compiled { rules: BTreeMap::new(), start_levels: BTreeMap::new() };
    let mut good = !own.bad && !shared.bad;
    for (_, severity) in WORDS {
        let (mine, theirs) = (own.by.get(&severity), shared.by.get(&severity));
        let Some(base) = mine.or(theirs) else { continue };
        let mut severe = base.clone();
        let mut is_own = mine.is_some();
        if let (Some(mine), Some(theirs)) = (mine, theirs) {
            let theirs = theirs.clone();
            is_own = !matches!(mine.start_level, Got::Absent);
            severe = Severe {
                autonomy: severe.autonomy.or_else(theirs.autonomy),
                approvers: severe.approvers.or_else(theirs.approvers),
                respond_within: severe.respond_within.or_else(theirs.respond_within),
                on_silence: severe.on_silence.or_else(theirs.on_silence),
                start_level: severe.start_level.or_else(theirs.start_level),
            };
        }
        let place = severe.start_level.place();
        let start = severe.start_level.optional();
        if let (Some(Some(start)), Some(place)) = (&start, place)
            && (is_own || !levels.is_empty())
            && !cx.is_incomplete()
        {
            if let Some(level) = place_of(start, levels) {
                compiled.start_levels.insert(severity, level);
            } else {
                let names = levels.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
                let help = match levels {
                    [] => "add [[services.NAME.rollback]]".to_owned(),
                    levels => format!("write a number from 1 to {}, or one of {names}", levels.len()),
                };
                cx.error(Problem::at(place, "the ladder has no such level").help(help));
                good = false;
            }
        }
        let rules = (|| {
            start?;
            Some(SeverityRules {
                autonomy: severe.autonomy.optional()?,
                approvers: severe.approvers.or(Vec::new())?,
                respond_within: severe.respond_within.optional()?,
                on_silence: severe.on_silence.or(OnSilence::Decline)?,
            })
        })();
        match rules {
            Some(rules) => drop(compiled.rules.insert(severity, rules)),
            None => good = false,
        }
    }
    good.then_some(compiled)
}

fn place_of(start: &Start, levels: &[String]) -> Option<usize> {
    match start {
        Start::Number(number) => usize::try_from(*number).ok()?.checked_sub(1).filter(|level| *level < levels.len()),
        Start::Name(name) => levels.iter().position(|level| *level == name.value),
    }
}
