//! The generic webhook: one signed POST, and what its answer means.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};

use super::{ReceiverError, retry, sign, with_causes};
use crate::config::model::{AuthSpec, ClientSpec, RequestLimits};
use crate::decide::event::{SecretRef, TextOrSecret};
use crate::machine::input::DeliveryOutcome;
use crate::machine::output::DeliveryOrder;
use crate::platform::{http, secret};
use crate::time::Now;

/// Of a refusal, as much as people read in one line.
const REPLY_CHARS_SHOWN: usize = 200;
/// A shorter secret would be found, and hidden, in ordinary words.
const REDACTED_BYTES_MIN: usize = 6;

#[derive(Debug)]
pub(super) struct Webhook {
    name: Arc<str>,
    url: TextOrSecret,
    /// The newest first; all sign.
    secrets: Vec<SecretRef>,
    headers: BTreeMap<String, TextOrSecret>,
    auth: Option<AuthSpec>,
    limits: RequestLimits,
    client: Client,
}

/// A request with its secrets in place.
struct Prepared {
    url: Url,
    headers: HeaderMap,
    /// What must not come back in an error.
    secrets: Vec<SecretString>,
}

/// Why a request could not even be made. All of it can be mended while the notice waits.
#[derive(Debug, thiserror::Error)]
enum Unprepared {
    #[error(transparent)]
    Secret(#[from] secret::SecretError),
    #[error(transparent)]
    Signing(#[from] sign::BadSecret),
    #[error("the secret that holds its address holds no address for HTTP")]
    Url,
    #[error("the value of its header {0} has characters that a header cannot have")]
    Header(String),
}

impl Webhook {
    pub fn new(
        name: &Arc<str>,
        url: &TextOrSecret,
        secrets: &[SecretRef],
        client: &ClientSpec,
        limits: &RequestLimits,
    ) -> Result<Webhook, ReceiverError> {
        if let TextOrSecret::Text(text) = url {
            address(text).map_err(|why| ReceiverError::Url { url: text.clone(), why })?;
        }
        for header in client.headers.keys() {
            HeaderName::try_from(header).map_err(|_| ReceiverError::HeaderName(header.clone()))?;
        }
        Ok(Webhook {
            name: Arc::clone(name),
            url: url.clone(),
            secrets: secrets.to_vec(),
            headers: client.headers.clone(),
            auth: client.auth.clone(),
            limits: limits.clone(),
            client: http::client(client, limits)?,
        })
    }

    /// One attempt, within the receiver's limits. `token`: what of the body must not come back in an error.
    pub async fn deliver(
        webhook: &Arc<Webhook>,
        order: &DeliveryOrder,
        body: Vec<u8>,
        token: Option<SecretString>,
        now: &Now,
    ) -> DeliveryOutcome {
        // It names the message to every receiver; without it no attempt can ever be accepted.
        let Ok(id) = HeaderValue::from_str(&order.notice.id) else {
            return DeliveryOutcome::Dead { why: "its id has characters that a header cannot have".to_owned() };
        };
        let timestamp = now.wall.as_millis().div_euclid(1000).to_string();
        let again = |why: String| DeliveryOutcome::Retry { after: retry::backoff(order.attempt), why };

        // Secrets may lie on a disk that hangs: it may cost this attempt, never a thread of the runtime.
        let prepare = {
            let (webhook, notice) = (Arc::clone(webhook), order.notice.id.clone());
            let body = body.clone();
            tokio::task::spawn_blocking(move || webhook.prepare(&notice, id, &timestamp, &body))
        };
        let limit = webhook.limits.timeout;
        let prepared = match tokio::time::timeout(limit, prepare).await {
            Ok(Ok(Ok(prepared))) => prepared,
            Ok(Ok(Err(error))) => return again(with_causes(&error)),
            Ok(Err(stopped)) => return again(format!("its secrets could not be read: {stopped}")),
            Err(_elapsed) => {
                return again(format!("its secrets could not be read within {}", humantime::format_duration(limit)));
            }
        };

        let Prepared { url, headers, mut secrets } = prepared;
        secrets.extend(token);
        match webhook.client.post(url).headers(headers).body(body).send().await {
            Ok(response) => webhook.judge(response, &secrets, order, now).await,
            Err(error) => again(webhook.transport(&error)),
        }
    }

    fn prepare(&self, id: &str, id_header: HeaderValue, timestamp: &str, body: &[u8]) -> Result<Prepared, Unprepared> {
        let mut used = Vec::new();
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let text = secret::resolve(value)?;
            let name = HeaderName::try_from(name).map_err(|_| Unprepared::Header(name.clone()))?;
            headers.insert(name.clone(), header(&name, &text)?);
            if let TextOrSecret::Secret { prefix, secret: _ } = value {
                used.push(SecretString::from(&text.expose_secret()[prefix.len()..]));
            }
        }
        if let Some(auth) = &self.auth {
            let (text, secret) = authorization(auth)?;
            headers.insert(AUTHORIZATION, header(&AUTHORIZATION, &text)?);
            used.push(secret);
        }
        let url = secret::resolve(&self.url)?;
        let parsed = address(url.expose_secret()).map_err(|_| Unprepared::Url)?;
        match &self.url {
            TextOrSecret::Text(_) => {}
            // A receiver that complains names its path rather than the whole address.
            TextOrSecret::Secret { .. } => {
                used.push(url);
                used.extend(parsed.path_segments().into_iter().flatten().map(SecretString::from));
                used.extend(parsed.query().map(SecretString::from));
            }
        }

        // After the operator's own headers: what the scheme says cannot be overridden by accident.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("webhook-id"), id_header);
        let timestamp_header = HeaderValue::from_str(timestamp).map_err(|_| Unprepared::Header("timestamp".into()))?;
        headers.insert(HeaderName::from_static("webhook-timestamp"), timestamp_header);
        if !self.secrets.is_empty() {
            let keys = self.secrets.iter().map(secret::read).collect::<Result<Vec<_>, _>>()?;
            let signatures = SecretString::from(sign::signatures(&keys, id, timestamp, body)?);
            let name = HeaderName::from_static("webhook-signature");
            headers.insert(name.clone(), header(&name, &signatures)?);
            used.extend(keys);
        }
        Ok(Prepared { url: parsed, headers, secrets: used })
    }

    async fn judge(
        &self,
        response: Response,
        secrets: &[SecretString],
        order: &DeliveryOrder,
        now: &Now,
    ) -> DeliveryOutcome {
        let status = response.status();
        if status.is_success() {
            return DeliveryOutcome::Delivered;
        }
        if status == StatusCode::GONE {
            return DeliveryOutcome::Dead {
                why: "HTTP 410 Gone: the receiver wants no more messages at this address".to_owned(),
            };
        }
        let asked = retry::asked(response.headers(), now.wall);
        let after = asked.unwrap_or_else(|| retry::backoff(order.attempt));
        let why = if status.is_redirection() {
            redacted(&self.redirect(&response), secrets)
        } else {
            let reply = self.reply(response).await;
            // Before it is cut: half a secret would not be found, and is half a secret.
            let reply = redacted(&String::from_utf8_lossy(&reply), secrets);
            match one_line(reply.as_bytes()).as_str() {
                "" => format!("HTTP {status}"),
                reply => format!("HTTP {status}: {reply}"),
            }
        };
        DeliveryOutcome::Retry { after, why }
    }

    /// Not followed: the body and its credentials would go to an address that nobody configured.
    fn redirect(&self, response: &Response) -> String {
        let to = match (&self.url, response.headers().get(LOCATION).and_then(|to| to.to_str().ok())) {
            (TextOrSecret::Text(_), Some(to)) => format!(" to {}", one_line(to.as_bytes())),
            (TextOrSecret::Text(_), None) | (TextOrSecret::Secret { .. }, _) => String::new(),
        };
        format!(
            "HTTP {}, a redirect{to}, which is not followed: put the final address into receivers.{}.webhook.url",
            response.status(),
            self.name
        )
    }

    /// The beginning of a refusal. A receiver that goes on for megabytes, or stops in the middle, is not read further.
    async fn reply(&self, mut response: Response) -> Vec<u8> {
        let mut reply = Vec::new();
        while reply.len() < self.limits.body_bytes_max {
            let Ok(Some(chunk)) = response.chunk().await else { break };
            let room = self.limits.body_bytes_max - reply.len();
            reply.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        reply
    }

    /// Without the address, which may hold a token, and without the layers that say nothing.
    fn transport(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            let (what, limit) = if error.is_connect() {
                ("connection", self.limits.connect_timeout)
            } else {
                ("answer", self.limits.timeout)
            };
            return format!("no {what} within {}", humantime::format_duration(limit));
        }
        let mut root: &dyn Error = error;
        while let Some(deeper) = root.source() {
            root = deeper;
        }
        let what = if error.is_connect() { "cannot connect" } else { "the request failed" };
        match root.downcast_ref::<reqwest::Error>() {
            Some(_) => what.to_owned(),
            None => format!("{what}: {root}"),
        }
    }
}

fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("it begins with {other}:, not with http: or https:")),
    }
}

fn header(name: &HeaderName, text: &SecretString) -> Result<HeaderValue, Unprepared> {
    let mut value =
        HeaderValue::from_str(text.expose_secret()).map_err(|_| Unprepared::Header(name.as_str().to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The header's value, and the secret in it.
fn authorization(auth: &AuthSpec) -> Result<(SecretString, SecretString), Unprepared> {
    match auth {
        AuthSpec::Bearer(token) => {
            let token = secret::read(token)?;
            Ok((SecretString::from(format!("Bearer {}", token.expose_secret())), token))
        }
        AuthSpec::Basic { username, password } => {
            let password = secret::read(password)?;
            let both = SecretString::from(format!("{username}:{}", password.expose_secret()));
            Ok((SecretString::from(format!("Basic {}", STANDARD.encode(both.expose_secret()))), password))
        }
    }
}

/// What a receiver says, as part of a sentence in a log.
fn one_line(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(REPLY_CHARS_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn redacted(text: &str, secrets: &[SecretString]) -> String {
    secrets
        .iter()
        .map(ExposeSecret::expose_secret)
        .filter(|secret| secret.len() >= REDACTED_BYTES_MIN)
        .fold(text.to_owned(), |text, secret| text.replace(secret, "[redacted]"))
}
