use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Actor, Asked, CheckOutcome, Plan, Release, Running, TriggerFact, millis, millis_option};
use crate::time::Timestamp;

/// What can happen to an incident. Replaying these through `incident::apply` gives back its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum IncidentEvent {
    /// A trigger fired and no incident of this (service, release) was open.
    Opened {
        service: String,
        /// What is judged; absent when what runs is not known.
        release: Option<Release>,
        fact: Box<TriggerFact>,
    },
    /// The same release breached again after the incident had ended without a person's decision against it.
    Reopened {
        fact: Box<TriggerFact>,
    },
    /// Another trigger fired for the same release.
    Joined {
        fact: Box<TriggerFact>,
        /// After the admission, and the release is not to blame for it: verification does not read it.
        #[serde(default, skip_serializing_if = "is_false")]
        aside: bool,
    },
    /// The guard's answer, when it is not the one before.
    Judged {
        decision: Decision,
    },
    /// A person is asked; silence until `respond_by` declines.
    Proposed {
        level: usize,
        #[serde(with = "millis")]
        respond_by: Timestamp,
        decision: Decision,
        /// Absent in journals of versions that bound only the level.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<Box<Asked>>,
    },
    /// Nobody answered, and the question stays open until `respond_by`.
    Unanswered {
        #[serde(with = "millis")]
        respond_by: Timestamp,
    },
    /// A person keeps backstop from acting, to fix it forward, until then.
    HoldOrdered {
        actor: Actor,
        reason: String,
        #[serde(with = "millis")]
        until: Timestamp,
    },
    /// By its time limit, or by a person.
    HoldEnded {
        actor: Option<Actor>,
        reason: String,
    },
    /// A person lets the incident go on without this step.
    StepSkipped {
        attempt: Attempt,
        actor: Actor,
        reason: String,
    },
    Approved {
        actor: Actor,
        reason: String,
    },
    Declined {
        actor: Actor,
        reason: String,
    },
    Expired,
    /// From here on it acts. The plan, the guard's answers and the evidence are frozen.
    Admitted {
        plan: Box<Plan>,
        decision: Decision,
        facts: Vec<TriggerFact>,
        running: Running,
        /// Approved or ordered by a person.
        actor: Option<Actor>,
        /// The service's receivers at that time.
        receivers: Vec<String>,
        #[serde(with = "millis")]
        deadline: Timestamp,
    },
    /// Durable before the step is started.
    StepIntended {
        attempt: Attempt,
        input_hash: String,
    },
    StepStarted {
        attempt: Attempt,
        pid: Option<u32>,
        process_start: Option<String>,
    },
    StepFinished {
        attempt: Attempt,
        result: Box<StepResult>,
    },
    /// It was intended, and the world changed before it could be begun: nothing was done.
    StepNotStarted {
        attempt: Attempt,
        why: String,
    },
    /// What the step's `check` was answered. Asked again a few times, so that there may be several in a row.
    StepChecked {
        attempt: Attempt,
        answer: CheckAnswer,
        /// One sentence: why not, or why nobody knows.
        detail: String,
    },
    /// All steps of the level are done; verification begins.
    LevelFinished {
        level: usize,
        #[serde(with = "millis")]
        at: Timestamp,
    },
    /// The first answer of a check of the level, and each that is another than the one before.
    CheckAnswered {
        level: usize,
        check: String,
        outcome: CheckOutcome,
    },
    /// The first Clear after the level, or the first after a relapse within the limit.
    CameClear {
        #[serde(with = "millis")]
        at: Timestamp,
    },
    /// Breached again before the soak was over, and there is still time.
    Relapsed,
    /// The level did not help, or could not be carried out.
    LevelFailed {
        level: usize,
        verified: Verified,
        why: String,
    },
    /// The level did not help, and has an `undo`: its steps run before the next level.
    UndoBegan {
        level: usize,
    },
    UndoFinished {
        level: usize,
        /// The first step of it that did not succeed, and how; absent when all did.
        failed: Option<String>,
        /// What was seen to run after it: the undo may have brought the bad release back.
        running: Running,
    },
    Climbed {
        to: usize,
        /// What a person passed over by name: blockers, the kill switch that was on then.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        overrides: Vec<String>,
    },
    Recovered {
        #[serde(with = "millis_option")]
        clear_since: Option<Timestamp>,
    },
    /// Someone else changed the release, or (`Unknown`) took the service out of the configuration before anything was begun.
    Superseded {
        by: Running,
    },
    Aborted {
        actor: Actor,
        reason: String,
    },
    NeedsHuman {
        why: WhyHuman,
        text: String,
    },
    Reminded,
    Acknowledged {
        actor: Actor,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The breach began longer ago than the service's RTO, and it has not recovered. Once per episode.
    RtoPassed {
        rto_ms: u64,
    },
    /// The breach ended without backstop having acted (or after it had called a person).
    Cleared,
}

/// One try of one step: what an effect is identified by, beside the incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 0; people read them from 1.
    pub level: usize,
    pub step: usize,
    /// Counted from 1; goes on when the level is begun again.
    pub attempt: u32,
    /// A step of the level's `undo`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub undo: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Did a step take effect? What its `check` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckAnswer {
    TookEffect,
    DidNot,
    /// No answer came.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    pub outcome: Outcome,
    /// One sentence: `exit status 3`, `HTTP 503`, `deadline of 5m`.
    pub detail: String,
    /// The end of what it printed, secrets redacted.
    pub output: String,
    /// The output was longer.
    pub truncated: bool,
    pub captures: BTreeMap<String, String>,
    pub duration_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    Failed,
    TimedOut,
    /// It cannot be known whether it took effect: a crash, a lost connection.
    Ambiguous,
}

/// How the verification of a level ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// A fresh Breached after the level.
    NotRecovered,
    /// Not known at the end of its time.
    Inconclusive,
    /// Its steps failed, so there was nothing to verify.
    NotReached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyHuman {
    /// The last level did not help.
    LadderExhausted,
    /// Verification could not tell.
    Inconclusive,
    StepTimedOut,
    StepAmbiguous,
    /// A step with `on_failure = "stop"` failed.
    StepFailed,
    DeadlineReached,
    /// What runs cannot be read.
    ReleaseUnknown,
    /// The bad release came back during the incident.
    BadReleaseCameBack,
    /// The journal holds something this version cannot read.
    Unreadable,
    /// A blocker holds, so the next level is not begun.
    Blocked,
}

impl WhyHuman {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            WhyHuman::LadderExhausted => "ladder_exhausted",
            WhyHuman::Inconclusive => "inconclusive",
            WhyHuman::StepTimedOut => "step_timed_out",
            WhyHuman::StepAmbiguous => "step_ambiguous",
            WhyHuman::StepFailed => "step_failed",
            WhyHuman::DeadlineReached => "deadline_reached",
            WhyHuman::ReleaseUnknown => "release_unknown",
            WhyHuman::BadReleaseCameBack => "bad_release_came_back",
            WhyHuman::Unreadable => "unreadable",
            WhyHuman::Blocked => "blocked",
        }
    }
}

/// The guard's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub kind: DecisionKind,
    /// Why not more than this; empty for `RollBack`.
    pub reasons: Vec<Reason>,
    /// Every check that was made, in order.
    pub checks: Vec<GuardCheck>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    RollBack,
    /// `autonomy = "observe"`: it would have rolled back.
    WouldRollBack,
    Propose,
    Hold,
    Escalate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, for metrics and programs: `not_after_release`.
    pub code: String,
    /// One sentence for people.
    pub sentence: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardCheck {
    pub check: String,
    pub allows: bool,
    pub sentence: String,
}
