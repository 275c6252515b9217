//! Promises: what a person decided stands until there is something new to decide about; backstop acts on, and is judged
//! by, only what the release is to blame for. The real machine in virtual time.

mod support;

use backstop::decide::event::{Autonomy, Entry, Gate, IncidentEvent, NoticeKind as N, OnSilence, Severity};
use backstop::decide::freeze::{Freeze, Span};
use backstop::decide::rules::{Detector, DetectorKind, ServiceRules, SeverityRules};
use backstop::machine::input::{Answer, Command, ReleasePhase};
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

fn announced() -> Detector {
    Detector { describe: "announced".into(), kind: DetectorKind::Announced, interval: secs(0) }
}

fn announce(world: &mut World, release: &str) {
    let (service, release) = ("api".to_owned(), release.to_owned());
    world.command(Command::AnnounceRelease { service, release, phase: ReleasePhase::End });
}

/// What went wrong while an announced release ran began before the one that is announced next.
#[test]
fn an_announcement_says_what_runs_until_the_next_one() {
    for detectors in [vec![announced()], vec![symlink(), announced()]] {
        let mut service = service();
        service.detectors = detectors;
        service.autonomy = Autonomy::Propose;
        let mut world = World::new(rules(vec![service]), 1);
        announce(&mut world, "r1");
        calm(&mut world);
        // The announcement stands in for it.
        world.fleet.symlink_readable = false;
        announce(&mut world, "r2");
        world.run(MINUTE);
        world.fleet.errors_anyway = 0.5;
        world.run_until(3 * MINUTE, "a proposal", |world| world.state() == "proposed");
        world
            .command(Command::Decline { incident: of(&world, "r2").id.to_string(), reason: "it is not r2".to_owned() });
        world.run(MINUTE);
        announce(&mut world, "r3");
        world.run(3 * MINUTE);
        let incident = of(&world, "r3");
        assert_eq!((incident.state, &*incident.reasons[0]), ("escalated", "before_release"), "{}", world.story());
    }
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

fn raise(world: &mut World, signal: &str) {
    let (service, signal) = ("api".to_owned(), signal.to_owned());
    done(&world.command(Command::RaiseSignal { service, signal, ttl: secs(86_400), detail: String::new() }));
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

// ------------------------------------------------------------------------------------ what the release is to blame for

/// `corrupt` has burned since before `r3`, which is broken in another way.
fn burning(change: impl FnOnce(&mut ServiceRules)) -> World {
    let mut world = world(|service| {
        service.ladder[0] = level("previous release", vec![step("rollback")]);
        service.ladder.push(level("restore the database", vec![step("restore")]));
        service.triggers.push(signal("corrupt", Gate::Release));
        service.guard.release_window = secs(90);
        change(service);
    });
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::GOOD);
    world.run(2 * MINUTE);
    raise(&mut world, "corrupt");
    world.run(MINUTE);
    deploy(&mut world, "r3", Behaviour::BROKEN);
    world
}

#[test]
fn what_burned_before_the_release_does_not_make_its_rollback_a_failure() {
    let mut world = burning(|_| {});
    world.run_until(5 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
    world.run_until(5 * MINUTE, "the end", |world| state_of(world, "r3") == "recovered");
    world.run(10 * MINUTE);
    assert_eq!(begun(&world), ["rollback"], "{}", world.story());
    assert_eq!(world.fleet.symlink, "r1");
}

#[test]
fn over_a_restart_too() {
    let mut world = burning(|_| {});
    world.run_until(5 * MINUTE, "the verification", |world| state_of(world, "r3") == "verifying");
    world.checkpoint();
    world.restart();
    world.run_until(5 * MINUTE, "the end", |world| state_of(world, "r3") == "recovered");
    assert_eq!(begun(&world), ["rollback"], "{}", world.story());
}

#[test]
fn what_joins_during_the_soak_and_is_none_of_the_releases_doing_is_told_and_not_acted_on() {
    let observed = |service: &mut ServiceRules| {
        service.triggers.push(signal("corrupt", Gate::Release));
        service.triggers[2].autonomy = Some(Autonomy::Observe);
    };
    let ungated = |service: &mut ServiceRules| service.triggers.push(signal("corrupt", Gate::None));
    let cases: [&dyn Fn(&mut ServiceRules); 2] = [&observed, &ungated];
    for change in cases {
        let mut world = world(|service| {
            two_levels(service);
            service.ladder.swap(0, 1);
            change(service);
        });
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(5 * MINUTE, "the verification", |world| state_of(world, "r2") == "verifying");
        raise(&mut world, "corrupt");
        world.run_until(5 * MINUTE, "the end", |world| state_of(world, "r2") == "recovered");
        assert_eq!(begun(&world), ["rollback"], "{}", world.story());
        let joined = times(&world, |event| matches!(event, IncidentEvent::Joined { .. }));
        assert_eq!(joined, 1, "{}", world.story());
    }
}

#[test]
fn what_the_release_broke_too_must_come_clear_although_it_joined_late() {
    let mut world = world(|service| {
        two_levels(service);
        service.triggers.push(signal("corrupt", Gate::Release));
    });
    world.scripts.insert("flag".to_owned(), Script::FlagOff);
    world.step_ms = 20 * SECOND;
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run_until(5 * MINUTE, "the step", |world| !world.steps_begun().is_empty());
    raise(&mut world, "corrupt");
    world.run_until(5 * MINUTE, "the next level", |world| world.steps_begun().len() == 2);
}

#[test]
fn a_rollback_by_hand_of_what_burned_before_is_verified_by_it() {
    let mut world = burning(|service| service.ladder.truncate(1));
    world.fleet.behaviours.insert("r3".to_owned(), Behaviour::GOOD);
    world.run_until(5 * MINUTE, "a person must look", |world| state_of(world, "r3") == "escalated");
    let (service, reason) = ("api".to_owned(), "it is worse".to_owned());
    done(&world.command(Command::Rollback { service, reason, level: None, overrides: Vec::new() }));
    world.run_until(5 * MINUTE, "the end", |world| state_of(world, "r3") == "needs_human");
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

// ------------------------------------------------------------------------------------------- one yes is for one level

fn asks(on: &str) -> impl Fn(&mut ServiceRules) + '_ {
    move |service: &mut ServiceRules| {
        two_levels(service);
        match on {
            "service" => service.autonomy = Autonomy::Propose,
            "trigger" => service.triggers[0].autonomy = Some(Autonomy::Propose),
            _ => {
                let (autonomy, approvers) = (Some(Autonomy::Propose), Vec::new());
                let on_silence = OnSilence::Decline;
                let rules = SeverityRules { autonomy, approvers, respond_within: Some(secs(300)), on_silence };
                service.severities.insert(Severity::High, rules);
            }
        }
    }
}

#[test]
fn an_approval_of_one_level_is_none_of_the_next() {
    for on in ["service", "trigger", "severity"] {
        let mut world = world(asks(on));
        world.scripts.insert("flag".to_owned(), Script::Nothing);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        for (level, ran) in [(1, 0), (2, 1)] {
            world.run_until(5 * MINUTE, "the question", |world| world.state() == "proposed");
            world.run(30 * SECOND);
            assert_eq!(world.steps_begun().len(), ran, "{on}, level {level}\n{}", world.story());
            let incident = of(&world, "r2").id.to_string();
            done(&world.command(Command::Approve { incident, reason: String::new() }));
        }
        world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
        let asked = world.kinds().iter().filter(|kind| **kind == N::ApprovalRequested).count();
        assert_eq!((asked, begun(&world)), (2, vec!["flag".to_owned(), "rollback".to_owned()]), "{on}");
    }
}

#[test]
fn what_a_careful_trigger_wants_does_not_hold_up_one_that_may_act() {
    let mut world = world(|service| {
        two_levels(service);
        service.triggers.push(signal("corrupt", Gate::Release));
        service.triggers[2].autonomy = Some(Autonomy::Propose);
    });
    world.scripts.insert("flag".to_owned(), Script::Nothing);
    calm(&mut world);
    deploy(&mut world, "r2", Behaviour::BROKEN);
    world.run(SECOND * 20);
    raise(&mut world, "corrupt");
    world.run_until(5 * MINUTE, "the second level", |world| world.steps_begun().len() == 2);
}

#[test]
fn an_order_by_hand_is_for_its_level_where_the_service_does_not_act() {
    for autonomy in [Autonomy::Observe, Autonomy::Propose] {
        let mut world = world(|service| {
            two_levels(service);
            service.autonomy = autonomy;
            service.respond_within = secs(3600);
        });
        world.scripts.insert("flag".to_owned(), Script::Nothing);
        calm(&mut world);
        deploy(&mut world, "r2", Behaviour::BROKEN);
        world.run_until(5 * MINUTE, "the incident", |world| world.state() != "none");
        let (service, reason) = ("api".to_owned(), "it is slow".to_owned());
        done(&world.command(Command::Rollback { service, reason, level: None, overrides: Vec::new() }));
        world.run_until(5 * MINUTE, "the question", |world| world.state() == "proposed");
        world.run(10 * MINUTE);
        assert_eq!(begun(&world), ["flag"], "{autonomy:?}\n{}", world.story());
    }
}
