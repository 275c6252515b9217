//! `release = [ … ]`: how a change of release is seen.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Table, Text};
use super::super::model::{DetectorSource, DetectorSpec};
use super::super::places::{Place, Problem};
use super::super::suggest::closest;
use super::super::tree::Node;
use super::known_name;
use super::probe::{Compiled as Probe, argv, is_pointer};
use super::scrape::INTERVAL_MIN;
use crate::decide::rules::{Detector, DetectorKind};
use crate::promql::Selector;

const HELP: &str = "such as [{ symlink = \"/opt/api/current\" }, { metric = \"app_build_info\", label = \"version\" }]";
const KIND_HELP: &str = "write symlink, metric and label, probe and json, command, or announced = true";

/// One entry of the list, compiled.
pub(super) struct Compiled {
    pub detector: Detector,
    pub spec: Option<DetectorSpec>,
    /// The pointer into a probe's body.
    pub pointer: Option<(Arc<str>, String, Place)>,
}

/// What a detector may rest on.
pub(super) struct Around<'s> {
    pub service: &'s Arc<str>,
    pub probes: &'s [Probe],
    /// The longest interval of what is scraped for the service; `None` where nothing is.
    pub scraped_every: Option<Duration>,
}

pub(super) fn detectors(cx: &Cx<'_>, node: &Node, around: &Around<'_>) -> Option<Vec<Compiled>> {
    let mut index = 0;
    let list = cx.list(node, HELP, |element| {
        index += 1;
        detector(cx, element, index - 1, around)
    })?;
    let mut pointers: Vec<&(Arc<str>, String, Place)> = Vec::new();
    for pointer in list.iter().filter_map(|compiled| compiled.pointer.as_ref()) {
        if let Some(first) = pointers.iter().find(|(probe, ..)| *probe == pointer.0) {
            let problem = Problem::at(pointer.2, format!("the probe `{}` is asked for the release twice", pointer.0));
            cx.error(problem.also(first.2, "first here").help("keep one of them"));
            return None;
        }
        pointers.push(pointer);
    }
    Some(list)
}

fn detector(cx: &Cx<'_>, node: &Node, index: usize, around: &Around<'_>) -> Option<Compiled> {
    let mut table = cx.table(node, "the release detector")?;
    let later = "until then, read it with command = [\"kubectl\", …], or announce it";
    let found = table.one_of(
        &["symlink", "metric", "probe", "command", "announced"],
        &[("deployment", later), ("kubernetes", later)],
        KIND_HELP,
    );
    let compiled = match found {
        Some(("symlink", node)) => symlink(&mut table, node, index, around),
        Some(("metric", node)) => metric(&mut table, node, around),
        Some(("probe", node)) => probe(&mut table, node, around),
        Some(("command", node)) => command(&mut table, node, index, around),
        Some((_, node)) => announced(cx, node),
        None => {
            // Known keys, so that only what is missing is told.
            for key in ["label", "json", "interval", "timeout"] {
                table.take(key);
            }
            None
        }
    };
    table.finish();
    compiled
}

fn interval(table: &mut Table<'_, '_>, default: Duration) -> Option<Duration> {
    let why = "how often the release is read: between 100 ms and an hour";
    let read = |cx: &Cx<'_>, node: &Node| cx.duration_in(node, INTERVAL_MIN..Duration::from_hours(1), why);
    table.get("interval", read).or(default)
}

fn outside(describe: String, interval: Duration, index: usize, around: &Around<'_>, kind: DetectorSource) -> Compiled {
    Compiled {
        detector: Detector { describe: Arc::from(describe), kind: DetectorKind::Outside, interval },
        spec: Some(DetectorSpec { service: around.service.clone(), index, interval, kind }),
        pointer: None,
    }
}

fn symlink(table: &mut Table<'_, '_>, node: &Node, index: usize, around: &Around<'_>) -> Option<Compiled> {
    let path =
        super::http::absolute_path(table.cx, node, "the link that points to the release, such as \"/opt/api/current\"");
    let interval = interval(table, Duration::from_secs(5));
    let path = path?;
    let describe = format!("symlink {}", path.display());
    Some(outside(describe, interval?, index, around, DetectorSource::Symlink(path)))
}

fn command(table: &mut Table<'_, '_>, node: &Node, index: usize, around: &Around<'_>) -> Option<Compiled> {
    let argv = argv(table.cx, node, &mut |_, _| true);
    let interval = interval(table, Duration::from_secs(30));
    let timeout = table.get("timeout", |cx, node| cx.some_duration(node, "how long the command may run"));
    let place = timeout.place();
    let (argv, interval) = (argv?, interval?);
    let timeout = timeout.or(Duration::from_secs(10).min(interval))?;
    if timeout > interval {
        let problem = Problem::at(place.unwrap_or(node.place), "the command may run longer than its interval");
        table.cx.error(problem.help("shorten the timeout, or lengthen the interval (30s unless set)"));
        return None;
    }
    let describe = format!("command {}", argv.join(" "));
    Some(outside(describe, interval, index, around, DetectorSource::Command { argv, timeout }))
}

fn announced(cx: &Cx<'_>, node: &Node) -> Option<Compiled> {
    if !cx.boolean(node)? {
        let problem = Problem::at(node.place, "`announced = false` says nothing");
        cx.error(problem.help("write announced = true, or take the entry out"));
        return None;
    }
    let describe = Arc::from("announced by POST /v1/releases or `backstop release`");
    let detector = Detector { describe, kind: DetectorKind::Announced, interval: Duration::ZERO };
    Some(Compiled { detector, spec: None, pointer: None })
}

fn metric(table: &mut Table<'_, '_>, node: &Node, around: &Around<'_>) -> Option<Compiled> {
    let cx = table.cx;
    let text = cx.some_text(node, "a metric with a label that names the release, such as \"app_build_info\"");
    let label = table.need("label", "which label names the release, such as label = \"version\"", |cx, node| {
        let text = cx.some_text(node, "the name of a label, such as \"version\"")?;
        if !super::http::is_label_name(&text.value) {
            cx.error(Problem::at(text.place, "this is not a label's name").help("letters, digits and `_`"));
            return None;
        }
        Some(text.value)
    });
    let text = text?;
    let selector = selector(cx, &text);
    let Some(interval) = around.scraped_every else {
        let problem = Problem::at(text.place, "nothing is scraped for this service, so this metric is never seen");
        cx.error(problem.help("add [services.NAME.scrapes.NAME] with its url"));
        return None;
    };
    let (selector, label) = (selector?, label?);
    Some(Compiled {
        detector: Detector {
            describe: Arc::from(format!("label {label} of {}", text.value)),
            kind: DetectorKind::Metric { selector, label: Arc::from(label) },
            interval,
        },
        spec: None,
        pointer: None,
    })
}

fn probe(table: &mut Table<'_, '_>, node: &Node, around: &Around<'_>) -> Option<Compiled> {
    let cx = table.cx;
    let text = cx.some_text(node, "the name of a probe by http");
    let pointer =
        table.need("json", "where the release stands in the answer, such as json = \"/version\"", |cx, node| {
            let text = cx.some_text(node, "a JSON pointer, such as \"/version\"")?;
            if !is_pointer(&text.value) {
                let problem = Problem::at(text.place, "this is not a JSON pointer");
                cx.error(problem.help("a `/` before each name, such as \"/build/version\""));
                return None;
            }
            Some(text.value)
        });
    let text = text?;
    let names: Vec<Arc<str>> = around.probes.iter().map(|probe| probe.name.clone()).collect();
    let name = known_name(cx, &text, "probe", &names)?;
    let probe = around.probes.iter().find(|probe| probe.name == name)?;
    let is_http = probe.spec.as_ref().is_none_or(|spec| matches!(spec.kind, super::super::model::ProbeKind::Http(_)));
    if !is_http {
        let problem = Problem::at(text.place, format!("the probe {} has no JSON answer", text.shown()));
        cx.error(problem.help("name a probe by http, or read the release with command = […]"));
        return None;
    }
    let (interval, pointer) = (probe.interval?, pointer?);
    Some(Compiled {
        detector: Detector {
            describe: Arc::from(format!("{pointer} of probe {name}")),
            kind: DetectorKind::Probe { probe: name.clone() },
            interval,
        },
        spec: None,
        pointer: Some((name, pointer, text.place)),
    })
}

/// An instant selector, reported at its bytes where it is wrong.
pub(super) fn selector(cx: &Cx<'_>, text: &Text) -> Option<Selector> {
    match Selector::parse(&text.value) {
        Ok(selector) => Some(selector),
        Err(error) => {
            promql_error(cx, text, error);
            None
        }
    }
}

/// The parser of PromQL says what it stumbled over; the way out is ours.
pub(super) fn promql_error(cx: &Cx<'_>, text: &Text, error: crate::promql::ParseError) {
    let message = error.message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let name = error.span.clone().and_then(|span| text.value.get(span)).unwrap_or_default();
    let mut span = error.span.clone();
    let help = if says(&["unknown function"]) {
        span = called(&text.value, name).or(span);
        match closest(name, FUNCTIONS) {
            Some(function) => format!("did you mean `{function}`?"),
            None => "the functions are those of Prometheus 3".to_owned(),
        }
    } else if says(&["unclosed", "unterminated", "paren", "brace", "bracket", "unexpected end"]) {
        "check that every bracket and every quote has its partner".to_owned()
    } else if says(&["non-empty matcher"]) {
        "name the metric, or give one matcher that the empty value does not pass".to_owned()
    } else if says(&["bool modifier"]) {
        "an expression selects series of the service and compares their values with a number".to_owned()
    } else if says(&["experimental", "does not evaluate"]) {
        "write it with the stable functions and operators of PromQL".to_owned()
    } else {
        "this is read as PromQL; try it in Prometheus, which understands the same".to_owned()
    };
    let problem = Problem::at(text.part(span.as_ref()), error.message).help(help);
    cx.error(problem.help_if(error.help));
}

/// Where a function is called, not where its name is a part of another's.
fn called(text: &str, name: &str) -> Option<Range<usize>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut calls = text.match_indices(name).filter(|(at, _)| {
        let after = &text[at + name.len()..];
        !name.is_empty() && !text[..*at].ends_with(is_part) && after.trim_start().starts_with('(')
    });
    calls.next().map(|(at, _)| at..at + name.len())
}

/// Those that people mistype.
const FUNCTIONS: [&str; 20] = [
    "rate",
    "irate",
    "increase",
    "delta",
    "idelta",
    "deriv",
    "absent",
    "absent_over_time",
    "avg_over_time",
    "sum_over_time",
    "max_over_time",
    "min_over_time",
    "count_over_time",
    "quantile_over_time",
    "histogram_quantile",
    "clamp_max",
    "clamp_min",
    "changes",
    "resets",
    "scalar",
];
