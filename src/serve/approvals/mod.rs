//! The page behind the link of a notice, and the listener that serves it and nothing else.
//!
//! Chat programs, mail scanners and browsers open links before people do, so opening one only shows what is asked: GET
//! and HEAD change nothing, ever. The button sends a POST, and the machine decides about it as about every other answer.
//! Nothing here remembers links: the machine knows what it still asks.
//!
//! Who has no genuine link learns nothing: not even whether an incident exists. Attempts are not counted against anybody:
//! 256 bits are not guessed, and a limit on wrong ones would let a stranger lock out those who have a right one.
//! Connections, headers and times are limited as for the API (`listen`).

mod page;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::page::{Banner, Page, Said};
use super::listen;
use super::metrics::{LinkUse, Metrics};
use super::routes::ANSWER_WITHIN;
use crate::config::model::Approvals;
use crate::decide::event::Actor;
use crate::engine::handle::Handle;
use crate::link::{self, KeyError, Keys, Link, Refused};
use crate::machine::input::{Answer, Command, Question, Refusal};
use crate::machine::snapshot::{IncidentView, JournalHealth, QuestionView, Snapshot};
use crate::platform::clock::Clock;

/// A form with a reason of a few sentences.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// As of a reason over the API: it goes into notices.
const REASON_BYTES_MAX: usize = 4 * 1024;

/// What the page stands on.
#[derive(Debug)]
pub struct Parts {
    pub handle: Handle,
    /// None while the configuration in force has no links. A reload may bring others.
    pub approvals: watch::Receiver<Option<Arc<Approvals>>>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// The daemon stops; it still says so for a while.
    pub draining: CancellationToken,
}

/// Serves until `shutdown`, then lets requests under way finish for a bounded time.
pub async fn start(listener: TcpListener, parts: Parts, shutdown: CancellationToken) {
    listen::door(listener, &router(Arc::new(parts)), &shutdown).await;
}

/// One handler: the prefix of the paths is the configuration's, and may change with a reload.
fn router(parts: Arc<Parts>) -> Router {
    Router::new().fallback(respond).with_state(parts)
}

/// What a genuine link leads to.
struct Followed {
    link: Link,
    snapshot: Arc<Snapshot>,
}

impl Followed {
    /// None: it is over for so long that it is not kept any more.
    fn incident(&self) -> Option<&IncidentView> {
        self.snapshot.incidents.iter().find(|view| *view.id.0 == *self.link.incident)
    }
}

async fn respond(State(parts): State<Arc<Parts>>, request: Request) -> Response {
    let slow = (Some(LinkUse::Unavailable), page::plain(StatusCode::SERVICE_UNAVAILABLE, Said::Slow));
    let answered = tokio::time::timeout(ANSWER_WITHIN, answer(&parts, request)).await;
    let (what, page) = answered.unwrap_or(Err(slow)).unwrap_or_else(|refused| refused);
    if let Some(what) = what {
        parts.metrics.count_link(what);
    }
    sealed(page.into_response())
}

/// What was done with a link (None: it was none), and the page that says so.
type Answered = (Option<LinkUse>, Page);

async fn answer(parts: &Parts, request: Request) -> Result<Answered, Answered> {
    let (head, body) = request.into_parts();
    let nothing_here = || (None, page::plain(StatusCode::NOT_FOUND, Said::NothingHere));
    let approvals = parts.approvals.borrow().clone().ok_or_else(nothing_here)?;
    let base = Url::parse(&approvals.external_url).map_err(|_| nothing_here())?;
    let token = token_in(&head.uri, &base).ok_or_else(nothing_here)?;
    let asks = match head.method {
        Method::GET | Method::HEAD => false,
        Method::POST => true,
        _ => return Err((None, page::plain(StatusCode::METHOD_NOT_ALLOWED, Said::NoSuchMethod))),
    };
    if asks && !same_origin(&head.headers, &base) {
        return Err((Some(LinkUse::Foreign), page::plain(StatusCode::FORBIDDEN, Said::Foreign)));
    }
    let link = genuine(token, &approvals).await?;
    let followed = Followed { link, snapshot: parts.handle.snapshot() };
    if followed.link.expires <= parts.clock.now().wall {
        return Err((Some(LinkUse::Expired), page::expired(&followed)));
    }
    if asks {
        let (approves, reason) = form(&head.headers, body).await.map_err(|page| (None, page))?;
        Ok(take(parts, followed, approves, reason).await)
    } else {
        Ok(show(parts, &followed, None))
    }
}

/// The token of a path under the prefix of the external address; a proxy passes paths on as they are.
fn token_in<'u>(uri: &'u Uri, base: &Url) -> Option<&'u str> {
    let path = uri.path().strip_prefix(base.path().trim_end_matches('/'))?;
    path.strip_prefix(link::PATH).filter(|token| !token.is_empty() && !token.contains('/'))
}

/// A browser says where a form was sent from. What counts is where people see the page: behind a proxy that is neither
/// this listener's address nor its scheme. Programs send neither header.
fn same_origin(headers: &HeaderMap, base: &Url) -> bool {
    let site = headers.get(HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return false;
    }
    let ours = base.origin().ascii_serialization();
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&ours))
}

async fn genuine(token: &str, approvals: &Arc<Approvals>) -> Result<Link, Answered> {
    let (token, approvals) = (token.to_owned(), Arc::clone(approvals));
    // Keys are files: reading them would hold up the other requests.
    let opened = tokio::task::spawn_blocking(move || {
        let keys = Keys::read(&approvals.keys)?;
        Ok::<_, KeyError>(link::open(&token, &approvals.external_url, &keys))
    });
    let cannot = |why: &dyn std::error::Error| {
        tracing::error!("no link can be checked: {why}");
        (Some(LinkUse::Unavailable), page::plain(StatusCode::SERVICE_UNAVAILABLE, Said::NoKey))
    };
    match opened.await {
        Ok(Ok(Ok(link))) => Ok(link),
        Ok(Ok(Err(Refused::Malformed))) => {
            Err((Some(LinkUse::Malformed), page::plain(StatusCode::NOT_FOUND, Said::Malformed)))
        }
        Ok(Ok(Err(Refused::Forged))) => Err((Some(LinkUse::Forged), page::plain(StatusCode::FORBIDDEN, Said::Forged))),
        Ok(Err(error)) => Err(cannot(&error)),
        Err(error) => Err(cannot(&error)),
    }
}

/// What the button sends: does it approve, and why.
async fn form(headers: &HeaderMap, body: Body) -> Result<(bool, String), Page> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(page::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, Said::NoForm));
    }
    let Ok(bytes) = to_bytes(body, FORM_BYTES_MAX).await else {
        return Err(page::plain(StatusCode::PAYLOAD_TOO_LARGE, Said::TooLong));
    };
    let (mut answers, mut reason) = (Vec::new(), String::new());
    for (name, value) in url::form_urlencoded::parse(&bytes) {
        match &*name {
            "answer" => answers.push(value.into_owned()),
            "reason" => {
                reason = value.trim().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
            }
            _ => {}
        }
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(page::plain(StatusCode::PAYLOAD_TOO_LARGE, Said::TooLong));
    }
    // One answer, and a clear one: who sends both has sent neither.
    match answers.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["approve"] => Ok((true, reason)),
        ["decline"] => Ok((false, reason)),
        _ => Err(page::plain(StatusCode::UNPROCESSABLE_ENTITY, Said::NoForm)),
    }
}

/// What is asked, or why this link answers nothing any more.
fn show(parts: &Parts, followed: &Followed, refused: Option<Banner>) -> Answered {
    let Some(view) = followed.incident() else {
        return (Some(LinkUse::Over), page::plain(StatusCode::GONE, Said::Forgotten));
    };
    let Some(question) = &view.question else { return (Some(LinkUse::Over), page::over(followed, view)) };
    if !is_this(question, &followed.link) {
        return (Some(LinkUse::Changed), page::changed(followed, view, question));
    }
    let banner = trouble(parts, &followed.snapshot).or(refused);
    let what = match banner.as_ref().map(|banner| banner.status) {
        None => LinkUse::Shown,
        Some(StatusCode::SERVICE_UNAVAILABLE) => LinkUse::Unavailable,
        Some(_) => LinkUse::Refused,
    };
    (Some(what), page::asks(followed, view, question, banner.as_ref()))
}

/// Why no answer can be taken now, whatever it is.
fn trouble(parts: &Parts, snapshot: &Snapshot) -> Option<Banner> {
    let text = match &snapshot.journal {
        _ if parts.draining.is_cancelled() => {
            "backstop is stopping. The link counts again when it has started anew.".to_owned()
        }
        JournalHealth::Writing => return None,
        JournalHealth::Failing { why, .. } => {
            format!("backstop cannot write its journal, so it takes no answer and begins no rollback: {why}")
        }
    };
    Some(Banner { status: StatusCode::SERVICE_UNAVAILABLE, text })
}

fn is_this(question: &QuestionView, link: &Link) -> bool {
    let Link { incident: _, number, level, bad, target, receiver: _, expires: _ } = link;
    let level = usize::try_from(*level).ok().and_then(|level| level.checked_add(1));
    question.number == *number && Some(question.level.0) == level && question.bad == *bad && question.target == *target
}

/// The name is what the signature vouches for: whoever has the link, and not who they say they are.
fn actor(link: &Link) -> Actor {
    Actor { name: format!("the link of {}", link.receiver), via: format!("{}:{}", Actor::LINK, link.receiver) }
}

/// Gives the answer to the machine, and says what it made of it.
async fn take(parts: &Parts, followed: Followed, approves: bool, reason: String) -> Answered {
    let Link { incident, number, level, bad, target, receiver: _, expires: _ } = followed.link.clone();
    let Ok(level) = usize::try_from(level) else { return show(parts, &followed, None) };
    let question = Question { number, level, bad, target };
    let actor = actor(&followed.link);
    let command = Command::Answer { incident: incident.clone(), approves, reason, question };
    let answer = parts.handle.command(actor.clone(), command).await;
    // What the answer changed is in there; what it was refused for, too.
    let followed = Followed { snapshot: parts.handle.snapshot(), ..followed };
    let (what, page) = match answer {
        Answer::Done { .. } if approves => (Some(LinkUse::Approved), page::done(&followed, true)),
        Answer::Done { .. } => (Some(LinkUse::Declined), page::done(&followed, false)),
        Answer::Refused(refusal) => {
            let status = match refusal {
                Refusal::NotAllowed(_) => StatusCode::FORBIDDEN,
                Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                Refusal::Conflict(_) | Refusal::Invalid(_) | Refusal::NotFound(_) => StatusCode::CONFLICT,
            };
            show(parts, &followed, Some(Banner { status, text: refusal.to_string() }))
        }
    };
    let status = page.status.as_u16();
    let did = if approves { "approve" } else { "decline" };
    tracing::info!(actor = actor.name, via = actor.via, status, "{did} {incident} by a link");
    (what, page)
}

/// What every answer of this listener says to browsers: run nothing, load nothing, keep nothing, tell nobody, and show it
/// in no frame.
///
/// The referrer goes nowhere but back here: with `no-referrer` browsers send `Origin: null` with a form, and nobody could
/// tell where an answer comes from (Fetch, "append a request `Origin` header").
fn sealed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow, noarchive, nosnippet"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, page::content_security_policy());
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}
