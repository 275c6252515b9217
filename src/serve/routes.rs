//! What there is to read: health, readiness, metrics, status, incidents and their reports.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::error::ApiError;
use super::wire::{IncidentBody, IncidentList, IncidentSummary, ReadyBody, StatusBody};
use super::{Parts, audit, command, gate, metrics};
use crate::decide::report::Report;
use crate::engine::handle::Handle;
use crate::machine::snapshot::{IncidentView, JournalHealth, Snapshot};

/// A request that is not answered by then gets 503. A command waits for the disk; nothing else waits for anything.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A command is a few hundred bytes; a signal's detail may be a page.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Incidents in one answer, unless asked otherwise.
const INCIDENTS_DEFAULT: usize = 100;

/// `GET /`, for whoever opens the address to see what it is.
const INDEX: &str = "\
backstop

GET /healthz                      whether the process lives
GET /readyz                       whether it watches, and if not, why
GET /metrics                      its own metrics, in OpenMetrics text
GET /v1/status                    services, triggers, targets, releases, receivers
GET /v1/incidents                 incidents, the latest first
GET /v1/incidents/ID              one with all that is known of it
GET /v1/incidents/ID/report       the same as Markdown
GET /v1/audit                     who did what, the latest first

Commands are POST requests over the unix socket or with a token: docs/api.md.
";

/// Reading for everyone, commands for whom the gate lets through.
pub(super) fn router(parts: Arc<Parts>) -> Router {
    let reading = Router::new()
        .route("/", get(async || INDEX))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(own_metrics))
        .route("/v1/status", get(status))
        .route("/v1/incidents", get(incidents))
        .route("/v1/incidents/{id}", get(incident))
        .route("/v1/incidents/{id}/report", get(report))
        .route("/v1/audit", get(audit::audit));
    let commands = command::routes().route_layer(from_fn_with_state(Arc::clone(&parts), gate::authenticate));
    reading
        .merge(commands)
        .method_not_allowed_fallback(async || {
            let help = "docs/api.md lists the routes and their methods";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this route has no such method", help)
        })
        .fallback(async |uri: Uri| {
            ApiError::not_found(format!("there is nothing at {}", uri.path()), "docs/api.md lists the routes")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(in_time))
        .with_state(parts)
}

async fn in_time(request: Request, next: Next) -> Response {
    if let Ok(response) = tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        return response;
    }
    let message = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
    let help = "what was asked may still happen: look at GET /v1/status before asking again";
    ApiError::unavailable(message, help).into_response()
}

/// Why the daemon is not ready, one sentence each; empty when it is.
fn not_ready(handle: &Handle, snapshot: &Snapshot) -> Vec<String> {
    let mut reasons = Vec::new();
    if handle.watch().has_changed().is_err() {
        reasons.push("the engine has ended".to_owned());
    }
    if let JournalHealth::Failing { since_wall, why } = &snapshot.journal {
        reasons.push(format!("the journal cannot be written since {since_wall}: {why}"));
    }
    if !snapshot.settled {
        reasons.push("it has only just started".to_owned());
    }
    for service in &snapshot.services {
        let waiting = service.targets.iter().filter(|target| target.up.is_none());
        for target in waiting {
            let (kind, source, address) = (target.kind, &target.source, &target.address);
            reasons.push(format!("{}: the {kind} {source} has not looked at {address} yet", service.name));
        }
    }
    reasons
}

async fn readyz(State(parts): State<Arc<Parts>>, headers: HeaderMap) -> Response {
    let reasons = not_ready(&parts.handle, &parts.handle.snapshot());
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accepts = headers.get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or("");
    if accepts.contains("application/json") {
        return (status, Json(ReadyBody { ready: reasons.is_empty(), reasons })).into_response();
    }
    let mut text =
        if reasons.is_empty() { "ready\n".to_owned() } else { format!("not ready\n{}\n", reasons.join("\n")) };
    // It watches, so it is ready; but who asks whether all is well should hear of it.
    if let Some(kill) = &parts.handle.snapshot().kill_switch {
        let line = format!("the kill switch is on since {}: {}\n", kill.since_wall, kill.reason);
        text.push_str(&line);
    }
    (status, text).into_response()
}

async fn own_metrics(State(parts): State<Arc<Parts>>) -> Result<Response, ApiError> {
    let snapshot = parts.handle.snapshot();
    let ready = not_ready(&parts.handle, &snapshot).is_empty();
    let reloaded = parts.failed_reload.borrow().is_none();
    match parts.metrics.render(snapshot, ready, reloaded) {
        Ok(text) => Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written as text");
            Err(ApiError::unavailable("the metrics cannot be written as text", "see the daemon's log"))
        }
    }
}

async fn status(State(parts): State<Arc<Parts>>) -> Json<StatusBody> {
    let snapshot = parts.handle.snapshot();
    let reasons = not_ready(&parts.handle, &snapshot);
    let failed_reload = parts.failed_reload.borrow().clone();
    Json(StatusBody::new(&snapshot, reasons, failed_reload.as_deref()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IncidentsQuery {
    service: Option<String>,
    open: Option<bool>,
    limit: Option<usize>,
}

async fn incidents(
    State(parts): State<Arc<Parts>>,
    query: Result<Query<IncidentsQuery>, QueryRejection>,
) -> Result<Json<IncidentList>, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::invalid(rejection.body_text(), "the parameters are service=NAME, open=true|false and limit=N")
    })?;
    let snapshot = parts.handle.snapshot();
    if let Some(asked) = query.service.as_deref() {
        let known = |view: &IncidentView| view.service.as_ref() == asked;
        let names: Vec<&str> = snapshot.services.iter().map(|service| service.name.as_ref()).collect();
        // One that was taken out of the files still has its incidents.
        if !names.contains(&asked) && !snapshot.incidents.iter().any(known) {
            let there = format!("there is: {}", names.join(", "));
            return Err(ApiError::not_found(format!("there is no service {asked}"), there));
        }
    }
    let wanted = |view: &&IncidentView| {
        query.service.as_deref().is_none_or(|service| service == view.service.as_ref())
            && query.open.is_none_or(|open| open == view.open)
    };
    let mut views: Vec<&IncidentView> = snapshot.incidents.iter().filter(wanted).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.opened_wall));
    views.truncate(query.limit.unwrap_or(INCIDENTS_DEFAULT));
    Ok(Json(IncidentList { incidents: views.into_iter().map(IncidentSummary::from).collect() }))
}

/// The incident and its report. One whose history is empty is a fault of the machine, and said so.
fn find<'a>(snapshot: &'a Snapshot, id: &str) -> Result<(&'a IncidentView, Report), ApiError> {
    let view = snapshot
        .incidents
        .iter()
        .find(|view| view.id.0.as_ref() == id)
        .ok_or_else(|| ApiError::not_found(format!("there is no incident {id}"), "GET /v1/incidents lists them"))?;
    let report = Report::of(&view.history).ok_or_else(|| {
        ApiError::unavailable(
            format!("the history of {id} is not loaded"),
            "backstop report --state-dir reads the journal",
        )
    })?;
    Ok((view, report))
}

async fn incident(State(parts): State<Arc<Parts>>, Path(id): Path<String>) -> Result<Json<IncidentBody>, ApiError> {
    let snapshot = parts.handle.snapshot();
    let (view, report) = find(&snapshot, &id)?;
    Ok(Json(IncidentBody::new(view.into(), &report)))
}

async fn report(State(parts): State<Arc<Parts>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let snapshot = parts.handle.snapshot();
    let (_, report) = find(&snapshot, &id)?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], report.markdown()).into_response())
}
