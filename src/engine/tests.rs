//! The shell with a machine that does as the test says.
//!
//! Length: a list of short scenarios that share their world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::handle::Handle;
use super::port::Started;
use super::*;
use crate::decide::event::{
    Action, Actor, Ask, Attempt, Check, CheckOutcome, Entry, IncidentId, OnFailure, Outcome, Record, Seq, Step,
    StepResult,
};
use crate::machine::checkpoint::View;
use crate::machine::input::{Answer, CheckId, Command, DeliveryOutcome};
use crate::machine::output::{CheckOrder, DeliveryOrder, Output, StepOrder};
use crate::machine::snapshot::{Counters, JournalHealth};
use crate::time::Now;

const SOON: Duration = Duration::from_mins(1);

type Script = Box<dyn FnMut(Input, &mut Vec<Output>) + Send>;

/// A machine that does as the test says.
struct Scripted {
    script: Script,
    deadline: Option<Timestamp>,
    handled: u64,
}

impl Core for Scripted {
    fn handle(&mut self, _: &Now, input: Input, out: &mut Vec<Output>) {
        self.handled += 1;
        if input == Input::Tick {
            self.deadline = None;
        }
        (self.script)(input, out);
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// `generation` counts the inputs so far.
    fn snapshot(&self, now: &Now) -> Snapshot {
        Snapshot {
            at: now.monotonic,
            wall: now.wall,
            started_wall: now.wall,
            version: "0",
            instance: Arc::from("test"),
            config_hash: Arc::from("0"),
            generation: self.handled,
            settled: true,
            journal: JournalHealth::Writing,
            pause: None,
            kill_switch: None,
            tilt: None,
            services: Vec::new(),
            incidents: Vec::new(),
            receivers: Vec::new(),
            counters: Counters::default(),
        }
    }

    fn checkpoint(&self, now: &Now) -> View<'_> {
        View { now: now.clone(), windows: Vec::new(), verdicts: Vec::new(), baselines: Vec::new(), ever: Vec::new() }
    }
}

/// A world that notes what reaches it, and whose steps end when the test says.
struct Noted {
    refuse: bool,
    step: Mutex<Option<oneshot::Receiver<Outcome>>>,
    /// Those under way.
    checks: Arc<Mutex<BTreeSet<CheckId>>>,
    /// A permit for each that may end.
    checks_end: Arc<Semaphore>,
    saved: Arc<Mutex<u32>>,
    /// So many saves are one checkpoint.
    save_parts: u32,
    /// A save waits until the other end is dropped.
    save_hangs: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    lags: Mutex<Vec<Lag>>,
    alive: Mutex<u32>,
}

impl Default for Noted {
    fn default() -> Noted {
        Noted {
            refuse: false,
            step: Mutex::default(),
            checks: Arc::default(),
            checks_end: Arc::new(Semaphore::new(0)),
            saved: Arc::default(),
            save_parts: 1,
            save_hangs: Mutex::default(),
            lags: Mutex::default(),
            alive: Mutex::default(),
        }
    }
}

fn read<T: Clone>(of: &Mutex<T>) -> T {
    of.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn result(outcome: Outcome) -> StepResult {
    StepResult {
        outcome,
        detail: String::new(),
        output: String::new(),
        truncated: false,
        captures: BTreeMap::new(),
        duration_ms: 1,
    }
}

impl World for Noted {
    fn append(&self, _: Vec<Record>) -> Result<(), BoxError> {
        if self.refuse { Err("full".into()) } else { Ok(()) }
    }

    fn run_step(&self, _: StepOrder, started: Started) -> impl Future<Output = StepResult> + Send + 'static {
        let end = self.step.lock().unwrap().take();
        async move {
            started.tell(Some(7), Some("start".to_owned()));
            match end {
                Some(end) => result(end.await.expect("the test ends the step")),
                None => panic!("the executor has a fault"),
            }
        }
    }

    fn run_check(&self, order: CheckOrder) -> impl Future<Output = CheckOutcome> + Send + 'static {
        let (running, end) = (Arc::clone(&self.checks), Arc::clone(&self.checks_end));
        async move {
            assert!(order.id != CheckId(0), "the check has a fault");
            running.lock().unwrap().insert(order.id);
            end.acquire().await.expect("the test ends the checks").forget();
            running.lock().unwrap().remove(&order.id);
            CheckOutcome::Passed
        }
    }

    fn deliver(&self, _: DeliveryOrder) -> impl Future<Output = DeliveryOutcome> + Send + 'static {
        std::future::ready(DeliveryOutcome::Delivered)
    }

    fn save(&self, _: &View<'_>) -> impl FnOnce() -> Result<Saved, String> + Send + 'static {
        let hangs = self.save_hangs.lock().unwrap().take();
        let saved = Arc::clone(&self.saved);
        let parts = self.save_parts;
        move || {
            if let Some(hangs) = hangs {
                assert!(hangs.recv().is_err(), "nothing is sent");
            }
            let mut saved = saved.lock().unwrap();
            *saved += 1;
            Ok(if saved.is_multiple_of(parts) { Saved::All } else { Saved::Part })
        }
    }

    fn measured(&self, lag: Lag) {
        self.lags.lock().unwrap().push(lag);
    }

    fn alive(&self, _: &Snapshot) {
        *self.alive.lock().unwrap() += 1;
    }
}

impl Observations for mpsc::Receiver<Observation> {
    fn next(&mut self) -> impl Future<Output = Option<Observation>> + Send {
        self.recv()
    }
}

struct Rig {
    engine: JoinHandle<Result<Stopped, EngineError>>,
    control: mpsc::Sender<Input>,
    observations: mpsc::Sender<Observation>,
    handle: Handle,
    stop: CancellationToken,
    world: Arc<Noted>,
    clock: Clock,
}

struct Setup {
    settings: Settings,
    world: Noted,
    deadline: Option<Duration>,
    /// Already waiting when the engine starts.
    control: Vec<Input>,
    observations: Vec<Observation>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            settings: Settings { drain_max: Duration::from_millis(400), ..Settings::DAEMON },
            world: Noted::default(),
            deadline: None,
            control: Vec::new(),
            observations: Vec::new(),
        }
    }
}

fn start(setup: Setup, script: impl FnMut(Input, &mut Vec<Output>) + Send + 'static) -> Rig {
    let clock = Clock::start(None, None);
    let (control, control_lane) = mpsc::channel(CONTROL_QUEUED_MAX);
    let (commands, command_lane) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (observations, observation_lane) = mpsc::channel(4096);
    setup.control.into_iter().for_each(|input| control.try_send(input).unwrap());
    setup.observations.into_iter().for_each(|observation| observations.try_send(observation).unwrap());
    let core = Scripted {
        script: Box::new(script),
        deadline: setup.deadline.map(|after| clock.monotonic() + after),
        handled: 0,
    };
    let world = Arc::new(setup.world);
    let lanes = Lanes { control: control_lane, commands: command_lane, observations: observation_lane };
    let (engine, snapshot) = Engine::new(core, Vec::new(), Arc::clone(&world), clock.clone(), setup.settings, lanes);
    let stop = CancellationToken::new();
    let engine = tokio::spawn(engine.run(stop.clone()));
    Rig { engine, control, observations, handle: Handle::new(commands, snapshot), stop, world, clock }
}

impl Rig {
    async fn stopped(self) -> Stopped {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.engine).await.expect("the drain has a bound").unwrap().unwrap()
    }
}

/// The inputs that a script saw, as they come.
fn seen() -> (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>) {
    mpsc::unbounded_channel()
}

async fn next(seen: &mut mpsc::UnboundedReceiver<Input>) -> Input {
    tokio::time::timeout(SOON, seen.recv()).await.expect("an input in time").unwrap()
}

fn overrun(millis: i64) -> Observation {
    Observation::Overrun { target: crate::promql::TargetId(1), at: Timestamp::from_millis(millis) }
}

fn record(seq: u64) -> Record {
    Record {
        seq: Seq(seq),
        at: Timestamp::from_millis(0),
        wall: Timestamp::from_millis(0),
        boot: crate::time::BootId(Arc::from("boot")),
        entry: Entry::Resumed { service: None, actor: actor(), reason: String::new() },
    }
}

fn actor() -> Actor {
    Actor { name: "ann".to_owned(), via: "cli".to_owned() }
}

fn order() -> Output {
    let step = Step {
        name: "undo".to_owned(),
        action: Action::Command {
            argv: vec!["true".to_owned()],
            env: BTreeMap::new(),
            inherit: Vec::new(),
            directory: None,
        },
        timeout: Duration::from_secs(1),
        on_failure: OnFailure::Climb,
        retry: None,
        check: None,
        idempotent: false,
    };
    Output::RunStep(Box::new(StepOrder {
        incident: IncidentId(Arc::from("api-1")),
        service: Arc::from("api"),
        attempt: Attempt { level: 0, step: 0, attempt: 0, undo: false },
        step,
        idempotency_key: "key".to_owned(),
        expect_release: None,
        bad: None,
        target: None,
        running: None,
        variables: BTreeMap::new(),
        captures: BTreeMap::new(),
    }))
}

#[tokio::test]
async fn control_goes_before_observations_and_deadlines_come_last() {
    let (tell, mut seen) = seen();
    let setup = Setup {
        deadline: Some(Duration::ZERO),
        control: vec![Input::Durable(Seq(1)), Input::Durable(Seq(2))],
        observations: vec![overrun(1), overrun(2)],
        ..Setup::default()
    };
    let rig = start(setup, move |input, _| tell.send(input).unwrap());
    assert_eq!(next(&mut seen).await, Input::Durable(Seq(1)));
    assert_eq!(next(&mut seen).await, Input::Durable(Seq(2)));
    assert_eq!(next(&mut seen).await, Input::Observation(overrun(1)));
    assert_eq!(next(&mut seen).await, Input::Observation(overrun(2)));
    assert_eq!(next(&mut seen).await, Input::Tick);
    assert_eq!(rig.stopped().await, Stopped { steps_left: 0, entries_left: 0 });
}

#[tokio::test]
async fn a_flood_of_observations_does_not_stop_time() {
    let (tell, mut seen) = seen();
    let flood = (0..3000).map(overrun).collect();
    let setup = Setup { deadline: Some(Duration::ZERO), observations: flood, ..Setup::default() };
    let rig = start(setup, move |input, _| tell.send(input).unwrap());
    let mut before = 0;
    while next(&mut seen).await != Input::Tick {
        before += 1;
    }
    assert_eq!(before, 1024);
    rig.stopped().await;
}

#[tokio::test]
async fn a_deadline_in_the_future_comes_when_it_is_due() {
    let (tell, mut seen) = seen();
    let wait = Duration::from_millis(120);
    let due = Clock::start(None, None).monotonic() + wait;
    let rig = start(Setup { deadline: Some(wait), ..Setup::default() }, move |input, _| tell.send(input).unwrap());
    assert_eq!(next(&mut seen).await, Input::Tick);
    assert!(rig.clock.monotonic() >= due);
    rig.stopped().await;
}

#[tokio::test]
async fn a_command_is_answered_after_its_entries_are_durable_and_the_snapshot_shows_it() {
    let mut asked = None;
    let rig = start(Setup::default(), move |input, out| match input {
        Input::Command { id, .. } => {
            asked = Some(id);
            out.push(Output::Append(vec![record(1)]));
        }
        Input::Durable(Seq(1)) => out.push(Output::Reply {
            id: asked.take().unwrap(),
            answer: Answer::Done { message: "done".to_owned(), incident: None, details: BTreeMap::new() },
        }),
        _ => {}
    });
    let mut watch = rig.handle.watch();
    let handle = rig.handle.clone();
    let answer =
        tokio::spawn(
            async move { handle.command(actor(), Command::Resume { service: None, reason: String::new() }).await },
        );
    tokio::time::timeout(SOON, watch.wait_for(|snapshot| snapshot.generation == 1)).await.unwrap().unwrap();
    assert!(!answer.is_finished());
    rig.control.send(Input::Durable(Seq(1))).await.unwrap();
    let answer = tokio::time::timeout(SOON, answer).await.unwrap().unwrap();
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    assert_eq!(rig.handle.snapshot().generation, 2);
    assert!(matches!(read(&rig.world.lags)[..], [Lag::Sync(_)]));
    rig.stopped().await;
}

#[tokio::test]
async fn a_steps_start_is_told_before_its_end() {
    let (tell, mut seen) = seen();
    let (end, ended) = oneshot::channel();
    let world = Noted { step: Mutex::new(Some(ended)), ..Noted::default() };
    end.send(Outcome::Succeeded).unwrap();
    let rig = start(Setup { world, ..Setup::default() }, move |input, out| {
        if input == Input::JournalBack {
            out.push(order());
        }
        tell.send(input).unwrap();
    });
    rig.control.send(Input::JournalBack).await.unwrap();
    assert_eq!(next(&mut seen).await, Input::JournalBack);
    assert!(matches!(next(&mut seen).await, Input::StepStarted { pid: Some(7), .. }));
    let finished = next(&mut seen).await;
    assert!(matches!(&finished, Input::StepFinished { result, .. } if result.outcome == Outcome::Succeeded));
    rig.stopped().await;
}

#[tokio::test]
async fn an_executor_that_panics_leaves_an_ambiguous_step_not_a_lost_one() {
    let (tell, mut seen) = seen();
    let rig = start(Setup::default(), move |input, out| {
        if input == Input::JournalBack {
            out.push(order());
        }
        tell.send(input).unwrap();
    });
    rig.control.send(Input::JournalBack).await.unwrap();
    assert_eq!(next(&mut seen).await, Input::JournalBack);
    assert!(matches!(next(&mut seen).await, Input::StepStarted { .. }));
    let Input::StepFinished { result, .. } = next(&mut seen).await else { panic!("expected the end of the step") };
    assert_eq!(result.outcome, Outcome::Ambiguous);
    assert_eq!(result.detail, "the executor failed: the executor has a fault");
    rig.stopped().await;
}

#[tokio::test]
async fn stopping_waits_for_a_running_step_and_for_its_entries() {
    let (tell, mut seen) = seen();
    let (end, ended) = oneshot::channel();
    let world = Noted { step: Mutex::new(Some(ended)), ..Noted::default() };
    let settings = Settings { drain_max: SOON, ..Settings::DAEMON };
    let rig = start(Setup { settings, world, ..Setup::default() }, move |input, out| {
        match &input {
            Input::JournalBack => out.push(order()),
            Input::StepFinished { .. } => out.push(Output::Append(vec![record(9)])),
            _ => {}
        }
        tell.send(input).unwrap();
    });
    rig.control.send(Input::JournalBack).await.unwrap();
    assert_eq!(next(&mut seen).await, Input::JournalBack);
    assert!(matches!(next(&mut seen).await, Input::StepStarted { .. }));
    rig.stop.cancel();
    assert_eq!(next(&mut seen).await, Input::Draining);
    // Commands are no longer taken; the one who asks is told so at the end.
    let handle = rig.handle.clone();
    let late =
        tokio::spawn(
            async move { handle.command(actor(), Command::Resume { service: None, reason: String::new() }).await },
        );
    end.send(Outcome::Failed).unwrap();
    assert!(matches!(next(&mut seen).await, Input::StepFinished { .. }));
    assert!(!rig.engine.is_finished(), "its entry is not durable yet");
    rig.control.send(Input::Durable(Seq(9))).await.unwrap();
    let world = Arc::clone(&rig.world);
    assert_eq!(rig.stopped().await, Stopped { steps_left: 0, entries_left: 0 });
    assert!(matches!(late.await.unwrap(), Answer::Refused(_)));
    assert_eq!(read(&world.saved), 1, "windows and held time are saved at the end");
}

fn check(id: u64) -> Output {
    let ask =
        Ask::Command { argv: vec!["true".to_owned()], env: BTreeMap::new(), inherit: Vec::new(), directory: None };
    Output::RunCheck(Box::new(CheckOrder {
        id: CheckId(id),
        service: Arc::from("api"),
        incident: None,
        check: Check { name: "schema".to_owned(), ask, timeout: Duration::from_secs(1) },
        level: None,
        attempt: None,
        bad: None,
        target: None,
        running: None,
        variables: BTreeMap::new(),
        captures: BTreeMap::new(),
    }))
}

#[tokio::test]
async fn so_many_checks_run_at_once_and_each_is_answered() {
    let (tell, mut seen) = seen();
    let rig = start(Setup::default(), move |input, out| {
        if input == Input::JournalBack {
            out.extend((1..=40).map(check));
        }
        tell.send(input).unwrap();
    });
    rig.control.send(Input::JournalBack).await.unwrap();
    let deadline = rig.clock.uptime() + SOON;
    while read(&rig.world.checks).len() < 16 {
        assert!(rig.clock.uptime() < deadline, "the checks do not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 40 {
        assert!(read(&rig.world.checks).len() <= 16);
        rig.world.checks_end.add_permits(1);
        while let Ok(input) = seen.try_recv() {
            let Input::Checked { id, outcome } = input else { continue };
            assert_eq!(outcome, CheckOutcome::Passed);
            assert!(answered.insert(id), "{id:?} is answered twice");
        }
        assert!(rig.clock.uptime() < deadline, "{} answers", answered.len());
        tokio::task::yield_now().await;
    }
    rig.stopped().await;
}

#[tokio::test]
async fn a_check_that_panics_is_no_answer() {
    let (tell, mut seen) = seen();
    let rig = start(Setup::default(), move |input, out| {
        if input == Input::JournalBack {
            out.push(check(0));
        }
        tell.send(input).unwrap();
    });
    rig.control.send(Input::JournalBack).await.unwrap();
    assert_eq!(next(&mut seen).await, Input::JournalBack);
    let Input::Checked { id, outcome: CheckOutcome::Unknown(why) } = next(&mut seen).await else { panic!("no answer") };
    assert!(id == CheckId(0) && why.contains("the check has a fault"), "{why}");
    rig.stopped().await;
}

#[tokio::test]
async fn a_step_that_does_not_end_is_left_at_the_bound() {
    let (tell, mut seen) = seen();
    let (_end, ended) = oneshot::channel();
    let world = Noted { step: Mutex::new(Some(ended)), ..Noted::default() };
    let rig = start(Setup { world, ..Setup::default() }, move |input, out| {
        if input == Input::JournalBack {
            out.push(order());
        }
        tell.send(input).unwrap();
    });
    rig.control.send(Input::JournalBack).await.unwrap();
    while !matches!(next(&mut seen).await, Input::StepStarted { .. }) {}
    assert_eq!(rig.stopped().await, Stopped { steps_left: 1, entries_left: 0 });
}

#[tokio::test]
async fn a_journal_that_takes_no_more_ends_the_daemon() {
    let world = Noted { refuse: true, ..Noted::default() };
    let rig = start(Setup { world, ..Setup::default() }, |input, out| {
        if matches!(input, Input::Observation(_)) {
            out.push(Output::Append(vec![record(1)]));
            out.push(order());
        }
    });
    rig.observations.send(overrun(0)).await.unwrap();
    let ended = tokio::time::timeout(SOON, rig.engine).await.unwrap().unwrap();
    assert!(matches!(ended, Err(EngineError::Journal { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_panic_of_the_machine_ends_the_engine() {
    let rig = start(Setup::default(), |_, _| panic!("half a state"));
    rig.control.send(Input::JournalBack).await.unwrap();
    let ended = tokio::time::timeout(SOON, rig.engine).await.unwrap();
    assert!(ended.unwrap_err().is_panic());
    assert_eq!(read(&rig.world.saved), 0, "half a state must not be saved");
}

#[tokio::test]
async fn chores_are_done_while_nothing_happens() {
    let every = Duration::from_millis(20);
    let settings = Settings { save_every: every, alive_every: every, ..Settings::DAEMON };
    let rig = start(Setup { settings, ..Setup::default() }, |_, _| {});
    let deadline = rig.clock.uptime() + SOON;
    while read(&rig.world.saved) < 3 || read(&rig.world.alive) < 3 {
        assert!(rig.clock.uptime() < deadline, "the chores are not done");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.stopped().await;
}

#[tokio::test]
async fn the_parts_of_a_checkpoint_follow_each_other_at_once() {
    let settings = Settings { save_every: Duration::from_secs(1), ..Settings::DAEMON };
    let world = Noted { save_parts: 1000, ..Noted::default() };
    let rig = start(Setup { settings, world, ..Setup::default() }, |_, _| {});
    // One each second, they would not be there for a long time.
    let deadline = rig.clock.uptime() + SOON;
    while read(&rig.world.saved) < 1000 {
        assert!(rig.clock.uptime() < deadline, "{} parts are saved", read(&rig.world.saved));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.stopped().await;
}

#[tokio::test]
async fn the_last_checkpoint_is_saved_with_all_its_parts() {
    let world = Noted { save_parts: 5, ..Noted::default() };
    let rig = start(Setup { world, ..Setup::default() }, |_, _| {});
    let world = Arc::clone(&rig.world);
    rig.stopped().await;
    assert_eq!(read(&world.saved), 5);
}

/// A disk that takes a checkpoint and never ends; dropping the sender frees it.
fn hanging() -> (std::sync::mpsc::Sender<()>, Noted) {
    let (free, hangs) = std::sync::mpsc::channel();
    (free, Noted { save_hangs: Mutex::new(Some(hangs)), ..Noted::default() })
}

#[tokio::test]
async fn a_checkpoint_that_hangs_stands_before_no_intent() {
    let (tell, mut seen) = seen();
    let (free, world) = hanging();
    let settings = Settings { save_every: Duration::from_millis(5), ..Settings::DAEMON };
    let rig = start(Setup { settings, world, ..Setup::default() }, move |input, out| {
        match &input {
            Input::JournalBack => out.push(Output::Append(vec![record(1)])),
            Input::Durable(_) => out.push(order()),
            _ => {}
        }
        tell.send(input).unwrap();
    });
    let deadline = rig.clock.uptime() + SOON;
    while rig.world.save_hangs.lock().unwrap().is_some() {
        assert!(rig.clock.uptime() < deadline, "nothing is saved");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.control.send(Input::JournalBack).await.unwrap();
    rig.control.send(Input::Durable(Seq(1))).await.unwrap();
    assert_eq!(next(&mut seen).await, Input::JournalBack);
    assert_eq!(next(&mut seen).await, Input::Durable(Seq(1)));
    assert!(matches!(next(&mut seen).await, Input::StepStarted { .. }));
    assert_eq!(read(&rig.world.saved), 0, "it hangs still, and none was begun beside it");
    drop(free);
    rig.stopped().await;
}

#[tokio::test]
async fn a_checkpoint_that_hangs_does_not_keep_the_daemon_from_ending() {
    let (free, world) = hanging();
    let rig = start(Setup { world, ..Setup::default() }, |_, _| {});
    rig.stop.cancel();
    let ended = tokio::time::timeout(SAVE_LAST_MAX + Duration::from_secs(5), rig.engine).await;
    drop(free);
    assert_eq!(ended.expect("the end has a bound").unwrap().unwrap(), Stopped { steps_left: 0, entries_left: 0 });
}

/// Always one more, until there are none.
struct Flood(i64);

impl Observations for Flood {
    async fn next(&mut self) -> Option<Observation> {
        if self.0 == 0 {
            return std::future::pending().await;
        }
        self.0 -= 1;
        Some(overrun(self.0))
    }
}

#[tokio::test]
async fn a_step_begins_while_observations_flood() {
    let (tell, mut seen) = seen();
    let core = Scripted {
        script: Box::new(move |input, out| {
            if input == Input::Observation(overrun(4999)) {
                out.push(order());
            }
            tell.send(input).unwrap();
        }),
        deadline: None,
        handled: 0,
    };
    let (control, control_lane) = mpsc::channel(1);
    let (commands, command_lane) = mpsc::channel(1);
    let lanes = Lanes { control: control_lane, commands: command_lane, observations: Flood(5000) };
    let world = Arc::new(Noted::default());
    let (engine, _) = Engine::new(core, Vec::new(), world, Clock::start(None, None), Settings::DAEMON, lanes);
    let stop = CancellationToken::new();
    let engine = tokio::spawn(engine.run(stop.clone()));
    let mut before = 0;
    while !matches!(next(&mut seen).await, Input::StepStarted { .. }) {
        before += 1;
    }
    assert!(before <= 256, "{before} observations were read before the step could begin");
    stop.cancel();
    engine.await.unwrap().unwrap();
    drop((control, commands));
}
