//! All observers of a configuration: started, changed by a reload, stopped, and their deaths told.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ObserveError;
use super::lane::Sender;
use super::probe::Prober;
use super::query::Querier;
use super::reference::Reference;
use super::release;
use super::request::Clients;
use super::schedule::{Ticks, offset};
use super::scrape::{Scraper, Seat, Turns};
use crate::config::model::{Config, DetectorSpec, ProbeSpec, QuerySpec, ReferenceSpec, ScrapeSpec, TargetSpec};
use crate::machine::input::{Observation, TargetKey, TargetKind};
use crate::platform::clock::Clock;
use crate::promql::{Interest, Labels, TargetId};

/// How long stopped tasks may take to end. They end at their next await, which is at once unless a disk hangs.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The running observers.
#[derive(Debug)]
pub struct Observers {
    clock: Clock,
    lane: Sender,
    interest: watch::Sender<Arc<Interest>>,
    turns: Turns,
    tasks: JoinSet<()>,
    running: Vec<Running>,
    dead: VecDeque<(String, String)>,
    /// Ids are not given twice in a run of the daemon.
    next_target: u32,
}

/// What one task observes: a specification with exactly one target. As long as it stays equal, the task stays.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Scrape(ScrapeSpec),
    Probe(ProbeSpec),
    Query(QuerySpec),
    Detector(DetectorSpec),
    Reference(ReferenceSpec),
}

#[derive(Debug)]
struct Running {
    what: What,
    target: Option<TargetId>,
    stop: CancellationToken,
    task: Id,
    ended: bool,
}

/// A change of what is observed that can no longer fail.
#[derive(Debug)]
pub struct Change {
    stay: HashSet<Id>,
    start: Vec<(What, Ready)>,
    interest: Arc<Interest>,
}

/// What can no longer fail to start.
#[derive(Debug)]
enum Ready {
    Scrape(Box<Scraper>, Place),
    Probe(Box<Prober>, Place),
    Query(Box<Querier>, Place),
    Detector(DetectorSpec),
    Reference(Box<Reference>),
}

/// What the machine is told of a target.
#[derive(Debug)]
struct Place {
    key: TargetKey,
    labels: Labels,
    interval: Duration,
    offset: Duration,
}

impl Place {
    fn new(name: &str, key: TargetKey, labels: Labels, interval: Duration) -> Place {
        Place { key, labels, interval, offset: offset(name, interval) }
    }
}

impl Observers {
    /// Starts one task for each target, detector and reference. Must be called within a runtime.
    ///
    /// # Errors
    /// What cannot be observed at all, such as certificates that cannot be read; then nothing was started.
    pub fn start(config: &Config, clock: Clock, lane: Sender) -> Result<Observers, ObserveError> {
        let ready = prepare(wanted(config))?;
        let mut observers = Observers {
            clock,
            lane,
            interest: watch::Sender::new(Arc::clone(&config.interest)),
            turns: Turns::default(),
            tasks: JoinSet::new(),
            running: Vec::new(),
            dead: VecDeque::new(),
            next_target: 0,
        };
        for (what, ready) in ready {
            observers.spawn(what, ready);
        }
        Ok(observers)
    }

    /// What another configuration changes, ready to be applied. Changes nothing by itself.
    ///
    /// # Errors
    /// As for [`Observers::start`].
    pub fn prepare(&self, config: &Config) -> Result<Change, ObserveError> {
        let mut wanted = wanted(config);
        let mut stay = HashSet::new();
        for running in self.running.iter().filter(|running| !running.ended) {
            if let Some(place) = wanted.iter().position(|what| *what == running.what) {
                wanted.remove(place);
                stay.insert(running.task);
            }
        }
        Ok(Change { stay, start: prepare(wanted)?, interest: Arc::clone(&config.interest) })
    }

    /// Observes another configuration. What is specified as before keeps its task and target id, and from its next
    /// scrape on selects by the new interest set; what changed or went is stopped and its target told gone before
    /// anything new comes up.
    ///
    /// The machine must have got its `Reload` before: it drops a batch of another generation than its own, and the
    /// first batch of a generation is the one that names its series.
    pub async fn apply(&mut self, change: Change) {
        let Change { stay, start, interest } = change;
        self.interest.send_replace(interest);
        let mut stopping = Vec::new();
        for running in self.running.iter().filter(|running| !stay.contains(&running.task)) {
            running.stop.cancel();
            if !running.ended {
                stopping.push(running.task);
            }
        }
        self.await_end(&stopping).await;
        let at = self.clock.monotonic();
        let lane = &self.lane;
        self.running.retain(|running| {
            let stays = stay.contains(&running.task);
            if let Some(target) = running.target.filter(|_| !stays) {
                lane.send(Observation::TargetGone { target, at });
            }
            stays
        });
        for (what, ready) in start {
            self.spawn(what, ready);
        }
    }

    /// [`Observers::prepare`] and [`Observers::apply`] in one, where nobody else must agree to the change.
    ///
    /// # Errors
    /// As for [`Observers::start`]; then nothing has changed.
    pub async fn reconfigure(&mut self, config: &Config) -> Result<(), ObserveError> {
        let change = self.prepare(config)?;
        self.apply(change).await;
        Ok(())
    }

    /// Waits for the death of a task: what it observed, and why it died. A task never ends by itself, so this is a
    /// panic. Its target is not told gone: it counts as a target that nobody hears of any more, until a reload starts
    /// it again. Losing this future loses nothing.
    pub async fn next_death(&mut self) -> (String, String) {
        loop {
            if let Some(death) = self.dead.pop_front() {
                return death;
            }
            match self.tasks.join_next_with_id().await {
                Some(end) => self.note_end(end),
                None => std::future::pending().await,
            }
        }
    }

    /// Stops all tasks; commands that they run are ended. Targets are not told gone: they are still there when the
    /// daemon comes back.
    pub async fn stop(mut self) {
        for running in &self.running {
            running.stop.cancel();
        }
        let all: Vec<Id> = self.running.iter().filter(|running| !running.ended).map(|running| running.task).collect();
        self.await_end(&all).await;
        // Dropping the set aborts what did not end within the limit.
    }

    fn spawn(&mut self, what: What, ready: Ready) {
        let stop = CancellationToken::new();
        let (clock, lane) = (self.clock.clone(), self.lane.clone());
        let (task, target) = match ready {
            Ready::Scrape(scraper, place) => {
                let (target, ticks) = self.announce(place);
                let (interest, turns) = (self.interest.subscribe(), self.turns.clone());
                let seat = Seat { target, clock, lane, interest, turns };
                (self.tasks.spawn(scraper.run(ticks, seat, stop.clone())), Some(target))
            }
            Ready::Probe(prober, place) => {
                let (target, ticks) = self.announce(place);
                (self.tasks.spawn(prober.run(ticks, target, clock, lane, stop.clone())), Some(target))
            }
            Ready::Query(querier, place) => {
                let (target, ticks) = self.announce(place);
                (self.tasks.spawn(querier.run(ticks, target, clock, lane, stop.clone())), Some(target))
            }
            Ready::Detector(spec) => (self.tasks.spawn(release::run(spec, clock, lane, stop.clone())), None),
            Ready::Reference(reference) => (self.tasks.spawn(reference.run(clock, lane, stop.clone())), None),
        };
        self.running.push(Running { what, target, stop, task: task.id(), ended: false });
    }

    /// Gives a target its id, and tells that it came, before its task can say anything of it.
    fn announce(&mut self, place: Place) -> (TargetId, Ticks) {
        let target = TargetId(self.next_target);
        // 2^32 targets in one run would take a reload of a thousand targets each second for fifty days.
        self.next_target = self.next_target.checked_add(1).expect("target ids do not run out");
        let Place { key, labels, interval, offset } = place;
        self.lane.send(Observation::TargetUp { target, key, labels, interval });
        (target, Ticks::new(offset, interval))
    }

    /// Waits until these tasks have ended, but no longer than [`STOP_LIMIT`].
    async fn await_end(&mut self, tasks: &[Id]) {
        let all_ended = async {
            while self.running.iter().any(|running| !running.ended && tasks.contains(&running.task)) {
                match self.tasks.join_next_with_id().await {
                    Some(end) => self.note_end(end),
                    None => return,
                }
            }
        };
        if timeout(STOP_LIMIT, all_ended).await.is_err() {
            tracing::warn!("an observer did not end within {STOP_LIMIT:?}");
        }
    }

    fn note_end(&mut self, end: Result<(Id, ()), JoinError>) {
        let (task, panic) = match end {
            Ok((task, ())) => (task, None),
            Err(error) => (error.id(), error.is_panic().then(|| panic_text(error))),
        };
        let Some(running) = self.running.iter_mut().find(|running| running.task == task) else { return };
        running.ended = true;
        if let Some(why) = panic {
            self.dead.push_back((running.what.to_string(), why));
        }
    }
}

fn panic_text(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".to_owned() };
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".to_owned())
}

/// One entry for each task that a configuration asks for.
fn wanted(config: &Config) -> Vec<What> {
    let mut all = Vec::new();
    for spec in &config.scrapes {
        all.extend(
            spec.targets
                .iter()
                .map(|target| What::Scrape(ScrapeSpec { targets: vec![target.clone()], ..spec.clone() })),
        );
    }
    for spec in &config.probes {
        all.extend(
            spec.targets.iter().map(|target| What::Probe(ProbeSpec { targets: vec![target.clone()], ..spec.clone() })),
        );
    }
    all.extend(config.queries.iter().cloned().map(What::Query));
    all.extend(config.detectors.iter().cloned().map(What::Detector));
    all.extend(config.references.iter().cloned().map(What::Reference));
    all
}

fn prepare(wanted: Vec<What>) -> Result<Vec<(What, Ready)>, ObserveError> {
    let mut clients = Clients::default();
    wanted
        .into_iter()
        .map(|what| {
            let name = what.to_string();
            let missing = || ObserveError::invalid(&name, "it has no target".to_owned());
            let ready = match &what {
                What::Scrape(spec) => {
                    let target = spec.targets.first().ok_or_else(missing)?;
                    let scraper = Scraper::new(&name, spec, target, &mut clients)?;
                    let key = TargetKey {
                        service: spec.service.clone(),
                        kind: TargetKind::Scrape,
                        source: Arc::clone(&spec.name),
                        address: Arc::clone(&target.address),
                    };
                    let place = Place::new(&name, key, scraper.labels(), spec.interval);
                    Ready::Scrape(Box::new(scraper), place)
                }
                What::Probe(spec) => {
                    let target = spec.targets.first().ok_or_else(missing)?;
                    let prober = Prober::new(&name, spec, target)?;
                    let key = TargetKey {
                        service: Some(Arc::clone(&spec.service)),
                        kind: TargetKind::Probe,
                        source: Arc::clone(&spec.name),
                        address: Arc::clone(&target.address),
                    };
                    let place = Place::new(&name, key, prober.labels(), spec.interval);
                    Ready::Probe(Box::new(prober), place)
                }
                What::Query(spec) => {
                    let querier = Querier::new(&name, spec)?;
                    let key = TargetKey {
                        service: Some(Arc::clone(&spec.service)),
                        kind: TargetKind::Query,
                        source: Arc::clone(&spec.name),
                        address: Arc::clone(&spec.server),
                    };
                    let place = Place::new(&name, key, querier.labels(), spec.interval);
                    Ready::Query(Box::new(querier), place)
                }
                What::Detector(spec) => Ready::Detector(spec.clone()),
                What::Reference(spec) => Ready::Reference(Box::new(Reference::new(&name, spec)?)),
            };
            Ok((what, ready))
        })
        .collect()
}

/// How it is called in errors and when it dies.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address =
            |targets: &[TargetSpec]| targets.first().map_or_else(String::new, |one| format!(" ({})", one.address));
        match self {
            What::Scrape(ScrapeSpec { service: Some(service), name, targets, .. }) => {
                write!(f, "scrape {name} of service {service}{}", address(targets))
            }
            What::Scrape(ScrapeSpec { service: None, name, targets, .. }) => {
                write!(f, "shared scrape {name}{}", address(targets))
            }
            What::Probe(ProbeSpec { service, name, targets, .. }) => {
                write!(f, "probe {name} of service {service}{}", address(targets))
            }
            What::Query(QuerySpec { service, name, server, .. }) => {
                write!(f, "query {name} of service {service} ({server})")
            }
            What::Detector(DetectorSpec { service, index, .. }) => {
                write!(f, "release detector {} of service {service}", index + 1)
            }
            What::Reference(ReferenceSpec { name, url, .. }) => write!(f, "reference {name} ({url})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lane::lane;
    use super::*;
    use crate::config::model::{DetectorSource, ReferenceSpec};

    fn reference(name: &str) -> What {
        let second = Duration::from_secs(1);
        let url = "http://127.0.0.1:9/".to_owned();
        What::Reference(ReferenceSpec { name: name.into(), url, interval: second, timeout: second })
    }

    fn observers() -> Observers {
        Observers {
            clock: Clock::start(None, None),
            lane: lane().0,
            interest: watch::Sender::new(Arc::new(Interest::compile(1, []))),
            turns: Turns::default(),
            tasks: JoinSet::new(),
            running: Vec::new(),
            dead: VecDeque::new(),
            next_target: 0,
        }
    }

    fn run(observers: &mut Observers, what: What, task: impl Future<Output = ()> + Send + 'static) {
        let task = observers.tasks.spawn(task).id();
        let stop = CancellationToken::new();
        observers.running.push(Running { what, target: None, stop, task, ended: false });
    }

    #[tokio::test]
    async fn a_panic_is_told_with_the_name_of_what_was_observed() {
        let mut observers = observers();
        run(&mut observers, reference("calm"), std::future::pending());
        run(&mut observers, reference("net"), async { panic!("no {}", "idea") });
        let (name, why) = observers.next_death().await;
        assert_eq!((name.as_str(), why.as_str()), ("reference net (http://127.0.0.1:9/)", "no idea"));
        let no_other = timeout(Duration::from_millis(20), observers.next_death()).await;
        assert!(no_other.is_err());
        assert_eq!(observers.running.iter().map(|running| running.ended).collect::<Vec<_>>(), [false, true]);
    }

    #[tokio::test]
    async fn a_death_that_is_seen_while_stopping_others_is_still_told() {
        let mut observers = observers();
        run(&mut observers, reference("net"), async { panic!("oh") });
        run(&mut observers, reference("calm"), tokio::task::yield_now());
        let tasks: Vec<Id> = observers.running.iter().map(|running| running.task).collect();
        observers.await_end(&tasks).await;
        assert_eq!(observers.next_death().await.1, "oh");
    }

    #[test]
    fn names_say_what_is_observed() {
        let detector = DetectorSpec {
            service: "api".into(),
            index: 0,
            interval: Duration::from_secs(1),
            kind: DetectorSource::Symlink("/opt/api/current".into()),
        };
        assert_eq!(What::Detector(detector).to_string(), "release detector 1 of service api");
    }
}
