//! What outlives the process: the entries of the journal, and all that an incident freezes. The only pure room that
//! serde may enter; the form of each kind of entry is pinned by a golden file.
//!
//! A field is added with `#[serde(default)]`, a meaning is changed by a new [`Entry::VERSION`]; an entry of a kind or
//! version that is not known here is never guessed at: its incident needs a human.

mod evidence;
mod incident;
mod notice;
mod ordered;
mod people;
mod plan;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use evidence::{Evidence, SelectorFact, TriggerFact};
pub use incident::{
    Attempt, CheckAnswer, Decision, DecisionKind, GuardCheck, IncidentEvent, Outcome, Reason, StepResult, Verified,
    WhyHuman,
};
pub use notice::{Notice, NoticeKind, NoticeLevel, NoticeQuestion, NoticeStatus, NoticeTrigger};
pub use ordered::{Ordered, Refused, RefusedAs};
pub use people::{Asked, OnSilence};
pub use plan::{
    Action, Ask, BodyTemplate, Capture, Check, CheckOutcome, JsonTest, Level, OnFailure, Plan, Proof, Retry, SecretRef,
    Step, TextOrSecret, Verify, Wants,
};

use crate::time::{BootId, Timestamp};

/// Milliseconds, the journal's form of an instant.
pub(crate) mod millis {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(at.as_millis())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_millis)
    }
}

/// The same for an instant that may not be known.
pub(crate) mod millis_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::time::Timestamp;

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        at.map(Timestamp::as_millis).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_millis))
    }
}

/// A release as its detector names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Release(pub Arc<str>);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `service-17`: the service and the journal's sequence of the entry that opened it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IncidentId(pub Arc<str>);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Position in the journal; the first entry is 1. By default 0: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

/// How much backstop may do by itself. Ordered: the most careful of several counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Autonomy {
    /// Only reports what it would have done.
    Observe,
    /// Asks a person.
    Propose,
    Act,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Only a breach that began after a release change is acted on.
    Release,
    /// Wrong whatever was deployed, such as a vulnerability.
    None,
}

/// What a service runs, as its detectors say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    One(Release),
    /// Several at once, with their shares of the targets (0–1), the largest first.
    Mix(Vec<(Release, f64)>),
    /// Why it is not known.
    Unknown(String),
}

/// Who did something: a person at the command line or the API, or backstop itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// As they are known where they came in: a login name, a token's name.
    pub name: String,
    /// `cli`, `api`, `link`, `trigger`.
    pub via: String,
}

/// One line of the journal. `at` is on the monotonic timeline of [`crate::time::Now`]; `wall` is for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub seq: Seq,
    pub at: Timestamp,
    pub wall: Timestamp,
    pub boot: BootId,
    pub entry: Entry,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A daemon took the state directory.
    DaemonStarted {
        version: String,
        config_hash: String,
    },
    /// A release appeared on a service: for the first time, or again.
    ReleaseSeen {
        service: String,
        release: Release,
        /// The last instant at which something else was seen; absent when this is the first release ever seen.
        #[serde(with = "millis_option")]
        old_last_seen: Option<Timestamp>,
        #[serde(with = "millis")]
        first_seen: Timestamp,
        /// The incident whose level installed it.
        installed_by: Option<IncidentId>,
        /// The first detector of the list then, as people read it: it names the releases. Absent in entries of before it
        /// was written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        named_by: Option<String>,
    },
    /// Another detector of the list calls a release otherwise; so it is known again after a restart.
    ReleaseNamed {
        service: String,
        /// The first detector of the list then, as people read it: it names the releases.
        first: String,
        /// The one that says `value`.
        detector: String,
        value: String,
        /// Absent: the value was seen under several, so it names none of them any more.
        release: Option<Release>,
    },
    /// It ran `good_after` without a firing verdict.
    ReleaseGood {
        service: String,
        release: Release,
    },
    /// A rollback from it was admitted.
    ReleaseBad {
        service: String,
        release: Release,
        incident: IncidentId,
    },
    /// A person cleared the bad mark.
    ReleaseForgotten {
        service: String,
        release: Release,
        actor: Actor,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    Incident {
        incident: IncidentId,
        event: Box<IncidentEvent>,
    },
    /// A notice was accepted for these receivers.
    NoticeQueued {
        notice: Box<Notice>,
        receivers: Vec<String>,
    },
    NoticeDelivered {
        notice: String,
        receiver: String,
    },
    /// It will not be tried again.
    NoticeDead {
        notice: String,
        receiver: String,
        why: String,
    },
    /// The receiver did not take it in time, so it went to another one too.
    NoticeFellBack {
        notice: String,
        receiver: String,
        fallback: String,
    },
    /// No new rollback until `until`; without a service, for all.
    Paused {
        service: Option<String>,
        #[serde(with = "millis")]
        until: Timestamp,
        actor: Actor,
        reason: String,
    },
    Resumed {
        service: Option<String>,
        actor: Actor,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The kill switch was turned: nothing is begun while it is on; without a service, for all.
    KillSwitch {
        service: Option<String>,
        on: bool,
        /// `via` is `file` where the switch is a file.
        actor: Actor,
        reason: String,
    },
    SignalRaised {
        service: String,
        signal: String,
        #[serde(with = "millis")]
        until: Timestamp,
        actor: Actor,
        detail: String,
    },
    SignalCleared {
        service: String,
        signal: String,
        actor: Actor,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// What somebody ordered, where no other entry says so: it was refused, or it only passes something on.
    Command(Box<Ordered>),
}

impl Entry {
    /// Of the form of the entries; one number for all kinds.
    pub const VERSION: u32 = 1;
}
