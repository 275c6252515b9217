//! A daemon's life: from what is durable to its death, and the journal's thread beside it.

use std::sync::Arc;
use std::time::Duration;

use backstop::decide::event::Actor;
use backstop::engine::handle::{CommandMessage, Handle};
use backstop::engine::{COMMANDS_QUEUED_MAX, CONTROL_QUEUED_MAX, Engine, EngineError, Lanes, Settings, Stopped};
use backstop::machine::input::{Command, Input};
use backstop::machine::{Machine, Recovered};
use backstop::observe::lane;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::judge::Broken;
use super::ports::{Eyes, Hands, Killed, Witness};
use super::sim::disk::State;
use super::site::Shared;

/// Between two tries while the disk fails.
const RETRY: Duration = Duration::from_secs(1);

pub struct Life {
    engine: JoinHandle<Result<Stopped, EngineError>>,
    journal: JoinHandle<()>,
    stop: CancellationToken,
    pub stopping: Option<i64>,
    pub handle: Handle,
    commands: mpsc::Sender<CommandMessage>,
    pub control: mpsc::Sender<Input>,
    pub settings: Settings,
    shared: Shared,
}

/// How a life ended by itself.
#[derive(Debug)]
pub enum End {
    Stopped(Stopped),
    /// It died in the middle of a turn, as the seed said.
    Killed,
    /// The journal takes no more, as the seed said.
    Refused,
}

impl Life {
    pub fn begin(shared: &Shared) -> Life {
        let (control, control_lane) = mpsc::channel(CONTROL_QUEUED_MAX);
        let (commands, command_lane) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let (seen, eyes) = lane::lane();
        let (clock, machine, outputs, settings) = recover(shared, seen);
        let witness = Witness { machine, shared: shared.clone() };
        let lanes = Lanes {
            control: control_lane,
            commands: command_lane,
            observations: Eyes { lane: eyes, shared: shared.clone() },
        };
        let hands = Arc::new(Hands(shared.clone()));
        let (engine, snapshot) = Engine::new(witness, outputs, hands, clock, settings.clone(), lanes);
        let stop = CancellationToken::new();
        let engine = tokio::spawn(engine.run(stop.clone()));
        let journal = tokio::spawn(journal(shared.clone(), control.clone()));
        let handle = Handle::new(commands.clone(), snapshot);
        Life { engine, journal, stop, stopping: None, handle, commands, control, settings, shared: shared.clone() }
    }

    pub fn stop(&mut self) {
        if self.stopping.is_none() {
            let t = self.shared.t();
            self.shared.note(&mut self.shared.site(), "is told to stop");
            self.stopping = Some(t);
            self.stop.cancel();
        }
    }

    pub fn is_over(&self) -> bool {
        self.engine.is_finished()
    }

    /// Nothing of it runs any more after this.
    pub async fn end(self, kill: bool) -> Result<End, Broken> {
        let killed = kill && !self.engine.is_finished();
        if killed {
            self.engine.abort();
        }
        let ended = self.engine.await;
        self.journal.abort();
        let gone = self.journal.await;
        if let Err(error) = gone
            && error.is_panic()
        {
            return Err("the journal of the simulation panicked".to_owned());
        }
        match ended {
            Ok(Ok(stopped)) => Ok(End::Stopped(stopped)),
            Ok(Err(EngineError::Journal { .. })) if self.shared.site().refused => Ok(End::Refused),
            Ok(Err(error)) => Err(format!("the engine ended: {error}")),
            Err(error) if error.is_cancelled() => Ok(End::Killed),
            Err(error) => match error.into_panic().downcast::<Killed>() {
                Ok(_) => Ok(End::Killed),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    Err(format!("the engine panicked: {text:?}"))
                }
            },
        }
    }

    /// A person asks, by the handle or straight through the door, and waits for the answer.
    pub fn ask(&self, command: Command, straight: bool) {
        let t = self.shared.t();
        let (person, life) = {
            let mut site = self.shared.site();
            site.persons += 1;
            let person = site.persons;
            self.shared.note(&mut site, format!("p{person}: {command:?}"));
            site.count("command");
            (person, site.life)
        };
        let actor = Actor { name: format!("p{person}"), via: "cli".to_owned() };
        let (shared, handle, commands) = (self.shared.clone(), self.handle.clone(), self.commands.clone());
        let waits = move |answer: backstop::machine::input::Answer, handle: Handle, shared: Shared| {
            let snapshot = handle.snapshot().at;
            let mut site = shared.site();
            shared.note(&mut site, format!("p{person} is answered: {answer:?}"));
            let alive = site.life == life && !site.judge.draining && !site.dead && site.clock.is_some();
            let durable = site.disk.last();
            site.judge.answered(person, &answer, durable, snapshot, alive);
        };
        if straight {
            let (reply, answer) = oneshot::channel();
            self.shared.site().judge.command_sent(person, t);
            let sent = commands.try_send(CommandMessage { actor, command, reply });
            tokio::spawn(async move {
                let answer = match sent {
                    Ok(()) => answer.await.ok(),
                    Err(_) => None,
                };
                let gone = || {
                    let why = "backstop is shutting down".to_owned();
                    backstop::machine::input::Answer::Refused(backstop::machine::input::Refusal::Unavailable(why))
                };
                waits(answer.unwrap_or_else(gone), handle, shared);
            });
        } else {
            tokio::spawn(async move {
                shared.site().judge.command_sent(person, shared.t());
                let answer = handle.command(actor, command).await;
                waits(answer, handle, shared);
            });
        }
    }
}

/// As `app::start` does it.
fn recover(
    shared: &Shared,
    seen: lane::Sender,
) -> (backstop::platform::clock::Clock, Machine, Vec<backstop::machine::output::Output>, Settings) {
    let t = shared.t();
    let mut site = shared.site();
    site.life += 1;
    let records = site.disk.read().unwrap_or_else(|why| {
        site.judge.fail(why);
        Vec::new()
    });
    let checkpoint = site.disk.checkpoint();
    let clock = shared.clock(checkpoint.as_ref().map(|saved| &saved.now), records.last().map(|newest| newest.at));
    let last = site.disk.last();
    let told = format!("starts with {} entries, a checkpoint: {}", records.len(), checkpoint.is_some());
    shared.note(&mut site, told);
    let mut outputs = Vec::new();
    let recovered = Recovered { records, unreadable: Vec::new(), last, checkpoint };
    let generation = site.rules.generation;
    site.judge.born(generation, last, t);
    let machine = Machine::new(Arc::clone(&site.rules), &clock.now(), recovered, &mut outputs);
    site.judge.after(None, &outputs, machine.next_deadline());
    site.lane = Some(seen);
    site.clock = Some(clock.clone());
    (site.failing_told, site.refused, site.dead, site.crash_in, site.flood) = (false, false, false, None, 0);
    (site.last_alive, site.last_saved) = (t, Some(clock.monotonic()));
    if site.disk.state == State::Fails {
        // It could not have opened it.
        site.journal_is(State::Writes, t);
    }
    for service in 0..site.fleets.len() {
        if site.configured[service] {
            site.targets_up(service);
        }
    }
    let drain_max = Duration::from_secs(site.rng.pick(&[5, 30, 30]));
    (clock, machine, outputs, Settings { drain_max, ..Settings::DAEMON })
}

/// The journal's thread: writes turns in order, tells when they are durable, and keeps them while it cannot.
async fn journal(shared: Shared, control: mpsc::Sender<Input>) {
    loop {
        let (waits, state, delay) = {
            let mut site = shared.site();
            let sync = site.sync_ms;
            (site.disk.pending.len(), site.disk.state, site.rng.within(0, sync))
        };
        match state {
            // The thread has died with the process.
            _ if shared.site().dead => std::future::pending().await,
            State::Writes if waits > 0 => {
                sleep(Duration::from_millis(u64::try_from(delay).unwrap_or(0))).await;
                let inputs = synced(&shared);
                for input in inputs {
                    tell(&shared, &control, input).await;
                }
            }
            State::Fails if waits > 0 => {
                if !std::mem::replace(&mut shared.site().failing_told, true) {
                    tell(&shared, &control, Input::JournalFailed("no space left".to_owned())).await;
                }
                // Another turn is a try as well; it fails as the one before.
                drop(tokio::time::timeout(RETRY, shared.journal.notified()).await);
            }
            State::Writes | State::Fails | State::Stalls => shared.journal.notified().await,
        }
    }
}

/// A sync that was under way when the disk went wrong is not over.
fn synced(shared: &Shared) -> Vec<Input> {
    let mut site = shared.site();
    if site.dead || site.disk.state != State::Writes {
        return Vec::new();
    }
    let waiting = site.disk.pending.len();
    let turns = 1 + site.rng.index(waiting.max(1));
    let last = shared.write(&mut site, turns);
    let mut inputs: Vec<Input> = last.map(Input::Durable).into_iter().collect();
    if site.failing_told && site.disk.pending.is_empty() {
        inputs.push(Input::JournalBack);
    }
    inputs
}

pub async fn tell(shared: &Shared, control: &mpsc::Sender<Input>, input: Input) {
    {
        let mut site = shared.site();
        site.judge.control_sent(&input);
        let (told, input) = (site.judge.turns, format!("{input:?}"));
        let short: String = input.chars().take(60).collect();
        shared.note(&mut site, format!("control: {short} (turn {told})"));
    }
    if control.send(input).await.is_err() {
        shared.site().judge.control_refused();
    }
}
