//! Aggregations over the series of one result.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{Context, EvalError, Sample};
use crate::promql::Labels;
use crate::promql::expr::{Aggregate, Aggregator};
use crate::time::Timestamp;

pub(super) fn eval<'a>(
    context: Context<'a>,
    aggregate: &'a Aggregate,
    at: Timestamp,
) -> Result<Vec<Sample>, EvalError> {
    let samples = context.eval(&aggregate.of, at)?.vector()?;
    let parameter = aggregate.parameter.as_ref().map(|parameter| context.eval(parameter, at)).transpose()?;
    let number = |what: &str| match &parameter {
        Some(value) => value.clone().scalar(),
        None => Err(EvalError(format!("{what} needs a parameter"))),
    };
    match aggregate.aggregator {
        Aggregator::Topk => best(aggregate, samples, number("topk")?, true),
        Aggregator::Bottomk => best(aggregate, samples, number("bottomk")?, false),
        Aggregator::CountValues => match parameter {
            Some(label) => Ok(count_values(aggregate, samples, &label.text()?)),
            None => Err(EvalError("count_values needs a label".to_owned())),
        },
        Aggregator::Quantile => {
            let q = number("quantile")?;
            context.check_quantile(q);
            Ok(by_group(aggregate, samples, |values| quantile(q, values)))
        }
        Aggregator::Sum => Ok(by_group(aggregate, samples, |values| sum(values))),
        Aggregator::Avg => Ok(by_group(aggregate, samples, |values| mean(values))),
        Aggregator::Min => Ok(by_group(aggregate, samples, |values| least(values))),
        Aggregator::Max => Ok(by_group(aggregate, samples, |values| greatest(values))),
        Aggregator::Count => Ok(by_group(aggregate, samples, |values| count(values.len()))),
        Aggregator::Stdvar => Ok(by_group(aggregate, samples, |values| variance(values))),
        Aggregator::Stddev => Ok(by_group(aggregate, samples, |values| variance(values).sqrt())),
        Aggregator::Group => Ok(by_group(aggregate, samples, |_| 1.0)),
    }
}

fn grouped(aggregate: &Aggregate, samples: Vec<Sample>) -> BTreeMap<Labels, Vec<Sample>> {
    let mut groups: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        groups.entry(aggregate.grouping.key(&sample.labels)).or_default().push(sample);
    }
    groups
}

fn by_group(aggregate: &Aggregate, samples: Vec<Sample>, of: impl Fn(&mut [f64]) -> f64) -> Vec<Sample> {
    grouped(aggregate, samples)
        .into_iter()
        .map(|(labels, members)| {
            let mut values: Vec<f64> = members.iter().map(|member| member.value).collect();
            let drops_name = members.iter().any(|member| member.drops_name);
            Sample { labels, value: of(&mut values), drops_name }
        })
        .collect()
}

/// The k greatest or least of each group, best first; NaN only if nothing else is left; ties by label set.
fn best(aggregate: &Aggregate, samples: Vec<Sample>, k: f64, greatest: bool) -> Result<Vec<Sample>, EvalError> {
    if k.is_nan() {
        return Err(EvalError("Parameter value is NaN".to_owned()));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a count of series")]
    let k = k.clamp(0.0, 1e9) as usize;
    let mut out = Vec::new();
    for (_, mut members) in grouped(aggregate, samples) {
        members.sort_by(|a, b| nan_last(a.value, b.value, greatest).then_with(|| a.labels.cmp(&b.labels)));
        members.truncate(k);
        out.extend(members);
    }
    Ok(out)
}

/// Order by value, NaN after everything in both directions.
pub(super) fn nan_last(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if descending => b.total_cmp(&a),
        (false, false) => a.total_cmp(&b),
    }
}

fn count_values(aggregate: &Aggregate, samples: Vec<Sample>, label: &str) -> Vec<Sample> {
    let mut counts: BTreeMap<Labels, usize> = BTreeMap::new();
    for sample in samples {
        let key = aggregate.grouping.key(&sample.labels).with(label, &go_number(sample.value));
        *counts.entry(key).or_default() += 1;
    }
    counts.into_iter().map(|(labels, times)| Sample::bare(labels, count(times))).collect()
}

/// A number as Go's `FormatFloat(v, 'f', -1, 64)` writes it.
#[must_use]
pub fn go_number(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned() } else { format!("{value}") }
}

#[expect(clippy::cast_precision_loss, reason = "counts of series and samples stay far below 2^53")]
pub(super) fn count(of: usize) -> f64 {
    of as f64
}

/// Neumaier's compensated sum, as Prometheus adds.
pub(super) fn sum(values: &[f64]) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0_f64);
    for value in values {
        (total, lost) = add(*value, total, lost);
    }
    if total.is_infinite() { total } else { total + lost }
}

/// One step of it.
pub(super) fn add(value: f64, total: f64, lost: f64) -> (f64, f64) {
    let next = total + value;
    if next.is_infinite() {
        (next, 0.0)
    } else if total.abs() >= value.abs() {
        (next, lost + ((total - next) + value))
    } else {
        (next, lost + ((value - next) + total))
    }
}

/// Prometheus sums, and turns to an incremental mean when the sum overflows.
pub(super) fn mean(values: &[f64]) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0_f64);
    for (place, value) in values.iter().enumerate() {
        let (next, next_lost) = add(*value, total, lost);
        if next.is_infinite() && total.is_finite() && value.is_finite() {
            return incremental_mean(values, place, total, lost);
        }
        (total, lost) = (next, next_lost);
    }
    let n = count(values.len());
    if total.is_infinite() { total / n } else { total / n + lost / n }
}

fn incremental_mean(values: &[f64], from: usize, total: f64, lost: f64) -> f64 {
    let n = count(from);
    let (mut mean, mut lost) = (total / n, lost / n);
    for (place, value) in values.iter().enumerate().skip(from) {
        let n = count(place + 1);
        let q = count(place) / n;
        if mean.is_infinite() && (value.is_infinite() && (mean > 0.0) == (*value > 0.0) || value.is_finite()) {
            continue;
        }
        (mean, lost) = add(value / n, q * mean, q * lost);
    }
    if mean.is_infinite() { mean } else { mean + lost }
}

pub(super) fn least(values: &[f64]) -> f64 {
    values.iter().copied().reduce(|a, b| if b < a || a.is_nan() { b } else { a }).unwrap_or(f64::NAN)
}

pub(super) fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().reduce(|a, b| if b > a || a.is_nan() { b } else { a }).unwrap_or(f64::NAN)
}

/// Welford's population variance, compensated as in Prometheus.
pub(super) fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut mean_lost) = (0.0_f64, 0.0_f64);
    let (mut square, mut square_lost) = (0.0_f64, 0.0_f64);
    for (place, value) in values.iter().enumerate() {
        let delta = value - (mean + mean_lost);
        (mean, mean_lost) = add(delta / count(place + 1), mean, mean_lost);
        (square, square_lost) = add(delta * (value - (mean + mean_lost)), square, square_lost);
    }
    (square + square_lost) / count(values.len())
}

/// Linear interpolation between ranks; NaN sorts first.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (true, true) | (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
    });
    let top = values.len() - 1;
    let rank = q * count(top);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ rank ≤ the number of values")]
    let low = (rank.floor() as usize).min(top);
    let high = (low + 1).min(top);
    let weight = rank - rank.floor();
    values[low] * (1.0 - weight) + values[high] * weight
}
