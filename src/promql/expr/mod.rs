//! The expression tree: PromQL and the typed questions in one.

mod call;
pub(super) mod parse;
mod shape;
mod show;
mod span;
#[cfg(test)]
mod tests;
pub(super) mod text;
mod when;

use std::ops::Range;
use std::time::Duration;

pub(super) use call::{Aggregator, Function};
pub use shape::Shape;
pub(super) use when::{Pin, When};

use super::{Labels, Selector};
use crate::time::Timestamp;

/// How far back an instant selector looks for a series' newest sample, as Prometheus does by default.
pub(super) const LOOKBACK: Duration = Duration::from_mins(5);

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    NotEqual,
}

impl Comparison {
    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Above => left > right,
            Comparison::AtLeast => left >= right,
            Comparison::Below => left < right,
            Comparison::AtMost => left <= right,
            #[expect(clippy::float_cmp, reason = "PromQL's == is exact")]
            Comparison::Equal => left == right,
            #[expect(clippy::float_cmp, reason = "PromQL's != is exact")]
            Comparison::NotEqual => left != right,
        }
    }

    /// The same comparison with its sides exchanged.
    fn turned(self) -> Comparison {
        match self {
            Comparison::Above => Comparison::Below,
            Comparison::AtLeast => Comparison::AtMost,
            Comparison::Below => Comparison::Above,
            Comparison::AtMost => Comparison::AtLeast,
            Comparison::Equal | Comparison::NotEqual => self,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
    Compare(Comparison),
    And,
    Or,
    Unless,
}

/// Labels listed to be kept, or to be left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Grouping {
    /// `by`, `on`
    Only(Vec<Box<str>>),
    /// `without`, `ignoring`
    AllBut(Vec<Box<str>>),
}

impl Grouping {
    /// The part of a label set that is compared. `__name__` counts only where it is asked for by name.
    pub(super) fn key(&self, labels: &Labels) -> Labels {
        labels.filter(|label| self.takes(label))
    }

    /// Is this label one of those that tell groups apart?
    pub(super) fn takes(&self, label: &str) -> bool {
        match self {
            Grouping::Only(_) => self.lists(label),
            Grouping::AllBut(_) => label != "__name__" && !self.lists(label),
        }
    }

    /// Does the operator's list name this label?
    pub(super) fn lists(&self, label: &str) -> bool {
        let (Grouping::Only(names) | Grouping::AllBut(names)) = self;
        names.iter().any(|name| **name == *label)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cardinality {
    OneToOne,
    /// `group_left` with the labels taken over from the right side.
    ManyToOne(Vec<Box<str>>),
    /// `group_right` with the labels taken over from the left side.
    OneToMany(Vec<Box<str>>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Binary {
    pub operator: Operator,
    pub left: Node,
    pub right: Node,
    pub matching: Grouping,
    pub cardinality: Cardinality,
    /// `bool`: 0 or 1 instead of a filter.
    pub as_bool: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Aggregate {
    pub aggregator: Aggregator,
    pub of: Node,
    /// `k`, `q`, or the label of `count_values`.
    pub parameter: Option<Node>,
    pub grouping: Grouping,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RangeSelector {
    pub selector: Selector,
    pub range: Duration,
    pub when: When,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subquery {
    pub of: Node,
    pub range: Duration,
    pub step: Duration,
    pub when: When,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ratio {
    pub part: Selector,
    pub whole: Selector,
    pub window: Duration,
    pub min_events: f64,
    pub widen_to: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantile {
    /// The `_bucket` series.
    pub buckets: Selector,
    pub q: f64,
    pub window: Duration,
    pub min_events: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct BurnRate {
    pub part: Selector,
    pub whole: Selector,
    /// The share of events that may fail: 1 − the objective.
    pub budget: f64,
    pub min_events: f64,
}

/// Two windows that must both burn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurnWindows {
    /// How many times faster than the budget allows.
    pub factor: f64,
    pub long: Duration,
    pub short: Duration,
}

/// The two pairs that page: 2 % of a month's budget within an hour, 5 % within six. The short window ends the alert soon
/// after the burning does (The Site Reliability Workbook, chapter 5, table 5-8).
pub const BURN_PAIRS: [BurnWindows; 2] = [
    BurnWindows { factor: 14.4, long: Duration::from_hours(1), short: Duration::from_mins(5) },
    BurnWindows { factor: 6.0, long: Duration::from_hours(6), short: Duration::from_mins(30) },
];

/// The longest window of them.
fn longest_burn() -> Duration {
    BURN_PAIRS.iter().map(|pair| pair.long).max().unwrap_or_default()
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Number(f64),
    Text(Box<str>),
    Instant { selector: Selector, when: When },
    Range(RangeSelector),
    Subquery(Box<Subquery>),
    Negate(Box<Node>),
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call { function: Function, arguments: Vec<Node> },
    Ratio(Ratio),
    Increase { counter: Selector, window: Duration },
    Quantile(Quantile),
    Streak { probe: Selector, failures: u32, of: u32 },
    BurnRate(BurnRate),
}

/// What a selector needs the store to keep of the series that it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// So far back from the instant of evaluation.
    Reach(Duration),
    /// The newest sample, if it is within the lookback: nobody asks what was before it.
    Newest,
    /// The newest so many samples.
    Samples(u32),
}

/// One expression tree: PromQL, or one of the typed questions that are built from observed increases.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub(super) root: Node,
}

impl Expr {
    /// Parses PromQL; what backstop cannot evaluate is refused here, with the name of the thing.
    pub fn parse(text: &str) -> Result<Expr, ParseError> {
        parse::expression(text, parse::Times::Live).map(|root| Expr { root })
    }

    /// Like `parse`, and takes `@` with a fixed time too: for questions to a recording that is kept as a whole. A store
    /// built for such an expression never forgets what it selects.
    pub fn parse_recorded(text: &str) -> Result<Expr, ParseError> {
        parse::expression(text, parse::Times::Recorded).map(|root| Expr { root })
    }

    /// The same expression as one step of a range query: `@ start()` and `@ end()` mean its ends. Otherwise both mean the
    /// instant of the evaluation.
    #[must_use]
    pub fn between(&self, start: Timestamp, end: Timestamp) -> Expr {
        let mut root = self.root.clone();
        root.each_when(&mut |when| when.settle(start, end));
        Expr { root }
    }

    /// Does nothing in it look at a fixed time, or ahead of the instant of the evaluation?
    #[must_use]
    pub fn looks_only_back(&self) -> bool {
        let mut only_back = true;
        self.root.clone().each_when(&mut |when| only_back &= when.pin.is_none() && when.offset_ms >= 0);
        only_back
    }

    /// `lhs > 0.95` at the root, with a number (or constant expression) on one side: the other side, and the
    /// comparison turned so that the number is its right side. A comparison with `bool` is not split: it has a value
    /// of its own.
    #[must_use]
    pub fn split_comparison(&self) -> Option<(Expr, Comparison, f64)> {
        let Node::Binary(binary) = &self.root else { return None };
        let Operator::Compare(comparison) = binary.operator else { return None };
        if binary.as_bool {
            return None;
        }
        match (binary.left.constant(), binary.right.constant()) {
            (None, Some(limit)) => Some((Expr { root: binary.left.clone() }, comparison, limit)),
            (Some(limit), None) => Some((Expr { root: binary.right.clone() }, comparison.turned(), limit)),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }

    /// Observed increase of `part` ÷ observed increase of `whole`, both summed over all their series and targets.
    ///
    /// While `whole` has fewer than `min_events`, the window is doubled, up to `widen_to`.
    #[must_use]
    pub fn ratio(part: Selector, whole: Selector, window: Duration, min_events: f64, widen_to: Duration) -> Expr {
        Expr { root: Node::Ratio(Ratio { part, whole, window, min_events, widen_to }) }
    }

    /// Observed increase of a counter over `window`, summed over all its series and targets.
    #[must_use]
    pub fn increase(counter: Selector, window: Duration) -> Expr {
        Expr { root: Node::Increase { counter, window } }
    }

    /// `q` of a histogram's buckets, from observed increases summed by `le` over all targets.
    ///
    /// `histogram` names the histogram or its `_bucket` series. Refused: a `q` outside 0 to 1, a selector without a
    /// fixed name, and one that picks single buckets by `le`.
    #[expect(clippy::needless_pass_by_value, reason = "the typed questions take their selectors alike")]
    pub fn quantile(histogram: Selector, q: f64, window: Duration, min_events: f64) -> Result<Expr, ParseError> {
        let refuse = |message: String, help: &str| ParseError { message, span: None, help: Some(help.to_owned()) };
        if !(0.0..=1.0).contains(&q) {
            return Err(refuse(format!("a quantile lies between 0 and 1, not at {q}"), "For the p95 write 0.95."));
        }
        if histogram.constrains("le") {
            return Err(refuse(
                "a quantile needs all buckets, but the selector picks some by `le`".to_owned(),
                "Leave `le` out of the selector.",
            ));
        }
        let Some(name) = histogram.exact_name() else {
            return Err(refuse(
                "a quantile needs the name of one histogram".to_owned(),
                "Write the histogram's name, such as `http_request_duration_seconds`.",
            ));
        };
        let buckets =
            if name.ends_with("_bucket") { histogram.clone() } else { histogram.renamed(&format!("{name}_bucket")) };
        Ok(Expr { root: Node::Quantile(Quantile { buckets, q, window, min_events }) })
    }

    /// How fast an error budget burns, in the windows of [`BURN_PAIRS`]: the observed increase of `part` ÷ that of `whole`,
    /// ÷ the `budget` (1 − the objective). A long window counts from `min_events` of `whole` on. Refused: a budget that is
    /// not between 0 and 1.
    pub fn burn_rate(part: Selector, whole: Selector, budget: f64, min_events: f64) -> Result<Expr, ParseError> {
        if budget > 0.0 && budget < 1.0 {
            return Ok(Expr { root: Node::BurnRate(BurnRate { part, whole, budget, min_events }) });
        }
        Err(ParseError {
            message: format!("an error budget lies between 0 and 1, not at {budget}"),
            span: None,
            help: Some("An objective of 99.9 % leaves a budget of 0.001.".to_owned()),
        })
    }

    /// Per series: how many of its last `of` samples were zero; NaN while it has too few of them to tell whether these
    /// are `failures` or not.
    #[must_use]
    pub fn streak(probe: Selector, failures: u32, of: u32) -> Expr {
        Expr { root: Node::Streak { probe, failures, of } }
    }

    /// Every selector, in the order of the text.
    #[must_use]
    pub fn selectors(&self) -> Vec<&Selector> {
        self.needs().into_iter().map(|(selector, _)| selector).collect()
    }

    /// How far back evaluation may look. A `streak` looks back by samples, not by time, and counts as zero.
    #[must_use]
    pub fn reach(&self) -> Duration {
        self.needs()
            .into_iter()
            .map(|(_, need)| match need {
                Need::Reach(reach) => reach,
                Need::Newest => LOOKBACK,
                Need::Samples(_) => Duration::ZERO,
            })
            .max()
            .unwrap_or(Duration::ZERO)
    }

    /// Every selector, in the order of the text, and what must be kept for it.
    #[must_use]
    pub fn needs(&self) -> Vec<(&Selector, Need)> {
        let mut needs = Vec::new();
        self.root.collect_needs(0, &mut needs);
        needs
    }
}

impl Node {
    /// The value of an expression that rests on no data and no clock.
    pub(super) fn constant(&self) -> Option<f64> {
        match self {
            Node::Number(number) => Some(*number),
            Node::Negate(of) => of.constant().map(|number| -number),
            Node::Binary(binary) => {
                let (left, right) = (binary.left.constant()?, binary.right.constant()?);
                binary.operator.of_scalars(left, right)
            }
            Node::Call { function: Function::Pi, .. } => Some(std::f64::consts::PI),
            Node::Call { .. }
            | Node::Text(_)
            | Node::Instant { .. }
            | Node::Range(_)
            | Node::Subquery(_)
            | Node::Aggregate(_)
            | Node::Ratio(_)
            | Node::Increase { .. }
            | Node::Quantile(_)
            | Node::BurnRate(_)
            | Node::Streak { .. } => None,
        }
    }

    /// `beyond_ms`: how much further back than the instant asked for the surrounding subqueries go.
    fn collect_needs<'a>(&'a self, beyond_ms: i64, needs: &mut Vec<(&'a Selector, Need)>) {
        let reach = |range: Duration, when: When| {
            let back = millis(range).saturating_add(when.back_ms(beyond_ms));
            Need::Reach(Duration::from_millis(u64::try_from(back).unwrap_or(0)))
        };
        match self {
            Node::Number(_) | Node::Text(_) => {}
            Node::Instant { selector, when } if when.back_ms(beyond_ms) == 0 => needs.push((selector, Need::Newest)),
            Node::Instant { selector, when } => needs.push((selector, reach(LOOKBACK, *when))),
            Node::Range(range) => needs.push((&range.selector, reach(range.range, range.when))),
            Node::Subquery(subquery) => {
                let back = millis(subquery.range).saturating_add(subquery.when.back_ms(beyond_ms));
                subquery.of.collect_needs(back, needs);
            }
            Node::Negate(of) => of.collect_needs(beyond_ms, needs),
            Node::Binary(binary) => {
                binary.left.collect_needs(beyond_ms, needs);
                binary.right.collect_needs(beyond_ms, needs);
            }
            Node::Aggregate(aggregate) => {
                if let Some(parameter) = &aggregate.parameter {
                    parameter.collect_needs(beyond_ms, needs);
                }
                aggregate.of.collect_needs(beyond_ms, needs);
            }
            Node::Call { arguments, .. } => {
                for argument in arguments {
                    argument.collect_needs(beyond_ms, needs);
                }
            }
            Node::Ratio(ratio) => {
                let widest = ratio.window.max(ratio.widen_to);
                needs.push((&ratio.part, reach(widest, When::NOW)));
                needs.push((&ratio.whole, reach(widest, When::NOW)));
            }
            Node::Increase { counter, window } => needs.push((counter, reach(*window, When::NOW))),
            Node::Quantile(quantile) => needs.push((&quantile.buckets, reach(quantile.window, When::NOW))),
            Node::BurnRate(burn) => {
                needs.push((&burn.part, reach(longest_burn(), When::NOW)));
                needs.push((&burn.whole, reach(longest_burn(), When::NOW)));
            }
            Node::Streak { probe, of, .. } => needs.push((probe, Need::Samples(*of))),
        }
    }
}

impl Node {
    /// Every selector's and subquery's own place in time.
    fn each_when(&mut self, change: &mut impl FnMut(&mut When)) {
        match self {
            Node::Number(_)
            | Node::Text(_)
            | Node::Ratio(_)
            | Node::Increase { .. }
            | Node::Quantile(_)
            | Node::BurnRate(_)
            | Node::Streak { .. } => {}
            Node::Instant { when, .. } => change(when),
            Node::Range(range) => change(&mut range.when),
            Node::Subquery(subquery) => {
                change(&mut subquery.when);
                subquery.of.each_when(change);
            }
            Node::Negate(of) => of.each_when(change),
            Node::Binary(binary) => {
                binary.left.each_when(change);
                binary.right.each_when(change);
            }
            Node::Aggregate(aggregate) => {
                if let Some(parameter) = &mut aggregate.parameter {
                    parameter.each_when(change);
                }
                aggregate.of.each_when(change);
            }
            Node::Call { arguments, .. } => arguments.iter_mut().for_each(|argument| argument.each_when(change)),
        }
    }
}

impl Operator {
    /// What it makes of two numbers; comparisons make 0 or 1, set operators do not take numbers.
    pub(super) fn of_scalars(self, left: f64, right: f64) -> Option<f64> {
        match self {
            Operator::Compare(comparison) => Some(f64::from(u8::from(comparison.holds(left, right)))),
            Operator::Add => Some(left + right),
            Operator::Subtract => Some(left - right),
            Operator::Multiply => Some(left * right),
            Operator::Divide => Some(left / right),
            Operator::Modulo => Some(left % right),
            // C's `pow` makes NaN of a signaling one here, Go's does not.
            Operator::Power if right == 0.0 || left.to_bits() == 1.0_f64.to_bits() => Some(1.0),
            Operator::Power => Some(left.powf(right)),
            Operator::Atan2 => Some(left.atan2(right)),
            Operator::And | Operator::Or | Operator::Unless => None,
        }
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The instant vector that a selector gives: what a release detector reads.
impl From<Selector> for Expr {
    fn from(selector: Selector) -> Expr {
        Expr { root: Node::Instant { selector, when: When::NOW } }
    }
}
