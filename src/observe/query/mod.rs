//! Queries: one expression, evaluated by a Prometheus-compatible server, one look or one failure with its reason.
//!
//! `POST <server>/api/v1/query`, the parameters form-encoded, as Prometheus's HTTP API has it
//! (<https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>). Mimir serves the same under its prefix
//! (`http://mimir:8080/prometheus`, the tenant in the header `X-Scope-OrgID`;
//! <https://grafana.com/docs/mimir/latest/references/http-api/>), VictoriaMetrics' cluster under
//! `http://vmselect:8481/select/0/prometheus` (<https://docs.victoriametrics.com/cluster-victoriametrics/#url-format>),
//! Thanos as Prometheus does (<https://thanos.io/tip/components/query.md/>). What else a server takes in its address,
//! such as `?dedup=false` for Thanos or `?nocache=1` for VictoriaMetrics, stands in `server.url` and stays there.
//!
//! `time` is not sent: the server's own clock says what "now" is, so that a clock that is wrong here does not ask for
//! the past; the instants of the answer tell when they lie too far from ours. `timeout` is sent, a little less than our
//! own, so that a server that is too slow says so itself and stops working on it.

mod answer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ObserveError;
use super::fetch::{failure, not_redirected, text, transport, unready};
use super::lane::Sender;
use super::request::{Requester, http_url};
use super::schedule::Ticks;
use crate::config::model::QuerySpec;
use crate::machine::input::{Observation, QueryAnswer, ScrapeFailure};
use crate::platform::clock::{self, Clock};
use crate::platform::http::{self, BodyError, Connections};
use crate::promql::{Labels, TargetId};
use answer::Reading;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// One query, ready to run.
#[derive(Debug)]
pub struct Querier {
    url: Url,
    form: String,
    /// For request and body together, with reading of secrets.
    limit: Duration,
    body_bytes_max: usize,
    requester: Requester,
    reading: Reading,
}

impl Querier {
    /// `what` names it in errors.
    pub fn new(what: &str, spec: &QuerySpec) -> Result<Querier, ObserveError> {
        let url = endpoint(http_url(what, &spec.server)?);
        let requester = Requester::new(what, &spec.client, &spec.limits, Connections::Reused)?;
        Ok(Querier {
            url,
            form: form(&spec.expr, spec.limits.timeout),
            limit: spec.limits.timeout,
            body_bytes_max: spec.limits.body_bytes_max,
            requester,
            reading: Reading::of(spec),
        })
    }

    /// Those that every series of the query has: the operator's.
    pub fn labels(&self) -> Labels {
        self.reading.labels()
    }

    /// Asks until it is stopped.
    pub async fn run(
        mut self,
        mut ticks: Ticks,
        target: TargetId,
        clock: Clock,
        lane: Sender,
        stop: CancellationToken,
    ) {
        while ticks.next(&stop).await {
            let at = clock.monotonic();
            let Some(outcome) = stop.run_until_cancelled(self.once()).await else { return };
            let duration = clock.monotonic().since(at);
            if let Err(failure) = &outcome {
                tracing::debug!(server = %self.url, reason = failure.reason, %failure, "query failed");
            }
            lane.send(Observation::Queried { target, at, duration, outcome });
        }
    }

    async fn once(&mut self) -> Result<QueryAnswer, ScrapeFailure> {
        let limit = self.limit;
        let answered = timeout(limit, self.ask()).await;
        answered.unwrap_or_else(|_| Err(failure("timeout", format!("no whole answer within {limit:?}"))))
    }

    async fn ask(&mut self) -> Result<QueryAnswer, ScrapeFailure> {
        let request = self.requester.request(Method::POST, self.url.clone()).await.map_err(unready)?;
        let request = request.header(CONTENT_TYPE, FORM).header(ACCEPT, JSON).body(self.form.clone());
        let response = request.send().await.map_err(|error| transport(&error, self.limit))?;
        let status = response.status();
        not_redirected(status, response.headers())?;
        let kind = text(response.headers(), &CONTENT_TYPE).map(str::to_owned);
        let body = http::body(response, self.body_bytes_max).await.map_err(|error| match error {
            BodyError::TooLarge(max) => {
                failure("body", format!("the answer is larger than {max} bytes; aggregate more, or raise body_max"))
            }
            BodyError::Cut(error) => transport(&error, self.limit),
        })?;
        if status != StatusCode::OK {
            return Err(answer::refusal(status.as_u16(), &status.to_string(), &body));
        }
        self.reading.read(kind.as_deref(), &body, clock::wall())
    }
}

/// The server's address with the path of the API behind its own; what it has after `?` stays.
fn endpoint(mut url: Url) -> Url {
    let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// Whole milliseconds are a duration that all of them read (`"9500ms"`).
fn form(expr: &str, limit: Duration) -> String {
    let least = Duration::from_millis(1);
    let theirs = limit.mul_f64(0.95).max(least).as_millis();
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("query", expr)
        .append_pair("timeout", &format!("{theirs}ms"))
        .finish()
}
