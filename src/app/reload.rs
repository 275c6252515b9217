//! SIGHUP: another configuration, all of it or nothing.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::system::uname;

use crate::config::model::Config;
use crate::config::{self, Environment, Style};
use crate::machine::input::Input;
use crate::notify::Notifier;

use super::start::{Daemon, origin};
use super::world::summary;
use super::{AppError, Options, chain};

/// The configuration in force, and what was made of it for good.
#[derive(Debug)]
pub(super) struct Loaded {
    pub config: Config,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
}

/// Reads the files. `generation` counts from 1 over reloads.
pub(super) async fn load(options: &Options, generation: u64) -> Result<Loaded, AppError> {
    let files = options.files.clone();
    let read = tokio::task::spawn_blocking(move || {
        let host = uname();
        let environment =
            Environment { variable: &|name| std::env::var(name).ok(), hostname: &host.nodename().to_string_lossy() };
        config::load(&files, &environment, generation)
    });
    let config = read.await.map_err(AppError::Load)?;
    let config = config.map_err(|report| AppError::Config(report.render(Style::Plain)))?;
    for warning in &config.warnings {
        tracing::warn!("{}:{}: {}", warning.file.display(), warning.line, warning.message);
    }
    let state_dir = options.state_dir.clone().unwrap_or_else(|| config.daemon.state_dir.clone());
    let socket = config.daemon.socket_with(&state_dir);
    Ok(Loaded { config, state_dir, socket })
}

impl Daemon {
    /// Tells systemd before and after; an invalid configuration is told and changes nothing.
    pub async fn reload(&mut self, options: &Options) {
        if let Err(error) = self.adapters.systemd.reloading() {
            tracing::warn!("systemd could not be told of the reload: {error}");
        }
        let status = match self.change_to(options).await {
            Ok(()) => {
                tracing::info!(hash = &*self.loaded.config.rules.hash, "reloaded");
                summary(&self.ready.handle.snapshot())
            }
            Err(error) => {
                tracing::error!("the reload changed nothing:\n{}", chain(&error));
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
        let notifier = Notifier::new(&loaded.config.receivers, origin(&loaded.config))?;
        let change = self.observers.prepare(&loaded.config)?;
        let rules = Input::Reload(Arc::clone(&loaded.config.rules));
        // The engine is there for as long as this loop runs: its death would have ended it.
        self.control.send(rules).await.map_err(|_| crate::engine::EngineError::ControlClosed)?;
        self.observers.apply(change).await;
        self.adapters.set_notifier(notifier);
        self.tokens.send_replace(Arc::new(loaded.config.daemon.tokens.clone()));
        self.tell_of_what_stays(&loaded);
        // What a restart would change stays as it is until then.
        let (state_dir, socket) = (self.loaded.state_dir.clone(), self.loaded.socket.clone());
        self.loaded = Loaded { config: loaded.config, state_dir, socket };
        Ok(())
    }

    fn tell_of_what_stays(&self, new: &Loaded) {
        let (before, after) = (&self.loaded, new);
        let stays = [
            ("daemon.state_dir", before.state_dir != after.state_dir),
            ("daemon.kill_file", before.config.daemon.kill_file != after.config.daemon.kill_file),
            ("daemon.socket", before.socket != after.socket),
            ("daemon.listen", before.config.daemon.listen != after.config.daemon.listen),
        ];
        for (key, _) in stays.iter().filter(|(_, differs)| *differs) {
            tracing::warn!("{key} has changed; it stays as it was until a restart");
        }
    }
}
