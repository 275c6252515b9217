//! The judge. It stands at the engine's doors: what was sent to it and when, what reached the machine and in which order,
//! what the machine asked for and what the world was given of it, what is durable, who was answered.
//!
//! It never looks into the engine.
//!
//! Length: one judge; its rules read the same few facts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use backstop::decide::event::{Attempt, Entry, IncidentEvent, IncidentId, Outcome, Record, Seq};
use backstop::engine::Stopped;
use backstop::machine::input::{Answer, CheckId, CommandId, DeliveryOutcome, Input, Observation, Refusal};
use backstop::machine::output::Output;
use backstop::promql::TargetId;
use backstop::time::Timestamp;

/// A promise that was broken, in one sentence.
pub type Broken = String;

/// One may be on its way to the machine when something more urgent comes, and one more may have been chosen before.
const OBSERVATIONS_BEFORE_CONTROL_MAX: u64 = 2;
/// A flood must not stop time: so many may go before a deadline that has passed.
const OBSERVATIONS_BEFORE_TICK_MAX: u32 = 1100;
/// Until what was ordered begins: the runtime must get its turn in a flood too.
const OBSERVATIONS_BEFORE_START_MAX: u64 = 300;
/// Of the commands that wait in front of the door; more wait outside.
const COMMANDS_IN_LINE_MAX: usize = 60;
/// Of those that wait for the disk.
const COMMANDS_OPEN_MAX: usize = 250;
const CHECKS_AT_ONCE_MAX: usize = 16;

/// What an attempt is known by.
pub type Run = (IncidentId, Attempt);

/// One output that must leave in the turn in which it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    Append(Seq, Seq),
    Step(Run),
    Deliver(String, String),
}

#[derive(Debug)]
struct Step {
    ordered: u64,
    began: bool,
    told: bool,
    /// How it ended, and after how many observations.
    ended: Option<(Outcome, u64)>,
}

#[derive(Debug, Default)]
struct Asked {
    /// Observations by then; None where its turn is not the next.
    sent: Option<u64>,
    handled: Option<Timestamp>,
    due: Option<Seq>,
    reply: Option<Answer>,
    answered: bool,
    since: i64,
}

#[derive(Debug)]
struct Look {
    at: Timestamp,
    since: i64,
    unread: bool,
    replaced: bool,
    told: bool,
}

/// A notice that the journal has, and who still has to get it.
#[derive(Debug, Default)]
struct Accepted {
    waiting: BTreeSet<String>,
    reached: BTreeSet<String>,
    text: String,
}

#[derive(Debug, Default)]
pub struct Judge {
    pub broken: Option<Broken>,
    pub turns: u64,
    pub observations: u64,
    overdue: u32,
    deadline: Option<Timestamp>,
    control: VecDeque<(Input, u64)>,
    /// What the machine asked for and the world was not given yet, in its order.
    effects: VecDeque<Effect>,
    /// The last of each turn that was appended and not confirmed to the machine.
    unconfirmed: VecDeque<Seq>,
    checks_asked: VecDeque<CheckId>,
    steps: BTreeMap<Run, Step>,
    checks: BTreeMap<CheckId, Option<u64>>,
    deliveries: BTreeMap<String, (String, Option<(DeliveryOutcome, u64)>)>,
    /// Over all lives.
    ran: BTreeSet<Run>,
    intents: BTreeMap<Run, bool>,
    commands: BTreeMap<u64, Asked>,
    people: BTreeMap<CommandId, u64>,
    looks: BTreeMap<TargetId, Look>,
    generation: u64,
    notices: BTreeMap<String, Accepted>,
    early: BTreeMap<String, BTreeSet<String>>,
    pub draining: bool,
    /// When the machine heard of it: the newest entry by then.
    drained_at: Option<Seq>,
    appended: Seq,
}

impl Judge {
    pub fn fail(&mut self, why: Broken) {
        self.broken.get_or_insert(why);
    }

    fn demand(&mut self, holds: bool, why: impl FnOnce() -> Broken) {
        if !holds {
            self.fail(why());
        }
    }

    /// Another daemon: what was on its way to the one before is lost with it.
    pub fn born(&mut self, generation: u64, last: Seq, t: i64) {
        self.control.clear();
        self.effects.clear();
        self.unconfirmed.clear();
        self.checks_asked.clear();
        self.steps.clear();
        self.checks.clear();
        self.deliveries.clear();
        self.people.clear();
        self.looks.clear();
        self.commands.retain(|_, asked| !asked.answered);
        for asked in self.commands.values() {
            if t - asked.since > 2000 {
                self.broken.get_or_insert("a command to a daemon that is dead was never answered".to_owned());
            }
        }
        (self.deadline, self.overdue, self.draining, self.drained_at) = (None, 0, false, None);
        (self.generation, self.appended) = (generation, last);
    }

    // What is sent to the engine.

    pub fn control_sent(&mut self, input: &Input) {
        self.control.push_back((input.clone(), self.observations));
    }

    /// Not sent after all: the engine is gone.
    pub fn control_refused(&mut self) {
        self.control.pop_back();
    }

    pub fn command_sent(&mut self, person: u64, t: i64) {
        let in_line = self.commands.values().filter(|asked| asked.handled.is_none() && !asked.answered).count();
        let open = self.commands_open();
        let promised = in_line < COMMANDS_IN_LINE_MAX && in_line + open < COMMANDS_OPEN_MAX && !self.draining;
        let sent = promised.then_some(self.observations);
        self.commands.insert(person, Asked { sent, since: t, ..Asked::default() });
    }

    fn commands_open(&self) -> usize {
        self.commands.values().filter(|asked| asked.handled.is_some() && asked.reply.is_none()).count()
    }

    pub fn looked(&mut self, target: TargetId, at: Timestamp, t: i64) {
        let fresh = Look { at, since: t, unread: false, replaced: false, told: false };
        let look = self.looks.entry(target).or_insert(fresh);
        if look.unread {
            look.replaced = true;
        } else {
            look.since = t;
        }
        (look.at, look.unread) = (at, true);
    }

    pub fn target_gone(&mut self, target: TargetId) {
        self.looks.remove(&target);
    }

    // What reaches the machine.

    pub fn before(&mut self, now: Timestamp, input: &Input) {
        self.turns += 1;
        self.nothing_withheld();
        let is_observation = matches!(input, Input::Observation(_));
        let overdue = self.deadline.is_some_and(|deadline| deadline <= now);
        if *input == Input::Tick {
            self.demand(overdue, || format!("a tick came at {now}, and nothing was due"));
            self.overdue = 0;
        } else if is_observation {
            self.overdue = if overdue { self.overdue + 1 } else { 0 };
            let count = self.overdue;
            self.demand(count <= OBSERVATIONS_BEFORE_TICK_MAX, || {
                format!("{count} observations in a row while a deadline had passed: a flood stops time")
            });
        }
        match input {
            Input::Observation(observation) => {
                self.observations += 1;
                self.demand(!self.draining, || "an observation was read after the stop".to_owned());
                self.observed(observation);
            }
            Input::Durable(_)
            | Input::JournalFailed(_)
            | Input::JournalBack
            | Input::KillFile { .. }
            | Input::Reload(_) => self.controlled(input),
            Input::StepStarted { incident, attempt, .. } => self.step_told(&(incident.clone(), *attempt)),
            Input::StepFinished { incident, attempt, result } => {
                self.step_finished(&(incident.clone(), *attempt), result.outcome);
            }
            Input::Checked { id, .. } => match self.checks.remove(id) {
                Some(Some(ended)) => self.in_time(ended, "the end of a check"),
                Some(None) => self.fail(format!("{id:?} is answered, and it still runs")),
                None => self.fail(format!("{id:?} is answered twice, or was never run")),
            },
            Input::Delivery { receiver, notice, outcome } => self.delivery_told(receiver, notice, outcome),
            Input::Command { id, actor, .. } => self.commanded(*id, &actor.name, now),
            Input::Draining => {
                self.demand(self.drained_at.is_none(), || "it was told twice to stop".to_owned());
                self.draining = true;
                self.drained_at = Some(self.appended);
            }
            Input::Tick => {}
        }
    }

    /// What the machine asked for in the turn before has left.
    fn nothing_withheld(&mut self) {
        if let Some(effect) = self.effects.pop_front() {
            self.fail(format!("{effect:?} was withheld"));
        }
    }

    /// In the order in which the machine asked.
    fn given(&mut self, effect: &Effect) {
        let asked = self.effects.pop_front();
        self.demand(asked.as_ref() == Some(effect), || {
            format!("the world was given {effect:?}, and {asked:?} was next")
        });
    }

    fn in_time(&mut self, sent: u64, what: &str) {
        let went_before = self.observations - sent;
        self.demand(went_before <= OBSERVATIONS_BEFORE_CONTROL_MAX, || {
            format!("{went_before} observations went before {what}")
        });
    }

    fn controlled(&mut self, input: &Input) {
        match self.control.pop_front() {
            Some((sent, observations)) if sent == *input => self.in_time(observations, "something of the control lane"),
            other => self.fail(format!("of the control lane {input:?} was read, and {other:?} was next")),
        }
        if let Input::Durable(upto) = input {
            self.unconfirmed.retain(|last| last > upto);
        } else if let Input::Reload(rules) = input {
            self.generation = rules.generation;
        }
    }

    fn observed(&mut self, observation: &Observation) {
        let (target, at) = match observation {
            Observation::Overrun { target, .. } => {
                let replaced = self.looks.get_mut(target).is_none_or(|look| {
                    look.told = true;
                    look.replaced
                });
                return self.demand(replaced, || format!("a gap of {target:?} was told that is none"));
            }
            Observation::Scraped { target, at, outcome, .. } => {
                if let Ok(scrape) = outcome {
                    let (of, known) = (scrape.generation, self.generation);
                    self.demand(of <= known, || format!("a scrape of generation {of} came before its rules, {known}"));
                }
                (target, at)
            }
            Observation::Probed { target, at, .. } | Observation::Queried { target, at, .. } => (target, at),
            Observation::TargetUp { .. }
            | Observation::TargetGone { .. }
            | Observation::Release { .. }
            | Observation::Reference { .. } => return,
        };
        let Some(look) = self.looks.get_mut(target) else { return };
        let why = if !look.unread {
            Some(format!("a look at {target:?} was read twice"))
        } else if look.at != *at {
            Some(format!("of {target:?} the look of {at} was read, and the latest is of {}", look.at))
        } else if look.replaced && !look.told {
            Some(format!("a look at {target:?} was replaced, and no gap was told"))
        } else {
            None
        };
        (look.unread, look.replaced, look.told) = (false, false, false);
        if let Some(why) = why {
            self.fail(why);
        }
    }

    fn commanded(&mut self, id: CommandId, name: &str, now: Timestamp) {
        self.demand(!self.draining, || "a command was taken after the stop".to_owned());
        let person = name.trim_start_matches('p').parse().unwrap_or(0);
        let Some(asked) = self.commands.get_mut(&person) else {
            return self.fail(format!("a command of {name} that nobody gave"));
        };
        let twice = asked.handled.replace(now).is_some();
        let sent = asked.sent;
        self.people.insert(id, person);
        self.demand(!twice, || format!("the command of {name} was taken twice"));
        if let Some(sent) = sent {
            self.in_time(sent, "a command");
        }
    }

    fn step_told(&mut self, run: &Run) {
        match self.steps.get_mut(run) {
            Some(step) if step.began && !step.told => step.told = true,
            other => {
                let other = format!("{other:?}");
                self.fail(format!("the start of {run:?} was told: {other}"));
            }
        }
    }

    fn step_finished(&mut self, run: &Run, outcome: Outcome) {
        match self.steps.remove(run) {
            Some(Step { told: true, ended: Some((ended, observations)), .. }) if ended == outcome => {
                self.in_time(observations, "the end of a step");
            }
            other => self.fail(format!("{run:?} was told to have ended, {outcome:?}: {other:?}")),
        }
    }

    fn delivery_told(&mut self, receiver: &str, notice: &str, outcome: &DeliveryOutcome) {
        match self.deliveries.remove(receiver) {
            Some((of, Some((ended, observations)))) if of == notice && ended == *outcome => {
                self.in_time(observations, "the end of a delivery");
            }
            other => self.fail(format!("{notice} to {receiver} was told to have ended, {outcome:?}: {other:?}")),
        }
    }

    // What the machine asks for.

    pub fn after(&mut self, command: Option<CommandId>, out: &[Output], deadline: Option<Timestamp>) {
        self.deadline = deadline;
        for output in out {
            match output {
                Output::Append(records) => {
                    if let (Some(first), Some(last)) = (records.first(), records.last()) {
                        self.effects.push_back(Effect::Append(first.seq, last.seq));
                        if let Some(asked) = command.and_then(|id| self.asked_of(id)) {
                            asked.due = Some(last.seq);
                        }
                    }
                }
                Output::RunStep(order) => {
                    self.effects.push_back(Effect::Step((order.incident.clone(), order.attempt)));
                }
                Output::RunCheck(order) => self.checks_asked.push_back(order.id),
                Output::Deliver(order) if !self.draining => {
                    let (receiver, notice) = (order.receiver.to_string(), order.notice.id.clone());
                    self.effects.push_back(Effect::Deliver(receiver, notice));
                }
                Output::Reply { id, answer } => {
                    let twice = self.asked_of(*id).is_none_or(|asked| asked.reply.replace(answer.clone()).is_some());
                    self.demand(!twice, || format!("{id:?} has two answers, or was never asked"));
                }
                Output::Deliver(_) | Output::Log { .. } => {}
            }
        }
    }

    fn asked_of(&mut self, id: CommandId) -> Option<&mut Asked> {
        self.people.get(&id).and_then(|person| self.commands.get_mut(person))
    }

    // What the world is given.

    pub fn append(&mut self, records: &[Record]) {
        if let Some((first, last)) = records.first().zip(records.last()) {
            self.given(&Effect::Append(first.seq, last.seq));
            self.unconfirmed.push_back(last.seq);
            self.appended = last.seq;
        }
        for record in records {
            if let Entry::Incident { incident, event } = &record.entry
                && let IncidentEvent::StepIntended { attempt, .. } = &**event
            {
                let late = self.drained_at.is_some();
                self.demand(!late, || format!("{attempt:?} of {incident} was intended after the stop"));
                self.intents.insert((incident.clone(), *attempt), false);
            }
        }
    }

    pub fn step_ordered(&mut self, run: Run) {
        self.given(&Effect::Step(run.clone()));
        let step = Step { ordered: self.observations, began: false, told: false, ended: None };
        self.steps.insert(run, step);
    }

    pub fn step_begins(&mut self, run: &Run) {
        match self.intents.get(run) {
            Some(true) => {}
            Some(false) => self.fail(format!("promise 3: {run:?} began before its intent was durable")),
            None => self.fail(format!("promise 3: {run:?} began without an intent")),
        }
        let fresh = self.ran.insert(run.clone());
        self.demand(fresh, || format!("promise 3: {run:?} began twice"));
        let Some(step) = self.steps.get_mut(run) else {
            return self.fail(format!("{run:?} began, and nobody had ordered it"));
        };
        step.began = true;
        let waited = self.observations - step.ordered;
        self.demand(waited <= OBSERVATIONS_BEFORE_START_MAX, || {
            format!("{waited} observations were read until the runtime could begin {run:?}")
        });
    }

    pub fn step_ends(&mut self, run: &Run, outcome: Outcome) {
        let observations = self.observations;
        if let Some(step) = self.steps.get_mut(run) {
            step.ended = Some((outcome, observations));
        }
    }

    pub fn check_begins(&mut self, id: CheckId) {
        let place = self.checks_asked.iter().position(|asked| *asked == id);
        match place {
            Some(place) => drop(self.checks_asked.remove(place)),
            None => self.fail(format!("{id:?} began, and nobody asked it")),
        }
        self.checks.insert(id, None);
        let running = self.checks.values().filter(|ended| ended.is_none()).count();
        self.demand(running <= CHECKS_AT_ONCE_MAX, || format!("{running} checks run at once"));
    }

    pub fn check_ends(&mut self, id: CheckId) {
        self.checks.insert(id, Some(self.observations));
    }

    pub fn delivery_begins(&mut self, receiver: &str, notice: &str) {
        self.demand(!self.draining, || format!("{notice} left for {receiver} after the stop"));
        self.given(&Effect::Deliver(receiver.to_owned(), notice.to_owned()));
        let before = self.deliveries.insert(receiver.to_owned(), (notice.to_owned(), None));
        self.demand(before.is_none(), || format!("two deliveries to {receiver} at once: {before:?}, {notice}"));
    }

    pub fn delivery_ends(&mut self, receiver: &str, outcome: &DeliveryOutcome) {
        let observations = self.observations;
        if let Some((_, ended)) = self.deliveries.get_mut(receiver) {
            *ended = Some((outcome.clone(), observations));
        }
    }

    /// A receiver has it.
    pub fn delivered(&mut self, receiver: &str, id: &str, text: &str, journal_failing: bool) {
        match self.notices.get_mut(id) {
            Some(accepted) => {
                accepted.waiting.remove(receiver);
                accepted.reached.insert(receiver.to_owned());
                let same = accepted.text == text;
                self.demand(same, || format!("promise 6: {id} says {text:?}, which the journal does not"));
            }
            None if journal_failing => {
                self.early.entry(id.to_owned()).or_default().insert(receiver.to_owned());
            }
            None => self.fail(format!("promise 6: {id} left before it was durable: {text}")),
        }
    }

    /// Answered, while the journal held this, and the snapshot was of that instant.
    pub fn answered(&mut self, person: u64, answer: &Answer, durable: Seq, snapshot: Timestamp, alive: bool) {
        let Some(asked) = self.commands.get_mut(&person) else {
            return self.fail(format!("p{person} was answered and asked nothing"));
        };
        let why = if std::mem::replace(&mut asked.answered, true) {
            Some(format!("p{person} was answered twice"))
        } else {
            match (&asked.reply, answer) {
                (None, Answer::Refused(Refusal::Unavailable(why))) if why.contains("shutting down") => {
                    alive.then(|| format!("p{person} was told that backstop is shutting down, and it is not"))
                }
                (None, _) => Some(format!("p{person} was answered before the machine had: {answer:?}")),
                (Some(reply), _) if reply != answer && alive => {
                    Some(format!("p{person} was to be answered {reply:?}, and was answered {answer:?}"))
                }
                (Some(Answer::Done { .. }), Answer::Done { .. }) => {
                    if asked.due.is_some_and(|due| due > durable) {
                        Some(format!("p{person} was answered before what it caused was durable"))
                    } else if asked.handled.is_some_and(|handled| handled > snapshot) {
                        Some(format!("p{person} was answered, and the snapshot is older than the answer"))
                    } else {
                        None
                    }
                }
                (Some(_), _) => None,
            }
        };
        if let Some(why) = why {
            self.fail(why);
        }
    }

    // What is durable.

    pub fn durable(&mut self, record: &Record) {
        match &record.entry {
            Entry::Incident { incident, event } => {
                if let IncidentEvent::StepIntended { attempt, .. } = &**event {
                    self.intents.insert((incident.clone(), *attempt), true);
                }
            }
            Entry::NoticeQueued { notice, receivers } => {
                let reached = self.early.remove(&notice.id).unwrap_or_default();
                let waiting = receivers.iter().filter(|receiver| !reached.contains(*receiver)).cloned().collect();
                self.notices.insert(notice.id.clone(), Accepted { waiting, reached, text: notice.text.clone() });
            }
            Entry::NoticeDelivered { notice, receiver } => {
                let reached = self.notices.get(notice).is_some_and(|accepted| accepted.reached.contains(receiver));
                self.demand(reached, || format!("promise 6: {notice} is said to have reached {receiver}"));
            }
            Entry::NoticeDead { notice, receiver, .. } => {
                if let Some(accepted) = self.notices.get_mut(notice) {
                    accepted.waiting.remove(receiver);
                }
            }
            Entry::NoticeFellBack { notice, fallback, .. } => {
                if let Some(accepted) = self.notices.get_mut(notice)
                    && !accepted.reached.contains(fallback)
                {
                    accepted.waiting.insert(fallback.clone());
                }
            }
            Entry::DaemonStarted { .. }
            | Entry::ReleaseSeen { .. }
            | Entry::ReleaseNamed { .. }
            | Entry::ReleaseGood { .. }
            | Entry::ReleaseBad { .. }
            | Entry::ReleaseForgotten { .. }
            | Entry::Paused { .. }
            | Entry::Resumed { .. }
            | Entry::KillSwitch { .. }
            | Entry::SignalRaised { .. }
            | Entry::SignalCleared { .. }
            | Entry::Command(_) => {}
        }
    }

    /// What a dead daemon had appended and not written is gone.
    pub fn forget_unwritten(&mut self) {
        self.intents.retain(|_, durable| *durable);
    }

    // From time to time.

    /// While it lives and is not stopping.
    pub fn watch(&mut self, now: Timestamp, t: i64, turn_ms: i64, journal_well_since: Option<i64>) {
        // A deadline comes after what else there is, and all of that costs its time.
        let late_max = 100 + turn_ms * i64::from(OBSERVATIONS_BEFORE_TICK_MAX);
        if let Some(deadline) = self.deadline.filter(|deadline| now.millis_since(*deadline) > late_max) {
            self.fail(format!("the deadline of {deadline} was missed: it is {now}"));
        }
        let unread = self.looks.iter().find(|(_, look)| look.unread && t - look.since > 1000 + late_max);
        if let Some(unread) = unread.map(|(target, _)| *target) {
            self.fail(format!("a look at {unread:?} is not read"));
        }
        if self.control.iter().any(|(_, sent)| self.observations - sent > OBSERVATIONS_BEFORE_CONTROL_MAX) {
            self.fail("the control lane is not read".to_owned());
        }
        if let Some((run, _)) = self.steps.iter().find(|(_, step)| !step.began && step.ordered + 1 < self.observations)
        {
            let why = format!("{run:?} was ordered and does not begin");
            self.fail(why);
        }
        let running = self.checks.values().filter(|ended| ended.is_none()).count();
        if running < CHECKS_AT_ONCE_MAX && !self.checks_asked.is_empty() {
            self.fail(format!("{} checks wait while {running} run", self.checks_asked.len()));
        }
        let well = journal_well_since.is_some_and(|since| t - since > 20_000);
        let asked = self.commands.iter().find(|(_, asked)| well && !asked.answered && t - asked.since > 20_000);
        if let Some(person) = asked.map(|(person, _)| *person) {
            self.fail(format!("p{person} is not answered, and all is well"));
        }
    }

    pub fn steps_running(&self) -> usize {
        self.steps.values().filter(|step| step.ended.is_none()).count()
    }

    /// After a stop that was asked for.
    pub fn stopped(&mut self, stopped: &Stopped, took_ms: i64, drain_max_ms: i64) {
        let (steps, entries) = (self.steps_running(), self.unconfirmed.len());
        let truth = Stopped { steps_left: steps, entries_left: entries };
        self.demand(*stopped == truth, || format!("it ended with {stopped:?}, and it was {truth:?}"));
        self.demand(took_ms <= drain_max_ms + 1000, || format!("it took {took_ms} ms to stop"));
        let early = took_ms < drain_max_ms && steps + entries > 0;
        self.demand(!early, || format!("it ended after {took_ms} ms, and {stopped:?} was left"));
        self.nothing_withheld();
    }

    /// Every person who asked has an answer, every notice is where it belongs.
    pub fn at_rest(&self) -> Result<(), Broken> {
        if let Some((person, _)) = self.commands.iter().find(|(_, asked)| !asked.answered) {
            return Err(format!("p{person} was never answered"));
        }
        match self.notices.iter().find(|(_, accepted)| !accepted.waiting.is_empty()) {
            Some((id, accepted)) => {
                Err(format!("promise 6: {id} never reached {:?}: {}", accepted.waiting, accepted.text))
            }
            None => Ok(()),
        }
    }
}
