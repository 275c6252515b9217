//! A short look at the world with what the daemon has: the same observers, windows and evaluator, and nothing that
//! decides or acts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::failure::{Exit, Failure, chain};
use crate::config::model::Config;
use crate::machine::input::{Input, Observation};
use crate::machine::snapshot::TargetView;
use crate::machine::trial::Trial;
use crate::machine::{Machine, Recovered};
use crate::observe::Observers;
use crate::observe::lane::lane;
use crate::platform::clock::Clock;
use crate::platform::process::set_helper;
use crate::promql::TargetId;
use crate::time::Now;

/// When to stop looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// After so long.
    Elapsed(Duration),
    /// Once every target was looked at, and after so long at the latest.
    EachSeen(Duration),
}

/// What was seen.
pub(super) struct Seen {
    machine: Machine,
    now: Now,
}

impl Seen {
    pub fn try_trigger(&self, service: &str, trigger: &str) -> Option<Trial> {
        self.machine.try_trigger(service, trigger, &self.now)
    }

    /// Of one service, with those that are shared.
    pub fn targets(&self, service: &str) -> Vec<TargetView> {
        let services = self.machine.snapshot(&self.now).services;
        services.into_iter().find(|view| *view.name == *service).map(|view| view.targets).unwrap_or_default()
    }

    /// Looks that succeeded, and looks that failed.
    pub fn looks(&self, service: &str) -> (u64, u64) {
        let counters = self.machine.snapshot(&self.now).counters;
        let looks: BTreeMap<_, _> = counters.looks;
        let mine = |name: &str| name == service || name.is_empty();
        let ok = looks.iter().filter(|((name, _), _)| mine(name)).map(|(_, n)| n).sum();
        let failed = counters.failures.iter().filter(|((name, ..), _)| mine(name)).map(|(_, n)| n).sum();
        (ok, failed)
    }
}

pub(super) fn look(config: &Config, until: Until) -> Result<Seen, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because(Exit::Unavailable, "cannot start the runtime", &error))?;
    if let Ok(program) = std::env::current_exe() {
        // Probes by command run under it.
        set_helper(&program);
    }
    runtime.block_on(watch(config, until))
}

async fn watch(config: &Config, until: Until) -> Result<Seen, Failure> {
    let clock = Clock::start(None, None);
    let (sender, mut seen) = lane();
    let mut out = Vec::new();
    let mut machine = Machine::new(config.rules.clone(), &clock.now(), Recovered::default(), &mut out);
    let observers =
        Observers::start(config, clock.clone(), sender).map_err(|error| Failure::new(Exit::Usage, chain(&error)))?;
    let (limit, each) = match until {
        Until::Elapsed(limit) => (limit, false),
        Until::EachSeen(limit) => (limit, true),
    };
    let deadline = Instant::now() + limit;
    let mut waiting: BTreeSet<TargetId> = BTreeSet::new();
    let mut begun = false;
    while let Ok(Some(observation)) = timeout_at(deadline, seen.recv()).await {
        match &observation {
            Observation::TargetUp { target, .. } => {
                waiting.insert(*target);
            }
            Observation::Scraped { target, .. }
            | Observation::Probed { target, .. }
            | Observation::Queried { target, .. } => {
                begun = true;
                waiting.remove(target);
            }
            Observation::TargetGone { .. }
            | Observation::Release { .. }
            | Observation::Reference { .. }
            | Observation::Overrun { .. } => {}
        }
        // Without a tick nothing is decided.
        machine.handle(&clock.now(), Input::Observation(observation), &mut out);
        out.clear();
        if each && begun && waiting.is_empty() {
            break;
        }
    }
    observers.stop().await;
    Ok(Seen { machine, now: clock.now() })
}
