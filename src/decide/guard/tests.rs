use super::asked::{About, Asked, Standing};
use super::*;
use crate::decide::event::IncidentId;
use crate::time::BootId;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn now() -> Now {
    Now { monotonic: at(1000), wall: at(1_790_000_000), boot: BootId("b".into()), since_boot: Duration::ZERO }
}

fn release(name: &str) -> Release {
    Release(name.into())
}

fn blocker(standing: Standing) -> Vec<Asked> {
    vec![Asked { name: "schema".into(), about: About::Blocker { says: None }, standing, overridden: false }]
}

fn way_back(standing: Standing) -> Vec<Asked> {
    let about = About::WayBack { target: "r1".to_owned() };
    vec![Asked { name: "image".into(), about, standing, overridden: false }]
}

/// A world in which everything allows, to be spoiled in one place.
struct World {
    running: Running,
    judged: Release,
    way_back: Release,
    change: Change,
}

impl World {
    fn new() -> World {
        World {
            running: Running::One(release("r2")),
            judged: release("r2"),
            way_back: release("r1"),
            change: Change {
                release: release("r2"),
                previous: Some(release("r1")),
                old_last_seen: Some(at(490)),
                first_seen: at(500),
                returned: false,
                installed_by: None,
            },
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            autonomy: Autonomy::Act,
            gate: Gate::Release,
            release_window: Duration::from_mins(5),
            breach: Breach { began: at(600), inherited: None, was_clear: true, baseline: None, worsened: None },
            running: &self.running,
            judged: Some(&self.judged),
            change: Some(&self.change),
            rolled_back_before: false,
            step_in_flight: false,
            way_back: Some(&self.way_back),
            way_back_ran: Duration::from_mins(10),
            release_read: true,
            reach: Reach::Target,
            killed: None,
            kill_overridden: false,
            tilt: None,
            dependencies_breaching: Vec::new(),
            dependencies_unseen: Vec::new(),
            frozen: None,
            paused: None,
            journal_failing: None,
            cooldown_until: None,
            budget_used: None,
            breaching_share: None,
            level_left: true,
            asked: Vec::new(),
        }
    }
}

fn kind(facts: &Facts<'_>, mandate: Mandate) -> DecisionKind {
    judge(facts, mandate, &now()).kind
}

#[test]
fn when_everything_allows_it_rolls_back() {
    let world = World::new();
    for mandate in [Mandate::Trigger, Mandate::Approved, Mandate::ByHand] {
        let decision = judge(&world.facts(), mandate, &now());
        assert_eq!((decision.kind, decision.reasons.len()), (DecisionKind::RollBack, 0), "{mandate:?}");
        assert!(decision.checks.iter().all(|check| check.allows));
    }
}

type Spoil = fn(&mut Facts<'_>);

/// Each check alone: its code, and what it makes of a trigger's, an approved and a manual rollback.
#[test]
fn each_check_alone_stops_the_action() {
    use DecisionKind::{Escalate, Hold, Propose, RollBack, WouldRollBack};
    let unknown = Running::Unknown("the link is gone".to_owned());
    let other = Running::One(release("r3"));
    let mixed = Running::Mix(vec![(release("r2"), 0.5), (release("r0"), 0.5)]);
    let strangers = Running::Mix(vec![(release("r3"), 0.5), (release("r0"), 0.5)]);
    let cases: [(&str, Spoil, [DecisionKind; 3]); 29] = [
        ("journal_failing", |f| f.journal_failing = Some("full"), [Hold, Hold, Hold]),
        ("step_in_flight", |f| f.step_in_flight = true, [Hold, Hold, Hold]),
        ("rolled_back_before", |f| f.rolled_back_before = true, [Escalate, Escalate, RollBack]),
        ("cut_off", |f| f.reach = Reach::CutOff { references: 2 }, [Hold, Hold, RollBack]),
        ("no_reference", |f| f.reach = Reach::NoReference, [Hold, Hold, RollBack]),
        ("just_back", |f| f.reach = Reach::Back, [Hold, Hold, RollBack]),
        ("share", |f| f.breaching_share = Some((0.51, 0.5)), [Propose, RollBack, RollBack]),
        ("kill_switch", |f| f.killed = Some("moving".to_owned()), [Hold, Hold, Hold]),
        ("tilt", |f| f.tilt = Some((at(1001), "the clock jumped")), [Hold, Hold, RollBack]),
        ("dependency", |f| f.dependencies_breaching = vec!["postgres: down".to_owned()], [Hold, Hold, RollBack]),
        ("freeze", |f| f.frozen = Some(("weekend", at(1001))), [Propose, RollBack, RollBack]),
        ("paused", |f| f.paused = Some((at(1001), "maintenance")), [Hold, Hold, RollBack]),
        ("release_not_read", |f| f.release_read = false, [Hold, Hold, RollBack]),
        ("no_release", |f| f.change = None, [Escalate, Escalate, RollBack]),
        ("never_clear", |f| f.breach.was_clear = false, [Escalate, Escalate, RollBack]),
        ("before_release", |f| f.breach.inherited = Some(at(10)), [Escalate, Escalate, RollBack]),
        ("before_release", |f| f.breach.began = at(489), [Escalate, Escalate, RollBack]),
        ("not_after_release", |f| f.breach.began = at(801), [Escalate, Escalate, RollBack]),
        ("no_way_back", |f| f.way_back = None, [Escalate, Escalate, Escalate]),
        ("ladder_exhausted", |f| f.level_left = false, [Escalate, Escalate, Escalate]),
        ("blocked", |f| f.asked = blocker(Standing::Holds("exit status 1".into())), [Escalate, Escalate, Escalate]),
        ("blocker_unknown", |f| f.asked = blocker(Standing::Unknown("late".into())), [Escalate, Escalate, Escalate]),
        ("blocker_unasked", |f| f.asked = blocker(Standing::Waiting), [Hold, Hold, Hold]),
        ("way_back_not_ready", |f| f.asked = way_back(Standing::Holds("gone".into())), [Escalate, Escalate, Escalate]),
        ("way_back_unchecked", |f| f.asked = way_back(Standing::Waiting), [Hold, Hold, Hold]),
        ("cooldown", |f| f.cooldown_until = Some(at(1001)), [Propose, RollBack, RollBack]),
        ("budget", |f| f.budget_used = Some("used up".to_owned()), [Propose, RollBack, RollBack]),
        ("autonomy", |f| f.autonomy = Autonomy::Propose, [Propose, RollBack, RollBack]),
        ("", |f| f.autonomy = Autonomy::Observe, [WouldRollBack, RollBack, RollBack]),
    ];
    let world = World::new();
    for (code, spoil, expected) in cases {
        for (mandate, expected) in [Mandate::Trigger, Mandate::Approved, Mandate::ByHand].into_iter().zip(expected) {
            let mut facts = world.facts();
            spoil(&mut facts);
            let decision = judge(&facts, mandate, &now());
            assert_eq!(decision.kind, expected, "{code} {mandate:?}");
            let codes: Vec<&str> = decision.reasons.iter().map(|reason| reason.code.as_str()).collect();
            let wanted: Vec<&str> = if expected == RollBack || code.is_empty() { vec![] } else { vec![code] };
            assert_eq!(codes, wanted, "{mandate:?}");
        }
    }
    for (running, code, expected) in [
        (&unknown, "release_unknown", [Propose, RollBack, Hold]),
        (&other, "other_release", [Hold, Hold, Hold]),
        (&mixed, "mixed", [Hold, Hold, Hold]),
        (&strangers, "other_release", [Hold, Hold, Hold]),
    ] {
        for (mandate, expected) in [Mandate::Trigger, Mandate::Approved, Mandate::ByHand].into_iter().zip(expected) {
            let facts = Facts { running, ..world.facts() };
            let decision = judge(&facts, mandate, &now());
            assert_eq!(decision.kind, expected, "{code} {mandate:?}");
            assert!(decision.reasons.iter().all(|reason| reason.code == code));
        }
    }
}

#[test]
fn both_sides_of_each_limit() {
    let world = World::new();
    let with = |spoil: Spoil| {
        let mut facts = world.facts();
        spoil(&mut facts);
        kind(&facts, Mandate::Trigger)
    };
    assert_eq!(with(|f| f.breach.began = at(490)), DecisionKind::RollBack, "at the last sight of the old release");
    assert_eq!(with(|f| f.breach.began = at(495)), DecisionKind::RollBack, "within the change");
    assert_eq!(with(|f| f.breach.began = at(800)), DecisionKind::RollBack, "at the end of the window");
    assert_eq!(with(|f| f.cooldown_until = Some(at(1000))), DecisionKind::RollBack, "the cooldown is just over");
    assert_eq!(with(|f| f.breaching_share = Some((0.5, 0.5))), DecisionKind::RollBack, "at the limit");
    assert_eq!(with(|f| f.reach = Reach::Reference("example".to_owned())), DecisionKind::RollBack);
}

#[test]
fn an_old_breach_counts_from_where_it_became_clearly_worse() {
    let world = World::new();
    let baseline = Some(Compared { value: 0.2, unit: Unit::Percent, factor: 2.0 });
    let breach = Breach { began: at(600), inherited: Some(at(10)), was_clear: true, baseline, worsened: None };
    let of = |breach| judge(&Facts { breach, ..world.facts() }, Mandate::Trigger, &now());
    let as_it_was = of(breach);
    assert_eq!((as_it_was.kind, as_it_was.reasons[0].code.as_str()), (DecisionKind::Escalate, "before_release"));
    assert!(as_it_was.reasons[0].sentence.ends_with("(20 % then, and not 2 times as bad since)"), "{as_it_was:?}");
    let worsened = |began| Breach { worsened: Some(Worsened { began, now: 0.5 }), ..breach };
    let worse = of(worsened(at(600)));
    assert_eq!(worse.kind, DecisionKind::RollBack);
    let sentence = &worse.checks.iter().find(|check| check.check == "attribution").expect("it was asked").sentence;
    assert_eq!(*sentence, "it was wrong before r2 came (20 %), and has been at least 2 times as bad since (50 %)");
    assert_eq!(of(Breach { was_clear: false, ..worsened(at(600)) }).kind, DecisionKind::RollBack);
    let late = of(worsened(at(801)));
    assert_eq!((late.kind, late.reasons[0].code.as_str()), (DecisionKind::Escalate, "not_after_release"));
}

#[test]
fn an_order_passes_over_the_kill_switch_and_says_so() {
    let world = World::new();
    let facts = Facts { killed: Some("moving".to_owned()), kill_overridden: true, ..world.facts() };
    let decision = judge(&facts, Mandate::ByHand, &now());
    assert_eq!(decision.kind, DecisionKind::RollBack);
    assert!(decision.checks.iter().any(|check| check.check == OVERRIDES_KILL_SWITCH));
    assert!(judge(&world.facts(), Mandate::ByHand, &now()).checks.iter().all(|c| c.check != OVERRIDES_KILL_SWITCH));
}

#[test]
fn a_dependency_that_cannot_be_seen_is_named_and_does_not_hold() {
    let world = World::new();
    let facts = Facts { dependencies_unseen: vec!["postgres".into()], ..world.facts() };
    let decision = judge(&facts, Mandate::Trigger, &now());
    assert_eq!(decision.kind, DecisionKind::RollBack);
    let check = decision.checks.iter().find(|check| check.check == "dependencies").expect("it was asked");
    assert_eq!(check.sentence, "no dependency breaches (postgres cannot be seen)");
}

#[test]
fn a_change_of_our_own_or_a_return_is_not_to_blame() {
    for (installed_by, returned, code) in
        [(Some(IncidentId("api-1".into())), false, "own_release"), (None, true, "returned_release")]
    {
        let mut world = World::new();
        (world.change.installed_by, world.change.returned) = (installed_by, returned);
        let decision = judge(&world.facts(), Mandate::Trigger, &now());
        assert_eq!((decision.kind, decision.reasons[0].code.as_str()), (DecisionKind::Escalate, code));
        let ungated = Facts { gate: Gate::None, ..world.facts() };
        assert_eq!(kind(&ungated, Mandate::Trigger), DecisionKind::RollBack, "wrong whatever was deployed");
    }
}

#[test]
fn the_release_and_its_way_back_may_run_side_by_side() {
    let mut world = World::new();
    world.running = Running::Mix(vec![(release("r1"), 0.7), (release("r2"), 0.3)]);
    assert_eq!(kind(&world.facts(), Mandate::Trigger), DecisionKind::RollBack);
}

#[test]
fn a_way_back_that_came_just_before_may_be_what_is_wrong_as_long_as_both_run() {
    let mut world = World::new();
    for (seconds, mandate, decided) in [
        (299, Mandate::Trigger, DecisionKind::Hold),
        (299, Mandate::Approved, DecisionKind::Hold),
        (299, Mandate::ByHand, DecisionKind::RollBack),
        (300, Mandate::Trigger, DecisionKind::RollBack),
    ] {
        for (running, decided) in [
            (Running::Mix(vec![(release("r1"), 0.7), (release("r2"), 0.3)]), decided),
            (Running::One(release("r2")), DecisionKind::RollBack),
        ] {
            world.running = running;
            let facts = Facts { way_back_ran: Duration::from_secs(seconds), ..world.facts() };
            assert_eq!(kind(&facts, mandate), decided, "{seconds} {mandate:?} {:?}", world.running);
        }
    }
}

#[test]
fn doubt_comes_before_calling_and_calling_before_asking() {
    let world = World::new();
    let mut facts = Facts { autonomy: Autonomy::Propose, ..world.facts() };
    assert_eq!(kind(&facts, Mandate::Trigger), DecisionKind::Propose);
    facts.way_back = None;
    assert_eq!(kind(&facts, Mandate::Trigger), DecisionKind::Escalate);
    facts.journal_failing = Some("full");
    let decision = judge(&facts, Mandate::Trigger, &now());
    assert_eq!((decision.kind, decision.reasons.len()), (DecisionKind::Hold, 1));
    let refusals = decision.checks.iter().filter(|check| !check.allows).count();
    assert_eq!(refusals, 3, "all of them are shown");
}

#[test]
fn nobody_knows_what_ever_ran() {
    let world = World::new();
    let running = Running::Unknown("unread".to_owned());
    let facts = Facts { judged: None, change: None, way_back: None, running: &running, ..world.facts() };
    assert_ne!(kind(&facts, Mandate::Approved), DecisionKind::RollBack);
    assert_ne!(kind(&Facts { gate: Gate::None, ..facts }, Mandate::ByHand), DecisionKind::RollBack);
}
