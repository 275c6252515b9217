//! Scenarios of steps that are checked, tried again and undone: the real machine in the small world.

mod support;

use std::collections::BTreeMap;

use backstop::decide::event::{Ask, Check, CheckOutcome, Entry, IncidentEvent, NoticeKind as N, Retry, WhyHuman};
use backstop::decide::report::Report;
use backstop::decide::rules::ServiceRules;
use backstop::machine::input::Input;
use support::*;

fn check(name: &str) -> Check {
    let ask = Ask::Command { argv: vec![name.to_owned()], env: BTreeMap::new(), inherit: vec![], directory: None };
    Check { name: name.to_owned(), ask, timeout: secs(10) }
}

const NO: fn() -> CheckOutcome = || CheckOutcome::Failed("exit status 1".to_owned());

/// Long enough for `r1` to be a release to go back to; then `r2` breaks.
fn broken(change: impl FnOnce(&mut ServiceRules), prepare: impl FnOnce(&mut World)) -> World {
    let mut world = world(change);
    prepare(&mut world);
    world.run(6 * MINUTE);
    world.fleet.behaviours.insert("r2".to_owned(), Behaviour::BROKEN);
    world.fleet.deploy("r2", world.now);
    world
}

fn names(world: &World) -> Vec<&str> {
    world.steps_begun().iter().map(|order| order.step.name.as_str()).collect()
}

fn report(world: &World) -> Report {
    Report::of(&world.disk).expect("an incident")
}

#[test]
fn a_failed_step_is_tried_again_with_the_same_key() {
    let mut world = broken(
        |service| service.ladder[0].steps[0].retry = Some(Retry { times: 2, wait: secs(10) }),
        |world| {
            world.scripts.insert("rollback".to_owned(), Script::HelpsAtTry(3));
        },
    );
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    let begun = world.steps_begun();
    let tries: Vec<u32> = begun.iter().map(|order| order.attempt.attempt).collect();
    assert_eq!(tries, [1, 2, 3], "{}", world.story());
    assert!(begun.iter().all(|order| order.idempotency_key == begun[0].idempotency_key));
    let at: Vec<i64> = world
        .seen
        .iter()
        .filter_map(|seen| if let Seen::StepBegan { at, .. } = seen { Some(*at) } else { None })
        .collect();
    // The wait counts from the end of the try before, which took 3 s, and doubles.
    assert!(at[1] - at[0] >= 13 * SECOND && at[2] - at[1] >= 23 * SECOND, "{at:?}");
    assert_eq!(report(&world).levels[0].steps.len(), 3);
}

#[test]
fn a_step_that_lies_is_found_out_by_its_check() {
    let mut world = broken(
        |service| {
            let mut lies = step("flag");
            lies.check = Some(check("flag is off"));
            service.ladder = vec![level("flag off", vec![lies]), level("previous release", vec![step("rollback")])];
        },
        |world| {
            world.scripts.insert("flag".to_owned(), Script::Nothing);
            world.check_answers.insert("flag is off".to_owned(), NO());
        },
    );
    world.run_until(5 * MINUTE, "the check", |world| world.state() == "checking");
    let sentence = world.incidents()[0].sentence.clone();
    assert!(sentence.starts_with("step 1 (flag) of level 1 says that it succeeded; its check is asked"), "{sentence}");
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!((names(&world), world.checks_asked.len()), (vec!["flag", "rollback"], 3), "{}", world.story());
    assert!(world.kinds().contains(&N::StepFailed));
    // It changed nothing, so nothing stays changed.
    let report = report(&world);
    assert_eq!((report.levels[0].steps[0].checks.len(), report.stays), (3, vec![]));
}

#[test]
fn after_a_kill_the_check_tells_whether_the_step_took_effect() {
    for (took_effect, times, end, ran) in
        [(true, 0, "recovered", 1), (false, 1, "recovered", 2), (false, 0, "needs_human", 1)]
    {
        let mut world = broken(
            |service| {
                service.ladder[0].steps[0].check = Some(check("r1 is there"));
                service.ladder[0].steps[0].retry = (times > 0).then_some(Retry { times, wait: secs(1) });
            },
            |_| {},
        );
        world.run_until(3 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
        if took_effect {
            let running = world.steps[0].clone();
            world.effect(&running);
        } else {
            world.check_answers.insert("r1 is there".to_owned(), NO());
        }
        world.restart();
        if !took_effect {
            world.run_until(MINUTE, "three answers", |world| world.state() != "checking");
            world.check_answers.clear();
        }
        world.run_until(5 * MINUTE, end, |world| world.state() == end);
        assert_eq!(world.steps_begun().len(), ran, "{took_effect} {times}\n{}", world.story());
    }
}

#[test]
fn a_check_is_asked_again_after_a_reload() {
    let mut world = broken(|service| service.ladder[0].steps[0].check = Some(check("done")), |_| {});
    world.run_until(3 * MINUTE, "the question", |world| !world.checks_asked.is_empty());
    let first = world.checks_asked[0].1.clone();
    world.checks.clear();
    let rules = world.rules.clone();
    world.input(Input::Reload(rules));
    world.run(10);
    assert_eq!(world.checks_asked.len(), 2);
    // What was asked before nobody remembers.
    let before = world.disk.len() + world.unacknowledged.len();
    world.input(Input::Checked { id: first.id, outcome: NO() });
    world.settle();
    assert_eq!((world.disk.len() + world.unacknowledged.len(), world.state()), (before, "checking"));
    assert_eq!(first.attempt, world.checks_asked[1].1.attempt);
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
}

/// The first level installs the way back, which does not help at once; its undo brings the bad release back. The second
/// level helps.
fn undoing(undo: Script, change: impl FnOnce(&mut ServiceRules)) -> World {
    broken(
        |service| {
            let mut first = level("first", vec![step("install")]);
            first.undo = vec![step("back")];
            service.ladder = vec![first, level("second", vec![step("rollback")])];
            change(service);
        },
        |world| {
            world.scripts.insert("install".to_owned(), Script::Helps);
            world.scripts.insert("back".to_owned(), undo);
            // The way back does not help, until the second level has been tried.
            world.fleet.behaviours.insert("r1".to_owned(), Behaviour::GOOD);
        },
    )
}

fn to_the_undo(world: &mut World) {
    world.run_until(3 * MINUTE, "the first level", |world| world.state() == "verifying");
    world.fleet.errors_anyway = 0.5;
    world.run_until(5 * MINUTE, "the undo", |world| names(world).contains(&"back"));
}

#[test]
fn a_level_that_did_not_help_is_undone_and_the_next_one_is_told_what_runs() {
    let mut world = undoing(Script::BringsBack, |_| {});
    to_the_undo(&mut world);
    assert_eq!(world.state(), "undoing");
    let undo = world.steps_begun().into_iter().find(|order| order.step.name == "back").unwrap().clone();
    assert!(undo.attempt.undo && undo.idempotency_key.ends_with(".1.1.undo.1"), "{}", undo.idempotency_key);
    assert_eq!(undo.expect_release.as_ref().map(|release| &*release.0), Some("r1"));
    world.fleet.errors_anyway = 0.0;
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(names(&world), ["install", "back", "rollback"], "{}", world.story());
    let last = world.steps_begun()[2];
    assert_eq!(last.expect_release.as_ref().map(|release| &*release.0), Some("r2"), "{}", world.story());
    assert!(!world.kinds().contains(&N::ReleaseReappeared), "its return was our own doing");
    let report = report(&world);
    assert_eq!(report.stays, Vec::<String>::new());
    assert!(report.markdown().contains("It was undone."), "{}", report.markdown());
}

#[test]
fn an_undo_that_fails_is_told_and_listed() {
    let mut world = undoing(Script::Fails, |_| {});
    to_the_undo(&mut world);
    world.fleet.errors_anyway = 0.0;
    world.run_until(5 * MINUTE, "the next level", |world| names(world).contains(&"rollback"));
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(
        report(&world).stays,
        ["level 1 (first) did not help; not wholly undone, for step 1 (back) of the undo of level 1 failed; done: \
          install (level 1, step 1)"]
    );
    assert_eq!(world.kinds().iter().filter(|kind| **kind == N::StepFailed).count(), 2, "{:?}", world.kinds());
}

#[test]
fn killed_in_the_middle_of_an_undo_a_person_is_called_and_told_what_can_be_done() {
    let mut world = undoing(Script::BringsBack, |_| {});
    to_the_undo(&mut world);
    world.restart();
    world.run_until(MINUTE, "a person", |world| world.state() == "needs_human");
    let incident = world.incidents().remove(0);
    assert_eq!(incident.sentence, "it cannot be known whether step 1 (back) of the undo of level 1 took effect");
    assert_eq!(incident.needs_human, Some("step_ambiguous"));
    let next = incident.next.expect("something can be done");
    assert!(next.contains("`backstop rollback api --level 2 --reason …`"), "{next}");
}

#[test]
fn killed_at_every_output_it_ends_and_nothing_runs_too_often() {
    let mut reached = 0;
    for crash_in in 0.. {
        let mut world = undoing(Script::BringsBack, |service| {
            service.ladder[0].steps[0].check = Some(check("installed"));
            service.ladder[0].undo[0].check = Some(check("back"));
            service.ladder[1].steps[0].retry = Some(Retry { times: 1, wait: secs(5) });
        });
        world.scripts.insert("rollback".to_owned(), Script::HelpsAtTry(2));
        world.run_until(3 * MINUTE, "admission", |world| world.state() == "running");
        world.crash_in = Some(crash_in);
        let until = world.now + 30 * MINUTE;
        let mut crashed = false;
        let ended = |world: &World| ["recovered", "needs_human"].contains(&world.state());
        while world.now < until {
            if world.machine.is_some() && world.crash_in != Some(0) {
                let state = world.state();
                // It breaks while the first level is verified, and is well again with the second.
                let undone = names(&world).contains(&"rollback");
                world.fleet.errors_anyway = if state == "verifying" && !undone { 0.5 } else { 0.0 };
                if ended(&world) {
                    break;
                }
            }
            if !world.next(until) {
                crashed = true;
                // The step goes on without anybody who hears of it.
                for step in std::mem::take(&mut world.steps) {
                    world.effect(&step);
                }
                world.restart();
            }
        }
        assert!(ended(&world), "crash in {crash_in}\n{}", world.story());
        let count = |name: &str| names(&world).into_iter().filter(|begun| *begun == name).count();
        // Its check says yes, so that it is never run again; of two tries the first failed.
        assert!(count("install") == 1 && count("back") <= 1 && count("rollback") <= 2, "{}", world.story());
        for record in &world.disk {
            if let Entry::Incident { event, .. } = &record.entry
                && let IncidentEvent::NeedsHuman { why, text } = &**event
            {
                // Only the step without a check may leave a doubt.
                assert_eq!(*why, WhyHuman::StepAmbiguous, "crash in {crash_in}\n{}", world.story());
                assert!(text.contains("(rollback)"), "crash in {crash_in}: {text}");
            }
        }
        if !crashed {
            break;
        }
        reached += 1;
    }
    assert!(reached > 20, "{reached}");
}
