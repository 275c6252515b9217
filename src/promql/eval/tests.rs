use std::time::Duration;

use super::{Annotation, EvalError, Gap, Instant, RatioParts, SelectorEvidence, Value, evaluate};
use crate::promql::testkit::{API, Kit, at, expr, labels, selector};
use crate::promql::{Expr, TargetId};

const MINUTE: Duration = Duration::from_mins(1);

fn errors(min_events: f64, widen_to: Duration) -> Expr {
    Expr::ratio(selector("r{s=~\"5..\"}"), selector("r"), MINUTE, min_events, widen_to)
}

#[test]
fn a_ratio_sums_over_series_and_targets() {
    let question = errors(20.0, MINUTE);
    let mut kit = Kit::new(std::slice::from_ref(&question));
    kit.attach(1, "app", "");
    for (secs, ok, bad) in [(0, 0.0, 0.0), (15, 30.0, 10.0), (30, 60.0, 20.0)] {
        kit.scrape(secs, &[("r{s=\"200\"}", ok), ("r{s=\"500\"}", bad)]);
        kit.scrape_of(1, secs, None, &[("r{s=\"200\",i=\"b\"}", ok), ("r{s=\"503\",i=\"b\"}", bad)]);
    }
    let answer = kit.ask(&question, 30);
    assert_eq!(answer.value, Value::Vector(vec![(labels("").nameless(), 40.0 / 160.0)]));
    assert_eq!(answer.ratio, Some(RatioParts { part: Some(40.0), whole: Some(160.0), part_ever: true }));
    assert_eq!(answer.events, Some((160.0, 20.0)));
    assert_eq!(answer.window, MINUTE);
}

#[test]
fn a_ratio_tells_a_missing_part_from_a_missing_whole() {
    let question = errors(1.0, MINUTE);
    let mut kit = Kit::new(std::slice::from_ref(&question));
    let nothing = kit.ask(&question, 0);
    assert_eq!(nothing.value, Value::Vector(vec![]));
    assert_eq!(nothing.ratio, Some(RatioParts { part: None, whole: None, part_ever: false }));
    assert_eq!(nothing.events, Some((0.0, 1.0)));
    kit.scrape(0, &[("r{s=\"200\"}", 0.0)]);
    kit.scrape(15, &[("r{s=\"200\"}", 10.0)]);
    let clean = kit.ask(&question, 15);
    assert_eq!(clean.ratio, Some(RatioParts { part: None, whole: Some(10.0), part_ever: false }));
    assert_eq!(clean.value, Value::Vector(vec![(labels("").nameless(), 0.0)]));
    kit.scrape(30, &[("r{s=\"200\"}", 10.0), ("r{s=\"500\"}", 1.0)]);
    for secs in (45..=120).step_by(15) {
        kit.scrape(secs, &[("r{s=\"200\"}", 11.0)]);
    }
    let gone = kit.ask(&question, 120);
    assert_eq!(gone.ratio.map(|parts| (parts.part, parts.part_ever)), Some((None, true)));
}

#[test]
fn a_ratio_widens_until_there_are_enough_events() {
    let ten = MINUTE * 10;
    let mut kit = Kit::new(&[errors(20.0, ten)]);
    for step in 0..80_i32 {
        // Two events a scrape: eight a minute.
        kit.scrape(i64::from(step) * 15, &[("r{s=\"200\"}", f64::from(step) * 2.0)]);
    }
    let end = 79 * 15;
    let used = |min_events: f64, widen_to: Duration| {
        let answer = kit.ask(&errors(min_events, widen_to), end);
        (answer.window, answer.events.map(|events| events.0), answer.evidence[0].window)
    };
    assert_eq!(used(8.0, ten), (MINUTE, Some(8.0), MINUTE));
    assert_eq!(used(9.0, ten), (MINUTE * 2, Some(16.0), MINUTE * 2));
    assert_eq!(used(33.0, ten), (MINUTE * 8, Some(64.0), MINUTE * 8));
    assert_eq!(used(65.0, ten), (ten, Some(80.0), ten), "no further than widen_to");
    assert_eq!(used(1000.0, ten), (ten, Some(80.0), ten));
    assert_eq!(used(1000.0, MINUTE), (MINUTE, Some(8.0), MINUTE));
}

fn buckets(counts: [f64; 3]) -> Vec<(&'static str, f64)> {
    vec![("h_bucket{le=\"0.1\"}", counts[0]), ("h_bucket{le=\"1\"}", counts[1]), ("h_bucket{le=\"+Inf\"}", counts[2])]
}

#[test]
fn a_quantile_interpolates_and_ends_at_the_highest_finite_bound() {
    let p = |q| Expr::quantile(selector("h"), q, MINUTE, 20.0).expect("a quantile");
    let mut kit = Kit::new(&[p(0.5)]);
    kit.scrape(0, &buckets([5.0, 5.0, 5.0]));
    kit.scrape(15, &buckets([55.0, 85.0, 105.0]));
    assert_eq!(kit.value(&p(0.5), 15), Some(0.1));
    assert_eq!(kit.value(&p(0.65), 15), Some(0.1 + 0.9 * 0.5));
    assert_eq!(kit.value(&p(0.99), 15), Some(1.0), "in the +Inf bucket");
    assert_eq!(kit.ask(&p(0.5), 15).events, Some((100.0, 20.0)));
    assert_eq!(kit.ask(&p(0.5), 15).bound, Some(1.0));
    assert_eq!(kit.ask(&expr("h_bucket"), 15).bound, None);
    kit.scrape(90, &buckets([55.0, 85.0, 105.0]));
    kit.scrape(105, &buckets([55.0, 85.0, 105.0]));
    let idle = kit.ask(&p(0.5), 105);
    assert_eq!(idle.events, Some((0.0, 20.0)));
    assert!(kit.value(&p(0.5), 105).is_some_and(f64::is_nan));
}

#[test]
fn a_quantile_is_refused_where_it_cannot_be_meant() {
    let try_with = |text, q| Expr::quantile(selector(text), q, MINUTE, 0.0).map_err(|error| error.message);
    assert!(try_with("h", 1.5).is_err_and(|message| message.contains("between 0 and 1")));
    assert!(try_with("h", f64::NAN).is_err());
    assert!(try_with("h_bucket{le=\"1\"}", 0.5).is_err_and(|message| message.contains("`le`")));
    assert!(try_with("{__name__=~\"h.*\"}", 0.5).is_err());
    let named = |text| try_with(text, 0.5).expect("a quantile").selectors()[0].to_string();
    assert_eq!(named("h{a=\"b\"}"), "h_bucket{a=\"b\"}");
    assert_eq!(named("h_bucket"), "h_bucket");
}

#[test]
fn a_streak_counts_zeros_among_the_last_samples() {
    let three = Expr::streak(selector("probe_success"), 3, 3);
    let of_five = Expr::streak(selector("probe_success"), 3, 5);
    let mut kit = Kit::new(&[three.clone(), of_five.clone()]);
    let mut secs = 0;
    let mut probe = |kit: &mut Kit, value: f64| {
        secs += 15;
        kit.own(0, secs, "probe_success", value);
        secs
    };
    probe(&mut kit, 0.0);
    let now = probe(&mut kit, 0.0);
    let is_not_told = |value: Option<f64>| value.is_some_and(f64::is_nan);
    assert!(is_not_told(kit.value(&three, now)), "two samples are not three");
    assert!(is_not_told(kit.value(&of_five, now)));
    let now = probe(&mut kit, 0.0);
    assert_eq!(kit.value(&three, now), Some(3.0));
    assert_eq!(kit.value(&of_five, now), Some(3.0), "whatever the other two will be");
    probe(&mut kit, 1.0);
    let now = probe(&mut kit, 0.0);
    assert_eq!(kit.value(&three, now), Some(2.0));
    assert_eq!(kit.value(&of_five, now), Some(4.0));
    // After a hole the run begins anew.
    kit.own(0, now + 60, "probe_success", 0.0);
    assert!(is_not_told(kit.value(&three, now + 60)));
    kit.own(0, now + 75, "probe_success", 1.0);
    assert_eq!(kit.value(&three, now + 75), Some(1.0), "it cannot be three in a row any more");
}

#[test]
fn a_failed_scrape_does_not_break_a_streak_and_our_own_sample_is_fresh() {
    let question = Expr::streak(selector("probe_success"), 3, 3);
    let mut kit = Kit::new(std::slice::from_ref(&question));
    for secs in [0, 15, 30] {
        kit.own(0, secs, "probe_success", 0.0);
        kit.fail(secs);
    }
    let answer = kit.ask(&question, 30);
    assert_eq!(answer.value, Value::Vector(vec![(labels("").nameless(), 3.0)]));
    assert_eq!(answer.evidence[0].gap(), None);
    assert_eq!(kit.ask(&question, 60).evidence[0].gap(), None, "two intervals");
    assert_eq!(kit.ask(&question, 61).evidence[0].gap(), Some(Gap::Stale));
}

fn evidence(targets: u32, fresh: u32, seen: u32, observed: u64) -> SelectorEvidence {
    SelectorEvidence {
        selector: "x".to_owned(),
        targets,
        targets_fresh: fresh,
        targets_seen: seen,
        series_now: 0,
        series_ever: 0,
        observed: Duration::from_secs(observed),
        window: Duration::from_secs(100),
        newest: None,
        may_be_absent: false,
    }
}

#[test]
fn gaps_begin_below_eighty_percent() {
    assert_eq!(evidence(10, 10, 10, 100).gap(), None);
    assert_eq!(evidence(0, 0, 0, 100).gap(), Some(Gap::Missing));
    assert_eq!(evidence(10, 8, 8, 100).gap(), None);
    assert_eq!(evidence(10, 7, 7, 100).gap(), Some(Gap::Stale));
    assert_eq!(evidence(10, 10, 8, 100).gap(), None);
    assert_eq!(evidence(10, 10, 7, 100).gap(), Some(Gap::Missing));
    assert_eq!(evidence(10, 10, 10, 80).gap(), None);
    assert_eq!(evidence(10, 10, 10, 79).gap(), Some(Gap::NotYetCovered));
    assert_eq!(SelectorEvidence { may_be_absent: true, ..evidence(10, 10, 0, 100) }.gap(), None);
    assert_eq!(SelectorEvidence { may_be_absent: true, ..evidence(10, 7, 0, 100) }.gap(), Some(Gap::Stale));
}

#[test]
fn a_window_is_covered_after_four_fifths_of_it() {
    let question = Expr::increase(selector("c"), MINUTE);
    let mut kit = Kit::new(std::slice::from_ref(&question));
    for secs in [0, 15, 30, 45] {
        kit.scrape(secs, &[("c", 1.0)]);
    }
    let gap = |kit: &Kit, secs| kit.ask(&question, secs).evidence[0].gap();
    assert_eq!(kit.ask(&question, 45).evidence[0].observed, Duration::from_secs(45));
    assert_eq!(gap(&kit, 45), Some(Gap::NotYetCovered));
    assert_eq!(gap(&kit, 48), None, "the time since the newest scrape counts while the next is not overdue");
    kit.scrape(60, &[("c", 1.0)]);
    // One scrape missed leaves no hole, two do.
    kit.fail(75);
    kit.scrape(90, &[("c", 1.0)]);
    assert_eq!(kit.ask(&question, 90).evidence[0].observed, MINUTE);
    kit.fail(105);
    kit.fail(120);
    kit.scrape(135, &[("c", 1.0)]);
    assert_eq!(kit.ask(&question, 135).evidence[0].observed, Duration::from_secs(15));
    assert_eq!(gap(&kit, 135), Some(Gap::NotYetCovered));
}

#[test]
fn freshness_ends_after_two_intervals_and_for_an_instant_selector_with_a_failure() {
    let (instant, window) = (expr("c"), expr("rate(c[1m])"));
    let mut kit = Kit::new(&[instant.clone(), window.clone()]);
    for secs in [0, 15, 30, 45, 60] {
        kit.scrape(secs, &[("c", 1.0)]);
    }
    let fresh = |kit: &Kit, of: &Expr, secs| kit.ask(of, secs).evidence[0].targets_fresh;
    assert_eq!((fresh(&kit, &instant, 90), fresh(&kit, &instant, 91)), (1, 0));
    kit.fail(75);
    assert_eq!(kit.ask(&instant, 75).value, Value::Vector(vec![]));
    assert_eq!(kit.ask(&instant, 75).evidence[0].gap(), Some(Gap::Stale), "an empty result is not an answer now");
    assert_eq!(kit.ask(&window, 75).evidence[0].gap(), None, "a window outlives one failure");
}

#[test]
fn evidence_counts_only_targets_that_could_have_such_series() {
    let question = expr("c{env=\"prod\"}");
    let mut kit = Kit::new(std::slice::from_ref(&question));
    kit.attach(1, "app", "env=\"prod\"");
    kit.attach(2, "app", "env=\"test\"");
    kit.attach(3, "sidecar", "env=\"prod\"");
    kit.scrape_of(1, 0, None, &[("c{env=\"prod\"}", 1.0)]);
    kit.scrape_of(3, 0, None, &[]);
    let one = kit.ask(&question, 0).evidence.remove(0);
    // Target 0 says nothing of env, 2 contradicts, the sidecar's source never showed `c`.
    assert_eq!((one.targets, one.targets_fresh, one.targets_seen), (2, 1, 1));
    assert_eq!((one.series_now, one.series_ever, one.newest), (1, 1, Some(at(0))));
    assert_eq!(one.selector, "c{env=\"prod\"}");
}

#[test]
fn a_metric_that_nobody_ever_showed_is_missing_unless_its_absence_is_asked_for() {
    let (plain, absent) = (expr("nothing > 1"), expr("absent(nothing{a=\"b\"})"));
    let mut kit = Kit::new(&[plain.clone(), absent.clone(), expr("c")]);
    kit.scrape(0, &[("c", 1.0)]);
    assert_eq!(kit.ask(&plain, 0).evidence[0].gap(), Some(Gap::Missing));
    let answer = kit.ask(&absent, 0);
    assert_eq!(answer.value, Value::Vector(vec![(labels("{a=\"b\"}").nameless(), 1.0)]));
    assert!(answer.evidence[0].may_be_absent && answer.evidence[0].gap().is_none());
    assert_eq!(kit.ask(&absent, 31).evidence[0].gap(), Some(Gap::Stale), "we would not see it if it were there");
    kit.fail(15);
    assert_eq!(kit.ask(&absent, 15).evidence[0].gap(), Some(Gap::Stale));
}

#[test]
fn a_covered_selector_without_series_has_no_gap() {
    let question = errors(1.0, MINUTE);
    let mut kit = Kit::new(std::slice::from_ref(&question));
    for secs in [0, 15, 30, 45, 60] {
        kit.scrape(secs, &[("r{s=\"200\"}", 1.0)]);
    }
    let part = &kit.ask(&question, 60).evidence[0];
    assert_eq!((part.series_now, part.series_ever, part.gap()), (0, 0, None), "nobody has failed yet");
}

#[test]
fn the_evidence_of_a_subquery_covers_its_range() {
    let question = expr("max_over_time(rate(c[1m])[5m:30s] offset 1m)");
    assert_eq!(question.reach(), MINUTE * 7);
    let mut kit = Kit::new(std::slice::from_ref(&question));
    for secs in (0..=600).step_by(15) {
        kit.scrape(secs, &[("c", 1.0)]);
    }
    let evidence = kit.ask(&question, 600).evidence.remove(0);
    assert_eq!((evidence.window, evidence.observed), (MINUTE * 6, MINUTE * 6));
}

#[test]
fn what_an_instant_finds_is_no_evidence_of_a_window_that_ends_with_it() {
    let mut kit = Kit::new(&[expr("count_over_time(c[5m])"), expr("c")]);
    for secs in (0..=60).step_by(15) {
        kit.scrape(secs, &[("c", 1.0), ("c{a=\"1\"}", 1.0)]);
    }
    kit.scrape(75, &[("c", 1.0)]);
    let question = expr("c or count_over_time(c[5m])");
    let evidence = kit.ask(&question, 75).evidence;
    let found: Vec<_> = evidence.iter().map(|one| (one.series_now, one.newest)).collect();
    assert_eq!(found, [(1, Some(at(75))), (2, Some(at(75)))], "one of them has ended");
}

#[test]
fn a_new_target_beside_nine_old_ones_does_not_blind() {
    let question = Expr::increase(selector("c"), MINUTE);
    let mut kit = Kit::new(std::slice::from_ref(&question));
    for target in 1..10 {
        kit.attach(target, "app", "");
        for secs in (0..=120).step_by(15) {
            kit.scrape_of(target, secs, None, &[(format!("c{{i=\"{target}\"}}").as_str(), 1.0)]);
        }
    }
    kit.scrape(120, &[("c", 1.0)]);
    let evidence = kit.ask(&question, 120).evidence.remove(0);
    assert_eq!(evidence.observed, Duration::from_secs(54));
    assert_eq!(evidence.gap(), None);
    kit.store.detach(TargetId(9), at(120));
    assert_eq!(kit.ask(&question, 120).evidence[0].targets, 9);
}

#[test]
fn time_is_told_by_the_wall() {
    let mut kit = Kit::new(&[expr("c")]);
    kit.scrape(0, &[("c", 1.0)]);
    let instant = Instant { at: at(60), wall_offset_ms: 1_000_000 };
    let of = |text: &str| evaluate(&expr(text), &kit.store, API, instant).expect("it evaluates").value;
    assert_eq!(of("time()"), Value::Scalar(1060.0));
    assert_eq!(of("timestamp(c)"), Value::Vector(vec![(labels("").nameless(), 1000.0)]));
    assert_eq!(of("minute()"), Value::Vector(vec![(labels("").nameless(), 17.0)]));
    // Steps stand at wall times 960, 1020 (and not at 900): left-open, aligned.
    assert_eq!(of("count_over_time(vector(1)[2m:1m])"), Value::Vector(vec![(labels("").nameless(), 2.0)]));
}

#[test]
fn data_can_make_a_match_ambiguous() {
    let question = expr("a * on (x) b");
    let mut kit = Kit::new(std::slice::from_ref(&question));
    kit.scrape(0, &[("a{x=\"1\"}", 2.0), ("b{x=\"1\",y=\"1\"}", 3.0)]);
    assert_eq!(kit.ask(&question, 0).value, Value::Vector(vec![(labels("{x=\"1\"}").nameless(), 6.0)]));
    kit.scrape(15, &[("a{x=\"1\"}", 2.0), ("b{x=\"1\",y=\"1\"}", 3.0), ("b{x=\"1\",y=\"2\"}", 3.0)]);
    let instant = Instant { at: at(15), wall_offset_ms: 0 };
    let error = evaluate(&question, &kit.store, API, instant).expect_err("ambiguous");
    assert!(error.0.contains("many-to-many"), "{error}");
}

#[test]
fn rates_agree_whether_the_window_is_searched_or_walked() {
    let question = expr("rate(c[5m])");
    let mut kit = Kit::new(std::slice::from_ref(&question));
    let mut with_nan = Kit::new(std::slice::from_ref(&question));
    let mut value = 0.0;
    for step in 0..20_i32 {
        let secs = i64::from(step) * 15;
        value = if step % 7 == 6 { 1.0 } else { value + f64::from(step) };
        kit.scrape(secs, &[("c", value)]);
        if step == 9 {
            with_nan.fail(secs - 1);
        }
        with_nan.scrape(secs, &[("c", value)]);
    }
    assert!(kit.value(&question, 285).is_some_and(|rate| rate > 0.0));
    assert_eq!(kit.value(&question, 285), with_nan.value(&question, 285));
}

/// The rows of an expression at an instant, as PromQL writes them.
fn rows(kit: &Kit, text: &str, secs: i64) -> Result<Vec<String>, EvalError> {
    let instant = Instant { at: at(secs), wall_offset_ms: 0 };
    match evaluate(&Expr::parse_recorded(text).expect(text), &kit.store, API, instant)?.value {
        Value::Scalar(number) => Ok(vec![number.to_string()]),
        Value::Vector(rows) => Ok(rows.iter().map(|(labels, value)| format!("{labels} {value}")).collect()),
    }
}

#[test]
fn a_name_goes_only_at_the_end() {
    let all = expr("count_over_time({__name__=~\".+\"}[1h])");
    let mut kit = Kit::new(std::slice::from_ref(&all));
    for secs in [0, 15, 30, 45, 60] {
        let value = f64::from(i32::try_from(secs).expect("small"));
        kit.scrape(secs, &[("a_total{x=\"1\"}", value), ("b_total{x=\"1\"}", 2.0 * value)]);
    }
    for (text, wanted) in [
        ("rate(a_total[1m])", vec!["{x=\"1\"} 1"]),
        ("label_replace(rate(a_total[1m]), \"of\", \"$1\", \"__name__\", \"(.)_.*\")", vec!["{of=\"a\", x=\"1\"} 1"]),
        ("label_join(-a_total, \"__name__\", \"_\", \"__name__\", \"x\")", vec!["a_total_1{x=\"1\"} -60"]),
        ("sum(rate({x=\"1\"}[1m]))", vec!["{} 3"]),
        ("last_over_time(a_total[1m]) > 1", vec!["a_total{x=\"1\"} 60"]),
        ("last_over_time(abs(a_total)[1m:15s])", vec!["{x=\"1\"} 60"]),
        ("rate(a_total[1m]) < rate(b_total[1m])", vec!["{x=\"1\"} 1"]),
        ("max_over_time(a_total[30s:15s] @ 30)", vec!["{x=\"1\"} 30"]),
        ("a_total @ end() - a_total offset 15s", vec!["{x=\"1\"} 15"]),
        ("max_over_time((a_total @ start())[30s:15s])", vec!["{x=\"1\"} 60"]),
    ] {
        assert_eq!(rows(&kit, text, 60), Ok(wanted.into_iter().map(str::to_owned).collect()), "{text}");
    }
    // Two series that are one without their names.
    for text in ["rate({x=\"1\"}[1m])", "sum by (__name__) (rate({x=\"1\"}[1m]))"] {
        let error = rows(&kit, text, 60).expect_err(text);
        assert!(error.0.contains("same labelset"), "{text}: {error}");
    }
}

#[test]
fn what_prometheus_would_remark_is_told() {
    let all = expr("count_over_time({__name__=~\".+\"}[1h])");
    let mut kit = Kit::new(std::slice::from_ref(&all));
    for (secs, value) in [(0, 0.0), (15, 15.0)] {
        let buckets = [("h_bucket{le=\"1\"}", 4.0), ("h_bucket{le=\"2\"}", 2.0), ("h_bucket{le=\"+Inf\"}", 8.0)];
        kit.scrape(secs, &[&buckets[..], &[("c", value), ("h_bucket{le=\"x\"}", 1.0)]].concat());
    }
    let told = |text: &str| -> Vec<String> {
        let expr = Expr::parse_recorded(text).expect(text);
        kit.ask(&expr, 15).annotations.iter().map(Annotation::to_string).collect()
    };
    assert_eq!(told("quantile(1.5, c)"), ["PromQL warning: quantile value should be between 0 and 1, got 1.5"]);
    assert_eq!(
        told("rate(c[1m])"),
        ["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"c\""]
    );
    assert!(told("rate(h_bucket[1m])").is_empty() && told("max_over_time(c[1m])").is_empty());
    let quantile = told("histogram_quantile(0.5, h_bucket)");
    assert!(quantile[0].contains("malformed value of \"x\" for metric name \"h_bucket\""), "{quantile:?}");
    assert!(quantile[1].contains("fixed for monotonicity"), "{quantile:?}");
    assert_eq!(rows(&kit, "histogram_fraction(0, 0.5, h_bucket{le!=\"2\"})", 15), Ok(vec!["{} 0.25".to_owned()]));
}

#[test]
fn a_burn_rate_observes_both_windows_of_both_pairs() {
    let question = Expr::burn_rate(selector("r{s=~\"5..\"}"), selector("r"), 0.001, 20.0).expect("a budget");
    assert_eq!(question.reach(), Duration::from_hours(6));
    assert_eq!(question.covered_after(), Duration::from_mins(4));
    let mut kit = Kit::new(std::slice::from_ref(&question));
    // Ten requests a scrape for two hours; in the last ten minutes one of them fails.
    let (mut all, mut bad) = (0.0, 0.0);
    for secs in (0..=7200).step_by(15) {
        all += 10.0;
        bad += if secs > 6600 { 1.0 } else { 0.0 };
        kit.scrape(secs, &[("r{s=\"200\"}", all - bad), ("r{s=\"500\"}", bad)]);
    }
    let answer = kit.ask(&question, 7200);
    let (pairs, budget) = answer.burn.expect("a burn rate");
    let sides = |parts: RatioParts| (parts.part, parts.whole);
    assert!((budget - 0.001).abs() < 1e-12);
    assert_eq!(sides(pairs[0].long), (Some(40.0), Some(2400.0)));
    assert_eq!(sides(pairs[0].short), (Some(20.0), Some(200.0)));
    assert_eq!(sides(pairs[1].long), (Some(40.0), Some(4800.0)));
    assert_eq!(sides(pairs[1].short), (Some(40.0), Some(1200.0)));
    let reached = 40.0 / 4800.0 / 0.001 / 6.0;
    let fast = 40.0 / 2400.0 / 0.001 / 14.4;
    assert!(matches!(&answer.value, Value::Vector(rows) if (rows[0].1 - f64::max(reached, fast)).abs() < 1e-9));
    assert_eq!(answer.evidence.len(), 8);
    // Two of the six hours were seen.
    assert_eq!(
        (answer.evidence[4].observed, answer.evidence[4].gap()),
        (Duration::from_hours(2), Some(Gap::NotYetCovered))
    );
    assert_eq!(answer.evidence[0].gap(), None);
    assert!(Expr::burn_rate(selector("a"), selector("b"), 0.0, 1.0).is_err());
}

#[test]
fn the_memory_of_a_subquery_is_bounded() {
    let all = expr("max_over_time(a[3h:1s])");
    let mut kit = Kit::new(std::slice::from_ref(&all));
    let of = |series: usize| -> Vec<(String, f64)> { (0..series).map(|i| (format!("a{{i=\"{i}\"}}"), 1.0)).collect() };
    let series = of(60);
    let shown: Vec<(&str, f64)> = series.iter().map(|(text, value)| (text.as_str(), *value)).collect();
    // A sample of 60 series holds for five minutes of each second's step.
    for secs in (0..10_800).step_by(290) {
        kit.scrape(secs, &shown);
    }
    let error = rows(&kit, "max_over_time(a[3h:1s])", 10_800).expect_err("648,000 samples");
    assert!(error.0.contains("500000 samples"), "{error}");
    assert_eq!(rows(&kit, "max_over_time(a{i=\"7\"}[3h:1s])", 10_800).map(|rows| rows.len()), Ok(1));
}
