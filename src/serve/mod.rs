//! API, own metrics and health; reads a snapshot, sends commands.
//!
//! Two doors lead to the same routes. Whoever may open the unix socket (mode 0660) may command; over TCP anyone may
//! read, and a command needs a bearer token. Nothing here decides: what a command does, the machine says.
//!
//! Reading order: [`start`], `routes` (what there is to read), `command` (what may be asked), `gate` (by whom), [`wire`]
//! (the forms of both), [`metrics`], `listen` (connections and their limits). [`approvals`] is a third door with one page.

pub mod approvals;
mod audit;
mod command;
mod error;
mod gate;
mod listen;
pub mod metrics;
mod routes;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::decide::event::SecretRef;
use crate::engine::handle::Handle;
use crate::time::Timestamp;

pub use audit::{Past, Piece};
pub use listen::{BindError, Socket, bind_unix};
pub use metrics::Metrics;

/// Bearer tokens by the name of who holds them. The secrets are read at each use, so a rotated file counts at once.
pub type Tokens = BTreeMap<String, SecretRef>;

/// Where people and programs come in. Both are bound by the caller: a taken port is an error at start, not later.
#[derive(Debug)]
pub struct Listeners {
    pub tcp: Option<TcpListener>,
    pub unix: Option<Socket>,
}

/// What the routes stand on.
#[derive(Debug)]
pub struct Parts {
    pub handle: Handle,
    /// A reload may bring others.
    pub tokens: watch::Receiver<Arc<Tokens>>,
    pub metrics: Arc<Metrics>,
    /// Set while the latest reload is one that failed.
    pub failed_reload: watch::Receiver<Option<Arc<FailedReload>>>,
    /// For the audit trail.
    pub past: Past,
}

/// A reload that changed nothing: what was in force before it still is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedReload {
    pub wall: Timestamp,
    /// The first mistake, without its place.
    pub why: String,
}

/// Serves until `shutdown`, then lets requests under way finish for a bounded time (5 s). Removes the unix socket at
/// the end. A panic in here reaches the caller; one in a request ends its connection only.
pub async fn start(listeners: Listeners, parts: Parts, shutdown: CancellationToken) {
    let router = routes::router(Arc::new(parts));
    let tcp = async {
        if let Some(listener) = listeners.tcp {
            listen::door(listener, &router, &shutdown).await;
        }
    };
    let unix = async {
        if let Some(socket) = listeners.unix {
            listen::door(socket, &router, &shutdown).await;
        }
    };
    tokio::join!(tcp, unix);
}
