//! `backstop explain`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::config;
use super::failure::{Exit, Failure, print, print_json};
use crate::decide::report::span;
use crate::decide::rules::{FireWhen, OnUnknown, Question, ServiceRules, Trigger, ValueKind};
use crate::decide::trigger::{threshold_text, value_text};
use crate::promql::Comparison;

/// An instant and a value.
const SAMPLE_BYTES: u64 = 16;

const AFTER_HELP: &str = "\
What names an existing file, holds a / or ends in .toml is a file; then come the service and the trigger.

Examples:
  backstop explain backstop.toml
  backstop explain backstop.toml api
  backstop explain base.toml api.toml api error-rate";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = "backstop explain [OPTIONS] FILE… [SERVICE [TRIGGER]]")]
pub(super) struct Args {
    /// Configuration files, then perhaps a service and a trigger
    #[arg(required = true, value_name = "FILE… [SERVICE [TRIGGER]]")]
    what: Vec<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (files, service, trigger) = split(&args.what, |text| Path::new(text).exists())?;
    let config = config::read_or_tell(&files)?;
    let chosen = choose(&config.rules.services, service, trigger)?;
    if args.json {
        let triggers = chosen.iter().map(|(service, trigger)| as_json(service, trigger));
        return print_json(&json!({ "triggers": triggers.collect::<Vec<_>>() }));
    }
    if chosen.is_empty() {
        return print("no triggers");
    }
    print(&chosen.iter().map(|(service, trigger)| explain(service, trigger)).collect::<Vec<_>>().join("\n"))
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

fn explain(service: &ServiceRules, trigger: &Trigger) -> String {
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
            for (selector, samples) in expr.kept(trigger.interval) {
                let most = samples.saturating_mul(SAMPLE_BYTES);
                line(format!("    {selector}  (keeps up to {samples} samples of each series, {})", ByteSize::b(most)));
            }
            let walks = expr.walks();
            if !walks.is_empty() {
                line(format!("  costs more the longer the window: {}", walks.join(", ")));
            }
            if let Question::Value { kind: ValueKind::Quantile, comparison, threshold, unit, .. } = &trigger.question
                && matches!(comparison, Comparison::Above | Comparison::AtLeast)
            {
                let threshold = value_text(*threshold, *unit);
                line(format!("  can fire only if the histogram has a finite bucket beyond {threshold}"));
            }
            line("  tree:".to_owned());
            for node in expr.tree().lines() {
                line(format!("    {node}"));
            }
        }
        Question::Signal { name } => line(format!("  signal: {name}")),
    }
    out
}

fn fire_when(fire_when: FireWhen) -> String {
    match fire_when {
        FireWhen::Any => String::new(),
        FireWhen::All => ", when all label sets breach".to_owned(),
        FireWhen::Share(share) => format!(", when {:.0} % of the label sets breach", share * 100.0),
    }
}

fn as_json(service: &ServiceRules, trigger: &Trigger) -> Value {
    let time = |duration| humantime::format_duration(duration).to_string();
    let (selectors, tree, signal) = match &trigger.question {
        Question::Value { expr, .. } => {
            let selectors: Vec<String> = expr.selectors().iter().map(ToString::to_string).collect();
            (selectors, Some(expr.tree()), None)
        }
        Question::Signal { name } => (Vec::new(), None, Some(name.to_string())),
    };
    let (kept, walks) = match &trigger.question {
        Question::Value { expr, .. } => {
            let kept = expr.kept(trigger.interval).into_iter();
            (kept.map(|(_, samples)| samples.saturating_mul(SAMPLE_BYTES)).collect(), expr.walks())
        }
        Question::Signal { .. } => (Vec::new(), Vec::new()),
    };
    json!({
        "service": *service.name,
        "trigger": *trigger.name,
        "breached": threshold_text(&trigger.question),
        "hold": time(trigger.hold),
        "interval": time(trigger.interval),
        "gap_tolerance": time(trigger.gap_tolerance),
        "selectors": selectors,
        "bytes_per_series_max": kept,
        "walks": walks,
        "tree": tree,
        "signal": signal,
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
