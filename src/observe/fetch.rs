//! What every fetch over HTTP shares: why it brought nothing, in the words of metrics and people, and its headers.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, LOCATION};

use super::request::Unready;
use crate::machine::input::ScrapeFailure;
use crate::platform::http::{self, Trouble, TroubleKind};

/// As much of a redirect's target is shown.
const LOCATION_CHARS_MAX: usize = 200;

pub fn failure(reason: &'static str, detail: String) -> ScrapeFailure {
    ScrapeFailure { reason, detail }
}

/// No request could be made.
pub fn unready(why: Unready) -> ScrapeFailure {
    match why {
        Unready::Secret(why) => failure("secret", why),
        Unready::Certificates(why) => failure("tls", why),
    }
}

/// The request, or reading its answer, failed. `limit`: how long it may have taken.
pub fn transport(error: &reqwest::Error, limit: Duration) -> ScrapeFailure {
    told(http::trouble(error), limit)
}

/// As [`transport`], of what is known of it.
pub fn told(trouble: Trouble, limit: Duration) -> ScrapeFailure {
    let reason = match trouble.kind {
        TroubleKind::Timeout => return failure("timeout", format!("{} ({limit:?} at most)", trouble.detail)),
        TroubleKind::Refused => "refused",
        TroubleKind::Unreachable => "unreachable",
        TroubleKind::Dns => "dns",
        TroubleKind::Tls => "tls",
        TroubleKind::Local | TroubleKind::Invalid => "unsent",
        TroubleKind::Lost => "body",
    };
    failure(reason, trouble.detail)
}

/// An answer that points elsewhere fails.
pub fn not_redirected(status: StatusCode, headers: &HeaderMap) -> Result<(), ScrapeFailure> {
    if !status.is_redirection() {
        return Ok(());
    }
    let to: String = text(headers, &LOCATION).unwrap_or("nowhere").chars().take(LOCATION_CHARS_MAX).collect();
    Err(failure("redirect", format!("it answered {status} and pointed to {to}; redirects are not followed")))
}

/// None also where it is no text.
pub fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
