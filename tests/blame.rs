//! Promises: what a person decided stands until there is something new to decide about; backstop acts on, and is judged
//! by, only what the release is to blame for. The real machine in virtual time.

mod support;

use backstop::decide::event::{Entry, Gate, IncidentEvent};
use backstop::decide::freeze::{Freeze, Span};
use backstop::decide::rules::ServiceRules;
use backstop::machine::input::{Answer, Command};
use backstop::machine::snapshot::IncidentView;
use support::*;

/// Long enough for `r1` to be a release to go back to.
fn calm(world: &mut World) {
    world.run(6 * MINUTE);
    assert!(is_good(world, "r1"), "{}", world.story());
}

fn is_good(world: &World, name: &str) -> bool {
    world.service().releases.iter().any(|release| release.name == name && release.good)
}

fn deploy(world: &mut World, release: &str, behaviour: Behaviour) {
    world.fleet.behaviours.insert(release.to_owned(), behaviour);
    world.fleet.deploy(release, world.now);
}

fn of(world: &World, release: &str) -> IncidentView {
    let found = world.incidents().into_iter().find(|incident| incident.release_bad.as_deref() == Some(release));
    found.unwrap_or_else(|| panic!("no incident of {release}\n{}", world.story()))
}

fn state_of(world: &World, release: &str) -> &'static str {
    let found = world.incidents().into_iter().find(|incident| incident.release_bad.as_deref() == Some(release));
    found.map_or("none", |incident| incident.state)
}

fn done(answer: &Answer) {
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
}

fn two_levels(service: &mut ServiceRules) {
    service.ladder = vec![level("flag off", vec![step("flag")]), level("previous release", vec![step("rollback")])];
}

fn begun(world: &World) -> Vec<String> {
    world.steps_begun().iter().map(|order| order.step.name.clone()).collect()
}

fn times(world: &World, is: impl Fn(&IncidentEvent) -> bool) -> usize {
    let events = world.disk.iter().filter_map(|record| match &record.entry {
        Entry::Incident { event, .. } => Some(&**event),
        _ => None,
    });
    events.filter(|event| is(event)).count()
}

fn reopened(world: &World) -> usize {
    times(world, |event| matches!(event, IncidentEvent::Reopened { .. }))
}

// ------------------------------------------------------------------------------------------------ what people decided

fn aborted() -> World {
    let mut world = world(two_levels);
    world.scripts.insert("flag".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the verification", |world| world.state() == "verifying");
    let incident = of(&world, "r2").id.to_string();
    done(&world.command(Command::Abort { incident, reason: "I do it".to_owned() }));
    world
}

#[test]
fn an_abort_stands_while_the_windows_fill_again() {
    let mut world = aborted();
    world.run(30 * MINUTE);
    assert_eq!((world.state(), begun(&world)), ("aborted", vec!["flag".to_owned()]), "{}", world.story());
}

#[test]
fn an_abort_stands_over_a_restart() {
    for kept in [true, false] {
        let mut world = aborted();
        if kept {
            world.checkpoint();
        }
        world.restart();
        world.run(30 * MINUTE);
        assert_eq!((world.state(), begun(&world).len(), reopened(&world)), ("aborted", 1, 0), "{}", world.story());
    }
}

/// A freeze makes it ask; it is declined, and the freeze ends.
fn declined() -> World {
    let span = |from: &str, to: &str| Span::Dates { from: from.parse().unwrap(), to: to.parse().unwrap() };
    let freeze = Freeze {
        span: span("2026-09-21T14:00", "2026-09-21T14:30"),
        zone: jiff::tz::TimeZone::UTC,
        reason: "Christmas".to_owned(),
    };
    let mut world = world(|service| service.guard.freeze = vec![freeze]);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the question", |world| world.state() == "proposed");
    let incident = of(&world, "r2").id.to_string();
    done(&world.command(Command::Decline { incident, reason: "leave it".to_owned() }));
    world.run(15 * MINUTE);
    assert_eq!((world.service().freeze, world.state()), (None, "declined"));
    world
}

#[test]
fn a_refusal_stands_over_a_gap_in_the_data() {
    let mut world = declined();
    world.fleet.processes[0].gap_until = world.now + 2 * MINUTE;
    world.run(30 * MINUTE);
    assert_eq!((world.state(), begun(&world).len()), ("declined", 0), "{}", world.story());
}

#[test]
fn a_refusal_is_no_word_about_a_breach_that_comes_after_all_was_well() {
    let mut world = declined();
    world.fleet.flag_off = true;
    world.run(3 * MINUTE);
    assert_eq!(world.state(), "declined");
    world.fleet.flag_off = false;
    world.run_until(5 * MINUTE, "the rollback", |world| !world.steps_begun().is_empty());
}

#[test]
fn a_refusal_is_no_word_about_a_release_that_comes_back() {
    let mut world = declined();
    deploy(&mut world, "r3", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the next incident", |world| state_of(world, "r3") != "none");
    let before = world.kinds().len();
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "it is told", |world| state_of(world, "r2") == "escalated");
    assert!(world.kinds().len() > before);
}

// ------------------------------------------------------------------------------------------ a release that is seen bad

#[test]
fn a_way_back_that_was_seen_failing_is_none_for_the_next_release() {
    for restart in [false, true] {
        let mut world = world(|service| service.guard.cooldown = secs(0));
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(3 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
        // Whatever came over it meanwhile.
        world.fleet.behaviours.insert("r1".to_owned(), Behaviour::BROKEN);
        world.run_until(5 * MINUTE, "a person", |world| state_of(world, "r2") == "needs_human");
        assert_eq!(world.fleet.symlink, "r1");
        assert!(!is_good(&world, "r1"), "{}", world.story());
        if restart {
            world.restart();
            assert!(!is_good(&world, "r1"), "{}", world.story());
        }
        deploy(&mut world, "r3", Behaviour::BROKEN);
        world.run_until(5 * MINUTE, "the next incident", |world| state_of(world, "r3") == "escalated");
        world.run(5 * MINUTE);
        assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
        let why = of(&world, "r3").reasons;
        assert!(why.iter().any(|why| why == "no_way_back"), "{why:?}");
    }
}

#[test]
fn a_way_back_that_was_not_installed_stays_one() {
    let mut world = world(|_| {});
    world.scripts.insert("rollback".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "a person", |world| state_of(world, "r2") == "needs_human");
    assert!(is_good(&world, "r1"), "{}", world.story());
}

#[test]
fn a_signal_that_nobody_raises_is_no_sight_of_a_release_that_no_metric_shows() {
    let mut world = world(|service| service.triggers[1] = signal("corrupt", Gate::Release));
    calm(&mut world);
    world.fleet.processes[0].gap_until = world.now + 60 * MINUTE;
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(40 * MINUTE);
    assert!(!is_good(&world, "r2"), "{}", world.story());
}

#[test]
fn where_there_are_only_signals_their_silence_counts() {
    let mut world = world(|service| service.triggers = vec![signal("corrupt", Gate::Release)]);
    calm(&mut world);
}
