//! The incident as people read it afterwards: times, timeline, evidence, steps, people; from its journal entries alone.
//!
//! Any prefix of an incident gives a report: one that is still open simply has less in it. Instants inside entries are
//! on the monotonic timeline; each is turned into wall time by the entry that carries it, so that a wall clock that
//! jumped during the incident shifts what is displayed but never a duration.

mod collect;
mod ladder;
mod markdown;
mod moments;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use super::event::{
    Attempt, CheckAnswer, Decision, IncidentEvent, IncidentId, Outcome, Plan, Record, Severity, TriggerFact, Verified,
};
use crate::time::Timestamp;

pub use text::span;

/// One incident, ready to be shown. Instants named `…_wall` are on the wall.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub id: IncidentId,
    /// Empty where the entry that opened the incident is missing.
    pub service: String,
    pub standing: Standing,
    /// Why it stands there, in one sentence.
    pub sentence: String,
    pub acknowledged: bool,
    /// The worst of its triggers.
    pub severity: Option<Severity>,
    pub release_bad: Option<String>,
    pub release_target: Option<String>,
    pub opened_wall: Timestamp,
    pub ended_wall: Option<Timestamp>,
    /// One per breach: a release that breached again after the incident had ended has several.
    pub episodes: Vec<Times>,
    /// Oldest first.
    pub timeline: Vec<Moment>,
    /// In the order in which they fired.
    pub facts: Vec<Fact>,
    /// The guard's answer that counted: the one at admission, or the latest.
    pub decision: Option<Decision>,
    /// The levels of the frozen plan; empty before admission.
    pub levels: Vec<LevelReport>,
    /// What was changed and does not undo itself, one sentence each.
    pub stays: Vec<String>,
    /// What people did, oldest first.
    pub people: Vec<PersonAct>,
    pub notices: Vec<NoticeReport>,
}

/// The durations that a review asks for (playbook row A2). A time whose end has not come is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub began_wall: Option<Timestamp>,
    /// The breach began → the trigger fired.
    pub detect: Option<Duration>,
    /// Fired → admitted.
    pub decide: Option<Duration>,
    /// Admitted → the last level that was carried out had finished.
    pub roll_back: Option<Duration>,
    /// The breach began → clear for good.
    pub recover: Option<Duration>,
}

/// Where an incident stands. The names are those of the API's `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Firing,
    Held,
    Escalated,
    WouldRollBack,
    Proposed,
    Running,
    /// A step's check is asked whether it took effect.
    Checking,
    Verifying,
    /// What a level changed is changed back.
    Undoing,
    NeedsHuman,
    Recovered,
    Declined,
    Expired,
    Superseded,
    Aborted,
    Cleared,
}

impl Standing {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Firing => "firing",
            Standing::Held => "held",
            Standing::Escalated => "escalated",
            Standing::WouldRollBack => "would_roll_back",
            Standing::Proposed => "proposed",
            Standing::Running => "running",
            Standing::Checking => "checking",
            Standing::Verifying => "verifying",
            Standing::Undoing => "undoing",
            Standing::NeedsHuman => "needs_human",
            Standing::Recovered => "recovered",
            Standing::Declined => "declined",
            Standing::Expired => "expired",
            Standing::Superseded => "superseded",
            Standing::Aborted => "aborted",
            Standing::Cleared => "cleared",
        }
    }

    /// Something may still happen to it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        match self {
            Standing::Firing
            | Standing::Held
            | Standing::Escalated
            | Standing::WouldRollBack
            | Standing::Proposed
            | Standing::Running
            | Standing::Checking
            | Standing::Verifying
            | Standing::Undoing
            | Standing::NeedsHuman => true,
            Standing::Recovered
            | Standing::Declined
            | Standing::Expired
            | Standing::Superseded
            | Standing::Aborted
            | Standing::Cleared => false,
        }
    }
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    pub wall: Timestamp,
    /// From the beginning of the first breach; negative for what came before it.
    pub offset_ms: i64,
    /// Stable, for programs: `fired`, `admitted`, `step_finished` …
    pub kind: &'static str,
    /// One sentence.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    pub fact: TriggerFact,
    pub since_wall: Timestamp,
    pub fired_wall: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LevelReport {
    /// Counted from 1.
    pub n: usize,
    pub name: String,
    pub standing: LevelStanding,
    pub finished_wall: Option<Timestamp>,
    /// Only what was tried, the steps of its undo among them.
    pub steps: Vec<StepReport>,
    /// Absent where nothing was taken back.
    pub undo: Option<UndoStanding>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndoStanding {
    /// Begun and not finished.
    Begun,
    Done,
    /// Which step of it did not succeed.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelStanding {
    NotTried,
    /// Its steps are under way.
    Running,
    Verifying,
    Helped,
    DidNotHelp {
        verified: Verified,
        why: String,
    },
    /// The incident ended, or a person was called, before it was known whether it helped.
    Undecided,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    pub attempt: Attempt,
    /// As the plan has it; `step 2` where the plan is missing.
    pub name: String,
    pub intended_wall: Timestamp,
    pub started_wall: Option<Timestamp>,
    pub ended_wall: Option<Timestamp>,
    /// None while it runs.
    pub outcome: Option<Outcome>,
    pub detail: String,
    pub output: String,
    pub truncated: bool,
    /// What its check said, oldest first.
    pub checks: Vec<(CheckAnswer, String)>,
}

impl StepReport {
    /// As the step itself ended, or as its check had it. None while it runs, and while its check is asked.
    #[must_use]
    pub fn settled(&self) -> Option<Outcome> {
        match self.checks.last() {
            Some((CheckAnswer::TookEffect, _)) => Some(Outcome::Succeeded),
            Some((CheckAnswer::DidNot, _)) => Some(Outcome::Failed),
            Some((CheckAnswer::Unknown, _)) | None => self.outcome,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonAct {
    pub wall: Timestamp,
    /// `alice (cli)`.
    pub actor: String,
    pub did: &'static str,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeReport {
    pub id: String,
    pub wall: Timestamp,
    pub kind: &'static str,
    /// Receiver, and how it went so far.
    pub receivers: Vec<(String, Delivery)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Queued,
    Delivered(Timestamp),
    Dead(String),
}

impl Report {
    /// From the entries of one incident, oldest first; entries of other incidents and kinds are passed over. None if
    /// there is no entry of an incident among them. Of several incidents the first counts.
    #[must_use]
    pub fn of(records: &[Record]) -> Option<Report> {
        collect::report(records)
    }

    /// As Markdown, with gaps for what only people know.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::render(self)
    }

    /// Of the latest breach.
    #[must_use]
    pub fn times(&self) -> Times {
        self.episodes.last().copied().unwrap_or_default()
    }
}

/// [`Report::of`] as Markdown; one line that says so if there is no incident in `records`.
#[must_use]
pub fn markdown(records: &[Record]) -> String {
    match Report::of(records) {
        Some(report) => report.markdown(),
        None => "There is no incident in these entries.\n".to_owned(),
    }
}

/// The sentences of the timeline that one event makes. `plan` is the frozen one, once admitted.
#[must_use]
pub fn sentences(record: &Record, event: &IncidentEvent, plan: Option<&Plan>) -> Vec<String> {
    moments::lines(record, event, plan).into_iter().map(|line| line.text).collect()
}
