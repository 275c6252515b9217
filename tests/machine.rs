//! Scenarios: the real machine, driven by inputs and a virtual clock.
//!
//! Length: a list of short scenarios that share their beginning.

mod support;

use std::sync::Arc;

use backstop::decide::event::{
    Autonomy, Entry, Gate, IncidentEvent, IncidentId, Notice, NoticeKind as N, NoticeStatus, Outcome, Seq,
};
use backstop::decide::rules::{Budget, Rules, ValueKind};
use backstop::machine::input::{Answer, Command, Input, Refusal};
use backstop::machine::output::{Output, StepOrder};
use backstop::machine::{Machine, Recovered, Unreadable};
use backstop::promql::{Comparison, Expr};
use support::*;

/// Long enough for `r1` to be a release to go back to.
fn calm(world: &mut World) {
    world.run(6 * MINUTE);
    let service = world.service();
    assert!(service.releases.iter().any(|release| release.name == "r1" && release.good), "{}", world.story());
    assert_eq!(world.state(), "none", "{}", world.story());
}

fn deploy(world: &mut World, release: &str, behaviour: Behaviour) {
    world.fleet.behaviours.insert(release.to_owned(), behaviour);
    world.fleet.deploy(release, world.now);
}

fn bad(order: &StepOrder) -> &str {
    order.bad.as_ref().map_or("", |release| &*release.0)
}

fn is_done(answer: &Answer) -> bool {
    matches!(answer, Answer::Done { .. })
}

fn states(world: &World) -> Vec<&'static str> {
    let mut states: Vec<&str> = world.incidents().iter().map(|incident| incident.state).collect();
    states.sort_unstable();
    states
}

fn only(world: &World) -> String {
    world.incidents().first().map(|incident| incident.id.to_string()).unwrap_or_default()
}

#[test]
fn a_broken_release_is_rolled_back_and_verified() {
    let mut world = world(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the end", |world| world.state() == "recovered");
    let steps = world.steps_begun();
    assert_eq!(steps.len(), 1);
    assert_eq!(bad(steps[0]), "r2");
    assert_eq!(steps[0].target.as_ref().map(|release| &*release.0), Some("r1"));
    assert_eq!(steps[0].expect_release.as_ref().map(|release| &*release.0), Some("r2"));
    assert_eq!(world.fleet.symlink, "r1");
    world.run(20 * MINUTE);
    assert_eq!(world.kinds(), [N::Started, N::LevelFinished, N::Recovered]);
    assert_eq!(world.state(), "recovered");
}

#[test]
fn a_release_that_dies_at_its_start_is_rolled_back() {
    for detectors in [vec![symlink(), version_metric()], vec![version_metric(), symlink()], vec![symlink()]] {
        let first = detectors[0].describe.clone();
        let mut world = world(|service| service.detectors = detectors);
        world.run(6 * MINUTE);
        deploy(&mut world, "r2", Behaviour::CRASHES);
        world.run_until(3 * MINUTE, &first, |world| world.state() == "recovered");
        assert_eq!(world.fleet.symlink.trim_end_matches("-bin"), "r1", "{first}");
        assert_eq!(world.steps_begun().len(), 1, "{first}");
    }
}

#[test]
fn a_healthy_release_is_left_alone() {
    let mut world = world(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(20 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("none", 0));
    assert!(world.kinds().is_empty(), "{:?}", world.kinds());
    assert!(world.service().releases.iter().any(|release| release.name == "r2" && release.good));
}

#[test]
fn a_slow_start_is_not_held_against_a_release() {
    let mut world = world(|service| service.startup = secs(60));
    calm(&mut world);
    world.fleet.boot_ms = 50 * SECOND;
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(5 * MINUTE);
    assert_eq!(world.state(), "none", "{}", world.story());
}

#[test]
fn an_old_process_that_still_answers_does_not_end_the_startup() {
    let mut world = world(|service| {
        service.startup = secs(60);
        service.detectors = vec![symlink()];
    });
    calm(&mut world);
    // The link is flipped, and for 12 s the old process goes on before it is restarted.
    world.fleet.symlink = "r2".to_owned();
    world.run(12 * SECOND);
    world.fleet.boot_ms = 30 * SECOND;
    world.fleet.restart(0, "r2", world.now);
    world.run(5 * MINUTE);
    assert_eq!(world.state(), "none", "{}", world.story());
}

#[test]
fn what_was_wrong_before_the_release_is_escalated() {
    let mut world = world(|_| {});
    calm(&mut world);
    world.fleet.errors_anyway = 0.4;
    world.run(35 * SECOND);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(5 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("escalated", 0), "{}", world.story());
    world.fleet.errors_anyway = 0.0;
    world.run(3 * MINUTE);
    assert_eq!(world.state(), "cleared");
    let kinds = world.kinds();
    assert_eq!((kinds.first(), kinds.last()), (Some(&N::Escalated), Some(&N::Recovered)), "{kinds:?}");
}

#[test]
fn without_a_release_change_nothing_is_rolled_back() {
    let mut world = world(|_| {});
    calm(&mut world);
    world.fleet.errors_anyway = 0.4;
    world.run(10 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("escalated", 0));
    assert_eq!(world.kinds(), [N::Escalated], "told once");
}

fn two_levels(service: &mut backstop::decide::rules::ServiceRules) {
    service.ladder = vec![level("flag off", vec![step("flag")]), level("previous release", vec![step("rollback")])];
}

#[test]
fn a_level_that_does_not_help_climbs_and_the_last_one_calls_a_person_until_acknowledged() {
    let mut world = world(two_levels);
    world.scripts.insert("flag".to_owned(), Script::Nothing);
    world.scripts.insert("rollback".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(10 * MINUTE, "a person", |world| world.state() == "needs_human");
    let names: Vec<&str> = world.steps_begun().iter().map(|order| order.step.name.as_str()).collect();
    assert_eq!(names, ["flag", "rollback"]);
    world.run(25 * MINUTE);
    let calls = |world: &World| world.kinds().iter().filter(|kind| **kind == N::NeedsHuman).count();
    assert_eq!(calls(&world), 3, "{:?}", world.kinds());
    let id = only(&world);
    assert!(is_done(&world.command(Command::Acknowledge { incident: id, reason: String::new() })));
    world.run(60 * MINUTE);
    assert_eq!((calls(&world), world.state()), (3, "needs_human"));
    // Somebody installs another release: the incident stands back.
    deploy(&mut world, "r3", Behaviour::GOOD);
    world.run(3 * MINUTE);
    assert_eq!(world.state(), "superseded");
    assert_eq!(world.kinds().last(), Some(&N::Superseded));
    assert_eq!(world.steps_begun().len(), 2);
}

#[test]
fn a_person_who_was_called_sees_the_breach_end() {
    let mut world = world(|_| {});
    world.scripts.insert("rollback".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(10 * MINUTE, "a person", |world| world.state() == "needs_human");
    world.fleet.behaviours.insert("r2".to_owned(), Behaviour::GOOD);
    world.run(5 * MINUTE);
    assert_eq!(world.state(), "cleared", "{}", world.story());
    assert_eq!(world.kinds().last(), Some(&N::Recovered));
}

#[test]
fn a_failed_step_climbs_and_one_that_times_out_calls_a_person() {
    for (script, end, steps) in [(Script::Fails, "recovered", 2), (Script::HalfWorks, "needs_human", 1)] {
        let mut world = world(two_levels);
        world.scripts.insert("flag".to_owned(), script);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(5 * MINUTE, end, |world| world.state() == end);
        assert_eq!(world.steps_begun().len(), steps, "{script:?}");
    }
}

#[test]
fn the_level_that_helps_is_the_last() {
    let mut world = world(two_levels);
    world.scripts.insert("flag".to_owned(), Script::FlagOff);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!((world.steps_begun().len(), world.fleet.symlink.as_str()), (1, "r2"));
    // The same release breaks again: the next level is tried, the first is not.
    world.fleet.flag_off = false;
    world.run_until(5 * MINUTE, "the next level", |world| world.steps_begun().len() == 2);
    assert_eq!(world.steps_begun()[1].step.name, "rollback");
    world.run(5 * MINUTE);
    assert_eq!(world.state(), "recovered");
}

#[test]
fn missing_data_never_fires_and_pauses_the_hold() {
    let mut world = world(|service| service.triggers = vec![error_rate(60)]);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "pending", |world| world.service().triggers[0].held >= secs(25));
    world.fleet.processes[0].gap_until = world.now + 30 * MINUTE;
    world.run(29 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("none", 0), "{}", world.story());
    assert!(world.kinds().contains(&N::Blind));
    let blind = delivered(&world).into_iter().find(|notice| notice.kind == N::Blind).unwrap();
    assert!(
        blind.dedup_key.ends_with("/blind/error-rate"),
        "one trigger's sight closes no other's: {}",
        blind.dedup_key
    );
    world.run_until(10 * MINUTE, "data again", |world| world.state() == "recovered");
    assert!(world.kinds().contains(&N::Unblind));
}

/// Kind, and the end of the key, of what was told about sight.
fn sights(world: &World) -> Vec<(N, String)> {
    let told = delivered(world).into_iter().filter(|notice| matches!(notice.kind, N::Blind | N::Unblind));
    told.map(|notice| (notice.kind, notice.dedup_key.rsplit('/').next().unwrap_or_default().to_owned())).collect()
}

#[test]
fn a_threshold_that_no_value_reaches_is_told_while_it_is_so() {
    let mut world = world(|service| service.triggers = vec![slow(5.0)]);
    let never = |world: &World| world.service().triggers[0].never_fires.clone();
    let warned =
        |world: &World| world.warnings.iter().filter(|line| line.starts_with("slow: ")).cloned().collect::<Vec<_>>();
    let ask = |world: &mut World, above: f64| {
        let mut rules = (*world.rules).clone();
        rules.services[0].triggers = vec![slow(above)];
        world.rules = Arc::new(rules);
        world.input(Input::Reload(Arc::clone(&world.rules)));
        world.run(20 * SECOND);
    };
    world.run(MINUTE);
    assert_eq!(never(&world), None, "no bucket was seen yet");
    let beyond = "above 5 can never fire: the highest finite bucket of its histogram ends at 2.5".to_owned();
    let warning = format!("slow: {beyond}");
    world.fleet.buckets = &["0.1", "2.5", "+Inf"];
    world.run(MINUTE);
    assert_eq!((never(&world), warned(&world)), (Some(beyond.clone()), vec![warning.clone()]));
    // What cannot be seen is not known to have changed.
    world.fleet.processes[0].gap_until = world.now + 2 * MINUTE;
    world.run(3 * MINUTE);
    assert_eq!((never(&world), warned(&world).len()), (Some(beyond.clone()), 1));
    ask(&mut world, 1.0);
    assert_eq!((never(&world), warned(&world).len()), (None, 1), "another threshold");
    ask(&mut world, 5.0);
    assert_eq!((never(&world), warned(&world)), (Some(beyond.clone()), vec![warning.clone(); 2]));
    world.fleet.buckets = &["0.1", "2.5", "10", "+Inf"];
    world.run(MINUTE);
    assert_eq!((never(&world), warned(&world).len()), (None, 2), "another bucket");
    world.fleet.buckets = &["0.1", "2.5", "+Inf"];
    world.run(2 * MINUTE);
    assert_eq!((never(&world), warned(&world)), (Some(beyond), vec![warning; 3]), "it is gone again");
}

#[test]
fn what_was_told_of_a_trigger_that_is_gone_is_resolved() {
    let other_trigger = |rules: &mut Rules| rules.services[0].triggers[0].name = "errors".into();
    let other_service = |rules: &mut Rules| rules.services[0].name = "web".into();
    let changes: [&dyn Fn(&mut Rules); 2] = [&other_trigger, &other_service];
    for change in changes {
        for by_reload in [true, false] {
            let mut world = world(|service| service.triggers = vec![error_rate(60)]);
            calm(&mut world);
            world.fleet.processes[0].gap_until = world.now + 300 * MINUTE;
            world.run_until(20 * MINUTE, "blind", |world| !sights(world).is_empty());
            let mut rules = (*world.rules).clone();
            change(&mut rules);
            world.rules = Arc::new(rules);
            if by_reload {
                world.input(Input::Reload(Arc::clone(&world.rules)));
            } else {
                world.restart();
            }
            world.run(10 * SECOND);
            let pair = [(N::Blind, "error-rate".to_owned()), (N::Unblind, "error-rate".to_owned())];
            assert_eq!(sights(&world), pair, "{}", world.story());
            // A service that is not watched any more does not go blind.
            if world.rules.services[0].name == "web".into() {
                world.run(60 * MINUTE);
                let of_api = delivered(&world).into_iter().filter(|n| n.dedup_key.contains("/api/"));
                assert_eq!(of_api.count(), 2, "{}", world.story());
            }
        }
    }
}

#[test]
fn what_was_told_right_before_a_crash_is_resolved_when_it_is_seen_again() {
    let mut world = world(|service| service.triggers = vec![error_rate(60)]);
    calm(&mut world);
    world.checkpoint();
    world.fleet.processes[0].gap_until = world.now + 20 * MINUTE;
    world.run_until(20 * MINUTE, "blind", |world| !sights(world).is_empty());
    // The checkpoint does not know of it.
    world.restart();
    world.run(MINUTE);
    assert_eq!(sights(&world).len(), 1, "nothing is seen yet: {:?}", sights(&world));
    world.fleet.processes[0].gap_until = 0;
    world.run(3 * MINUTE);
    let kinds: Vec<N> = sights(&world).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [N::Blind, N::Unblind]);
}

#[test]
fn what_is_known_of_a_service_that_is_absent_at_the_start_holds_when_it_comes_back() {
    let mut world = world(two_levels);
    world.scripts.insert("flag".to_owned(), Script::Fails);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(10 * MINUTE, "the end", |world| world.state() == "recovered");
    let service = || Some("api".to_owned());
    let reason = || "the database is being moved".to_owned();
    assert!(is_done(&world.command(Command::KillSwitch { service: service(), on: true, reason: reason() })));
    assert!(is_done(&world.command(Command::Pause { service: service(), duration: secs(7200), reason: reason() })));
    world.run(10 * SECOND);
    let seen = world.service();
    let (here, mut away) = (Arc::clone(&world.rules), (*world.rules).clone());
    away.services[0].name = "web".into();
    world.rules = Arc::new(away);
    world.restart();
    world.run(MINUTE);
    assert_eq!(world.service().kill_switch, None);
    world.rules = Arc::clone(&here);
    world.input(Input::Reload(here));
    world.run(MINUTE);
    let back = world.snapshot().services.into_iter().find(|service| &*service.name == "api").expect("it is back");
    assert_eq!(back.kill_switch, seen.kill_switch, "{}", world.story());
    assert_eq!(back.pause, seen.pause);
    let marks = |service: &backstop::machine::snapshot::ServiceView| {
        let marks = service.releases.iter().map(|release| (release.name.clone(), release.good, release.bad));
        marks.collect::<Vec<_>>()
    };
    assert_eq!(marks(&back), marks(&seen));
    assert_eq!(marks(&back), [("r1".to_owned(), true, false), ("r2".to_owned(), false, true)]);
    // It can be turned off, and the pause ends by itself.
    assert!(is_done(&world.command(Command::KillSwitch { service: service(), on: false, reason: reason() })));
    world.run(121 * MINUTE);
    let back = world.snapshot().services.into_iter().find(|service| &*service.name == "api").expect("it is back");
    assert_eq!((back.kill_switch, back.pause), (None, None));
}

#[test]
fn one_missed_scrape_is_no_gap_and_two_are() {
    for (missed, after) in [(1, 40), (2, 0)] {
        let mut world = world(|service| service.triggers = vec![error_rate(60)]);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(3 * MINUTE, "pending", |world| world.service().triggers[0].held == secs(30));
        world.fleet.processes[0].gap_until = world.now + missed * INTERVAL + 1;
        world.run(missed * INTERVAL + SECOND);
        assert!(world.service().triggers[0].held <= secs(30), "nothing is earned while nothing is seen");
        world.run(INTERVAL);
        let known = |world: &World| world.service().triggers[0].finding == "breached";
        world.run_until(MINUTE, "known again", known);
        assert_eq!(world.service().triggers[0].held, secs(after), "{missed} missed\n{}", world.story());
    }
}

#[test]
fn one_failure_at_low_traffic_decides_nothing() {
    let mut world = world(|_| {});
    world.fleet.rate = 0.05;
    world.run(6 * MINUTE);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(30 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("none", 0), "{}", world.story());
}

#[test]
fn traffic_that_stops_decides_nothing() {
    let mut world = world(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(MINUTE);
    world.fleet.rate = 0.0;
    world.run(10 * MINUTE);
    assert_eq!((world.state(), world.kinds().len()), ("none", 0), "{:?}", world.kinds());
}

#[test]
fn a_counter_reset_is_no_failure() {
    let mut world = world(|_| {});
    world.fleet.errors_anyway = 0.1;
    world.run(6 * MINUTE);
    for _ in 0..5 {
        world.fleet.restart(0, "r1", world.now);
        world.run(2 * MINUTE);
    }
    assert_eq!((world.state(), world.steps_begun().len()), ("none", 0), "{}", world.story());
}

#[test]
fn a_restart_in_the_middle_of_a_hold_keeps_what_was_held_and_adds_nothing() {
    for (hold, at) in [(60, 40), (600, 300)] {
        let mut world = world(|service| service.triggers = vec![error_rate(hold)]);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(15 * MINUTE, "pending", |world| world.service().triggers[0].held >= secs(at));
        let held = world.service().triggers[0].held;
        world.checkpoint();
        world.crash(usize::MAX);
        world.now += 40 * SECOND;
        world.start();
        let back = world.now;
        world.run_until(15 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
        let waited = secs(u64::try_from((world.now - back) / 1000).unwrap_or(0));
        assert!(waited + held >= secs(hold), "fired after {waited:?} with {held:?} of {hold} s held");
        assert!(waited <= secs(hold - at + 55), "the held time was lost: {waited:?}");
    }
}

#[test]
fn a_checkpoint_from_before_the_release_does_not_count_against_it() {
    let mut world = world(|service| service.triggers = vec![error_rate(60)]);
    calm(&mut world);
    world.fleet.errors_anyway = 0.5;
    world.run_until(3 * MINUTE, "pending", |world| world.service().triggers[0].held >= secs(50));
    world.checkpoint();
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(6 * SECOND);
    world.restart();
    world.run(10 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("escalated", 0), "{}", world.story());
}

#[test]
fn observing_tells_and_proposing_asks() {
    let mut world = world(|service| service.autonomy = Autonomy::Observe);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(10 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("would_roll_back", 0));
    assert_eq!(world.kinds(), [N::WouldRollBack]);
}

fn proposed() -> World {
    let mut world = world(|service| service.autonomy = Autonomy::Propose);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the question", |world| world.state() == "proposed");
    world
}

#[test]
fn approval_rolls_back_and_silence_does_not() {
    let mut world = proposed();
    let (incident, reason) = (only(&world), "yes".to_owned());
    assert!(is_done(&world.command(Command::Approve { incident, reason })));
    world.run_until(3 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(world.kinds(), [N::ApprovalRequested, N::Started, N::LevelFinished]);

    let mut world = proposed();
    let (incident, reason) = (only(&world), "no".to_owned());
    assert!(is_done(&world.command(Command::Decline { incident, reason })));
    world.run(20 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("declined", 0), "{}", world.story());

    let mut world = proposed();
    world.run(20 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("expired", 0));
    assert_eq!(world.kinds(), [N::ApprovalRequested, N::Expired]);
    let (incident, reason) = (only(&world), "too late".to_owned());
    assert!(!is_done(&world.command(Command::Approve { incident, reason })));
}

fn order(world: &mut World, level: Option<usize>) -> Answer {
    let (service, reason) = ("api".to_owned(), "it is slow".to_owned());
    world.command(Command::Rollback { service, reason, level, overrides: Vec::new() })
}

#[test]
fn by_hand_rolls_back_what_no_trigger_sees() {
    let mut world = world(|service| service.autonomy = Autonomy::Observe);
    assert!(!is_done(&order(&mut world, None)), "there is no way back yet");
    assert_eq!(world.state(), "none", "a refusal leaves no incident behind");
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(MINUTE);
    assert!(is_done(&order(&mut world, None)));
    assert!(!is_done(&order(&mut world, None)), "once is enough");
    world.run_until(3 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(world.fleet.symlink, "r1");
}

#[test]
fn by_hand_needs_to_know_what_runs() {
    let mut world = world(|service| service.detectors = vec![symlink()]);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(MINUTE);
    world.fleet.symlink_readable = false;
    world.run(MINUTE);
    assert!(!is_done(&order(&mut world, None)));
    assert_eq!(world.state(), "none");
}

#[test]
fn a_pause_holds_and_its_end_lets_go() {
    let mut world = world(|_| {});
    calm(&mut world);
    let pause = Command::Pause { service: None, duration: secs(600), reason: "maintenance".to_owned() };
    assert!(is_done(&world.command(pause)));
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(5 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("held", 0));
    world.run(10 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("recovered", 1));
    assert_eq!(
        world.kinds(),
        [N::Paused, N::Held, N::Resumed, N::Started, N::LevelFinished, N::Recovered],
        "{:?}",
        world.kinds()
    );
}

#[test]
fn abort_starts_nothing_more_and_waits_for_the_step_that_runs() {
    let mut world = world(two_levels);
    world.scripts.insert("flag".to_owned(), Script::Fails);
    world.step_ms = 30 * SECOND;
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
    let (incident, reason) = (only(&world), "I do it".to_owned());
    assert!(is_done(&world.command(Command::Abort { incident, reason })));
    assert!(!is_done(&order(&mut world, None)), "its step still runs");
    world.run(5 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("aborted", 1), "{}", world.story());
    assert_eq!(world.kinds().last(), Some(&N::Declined), "the notice that resolves is the last");
    // A level that is ordered again is another effect.
    assert!(is_done(&order(&mut world, Some(0))));
    world.run(SECOND);
    let begun = world.steps_begun();
    assert_ne!(begun[0].attempt, begun[1].attempt);
    assert_ne!(begun[0].idempotency_key, begun[1].idempotency_key);
}

#[test]
fn cooldown_and_budget_ask_a_person() {
    for (cooldown, budget) in [(3600, None), (0, Some(Budget { rollbacks: 1, window: secs(7200) }))] {
        let mut world = world(|service| {
            service.guard.cooldown = secs(cooldown);
            service.guard.budget = budget;
        });
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run(10 * MINUTE);
        deploy(&mut world, "r3", Behaviour::BROKEN);
        world.run(5 * MINUTE);
        assert_eq!(
            (states(&world), world.steps_begun().len()),
            (vec!["proposed", "recovered"], 1),
            "{}",
            world.story()
        );
    }
}

#[test]
fn a_deployment_by_someone_else_supersedes_before_the_next_step() {
    let mut world = world(|service| service.ladder[0].steps = vec![step("first"), step("second")]);
    world.scripts.insert("first".to_owned(), Script::Nothing);
    world.step_ms = 20 * SECOND;
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
    deploy(&mut world, "r3", Behaviour::GOOD);
    world.run(5 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("superseded", 1), "{}", world.story());
}

#[test]
fn a_bad_release_that_comes_back_is_reported_and_not_fought_over() {
    let mut world = world(|service| service.guard.cooldown = secs(0));
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    world.run(MINUTE);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(10 * MINUTE);
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    assert!(world.kinds().contains(&N::ReleaseReappeared));
    assert_eq!(world.state(), "escalated");
}

/// What a receiver was told of a kind, outdated or not: its key, and whether it still is so.
fn told_of(world: &World, receiver: &str, kind: N) -> Vec<(String, NoticeStatus, bool)> {
    let told = world.seen.iter().filter_map(|seen| match seen {
        Seen::Delivered { receiver: to, notice, outdated, .. } if to == receiver && notice.kind == kind => {
            Some((notice.dedup_key.clone(), notice.status, *outdated))
        }
        Seen::Delivered { .. } | Seen::StepBegan { .. } | Seen::StepEnded { .. } | Seen::Crashed { .. } => None,
    });
    told.collect()
}

#[test]
fn what_was_told_of_a_release_that_came_back_is_resolved_when_another_one_runs() {
    for restarts in [false, true] {
        let mut world = world(|service| service.guard.cooldown = secs(0));
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run(2 * MINUTE);
        if restarts {
            world.restart();
        }
        deploy(&mut world, "r3", Behaviour::GOOD);
        world.run(2 * MINUTE);
        let key = "test/api/release_reappeared/r2".to_owned();
        let (firing, resolved) = ((key.clone(), NoticeStatus::Firing, false), (key, NoticeStatus::Resolved, false));
        assert_eq!(told_of(&world, "oncall", N::ReleaseReappeared), [firing, resolved], "{}", world.story());
    }
}

#[test]
fn an_incident_under_way_does_not_fall_silent_when_its_receiver_is_renamed() {
    let mut world = world(|_| {});
    world.scripts.insert("rollback".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "verifying", |world| world.state() == "verifying");
    let mut rules = (*world.rules).clone();
    rules.generation += 1;
    rules.receivers[0].name = "pager".into();
    rules.services[0].notify = vec!["pager".into()];
    world.rules = std::sync::Arc::new(rules);
    world.input(Input::Reload(std::sync::Arc::clone(&world.rules)));
    world.run_until(20 * MINUTE, "a person", |world| world.state() == "needs_human");
    world.run(10 * SECOND);
    assert!(!told_of(&world, "pager", N::NeedsHuman).is_empty(), "{}", world.story());
}

#[test]
fn entries_that_cannot_be_read_are_told_as_they_are_and_so_is_their_end() {
    let mut world = world(|_| {});
    calm(&mut world);
    let last = world.disk.last().map_or(0, |record| record.seq.0);
    world.unreadable = vec![Unreadable { seq: Seq(last + 1), why: "kind 99".to_owned(), incident: None }];
    world.restart();
    world.run(10 * SECOND);
    let key = "test/daemon/degraded/unreadable".to_owned();
    assert_eq!(told_of(&world, "oncall", N::Degraded), [(key.clone(), NoticeStatus::Firing, false)]);
    world.unreadable.clear();
    world.restart();
    world.run(10 * SECOND);
    let told = told_of(&world, "oncall", N::Degraded);
    assert_eq!(told.last(), Some(&(key, NoticeStatus::Resolved, false)));
    world.restart();
    world.run(10 * SECOND);
    assert_eq!(told_of(&world, "oncall", N::Degraded).len(), told.len(), "told once");
}

#[test]
fn a_way_back_that_breaks_too_is_our_own_change() {
    let mut world = world(|service| service.guard.cooldown = secs(0));
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    world.fleet.errors_anyway = 0.5;
    world.run(5 * MINUTE);
    assert_eq!((states(&world), world.steps_begun().len()), (vec!["escalated", "recovered"], 1));
}

fn killed_during_a_step(idempotent: bool) -> World {
    let mut world = world(|service| service.ladder[0].steps[0].idempotent = idempotent);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
    world.restart();
    world.run(5 * MINUTE);
    world
}

#[test]
fn a_step_that_was_cut_off_runs_again_only_if_it_may() {
    let world = killed_during_a_step(false);
    assert_eq!((world.state(), world.steps_begun().len()), ("needs_human", 1));
    let world = killed_during_a_step(true);
    let begun = world.steps_begun();
    assert_eq!((world.state(), begun.len()), ("recovered", 2), "{}", world.story());
    assert_eq!(begun[0].idempotency_key, begun[1].idempotency_key);
    assert_ne!(begun[0].attempt, begun[1].attempt);
}

#[test]
fn verification_starts_anew_after_a_restart() {
    let mut world = world(|service| service.ladder[0].verify.soak = secs(60));
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "verifying", |world| world.state() == "verifying");
    world.run(50 * SECOND);
    world.checkpoint();
    world.restart();
    let back = world.now;
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert!(world.now - back >= 60 * SECOND, "after {} ms", world.now - back);
}

#[test]
fn while_the_journal_fails_nothing_starts() {
    let mut world = world(|_| {});
    calm(&mut world);
    world.disk_state = Disk::Fails;
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(5 * MINUTE);
    assert_eq!(world.steps_begun().len(), 0);
    assert!(world.kinds().contains(&N::Degraded), "it is told although it cannot be written");
    assert!(matches!(order(&mut world, None), Answer::Refused(Refusal::Unavailable(_))));
    world.disk_state = Disk::Writes;
    world.input(Input::JournalBack);
    world.run(5 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("recovered", 1), "{}", world.story());
}

#[test]
fn an_intent_that_becomes_durable_late_looks_again_at_what_runs() {
    let mut world = world(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.disk_state = Disk::Stalls;
    world.run_until(3 * MINUTE, "admission", |world| world.state() == "running");
    deploy(&mut world, "r3", Behaviour::GOOD);
    world.run(20 * SECOND);
    world.disk_state = Disk::Writes;
    world.run(MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("superseded", 0), "{}", world.story());
}

#[test]
fn a_receiver_that_was_down_gets_all_in_order_and_marked() {
    let mut world = world(|_| {});
    calm(&mut world);
    world.receivers_up.insert("oncall".to_owned(), false);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(10 * MINUTE);
    world.restart();
    assert!(world.notices("oncall").is_empty());
    let second: Vec<N> = world.notices("second").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(second, [N::Started, N::LevelFinished, N::Recovered], "the fallback heard it");
    world.receivers_up.insert("oncall".to_owned(), true);
    world.run(MINUTE);
    assert_eq!(world.notices("oncall"), [(N::Started, true), (N::LevelFinished, true), (N::Recovered, false)]);
}

#[test]
fn a_receiver_that_never_answers_leaves_dead_letters() {
    let mut service = service();
    service.notify = vec!["oncall".into()];
    let mut rules = rules(vec![service]);
    rules.receivers = vec![receiver("oncall", None)];
    let mut world = World::new(rules, 1);
    calm(&mut world);
    world.receivers_up.insert("oncall".to_owned(), false);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(26 * 60 * MINUTE);
    let receiver = world.snapshot().receivers.remove(0);
    assert_eq!((receiver.queued, receiver.dead), (0, 3));
}

#[test]
fn a_signal_acts_whatever_was_deployed_and_clears_when_it_ends() {
    let mut world = world(|service| service.triggers.push(signal("cve", Gate::None)));
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(3 * MINUTE);
    let raise = Command::RaiseSignal {
        service: "api".to_owned(),
        signal: "cve".to_owned(),
        ttl: secs(60),
        detail: "CVE-2026-1".to_owned(),
    };
    assert!(is_done(&world.command(raise)));
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(world.fleet.symlink, "r1");
}

#[test]
fn a_result_that_comes_twice_or_for_nobody_changes_nothing() {
    let mut world = world(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    world.run(SECOND);
    let order = world.steps_begun()[0].clone();
    let (before, told) = (world.disk.len(), world.kinds().len());
    for incident in [order.incident.clone(), backstop::decide::event::IncidentId("nobody-1".into())] {
        let result = backstop::decide::event::StepResult {
            outcome: Outcome::Failed,
            detail: String::new(),
            output: String::new(),
            truncated: false,
            captures: std::collections::BTreeMap::new(),
            duration_ms: 0,
        };
        world.input(Input::StepFinished { incident, attempt: order.attempt, result });
        world.settle();
    }
    assert_eq!((world.disk.len(), world.kinds().len(), world.state()), (before, told, "recovered"));
}

#[test]
fn a_settled_machine_sleeps() {
    let mut world = world(|_| {});
    calm(&mut world);
    let deadline = world.machine.as_ref().and_then(backstop::machine::Machine::next_deadline);
    assert!(deadline.is_some_and(|at| at.as_millis() > world.now + SECOND), "{deadline:?} at {}", world.now);
}

#[test]
fn a_level_that_a_person_decides_about_is_asked_for_before_it_is_climbed_to() {
    for (answer, end, steps) in [("approve", "recovered", 2), ("decline", "declined", 1), ("", "needs_human", 1)] {
        let mut world = world(|service| {
            two_levels(service);
            service.ladder[1].autonomy = Some(Autonomy::Propose);
        });
        world.scripts.insert("flag".to_owned(), Script::Nothing);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(5 * MINUTE, "the question", |world| world.state() == "proposed");
        let (incident, reason) = (only(&world), answer.to_owned());
        match answer {
            "approve" => assert!(is_done(&world.command(Command::Approve { incident, reason }))),
            "decline" => assert!(is_done(&world.command(Command::Decline { incident, reason }))),
            _ => {}
        }
        world.run(20 * MINUTE);
        assert_eq!((world.state(), world.steps_begun().len()), (end, steps), "{answer}");
    }
}

#[test]
fn a_service_that_is_gone_from_the_configuration_leaves_nothing_open_unseen() {
    let mut world = world(|service| service.ladder[0].steps = vec![step("first"), step("second")]);
    world.step_ms = 30 * SECOND;
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
    let mut other = service();
    other.name = "web".into();
    world.rules = std::sync::Arc::new(rules(vec![other]));
    world.restart();
    world.run(5 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("needs_human", 1));
    assert!(world.kinds().contains(&N::NeedsHuman));
}

#[test]
fn an_entry_that_cannot_be_read_calls_a_person_once() {
    let mut world = world(|_| {});
    world.scripts.insert("rollback".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(3 * MINUTE, "verifying", |world| world.state() == "verifying");
    let last = world.disk.last().map_or(0, |record| record.seq.0);
    world.disk.retain(|record| record.seq.0 < last);
    // Of another incident: this one has lost nothing.
    let entry = |incident: Option<String>| Unreadable {
        seq: Seq(last),
        why: "kind 99".to_owned(),
        incident: incident.map(|id| IncidentId(id.into())),
    };
    world.unreadable = vec![entry(Some("web-1".to_owned()))];
    world.restart();
    world.run(10 * SECOND);
    assert_eq!(world.state(), "verifying");
    let before = world.disk.clone();
    for of in [None, Some(only(&world))] {
        world.disk.clone_from(&before);
        world.unreadable = vec![entry(of)];
        world.seen.clear();
        for _ in 0..3 {
            world.restart();
            world.run(10 * SECOND);
        }
        assert_eq!(world.state(), "needs_human");
        let calls = world.kinds().iter().filter(|kind| **kind == N::NeedsHuman).count();
        assert_eq!(calls, 1, "{:?}", world.kinds());
    }
}

#[test]
fn numbering_goes_on_behind_the_newest_entry_whether_it_can_be_read_or_not() {
    let now = world(|_| {}).time();
    let recovered = Recovered { last: Seq(100), ..Recovered::default() };
    let mut out = Vec::new();
    drop(Machine::new(std::sync::Arc::new(rules(vec![service()])), &now, recovered, &mut out));
    let first = out.iter().find_map(|output| match output {
        Output::Append(records) => records.first().map(|record| record.seq),
        _ => None,
    });
    assert_eq!(first, Some(Seq(101)));
}

#[test]
fn the_next_look_at_the_release_is_waited_for_in_silence() {
    let mut world = world(|service| service.triggers.push(signal("alert", Gate::Release)));
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(MINUTE + SECOND);
    let (service, signal, detail) = ("api".to_owned(), "alert".to_owned(), String::new());
    world.command(Command::RaiseSignal { service, signal, ttl: secs(30), detail });
    world.run(SECOND);
    assert_eq!((world.state(), world.kinds()), ("firing", vec![]), "{}", world.story());
    world.run_until(INTERVAL, "the next look", |world| !world.steps_begun().is_empty());
    world.run(SECOND);
    assert_eq!(world.kinds(), [N::Started]);
    let judged = |entry: &Entry| matches!(entry, Entry::Incident { event, .. } if matches!(**event, IncidentEvent::Judged { .. }));
    assert!(!world.disk.iter().any(|record| judged(&record.entry)), "{}", world.story());
}

/// Everything that reached a receiver.
fn delivered(world: &World) -> Vec<Notice> {
    let notices = world.seen.iter().filter_map(|seen| match seen {
        Seen::Delivered { receiver, notice, .. } if receiver == "oncall" => Some((**notice).clone()),
        _ => None,
    });
    notices.collect()
}

#[test]
fn no_two_notices_share_an_id_and_none_has_a_dot() {
    let mut other = service();
    let mut name = "web".to_owned();
    // The second time there is a service that is called as the incident of the first.
    for _ in 0..2 {
        other.name = name.as_str().into();
        other.triggers.clear();
        let mut world = World::new(rules(vec![service(), other.clone()]), 1);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
        for service in [None, Some(name.clone())] {
            let pause = Command::Pause { service, duration: secs(60), reason: String::new() };
            assert!(is_done(&world.command(pause)));
        }
        world.run(2 * MINUTE);
        let notices = delivered(&world);
        let ids: std::collections::BTreeSet<&str> = notices.iter().map(|notice| &*notice.id).collect();
        assert_eq!(ids.len(), notices.len(), "{ids:?}");
        assert!(ids.iter().all(|id| !id.contains('.')), "{ids:?}");
        name = only(&world);
        for end in [format!("-i-{name}-1"), "-d-1".to_owned(), format!("-s-{}-2", other.name)] {
            assert!(ids.iter().any(|id| id.ends_with(&end)), "{end}: {ids:?}");
        }
    }
}

#[test]
fn a_notice_names_the_person_who_did_it() {
    let mut world = world(|service| service.autonomy = Autonomy::Propose);
    calm(&mut world);
    let pause = Command::Pause { service: None, duration: secs(60), reason: String::new() };
    world.command(pause.clone());
    world.command(Command::Resume { service: None, reason: String::new() });
    world.command(pause);
    world.run(2 * MINUTE);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the question", |world| world.state() == "proposed");
    world.command(Command::Approve { incident: only(&world), reason: String::new() });
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    world.command(Command::TestNotify { receiver: Some("oncall".to_owned()) });
    world.run(SECOND);
    let told: Vec<_> = delivered(&world).into_iter().map(|notice| (notice.kind, notice.actor)).collect();
    let ada = Some("ada".to_owned());
    let expected = [
        (N::Paused, ada.clone()),
        (N::Resumed, ada.clone()),
        (N::Paused, ada.clone()),
        // It ran out.
        (N::Resumed, None),
        (N::ApprovalRequested, None),
        (N::Started, ada.clone()),
        (N::LevelFinished, None),
        (N::Recovered, None),
        (N::Test, ada),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_has_ever_matched_is_known_after_a_restart() {
    for kept in [true, false] {
        let part = backstop::promql::Selector::parse(r#"http_requests_total{status="500"}"#).unwrap();
        let whole = backstop::promql::Selector::parse("http_requests_total").unwrap();
        let expr = Expr::ratio(part, whole, secs(30), 20.0, secs(60));
        let below = trigger("some", ValueKind::Ratio, expr, Comparison::Below, 0.01, 0);
        let mut world = world(|service| {
            service.autonomy = Autonomy::Observe;
            service.triggers = vec![below];
        });
        world.fleet.errors_anyway = 0.5;
        world.run(6 * MINUTE);
        world.fleet.errors_anyway = 0.0;
        deploy(&mut world, "r2", Behaviour::GOOD);
        world.run(2 * MINUTE);
        world.checkpoint();
        // Windows that are gone know nothing of it.
        let checkpoint = world.checkpoints.last_mut().unwrap();
        checkpoint.windows.clear();
        checkpoint.ever.retain(|_| kept);
        world.restart();
        world.run(2 * MINUTE);
        let expected = if kept { "breached" } else { "unknown" };
        assert_eq!(world.service().triggers[0].finding, expected, "{}", world.story());
    }
}

#[test]
fn an_incident_that_takes_longer_than_the_rto_is_told_once() {
    let mut world = world(|service| service.rto = Some(secs(150)));
    world.scripts.insert("rollback".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the RTO", |world| world.kinds().contains(&N::Escalated));
    let told = delivered(&world).into_iter().find(|notice| notice.kind == N::Escalated).unwrap();
    assert!(
        told.action_required && told.text.contains("recovery takes longer than the RTO of 2m 30s"),
        "{}",
        told.text
    );
    let late = told.occurred_at.since(told.trigger.unwrap().since);
    assert!(late >= secs(150) && late < secs(151), "{late:?}");
    assert_eq!(world.notices("oncall").iter().find(|(kind, _)| *kind == N::Escalated), Some(&(N::Escalated, false)));
    world.restart();
    world.run(30 * MINUTE);
    let told = world.kinds().iter().filter(|kind| **kind == N::Escalated).count();
    assert_eq!(told, 1, "{:?}", world.kinds());
}

#[test]
fn a_daemon_that_stops_leaves_nothing_half_begun() {
    // Nothing is admitted.
    let mut idle = world(|_| {});
    calm(&mut idle);
    idle.input(Input::Draining);
    deploy(&mut idle, "r2", Behaviour::BROKEN);
    idle.run(3 * MINUTE);
    assert_eq!((idle.state(), idle.steps_begun().len()), ("firing", 0), "{}", idle.story());
    let order = Command::Rollback { service: "api".to_owned(), reason: String::new(), level: None, overrides: vec![] };
    assert!(matches!(idle.command(order), Answer::Refused(Refusal::Unavailable(_))));
    // As the daemon does at its end.
    idle.checkpoint();
    idle.restart();
    idle.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");

    // The step that runs ends; the next one waits for the next start.
    let mut busy = world(|service| service.ladder[0].steps = vec![step("first"), step("second")]);
    busy.scripts.insert("first".to_owned(), Script::Nothing);
    calm(&mut busy);
    deploy(&mut busy, "r2", Behaviour::BROKEN);
    busy.run_until(3 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
    busy.input(Input::Draining);
    busy.run(20 * SECOND);
    assert_eq!((busy.state(), busy.steps_begun().len()), ("running", 1), "{}", busy.story());
    let intents = |world: &World| {
        let is_intent = |entry: &Entry| matches!(entry, Entry::Incident { event, .. } if matches!(**event, IncidentEvent::StepIntended { .. }));
        world.disk.iter().filter(|record| is_intent(&record.entry)).count()
    };
    assert_eq!(intents(&busy), 1);
    busy.restart();
    busy.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    assert_eq!(busy.steps_begun().len(), 2);
}

#[test]
fn a_step_whose_intent_becomes_durable_while_the_daemon_stops_is_started_without_another_tick() {
    let mut world = world(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.disk_state = Disk::Stalls;
    world.run_until(3 * MINUTE, "the intent", |world| world.state() == "running");
    world.input(Input::Draining);
    world.now += SECOND;
    let last = world.unacknowledged.back().and_then(|records| records.last()).unwrap().seq;
    world.input(Input::Durable(last));
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
}

#[test]
fn a_daemon_that_is_cut_off_holds() {
    for (up, end) in [(false, "held"), (true, "recovered")] {
        let mut world = world(|service| service.guard.references = vec!["example".into()]);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::CRASHES);
        world.fleet.processes[0].cut_until = i64::MAX;
        for look in 0..24 {
            let (name, at) = ("example".into(), backstop::time::Timestamp::from_millis(world.now));
            let up = up || look == 0;
            world.input(Input::Observation(backstop::machine::input::Observation::Reference { name, at, up }));
            world.run(INTERVAL);
        }
        // With the way open the rollback begins; whether it helped nobody can see from here.
        let begun = world.steps_begun().len();
        assert_eq!(begun, usize::from(end == "recovered"), "{}", world.story());
    }
}

#[test]
fn a_heartbeat_beats_once_however_long_the_host_slept() {
    let mut rules = rules(vec![service()]);
    rules.heartbeat = Some(backstop::decide::rules::Heartbeat { every: secs(60), receivers: vec!["oncall".into()] });
    let mut world = World::new(rules, 1);
    world.run(5 * MINUTE + SECOND);
    let beats = |world: &World| world.kinds().iter().filter(|kind| **kind == N::Heartbeat).count();
    assert_eq!(beats(&world), 6);
    world.now += 60 * MINUTE;
    world.run(61 * SECOND);
    assert_eq!(beats(&world), 7, "the first one when it sees again");
}

#[test]
fn what_was_collected_in_the_dark_proves_nothing_when_the_network_returns() {
    let mut world = world(|service| service.guard.references = vec!["example".into()]);
    let look = |world: &mut World, up| {
        let (name, at) = ("example".into(), backstop::time::Timestamp::from_millis(world.now));
        world.input(Input::Observation(backstop::machine::input::Observation::Reference { name, at, up }));
    };
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    look(&mut world, true);
    world.run(30 * SECOND);
    world.fleet.processes[0].cut_until = world.now + 6 * INTERVAL + SECOND;
    for _ in 0..6 {
        look(&mut world, false);
        world.run(INTERVAL);
    }
    assert_eq!(world.state(), "held", "{}", world.story());
    // The reference happens to be looked at before the service is.
    look(&mut world, true);
    world.run(2 * MINUTE);
    assert!(world.steps_begun().is_empty(), "{}", world.story());
}

#[test]
fn what_was_collected_in_the_dark_proves_nothing_without_a_reference_either() {
    let mut world = world(|_| {});
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(30 * SECOND);
    let until = world.now + 6 * INTERVAL + SECOND;
    world.fleet.processes[0].cut_until = until;
    world.run(6 * INTERVAL);
    assert_eq!(world.state(), "held", "{}", world.story());
    // The first look that gets through finds it restarting.
    world.fleet.processes[0].up_from = until + INTERVAL;
    world.run(2 * MINUTE);
    assert!(world.steps_begun().is_empty(), "{}", world.story());
}

#[test]
fn what_was_held_is_lost_with_what_was_seen_after_the_checkpoint() {
    for (after, held) in [(5 * SECOND, true), (30 * SECOND, false)] {
        let mut world = world(|service| service.triggers = vec![error_rate(120)]);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run(MINUTE);
        world.checkpoint();
        world.run(after);
        // It writes: so long it has lived.
        world.order(Command::Pause { service: None, duration: secs(1), reason: String::new() });
        world.crash(usize::MAX);
        world.restart();
        let held_for = world.service().triggers[0].held;
        assert_eq!(!held_for.is_zero(), held, "{after} ms after it: {held_for:?}");
    }
}

#[test]
fn a_breach_that_began_before_another_incident_of_the_release_cleared_is_dealt_with() {
    let mut world = world(|service| {
        service.guard.references = vec!["example".into()];
        let mut corrupt = signal("corrupt", Gate::Release);
        corrupt.hold = secs(60);
        service.triggers.push(corrupt);
    });
    let look = |world: &mut World, up| {
        let (name, at) = ("example".into(), backstop::time::Timestamp::from_millis(world.now));
        world.input(Input::Observation(backstop::machine::input::Observation::Reference { name, at, up }));
    };
    calm(&mut world);
    look(&mut world, true);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(INTERVAL);
    world.fleet.processes[0].cut_until = world.now + 6 * INTERVAL + SECOND;
    for _ in 0..5 {
        look(&mut world, false);
        world.run(INTERVAL);
    }
    assert_eq!(world.state(), "held", "{}", world.story());
    world.command(Command::RaiseSignal {
        service: "api".to_owned(),
        signal: "corrupt".to_owned(),
        ttl: secs(3600),
        detail: String::new(),
    });
    world.run(INTERVAL);
    look(&mut world, true);
    world.run_until(MINUTE, "the way is open again", |world| world.state() == "cleared");
    // What was pending all the time fires only now.
    world.run_until(10 * MINUTE, "a rollback", |world| !world.steps_begun().is_empty());
}

/// The clock was set back meanwhile, so that what was read long ago seems to be of this moment.
#[test]
fn what_was_read_before_a_restart_is_not_the_fresh_look_that_is_needed_after_it() {
    let mut world = world(|service| service.triggers = vec![error_rate(60)]);
    calm(&mut world);
    world.fleet.errors_anyway = 0.5;
    world.run_until(5 * MINUTE, "it fires", |world| world.state() == "escalated");
    world.checkpoint();
    let opened = world.disk.iter().position(|record| matches!(record.entry, Entry::Incident { .. }));
    world.disk.truncate(opened.expect("an incident"));
    world.restart();
    assert_eq!(world.service().triggers[0].finding, "unknown");
    assert!(world.incidents().is_empty(), "{}", world.story());
    world.run_until(2 * MINUTE, "looks show that it goes on", |world| world.state() == "escalated");
}

#[test]
fn after_a_reboot_with_a_clock_that_was_set_back_no_window_is_taken_up() {
    for (boots, set_back, taken_up) in [(0, 0, true), (1, 0, true), (0, 60 * MINUTE, true), (1, 60 * MINUTE, false)] {
        let mut world = world(|service| service.triggers = vec![error_rate(60)]);
        calm(&mut world);
        world.checkpoint();
        world.boots = boots;
        world.wall_offset -= set_back;
        world.restart();
        world.run(10 * SECOND);
        let known = world.service().triggers[0].finding != "unknown";
        assert_eq!(known, taken_up, "boots: {boots}, set back: {set_back}\n{}", world.story());
    }
}

#[test]
fn another_detector_with_another_name_is_no_change_of_release() {
    for restarts in [false, true] {
        let mut world = world(|service| service.detectors = vec![version_metric()]);
        world.run(6 * MINUTE);
        let mut rules = (*world.rules).clone();
        rules.services[0].detectors = vec![symlink()];
        world.rules = std::sync::Arc::new(rules);
        if restarts {
            world.restart();
        } else {
            world.input(Input::Reload(std::sync::Arc::clone(&world.rules)));
        }
        world.run(MINUTE);
        world.fleet.errors_anyway = 0.5;
        world.run(3 * MINUTE);
        assert!(world.steps_begun().is_empty(), "{}", world.story());
        assert_eq!(world.state(), "escalated");
    }
}

#[test]
fn a_second_name_from_the_first_detector_is_another_release() {
    let mut service = service();
    service.detectors = vec![symlink(), version_metric()];
    let mut world = World::new(rules(vec![service]), 2);
    calm(&mut world);
    world.fleet.symlink_readable = false;
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(MINUTE);
    world.fleet.symlink_readable = true;
    world.run(10 * SECOND);
    // Only one process is there yet.
    world.fleet.behaviours.insert("r3".to_owned(), Behaviour::GOOD);
    "r3".clone_into(&mut world.fleet.symlink);
    let now = world.now;
    world.fleet.restart(0, "r3", now);
    world.run(10 * SECOND);
    let running = world.service().running;
    assert_eq!(running, backstop::decide::event::Running::One(backstop::decide::event::Release("r3".into())));
}

/// `r2` breaks and is rolled back; backstop is restarted; `r2` comes back and shows its other name.
fn comes_back_under_its_other_name(
    detectors: Vec<backstop::decide::rules::Detector>,
    first_boot: i64,
    hide: impl FnOnce(&mut Fleet),
) -> World {
    let mut world = world(|service| {
        service.guard.cooldown = secs(0);
        service.detectors = detectors;
    });
    world.run(6 * MINUTE);
    let boot = std::mem::replace(&mut world.fleet.boot_ms, first_boot);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    world.fleet.boot_ms = boot;
    world.run(MINUTE);
    world.restart();
    world.run(2 * MINUTE);
    hide(&mut world.fleet);
    let now = world.now;
    world.fleet.deploy("r2", now);
    world.run(10 * MINUTE);
    world
}

#[test]
fn a_release_that_was_rolled_back_is_known_by_its_other_name_after_a_restart() {
    let unreadable = |fleet: &mut Fleet| fleet.symlink_readable = false;
    let crashes = |fleet: &mut Fleet| {
        fleet.behaviours.insert("r2".to_owned(), Behaviour::CRASHES);
    };
    let worlds = [
        ("a stand-in shows it", comes_back_under_its_other_name(vec![symlink(), version_metric()], SECOND, unreadable)),
        ("it dies at its start", comes_back_under_its_other_name(vec![version_metric(), symlink()], SECOND, crashes)),
        ("it starts faster", comes_back_under_its_other_name(vec![version_metric(), symlink()], 12 * SECOND, |_| {})),
    ];
    for (case, world) in worlds {
        assert_eq!(world.steps_begun().len(), 1, "{case}: {}", world.story());
        assert!(world.kinds().contains(&N::ReleaseReappeared), "{case}: {}", world.story());
    }
}

#[test]
fn who_was_told_hears_the_end_although_the_service_has_left_the_configuration() {
    let mut other = service();
    other.name = "other".into();
    let mut world = World::new(rules(vec![service(), other.clone()]), 1);
    calm(&mut world);
    world.fleet.errors_anyway = 0.5;
    world.run(3 * MINUTE);
    assert_eq!(world.state(), "escalated");
    world.rules = std::sync::Arc::new(rules(vec![other]));
    world.restart();
    world.run(MINUTE);
    assert!(world.kinds().contains(&N::Superseded), "{}", world.story());
}
