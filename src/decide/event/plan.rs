use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Autonomy, Release};

/// What an incident will do, frozen when it is admitted: a changed file changes the next incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The release that is rolled back.
    pub bad: Release,
    /// The way back.
    pub target: Option<Release>,
    pub levels: Vec<Level>,
    /// The level tried first, counted from 0.
    pub start_level: usize,
    /// What templates may use beside releases and captures: `service`, `trigger`, `value`, `labels`.
    pub variables: BTreeMap<String, String>,
    /// Of each level: the most careful of service, severity, trigger and level. Empty in journals of versions that asked
    /// before a further level only by what the level itself says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub autonomy: Vec<Autonomy>,
    /// Triggers of the incident that the release is not to blame for: verification does not read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<String>,
}

/// One rung of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    pub name: String,
    pub steps: Vec<Step>,
    pub verify: Verify,
    /// Overrides the service's where it is more careful.
    pub autonomy: Option<Autonomy>,
    /// For the whole level, from its first step: then no further step of it starts, and it has to have come clear.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration_millis_option")]
    pub deadline: Option<Duration>,
    /// Takes back what the steps did, after a verification that said that they did not help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Step>,
}

impl Level {
    /// 16 hexadecimal digits of the SHA-256 of all that it is.
    #[must_use]
    pub fn hash(&self) -> String {
        hash(self)
    }
}

/// Has it recovered, and did it stay so?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verify {
    /// From the end of the level's last step to the first Clear.
    #[serde(with = "duration_millis")]
    pub within: Duration,
    /// How long it must stay Clear.
    #[serde(with = "duration_millis")]
    pub soak: Duration,
    /// Probes that must succeed, and that can prove recovery where there is no traffic.
    pub probes: Vec<String>,
    /// Asked again and again; like the probes they can prove recovery where there is no traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Proof>,
    /// Names in `ServiceRules::criteria`: while one of them is breached, it has not recovered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_wrong: Vec<String>,
    /// The way back must be what runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serves_target: bool,
}

/// One check of a verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    pub check: Check,
    /// From one question to the next; the first is asked at once.
    #[serde(with = "duration_millis")]
    pub every: Duration,
    /// Passed once after the level, it is not asked again.
    pub once: bool,
}

/// One side effect on the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub action: Action,
    #[serde(with = "duration_millis")]
    pub timeout: Duration,
    /// Doing it twice is the same as doing it once; only then an ambiguous step runs again.
    pub idempotent: bool,
    pub on_failure: OnFailure,
    /// For what is known not to have worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Did it take effect? Asked after a success, and where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// How often a step is tried again, beside its first try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    pub times: u32,
    /// Before the first retry; doubled before each further one, up to [`Retry::WAIT_MAX`].
    #[serde(with = "duration_millis")]
    pub wait: Duration,
}

impl Retry {
    /// An incident does not wait longer than this for one step.
    pub const WAIT_MAX: Duration = Duration::from_mins(5);

    /// How long to wait after the `failed`-th try, counted from 1.
    #[must_use]
    pub fn wait_after(&self, failed: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failed.saturating_sub(1));
        self.wait.saturating_mul(doubled).min(Retry::WAIT_MAX)
    }
}

impl Step {
    /// 16 hexadecimal digits of the SHA-256 of what it would do with these variables and captures.
    #[must_use]
    pub fn input_hash(&self, variables: &BTreeMap<String, String>, captures: &BTreeMap<String, String>) -> String {
        hash(&(self, variables, captures))
    }
}

/// 16 hexadecimal digits of the SHA-256.
fn hash(of: &impl Serialize) -> String {
    use sha2::{Digest, Sha256};
    // A plan holds only strings, numbers and maps with string keys, which JSON can always express.
    let text = serde_json::to_vec(of).unwrap_or_default();
    let digest = Sha256::digest(text);
    let head = digest.iter().take(8).fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    format!("{head:016x}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The level has failed; the next one is tried. The default.
    Climb,
    /// The next step of the level runs all the same.
    Continue,
    /// A person is needed.
    Stop,
}

/// What a step does. Texts are templates (minijinja), rendered when the step runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Command {
        /// Program and arguments; no shell. A templated value is one whole argument.
        argv: Vec<String>,
        /// Added to the cleared environment.
        env: BTreeMap<String, TextOrSecret>,
        /// Variables of the daemon that it may see beside the safe ones.
        inherit: Vec<String>,
        directory: Option<String>,
    },
    Http {
        method: String,
        url: String,
        headers: BTreeMap<String, TextOrSecret>,
        body: BodyTemplate,
        /// Statuses that mean success; empty stands for 200–299.
        expect: Vec<u16>,
        /// Values taken from the JSON reply for later steps.
        captures: Vec<Capture>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyTemplate {
    None,
    /// Every string in it is a template.
    Json(serde_json::Value),
    Raw(String),
}

/// A question put to the world on demand, which changes nothing there. Texts are templates, as those of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub ask: Ask,
    #[serde(with = "duration_millis")]
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Exit status 0 is yes. The fields are those of `Action::Command`.
    Command { argv: Vec<String>, env: BTreeMap<String, TextOrSecret>, inherit: Vec<String>, directory: Option<String> },
    Http {
        method: String,
        url: String,
        headers: BTreeMap<String, TextOrSecret>,
        body: BodyTemplate,
        /// Statuses that are a yes; empty stands for 200–299.
        expect: Vec<u16>,
        /// All of which the JSON body must pass.
        json: Vec<JsonTest>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonTest {
    /// RFC 6901 JSON pointer; empty for the whole document.
    pub pointer: String,
    pub wants: Wants,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wants {
    /// Anything but nothing and `null`.
    Exists,
    Equals(serde_json::Value),
    /// The length of an array or an object, as `jq length` has it.
    Count {
        at_least: Option<u64>,
        at_most: Option<u64>,
    },
}

/// What a check came to. What `Unknown` means is decided by who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// The answer came, and says yes.
    Passed,
    /// The answer came, and says no: another exit status, another HTTP status, a JSON test that is not met.
    Failed(String),
    /// No answer: it could not be started, was not found, took too long, was refused, or broke off.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// `{{ captures.NAME }}` in later steps.
    pub name: String,
    /// RFC 6901 JSON pointer.
    pub pointer: String,
}

/// Where a secret is; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// A file's path.
    File(String),
    /// An environment variable's name.
    Env(String),
    /// A file in `$CREDENTIALS_DIRECTORY`, as systemd passes it.
    Credential(String),
}

/// `prefix` is put before the secret, such as `Bearer `.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextOrSecret {
    Text(String),
    Secret { prefix: String, secret: SecretRef },
}

pub(super) mod duration_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// The same for what may be absent.
mod duration_millis_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}
