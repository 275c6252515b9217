//! What Prometheus remarks of an evaluation beside its value, as far as floats give reason to.

use std::fmt;

/// One remark, worded as in Prometheus, without the place in the text: the parser's crate keeps none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Annotation {
    Warning(String),
    Info(String),
}

impl Annotation {
    pub(super) fn invalid_quantile(q: f64) -> Annotation {
        Annotation::Warning(format!("quantile value should be between 0 and 1, got {q}"))
    }

    /// `le`: its value; empty where it is missing.
    pub(super) fn bad_bucket(metric: &str, le: &str) -> Annotation {
        Annotation::Warning(format!(
            "bucket label \"le\" is missing or has a malformed value of {le:?}{}",
            of_metric(metric)
        ))
    }

    pub(super) fn possible_non_counter(metric: &str) -> Annotation {
        Annotation::Info(format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}"
        ))
    }

    pub(super) fn forced_monotonicity(metric: &str) -> Annotation {
        Annotation::Info(format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
            of_metric(metric)
        ))
    }
}

fn of_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {name:?}") }
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Annotation::Warning(text) => write!(f, "PromQL warning: {text}"),
            Annotation::Info(text) => write!(f, "PromQL info: {text}"),
        }
    }
}
