//! `guard.blockers` and `guard.ready`: what the operator's own checks must say before a rollback.

use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Got, Table};
use super::super::places::{Place, Problem};
use super::super::tree::{Key, Node, Value};
use super::question::asked;
use super::trigger::{Sources, unfired};
use super::{check, name};
use crate::act::template::TemplateNames;
use crate::decide::event::Check;
use crate::decide::rules::{Blocker, BlockerQuestion, BlockerUnknown, Question};

/// How old a blocker's answer may be unless the file says otherwise.
const MAX_AGE: Duration = Duration::from_mins(1);

/// How often the way back is looked at unless the file says otherwise.
const READY_EVERY: Duration = Duration::from_mins(5);

/// The keys of `guard` that are read here.
pub(super) const KEYS: [&str; 3] = ["blockers", "ready", "ready_every"];

/// What a blocker may be.
const KINDS: [&str; 10] =
    ["command", "http", "signal", "expr", "ratio", "increase", "quantile", "burn_rate", "regression", "health"];

#[derive(Debug)]
pub(super) struct Asked {
    pub blockers: Vec<Blocker>,
    pub ready: Vec<Check>,
    pub ready_every: Duration,
}

/// They ask about releases and about the service's own series, so they belong to one service.
pub(super) fn not_shared(cx: &Cx<'_>, defaults: Option<&Node>) {
    let Some(Value::Table(guard)) = defaults.and_then(|node| within(node, "guard")).map(|node| &node.value) else {
        return;
    };
    for (key, _) in guard.iter().filter(|(key, _)| KEYS.contains(&key.text.as_str())) {
        let problem = Problem::at(key.place, format!("`{}` cannot be shared", key.text));
        cx.error(
            problem.help(format!("write it in the guard of each service: [services.NAME.guard] {} = …", key.text)),
        );
    }
}

fn within<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Table(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
}

/// `service` is the whole table of the service, whose `guard` was read for everything else.
pub(super) fn asked_before(cx: &Cx<'_>, service: &Node, sources: &Sources<'_>) -> Option<Asked> {
    let guard = within(service, "guard");
    let part = |name| guard.and_then(|guard| within(guard, name));
    let blockers = part("blockers").map_or(Some(Vec::new()), |node| blockers(cx, node, sources));
    let every = part("ready_every").map_or(Some(READY_EVERY), |node| {
        cx.duration_in(node, Duration::from_secs(10)..Duration::from_hours(24), "how often the way back is looked at")
    });
    let taken: Vec<(String, Place)> = match part("blockers").map(|node| &node.value) {
        Some(Value::Table(entries)) => entries.iter().map(|(key, _)| (key.text.clone(), key.place)).collect(),
        Some(_) | None => Vec::new(),
    };
    let ready = part("ready").map_or(Some(Vec::new()), |node| ready(cx, node, taken, every));
    Some(Asked { blockers: blockers?, ready: ready?, ready_every: every? })
}

fn ready(cx: &Cx<'_>, node: &Node, mut seen: Vec<(String, Place)>, every: Option<Duration>) -> Option<Vec<Check>> {
    let names = TemplateNames { no_incident: true, ..TemplateNames::default() };
    cx.list(node, "a list of checks: [{ command = [\"test\", \"-d\", \"/opt/api/releases\"] }]", |element| {
        let check = check::check(cx, element, "the check of the way back", &names)?;
        check::unique(cx, &mut seen, &check.name, element)?;
        if every.is_some_and(|every| check.timeout > every) {
            let problem = Problem::at(element.place, "this check may take longer than the time to the next one");
            cx.error(problem.help("shorten its timeout, or lengthen guard.ready_every"));
            return None;
        }
        Some(check)
    })
}

fn blockers(cx: &Cx<'_>, node: &Node, sources: &Sources<'_>) -> Option<Vec<Blocker>> {
    let entries = cx.named(node, "a table for each blocker: [services.NAME.guard.blockers.NAME]")?;
    let read: Vec<_> = entries.iter().map(|(key, node)| blocker(cx, key, node, sources)).collect();
    read.into_iter().collect()
}

fn blocker(cx: &Cx<'_>, key: &Key, node: &Node, sources: &Sources<'_>) -> Option<Blocker> {
    let own = name(cx, key, "a blocker");
    let mut table = cx.table(node, format!("the blocker `{}`", key.text))?;
    let says = table.get("says", |cx, node| cx.some_text(node, "why it stops a rollback, in one sentence"));
    let question = match table.one_at_most(&["command", "http"]) {
        Got::Is(found, _) => by_check(&mut table, found, key.text.clone()),
        Got::Bad => None,
        Got::Absent if KINDS.iter().all(|kind| within(node, kind).is_none()) => {
            table.lacks(&KINDS, "question", check::HELP_OR_QUESTION);
            None
        }
        Got::Absent => by_windows(&mut table, own.clone(), node, sources),
    };
    table.finish();
    Some(Blocker { name: own?, says: says.optional()?.map(|text| Arc::from(text.value)), question: question? })
}

fn by_check(table: &mut Table<'_, '_>, found: (&'static str, &Node), name: String) -> Option<BlockerQuestion> {
    let names = TemplateNames { no_incident: true, ..TemplateNames::default() };
    let asked = check::asked(table, Some(found), &names);
    let max_age = table.get("max_age", |cx, node| {
        cx.duration_in(node, Duration::from_secs(1)..Duration::from_hours(24), "how old its answer may be")
    });
    let place = max_age.place();
    let (ask, timeout) = asked?;
    // Without max_age the default gives way to a longer timeout.
    let max_age = max_age.or(MAX_AGE.max(timeout * 2))?;
    if let Some(place) = place.filter(|_| max_age < timeout * 2) {
        let (age, least) = (humantime::format_duration(max_age), humantime::format_duration(timeout * 2));
        let message = format!("an answer may be older than {age} when it comes: the timeout is half of {least}");
        table.cx.error(Problem::at(place, message).help(format!("write \"{least}\" or longer, or a shorter timeout")));
        return None;
    }
    Some(BlockerQuestion::Check { check: Check { name, ask, timeout }, max_age })
}

fn by_windows(
    table: &mut Table<'_, '_>,
    own: Option<Arc<str>>,
    node: &Node,
    sources: &Sources<'_>,
) -> Option<BlockerQuestion> {
    let on_unknown = table.get("on_unknown", |cx, node| {
        cx.choice(node, &[("block", BlockerUnknown::Block), ("allow", BlockerUnknown::Allow)])
    });
    let asked = asked(table, sources)?;
    if let Question::Signal { name } = asked.question {
        return Some(BlockerQuestion::Signal(name));
    }
    let trigger = Box::new(unfired(table.cx, own?, asked, node)?.trigger);
    Some(BlockerQuestion::Windows { trigger, on_unknown: on_unknown.or(BlockerUnknown::Block)? })
}
