//! What happened, over all seeds: inputs, faults by name, and which event met which state.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use backstop::decide::event::{Actor, Entry, IncidentEvent, IncidentId, Record};
use backstop::decide::incident::{Incident, State};
use backstop::journal::form;

use super::pairs::{is_reachable, reachable};

macro_rules! faults {
    ($($fault:ident => $name:literal,)*) => {
        /// Everything that the simulation does to backstop on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($fault,)* }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$fault,)*];

            pub const fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name,)* }
            }
        }
    };
}

faults! {
    ScrapeHangs => "a scrape hangs",
    ScrapeRefused => "a scrape is refused",
    ScrapeTruncated => "a scrape is cut short",
    ScrapeLimit => "a scrape exceeds a limit",
    SeveralProcesses => "several processes behind one address",
    ScrapeLies => "a scrape tells errors that never were",
    ScrapeNaN => "a scrape tells NaN",
    ProbeUnsent => "a probe cannot be sent",
    Overrun => "an observation is replaced before it is read",
    TargetsCut => "all targets of a service are out of reach",
    NetworkGone => "the whole network is gone",
    ReferenceDown => "a reference is down",
    CounterReset => "counters reset",
    RestartWithoutDeploy => "a process restarts without a deployment",
    TrafficLow => "traffic is low",
    TrafficStops => "traffic stops",
    TrafficBurst => "traffic bursts",
    OneError => "one request fails at low traffic",
    DependencyOutage => "a dependency is down, no release",
    AllBreach => "all services breach at once",
    WallForward => "the wall clock jumps forward",
    WallBack => "the wall clock jumps back",
    ProcessStopped => "the process is stopped for a while",
    WallJumpsWhileDown => "the wall clock jumps between two lives",
    Reboot => "the host reboots",
    Drain => "it is told to stop and drains",
    CrashAtOutput => "a crash between two outputs",
    CrashAtSync => "a crash at a sync point",
    CrashLosesTurns => "a crash loses turns that were not acknowledged",
    CrashKeepsTurns => "a crash keeps turns that were not acknowledged",
    CheckpointTorn => "a checkpoint is torn",
    CheckpointLost => "a checkpoint is lost",
    DiskStalls => "the disk stalls",
    DiskFails => "the disk fails",
    DiskBack => "the disk comes back",
    StepHangs => "a step hangs until its deadline",
    StepHalfWorks => "a step half works and times out",
    StepFails => "a step fails",
    StepWorksAfterFailure => "a step works after it has reported failure",
    StepWorksAfterCrash => "a step works after the crash",
    StepChangesNothing => "a step reports success and changes nothing",
    StepAmbiguous => "a step's answer is lost",
    Blocker => "a blocker holds",
    ImageGone => "the way back is gone",
    CheckUnanswered => "a check is not answered",
    ReceiverDown => "a receiver is down",
    ReceiverSlow => "a receiver is slow",
    ReceiverRedirects => "a receiver redirects",
    ReceiverGone => "a receiver says 410 Gone",
    AnswerLost => "a receiver takes a notice and its answer is lost",
    DetectorUnreadable => "a release detector cannot be read",
    DetectorSlow => "a release detector shows what was",
    DetectorsDisagree => "release detectors disagree",
    DeployByOthers => "somebody else deploys",
    DeployDuringStep => "somebody deploys while a step runs",
    DeployBeforeStep => "somebody deploys between the intent and the step",
    ReleaseReturns => "an old release returns",
    BadReleaseReturns => "a release that was rolled back returns",
    Canary => "a release comes as a canary first",
    ApproveTwice => "two people approve",
    ApproveAndDecline => "one approves, another declines",
    Approve => "a person approves",
    Decline => "a person declines",
    Abort => "a person aborts",
    Acknowledge => "a person acknowledges",
    Pause => "a person pauses",
    Resume => "a person resumes",
    RollBackByHand => "a person rolls back by hand",
    Signal => "a signal is raised",
    SignalCleared => "a signal is cleared",
    Forget => "a person clears a bad mark",
    AnswerRight => "a person answers what is asked",
    AnswerStale => "a person answers an old question",
    StrangerApproves => "somebody approves who may not",
    SilenceApproves => "nobody's silence approves",
    SilenceAsksAgain => "nobody answers, and it is asked again",
    Hold => "a person holds an incident",
    Unhold => "a person ends a hold",
    Skip => "a person skips a step",
    KillOn => "the kill switch is turned on",
    KillOff => "the kill switch is turned off",
    KillServiceOn => "the kill switch of a service is turned on",
    KillServiceOff => "the kill switch of a service is turned off",
    KillFileThere => "the file that is a kill switch appears",
    KillFileGone => "the file that is a kill switch is gone",
    Override => "a person rolls back and overrides what stops it",
    DeployInFreeze => "somebody deploys in a freeze",
    SharedOutage => "a dependency is down, and with it what needs it",
    Worsens => "a release makes worse what was wrong before",
    StillWrong => "something else is wrong after a level",
    Sleeps => "the host sleeps past a deadline",
    StepStartsLate => "it is told late that a step has started",
    Aimed => "something happens at the very moment at which an incident changes",
    Reload => "a valid reload",
    ReloadDropsService => "a reload drops a service, and one brings it back",
}

/// A run that counts has every fault at least this often.
const OFTEN: u64 = 1000;

/// What happened, over all seeds.
#[derive(Debug)]
pub struct Tally {
    pub seeds: u64,
    pub inputs: u64,
    pub records: u64,
    pub steps: u64,
    pub notices: u64,
    pub crashes: u64,
    pub ended: BTreeMap<&'static str, u64>,
    /// Releases that were broken while all was well, and what became of it.
    pub expected: u64,
    faults: Vec<u64>,
    pairs: BTreeMap<(&'static str, &'static str), u64>,
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            seeds: 0,
            inputs: 0,
            records: 0,
            steps: 0,
            notices: 0,
            crashes: 0,
            ended: BTreeMap::new(),
            expected: 0,
            faults: vec![0; Fault::ALL.len()],
            pairs: BTreeMap::new(),
        }
    }

    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub fn add(&mut self, other: &Tally) {
        self.seeds += other.seeds;
        self.inputs += other.inputs;
        self.records += other.records;
        self.steps += other.steps;
        self.notices += other.notices;
        self.crashes += other.crashes;
        self.expected += other.expected;
        for (name, count) in &other.ended {
            *self.ended.entry(name).or_default() += count;
        }
        for (sum, count) in self.faults.iter_mut().zip(&other.faults) {
            *sum += count;
        }
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
    }

    /// Faults that happened less often than this.
    fn rare(&self, least: u64) -> Vec<&'static str> {
        let pairs = Fault::ALL.iter().zip(&self.faults);
        pairs.filter(|(_, count)| **count < least).map(|(fault, _)| fault.name()).collect()
    }

    pub fn missed_pairs(&self) -> Vec<(&'static str, &'static str)> {
        reachable().filter(|pair| !self.pairs.contains_key(pair)).collect()
    }

    pub fn table(&self) -> String {
        let mut text = format!(
            "{} inputs, {} seeds, {} entries, {} steps, {} notices delivered, {} crashes\nended: {:?}, broken releases that had to be answered: {}\n",
            self.inputs, self.seeds, self.records, self.steps, self.notices, self.crashes, self.ended, self.expected
        );
        text.push_str("\nfaults\n");
        for (fault, count) in Fault::ALL.iter().zip(&self.faults) {
            let _ = writeln!(text, "{count:>10}  {}", fault.name());
        }
        let _ = writeln!(text, "rarer than {OFTEN} times: {:?}", self.rare(OFTEN));
        text.push_str("\n(state, event) pairs\n");
        for ((state, event), count) in &self.pairs {
            let known = if is_reachable(state, event) { "" } else { "  (not in the list of reachable ones)" };
            let _ = writeln!(text, "{count:>10}  {state} + {event}{known}");
        }
        let missed = self.missed_pairs();
        let _ = writeln!(text, "\n{} of {} reachable pairs were not reached", missed.len(), reachable().count());
        for (state, event) in missed {
            let _ = writeln!(text, "            {state} + {event}");
        }
        text
    }
}

/// Replays what became durable, to know which event met which state. For the table only; no judgement rests on it.
#[derive(Debug, Default)]
pub struct Coverage {
    incidents: BTreeMap<IncidentId, Incident>,
}

impl Coverage {
    pub fn take(&mut self, record: &Record, tally: &mut Tally) {
        let Entry::Incident { incident: id, event } = &record.entry else { return };
        let event_name = form::kind(&record.entry).trim_start_matches("incident.");
        if let Some(incident) = self.incidents.get_mut(id) {
            *tally.pairs.entry((state_name(incident), event_name)).or_default() += 1;
            let was_open = incident.state.is_open();
            match &**event {
                IncidentEvent::Approved { actor, .. } if actor.via == Actor::SILENCE => {
                    tally.fault(Fault::SilenceApproves);
                }
                IncidentEvent::Unanswered { .. } => tally.fault(Fault::SilenceAsksAgain),
                _ => {}
            }
            drop(incident.apply(event, record.at));
            if was_open && !incident.state.is_open() {
                *tally.ended.entry(incident.state.as_str()).or_default() += 1;
            }
        } else if let Some(incident) = Incident::open(id.clone(), event, record.at) {
            *tally.pairs.entry(("none", event_name)).or_default() += 1;
            self.incidents.insert(id.clone(), incident);
        }
        debug_assert!(!matches!(**event, IncidentEvent::Opened { .. }) || self.incidents.contains_key(id));
    }
}

fn state_name(incident: &Incident) -> &'static str {
    match (&incident.state, incident.admitted.is_some()) {
        (State::Firing, _) => "firing",
        (State::Held, _) => "held",
        (State::Escalated, _) => "escalated",
        (State::WouldRollBack, _) => "would_roll_back",
        (State::HeldByPerson { .. }, _) => "held_by_person",
        (State::Proposed { .. }, false) => "proposed",
        (State::Proposed { .. }, true) => "proposed_to_climb",
        (State::Ready { attempt, .. }, _) if attempt.undo => "ready_to_undo",
        (State::Running { attempt }, _) if attempt.undo => "undoing",
        (State::Stepped { attempt, .. }, _) if attempt.undo => "undo_stepped",
        (State::Ready { .. }, _) => "ready",
        (State::Running { .. }, _) => "running",
        (State::Checking { attempt, .. }, _) if attempt.undo => "checking_undo",
        (State::Checking { .. }, _) => "checking",
        (State::Stepped { .. }, _) => "stepped",
        (State::Verifying { clear_since: None, .. }, _) => "verifying",
        (State::Verifying { clear_since: Some(_), .. }, _) => "soaking",
        (State::LevelOver { undo: true, .. }, _) => "level_to_undo",
        (State::LevelOver { .. }, _) => "level_over",
        (State::NeedsHuman { .. }, _) => "needs_human",
        (State::Recovered, _) => "recovered",
        (State::Declined, _) => "declined",
        (State::Expired, _) => "expired",
        (State::Superseded, _) => "superseded",
        (State::Aborted, _) => "aborted",
        (State::Cleared, _) => "cleared",
    }
}
