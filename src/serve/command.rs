//! What may be asked: each route turns its body into one command of the machine, and the answer into JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Parts;
use super::error::ApiError;
use super::wire::{
    AnswerBody, CommandAnswer, ForgetBody, HoldBody, KillSwitchBody, PauseBody, PhaseBody, ReasonBody, ReleaseBody,
    ResumeBody, RollbackBody, SignalBody, SkipBody, TestNotifyBody,
};
use crate::decide::event::Actor;
use crate::machine::input::{Answer, Command, Question, ReleasePhase};

/// A pause that lasts longer is a daemon that should be stopped, or a configuration that should be changed.
const PAUSE_MAX: Duration = Duration::from_hours(30 * 24);
/// A year: a vulnerability stays until it is fixed, and a signal that nobody repeats must still end.
const SIGNAL_MAX: Duration = Duration::from_hours(366 * 24);
/// Names from outside reach commands and file names.
const NAME_BYTES_MAX: usize = 128;
/// Reasons and details go into notices, which have to stay under 20 kB.
const TEXT_BYTES_MAX: usize = 4 * 1024;

type Answered = Result<Json<CommandAnswer>, ApiError>;
type Shared = State<Arc<Parts>>;
type By = Extension<Actor>;

/// The gate stands before all of them; it puts the [`Actor`] into the request.
pub(super) fn routes() -> Router<Arc<Parts>> {
    Router::new()
        .route("/v1/services/{service}/rollback", post(rollback))
        .route("/v1/services/{service}/signals/{signal}", post(raise_signal).delete(clear_signal))
        .route("/v1/services/{service}/forget", post(forget))
        .route("/v1/incidents/{id}/approve", post(approve))
        .route("/v1/incidents/{id}/decline", post(decline))
        .route("/v1/incidents/{id}/acknowledge", post(acknowledge))
        .route("/v1/incidents/{id}/abort", post(abort))
        .route("/v1/kill-switch", post(kill_switch))
        .route("/v1/incidents/{id}/hold", post(hold))
        .route("/v1/incidents/{id}/unhold", post(unhold))
        .route("/v1/incidents/{id}/skip", post(skip))
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .route("/v1/releases", post(announce))
        .route("/v1/test-notify", post(test_notify))
}

/// A body of at most 64 KiB (the router's limit), strictly of the form `T`.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| body_error(&rejection))?;
        let help = "docs/api.md shows its form";
        // serde would take an array for the fields in their order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::invalid("the body is not a JSON object", help));
        }
        serde_json::from_slice(&bytes)
            .map(Body)
            .map_err(|error| ApiError::invalid(format!("the body is not what this route takes: {error}"), help))
    }
}

fn body_error(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return ApiError::new(
            status,
            "too_large",
            "the body is larger than 64 KiB",
            "commands are small; shorten the text",
        );
    }
    ApiError::invalid(rejection.body_text(), "send the whole body")
}

async fn ask(parts: &Parts, actor: Actor, command: Command) -> Answered {
    match parts.handle.command(actor, command).await {
        Answer::Done { message, incident, details } => {
            Ok(Json(CommandAnswer { message, incident: incident.map(|id| id.to_string()), details }))
        }
        Answer::Refused(refusal) => Err(refusal.into()),
    }
}

/// A name that may later be a command's argument (the design's rule for values from outside).
fn name(what: &str, text: String) -> Result<String, ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/@+-".contains(c);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.starts_with('-') || !text.chars().all(allowed) {
        let help = "1 to 128 of the characters A-Z a-z 0-9 . _ : / @ + -, not beginning with -";
        return Err(ApiError::invalid(format!("{text:?} cannot be the name of a {what}"), help));
    }
    Ok(text)
}

/// Text for people.
fn prose(what: &str, text: &str) -> Result<String, ApiError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ApiError::invalid(format!("the {what} is longer than 4 KiB"), "shorten it, or link to the rest"));
    }
    Ok(text.trim().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect())
}

fn reason(text: &str) -> Result<String, ApiError> {
    let reason = prose("reason", text)?;
    if reason.is_empty() {
        let help = "say in a few words why, for those who read the report";
        return Err(ApiError::invalid("a reason is needed", help));
    }
    Ok(reason)
}

fn lasting(what: &str, duration: Duration, max: Duration) -> Result<Duration, ApiError> {
    if duration.is_zero() || duration > max {
        let help = format!("more than nothing, and at most {}", humantime::format_duration(max));
        return Err(ApiError::invalid(format!("{what} cannot last {}", humantime::format_duration(duration)), help));
    }
    Ok(duration)
}

async fn rollback(
    State(parts): Shared,
    Extension(actor): By,
    Path(service): Path<String>,
    Body(body): Body<RollbackBody>,
) -> Answered {
    let level = match body.level {
        None => None,
        Some(0) => return Err(ApiError::invalid("there is no level 0", "levels are counted from 1")),
        Some(level) => Some(level - 1),
    };
    let command = Command::Rollback { service, reason: reason(&body.reason)?, level, overrides: body.overrides };
    ask(&parts, actor, command).await
}

async fn answer(parts: &Parts, actor: Actor, incident: String, approves: bool, body: AnswerBody) -> Answered {
    let reason = prose("reason", &body.reason)?;
    let command = match body.question {
        Some(shown) => {
            let level = shown.level.checked_sub(1);
            let level = level.ok_or_else(|| ApiError::invalid("there is no level 0", "levels are counted from 1"))?;
            let (bad, target) = (shown.release_bad, shown.release_target);
            Command::Answer {
                incident,
                approves,
                reason,
                question: Question { number: shown.number, level, bad, target },
            }
        }
        None if approves => Command::Approve { incident, reason },
        None => Command::Decline { incident, reason },
    };
    ask(parts, actor, command).await
}

async fn approve(
    State(parts): Shared,
    Extension(actor): By,
    Path(incident): Path<String>,
    Body(body): Body<AnswerBody>,
) -> Answered {
    answer(&parts, actor, incident, true, body).await
}

async fn decline(
    State(parts): Shared,
    Extension(actor): By,
    Path(incident): Path<String>,
    Body(body): Body<AnswerBody>,
) -> Answered {
    answer(&parts, actor, incident, false, body).await
}

async fn acknowledge(
    State(parts): Shared,
    Extension(actor): By,
    Path(incident): Path<String>,
    Body(body): Body<ReasonBody>,
) -> Answered {
    ask(&parts, actor, Command::Acknowledge { incident, reason: prose("reason", &body.reason)? }).await
}

async fn hold(
    State(parts): Shared,
    Extension(actor): By,
    Path(incident): Path<String>,
    Body(body): Body<HoldBody>,
) -> Answered {
    let duration = lasting("a hold", body.duration, PAUSE_MAX)?;
    ask(&parts, actor, Command::Hold { incident, duration, reason: reason(&body.reason)? }).await
}

async fn unhold(
    State(parts): Shared,
    Extension(actor): By,
    Path(incident): Path<String>,
    Body(body): Body<ReasonBody>,
) -> Answered {
    ask(&parts, actor, Command::Unhold { incident, reason: prose("reason", &body.reason)? }).await
}

async fn skip(
    State(parts): Shared,
    Extension(actor): By,
    Path(incident): Path<String>,
    Body(body): Body<SkipBody>,
) -> Answered {
    let step = match body.step {
        None => None,
        Some(0) => return Err(ApiError::invalid("there is no step 0", "steps are counted from 1")),
        Some(step) => Some(step - 1),
    };
    ask(&parts, actor, Command::Skip { incident, step, reason: reason(&body.reason)? }).await
}

async fn abort(
    State(parts): Shared,
    Extension(actor): By,
    Path(incident): Path<String>,
    Body(body): Body<ReasonBody>,
) -> Answered {
    ask(&parts, actor, Command::Abort { incident, reason: prose("reason", &body.reason)? }).await
}

async fn pause(State(parts): Shared, Extension(actor): By, Body(body): Body<PauseBody>) -> Answered {
    let duration = lasting("a pause", body.duration, PAUSE_MAX)?;
    ask(&parts, actor, Command::Pause { service: body.service, duration, reason: reason(&body.reason)? }).await
}

async fn resume(State(parts): Shared, Extension(actor): By, Body(body): Body<ResumeBody>) -> Answered {
    ask(&parts, actor, Command::Resume { service: body.service, reason: prose("reason", &body.reason)? }).await
}

async fn kill_switch(State(parts): Shared, Extension(actor): By, Body(body): Body<KillSwitchBody>) -> Answered {
    let KillSwitchBody { service, on, reason: why } = body;
    ask(&parts, actor, Command::KillSwitch { service, on, reason: reason(&why)? }).await
}

async fn raise_signal(
    State(parts): Shared,
    Extension(actor): By,
    Path((service, signal)): Path<(String, String)>,
    Body(body): Body<SignalBody>,
) -> Answered {
    let ttl = lasting("a signal", body.ttl, SIGNAL_MAX)?;
    let (signal, detail) = (name("signal", signal)?, prose("detail", &body.detail)?);
    ask(&parts, actor, Command::RaiseSignal { service, signal, ttl, detail }).await
}

/// A DELETE has no body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearQuery {
    #[serde(default)]
    reason: String,
}

async fn clear_signal(
    State(parts): Shared,
    Extension(actor): By,
    Path((service, signal)): Path<(String, String)>,
    query: Result<Query<ClearQuery>, QueryRejection>,
) -> Answered {
    let Query(query) =
        query.map_err(|rejection| ApiError::invalid(rejection.body_text(), "the only parameter is reason=TEXT"))?;
    ask(&parts, actor, Command::ClearSignal { service, signal, reason: prose("reason", &query.reason)? }).await
}

async fn announce(State(parts): Shared, Extension(actor): By, Body(body): Body<ReleaseBody>) -> Answered {
    let phase = match body.phase {
        PhaseBody::Begin => ReleasePhase::Begin,
        PhaseBody::End => ReleasePhase::End,
    };
    let release = name("release", body.release)?;
    ask(&parts, actor, Command::AnnounceRelease { service: body.service, release, phase }).await
}

async fn forget(
    State(parts): Shared,
    Extension(actor): By,
    Path(service): Path<String>,
    Body(body): Body<ForgetBody>,
) -> Answered {
    let reason = prose("reason", &body.reason)?;
    ask(&parts, actor, Command::Forget { service, release: body.release, reason }).await
}

async fn test_notify(State(parts): Shared, Extension(actor): By, Body(body): Body<TestNotifyBody>) -> Answered {
    ask(&parts, actor, Command::TestNotify { receiver: body.receiver }).await
}
