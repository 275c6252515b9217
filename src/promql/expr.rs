use std::ops::Range;
use std::time::Duration;

use super::Labels;

/// Why a text is not an expression that backstop evaluates.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    pub message: String,
    /// The bytes of the text that are at fault, where they are known.
    pub span: Option<Range<usize>>,
    /// The way out, as one sentence.
    pub help: Option<String>,
}

/// `name{label="value", …}`: all four matchers (`=`, `!=`, `=~`, `!~`).
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {}

impl Selector {
    /// Parses an instant selector. One that matches the empty label set is an error.
    pub fn parse(_text: &str) -> Result<Selector, ParseError> {
        todo!()
    }
    #[must_use]
    pub fn matches(&self, _labels: &Labels) -> bool {
        todo!()
    }
    /// The metric's name, if an `=` matcher fixes it.
    #[must_use]
    pub fn exact_name(&self) -> Option<&str> {
        todo!()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    NotEqual,
}

/// One expression tree: PromQL, or one of the typed questions that are built from observed increases.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {}

impl Expr {
    /// Parses PromQL; what backstop cannot evaluate is refused here, with the name of the thing.
    pub fn parse(_text: &str) -> Result<Expr, ParseError> {
        todo!()
    }
    /// `lhs > 0.95` at the root, with a number (or constant expression) on one side: the other side, and the
    /// comparison turned so that the number is its right side.
    #[must_use]
    pub fn split_comparison(&self) -> Option<(Expr, Comparison, f64)> {
        todo!()
    }
    /// Observed increase of `part` ÷ observed increase of `whole`, both summed over all their series and targets.
    pub fn ratio(_part: Selector, _whole: Selector, _window: Duration, _min_events: f64, _widen_to: Duration) -> Expr {
        todo!()
    }
    /// Observed increase of a counter over `window`, summed over all its series and targets.
    pub fn increase(_counter: Selector, _window: Duration) -> Expr {
        todo!()
    }
    /// `q` of a histogram's buckets, from observed increases summed by `le` over all targets.
    pub fn quantile(_histogram: Selector, _q: f64, _window: Duration, _min_events: f64) -> Result<Expr, ParseError> {
        todo!()
    }
    /// Per series: how many of its last `of` samples were zero; no value before it has that many (for `failures ==
    /// of`, from the first `failures` on).
    pub fn streak(_probe: Selector, _failures: u32, _of: u32) -> Expr {
        todo!()
    }
    #[must_use]
    pub fn selectors(&self) -> Vec<&Selector> {
        todo!()
    }
    /// How far back evaluation may look.
    #[must_use]
    pub fn reach(&self) -> Duration {
        todo!()
    }
    /// The tree as people read it, one node a line.
    #[must_use]
    pub fn tree(&self) -> String {
        todo!()
    }
}
