//! Steps, levels, people and ends, as an incident goes through them.
//!
//! Length: scenarios of one state machine, which share their plan, world and helpers.

use super::*;
use crate::decide::event::OnSilence;
use crate::decide::event::{
    Action, Actor, Evidence, Level, OnFailure, Outcome, Reason, StepResult, Verified, WhyHuman,
};
use std::collections::BTreeMap;

mod matrix;
mod props;
mod steps;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn release(name: &str) -> Release {
    Release(name.into())
}

fn fact(name: &str) -> TriggerFact {
    TriggerFact {
        trigger: name.to_owned(),
        severity: Severity::High,
        expression: String::new(),
        threshold: String::new(),
        value: None,
        labels: String::new(),
        hold_ms: 0,
        since: at(0),
        fired: None,
        sentence: String::new(),
        evidence: Evidence::default(),
    }
}

fn actor() -> Actor {
    Actor { name: "ada".to_owned(), via: "cli".to_owned() }
}

fn step(name: &str) -> Step {
    let (argv, env) = (vec![name.to_owned()], BTreeMap::new());
    Step {
        name: name.to_owned(),
        action: Action::Command { argv, env, inherit: Vec::new(), directory: None },
        timeout: Duration::from_mins(1),
        idempotent: false,
        on_failure: OnFailure::Climb,
        retry: None,
        check: None,
    }
}

fn plan(levels: usize) -> Plan {
    let verify = Verify {
        within: Duration::from_mins(2),
        soak: Duration::from_mins(1),
        probes: Vec::new(),
        checks: Vec::new(),
        still_wrong: Vec::new(),
        serves_target: false,
    };
    let level = |n| Level {
        name: format!("level {n}"),
        steps: vec![step("first"), step("second")],
        verify: verify.clone(),
        autonomy: None,
        deadline: None,
        undo: Vec::new(),
    };
    Plan {
        bad: release("r2"),
        target: Some(release("r1")),
        levels: (0..levels).map(level).collect(),
        start_level: 0,
        variables: BTreeMap::new(),
        autonomy: Vec::new(),
        aside: Vec::new(),
    }
}

fn decision(kind: DecisionKind, code: &str) -> Decision {
    let reasons = vec![Reason { code: code.to_owned(), sentence: code.to_owned() }];
    Decision { kind, reasons, checks: Vec::new() }
}

fn opened() -> Incident {
    let event =
        IncidentEvent::Opened { service: "api".to_owned(), release: Some(release("r2")), fact: Box::new(fact("t")) };
    Incident::open(IncidentId("api-1".into()), &event, at(0)).expect("opened")
}

fn admitted(plan: Plan) -> Incident {
    let mut incident = opened();
    let event = IncidentEvent::Admitted {
        deadline: deadline(&plan, 0, at(0)),
        plan: Box::new(plan),
        decision: decision(DecisionKind::RollBack, ""),
        facts: vec![fact("t")],
        running: Running::One(release("r2")),
        actor: None,
        receivers: Vec::new(),
    };
    incident.apply(&event, at(0));
    incident
}

struct World {
    running: Running,
    breach: Breach,
    decision: Option<Decision>,
    reading: Reading,
    paused: bool,
    draining: bool,
    people: People,
}

const PATIENCE: Patience = Patience {
    respond_within: Duration::from_mins(10),
    remind_every: Duration::from_mins(15),
    rto: Some(Duration::from_hours(10)),
    release_read: Duration::from_secs(20),
};

fn world() -> World {
    World {
        running: Running::One(release("r2")),
        breach: Breach::Firing,
        decision: None,
        reading: Reading::Breached,
        paused: false,
        draining: false,
        people: People::default(),
    }
}

impl World {
    fn next(&self, incident: &Incident, second: i64) -> Option<Move> {
        let situation = Situation {
            running: &self.running,
            breach: self.breach,
            decision: self.decision.clone(),
            level: 0,
            reading: self.reading,
            outage: None,
            release_read: true,
            paused: self.paused,
            journal_failing: false,
            draining: self.draining,
            patience: PATIENCE,
            people: self.people.clone(),
        };
        incident.advance(&situation, at(second))
    }

    /// Lets it go on at this instant; the events that followed.
    fn settle(&self, incident: &mut Incident, second: i64) -> Vec<IncidentEvent> {
        let mut events = Vec::new();
        while let Some(next) = self.next(incident, second) {
            let Move::Event(event) = next else { panic!("an admission") };
            incident.apply(&event, at(second));
            events.push(event);
            assert!(events.len() < 20, "a circle: {events:?}");
        }
        events
    }
}

fn ended(outcome: Outcome) -> StepResult {
    StepResult {
        outcome,
        detail: String::new(),
        output: String::new(),
        truncated: false,
        captures: BTreeMap::new(),
        duration_ms: 1,
    }
}

fn finish(incident: &mut Incident, outcome: Outcome, second: i64) -> Vec<Effect> {
    let attempt = incident.in_flight.expect("a step runs");
    incident.apply(&IncidentEvent::StepFinished { attempt, result: Box::new(ended(outcome)) }, at(second))
}

/// Both steps of the level succeed.
fn carry_out(incident: &mut Incident, world: &World, second: i64) {
    for _ in 0..2 {
        world.settle(incident, second);
        finish(incident, Outcome::Succeeded, second);
    }
    world.settle(incident, second);
    assert!(matches!(incident.state, State::Verifying { .. }), "{:?}", incident.state);
}

#[test]
fn a_refusal_is_told_once_and_again_only_when_its_reason_changes() {
    let mut incident = opened();
    let mut world = world();
    world.decision = Some(decision(DecisionKind::Hold, "paused"));
    assert_eq!(world.settle(&mut incident, 1).len(), 1);
    assert_eq!(world.settle(&mut incident, 2).len(), 0);
    world.decision = Some(decision(DecisionKind::Hold, "cut_off"));
    assert_eq!(world.settle(&mut incident, 3).len(), 1);
    world.breach = Breach::Unclear;
    world.decision = Some(decision(DecisionKind::RollBack, ""));
    assert_eq!(world.next(&incident, 4), None, "what is not known now is not acted on");
    world.breach = Breach::Firing;
    assert!(matches!(world.next(&incident, 5), Some(Move::Admit { .. })));
}

#[test]
fn another_reason_for_the_same_question_gives_nobody_more_time() {
    let mut incident = opened();
    let mut world = world();
    for (second, code) in [(0, "cooldown"), (300, "budget"), (599, "cooldown")] {
        world.decision = Some(decision(DecisionKind::Propose, code));
        assert_eq!(world.settle(&mut incident, second).len(), 1);
        assert_eq!(incident.wakes(&PATIENCE)[0], at(600));
    }
    assert_eq!(world.settle(&mut incident, 600), [IncidentEvent::Expired]);
    assert_eq!(world.settle(&mut incident, 700), []);
}

#[test]
fn steps_follow_each_other_and_verification_follows_the_last() {
    let mut incident = admitted(plan(1));
    let world = world();
    carry_out(&mut incident, &world, 10);
    assert_eq!(incident.soak.from, at(10));
}

#[test]
fn how_a_step_ends_decides_what_follows() {
    use Outcome::{Ambiguous, Failed, TimedOut};
    let cases = [
        (Failed, OnFailure::Climb, "needs_human"),
        (Failed, OnFailure::Stop, "needs_human"),
        (Failed, OnFailure::Continue, "running"),
        (TimedOut, OnFailure::Continue, "needs_human"),
        (Ambiguous, OnFailure::Continue, "needs_human"),
    ];
    for (outcome, on_failure, expected) in cases {
        let mut plan = plan(1);
        plan.levels[0].steps[0].on_failure = on_failure;
        let mut incident = admitted(plan);
        let world = world();
        world.settle(&mut incident, 1);
        finish(&mut incident, outcome, 2);
        world.settle(&mut incident, 2);
        assert_eq!(incident.state.as_str(), expected, "{outcome:?} {on_failure:?}");
    }
}

#[test]
fn an_idempotent_step_runs_again_three_times_at_most() {
    let mut plan = plan(1);
    plan.levels[0].steps[0].idempotent = true;
    let mut incident = admitted(plan);
    let world = world();
    let mut attempts = Vec::new();
    for second in 1..=3 {
        world.settle(&mut incident, second);
        attempts.push(incident.in_flight.expect("a step").attempt);
        finish(&mut incident, Outcome::Ambiguous, second);
    }
    world.settle(&mut incident, 4);
    assert_eq!((attempts, incident.state.as_str()), (vec![1, 2, 3], "needs_human"));
}

#[test]
fn verification_both_sides_of_within_and_soak() {
    let mut world = world();
    let begun = |world: &World| {
        let mut incident = admitted(plan(2));
        carry_out(&mut incident, world, 10);
        incident
    };
    let mut incident = begun(&world);
    assert_eq!(world.settle(&mut incident, 129), []);
    let events = world.settle(&mut incident, 130);
    assert!(matches!(events[0], IncidentEvent::LevelFailed { verified: Verified::NotRecovered, .. }), "{events:?}");
    assert!(matches!(events[1], IncidentEvent::Climbed { to: 1, .. }));

    let mut incident = begun(&world);
    world.reading = Reading::Clear;
    let gap = Duration::from_secs(10);
    for second in (20..=70).step_by(10) {
        incident.soak.take(Reading::Clear, at(second), gap, gap);
        assert!(!world.settle(&mut incident, second).iter().any(|e| matches!(e, IncidentEvent::Recovered { .. })));
    }
    incident.soak.take(Reading::Clear, at(80), gap, gap);
    assert_eq!(world.settle(&mut incident, 80), [IncidentEvent::Recovered { clear_since: Some(at(20)) }]);
}

#[test]
fn a_relapse_is_forgiven_within_the_limit_only() {
    let mut world = world();
    for (second, relapses) in [(129, true), (130, false)] {
        world.reading = Reading::Breached;
        let mut incident = admitted(plan(1));
        carry_out(&mut incident, &world, 10);
        world.reading = Reading::Clear;
        world.settle(&mut incident, 20);
        world.reading = Reading::Breached;
        let events = world.settle(&mut incident, second);
        assert_eq!(events[0] == IncidentEvent::Relapsed, relapses, "{events:?}");
    }
}

#[test]
fn what_cannot_be_told_at_the_end_needs_a_person() {
    let mut world = world();
    let mut incident = admitted(plan(2));
    carry_out(&mut incident, &world, 10);
    world.reading = Reading::Unknown;
    assert_eq!(world.settle(&mut incident, 189), []);
    let events = world.settle(&mut incident, 190);
    assert!(matches!(events[0], IncidentEvent::NeedsHuman { why: WhyHuman::Inconclusive, .. }), "{events:?}");
}

#[test]
fn a_pause_stops_a_new_level_and_not_a_running_one() {
    let mut world = world();
    let mut incident = admitted(plan(1));
    world.paused = true;
    assert_eq!(world.settle(&mut incident, 1), [], "not begun");
    world.paused = false;
    world.settle(&mut incident, 2);
    finish(&mut incident, Outcome::Succeeded, 3);
    world.paused = true;
    assert_eq!(world.settle(&mut incident, 3).len(), 1, "its second step");
}

#[test]
fn no_step_starts_while_something_else_runs() {
    let cases = [
        (Running::One(release("r3")), Some("superseded")),
        (Running::Mix(vec![(release("r2"), 0.5), (release("r3"), 0.5)]), Some("superseded")),
        (Running::Mix(vec![(release("r2"), 0.5), (release("r1"), 0.5)]), None),
        (Running::One(release("r1")), None),
    ];
    for (running, end) in cases {
        let mut incident = admitted(plan(1));
        let world = World { running, ..world() };
        let events = world.settle(&mut incident, 1);
        let begun = events.iter().any(|event| matches!(event, IncidentEvent::StepIntended { .. }));
        assert_eq!((begun, end.unwrap_or("running")), (end.is_none(), incident.state.as_str()));
    }
}

#[test]
fn what_cannot_be_read_is_waited_for_and_then_a_person_is_called() {
    let mut incident = admitted(plan(1));
    let world = World { running: Running::Unknown("gone".to_owned()), ..world() };
    assert_eq!(world.settle(&mut incident, 59), []);
    assert_eq!(incident.wakes(&PATIENCE)[0], at(60));
    let events = world.settle(&mut incident, 60);
    assert!(matches!(events[0], IncidentEvent::NeedsHuman { why: WhyHuman::ReleaseUnknown, .. }));
}

#[test]
fn the_bad_release_that_comes_back_calls_a_person_at_every_stage() {
    let world = world();
    let mut incident = admitted(plan(2));
    incident.target_seen = true;
    let events = world.settle(&mut incident, 1);
    assert!(matches!(events[0], IncidentEvent::NeedsHuman { why: WhyHuman::BadReleaseCameBack, .. }));
    let mut incident = admitted(plan(2));
    carry_out(&mut incident, &world, 10);
    incident.target_seen = true;
    let events = world.settle(&mut incident, 11);
    assert!(matches!(events[0], IncidentEvent::NeedsHuman { why: WhyHuman::BadReleaseCameBack, .. }));
}

#[test]
fn the_deadline_calls_a_person_and_kills_nothing() {
    let mut incident = admitted(plan(1));
    let world = world();
    world.settle(&mut incident, 1);
    let end = incident.deadline.expect("a deadline").as_millis() / 1000;
    assert_eq!(world.settle(&mut incident, end - 1), []);
    let events = world.settle(&mut incident, end);
    assert!(matches!(events[0], IncidentEvent::NeedsHuman { why: WhyHuman::DeadlineReached, .. }));
    assert!(incident.in_flight.is_some());
    // While it runs nothing is over, but people are reminded.
    let over = World { breach: Breach::Over, ..world };
    assert_eq!(over.settle(&mut incident, end + 899), []);
    assert_eq!(over.settle(&mut incident, end + 900), [IncidentEvent::Reminded]);
    finish(&mut incident, Outcome::Succeeded, end + 901);
    assert_eq!(over.settle(&mut incident, end + 901), [IncidentEvent::Cleared]);
}

#[test]
fn a_person_who_lets_it_climb_gives_it_time() {
    let mut incident = admitted(plan(2));
    incident.apply(&IncidentEvent::NeedsHuman { why: WhyHuman::Inconclusive, text: String::new() }, at(9000));
    incident.apply(&IncidentEvent::Climbed { to: 1, overrides: Vec::new() }, at(9000));
    let events = world().settle(&mut incident, 9001);
    assert!(matches!(events[0], IncidentEvent::StepIntended { .. }), "{events:?}");
}

#[test]
fn an_ended_incident_says_nothing_more() {
    let mut incident = admitted(plan(1));
    let world = world();
    world.settle(&mut incident, 1);
    let effects = incident.apply(&IncidentEvent::Aborted { actor: actor(), reason: String::new() }, at(2));
    let told = |effects: &[Effect]| {
        effects.iter().filter(|e| matches!(e, Effect::Notify { status: NoticeStatus::Resolved, .. })).count()
    };
    assert_eq!(told(&effects), 1);
    let says = |text: &str| effects.iter().any(|e| matches!(e, Effect::Notify { text: said, .. } if said == text));
    assert!(says(&format!("aborted by {}", actor().name)), "{effects:?}");
    let attempt = incident.in_flight.expect("it still runs");
    assert_eq!(finish(&mut incident, Outcome::Failed, 3), []);
    assert_eq!(incident.in_flight, None);
    assert_eq!(world.settle(&mut incident, 4), []);
    // And twice is once.
    let again = IncidentEvent::StepFinished { attempt, result: Box::new(ended(Outcome::Failed)) };
    assert_eq!(incident.apply(&again, at(5)), []);
}

#[test]
fn what_was_never_told_ends_silently() {
    let mut incident = opened();
    let effects = incident.apply(&IncidentEvent::Cleared, at(1));
    assert_eq!(effects, [Effect::Ended("cleared")]);
}

#[test]
fn a_level_that_is_begun_again_counts_on() {
    let mut incident = admitted(plan(1));
    let world = world();
    carry_out(&mut incident, &world, 10);
    incident.apply(&IncidentEvent::NeedsHuman { why: WhyHuman::Inconclusive, text: String::new() }, at(20));
    incident.apply(&IncidentEvent::Climbed { to: 0, overrides: Vec::new() }, at(20));
    world.settle(&mut incident, 21);
    let attempt = incident.in_flight.expect("a step");
    assert_eq!((attempt.attempt, incident.run(attempt)), (4, 2));
}

#[test]
fn replay_gives_the_same_state() {
    let mut live = opened();
    let world = world();
    let mut events = Vec::new();
    let admit = IncidentEvent::Admitted {
        deadline: at(9000),
        plan: Box::new(plan(2)),
        decision: decision(DecisionKind::RollBack, ""),
        facts: Vec::new(),
        running: world.running.clone(),
        actor: None,
        receivers: vec!["oncall".to_owned()],
    };
    live.apply(&admit, at(1));
    events.push((admit, at(1)));
    for second in 2..8 {
        for event in world.settle(&mut live, second) {
            events.push((event, at(second)));
        }
        if let Some(attempt) = live.in_flight {
            let event = IncidentEvent::StepFinished { attempt, result: Box::new(ended(Outcome::Succeeded)) };
            live.apply(&event, at(second));
            events.push((event, at(second)));
        }
    }
    let mut replayed = opened();
    for (event, at) in &events {
        replayed.apply(event, *at);
    }
    assert_eq!(replayed, live);
}

#[test]
fn waiting_for_a_look_at_the_release_is_told_only_when_it_lasts() {
    let mut incident = opened();
    let hold = |codes: &[&str]| {
        let reason = |code: &&str| Reason { code: (*code).to_owned(), sentence: (*code).to_owned() };
        Some(Decision { kind: DecisionKind::Hold, reasons: codes.iter().map(reason).collect(), checks: Vec::new() })
    };
    let waiting = World { decision: hold(&["release_not_read"]), ..world() };
    assert_eq!(waiting.settle(&mut incident, 0), []);
    assert_eq!(waiting.settle(&mut incident, 20), []);
    assert_eq!(incident.state, State::Firing);
    assert_eq!(incident.wakes(&PATIENCE)[0], at(20) + Duration::from_millis(1));
    // Beside another reason it is told at once.
    let cut_off = World { decision: hold(&["cut_off", "release_not_read"]), ..world() };
    assert!(matches!(cut_off.next(&incident, 5), Some(Move::Event(IncidentEvent::Judged { .. }))));
    assert!(matches!(waiting.settle(&mut incident, 21)[..], [IncidentEvent::Judged { .. }]));
    assert_eq!(incident.state, State::Held);
}

#[test]
fn an_incident_that_takes_longer_than_the_rto_says_so_once_per_episode() {
    let passed = IncidentEvent::RtoPassed { rto_ms: 36_000_000 };
    let mut incident = opened();
    let human = IncidentEvent::NeedsHuman { why: WhyHuman::Unreadable, text: String::new() };
    incident.apply(&human, at(1));
    incident.apply(&IncidentEvent::Acknowledged { actor: actor(), reason: String::new() }, at(2));
    let unclear = World { running: Running::Unknown(String::new()), breach: Breach::Unclear, ..world() };
    assert_eq!(incident.wakes(&PATIENCE), [at(36_000)]);
    assert_eq!(unclear.settle(&mut incident, 35_999), []);
    let told = incident.clone().apply(&passed, at(36_000));
    let [Effect::Notify { kind, action_required, text, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (*kind, *action_required, &**text),
        (NoticeKind::Escalated, true, "recovery takes longer than the RTO of 10h")
    );
    assert_eq!(unclear.settle(&mut incident, 36_000), std::slice::from_ref(&passed));
    assert_eq!(unclear.settle(&mut incident, 40_000), []);
    assert_eq!(incident.wakes(&PATIENCE), []);
    // What ends at that instant ends in time.
    let over = World { breach: Breach::Over, ..world() };
    assert_eq!(over.settle(&mut opened(), 36_000), [IncidentEvent::Cleared]);
    // The breach of another episode began later.
    incident.apply(&IncidentEvent::Cleared, at(40_001));
    let again = TriggerFact { since: at(50_000), ..fact("t") };
    incident.apply(&IncidentEvent::Reopened { fact: Box::new(again) }, at(50_010));
    assert_eq!(unclear.settle(&mut incident, 50_020), []);
    assert_eq!(unclear.settle(&mut incident, 86_000), [passed]);
}

#[test]
fn a_daemon_that_stops_begins_nothing() {
    let draining = World { draining: true, ..world() };
    let roll_back = World { decision: Some(decision(DecisionKind::RollBack, "")), ..draining };
    assert_eq!(roll_back.next(&opened(), 1), None);
    assert!(matches!(World { draining: false, ..roll_back }.next(&opened(), 1), Some(Move::Admit { .. })));

    let draining = World { draining: true, ..world() };
    let mut incident = admitted(plan(2));
    assert_eq!(draining.settle(&mut incident, 1), []);
    assert!(matches!(incident.state, State::Ready { .. }));
    let failed = IncidentEvent::LevelFailed { level: 0, verified: Verified::NotRecovered, why: String::new() };
    incident.apply(&failed, at(2));
    assert_eq!(draining.settle(&mut incident, 3), []);
    assert!(matches!(
        world().settle(&mut incident, 3)[..],
        [IncidentEvent::Climbed { .. }, IncidentEvent::StepIntended { .. }]
    ));
}

#[test]
fn what_a_person_did_carries_their_name() {
    let named = |incident: &mut Incident, event: IncidentEvent| {
        incident.apply(&event, at(5)).into_iter().find_map(|effect| match effect {
            Effect::Notify { actor, .. } => Some(actor),
            Effect::RunStep(_) | Effect::RestartWindows(_) | Effect::MarkBad(_) | Effect::Ended(_) => None,
        })
    };
    let ada = Some(Some("ada".to_owned()));
    let reason = String::new;
    let held = || {
        let mut incident = opened();
        let decision = decision(DecisionKind::Propose, "");
        incident.apply(&IncidentEvent::Proposed { level: 0, respond_by: at(900), decision, asked: None }, at(1));
        incident
    };
    assert_eq!(named(&mut held(), IncidentEvent::Declined { actor: actor(), reason: reason() }), ada);
    assert_eq!(named(&mut held(), IncidentEvent::Aborted { actor: actor(), reason: reason() }), ada);
    assert_eq!(named(&mut held(), IncidentEvent::Expired), Some(None));
    let admission = |actor| IncidentEvent::Admitted {
        deadline: deadline(&plan(2), 0, at(0)),
        plan: Box::new(plan(2)),
        decision: decision(DecisionKind::RollBack, ""),
        facts: Vec::new(),
        running: Running::One(release("r2")),
        actor,
        receivers: Vec::new(),
    };
    assert_eq!(named(&mut opened(), admission(Some(actor()))), ada);
    assert_eq!(named(&mut opened(), admission(None)), Some(None));
    let mut incident = admitted(plan(3));
    let person = IncidentEvent::NeedsHuman { why: WhyHuman::Inconclusive, text: String::new() };
    incident.apply(&person, at(3));
    assert_eq!(named(&mut incident, IncidentEvent::Climbed { to: 1, overrides: Vec::new() }), Some(None));
    incident.apply(&person, at(4));
    incident.apply(&IncidentEvent::Approved { actor: actor(), reason: reason() }, at(4));
    assert_eq!(named(&mut incident, IncidentEvent::Climbed { to: 2, overrides: Vec::new() }), ada);
}

/// A proposal with this policy, made at second 0.
fn proposed(on_silence: OnSilence) -> (Incident, World) {
    let people = People { bad: Some(release("r2")), target: Some(release("r1")), on_silence, ..People::default() };
    let world = World { decision: Some(decision(DecisionKind::Propose, "autonomy")), people, ..world() };
    let mut incident = opened();
    assert!(matches!(world.settle(&mut incident, 0)[..], [IncidentEvent::Proposed { .. }]));
    (incident, world)
}

#[test]
fn silence_means_what_the_policy_says_that_was_frozen_with_the_question() {
    let (mut incident, mut world) = proposed(OnSilence::Decline);
    world.people.on_silence = OnSilence::Approve;
    assert_eq!(world.settle(&mut incident, 599), []);
    assert_eq!(world.settle(&mut incident, 600), [IncidentEvent::Expired]);

    let (mut incident, world) = proposed(OnSilence::Escalate);
    assert_eq!(world.settle(&mut incident, 600), [IncidentEvent::Unanswered { respond_by: at(1200) }]);
    assert_eq!(incident.state, State::Proposed { level: 0, respond_by: at(1200) });
    assert_eq!(incident.wakes(&PATIENCE)[0], at(1200));

    let yes = Some(decision(DecisionKind::RollBack, ""));
    let (incident, mut world) = proposed(OnSilence::Approve);
    world.people.silence = yes.clone();
    assert_eq!(world.next(&incident, 599), None);
    let admission = world.next(&incident, 600).expect("a move");
    assert!(matches!(admission, Move::Admit { level: 0, .. }));
    assert!(incident.is_approved_by_silence(&admission, at(600)));
    assert!(!incident.is_approved_by_silence(&admission, at(599)));
}

#[test]
fn silence_approves_nothing_that_the_guard_refuses_or_that_nobody_was_shown() {
    let expired = Some(Move::Event(IncidentEvent::Expired));
    let (incident, mut world) = proposed(OnSilence::Approve);
    world.people.silence = Some(decision(DecisionKind::Propose, "cooldown"));
    assert_eq!(world.next(&incident, 600), expired, "it asks for a person still");
    for kind in [DecisionKind::Escalate, DecisionKind::WouldRollBack] {
        let refused = decision(kind, "no_way_back");
        world.people.silence = Some(refused.clone());
        let judged = Some(Move::Event(IncidentEvent::Judged { decision: refused }));
        assert_eq!(world.next(&incident, 600), judged, "it ends as it would have a moment earlier");
    }
    world.people.silence = Some(decision(DecisionKind::RollBack, ""));
    world.people.target = Some(release("r0"));
    assert_eq!(world.next(&incident, 600), expired, "another way back than was shown");
}

#[test]
fn a_doubt_when_silence_would_approve_is_waited_out_and_people_are_called_again() {
    let yes = decision(DecisionKind::RollBack, "");
    let (incident, calm) = proposed(OnSilence::Approve);
    let calm = World { people: People { silence: Some(yes), ..calm.people.clone() }, ..calm };
    let with = |silence| World { people: People { silence, ..calm.people.clone() }, ..world() };
    let doubts = [
        ("nothing fires", with(None)),
        ("the guard holds", with(Some(decision(DecisionKind::Hold, "tilt")))),
        ("no fresh finding", World { breach: Breach::Unclear, people: calm.people.clone(), ..world() }),
        ("the daemon stops", World { draining: true, people: calm.people.clone(), ..world() }),
    ];
    for (what, doubt) in doubts {
        let mut incident = incident.clone();
        assert_eq!(doubt.settle(&mut incident, 600), [], "{what}");
        assert!(matches!(calm.next(&incident, 700), Some(Move::Admit { .. })), "{what}");
        assert!(incident.wakes(&PATIENCE).contains(&at(1200)), "{what}");
        assert_eq!(doubt.settle(&mut incident, 1199), [], "{what}");
        assert_eq!(doubt.settle(&mut incident, 1200), [IncidentEvent::Unanswered { respond_by: at(1800) }], "{what}");
        assert_eq!(calm.next(&incident, 1799), None, "{what}: they were given their time anew");
        assert!(matches!(calm.next(&incident, 1800), Some(Move::Admit { .. })), "{what}");
    }
}

#[test]
fn a_climb_that_is_held_up_after_the_silence_ends_with_a_person() {
    let ask = || {
        let mut incident = admitted(plan(2));
        let world = world();
        carry_out(&mut incident, &world, 10);
        let failed = |why: &str| why.to_owned();
        let event = IncidentEvent::LevelFailed { level: 0, verified: Verified::NotRecovered, why: failed("no") };
        incident.apply(&event, at(20));
        let asked = crate::decide::event::Asked {
            number: 1,
            bad: Some(release("r2")),
            target: Some(release("r1")),
            level_hash: None,
            severity: Severity::High,
            approvers: Vec::new(),
            on_silence: OnSilence::Approve,
        };
        let decision = decision(DecisionKind::Propose, "autonomy");
        let event = IncidentEvent::Proposed { level: 1, respond_by: at(6000), decision, asked: Some(Box::new(asked)) };
        incident.apply(&event, at(20));
        assert!(incident.deadline.expect("admitted") < at(6000));
        incident
    };
    let running = || Running::One(release("r2"));
    let held_up = [
        World { paused: true, running: running(), ..world() },
        World { draining: true, running: running(), ..world() },
        World { breach: Breach::Unclear, running: running(), ..world() },
    ];
    assert_eq!(
        world().settle(&mut ask(), 6000)[0],
        IncidentEvent::Climbed { to: 1, overrides: Vec::new() },
        "past its deadline too"
    );
    for world in held_up {
        let mut incident = ask();
        assert_eq!(world.settle(&mut incident, 6599), []);
        assert!(incident.wakes(&PATIENCE).contains(&at(6600)));
        let [IncidentEvent::NeedsHuman { why, .. }] = &world.settle(&mut incident, 6600)[..] else {
            panic!("it waits for ever")
        };
        assert_eq!(*why, WhyHuman::DeadlineReached);
    }
}

#[test]
fn a_look_that_is_waited_for_changes_no_answer_that_was_given() {
    for code in ["blocker_unasked", "way_back_unchecked", "just_back", "release_not_read"] {
        let (mut incident, mut world) = proposed(OnSilence::Decline);
        world.decision = Some(decision(DecisionKind::Hold, code));
        assert_eq!(world.settle(&mut incident, 300), [], "{code}");
        world.decision = Some(decision(DecisionKind::Propose, "autonomy"));
        assert_eq!(world.settle(&mut incident, 310), [], "{code}: it is the same question");
        world.decision = Some(decision(DecisionKind::Hold, "paused"));
        assert_eq!(world.settle(&mut incident, 320).len(), 1, "{code}: a pause is an answer");
    }
}

#[test]
fn another_way_back_or_a_higher_severity_is_asked_anew() {
    let (mut incident, mut world) = proposed(OnSilence::Decline);
    world.people.target = Some(release("r0"));
    let [IncidentEvent::Proposed { respond_by, asked: Some(asked), .. }] = &world.settle(&mut incident, 100)[..] else {
        panic!("not asked anew")
    };
    assert_eq!((*respond_by, asked.number, asked.target.clone()), (at(700), 2, Some(release("r0"))));
    assert_eq!(world.settle(&mut incident, 101), []);
    let severe = TriggerFact { severity: Severity::Critical, ..fact("u") };
    incident.apply(&IncidentEvent::Joined { fact: Box::new(severe), aside: false }, at(110));
    world.people.approvers = vec!["admin".to_owned()];
    let [IncidentEvent::Proposed { respond_by, asked: Some(asked), .. }] = &world.settle(&mut incident, 110)[..] else {
        panic!("not asked anew")
    };
    assert_eq!((*respond_by, asked.severity, asked.number), (at(700), Severity::Critical, 2));
    assert_eq!(asked.approvers, ["admin"]);
}

#[test]
fn a_person_holds_it_until_the_limit_and_then_it_goes_on_from_what_is_known() {
    let order = || IncidentEvent::HoldOrdered { actor: actor(), reason: "fix".to_owned(), until: at(900) };
    let (mut incident, mut world) = proposed(OnSilence::Approve);
    incident.apply(&order(), at(10));
    assert_eq!(incident.state, State::HeldByPerson { until: at(900) });
    assert_eq!(incident.wakes(&PATIENCE)[0], at(900));
    world.decision = Some(decision(DecisionKind::RollBack, ""));
    assert_eq!(world.settle(&mut incident, 899), [], "what the guard would do does not count");
    let over = World { breach: Breach::Over, ..self::world() };
    assert_eq!(over.settle(&mut incident.clone(), 500), [IncidentEvent::Cleared]);
    let other = World { running: Running::One(release("r3")), ..self::world() };
    assert!(matches!(other.settle(&mut incident.clone(), 500)[..], [IncidentEvent::Superseded { .. }]));
    let Some(Move::Event(ended)) = world.next(&incident, 900) else { panic!("it goes on for ever") };
    assert!(matches!(ended, IncidentEvent::HoldEnded { actor: None, .. }));
    incident.apply(&ended, at(900));
    assert!(matches!(world.next(&incident, 900), Some(Move::Admit { .. })));
    // Once it rolls back there is nothing to hold.
    let mut acting = admitted(plan(1));
    let before = acting.clone();
    assert_eq!(acting.apply(&order(), at(10)), []);
    assert_eq!(acting, before);
}

#[test]
fn a_step_that_waits_is_skipped_and_never_one_that_runs() {
    let skip = |attempt| IncidentEvent::StepSkipped { attempt, actor: actor(), reason: String::new() };
    let mut incident = admitted(plan(1));
    let world = world();
    let first = incident.skippable().expect("it is next");
    world.settle(&mut incident, 1);
    assert_eq!(incident.skippable(), None, "it runs");
    let before = incident.clone();
    incident.apply(&skip(first), at(2));
    assert_eq!(incident, before);
    finish(&mut incident, Outcome::TimedOut, 3);
    world.settle(&mut incident, 3);
    assert_eq!((incident.state.as_str(), incident.skippable()), ("needs_human", Some(first)));
    incident.apply(&skip(first), at(5000));
    let second = incident.skippable().expect("the next one");
    assert_eq!((second.level, second.step), (0, 1));
    incident.apply(&skip(second), at(5001));
    assert!(matches!(world.settle(&mut incident, 5001)[0], IncidentEvent::LevelFinished { level: 0, .. }));
}
