//! The typed questions: ratios, increases and quantiles of what was observed, and streaks of failures.

use std::collections::BTreeMap;
use std::time::Duration;

use super::aggregate::{count, sum};
use super::histogram::{Bucket, bound, bucket_quantile};
use super::{BurnPair, Context, Found, RatioParts, Sample, Through, Val};
use crate::promql::expr::{BURN_PAIRS, BurnRate, LOOKBACK, Quantile, Ratio};
use crate::promql::store::{Series, Target};
use crate::promql::{Labels, Selector};
use crate::time::Timestamp;

pub(super) struct Answer {
    pub value: Option<f64>,
    pub ratio: Option<RatioParts>,
    pub events: Option<(f64, f64)>,
    pub window: Duration,
    pub burn: Option<(Vec<BurnPair>, f64)>,
    pub bound: Option<f64>,
}

impl Answer {
    pub fn into_val(self) -> Val {
        let samples = self.value.map(|value| Sample::bare(Labels::default(), value));
        Val::Vector(samples.into_iter().collect())
    }
}

/// The observed increase of each series that has a sample in the window.
fn increases<'a>(
    context: Context<'a>,
    selector: &'a Selector,
    window: Duration,
    at: Timestamp,
    mut each: impl FnMut(&'a Series, f64),
) {
    let (mut watched, mut found) = (Watched::default(), Found::default());
    context.store.select(context.service, selector, |target, series| {
        let watched = |before| watched.until(target, series.own, before);
        if let Some((increase, newest)) = target.ring(series).observed_increase(at - window, at, watched) {
            found.note(newest);
            each(series, increase);
        }
    });
    context.looked(selector, Through::Window(at - window, at), found);
}

/// Whether a target was watched until just before an instant. The series of a target mostly share their instants, so
/// that what was found for one is right for the next.
#[derive(Default)]
struct Watched<'a> {
    last: Option<(&'a Target, bool, Timestamp, bool)>,
}

impl<'a> Watched<'a> {
    fn until(&mut self, target: &'a Target, own: bool, at: Timestamp) -> bool {
        match self.last {
            Some((of, by, before, watched)) if std::ptr::eq(of, target) && by == own && before == at => watched,
            _ => {
                let watched = target.was_watched_until(own, at);
                self.last = Some((target, own, at, watched));
                watched
            }
        }
    }
}

/// Each series first, then the sum over all targets; nothing if no series has a sample in the window.
fn observed<'a>(context: Context<'a>, selector: &'a Selector, window: Duration, at: Timestamp) -> Option<f64> {
    let mut all: Vec<f64> = Vec::new();
    increases(context, selector, window, at, |_, increase| all.push(increase));
    if all.is_empty() { None } else { Some(sum(&all)) }
}

/// Both sides over the same window. While there are too few events the window doubles, up to `widen_to`.
pub(super) fn ratio<'a>(context: Context<'a>, ratio: &'a Ratio, at: Timestamp) -> Answer {
    let mut window = ratio.window;
    let mut whole = observed(context, &ratio.whole, window, at);
    while whole.unwrap_or(0.0) < ratio.min_events && window < ratio.widen_to {
        window = window.saturating_mul(2).clamp(Duration::from_millis(1), ratio.widen_to);
        whole = observed(context, &ratio.whole, window, at);
    }
    let part = observed(context, &ratio.part, window, at);
    let part_ever = context.store.series_ever(context.service, &ratio.part) > 0;
    Answer {
        value: whole.map(|whole| part.unwrap_or(0.0) / whole),
        ratio: Some(RatioParts { part, whole, part_ever }),
        events: Some((whole.unwrap_or(0.0), ratio.min_events)),
        window,
        burn: None,
        bound: None,
    }
}

/// The value: how much of the burn that pages is reached, in the pair that is nearest to it; nothing without any `whole`.
/// Events are those of the shortest long window.
pub(super) fn burn_rate<'a>(context: Context<'a>, burn: &'a BurnRate, at: Timestamp) -> Answer {
    let part_ever = context.store.series_ever(context.service, &burn.part) > 0;
    let over = |window| RatioParts {
        part: observed(context, &burn.part, window, at),
        whole: observed(context, &burn.whole, window, at),
        part_ever,
    };
    let pairs: Vec<BurnPair> = BURN_PAIRS
        .iter()
        .map(|windows| BurnPair { windows: *windows, long: over(windows.long), short: over(windows.short) })
        .collect();
    let rate = |parts: RatioParts| Some(parts.part.unwrap_or(0.0) / parts.whole? / burn.budget);
    let reached = pairs.iter().filter_map(|pair| Some(rate(pair.long)?.min(rate(pair.short)?) / pair.windows.factor));
    Answer {
        value: reached.reduce(f64::max),
        ratio: None,
        events: pairs.first().map(|pair| (pair.long.whole.unwrap_or(0.0), burn.min_events)),
        window: pairs.iter().map(|pair| pair.windows.long).max().unwrap_or_default(),
        burn: Some((pairs, burn.budget)),
        bound: None,
    }
}

pub(super) fn increase<'a>(context: Context<'a>, counter: &'a Selector, window: Duration, at: Timestamp) -> Answer {
    Answer { value: observed(context, counter, window, at), ratio: None, events: None, window, burn: None, bound: None }
}

/// Without observations there is no quantile: NaN, with zero events.
pub(super) fn quantile<'a>(context: Context<'a>, quantile: &'a Quantile, at: Timestamp) -> Answer {
    let mut by_bound: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    increases(context, &quantile.buckets, quantile.window, at, |series, increase| {
        if let Some(le) = series.labels.get("le") {
            by_bound.entry(le).or_default().push(increase);
        }
    });
    let buckets: Vec<Bucket> = by_bound
        .iter()
        .filter_map(|(le, increases)| Some(Bucket { upper: bound(le)?, count: sum(increases) }))
        .collect();
    let finite = buckets.iter().map(|bucket| bucket.upper).filter(|upper| upper.is_finite());
    let bound = finite.reduce(f64::max);
    let infinite = buckets.iter().filter(|bucket| bucket.upper == f64::INFINITY).map(|bucket| bucket.count);
    let events: f64 = infinite.sum();
    let value = if buckets.is_empty() { None } else { Some(bucket_quantile(quantile.q, buckets)) };
    Answer {
        value,
        ratio: None,
        events: Some((events, quantile.min_events)),
        window: quantile.window,
        burn: None,
        bound,
    }
}

/// Zeros among the newest `of` samples. Samples count as one run while they are at most two and a half intervals
/// apart: what was before a hole, such as downtime of the daemon, earns nothing. A run that is still too short to tell
/// on which side of `failures` it will be gives NaN, since "not known yet" is not "no such series".
pub(super) fn streak(context: Context<'_>, probe: &Selector, failures: u32, of: u32, at: Timestamp) -> Vec<Sample> {
    let failures = failures as usize;
    let of = of.max(1) as usize;
    let mut out = Vec::new();
    context.store.select(context.service, probe, |target, series| {
        let tolerance = target.tolerance();
        let points = target.ring(series).points().rev().skip_while(|point| point.at > at);
        let mut run: Vec<f64> = Vec::with_capacity(of);
        let mut next = None;
        for point in points.take(of) {
            let reach = next.map_or(tolerance.max(LOOKBACK), |_| tolerance);
            if point.value.is_nan() || next.unwrap_or(at).since(point.at) > reach {
                break;
            }
            run.push(point.value);
            next = Some(point.at);
        }
        if run.is_empty() && !(target.attached && series.is_live()) {
            return;
        }
        let zeros = run.iter().filter(|value| **value == 0.0).count();
        let is_told = zeros >= failures || zeros + (of - run.len()) < failures;
        let value = if is_told { count(zeros) } else { f64::NAN };
        out.push(Sample::bare(series.labels.nameless(), value));
    });
    out
}
