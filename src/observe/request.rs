//! One HTTP client of a target, with headers and authentication that are read at each use.

use std::sync::Arc;
use std::time::SystemTime;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};

use super::ObserveError;
use super::blocking::Blocking;
use crate::config::model::{AuthSpec, ClientSpec, RequestLimits};
use crate::decide::event::TextOrSecret;
use crate::platform::http::{self, ClientError, Connections};
use crate::platform::secret;

/// The sentence for secrets on a disk that hangs.
pub const NOT_IN_TIME: &str = "the files with secrets could not be read in time";

/// Why no request could be made.
#[derive(Debug)]
pub enum Unready {
    /// A secret cannot be read, or cannot stand in a header. Never holds the secret.
    Secret(String),
    /// The certificates changed on the disk, and what is there now cannot be used.
    Certificates(String),
}

/// Keeps the client and never a secret: a rotated secret, CA or certificate file is seen at the next request.
#[derive(Debug)]
pub struct Requester {
    spec: Arc<ClientSpec>,
    limits: RequestLimits,
    connections: Connections,
    client: Client,
    stamp: Stamp,
    files: Blocking<Result<Refreshed, Unready>>,
}

/// The clients of a configuration that is about to be observed. A client holds a third of a megabyte of certificates and
/// settings, and the targets of a scrape are many and alike.
#[derive(Debug, Default)]
pub struct Clients(Vec<Shared>);

#[derive(Clone, Debug)]
struct Shared {
    spec: Arc<ClientSpec>,
    limits: RequestLimits,
    connections: Connections,
    stamp: Stamp,
    client: Client,
}

impl Clients {
    fn get(
        &mut self,
        spec: &ClientSpec,
        limits: &RequestLimits,
        connections: Connections,
    ) -> Result<&Shared, ClientError> {
        let same = |one: &Shared| *one.spec == *spec && one.limits == *limits && one.connections == connections;
        if let Some(at) = self.0.iter().position(same) {
            return Ok(&self.0[at]);
        }
        let client = http::client_with(spec, limits, connections)?;
        let spec = Arc::new(spec.clone());
        let stamp = stamp(&spec);
        self.0.push(Shared { spec, limits: limits.clone(), connections, stamp, client });
        Ok(&self.0[self.0.len() - 1])
    }
}

/// The headers of a request and, where the certificate files changed, the client that uses the new ones.
type Refreshed = (HeaderMap, Option<(Stamp, Client)>);

/// When the certificate files were last written.
type Stamp = [Option<SystemTime>; 2];

impl Requester {
    /// What is wrong with the specification itself is an error here and not at each request.
    pub fn new(
        what: &str,
        spec: &ClientSpec,
        limits: &RequestLimits,
        connections: Connections,
    ) -> Result<Requester, ObserveError> {
        Requester::sharing(what, spec, limits, connections, &mut Clients::default())
    }

    /// As [`Requester::new`], with the client of an earlier one that talks in the same way, if there is one.
    pub fn sharing(
        what: &str,
        spec: &ClientSpec,
        limits: &RequestLimits,
        connections: Connections,
        clients: &mut Clients,
    ) -> Result<Requester, ObserveError> {
        for name in spec.headers.keys() {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ObserveError::invalid(what, format!("{name:?} is not the name of a header")))?;
        }
        let shared = clients
            .get(spec, limits, connections)
            .map_err(|source| ObserveError::Client { what: what.to_owned(), source })?;
        let Shared { spec, stamp, client, .. } = shared.clone();
        Ok(Requester { stamp, spec, limits: limits.clone(), connections, client, files: Blocking::new() })
    }

    /// A request with the specification's headers and authentication.
    pub async fn request(&mut self, method: Method, url: Url) -> Result<RequestBuilder, Unready> {
        let headers = self.headers().await?;
        Ok(self.client.request(method, url).headers(headers))
    }

    /// The specification's headers and authentication, for a request that is made without the client.
    pub async fn headers(&mut self) -> Result<HeaderMap, Unready> {
        if !reads_files(&self.spec) {
            return headers(&self.spec).map_err(Unready::Secret);
        }
        let spec = Arc::clone(&self.spec);
        let (limits, connections, known) = (self.limits.clone(), self.connections, self.stamp);
        let read = self.files.run(self.limits.timeout, move || {
            let headers = headers(&spec).map_err(Unready::Secret)?;
            let stamp = stamp(&spec);
            if stamp == known {
                return Ok((headers, None));
            }
            let client = http::client_with(&spec, &limits, connections)
                .map_err(|error| Unready::Certificates(sentence(&error)))?;
            Ok((headers, Some((stamp, client))))
        });
        let read = read.await;
        let (headers, rebuilt) = read.ok_or_else(|| Unready::Secret(NOT_IN_TIME.to_owned()))??;
        if let Some((stamp, client)) = rebuilt {
            self.stamp = stamp;
            self.client = client;
        }
        Ok(headers)
    }
}

fn reads_files(spec: &ClientSpec) -> bool {
    let secret = |text: &TextOrSecret| matches!(text, TextOrSecret::Secret { .. });
    spec.auth.is_some()
        || spec.headers.values().any(secret)
        || spec.tls.ca_file.is_some()
        || spec.tls.identity_file.is_some()
}

fn stamp(spec: &ClientSpec) -> Stamp {
    [&spec.tls.ca_file, &spec.tls.identity_file]
        .map(|file| file.as_ref().and_then(|path| std::fs::metadata(path).ok()?.modified().ok()))
}

fn headers(spec: &ClientSpec) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, text) in &spec.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not a header's name"))?;
        let value = secret::resolve(text).map_err(|error| sentence(&error))?;
        headers.insert(header, header_value(&value, name)?);
    }
    let authorization = match &spec.auth {
        None => return Ok(headers),
        Some(AuthSpec::Bearer(token)) => {
            let token = secret::read(token).map_err(|error| sentence(&error))?;
            SecretString::from(format!("Bearer {}", token.expose_secret()))
        }
        Some(AuthSpec::Basic { username, password }) => {
            use base64::Engine as _;
            let password = secret::read(password).map_err(|error| sentence(&error))?;
            let both = SecretString::from(format!("{username}:{}", password.expose_secret()));
            let encoded = base64::engine::general_purpose::STANDARD.encode(both.expose_secret());
            SecretString::from(format!("Basic {encoded}"))
        }
    };
    headers.insert(AUTHORIZATION, header_value(&authorization, "authorization")?);
    Ok(headers)
}

fn header_value(text: &SecretString, name: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| {
        format!("the value of the header {name} holds a line break or another character that cannot be sent")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error with what caused it.
pub fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// An address that must be an absolute HTTP URL.
pub fn http_url(what: &str, address: &str) -> Result<Url, ObserveError> {
    let url = Url::parse(address).map_err(|error| ObserveError::invalid(what, format!("{address:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(ObserveError::invalid(what, format!("{address:?} is not an http:// or https:// address")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // An address is shown everywhere.
        let why = "its address holds a user name or a password; give them as authentication instead";
        return Err(ObserveError::invalid(url.host_str().unwrap_or_default(), why.to_owned()));
    }
    Ok(url)
}

/// `host:port`, with the port that the scheme stands for where none is written: what the label `instance` says.
pub fn host_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
