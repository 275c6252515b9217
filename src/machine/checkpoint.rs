//! What comes from observation and is checkpointed every few seconds: losing it costs held time, never a promise.

use std::sync::Arc;

use super::input::TargetKey;
use crate::decide::verdict::Verdict;
use crate::promql::{Labels, TargetDump};
use crate::time::Now;

#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub now: Now,
    pub windows: Vec<(TargetKey, TargetDump)>,
    pub verdicts: Vec<VerdictDump>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VerdictDump {
    pub service: Arc<str>,
    pub trigger: Arc<str>,
    /// What was asked; a trigger that asks something else now starts anew.
    pub question: String,
    pub labels: Labels,
    pub verdict: Verdict,
}
