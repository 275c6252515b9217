//! What a trigger asks: `ratio`, `increase`, `quantile`, `health`, `expr` or `signal`, as one expression with its
//! threshold. `regression` and `burn_rate` are [`super::relative`].

use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Got, Table, Text};
use super::super::places::{Place, Problem};
use super::super::tree::{Node, Value};
use super::relative;
use super::release::{promql_error, selector};
use super::threshold::{self, Sense, Threshold};
use super::trigger::Sources;
use super::{known_name, query};
use crate::decide::rules::{Question, Unit, ValueKind};
use crate::promql::{Comparison, Expr, Selector, Shape};

const KINDS: [&str; 8] = ["ratio", "increase", "quantile", "regression", "burn_rate", "health", "expr", "signal"];
const KIND_HELP: &str = "say what it asks: ratio, increase, quantile, regression, burn_rate, health, expr or signal";

/// A compiled question, and how it is paced.
pub(super) struct Asked {
    pub question: Question,
    /// The longest interval among its sources.
    pub interval: Duration,
    pub needs: Needs,
}

/// What must be seen anew, after what was before does not count any more, for the question to be answered.
#[derive(Clone, Debug)]
pub(super) struct Needs {
    pub time: Duration,
    /// How that comes about: "80 % of its window of 5m, and one interval of 15s".
    pub why: String,
}

impl Needs {
    /// DESIGN §4: a window counts when 80 % of it was observed; what was observed begins with the first sample after.
    fn of(expr: &Expr, interval: Duration) -> Needs {
        let covered = expr.covered_after();
        let (shown, every) = (humantime::format_duration(covered), humantime::format_duration(interval));
        let why = if covered.is_zero() {
            format!("one interval of {every}")
        } else {
            format!("{shown} to see 80 % of its longest window, and one interval of {every}")
        };
        Needs { time: covered + interval, why }
    }

    /// A streak is told from as many probes as it looks at.
    fn of_probes(number: u32, interval: Duration) -> Needs {
        let every = humantime::format_duration(interval);
        let probes = if number == 1 { "one probe".to_owned() } else { format!("{number} probes") };
        Needs { time: interval * (number + 1), why: format!("{probes}, one every {every}, and one interval more") }
    }
}

pub(super) fn asked(table: &mut Table<'_, '_>, sources: &Sources<'_>) -> Option<Asked> {
    let found = table.one_of(&KINDS, &[], KIND_HELP);
    let threshold = threshold::threshold(table);
    let asked = match found? {
        ("ratio", node) => ratio(table, node, threshold, sources),
        ("increase", node) => increase(table, node, threshold, sources),
        ("quantile", node) => quantile(table, node, threshold, sources),
        ("regression", node) => relative::regression(table.cx, node, &threshold, sources),
        ("burn_rate", node) => relative::burn_rate(table, node, &threshold, sources),
        ("health", node) => health(table.cx, node, threshold, sources),
        ("expr", node) => expr(table, node, threshold, sources),
        (_signal, node) => signal(table.cx, node, threshold, sources),
    };
    asked.map(|asked| query::wait_for(asked, sources.queries))
}

/// `None` where the threshold is missing or wrong; a missing one is reported.
fn needed(table: &mut Table<'_, '_>, threshold: Got<Threshold>) -> Option<Threshold> {
    match threshold {
        Got::Absent => {
            table.lacks(&threshold::KEYS, "threshold", threshold::HELP);
            None
        }
        Got::Bad => None,
        Got::Is(threshold, _) => Some(threshold),
    }
}

pub(super) fn unneeded(cx: &Cx<'_>, threshold: &Got<Threshold>, what: &str, help: &str) -> Option<()> {
    match threshold {
        Got::Absent => Some(()),
        Got::Bad => None,
        Got::Is(_, place) => {
            cx.error(Problem::at(*place, format!("{what} has no threshold")).help(help));
            None
        }
    }
}

fn window(table: &mut Table<'_, '_>) -> Option<(Duration, Place)> {
    const HELP: &str = "how far back it looks, such as window = \"1m\"";
    table.need("window", HELP, |cx, node| Some((cx.some_duration(node, HELP)?, node.place)))
}

pub(super) fn selecting(table: &mut Table<'_, '_>, key: &'static str, help: &str) -> Option<(Selector, Text)> {
    table.need(key, help, |cx, node| {
        let text = cx.some_text(node, help)?;
        let Some(open) = text.value.find('[').filter(|_| text.value.trim_end().ends_with(']')) else {
            return Some((selector(cx, &text)?, text));
        };
        let problem = Problem::at(text.part(Some(&(open..text.value.len()))), "the range belongs into `window`");
        cx.error(problem.help("write the selector without it, and the range as window".to_string()));
        None
    })
}

pub(super) fn min_events(table: &mut Table<'_, '_>) -> Option<f64> {
    const HELP: &str = "how many events it takes to trust the value: at least 1";
    let events = table.get("min_events", |cx, node| cx.whole(node, 1..1_000_000_000, HELP));
    u32::try_from(events.or(20)?).ok().map(f64::from)
}

fn ratio(outer: &mut Table<'_, '_>, node: &Node, threshold: Got<Threshold>, sources: &Sources<'_>) -> Option<Asked> {
    let cx = outer.cx;
    let mut table = cx.table(node, "the ratio")?;
    let part = selecting(
        &mut table,
        "part",
        "the counter of the events that count, such as 'http_requests_total{status=~\"5..\"}'",
    );
    let whole = selecting(&mut table, "whole", "the counter of all events, such as 'http_requests_total'");
    let window = window(&mut table);
    let min_events = min_events(&mut table);
    let widen_to = table.get("widen_to", |cx, node| cx.some_duration(node, "how far the window grows at low traffic"));
    table.finish();
    let threshold = needed(outer, threshold);
    let ((part, part_text), (whole, whole_text), (window, place)) = (part?, whole?, window?);
    let widen_place = widen_to.place();
    let widen_to = widen_to.or(window.max(Duration::from_mins(10)))?;
    if let Some(widen_place) = widen_place.filter(|_| widen_to < window) {
        let problem = Problem::at(widen_place, "`widen_to` is shorter than `window`");
        cx.error(problem.also(place, "the window").help("the window can only grow: write at least the window"));
        return None;
    }
    if part == whole {
        let problem = Problem::at(part_text.place, "`part` and `whole` are the same: the ratio is always 1");
        cx.error(problem.also(whole_text.place, "the whole").help("select in `part` only the events that count"));
        return None;
    }
    let same_metric = part.exact_name().is_some() && part.exact_name() == whole.exact_name();
    let threshold = share_threshold(cx, threshold?, same_metric)?;
    let interval = sources.paced(cx, &[(&part, &part_text), (&whole, &whole_text)], Some((window, place)))?;
    let expr = Expr::ratio(part, whole, window, min_events?, widen_to);
    Some(asked_value(ValueKind::Ratio, expr, threshold, interval))
}

/// A ratio's threshold, as a fraction. Where both sides are the same metric, the ratio is from 0 to 1.
fn share_threshold(cx: &Cx<'_>, threshold: Threshold, same_metric: bool) -> Option<Threshold> {
    if threshold.unit == Unit::Seconds {
        let problem = Problem::at(threshold.place, "a ratio is not a time");
        cx.error(problem.help("write a percentage such as \"15%\", or a number such as 0.15"));
        return None;
    }
    if threshold.unit == Unit::Number && threshold.value > 1.0 && threshold.value <= 100.0 {
        let problem = Problem::at(threshold.place, "a ratio's threshold is a percentage, or a number from 0 to 1");
        cx.error(problem.help(format!("did you mean \"{}%\"?", threshold.value)));
        return None;
    }
    makes_sense(cx, &threshold, same_metric, "a ratio", "from 0 to 100 %")?;
    if !same_metric && threshold::sense(&threshold, true) != Sense::Makes {
        let problem = Problem::at(threshold.place, "this ratio can only pass 100 % if `part` counts more than `whole`");
        cx.warn(problem.help("check the threshold, and that `part` is a part of `whole`"));
    }
    Some(Threshold { unit: Unit::Percent, ..threshold })
}

fn makes_sense(cx: &Cx<'_>, threshold: &Threshold, one_at_most: bool, what: &str, range: &str) -> Option<()> {
    let says = match threshold::sense(threshold, one_at_most) {
        Sense::Makes => return Some(()),
        Sense::NeverFires => "this can never fire",
        Sense::AlwaysFires => "this always fires",
    };
    cx.error(Problem::at(threshold.place, format!("{says}: {what} is {range}")).help("choose a threshold in between"));
    None
}

fn increase(outer: &mut Table<'_, '_>, node: &Node, threshold: Got<Threshold>, sources: &Sources<'_>) -> Option<Asked> {
    let cx = outer.cx;
    let mut table = cx.table(node, "the increase")?;
    let counter = selecting(&mut table, "counter", "a counter, such as 'db_connection_errors_total'");
    let window = window(&mut table);
    table.finish();
    let threshold = needed(outer, threshold)?;
    let ((counter, text), (window, place)) = (counter?, window?);
    match threshold.unit {
        Unit::Number => {}
        Unit::Percent | Unit::Seconds | Unit::Failures { .. } => {
            let problem = Problem::at(threshold.place, "an increase is a count of events");
            cx.error(problem.help("write a number without a unit, such as above = 5"));
            return None;
        }
    }
    makes_sense(cx, &threshold, false, "an increase", "never below zero")?;
    let interval = sources.paced(cx, &[(&counter, &text)], Some((window, place)))?;
    let expr = Expr::increase(counter, window);
    Some(asked_value(ValueKind::Increase, expr, threshold, interval))
}

fn quantile(outer: &mut Table<'_, '_>, node: &Node, threshold: Got<Threshold>, sources: &Sources<'_>) -> Option<Asked> {
    let cx = outer.cx;
    let mut table = cx.table(node, "the quantile")?;
    let histogram = selecting(&mut table, "histogram", "a histogram, such as 'http_request_duration_seconds'");
    let q = table.need("q", "which quantile, such as q = 0.95", |cx, node| {
        let q = cx.share(node, "between 0 and 1, such as 0.95")?;
        if q >= 1.0 {
            let problem = Problem::at(node.place, "the 100 % quantile is the largest bucket, whatever happened");
            cx.error(problem.help("choose one below 1, such as 0.99"));
            return None;
        }
        Some(q)
    });
    let window = window(&mut table);
    let min_events = min_events(&mut table);
    table.finish();
    let threshold = needed(outer, threshold);
    let ((histogram, text), (window, place), q, min_events) = (histogram?, window?, q?, min_events?);
    let threshold = threshold?;
    if threshold.unit == Unit::Percent {
        let problem = Problem::at(threshold.place, "a quantile is in the histogram's unit");
        cx.error(problem.help("write a duration such as \"5s\", or a number"));
        return None;
    }
    let interval = sources.paced(cx, &[(&histogram, &text)], Some((window, place)))?;
    match Expr::quantile(histogram, q, window, min_events) {
        Ok(expr) => Some(asked_value(ValueKind::Quantile, expr, threshold, interval)),
        Err(error) => {
            promql_error(cx, &text, error);
            None
        }
    }
}

pub(super) fn asked_value(kind: ValueKind, expr: Expr, threshold: Threshold, interval: Duration) -> Asked {
    let Threshold { comparison, value, unit, .. } = threshold;
    let needs = Needs::of(&expr, interval);
    let question = Question::Value { kind, expr: Arc::new(expr), comparison, threshold: value, unit };
    Asked { question, interval, needs }
}

fn health(cx: &Cx<'_>, node: &Node, threshold: Got<Threshold>, sources: &Sources<'_>) -> Option<Asked> {
    let mut table = cx.table(node, "health")?;
    let probe = table.need("probe", "the name of a probe of this service", |cx, node| {
        let text = cx.some_text(node, "the name of a probe of this service")?;
        let names: Vec<Arc<str>> = sources.probes.iter().map(|(name, _)| name.clone()).collect();
        known_name(cx, &text, "probe", &names)
    });
    let failures = table.get("failures", failures);
    table.finish();
    unneeded(cx, &threshold, "health", "write failures = 3, or \"3 of 5\", inside health")?;
    let (probe, (failures, of)) = (probe?, failures.or((3, 3))?);
    let interval = sources.probes.iter().find(|(name, _)| *name == probe).and_then(|(_, interval)| *interval)?;
    // The probe's own name is its `job`.
    let written = format!("probe_success{{job=\"{probe}\"}}");
    let probe = match Selector::parse(&written) {
        Ok(probe) => probe,
        Err(error) => {
            cx.error(
                Problem::at(node.place, format!("this probe cannot be selected: {error}")).help("give it another name"),
            );
            return None;
        }
    };
    let threshold = Threshold {
        comparison: Comparison::AtLeast,
        value: f64::from(failures),
        unit: Unit::Failures { of },
        place: node.place,
    };
    let asked = asked_value(ValueKind::Health, Expr::streak(probe, failures, of), threshold, interval);
    Some(Asked { needs: Needs::of_probes(of, interval), ..asked })
}

/// `3`, or `"3 of 5"`.
fn failures(cx: &Cx<'_>, node: &Node) -> Option<(u32, u32)> {
    const HELP: &str = "write failures = 3 (in a row), or failures = \"3 of 5\" (of the last five)";
    let pair = match &node.value {
        Value::Text(_) => {
            let text = cx.text(node, HELP)?;
            let Some(pair) = super::super::scalar::failures(&text.value) else {
                cx.error(Problem::at(node.place, "this is not a number of failures").help(HELP));
                return None;
            };
            pair
        }
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Datetime | Value::List(_) | Value::Table(_) => {
            let number = u32::try_from(cx.whole(node, 1..1000, HELP)?).ok()?;
            (number, number)
        }
    };
    let (failures, of) = pair;
    if failures == 0 || failures > of || of > 1000 {
        let message =
            if failures == 0 { "zero failures always hold" } else { "more failures than probes can never hold" };
        cx.error(Problem::at(node.place, message).help(HELP));
        return None;
    }
    Some(pair)
}

fn expr(table: &mut Table<'_, '_>, node: &Node, threshold: Got<Threshold>, sources: &Sources<'_>) -> Option<Asked> {
    const HELP: &str = "a PromQL expression, such as 'process_resident_memory_bytes / node_memory_MemTotal_bytes'";
    let cx = table.cx;
    let text = cx.some_text(node, HELP)?;
    let parsed = parsed(cx, &text, HELP)?;
    let (expr, threshold) = match (parsed.split_comparison(), threshold) {
        (_, Got::Bad) => return None,
        (None, Got::Is(threshold, _)) => (parsed, threshold),
        (Some((value, comparison, number)), Got::Absent) => {
            (value, Threshold { comparison, value: number, unit: Unit::Number, place: text.place })
        }
        (Some(_), Got::Is(_, place)) => {
            let problem = Problem::at(place, "the expression has a comparison, and there is a threshold beside it");
            cx.error(
                problem
                    .also(text.place, "compares already")
                    .help("take the comparison out of the expression, or the threshold out of the trigger"),
            );
            return None;
        }
        (None, Got::Absent) => {
            let problem = Problem::at(text.place, "nothing says which values are wrong");
            cx.error(problem.help(way_to_compare(&parsed, &text)));
            return None;
        }
    };
    let selectors = expr.selectors();
    let selectors: Vec<(&Selector, &Text)> = selectors.into_iter().map(|selector| (selector, &text)).collect();
    let interval = sources.paced(cx, &selectors, None)?;
    Some(asked_value(ValueKind::Expr, expr, threshold, interval))
}

/// PromQL that says something of the service.
pub(super) fn parsed(cx: &Cx<'_>, text: &Text, help: &str) -> Option<Expr> {
    let parsed = match Expr::parse(&text.value) {
        Ok(parsed) => parsed,
        Err(error) => {
            promql_error(cx, text, error);
            return None;
        }
    };
    if parsed.selectors().is_empty() {
        let problem =
            Problem::at(text.place, "the expression selects no series: its value never depends on the service");
        cx.error(problem.help(help));
        return None;
    }
    Some(parsed)
}

/// Both ways out, with the operator's own expression: a comparison at its end, or a threshold beside it.
fn way_to_compare(expr: &Expr, text: &Text) -> String {
    // In one line, without a comment; and what variables have put in is not shown.
    let own = match text.value.trim() {
        _ if text.substituted => "…".to_owned(),
        lines if lines.contains(['\n', '#']) => expr.source(),
        line => line.to_owned(),
    };
    let beside = "a line of its own beside expr";
    match expr.shape() {
        Shape::Absent => format!(
            "add at_least = 1, {beside}, or write `{own} == 1`: it is 1 while there is no such series, else nothing"
        ),
        Shape::ComparesBool => format!("add at_least = 1, {beside}, or write `({own}) == 1`: it is 1 where that holds"),
        Shape::Compares => format!(
            "this compares two expressions: take the difference of its sides and add above = 0, {beside}, or count where \
             it holds: `count({own}) > 0`"
        ),
        Shape::JoinsSets => compared(&format!("({own})"), beside),
        Shape::Value => compared(&own, beside),
    }
}

fn compared(own: &str, beside: &str) -> String {
    format!(
        "compare it with a number of yours: `{own} > 0.95`; or add above = 0.95 (or below, at_least, at_most), {beside}"
    )
}

fn signal(cx: &Cx<'_>, node: &Node, threshold: Got<Threshold>, sources: &Sources<'_>) -> Option<Asked> {
    let text = cx.some_text(node, "the name of the signal, such as \"vulnerability\"");
    unneeded(cx, &threshold, "a signal", "a signal is raised or not; take the threshold out")?;
    let name = signal_name(cx, &text?)?;
    // It has no source of its own; what comes in from the others is when it is looked at.
    let needs = Needs { time: Duration::ZERO, why: String::new() };
    Some(Asked { question: Question::Signal { name }, interval: sources.slowest(), needs })
}

/// Signals have their names from scanners and alerts, where dots are common; they stand in no id.
fn signal_name(cx: &Cx<'_>, text: &Text) -> Option<Arc<str>> {
    let fits = text.value.len() <= 64
        && text.value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if fits {
        return Some(Arc::from(text.value.as_str()));
    }
    let problem = Problem::at(text.place, "this cannot be the name of a signal");
    cx.error(problem.help("1 to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"));
    None
}
