//! Quantiles and fractions of classic histograms, as Prometheus's `BucketQuantile` and `BucketFraction`.

use std::collections::BTreeMap;

use super::{Annotation, Context, Sample};
use crate::promql::Labels;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub upper: f64,
    pub count: f64,
}

/// Differences below this share are rounding errors of the additions before, not decreases (Prometheus's tolerance).
const ROUNDING: f64 = 1e-12;

pub(super) fn histogram_quantile(context: Context<'_>, q: f64, samples: Vec<Sample>) -> Vec<Sample> {
    let quantiles = by_histogram(context, samples).into_iter().map(|(labels, buckets)| {
        let (value, was_forced) = quantile(q, buckets);
        if was_forced {
            context.annotate(Annotation::forced_monotonicity(labels.name()));
        }
        Sample { labels, value, drops_name: true }
    });
    quantiles.collect()
}

pub(super) fn histogram_fraction(context: Context<'_>, lower: f64, upper: f64, samples: Vec<Sample>) -> Vec<Sample> {
    let fractions = by_histogram(context, samples).into_iter().map(|(labels, buckets)| Sample {
        labels,
        value: bucket_fraction(lower, upper, buckets),
        drops_name: true,
    });
    fractions.collect()
}

fn by_histogram(context: Context<'_>, samples: Vec<Sample>) -> BTreeMap<Labels, Vec<Bucket>> {
    let mut histograms: BTreeMap<Labels, Vec<Bucket>> = BTreeMap::new();
    for sample in samples {
        let le = sample.labels.get("le").unwrap_or("");
        let Some(upper) = bound(le) else {
            context.annotate(Annotation::bad_bucket(sample.labels.name(), le));
            continue;
        };
        let of = sample.labels.filter(|label| label != "le");
        histograms.entry(of).or_default().push(Bucket { upper, count: sample.value });
    }
    histograms
}

/// The value of an `le` label as Go's `ParseFloat` reads it.
pub(super) fn bound(text: &str) -> Option<f64> {
    text.parse().ok().filter(|bound: &f64| !bound.is_nan())
}

/// NaN without observations, without a `+Inf` bucket, or without a finite one.
pub(super) fn bucket_quantile(q: f64, buckets: Vec<Bucket>) -> f64 {
    quantile(q, buckets).0
}

/// And whether counts fell from one bucket to the next.
fn quantile(q: f64, buckets: Vec<Bucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if q > 1.0 {
        return (f64::INFINITY, false);
    }
    let Some(mut buckets) = complete(buckets) else { return (f64::NAN, false) };
    let was_forced = make_monotonic(&mut buckets);
    (at_rank(q, &buckets), was_forced)
}

/// In order of their bounds; nothing if they do not end at infinity.
fn complete(mut buckets: Vec<Bucket>) -> Option<Vec<Bucket>> {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    let ends = buckets.last().is_some_and(|last| last.upper == f64::INFINITY);
    ends.then(|| coalesced(buckets))
}

fn at_rank(q: f64, buckets: &[Bucket]) -> f64 {
    let Some(top) = buckets.len().checked_sub(1).filter(|top| *top > 0) else { return f64::NAN };
    let observations = buckets[top].count;
    if observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    let mut rank = q * observations;
    let place = buckets[..top].partition_point(|bucket| bucket.count < rank);
    if place == top {
        return buckets[top - 1].upper;
    }
    if place == 0 && buckets[0].upper <= 0.0 {
        return buckets[0].upper;
    }
    let end = buckets[place].upper;
    let mut within = buckets[place].count;
    let mut start = 0.0;
    if let Some(below) = place.checked_sub(1).map(|below| buckets[below]) {
        start = below.upper;
        within -= below.count;
        rank -= below.count;
    }
    start + (end - start) * (rank / within)
}

/// Buckets of the same bound, such as `le="1"` and `le="1.0"`, are one.
fn coalesced(buckets: Vec<Bucket>) -> Vec<Bucket> {
    let mut out: Vec<Bucket> = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        match out.last_mut() {
            #[expect(clippy::float_cmp, reason = "the same bound, read from text")]
            Some(last) if last.upper == bucket.upper => last.count += bucket.count,
            Some(_) | None => out.push(bucket),
        }
    }
    out
}

/// Counts that fall from one bucket to the next come from scrapes and recording rules that are not atomic.
/// Returns whether there were any, beyond rounding.
fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let Some(first) = buckets.first() else { return false };
    let mut before = first.count;
    let mut was_forced = false;
    for bucket in &mut buckets[1..] {
        if almost_equal(bucket.count, before) {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            was_forced = true;
        } else {
            before = bucket.count;
        }
    }
    was_forced
}

/// The share of observations between two values, as Prometheus's `BucketFraction`: linear within a bucket, nothing within
/// one that has no end. NaN without observations, or without a `+Inf` bucket.
fn bucket_fraction(lower: f64, upper: f64, buckets: Vec<Bucket>) -> f64 {
    let Some(buckets) = complete(buckets) else { return f64::NAN };
    let observations = buckets.last().map_or(0.0, |last| last.count);
    if observations == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, &buckets).min(observations) - rank_of(lower, &buckets).min(observations)) / observations
}

/// How many observations lie below a value.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let starts_at_zero = buckets.first().is_some_and(|first| first.upper > 0.0);
    let mut start = if starts_at_zero { 0.0 } else { f64::NEG_INFINITY };
    let mut rank = 0.0;
    for bucket in buckets {
        if start >= value {
            return rank;
        }
        if bucket.upper > value {
            return if start == f64::NEG_INFINITY {
                bucket.count
            } else {
                rank + (bucket.count - rank) * (value - start) / (bucket.upper - start)
            };
        }
        rank = bucket.count;
        start = bucket.upper;
    }
    f64::INFINITY
}

fn almost_equal(a: f64, b: f64) -> bool {
    #[expect(clippy::float_cmp, reason = "the cheap case of an approximate comparison")]
    if a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < ROUNDING * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < ROUNDING
}
