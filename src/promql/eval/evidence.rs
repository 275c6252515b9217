//! What each selector of an expression rests on, so that "no such series" and "we do not know" stay different.

use std::time::Duration;

use super::{Context, Found, Through};
use crate::promql::Selector;
use crate::promql::expr::{BURN_PAIRS, Function, LOOKBACK, Node, When};
use crate::promql::store::Target;
use crate::time::Timestamp;

/// What one selector of an expression rests on at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectorEvidence {
    /// The selector as it is written in PromQL.
    pub selector: String,
    /// Targets that could have such series: those of every source (scrape or probe) in scope whose labels do not
    /// contradict the selector and on some target of which the metric's name was ever seen. Under `absent()`, while no
    /// source has ever shown the name, those of every source that the selector does not contradict.
    pub targets: u32,
    /// Of these, how many were scraped successfully within two of their intervals. For series that backstop itself
    /// makes, its newest sample counts: a refused probe is data. For an instant selector a failed scrape ends freshness
    /// at once, since the series of the target are stale from then on.
    pub targets_fresh: u32,
    /// Of the fresh ones, how many have shown the metric's name since their windows began.
    pub targets_seen: u32,
    /// Series that match now: with a sample within the lookback, or in the window.
    pub series_now: u32,
    /// Series that have matched since the daemon first started, on any target of the service.
    pub series_ever: u64,
    /// How much of `window` was observed, by the targets in scope (of the scope, not of each series): the mean over the
    /// fresh targets.
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
    /// was observed. Under `absent()` the metric need not have been shown.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        let enough = |of: u32| u64::from(of) * 5 >= u64::from(self.targets) * 4;
        if self.targets == 0 {
            Some(Gap::Missing)
        } else if !enough(self.targets_fresh) {
            Some(Gap::Stale)
        } else if !self.may_be_absent && !enough(self.targets_seen) {
            Some(Gap::Missing)
        } else if self.observed.as_millis() * 5 < self.window.as_millis() * 4 {
            Some(Gap::NotYetCovered)
        } else {
            None
        }
    }
}

/// The evidence of every selector, in the order of the text. `typed_window`: the window that a typed question at the
/// root used.
pub(super) fn of(context: Context<'_>, root: &Node, at: Timestamp, typed_window: Duration) -> Vec<SelectorEvidence> {
    let mut walk = Walk { context, now: at, typed_window, out: Vec::new() };
    walk.node(root, Frame { until: at, beyond: Duration::ZERO, may_be_absent: false });
    walk.out
}

/// What surrounds a node.
#[derive(Clone, Copy)]
struct Frame {
    until: Timestamp,
    /// The range of the subqueries around it.
    beyond: Duration,
    may_be_absent: bool,
}

/// How a selector looks at its series.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Instant,
    Window(Duration),
    Newest,
}

struct Walk<'a> {
    context: Context<'a>,
    now: Timestamp,
    typed_window: Duration,
    out: Vec<SelectorEvidence>,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, frame: Frame) {
        let back = |when: When| Frame {
            until: self.context.instant(when, frame.until),
            beyond: if when.pin.is_some() { Duration::ZERO } else { frame.beyond },
            ..frame
        };
        match node {
            Node::Number(_) | Node::Text(_) => {}
            Node::Instant { selector, when } => self.selector(selector, Look::Instant, back(*when)),
            Node::Range(range) => self.selector(&range.selector, Look::Window(range.range), back(range.when)),
            Node::Subquery(subquery) => {
                let frame = back(subquery.when);
                self.node(&subquery.of, Frame { beyond: frame.beyond.saturating_add(subquery.range), ..frame });
            }
            Node::Negate(of) => self.node(of, frame),
            Node::Binary(binary) => {
                self.node(&binary.left, frame);
                self.node(&binary.right, frame);
            }
            Node::Aggregate(aggregate) => {
                if let Some(parameter) = &aggregate.parameter {
                    self.node(parameter, frame);
                }
                self.node(&aggregate.of, frame);
            }
            Node::Call { function, arguments } => {
                let absent = matches!(function, Function::Absent | Function::AbsentOverTime);
                let frame = Frame { may_be_absent: frame.may_be_absent || absent, ..frame };
                for argument in arguments {
                    self.node(argument, frame);
                }
            }
            Node::Ratio(ratio) => {
                let window = self.typed_window.max(ratio.window);
                self.selector(&ratio.part, Look::Window(window), frame);
                self.selector(&ratio.whole, Look::Window(window), frame);
            }
            Node::Increase { counter, window } => self.selector(counter, Look::Window(*window), frame),
            Node::Quantile(quantile) => self.selector(&quantile.buckets, Look::Window(quantile.window), frame),
            Node::BurnRate(burn) => {
                for window in BURN_PAIRS.iter().flat_map(|pair| [pair.long, pair.short]) {
                    self.selector(&burn.part, Look::Window(window), frame);
                    self.selector(&burn.whole, Look::Window(window), frame);
                }
            }
            Node::Streak { probe, .. } => self.selector(probe, Look::Newest, frame),
        }
    }

    fn selector(&mut self, selector: &Selector, look: Look, frame: Frame) {
        let range = match look {
            Look::Window(range) => range,
            Look::Instant | Look::Newest => Duration::ZERO,
        };
        let window = range.saturating_add(frame.beyond);
        let after = frame.until - window;
        let looks_at_instant = look == Look::Instant && window.is_zero();
        let targets = self.targets(selector, frame.may_be_absent);
        let fresh: Vec<&(&Target, bool)> = targets
            .iter()
            .filter(|(target, own)| {
                let within = target.meta.interval.saturating_mul(2);
                let failed = looks_at_instant && !own && target.failing;
                !failed && target.watch(*own).newest().is_some_and(|newest| self.now.since(newest) <= within)
            })
            .collect();
        let seen = fresh.iter().filter(|(target, _)| shows(target, selector)).count();
        let observers: Vec<&(&Target, bool)> = if fresh.is_empty() { targets.iter().collect() } else { fresh.clone() };
        let observed: u128 =
            observers.iter().map(|(target, own)| target.observed(*own, after, frame.until).as_millis()).sum();
        let mean = observed / u128::try_from(observers.len().max(1)).unwrap_or(u128::MAX);

        let through = match look {
            Look::Newest => None,
            Look::Instant if looks_at_instant => Some(Through::Instant(frame.until)),
            Look::Instant | Look::Window(_) => Some(Through::Window(after, frame.until)),
        };
        let known = through.and_then(|through| self.context.found(selector, through));
        let found = known.unwrap_or_else(|| self.search(selector, through, frame.until));
        self.out.push(SelectorEvidence {
            selector: selector.to_string(),
            targets: number(targets.len()),
            targets_fresh: number(fresh.len()),
            targets_seen: number(seen),
            series_now: found.series,
            series_ever: self.context.store.series_ever(self.context.service, selector),
            observed: Duration::from_millis(u64::try_from(mean).unwrap_or(u64::MAX)).min(window),
            window,
            newest: found.newest,
            may_be_absent: frame.may_be_absent,
        });
    }

    /// `through`: nothing for the newest sample, however old it is.
    fn search(&self, selector: &Selector, through: Option<Through>, until: Timestamp) -> Found {
        let mut found = Found::default();
        self.context.store.select(self.context.service, selector, |target, series| {
            let ring = target.ring(series);
            let point = match through {
                None => ring.at(until),
                Some(Through::Instant(at)) => ring.at(at).filter(|point| point.at > at - LOOKBACK),
                Some(Through::Window(after, until)) => ring.newest_in(after, until),
            };
            if let Some(point) = point {
                found.note(point.at);
            }
        });
        found
    }

    /// The targets that could have such series, and whether backstop itself makes these.
    fn targets(&self, selector: &Selector, may_be_absent: bool) -> Vec<(&Target, bool)> {
        let store = self.context.store;
        let in_scope = store.seen_by(self.context.service);
        let possible: Vec<(&Target, Option<bool>)> = in_scope
            .filter(|target| target.attached && !selector.contradicts(&target.meta.labels))
            .map(|target| (target, store.source_has(&target.meta, selector)))
            .collect();
        let nobody_knows = possible.iter().all(|(_, known)| known.is_none());
        possible
            .into_iter()
            .filter_map(|(target, known)| match known {
                Some(own) => Some((target, own)),
                // A probe's target has no scrapes: there the samples of our own tell whether it is watched.
                None if may_be_absent && nobody_knows => Some((target, target.scrapes.newest().is_none())),
                None => None,
            })
            .collect()
    }
}

fn shows(target: &Target, selector: &Selector) -> bool {
    match selector.exact_name() {
        Some(name) => target.shown.contains(name),
        None => target.shown.iter().any(|name| selector.matches_name(name)),
    }
}

fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
