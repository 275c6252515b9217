//! Checks, retries, the deadline of a level and its undo.
//!
//! Length: a list of short scenarios that share their beginning.

use super::*;
use crate::decide::event::{Ask, Check, CheckAnswer, Retry};

fn checked() -> Check {
    let ask = Ask::Command { argv: vec!["/c".to_owned()], env: BTreeMap::new(), inherit: Vec::new(), directory: None };
    Check { name: "c".to_owned(), ask, timeout: Duration::from_secs(30) }
}

fn says(incident: &mut Incident, answer: CheckAnswer, second: i64) -> Vec<Effect> {
    let State::Checking { attempt, .. } = incident.state else { panic!("{:?}", incident.state) };
    incident.apply(&IncidentEvent::StepChecked { attempt, answer, detail: "no row".to_owned() }, at(second))
}

/// A plan whose first step is changed; its first step has been begun.
fn begun(levels: usize, change: impl FnOnce(&mut Level)) -> Incident {
    let mut plan = plan(levels);
    change(&mut plan.levels[0]);
    let mut incident = admitted(plan);
    world().settle(&mut incident, 1);
    incident
}

fn runs(incident: &Incident) -> (usize, u32) {
    let attempt = incident.in_flight.expect("a step runs");
    (attempt.step, attempt.attempt)
}

fn told(effects: &[Effect]) -> Vec<&str> {
    let texts = effects.iter().filter_map(|effect| match effect {
        Effect::Notify { text, .. } => Some(text.as_str()),
        Effect::RunStep(_) | Effect::RestartWindows(_) | Effect::MarkBad(_) | Effect::Ended(_) => None,
    });
    texts.collect()
}

/// What a level does after its first step, for every way that a step can end, every `on_failure`, idempotent or not.
#[test]
fn on_failure_decides_for_each_outcome() {
    use OnFailure::{Climb, Continue, Stop};
    use Outcome::{Ambiguous, Failed, Succeeded, TimedOut};
    // Next: the second step of the level. Up: the next level. Else: what the person is called for.
    let next = "next";
    let cases = [
        (Succeeded, Climb, [next, next]),
        (Succeeded, Continue, [next, next]),
        (Succeeded, Stop, [next, next]),
        (Failed, Climb, ["up", "up"]),
        (Failed, Continue, [next, next]),
        (Failed, Stop, ["StepFailed", "StepFailed"]),
        (TimedOut, Climb, ["StepTimedOut", "StepTimedOut"]),
        (TimedOut, Continue, ["StepTimedOut", next]),
        (TimedOut, Stop, ["StepTimedOut", "StepTimedOut"]),
        (Ambiguous, Climb, ["StepAmbiguous", "StepAmbiguous"]),
        (Ambiguous, Continue, ["StepAmbiguous", next]),
        (Ambiguous, Stop, ["StepAmbiguous", "StepAmbiguous"]),
    ];
    for (outcome, on_failure, expected) in cases {
        for (idempotent, expected) in [false, true].into_iter().zip(expected) {
            let mut incident = begun(2, |level| {
                level.steps[0].on_failure = on_failure;
                level.steps[0].idempotent = idempotent;
            });
            // An idempotent step runs again first.
            for second in 2..5 {
                if incident.in_flight.is_some_and(|attempt| attempt.step == 0 && attempt.level == 0) {
                    finish(&mut incident, outcome, second);
                    world().settle(&mut incident, second);
                }
            }
            let came = match (&incident.state, incident.in_flight) {
                (_, Some(Attempt { level: 0, step: 1, .. })) => next.to_owned(),
                (_, Some(Attempt { level: 1, step: 0, .. })) => "up".to_owned(),
                (State::NeedsHuman { why, .. }, None) => format!("{why:?}"),
                (state, in_flight) => format!("{state:?} {in_flight:?}"),
            };
            assert_eq!(came, expected, "{outcome:?} {on_failure:?} idempotent: {idempotent}");
        }
    }
}

#[test]
fn the_last_step_of_a_level_that_goes_on_all_the_same_leads_to_verification() {
    for outcome in [Outcome::Failed, Outcome::TimedOut, Outcome::Ambiguous] {
        let mut incident = begun(1, |level| {
            level.steps.truncate(1);
            level.steps[0].on_failure = OnFailure::Continue;
            level.steps[0].idempotent = true;
        });
        for second in 2..5 {
            if incident.in_flight.is_some() {
                finish(&mut incident, outcome, second);
                world().settle(&mut incident, second);
            }
        }
        assert_eq!(incident.state.as_str(), "verifying", "{outcome:?}");
    }
}

#[test]
fn a_failed_step_is_tried_again_after_longer_and_longer_waits_with_the_same_key() {
    let retry = Retry { times: 2, wait: Duration::from_secs(10) };
    let mut incident = begun(2, |level| level.steps[0].retry = Some(retry));
    let world = world();
    let effects = finish(&mut incident, Outcome::Failed, 5);
    assert!(told(&effects)[0].ends_with("it is tried again"), "{effects:?}");
    assert_eq!(world.settle(&mut incident, 14), [], "not before its wait is over");
    assert!(incident.wakes(&PATIENCE).contains(&at(15)));
    world.settle(&mut incident, 15);
    assert_eq!(runs(&incident), (0, 2));
    finish(&mut incident, Outcome::Failed, 20);
    assert_eq!(world.settle(&mut incident, 39), []);
    world.settle(&mut incident, 40);
    assert_eq!(runs(&incident), (0, 3));
    // All are tries of one run of the level: what they do is known by the same key.
    assert_eq!(incident.run(incident.in_flight.expect("it runs")), 1);
    let effects = finish(&mut incident, Outcome::Failed, 41);
    assert!(!told(&effects)[0].contains("again"), "{effects:?}");
    let events = world.settle(&mut incident, 41);
    assert!(matches!(events[0], IncidentEvent::LevelFailed { verified: Verified::NotReached, .. }), "{events:?}");
    assert_eq!(retry.wait_after(40), Retry::WAIT_MAX);
}

#[test]
fn a_level_that_is_begun_again_counts_on_beyond_its_retries() {
    let retry = Retry { times: 5, wait: Duration::ZERO };
    let mut incident = begun(1, |level| level.steps[0].retry = Some(retry));
    incident.apply(&IncidentEvent::NeedsHuman { why: WhyHuman::Inconclusive, text: String::new() }, at(2));
    finish(&mut incident, Outcome::Failed, 3);
    incident.apply(&IncidentEvent::Climbed { to: 0, overrides: Vec::new() }, at(4));
    world().settle(&mut incident, 5);
    let attempt = incident.in_flight.expect("it runs");
    assert_eq!((attempt.attempt, incident.run(attempt), incident.try_of(attempt)), (7, 2, 1));
}

#[test]
fn what_may_have_happened_is_never_retried_unless_that_is_safe() {
    for (idempotent, outcome, tries) in [
        (false, Outcome::TimedOut, 1),
        (false, Outcome::Ambiguous, 1),
        // As often as was asked for.
        (true, Outcome::TimedOut, 3),
        (true, Outcome::Ambiguous, 3),
    ] {
        let mut incident = begun(1, |level| {
            level.steps[0].idempotent = idempotent;
            level.steps[0].retry = Some(Retry { times: 2, wait: Duration::ZERO });
        });
        let mut ran = 0;
        while incident.in_flight.is_some() {
            ran += 1;
            finish(&mut incident, outcome, ran);
            world().settle(&mut incident, ran);
        }
        assert_eq!((ran, incident.state.as_str()), (tries, "needs_human"), "{idempotent} {outcome:?}");
    }
}

#[test]
fn a_check_that_says_yes_makes_it_a_success_however_the_step_ended() {
    for outcome in [Outcome::Succeeded, Outcome::TimedOut, Outcome::Ambiguous] {
        let mut incident = begun(1, |level| level.steps[0].check = Some(checked()));
        let effects = finish(&mut incident, outcome, 2);
        assert_eq!(incident.state.as_str(), "checking", "{outcome:?}");
        assert_eq!(told(&effects).len(), usize::from(outcome != Outcome::Succeeded));
        assert_eq!(world().settle(&mut incident, 2), [], "nothing goes on before the answer");
        says(&mut incident, CheckAnswer::TookEffect, 3);
        world().settle(&mut incident, 3);
        assert_eq!(runs(&incident), (1, 1), "{outcome:?}");
    }
}

#[test]
fn a_step_that_says_itself_that_it_failed_is_believed() {
    let mut incident = begun(2, |level| level.steps[0].check = Some(checked()));
    finish(&mut incident, Outcome::Failed, 2);
    world().settle(&mut incident, 2);
    assert_eq!(incident.in_flight.map(|attempt| attempt.level), Some(1));
}

#[test]
fn a_no_is_believed_only_when_it_is_said_until_the_end() {
    let mut incident = begun(2, |level| level.steps[0].check = Some(checked()));
    finish(&mut incident, Outcome::Succeeded, 2);
    for second in [2, 7] {
        assert!(incident.wakes(&PATIENCE).contains(&at(second)));
        assert_eq!(says(&mut incident, CheckAnswer::DidNot, second), []);
        assert_eq!(incident.state.as_str(), "checking");
    }
    // A late effect would still have been one.
    let mut late = incident.clone();
    says(&mut late, CheckAnswer::TookEffect, 12);
    assert!(matches!(late.state, State::Ready { attempt: Attempt { step: 1, .. }, .. }));
    let effects = says(&mut incident, CheckAnswer::DidNot, 12);
    assert_eq!(told(&effects), ["step 1 (first) of level 1: it did not take effect: no row"]);
    let events = world().settle(&mut incident, 12);
    assert!(matches!(events[0], IncidentEvent::LevelFailed { verified: Verified::NotReached, .. }), "{events:?}");
}

#[test]
fn a_no_after_a_lost_answer_allows_a_retry_although_the_step_is_not_idempotent() {
    for (times, runs_again) in [(1, true), (0, false)] {
        let mut incident = begun(1, |level| {
            level.steps[0].check = Some(checked());
            level.steps[0].retry = (times > 0).then_some(Retry { times, wait: Duration::ZERO });
        });
        finish(&mut incident, Outcome::Ambiguous, 2);
        for second in [2, 7, 12] {
            says(&mut incident, CheckAnswer::DidNot, second);
        }
        world().settle(&mut incident, 12);
        assert_eq!(incident.in_flight.is_some(), runs_again);
        assert_eq!(incident.state.as_str(), if runs_again { "running" } else { "needs_human" });
    }
}

#[test]
fn a_check_that_cannot_be_answered_leaves_the_step_as_it_was() {
    for (outcome, idempotent, expected) in [
        // Its own word stands.
        (Outcome::Succeeded, false, "next"),
        (Outcome::Ambiguous, false, "StepAmbiguous"),
        (Outcome::Ambiguous, true, "again"),
        (Outcome::TimedOut, true, "StepTimedOut"),
    ] {
        let mut incident = begun(1, |level| {
            level.steps[0].check = Some(checked());
            level.steps[0].idempotent = idempotent;
        });
        finish(&mut incident, outcome, 2);
        for second in [2, 7, 12] {
            says(&mut incident, CheckAnswer::Unknown, second);
        }
        world().settle(&mut incident, 12);
        let came = match (&incident.state, incident.in_flight) {
            (_, Some(Attempt { step: 1, .. })) => "next".to_owned(),
            (_, Some(Attempt { step: 0, attempt: 2, .. })) => "again".to_owned(),
            (State::NeedsHuman { why, .. }, None) => format!("{why:?}"),
            (state, in_flight) => format!("{state:?} {in_flight:?}"),
        };
        assert_eq!(came, expected, "{outcome:?} {idempotent}");
    }
}

#[test]
fn a_check_does_not_outlast_the_incident_nor_another_release() {
    let begin = || {
        let mut incident = begun(1, |level| level.steps[0].check = Some(checked()));
        finish(&mut incident, Outcome::Ambiguous, 2);
        incident
    };
    let mut incident = begin();
    let end = incident.deadline.expect("a deadline").as_millis() / 1000;
    let events = world().settle(&mut incident, end);
    assert!(matches!(events[0], IncidentEvent::NeedsHuman { why: WhyHuman::DeadlineReached, .. }), "{events:?}");
    let other = World { running: Running::One(release("r3")), ..world() };
    let mut incident = begin();
    assert!(matches!(other.settle(&mut incident, 3)[0], IncidentEvent::Superseded { .. }));
    // An answer that comes too late finds nobody.
    let attempt = Attempt { level: 0, step: 0, attempt: 1, undo: false };
    let late = IncidentEvent::StepChecked { attempt, answer: CheckAnswer::TookEffect, detail: String::new() };
    let before = incident.clone();
    assert_eq!(incident.apply(&late, at(4)), []);
    assert_eq!(incident, before);
}

#[test]
fn after_the_deadline_of_a_level_no_step_of_it_starts_and_none_is_killed() {
    let limit = Some(Duration::from_secs(30));
    let world = world();
    // The step that runs comes to its end; the next one does not begin.
    let mut incident = begun(2, |level| level.deadline = limit);
    assert_eq!(world.settle(&mut incident, 100), []);
    finish(&mut incident, Outcome::Succeeded, 100);
    let events = world.settle(&mut incident, 100);
    let IncidentEvent::LevelFailed { why, verified: Verified::NotReached, .. } = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!(why, "the deadline of the level (30s) was reached before step 2 (second) of level 1");
    assert_eq!(incident.in_flight.map(|attempt| attempt.level), Some(1), "on to the next level");
    // The next level has its own time.
    assert_eq!(incident.level_began, Some(at(100)));

    // It counts from the first step, not from a wait before it.
    let mut plan = plan(1);
    plan.levels[0].deadline = limit;
    let mut incident = admitted(plan);
    let paused = World { paused: true, ..super::world() };
    assert_eq!(paused.settle(&mut incident, 200), []);
    world.settle(&mut incident, 201);
    assert!(incident.in_flight.is_some());
}

#[test]
fn a_step_that_was_never_begun_is_next_as_if_it_had_not_been_intended() {
    let never = |incident: &mut Incident, second: i64| {
        let attempt = incident.in_flight.expect("it was intended");
        assert_eq!(incident.apply(&IncidentEvent::StepNotStarted { attempt, why: String::new() }, at(second)), []);
        assert!(matches!(incident.state, State::Ready { attempt: next, .. } if next == attempt));
    };
    // The first of its level: the time of the level has not begun.
    let mut incident = begun(2, |level| level.deadline = Some(Duration::from_secs(30)));
    never(&mut incident, 5);
    world().settle(&mut incident, 100);
    assert_eq!(runs(&incident), (0, 1));
    // One that is tried again because nobody knows how the try before it ended: that is not forgotten.
    let mut incident = begun(2, |level| {
        level.deadline = Some(Duration::from_secs(30));
        level.steps[0].idempotent = true;
    });
    finish(&mut incident, Outcome::Ambiguous, 5);
    world().settle(&mut incident, 5);
    never(&mut incident, 6);
    let events = world().settle(&mut incident, 40);
    assert!(matches!(events[0], IncidentEvent::NeedsHuman { why: WhyHuman::StepAmbiguous, .. }), "{events:?}");
    // The incident went on without it.
    let mut incident = begun(1, |_| {});
    incident.apply(&IncidentEvent::NeedsHuman { why: WhyHuman::DeadlineReached, text: String::new() }, at(2));
    let attempt = incident.in_flight.expect("it was intended");
    incident.apply(&IncidentEvent::StepNotStarted { attempt, why: String::new() }, at(3));
    assert_eq!((incident.in_flight, incident.state.as_str()), (None, "needs_human"));
    assert_eq!(incident.skippable(), Some(attempt));
}

#[test]
fn a_retry_that_would_begin_after_the_deadline_of_the_level_does_not() {
    let cases = [
        (Outcome::Failed, OnFailure::Climb, "LevelFailed"),
        (Outcome::Failed, OnFailure::Stop, "StepFailed"),
        (Outcome::Ambiguous, OnFailure::Climb, "StepAmbiguous"),
        (Outcome::TimedOut, OnFailure::Continue, "StepTimedOut"),
    ];
    for (outcome, on_failure, expected) in cases {
        let mut incident = begun(2, |level| {
            level.deadline = Some(Duration::from_secs(30));
            level.steps[0].idempotent = true;
            level.steps[0].on_failure = on_failure;
            level.steps[0].retry = Some(Retry { times: 2, wait: Duration::from_mins(1) });
        });
        finish(&mut incident, outcome, 20);
        assert_eq!(world().settle(&mut incident, 30), []);
        assert!(incident.wakes(&PATIENCE).contains(&at(31)));
        let events = world().settle(&mut incident, 31);
        let came = match &events[0] {
            IncidentEvent::LevelFailed { .. } => "LevelFailed".to_owned(),
            IncidentEvent::NeedsHuman { why, .. } => format!("{why:?}"),
            other => format!("{other:?}"),
        };
        assert_eq!(came, expected, "{outcome:?} {on_failure:?}");
    }
}

#[test]
fn the_deadline_of_a_level_cuts_the_wait_for_recovery_but_no_soak() {
    let begin = || {
        let mut plan = plan(1);
        plan.levels[0].deadline = Some(Duration::from_secs(40));
        let mut incident = admitted(plan);
        carry_out(&mut incident, &world(), 10);
        incident
    };
    // 40 s after the first step, which began at 10; without the deadline it would be at 130.
    let mut incident = begin();
    assert_eq!(world().settle(&mut incident, 49), []);
    assert!(incident.wakes(&PATIENCE).contains(&at(50)));
    assert!(matches!(world().settle(&mut incident, 50)[0], IncidentEvent::LevelFailed { .. }));
    let mut incident = begin();
    let clear = World { reading: Reading::Clear, ..world() };
    clear.settle(&mut incident, 45);
    assert_eq!(clear.settle(&mut incident, 60), []);
    assert_eq!(incident.state.as_str(), "verifying");
}

/// Two steps of a level with a deadline of 40 s are carried out at 10; it comes clear at 20. After `restart` its soak
/// counts from there, as after a restart of the daemon.
fn soaking(restart: Option<i64>) -> Incident {
    let mut plan = plan(1);
    plan.levels[0].deadline = Some(Duration::from_secs(40));
    let mut incident = admitted(plan);
    carry_out(&mut incident, &world(), 10);
    World { reading: Reading::Clear, ..world() }.settle(&mut incident, 20);
    if let Some(second) = restart {
        incident.soak = Soak::from(at(second));
    }
    incident
}

/// Readings from second to second, until something follows; with the second at which it does.
fn read(incident: &mut Incident, reading: Reading, seconds: std::ops::Range<i64>) -> Option<(i64, IncidentEvent)> {
    let world = World { reading, ..world() };
    for second in seconds.step_by(10) {
        if incident.soak.from < at(second) {
            incident.soak.take(reading, at(second), Duration::from_secs(10), Duration::from_secs(10));
        }
        if let Some(event) = world.settle(incident, second).into_iter().next() {
            return Some((second, event));
        }
    }
    None
}

#[test]
fn what_is_clear_is_not_given_up_for_a_restart_or_a_blind_while_behind_the_deadline_of_its_level() {
    let recovered = |event: Option<(i64, IncidentEvent)>| match event {
        Some((second, IncidentEvent::Recovered { .. })) => second,
        other => panic!("{other:?}"),
    };
    // The deadline of the level was at 50. Nothing has been read yet in this run, then it is clear for a minute.
    let mut incident = soaking(Some(110));
    assert_eq!(read(&mut incident, Reading::Unknown, 110..140), None);
    assert_eq!(recovered(read(&mut incident, Reading::Clear, 140..300)), 200);
    // It had not been clear before the restart either.
    let mut plan = plan(1);
    plan.levels[0].deadline = Some(Duration::from_secs(40));
    let mut incident = admitted(plan);
    carry_out(&mut incident, &world(), 10);
    incident.soak = Soak::from(at(110));
    assert_eq!(read(&mut incident, Reading::Unknown, 110..140), None);
    let came = read(&mut incident, Reading::Clear, 140..150);
    assert_eq!(came, Some((140, IncidentEvent::CameClear { at: at(140) })));
    assert_eq!(recovered(read(&mut incident, Reading::Clear, 150..300)), 200);
    // Without a restart: half of the soak, blind for a minute and a half, then the rest of it.
    let mut incident = soaking(None);
    assert_eq!(read(&mut incident, Reading::Clear, 20..60), None);
    assert_eq!(read(&mut incident, Reading::Unknown, 60..150), None);
    assert_eq!(recovered(read(&mut incident, Reading::Clear, 150..300)), 180);
    // A soak that goes on at the end of within and soak is let come to its end.
    let mut incident = soaking(None);
    assert_eq!(read(&mut incident, Reading::Unknown, 20..180), None);
    assert_eq!(recovered(read(&mut incident, Reading::Clear, 180..300)), 240);
}

#[test]
fn a_verification_that_cannot_tell_calls_a_person_in_bounded_time() {
    let human = |event: Option<(i64, IncidentEvent)>| match event {
        Some((second, IncidentEvent::NeedsHuman { why: WhyHuman::Inconclusive, .. })) => second,
        other => panic!("{other:?}"),
    };
    // Within and soak, and what an evaluation may be late, from the end of the level or from the restart.
    assert_eq!(human(read(&mut soaking(None), Reading::Unknown, 20..2000)), 200);
    assert_eq!(human(read(&mut soaking(Some(110)), Reading::Unknown, 110..2000)), 300);
    // Clear that never lasts, to the deadline of the incident and no longer.
    let mut incident = soaking(None);
    incident.soak.slack = Duration::from_secs(10);
    let clear = World { reading: Reading::Clear, ..world() };
    let end = incident.deadline.expect("a deadline").as_millis() / 1000;
    assert_eq!(clear.settle(&mut incident, end - 1), []);
    assert!(incident.wakes(&PATIENCE).contains(&at(end)));
    let came = clear.settle(&mut incident, end);
    assert!(matches!(came[..], [IncidentEvent::NeedsHuman { why: WhyHuman::Inconclusive, .. }]), "{came:?}");
    // Breached again after a restart behind the deadline of the level: its time is over.
    let mut incident = soaking(Some(110));
    let Some((120, IncidentEvent::LevelFailed { .. })) = read(&mut incident, Reading::Breached, 120..130) else {
        panic!("{:?}", incident.state)
    };
}

#[test]
fn a_step_that_a_person_skips_begins_the_time_of_its_level_anew() {
    let skip = |incident: &mut Incident, second: i64| {
        let attempt = incident.skippable().expect("a step to skip");
        let actor = Actor { name: "ada".to_owned(), via: "cli".to_owned() };
        incident.apply(&IncidentEvent::StepSkipped { attempt, actor, reason: String::new() }, at(second));
    };
    let begin = || {
        begun(2, |level| {
            level.deadline = Some(Duration::from_secs(30));
            level.steps.push(step("third"));
        })
    };
    // A person is called at 2, comes at 5000, and passes over the first step: the second one runs.
    let mut incident = begin();
    finish(&mut incident, Outcome::TimedOut, 2);
    world().settle(&mut incident, 2);
    assert_eq!(incident.state.as_str(), "needs_human");
    skip(&mut incident, 5000);
    world().settle(&mut incident, 5000);
    assert_eq!(runs(&incident).0, 1, "{:?}", incident.state);
    // It has all its time again, and no more.
    finish(&mut incident, Outcome::Succeeded, 5030);
    let events = world().settle(&mut incident, 5030);
    assert!(matches!(events[0], IncidentEvent::LevelFailed { verified: Verified::NotReached, .. }), "{events:?}");
    // Passing over the last step: what it installed has its time to become clear.
    let mut incident = begun(2, |level| {
        level.deadline = Some(Duration::from_secs(30));
        level.steps.truncate(1);
    });
    finish(&mut incident, Outcome::TimedOut, 2);
    world().settle(&mut incident, 2);
    skip(&mut incident, 5000);
    assert!(matches!(world().settle(&mut incident, 5000)[..], [IncidentEvent::LevelFinished { .. }]));
    assert_eq!(world().settle(&mut incident, 5029), []);
    assert!(matches!(world().settle(&mut incident, 5030)[0], IncidentEvent::LevelFailed { .. }));
    // Where nobody was waited for the time goes on: between two steps a skip makes a level no longer.
    let mut incident = begin();
    finish(&mut incident, Outcome::Succeeded, 10);
    skip(&mut incident, 20);
    assert_eq!(incident.skippable().map(|attempt| attempt.step), Some(2));
    let events = world().settle(&mut incident, 31);
    assert!(matches!(events[0], IncidentEvent::LevelFailed { verified: Verified::NotReached, .. }), "{events:?}");
}

/// The first of two levels has been carried out and did not help, and has an undo of two steps.
fn to_undo(change: impl FnOnce(&mut Level)) -> Incident {
    let mut plan = plan(2);
    plan.levels[0].undo = vec![step("back"), step("and back")];
    change(&mut plan.levels[0]);
    let mut incident = admitted(plan);
    carry_out(&mut incident, &world(), 10);
    incident
}

fn is_undo(incident: &Incident) -> Option<usize> {
    incident.in_flight.filter(|attempt| attempt.undo).map(|attempt| attempt.step)
}

#[test]
fn a_level_that_did_not_help_is_undone_before_the_next_one_begins() {
    let world = world();
    let mut incident = to_undo(|_| {});
    let events = world.settle(&mut incident, 130);
    assert!(matches!(
        events[..],
        [
            IncidentEvent::LevelFailed { verified: Verified::NotRecovered, .. },
            IncidentEvent::UndoBegan { level: 0 },
            IncidentEvent::StepIntended { .. }
        ]
    ));
    assert_eq!((is_undo(&incident), incident.state.as_str()), (Some(0), "undoing"));
    assert_eq!(incident.step(incident.in_flight.unwrap()).unwrap().name, "back");
    finish(&mut incident, Outcome::Succeeded, 131);
    world.settle(&mut incident, 131);
    assert_eq!(is_undo(&incident), Some(1));
    finish(&mut incident, Outcome::Succeeded, 132);
    let events = world.settle(&mut incident, 132);
    assert!(
        matches!(
            events[..],
            [
                IncidentEvent::UndoFinished { level: 0, failed: None, .. },
                IncidentEvent::Climbed { to: 1, .. },
                IncidentEvent::StepIntended { attempt: Attempt { level: 1, step: 0, undo: false, .. }, .. }
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn only_what_was_seen_not_to_help_is_undone() {
    // Nobody knows whether it helped.
    let mut incident = to_undo(|_| {});
    let unknown = World { reading: Reading::Unknown, ..world() };
    let events = unknown.settle(&mut incident, 200);
    assert!(matches!(events[..], [IncidentEvent::NeedsHuman { why: WhyHuman::Inconclusive, .. }]), "{events:?}");
    // It could not be carried out.
    let mut plan = plan(2);
    plan.levels[0].undo = vec![step("back")];
    let mut incident = admitted(plan);
    world().settle(&mut incident, 1);
    finish(&mut incident, Outcome::Failed, 2);
    world().settle(&mut incident, 2);
    assert_eq!(incident.in_flight.map(|attempt| (attempt.level, attempt.undo)), Some((1, false)));
}

#[test]
fn an_undo_that_fails_is_told_and_the_next_level_is_tried_all_the_same() {
    let world = world();
    for (on_failure, second_runs) in [(OnFailure::Climb, false), (OnFailure::Continue, true)] {
        let mut incident = to_undo(|level| level.undo[0].on_failure = on_failure);
        world.settle(&mut incident, 130);
        finish(&mut incident, Outcome::Failed, 131);
        let mut events = world.settle(&mut incident, 131);
        assert_eq!(is_undo(&incident) == Some(1), second_runs);
        if second_runs {
            finish(&mut incident, Outcome::Succeeded, 132);
            events = world.settle(&mut incident, 132);
        }
        let IncidentEvent::UndoFinished { failed: Some(failed), .. } = &events[0] else { panic!("{events:?}") };
        assert_eq!(failed, "step 1 (back) of the undo of level 1 failed");
        assert_eq!(incident.in_flight.map(|attempt| attempt.level), Some(1));
    }
    let mut incident = to_undo(|level| level.undo[0].on_failure = OnFailure::Stop);
    world.settle(&mut incident, 130);
    finish(&mut incident, Outcome::Failed, 131);
    let events = world.settle(&mut incident, 131);
    assert!(matches!(events[..], [IncidentEvent::NeedsHuman { why: WhyHuman::StepFailed, .. }]), "{events:?}");
}

#[test]
fn a_step_of_an_undo_may_run_twice_only_as_any_other() {
    for (idempotent, expected) in [(false, "needs_human"), (true, "undoing")] {
        let mut incident = to_undo(|level| level.undo[0].idempotent = idempotent);
        world().settle(&mut incident, 130);
        finish(&mut incident, Outcome::Ambiguous, 131);
        world().settle(&mut incident, 131);
        assert_eq!(incident.state.as_str(), expected);
    }
}

#[test]
fn an_undo_may_bring_the_bad_release_back_and_nobody_else_may() {
    let installed = |running: &str| World { running: Running::One(release(running)), ..world() };
    let begin = || {
        let mut incident = to_undo(|level| level.undo.truncate(1));
        incident.saw(&release("r1"));
        installed("r1").settle(&mut incident, 130);
        assert_eq!(is_undo(&incident), Some(0));
        incident
    };
    // The undo brings it back: the next level begins.
    let mut incident = begin();
    finish(&mut incident, Outcome::Succeeded, 131);
    installed("r2").settle(&mut incident, 132);
    assert_eq!(incident.in_flight.map(|attempt| attempt.level), Some(1), "{:?}", incident.state);
    // The undo left the way back in place; then somebody installs the bad one.
    let mut incident = begin();
    finish(&mut incident, Outcome::Succeeded, 131);
    let events = installed("r1").settle(&mut incident, 132);
    assert!(matches!(events.last(), Some(IncidentEvent::StepIntended { .. })), "{events:?}");
    finish(&mut incident, Outcome::Succeeded, 133);
    let events = installed("r2").settle(&mut incident, 133);
    assert!(matches!(events[..], [IncidentEvent::NeedsHuman { why: WhyHuman::BadReleaseCameBack, .. }]), "{events:?}");
    // Before the undo has begun it is somebody else's doing.
    let mut incident = to_undo(|_| {});
    incident.saw(&release("r1"));
    let events = installed("r2").settle(&mut incident, 130);
    assert!(matches!(events[..], [IncidentEvent::NeedsHuman { why: WhyHuman::BadReleaseCameBack, .. }]), "{events:?}");
    // And a third release is nobody's business of ours.
    let mut incident = begin();
    finish(&mut incident, Outcome::Succeeded, 131);
    let events = installed("r3").settle(&mut incident, 132);
    assert!(matches!(events.last(), Some(IncidentEvent::Superseded { .. })), "{events:?}");
}

#[test]
fn what_runs_after_an_undo_is_looked_at_before_the_next_level() {
    let mut incident = to_undo(|level| level.undo.truncate(1));
    let world = world();
    world.settle(&mut incident, 130);
    finish(&mut incident, Outcome::Succeeded, 131);
    let unread = |incident: &mut Incident, second: i64| {
        let situation = Situation {
            running: &world.running,
            breach: Breach::Firing,
            decision: None,
            level: 0,
            reading: Reading::Breached,
            outage: None,
            release_read: false,
            paused: false,
            journal_failing: false,
            draining: false,
            patience: PATIENCE,
            people: People::default(),
        };
        incident.advance(&situation, at(second))
    };
    assert_eq!(unread(&mut incident, 190), None);
    assert!(incident.wakes(&PATIENCE).contains(&at(191)));
    let next = unread(&mut incident, 191);
    assert!(matches!(next, Some(Move::Event(IncidentEvent::UndoFinished { .. }))), "{next:?}");
}

#[test]
fn an_undo_goes_on_under_a_pause_and_waits_for_the_journal() {
    let paused = World { paused: true, ..world() };
    let mut incident = to_undo(|_| {});
    paused.settle(&mut incident, 130);
    assert_eq!(is_undo(&incident), Some(0), "taking back is the end of a level, not a new one");
    let draining = World { draining: true, ..world() };
    let mut incident = to_undo(|_| {});
    assert_eq!(draining.settle(&mut incident, 130).len(), 1);
    assert!(matches!(incident.state, State::LevelOver { undo: true, .. }));
}

#[test]
fn the_last_level_is_undone_too_and_then_a_person_is_called() {
    let mut plan = plan(1);
    plan.levels[0].undo = vec![step("back")];
    let mut incident = admitted(plan);
    carry_out(&mut incident, &world(), 10);
    world().settle(&mut incident, 130);
    finish(&mut incident, Outcome::Succeeded, 131);
    let events = world().settle(&mut incident, 131);
    assert!(
        matches!(
            events[..],
            [IncidentEvent::UndoFinished { .. }, IncidentEvent::NeedsHuman { why: WhyHuman::LadderExhausted, .. }]
        ),
        "{events:?}"
    );
}

#[test]
fn the_deadline_of_the_incident_is_the_sum_of_all_that_may_happen() {
    let base = deadline(&plan(1), 0, at(0));
    let with = |change: fn(&mut Level)| {
        let mut plan = plan(1);
        change(&mut plan.levels[0]);
        deadline(&plan, 0, at(0)).since(base).as_secs()
    };
    // Two more tries of a minute, after 10 s and 20 s.
    assert_eq!(with(|level| level.steps[0].retry = Some(Retry { times: 2, wait: Duration::from_secs(10) })), 150);
    // Three questions of 30 s, and the waits between.
    assert_eq!(with(|level| level.steps[0].check = Some(checked())), 105);
    assert_eq!(with(|level| level.steps[0].idempotent = true), 120);
    // Its step, and the look at what runs.
    assert_eq!(with(|level| level.undo = vec![step("back")]), 120);
    // At most the step that runs when the time is over.
    let base = base.as_millis() / 1000;
    let mut limited = plan(1);
    limited.levels[0].deadline = Some(Duration::from_secs(10));
    assert_eq!(deadline(&limited, 0, at(0)), at(base - 50));
}

#[test]
fn a_person_is_told_what_can_be_done_next() {
    let mut incident = begun(2, |_| {});
    assert_eq!(incident.next_for_people(), None);
    finish(&mut incident, Outcome::Ambiguous, 2);
    world().settle(&mut incident, 2);
    assert_eq!(
        incident.next_for_people().unwrap(),
        "find out whether that step took effect; then pass over step 1 by `backstop skip api-1 --step 1 --reason …`, or run level 1 again by `backstop rollback api --level 1 --reason \
         …`, or go on with level 2 by `backstop rollback api --level 2 --reason …`, or close it by `backstop abort api-1 \
         --reason …`"
    );
    let State::NeedsHuman { text, .. } = &incident.state else { panic!("{:?}", incident.state) };
    assert_eq!(text, "it cannot be known whether step 1 (first) of level 1 took effect");
}
