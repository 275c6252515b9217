//! T12: a function of the business fails, or a share of its users is affected: any expression.

use backstop::config::Source;

use crate::stage::{HOUR, MINUTE, Stage, beside, presets};

const FAILED: &str = r#"payments_total{result="failed"}"#;
const PAID: &str = r#"payments_total{result="paid"}"#;

/// The preset's window of five minutes holds twenty scrapes, and so does its `for`.
const WINDOW: usize = 20;
const HOLD: usize = 20;

fn payments(stage: &mut Stage, paid: u32, failed: u32) {
    stage.app().each(PAID, paid);
    stage.app().each(FAILED, failed);
}

fn users(stage: &mut Stage, with_errors: f64, active: f64) {
    stage.app().gauge("app_users_with_errors", with_errors);
    stage.app().gauge("app_users_active", active);
}

fn t12() -> Stage {
    Stage::after_release(&presets(&["payments"]), |stage| {
        payments(stage, 1000, 0);
        users(stage, 0.0, 500.0);
    })
}

#[test]
fn t12_just_above_20_percent_of_the_payments_for_5_minutes_act_with_the_scrape_that_completes_them() {
    let mut stage = t12();
    payments(&mut stage, 799, 201);
    stage.look("app", WINDOW + HOLD - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t12_exactly_20_percent_of_the_payments_are_not_above() {
    let mut stage = t12();
    payments(&mut stage, 800, 200);
    stage.run(HOUR);
    stage.nothing();
}

#[test]
fn t12_one_interval_short_of_5_minutes_is_nothing() {
    let mut stage = t12();
    payments(&mut stage, 799, 201);
    stage.look("app", WINDOW + HOLD - 1);
    payments(&mut stage, 1000, 0);
    stage.run(HOUR);
    stage.nothing();
}

/// The preset asks for 10 payments; at low traffic the window grows to ten minutes, forty scrapes.
#[test]
fn t12_10_payments_are_enough_and_9_conclude_nothing() {
    for (in_ten_minutes, acts) in [(10, true), (9, false)] {
        let mut stage = t12();
        payments(&mut stage, 0, 0);
        for scrape in 0..200 {
            if scrape % 4 == 0 && (scrape / 4) % 10 < in_ten_minutes {
                stage.app().count(FAILED, 1);
            }
            stage.look("app", 1);
        }
        assert_eq!(stage.steps.len(), usize::from(acts), "{in_ten_minutes}: {:?}", stage.trigger("payments"));
    }
}

#[test]
fn t12_a_share_of_users_above_10_percent_for_5_minutes_acts_with_the_scrape_that_completes_them() {
    let mut stage = t12();
    users(&mut stage, 51.0, 500.0);
    stage.look("app", HOLD);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t12_exactly_10_percent_of_the_users_are_not_above() {
    let mut stage = t12();
    users(&mut stage, 50.0, 500.0);
    stage.run(HOUR);
    stage.nothing();
}

/// Nobody is there: 0 of 0 is not a number, and nothing to decide on.
#[test]
fn t12_a_share_of_nobody_is_unknown() {
    let mut stage = t12();
    users(&mut stage, 0.0, 0.0);
    stage.run(HOUR);
    stage.nothing();
    assert_eq!(stage.trigger("users-affected").1, "unknown");
}

/// Each pod's payments on their own.
fn per_pod(more: &str) -> Vec<Source> {
    let own = r#"
        [services.api.triggers.pods]
        expr  = 'sum by (pod) (rate(payments_total{result="failed"}[1m])) / sum by (pod) (rate(payments_total[1m]))'
        above = "50%"
        for   = "10m"
    "#;
    beside(presets(&[]), &format!("{own}\n{more}"))
}

fn pod(stage: &mut Stage, name: &str, paid: u32, failed: u32) {
    stage.app().each(&format!(r#"payments_total{{pod="{name}",result="paid"}}"#), paid);
    stage.app().each(&format!(r#"payments_total{{pod="{name}",result="failed"}}"#), failed);
}

fn pods(more: &str) -> Stage {
    Stage::after_release(&per_pod(more), |stage| {
        pod(stage, "a", 100, 0);
        pod(stage, "b", 100, 0);
    })
}

#[test]
fn t12_pod_a_for_5_minutes_and_then_pod_b_for_5_are_not_10_minutes() {
    let mut stage = pods("");
    for _ in 0..4 {
        pod(&mut stage, "a", 0, 100);
        pod(&mut stage, "b", 100, 0);
        stage.run(5 * MINUTE);
        pod(&mut stage, "a", 100, 0);
        pod(&mut stage, "b", 0, 100);
        stage.run(5 * MINUTE);
        // At every instant of these some pod was bad.
        assert_eq!(stage.trigger("pods").1, "breached");
    }
    stage.nothing();
}

/// Three of the four increases in the window fail at the third scrape: from then on it is above half.
#[test]
fn t12_one_pod_for_10_minutes_acts_with_the_scrape_that_completes_them() {
    let mut stage = pods("");
    pod(&mut stage, "b", 0, 100);
    // `rate` sees the increases between the four samples in its window: three. Two of them make two thirds.
    stage.look("app", 2 + 40 - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t12_where_all_pods_must_fail_one_is_not_enough() {
    let mut stage = pods("fire_when = \"all\"");
    pod(&mut stage, "b", 0, 100);
    stage.run(HOUR / 2);
    stage.nothing();
    pod(&mut stage, "a", 0, 100);
    stage.look("app", 2 + 40 - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

/// A pod that goes takes its hold with it.
#[test]
fn t12_a_pod_that_comes_begins_its_own_hold() {
    let mut stage = pods("");
    pod(&mut stage, "b", 0, 100);
    // For some scrapes more its failures are in the window.
    stage.look("app", 2 + 40 - 6);
    for result in ["paid", "failed"] {
        stage.app().drop_series(&format!(r#"payments_total{{pod="b",result="{result}"}}"#));
    }
    pod(&mut stage, "c", 0, 100);
    stage.run(9 * MINUTE);
    stage.nothing();
    stage.run(3 * MINUTE);
    assert_eq!(stage.steps.len(), 1, "{:?}", stage.trigger("pods"));
}
