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
    let pattern = compile_pattern(pattern).map_err(|error| EvalError(error.to_string()))?;
    let replaced = samples.into_iter().map(|sample| {
        let mut value = String::new();
        match pattern.captures(sample.labels.get(source).unwrap_or("")) {
            Some(captures) => captures.expand(replacement, &mut value),
            None => return sample,
        }
        Sample { labels: sample.labels.with(target, &value), value: sample.value }
    });
    unique(replaced.collect())
}

pub(super) fn join(
    samples: Vec<Sample>,
    target: &str,
    separator: &str,
    sources: &[Box<str>],
) -> Result<Vec<Sample>, EvalError> {
    let joined = samples.into_iter().map(|sample| {
        let parts: Vec<&str> = sources.iter().map(|source| sample.labels.get(source).unwrap_or("")).collect();
        Sample { labels: sample.labels.with(target, &parts.join(separator)), value: sample.value }
    });
    unique(joined.collect())
}
