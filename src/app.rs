//! The composition root: the only place that names concrete adapters.
//!
//! [`run`] is the whole daemon: it takes the state directory, makes the machine from what the journal holds, starts
//! engine, API and observers, and then waits for signals and for deaths. What ends it comes in two kinds: it was asked
//! to, and drains; or a task died that it cannot do without, and it ends at once, to be started anew from what is
//! durable.

mod kill_file;
pub mod logging;
mod reload;
mod start;
mod world;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::handle::Handle;
use crate::engine::{EngineError, Settings};
use crate::journal::{CloseError, OpenError};
use crate::notify::NotifierError;
use crate::observe::ObserveError;
use crate::platform::http::ClientError;
use crate::platform::signals::{Asked, Signals};
use crate::platform::systemd::Systemd;
use crate::serve::BindError;
use crate::supervise::Death;

use start::Daemon;

/// Beside what the engine takes: the API lets requests under way finish, the journal syncs once more.
const DRAIN_REST: Duration = Duration::from_secs(6);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Read again at each reload.
    pub files: Vec<PathBuf>,
    /// Instead of `daemon.state_dir`.
    pub state_dir: Option<PathBuf>,
    pub systemd: Systemd,
    /// Cancelling it is SIGTERM.
    pub stop: CancellationToken,
    pub settings: Settings,
}

impl Options {
    /// The daemon as systemd starts it; the environment says whether it does.
    pub fn from_env(files: Vec<PathBuf>, state_dir: Option<PathBuf>) -> Result<Options, AppError> {
        let systemd = Systemd::from_env().map_err(AppError::NotifySocket)?;
        let mut settings = Settings::DAEMON;
        if let Some(every) = systemd.watchdog_every() {
            settings.alive_every = settings.alive_every.min(every);
        }
        Ok(Options { files, state_dir, systemd, stop: CancellationToken::new(), settings })
    }
}

/// The daemon watches now.
#[derive(Clone, Debug)]
pub struct AppReady {
    /// Where the pages and metrics are; with the port that was chosen where the file says 0.
    pub listen: Option<SocketAddr>,
    /// Where the links of notices are answered.
    pub approvals: Option<SocketAddr>,
    /// Where commands are taken.
    pub socket: PathBuf,
    pub handle: Handle,
}

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Rendered, for people: every mistake with its place.
    #[error("{0}")]
    Config(String),
    #[error("the task that reads the configuration ended")]
    Load(#[source] tokio::task::JoinError),
    #[error("cannot use $NOTIFY_SOCKET")]
    NotifySocket(#[source] std::io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Journal(#[from] OpenError),
    #[error("cannot make the HTTP client for steps")]
    Executor(#[source] ClientError),
    #[error(transparent)]
    Notifier(#[from] NotifierError),
    #[error(transparent)]
    Observers(#[from] ObserveError),
    #[error("cannot listen on {address} ({key})")]
    Listen {
        address: SocketAddr,
        key: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Socket(#[from] BindError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Died(#[from] Death),
    #[error("stopped at once by a second signal; what was running is ambiguous at the next start")]
    Killed,
    #[error("not everything ended in time: {}", .0.join(", "))]
    Drain(Vec<&'static str>),
    #[error("the journal did not close well")]
    Close(#[from] CloseError),
}

impl AppError {
    /// As in sysexits.h where there is one: 64 for an invalid file (what `check` exits with), 70 for a fault of
    /// backstop's own, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            AppError::Config(_) => 64,
            AppError::Died(_) | AppError::Engine(_) | AppError::Load(_) => 70,
            AppError::NotifySocket(_)
            | AppError::Signals(_)
            | AppError::Journal(_)
            | AppError::Executor(_)
            | AppError::Notifier(_)
            | AppError::Observers(_)
            | AppError::Listen { .. }
            | AppError::Socket(_)
            | AppError::Killed
            | AppError::Drain(_)
            | AppError::Close(_) => 1,
        }
    }
}

/// Runs the daemon until it is asked to stop. `ready` is called once it watches.
pub async fn run(options: Options, ready: impl FnOnce(AppReady)) -> Result<(), AppError> {
    // First of all: a signal from here on is an order to the daemon, not its end.
    let mut signals = Signals::install().map_err(AppError::Signals)?;
    let mut daemon = Daemon::start(&options).await?;
    daemon.tell_ready();
    ready(daemon.ready.clone());
    loop {
        tokio::select! {
            biased;
            () = options.stop.cancelled() => break,
            death = daemon.supervisor.next_death() => return Err(died(death)),
            (what, why) = daemon.observers.next_death() => {
                // Its targets count as unknown from here on, and nothing is done on what is unknown.
                tracing::error!("{what} is not observed any more, until the next reload: its task panicked: {why}");
            }
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => daemon.reload(&options).await,
            }
        }
    }
    let limit = options.settings.drain_max + DRAIN_REST;
    tokio::select! {
        biased;
        drained = daemon.drain(limit) => drained,
        () = second_stop(&mut signals) => Err(AppError::Killed),
    }
}

fn died(death: Death) -> AppError {
    tracing::error!("{}; backstop ends, to be started anew from what is durable", chain(&death));
    AppError::Died(death)
}

/// Some tools signal a process and then its group: what follows at once is the same request.
const SAME_STOP: Duration = Duration::from_millis(200);

async fn second_stop(signals: &mut Signals) {
    let same_until = tokio::time::Instant::now() + SAME_STOP;
    loop {
        match signals.next().await {
            Asked::Stop if tokio::time::Instant::now() >= same_until => return,
            Asked::Stop => {}
            Asked::Reload => tracing::info!("a reload while stopping changes nothing"),
        }
    }
}

/// An error with all its sources, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Some libraries print their source too.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
