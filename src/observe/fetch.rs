//! What every fetch over HTTP shares: why it brought nothing, in the words of metrics and people, and its headers.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderName;

use super::request::Unready;
use crate::machine::input::ScrapeFailure;
use crate::platform::http::{self, TroubleKind};

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
    let trouble = http::trouble(error);
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

/// None also where it is no text.
pub fn header<'r>(response: &'r Response, name: &HeaderName) -> Option<&'r str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}
