//! Start and end of the daemon, in the order that keeps the promises.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::act::Executor;
use crate::config::model::{Approvals, Config};
use crate::engine::handle::Handle;
use crate::engine::{self, Engine, Lanes};
use crate::journal::{self, CheckpointFile, Journal, JournalEvent, Opened};
use crate::machine::input::Input;
use crate::machine::{Machine, Recovered, Unreadable};
use crate::notify::{Notifier, Origin};
use crate::observe::{Observers, lane};
use crate::platform::clock::Clock;
use crate::platform::limits;
use crate::serve::{self, FailedReload, Listeners, Parts, Tokens};
use crate::supervise::{Supervisor, TaskResult};

use super::kill_file;
use super::reload::Loaded;
use super::world::{Adapters, summary};
use super::{AppError, AppReady, Options, chain};

/// Everything that runs, and what a reload changes of it.
#[derive(Debug)]
pub(super) struct Daemon {
    pub supervisor: Supervisor,
    pub observers: Observers,
    pub ready: AppReady,
    pub(super) adapters: Arc<Adapters>,
    pub(super) control: mpsc::Sender<Input>,
    pub(super) tokens: watch::Sender<Arc<Tokens>>,
    /// Those for which somebody listens: a reload changes the links, but opens no listener.
    pub(super) approvals: watch::Sender<Option<Arc<Approvals>>>,
    pub(super) failed_reload: watch::Sender<Option<Arc<FailedReload>>>,
    pub(super) loaded: Loaded,
    shutdown: CancellationToken,
}

impl Daemon {
    // Length: all that runs, in the one order that keeps the promises.
    /// Doors before observers: a port that is taken is an error before anything was seen.
    pub async fn start(options: &Options) -> Result<Daemon, AppError> {
        let loaded = super::reload::load(options, 1).await?;
        raise_open_files();
        let config = &loaded.config;
        let opened = open_journal(loaded.state_dir.clone()).await?;
        let listener = bind(config.daemon.listen, "daemon.listen").await?;
        let listen = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let approvals = config.daemon.approvals.clone();
        let link_listener = bind(approvals.as_ref().map(|it| it.listen), "daemon.approvals.listen").await?;
        let approvals_listen = link_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let socket = serve::bind_unix(&loaded.socket).await?;

        let (opened, checkpoints, checkpoint) = opened;
        let Opened { journal, events, records, unreadable, last } = opened;
        let clock = Clock::start(checkpoint.as_ref().map(|saved| &saved.now), records.last().map(|newest| newest.at));
        let executor = Executor::new(clock.clone()).map_err(AppError::Executor)?;
        let notifier = Notifier::new(&config.receivers, origin(config, approvals.as_ref()))?;
        let adapters =
            Arc::new(Adapters::new(clock.clone(), options.systemd.clone(), executor, journal, checkpoints, notifier));

        let mut outputs = Vec::new();
        let unreadable = unreadable
            .into_iter()
            .map(|journal::Unreadable { seq, kind: _, why, incident }| Unreadable { seq, why, incident })
            .collect();
        let recovered = Recovered { records, unreadable, last, checkpoint };
        let mut machine = Machine::new(Arc::clone(&config.rules), &clock.now(), recovered, &mut outputs);
        // Before anything that an earlier daemon had begun goes on.
        let kill_file = config.daemon.kill_file_in(&loaded.state_dir);
        machine.handle(&clock.now(), kill_file::look(&kill_file).await, &mut outputs);

        let (control, control_lane) = mpsc::channel(engine::CONTROL_QUEUED_MAX);
        let (commands, command_lane) = mpsc::channel(engine::COMMANDS_QUEUED_MAX);
        let (observed, observations) = lane::lane();
        let lanes = Lanes { control: control_lane, commands: command_lane, observations };
        let (engine, snapshot) =
            Engine::new(machine, outputs, Arc::clone(&adapters), clock.clone(), options.settings.clone(), lanes);
        let handle = Handle::new(commands, snapshot);
        let observers = Observers::start(config, clock, observed)?;

        let shutdown = CancellationToken::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        // What others need while the engine drains ends after it.
        let rest = CancellationToken::new();
        supervisor.spawn("journal events", tell_durability(events, control.clone(), rest.clone()));
        supervisor.spawn("kill file", kill_file::watch(kill_file, control.clone(), rest.clone()));
        let (tokens, tokens_read) = watch::channel(Arc::new(config.daemon.tokens.clone()));
        let (failed_reload, failed_read) = watch::channel(None);
        let parts = Parts {
            handle: handle.clone(),
            tokens: tokens_read,
            metrics: Arc::new(adapters.metrics.clone()),
            failed_reload: failed_read,
            past: past(loaded.state_dir.clone()),
        };
        let (approvals, approvals_read) = watch::channel(approvals.map(Arc::new));
        if let Some(listener) = link_listener {
            let parts = serve::approvals::Parts {
                handle: handle.clone(),
                approvals: approvals_read,
                metrics: Arc::new(adapters.metrics.clone()),
                clock: adapters.clock.clone(),
                draining: shutdown.clone(),
            };
            serve_links(&mut supervisor, listener, parts, rest.clone());
        }
        let listeners = Listeners { tcp: listener, unix: Some(socket) };
        let api_stop = rest.clone();
        supervisor.spawn("api", async move {
            serve::start(listeners, parts, api_stop).await;
            Ok(())
        });
        let engine_stop = shutdown.clone();
        supervisor.spawn("engine", async move {
            let ended = engine.run(engine_stop).await;
            rest.cancel();
            note_end(&ended?);
            Ok(())
        });

        let ready = AppReady { listen, approvals: approvals_listen, socket: loaded.socket.clone(), handle };
        Ok(Daemon {
            supervisor,
            observers,
            ready,
            adapters,
            control,
            tokens,
            approvals,
            failed_reload,
            loaded,
            shutdown,
        })
    }

    pub fn tell_ready(&self) {
        let summary = summary(&self.ready.handle.snapshot());
        let listen = self.ready.listen.map_or_else(|| "nowhere".to_owned(), |address| format!("http://{address}"));
        tracing::info!(socket = %self.ready.socket.display(), listen, "ready: {summary}");
        if let Some(address) = self.ready.approvals {
            tracing::info!(listen = %address, "links in notices are answered here");
        }
        if let Err(error) = self.adapters.systemd.ready(&summary) {
            tracing::warn!("systemd could not be told that backstop is ready: {error}");
        }
    }

    /// No more observations; running steps are waited for; then the last checkpoint, the journal's end, the doors.
    pub async fn drain(self, limit: Duration) -> Result<(), AppError> {
        let Daemon { supervisor, observers, adapters, shutdown, control, .. } = self;
        tracing::info!("stopping: running steps are waited for");
        if let Err(error) = adapters.systemd.stopping("waiting for running steps") {
            tracing::warn!("systemd could not be told that backstop is stopping: {error}");
        }
        shutdown.cancel();
        observers.stop().await;
        let drained = supervisor.drain(limit).await;
        drop(control);
        for death in &drained.deaths {
            tracing::error!("{}", chain(death));
        }
        let closed = tokio::task::spawn_blocking(move || adapters.close_journal()).await;
        closed.map_err(AppError::Load)??;
        if let Some(death) = drained.deaths.into_iter().next() {
            return Err(AppError::Died(death));
        }
        if !drained.left_over.is_empty() {
            return Err(AppError::Drain(drained.left_over));
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn serve_links(
    supervisor: &mut Supervisor,
    listener: TcpListener,
    parts: serve::approvals::Parts,
    stop: CancellationToken,
) {
    supervisor.spawn("approvals", async move {
        serve::approvals::start(listener, parts, stop).await;
        Ok(())
    });
}

fn note_end(stopped: &engine::Stopped) {
    if stopped.steps_left > 0 {
        tracing::warn!("{} still running; ambiguous at the next start", steps(stopped.steps_left));
    }
    if stopped.entries_left > 0 {
        tracing::error!("{} turns of the machine are not known to be on the disk", stopped.entries_left);
    }
}

fn steps(n: usize) -> String {
    if n == 1 { "1 step is".to_owned() } else { format!("{n} steps are") }
}

/// `approvals`: those for which somebody listens.
pub(super) fn origin(config: &Config, approvals: Option<&Approvals>) -> Origin {
    let public_url = config.daemon.external_url.clone();
    Origin { instance: Arc::clone(&config.rules.instance), public_url, approvals: approvals.cloned() }
}

type Journaled = (Opened, CheckpointFile, Option<crate::machine::checkpoint::Checkpoint>);

async fn open_journal(state_dir: PathBuf) -> Result<Journaled, AppError> {
    let checkpoints = CheckpointFile::open(&state_dir);
    let opened = tokio::task::spawn_blocking(move || Journal::open(&state_dir));
    let opened = opened.await.map_err(AppError::Load)??;
    // Not on a thread for what blocks, since nothing else runs yet: the allocator has an arena for each thread, and what
    // reading takes and gives back, twice what stays, is of use only to the worker that runs everything later.
    let loaded = tokio::spawn(async move { (checkpoints.load(), checkpoints) });
    let (checkpoint, checkpoints) = loaded.await.map_err(AppError::Load)?;
    Ok((opened, checkpoints, checkpoint))
}

async fn bind(address: Option<SocketAddr>, key: &'static str) -> Result<Option<TcpListener>, AppError> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|source| AppError::Listen { address, key, source })
}

fn raise_open_files() {
    match limits::raise_open_files() {
        Ok(limit) => tracing::debug!(?limit, "open files"),
        Err(error) => tracing::warn!("the limit of open files could not be raised: {error}"),
    }
}

/// From the journal's thread to the control lane, until `stop`.
async fn tell_durability(
    mut events: mpsc::Receiver<JournalEvent>,
    control: mpsc::Sender<Input>,
    stop: CancellationToken,
) -> TaskResult {
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            event = events.recv() => event.ok_or("the journal's thread ended")?,
        };
        let input = match event {
            JournalEvent::Durable(seq) => Input::Durable(seq),
            JournalEvent::Failed(why) => Input::JournalFailed(why),
            JournalEvent::Back => Input::JournalBack,
        };
        if control.send(input).await.is_err() {
            // The engine has ended; it tells itself whether that was right.
            stop.cancelled().await;
            return Ok(());
        }
    }
}

/// The journal, as the audit trail reads it.
fn past(state_dir: std::path::PathBuf) -> serve::Past {
    serve::Past::new(move |before, most| {
        let crate::journal::Page { records, unreadable, older } = crate::journal::read_back(&state_dir, before, most)?;
        Ok(serve::Piece { records, unreadable: unreadable.len(), older })
    })
}
