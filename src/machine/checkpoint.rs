//! What comes from observation and is checkpointed every few seconds: losing it costs held time, never a promise.

use std::sync::Arc;

use super::input::TargetKey;
use crate::decide::verdict::Verdict;
use crate::promql::{Labels, TargetDump, TargetView};
use crate::time::{Now, Timestamp};

/// As it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub now: Now,
    pub windows: Vec<(TargetKey, TargetDump)>,
    pub verdicts: Vec<VerdictDump>,
    pub baselines: Vec<BaselineDump>,
    /// What has ever matched: a `part` that matched once and is gone now is zero, not unknown.
    pub ever: Vec<EverMatched>,
}

/// As it is to be written. The windows are lent: they are large, and there is no room for all of them twice.
#[derive(Clone, Debug)]
pub struct View<'a> {
    pub now: Now,
    pub windows: Vec<(&'a TargetKey, TargetView<'a>)>,
    pub verdicts: Vec<VerdictDump>,
    pub baselines: Vec<BaselineDump>,
    pub ever: Vec<EverMatched>,
}

/// The series that ever matched one selector, by their hashes, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EverMatched {
    /// None: of shared targets.
    pub service: Option<Arc<str>>,
    pub selector: String,
    pub series: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VerdictDump {
    pub service: Arc<str>,
    pub trigger: Arc<str>,
    /// What was asked; a trigger that asks something else now starts anew.
    pub question: Arc<str>,
    pub labels: Labels,
    pub verdict: Verdict,
}

/// What one label set of a `regression` is compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct BaselineDump {
    pub service: Arc<str>,
    pub trigger: Arc<str>,
    /// What was asked; a trigger that asks something else now starts anew.
    pub question: Arc<str>,
    pub labels: Labels,
    pub slots: Vec<(Timestamp, f64)>,
    pub frozen: Option<f64>,
    pub seen: Timestamp,
}

impl View<'_> {
    /// A copy, as it would be read.
    #[must_use]
    pub fn copy(&self) -> Checkpoint {
        let View { now, windows, verdicts, baselines, ever } = self;
        Checkpoint {
            now: now.clone(),
            windows: windows.iter().map(|(key, target)| ((*key).clone(), target.dump())).collect(),
            verdicts: verdicts.clone(),
            baselines: baselines.clone(),
            ever: ever.clone(),
        }
    }
}

impl Checkpoint {
    #[must_use]
    pub fn view(&self) -> View<'_> {
        let Checkpoint { now, windows, verdicts, baselines, ever } = self;
        View {
            now: now.clone(),
            windows: windows.iter().map(|(key, dump)| (key, dump.lend())).collect(),
            verdicts: verdicts.clone(),
            baselines: baselines.clone(),
            ever: ever.clone(),
        }
    }
}
