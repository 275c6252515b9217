use serde::{Deserialize, Serialize};

use super::{Severity, millis, millis_option};
use crate::time::Timestamp;

/// Why a trigger says what it says, frozen as it was when it was decided on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerFact {
    pub trigger: String,
    pub severity: Severity,
    /// The expression as the operator would read it.
    pub expression: String,
    /// `above 15 %`.
    pub threshold: String,
    /// The value as people read it, `43 %`; absent for a signal.
    pub value: Option<String>,
    /// The label set that breached, as PromQL writes it.
    pub labels: String,
    /// How long it must hold, in milliseconds.
    pub hold_ms: u64,
    /// When the breach began.
    #[serde(with = "millis")]
    pub since: Timestamp,
    /// When the hold was complete.
    #[serde(with = "millis_option")]
    pub fired: Option<Timestamp>,
    /// `error-rate: 43 % of 120 requests failed in 1 m, above 15 % for 10 m`.
    pub sentence: String,
    pub evidence: Evidence,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub selectors: Vec<SelectorFact>,
    /// Events that the value rests on, for ratios and quantiles.
    pub events: Option<f64>,
    /// The window that was used.
    pub window_ms: u64,
    /// The exact value, for programs.
    pub value: Option<f64>,
}

/// What one selector rested on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectorFact {
    pub selector: String,
    pub targets: u32,
    pub targets_fresh: u32,
    pub series: u32,
    pub observed_ms: u64,
}
