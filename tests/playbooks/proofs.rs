//! V1 to V9: what must be so before a service counts as recovered.

use backstop::decide::event::CheckOutcome;

use crate::stage::{MINUTE, Stage, changed, preset};
use crate::world::Health;

const GAUGES: [&str; 2] = ["db_pool_connections_in_use", "db_pool_connections_max"];

fn requests(stage: &mut Stage, failed: u32) {
    stage.app().requests(1000, failed);
}

fn latency(stage: &mut Stage, slow: u32) {
    for (le, count) in [("0.5", 1000 - slow), ("2", 1000), ("+Inf", 1000)] {
        stage.app().each(&format!("http_request_duration_seconds_bucket{{le=\"{le}\"}}"), count);
    }
}

/// The rollback to `r1` has just ended well; `worse` is what is wrong all the same.
fn rolled_back(worse: impl FnOnce(&mut Stage)) -> Stage {
    let base = preset("base-verified");
    let sources = changed(vec![base, preset("error-rate")], "autonomy = \"observe\"", "autonomy = \"act\"");
    let mut stage = Stage::after_release(&sources, |stage| {
        requests(stage, 0);
        latency(stage, 0);
        for (gauge, value) in GAUGES.into_iter().zip([10.0, 100.0]) {
            stage.app().gauge(gauge, value);
        }
        stage.app().each("log_messages_total{level=\"error\"}", 0);
    });
    requests(&mut stage, 200);
    stage.run(12 * MINUTE);
    assert_eq!(stage.steps.len(), 1);
    requests(&mut stage, 0);
    worse(&mut stage);
    stage.step_helps();
    assert_eq!(stage.stands().0, "verifying");
    stage
}

#[test]
fn v8_recovered_is_what_stays_well_for_15_minutes() {
    let mut stage = rolled_back(|_| ());
    stage.run(14 * MINUTE);
    assert_eq!(stage.stands().0, "verifying");
    stage.run(8 * MINUTE);
    assert_eq!(stage.stands().0, "recovered");
}

/// While this is so it is not recovered, and it does not stay so for ever.
#[track_caller]
fn prevents(worse: impl FnOnce(&mut Stage)) {
    let mut stage = rolled_back(worse);
    stage.run(35 * MINUTE);
    let (stands, sentence) = stage.stands();
    assert_eq!(stands, "needs_human", "{sentence}");
}

#[test]
fn v1_not_healthy() {
    prevents(|stage| stage.health = Health::SaysSick);
}

#[test]
fn v2_not_ready() {
    prevents(|stage| drop(stage.checks.insert("ready", CheckOutcome::Failed("/checks/redis is \"down\"".to_owned()))));
}

#[test]
fn v3_nobody_can_sign_in() {
    prevents(|stage| drop(stage.checks.insert("sign-in", CheckOutcome::Failed("status 401".to_owned()))));
}

#[test]
fn v4_records_are_missing() {
    prevents(|stage| drop(stage.checks.insert("records", CheckOutcome::Failed("/orders has 3 entries".to_owned()))));
}

#[test]
fn v5_more_than_a_hundredth_fails_though_the_trigger_is_clear() {
    prevents(|stage| requests(stage, 11));
}

#[test]
fn v5_it_is_slow() {
    prevents(|stage| latency(stage, 100));
}

#[test]
fn v5_the_pool_is_nearly_exhausted() {
    prevents(|stage| stage.app().gauge(GAUGES[0], 80.0));
}

#[test]
fn v6_the_smoke_tests_fail() {
    prevents(|stage| drop(stage.checks.insert("smoke tests", CheckOutcome::Failed("exit status 1".to_owned()))));
}

#[test]
fn v7_errors_are_logged() {
    prevents(|stage| stage.app().each("log_messages_total{level=\"error\"}", 1));
}

#[test]
fn v9_another_release_serves() {
    let mut stage = rolled_back(|_| ());
    stage.release("r3");
    stage.run(MINUTE);
    assert_eq!(stage.stands().0, "superseded");
}
