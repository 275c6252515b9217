//! `label_replace` and `label_join`: results under other labels.

use super::{EvalError, Sample, unique};
use crate::promql::selector::compile_pattern;

pub(super) fn replace(
    samples: Vec<Sample>,
    target: &str,
    replacement: &str,
    source: &str,
    pattern: &str,
) -> Result<Vec<Sample>, EvalError> {
    let pattern = compile_pattern(pattern).map_err(EvalError)?;
    relabelled(samples, target, |sample| {
        let mut value = String::new();
        pattern.captures(sample.labels.get(source).unwrap_or(""))?.expand(replacement, &mut value);
        Some(value)
    })
}

pub(super) fn join(
    samples: Vec<Sample>,
    target: &str,
    separator: &str,
    sources: &[Box<str>],
) -> Result<Vec<Sample>, EvalError> {
    relabelled(samples, target, |sample| {
        let parts: Vec<&str> = sources.iter().map(|source| sample.labels.get(source).unwrap_or("")).collect();
        Some(parts.join(separator))
    })
}

/// Whoever writes the name means it: it stays.
fn relabelled(
    samples: Vec<Sample>,
    target: &str,
    value: impl Fn(&Sample) -> Option<String>,
) -> Result<Vec<Sample>, EvalError> {
    let relabelled = samples.into_iter().map(|sample| match value(&sample) {
        Some(value) => Sample {
            labels: sample.labels.with(target, &value),
            value: sample.value,
            drops_name: sample.drops_name && target != "__name__",
        },
        None => sample,
    });
    let relabelled: Vec<Sample> = relabelled.collect();
    unique(relabelled.iter().map(|sample| &sample.labels))?;
    Ok(relabelled)
}
