//! One sentence of the timeline for each kind of event.

use super::text::{actor, after_colon, attempt, running, span};
use crate::decide::event::{
    Attempt, CheckAnswer, CheckOutcome, Decision, DecisionKind, IncidentEvent, OnSilence, Outcome, Plan, Record,
    Running, TriggerFact, Verified,
};
use crate::time::Timestamp;

/// When it happened (monotonic), a stable kind, and the sentence.
pub(super) struct Line {
    pub at: Timestamp,
    pub kind: &'static str,
    pub text: String,
}

/// The lines of one entry. `plan` is the frozen one, once admitted.
// Length: one arm for each kind of event, each a sentence or a call.
#[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
pub(super) fn lines(record: &Record, event: &IncidentEvent, plan: Option<&Plan>) -> Vec<Line> {
    let line = |kind, text| vec![Line { at: record.at, kind, text }];
    let step = |at: Attempt| step_name(plan, at);
    match event {
        IncidentEvent::Opened { release, fact, .. } => {
            let release = release.as_ref().map_or_else(|| "an unknown release".to_owned(), |r| format!("release {r}"));
            breach(record, fact, "opened", &format!("The incident opens for {release}"))
        }
        IncidentEvent::Reopened { fact } => {
            breach(record, fact, "reopened", "The same release breached again: the incident goes on")
        }
        IncidentEvent::Joined { fact, aside } => {
            let aside =
                if *aside { ", and is not read by verification: the release is not to blame for it" } else { "" };
            breach(record, fact, "joined", &format!("{} joins the incident{aside}", fact.trigger))
        }
        IncidentEvent::Judged { decision } => line("judged", judged(decision)),
        IncidentEvent::Proposed { level, respond_by, asked, .. } => {
            let answer = span(respond_by.since(record.at));
            let silence = match asked.as_ref().map_or(OnSilence::Decline, |asked| asked.on_silence) {
                OnSilence::Decline => "declines",
                OnSilence::Approve => "approves, if the guard agrees",
                OnSilence::Escalate => "asks again",
            };
            let level = level_name(plan, *level);
            line("proposed", format!("A person is asked to approve {level}; no answer within {answer} {silence}"))
        }
        IncidentEvent::Unanswered { respond_by } => {
            let more = span(respond_by.since(record.at));
            line("unanswered", format!("Nobody has answered; it asks again, for {more}"))
        }
        IncidentEvent::HoldOrdered { actor: who, reason, until } => {
            let limit = span(until.since(record.at));
            let text = format!("{} holds the rollback for {limit}, to fix it forward", actor(who));
            line("held_by_person", format!("{text}{}", after_colon(reason)))
        }
        IncidentEvent::HoldEnded { actor: Some(who), reason } => {
            line("hold_ended", format!("{} ended the hold{}", actor(who), after_colon(reason)))
        }
        IncidentEvent::HoldEnded { actor: None, reason } => {
            line("hold_ended", format!("The hold has ended{}", after_colon(reason)))
        }
        IncidentEvent::StepSkipped { attempt, actor: who, reason } => {
            line("step_skipped", format!("{} skipped {}{}", actor(who), step(*attempt), after_colon(reason)))
        }
        IncidentEvent::Approved { actor: who, reason } => {
            line("approved", format!("{} approved{}", actor(who), after_colon(reason)))
        }
        IncidentEvent::Declined { actor: who, reason } => {
            line("declined", format!("{} declined{}", actor(who), after_colon(reason)))
        }
        IncidentEvent::Expired => line("expired", "Nobody answered in time; that counts as declined".to_owned()),
        IncidentEvent::Admitted { plan, actor: who, running: now, .. } => {
            let by = who.as_ref().map_or_else(String::new, |who| format!(" by {}", actor(who)));
            let to = plan.target.as_ref().map_or_else(String::new, |target| format!(" to {target}"));
            let now = running(now);
            line("admitted", format!("Rollback of {}{to} admitted{by}; running: {now}", plan.bad))
        }
        IncidentEvent::StepIntended { attempt, .. } => {
            line("step_intended", format!("Intent written: {}", step(*attempt)))
        }
        IncidentEvent::StepStarted { attempt, pid, .. } => {
            let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
            line("step_started", format!("Started: {}{pid}", step(*attempt)))
        }
        IncidentEvent::StepFinished { attempt, result } => {
            let detail = after_colon(&result.detail);
            line("step_finished", format!("{}: {}{detail}", outcome(result.outcome), step(*attempt)))
        }
        IncidentEvent::StepNotStarted { attempt, why } => {
            line("step_not_started", format!("Not started: {}{}", step(*attempt), after_colon(why)))
        }
        IncidentEvent::StepChecked { attempt, answer: said, detail } => {
            line("step_checked", format!("Checked {}: {}{}", step(*attempt), answer(*said), after_colon(detail)))
        }
        IncidentEvent::LevelFinished { level, at } => {
            let text = format!("All steps of {} are done; verification begins", level_name(plan, *level));
            vec![Line { at: *at, kind: "level_finished", text }]
        }
        IncidentEvent::CheckAnswered { check, outcome, .. } => line("check_answered", check_answered(check, outcome)),
        IncidentEvent::CameClear { at } => {
            vec![Line { at: *at, kind: "came_clear", text: "Clear; it has to stay so".to_owned() }]
        }
        IncidentEvent::Relapsed => line("relapsed", "Breached again before it had stayed clear long enough".to_owned()),
        IncidentEvent::LevelFailed { level, verified: how, why } => line(
            "level_failed",
            format!("{} {}{}", capital(&level_name(plan, *level)), verified(*how), after_colon(why)),
        ),
        IncidentEvent::UndoBegan { level } => {
            line("undo_began", format!("What {} changed is taken back", level_name(plan, *level)))
        }
        IncidentEvent::UndoFinished { level, failed, running: now } => {
            let name = capital(&level_name(plan, *level));
            let text = match failed {
                None => format!("{name} is undone; running: {}", running(now)),
                Some(why) => format!("{name} is not wholly undone: {why}; running: {}", running(now)),
            };
            line("undo_finished", text)
        }
        IncidentEvent::Climbed { to, .. } => line("climbed", format!("On to {}", level_name(plan, *to))),
        IncidentEvent::Recovered { clear_since } => {
            let since =
                clear_since.map_or_else(String::new, |clear| format!(", clear for {}", span(record.at.since(clear))));
            line("recovered", format!("Recovered{since}"))
        }
        IncidentEvent::Superseded { by: Running::Unknown(why) } => line("superseded", format!("Given up: {why}")),
        IncidentEvent::Superseded { by } => {
            line("superseded", format!("Someone else changed what runs; now: {}", running(by)))
        }
        IncidentEvent::Aborted { actor: who, reason } => {
            line("aborted", format!("{} aborted{}", actor(who), after_colon(reason)))
        }
        IncidentEvent::NeedsHuman { text, .. } => {
            line("needs_human", format!("A person is needed{}", after_colon(text)))
        }
        IncidentEvent::Reminded => line("reminded", "Reminded: a person is still needed".to_owned()),
        IncidentEvent::Acknowledged { actor: who, reason } => {
            line("acknowledged", format!("{} acknowledged{}", actor(who), after_colon(reason)))
        }
        IncidentEvent::RtoPassed { rto_ms } => {
            let rto = span(std::time::Duration::from_millis(*rto_ms));
            line("rto_passed", format!("Recovery takes longer than the RTO of {rto}"))
        }
        IncidentEvent::Cleared => line("cleared", "The breach ended".to_owned()),
    }
}

fn check_answered(check: &str, outcome: &CheckOutcome) -> String {
    match outcome {
        CheckOutcome::Passed => format!("The check {check} passes"),
        CheckOutcome::Failed(why) => format!("The check {check} fails{}", after_colon(why)),
        CheckOutcome::Unknown(why) => format!("The check {check} gives no answer{}", after_colon(why)),
    }
}

/// The breach itself lies before the entry: when it began, when the hold was complete, and the entry. What fires at
/// once, such as an order by hand, did not begin before.
fn breach(record: &Record, fact: &TriggerFact, kind: &'static str, text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    if fact.fired != Some(fact.since) {
        let text = format!("{} begins to breach", fact.trigger);
        lines.push(Line { at: fact.since, kind: "breach_began", text });
    }
    if let Some(fired) = fact.fired {
        lines.push(Line { at: fired, kind: "fired", text: format!("Fired: {}", fact.sentence) });
    }
    lines.push(Line { at: record.at, kind, text: text.to_owned() });
    lines
}

pub(super) fn judged(decision: &Decision) -> String {
    let kind = match decision.kind {
        DecisionKind::RollBack => "The guard allows a rollback",
        DecisionKind::WouldRollBack => "It would have rolled back, and only observes",
        DecisionKind::Propose => "The guard asks for a person's approval",
        DecisionKind::Hold => "The guard holds",
        DecisionKind::Escalate => "The guard leaves it to people",
    };
    let reasons: Vec<&str> = decision.reasons.iter().map(|reason| reason.sentence.as_str()).collect();
    format!("{kind}{}", after_colon(&reasons.join("; ")))
}

pub(super) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "Succeeded",
        Outcome::Failed => "Failed",
        Outcome::TimedOut => "Timed out",
        Outcome::Ambiguous => "Not known whether it took effect",
    }
}

pub(super) const fn answer(answer: CheckAnswer) -> &'static str {
    match answer {
        CheckAnswer::TookEffect => "it took effect",
        CheckAnswer::DidNot => "it did not take effect",
        CheckAnswer::Unknown => "no answer",
    }
}

pub(super) const fn verified(how: Verified) -> &'static str {
    match how {
        Verified::NotRecovered => "did not help",
        Verified::Inconclusive => "cannot be verified",
        Verified::NotReached => "could not be carried out",
    }
}

/// `level 2 (previous release)`.
pub(super) fn level_name(plan: Option<&Plan>, level: usize) -> String {
    match plan.and_then(|plan| plan.levels.get(level)) {
        Some(known) => format!("level {} ({})", level + 1, known.name),
        None => format!("level {}", level + 1),
    }
}

/// The step's name in the plan, with its place.
pub(super) fn step_name(plan: Option<&Plan>, at: Attempt) -> String {
    let level = plan.and_then(|plan| plan.levels.get(at.level));
    let step = level.and_then(|level| if at.undo { level.undo.get(at.step) } else { level.steps.get(at.step) });
    match step {
        Some(step) => format!("{} ({})", step.name, attempt(at)),
        None => attempt(at),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
