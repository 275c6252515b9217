use std::sync::Arc;

use super::*;
use crate::decide::event::{Gate, Severity};
use crate::decide::regression::Baseline;
use crate::decide::rules::FireWhen;
use crate::promql::{BURN_PAIRS, BurnPair, Expr, RatioParts, SelectorEvidence};

fn trigger(kind: ValueKind, comparison: Comparison, threshold: f64) -> Trigger {
    let expr = Arc::new(Expr::parse("1").expect("a number"));
    Trigger {
        name: "t".into(),
        question: Question::Value { kind, expr, comparison, threshold, unit: Unit::Percent },
        hold: Duration::ZERO,
        severity: Severity::High,
        gate: Gate::Release,
        autonomy: None,
        start_level: 0,
        fire_when: FireWhen::Any,
        on_unknown: OnUnknown::Pause,
        gap_tolerance: Duration::from_secs(30),
        interval: Duration::from_secs(15),
    }
}

fn seen(selector: &str) -> SelectorEvidence {
    SelectorEvidence {
        selector: selector.to_owned(),
        targets: 5,
        targets_fresh: 5,
        targets_seen: 5,
        series_now: 1,
        series_ever: 1,
        observed: Duration::from_mins(1),
        window: Duration::from_mins(1),
        newest: None,
        may_be_absent: false,
    }
}

fn ratio_of(part: Option<f64>, whole: Option<f64>, part_ever: bool) -> Evaluation {
    Evaluation {
        value: Value::Vector(Vec::new()),
        evidence: vec![seen("part"), seen("whole")],
        ratio: Some(RatioParts { part, whole, part_ever }),
        events: Some((whole.unwrap_or(0.0), 20.0)),
        window: Duration::from_mins(1),
        burn: None,
        annotations: Vec::new(),
    }
}

fn vector_of(values: &[(&str, f64)]) -> Evaluation {
    let values = values.iter().map(|(pod, value)| (Labels::from_pairs([("pod", *pod)]), *value));
    Evaluation {
        value: Value::Vector(values.collect()),
        evidence: vec![seen("memory")],
        ratio: None,
        events: None,
        window: Duration::ZERO,
        burn: None,
        annotations: Vec::new(),
    }
}

fn says(trigger: &Trigger, evaluation: Evaluation) -> &'static str {
    find(trigger, Ok(evaluation), &Baselines::default()).worst().1.as_str()
}

#[test]
fn both_sides_of_every_comparison() {
    use Comparison::{Above, AtLeast, AtMost, Below, Equal, NotEqual};
    let cases = [
        (Above, ["clear", "clear", "breached"]),
        (AtLeast, ["clear", "breached", "breached"]),
        (Below, ["breached", "clear", "clear"]),
        (AtMost, ["breached", "breached", "clear"]),
        (Equal, ["clear", "breached", "clear"]),
        (NotEqual, ["breached", "clear", "breached"]),
    ];
    for (comparison, expected) in cases {
        for (value, expected) in [14.0, 15.0, 16.0].into_iter().zip(expected) {
            let ratio = trigger(ValueKind::Ratio, comparison, 0.15);
            assert_eq!(says(&ratio, ratio_of(Some(value), Some(100.0), true)), expected, "{comparison:?} {value}");
            let vector = trigger(ValueKind::Expr, comparison, 15.0);
            assert_eq!(says(&vector, vector_of(&[("a", value)])), expected, "{comparison:?} {value}");
        }
    }
}

#[test]
fn both_sides_of_the_minimum_count() {
    let above = trigger(ValueKind::Ratio, Comparison::Above, 0.15);
    assert_eq!(says(&above, ratio_of(Some(19.0), Some(19.0), true)), "unknown");
    assert_eq!(says(&above, ratio_of(Some(20.0), Some(20.0), true)), "breached");
    let quantile = trigger(ValueKind::Quantile, Comparison::Above, 5.0);
    for (have, expected) in [(19.0, "unknown"), (20.0, "breached")] {
        let evaluation = Evaluation { events: Some((have, 20.0)), ..vector_of(&[("", 7.0)]) };
        assert_eq!(says(&quantile, evaluation), expected);
    }
}

#[test]
fn a_missing_side_of_a_ratio() {
    let (above, below) =
        (trigger(ValueKind::Ratio, Comparison::Above, 0.15), trigger(ValueKind::Ratio, Comparison::Below, 0.8));
    assert_eq!(says(&above, ratio_of(None, Some(100.0), false)), "clear", "nobody has failed yet");
    assert_eq!(says(&below, ratio_of(None, Some(100.0), true)), "breached", "nobody signs in any more");
    assert_eq!(says(&below, ratio_of(None, Some(100.0), false)), "unknown", "a renamed label looks the same");
    for ratio in [&above, &below] {
        assert_eq!(says(ratio, ratio_of(Some(5.0), None, true)), "unknown");
    }
}

#[test]
fn what_is_not_covered_is_unknown_whatever_the_value() {
    let gaps: [fn(&mut SelectorEvidence); 4] = [
        |evidence| evidence.targets = 0,
        |evidence| evidence.targets_fresh = 3,
        |evidence| evidence.targets_seen = 3,
        |evidence| evidence.observed = Duration::from_secs(47),
    ];
    let ratio = trigger(ValueKind::Ratio, Comparison::Above, 0.15);
    let value = trigger(ValueKind::Expr, Comparison::Above, 15.0);
    for (place, gap) in gaps.into_iter().enumerate() {
        let mut evaluation = ratio_of(Some(90.0), Some(100.0), true);
        gap(&mut evaluation.evidence[1]);
        assert_eq!(says(&ratio, evaluation), "unknown", "whole, gap {place}");
        let mut evaluation = vector_of(&[("a", 90.0)]);
        gap(&mut evaluation.evidence[0]);
        let findings = find(&value, Ok(evaluation), &Baselines::default());
        assert_eq!(findings.worst().1.as_str(), "unknown", "gap {place}");
        assert_eq!(findings.of(&Labels::from_pairs([("pod", "a")])).0.as_str(), "unknown");
    }
    let mut enough = vector_of(&[("a", 90.0)]);
    enough.evidence[0].targets_fresh = 4;
    enough.evidence[0].observed = Duration::from_secs(48);
    assert_eq!(says(&value, enough), "breached", "80 % are enough");
}

#[test]
fn a_number_that_is_none_decides_nothing() {
    let value = trigger(ValueKind::Expr, Comparison::Above, 15.0);
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(says(&value, vector_of(&[("a", odd)])), "unknown");
        let ratio = trigger(ValueKind::Ratio, Comparison::Above, 0.15);
        assert_eq!(says(&ratio, ratio_of(Some(odd), Some(100.0), true)), "unknown");
    }
    let none = Evaluation { events: Some((0.0, 0.0)), ..ratio_of(Some(0.0), Some(0.0), true) };
    assert_eq!(says(&trigger(ValueKind::Ratio, Comparison::Above, 0.15), none), "unknown", "0 of 0");
    // One odd series hides none that is known.
    assert_eq!(says(&value, vector_of(&[("a", f64::NAN), ("b", 16.0)])), "breached");
    assert_eq!(says(&value, vector_of(&[("a", f64::NAN), ("b", 14.0)])), "unknown");
}

#[test]
fn an_empty_result_that_is_covered_is_clear() {
    let findings = find(&trigger(ValueKind::Expr, Comparison::Above, 15.0), Ok(vector_of(&[])), &Baselines::default());
    assert_eq!((findings.sets.len(), &findings.others), (0, &Finding::Clear));
}

#[test]
fn what_is_unknown_breaches_only_by_the_operators_choice_and_never_while_starting() {
    let missing = Finding::Unknown(Unknown::Missing("m".to_owned()));
    assert_eq!(missing.says(OnUnknown::Pause), Says::Unknown(Blank::Blind));
    assert_eq!(missing.says(OnUnknown::Breach), Says::Breached);
    for choice in [OnUnknown::Pause, OnUnknown::Breach] {
        assert_eq!(Finding::Unknown(Unknown::Starting).says(choice), Says::Unknown(Blank::Natural));
        assert_eq!(Finding::Clear.says(choice), Says::Clear);
        assert_eq!(Finding::Breached.says(choice), Says::Breached);
    }
}

#[test]
fn an_evaluation_that_fails_is_unknown() {
    let findings = find(
        &trigger(ValueKind::Expr, Comparison::Above, 1.0),
        Err(EvalError("many to many".to_owned())),
        &Baselines::default(),
    );
    assert_eq!(findings.worst().1.to_owned(), Finding::Unknown(Unknown::Invalid("many to many".to_owned())));
}

#[test]
fn numbers_as_people_write_them() {
    let texts = [
        (0.43, Unit::Percent, "43 %"),
        (0.155, Unit::Percent, "15.5 %"),
        (5.25, Unit::Seconds, "5.25 s"),
        (17.0, Unit::Number, "17"),
        (1234.5, Unit::Number, "1234"),
        (0.0004, Unit::Number, "0.0004"),
        (-2.5, Unit::Number, "-2.5"),
    ];
    for (value, unit, text) in texts {
        assert_eq!(value_text(value, unit), text);
    }
}

#[test]
fn failures_of_a_probe_are_read_with_what_they_are() {
    let texts = |failures: u32, of: u32| {
        let mut trigger = trigger(ValueKind::Health, Comparison::AtLeast, f64::from(failures));
        let Question::Value { unit, .. } = &mut trigger.question else { unreachable!("made above") };
        *unit = Unit::Failures { of };
        (value_text(f64::from(failures), Unit::Failures { of }), threshold_text(&trigger.question))
    };
    let both = |value: &str, threshold: &str| (value.to_owned(), threshold.to_owned());
    assert_eq!(texts(3, 3), both("3 failures", "at least 3 failures in a row"));
    assert_eq!(texts(1, 1), both("1 failure", "at least 1 failure"));
    assert_eq!(texts(3, 5), both("3 failures", "at least 3 failures among the last 5"));
}

/// Failed and all events in the long and the short window of each pair, and for how many minutes it was observed.
fn burning(pairs: [[(f64, f64); 2]; 2], seen_mins: f64) -> Evaluation {
    let parts = |(part, whole): (f64, f64)| RatioParts { part: Some(part), whole: Some(whole), part_ever: true };
    let over = |window: Duration, share: f64| {
        let of = |name| SelectorEvidence { window, observed: window.mul_f64(share), ..seen(name) };
        [of("part"), of("whole")]
    };
    let seen_of = |window: Duration| (seen_mins * 60.0 / window.as_secs_f64()).min(1.0);
    let burn = BURN_PAIRS.iter().zip(pairs).map(|(windows, [long, short])| BurnPair {
        windows: *windows,
        long: parts(long),
        short: parts(short),
    });
    let evidence = BURN_PAIRS
        .iter()
        .flat_map(|pair| [over(pair.long, seen_of(pair.long)), over(pair.short, seen_of(pair.short))])
        .flatten();
    Evaluation {
        evidence: evidence.collect(),
        events: Some((pairs[0][0].1, 20.0)),
        burn: Some((burn.collect(), 0.001)),
        ..vector_of(&[])
    }
}

#[test]
fn a_budget_burns_when_both_windows_of_a_pair_do() {
    let trigger = trigger(ValueKind::BurnRate, Comparison::Above, 1.0);
    let quiet = [(0.0, 72_000.0), (0.0, 6000.0)];
    for (pairs, seen_mins, says_it) in [
        ([[(0.0, 12_000.0), (0.0, 1000.0)], quiet], 360.0, "clear"),
        // 20 ‰ in the last hour and in the last five minutes.
        ([[(240.0, 12_000.0), (20.0, 1000.0)], quiet], 360.0, "breached"),
        // It has stopped: the hour still burns.
        ([[(240.0, 12_000.0), (0.0, 1000.0)], quiet], 360.0, "clear"),
        // It has just begun: the hour is not burnt yet.
        ([[(20.0, 12_000.0), (20.0, 1000.0)], quiet], 360.0, "clear"),
        // Slowly, for six hours.
        ([[(96.0, 12_000.0), (8.0, 1000.0)], [(576.0, 72_000.0), (48.0, 6000.0)]], 360.0, "breached"),
        // After a release: as if nothing had failed in what was not seen. 20 ‰ in a tenth of the hour are not enough …
        ([[(24.0, 1200.0), (20.0, 1000.0)], quiet], 6.0, "unknown"),
        // … half of all are; and what does not burn now is no question of what was not seen.
        ([[(600.0, 1200.0), (500.0, 1000.0)], quiet], 6.0, "breached"),
        ([[(0.0, 1200.0), (0.0, 1000.0)], quiet], 6.0, "clear"),
        ([[(0.0, 1200.0), (0.0, 1000.0)], quiet], 3.0, "unknown"),
        // Three of nineteen prove nothing.
        ([[(3.0, 19.0), (3.0, 19.0)], quiet], 360.0, "unknown"),
        ([[(240.0, 12_000.0), (0.0, 0.0)], quiet], 360.0, "unknown"),
    ] {
        assert_eq!(says(&trigger, burning(pairs, seen_mins)), says_it, "{pairs:?} {seen_mins}");
    }
    let found = find(&trigger, Ok(burning([[(240.0, 12_000.0), (20.0, 1000.0)], quiet], 360.0)), &Baselines::default());
    let value = found.worst().2.expect("a value");
    assert!((value - 20.0 / 14.4).abs() < 1e-9, "{value} of what pages");
}

#[test]
fn a_regression_is_the_growth_over_the_median_before() {
    let trigger = trigger(ValueKind::Regression, Comparison::Above, 0.5);
    let pod = |name: &str| Labels::from_pairs([("pod", name)]);
    let known = |frozen: f64| Baseline { slots: Vec::new(), frozen: Some(frozen), seen: Timestamp::from_millis(0) };
    let baselines = Baselines([(pod("a"), known(2.0)), (pod("b"), known(2.0)), (pod("zero"), known(0.0))].into());
    let found = find(&trigger, Ok(vector_of(&[("a", 2.9), ("b", 3.1), ("new", 9.0), ("zero", 9.0)])), &baselines);
    assert_eq!(found.of(&pod("a")).0, &Finding::Clear);
    assert_eq!(found.of(&pod("b")).0, &Finding::Breached);
    assert!((found.of(&pod("b")).1.expect("a value") - 0.55).abs() < 1e-9);
    assert_eq!(found.of(&pod("new")).0, &Finding::Unknown(Unknown::NoBaseline { observed: Duration::ZERO }));
    assert_eq!(found.of(&pod("zero")).0.as_str(), "unknown");
    let mut remembered = baselines;
    let values = vector_of(&[("a", 2.9), ("b", 3.1), ("new", 9.0)]).value;
    remember(&mut remembered, &values, &found, Timestamp::from_millis(60_000));
    let slots = |name| remembered.0.get(&pod(name)).map(|baseline| baseline.slots.len());
    assert_eq!((slots("a"), slots("b"), slots("new")), (Some(1), Some(0), Some(1)), "what is worse is not remembered");
    let text = threshold_text(&trigger.question);
    assert_eq!(text, "more than 50 % above its median before the release");
}
