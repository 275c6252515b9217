use std::time::Duration;

use super::{Expr, Labels, ServiceId, Store};
use crate::time::Timestamp;

/// When an expression is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant {
    /// On the timeline of the samples.
    pub at: Timestamp,
    /// Wall time minus that timeline, in milliseconds: what `time()` adds.
    pub wall_offset_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar(f64),
    /// Sorted by label set, so that equal inputs give equal outputs.
    Vector(Vec<(Labels, f64)>),
}

/// What one selector of an expression rests on at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectorEvidence {
    /// The selector as it is written in PromQL.
    pub selector: String,
    /// Targets that could have such series: those of every source (scrape or probe) in scope whose labels do not
    /// contradict the selector and on some target of which the metric's name was ever seen.
    pub targets: u32,
    /// Of these, how many were scraped successfully within two of their intervals.
    pub targets_fresh: u32,
    /// Of the fresh ones, how many have shown the metric's name since their windows began.
    pub targets_seen: u32,
    /// Series that match now.
    pub series_now: u32,
    /// Series that have matched since the daemon first started, on any target of the service.
    pub series_ever: u64,
    /// How much of `window` was observed, by the targets in scope (of the scope, not of each series).
    pub observed: Duration,
    /// The range that the selector looks back over; zero for an instant selector.
    pub window: Duration,
    /// The newest sample it rests on.
    pub newest: Option<Timestamp>,
    /// Under `absent()`: an empty result is an answer.
    pub may_be_absent: bool,
}

/// Why a selector cannot be trusted to say "there is no such series".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The metric's name has never been seen on (enough of) the targets, or there is no target.
    Missing,
    /// Fewer than 80 % of the targets are fresh.
    Stale,
    /// Less than 80 % of the window has been observed.
    NotYetCovered,
}

impl SelectorEvidence {
    /// `None` when at least 80 % of the targets are fresh and have shown the metric, and at least 80 % of the window
    /// was observed.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        todo!()
    }
}

/// The two sides of a `ratio`, as observed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioParts {
    /// `None` when no series matches now.
    pub part: Option<f64>,
    pub whole: Option<f64>,
    /// Whether `part` has ever matched on this service.
    pub part_ever: bool,
}

/// A value and what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub value: Value,
    pub evidence: Vec<SelectorEvidence>,
    /// Only for `ratio` at the root.
    pub ratio: Option<RatioParts>,
    /// Events that the value was computed from, and how many it takes to trust it: `ratio` and `quantile`.
    pub events: Option<(f64, f64)>,
    /// The window that was used (a `ratio` may have widened it); zero where there is none.
    pub window: Duration,
}

/// Evaluates what `service` sees (its own targets and shared ones) at an instant. Never fails: what could fail is
/// refused by `Expr::parse`; a many-to-many match or the like, which only data can cause, is an `EvalError`.
pub fn evaluate(_expr: &Expr, _store: &Store, _service: ServiceId, _at: Instant) -> Result<Evaluation, EvalError> {
    todo!()
}

/// What only data can cause, such as a duplicate series on the "one" side of a match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);
