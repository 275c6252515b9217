//! `GET /v1/audit`: who did what, from the journal.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::Parts;
use super::error::ApiError;
use super::wire::{ActBody, AuditBody};
use crate::decide::audit::{Act, Wanted};
use crate::decide::event::{Record, Seq};
use crate::time::Timestamp;

/// Acts in one answer, unless asked otherwise, and at most.
const ACTS_DEFAULT: usize = 100;
const ACTS_MAX: usize = 1000;
/// Entries read from the disk at a time, and for one request: most are no acts, and a filter may take none of them. A
/// cursor tells how far it has come.
const ENTRIES_AT_ONCE: usize = 500;
const ENTRIES_MAX: usize = 10_000;
/// Requests that read at a time: anybody may ask, and the disk is the journal's first.
const READERS_MAX: usize = 2;

/// A piece of the journal, newest first.
#[derive(Debug)]
pub struct Piece {
    pub records: Vec<Record>,
    /// Entries in it that cannot be read.
    pub unreadable: usize,
    /// Older ones are before this.
    pub older: Option<Seq>,
}

type Read = dyn Fn(Option<Seq>, usize) -> Result<Piece, Box<dyn Error + Send + Sync>> + Send + Sync;

/// The way to the journal's entries, which the caller knows: before which one, and how many. Blocking.
#[derive(Clone)]
pub struct Past {
    read: Arc<Read>,
    readers: Arc<Semaphore>,
}

impl Past {
    pub fn new(
        read: impl Fn(Option<Seq>, usize) -> Result<Piece, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Past {
        Past { read: Arc::new(read), readers: Arc::new(Semaphore::new(READERS_MAX)) }
    }
}

impl fmt::Debug for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past").finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    service: Option<String>,
    incident: Option<String>,
    since: Option<String>,
    #[serde(default)]
    people: bool,
    limit: Option<usize>,
    before: Option<u64>,
}

pub(super) async fn audit(
    State(parts): State<Arc<Parts>>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditBody>, ApiError> {
    let help = "the parameters are service=NAME, incident=ID, since=RFC3339, people=true|false, limit=N and before=SEQ";
    let Query(query) = query.map_err(|rejection| ApiError::invalid(rejection.body_text(), help))?;
    let limit = query.limit.unwrap_or(ACTS_DEFAULT);
    if limit == 0 || limit > ACTS_MAX {
        return Err(ApiError::invalid(format!("the limit is 1 to {ACTS_MAX}"), "older ones: before=SEQ"));
    }
    let since = query.since.as_deref().map(instant).transpose()?;
    let AuditQuery { service, incident, people, before, .. } = query;
    let wanted = Wanted { service, incident, since, people };
    let unavailable = |why: &dyn fmt::Display| {
        ApiError::unavailable(format!("the journal cannot be read: {why}"), "see the daemon's log")
    };
    let past = parts.past.clone();
    let permit = Arc::clone(&past.readers).acquire_owned().await.map_err(|error| unavailable(&error))?;
    let read = tokio::task::spawn_blocking(move || {
        let found = collect(&past, &wanted, before.map(Seq), limit);
        drop(permit);
        found
    });
    match read.await {
        Ok(Ok(body)) => Ok(Json(body)),
        Ok(Err(error)) => {
            tracing::error!(error, "the journal cannot be read for the audit trail");
            Err(unavailable(&error))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

fn collect(
    past: &Past,
    wanted: &Wanted,
    mut before: Option<Seq>,
    limit: usize,
) -> Result<AuditBody, Box<dyn Error + Send + Sync>> {
    let mut body = AuditBody { acts: Vec::new(), before: None, unreadable: 0 };
    for _ in 0..ENTRIES_MAX / ENTRIES_AT_ONCE {
        let piece = (past.read)(before, ENTRIES_AT_ONCE)?;
        body.unreadable += piece.unreadable;
        for record in &piece.records {
            if wanted.is_past(record.wall) {
                return Ok(body);
            }
            let Some(act) = Act::of(record).filter(|act| wanted.takes(act)) else { continue };
            body.acts.push(ActBody::from(&act));
            if body.acts.len() == limit {
                body.before = Some(record.seq.0).filter(|seq| *seq > 1);
                return Ok(body);
            }
        }
        before = piece.older;
        if before.is_none() {
            return Ok(body);
        }
    }
    body.before = before.map(|seq| seq.0);
    Ok(body)
}

fn instant(text: &str) -> Result<Timestamp, ApiError> {
    let help = "such as 2026-11-20T03:00:00Z";
    let time = humantime::parse_rfc3339(text)
        .map_err(|error| ApiError::invalid(format!("{text:?} is not an instant: {error}"), help))?;
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}
