//! The forms of the API, documented in `docs/api.md`. They are not the journal's: either may change without the other.
//!
//! Instants are RFC 3339 in UTC with milliseconds, durations are texts such as `1h 30m`. The command line reads the
//! same types back, so a field that is missing there is missing for everyone.

mod audit;
mod command;
mod incident;
mod status;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use audit::{ActBody, AuditBody, RefusedBody};
pub use command::{
    AnswerBody, CommandAnswer, ForgetBody, HoldBody, KillSwitchBody, PauseBody, PhaseBody, QuestionBody, ReasonBody,
    ReleaseBody, ResumeBody, RollbackBody, SignalBody, SkipBody, TestNotifyBody,
};
pub use incident::{
    CheckBody, DecisionBody, DeliveryBody, FactBody, GuardReason, IncidentBody, IncidentLevel, IncidentList,
    IncidentSummary, LevelBody, MomentBody, NoticeBody, PersonBody, SelectorBody, StepBody, TimesBody,
};
pub use status::{
    AskedBody, DeadLetterBody, FailedReloadBody, FreezeState, JournalBody, KillSwitchState, PauseState, ReadyBody,
    ReceiverBody, ReleaseState, RunningBody, ServiceBody, ShareBody, SignalState, StatusBody, TargetBody, TiltState,
    TriggerBody,
};

use crate::decide::event::Severity;
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Stable, for programs.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The way out.
    pub help: String,
}

fn instant(at: Timestamp) -> String {
    at.to_string()
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
        .to_string()
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}
