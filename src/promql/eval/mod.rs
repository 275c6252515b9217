//! The evaluation of an expression at one instant, with the evidence that it rests on.

mod aggregate;
mod annotation;
mod binary;
mod dates;
mod evidence;
mod functions;
mod histogram;
mod labelled;
mod ranges;
#[cfg(test)]
mod tests;
mod typed;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::expr::{Aggregator, BurnWindows, Function, LOOKBACK, Node, When};
use super::store::{Point, Series, Store};
use super::{Expr, Labels, Selector, ServiceId};
use crate::time::Timestamp;
pub use aggregate::go_number;
pub use annotation::Annotation;
pub use evidence::{Gap, SelectorEvidence};

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
    /// Sorted by label set, so that equal inputs give equal outputs; in the order of the values where the root of the
    /// expression is `sort`, `sort_desc`, `topk` or `bottomk`.
    Vector(Vec<(Labels, f64)>),
}

/// The two sides of a `ratio`, as observed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioParts {
    /// `None` when no series matches now: none has a sample in the window.
    pub part: Option<f64>,
    pub whole: Option<f64>,
    /// Whether `part` has ever matched on this service.
    pub part_ever: bool,
}

/// Both windows of one pair of a `burn_rate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurnPair {
    pub windows: BurnWindows,
    pub long: RatioParts,
    pub short: RatioParts,
}

/// A value and what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// A typed question over all targets gives a vector with one empty label set, or an empty one where no series
    /// matches (for `ratio`: no series of `whole`; a missing `part` counts as zero here, `ratio.part` tells).
    pub value: Value,
    pub evidence: Vec<SelectorEvidence>,
    /// Only for `ratio` at the root.
    pub ratio: Option<RatioParts>,
    /// Events that the value was computed from, and how many it takes to trust it: `ratio` and `quantile`.
    pub events: Option<(f64, f64)>,
    /// The window that was used (a `ratio` may have widened it); zero where there is none.
    pub window: Duration,
    /// Only for `burn_rate` at the root: its pairs, and the budget. The evidence then has four entries for each: `part` and
    /// `whole` of the long window, `part` and `whole` of the short one.
    pub burn: Option<(Vec<BurnPair>, f64)>,
    /// Only for `quantile` at the root: the highest finite bound of its buckets. No quantile is ever above it, so that a
    /// value there may stand for any that is higher.
    pub bound: Option<f64>,
    /// What Prometheus would remark of this evaluation, in order; empty for the typed questions.
    pub annotations: Vec<Annotation>,
}

/// What only data can cause, such as a duplicate series on the "one" side of a match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

/// Evaluates what `service` sees (its own targets and shared ones) at an instant. What can be known from the expression
/// is refused by `Expr::parse`; a many-to-many match or the like, which only data can cause, is an `EvalError`.
pub fn evaluate(expr: &Expr, store: &Store, service: ServiceId, at: Instant) -> Result<Evaluation, EvalError> {
    let (annotations, looks) = (RefCell::default(), RefCell::default());
    let (top, wall_offset_ms) = (at.at, at.wall_offset_ms);
    let context = Context { store, service, top, wall_offset_ms, annotations: &annotations, looks: &looks };
    let answer = match &expr.root {
        Node::Ratio(ratio) => Some(typed::ratio(context, ratio, at.at)),
        Node::Increase { counter, window } => Some(typed::increase(context, counter, *window, at.at)),
        Node::Quantile(quantile) => Some(typed::quantile(context, quantile, at.at)),
        Node::BurnRate(burn) => Some(typed::burn_rate(context, burn, at.at)),
        Node::Streak { .. }
        | Node::Number(_)
        | Node::Text(_)
        | Node::Instant { .. }
        | Node::Range(_)
        | Node::Subquery(_)
        | Node::Negate(_)
        | Node::Binary(_)
        | Node::Aggregate(_)
        | Node::Call { .. } => None,
    };
    if let Some(answer) = answer {
        let evidence = evidence::of(context, &expr.root, at.at, answer.window);
        let value = Value::Vector(answer.value.map(|value| (Labels::default(), value)).into_iter().collect());
        return Ok(Evaluation {
            value,
            evidence,
            ratio: answer.ratio,
            events: answer.events,
            window: answer.window,
            burn: answer.burn,
            bound: answer.bound,
            annotations: Vec::new(),
        });
    }
    let value = match context.eval(&expr.root, at.at)? {
        Val::Scalar(number) => Value::Scalar(number),
        Val::Vector(samples) => Value::Vector(arranged(&expr.root, samples)?),
        Val::Text(_) => return Err(EvalError("the expression is a string".to_owned())),
    };
    let evidence = evidence::of(context, &expr.root, at.at, Duration::ZERO);
    let window = evidence.iter().map(|one| one.window).max().unwrap_or(Duration::ZERO);
    let annotations = annotations.take().into_iter().collect();
    Ok(Evaluation { value, evidence, ratio: None, events: None, window, burn: None, bound: None, annotations })
}

fn arranged(root: &Node, samples: Vec<Sample>) -> Result<Vec<(Labels, f64)>, EvalError> {
    let mut rows: Vec<(Labels, f64)> = samples.into_iter().map(Sample::shown).collect();
    let by_value = match root {
        Node::Call { function, .. } => matches!(function, Function::Sort | Function::SortDesc),
        Node::Aggregate(aggregate) => matches!(aggregate.aggregator, Aggregator::Topk | Aggregator::Bottomk),
        Node::Number(_)
        | Node::Text(_)
        | Node::Instant { .. }
        | Node::Range(_)
        | Node::Subquery(_)
        | Node::Negate(_)
        | Node::Binary(_)
        | Node::Ratio(_)
        | Node::Increase { .. }
        | Node::Quantile(_)
        | Node::BurnRate(_)
        | Node::Streak { .. } => false,
    };
    if by_value {
        unique(rows.iter().map(|row| &row.0))?;
    } else {
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(twice(&pair[0].0));
        }
    }
    Ok(rows)
}

#[derive(Clone, Debug)]
struct Sample {
    labels: Labels,
    value: f64,
    /// It is another quantity than its metric: the name goes at the end, as in Prometheus under delayed name removal. Until
    /// then `label_replace`, `by (__name__)` and the like see it.
    drops_name: bool,
}

impl Sample {
    /// A value that no metric has: of a number, a group, a calendar.
    fn bare(labels: Labels, value: f64) -> Sample {
        Sample { labels, value, drops_name: false }
    }

    /// Another quantity of the same series.
    fn turned(self, value: f64) -> Sample {
        Sample { value, drops_name: true, ..self }
    }

    fn shown(self) -> (Labels, f64) {
        (if self.drops_name { self.labels.nameless() } else { self.labels }, self.value)
    }
}

#[derive(Clone, Debug)]
enum Val {
    Scalar(f64),
    Vector(Vec<Sample>),
    Text(Box<str>),
}

impl Val {
    fn vector(self) -> Result<Vec<Sample>, EvalError> {
        match self {
            Val::Vector(samples) => Ok(samples),
            Val::Scalar(_) | Val::Text(_) => Err(EvalError("a vector was expected".to_owned())),
        }
    }

    fn scalar(self) -> Result<f64, EvalError> {
        match self {
            Val::Scalar(number) => Ok(number),
            Val::Vector(_) | Val::Text(_) => Err(EvalError("a scalar was expected".to_owned())),
        }
    }

    fn text(self) -> Result<Box<str>, EvalError> {
        match self {
            Val::Text(text) => Ok(text),
            Val::Scalar(_) | Val::Vector(_) => Err(EvalError("a string was expected".to_owned())),
        }
    }
}

#[derive(Clone, Copy)]
struct Context<'a> {
    store: &'a Store,
    service: ServiceId,
    /// The instant of the whole expression, whatever subquery surrounds.
    top: Timestamp,
    wall_offset_ms: i64,
    annotations: &'a RefCell<BTreeSet<Annotation>>,
    /// What the value was computed from, for the evidence: to go through all windows again would cost as much as the value.
    looks: &'a RefCell<Vec<Look<'a>>>,
}

/// What a selector found in a window.
#[derive(Clone, Copy)]
struct Look<'a> {
    selector: &'a Selector,
    through: Through,
    found: Found,
}

/// The part of time that a selector looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    /// The newest sample at or before this instant, within the lookback: a series that has ended is not seen.
    Instant(Timestamp),
    /// After the first instant, until the second one.
    Window(Timestamp, Timestamp),
}

/// Series with a sample in the window, and the newest of these samples.
#[derive(Clone, Copy, Default)]
struct Found {
    series: u32,
    newest: Option<Timestamp>,
}

impl Found {
    fn note(&mut self, newest: Timestamp) {
        self.series = self.series.saturating_add(1);
        self.newest = self.newest.max(Some(newest));
    }
}

/// More looks are not kept. A subquery looks thousands of times, and its evidence is of another window than each of them.
const LOOKS_MAX: usize = 16;

impl<'a> Context<'a> {
    fn eval(self, node: &'a Node, at: Timestamp) -> Result<Val, EvalError> {
        match node {
            Node::Number(number) => Ok(Val::Scalar(*number)),
            Node::Text(text) => Ok(Val::Text(text.clone())),
            Node::Instant { selector, when } => {
                let mut samples = Vec::new();
                self.points(selector, *when, at, |series, point| {
                    samples.push(Sample::bare(series.labels.clone(), point.value));
                });
                Ok(Val::Vector(samples))
            }
            Node::Range(_) | Node::Subquery(_) => Err(EvalError("a range of samples is not a value".to_owned())),
            Node::Negate(of) => match self.eval(of, at)? {
                Val::Scalar(number) => Ok(Val::Scalar(-number)),
                Val::Vector(samples) => Ok(Val::Vector(
                    samples
                        .into_iter()
                        .map(|sample| {
                            let value = -sample.value;
                            sample.turned(value)
                        })
                        .collect(),
                )),
                Val::Text(_) => Err(EvalError("a string has no sign".to_owned())),
            },
            Node::Binary(binary) => binary::eval(self, binary, at),
            Node::Aggregate(aggregate) => aggregate::eval(self, aggregate, at).map(Val::Vector),
            Node::Call { function, arguments } => functions::call(self, *function, arguments, at),
            Node::Ratio(ratio) => Ok(typed::ratio(self, ratio, at).into_val()),
            Node::Increase { counter, window } => Ok(typed::increase(self, counter, *window, at).into_val()),
            Node::Quantile(quantile) => Ok(typed::quantile(self, quantile, at).into_val()),
            Node::BurnRate(burn) => Ok(typed::burn_rate(self, burn, at).into_val()),
            Node::Streak { probe, failures, of } => Ok(Val::Vector(typed::streak(self, probe, *failures, *of, at))),
        }
    }

    /// The newest samples of an instant selector, as far as they are within the lookback.
    fn points(self, selector: &'a Selector, when: When, at: Timestamp, mut each: impl FnMut(&'a Series, Point)) {
        let at = self.instant(when, at);
        let mut found = Found::default();
        self.store.select(self.service, selector, |target, series| {
            if let Some(point) = target.ring(series).at(at).filter(|point| point.at > at - LOOKBACK) {
                found.note(point.at);
                each(series, point);
            }
        });
        self.looked(selector, Through::Instant(at), found);
    }

    fn looked(self, selector: &'a Selector, through: Through, found: Found) {
        let mut looks = self.looks.borrow_mut();
        if looks.len() < LOOKS_MAX {
            looks.push(Look { selector, through, found });
        }
    }

    /// What was found when the value was computed; nothing if it did not look there.
    fn found(self, selector: &Selector, through: Through) -> Option<Found> {
        let looks = self.looks.borrow();
        let same = |look: &&Look<'_>| look.through == through && look.selector == selector;
        looks.iter().find(same).map(|look| look.found)
    }

    /// The instant that a selector or a subquery looks at.
    fn instant(self, when: When, at: Timestamp) -> Timestamp {
        when.instant(at, self.top, self.wall_offset_ms)
    }

    fn check_quantile(self, q: f64) {
        if !(0.0..=1.0).contains(&q) {
            self.annotate(Annotation::invalid_quantile(q));
        }
    }

    fn annotate(self, annotation: Annotation) {
        self.annotations.borrow_mut().insert(annotation);
    }

    fn wall_secs(self, at: Timestamp) -> f64 {
        at.plus_millis(self.wall_offset_ms).as_secs_f64()
    }
}

/// Two results of the same label set cannot be told apart.
fn unique<'a>(labels: impl Iterator<Item = &'a Labels>) -> Result<(), EvalError> {
    let mut seen = HashSet::new();
    for one in labels {
        if !seen.insert(one) {
            return Err(twice(one));
        }
    }
    Ok(())
}

fn twice(labels: &Labels) -> EvalError {
    EvalError(format!("vector cannot contain metrics with the same labelset: {labels}"))
}
