//! Connections and their limits: how many, how long, and how they end.
//!
//! Covered: too many connections wait in the kernel's backlog; headers that do not come within [`HEADERS_WITHIN`]
//! (also between two requests); a request that is not answered within `routes::ANSWER_WITHIN`, its body included; a
//! client that does not read its answer, by the end of [`LIFETIME_MAX`]. Not covered: one client that opens
//! [`CONNECTIONS_MAX`] TCP connections keeps others from the TCP door for that long. The unix socket has a count of
//! its own, so commands by socket are not held up by it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::gate::Peer;

/// Per door. A status page, a scraper and a few people need ten; each costs a file handle and some kilobytes.
const CONNECTIONS_MAX: usize = 128;
/// Longer than the usual scrape interval, so that a scraper keeps its connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// After this a connection is asked to end, and [`GRACE`] later it is ended.
const LIFETIME_MAX: Duration = Duration::from_mins(5);
/// For a request under way at the end, of a connection or of the daemon.
const GRACE: Duration = Duration::from_secs(5);
/// After an accept failed, mostly because there are no file handles: trying at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Of one request's head, and of what hyper reads ahead.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The unix socket of the daemon; the file goes when this goes.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{path} is in use: another backstop answers there")]
    InUse { path: PathBuf },
    #[error("cannot create the socket {path}: there is no folder {folder}; create it, or set daemon.socket")]
    NoFolder { path: PathBuf, folder: PathBuf },
    #[error("cannot create the socket {path}")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Binds the socket at `path` with mode 0660, in place of a file that a dead daemon left. It gets its mode under
/// another name first: at no instant can others connect.
pub async fn bind_unix(path: &Path) -> Result<Socket, BindError> {
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(BindError::InUse { path: path.to_owned() });
    }
    let bound = || {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        match std::fs::remove_file(&draft) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&draft)?;
        std::fs::set_permissions(&draft, Permissions::from_mode(0o660))?;
        std::fs::rename(&draft, path)?;
        Ok(listener)
    };
    match bound() {
        Ok(listener) => Ok(Socket { listener, path: path.to_owned() }),
        Err(source) => Err(match path.parent() {
            Some(folder) if source.kind() == io::ErrorKind::NotFound => {
                BindError::NoFolder { path: path.to_owned(), folder: folder.to_owned() }
            }
            Some(_) | None => BindError::Create { path: path.to_owned(), source },
        }),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }
}

/// One way in.
pub(super) trait Door {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Door for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = TcpListener::accept(self).await?;
        Ok((stream, Peer::Tcp))
    }
}

impl Door for Socket {
    type Stream = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = self.listener.accept().await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, Peer::Unix { uid }))
    }
}

/// Accepts until `shutdown`, then lets what is under way end.
pub(super) async fn door<D: Door>(door: D, router: &Router, shutdown: &CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => tell(ended),
            accepted = door.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    let router = router.clone().layer(Extension(peer));
                    connections.spawn(connection(stream, router, shutdown.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(door);
    // Each connection has its own grace; a little more, so that they end by themselves.
    let drained = timeout(GRACE + Duration::from_millis(500), async {
        while let Some(ended) = connections.join_next().await {
            tell(ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(left = connections.len(), "connections were cut at the end");
        connections.shutdown().await;
    }
}

fn tell(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task died");
    }
}

async fn connection<S>(stream: S, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(BUFFER_BYTES_MAX);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        ended = serving.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
            }
            return;
        }
        () = shutdown.cancelled() => {}
        () = sleep(LIFETIME_MAX) => {}
    }
    serving.as_mut().graceful_shutdown();
    match timeout(GRACE, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
        Err(_) => tracing::debug!("a connection was cut: its request did not end in time"),
    }
}
