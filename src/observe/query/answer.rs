//! From the answer of a Prometheus-compatible server to the series of a query, or to the reason why it says nothing.
//!
//! An answer that could be less than the whole truth is none: a warning (how Thanos tells that a store did not answer,
//! <https://thanos.io/tip/components/query.md/#partial-response>), `isPartial` (how VictoriaMetrics' cluster tells that a
//! storage node did not, <https://docs.victoriametrics.com/cluster-victoriametrics/#cluster-availability>), and an empty
//! vector, which a server gives for "nothing is wrong" and for "there is no data" alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::fetch::failure;
use crate::config::model::{OnEmpty, OnWarning, QuerySpec};
use crate::machine::input::{QueryAnswer, ScrapeFailure};
use crate::promql::Labels;
use crate::time::Timestamp;

/// As much of what a server says is shown.
const SHOWN_CHARS_MAX: usize = 300;
/// DESIGN §7.
const LABELS_MAX: usize = 64;
const LABEL_VALUE_BYTES_MAX: usize = 1024;

/// How the answers to one query are read.
#[derive(Debug)]
pub(super) struct Reading {
    name: Arc<str>,
    labels: Vec<(String, String)>,
    series_max: usize,
    max_age: Duration,
    window: Duration,
    on_empty: OnEmpty,
    on_warning: OnWarning,
}

/// The envelope (<https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview>).
#[derive(Deserialize)]
struct Envelope {
    status: String,
    data: Option<Data>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    warnings: Option<Vec<String>>,
    #[serde(rename = "isPartial", default)]
    is_partial: bool,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

/// One element of a vector. Values are strings, since JSON has neither NaN nor infinities.
#[derive(Deserialize)]
struct Element {
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
}

impl Reading {
    pub fn of(spec: &QuerySpec) -> Reading {
        Reading {
            name: Arc::clone(&spec.name),
            labels: spec.labels.clone(),
            series_max: spec.series_max,
            max_age: spec.max_age,
            window: spec.window,
            on_empty: spec.on_empty,
            on_warning: spec.on_warning,
        }
    }

    pub fn labels(&self) -> Labels {
        Labels::from_pairs(self.labels.iter().cloned())
    }

    /// Of a 200. `now` is on the wall.
    pub fn read(&self, kind: Option<&str>, body: &[u8], now: Timestamp) -> Result<QueryAnswer, ScrapeFailure> {
        if !kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("json")) {
            let kind = kind.map_or_else(|| "without a content type".to_owned(), |kind| format!("with {}", shown(kind)));
            let why = format!("it answered {kind}, not with JSON: is server.url the address of a Prometheus API?");
            return Err(failure("content_type", why));
        }
        let envelope: Envelope = serde_json::from_slice(body)
            .map_err(|error| failure("body", format!("its answer cannot be read: {error}")))?;
        if envelope.status != "success" {
            return Err(failure("error", error_of(&envelope)));
        }
        if envelope.is_partial {
            let why = "its answer is partial: a part of its storage did not answer";
            return Err(failure("partial", why.to_owned()));
        }
        // Prometheus 2.48 to 2.53 put what is only information among the warnings, under this name.
        let mut warnings = envelope.warnings.iter().flatten().filter(|warning| !warning.starts_with("PromQL info"));
        if let Some(warning) = warnings.next().filter(|_| self.on_warning == OnWarning::Unknown) {
            let more = match warnings.count() {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            return Err(failure("warnings", format!("it warns: {}{more}", shown(warning))));
        }
        let Some(data) = envelope.data else {
            return Err(failure("body", "its answer says success, and has no data".to_owned()));
        };
        let series = self.series(data, now)?;
        if series.is_empty() && self.on_empty == OnEmpty::Unknown {
            let why = "its answer is empty: no series, or nothing that passes the expression's own comparison";
            return Err(failure("empty", why.to_owned()));
        }
        Ok(QueryAnswer { series, window: self.window })
    }

    fn series(&self, data: Data, now: Timestamp) -> Result<Vec<(Labels, f64)>, ScrapeFailure> {
        let unread = |error: serde_json::Error| failure("body", format!("its answer cannot be read: {error}"));
        let elements = match data.kind.as_str() {
            "vector" => match data.result {
                Value::Array(elements) => elements,
                Value::Null => Vec::new(),
                _ => return Err(failure("body", "its answer cannot be read: a vector is a list".to_owned())),
            },
            "scalar" => {
                let (at, value) = serde_json::from_value(data.result).map_err(unread)?;
                return Ok(vec![(self.named(BTreeMap::new())?, self.value((at, value), now)?)]);
            }
            "matrix" => {
                let why =
                    "its answer is a range of samples: put a function such as rate around it, or take the […] out";
                return Err(failure("result", why.to_owned()));
            }
            kind => {
                let why = format!("its answer is a {}: a query is a number or a vector", shown(kind));
                return Err(failure("result", why));
            }
        };
        if elements.len() > self.series_max {
            let why =
                format!("its answer has {} series, {} are allowed: aggregate more", elements.len(), self.series_max);
            return Err(failure("limit", format!("{why}, or raise series_max")));
        }
        let mut series: Vec<(Labels, f64)> = Vec::with_capacity(elements.len());
        for element in elements {
            let Element { metric, value } = serde_json::from_value(element).map_err(unread)?;
            let labels = self.named(metric)?;
            let Some(value) = value else {
                let why = format!("{labels} is a native histogram: ask for a number of it, as histogram_quantile does");
                return Err(failure("result", shown(&why)));
            };
            series.push((labels, self.value(value, now)?));
        }
        series.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = series.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let why = format!("two of its series are {} once they have the query's name: aggregate them", pair[0].0);
            return Err(failure("result", shown(&why)));
        }
        Ok(series)
    }

    /// What the query is kept as: its own name, the labels of the answer, and the operator's, which win.
    fn named(&self, metric: BTreeMap<String, String>) -> Result<Labels, ScrapeFailure> {
        if metric.len() > LABELS_MAX {
            return Err(failure("limit", format!("a series of its answer has more than {LABELS_MAX} labels")));
        }
        if metric.values().any(|value| value.len() > LABEL_VALUE_BYTES_MAX) {
            let why = format!("a label of its answer is longer than {LABEL_VALUE_BYTES_MAX} bytes");
            return Err(failure("limit", why));
        }
        let name = ("__name__".to_owned(), self.name.to_string());
        Ok(Labels::from_pairs(metric.into_iter().chain(self.labels.iter().cloned()).chain([name])))
    }

    /// NaN and infinities are values; the finding says what becomes of them.
    fn value(&self, (at, text): (f64, String), now: Timestamp) -> Result<f64, ScrapeFailure> {
        let value = text
            .parse()
            .map_err(|_| failure("body", format!("its answer cannot be read: {} is no number", shown(&text))))?;
        let age = now.as_secs_f64() - at;
        let most = self.max_age.as_secs_f64();
        if age > most {
            let why = format!("its answer is {age:.0} s old, {most:.0} s are allowed: it lags, or a clock is wrong");
            return Err(failure("stale", why));
        }
        // Also where the instant is no number.
        if age.is_nan() || age < -most {
            let why = format!("its answer is of {:.0} s in the future: a clock is wrong, here or there", -age);
            return Err(failure("stale", why));
        }
        Ok(value)
    }
}

/// An answer with another status than 200: the API's own error, or the first words of whatever stood in its way.
pub(super) fn refusal(code: u16, status: &str, body: &[u8]) -> ScrapeFailure {
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(body)
        && envelope.status == "error"
    {
        return failure("error", format!("it answered {status}: {}", error_of(&envelope)));
    }
    let text = String::from_utf8_lossy(body);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('<'));
    let said = first.map_or_else(String::new, |line| format!(": {}", shown(line)));
    let hint = match code {
        401 | 403 => "; bearer, basic or headers of the server say who asks (Mimir wants X-Scope-OrgID)",
        404 | 405 => {
            "; server.url may lack the prefix of its API (Mimir: /prometheus, VictoriaMetrics' cluster: \
             /select/0/prometheus)"
        }
        _ => "",
    };
    failure("status", format!("it answered {status}{said}{hint}"))
}

fn error_of(envelope: &Envelope) -> String {
    let text = envelope.error.as_deref().map_or_else(|| "an error without a text".to_owned(), shown);
    match envelope.error_type.as_deref() {
        Some(kind) if !kind.is_empty() => format!("{}: {text}", shown(kind)),
        Some(_) | None => text,
    }
}

/// Text of a server in one line of ours.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
