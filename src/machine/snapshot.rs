//! What the world may read: published by the engine as an `Arc`, never written by anyone else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::decide::event::{Actor, IncidentId, Notice, OnSilence, Record, Running, Severity};
use crate::time::Timestamp;

/// The whole state as people and programs may see it, at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub at: Timestamp,
    pub wall: Timestamp,
    pub started_wall: Timestamp,
    pub version: &'static str,
    pub instance: Arc<str>,
    pub config_hash: Arc<str>,
    pub generation: u64,
    /// Its targets are known: before the first turn nobody can say what there is to look at.
    pub settled: bool,
    pub journal: JournalHealth,
    /// Of the whole daemon.
    pub pause: Option<PauseView>,
    /// Of the whole daemon, by command or by file.
    pub kill_switch: Option<KillView>,
    /// The clock jumped, or backstop was stopped: only watching until then, on the wall, and why.
    pub tilt: Option<(Timestamp, String)>,
    pub services: Vec<ServiceView>,
    pub incidents: Vec<IncidentView>,
    pub receivers: Vec<ReceiverView>,
    pub counters: Counters,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalHealth {
    Writing,
    /// Since when, on the wall, and why: no new rollback starts.
    Failing {
        since_wall: Timestamp,
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseView {
    pub until_wall: Timestamp,
    pub actor: Actor,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillView {
    pub since_wall: Timestamp,
    pub actor: Actor,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    pub name: Arc<str>,
    pub autonomy: &'static str,
    pub running: Running,
    /// When it was first seen, on the wall.
    pub running_since_wall: Option<Timestamp>,
    /// The release that a rollback would go to.
    pub way_back: Option<String>,
    pub releases: Vec<ReleaseView>,
    pub triggers: Vec<TriggerView>,
    pub targets: Vec<TargetView>,
    pub signals: Vec<SignalView>,
    /// Blockers, and the checks of the way back.
    pub asked: Vec<AskedView>,
    pub pause: Option<PauseView>,
    pub kill_switch: Option<KillView>,
    /// The freeze that is on: why, and until when on the wall.
    pub freeze: Option<(String, Timestamp)>,
    /// The open incident, if there is one.
    pub incident: Option<IncidentId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseView {
    pub name: String,
    pub first_seen_wall: Timestamp,
    pub good: bool,
    pub bad: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TriggerView {
    pub name: Arc<str>,
    pub severity: Severity,
    /// `quiet`, `pending`, `firing`, `blind`: the worst of its label sets.
    pub verdict: &'static str,
    /// `clear`, `breached`, `unknown`.
    pub finding: &'static str,
    /// Since when the verdict is so, on the wall.
    pub since_wall: Option<Timestamp>,
    pub value: Option<f64>,
    /// As people read it: `43 %`.
    pub value_text: Option<String>,
    pub threshold: String,
    /// Held so far, of how much.
    pub held: Duration,
    pub hold: Duration,
    /// Why it is unknown, or what it found, in one sentence.
    pub sentence: String,
    /// Why its threshold is never reached, in one sentence, from what was seen last; None where that is not known.
    pub never_fires: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    /// `scrape`, `probe` or `query`.
    pub kind: &'static str,
    pub source: Arc<str>,
    pub address: Arc<str>,
    /// None before the first look.
    pub up: Option<bool>,
    pub last_wall: Option<Timestamp>,
    /// Why the last look failed.
    pub error: Option<String>,
    pub series: usize,
}

/// What an operator's own check said of a rollback.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedView {
    /// `blocker` or `way_back`.
    pub kind: &'static str,
    pub name: Arc<str>,
    /// `free` (nothing stands in the way), `holds`, `unknown` (no answer, which refuses too), `unasked` (no fresh
    /// answer: blockers by command or HTTP are asked when something breaches).
    pub standing: &'static str,
    /// Why it stops a rollback; empty where it does not.
    pub sentence: String,
    /// When it was last asked, on the wall.
    pub last_wall: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SignalView {
    pub name: String,
    pub until_wall: Timestamp,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct IncidentView {
    pub id: IncidentId,
    pub service: Arc<str>,
    pub release_bad: Option<String>,
    pub release_target: Option<String>,
    /// `firing`, `held`, `escalated`, `would_roll_back`, `proposed`, `running`, `checking`, `verifying`, `undoing`,
    /// `needs_human`, `recovered`, `declined`, `expired`, `superseded`, `aborted`, `cleared`.
    pub state: &'static str,
    /// Why it is in this state, in one sentence.
    pub sentence: String,
    /// The codes of the guard's reasons while it waits: `cut_off`, `before_release`.
    pub reasons: Vec<String>,
    /// Why a person is needed, while it is `needs_human`: one of [`crate::decide::event::WhyHuman::as_str`].
    pub needs_human: Option<&'static str>,
    pub open: bool,
    pub acknowledged: bool,
    pub severity: Severity,
    pub triggers: Vec<String>,
    /// Counted from 1, and of how many.
    pub level: Option<(usize, usize, String)>,
    pub opened_wall: Timestamp,
    pub ended_wall: Option<Timestamp>,
    pub respond_by_wall: Option<Timestamp>,
    /// What is asked, while it is.
    pub question: Option<QuestionView>,
    /// What a person can do next, with the commands; None while nobody is waited for.
    pub next: Option<String>,
    /// Everything the journal has of it, oldest first: the report is written from this.
    pub history: Arc<Vec<Record>>,
}

/// What a person is asked, and whose answer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionView {
    /// `Asked::number`.
    pub number: u32,
    /// Counted from 1, and of how many.
    pub level: (usize, usize, String),
    pub bad: Option<String>,
    pub target: Option<String>,
    /// Names of who may approve; empty stands for everyone who may command.
    pub approvers: Vec<String>,
    pub on_silence: OnSilence,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverView {
    pub name: Arc<str>,
    pub queued: usize,
    pub dead: usize,
    /// The oldest undelivered notice, on the wall.
    pub oldest_wall: Option<Timestamp>,
    pub last_error: Option<String>,
    /// Dead letters, newest last; at most 100.
    pub dead_letters: Vec<(Notice, String)>,
}

/// Since the daemon started; `serve` exports them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// (service, trigger, finding) → evaluations.
    pub findings: BTreeMap<(Arc<str>, Arc<str>, &'static str), u64>,
    /// (service, source) → successful looks.
    pub looks: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// (service, source, reason) → failed looks.
    pub failures: BTreeMap<(Arc<str>, Arc<str>, String), u64>,
    /// Observations replaced before they were read.
    pub overruns: u64,
    /// Jumps of the wall clock, and stops of the process.
    pub tilts: u64,
    /// (service, outcome) → incidents that ended so.
    pub incidents: BTreeMap<(Arc<str>, &'static str), u64>,
    /// (service, outcome) → steps.
    pub steps: BTreeMap<(Arc<str>, &'static str), u64>,
    /// (service, who asked, outcome) → answers of checks.
    pub checks: BTreeMap<(Arc<str>, &'static str, &'static str), u64>,
    /// Why → commands that were refused.
    pub refused: BTreeMap<&'static str, u64>,
    pub journal_errors: u64,
    pub notices_delivered: u64,
    pub notices_dead: u64,
}
