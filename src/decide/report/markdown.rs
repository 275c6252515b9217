//! The report as Markdown. Every text that came from outside is escaped or stands as code.

use std::fmt::Write as _;
use std::time::Duration;

use super::moments::{answer, judged, outcome, verified};
use super::text::{block, code, code_cell, offset, plain, span};
use super::{Delivery, LevelReport, LevelStanding, Report, Standing, StepReport, UndoStanding};
use crate::decide::event::Severity;
use crate::time::Timestamp;

/// Appends one line; writing to a `String` cannot fail.
macro_rules! line {
    ($out:expr) => { $out.push('\n') };
    ($out:expr, $($text:tt)*) => {{
        write!($out, $($text)*).expect("writing to a String does not fail");
        $out.push('\n');
    }};
}

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    times(&mut out, report);
    timeline(&mut out, report);
    evidence(&mut out, report);
    decision(&mut out, report);
    levels(&mut out, report);
    stays(&mut out, report);
    people(&mut out, report);
    notices(&mut out, report);
    to_fill_in(&mut out, report);
    out
}

fn head(out: &mut String, report: &Report) {
    let service = if report.service.is_empty() { "an unknown service" } else { &report.service };
    line!(out, "# Incident {}: {}, {}", plain(&report.id.0), plain(service), title(report.standing));
    line!(out);
    let bad = report.release_bad.as_deref().map_or_else(|| "not known".to_owned(), code);
    let target = report.release_target.as_deref().map_or_else(|| "none".to_owned(), code);
    let triggers: Vec<String> = report.facts.iter().map(|fact| plain(&fact.fact.trigger)).collect();
    line!(out, "- Release: {bad}; way back: {target}");
    line!(out, "- Triggers: {}", triggers.join(", "));
    line!(out, "- Severity: {}", report.severity.map_or("not known", severity));
    let acknowledged = if report.acknowledged { ", acknowledged" } else { "" };
    line!(out, "- State: {}{acknowledged}. {}", report.standing.as_str(), plain(&report.sentence));
    line!(out, "- Opened: {}", utc(report.opened_wall));
    let ended = report.ended_wall.map_or_else(|| "not yet; this report is of an open incident".to_owned(), utc);
    line!(out, "- Ended: {ended}");
    line!(out);
    line!(out, "All times are UTC.");
    line!(out);
}

const fn title(standing: Standing) -> &'static str {
    match standing {
        Standing::Firing => "a breach, not decided yet",
        Standing::Held => "a breach, held back",
        Standing::Escalated => "a breach, left to people",
        Standing::WouldRollBack => "a breach, only observed",
        Standing::Proposed => "a rollback, waiting for approval",
        Standing::Running => "a rollback, running",
        Standing::Checking => "a rollback, a step of it being checked",
        Standing::Verifying => "a rollback, being verified",
        Standing::Undoing => "a level that did not help, being undone",
        Standing::NeedsHuman => "a person is needed",
        Standing::Recovered => "rolled back and recovered",
        Standing::Declined => "a rollback, declined",
        Standing::Expired => "a rollback, not approved in time",
        Standing::Superseded => "superseded by another change",
        Standing::Aborted => "a rollback, aborted",
        Standing::Cleared => "the breach ended",
    }
}

pub(super) const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

fn times(out: &mut String, report: &Report) {
    line!(out, "## Times");
    line!(out);
    let several = report.episodes.len() > 1;
    for (n, times) in report.episodes.iter().enumerate() {
        if several {
            line!(out, "Breach {}:", n + 1);
            line!(out);
        }
        let took = |took: Option<Duration>| took.map_or_else(|| "–".to_owned(), span);
        line!(out, "| to | took | from – to |");
        line!(out, "|---|---|---|");
        line!(out, "| detect | {} | the breach began – the trigger fired |", took(times.detect));
        line!(out, "| decide | {} | fired – admitted |", took(times.decide));
        line!(out, "| roll back | {} | admitted – the last level had finished |", took(times.roll_back));
        line!(out, "| recover | {} | the breach began – clear |", took(times.recover));
        line!(out);
    }
}

fn timeline(out: &mut String, report: &Report) {
    line!(out, "## Timeline");
    line!(out);
    line!(out, "| time | offset | what |");
    line!(out, "|---|---|---|");
    for moment in &report.timeline {
        line!(out, "| {} | {} | {} |", utc(moment.wall), offset(moment.offset_ms), plain(&moment.text));
    }
    line!(out);
}

fn evidence(out: &mut String, report: &Report) {
    line!(out, "## Evidence");
    line!(out);
    for fact in &report.facts {
        let (since, fired) = (fact.since_wall, fact.fired_wall);
        let fact = &fact.fact;
        line!(out, "### {}", plain(&fact.trigger));
        line!(out);
        line!(out, "{}", plain(&fact.sentence));
        line!(out);
        line!(out, "- Asked: {}", code(&fact.expression));
        let hold = match fact.hold_ms {
            0 => "at once".to_owned(),
            hold => format!("for {}", span(Duration::from_millis(hold))),
        };
        line!(out, "- Threshold: {}, {hold}", plain(&fact.threshold));
        if let Some(value) = &fact.value {
            let exact = fact.evidence.value.map_or_else(String::new, |exact| format!(" (exactly {exact})"));
            line!(out, "- Value: {}{exact}", plain(value));
        }
        if !fact.labels.is_empty() && fact.labels != "{}" {
            line!(out, "- Label set: {}", code(&fact.labels));
        }
        let fired = fired.map_or_else(|| "not recorded".to_owned(), utc);
        line!(out, "- Breached since {}, fired {fired}", utc(since));
        if let Some(events) = fact.evidence.events {
            line!(out, "- Rests on {events} events");
        }
        if fact.evidence.window_ms > 0 {
            line!(out, "- Window: {}", span(Duration::from_millis(fact.evidence.window_ms)));
        }
        line!(out);
        if fact.evidence.selectors.is_empty() {
            continue;
        }
        line!(out, "| selector | targets (fresh of all) | series | observed |");
        line!(out, "|---|---|---|---|");
        for selector in &fact.evidence.selectors {
            let observed = span(Duration::from_millis(selector.observed_ms));
            let (fresh, all) = (selector.targets_fresh, selector.targets);
            line!(out, "| {} | {fresh} of {all} | {} | {observed} |", code_cell(&selector.selector), selector.series);
        }
        line!(out);
    }
}

fn decision(out: &mut String, report: &Report) {
    line!(out, "## Decision");
    line!(out);
    let Some(decision) = &report.decision else {
        line!(out, "The guard has not answered yet.");
        line!(out);
        return;
    };
    line!(out, "{}.", plain(&judged(decision)));
    line!(out);
    if decision.checks.is_empty() {
        return;
    }
    line!(out, "| check | allows | why |");
    line!(out, "|---|---|---|");
    for check in &decision.checks {
        let allows = if check.allows { "yes" } else { "**no**" };
        line!(out, "| {} | {allows} | {} |", plain(&check.check), plain(&check.sentence));
    }
    line!(out);
}

fn levels(out: &mut String, report: &Report) {
    if report.levels.is_empty() {
        return;
    }
    line!(out, "## Levels and steps");
    line!(out);
    for level in &report.levels {
        line!(out, "### Level {}: {}", level.n, plain(&level.name));
        line!(out);
        line!(out, "{}.", plain(&level_ended(level)));
        line!(out);
        if let Some(undo) = &level.undo {
            let undo = match undo {
                UndoStanding::Begun => "Its undo was begun and is not finished".to_owned(),
                UndoStanding::Done => "It was undone".to_owned(),
                UndoStanding::Failed(why) => format!("It is not wholly undone: {why}"),
            };
            line!(out, "{}.", plain(&undo));
            line!(out);
        }
        for one in &level.steps {
            step(out, one);
        }
    }
}

fn level_ended(level: &LevelReport) -> String {
    match &level.standing {
        LevelStanding::NotTried => "Not tried".to_owned(),
        LevelStanding::Running => "Its steps are under way".to_owned(),
        LevelStanding::Verifying => "Done; being verified".to_owned(),
        LevelStanding::Helped => "It helped".to_owned(),
        LevelStanding::DidNotHelp { verified: how, why } => {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            format!("It {}{why}", verified(*how))
        }
        LevelStanding::Undecided => "Left before it was known whether it helped".to_owned(),
    }
}

fn step(out: &mut String, step: &StepReport) {
    let ended = step.outcome.map_or("Not finished", outcome);
    let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", plain(&step.detail)) };
    line!(out, "- **{}** – {ended}{detail}", plain(&step.name));
    let at = |at: Option<Timestamp>| at.map_or_else(|| "not recorded".to_owned(), utc);
    line!(
        out,
        "  - intent {}, started {}, ended {}",
        utc(step.intended_wall),
        at(step.started_wall),
        at(step.ended_wall)
    );
    for (said, detail) in &step.checks {
        let detail = if detail.is_empty() { String::new() } else { format!(": {}", plain(detail)) };
        line!(out, "  - checked: {}{detail}", answer(*said));
    }
    if step.output.trim().is_empty() {
        line!(out);
        return;
    }
    let cut = if step.truncated { " (only its end was kept)" } else { "" };
    line!(out, "  - output{cut}:");
    line!(out);
    for text in block(&step.output).lines() {
        line!(out, "    {text}");
    }
    line!(out);
}

fn stays(out: &mut String, report: &Report) {
    line!(out, "## What stays changed");
    line!(out);
    if report.stays.is_empty() {
        line!(out, "Nothing beside the level that helped, as far as backstop knows.");
    }
    for one in &report.stays {
        line!(out, "- {}", plain(one));
    }
    line!(out);
}

fn people(out: &mut String, report: &Report) {
    line!(out, "## What people did");
    line!(out);
    if report.people.is_empty() {
        line!(out, "Nobody acted through backstop.");
        line!(out);
        return;
    }
    line!(out, "| time | who | what | reason |");
    line!(out, "|---|---|---|---|");
    for act in &report.people {
        line!(out, "| {} | {} | {} | {} |", utc(act.wall), plain(&act.actor), act.did, plain(&act.reason));
    }
    line!(out);
}

fn notices(out: &mut String, report: &Report) {
    if report.notices.is_empty() {
        return;
    }
    line!(out, "## Who was told");
    line!(out);
    line!(out, "| time | notice | receiver | delivered |");
    line!(out, "|---|---|---|---|");
    for notice in &report.notices {
        for (receiver, delivery) in &notice.receivers {
            let delivered = match delivery {
                Delivery::Queued => "not yet".to_owned(),
                Delivery::Delivered(at) => utc(*at),
                Delivery::Dead(why) => format!("**never**: {}", plain(why)),
            };
            line!(out, "| {} | {} | {} | {delivered} |", utc(notice.wall), plain(notice.kind), plain(receiver));
        }
    }
    line!(out);
}

fn to_fill_in(out: &mut String, report: &Report) {
    line!(out, "## To fill in");
    line!(out);
    line!(out, "- Impact (users affected, what they saw, cost):");
    line!(out, "- Cause:");
    line!(out, "- Why it was not found before the release:");
    line!(out, "- Prevention:");
    line!(out, "- What to improve in the rollback itself:");
    if let Some(bad) = &report.release_bad {
        line!(out, "- What has to be true before {} or its successor goes out again:", code(bad));
    }
}

/// `2026-11-20 03:00:00.250`.
fn utc(at: Timestamp) -> String {
    at.to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}
