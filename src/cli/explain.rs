//! `backstop explain`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::config;
use super::failure::{Exit, Failure, print, print_json};
use super::look::{Seen, Until, look};
use super::memory::{Windows, size, windows};
use crate::config::Config;
use crate::config::model::QuerySpec;
use crate::decide::report::span;
use crate::decide::rules::{FireWhen, OnUnknown, Question, ServiceRules, Trigger, Unit};
use crate::decide::trigger::{Finding, never_fires, threshold_text, value_text};
use crate::promql::Expr;

/// The first look at a target is at most 10 s late, and has its timeout.
const LOOK_MAX: Duration = Duration::from_secs(30);

const AFTER_HELP: &str = "\
What names an existing file, holds a / or ends in .toml is a file; then come the service and the trigger. Without --look
nobody is contacted. With it every scrape target and every query server is asked once: then the series that are selected
now are counted, and a threshold beyond a histogram's highest bucket, which can never fire, is told.

Examples:
  backstop explain backstop.toml
  backstop explain backstop.toml api
  backstop explain base.toml api.toml api error-rate
  backstop explain backstop.toml api --look";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = "backstop explain [OPTIONS] FILE… [SERVICE [TRIGGER]]")]
pub(super) struct Args {
    /// Configuration files, then perhaps a service and a trigger
    #[arg(required = true, value_name = "FILE… [SERVICE [TRIGGER]]")]
    what: Vec<String>,
    /// Ask the scrape targets and query servers once, and show what is selected now
    #[arg(long)]
    look: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// One trigger, and what may be known of it.
struct Chosen<'a> {
    config: &'a Config,
    service: &'a ServiceRules,
    trigger: &'a Trigger,
    seen: Option<&'a Seen>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (files, service, trigger) = split(&args.what, |text| Path::new(text).exists())?;
    let config = config::read_or_tell(&files)?;
    let chosen = choose(&config.rules.services, service, trigger)?;
    let seen = if args.look { Some(look(&scraped_and_asked(&config), Until::EachSeen(LOOK_MAX))?) } else { None };
    let chosen: Vec<Chosen<'_>> = chosen
        .into_iter()
        .map(|(service, trigger)| Chosen { config: &config, service, trigger, seen: seen.as_ref() })
        .collect();
    if args.json {
        return print_json(&json!({ "triggers": chosen.iter().map(as_json).collect::<Vec<_>>() }));
    }
    if chosen.is_empty() {
        return print("no triggers");
    }
    print(&chosen.iter().map(explain).collect::<Vec<_>>().join("\n"))
}

type Asked<'a> = (Vec<PathBuf>, Option<&'a str>, Option<&'a str>);

fn split(what: &[String], exists: impl Fn(&str) -> bool) -> Result<Asked<'_>, Failure> {
    let is_file =
        |text: &str| text.contains('/') || Path::new(text).extension().is_some_and(|end| end == "toml") || exists(text);
    // The first is a file whatever it looks like: its absence is then told as such.
    let files = what.iter().skip(1).take_while(|text| is_file(text)).count() + 1;
    let (files, rest) = what.split_at(files.min(what.len()));
    match rest {
        [] => Ok((files.iter().map(PathBuf::from).collect(), None, None)),
        [service] => Ok((files.iter().map(PathBuf::from).collect(), Some(service), None)),
        [service, trigger] => Ok((files.iter().map(PathBuf::from).collect(), Some(service), Some(trigger))),
        [_, _, more, ..] => Err(Failure::new(Exit::Usage, format!("{more} is one argument too many"))
            .help("files come first, then at most one service and one trigger")),
    }
}

fn choose<'a>(
    services: &'a [ServiceRules],
    service: Option<&str>,
    trigger: Option<&str>,
) -> Result<Vec<(&'a ServiceRules, &'a Trigger)>, Failure> {
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    if let Some(asked) = service
        && !services.iter().any(|known| *known.name == *asked)
    {
        let there = names(services.iter().map(|known| known.name.as_ref()).collect());
        return Err(
            Failure::new(Exit::Usage, format!("there is no service {asked}")).help(format!("there is: {there}"))
        );
    }
    let services = services.iter().filter(|known| service.is_none_or(|asked| *known.name == *asked));
    let all: Vec<_> = services.flat_map(|known| known.triggers.iter().map(move |trigger| (known, trigger))).collect();
    let chosen: Vec<_> =
        all.iter().copied().filter(|(_, known)| trigger.is_none_or(|asked| *known.name == *asked)).collect();
    match trigger {
        Some(asked) if chosen.is_empty() => {
            let there = names(all.iter().map(|(_, known)| known.name.as_ref()).collect());
            Err(Failure::new(Exit::Usage, format!("there is no trigger {asked}")).help(format!("there is: {there}")))
        }
        Some(_) | None => Ok(chosen),
    }
}

/// Probes and detectors may do things; a look at what is exposed does not.
fn scraped_and_asked(config: &Config) -> Config {
    Config { probes: Vec::new(), detectors: Vec::new(), references: Vec::new(), ..config.clone() }
}

fn explain(chosen: &Chosen<'_>) -> String {
    let Chosen { config, service, trigger, seen } = chosen;
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a String does not fail");
    line(format!("{} / {}", service.name, trigger.name));
    line(format!("  breached: {}", threshold_text(&trigger.question)));
    let hold = if trigger.hold.is_zero() { "at once".to_owned() } else { format!("after {}", span(trigger.hold)) };
    line(format!("  fires: {hold}{}", fire_when(trigger.fire_when)));
    if trigger.on_unknown == OnUnknown::Breach {
        line("  not known counts as breached".to_owned());
    }
    match &trigger.question {
        Question::Value { expr, .. } => {
            line(format!(
                "  looked at: every {}; a gap over {} starts the count anew",
                span(trigger.interval),
                span(trigger.gap_tolerance)
            ));
            // A health question counts samples, however old they are.
            if !expr.reach().is_zero() {
                line(format!("  looks back: {}", span(expr.reach())));
            }
            line("  selects:".to_owned());
            for window in windows(config, &service.name, expr) {
                line(format!("    {}", window.selector));
                line(format!("      {}", may_take(&window)));
            }
            let walks = expr.walks();
            if !walks.is_empty() {
                line(format!("  costs more the longer the window: {}", walks.join(", ")));
            }
            for query in queries(config, service, expr) {
                line(format!("  query {}: asked of {} every {}", query.name, query.server, span(query.interval)));
                line(format!("    {}", query.expr));
                if !query.window.is_zero() {
                    line(format!(
                        "    counts {} after a release: until then it may rest on what was before",
                        span(query.window)
                    ));
                }
            }
            line("  tree:".to_owned());
            for node in expr.tree().lines() {
                line(format!("    {node}"));
            }
        }
        Question::Signal { name } => line(format!("  signal: {name}")),
    }
    if let Some(seen) = seen {
        for told in now(seen, service, trigger) {
            line(format!("  {told}"));
        }
    }
    out
}

fn may_take(window: &Windows) -> String {
    let Windows { samples, series_bytes, series_max, .. } = window;
    let (one, all) = (size(*series_bytes), size(window.bytes_max()));
    format!("memory: {one} for each series ({samples} samples); {all} with all {series_max} series that may be shown")
}

fn queries<'a>(config: &'a Config, service: &'a ServiceRules, expr: &'a Expr) -> impl Iterator<Item = &'a QuerySpec> {
    let asked = expr.selectors();
    let mine = config.queries.iter().filter(|query| query.service == service.name);
    mine.filter(move |query| asked.iter().any(|selector| selector.exact_name() == Some(&query.name)))
}

/// What a look shows.
fn now(seen: &Seen, service: &ServiceRules, trigger: &Trigger) -> Vec<String> {
    let Question::Value { unit, .. } = &trigger.question else { return Vec::new() };
    if let Unit::Failures { .. } = unit {
        return vec!["now: probes are not sent for this".to_owned()];
    }
    let Some(trial) = seen.try_trigger(&service.name, &trigger.name) else { return Vec::new() };
    let (labels, finding, value) = trial.findings.worst();
    let set = if labels.is_empty() { String::new() } else { format!(" for {labels}") };
    let shown = match (finding, value) {
        (Finding::Unknown(why), _) => format!("unknown: {why}"),
        (known, Some(value)) => format!("{}: {}{set}", known.as_str(), value_text(value, *unit)),
        (known, None) => format!("{}: nothing matches", known.as_str()),
    };
    let mut told = vec![format!("now: {shown}")];
    for one in trial.evaluation.iter().flat_map(|evaluation| &evaluation.evidence) {
        let (series, fresh, targets) = (one.series_now, one.targets_fresh, one.targets);
        told.push(format!("  {}: {series} series on {fresh} of {targets} targets", one.selector));
    }
    told.extend(trial.never_fires.and_then(|highest| never_fires(&trigger.question, highest)));
    told
}

fn fire_when(fire_when: FireWhen) -> String {
    match fire_when {
        FireWhen::Any => String::new(),
        FireWhen::All => ", when all label sets breach".to_owned(),
        FireWhen::Share(share) => format!(", when {:.0} % of the label sets breach", share * 100.0),
    }
}

fn as_json(chosen: &Chosen<'_>) -> Value {
    let Chosen { config, service, trigger, seen } = chosen;
    let time = |duration| humantime::format_duration(duration).to_string();
    let (selectors, tree, signal) = match &trigger.question {
        Question::Value { expr, .. } => {
            let selectors: Vec<String> = expr.selectors().iter().map(ToString::to_string).collect();
            (selectors, Some(expr.tree()), None)
        }
        Question::Signal { name } => (Vec::new(), None, Some(name.to_string())),
    };
    let walks = match &trigger.question {
        Question::Value { expr, .. } => expr.walks(),
        Question::Signal { .. } => Vec::new(),
    };
    let (memory, asked) = match &trigger.question {
        Question::Value { expr, .. } => {
            let asked = queries(config, service, expr).map(|query| {
                json!({ "query": *query.name, "server": *query.server, "expr": query.expr, "window": time(query.window) })
            });
            (windows(config, &service.name, expr), asked.collect())
        }
        Question::Signal { .. } => (Vec::new(), Vec::<Value>::new()),
    };
    let memory = memory.iter().map(|window| {
        json!({
            "selector": window.selector,
            "samples": window.samples,
            "series_bytes": window.series_bytes,
            "series_max": window.series_max,
            "bytes_max": window.bytes_max(),
        })
    });
    let trial = seen.and_then(|seen| seen.try_trigger(&service.name, &trigger.name));
    json!({
        "service": *service.name,
        "trigger": *trigger.name,
        "breached": threshold_text(&trigger.question),
        "hold": time(trigger.hold),
        "interval": time(trigger.interval),
        "gap_tolerance": time(trigger.gap_tolerance),
        "selectors": selectors,
        "walks": walks,
        "tree": tree,
        "signal": signal,
        "memory": memory.collect::<Vec<_>>(),
        "queries": asked,
        "now": seen.map(|seen| now(seen, service, trigger)),
        "never_fires_above": trial.and_then(|trial| trial.never_fires),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn files_come_first() {
        let there = |text: &str| text == "conf";
        let what = texts(&["conf", "b.toml", "api", "error-rate"]);
        let (files, service, trigger) = split(&what, there).unwrap();
        assert_eq!(files, [PathBuf::from("conf"), PathBuf::from("b.toml")]);
        assert_eq!((service, trigger), (Some("api"), Some("error-rate")));
        let what = texts(&["typo"]);
        assert_eq!(split(&what, there).unwrap().0, [PathBuf::from("typo")]);
        assert!(split(&texts(&["conf", "api", "error-rate", "more"]), there).is_err());
    }
}
