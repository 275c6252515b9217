//! Checks: what proves a recovery, what stops a rollback, and whether the way back is there. The real machine in
//! virtual time.
//!
//! Length: a list of short scenarios that share their beginning.

mod support;

use std::sync::Arc;
use std::time::Duration;

use backstop::decide::event::{
    Ask, Autonomy, Check, CheckOutcome, Entry, IncidentEvent, NoticeKind as N, NoticeStatus, OnSilence, Proof, Running,
    Severity, WhyHuman,
};
use backstop::decide::rules::{
    Blocker, BlockerQuestion, BlockerUnknown, Question, Rules, ServiceRules, SeverityRules, Trigger, ValueKind,
};
use backstop::machine::input::{Answer, Command, Input, Refusal};
use backstop::promql::{Comparison, Expr};
use support::*;

fn check(name: &str) -> Check {
    let argv = vec![format!("/opt/{name}")];
    let ask = Ask::Command { argv, env: std::collections::BTreeMap::new(), inherit: Vec::new(), directory: None };
    Check { name: name.to_owned(), ask, timeout: secs(5) }
}

fn proof(name: &str, every: u64) -> Proof {
    Proof { check: check(name), every: secs(every), once: false }
}

fn failed(why: &str) -> CheckOutcome {
    CheckOutcome::Failed(why.to_owned())
}

fn unknown(why: &str) -> CheckOutcome {
    CheckOutcome::Unknown(why.to_owned())
}

fn blocker(name: &str) -> Blocker {
    Blocker {
        name: name.into(),
        says: Some("old code cannot read the new schema".into()),
        question: BlockerQuestion::Check { check: check(name), max_age: secs(30) },
    }
}

/// `r1` runs long enough to be the way back.
fn calm(world: &mut World) {
    world.run(6 * MINUTE);
    assert!(world.service().releases.iter().any(|release| release.name == "r1" && release.good), "{}", world.story());
    assert_eq!(world.state(), "none", "{}", world.story());
}

fn break_it(world: &mut World) {
    world.fleet.behaviours.insert("r2".to_owned(), Behaviour::BROKEN);
    world.fleet.deploy("r2", world.now);
}

/// `r2` is broken, and its rollback is being verified.
fn verifying(change: impl FnOnce(&mut ServiceRules), script: impl FnOnce(&mut World)) -> World {
    let mut world = world(change);
    script(&mut world);
    calm(&mut world);
    break_it(&mut world);
    world.run_until(3 * MINUTE, "verification", |world| world.state() == "verifying");
    world
}

fn sentence(world: &World) -> String {
    world.incidents().first().map(|incident| incident.sentence.clone()).unwrap_or_default()
}

fn asked(world: &World, name: &str) -> usize {
    world.checks_asked.iter().filter(|(_, order)| order.check.name == name).count()
}

/// How often the answer of a check was another than before, as the journal has it.
fn told(world: &World, name: &str) -> Vec<CheckOutcome> {
    let events = world.disk.iter().filter_map(|record| match &record.entry {
        Entry::Incident { event, .. } => match &**event {
            IncidentEvent::CheckAnswered { check, outcome, .. } if check == name => Some(outcome.clone()),
            _ => None,
        },
        _ => None,
    });
    events.collect()
}

fn needs(world: &World) -> Option<(WhyHuman, String)> {
    world.disk.iter().rev().find_map(|record| match &record.entry {
        Entry::Incident { event, .. } => match &**event {
            IncidentEvent::NeedsHuman { why, text } => Some((*why, text.clone())),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn checks_that_pass_prove_the_recovery_and_are_asked_again_and_again() {
    let mut world =
        verifying(|service| service.ladder[0].verify.checks = vec![proof("sign-in", 10), proof("rows", 10)], |_| {});
    world.run_until(2 * MINUTE, "the end", |world| world.state() == "recovered");
    let (sign_in, rows) = (asked(&world, "sign-in"), asked(&world, "rows"));
    assert!(sign_in >= 3 && sign_in == rows, "{sign_in} {rows}");
    let orders: Vec<_> = world.checks_asked.iter().map(|(_, order)| order).collect();
    assert!(orders.iter().all(|order| order.level == Some(0) && order.incident.is_some()));
    assert!(orders.iter().all(|order| order.target.as_ref().is_some_and(|target| &*target.0 == "r1")));
    assert_eq!(told(&world, "sign-in"), [CheckOutcome::Passed], "only news is written");
    world.run(5 * MINUTE);
    assert_eq!(asked(&world, "sign-in"), sign_in, "what is over is not asked about");
}

#[test]
fn a_check_that_fails_keeps_the_incident_from_recovering_and_climbs() {
    let mut world = verifying(
        |service| {
            service.ladder[0].verify.checks = vec![proof("sign-in", 10)];
            service.ladder.push(level("second", vec![step("second")]));
        },
        |world| {
            world.check_answers.insert("sign-in".to_owned(), failed("HTTP 500"));
        },
    );
    // Within its time a service that does not pass yet is only starting.
    world.run(50 * SECOND);
    assert_eq!(world.state(), "verifying", "{}", world.story());
    world.run_until(2 * MINUTE, "the next level", |world| world.steps_begun().len() == 2);
    let why = world.disk.iter().find_map(|record| match &record.entry {
        Entry::Incident { event, .. } => match &**event {
            IncidentEvent::LevelFailed { why, .. } => Some(why.clone()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(why.as_deref(), Some("still breached 1m after it; sign-in: HTTP 500"));
}

#[test]
fn a_check_that_passes_late_but_in_time_recovers() {
    let mut world = verifying(
        |service| service.ladder[0].verify.checks = vec![proof("sign-in", 10)],
        |world| {
            world.check_answers.insert("sign-in".to_owned(), failed("HTTP 503"));
        },
    );
    world.run(40 * SECOND);
    world.check_answers.clear();
    world.run_until(MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(told(&world, "sign-in"), [failed("HTTP 503"), CheckOutcome::Passed]);
}

#[test]
fn a_check_that_fails_during_the_soak_is_a_relapse() {
    let relapsed = |world: &World| {
        let is = |record: &backstop::decide::event::Record| matches!(&record.entry, Entry::Incident { event, .. } if matches!(**event, IncidentEvent::Relapsed));
        world.disk.iter().any(is)
    };
    let mut world = verifying(
        |service| {
            service.ladder[0].verify.within = secs(120);
            service.ladder[0].verify.soak = secs(60);
            service.ladder[0].verify.checks = vec![proof("sign-in", 10)];
        },
        |_| {},
    );
    world.run_until(2 * MINUTE, "clear", |world| !told(world, "sign-in").is_empty());
    world.run(35 * SECOND);
    world.check_answers.insert("sign-in".to_owned(), failed("HTTP 500"));
    world.run_until(MINUTE, "the relapse", relapsed);
    world.check_answers.clear();
    let again = world.now;
    world.run_until(3 * MINUTE, "the end", |world| world.state() == "recovered");
    assert!(world.now - again >= 60 * SECOND, "the soak begins anew");
}

#[test]
fn no_answer_is_neither_recovered_nor_not() {
    let mut world = verifying(
        |service| {
            service.ladder[0].verify.checks = vec![proof("sign-in", 10)];
            service.ladder.push(level("second", vec![step("second")]));
        },
        |world| {
            world.check_answers.insert("sign-in".to_owned(), unknown("connection refused"));
        },
    );
    world.run_until(5 * MINUTE, "a person", |world| world.state() == "needs_human");
    let (why, text) = needs(&world).expect("a person is called");
    assert_eq!(why, WhyHuman::Inconclusive);
    assert!(text.ends_with("; sign-in: connection refused"), "{text}");
    assert_eq!(world.steps_begun().len(), 1, "only a fresh breach climbs");
    world.run(5 * MINUTE);
    assert_eq!(world.state(), "needs_human", "quiet triggers alone do not end what a check could not prove");
    world.check_answers.clear();
    world.run_until(MINUTE, "the end", |world| world.state() == "cleared");
}

#[test]
fn an_answer_that_stops_coming_suspends_the_soak() {
    let mut world = verifying(
        |service| {
            service.ladder[0].verify.soak = secs(90);
            service.ladder[0].verify.checks = vec![proof("sign-in", 10)];
        },
        |_| {},
    );
    world.run_until(2 * MINUTE, "clear", |world| !told(world, "sign-in").is_empty());
    // The executor takes for ever; what was said before grows old.
    world.check_ms = 60 * MINUTE;
    world.run(2 * MINUTE);
    assert_eq!(world.state(), "verifying", "{}", world.story());
    world.run_until(5 * MINUTE, "a person", |world| world.state() == "needs_human");
}

#[test]
fn checks_speak_where_there_is_no_traffic_and_a_smoke_test_that_ran_once_does_not() {
    for (once, ends) in [(false, "recovered"), (true, "needs_human")] {
        let mut world = verifying(
            |service| {
                service.ladder[0].verify.checks = vec![Proof { once, ..proof("sign-in", 10) }];
            },
            |_| {},
        );
        world.fleet.rate = 0.0;
        world.run_until(5 * MINUTE, ends, |world| world.state() != "verifying");
        assert_eq!(world.state(), ends, "once = {once}\n{}", world.story());
    }
}

#[test]
fn a_smoke_test_that_passed_once_is_not_asked_again() {
    let mut world = verifying(
        |service| {
            service.ladder[0].verify.soak = secs(120);
            service.ladder[0].verify.checks = vec![Proof { once: true, ..proof("smoke", 10) }];
        },
        |world| {
            world.check_answers.insert("smoke".to_owned(), failed("exit status 1"));
        },
    );
    world.run(25 * SECOND);
    let before = asked(&world, "smoke");
    assert!(before >= 2, "until it passes it is asked again: {before}");
    world.check_answers.clear();
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(asked(&world, "smoke"), before + 1);
}

#[test]
fn one_question_of_a_check_is_under_way_at_a_time() {
    let mut world = verifying(
        |service| service.ladder[0].verify.checks = vec![proof("smoke", 1)],
        |world| world.check_ms = 4 * SECOND,
    );
    for _ in 0..100 {
        world.next(world.now + SECOND);
        assert!(world.checks.len() <= 1, "{} at once", world.checks.len());
    }
    assert!(asked(&world, "smoke") > 3);
}

#[test]
fn after_a_restart_in_the_middle_the_checks_are_asked_anew() {
    let mut world = verifying(
        |service| {
            service.ladder[0].verify.soak = secs(60);
            service.ladder[0].verify.checks = vec![Proof { once: true, ..proof("smoke", 10) }];
        },
        |_| {},
    );
    world.run_until(2 * MINUTE, "clear", |world| !told(world, "smoke").is_empty());
    world.run(20 * SECOND);
    let before = asked(&world, "smoke");
    world.check_answers.insert("smoke".to_owned(), failed("exit status 1"));
    world.restart();
    world.run(20 * SECOND);
    assert!(asked(&world, "smoke") > before);
    assert_eq!(world.state(), "verifying", "what it said before the restart counts no more\n{}", world.story());
    world.check_answers.clear();
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(world.steps_begun().len(), 1);
}

fn errors_above(limit: f64) -> Trigger {
    let Question::Value { expr, .. } = error_rate(0).question else { unreachable!("it is a ratio") };
    trigger("previous release: errors", ValueKind::Ratio, (*expr).clone(), Comparison::Above, limit, 0)
}

#[test]
fn recovered_may_ask_for_more_than_the_trigger_does() {
    let stricter = |service: &mut ServiceRules| {
        service.criteria = vec![errors_above(0.01)];
        service.ladder[0].verify.still_wrong = vec!["previous release: errors".to_owned()];
    };
    let mut strict = verifying(stricter, |_| {});
    // 5 % still fail: less than what fires, more than what is well.
    strict.fleet.errors_anyway = 0.05;
    strict.run_until(5 * MINUTE, "a person", |world| world.state() == "needs_human");
    assert_eq!(needs(&strict).map(|(why, _)| why), Some(WhyHuman::LadderExhausted), "{}", strict.story());
    let mut well = verifying(stricter, |_| {});
    well.run_until(3 * MINUTE, "the end", |world| world.state() == "recovered");
    let mut lax = verifying(|_| {}, |_| {});
    lax.fleet.errors_anyway = 0.05;
    lax.run_until(3 * MINUTE, "the end", |world| world.state() == "recovered");
}

#[test]
fn a_question_that_a_changed_file_took_away_is_inconclusive() {
    let mut world =
        verifying(|service| service.ladder[0].verify.still_wrong = vec!["previous release: errors".to_owned()], |_| {});
    world.run_until(5 * MINUTE, "a person", |world| world.state() == "needs_human");
    assert_eq!(needs(&world).map(|(why, _)| why), Some(WhyHuman::Inconclusive), "{}", world.story());
}

#[test]
fn what_serves_must_be_what_the_level_wanted() {
    let flag = |serves| {
        verifying(
            move |service| {
                service.ladder[0].steps[0].name = "flag".to_owned();
                service.ladder[0].verify.serves_target = serves;
            },
            |world| {
                world.scripts.insert("flag".to_owned(), Script::FlagOff);
            },
        )
    };
    let mut fooled = flag(false);
    fooled.run_until(3 * MINUTE, "the end", |world| world.state() == "recovered");
    let mut asked = flag(true);
    asked.run_until(5 * MINUTE, "a person", |world| world.state() == "needs_human");
    let (why, _) = needs(&asked).expect("a person is called");
    assert_eq!(why, WhyHuman::LadderExhausted);
    assert!(asked.story().contains("r1 does not serve alone"), "{}", asked.story());
    let mut real = verifying(|service| service.ladder[0].verify.serves_target = true, |_| {});
    real.run_until(3 * MINUTE, "the end", |world| world.state() == "recovered");
}

// ---- blockers

fn blocked(change: impl FnOnce(&mut ServiceRules), script: impl FnOnce(&mut World)) -> World {
    let mut world = world(change);
    script(&mut world);
    calm(&mut world);
    world
}

#[test]
fn a_blocker_that_holds_is_the_only_reason_and_calls_a_person() {
    let mut world = blocked(
        |service| service.guard.blockers = vec![blocker("schema")],
        |world| {
            world.check_answers.insert("schema".to_owned(), failed("exit status 1: 0042 drops a column"));
        },
    );
    assert_eq!(asked(&world, "schema"), 0, "while all is well nobody asks");
    break_it(&mut world);
    world.run_until(3 * MINUTE, "the escalation", |world| world.state() == "escalated");
    let says = "old code cannot read the new schema (blocker schema: exit status 1: 0042 drops a column)";
    assert_eq!(sentence(&world), says);
    world.run(5 * MINUTE);
    assert!(world.steps_begun().is_empty());
    assert_eq!(world.kinds(), [N::Escalated], "told once");
    // It does not hold any more: nothing else stands in the way.
    world.check_answers.clear();
    world.run_until(2 * MINUTE, "the end", |world| world.state() == "recovered");
}

#[test]
fn a_blocker_that_does_not_hold_costs_no_time() {
    let fires = |blockers: Vec<Blocker>| {
        let mut world = blocked(|service| service.guard.blockers = blockers, |world| world.check_ms = 4 * SECOND);
        break_it(&mut world);
        let from = world.now;
        world.run_until(3 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
        (world.now - from, world)
    };
    let (without, _) = fires(Vec::new());
    let (with, world) = fires(vec![blocker("schema")]);
    assert_eq!(with, without, "it is asked while the trigger is pending");
    assert!(!world.kinds().contains(&N::Held));
    let (_, order) = &world.checks_asked[0];
    let name = |release: &Option<backstop::decide::event::Release>| release.as_ref().map(ToString::to_string);
    assert_eq!((name(&order.bad), name(&order.target)), (Some("r2".to_owned()), Some("r1".to_owned())));
}

#[test]
fn a_blocker_without_an_answer_refuses() {
    let mut world = blocked(
        |service| service.guard.blockers = vec![blocker("schema")],
        |world| {
            world.check_answers.insert("schema".to_owned(), unknown("deadline of 5s"));
        },
    );
    break_it(&mut world);
    world.run_until(3 * MINUTE, "the escalation", |world| world.state() == "escalated");
    assert_eq!(sentence(&world), "the blocker schema cannot be ruled out: deadline of 5s");
    assert!(world.steps_begun().is_empty());
}

#[test]
fn an_answer_that_never_comes_refuses_within_a_bound() {
    let mut world =
        blocked(|service| service.guard.blockers = vec![blocker("schema")], |world| world.check_ms = 24 * 60 * MINUTE);
    break_it(&mut world);
    world.run_until(5 * MINUTE, "the escalation", |world| world.state() == "escalated");
    assert_eq!(sentence(&world), "the blocker schema cannot be ruled out: no answer came");
    assert!(world.steps_begun().is_empty());
}

#[test]
fn an_answer_that_is_too_old_is_asked_for_again_first() {
    let mut world = blocked(
        |service| {
            service.triggers = vec![error_rate(120)];
            service.guard.blockers = vec![blocker("schema")];
        },
        |_| {},
    );
    break_it(&mut world);
    world.run_until(3 * MINUTE, "the first answer", |world| asked(world, "schema") == 1);
    world.run(5 * SECOND);
    // The schema changes while the trigger is pending; what was said before must not count.
    world.check_answers.insert("schema".to_owned(), failed("exit status 1"));
    world.run_until(4 * MINUTE, "the escalation", |world| world.state() == "escalated");
    assert!(world.steps_begun().is_empty());
}

#[test]
fn after_a_restart_a_blocker_is_asked_anew() {
    let mut world = blocked(|service| service.guard.blockers = vec![blocker("schema")], |_| {});
    break_it(&mut world);
    world.run_until(3 * MINUTE, "an answer", |world| asked(world, "schema") == 1);
    world.run(5 * SECOND);
    world.checkpoint();
    world.check_answers.insert("schema".to_owned(), failed("exit status 1"));
    world.restart();
    world.run_until(4 * MINUTE, "the escalation", |world| world.state() == "escalated");
    assert!(world.steps_begun().is_empty(), "{}", world.story());
}

#[test]
fn a_raised_signal_blocks_until_it_is_cleared() {
    let mut rotated = blocker("secrets-rotated");
    rotated.question = BlockerQuestion::Signal("rotated".into());
    rotated.says = None;
    let mut world = blocked(|service| service.guard.blockers = vec![rotated], |_| {});
    let (service, signal) = ("api".to_owned(), "rotated".to_owned());
    let detail = "by vault at noon".to_owned();
    let raise = Command::RaiseSignal { service: service.clone(), signal: signal.clone(), ttl: secs(3600), detail };
    assert!(matches!(world.command(raise), Answer::Done { .. }));
    break_it(&mut world);
    world.run_until(3 * MINUTE, "the escalation", |world| world.state() == "escalated");
    assert_eq!(sentence(&world), "the blocker secrets-rotated holds: signal rotated is raised: by vault at noon");
    world.checkpoint();
    world.restart();
    world.run(MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("escalated", 0));
    assert!(matches!(
        world.command(Command::ClearSignal { service, signal, reason: String::new() }),
        Answer::Done { .. }
    ));
    world.run_until(2 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
}

#[test]
fn an_expression_blocks_and_so_does_one_that_cannot_be_answered() {
    use BlockerUnknown::{Allow, Block};
    let windows = |expr: &str, above: f64, on_unknown| {
        let expr = Expr::parse(expr).expect("an expression");
        let question = trigger("migrating", ValueKind::Expr, expr, Comparison::Above, above, 0);
        let mut blocker = blocker("migrating");
        blocker.question = BlockerQuestion::Windows { trigger: Box::new(question), on_unknown };
        blocker
    };
    let ends = |blocker: Blocker| {
        let mut world = blocked(|service| service.guard.blockers = vec![blocker], |_| {});
        break_it(&mut world);
        world.run_until(3 * MINUTE, "an answer", |world| {
            world.state() == "escalated" || !world.steps_begun().is_empty()
        });
        (world.steps_begun().len(), sentence(&world))
    };
    let (steps, why) = ends(windows("app_build_info", 0.5, Block));
    assert_eq!((steps, &*why), (0, "old code cannot read the new schema (blocker migrating: it is above 0.5)"));
    assert_eq!(ends(windows("app_build_info", 1.5, Block)).0, 1);
    let (steps, why) = ends(windows("nobody_exposes_this", 0.5, Block));
    assert_eq!(steps, 0);
    assert!(why.starts_with("the blocker migrating cannot be ruled out: nobody_exposes_this"), "{why}");
    assert_eq!(ends(windows("nobody_exposes_this", 0.5, Allow)).0, 1);
}

#[test]
fn a_blocker_stops_the_next_level_too() {
    let mut world = blocked(
        |service| {
            service.ladder.push(level("second", vec![step("second")]));
            service.guard.blockers = vec![blocker("schema")];
        },
        |world| {
            world.scripts.insert("rollback".to_owned(), Script::Nothing);
        },
    );
    break_it(&mut world);
    world.run_until(3 * MINUTE, "verification", |world| world.state() == "verifying");
    world.check_answers.insert("schema".to_owned(), failed("exit status 1"));
    world.run_until(4 * MINUTE, "a person", |world| world.state() == "needs_human");
    let (why, text) = needs(&world).expect("a person is called");
    assert_eq!(why, WhyHuman::Blocked);
    assert!(text.starts_with("no further level is begun: old code cannot read"), "{text}");
    assert_eq!(world.steps_begun().len(), 1);
    // A person who knows better goes on.
    let order = |overrides: &[&str]| Command::Rollback {
        service: "api".to_owned(),
        reason: "the column is empty".to_owned(),
        level: None,
        overrides: overrides.iter().map(|&name| name.to_owned()).collect(),
    };
    assert!(matches!(world.command(order(&[])), Answer::Refused(Refusal::Conflict(_))));
    assert!(matches!(world.command(order(&["schema"])), Answer::Done { .. }));
    world.run_until(MINUTE, "the second level", |world| world.steps_begun().len() == 2);
}

#[test]
fn what_was_overridden_for_the_next_level_by_hand_stays_so_for_the_levels_after_it() {
    let mut world = blocked(
        |service| {
            service.ladder.push(level("second", vec![step("second")]));
            service.ladder.push(level("third", vec![step("third")]));
            service.guard.blockers = vec![blocker("schema")];
        },
        |world| {
            for name in ["rollback", "second"] {
                world.scripts.insert(name.to_owned(), Script::Nothing);
            }
        },
    );
    break_it(&mut world);
    world.run_until(3 * MINUTE, "verification", |world| world.state() == "verifying");
    world.check_answers.insert("schema".to_owned(), failed("exit status 1"));
    world.run_until(4 * MINUTE, "a person", |world| world.state() == "needs_human");
    let overrides = vec!["schema".to_owned()];
    let order = Command::Rollback { service: "api".to_owned(), reason: String::new(), level: None, overrides };
    assert!(matches!(world.command(order), Answer::Done { .. }));
    world.run_until(MINUTE, "the second level", |world| world.state() == "verifying");
    world.restart();
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(world.steps_begun().len(), 3, "{}", world.story());
}

#[test]
fn by_hand_a_blocker_needs_its_override_by_name_and_the_record_has_it() {
    let mut world = blocked(
        |service| service.guard.blockers = vec![blocker("schema"), blocker("contract")],
        |world| {
            world.check_answers.insert("schema".to_owned(), failed("exit status 1"));
        },
    );
    world.fleet.deploy("r2", world.now);
    world.run(MINUTE);
    let order = |overrides: &[&str]| Command::Rollback {
        service: "api".to_owned(),
        reason: "drill".to_owned(),
        level: None,
        overrides: overrides.iter().map(|&name| name.to_owned()).collect(),
    };
    let refused = |answer: Answer| match answer {
        Answer::Refused(refusal) => refusal.to_string(),
        Answer::Done { message, .. } => panic!("{message}"),
    };
    let unknown = refused(world.command(order(&["shema"])));
    assert_eq!(unknown, "there is no blocker \"shema\" to override; there are: schema, contract");
    let waits = refused(world.command(order(&["schema"])));
    assert!(waits.contains("waiting for the answer of the blocker contract; it is being asked"), "{waits}");
    assert!(world.incidents().is_empty(), "what is refused leaves nothing behind");
    world.run(5 * SECOND);
    let holds = refused(world.command(order(&[])));
    assert!(holds.contains("old code cannot read the new schema (blocker schema: exit status 1)"), "{holds}");
    assert!(matches!(world.command(order(&["schema"])), Answer::Done { .. }));
    world.run_until(MINUTE, "the step", |world| world.steps_begun().len() == 1);
    let admitted = world.disk.iter().find_map(|record| match &record.entry {
        Entry::Incident { event, .. } => match &**event {
            IncidentEvent::Admitted { decision, .. } => Some(decision.clone()),
            _ => None,
        },
        _ => None,
    });
    let checks = admitted.expect("it was admitted").checks;
    assert!(checks.iter().any(|check| check.check == "override:schema" && check.allows), "{checks:?}");
    assert!(world.story().contains("drill (overrides schema)"), "{}", world.story());
}

#[test]
fn an_approval_does_not_lift_a_blocker() {
    let mut world = blocked(
        |service| {
            service.autonomy = Autonomy::Propose;
            service.guard.blockers = vec![blocker("schema")];
        },
        |_| {},
    );
    break_it(&mut world);
    world.run_until(3 * MINUTE, "the question", |world| world.state() == "proposed");
    world.check_answers.insert("schema".to_owned(), failed("exit status 1"));
    world.run(MINUTE);
    let incident = world.incidents().remove(0).id.to_string();
    let answer = world.command(Command::Approve { incident, reason: String::new() });
    assert!(matches!(&answer, Answer::Refused(_)), "{answer:?}");
    assert!(world.steps_begun().is_empty());
}

/// Nobody's answer approves after five minutes.
fn silent(service: &mut ServiceRules) {
    let rules = SeverityRules {
        autonomy: None,
        approvers: Vec::new(),
        respond_within: Some(secs(300)),
        on_silence: OnSilence::Approve,
    };
    service.severities.insert(Severity::High, rules);
}

/// Level 1 has not helped, and it asks whether to climb.
fn asking_to_climb() -> World {
    let mut world = blocked(
        |service| {
            silent(service);
            service.ladder.push(level("second", vec![step("second")]));
            service.ladder[1].autonomy = Some(Autonomy::Propose);
            service.guard.blockers = vec![blocker("schema")];
        },
        |world| {
            world.scripts.insert("rollback".to_owned(), Script::Nothing);
        },
    );
    break_it(&mut world);
    world.run_until(6 * MINUTE, "the question", |world| world.state() == "proposed");
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    world
}

#[test]
fn while_it_asks_whether_to_climb_the_blockers_are_asked_on() {
    let mut world = asking_to_climb();
    world.run(4 * MINUTE);
    assert_eq!(world.steps_begun().len(), 1);
    world.run_until(2 * MINUTE, "the second level", |world| world.steps_begun().len() == 2);

    let mut world = asking_to_climb();
    world.check_answers.insert("schema".to_owned(), failed("exit status 1"));
    world.run_until(7 * MINUTE, "a person", |world| world.state() == "needs_human");
    assert_eq!(needs(&world).map(|(why, _)| why), Some(WhyHuman::Blocked));
}

#[test]
fn a_climb_that_is_held_up_for_too_long_calls_a_person() {
    let mut world = asking_to_climb();
    let reason = "the database is being moved".to_owned();
    world.order(Command::KillSwitch { service: None, on: true, reason });
    world.run(6 * MINUTE);
    assert_eq!(world.state(), "proposed", "a short one only holds it up\n{}", world.story());
    world.run_until(30 * MINUTE, "a person", |world| world.state() == "needs_human");
    assert_eq!(needs(&world).map(|(why, _)| why), Some(WhyHuman::DeadlineReached));
    assert_eq!(world.steps_begun().len(), 1);
}

#[test]
fn a_reload_and_a_restart_leave_an_open_question_as_it_is() {
    let numbers = |world: &World| -> Vec<u32> {
        let events = world.disk.iter().filter_map(|record| match &record.entry {
            Entry::Incident { event, .. } => match &**event {
                IncidentEvent::Proposed { asked, .. } => asked.as_ref().map(|asked| asked.number),
                _ => None,
            },
            _ => None,
        });
        events.collect()
    };
    let mut world = blocked(
        |service| {
            service.autonomy = Autonomy::Propose;
            service.guard.blockers = vec![blocker("schema")];
        },
        |_| {},
    );
    break_it(&mut world);
    world.run_until(3 * MINUTE, "the question", |world| world.state() == "proposed");
    world.run(20 * SECOND);
    let asked_before = asked(&world, "schema");
    world.input(Input::Reload(Arc::clone(&world.rules)));
    world.run(20 * SECOND);
    assert!(asked(&world, "schema") > asked_before, "what may be another question is asked");
    assert_eq!((world.state(), numbers(&world)), ("proposed", vec![1]), "{}", world.story());
    world.checkpoint();
    world.restart();
    world.run(MINUTE);
    assert_eq!((world.state(), numbers(&world)), ("proposed", vec![1]), "{}", world.story());
    assert_eq!(world.kinds(), [N::ApprovalRequested]);
    // A blocker that holds is another matter.
    world.check_answers.insert("schema".to_owned(), failed("exit status 1"));
    world.run_until(MINUTE, "the escalation", |world| world.state() == "escalated");
}

#[test]
fn an_answer_that_is_awaited_when_silence_would_approve_is_waited_for() {
    let mut world = blocked(
        |service| {
            silent(service);
            // Not at an instant at which an answer is there.
            let policy = service.severities.get_mut(&Severity::High).expect("it was just made");
            policy.respond_within = Some(secs(310));
            service.autonomy = Autonomy::Propose;
            service.guard.blockers = vec![Blocker {
                question: BlockerQuestion::Check { check: check("schema"), max_age: secs(60) },
                ..blocker("schema")
            }];
        },
        |_| {},
    );
    break_it(&mut world);
    world.run_until(3 * MINUTE, "the question", |world| world.state() == "proposed");
    world.run(4 * MINUTE);
    world.check_ms = 59 * SECOND;
    world.run(72 * SECOND);
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0), "{}", world.story());
    world.run_until(2 * MINUTE, "the step", |world| world.steps_begun().len() == 1);
}

// ---- the way back

fn ready(service: &mut ServiceRules) {
    service.guard.ready = vec![check("image")];
    service.guard.ready_every = secs(60);
}

/// `r2` runs well, `r1` is the way back.
fn with_a_way_back(script: impl FnOnce(&mut World)) -> World {
    let mut world = blocked(ready, |_| {});
    assert_eq!(asked(&world, "image"), 0, "there is no way back yet");
    script(&mut world);
    world.fleet.deploy("r2", world.now);
    world.run(3 * MINUTE);
    world
}

#[test]
fn the_way_back_is_looked_at_while_all_is_well() {
    let mut world = with_a_way_back(|_| {});
    let looks = asked(&world, "image");
    assert!((2..=4).contains(&looks), "{looks}");
    let (_, order) = &world.checks_asked[0];
    assert_eq!(order.target.as_ref().map(|release| &*release.0), Some("r1"));
    assert_eq!(order.incident, None);
    let view = world.service().asked;
    assert_eq!((view.len(), &*view[0].name, view[0].standing), (1, "image", "free"));
    // Gone: told once, and once when it is back.
    world.check_answers.insert("image".to_owned(), failed("exit status 1: no image r1"));
    world.run(5 * MINUTE);
    assert_eq!(world.notices("oncall"), [(N::Degraded, false)]);
    assert_eq!(world.service().asked[0].standing, "holds");
    world.restart();
    world.run(5 * MINUTE);
    assert_eq!(world.kinds(), [N::Degraded], "a restart does not tell it again");
    world.check_answers.clear();
    world.run(2 * MINUTE);
    assert_eq!(world.kinds(), [N::Degraded, N::Degraded]);
    assert_eq!(world.service().asked[0].standing, "free");
    let resolved = world.seen.iter().filter_map(|seen| match seen {
        Seen::Delivered { notice, .. } => Some((notice.dedup_key.clone(), notice.text.clone())),
        _ => None,
    });
    let told: Vec<_> = resolved.collect();
    assert_eq!(told[0].0, told[1].0);
    assert_eq!(told[0].1, "api: r1 could not be gone back to: image: exit status 1: no image r1");
    assert_eq!(told[1].1, "api: r1 can be gone back to again: image");
}

/// A notice that the way back is gone is open.
fn told_that_the_way_back_is_gone() -> World {
    let mut world = with_a_way_back(|world| {
        world.check_answers.insert("image".to_owned(), failed("404"));
    });
    assert_eq!(degraded(&world), [("firing", "image".to_owned())], "{}", world.story());
    world.check_answers.clear();
    world
}

fn degraded(world: &World) -> Vec<(&'static str, String)> {
    let told = world.seen.iter().filter_map(|seen| match seen {
        Seen::Delivered { receiver, notice, .. } if receiver == "oncall" && notice.kind == N::Degraded => Some(notice),
        _ => None,
    });
    let status = |notice: &backstop::decide::event::Notice| match notice.status {
        NoticeStatus::Firing => "firing",
        NoticeStatus::Resolved => "resolved",
    };
    told.map(|notice| (status(notice), notice.dedup_key.rsplit('/').next().unwrap_or_default().to_owned())).collect()
}

#[test]
fn what_was_told_of_a_check_that_is_not_asked_any_more_is_resolved() {
    let without_check = |rules: &mut Rules| rules.services[0].guard.ready.clear();
    let without_service = |rules: &mut Rules| rules.services[0].name = "web".into();
    let changes: [&dyn Fn(&mut Rules); 2] = [&without_check, &without_service];
    for change in changes {
        for by_reload in [true, false] {
            let mut world = told_that_the_way_back_is_gone();
            let mut rules = (*world.rules).clone();
            change(&mut rules);
            world.rules = Arc::new(rules);
            if by_reload {
                world.input(Input::Reload(Arc::clone(&world.rules)));
            } else {
                world.restart();
            }
            world.run(10 * SECOND);
            let resolved = ("resolved", "image".to_owned());
            assert_eq!(degraded(&world), [("firing", "image".to_owned()), resolved], "{}", world.story());
            // Once is enough.
            world.restart();
            world.run(10 * SECOND);
            assert_eq!(degraded(&world).len(), 2);
        }
    }
}

#[test]
fn a_way_back_that_is_gone_is_not_rolled_back_to() {
    let mut world = with_a_way_back(|world| {
        world.check_answers.insert("image".to_owned(), failed("exit status 1: no image r1"));
    });
    world.fleet.behaviours.insert("r2".to_owned(), Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the escalation", |world| world.state() == "escalated");
    assert_eq!(sentence(&world), "r1 cannot be gone back to: image: exit status 1: no image r1");
    assert!(world.steps_begun().is_empty());
    // Somebody brings it back: it is looked at sooner than while all is well.
    world.check_answers.clear();
    world.run_until(45 * SECOND, "the step", |world| !world.steps_begun().is_empty());
}

#[test]
fn a_way_back_that_was_not_looked_at_is_looked_at_first() {
    let mut world = with_a_way_back(|_| {});
    world.fleet.behaviours.insert("r2".to_owned(), Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "pending", |world| {
        world.service().triggers.iter().any(|trigger| trigger.verdict == "pending")
    });
    world.run(20 * SECOND);
    world.checkpoint();
    // What was known is forgotten, and the answer takes longer than the hold.
    world.check_ms = 60 * SECOND;
    let from = world.now;
    world.restart();
    world.run_until(3 * MINUTE, "firing", |world| world.state() != "none");
    world.run(SECOND);
    assert!(world.now - from < 60 * SECOND && world.steps_begun().is_empty(), "not before the answer");
    world.run_until(2 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
    assert!(world.now - from >= 60 * SECOND);
    assert!(!world.kinds().contains(&N::Escalated), "{:?}", world.kinds());
}

#[test]
fn another_way_back_is_another_question() {
    let mut world = with_a_way_back(|_| {});
    world.check_answers.insert("image".to_owned(), failed("exit status 1"));
    let before = asked(&world, "image");
    world.fleet.deploy("r3", world.now);
    world.run(20 * SECOND);
    assert!(asked(&world, "image") > before, "the answer was about another release");
    assert_eq!(world.service().running, Running::One(backstop::decide::event::Release(Arc::from("r3"))));
}

#[test]
fn a_settled_machine_sleeps_between_its_questions() {
    let mut world = with_a_way_back(|_| {});
    let deadline = world.machine.as_ref().and_then(backstop::machine::Machine::next_deadline).expect("a deadline");
    assert!(deadline.as_millis() > world.now, "{} {}", deadline.as_millis(), world.now);
    let ticks = Duration::from_millis(u64::try_from(deadline.as_millis() - world.now).expect("later"));
    assert!(ticks <= secs(60));
    world.run(10 * MINUTE);
    assert_eq!(world.state(), "none");
}

#[test]
fn by_hand_the_way_back_is_the_one_of_today_and_not_of_an_incident_that_is_over() {
    let mut world = with_a_way_back(|_| {});
    let order = |world: &mut World| {
        let (service, reason) = ("api".to_owned(), "a customer calls".to_owned());
        world.command(Command::Rollback { service, reason, level: Some(0), overrides: Vec::new() })
    };
    assert!(matches!(order(&mut world), Answer::Done { .. }), "{}", world.story());
    world.run_until(5 * MINUTE, "the first rollback", |world| world.state() == "recovered");
    world.fleet.deploy("r3", world.now);
    world.run(8 * MINUTE);
    world.fleet.deploy("r2", world.now);
    world.run(2 * MINUTE);
    assert_eq!(world.service().way_back, Some("r3".to_owned()), "{}", world.story());
    let answer = order(&mut world);
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}\n{}", world.story());
    world.run_until(MINUTE, "the step", |world| world.steps_begun().len() == 2);
    assert_eq!(world.steps_begun()[1].target.as_ref().map(ToString::to_string), Some("r3".to_owned()));
}
