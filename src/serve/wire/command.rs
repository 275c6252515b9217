use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration as people write it: `90s`, `1h 30m`.
mod human {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| {
            serde::de::Error::custom(format!("{text:?} is not a duration such as 90s or 1h 30m: {error}"))
        })
    }
}

/// `POST /v1/services/{service}/rollback`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackBody {
    pub reason: String,
    /// The level to begin with, counted from 1; default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<usize>,
    /// Blockers (or the kill switch) to pass over, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
}

/// `POST /v1/incidents/{id}/approve|decline`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    #[serde(default)]
    pub reason: String,
    /// What the person was shown, as `GET /v1/incidents/{id}` has it: refused if it asks another one by now. Default:
    /// whatever it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<QuestionBody>,
}

/// What a proposal asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionBody {
    /// Counts the questions of one incident from 1.
    pub number: u32,
    /// Counted from 1.
    pub level: usize,
    pub release_bad: Option<String>,
    pub release_target: Option<String>,
}

/// `POST /v1/incidents/{id}/acknowledge|abort|unhold`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    #[serde(default)]
    pub reason: String,
}

/// `POST /v1/incidents/{id}/hold`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldBody {
    /// Default: a quarter of an hour.
    #[serde(rename = "for", with = "human", default = "quarter_hour")]
    pub duration: Duration,
    pub reason: String,
}

const fn quarter_hour() -> Duration {
    Duration::from_mins(15)
}

/// `POST /v1/incidents/{id}/skip`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipBody {
    /// Counted from 1: refused if another step is the next one. Default: whichever is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    pub reason: String,
}

/// `POST /v1/pause`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseBody {
    /// Default: all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Default: one hour. A pause always ends.
    #[serde(rename = "for", with = "human", default = "one_hour")]
    pub duration: Duration,
    pub reason: String,
}

const fn one_hour() -> Duration {
    Duration::from_hours(1)
}

/// `POST /v1/resume`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeBody {
    /// Default: the pause of all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `POST /v1/kill-switch`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillSwitchBody {
    /// Default: all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// It stays on until it is turned off.
    pub on: bool,
    pub reason: String,
}

/// `POST /v1/services/{service}/signals/{signal}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalBody {
    /// How long it stays raised unless it is raised again or cleared.
    #[serde(with = "human", default = "one_hour")]
    pub ttl: Duration,
    #[serde(default)]
    pub detail: String,
}

/// `POST /v1/releases`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseBody {
    pub service: String,
    pub release: String,
    pub phase: PhaseBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseBody {
    Begin,
    End,
}

/// `POST /v1/services/{service}/forget`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetBody {
    pub release: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `POST /v1/test-notify`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestNotifyBody {
    /// Default: all receivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
}

/// What every command that was carried out answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAnswer {
    /// One sentence.
    pub message: String,
    /// The incident that it opened or concerned.
    pub incident: Option<String>,
    pub details: BTreeMap<String, String>,
}
