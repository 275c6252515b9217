//! Everything that can happen to the machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::decide::event::{Actor, Attempt, CheckOutcome, IncidentId, Seq, StepResult};
use crate::decide::rules::Rules;
use crate::promql::{Batch, Labels, TargetId};
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Observation(Observation),
    /// Every entry up to this one is on the disk.
    Durable(Seq),
    /// The journal could not write; nothing that needs it starts until `JournalBack`.
    JournalFailed(String),
    JournalBack,
    /// The step's process runs (or its request is about to be sent).
    StepStarted {
        incident: IncidentId,
        attempt: Attempt,
        pid: Option<u32>,
        process_start: Option<String>,
    },
    StepFinished {
        incident: IncidentId,
        attempt: Attempt,
        result: StepResult,
    },
    /// The answer to `Output::RunCheck`.
    Checked {
        id: CheckId,
        outcome: CheckOutcome,
    },
    /// How an attempt to deliver a notice went.
    Delivery {
        receiver: Arc<str>,
        notice: String,
        outcome: DeliveryOutcome,
    },
    Command {
        id: CommandId,
        actor: Actor,
        command: Command,
    },
    /// The file that is a kill switch while it is there: what it says, or None when it is gone.
    KillFile {
        path: Arc<str>,
        says: Option<String>,
    },
    /// The daemon stops: from here on nothing is admitted and no step is begun. What runs is waited for.
    Draining,
    /// Another configuration, valid.
    Reload(Arc<Rules>),
    /// The deadline that `next_deadline` named has come.
    Tick,
}

/// What `observe` saw. Knows nothing of triggers.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A target came: from now on it counts for coverage.
    TargetUp {
        target: TargetId,
        key: TargetKey,
        labels: Labels,
        interval: Duration,
    },
    TargetGone {
        target: TargetId,
        at: Timestamp,
    },
    Scraped {
        target: TargetId,
        at: Timestamp,
        duration: Duration,
        outcome: Result<Scrape, ScrapeFailure>,
    },
    Probed {
        target: TargetId,
        at: Timestamp,
        duration: Duration,
        outcome: ProbeOutcome,
    },
    /// A query was answered, or was not. Its target is the query itself.
    Queried {
        target: TargetId,
        at: Timestamp,
        duration: Duration,
        outcome: Result<QueryAnswer, ScrapeFailure>,
    },
    /// A detector outside the process was read. `detector` is its place in the service's list.
    Release {
        service: Arc<str>,
        detector: usize,
        at: Timestamp,
        outcome: Result<String, String>,
    },
    /// An endpoint unrelated to the service answered, or did not. `name` as in `GuardRules::references`.
    Reference {
        name: Arc<str>,
        at: Timestamp,
        up: bool,
    },
    /// The latest observation of this target was replaced before the machine saw it.
    Overrun {
        target: TargetId,
        at: Timestamp,
    },
}

/// What makes a target the same one across reloads and restarts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// None for a scrape that is shared by all services.
    pub service: Option<Arc<str>>,
    pub kind: TargetKind,
    /// The scrape's, probe's or query's name.
    pub source: Arc<str>,
    /// Its URL, address or command line; of a query, the server's URL.
    pub address: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    Scrape,
    Probe,
    Query,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Scrape {
    /// The interest set that selected it; a batch of another generation than the machine's is a gap.
    pub generation: u64,
    pub batch: Batch,
    /// All sample lines of the body, selected or not.
    pub samples_exposed: u64,
    /// After decompression.
    pub body_bytes: u64,
}

/// What a query's server answered.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryAnswer {
    /// Whole label sets, under the query's name. Empty only where the operator said that this means Clear.
    pub series: Vec<(Labels, f64)>,
    /// How far back the expression looks.
    pub window: Duration,
}

/// Why a scrape or a query says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ScrapeFailure {
    /// Stable, for metrics: `refused`, `timeout`, `dns`, `tls`, `status`, `redirect`, `content_type`, `body` (cut short,
    /// too large, not HTTP), `limit`, `exposition`, `secret`, `several_processes`, `unsent`;
    /// of a query also `error` (the server's own), `partial`, `warnings`, `empty`, `stale`, `result` (neither a number nor a
    /// vector).
    pub reason: &'static str,
    /// One sentence.
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProbeOutcome {
    Up {
        status: Option<u16>,
        /// What the release detector on this probe read.
        release: Option<String>,
    },
    /// It answered wrongly or not at all: a datum.
    /// `reached`: something answered, if only by refusing, so the way to it is open.
    Failed { status: Option<u16>, why: String, reached: bool, release: Option<String> },
    /// We could not even send it (no file handle, no route, no resolver): Unknown.
    Unsent(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Of one question; never used twice in one run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u64);

/// What a person, or a program with a token, asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Roll back by hand: skips autonomy, gate, cooldown, budgets, references and freeze.
    Rollback {
        service: String,
        reason: String,
        level: Option<usize>,
        overrides: Vec<String>,
    },
    Approve {
        incident: String,
        reason: String,
    },
    Decline {
        incident: String,
        reason: String,
    },
    /// As [`Command::Approve`] and [`Command::Decline`], but only while what the person was shown is still what is asked:
    /// a link in a notice may be old.
    Answer {
        incident: String,
        approves: bool,
        reason: String,
        question: Question,
    },
    /// Keep backstop from acting for a while, to fix it forward.
    Hold {
        incident: String,
        duration: Duration,
        reason: String,
    },
    Unhold {
        incident: String,
        reason: String,
    },
    /// Go on without the step that is next, or at which a person was called.
    Skip {
        incident: String,
        /// Counted from 0; refused if another one is next.
        step: Option<usize>,
        reason: String,
    },
    Acknowledge {
        incident: String,
        reason: String,
    },
    /// No step after the running one.
    Abort {
        incident: String,
        reason: String,
    },
    Pause {
        service: Option<String>,
        duration: Duration,
        reason: String,
    },
    Resume {
        service: Option<String>,
        reason: String,
    },
    /// Without a service: of the whole daemon. It has no end of its own.
    KillSwitch {
        service: Option<String>,
        on: bool,
        reason: String,
    },
    RaiseSignal {
        service: String,
        signal: String,
        ttl: Duration,
        detail: String,
    },
    ClearSignal {
        service: String,
        signal: String,
        reason: String,
    },
    /// A deployment says so itself.
    AnnounceRelease {
        service: String,
        release: String,
        phase: ReleasePhase,
    },
    Forget {
        service: String,
        release: String,
        reason: String,
    },
    TestNotify {
        receiver: Option<String>,
    },
}

/// What a person was shown when they were asked.
pub use crate::decide::event::NoticeQuestion as Question;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleasePhase {
    Begin,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    Delivered,
    /// Try again after this long (the receiver's `Retry-After`, or a jittered backoff).
    Retry {
        after: Duration,
        why: String,
    },
    /// The receiver said never again (410 Gone), or the notice can never be sent.
    Dead {
        why: String,
    },
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done { message: String, incident: Option<IncidentId>, details: BTreeMap<String, String> },
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such service, incident, receiver …; names what there is.
    #[error("{0}")]
    NotFound(String),
    /// It exists, but not now.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
    /// This person may not.
    #[error("{0}")]
    NotAllowed(String),
    /// The journal cannot be written.
    #[error("{0}")]
    Unavailable(String),
}
