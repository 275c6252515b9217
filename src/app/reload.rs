//! SIGHUP: another configuration, all of it or nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::system::uname;

use crate::config::model::{AuthSpec, Config, ReceiverKind, ReceiverSpec};
use crate::config::{self, Environment, Style};
use crate::decide::event::TextOrSecret;
use crate::link::Keys;
use crate::machine::input::Input;
use crate::notify::Notifier;
use crate::platform::secret;
use crate::serve::FailedReload;

use super::start::{Daemon, origin};
use super::world::summary;
use super::{AppError, Options, chain};

/// The configuration in force, and what was made of it for good.
#[derive(Debug)]
pub(super) struct Loaded {
    pub config: Config,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    pub listen: Option<SocketAddr>,
    pub approvals_listen: Option<SocketAddr>,
}

/// Reads the files. `generation` counts from 1 over reloads.
pub(super) async fn load(options: &Options, generation: u64) -> Result<Loaded, AppError> {
    let files = options.files.clone();
    let read = tokio::task::spawn_blocking(move || {
        let host = uname();
        let environment =
            Environment { variable: &|name| std::env::var(name).ok(), hostname: &host.nodename().to_string_lossy() };
        let config = config::load(&files, &environment, generation);
        // Read anew for each notice, so that a missing one is no error; but the first notice is late to hear of it.
        let receivers = config.as_ref().map_or(&[][..], |config| &config.receivers);
        for (receiver, error) in receivers.iter().flat_map(unreadable_secrets) {
            tracing::warn!("receivers.{receiver}: no notice can be sent until this is mended: {error}");
        }
        let approvals = config.as_ref().ok().and_then(|config| config.daemon.approvals.as_ref());
        if let Some(Err(error)) = approvals.map(|approvals| Keys::read(&approvals.keys)) {
            let why = chain(&error);
            tracing::warn!("daemon.approvals.key: notices have no links until this is mended: {why}");
        }
        config
    });
    let config = read.await.map_err(AppError::Load)?;
    let config = config.map_err(|report| AppError::Config(report.render(Style::Plain)))?;
    for warning in &config.warnings {
        tracing::warn!("{}:{}: {}", warning.file.display(), warning.line, warning.message);
    }
    let state_dir = options.state_dir.clone().unwrap_or_else(|| config.daemon.state_dir.clone());
    let socket = config.daemon.socket_with(&state_dir);
    let listen = config.daemon.listen;
    let approvals_listen = config.daemon.approvals.as_ref().map(|approvals| approvals.listen);
    Ok(Loaded { config, state_dir, socket, listen, approvals_listen })
}

/// Of each secret that this receiver needs and that cannot be read now: the receiver's name, and why.
fn unreadable_secrets(receiver: &ReceiverSpec) -> Vec<(&str, String)> {
    let ReceiverKind::Webhook { url, secrets, client } = &receiver.kind;
    let texts = std::iter::once(url).chain(client.headers.values()).filter_map(|text| match text {
        TextOrSecret::Text(_) => None,
        TextOrSecret::Secret { secret, .. } => Some(secret),
    });
    let auth = client.auth.iter().map(|auth| match auth {
        AuthSpec::Bearer(secret) | AuthSpec::Basic { password: secret, .. } => secret,
    });
    let needed = texts.chain(secrets).chain(auth);
    needed.filter_map(|needed| Some((&*receiver.name, chain(&secret::read(needed).err()?)))).collect()
}

impl Daemon {
    /// Tells systemd before and after; an invalid configuration is told and changes nothing.
    pub async fn reload(&mut self, options: &Options) {
        if let Err(error) = self.adapters.systemd.reloading() {
            tracing::warn!("systemd could not be told of the reload: {error}");
        }
        let status = match self.change_to(options).await {
            Ok(()) => {
                self.failed_reload.send_replace(None);
                tracing::info!(hash = &*self.loaded.config.rules.hash, "reloaded");
                summary(&self.ready.handle.snapshot())
            }
            Err(error) => {
                let why = chain(&error);
                // The rest shows lines of the files, which are not for everyone who may read the status.
                let first = why.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let failed = FailedReload { wall: self.adapters.clock.now().wall, why: first };
                self.failed_reload.send_replace(Some(Arc::new(failed)));
                tracing::error!("the reload changed nothing:\n{why}");
                "the reload failed and changed nothing; the log says why".to_owned()
            }
        };
        if let Err(error) = self.adapters.systemd.ready(&status) {
            tracing::warn!("systemd could not be told that the reload is over: {error}");
        }
    }

    /// All that can fail comes first. Then the machine gets its rules, before anything that the new observers see.
    async fn change_to(&mut self, options: &Options) -> Result<(), AppError> {
        let loaded = load(options, self.loaded.config.rules.generation + 1).await?;
        // A link to a listener that was not there at the start would lead nowhere.
        let approvals = loaded.config.daemon.approvals.clone().filter(|_| self.ready.approvals.is_some());
        let notifier = Notifier::new(&loaded.config.receivers, origin(&loaded.config, approvals.as_ref()))?;
        let change = self.observers.prepare(&loaded.config)?;
        let rules = Input::Reload(Arc::clone(&loaded.config.rules));
        // The engine is there for as long as this loop runs: its death would have ended it.
        self.control.send(rules).await.map_err(|_| crate::engine::EngineError::ControlClosed)?;
        self.observers.apply(change).await;
        self.adapters.set_notifier(notifier);
        self.tokens.send_replace(Arc::new(loaded.config.daemon.tokens.clone()));
        self.approvals.send_replace(approvals.map(Arc::new));
        self.tell_of_what_stays(&loaded);
        // What a restart would change stays as it is until then.
        self.loaded.config = loaded.config;
        Ok(())
    }

    fn tell_of_what_stays(&self, new: &Loaded) {
        let (before, after) = (&self.loaded, new);
        let stays = [
            ("daemon.state_dir", before.state_dir != after.state_dir),
            ("daemon.kill_file", before.config.daemon.kill_file != after.config.daemon.kill_file),
            ("daemon.socket", before.socket != after.socket),
            ("daemon.listen", before.listen != after.listen),
            ("daemon.approvals.listen", before.approvals_listen != after.approvals_listen),
        ];
        for (key, _) in stays.iter().filter(|(_, differs)| *differs) {
            tracing::warn!("{key} has changed; it stays as it was until a restart");
        }
    }
}
