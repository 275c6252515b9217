//! `backstop demo`: a release breaks a small shop on this machine, and the real daemon deals with it.
//!
//! Nothing of the outcome is scripted: the demo starts a shop, customers and the daemon, deploys a release, and reads
//! from the daemon's API how it went. What a variant changes is only how the releases behave.

mod actors;
mod follow;
pub mod shop;
mod stage;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};
use crate::serve::wire::{IncidentBody, RunningBody, ServiceBody};
use follow::{Narrator, Reader};
use shop::{Behaviour, Reserved};
use stage::Stage;

/// The demo looks at the daemon this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A play that is not over by then has gone wrong: the longest variant takes about a minute on an idle machine.
const OVER_WITHIN: Duration = Duration::from_mins(5);
/// The last notice follows its incident's end at once, unless the machine is very busy.
const TOLD_WITHIN: Duration = Duration::from_mins(1);
/// Time for the daemon to end its queues.
const DAEMON_ENDS_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "four flags that exclude each other, as clap has them")]
pub struct DemoArgs {
    /// The new release is good: nothing is rolled back
    #[arg(long, group = "variant")]
    pub healthy: bool,
    /// The service was bad before: it escalates instead
    #[arg(long, group = "variant")]
    pub broken_before: bool,
    /// The rollback does not help: it climbs, then calls a person
    #[arg(long, group = "variant")]
    pub unhelpful: bool,
    /// The new release dies at start
    #[arg(long, group = "variant")]
    pub crash: bool,
    /// Keep the folder with releases, configuration, journal and logs
    #[arg(long)]
    pub keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Broken,
    Healthy,
    BrokenBefore,
    Unhelpful,
    Crash,
}

impl Variant {
    const fn of(args: &DemoArgs) -> Variant {
        match (args.healthy, args.broken_before, args.unhelpful, args.crash) {
            (true, _, _, _) => Variant::Healthy,
            (_, true, _, _) => Variant::BrokenBefore,
            (_, _, true, _) => Variant::Unhelpful,
            (_, _, _, true) => Variant::Crash,
            (false, false, false, false) => Variant::Broken,
        }
    }

    const fn introduction(self) -> &'static str {
        match self {
            Variant::Broken => "v2 of the shop fails 40 % of its sales. backstop should roll it back to v1.",
            Variant::Healthy => "v2 of the shop is good. backstop should leave it alone.",
            Variant::BrokenBefore => {
                "The shop fails 40 % of its sales before v2 and after. backstop should call people."
            }
            Variant::Unhelpful => "v2 damages the shop's data, so going back does not help. backstop should say so.",
            Variant::Crash => "v2 of the shop dies at start. backstop should roll it back to v1.",
        }
    }

    fn releases(self) -> (Behaviour, Behaviour) {
        let good = Behaviour::good("v1");
        match self {
            Variant::Broken => (good, Behaviour::failing("v2", 0.4)),
            Variant::Healthy => (good, Behaviour::good("v2")),
            Variant::BrokenBefore => (Behaviour::failing("v1", 0.4), Behaviour::failing("v2", 0.4)),
            Variant::Unhelpful => (good, Behaviour { damages_data: true, ..Behaviour::good("v2") }),
            Variant::Crash => (good, Behaviour { dies_at_start: true, ..Behaviour::good("v2") }),
        }
    }

    /// May v2 be deployed now? Normally once v1 is known to be good; where it is bad, once people were told of it.
    fn is_ready(self, service: &ServiceBody, told: &BTreeSet<String>) -> bool {
        match self {
            Variant::BrokenBefore => told.contains("escalated"),
            Variant::Broken | Variant::Healthy | Variant::Unhelpful | Variant::Crash => {
                service.releases.iter().any(|release| release.name == "v1" && release.good)
            }
        }
    }

    /// How it ended, once it has: the incident to report, and whether it is what the introduction says.
    fn verdict(self, service: &ServiceBody, incidents: &[IncidentBody]) -> Option<Ending> {
        let of_v2 = incidents.iter().rev().find(|incident| incident.summary.release_bad.as_deref() == Some("v2"));
        let state = of_v2.map(|incident| incident.summary.state.as_str());
        let v2_is_good = service.releases.iter().any(|release| release.name == "v2" && release.good);
        let runs = |name: &str| matches!(&service.running, RunningBody::One { release } if release == name);
        let as_said = match (self, state) {
            (Variant::Broken | Variant::Crash, Some("recovered")) => runs("v1"),
            (Variant::BrokenBefore, Some("escalated")) => runs("v2"),
            (Variant::Unhelpful, Some("needs_human")) => of_v2.is_some_and(|incident| incident.levels.len() > 1),
            (Variant::Healthy, None) if v2_is_good => true,
            // Not over yet.
            (_, None | Some("firing" | "held" | "running" | "verifying" | "proposed")) => return None,
            (_, Some(_)) => false,
        };
        let incident = of_v2.map(|incident| (incident.summary.id.clone(), incident.summary.state.clone()));
        Some(Ending { incident, as_said })
    }
}

#[derive(Debug)]
struct Ending {
    /// Its id, and the state in which it ended. The notice of that has the state's name.
    incident: Option<(String, String)>,
    as_said: bool,
}

/// Exits with 0 when it ended as said.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let played = runtime
        .map_err(|error| Failure::because(Exit::Unavailable, "no runtime", &error))
        .and_then(|runtime| runtime.block_on(play(Variant::of(args), args.keep)));
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

async fn play(variant: Variant, keep: bool) -> Result<(), Failure> {
    let io = |what: &'static str| move |error: std::io::Error| Failure::because(Exit::Unavailable, what, &error);
    // Before anything is started that would have to be ended.
    let interrupted = actors::watch_for_interrupt().map_err(io("the demo cannot listen for signals"))?;
    let (old, new) = variant.releases();
    let stage = Stage::build(keep, &old, &new).map_err(io("the demo's folder cannot be made"))?;
    let program = std::env::current_exe().map_err(io("the demo cannot find its own program"))?;
    let place = Reserved::new().map_err(io("no free port on 127.0.0.1"))?;
    let port = place.port;
    println!("{}\nfolder: {}\n", variant.introduction(), stage.dir.display());

    let stop = CancellationToken::new();
    let listening = actors::listen_for_notices(stop.clone()).await;
    let (webhook, mut notices, team) = listening.map_err(io("the demo cannot listen for notices"))?;
    let keeper = tokio::spawn(actors::keep_shop(program.clone(), stage.dir.clone(), port, stop.clone()));
    let customers = tokio::spawn(actors::keep_buying(port, stop.clone()));
    // Else the first that backstop sees on a slow machine is a shop that does not answer.
    actors::wait_for_shop(port, &interrupted).await;
    let mut daemon =
        actors::start_daemon(&program, &stage, port, &webhook).map_err(io("the daemon cannot be started"))?;
    let played = act(variant, &stage, &mut daemon, &mut notices, &interrupted).await;

    let daemon_ended = end_daemon(&mut daemon).await;
    stop.cancel();
    drop(notices);
    let kept_well = keeper.await;
    drop((customers.await, team.await));
    let ending = played.map_err(|failure| match std::fs::read_to_string(stage.log()) {
        Ok(log) if !log.is_empty() => failure.also(&format!("the daemon's log:\n{log}")),
        Ok(_) | Err(_) => failure,
    })?;
    daemon_ended.map_err(io("the daemon did not end"))?;
    kept_well
        .map_err(|error| Failure::because(Exit::Unavailable, "the shop's supervisor", &error))?
        .map_err(io("the shop cannot be started"))?;
    if keep {
        println!("\nkept: {}", stage.dir.display());
    }
    if ending.as_said {
        println!("\nIt went as said: {}", variant.introduction());
        Ok(())
    } else {
        Err(Failure::new(Exit::Unavailable, format!("it did not go as said: {}", variant.introduction())))
    }
}

async fn act(
    variant: Variant,
    stage: &Stage,
    daemon: &mut tokio::process::Child,
    notices: &mut mpsc::Receiver<(String, String)>,
    interrupted: &AtomicBool,
) -> Result<Ending, Failure> {
    let reader = Reader::new(stage.socket())
        .map_err(|error| Failure::because(Exit::Unavailable, "no client for the daemon's socket", &error))?;
    let mut narrator = Narrator::new();
    narrator.stage("the shop runs v1; customers come; backstop watches");
    let mut deployed = false;
    // The kinds of the notices that have arrived; later on, since v2 was deployed.
    let mut told = BTreeSet::new();
    let ending = loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // First: a terminal interrupts the daemon too.
        if interrupted.load(Ordering::SeqCst) {
            return Err(Failure::new(Exit::Unavailable, "interrupted"));
        }
        if let Ok(Some(status)) = daemon.try_wait() {
            return Err(Failure::new(Exit::Unavailable, format!("the daemon ended by itself: {status}")));
        }
        if narrator.elapsed() > OVER_WITHIN {
            return Err(Failure::new(Exit::Unavailable, format!("nothing came of it within {OVER_WITHIN:?}")));
        }
        let Some(service) = reader.service().await else { continue };
        let incidents = reader.incidents().await;
        narrator.service(&service);
        for incident in &incidents {
            narrator.incident(incident);
        }
        // After what they are about, which the look above most likely has seen.
        while let Ok((kind, text)) = notices.try_recv() {
            narrator.notice(&kind, &text);
            told.insert(kind);
        }
        if !deployed && variant.is_ready(&service, &told) {
            narrator.stage("deploys v2: bin/switch.sh v2");
            deploy(stage).await?;
            deployed = true;
            told.clear();
        } else if deployed && let Some(ending) = variant.verdict(&service, &incidents) {
            break ending;
        }
    };
    match &ending.incident {
        Some((incident, ended)) => {
            // Its last notice is on its way.
            let last = async {
                while !told.contains(ended) {
                    let Some((kind, text)) = notices.recv().await else { return };
                    narrator.notice(&kind, &text);
                    told.insert(kind);
                }
            };
            if tokio::time::timeout(TOLD_WITHIN, last).await.is_err() {
                return Err(Failure::new(Exit::Unavailable, format!("nobody was told that {incident} is {ended}")));
            }
            let report = reader.report(incident).await;
            let report = report.ok_or_else(|| Failure::new(Exit::Unavailable, "the daemon gave no report"))?;
            println!("\n{}\n{report}", "─".repeat(100));
        }
        None => narrator.stage("v2 has run long enough to be good itself; nothing was rolled back"),
    }
    Ok(ending)
}

async fn deploy(stage: &Stage) -> Result<(), Failure> {
    let deployed = Command::new(stage.switch_script()).arg("v2").kill_on_drop(true).output().await;
    let deployed = deployed.map_err(|error| Failure::because(Exit::Unavailable, "v2 cannot be deployed", &error))?;
    if deployed.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&deployed.stderr).into_owned();
    Err(Failure::new(Exit::Unavailable, format!("v2 cannot be deployed: {said}")))
}

/// As systemd does it: TERM, and KILL if that takes too long.
async fn end_daemon(daemon: &mut tokio::process::Child) -> std::io::Result<()> {
    let pid = daemon.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    match tokio::time::timeout(DAEMON_ENDS_WITHIN, daemon.wait()).await {
        Ok(ended) => ended.map(|_| ()),
        Err(_) => daemon.kill().await,
    }
}
