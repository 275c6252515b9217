//! The audit trail: what people and the machine did, one line each, told from the journal's entries alone.

use std::time::Duration;

use super::event::{
    Actor, Attempt, Decision, DecisionKind, Entry, IncidentEvent, IncidentId, Outcome, Record, Refused, Release, Seq,
};
use super::trigger::short;
use crate::time::Timestamp;

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub seq: Seq,
    pub wall: Timestamp,
    pub actor: Actor,
    pub service: Option<String>,
    pub incident: Option<IncidentId>,
    /// What was ordered or done: a command as it would be typed, or a few words.
    pub did: String,
    pub reason: String,
    /// None: it was done.
    pub refused: Option<Refused>,
    /// So many more refusals of this actor came before it and were not written.
    pub unwritten: u64,
}

/// [`Actor::via`] of what backstop did by itself.
const MACHINE: &str = "machine";

impl Act {
    /// None for entries that only say what was seen, planned or told.
    #[must_use]
    pub fn of(record: &Record) -> Option<Act> {
        let Told { actor, service, did, reason } = match &record.entry {
            Entry::Incident { incident, event } => {
                let told = of_event(event, record.at)?;
                let (service, incident) = (service_of(incident), Some(incident.clone()));
                return Some(act(record, Told { service, ..told }, incident));
            }
            Entry::Command(ordered) => {
                let told = Told {
                    actor: ordered.actor.clone(),
                    service: ordered.service.clone(),
                    did: ordered.command.clone(),
                    reason: ordered.reason.clone(),
                };
                let act = act(record, told, ordered.incident.clone());
                return Some(Act { refused: ordered.refused.clone(), unwritten: ordered.unwritten, ..act });
            }
            Entry::DaemonStarted { version, config_hash } => {
                Told::machine(format!("start of backstop {version}, configuration {config_hash}"), String::new())
            }
            Entry::ReleaseForgotten { service, release, actor, reason } => {
                Told::of(actor, Some(service), format!("forget {service} {release}"), reason)
            }
            Entry::Paused { service, until, actor, reason } => {
                let limit = short(until.since(record.at));
                Told::of(actor, service.as_ref(), format!("pause{} --for {limit}", which(service.as_ref())), reason)
            }
            Entry::Resumed { service, actor, reason } => {
                Told::of(actor, service.as_ref(), format!("resume{}", which(service.as_ref())), reason)
            }
            Entry::KillSwitch { service, on, actor, reason } => {
                let turn = if *on { "on" } else { "off" };
                let did = format!("kill-switch {turn}{}", which(service.as_ref()));
                Told::of(actor, service.as_ref(), did, reason)
            }
            Entry::SignalRaised { service, signal, until, actor, detail } => {
                let limit = short(until.since(record.at));
                Told::of(actor, Some(service), format!("signal {service} {signal} --for {limit}"), detail)
            }
            Entry::SignalCleared { service, signal, actor, reason } => {
                Told::of(actor, Some(service), format!("signal {service} {signal} --clear"), reason)
            }
            Entry::ReleaseSeen { .. }
            | Entry::ReleaseNamed { .. }
            | Entry::ReleaseGood { .. }
            | Entry::ReleaseBad { .. }
            | Entry::NoticeQueued { .. }
            | Entry::NoticeDelivered { .. }
            | Entry::NoticeDead { .. }
            | Entry::NoticeFellBack { .. } => return None,
        };
        Some(act(record, Told { actor, service, did, reason }, None))
    }

    /// By a person or a program of theirs, and not by backstop or the end of a time limit.
    #[must_use]
    pub fn is_by_people(&self) -> bool {
        self.actor.via != MACHINE && self.actor.is_somebody()
    }
}

struct Told {
    actor: Actor,
    service: Option<String>,
    did: String,
    reason: String,
}

impl Told {
    fn of(actor: &Actor, service: Option<&String>, did: String, reason: &str) -> Told {
        Told { actor: actor.clone(), service: service.cloned(), did, reason: reason.to_owned() }
    }

    fn machine(did: impl Into<String>, reason: impl Into<String>) -> Told {
        let actor = Actor { name: "backstop".to_owned(), via: MACHINE.to_owned() };
        Told { actor, service: None, did: did.into(), reason: reason.into() }
    }

    fn timer(did: impl Into<String>, reason: &str) -> Told {
        let actor = Actor { name: "its time limit".to_owned(), via: Actor::TIMER.to_owned() };
        Told { actor, service: None, did: did.into(), reason: reason.to_owned() }
    }
}

fn act(record: &Record, told: Told, incident: Option<IncidentId>) -> Act {
    let Told { actor, service, did, reason } = told;
    Act { seq: record.seq, wall: record.wall, actor, service, incident, did, reason, refused: None, unwritten: 0 }
}

fn which(service: Option<&String>) -> String {
    service.map_or_else(String::new, |service| format!(" {service}"))
}

/// An incident is called `SERVICE-SEQ`.
fn service_of(incident: &IncidentId) -> Option<String> {
    incident.0.rsplit_once('-').map(|(service, _)| service.to_owned())
}

// Length: one arm for each kind of event.
fn of_event(event: &IncidentEvent, at: Timestamp) -> Option<Told> {
    let by = |actor: &Actor, did: &str, reason: &str| Told::of(actor, None, did.to_owned(), reason);
    Some(match event {
        IncidentEvent::Opened { fact, .. } => Told::machine("open an incident", &*fact.sentence),
        IncidentEvent::Reopened { fact } => Told::machine("open it again", &*fact.sentence),
        IncidentEvent::Judged { decision } => Told::machine(judged(decision.kind), sentences(decision)),
        IncidentEvent::Proposed { level, decision, asked, .. } => {
            let what = asked.as_ref().map_or_else(String::new, |asked| {
                format!(
                    " from {} to {} (question {})",
                    name(asked.bad.as_ref()),
                    name(asked.target.as_ref()),
                    asked.number
                )
            });
            Told::machine(format!("ask whether to roll back{what} at level {}", level + 1), sentences(decision))
        }
        IncidentEvent::Unanswered { .. } => Told::timer("ask again", "nobody has answered"),
        IncidentEvent::HoldOrdered { actor, reason, until } => {
            by(actor, &format!("hold --for {}", short(until.since(at))), reason)
        }
        IncidentEvent::HoldEnded { actor: Some(actor), reason } => by(actor, "unhold", reason),
        IncidentEvent::HoldEnded { actor: None, reason } => Told::timer("end the hold", reason),
        IncidentEvent::StepSkipped { attempt, actor, reason } => by(actor, &format!("skip {}", step(*attempt)), reason),
        IncidentEvent::Approved { actor, reason } => by(actor, "approve", reason),
        IncidentEvent::Declined { actor, reason } => by(actor, "decline", reason),
        IncidentEvent::Expired => Told::timer("take no answer for a no", "nobody answered in time"),
        IncidentEvent::Admitted { plan, decision, facts, actor, .. } => {
            let to = plan.target.as_ref().map_or_else(String::new, |target| format!(" to {target}"));
            let did = format!("begin the rollback from {}{to} at level {}", plan.bad, plan.start_level + 1);
            let passed_over: Vec<&str> = super::guard::asked::overridden(&decision.checks).collect();
            let reason = match (facts.first(), passed_over.as_slice()) {
                (Some(fact), []) => fact.sentence.clone(),
                (Some(fact), names) => format!("{} (overrides {})", fact.sentence, names.join(", ")),
                (None, _) => String::new(),
            };
            match actor {
                Some(actor) => by(actor, &did, &reason),
                None => Told::machine(did, reason),
            }
        }
        IncidentEvent::StepIntended { attempt, .. } => Told::machine(format!("begin {}", step(*attempt)), ""),
        IncidentEvent::StepFinished { attempt, result } => {
            Told::machine(format!("end of {}: {}", step(*attempt), outcome(result.outcome)), &*result.detail)
        }
        IncidentEvent::StepNotStarted { attempt, why } => {
            Told::machine(format!("take {} for not begun", step(*attempt)), &**why)
        }
        IncidentEvent::LevelFailed { level, why, .. } => {
            Told::machine(format!("find that level {} did not help", level + 1), &**why)
        }
        IncidentEvent::UndoBegan { level } => Told::machine(format!("take level {} back", level + 1), ""),
        IncidentEvent::Climbed { to, .. } => Told::machine(format!("go on to level {}", to + 1), ""),
        IncidentEvent::Recovered { .. } => Told::machine("close it: recovered", ""),
        IncidentEvent::Superseded { .. } => Told::machine("close it: somebody changed the release", ""),
        IncidentEvent::Cleared => Told::machine("close it: the breach has ended", ""),
        IncidentEvent::Aborted { actor, reason } => by(actor, "abort", reason),
        IncidentEvent::NeedsHuman { text, .. } => Told::machine("call a person", &**text),
        IncidentEvent::Acknowledged { actor, reason } => by(actor, "acknowledge", reason),
        IncidentEvent::Joined { .. }
        | IncidentEvent::StepStarted { .. }
        | IncidentEvent::StepChecked { .. }
        | IncidentEvent::LevelFinished { .. }
        | IncidentEvent::CheckAnswered { .. }
        | IncidentEvent::CameClear { .. }
        | IncidentEvent::Relapsed
        | IncidentEvent::UndoFinished { .. }
        | IncidentEvent::Reminded
        | IncidentEvent::RtoPassed { .. } => return None,
    })
}

const fn judged(kind: DecisionKind) -> &'static str {
    match kind {
        DecisionKind::RollBack => "decide to roll back",
        DecisionKind::WouldRollBack => "only report that it would roll back",
        DecisionKind::Propose => "decide to ask a person",
        DecisionKind::Hold => "hold back",
        DecisionKind::Escalate => "leave it to people",
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "timed out",
        Outcome::Ambiguous => "not known whether it took effect",
    }
}

fn sentences(decision: &Decision) -> String {
    let sentences: Vec<&str> = decision.reasons.iter().map(|reason| reason.sentence.as_str()).collect();
    sentences.join("; ")
}

fn step(attempt: Attempt) -> String {
    let undo = if attempt.undo { "undo " } else { "" };
    let again = if attempt.attempt > 1 { format!(", try {}", attempt.attempt) } else { String::new() };
    format!("{undo}step {} of level {}{again}", attempt.step + 1, attempt.level + 1)
}

fn name(release: Option<&Release>) -> String {
    release.map_or_else(|| "what is not known".to_owned(), ToString::to_string)
}

/// Which acts somebody wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub service: Option<String>,
    pub incident: Option<String>,
    /// On the wall.
    pub since: Option<Timestamp>,
    /// Only what people did, or were refused.
    pub people: bool,
}

impl Wanted {
    #[must_use]
    pub fn takes(&self, act: &Act) -> bool {
        self.service.as_ref().is_none_or(|service| act.service.as_ref() == Some(service))
            && self.incident.as_ref().is_none_or(|id| act.incident.as_ref().is_some_and(|of| *of.0 == **id))
            && self.since.is_none_or(|since| act.wall >= since)
            && (!self.people || act.is_by_people())
    }

    /// Going back in time, nothing more can come. The wall clock may have been set back meanwhile: an hour is allowed for.
    #[must_use]
    pub fn is_past(&self, wall: Timestamp) -> bool {
        self.since.is_some_and(|since| wall + Duration::from_hours(1) < since)
    }
}
