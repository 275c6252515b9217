use std::time::Duration;

use super::clock::Clock;
use super::ring::Ring;
use super::{TargetDump, TargetId};
use crate::promql::testkit::{API, EVERY, Kit, at, expr, labels, selector};
use crate::promql::{Expr, Instant, Interest, Scope, Value, evaluate};
use crate::time::Timestamp;

const MINUTE: Duration = Duration::from_mins(1);

fn counter() -> Expr {
    Expr::increase(selector("c"), MINUTE)
}

fn kit() -> Kit {
    Kit::new(&[counter(), expr("c")])
}

#[test]
fn an_increase_goes_from_the_anchor_to_the_last_sample() {
    let mut kit = kit();
    for (secs, value) in [(0, 10.0), (15, 11.0), (30, 13.0), (45, 16.0), (60, 20.0), (75, 25.0), (90, 31.0)] {
        kit.scrape(secs, &[("c", value)]);
    }
    // (30, 90] is anchored at the sample that stands exactly at 30.
    assert_eq!(kit.value(&counter(), 90), Some(31.0 - 13.0));
    // (25, 85]: the anchor stands at 15, the last sample at 75; nothing is extrapolated.
    assert_eq!(kit.value(&counter(), 85), Some(25.0 - 11.0));
}

#[test]
fn without_a_sample_in_the_window_there_is_no_increase() {
    let mut kit = kit();
    kit.scrape(0, &[("c", 1.0)]);
    kit.scrape(15, &[("c", 2.0)]);
    assert_eq!(kit.value(&counter(), 74), Some(1.0));
    assert_eq!(kit.value(&counter(), 75), None);
}

#[test]
fn a_counter_that_goes_down_was_reset() {
    let mut kit = kit();
    for (secs, value) in [(0, 10.0), (15, 12.0), (30, 3.0), (45, 5.0)] {
        kit.scrape(secs, &[("c", value)]);
    }
    assert_eq!(kit.value(&counter(), 45), Some(2.0 + 3.0 + 2.0));
    // The same value again is no reset.
    kit.scrape(60, &[("c", 5.0)]);
    assert_eq!(kit.value(&counter(), 60), Some(7.0));
}

#[test]
fn a_series_on_the_first_scrape_is_a_baseline() {
    let mut kit = kit();
    kit.scrape(0, &[("c", 100.0)]);
    assert_eq!(kit.value(&counter(), 0), Some(0.0));
    kit.scrape(15, &[("c", 101.0)]);
    assert_eq!(kit.value(&counter(), 15), Some(1.0));
}

#[test]
fn a_series_that_first_appears_later_counts_from_zero() {
    let mut kit = kit();
    kit.scrape(0, &[("c{status=\"200\"}", 100.0)]);
    kit.scrape(15, &[("c{status=\"200\"}", 100.0), ("c{status=\"500\"}", 7.0)]);
    assert_eq!(kit.value(&counter(), 15), Some(7.0));
    kit.scrape(30, &[("c{status=\"200\"}", 100.0), ("c{status=\"500\"}", 9.0)]);
    assert_eq!(kit.value(&counter(), 30), Some(9.0));
    // Once its first sample is the anchor, only what came after counts.
    kit.scrape(75, &[("c{status=\"200\"}", 100.0), ("c{status=\"500\"}", 9.0)]);
    assert_eq!(kit.value(&counter(), 75), Some(2.0));
}

#[test]
fn a_series_born_after_a_failed_or_missed_scrape_is_a_baseline() {
    let mut failed = kit();
    failed.scrape(0, &[("c{a=\"1\"}", 1.0)]);
    failed.fail(15);
    failed.scrape(30, &[("c{a=\"1\"}", 1.0), ("c{a=\"2\"}", 50.0)]);
    assert_eq!(failed.value(&counter(), 30), Some(0.0));

    let mut missed = kit();
    missed.scrape(0, &[("c{a=\"1\"}", 1.0)]);
    missed.scrape(38, &[("c{a=\"1\"}", 1.0), ("c{a=\"2\"}", 50.0)]);
    assert_eq!(missed.value(&counter(), 38), Some(0.0), "38 s are more than two and a half intervals");

    let mut late = kit();
    late.scrape(0, &[("c{a=\"1\"}", 1.0)]);
    late.scrape(37, &[("c{a=\"1\"}", 1.0), ("c{a=\"2\"}", 50.0)]);
    assert_eq!(late.value(&counter(), 37), Some(50.0), "37 s are within them");
}

#[test]
fn another_process_starts_its_counters_at_zero() {
    let mut kit = kit();
    kit.scrape_of(0, 0, Some(1000.0), &[("c", 5.0)]);
    kit.scrape_of(0, 15, Some(1000.0), &[("c", 6.0)]);
    kit.scrape_of(0, 30, Some(2000.0), &[("c", 9.0), ("c{new=\"1\"}", 4.0)]);
    assert_eq!(kit.value(&counter(), 30), Some(1.0 + 9.0 + 4.0), "the higher value is no continuation");
    // Prometheus does not know of processes and sees no reset.
    let resets = expr("resets(c{new=\"\"}[1m])");
    assert_eq!(kit.value(&resets, 30), Some(0.0));
    kit.scrape_of(0, 45, Some(2000.0), &[("c", 10.0), ("c{new=\"1\"}", 4.0)]);
    assert_eq!(kit.value(&counter(), 45), Some(1.0 + 9.0 + 4.0 + 1.0));
}

#[test]
fn a_series_that_shows_up_late_in_a_new_process_counts_from_zero() {
    let mut kit = kit();
    kit.scrape_of(0, 0, Some(1.0), &[("c", 2.0), ("c{other=\"1\"}", 1.0)]);
    kit.scrape_of(0, 15, Some(2.0), &[("c{other=\"1\"}", 0.0)]);
    kit.scrape_of(0, 30, Some(2.0), &[("c{other=\"1\"}", 0.0), ("c", 3.0)]);
    assert_eq!(kit.value(&counter(), 30), Some(3.0), "not 3 - 2");
}

#[test]
fn a_series_that_vanished_goes_on_or_starts_again() {
    let mut kit = kit();
    kit.scrape(0, &[("c{a=\"up\"}", 10.0), ("c{a=\"down\"}", 10.0)]);
    kit.scrape(15, &[]);
    assert_eq!(kit.value(&expr("count(c)"), 15), None, "stale at once");
    kit.scrape(30, &[("c{a=\"up\"}", 12.0), ("c{a=\"down\"}", 3.0)]);
    assert_eq!(kit.value(&Expr::increase(selector("c{a=\"up\"}"), MINUTE), 30), Some(2.0));
    assert_eq!(kit.value(&Expr::increase(selector("c{a=\"down\"}"), MINUTE), 30), Some(3.0));
}

#[test]
fn what_happened_in_a_hole_belongs_to_no_window_that_begins_in_it() {
    let mut kit = Kit::new(&[counter(), Expr::increase(selector("c"), MINUTE * 10)]);
    kit.scrape(0, &[("c", 0.0)]);
    kit.scrape(15, &[("c", 1.0)]);
    for secs in (30..300).step_by(15) {
        kit.fail(secs);
    }
    kit.scrape(300, &[("c", 1000.0)]);
    kit.scrape(315, &[("c", 1003.0)]);
    assert_eq!(kit.value(&counter(), 315), Some(3.0), "the 999 may be minutes old");
    assert_eq!(
        kit.value(&Expr::increase(selector("c"), MINUTE * 10), 315),
        Some(1003.0),
        "in ten minutes they did happen"
    );
    // One scrape missed is no hole.
    kit.fail(330);
    kit.scrape(345, &[("c", 1010.0)]);
    kit.scrape(360, &[("c", 1011.0)]);
    assert_eq!(kit.value(&Expr::increase(selector("c"), Duration::from_secs(25)), 360), Some(8.0));
}

#[test]
fn nan_and_infinity_spoil_only_windows_that_hold_them() {
    let mut kit = kit();
    for (secs, value) in [(0, 1.0), (15, f64::INFINITY), (30, 2.0), (45, f64::NAN), (60, 3.0), (75, 4.0)] {
        kit.scrape(secs, &[("c", value)]);
    }
    assert!(kit.value(&counter(), 75).is_some_and(f64::is_nan));
    for (secs, value) in [(90, 5.0), (105, 6.0), (120, 7.0)] {
        kit.scrape(secs, &[("c", value)]);
    }
    assert_eq!(kit.value(&counter(), 120), Some(4.0));
}

#[test]
fn restart_forgets_what_the_old_release_did() {
    let mut kit = Kit::new(&[counter(), expr("c"), expr("probe_success")]);
    kit.scrape(0, &[("c", 10.0)]);
    kit.scrape(15, &[("c", 20.0)]);
    kit.own(0, 15, "probe_success", 0.0);
    kit.store.restart(TargetId(0), at(30));
    assert_eq!(kit.value(&counter(), 30), None);
    assert_eq!(kit.value(&expr("c"), 30), None);
    assert_eq!(kit.value(&expr("probe_success"), 30), None);
    let evidence = &kit.ask(&expr("c"), 30).evidence[0];
    assert_eq!((evidence.targets, evidence.targets_fresh, evidence.targets_seen), (1, 0, 0));
    // The next scrape is the first: the task goes on with the series that it knows, a new one is a baseline too.
    kit.scrape(30, &[("c", 30.0), ("c{a=\"1\"}", 7.0)]);
    assert_eq!(kit.value(&counter(), 30), Some(0.0));
    kit.scrape(45, &[("c", 31.0), ("c{a=\"1\"}", 7.0), ("c{a=\"2\"}", 5.0)]);
    assert_eq!(kit.value(&counter(), 45), Some(1.0 + 5.0));
    assert_eq!(kit.ask(&counter(), 45).evidence[0].observed, Duration::from_secs(15));
}

#[test]
fn restart_keeps_a_scrape_at_its_very_instant() {
    let mut kit = kit();
    kit.scrape(0, &[("c", 10.0)]);
    kit.scrape(15, &[("c", 20.0), ("c{a=\"1\"}", 5.0)]);
    kit.store.restart(TargetId(0), at(15));
    assert_eq!(kit.value(&counter(), 15), Some(0.0), "it is the baseline now");
    kit.scrape(30, &[("c", 21.0), ("c{a=\"1\"}", 5.0), ("c{a=\"2\"}", 3.0)]);
    assert_eq!(kit.value(&counter(), 30), Some(1.0 + 3.0));
}

#[test]
fn retarget_keeps_windows_and_treats_what_is_new_as_a_baseline() {
    let mut kit = kit();
    kit.scrape(0, &[("c", 1.0)]);
    kit.scrape(15, &[("c", 2.0)]);
    let other = Expr::increase(selector("d"), MINUTE);
    kit.store.retarget([&counter(), &other]);
    kit.forget_announced();
    kit.scrape(30, &[("c", 4.0), ("d", 1_000_000.0)]);
    assert_eq!(kit.value(&counter(), 30), Some(3.0));
    assert_eq!(kit.value(&other, 30), Some(0.0), "it was there all the time, only nobody asked");
    kit.store.retarget([&other]);
    assert_eq!(kit.value(&counter(), 30), None, "nobody asks for it any more");
}

#[test]
fn series_that_a_new_task_does_not_announce_have_vanished() {
    let mut kit = kit();
    kit.scrape(0, &[("c{a=\"1\"}", 1.0), ("c{a=\"2\"}", 1.0)]);
    kit.store.retarget([&counter(), &expr("c")]);
    kit.forget_announced();
    kit.scrape(15, &[("c{a=\"1\"}", 1.0)]);
    assert_eq!(kit.value(&expr("count(c)"), 15), Some(1.0));
}

#[test]
fn a_task_that_starts_over_continues_known_series_and_gives_no_births() {
    let mut kit = kit();
    kit.scrape(0, &[("c{a=\"1\"}", 1.0), ("c{a=\"2\"}", 1.0)]);
    kit.rebind(15, &[("c{a=\"1\"}", 4.0), ("c{a=\"3\"}", 1000.0)]);
    assert_eq!(kit.value(&counter(), 15), Some(3.0));
    assert_eq!(kit.value(&expr("count(c)"), 15), Some(2.0), "the one that it does not announce is gone");
    kit.scrape(30, &[("c{a=\"1\"}", 4.0), ("c{a=\"3\"}", 1002.0)]);
    assert_eq!(kit.value(&counter(), 30), Some(5.0));
}

#[test]
fn only_series_that_somebody_asks_for_are_kept() {
    let mut kit = Kit::new(&[expr("c{a=\"1\"}")]);
    kit.scrape(0, &[("c{a=\"1\"}", 1.0), ("c{a=\"2\"}", 1.0), ("d", 1.0)]);
    kit.own(0, 0, "up", 1.0);
    assert_eq!(kit.dump()[0].series.len(), 1);
}

/// Floats add up differently in another order, and what a trigger says must be the same after a restart.
#[test]
fn a_selector_of_many_names_finds_them_in_order() {
    let any = selector("{__name__=~\"m.*\"}");
    let mut kit = Kit::new(&[Expr::from(any.clone())]);
    let names: Vec<String> = (0..40).map(|n| format!("m{n:02}")).collect();
    let shown: Vec<(&str, f64)> = names.iter().rev().map(|name| (name.as_str(), 1.0)).collect();
    kit.scrape(0, &shown);
    let mut found = Vec::new();
    kit.store.select(API, &any, |_, series| found.push(series.labels.name().to_owned()));
    assert_eq!(found, names);
}

#[test]
fn where_only_the_newest_sample_is_asked_for_no_more_are_kept() {
    let asked = ["c", "c offset 1m", "max_over_time(c[1m:15s])", "sum(c) > 3 unless c == 1"];
    let kept = asked.map(|text| {
        let question = expr(text);
        let mut kit = Kit::new(std::slice::from_ref(&question));
        for secs in (0..=3600).step_by(15) {
            kit.scrape(secs, &[("c", 7.0)]);
        }
        assert_eq!(kit.value(&question, 3600), Some(7.0), "{text}");
        assert_eq!(kit.value(&question, 3600 + 299), Some(7.0), "{text}: within the lookback");
        kit.dump()[0].series[0].samples.len()
    });
    assert_eq!(kept, [2, 26, 26, 2]);
}

#[test]
fn retention_is_the_reach_and_one_interval_and_an_anchor() {
    let mut kit = Kit::new(&[counter()]);
    for secs in (0..=3600).step_by(15) {
        kit.scrape(secs, &[("c", f64::from(i32::try_from(secs).expect("small")))]);
    }
    let dump = &kit.dump()[0];
    let first = dump.series[0].samples.first().unwrap().at;
    assert_eq!(first, at(3600 - 75));
    assert!(dump.scrapes.len() < 12, "{} instants", dump.scrapes.len());
    assert_eq!(kit.value(&counter(), 3600), Some(60.0));
}

#[test]
fn a_failure_marks_scraped_series_stale_and_not_our_own() {
    let mut kit = Kit::new(&[expr("c"), expr("up"), counter()]);
    kit.scrape(0, &[("c", 1.0)]);
    kit.own(0, 0, "up", 1.0);
    kit.fail(15);
    kit.own(0, 15, "up", 0.0);
    assert_eq!(kit.value(&expr("c"), 15), None);
    assert_eq!(kit.value(&expr("up"), 15), Some(0.0));
    kit.scrape(30, &[("c", 2.0)]);
    assert_eq!(kit.value(&expr("c"), 30), Some(2.0));
    assert_eq!(kit.value(&counter(), 30), Some(1.0), "one failure is no hole");
}

#[test]
fn a_target_that_went_away_counts_in_windows_but_not_for_coverage() {
    let mut kit = kit();
    kit.attach(1, "app", "");
    kit.scrape(0, &[("c", 1.0)]);
    kit.scrape_of(1, 0, None, &[("c{pod=\"b\"}", 1.0)]);
    kit.scrape(15, &[("c", 2.0)]);
    kit.scrape_of(1, 15, None, &[("c{pod=\"b\"}", 11.0)]);
    kit.store.detach(TargetId(1), at(20));
    let evaluation = kit.ask(&counter(), 20);
    assert_eq!(evaluation.value, Value::Vector(vec![(labels("").nameless(), 11.0)]));
    assert_eq!(evaluation.evidence[0].targets, 1);
    assert_eq!(kit.value(&expr("count(c)"), 20), Some(1.0), "its series are stale");
    for secs in (30..3600).step_by(15) {
        kit.scrape(secs, &[("c", 2.0)]);
    }
    kit.store.detach(TargetId(9), at(3600));
    assert_eq!(kit.store.targets.len(), 1, "what no window reaches is gone");
}

#[test]
fn churn_does_not_pile_up() {
    let mut kit = Kit::new(&[counter()]);
    for round in 0..2000 {
        let name = format!("c{{pod=\"{round}\"}}");
        kit.scrape(round * 15, &[(name.as_str(), 1.0)]);
    }
    let kept = kit.dump()[0].series.len();
    assert!(kept < 100, "{kept} series");
}

#[test]
fn dump_and_restore_go_on_where_they_were() {
    let mut kit = Kit::new(&[counter(), expr("probe_success")]);
    kit.scrape_of(0, 0, Some(7.0), &[("c", 5.0)]);
    kit.scrape_of(0, 15, Some(7.0), &[("c", 2.0), ("c{late=\"1\"}", 4.0)]);
    kit.own(0, 15, "probe_success", 0.0);
    let before = kit.ask(&counter(), 15);
    let dumps: Vec<TargetDump> = kit.dump();
    let ever = kit.store.dump_ever();

    let mut back = Kit::new(&[counter(), expr("probe_success")]);
    back.store.restore(TargetId(0), dumps[0].clone());
    for one in &ever {
        back.store.restore_ever(one);
    }
    assert_eq!(back.ask(&counter(), 15), before);
    assert_eq!(back.value(&expr("probe_success"), 15), Some(0.0));
    assert_eq!(back.store.dump_ever(), ever);

    // Same process: goes on. A series that first appears now may have appeared while nobody looked.
    back.scrape_of(0, 30, Some(7.0), &[("c", 3.0), ("c{late=\"1\"}", 4.0), ("c{late=\"2\"}", 9.0)]);
    assert_eq!(back.value(&counter(), 30), Some(2.0 + 4.0 + 1.0));

    let mut other = Kit::new(&[counter(), expr("probe_success")]);
    other.store.restore(TargetId(0), dumps[0].clone());
    other.scrape_of(0, 30, Some(8.0), &[("c", 3.0)]);
    assert_eq!(other.value(&counter(), 30), Some(2.0 + 4.0 + 3.0), "another process began at zero");
}

#[test]
fn label_values_are_those_of_live_series_of_one_target() {
    let info = selector("app_build_info");
    let mut kit = Kit::new(&[expr("app_build_info")]);
    kit.attach(1, "app", "");
    kit.scrape(0, &[("app_build_info{version=\"1\"}", 1.0)]);
    kit.scrape_of(1, 0, None, &[("app_build_info{version=\"9\"}", 1.0)]);
    assert_eq!(kit.store.label_values(&info, "version", TargetId(0)), ["1"]);
    kit.scrape(15, &[("app_build_info{version=\"2\"}", 1.0)]);
    assert_eq!(kit.store.label_values(&info, "version", TargetId(0)), ["2"]);
    kit.fail(30);
    assert!(kit.store.label_values(&info, "version", TargetId(0)).is_empty());
    assert!(kit.store.label_values(&info, "version", TargetId(7)).is_empty());
}

#[test]
fn an_expression_sees_its_own_service_and_what_is_shared() {
    let mut kit = kit();
    let instant = Instant { at: at(0), wall_offset_ms: 0 };
    kit.scrape(0, &[("c", 1.0)]);
    let count = expr("count(c)");
    let of = |kit: &Kit, service| evaluate(&count, &kit.store, service, instant).expect("it evaluates").value;
    let other = crate::promql::ServiceId(2);
    assert_eq!(of(&kit, other), Value::Vector(vec![]));
    let meta = super::TargetMeta {
        scope: Scope::Shared,
        source: "node".into(),
        labels: labels("").nameless(),
        interval: EVERY,
    };
    kit.store.attach(TargetId(5), meta);
    kit.scrape_of(5, 0, None, &[("c{node=\"1\"}", 1.0)]);
    assert_eq!(of(&kit, other), Value::Vector(vec![(labels("").nameless(), 1.0)]));
    assert_eq!(of(&kit, API), Value::Vector(vec![(labels("").nameless(), 2.0)]));
}

#[test]
fn our_own_measurement_counts_where_a_target_exposes_the_same_name() {
    let mut kit = Kit::new(&[expr("up")]);
    kit.own(0, 0, "up", 0.0);
    kit.scrape(0, &[("up", 1.0)]);
    kit.scrape(15, &[("up", 1.0)]);
    kit.own(0, 16, "up", 0.0);
    assert_eq!(kit.value(&expr("up"), 16), Some(0.0));
}

#[test]
fn batches_out_of_order_and_of_unknown_targets_change_nothing() {
    let mut kit = kit();
    kit.scrape(30, &[("c", 5.0)]);
    kit.scrape(15, &[("c", 9.0)]);
    kit.scrape(30, &[("c", 9.0)]);
    kit.scrape_of(77, 45, None, &[("c", 1.0)]);
    assert_eq!(kit.value(&expr("c"), 30), Some(5.0));
}

#[test]
fn the_interest_says_what_is_wanted() {
    let exprs = [expr("a{x=\"1\"}"), expr("{__name__=~\"b.*\", y=\"1\"}"), expr("rate(a[1m])")];
    let interest = Interest::of_exprs(3, &exprs);
    assert_eq!(interest.generation, 3);
    assert!(interest.wants(&labels("a{x=\"1\"}")) && interest.wants(&labels("a")));
    assert!(
        interest.wants(&labels("bcd{y=\"1\"}")) && !interest.wants(&labels("bcd")) && !interest.wants(&labels("d"))
    );
    assert_eq!(interest.exact_names().collect::<Vec<_>>(), ["a"]);
    let patterns = interest.name_patterns();
    assert!(patterns.len() == 1 && patterns[0].is_match("bcd") && !patterns[0].is_match("abc"));
    assert!(!interest.any_name() && interest.wants_name("bx") && !interest.wants_name("x"));
    assert!(Interest::of_exprs(0, &[expr("{job=\"x\"}")]).any_name());
    assert!(Interest::of_exprs(0, &[expr("{__name__!=\"x\", a=\"b\"}")]).any_name());
}

#[test]
fn a_sample_is_found_by_its_time_however_the_scrapes_came() {
    let paces: [fn(i64) -> i64; 4] = [
        |n| n * 15_000,
        // With jitter, with a hole, and faster and faster.
        |n| n * 15_000 + n * 7919 % 4000,
        |n| n * 15_000 + if n > 40 { 86_400_000 } else { 0 },
        |n| n * 1_000_000 - n * n * 4000,
    ];
    for pace in paces {
        let (mut ring, clock) = (Ring::default(), Clock::default());
        for n in 0..100 {
            ring.push(Timestamp::from_millis(pace(n)), f64::from(u32::try_from(n).unwrap()), false, &clock);
        }
        for n in 0..100 {
            for (shift, expected) in [(-1, n - 1), (0, n), (1, n)] {
                let found =
                    ring.view(&clock).at(Timestamp::from_millis(pace(n) + shift)).map(|point| point.at.as_millis());
                assert_eq!(found, (expected >= 0).then(|| pace(expected)), "{n} {shift}");
            }
        }
    }
    assert!(Ring::default().view(&Clock::default()).at(Timestamp::from_millis(0)).is_none());
}

/// Of each series of target 0, whether its instants are those of its target.
fn shared(kit: &Kit) -> Vec<bool> {
    kit.store.targets[&TargetId(0)].all().map(|series| series.ring.shared_from().is_some()).collect()
}

#[test]
fn series_of_a_target_share_its_instants() {
    let mut kit = kit();
    let both = |value: f64| [("c{a=\"1\"}", value), ("c{a=\"2\"}", value)];
    kit.scrape(0, &both(1.0));
    kit.scrape(15, &both(2.0));
    assert_eq!(shared(&kit), [true; 2]);
    // Both ended at the same instant, and nothing more was noted by the second failure.
    kit.fail(30);
    kit.fail(45);
    kit.scrape(60, &both(3.0));
    assert_eq!(shared(&kit), [true; 2]);
    kit.come_back(&counter());
    assert_eq!(shared(&kit), [true; 2], "after a restart");
    assert_eq!(kit.value(&counter(), 60), Some(4.0));
    kit.rebind(75, &both(4.0));
    assert_eq!(shared(&kit), [true; 2]);
    // One that was away for longer than a scrape has instants of its own.
    kit.scrape(90, &[("c{a=\"1\"}", 5.0)]);
    kit.scrape(105, &[("c{a=\"1\"}", 6.0)]);
    kit.scrape(120, &both(7.0));
    assert_eq!(shared(&kit), [true, false]);
    assert_eq!(kit.value(&counter(), 120), Some(4.0 + 4.0));
    // Once its window has moved on, it needs them no longer.
    for n in 0..70 {
        kit.scrape(135 + 15 * n, &both(8.0));
    }
    assert_eq!(shared(&kit), [true; 2]);
    let clock = &kit.store.targets[&TargetId(0)].clock;
    assert!(clock.len() < 80, "{clock:?}");
}
