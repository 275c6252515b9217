//! `[services.X.triggers.Y]`: a question with its hold and its weight.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Text};
use super::super::places::{Place, Problem};
use super::super::tree::{Key, Node, Value};
use super::question::{Asked, Needs, asked};
use super::{name, query, service};
use crate::decide::event::{Autonomy, Gate, Severity};
use crate::decide::rules::{FireWhen, OnUnknown, Question, Trigger, ValueKind};
use crate::promql::Selector;

/// Where the series of a service come from. An interval is missing where it was wrong; that was reported.
pub(super) struct Sources<'s> {
    pub probes: &'s [(Arc<str>, Option<Duration>)],
    /// The service's own and the shared ones.
    pub scrapes: &'s [Option<Duration>],
    /// The service's own.
    pub queries: &'s [&'s query::Source],
}

impl Sources<'_> {
    /// The longest interval among the sources that these selectors could mean. A window in which even the fastest of
    /// them has no two samples is reported.
    pub fn paced(
        &self,
        cx: &Cx<'_>,
        selectors: &[(&Selector, &Text)],
        window: Option<(Duration, Place)>,
    ) -> Option<Duration> {
        let mut slowest = Duration::ZERO;
        for (selector, text) in selectors {
            query::stays_counter(cx, self.queries, selector, text, window.is_some())?;
            let intervals = self.of(selector.exact_name());
            if intervals.is_empty() {
                let problem = Problem::at(text.place, "nothing is scraped for this service, so this is never seen");
                cx.error(problem.help(query::or_a_query(self.queries)));
                return None;
            }
            let intervals: Vec<Duration> = intervals.into_iter().collect::<Option<_>>()?;
            let fastest = intervals.iter().min().copied().unwrap_or_default();
            slowest = intervals.into_iter().fold(slowest, Duration::max);
            if let Some((window, place)) = window.filter(|(window, _)| *window < fastest * 2) {
                short_window(cx, place, window, fastest);
                return None;
            }
        }
        Some(slowest)
    }

    /// The longest interval of all. Where nothing is probed or scraped, that of a scrape by default.
    pub fn slowest(&self) -> Duration {
        let queries = self.queries.iter().map(|query| query.interval);
        let all = self.scrapes.iter().copied().chain(self.probes.iter().map(|(_, interval)| *interval)).chain(queries);
        all.flatten().max().unwrap_or(super::scrape::INTERVAL)
    }

    fn of(&self, metric: Option<&str>) -> Vec<Option<Duration>> {
        let probes = self.probes.iter().map(|(_, interval)| *interval);
        let scrapes = self.scrapes.iter().copied();
        let queries = self.queries.iter().map(|query| query.interval);
        match metric {
            Some(name) if let Some(query) = self.queries.iter().find(|query| query.name == name) => {
                vec![query.interval]
            }
            Some(name) if query::is_own(name) && !self.queries.is_empty() => queries.collect(),
            Some(name) if name.starts_with("probe_") && !self.probes.is_empty() => probes.collect(),
            None => scrapes.chain(probes).chain(queries).collect(),
            Some("up") => scrapes.chain(probes).collect(),
            Some(_) => scrapes.collect(),
        }
    }
}

fn short_window(cx: &Cx<'_>, place: Place, window: Duration, interval: Duration) {
    let (shown, every) = (humantime::format_duration(window), humantime::format_duration(interval));
    let least = humantime::format_duration(interval * 4);
    let problem = Problem::at(place, format!("in {shown} there are never two samples: the scrape interval is {every}"));
    cx.error(problem.help(format!("use a window of at least \"{least}\", or scrape more often")));
}

/// What is known of the service around the trigger.
pub(super) struct Around<'s> {
    pub sources: Sources<'s>,
    /// How many levels its ladder has.
    pub levels: usize,
    pub autonomy: Option<Autonomy>,
    /// By severity, for triggers that name none.
    pub start_levels: BTreeMap<Severity, usize>,
}

pub(super) struct Compiled {
    pub trigger: Trigger,
    /// Before it can say Clear again.
    pub needs: Needs,
}

pub(super) fn trigger(cx: &Cx<'_>, key: &Key, node: &Node, around: &Around<'_>) -> Option<Compiled> {
    let own = name(cx, key, "a trigger");
    let mut table = cx.table(node, format!("the trigger `{}`", key.text))?;
    let asked = asked(&mut table, &around.sources);
    let hold = table.get("for", Cx::duration);
    let severity = table.get("severity", severity);
    let gate = table.get("gate", |cx, node| cx.choice(node, &[("release", Gate::Release), ("none", Gate::None)]));
    let autonomy = table.get("autonomy", |cx, node| service::autonomy(cx, node, around.autonomy));
    let start_level = table.get("start_level", |cx, node| start_level(cx, node, around.levels));
    let fire_when = table.get("fire_when", fire_when);
    let on_unknown = table
        .get("on_unknown", |cx, node| cx.choice(node, &[("pause", OnUnknown::Pause), ("breach", OnUnknown::Breach)]));
    let gap_tolerance = table.get("gap_tolerance", |cx, node| cx.some_duration(node, "such as \"30s\""));
    table.finish();
    let gap_place = gap_tolerance.place();
    let Asked { question, interval, needs } = asked?;
    let gap_tolerance = gap_tolerance.or(interval * 2)?;
    if let Some(place) = gap_place.filter(|_| gap_tolerance < interval) {
        let every = humantime::format_duration(interval);
        let problem = Problem::at(place, format!("every pause between two samples is longer: the interval is {every}"));
        let help = format!(
            "write at least \"{}\", or take it out: two intervals are the default",
            humantime::format_duration(interval * 2)
        );
        cx.error(problem.help(help));
        return None;
    }
    let severity = severity.or(Severity::High)?;
    let by_severity = around.start_levels.get(&severity).copied().unwrap_or(0);
    let trigger = Trigger {
        name: own?,
        question,
        hold: hold.or(Duration::ZERO)?,
        severity,
        gate: gate.or(Gate::Release)?,
        autonomy: autonomy.optional()?,
        start_level: start_level.or(by_severity)?,
        fire_when: fire_when.or(FireWhen::Any)?,
        on_unknown: on_unknown.or(OnUnknown::Pause)?,
        gap_tolerance,
        interval,
    };
    Some(Compiled { trigger, needs })
}

/// A question that never fires by itself: a criterion of recovery, a blocker. `what` as messages call it.
pub(super) fn question(cx: &Cx<'_>, key: &Key, node: &Node, sources: &Sources<'_>, what: &str) -> Option<Compiled> {
    let own = name(cx, key, what);
    let mut table = cx.table(node, format!("the question `{}`", key.text))?;
    let asked = asked(&mut table, sources);
    table.finish();
    unfired(cx, own?, asked?, node)
}

/// A signal is no question to the windows.
pub(super) fn unfired(cx: &Cx<'_>, name: Arc<str>, asked: Asked, node: &Node) -> Option<Compiled> {
    let Asked { question, interval, needs } = asked;
    if let Question::Signal { .. } = question {
        let problem = Problem::at(node.place, "a signal says nothing about what is measured");
        cx.error(problem.help("use ratio, increase, quantile, burn_rate, health or expr"));
        return None;
    }
    if let Question::Value { kind: ValueKind::Regression, .. } = question {
        let problem = Problem::at(node.place, "only a trigger remembers how it was before the release");
        cx.error(problem.help("ask for a regression in [services.NAME.triggers.NAME], and here for a fixed threshold"));
        return None;
    }
    let trigger = Trigger {
        name,
        question,
        hold: Duration::ZERO,
        severity: Severity::High,
        gate: Gate::None,
        autonomy: None,
        start_level: 0,
        fire_when: FireWhen::Any,
        on_unknown: OnUnknown::Pause,
        gap_tolerance: interval * 2,
        interval,
    };
    Some(Compiled { trigger, needs })
}

fn severity(cx: &Cx<'_>, node: &Node) -> Option<Severity> {
    cx.choice(node, &super::severity::WORDS)
}

fn start_level(cx: &Cx<'_>, node: &Node, levels: usize) -> Option<usize> {
    let level = cx.whole(node, 1..1000, "the number of a [[rollback]] level, counted from 1")?;
    let level = usize::try_from(level).ok()?;
    if level > levels && !cx.is_incomplete() {
        let (message, help) = match levels {
            0 => ("there is no ladder to start on".to_owned(), "add [[services.NAME.rollback]]".to_owned()),
            1 => ("the ladder has only one level".to_owned(), "write 1, or take it out".to_owned()),
            levels => (format!("the ladder has only {levels} levels"), format!("write a number from 1 to {levels}")),
        };
        cx.error(Problem::at(node.place, message).help(help));
        return None;
    }
    Some(level - 1)
}

/// `"any"`, `"all"`, or a share.
fn fire_when(cx: &Cx<'_>, node: &Node) -> Option<FireWhen> {
    const HELP: &str = "\"any\" (one label set is enough), \"all\", or a share such as \"50%\"";
    match &node.value {
        Value::Text(text) if !text.trim_end().ends_with('%') => {
            cx.choice(node, &[("any", FireWhen::Any), ("all", FireWhen::All)])
        }
        Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Datetime
        | Value::List(_)
        | Value::Table(_) => cx.share(node, HELP).map(FireWhen::Share),
    }
}

/// All triggers of a service; `None` when one was wrong.
pub(super) fn triggers(cx: &Cx<'_>, node: Option<&Node>, around: &Around<'_>) -> Option<Vec<Compiled>> {
    let Some(node) = node else { return Some(Vec::new()) };
    let entries = cx.named(node, "a table for each trigger: [services.NAME.triggers.NAME]")?;
    let read: Vec<_> = entries.iter().map(|(key, node)| trigger(cx, key, node, around)).collect();
    read.into_iter().collect()
}
