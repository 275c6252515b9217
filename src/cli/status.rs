//! `backstop status`

use std::fmt::Write as _;

use super::client::{Connect, json, parse, path};
use super::failure::{Exit, Failure, clean, print, print_json};
use super::incidents::{ended_incidents, open_incidents, standing};
use super::table::{instant, or_dash, table};
use crate::serve::wire::{
    AskedBody, IncidentSummary, JournalBody, KillSwitchState, PauseState, ReceiverBody, RunningBody, ServiceBody,
    StatusBody, TriggerBody,
};

const AFTER_HELP: &str = "\
Examples:
  backstop status
  backstop status api
  backstop status --json | jq '.services[] | {name, running}'
  backstop status --url http://10.0.0.7:9464      reading over TCP needs no token";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Only this service, in detail (all of it with --json)
    service: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let body = args.connect.get(&path(&["status"]))?;
    if args.connect.json {
        return print_json(&json(&body)?);
    }
    let status: StatusBody = parse(&body)?;
    let only = args.service.as_deref();
    if let Some(only) = only
        && !status.services.iter().any(|service| service.name == only)
    {
        let names: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
        return Err(Failure::new(Exit::Refused, format!("there is no service {only}"))
            .help(format!("there is: {}", names.join(", "))));
    }
    let open = if status.services.iter().any(|service| service.incident.is_some()) {
        open_incidents(&args.connect)?
    } else {
        Vec::new()
    };
    let ended = if status.services.iter().any(burns_alone) { ended_incidents(&args.connect)? } else { Vec::new() };
    print(&show(&status, only, &[open, ended].concat()))
}

/// A trigger fires, and no incident is open.
fn burns_alone(service: &ServiceBody) -> bool {
    service.incident.is_none() && service.triggers.iter().any(|trigger| trigger.verdict == "firing")
}

/// Why nothing happens although a trigger fires: a person ended the latest incident of what runs, or did not answer.
fn left_alone(service: &ServiceBody, incidents: &[IncidentSummary]) -> Option<String> {
    let RunningBody::One { release } = &service.running else { return None };
    let latest = incidents.iter().find(|incident| incident.service == service.name).filter(|_| burns_alone(service))?;
    let done @ ("declined" | "aborted" | "expired") = latest.state.as_str() else { return None };
    let of_this = latest.release_bad.as_ref() == Some(release);
    let id = &latest.id;
    of_this.then(|| format!("  {id} is {done}: nothing more happens until this clears or another release runs"))
}

fn show(status: &StatusBody, only: Option<&str>, incidents: &[IncidentSummary]) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let (version, config) = (clean(&status.version), clean(&status.config_hash));
    line(format!(
        "backstop {version} on {}, configuration {config}, since {}",
        clean(&status.instance),
        instant(&status.started)
    ));
    match &status.journal {
        JournalBody::Writing => {}
        JournalBody::Failing { since, why } => {
            line(format!(
                "NO ROLLBACK CAN START: the journal cannot be written since {}: {}",
                instant(since),
                clean(why)
            ));
        }
    }
    if let Some(kill) = &status.kill_switch {
        line(format!("KILL SWITCH ON {}", killed(kill)));
    }
    if let Some(tilt) = &status.tilt {
        line(format!("ONLY WATCHING until {}: {}", instant(&tilt.until), clean(&tilt.why)));
    }
    if let Some(failed) = &status.failed_reload {
        let (at, why) = (instant(&failed.at), clean(&failed.why));
        line(format!("THE RELOAD OF {at} FAILED and changed nothing: {why}; the daemon's log shows where"));
    }
    if let Some(pause) = &status.pause {
        line(format!("PAUSED {}", paused(pause)));
    }
    for reason in &status.not_ready {
        line(format!("not ready: {}", clean(reason)));
    }
    for service in status.services.iter().filter(|service| only.is_none_or(|only| only == service.name)) {
        line(String::new());
        line(one_service(service, only.is_some(), incidents));
    }
    if only.is_none() && !status.receivers.is_empty() {
        line(String::new());
        line(receivers(&status.receivers));
    }
    out
}

fn paused(pause: &PauseState) -> String {
    format!("until {} by {}: {}", instant(&pause.until), clean(&pause.actor), clean(&pause.reason))
}

fn killed(kill: &KillSwitchState) -> String {
    format!("since {} by {}: {}", instant(&kill.since), clean(&kill.actor), clean(&kill.reason))
}

fn runs(running: &RunningBody) -> String {
    match running {
        RunningBody::One { release } => release.clone(),
        RunningBody::Mix { releases } => {
            let parts = releases.iter().map(|part| format!("{} ({:.0} %)", part.release, part.share * 100.0));
            format!("a mix of {}", parts.collect::<Vec<_>>().join(", "))
        }
        RunningBody::Unknown { why } => format!("unknown: {why}"),
    }
}

/// One line for the table: name, verdict, value, threshold, how much of the hold has passed, and what else is to say.
fn one_trigger(trigger: &TriggerBody) -> Vec<String> {
    let held = if trigger.verdict == "pending" {
        format!("{} of {}", rough(&trigger.held), rough(&trigger.hold))
    } else {
        String::new()
    };
    let value = or_dash(trigger.value_text.as_deref());
    // Where there is nothing to add, the sentence repeats the two columns beside it.
    let repeated = format!("{value} ({})", trigger.threshold);
    let sentence = Some(trigger.sentence.as_str()).filter(|sentence| *sentence != repeated);
    let told: Vec<&str> = sentence.into_iter().chain(trigger.never_fires.as_deref()).collect();
    let (verdict, threshold) = (trigger.verdict.clone(), trigger.threshold.clone());
    vec![format!("  {}", trigger.name), verdict, value, threshold, held, told.join("; ")]
}

fn one_service(service: &ServiceBody, detail: bool, incidents: &[IncidentSummary]) -> String {
    let since = service.running_since.as_deref().map_or_else(String::new, |since| format!(" since {}", instant(since)));
    let mut out = format!(
        "{} ({}) runs {}{since}; way back: {}\n",
        clean(&service.name),
        clean(&service.autonomy),
        clean(&runs(&service.running)),
        clean(&or_dash(service.way_back.as_deref()))
    );
    if let Some(id) = &service.incident {
        let standing =
            incidents.iter().find(|incident| incident.id == *id).map(|incident| format!(" {}", standing(incident)));
        append(&mut out, &clean(&format!("  open incident {id}{}", standing.unwrap_or_default())));
    }
    if let Some(kill) = &service.kill_switch {
        append(&mut out, &format!("  kill switch on {}", killed(kill)));
    }
    if let Some(freeze) = &service.freeze {
        let until = instant(&freeze.until);
        append(&mut out, &format!("  freeze until {until}: {}", clean(&freeze.reason)));
    }
    if let Some(why) = left_alone(service, incidents) {
        append(&mut out, &clean(&why));
    }
    if let Some(pause) = &service.pause {
        append(&mut out, &format!("  paused {}", paused(pause)));
    }
    let triggers = service.triggers.iter().map(one_trigger);
    append(&mut out, &table(&["  trigger", "verdict", "value", "threshold", "held", ""], triggers));
    let failing = service.targets.iter().filter(|target| detail || target.up != Some(true));
    let targets: Vec<Vec<String>> = failing
        .map(|target| {
            let up = match target.up {
                Some(true) => "up",
                Some(false) => "down",
                None => "not looked at yet",
            };
            let last = target.last.as_deref().map_or_else(|| "–".to_owned(), instant);
            let source = format!("  {} {}", target.kind, target.source);
            vec![source, target.address.clone(), up.to_owned(), last, or_dash(target.error.as_deref())]
        })
        .collect();
    if !targets.is_empty() {
        append(&mut out, &table(&["  target", "address", "state", "last look", "error"], targets));
    }
    for signal in &service.signals {
        let until = instant(&signal.until);
        append(&mut out, &format!("  signal {} until {until}: {}", clean(&signal.name), clean(&signal.detail)));
    }
    let shown = service.asked.iter().filter(|asked| detail || matches!(&*asked.standing, "holds" | "unknown"));
    for asked in shown {
        let kind = if asked.kind == "blocker" { "blocker" } else { "way back" };
        let last = asked.last.as_deref().map_or_else(String::new, |last| format!(", asked {}", instant(last)));
        let why = if asked.sentence.is_empty() { String::new() } else { format!(": {}", clean(&asked.sentence)) };
        append(&mut out, &format!("  {kind} {} is {}{last}{why}", clean(&asked.name), standing_of(asked)));
    }
    if detail && !service.releases.is_empty() {
        let releases = service.releases.iter().map(|release| {
            let mark = match (release.good, release.bad) {
                (_, true) => "bad",
                (true, false) => "good",
                (false, false) => "not proven",
            };
            vec![format!("  {}", release.name), instant(&release.first_seen), mark.to_owned()]
        });
        append(&mut out, &table(&["  release", "first seen", "mark"], releases));
    }
    out.trim_end().to_owned()
}

/// For people: a way back is there or not, a blocker holds or not.
fn standing_of(asked: &AskedBody) -> &'static str {
    match (&*asked.standing, &*asked.kind) {
        ("free", "blocker") => "not holding",
        ("free", _) => "there",
        ("holds", "blocker") => "HOLDING",
        ("holds", _) => "GONE",
        ("unknown", _) => "UNKNOWN",
        (_, _) => "not asked yet",
    }
}

/// A duration without the milliseconds that nobody reads beside seconds.
fn rough(duration: &str) -> &str {
    match duration.rsplit_once(' ') {
        Some((rough, millis)) if millis.ends_with("ms") => rough,
        Some(_) | None => duration,
    }
}

fn append(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("writing to a String does not fail");
}

fn receivers(receivers: &[ReceiverBody]) -> String {
    let rows = receivers.iter().map(|receiver| {
        let oldest = receiver.oldest.as_deref().map_or_else(|| "–".to_owned(), instant);
        let (queued, dead) = (receiver.queued.to_string(), receiver.dead.to_string());
        vec![receiver.name.clone(), queued, oldest, dead, or_dash(receiver.last_error.as_deref())]
    });
    table(&["receiver", "waiting", "oldest", "dead", "last error"], rows)
}
