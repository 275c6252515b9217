//! Quantiles of classic histograms, as Prometheus's `BucketQuantile`.

use std::collections::BTreeMap;

use super::{EvalError, Sample, unique};
use crate::promql::Labels;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub upper: f64,
    pub count: f64,
}

/// Differences below this share are rounding errors of the additions before, not decreases (Prometheus's tolerance).
const ROUNDING: f64 = 1e-12;

pub(super) fn histogram_quantile(q: f64, samples: Vec<Sample>) -> Result<Vec<Sample>, EvalError> {
    let mut histograms: BTreeMap<Labels, Vec<Bucket>> = BTreeMap::new();
    for sample in samples {
        let Some(upper) = sample.labels.get("le").and_then(bound) else { continue };
        let of = sample.labels.filter(|label| label != "le");
        histograms.entry(of).or_default().push(Bucket { upper, count: sample.value });
    }
    let quantiles = histograms
        .into_iter()
        .map(|(labels, buckets)| Sample { labels: labels.nameless(), value: bucket_quantile(q, buckets) });
    unique(quantiles.collect())
}

/// The value of an `le` label as Go's `ParseFloat` reads it.
pub(super) fn bound(text: &str) -> Option<f64> {
    text.parse().ok().filter(|bound: &f64| !bound.is_nan())
}

/// NaN without observations, without a `+Inf` bucket, or without a finite one.
pub(super) fn bucket_quantile(q: f64, mut buckets: Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return f64::NAN;
    }
    let mut buckets = coalesced(buckets);
    make_monotonic(&mut buckets);
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
fn make_monotonic(buckets: &mut [Bucket]) {
    let Some(first) = buckets.first() else { return };
    let mut before = first.count;
    for bucket in &mut buckets[1..] {
        if almost_equal(bucket.count, before) || bucket.count < before {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
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
