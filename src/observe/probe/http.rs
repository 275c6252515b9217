//! HTTP probes: status, JSON, text and latency of one answer.

use std::time::Duration;

use reqwest::{Method, Response, Url};
use serde_json::Value;
use tokio::time::timeout;

use super::{outcome_of, unreached};
use crate::config::model::{HttpProbe, JsonExpect};
use crate::machine::input::ProbeOutcome;
use crate::observe::ObserveError;
use crate::observe::release::is_release_name;
use crate::observe::request::{NOT_IN_TIME, Requester, Unready};
use crate::platform::clock::Clock;
use crate::platform::http::{self, BodyError, Connections, Trouble};

/// A value from an answer that is shown in a sentence.
const SHOWN_CHARS_MAX: usize = 60;

/// An HTTP probe of one target.
#[derive(Debug)]
pub struct HttpCheck {
    url: Url,
    method: Method,
    spec: HttpProbe,
    limit: Duration,
    release_pointer: Option<String>,
    requester: Requester,
}

/// What came back, as far as it was needed.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// `None` where nothing asks for it; else the body or why there is none.
    pub body: Option<Result<Vec<u8>, String>>,
}

impl HttpCheck {
    pub fn new(
        what: &str,
        url: Url,
        spec: &HttpProbe,
        limit: Duration,
        release_pointer: Option<String>,
    ) -> Result<HttpCheck, ObserveError> {
        let method = Method::from_bytes(spec.method.as_bytes())
            .map_err(|_| ObserveError::invalid(what, format!("{:?} is not an HTTP method", spec.method)))?;
        let requester = Requester::new(what, &spec.client, &spec.limits, Connections::Fresh)?;
        Ok(HttpCheck { url, method, spec: spec.clone(), limit, release_pointer, requester })
    }

    pub async fn once(&mut self, clock: &Clock) -> ProbeOutcome {
        // Reading secrets is our matter and not the target's: it does not count as latency, nor its hanging as failure.
        let request = match timeout(self.limit, self.requester.request(self.method.clone(), self.url.clone())).await {
            Ok(Ok(request)) => request,
            Ok(Err(Unready::Secret(why) | Unready::Certificates(why))) => return ProbeOutcome::Unsent(why),
            Err(_) => return ProbeOutcome::Unsent(NOT_IN_TIME.to_owned()),
        };
        let request = match &self.spec.body {
            Some(body) => request.body(body.clone()),
            None => request,
        };
        let begun = clock.monotonic();
        let reply = match timeout(self.limit, self.reply(request)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(trouble)) => return outcome_of(trouble),
            Err(_) => return unreached(format!("no answer within {:?}", self.limit)),
        };
        let took = clock.monotonic().since(begun);
        self.judge(&reply, took)
    }

    async fn reply(&self, request: reqwest::RequestBuilder) -> Result<Reply, Trouble> {
        let response = request.send().await.map_err(|error| http::trouble(&error))?;
        let status = response.status().as_u16();
        let body = if self.needs_body() { Some(self.body(response).await?) } else { None };
        Ok(Reply { status, body })
    }

    async fn body(&self, response: Response) -> Result<Result<Vec<u8>, String>, Trouble> {
        match http::body(response, self.spec.limits.body_bytes_max).await {
            Ok(body) => Ok(Ok(body)),
            Err(BodyError::TooLarge(max)) => Ok(Err(format!("the body is larger than {max} bytes"))),
            Err(BodyError::Cut(error)) => Err(http::trouble(&error)),
        }
    }

    fn needs_body(&self) -> bool {
        self.release_pointer.is_some() || self.checks_body()
    }

    fn checks_body(&self) -> bool {
        !self.spec.json.is_empty() || self.spec.body_contains.is_some()
    }

    /// What a reply that took this long says. Pure.
    pub fn judge(&self, reply: &Reply, took: Duration) -> ProbeOutcome {
        let json = match &reply.body {
            Some(Ok(body)) if self.release_pointer.is_some() || !self.spec.json.is_empty() => {
                serde_json::from_slice::<Value>(body).map_err(|error| format!("the body is not JSON: {error}"))
            }
            Some(Ok(_)) | None => Ok(Value::Null),
            Some(Err(why)) => Err(why.clone()),
        };
        let pointer = self.release_pointer.as_deref();
        let release = pointer.and_then(|pointer| release_at(json.as_ref().ok()?, pointer));
        let status = Some(reply.status);
        match self.complaint(reply, json.as_ref(), took) {
            None => ProbeOutcome::Up { status, release },
            Some(why) => ProbeOutcome::Failed { status, why, reached: true, release },
        }
    }

    /// What is wrong with an answer, if anything.
    fn complaint(&self, reply: &Reply, json: Result<&Value, &String>, took: Duration) -> Option<String> {
        let status = reply.status;
        let expected =
            if self.spec.status.is_empty() { (200..300).contains(&status) } else { self.spec.status.contains(&status) };
        if !expected {
            let redirects = if (300..400).contains(&status) { " (redirects are not followed)" } else { "" };
            return Some(format!("it answered with status {status}{redirects}"));
        }
        if let Some(max) = self.spec.latency_max
            && took > max
        {
            return Some(format!("it took {took:?} to answer, more than {max:?}"));
        }
        if !self.checks_body() {
            return None;
        }
        let body = match reply.body.as_ref()? {
            Ok(body) => body,
            Err(why) => return Some(why.clone()),
        };
        if let Some(text) = &self.spec.body_contains
            && !contains(body, text.as_bytes())
        {
            return Some(format!("the body does not contain {text:?}"));
        }
        if self.spec.json.is_empty() {
            return None;
        }
        let json = match json {
            Ok(json) => json,
            Err(why) => return Some(why.clone()),
        };
        self.spec.json.iter().find_map(|check| match (json.pointer(&check.pointer), &check.expect) {
            (None, JsonExpect::Exists | JsonExpect::Equals(_)) => {
                Some(format!("there is no {} in its JSON", check.pointer))
            }
            (Some(_), JsonExpect::Exists) => None,
            (Some(found), JsonExpect::Equals(expected)) => (!equal(found, expected))
                .then(|| format!("{} is {} and not {}", check.pointer, shown(found), shown(expected))),
        })
    }
}

/// A text or a number that can name a release.
fn release_at(json: &Value, pointer: &str) -> Option<String> {
    let name = match json.pointer(pointer)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    is_release_name(&name).then_some(name)
}

/// Numbers are equal by value: `1` and `1.0` are the same to most who write JSON.
fn equal(found: &Value, expected: &Value) -> bool {
    found == expected || matches!((found.as_f64(), expected.as_f64()), (Some(a), Some(b)) if a.total_cmp(&b).is_eq())
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(body, text).is_some()
}
