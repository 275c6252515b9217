//! Steps and checks that send one HTTP request.
//!
//! The outcome tells what is known of the request's effect: nothing was sent (Failed), an answer says so (Succeeded,
//! Failed), no whole answer came (Ambiguous), or none in time (TimedOut). So nothing may send it twice: no redirects, no
//! retries by the client, and no kept connection that may be dead already.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::answer;
use super::command::because;
use super::redact::Redactor;
use super::template::{self, Context, Place, TemplateError, shown};
use super::{Cut, Done, Subject};
use crate::decide::event::{BodyTemplate, Capture, CheckOutcome, JsonTest, Outcome, TextOrSecret};
use crate::platform::http::{ClientError, install_crypto};
use crate::platform::secret::{self, SecretError};

/// DESIGN §7.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How much of a reply is kept, and read for captures.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// The same for a check, which may count what is in it; as much as of a probe (DESIGN §7).
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The fields of `Action::Http`, and those of `Ask::Http` that it has too.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a BTreeMap<String, TextOrSecret>,
    pub body: &'a BodyTemplate,
    /// Empty stands for 200–299.
    pub expect: &'a [u16],
    pub captures: &'a [Capture],
}

/// A client that sends each request at most once, on a connection of its own.
pub fn client(connect_timeout: Duration) -> Result<reqwest::Client, ClientError> {
    install_crypto();
    reqwest::Client::builder()
        .user_agent(concat!("backstop/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .connect_timeout(connect_timeout)
        .no_proxy()
        .build()
        .map_err(ClientError::Build)
}

/// Why a request was not even tried.
#[derive(Debug, thiserror::Error)]
enum NotBegun {
    #[error("{place}: {source}")]
    Template { place: String, source: TemplateError },
    #[error("the header {name}: {source}{}", because(source))]
    Secret { name: String, source: SecretError },
    #[error("{method} is not an HTTP method")]
    Method { method: String },
    #[error("{url} is not an http or https URL")]
    Url { url: String },
    #[error("the header {name} cannot be sent: its name or its value holds characters that HTTP does not allow")]
    Header { name: String },
    #[error(transparent)]
    Client(#[from] ClientError),
}

pub async fn run(
    client: &reqwest::Client,
    request: &Request<'_>,
    subject: &Subject<'_>,
    context: &Context,
    redactor: &mut Redactor,
    started: impl FnOnce(Option<u32>, Option<String>) + Send,
) -> Done {
    let (client, built) = match prepare(client, request, subject, context, redactor) {
        Ok(both) => both,
        Err(why) => return Done::not_begun(why),
    };
    started(None, None);
    let answered = tokio::time::timeout(subject.timeout, async {
        match client.execute(built).await {
            Ok(response) => answered(response, request).await,
            Err(error) => unanswered(&error),
        }
    });
    answered.await.unwrap_or_else(|_elapsed| Done::new(Outcome::TimedOut, too_late(subject.timeout)))
}

/// An answer with another status, or whose JSON does not pass, is no; without a whole answer nothing is known.
pub async fn ask(
    client: &reqwest::Client,
    request: &Request<'_>,
    json: &[JsonTest],
    subject: &Subject<'_>,
    context: &Context,
    redactor: &mut Redactor,
) -> CheckOutcome {
    let (client, built) = match prepare(client, request, subject, context, redactor) {
        Ok(both) => both,
        Err(why) => return CheckOutcome::Unknown(format!("not asked: {why}")),
    };
    let answered = tokio::time::timeout(subject.timeout, async {
        let response = match client.execute(built).await {
            Ok(response) => response,
            Err(error) => return CheckOutcome::Unknown(unanswered(&error).detail),
        };
        let (is_wanted, said) = (request.wants(response.status()), describe(&response));
        if !is_wanted {
            return CheckOutcome::Failed(said);
        }
        if json.is_empty() {
            return CheckOutcome::Passed;
        }
        let reply = read_reply(response, ANSWER_BYTES_MAX).await;
        if let Some(broken) = reply.broken {
            return CheckOutcome::Unknown(format!("{said}, but the body of the answer broke off: {broken}"));
        }
        if reply.more {
            return CheckOutcome::Unknown(format!("{said}, but its body is larger than {ANSWER_BYTES_MAX} bytes"));
        }
        answer::judge(&reply.bytes, json)
    });
    answered.await.unwrap_or_else(|_elapsed| CheckOutcome::Unknown(too_late(subject.timeout)))
}

fn too_late(timeout: Duration) -> String {
    format!("no answer by the deadline of {}", humantime::format_duration(timeout))
}

impl Request<'_> {
    fn wants(&self, status: StatusCode) -> bool {
        if self.expect.is_empty() { status.is_success() } else { self.expect.contains(&status.as_u16()) }
    }
}

fn prepare(
    client: &reqwest::Client,
    request: &Request<'_>,
    subject: &Subject<'_>,
    context: &Context,
    redactor: &mut Redactor,
) -> Result<(reqwest::Client, reqwest::Request), NotBegun> {
    let built = build(request, subject, context, redactor)?;
    // Of a short deadline, too, some is left to tell a host that does not answer from a server that does not.
    let connect = subject.timeout / 2;
    let client = if connect < CONNECT_TIMEOUT { self::client(connect)? } else { client.clone() };
    Ok((client, built))
}

fn build(
    request: &Request<'_>,
    subject: &Subject<'_>,
    context: &Context,
    redactor: &mut Redactor,
) -> Result<reqwest::Request, NotBegun> {
    let template = |place: &str, source| NotBegun::Template { place: place.to_owned(), source };
    let method = Method::from_bytes(request.method.as_bytes());
    let method = method.map_err(|_| NotBegun::Method { method: shown(request.method) })?;
    let text = template::render(request.url, context, Place::Url).map_err(|error| template("url", error))?;
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| NotBegun::Url { url: shown(&text) })?;
    let mut headers = HeaderMap::new();
    if let Some(key) = subject.idempotency_key {
        headers.insert(IDEMPOTENCY_KEY, header(key, "Idempotency-Key")?);
    }
    let body = match request.body {
        BodyTemplate::None => None,
        BodyTemplate::Raw(text) => {
            let rendered = template::render(text, context, Place::Plain);
            Some(rendered.map_err(|error| template("body", error))?)
        }
        BodyTemplate::Json(value) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Some(render_json(value, context).map_err(|error| template("json", error))?.to_string())
        }
    };
    for (name, value) in request.headers {
        let value = match value {
            TextOrSecret::Text(text) => {
                let text = template::render(text, context, Place::Plain).map_err(|error| template(name, error))?;
                header(&text, name)?
            }
            TextOrSecret::Secret { prefix, secret } => {
                let secret = secret::read(secret).map_err(|source| NotBegun::Secret { name: name.clone(), source })?;
                redactor.add(&secret);
                let mut value = header(&format!("{prefix}{}", secret.expose_secret()), name)?;
                value.set_sensitive(true);
                value
            }
        };
        let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| NotBegun::Header { name: shown(name) })?;
        headers.insert(known, value);
    }
    let mut built = reqwest::Request::new(method, url);
    *built.headers_mut() = headers;
    *built.body_mut() = body.map(reqwest::Body::from);
    Ok(built)
}

fn header(value: &str, name: &str) -> Result<HeaderValue, NotBegun> {
    HeaderValue::from_str(value).map_err(|_| NotBegun::Header { name: shown(name) })
}

/// Every string in it is a template; names of members are not.
fn render_json(value: &Value, context: &Context) -> Result<Value, TemplateError> {
    Ok(match value {
        Value::String(text) => Value::String(template::render(text, context, Place::Json)?),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| render_json(item, context)).collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let rendered = members.iter().map(|(name, value)| Ok((name.clone(), render_json(value, context)?)));
            Value::Object(rendered.collect::<Result<_, _>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

/// No answer: it matters whether anything was sent.
fn unanswered(error: &reqwest::Error) -> Done {
    let cause = innermost(error);
    // Name resolution, connection and TLS come before the first byte of the request.
    if error.is_connect() {
        let why = if error.is_timeout() { "no connection in time".to_owned() } else { cause };
        Done::new(Outcome::Failed, format!("cannot connect: {why}"))
    } else if error.is_builder() {
        Done::not_begun(cause)
    } else {
        Done::new(Outcome::Ambiguous, format!("the request was sent, but no valid answer came: {cause}"))
    }
}

/// What really happened, such as `Connection refused`, without the layers around it, nor the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

async fn answered(response: reqwest::Response, request: &Request<'_>) -> Done {
    let wanted = request.wants(response.status());
    let detail = describe(&response);
    let reply = read_reply(response, REPLY_BYTES_MAX).await;
    let cut = if reply.more { Cut::End } else { Cut::No };
    let mut done =
        Done { output: String::from_utf8_lossy(&reply.bytes).into_owned(), cut, ..Done::new(Outcome::Failed, detail) };
    if !wanted {
        return done;
    }
    if let Some(broken) = reply.broken {
        done.outcome = Outcome::Ambiguous;
        done.detail = format!("{}, but the body of the answer broke off: {broken}", done.detail);
        return done;
    }
    match capture(request.captures, &reply) {
        Ok(captures) => {
            done.outcome = Outcome::Succeeded;
            done.captures = captures;
        }
        Err(why) => done.detail = format!("{}, but {why}", done.detail),
    }
    done
}

fn describe(response: &reqwest::Response) -> String {
    let status: StatusCode = response.status();
    let detail = format!("HTTP {}", status.as_u16());
    match response.headers().get(LOCATION).map(|location| String::from_utf8_lossy(location.as_bytes())) {
        Some(location) if status.is_redirection() => {
            format!("{detail} to {}; redirects are not followed", shown(&location))
        }
        Some(_) | None => detail,
    }
}

/// The beginning of a body.
struct Reply {
    bytes: Vec<u8>,
    more: bool,
    broken: Option<String>,
}

async fn read_reply(mut response: reqwest::Response, bytes_max: usize) -> Reply {
    let mut reply = Reply { bytes: Vec::new(), more: false, broken: None };
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = bytes_max - reply.bytes.len();
                reply.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    reply.more = true;
                    return reply;
                }
            }
            Ok(None) => return reply,
            Err(error) => {
                reply.broken = Some(innermost(&error));
                return reply;
            }
        }
    }
}

fn capture(captures: &[Capture], reply: &Reply) -> Result<BTreeMap<String, String>, String> {
    if captures.is_empty() {
        return Ok(BTreeMap::new());
    }
    if reply.more {
        return Err(format!("its body is larger than {REPLY_BYTES_MAX} bytes, so that nothing can be captured"));
    }
    let json: Value = serde_json::from_slice(&reply.bytes).map_err(|error| format!("its body is not JSON: {error}"))?;
    let mut values = BTreeMap::new();
    for Capture { name, pointer } in captures {
        let value = match json.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => {
                return Err(format!(
                    "what is at {pointer}, to be captured as {name}, is not a text, number or boolean"
                ));
            }
            None => return Err(format!("there is nothing at {pointer}, to be captured as {name}")),
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}
