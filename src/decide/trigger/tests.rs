use std::sync::Arc;

use super::*;
use crate::decide::event::{Gate, Severity};
use crate::decide::rules::FireWhen;
use crate::promql::{Expr, RatioParts, SelectorEvidence};

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
        annotations: Vec::new(),
    }
}

fn says(trigger: &Trigger, evaluation: Evaluation) -> &'static str {
    find(trigger, Ok(evaluation)).worst().1.as_str()
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
        let findings = find(&value, Ok(evaluation));
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
    let findings = find(&trigger(ValueKind::Expr, Comparison::Above, 15.0), Ok(vector_of(&[])));
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
    let findings = find(&trigger(ValueKind::Expr, Comparison::Above, 1.0), Err(EvalError("many to many".to_owned())));
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
