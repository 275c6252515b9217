//! Scrapes of one target: GET, scan, one batch or one failure with its reason.
//!
//! Counted at the instant the request is sent, as in Prometheus. Timestamps that the target exposes are not used.

mod cache;
mod processes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ObserveError;
use super::fetch::{failure, not_redirected, text, told, transport, unready};
use super::lane::Sender;
use super::request::{Clients, Requester, host_port, http_url};
use super::schedule::Ticks;
use crate::config::model::{ScrapeSpec, TargetSpec};
use crate::exposition::{Format, Reason, ScanError};
use crate::machine::input::{Observation, Scrape, ScrapeFailure};
use crate::platform::clock::Clock;
use crate::platform::http::{self, BodyError, Connections, GetError, PlainClient};
use crate::promql::{Interest, Labels, TargetId};
pub use cache::Cache;
use cache::Refused;

/// One scrape target, ready to run.
#[derive(Debug)]
pub struct Scraper {
    url: Url,
    /// For request and body together, with reading of secrets.
    limit: Duration,
    body_bytes_max: usize,
    requester: Requester,
    /// Where neither encryption nor a proxy is needed, which is usual.
    plain: Option<PlainClient>,
    target_labels: Vec<(String, String)>,
    samples_max: usize,
}

impl Scraper {
    /// `what` names it in errors; a target that is talked to as an earlier one shares its client.
    pub fn new(
        what: &str,
        spec: &ScrapeSpec,
        target: &TargetSpec,
        clients: &mut Clients,
    ) -> Result<Scraper, ObserveError> {
        let url = http_url(what, &target.address)?;
        let requester = Requester::sharing(what, &spec.client, &spec.limits, Connections::Reused, clients)?;
        let is_direct = spec.client.proxy.is_none();
        let plain = is_direct.then(|| PlainClient::new(&url, &spec.limits)).flatten();
        let job = spec.job.clone().unwrap_or_else(|| spec.name.to_string());
        Ok(Scraper {
            limit: spec.limits.timeout,
            body_bytes_max: spec.limits.body_bytes_max,
            requester,
            plain,
            target_labels: target_labels(job, host_port(&url), &target.labels),
            samples_max: spec.samples_max,
            url,
        })
    }

    /// `job`, `instance` and the operator's.
    pub fn labels(&self) -> Labels {
        Labels::from_pairs(self.target_labels.iter().cloned())
    }

    /// The memory of this target's series, empty.
    pub fn cache(&self, interest: Arc<Interest>) -> Cache {
        Cache::new(self.target_labels.clone(), self.samples_max, interest)
    }

    /// Scrapes until it is stopped.
    pub async fn run(mut self, mut ticks: Ticks, mut seat: Seat, stop: CancellationToken) {
        let first = Arc::clone(&seat.interest.borrow_and_update());
        let mut cache = self.cache(first);
        while ticks.next(&stop).await {
            let Some(_turn) = stop.run_until_cancelled(seat.turns.next()).await else { return };
            let wanted = Arc::clone(&seat.interest.borrow_and_update());
            cache.retarget(wanted);
            let Some(()) = stop.run_until_cancelled(self.once(&mut cache, &seat)).await else { return };
        }
    }

    async fn once(&mut self, cache: &mut Cache, seat: &Seat) {
        let at = seat.clock.monotonic();
        // Apart, so that a task that waits for its next scrape is small: there are many, and they hardly scrape at once.
        let fetched = timeout(self.limit, Box::pin(self.fetch())).await;
        let fetched =
            fetched.unwrap_or_else(|_| Err(failure("timeout", format!("no whole answer within {:?}", self.limit))));
        let outcome = fetched.and_then(|(format, body)| read(cache, format, &body));
        let duration = seat.clock.monotonic().since(at);
        if let Err(failure) = &outcome {
            tracing::debug!(url = %without_userinfo(&self.url), reason = failure.reason, %failure, "scrape failed");
        }
        seat.lane.send(Observation::Scraped { target: seat.target, at, duration, outcome });
    }

    async fn fetch(&mut self) -> Result<(Format, Vec<u8>), ScrapeFailure> {
        let too_large = |max| failure("body", format!("the body is larger than {max} bytes"));
        if let Some(plain) = &mut self.plain {
            let mut headers = self.requester.headers().await.map_err(unready)?;
            headers.append(ACCEPT, HeaderValue::from_static(Format::ACCEPT));
            let answer = plain.get(&headers, |head| format(head.status, &head.headers)).await;
            return answer.map_err(|error| match error {
                GetError::Trouble(trouble) => told(trouble, self.limit),
                GetError::TooLarge(max) => too_large(max),
                GetError::Refused(failure) => failure,
            });
        }
        let request = self.requester.request(Method::GET, self.url.clone()).await.map_err(unready)?;
        let response =
            request.header(ACCEPT, Format::ACCEPT).send().await.map_err(|error| transport(&error, self.limit))?;
        let format = format(response.status(), response.headers())?;
        let body = http::body(response, self.body_bytes_max).await.map_err(|error| match error {
            BodyError::TooLarge(max) => too_large(max),
            BodyError::Cut(error) => transport(&error, self.limit),
        })?;
        Ok((format, body))
    }
}

/// Of an answer whose body is worth reading.
fn format(status: StatusCode, headers: &HeaderMap) -> Result<Format, ScrapeFailure> {
    not_redirected(status, headers)?;
    if status != StatusCode::OK {
        return Err(failure("status", format!("it answered {status}")));
    }
    Format::from_content_type(text(headers, &CONTENT_TYPE)).map_err(|error| failure("content_type", error.to_string()))
}

/// What a task that observes one target holds of the rest.
#[derive(Debug)]
pub struct Seat {
    pub target: TargetId,
    pub clock: Clock,
    pub lane: Sender,
    pub interest: watch::Receiver<Arc<Interest>>,
    pub turns: Turns,
}

/// So many scrapes may be under way before another waits for its turn. Each holds its body and a buffer of the connection
/// (where that is encrypted, up to three times the body); when the machine stood still for a second, all targets are due at
/// once.
const AT_ONCE: usize = 4;
/// A scrape waits no longer than this: targets that are slow must not hold up the others.
const PATIENCE: Duration = Duration::from_millis(100);

/// Keeps scrapes that are due at once apart, as far as it costs little.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Turns {
        Turns(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Turns {
    /// The turn ends when it is dropped. None after waiting for too long: then it goes on without.
    async fn next(&self) -> Option<SemaphorePermit<'_>> {
        match self.0.try_acquire() {
            Ok(turn) => Some(turn),
            Err(_) => timeout(PATIENCE, self.0.acquire()).await.ok()?.ok(),
        }
    }
}

/// From a body that arrived whole to what the machine is told of it. Pure.
pub fn read(cache: &mut Cache, format: Format, body: &[u8]) -> Result<Scrape, ScrapeFailure> {
    let body_bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
    match cache.read(format, body) {
        Ok(scanned) => Ok(Scrape {
            generation: scanned.generation,
            batch: scanned.batch,
            samples_exposed: scanned.samples_exposed,
            body_bytes,
        }),
        Err(Refused::Scan(error)) => Err(failure(reason_of(&error), error.to_string())),
        Err(Refused::TooMany(max)) => Err(failure(
            "limit",
            format!("more than {max} of its series are asked for; raise the limit or ask for fewer"),
        )),
        Err(Refused::SeveralProcesses(why)) => Err(failure("several_processes", why)),
    }
}

fn reason_of(error: &ScanError) -> &'static str {
    match error.reason {
        Reason::TooManySamples(_)
        | Reason::TooManyLabels(_)
        | Reason::LabelValueTooLong(_)
        | Reason::NameTooLong(_) => "limit",
        Reason::ContentType { .. } => "content_type",
        Reason::Empty | Reason::CutShort | Reason::NoEof => "body",
        Reason::AfterEof
        | Reason::Blank
        | Reason::NotALine
        | Reason::NameTwice
        | Reason::NoName
        | Reason::LabelName
        | Reason::Equal
        | Reason::LabelValue
        | Reason::LabelEscape
        | Reason::Comma
        | Reason::OpenQuote
        | Reason::OpenBrace
        | Reason::LabelTwice
        | Reason::NotUtf8
        | Reason::NoValue
        | Reason::Value
        | Reason::TimestampMillis
        | Reason::TimestampSeconds
        | Reason::Trailing
        | Reason::Exemplar
        | Reason::CommentName
        | Reason::CommentType
        | Reason::CommentUnit
        | Reason::CommentKind => "exposition",
    }
}

/// The labels of a target: both `job` and `instance` can be set by the operator's own.
pub fn target_labels(job: String, instance: String, own: &[(String, String)]) -> Vec<(String, String)> {
    let mut labels = vec![("job".to_owned(), job), ("instance".to_owned(), instance)];
    labels.retain(|(name, _)| own.iter().all(|(other, _)| other != name));
    labels.extend(own.iter().cloned());
    // An empty value is no label, as in Prometheus; it can also take away `instance`.
    labels.retain(|(_, value)| !value.is_empty());
    labels
}

/// For logs: a URL may hold a password.
fn without_userinfo(url: &Url) -> String {
    host_port(url) + url.path()
}
