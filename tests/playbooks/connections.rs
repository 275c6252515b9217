//! T4 and T9: the database cannot be reached, or its pool is exhausted.

use backstop::decide::event::DecisionKind;

use crate::stage::{HOUR, MINUTE, Stage, presets};
use crate::world::Manner;

const ERRORS: &str = "db_connection_errors_total";

fn t4() -> Stage {
    Stage::after_release(&presets(&["database-connections"]), |stage| {
        stage.app().each(ERRORS, 0);
        stage.app().count(ERRORS, 1000);
    })
}

/// The preset has no `for`: the scrape that shows the sixth failure breaches. A release that came in between would
/// be to blame, so the decision waits for the next look at the release.
#[test]
fn t4_6_failures_in_a_minute_act_as_soon_as_the_release_was_read() {
    let mut stage = t4();
    stage.app().count(ERRORS, 6);
    stage.look("app", 1);
    stage.not_acted();
    assert_eq!(stage.trigger("database-connections").0, "firing");
    stage.look("release", 1);
    stage.acts_now();
}

#[test]
fn t4_5_failures_in_a_minute_are_not_more_than_5() {
    let mut stage = t4();
    for _ in 0..20 {
        stage.app().count(ERRORS, 5);
        stage.look("app", 4);
    }
    stage.nothing();
    assert_eq!(stage.trigger("database-connections"), ("quiet", "clear", "5 (above 5)".to_owned()));
}

/// Prometheus's `increase` extrapolates what it sees between the first and the last sample of the window to the whole
/// window, and would make more than 6 of these 5.
#[test]
fn t4_a_slow_counter_is_not_extrapolated() {
    let mut stage = t4();
    for scrape in 0..120 {
        // Any four scrapes in a row hold 5.
        stage.app().count(ERRORS, if scrape % 4 == 0 { 2 } else { 1 });
        stage.look("app", 1);
    }
    stage.nothing();
}

#[test]
fn t4_6_failures_over_more_than_a_minute_are_5_in_a_minute() {
    let mut stage = t4();
    for failures in [1, 1, 1, 2, 1] {
        stage.app().count(ERRORS, failures);
        stage.look("app", 1);
    }
    stage.run(10 * MINUTE);
    stage.nothing();
}

#[test]
fn t4_the_same_6_within_four_scrapes_are_6_in_a_minute() {
    let mut stage = t4();
    for failures in [1, 1, 2, 2] {
        stage.not_acted();
        stage.app().count(ERRORS, failures);
        stage.look("app", 1);
    }
    stage.look("release", 1);
    stage.acts_now();
}

/// A process shows the counter when the first connection fails, and then perhaps at 6 already.
#[test]
fn t4_a_counter_that_appears_counts_from_zero() {
    for (failures, acts) in [(5, false), (6, true)] {
        let mut stage = Stage::after_release(&presets(&["database-connections"]), |stage| {
            stage.app().each(r#"db_connection_errors_total{db="replica"}"#, 0);
        });
        stage.app().count(r#"db_connection_errors_total{db="primary"}"#, failures);
        stage.look("app", 1);
        stage.look("release", 1);
        assert_eq!(stage.steps.len(), usize::from(acts), "{failures}");
    }
}

/// Until it appears nobody knows whether the service has such a counter, so it was never seen to be right: people are
/// told.
#[test]
fn t4_a_metric_that_was_never_seen_before_is_told_and_not_acted_on() {
    let mut stage = Stage::after_release(&presets(&["database-connections"]), |_| {});
    stage.app().count(ERRORS, 100);
    stage.run(MINUTE);
    stage.refused(DecisionKind::Escalate, "never_clear");
}

/// What backstop finds at its first scrape after a hole happened at a time that nobody knows.
#[test]
fn t4_what_happened_while_nothing_was_seen_is_not_the_last_minute() {
    let mut stage = t4();
    stage.app().manner = Manner::Refuses;
    stage.look("app", 10);
    stage.app().count(ERRORS, 100);
    stage.app().manner = Manner::Answers;
    stage.run(HOUR);
    stage.nothing();
}

/// Failures of the old process are not those of the new one, and its start is no increase.
#[test]
fn t4_a_restart_is_no_failure() {
    let mut stage = t4();
    stage.app().count(ERRORS, 5);
    stage.look("app", 1);
    stage.app().restart(1_900_000_000.0);
    stage.app().count(ERRORS, 0);
    stage.run(HOUR);
    stage.nothing();
}

fn pool(stage: &mut Stage, in_use: f64, max: f64) {
    stage.app().gauge("db_pool_connections_in_use", in_use);
    stage.app().gauge("db_pool_connections_max", max);
}

fn t9() -> Stage {
    Stage::after_release(&presets(&["connection-pool"]), |stage| pool(stage, 40.0, 100.0))
}

/// From the first full scrape on, four more are a minute.
#[test]
fn t9_a_full_pool_for_1_minute_acts_with_the_scrape_that_completes_it() {
    let mut stage = t9();
    pool(&mut stage, 100.0, 100.0);
    stage.look("app", 4);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t9_one_connection_left_is_not_exhausted() {
    let mut stage = t9();
    pool(&mut stage, 99.0, 100.0);
    stage.run(HOUR);
    stage.nothing();
}

#[test]
fn t9_more_than_all_is_exhausted_too() {
    let mut stage = t9();
    pool(&mut stage, 101.0, 100.0);
    stage.look("app", 5);
    stage.acts_now();
}

#[test]
fn t9_one_interval_short_of_1_minute_is_nothing() {
    let mut stage = t9();
    for _ in 0..5 {
        pool(&mut stage, 100.0, 100.0);
        stage.look("app", 4);
        pool(&mut stage, 99.0, 100.0);
        stage.look("app", 1);
    }
    stage.nothing();
}

/// The time around the missed scrape is not credited: the interval before it and the one after.
#[test]
fn t9_a_missed_scrape_pauses_the_hold() {
    let mut stage = t9();
    pool(&mut stage, 100.0, 100.0);
    stage.look("app", 3);
    stage.app().manner = Manner::Hangs;
    stage.look("app", 1);
    stage.app().manner = Manner::Answers;
    stage.look("app", 2);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t9_a_gap_longer_than_two_intervals_starts_the_hold_anew() {
    let mut stage = t9();
    pool(&mut stage, 100.0, 100.0);
    stage.look("app", 4);
    stage.app().manner = Manner::Hangs;
    stage.look("app", 2);
    stage.app().manner = Manner::Answers;
    stage.look("app", 4);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

/// A pool of size zero is not "infinitely exhausted".
#[test]
fn t9_a_division_by_zero_is_unknown() {
    let mut stage = t9();
    pool(&mut stage, 1.0, 0.0);
    stage.run(HOUR);
    stage.nothing();
    assert_eq!(stage.trigger("connection-pool").1, "unknown");
}
