use super::*;

/// What triggers, probes and checks say, and what follows.
type Case<'a> = (&'a [Voice], &'a [Voice], &'a [Voice], Reading);

#[test]
fn the_voices_together() {
    use Voice::{Breached, Clear, NoTraffic, Unknown};
    let cases: [Case<'_>; 18] = [
        (&[Clear], &[], &[], Reading::Clear),
        (&[Clear, Clear], &[Clear], &[], Reading::Clear),
        (&[Clear, Breached], &[], &[], Reading::Breached),
        (&[Clear], &[Breached], &[], Reading::Breached),
        (&[Unknown, Breached], &[Unknown], &[], Reading::Breached),
        (&[Clear, Unknown], &[], &[], Reading::Unknown),
        (&[Clear], &[Unknown], &[], Reading::Unknown),
        (&[NoTraffic], &[], &[], Reading::Unknown),
        (&[NoTraffic], &[Clear], &[], Reading::Clear),
        (&[NoTraffic], &[Clear, Unknown], &[], Reading::Unknown),
        (&[Unknown], &[Clear], &[], Reading::Unknown),
        (&[], &[], &[], Reading::Unknown),
        (&[], &[Clear], &[], Reading::Clear),
        (&[Clear], &[], &[Clear], Reading::Clear),
        (&[Clear], &[Clear], &[Breached], Reading::Breached),
        (&[Clear], &[Clear], &[Unknown], Reading::Unknown),
        (&[NoTraffic], &[], &[Clear], Reading::Unknown),
        (&[], &[], &[Clear], Reading::Unknown),
    ];
    for (triggers, proofs, conditions, expected) in cases {
        assert_eq!(read(triggers, proofs, conditions), expected, "{triggers:?} {proofs:?} {conditions:?}");
    }
}

#[test]
fn only_clear_time_is_soaked() {
    let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
    let gap = Duration::from_secs(20);
    let mut soak = Soak::from(at(0));
    let mut take = |reading, second| {
        soak.take(reading, at(second), gap, gap);
        soak.soaked.as_secs()
    };
    assert_eq!(take(Reading::Clear, 10), 0, "the first one only begins");
    assert_eq!(take(Reading::Clear, 20), 10);
    assert_eq!(take(Reading::Clear, 20), 10, "the same look twice");
    assert_eq!(take(Reading::Clear, 40), 30, "just within the tolerance");
    assert_eq!(take(Reading::Clear, 61), 30, "a gap earns nothing");
    assert_eq!(take(Reading::Unknown, 70), 30, "and Unknown suspends");
    assert_eq!(take(Reading::Clear, 75), 30);
    assert_eq!(take(Reading::Clear, 80), 35);
    assert_eq!(take(Reading::Breached, 85), 0);
    assert_eq!(take(Reading::Clear, 90), 0);
}

#[test]
fn an_answer_counts_until_the_next_one_is_due() {
    use crate::decide::event::{Ask, Check};
    let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
    let ask = Ask::Command {
        argv: Vec::new(),
        env: std::collections::BTreeMap::default(),
        inherit: Vec::new(),
        directory: None,
    };
    let check = Check { name: "smoke".to_owned(), ask, timeout: Duration::from_secs(10) };
    let often = Proof { check, every: Duration::from_secs(40), once: false };
    let once = Proof { once: true, ..often.clone() };
    let mut heard = Heard::default();
    assert_eq!((heard.due(&often, at(7)), heard.voice(&often, at(7))), (Some(at(7)), Voice::Unknown));
    heard.asked = Some(at(10));
    assert_eq!(heard.due(&often, at(7)), Some(at(50)));
    heard.answer = Some((at(10), CheckOutcome::Passed));
    assert_eq!((heard.voice(&often, at(70)), heard.voice(&often, at(71))), (Voice::Clear, Voice::Unknown));
    assert_eq!((heard.voice(&once, at(9999)), heard.due(&once, at(7))), (Voice::Clear, None));
    heard.answer = Some((at(10), CheckOutcome::Failed("HTTP 500".to_owned())));
    assert_eq!((heard.voice(&once, at(70)), heard.voice(&once, at(71))), (Voice::Breached, Voice::Unknown));
    assert_eq!(heard.due(&once, at(7)), Some(at(50)), "until it passes it is asked again");
    heard.answer = Some((at(10), CheckOutcome::Unknown("no answer".to_owned())));
    assert_eq!(heard.voice(&often, at(11)), Voice::Unknown);
}

#[test]
fn what_serves_must_be_what_was_wanted() {
    let release = |name: &str| Release(name.into());
    let one = |name: &str| Running::One(release(name));
    let both = Running::Mix(vec![(release("v41"), 0.5), (release("v42"), 0.5)]);
    let target = release("v41");
    let says = |running: &Running| serves(running, Some(&target));
    assert_eq!((says(&one("v41")), says(&one("v42"))), (Voice::Clear, Voice::Breached));
    assert_eq!((says(&both), says(&Running::Unknown(String::new()))), (Voice::Breached, Voice::Unknown));
    assert_eq!(serves(&one("v41"), None), Voice::Unknown);
}
