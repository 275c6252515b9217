//! What the engine drives, and what drives it: the real machine with the judge at its door, the world's hands, the lane
//! with a flood behind it.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use backstop::decide::event::{CheckOutcome, Outcome, Record, StepResult};
use backstop::engine::port::{BoxError, Core, Lag, Observations, Saved, Started, World};
use backstop::machine::Machine;
use backstop::machine::checkpoint::View;
use backstop::machine::input::{DeliveryOutcome, Input, Observation};
use backstop::machine::output::{CheckOrder, DeliveryOrder, Output, StepOrder};
use backstop::machine::snapshot::Snapshot;
use backstop::observe::lane;
use backstop::time::{Now, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::judge::Run;
use super::sim::disk::State;
use super::sim::fleet::ReleaseNo;
use super::sim::setup;
use super::sim::world::{Manner, Script};
use super::site::{Shared, Site, brief};

/// A `kill -9` in the middle of a turn: unwinds the engine's task.
#[derive(Debug)]
pub struct Killed;

pub struct Witness {
    pub machine: Machine,
    pub shared: Shared,
}

impl Core for Witness {
    fn handle(&mut self, now: &Now, input: Input, out: &mut Vec<Output>) {
        let command = if let Input::Command { id, .. } = &input { Some(*id) } else { None };
        let cost = {
            let mut site = self.shared.site();
            site.judge.before(now.monotonic, &input);
            if input == Input::JournalBack {
                site.failing_told = false;
            }
            site.turn_cost
        };
        self.machine.handle(now, input, out);
        self.shared.dial().spent += cost;
        self.shared.site().judge.after(command, out, self.machine.next_deadline());
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.machine.next_deadline()
    }

    fn snapshot(&self, now: &Now) -> Snapshot {
        self.machine.snapshot(now)
    }

    fn checkpoint(&self, now: &Now) -> View<'_> {
        self.machine.checkpoint(now)
    }
}

/// The real lane. In a flood something new is seen as soon as something was read.
pub struct Eyes {
    pub lane: lane::Receiver,
    pub shared: Shared,
}

impl Observations for Eyes {
    async fn next(&mut self) -> Option<Observation> {
        self.shared.flood_one();
        self.lane.recv().await
    }
}

pub struct Hands(pub Shared);

/// How a step goes.
struct Course {
    script: Script,
    service: usize,
    target: Option<ReleaseNo>,
    ends: i64,
    works: Option<i64>,
    /// It works even though the daemon has died meanwhile.
    survives: bool,
    outcome: Outcome,
    panics: bool,
    life: u32,
}

impl Hands {
    /// Dies here if this is the output to die at. Never with a lock held.
    fn may_die(&self) {
        let dies = {
            let mut site = self.0.site();
            match &mut site.crash_in {
                Some(0) => {
                    self.0.note(&mut site, "dies in the middle of a turn");
                    site.count("crash at an output");
                    site.dead = true;
                    true
                }
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            }
        };
        if dies {
            std::panic::resume_unwind(Box::new(Killed));
        }
    }

    fn course(site: &mut Site, order: &StepOrder) -> Course {
        let rng = &mut site.rng;
        let usual = site.scripts.get(order.step.name.as_str()).copied().unwrap_or(Script::Nothing);
        let panics = site.chaos && rng.one_in(8);
        let script = if panics || (site.chaos && rng.one_in(3)) {
            rng.pick(&[Script::Fails, Script::FailsAndWorks, Script::HalfWorks, Script::Hangs, Script::Ambiguous])
        } else {
            usual
        };
        let timeout = i64::try_from(order.step.timeout.as_millis()).unwrap_or(1000);
        let takes = rng.within(0, site.step_ms.max(1)).min(timeout);
        let (ends, works, outcome) = match script {
            Script::Helps | Script::FlagOff => (takes, Some(takes), Outcome::Succeeded),
            Script::Nothing => (takes, None, Outcome::Succeeded),
            Script::Fails => (takes, None, Outcome::Failed),
            Script::FailsAndWorks => (takes, Some(takes + rng.within(0, 20_000)), Outcome::Failed),
            Script::HalfWorks => (timeout, Some(takes), Outcome::TimedOut),
            Script::Hangs => (timeout, None, Outcome::TimedOut),
            Script::Ambiguous => (takes, rng.one_in(2).then_some(takes), Outcome::Ambiguous),
        };
        let service = site.fleets.iter().position(|fleet| fleet.service == order.service).unwrap_or(0);
        let target = order.target.as_ref().and_then(|target| site.fleets[service].release_of(&target.0));
        let survives = site.rng.one_in(3);
        let outcome = if panics { Outcome::Ambiguous } else { outcome };
        Course { script, service, target, ends, works, survives, outcome, panics, life: site.life }
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn begin(shared: &Shared, order: &StepOrder) -> Course {
    let run: Run = (order.incident.clone(), order.attempt);
    let mut site = shared.site();
    site.judge.step_begins(&run);
    let course = Hands::course(&mut site, order);
    let told = format!("begins {} {:?} of {}: {:?}", order.step.name, run.1, run.0, course.script);
    shared.note(&mut site, told);
    site.count("step");
    if course.panics {
        site.count("executor that panics");
    }
    course
}

/// What the step does to the world: its process lives on its own.
fn let_it_work(shared: &Shared, course: &Course, run: &Run) {
    let Some(works) = course.works else { return };
    let (shared, run) = (shared.clone(), run.clone());
    let Course { script, service, target, survives, life, .. } = *course;
    tokio::spawn(async move {
        sleep(millis(works)).await;
        let here = {
            let mut site = shared.site();
            let here = site.life == life || survives;
            if here {
                site.worked.insert(run);
            }
            here
        };
        if here {
            shared.work(service, script, target);
        }
    });
}

impl World for Hands {
    fn append(&self, records: Vec<Record>) -> Result<(), BoxError> {
        // Before it was handed over, or after.
        let early = self.0.site().rng.one_in(2);
        if early {
            self.may_die();
        }
        {
            let t = self.0.t();
            let mut site = self.0.site();
            let waiting: usize = site.disk.pending.iter().map(|turn| turn.records.len()).sum();
            if waiting + records.len() > site.backlog_max {
                (site.refused, site.dead) = (true, true);
                self.0.note(&mut site, "the journal takes no more");
                return Err("too many entries wait".into());
            }
            site.judge.append(&records);
            for record in &records {
                self.0.note(&mut site, format!("  {:>4} {}", record.seq.0, brief(&record.entry)));
            }
            let rules = std::sync::Arc::clone(&site.rules);
            if let Err(why) = site.disk.append(records, t, &rules) {
                site.judge.fail(why);
            }
        }
        self.0.journal.notify_one();
        if !early {
            self.may_die();
        }
        Ok(())
    }

    fn run_step(&self, order: StepOrder, started: Started) -> impl Future<Output = StepResult> + Send + 'static {
        let run: Run = (order.incident.clone(), order.attempt);
        {
            let mut site = self.0.site();
            site.judge.step_ordered(run.clone());
            // Everything is looked at just now, again and again.
            if site.chaos && site.rng.one_in(3) {
                site.flood = 400;
            }
        }
        self.may_die();
        let shared = self.0.clone();
        async move {
            let course = begin(&shared, &order);
            started.tell(Some(4242), Some("4242".to_owned()));
            let_it_work(&shared, &course, &run);
            sleep(millis(course.ends)).await;
            {
                let mut site = shared.site();
                site.judge.step_ends(&run, course.outcome);
                shared.note(&mut site, format!("{:?} of {} ends: {:?}", run.1, run.0, course.outcome));
            }
            if course.panics {
                std::panic::resume_unwind(Box::new("the executor has a fault"));
            }
            StepResult {
                outcome: course.outcome,
                detail: "as scripted".to_owned(),
                output: String::new(),
                truncated: false,
                captures: BTreeMap::new(),
                duration_ms: u64::try_from(course.ends).unwrap_or(0),
            }
        }
    }

    fn run_check(&self, order: CheckOrder) -> impl Future<Output = CheckOutcome> + Send + 'static {
        self.0.site().judge.check_begins(order.id);
        self.may_die();
        let shared = self.0.clone();
        async move {
            let (outcome, after) = answer(&shared, &order);
            sleep(millis(after)).await;
            let mut site = shared.site();
            site.judge.check_ends(order.id);
            shared.note(&mut site, format!("check {} of {:?}: {outcome:?}", order.check.name, order.attempt));
            outcome
        }
    }

    fn deliver(&self, order: DeliveryOrder) -> impl Future<Output = DeliveryOutcome> + Send + 'static {
        self.0.site().judge.delivery_begins(&order.receiver, &order.notice.id);
        self.may_die();
        let shared = self.0.clone();
        async move {
            let (reaches, outcome, after) = reception(&shared, &order.receiver);
            sleep(millis(after)).await;
            let mut site = shared.site();
            let receiver = &*order.receiver;
            if reaches {
                let failing = site.failing_told;
                site.judge.delivered(receiver, &order.notice.id, &order.notice.text, failing);
                shared.note(&mut site, format!("{receiver} has {}: {}", order.notice.id, order.notice.text));
            }
            site.judge.delivery_ends(receiver, &outcome);
            outcome
        }
    }

    fn save(&self, checkpoint: &View<'_>) -> impl FnOnce() -> Result<Saved, String> + Send + 'static {
        let (shared, checkpoint) = (self.0.clone(), checkpoint.copy());
        move || {
            let t = shared.t();
            shared.site().save(checkpoint, t);
            Ok(Saved::All)
        }
    }

    fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        tokio::spawn(async move { work() })
    }

    fn measured(&self, _: Lag) {}

    fn alive(&self, _: &Snapshot) {
        let t = self.0.t();
        self.0.site().last_alive = t;
    }
}

/// What a check says, and after how long.
fn answer(shared: &Shared, order: &CheckOrder) -> (CheckOutcome, i64) {
    let t = shared.t();
    let mut site = shared.site();
    let timeout = i64::try_from(order.check.timeout.as_millis()).unwrap_or(1000);
    if site.chaos && site.rng.one_in(4) {
        site.count("check that is not answered");
        return (CheckOutcome::Unknown("no answer in time".to_owned()), timeout);
    }
    let place = site.fleets.iter().position(|fleet| fleet.service == order.service).unwrap_or(0);
    let fleet = &site.fleets[place];
    let passes = match (order.check.name.as_str(), &order.incident, order.attempt) {
        (setup::TOOK_EFFECT, Some(incident), Some(attempt)) => site.worked.contains(&(incident.clone(), attempt)),
        (setup::SCHEMA | setup::IMAGE, _, _) => true,
        (_, _, _) => {
            let mut well = true;
            fleet.failing(t, |_, _| well = false);
            well
        }
    };
    let after = site.rng.within(0, timeout.min(2000));
    let failed = || CheckOutcome::Failed("it is as it was".to_owned());
    (if passes { CheckOutcome::Passed } else { failed() }, after)
}

/// Whether it gets there, what is heard of it, and after how long.
fn reception(shared: &Shared, receiver: &str) -> (bool, DeliveryOutcome, i64) {
    let mut site = shared.site();
    let manner = site.receivers.get(receiver).copied().unwrap_or(Manner::Takes);
    let retry = |site: &mut Site, why: &str| {
        let after = Duration::from_secs(1 + site.rng.below(30));
        DeliveryOutcome::Retry { after, why: why.to_owned() }
    };
    if manner != Manner::Takes {
        site.count("receiver that fails");
    }
    match manner {
        Manner::Takes => (true, DeliveryOutcome::Delivered, site.rng.within(0, 50)),
        Manner::Slow => (true, DeliveryOutcome::Delivered, site.rng.within(1000, 9000)),
        Manner::Mute => (true, retry(&mut site, "no answer in time"), 10_000),
        Manner::Refuses | Manner::Redirects => (false, retry(&mut site, "HTTP 503"), site.rng.within(0, 50)),
        Manner::Gone => (false, DeliveryOutcome::Dead { why: "HTTP 410 Gone".to_owned() }, 10),
    }
}

/// Whether the journal writes now.
pub fn writes(site: &Site) -> bool {
    site.disk.state == State::Writes
}
