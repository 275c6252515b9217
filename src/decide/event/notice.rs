use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{IncidentId, Severity, millis, millis_option};
use crate::time::Timestamp;

/// One message about an incident (or about the daemon), before it is put into a receiver's own form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Stable over attempts and restarts: receivers drop what they have seen.
    pub id: String,
    /// Counts the notices of one incident from 1; of the daemon from 1 too.
    pub seq: u64,
    pub kind: NoticeKind,
    pub status: NoticeStatus,
    /// The same for all notices of one episode of an incident.
    pub dedup_key: String,
    pub severity: Severity,
    /// Someone has to do something.
    pub action_required: bool,
    pub incident: Option<IncidentId>,
    pub service: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub release_bad: Option<String>,
    pub release_target: Option<String>,
    pub release_running: Option<String>,
    pub trigger: Option<NoticeTrigger>,
    pub decision: Option<String>,
    pub reasons: Vec<String>,
    pub level: Option<NoticeLevel>,
    /// When the current phase ends at the latest, on the wall.
    #[serde(with = "millis_option")]
    pub eta: Option<Timestamp>,
    /// Until when an answer counts, on the wall.
    #[serde(with = "millis_option")]
    pub respond_by: Option<Timestamp>,
    pub actor: Option<String>,
    /// One sentence that says it all.
    pub text: String,
    /// On the wall.
    #[serde(with = "millis")]
    pub occurred_at: Timestamp,
    pub config_hash: String,
    pub drill: bool,
    /// What is asked, where an answer is wanted: a link in the notice answers this and nothing else. Absent in journals
    /// of versions without links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Box<NoticeQuestion>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeQuestion {
    /// `Asked::number`.
    pub number: u32,
    /// Counted from 0.
    pub level: usize,
    pub bad: Option<String>,
    pub target: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeTrigger {
    pub name: String,
    pub value: Option<String>,
    pub threshold: String,
    pub hold_ms: u64,
    /// On the wall.
    #[serde(with = "millis")]
    pub since: Timestamp,
    pub sentence: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeLevel {
    /// Counted from 1.
    pub n: usize,
    pub of: usize,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeStatus {
    Firing,
    Resolved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    WouldRollBack,
    Held,
    Escalated,
    ApprovalRequested,
    Declined,
    Expired,
    Started,
    StepFailed,
    LevelFinished,
    Recovered,
    Superseded,
    NeedsHuman,
    ReleaseReappeared,
    Blind,
    Unblind,
    Paused,
    Resumed,
    Degraded,
    Heartbeat,
    Test,
}

impl NoticeKind {
    /// As the webhook's `type` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            NoticeKind::WouldRollBack => "would_roll_back",
            NoticeKind::Held => "held",
            NoticeKind::Escalated => "escalated",
            NoticeKind::ApprovalRequested => "approval_requested",
            NoticeKind::Declined => "declined",
            NoticeKind::Expired => "expired",
            NoticeKind::Started => "started",
            NoticeKind::StepFailed => "step_failed",
            NoticeKind::LevelFinished => "level_finished",
            NoticeKind::Recovered => "recovered",
            NoticeKind::Superseded => "superseded",
            NoticeKind::NeedsHuman => "needs_human",
            NoticeKind::ReleaseReappeared => "release_reappeared",
            NoticeKind::Blind => "blind",
            NoticeKind::Unblind => "unblind",
            NoticeKind::Paused => "paused",
            NoticeKind::Resumed => "resumed",
            NoticeKind::Degraded => "degraded",
            NoticeKind::Heartbeat => "heartbeat",
            NoticeKind::Test => "test",
        }
    }
}
