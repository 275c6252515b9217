use super::*;

#[test]
fn the_voices_together() {
    use Voice::{Breached, Clear, NoTraffic, Unknown};
    let cases: [(&[Voice], &[Voice], Reading); 13] = [
        (&[Clear], &[], Reading::Clear),
        (&[Clear, Clear], &[Clear], Reading::Clear),
        (&[Clear, Breached], &[], Reading::Breached),
        (&[Clear], &[Breached], Reading::Breached),
        (&[Unknown, Breached], &[Unknown], Reading::Breached),
        (&[Clear, Unknown], &[], Reading::Unknown),
        (&[Clear], &[Unknown], Reading::Unknown),
        (&[NoTraffic], &[], Reading::Unknown),
        (&[NoTraffic], &[Clear], Reading::Clear),
        (&[NoTraffic], &[Clear, Unknown], Reading::Unknown),
        (&[Unknown], &[Clear], Reading::Unknown),
        (&[], &[], Reading::Unknown),
        (&[], &[Clear], Reading::Clear),
    ];
    for (triggers, probes, expected) in cases {
        assert_eq!(read(triggers, probes), expected, "{triggers:?} {probes:?}");
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
