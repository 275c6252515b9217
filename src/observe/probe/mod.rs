//! Health checks: HTTP, TCP or a command, each to one outcome: up, failed, or not even sent.

mod command;
mod http;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ObserveError;
use super::lane::Sender;
use super::request::{host_port, http_url};
use super::schedule::Ticks;
use super::scrape::target_labels;
use crate::config::model::{ProbeKind, ProbeSpec, TargetSpec};
use crate::machine::input::{Observation, ProbeOutcome};
use crate::platform::clock::Clock;
use crate::platform::http::{Trouble, TroubleKind, io_trouble};
use crate::promql::{Labels, TargetId};
use command::CommandCheck;
pub use command::ending as command_ending;
pub use http::{HttpCheck, Reply};

/// One target of a probe, ready to run.
#[derive(Debug)]
pub struct Prober {
    check: Check,
    /// For the whole check.
    limit: Duration,
    target_labels: Vec<(String, String)>,
}

#[derive(Debug)]
enum Check {
    Http(Box<HttpCheck>),
    /// `host:port`.
    Tcp(Arc<str>),
    Command(CommandCheck),
}

impl Prober {
    /// `what` names it in errors. `instance` is host:port; of a command it is the command line.
    pub fn new(what: &str, spec: &ProbeSpec, target: &TargetSpec) -> Result<Prober, ObserveError> {
        let (check, instance) = match &spec.kind {
            ProbeKind::Http(probe) => {
                let url = http_url(what, &target.address)?;
                let instance = host_port(&url);
                let check = HttpCheck::new(what, url, probe, spec.timeout, spec.release_pointer.clone())?;
                (Check::Http(Box::new(check)), instance)
            }
            ProbeKind::Tcp => (Check::Tcp(Arc::clone(&target.address)), target.address.to_string()),
            ProbeKind::Command { argv, env, inherit } => {
                let check = CommandCheck::new(argv.clone(), env.clone(), inherit.clone(), spec.timeout);
                (Check::Command(check), target.address.to_string())
            }
        };
        let target_labels = target_labels(spec.name.to_string(), instance, &target.labels);
        Ok(Prober { check, limit: spec.timeout, target_labels })
    }

    /// `job` (the probe's name), `instance` and the operator's.
    pub fn labels(&self) -> Labels {
        Labels::from_pairs(self.target_labels.iter().cloned())
    }

    /// Probes until it is stopped.
    pub async fn run(
        mut self,
        mut ticks: Ticks,
        target: TargetId,
        clock: Clock,
        lane: Sender,
        stop: CancellationToken,
    ) {
        while ticks.next(&stop).await {
            let at = clock.monotonic();
            let Some(outcome) = stop.run_until_cancelled(self.once(&clock)).await else { return };
            let duration = clock.monotonic().since(at);
            lane.send(Observation::Probed { target, at, duration, outcome });
        }
    }

    async fn once(&mut self, clock: &Clock) -> ProbeOutcome {
        match &mut self.check {
            Check::Http(check) => check.once(clock).await,
            Check::Tcp(address) => connect(address, self.limit).await,
            Check::Command(check) => check.once().await,
        }
    }
}

/// A failure without an answer that could say more. Nothing shows that the way to the target is open.
fn unreached(why: String) -> ProbeOutcome {
    ProbeOutcome::Failed { status: None, why, reached: false, release: None }
}

/// A probe that could not even be sent is unknown; anything else is a failure. A refusal, a broken handshake and a
/// broken connection come from the other end (or from near it): the way there is open.
fn outcome_of(trouble: Trouble) -> ProbeOutcome {
    let reached = match trouble.kind {
        TroubleKind::Local | TroubleKind::Dns | TroubleKind::Invalid => return ProbeOutcome::Unsent(trouble.detail),
        TroubleKind::Timeout | TroubleKind::Unreachable => false,
        TroubleKind::Refused | TroubleKind::Tls | TroubleKind::Lost => true,
    };
    ProbeOutcome::Failed { status: None, why: trouble.detail, reached, release: None }
}

/// Whether somebody accepts a connection.
async fn connect(address: &str, limit: Duration) -> ProbeOutcome {
    // The resolver has a limit of its own: its silence is our trouble, that of the target a failure.
    let addresses = match timeout(limit, lookup_host(address)).await {
        Err(_) => return ProbeOutcome::Unsent(format!("the name could not be resolved within {limit:?}")),
        Ok(Err(error)) => return ProbeOutcome::Unsent(format!("the name could not be resolved: {error}")),
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
    };
    match timeout(limit, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_connection)) => ProbeOutcome::Up { status: None, release: None },
        Err(_) => unreached(format!("no connection within {limit:?}")),
        Ok(Err(error)) => outcome_of(io_trouble(&error)),
    }
}
