//! Who may command: whoever reached the unix socket, or holds a bearer token; never a page of another origin.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::error::ApiError;
use super::{Parts, Tokens};
use crate::decide::event::Actor;
use crate::platform::secret;

/// The other end of a connection; each connection carries it as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Tcp,
    /// The user as the kernel knows them.
    Unix {
        uid: u32,
    },
}

/// Stands before every route that changes something. Puts the [`Actor`] into the request.
pub(super) async fn authenticate(
    State(parts): State<Arc<Parts>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (method, asked) = (request.method().clone(), request.uri().path().to_owned());
    // It is nobody's command, so it stands in the log and not in the journal, which strangers must not fill.
    let unknown = |error: ApiError| {
        tracing::info!("refused, not authenticated: {method} {asked}");
        error
    };
    same_origin(request.headers()).map_err(unknown)?;
    json_only(request.method(), request.headers())?;
    let actor = match request.extensions().get::<Peer>().copied() {
        Some(Peer::Unix { uid }) => Actor { name: user(uid), via: "cli".to_owned() },
        Some(Peer::Tcp) | None => {
            let tokens = Arc::clone(&parts.tokens.borrow());
            Actor { name: bearer(request.headers(), tokens).await.map_err(unknown)?, via: "api".to_owned() }
        }
    };
    let asked = format!("{} {}", request.method(), request.uri().path());
    request.extensions_mut().insert(actor.clone());
    let response = next.run(request).await;
    tracing::info!(actor = actor.name, via = actor.via, status = response.status().as_u16(), "{asked}");
    Ok(response)
}

/// A browser says where a request comes from. Programs send neither header.
fn same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = || {
        let help = "commands are taken from programs and from pages of the same origin only";
        Err(ApiError::forbidden("this request comes from another origin", help))
    };
    if let Some(site) = headers.get(HeaderName::from_static("sec-fetch-site"))
        && site != "same-origin"
        && site != "none"
    {
        return refused();
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (origin, host) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        (Some(_) | None, _) => refused(),
    }
}

/// A form of another page can post text without asking first, but not JSON.
fn json_only(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if method == Method::DELETE {
        return Ok(());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let help = "send Content-Type: application/json and a JSON object, {} where there is nothing to say";
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(ApiError::new(status, "unsupported_media_type", "the body has to be JSON", help))
}

/// The name of the token that was sent.
async fn bearer(headers: &HeaderMap, tokens: Arc<Tokens>) -> Result<String, ApiError> {
    if tokens.is_empty() {
        let help = "add one under [daemon.tokens], or use the unix socket";
        return Err(ApiError::forbidden("no token is configured, so nothing can be commanded over TCP", help));
    }
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, sent)) = sent else {
        return Err(ApiError::unauthorized("a command over TCP needs a token"));
    };
    let sent = SecretString::from(sent.trim());
    // Secrets are files: reading them would hold up the other requests.
    let found = tokio::task::spawn_blocking(move || holder(&sent, &tokens)).await;
    match found {
        Ok(Some(name)) => Ok(name),
        Ok(None) => Err(ApiError::unauthorized("this token is not known")),
        Err(error) => {
            tracing::error!(%error, "reading the tokens' secrets failed");
            Err(ApiError::unavailable("the tokens cannot be read", "see the daemon's log"))
        }
    }
}

/// Compares with every token, whatever was found before, and in constant time: how long it takes tells nothing.
fn holder(sent: &SecretString, tokens: &Tokens) -> Option<String> {
    let sent = Sha256::digest(sent.expose_secret());
    let mut found = None;
    for (name, reference) in tokens {
        match secret::read(reference) {
            Ok(token) => {
                let token = Sha256::digest(token.expose_secret());
                let differs = sent.iter().zip(token.iter()).fold(0_u8, |differs, (a, b)| differs | (a ^ b));
                if std::hint::black_box(differs) == 0 {
                    found = Some(name.clone());
                }
            }
            Err(error) => tracing::warn!(token = name, %error, "this token cannot be used"),
        }
    }
    found
}

/// `uid:1000`, with the name that this machine's /etc/passwd gives it. The number is what the kernel vouches for; the
/// name helps people, and is missing for users of a directory service or of another container.
fn user(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    match name_in(&passwd, uid) {
        Some(name) => format!("uid:{uid} ({name})"),
        None => format!("uid:{uid}"),
    }
}

fn name_in(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_the_same_origin_may_command() {
        let host = ("host", "127.0.0.1:9464");
        for ok in [
            headers(&[host]),
            headers(&[host, ("origin", "http://127.0.0.1:9464")]),
            headers(&[host, ("origin", "http://127.0.0.1:9464"), ("sec-fetch-site", "same-origin")]),
        ] {
            assert_eq!(same_origin(&ok), Ok(()), "{ok:?}");
        }
        for bad in [
            headers(&[host, ("origin", "https://evil.example")]),
            headers(&[host, ("origin", "http://127.0.0.1:9465")]),
            headers(&[host, ("origin", "null")]),
            headers(&[("origin", "http://127.0.0.1:9464")]),
            headers(&[host, ("sec-fetch-site", "cross-site")]),
            headers(&[host, ("origin", "http://127.0.0.1:9464"), ("sec-fetch-site", "same-site")]),
        ] {
            assert!(same_origin(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_come_from_the_passwd_file() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# broken line\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_in(passwd, 1000), Some("alice"));
        assert_eq!(name_in(passwd, 1001), None);
    }
}
