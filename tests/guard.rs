//! For every check of the guard a world in which it alone stops the action, and the same world without it, in which the
//! release is rolled back.
//!
//! Length: a list of short worlds.

mod support;

use std::sync::Arc;

use backstop::decide::event::{Autonomy, Gate, NoticeKind as N, OnFailure};
use backstop::decide::freeze::{Freeze, Span};
use backstop::decide::rules::{Budget, Heartbeat, Rules, ServiceRules, Trigger, ValueKind};
use backstop::machine::Machine;
use backstop::machine::input::{Answer, Command, Input, Observation, ProbeOutcome, Refusal, TargetKey, TargetKind};
use backstop::promql::{Comparison, Expr, Labels, TargetId};
use backstop::time::Timestamp;
use support::*;

fn world_of(change: impl Fn(&mut Rules)) -> World {
    let mut rules = rules(vec![service()]);
    change(&mut rules);
    World::new(rules, 1)
}

/// Long enough for `r1` to be a release to go back to.
fn calm(world: &mut World) {
    world.run(6 * MINUTE);
    assert!(world.service().releases.iter().any(|r| r.name == "r1" && r.good), "{}", world.story());
}

fn deploy(world: &mut World, release: &str, behaviour: Behaviour) {
    world.fleet.behaviours.insert(release.to_owned(), behaviour);
    world.fleet.deploy(release, world.now);
}

fn latest(world: &World) -> backstop::machine::snapshot::IncidentView {
    let api = world.incidents().into_iter().filter(|incident| &*incident.service == "api");
    api.max_by_key(|incident| incident.opened_wall).unwrap_or_else(|| panic!("no incident\n{}", world.story()))
}

/// The way back is still free when only this is not in the way.
fn is_rolled_back(mut world: World) {
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

/// With `spoil` the answer is `state` for this one reason, in this sentence; without it the release is rolled back.
fn alone(change: impl Fn(&mut Rules), spoil: impl Fn(&mut World), state: &str, code: &str, sentence: &str) -> World {
    let mut free = world_of(&change);
    calm(&mut free);
    is_rolled_back(free);
    let mut world = world_of(&change);
    calm(&mut world);
    spoil(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(90 * SECOND);
    stands(&world, state, code, sentence);
    world
}

fn stands(world: &World, state: &str, code: &str, sentence: &str) {
    let incident = latest(world);
    assert_eq!((incident.state, incident.reasons), (state, vec![code.to_owned()]), "{}", world.story());
    assert!(incident.sentence.contains(sentence), "{:?} says not {sentence:?}", incident.sentence);
    assert!(!incident.sentence.contains('\n'), "one line");
    assert!(world.steps_begun().is_empty(), "{}", world.story());
}

fn done(answer: &Answer) -> &str {
    match answer {
        Answer::Done { message, .. } => message,
        Answer::Refused(refusal) => panic!("{refusal}"),
    }
}

fn kill(world: &mut World, service: Option<&str>, on: bool) -> Answer {
    let service = service.map(str::to_owned);
    world.command(Command::KillSwitch { service, on, reason: "we are moving the database".to_owned() })
}

fn roll_back_by_hand(world: &mut World, overrides: &[&str]) -> Answer {
    let overrides = overrides.iter().map(|name| (*name).to_owned()).collect();
    world.command(Command::Rollback { service: "api".into(), reason: "checkout fails".into(), level: None, overrides })
}

type Change<'a> = &'a dyn Fn(&mut Rules);

// --- the kill switch

#[test]
fn the_kill_switch_alone_stops_it() {
    for of in [None, Some("api")] {
        let spoil = |world: &mut World| {
            done(&kill(world, of, true));
        };
        let sentence = "the kill switch is on: we are moving the database (ada, since ";
        let mut world = alone(|_| {}, spoil, "held", "kill_switch", sentence);
        world.run(60 * MINUTE);
        assert_eq!(world.fleet.symlink, "r2", "it has no end of its own");
        world.restart();
        world.run(10 * MINUTE);
        stands(&world, "held", "kill_switch", sentence);
        assert!(done(&kill(&mut world, of, false)).ends_with("is off"));
        world.run(SECOND);
        assert!(matches!(kill(&mut world, of, false), Answer::Refused(Refusal::Conflict(_))));
        let told: Vec<N> = world.kinds().into_iter().filter(|kind| matches!(kind, N::Paused | N::Resumed)).collect();
        assert_eq!(told, [N::Paused, N::Resumed]);
    }
}

#[test]
fn the_kill_file_alone_stops_it_while_it_is_there() {
    let file = |world: &mut World, says: Option<&str>| {
        world.input(Input::KillFile { path: "/state/KILL".into(), says: says.map(str::to_owned) });
        world.settle();
    };
    let spoil = |world: &mut World| file(world, Some("stop it"));
    let sentence = "the kill switch is on: stop it (/state/KILL, since ";
    let mut world = alone(|_| {}, spoil, "held", "kill_switch", sentence);
    world.checkpoint();
    world.restart();
    file(&mut world, Some("stop it"));
    world.run(10 * MINUTE);
    stands(&world, "held", "kill_switch", sentence);
    assert!(
        matches!(kill(&mut world, None, false), Answer::Refused(Refusal::Conflict(why)) if why.contains("remove it"))
    );
    file(&mut world, None);
    assert_eq!(world.snapshot().kill_switch, None);
    world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

/// A rollback of two steps, with the kill switch turned on while the first one runs.
fn killed_between_two_steps() -> World {
    let mut world = world_of(|rules| {
        rules.services[0].ladder[0].steps = vec![step("drain"), step("rollback")];
    });
    world.scripts.insert("drain".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "the first step", |world| world.steps_begun().len() == 1);
    done(&kill(&mut world, None, true));
    world.run(MINUTE);
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    assert!(world.seen.iter().any(|seen| matches!(seen, Seen::StepEnded { .. })), "what ran has ended");
    world
}

#[test]
fn the_kill_switch_is_asked_before_every_step() {
    let mut world = killed_between_two_steps();
    done(&kill(&mut world, None, false));
    world.run_until(4 * MINUTE, "the second step", |world| world.state() == "recovered");
    assert_eq!(world.steps_begun().len(), 2);
}

#[test]
fn the_kill_switch_holds_between_two_steps_over_a_restart() {
    let mut world = killed_between_two_steps();
    world.restart();
    world.run(MINUTE);
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    done(&kill(&mut world, None, false));
    world.run_until(4 * MINUTE, "the second step", |world| world.state() == "recovered");
}

#[test]
fn a_step_whose_intent_is_not_yet_durable_waits_for_the_kill_switch() {
    let mut world = world_of(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "pending", |world| world.service().triggers[0].held >= secs(25));
    world.disk_state = Disk::Stalls;
    world.run_until(MINUTE, "admitted", |world| !world.incidents().is_empty() && latest(world).state == "running");
    world.order(Command::KillSwitch { service: None, on: true, reason: "wait".to_owned() });
    world.disk_state = Disk::Writes;
    world.run(MINUTE);
    assert!(world.steps_begun().is_empty(), "{}", world.story());
    done(&kill(&mut world, None, false));
    world.run_until(4 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(world.steps_begun().len(), 1);
}

#[test]
fn a_step_that_was_intended_and_never_begun_is_begun_after_the_restart() {
    let mut world = world_of(|rules| {
        rules.services[0].ladder.push(level("second", vec![step("second")]));
        rules.services[0].ladder[0].deadline = Some(secs(30));
    });
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "pending", |world| world.service().triggers[0].held >= secs(25));
    world.disk_state = Disk::Stalls;
    world.run_until(MINUTE, "the intent", |world| !world.incidents().is_empty() && latest(world).state == "running");
    world.order(Command::KillSwitch { service: None, on: true, reason: "wait".to_owned() });
    world.settle();
    // Stopped while it waits for the disk and for the switch.
    world.input(Input::Draining);
    world.disk_state = Disk::Writes;
    world.run(SECOND);
    assert_eq!(
        (world.machine.as_ref().map(Machine::steps_running), world.steps_begun().len()),
        (Some(0), 0),
        "{}",
        world.story()
    );
    world.restart();
    world.run(MINUTE);
    assert_eq!((latest(&world).state, world.steps_begun().len()), ("running", 0), "{}", world.story());
    done(&kill(&mut world, None, false));
    world.run_until(4 * MINUTE, "the end", |world| world.state() == "recovered");
    let begun: Vec<_> = world.steps_begun().iter().map(|order| (order.attempt.level, order.attempt.attempt)).collect();
    assert_eq!(begun, [(0, 1)], "the first level has all its time: {}", world.story());
    assert!(!world.kinds().contains(&N::StepFailed), "{:?}", world.kinds());
}

#[test]
fn by_hand_the_kill_switch_must_be_named() {
    let mut world = world_of(|rules| {
        rules.services[0].ladder[0].steps = vec![step("drain"), step("rollback")];
    });
    world.scripts.insert("drain".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(MINUTE);
    done(&kill(&mut world, None, true));
    let refused = roll_back_by_hand(&mut world, &[]);
    assert!(
        matches!(&refused, Answer::Refused(why) if why.to_string().contains("the kill switch is on")),
        "{refused:?}"
    );
    assert!(matches!(roll_back_by_hand(&mut world, &["kill"]), Answer::Refused(Refusal::Invalid(_))));
    done(&roll_back_by_hand(&mut world, &["kill-switch"]));
    world.run_until(MINUTE, "the first step", |world| world.steps_begun().len() == 1);
    // The order passes over what was on then, over a restart too; not over what is turned on later.
    done(&kill(&mut world, Some("api"), true));
    world.run(30 * SECOND);
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    done(&kill(&mut world, Some("api"), false));
    world.run_until(4 * MINUTE, "the second step", |world| world.steps_begun().len() == 2);
}

#[test]
fn an_order_that_passed_over_the_kill_switch_does_so_for_its_own_rollback_only() {
    let mut world = world_of(|rules| {
        rules.services[0].ladder.insert(0, level("flag off", vec![step("flag")]));
    });
    world.scripts.insert("flag".to_owned(), Script::FlagOff);
    calm(&mut world);
    done(&kill(&mut world, None, true));
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the breach is held", |world| !world.incidents().is_empty());
    done(&roll_back_by_hand(&mut world, &["kill-switch"]));
    world.run_until(5 * MINUTE, "the flag helped", |world| latest(world).state == "recovered");
    assert_eq!(world.steps_begun().len(), 1);
    // It breaks again, and nobody has turned the switch off.
    world.fleet.flag_off = false;
    world.run(2 * MINUTE);
    world.restart();
    world.run(8 * MINUTE);
    let incident = latest(&world);
    assert_eq!((incident.state, incident.reasons), ("held", vec!["kill_switch".to_owned()]), "{}", world.story());
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
}

/// The first level has called a person, and the kill switch is on: what is ordered now is the second, of two steps.
fn stuck_and_killed() -> World {
    let mut world = world_of(|rules| {
        let mut flag = level("flag off", vec![step("flag")]);
        flag.steps[0].on_failure = OnFailure::Stop;
        rules.services[0].ladder.insert(0, flag);
        rules.services[0].ladder[1].steps = vec![step("drain"), step("rollback")];
    });
    world.scripts.insert("flag".to_owned(), Script::Fails);
    world.scripts.insert("drain".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "a person", |world| world.state() == "needs_human");
    done(&kill(&mut world, None, true));
    world
}

#[test]
fn the_next_level_by_hand_passes_over_the_kill_switch_that_is_named() {
    let mut world = stuck_and_killed();
    let refused = roll_back_by_hand(&mut world, &[]);
    assert!(
        matches!(&refused, Answer::Refused(why) if why.to_string().contains("the kill switch is on")),
        "{refused:?}"
    );
    done(&roll_back_by_hand(&mut world, &["kill-switch"]));
    world.run_until(MINUTE, "the second level", |world| world.steps_begun().len() == 2);
    // Over a restart too; but what is turned on later stops it.
    done(&kill(&mut world, Some("api"), true));
    world.run(10 * SECOND);
    world.restart();
    world.run(MINUTE);
    assert_eq!(world.steps_begun().len(), 2, "{}", world.story());
    done(&kill(&mut world, Some("api"), false));
    world.run_until(4 * MINUTE, "the end", |world| world.state() == "recovered");
    assert!(world.story().contains("level 2 (overrides kill-switch)"), "{}", world.story());
}

#[test]
fn an_order_that_passed_over_the_kill_switch_is_not_the_next_one() {
    let mut world = world_of(|rules| {
        rules.services[0].ladder.insert(0, level("flag off", vec![step("flag")]));
    });
    world.scripts.insert("flag".to_owned(), Script::FlagOff);
    calm(&mut world);
    done(&kill(&mut world, None, true));
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the breach is held", |world| !world.incidents().is_empty());
    done(&roll_back_by_hand(&mut world, &["kill-switch"]));
    world.run_until(5 * MINUTE, "the flag helped", |world| latest(world).state == "recovered");
    // Of the same release, and nobody says that the switch does not count.
    let refused = roll_back_by_hand(&mut world, &[]);
    assert!(
        matches!(&refused, Answer::Refused(why) if why.to_string().contains("the kill switch is on")),
        "{refused:?}"
    );
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
}

#[test]
fn a_step_that_waited_for_the_kill_switch_starts_when_it_is_durable_that_it_is_off() {
    let mut world = world_of(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "pending", |world| world.service().triggers[0].held >= secs(25));
    world.disk_state = Disk::Stalls;
    world.run_until(MINUTE, "admitted", |world| !world.incidents().is_empty() && latest(world).state == "running");
    world.order(Command::KillSwitch { service: None, on: true, reason: "wait".to_owned() });
    world.disk_state = Disk::Writes;
    world.run(MINUTE);
    world.disk_state = Disk::Stalls;
    world.order(Command::KillSwitch { service: None, on: false, reason: "done".to_owned() });
    world.run(20 * SECOND);
    assert!(world.steps_begun().is_empty(), "after a crash the switch would be on: {}", world.story());
    world.disk_state = Disk::Writes;
    world.run_until(4 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(world.steps_begun().len(), 1);
}

// --- tilt

#[test]
fn a_jump_of_the_wall_clock_alone_stops_it_for_a_while() {
    for (jump, sentence) in [(3_600_000, "jumped forward by 1h"), (-3_600_000, "jumped back by 1h")] {
        let mut world = world_of(|_| {});
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(4 * MINUTE, "pending", |world| world.service().triggers[0].held >= secs(25));
        world.wall_offset += jump;
        world.run(6 * SECOND);
        stands(&world, "held", "tilt", sentence);
        assert!(latest(&world).sentence.contains("backstop only watches until"));
        assert_eq!(world.snapshot().counters.tilts, 1);
        world.run_until(MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
        assert_eq!(world.snapshot().tilt, None);
    }
}

#[test]
fn a_clock_that_is_slewed_is_no_jump() {
    let mut world = world_of(|_| {});
    calm(&mut world);
    for _ in 0..60 {
        world.wall_offset += 500;
        world.run(5 * SECOND);
    }
    assert_eq!(world.snapshot().counters.tilts, 0);
    is_rolled_back(world);
}

#[test]
fn a_process_that_was_stopped_only_watches_at_first() {
    let mut world = world_of(|rules| rules.services[0].triggers = vec![signal("cve", Gate::None)]);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(MINUTE);
    let service = "api".to_owned();
    world.order(Command::Pause { service: None, duration: secs(30), reason: "so that something is due".to_owned() });
    world.settle();
    // SIGSTOP: the world goes on, nobody looks, and the pause should have ended long ago.
    world.now += MINUTE;
    let (signal, ttl) = ("cve".to_owned(), secs(3600));
    world.order(Command::RaiseSignal { service, signal, ttl, detail: String::new() });
    world.run(6 * SECOND);
    stands(&world, "held", "tilt", "backstop was stopped, or starved, for 1m");
    world.run_until(MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

// --- freeze

/// The world's wall clock begins on Monday, 2026-09-21, 14:13:20 UTC.
fn freeze(from: &str, to: &str) -> Freeze {
    let span = Span::Dates { from: from.parse().expect("a time"), to: to.parse().expect("a time") };
    Freeze { span, zone: jiff::tz::TimeZone::UTC, reason: "Christmas".to_owned() }
}

#[test]
fn a_freeze_alone_makes_it_a_proposal() {
    let on = |rules: &mut Rules| rules.services[0].guard.freeze = vec![freeze("2026-09-21T14:00", "2026-09-21T15:00")];
    let everywhere = |rules: &mut Rules| rules.freeze = vec![freeze("2026-09-21T14:00", "2026-09-21T15:00")];
    let over = |rules: &mut Rules| rules.freeze = vec![freeze("2026-09-21T14:00", "2026-09-21T14:15")];
    let frozen = |change: &dyn Fn(&mut Rules)| {
        let mut world = world_of(change);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run(90 * SECOND);
        world
    };
    let sentence = "a freeze is on until 2026-09-21T15:00:00.000Z: Christmas";
    stands(&frozen(&everywhere), "proposed", "freeze", sentence);
    let mut world = frozen(&on);
    stands(&world, "proposed", "freeze", sentence);
    let incident = latest(&world).id.to_string();
    done(&world.command(Command::Approve { incident, reason: "it must be".to_owned() }));
    world.run_until(4 * MINUTE, "approved", |world| world.state() == "recovered");
    assert_eq!(frozen(&over).fleet.symlink, "r1");
}

#[test]
fn a_freeze_that_begins_stops_the_next_level_until_it_ends() {
    let mut world = world_of(|rules| {
        let flag = level("flag off", vec![step("flag")]);
        rules.services[0].ladder.insert(0, flag);
        rules.services[0].guard.freeze = vec![freeze("2026-09-21T14:22", "2026-09-21T14:24")];
    });
    world.scripts.insert("flag".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "the freeze", |world| world.service().freeze.is_some());
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    world.run(100 * SECOND);
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    world.run_until(2 * MINUTE, "the second level", |world| world.steps_begun().len() == 2);
    assert_eq!(world.service().freeze, None);
}

// --- dependencies

fn with_postgres(rules: &mut Rules) {
    let mut postgres = ServiceRules { name: "postgres".into(), ..service() };
    postgres.autonomy = Autonomy::Observe;
    postgres.detectors = Vec::new();
    postgres.ladder = Vec::new();
    postgres.triggers = vec![signal("down", Gate::None), down()];
    rules.services.push(postgres);
    rules.services[0].guard.dependencies = vec!["postgres".into()];
}

fn postgres_signal(world: &mut World, raised: bool) {
    let (service, signal) = ("postgres".to_owned(), "down".to_owned());
    done(&world.command(if raised {
        Command::RaiseSignal { service, signal, ttl: secs(86_400), detail: String::new() }
    } else {
        Command::ClearSignal { service, signal, reason: String::new() }
    }));
}

#[test]
fn a_dependency_that_breaches_alone_stops_it() {
    let spoil = |world: &mut World| postgres_signal(world, true);
    let sentence =
        "what it depends on breaches too, so it may not be this release: postgres: down breaches since 2026-";
    let mut world = alone(with_postgres, spoil, "held", "dependency", sentence);
    postgres_signal(&mut world, false);
    world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

fn probe_postgres(world: &mut World, ok: bool) {
    look_at_postgres(world, if ok { UP } else { refused() }, 3600);
}

const UP: ProbeOutcome = ProbeOutcome::Up { status: None, release: None };

fn refused() -> ProbeOutcome {
    ProbeOutcome::Failed { status: None, why: "connection refused".into(), reached: true, release: None }
}

fn look_at_postgres(world: &mut World, outcome: ProbeOutcome, interval: u64) {
    let target = TargetId(900);
    let key = TargetKey {
        service: Some("postgres".into()),
        kind: TargetKind::Probe,
        source: "health".into(),
        address: "10.1.0.1:5432".into(),
    };
    let labels = Labels::from_pairs([("job", "health"), ("instance", "10.1.0.1:5432")]);
    let interval = secs(interval);
    world.input(Input::Observation(Observation::TargetUp { target, key, labels, interval }));
    let at = Timestamp::from_millis(world.now);
    world.input(Input::Observation(Observation::Probed { target, at, duration: secs(1), outcome }));
    world.settle();
}

#[test]
fn a_probe_of_a_dependency_that_fails_alone_stops_it() {
    let sentence = "postgres: the probe health fails: connection refused";
    let mut world = alone(with_postgres, |world| probe_postgres(world, false), "held", "dependency", sentence);
    probe_postgres(&mut world, true);
    world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

#[test]
fn a_dependency_outage_without_a_release_moves_nothing() {
    let mut world = world_of(with_postgres);
    calm(&mut world);
    postgres_signal(&mut world, true);
    world.fleet.errors_anyway = 0.9;
    world.run(2 * MINUTE);
    stands(&world, "held", "dependency", "postgres: down breaches since");
    postgres_signal(&mut world, false);
    world.run(MINUTE);
    let incident = latest(&world);
    assert_eq!(incident.state, "escalated", "now it is told to people, and still not acted on");
    assert!(incident.sentence.contains("no release change was seen, so none is to blame"), "{}", incident.sentence);
    assert!(world.steps_begun().is_empty());
}

/// `r2` is well, its database is not, and both are well again at the same time: what the windows still show is the
/// database's.
#[test]
fn what_an_outage_of_a_dependency_left_in_the_windows_is_no_proof() {
    for restarts in [false, true] {
        let mut world = world_of(with_postgres);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::GOOD);
        world.run(2 * MINUTE);
        probe_postgres(&mut world, false);
        world.fleet.errors_anyway = 0.9;
        world.run(2 * MINUTE);
        stands(&world, "held", "dependency", "postgres: the probe health fails");
        world.fleet.errors_anyway = 0.0;
        if restarts {
            world.checkpoint();
            world.crash(usize::MAX);
            world.restart();
        }
        probe_postgres(&mut world, true);
        world.run(10 * MINUTE);
        assert!(world.steps_begun().is_empty(), "{}", world.story());
        assert_eq!(latest(&world).state, "cleared");
    }
}

/// A first level that helps, with an undo, and a second one.
fn two_levels(rules: &mut Rules) {
    let mut flag = level("flag off", vec![step("flag")]);
    flag.undo = vec![step("flag on")];
    rules.services[0].ladder.insert(0, flag);
}

/// The first level has helped and is verified.
fn verifying(change: impl Fn(&mut Rules)) -> World {
    let mut world = world_of(|rules| {
        two_levels(rules);
        change(rules);
    });
    world.scripts.insert("flag".to_owned(), Script::FlagOff);
    world.scripts.insert("flag on".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "verification", |world| world.state() == "verifying");
    world
}

#[test]
fn an_outage_of_a_dependency_neither_undoes_what_helped_nor_begins_the_next_level() {
    let mut world = verifying(with_postgres);
    probe_postgres(&mut world, false);
    world.fleet.errors_anyway = 0.9;
    world.run(150 * SECOND);
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    assert_eq!(latest(&world).state, "verifying", "{}", world.story());
    // The dependency is well first, the service a moment later: its time counts from there.
    probe_postgres(&mut world, true);
    world.run(20 * SECOND);
    world.fleet.errors_anyway = 0.0;
    world.run_until(4 * MINUTE, "the end", |world| latest(world).state == "recovered");
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
}

#[test]
fn an_outage_that_lasts_until_the_deadline_calls_a_person_and_says_why() {
    let mut world = verifying(with_postgres);
    probe_postgres(&mut world, false);
    world.fleet.errors_anyway = 0.9;
    world.run_until(20 * MINUTE, "a person", |world| latest(world).state == "needs_human");
    let incident = latest(&world);
    assert!(incident.sentence.contains("postgres: the probe health fails"), "{}", incident.sentence);
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
}

#[test]
fn a_dependency_that_fails_before_the_next_level_holds_it() {
    let mut world = world_of(|rules| {
        two_levels(rules);
        with_postgres(rules);
    });
    // It changes nothing, and its step says so when the database has gone meanwhile.
    world.scripts.insert("flag".to_owned(), Script::Fails);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "the first step", |world| world.steps_begun().len() == 1);
    probe_postgres(&mut world, false);
    world.run(2 * MINUTE);
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    probe_postgres(&mut world, true);
    world.run_until(4 * MINUTE, "the second level", |world| world.fleet.symlink == "r1");
}

#[test]
fn while_backstop_is_cut_off_nothing_is_undone_and_no_further_level_begins() {
    for references in [vec!["example".into()], Vec::new()] {
        let mut world = verifying(|rules| rules.services[0].guard.references.clone_from(&references));
        let reference = |world: &mut World, up| {
            let at = Timestamp::from_millis(world.now);
            world.input(Input::Observation(Observation::Reference { name: "example".into(), at, up }));
        };
        reference(&mut world, true);
        world.run(SECOND);
        world.fleet.processes[0].cut_until = world.now + 100 * SECOND;
        for _ in 0..10 {
            reference(&mut world, false);
            world.run(10 * SECOND);
        }
        assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
        reference(&mut world, true);
        world.run_until(4 * MINUTE, "the end", |world| latest(world).state == "recovered");
        assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    }
}

/// `r2` is well, its database is not; then nothing can be seen of the database any more.
fn dependency_gone(restarts: bool, goes: impl Fn(&mut World)) -> World {
    let mut world = world_of(with_postgres);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(2 * MINUTE);
    world.fleet.errors_anyway = 0.9;
    for _ in 0..18 {
        look_at_postgres(&mut world, refused(), 5);
        world.run(5 * SECOND);
    }
    stands(&world, "held", "dependency", "what it depends on breaches too");
    world.checkpoint();
    goes(&mut world);
    if restarts {
        world.restart();
    }
    world.run(20 * MINUTE);
    stands(&world, "held", "dependency", "what it depends on breaches too");
    world
}

#[test]
fn a_dependency_that_breached_and_then_cannot_be_seen_is_still_down() {
    let gone = |world: &mut World| {
        let at = Timestamp::from_millis(world.now);
        world.input(Input::Observation(Observation::TargetGone { target: TargetId(900), at }));
    };
    let unsent = |world: &mut World| look_at_postgres(world, ProbeOutcome::Unsent("no route".to_owned()), 5);
    let ways: [&dyn Fn(&mut World); 3] = [&|_| {}, &gone, &unsent];
    for restarts in [false, true] {
        for goes in ways {
            let mut world = dependency_gone(restarts, goes);
            // Seen to be well, it is no reason any more, and nor is what the windows kept of it.
            world.fleet.errors_anyway = 0.0;
            for _ in 0..4 {
                look_at_postgres(&mut world, UP, 5);
                world.run(5 * SECOND);
            }
            world.run(5 * MINUTE);
            assert_eq!(latest(&world).state, "cleared", "{}", world.story());
            assert!(world.steps_begun().is_empty(), "{}", world.story());
        }
    }
}

#[test]
fn a_dependency_that_cannot_be_seen_holds_for_an_hour_at_most() {
    let mut world = dependency_gone(false, |_| {});
    world.run(50 * MINUTE);
    assert_ne!(latest(&world).reasons, ["dependency"], "{}", world.story());
}

// --- a service that leaves the configuration

fn reload(world: &mut World, change: impl Fn(&mut Rules)) {
    let mut rules = (*world.rules).clone();
    change(&mut rules);
    world.rules = Arc::new(rules);
    world.input(Input::Reload(Arc::clone(&world.rules)));
    world.settle();
}

/// `api` asks a person (or is held by a pause), and leaves the configuration.
fn waits_and_is_removed(change: impl Fn(&mut Rules), paused: bool, restarts: bool) -> World {
    let mut world = world_of(|rules| {
        with_postgres(rules);
        rules.services[0].guard.dependencies.clear();
        change(rules);
    });
    calm(&mut world);
    if paused {
        let reason = "a load test".to_owned();
        done(&world.command(Command::Pause { service: Some("api".into()), duration: secs(600), reason }));
    }
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "it waits", |world| {
        world.incidents().iter().any(|incident| ["held", "proposed"].contains(&incident.state))
    });
    let api = world.rules.services[0].clone();
    if restarts {
        world.crash(usize::MAX);
        let mut rules = (*world.rules).clone();
        rules.services.remove(0);
        world.rules = Arc::new(rules);
        world.restart();
    } else {
        reload(&mut world, |rules| drop(rules.services.remove(0)));
    }
    world.run(30 * SECOND);
    let incident = latest(&world);
    assert_eq!((incident.state, incident.open), ("superseded", false), "{}", world.story());
    assert!(world.kinds().contains(&N::Superseded), "{:?}", world.kinds());
    let said = world.seen.iter().any(
        |seen| matches!(seen, Seen::Delivered { notice, .. } if notice.text.contains("api is not configured any more")),
    );
    assert!(said, "{}", world.story());
    world.run(20 * MINUTE);
    assert!(world.steps_begun().is_empty(), "nobody asked for it any more\n{}", world.story());
    world.rules.services.iter().for_each(|service| assert_ne!(service.name, api.name));
    world
}

#[test]
fn what_waits_of_a_service_that_leaves_the_configuration_is_over() {
    for restarts in [false, true] {
        waits_and_is_removed(|_| {}, true, restarts);
        waits_and_is_removed(|rules| rules.services[0].autonomy = Autonomy::Propose, false, restarts);
    }
}

#[test]
fn a_service_that_comes_back_into_the_configuration_is_judged_anew() {
    let mut world = world_of(|rules| {
        with_postgres(rules);
        rules.services[0].guard.dependencies.clear();
    });
    calm(&mut world);
    let reason = "a load test".to_owned();
    done(&world.command(Command::Pause { service: Some("api".into()), duration: secs(120), reason }));
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "it waits", |world| !world.incidents().is_empty());
    let api = world.rules.services[0].clone();
    reload(&mut world, |rules| drop(rules.services.remove(0)));
    world.run(SECOND);
    assert_eq!(latest(&world).state, "superseded", "{}", world.story());
    reload(&mut world, |rules| rules.services.insert(0, api.clone()));
    world.run_until(5 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

/// Nothing of it is seen any more: that is no outage, whose end could be waited for.
#[test]
fn what_is_verified_of_a_service_that_leaves_the_configuration_is_a_persons_when_its_time_is_up() {
    for (dependency_up, references) in [(true, Vec::new()), (false, vec!["example".into()])] {
        let mut world = verifying(|rules| {
            with_postgres(rules);
            rules.services[0].guard.references.clone_from(&references);
        });
        probe_postgres(&mut world, dependency_up);
        world.run(SECOND);
        let verify = world.rules.services[0].ladder[0].verify.clone();
        reload(&mut world, |rules| drop(rules.services.remove(0)));
        world.run(i64::try_from((verify.within + verify.soak).as_millis()).expect("a short time") + 30 * SECOND);
        let incident = latest(&world);
        assert_eq!(incident.state, "needs_human", "{}", world.story());
        assert!(!incident.sentence.contains("nothing further was begun"), "{}", incident.sentence);
        assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    }
}

// --- what was wrong already

/// `r1` was good; `r2` has failed one request in five for a while, and not since it came, when the next one comes.
fn burning() -> World {
    let mut world = world_of(|rules| rules.services[0].guard.release_window = secs(120));
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(5 * MINUTE);
    world.fleet.errors_anyway = 0.2;
    world.run(5 * MINUTE);
    stands(&world, "escalated", "not_after_release", "after r2 came");
    world
}

#[test]
fn a_service_that_burned_before_is_not_rolled_back_when_its_release_changes_nothing() {
    let mut world = burning();
    deploy(&mut world, "r3", Behaviour { errors: 0.3, crashes: false });
    world.run(5 * MINUTE);
    stands(&world, "escalated", "before_release", "not 2 times as bad since)");
    assert!(latest(&world).sentence.contains("it was wrong before r3 came, since "), "{}", latest(&world).sentence);
    assert!(latest(&world).release_bad.as_deref() == Some("r3"));
}

/// Every release shows its errors under a label of its own.
fn by_version(rules: &mut Rules) {
    let expr = Expr::parse("app_errors").expect("an expression");
    rules.services[0].triggers = vec![trigger("errors", ValueKind::Expr, expr, Comparison::Above, 0.15, 30)];
    rules.services[0].guard.release_window = secs(120);
}

#[test]
fn a_service_that_burned_before_is_not_rolled_back_because_its_release_has_another_label() {
    for (boot_ms, restarts) in [(0, false), (2 * SECOND, false), (20 * SECOND, false), (0, true)] {
        let mut world = world_of(by_version);
        world.fleet.boot_ms = boot_ms;
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::GOOD);
        world.run(5 * MINUTE);
        world.fleet.errors_anyway = 0.2;
        world.run(5 * MINUTE);
        stands(&world, "escalated", "not_after_release", "after r2 came");
        deploy(&mut world, "r3", Behaviour { errors: 0.2, crashes: false });
        if restarts {
            world.run(10 * SECOND);
            world.checkpoint();
            world.restart();
        }
        world.run(5 * MINUTE);
        stands(&world, "escalated", "before_release", "it was wrong before r3 came");
        assert!(latest(&world).release_bad.as_deref() == Some("r3"));
        // Its own label was clear since: what comes now is its own.
        world.fleet.errors_anyway = 0.0;
        deploy(&mut world, "r4", Behaviour::GOOD);
        world.run(MINUTE);
        deploy(&mut world, "r5", Behaviour::BROKEN);
        world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
    }
}

#[test]
fn a_service_that_burned_before_and_is_made_clearly_worse_is_rolled_back() {
    let mut world = burning();
    deploy(&mut world, "r3", Behaviour { errors: 0.7, crashes: false });
    world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
    let story = world.story();
    let sentence = "it was wrong before r3 came (0.2), and has been at least 2 times as bad since (0.";
    assert!(world.disk.iter().any(|record| format!("{record:?}").contains(sentence)), "{story}");
}

#[test]
fn the_factor_is_the_operators() {
    let mut world = burning();
    let mut rules = (*world.rules).clone();
    rules.services[0].guard.worsened_by = 4.0;
    world.input(Input::Reload(Arc::new(rules)));
    deploy(&mut world, "r3", Behaviour { errors: 0.7, crashes: false });
    world.run(5 * MINUTE);
    stands(&world, "escalated", "before_release", "not 4 times as bad since)");
}

#[test]
fn the_baseline_survives_a_restart() {
    let mut world = burning();
    deploy(&mut world, "r3", Behaviour { errors: 0.7, crashes: false });
    world.run(25 * SECOND);
    world.checkpoint();
    world.restart();
    world.run_until(6 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

#[test]
fn a_baseline_that_is_lost_is_not_invented() {
    let mut world = burning();
    deploy(&mut world, "r3", Behaviour { errors: 0.7, crashes: false });
    world.run(25 * SECOND);
    world.checkpoints.clear();
    world.restart();
    world.run(10 * MINUTE);
    stands(&world, "escalated", "never_clear", "it was not seen to be right just before r3 came");
}

#[test]
fn what_could_not_be_seen_when_a_release_came_is_not_blamed_on_it() {
    let mut world = world_of(|rules| rules.services[0].triggers = vec![error_rate(30)]);
    calm(&mut world);
    world.fleet.processes[0].gap_until = world.now + 8 * MINUTE;
    world.run(MINUTE);
    world.fleet.errors_anyway = 0.5;
    world.run(6 * MINUTE);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(4 * MINUTE);
    stands(&world, "escalated", "never_clear", "it was not seen to be right just before r2 came");
}

#[test]
fn a_fix_of_a_service_that_burns_is_never_blocked() {
    let mut world = burning();
    world.fleet.errors_anyway = 0.0;
    deploy(&mut world, "r3", Behaviour::GOOD);
    world.run(10 * MINUTE);
    assert_eq!(world.steps_begun().len(), 0, "{}", world.story());
    assert!(world.incidents().iter().all(|incident| !incident.open), "{}", world.story());
}

// --- a release that was rolled back and comes back

#[test]
fn a_release_that_was_rolled_back_and_reappears_is_told_and_left_alone() {
    for restart in [false, true] {
        let mut world = world_of(|_| {});
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(4 * MINUTE, "the end", |world| world.state() == "recovered");
        world.run(20 * MINUTE);
        world.checkpoint();
        if restart {
            // It comes back while nobody looks.
            world.crash(usize::MAX);
            world.now += MINUTE;
            world.fleet.deploy("r2", world.now);
            world.start();
        } else {
            world.fleet.deploy("r2", world.now);
        }
        world.run(30 * MINUTE);
        assert_eq!(world.steps_begun().len(), 1, "restart {restart}\n{}", world.story());
        let told = world.kinds().iter().filter(|kind| **kind == N::ReleaseReappeared).count();
        assert_eq!(told, 1, "restart {restart}: {:?}", world.kinds());
        let incident = latest(&world);
        assert_eq!(incident.state, "escalated", "restart {restart}");
        assert!(incident.sentence.contains("r2 was rolled back before and has come back"), "{}", incident.sentence);
        world.restart();
        world.run(30 * MINUTE);
        assert_eq!(world.steps_begun().len(), 1);
        assert_eq!(world.kinds().iter().filter(|kind| **kind == N::ReleaseReappeared).count(), 1, "told once");
    }
}

// --- the other checks

#[test]
fn the_journal_alone_stops_it() {
    let mut world = world_of(|_| {});
    calm(&mut world);
    world.disk_state = Disk::Fails;
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(2 * MINUTE);
    stands(&world, "held", "journal_failing", "the journal cannot be written (no space left)");
    world.disk_state = Disk::Writes;
    world.input(Input::JournalBack);
    world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

#[test]
fn a_pause_alone_stops_it() {
    let spoil = |world: &mut World| {
        done(&world.command(Command::Pause { service: None, duration: secs(600), reason: "a load test".to_owned() }));
    };
    let mut world = alone(|_| {}, spoil, "held", "paused", ": a load test");
    world.run_until(10 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

#[test]
fn the_share_of_services_that_breach_alone_makes_it_a_proposal() {
    let change = |rules: &mut Rules| {
        with_postgres(rules);
        rules.services[0].guard.dependencies.clear();
        rules.breaching_share_max = Some(0.5);
    };
    let sentence = "100 % of all services breach at once, so it is not this release";
    alone(change, |world| postgres_signal(world, true), "proposed", "share", sentence);
}

/// Beside `api` this many services with a signal each, which must be raised for `hold`.
fn others(count: usize, hold: u64) -> impl Fn(&mut Rules) {
    move |rules: &mut Rules| {
        for number in 1..=count {
            with_postgres(rules);
            let other = rules.services.last_mut().expect("it was pushed");
            other.name = format!("other-{number}").into();
            other.triggers = vec![Trigger { hold: secs(hold), ..signal("down", Gate::None) }];
        }
        rules.services[0].guard.dependencies.clear();
        rules.breaching_share_max = Some(0.5);
    }
}

fn other_signal(world: &mut World, number: usize, raised: bool) {
    let (service, signal) = (format!("other-{number}"), "down".to_owned());
    done(&world.command(if raised {
        Command::RaiseSignal { service, signal, ttl: secs(86_400), detail: String::new() }
    } else {
        Command::ClearSignal { service, signal, reason: String::new() }
    }));
}

#[test]
fn the_first_service_whose_hold_is_full_in_an_outage_of_all_is_not_alone() {
    let sentence = "100 % of all services breach at once, so it is not this release";
    alone(others(1, 600), |world| other_signal(world, 1, true), "proposed", "share", sentence);
}

#[test]
fn what_the_windows_still_show_when_an_outage_of_all_ends_is_no_proof() {
    for restarts in [false, true] {
        let mut world = world_of(others(3, 0));
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::GOOD);
        world.run(2 * MINUTE);
        (1..=3).for_each(|number| other_signal(&mut world, number, true));
        world.fleet.errors_anyway = 0.9;
        world.run(2 * MINUTE);
        stands(&world, "proposed", "share", "100 % of all services breach at once");
        // All is well again, but the windows of two do not show it yet.
        world.fleet.errors_anyway = 0.0;
        if restarts {
            world.checkpoint();
            world.restart();
        }
        other_signal(&mut world, 1, false);
        other_signal(&mut world, 2, false);
        world.run(10 * MINUTE);
        assert!(world.steps_begun().is_empty(), "{}", world.story());
        assert_eq!(latest(&world).state, "cleared", "{}", world.story());
    }
}

/// To cease to be known is not to be well: that would start the windows of all anew, again and again.
#[test]
fn an_outage_of_all_is_not_over_because_one_of_them_cannot_be_seen() {
    let mut world = world_of(|rules| {
        with_postgres(rules);
        rules.services[0].guard.dependencies.clear();
        rules.breaching_share_max = Some(0.5);
    });
    calm(&mut world);
    let look = |world: &mut World, outcome: &ProbeOutcome, times: usize| {
        for _ in 0..times {
            look_at_postgres(world, outcome.clone(), 5);
            world.run(5 * SECOND);
        }
    };
    look(&mut world, &UP, 3);
    world.fleet.errors_anyway = 0.9;
    look(&mut world, &refused(), 12);
    assert_eq!(world.service().triggers[0].finding, "breached", "{}", world.story());
    for _ in 0..12 {
        look(&mut world, &ProbeOutcome::Unsent("too many open files".to_owned()), 1);
        assert_eq!(world.service().triggers[0].finding, "breached", "{}", world.story());
    }
}

#[test]
fn autonomy_alone_makes_it_a_proposal() {
    let mut world = world_of(|rules| rules.services[0].autonomy = Autonomy::Propose);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(90 * SECOND);
    stands(&world, "proposed", "autonomy", "a person decides");
}

#[test]
fn no_way_back_alone_calls_a_person() {
    let mut world = world_of(|_| {});
    world.run(2 * MINUTE);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(90 * SECOND);
    stands(&world, "escalated", "no_way_back", "no earlier release is known to be good");
}

#[test]
fn a_breach_long_after_the_release_alone_calls_a_person() {
    for (window, late) in [(600, false), (60, true)] {
        let mut world = world_of(|rules| rules.services[0].guard.release_window = secs(window));
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::GOOD);
        world.run(3 * MINUTE);
        world.fleet.behaviours.insert("r2".to_owned(), Behaviour::BROKEN);
        if late {
            world.run(90 * SECOND);
            stands(&world, "escalated", "not_after_release", "after r2 came, which is more than 1m");
        } else {
            world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
        }
    }
}

#[test]
fn a_return_to_an_earlier_release_alone_calls_a_person() {
    let mut world = world_of(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(6 * MINUTE);
    deploy(&mut world, "r1", Behaviour::BROKEN);
    world.run(2 * MINUTE);
    stands(&world, "escalated", "returned_release", "r1 is a return to a release seen before");
}

#[test]
fn a_release_that_cannot_be_read_alone_makes_it_a_proposal() {
    let mut world = world_of(|rules| rules.services[0].detectors = vec![symlink()]);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(20 * SECOND);
    world.fleet.symlink_readable = false;
    world.run(2 * MINUTE);
    stands(&world, "proposed", "release_unknown", "what runs is not known: symlink current: gone");
}

#[test]
fn cooldown_and_budget_alone_make_it_a_proposal() {
    let many = |rules: &mut Rules| rules.services[0].guard.cooldown = secs(1);
    let budget = |rules: &mut Rules| {
        many(rules);
        rules.services[0].guard.budget = Some(Budget { rollbacks: 1, window: secs(86_400) });
    };
    let daemons = |rules: &mut Rules| {
        many(rules);
        rules.budget = Some(Budget { rollbacks: 1, window: secs(86_400) });
    };
    let cases: [(Change, Option<(&str, &str)>); 4] = [
        (&many, None),
        (&|_| {}, Some(("cooldown", "the last incident is too near; cooldown until 2026-"))),
        (&budget, Some(("budget", "the service's budget of 1 rollbacks in 1day is used up"))),
        (&daemons, Some(("budget", "the daemon's budget of 1 rollbacks in 1day is used up"))),
    ];
    for (change, expected) in cases {
        let mut world = world_of(change);
        calm(&mut world);
        is_rolled_back_once(&mut world);
        deploy(&mut world, "r3", Behaviour::BROKEN);
        world.run(90 * SECOND);
        let incident = latest(&world);
        match expected {
            None => assert_eq!(world.fleet.symlink, "r1", "{}", world.story()),
            Some((code, sentence)) => {
                assert_eq!((incident.state, incident.reasons), ("proposed", vec![code.to_owned()]));
                assert!(incident.sentence.contains(sentence), "{}", incident.sentence);
                assert_eq!(world.steps_begun().len(), 1);
            }
        }
    }
}

fn is_rolled_back_once(world: &mut World) {
    deploy(world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "the end", |world| world.state() == "recovered");
    world.run(10 * MINUTE);
}

#[test]
fn being_cut_off_alone_stops_it_and_a_reference_that_answers_shows_that_the_service_is_down() {
    for (up_then, up_now, expected) in [
        (true, false, Some(("cut_off", "nor any of 1 references that did: backstop itself is cut off"))),
        (false, false, Some(("no_reference", "no reference answers that could tell whether backstop is cut off"))),
        (true, true, None),
    ] {
        let mut world = world_of(|rules| rules.services[0].guard.references = vec!["example".into()]);
        let reference = |world: &mut World, up| {
            let at = Timestamp::from_millis(world.now);
            world.input(Input::Observation(Observation::Reference { name: "example".into(), at, up }));
        };
        calm(&mut world);
        reference(&mut world, up_then);
        deploy(&mut world, "r2", Behaviour::GOOD);
        world.run(30 * SECOND);
        world.fleet.processes[0].cut_until = world.now + 10 * MINUTE;
        world.fleet.processes[0].release = "r2".to_owned();
        for _ in 0..9 {
            world.run(10 * SECOND);
            reference(&mut world, up_now);
        }
        match expected {
            Some((code, sentence)) => stands(&world, "held", code, sentence),
            None => assert!(!world.steps_begun().is_empty(), "{}", world.story()),
        }
    }
}

// --- what is no reason to roll back

fn nothing_happens(mut world: World, minutes: i64) -> World {
    world.run(minutes * MINUTE);
    assert!(world.steps_begun().is_empty(), "{}", world.story());
    assert!(world.incidents().is_empty(), "{}", world.story());
    world
}

fn with_a_good_release() -> World {
    let mut world = world_of(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(MINUTE);
    world
}

#[test]
fn a_scrape_gap_is_no_reason() {
    let mut world = with_a_good_release();
    world.fleet.processes[0].gap_until = world.now + 3 * MINUTE;
    world.run(2 * MINUTE);
    let trigger = world.service().triggers.remove(0);
    assert_eq!((trigger.verdict, trigger.finding), ("blind", "unknown"));
    assert!(trigger.sentence.contains("only 0 of 1 targets"), "{}", trigger.sentence);
    let world = nothing_happens(world, 5);
    assert_eq!(world.service().triggers[0].verdict, "quiet", "{}", world.story());
    assert_eq!(world.kinds(), [N::Blind, N::Unblind]);
}

#[test]
fn one_error_at_low_traffic_is_no_reason() {
    let mut world = with_a_good_release();
    world.fleet.rate = 0.1;
    world.run(3 * MINUTE);
    world.fleet.errors_anyway = 0.5;
    world.run(20 * SECOND);
    world.fleet.errors_anyway = 0.0;
    let trigger = world.service().triggers.remove(0);
    assert_eq!(trigger.finding, "unknown", "{}", world.story());
    assert!(trigger.sentence.ends_with("events, 20 are needed"), "{}", trigger.sentence);
    nothing_happens(world, 10);
}

#[test]
fn traffic_that_stops_is_no_reason() {
    let mut world = with_a_good_release();
    world.fleet.rate = 0.0;
    world.run(3 * MINUTE);
    let trigger = world.service().triggers.remove(0);
    assert_eq!(trigger.finding, "unknown");
    assert_eq!(trigger.sentence, "0 events, 20 are needed");
    nothing_happens(world, 20);
}

#[test]
fn counters_that_start_anew_are_no_reason() {
    let mut world = with_a_good_release();
    for _ in 0..5 {
        world.fleet.restart(0, "r2", world.now);
        world.run(MINUTE);
    }
    nothing_happens(world, 5);
}

// --- the heartbeat

#[test]
fn a_heartbeat_says_what_limits_it_and_none_comes_from_one_that_sees_nothing() {
    let beats = |world: &World| {
        let texts = world.seen.iter().filter_map(|seen| match seen {
            Seen::Delivered { notice, .. } if notice.kind == N::Heartbeat => Some(notice.text.clone()),
            Seen::Delivered { .. } | Seen::StepBegan { .. } | Seen::StepEnded { .. } | Seen::Crashed { .. } => None,
        });
        texts.collect::<Vec<String>>()
    };
    let mut world = world_of(|rules| {
        rules.heartbeat = Some(Heartbeat { every: secs(60), receivers: vec!["oncall".into()] });
        rules.services[0].triggers.truncate(1);
    });
    calm(&mut world);
    let before = beats(&world);
    assert_eq!((before.len(), before.last().map(String::as_str)), (6, Some("backstop is alive")));
    done(&kill(&mut world, None, true));
    world.run(90 * SECOND);
    let limited = "backstop is alive, but the kill switch is on: we are moving the database";
    assert_eq!(beats(&world).last().map(String::as_str), Some(limited));
    world.fleet.processes[0].gap_until = world.now + 10 * MINUTE;
    world.run(MINUTE);
    let blind = beats(&world).len();
    world.run(8 * MINUTE);
    assert_eq!(beats(&world).len(), blind, "it is alive, and sees nothing of the service");
    world.run(3 * MINUTE);
    assert!(beats(&world).len() > blind, "it sees again");
    done(&kill(&mut world, None, false));
    world.fleet.buckets = &["2.5", "+Inf"];
    let mut rules = (*world.rules).clone();
    rules.services[0].triggers.push(slow(5.0));
    world.rules = Arc::new(rules);
    world.input(Input::Reload(Arc::clone(&world.rules)));
    world.run(2 * MINUTE);
    let limited = "backstop is alive, but api: slow can never fire";
    assert_eq!(beats(&world).last().map(String::as_str), Some(limited));
}

// --- what an earlier rollback leaves behind

fn is_refused(world: &World, state: &str, code: &str, sentence: &str) {
    let incident = latest(world);
    assert_eq!((incident.state, incident.reasons), (state, vec![code.to_owned()]), "{}", world.story());
    assert!(incident.sentence.contains(sentence), "{:?} says not {sentence:?}", incident.sentence);
}

#[test]
fn a_step_that_still_runs_alone_stops_it() {
    let mut world = world_of(|rules| rules.services[0].guard.cooldown = secs(1));
    world.scripts.insert("rollback".to_owned(), Script::Nothing);
    world.step_ms = 6 * MINUTE;
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "the step", |world| world.steps_begun().len() == 1);
    // A person ends the incident and installs another release, which is broken too.
    let incident = latest(&world).id.to_string();
    done(&world.command(Command::Abort { incident, reason: "by hand".to_owned() }));
    deploy(&mut world, "r0", Behaviour::GOOD);
    world.run(MINUTE);
    deploy(&mut world, "r3", Behaviour::BROKEN);
    world.run(90 * SECOND);
    is_refused(&world, "held", "step_in_flight", "a step of an earlier rollback still runs");
    assert_eq!(world.steps_begun().len(), 1);
    world.scripts.clear();
    world.step_ms = SECOND;
    world.run_until(6 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
    assert_eq!(world.steps_begun().len(), 2);
}

#[test]
fn a_release_that_backstop_installed_alone_calls_a_person() {
    let mut world = world_of(|rules| rules.services[0].guard.cooldown = secs(1));
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(6 * MINUTE);
    deploy(&mut world, "r3", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(world.fleet.symlink, "r2");
    world.run(MINUTE);
    // The way back breaks too, and r1 would be a way back from it.
    world.fleet.errors_anyway = 0.4;
    world.run(3 * MINUTE);
    is_refused(&world, "escalated", "own_release", "r2 was installed by backstop itself (api-");
    assert_eq!(world.steps_begun().len(), 1);
    world.fleet.errors_anyway = 0.0;
    world.run(3 * MINUTE);
    deploy(&mut world, "r4", Behaviour::BROKEN);
    world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}

#[test]
fn a_ladder_that_is_at_its_end_alone_calls_a_person() {
    for second in [false, true] {
        let mut world = world_of(|rules| {
            let previous = rules.services[0].ladder.pop();
            rules.services[0].ladder.push(level("flag off", vec![step("flag")]));
            rules.services[0].ladder.extend(previous.filter(|_| second));
        });
        world.scripts.insert("flag".to_owned(), Script::FlagOff);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
        // Somebody turns the flag on again.
        world.fleet.flag_off = false;
        if second {
            world.run_until(5 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
        } else {
            world.run(3 * MINUTE);
            let sentence = "no rollback level is configured that was not tried for this release";
            is_refused(&world, "escalated", "ladder_exhausted", sentence);
            assert_eq!(world.steps_begun().len(), 1);
        }
    }
}

#[test]
fn a_release_that_was_not_read_since_the_breach_began_alone_stops_it_until_the_next_look() {
    for (gate, waits) in [(Gate::Release, true), (Gate::None, false)] {
        let mut world = world_of(|rules| rules.services[0].triggers.push(signal("alert", gate)));
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::GOOD);
        // A second after a look at everything.
        world.run(MINUTE + SECOND);
        let (service, signal, detail) = ("api".to_owned(), "alert".to_owned(), String::new());
        done(&world.command(Command::RaiseSignal { service, signal, ttl: secs(600), detail }));
        world.run(SECOND);
        assert_eq!(world.steps_begun().is_empty(), waits, "{}", world.story());
        // It is over at the next look, so that nobody is told of it.
        assert_eq!(latest(&world).state, if waits { "firing" } else { "running" });
        world.run_until(INTERVAL, "the step", |world| world.steps_begun().len() == 1);
        world.run(SECOND);
        assert_eq!(world.kinds(), [N::Started]);
    }
}
