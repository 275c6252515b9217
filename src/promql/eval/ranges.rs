//! Functions of ranges of samples: `rate` and its siblings, and `…_over_time`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::aggregate::{add, count};
use super::{Context, EvalError, Found, Sample, Through};
use crate::promql::Labels;
use crate::promql::expr::{Node, millis};
use crate::promql::store::{Point, Span, Window, span_of};
use crate::time::Timestamp;

/// A subquery holds all its samples at once: eight megabytes of them. How many series there are, only data can tell.
const SUBQUERY_SAMPLES_MAX: usize = 500_000;

/// The samples of one series in a range.
pub(super) enum Points<'a> {
    Kept(Window<'a>),
    /// Computed by a subquery.
    Made(Vec<Point>),
}

impl Points<'_> {
    fn to_vec(&self) -> Vec<Point> {
        match self {
            Points::Kept(window) => window.points().collect(),
            Points::Made(points) => points.clone(),
        }
    }

    fn newest_two(&self) -> Option<(Point, Point)> {
        match self {
            Points::Kept(window) => {
                let mut newest = window.points().rev();
                let last = newest.next()?;
                Some((newest.next()?, last))
            }
            Points::Made(points) => match points.as_slice() {
                [.., before, last] => Some((*before, *last)),
                [] | [_] => None,
            },
        }
    }

    fn span(&self) -> Option<Span> {
        match self {
            Points::Kept(window) => window.span(),
            Points::Made(points) => span_of(points),
        }
    }
}

/// A range vector: only series with a sample in `(after, until]`.
pub(super) struct Ranges<'a> {
    after: Timestamp,
    until: Timestamp,
    range: Duration,
    pub series: Vec<Range<'a>>,
}

/// One series of it.
pub(super) struct Range<'a> {
    labels: Labels,
    drops_name: bool,
    points: Points<'a>,
}

impl Range<'_> {
    fn turned(&self, value: f64) -> Sample {
        Sample { labels: self.labels.clone(), value, drops_name: true }
    }
}

pub(super) fn of<'a>(context: Context<'a>, node: &'a Node, at: Timestamp) -> Result<Ranges<'a>, EvalError> {
    match node {
        Node::Range(range) => {
            let until = context.instant(range.when, at);
            let after = until - range.range;
            let (mut series, mut found) = (Vec::new(), Found::default());
            context.store.select(context.service, &range.selector, |target, one| {
                let window = target.ring(one).window(after, until);
                if let Some(newest) = window.points().next_back() {
                    found.note(newest.at);
                    let points = Points::Kept(window);
                    series.push(Range { labels: one.labels.clone(), drops_name: false, points });
                }
            });
            context.looked(&range.selector, Through::Window(after, until), found);
            Ok(Ranges { after, until, range: range.range, series })
        }
        Node::Subquery(subquery) => {
            let until = context.instant(subquery.when, at);
            let after = until - subquery.range;
            let step = millis(subquery.step).max(1);
            let mut made: BTreeMap<Labels, (Vec<Point>, bool)> = BTreeMap::new();
            // Steps stand at multiples of the step on the wall's clock, as in Prometheus.
            let wall_after = after.plus_millis(context.wall_offset_ms).as_millis();
            let past = wall_after.rem_euclid(step);
            let mut instant = after.plus_millis(step - past);
            let mut left = SUBQUERY_SAMPLES_MAX;
            while instant <= until {
                let samples = context.eval(&subquery.of, instant)?.vector()?;
                left = left
                    .checked_sub(samples.len())
                    .ok_or_else(|| EvalError(format!("a subquery makes more than {SUBQUERY_SAMPLES_MAX} samples")))?;
                for sample in samples {
                    let (points, drops_name) = made.entry(sample.labels).or_default();
                    points.push(Point { at: instant, value: sample.value });
                    *drops_name = sample.drops_name;
                }
                instant = instant.plus_millis(step);
            }
            let made = made.into_iter().map(|(labels, (points, drops_name))| Range {
                labels,
                drops_name,
                points: Points::Made(points),
            });
            let series = made.collect();
            Ok(Ranges { after, until, range: subquery.range, series })
        }
        Node::Number(_)
        | Node::Text(_)
        | Node::Instant { .. }
        | Node::Negate(_)
        | Node::Binary(_)
        | Node::Aggregate(_)
        | Node::Call { .. }
        | Node::Ratio(_)
        | Node::Increase { .. }
        | Node::Quantile(_)
        | Node::BurnRate(_)
        | Node::Streak { .. } => Err(EvalError("a range of samples was expected".to_owned())),
    }
}

/// What a function makes of the samples of one series; nothing if there are too few.
pub(super) type OfRange = fn(&Ranges<'_>, &Points<'_>) -> Option<f64>;

pub(super) fn each<'a>(
    context: Context<'a>,
    argument: &'a Node,
    at: Timestamp,
    keeps_name: bool,
    value: OfRange,
) -> Result<Vec<Sample>, EvalError> {
    let ranges = of(context, argument, at)?;
    let mut out = Vec::with_capacity(ranges.series.len());
    for range in &ranges.series {
        let Some(value) = value(&ranges, &range.points) else { continue };
        out.push(Sample { labels: range.labels.clone(), value, drops_name: range.drops_name || !keeps_name });
    }
    Ok(out)
}

pub(super) fn rate(ranges: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    Some(extrapolated(ranges, points.span()?, true)? / ranges.range.as_secs_f64())
}

pub(super) fn increase(ranges: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    extrapolated(ranges, points.span()?, true)
}

pub(super) fn delta(ranges: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    extrapolated(ranges, points.span()?, false)
}

pub(super) fn irate(_: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    instant_change(points.newest_two()?, true)
}

pub(super) fn idelta(_: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    instant_change(points.newest_two()?, false)
}

pub(super) fn deriv(_: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    let points = points.to_vec();
    if points.len() < 2 { None } else { Some(regression(&points, points[0].at).slope) }
}

pub(super) fn changes(values: &mut [f64]) -> f64 {
    pairs(values, |before, now| {
        #[expect(clippy::float_cmp, reason = "PromQL counts every change")]
        let differs = before != now;
        differs && !(before.is_nan() && now.is_nan())
    })
}

pub(super) fn resets(values: &mut [f64]) -> f64 {
    pairs(values, |before, now| now < before)
}

fn pairs(values: &[f64], counts: impl Fn(f64, f64) -> bool) -> f64 {
    count(values.windows(2).filter(|pair| counts(pair[0], pair[1])).count())
}

pub(super) fn first(_: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    points.span().map(|span| span.first.value)
}

pub(super) fn last(_: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    points.span().map(|span| span.last.value)
}

pub(super) fn present(_: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    points.span().map(|_| 1.0)
}

pub(super) fn how_many(_: &Ranges<'_>, points: &Points<'_>) -> Option<f64> {
    points.span().map(|span| count(span.count))
}

/// Functions that look only at the values.
pub(super) fn each_values<'a>(
    context: Context<'a>,
    argument: &'a Node,
    at: Timestamp,
    value: impl Fn(&mut [f64]) -> f64,
) -> Result<Vec<Sample>, EvalError> {
    let ranges = of(context, argument, at)?;
    let series = ranges.series.iter().map(|range| {
        let mut values: Vec<f64> = range.points.to_vec().into_iter().map(|point| point.value).collect();
        range.turned(value(&mut values))
    });
    Ok(series.collect())
}

pub(super) fn predict_linear<'a>(
    context: Context<'a>,
    argument: &'a Node,
    at: Timestamp,
    ahead_secs: f64,
) -> Result<Vec<Sample>, EvalError> {
    let ranges = of(context, argument, at)?;
    let series = ranges.series.iter().filter_map(|range| {
        let points = range.points.to_vec();
        if points.len() < 2 {
            return None;
        }
        let line = regression(&points, at);
        Some(range.turned(line.slope * ahead_secs + line.intercept))
    });
    Ok(series.collect())
}

fn secs(later: Timestamp, earlier: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ms")]
    let ms = later.millis_since(earlier) as f64;
    ms / 1000.0
}

/// Prometheus's `extrapolatedRate`, before the division by the range: the ends of the range are reached by
/// extrapolation if the samples come closer than 1.1 average intervals, else by half an interval; a counter is never
/// extrapolated below zero.
fn extrapolated(ranges: &Ranges<'_>, span: Span, is_counter: bool) -> Option<f64> {
    if span.count < 2 {
        return None;
    }
    let dropped = if is_counter { span.dropped } else { 0.0 };
    let change = (span.last.value - span.first.value) + dropped;
    let mut to_start = secs(span.first.at, ranges.after);
    let mut to_end = secs(ranges.until, span.last.at);
    let sampled = secs(span.last.at, span.first.at);
    let average = sampled / count(span.count - 1);
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if is_counter && change > 0.0 && span.first.value >= 0.0 {
        let to_zero = sampled * (span.first.value / change);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    Some(change * ((sampled + to_start + to_end) / sampled))
}

fn instant_change((before, last): (Point, Point), is_rate: bool) -> Option<f64> {
    let elapsed = secs(last.at, before.at);
    if elapsed == 0.0 {
        return None;
    }
    if !is_rate {
        return Some(last.value - before.value);
    }
    let change = if last.value < before.value { last.value } else { last.value - before.value };
    Some(change / elapsed)
}

struct Line {
    slope: f64,
    /// At the instant that was asked for.
    intercept: f64,
}

/// Least squares, as Prometheus computes them.
fn regression(points: &[Point], at: Timestamp) -> Line {
    let first = points.first().map_or(f64::NAN, |point| point.value);
    #[expect(clippy::float_cmp, reason = "a series that never changes, exactly")]
    if points.iter().all(|point| point.value == first) {
        return if first.is_infinite() {
            Line { slope: f64::NAN, intercept: f64::NAN }
        } else {
            Line { slope: 0.0, intercept: first }
        };
    }
    let mut sums = [(0.0_f64, 0.0_f64); 4];
    for point in points {
        let x = secs(point.at, at);
        for (total, term) in sums.iter_mut().zip([x, point.value, x * point.value, x * x]) {
            *total = add(term, total.0, total.1);
        }
    }
    let [x, y, xy, x2] = sums.map(|(total, lost)| total + lost);
    let n = count(points.len());
    let slope = (xy - x * y / n) / (x2 - x * x / n);
    Line { slope, intercept: y / n - slope * x / n }
}
