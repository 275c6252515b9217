//! What holds for every row: healthy traffic, missing metrics, and breaches that no release is to blame for.

use backstop::decide::event::DecisionKind;

use crate::stage::{HOUR, MINUTE, Stage, changed, presets};
use crate::world::Health;

struct Row {
    id: &'static str,
    preset: &'static str,
    healthy: fn(&mut Stage),
    broken: fn(&mut Stage),
}

const ROWS: [Row; 9] = [
    Row {
        id: "T1",
        preset: "error-rate",
        healthy: |stage| stage.app().requests(1000, 5),
        broken: |stage| stage.app().requests(1000, 400),
    },
    Row {
        id: "T2",
        preset: "error-rate-urgent",
        healthy: |stage| stage.app().requests(1000, 5),
        broken: |stage| stage.app().requests(1000, 400),
    },
    Row {
        id: "T3",
        preset: "auth",
        healthy: |stage| {
            stage.app().each(r#"auth_attempts_total{result="success"}"#, 90);
            stage.app().each(r#"auth_attempts_total{result="failure"}"#, 10);
        },
        broken: |stage| stage.app().each(r#"auth_attempts_total{result="success"}"#, 5),
    },
    Row {
        id: "T4",
        preset: "database-connections",
        healthy: |stage| stage.app().each("db_connection_errors_total", 1),
        broken: |stage| stage.app().each("db_connection_errors_total", 50),
    },
    Row {
        id: "T5",
        preset: "slow",
        healthy: |stage| {
            for le in ["1", "5", "10", "+Inf"] {
                stage.app().each(&format!("http_request_duration_seconds_bucket{{le=\"{le}\"}}"), 100);
            }
        },
        broken: |stage| {
            for le in ["1", "5"] {
                stage.app().each(&format!("http_request_duration_seconds_bucket{{le=\"{le}\"}}"), 0);
            }
        },
    },
    Row {
        id: "T7",
        preset: "down",
        healthy: |stage| stage.health = Health::Healthy,
        broken: |stage| stage.health = Health::Unavailable,
    },
    Row {
        id: "T8",
        preset: "memory",
        healthy: |stage| {
            stage.endpoint(":9100/metrics").gauge("node_memory_MemAvailable_bytes", 8e9);
            stage.endpoint(":9100/metrics").gauge("node_memory_MemTotal_bytes", 16e9);
        },
        broken: |stage| stage.endpoint(":9100/metrics").gauge("node_memory_MemAvailable_bytes", 1e6),
    },
    Row {
        id: "T9",
        preset: "connection-pool",
        healthy: |stage| {
            stage.app().gauge("db_pool_connections_in_use", 3.0);
            stage.app().gauge("db_pool_connections_max", 20.0);
        },
        broken: |stage| stage.app().gauge("db_pool_connections_in_use", 20.0),
    },
    Row {
        id: "T12",
        preset: "payments",
        healthy: |stage| {
            stage.app().each(r#"payments_total{result="paid"}"#, 99);
            stage.app().each(r#"payments_total{result="failed"}"#, 1);
        },
        broken: |stage| stage.app().each(r#"payments_total{result="failed"}"#, 99),
    },
];

/// More than any row's hold and window.
const LONG_ENOUGH: std::time::Duration = MINUTE.saturating_mul(30);

#[test]
fn every_breach_after_a_release_acts_once_and_says_why() {
    for Row { id, preset, healthy, broken } in ROWS {
        let mut stage = Stage::after_release(&presets(&[preset]), healthy);
        broken(&mut stage);
        stage.run(LONG_ENOUGH);
        assert_eq!(stage.steps.len(), 1, "{id}");
        let order = &stage.steps[0].1;
        assert_eq!(order.target.as_ref().map(|target| &*target.0), Some("r1"), "{id}");
        assert_eq!(order.bad.as_ref().map(|bad| &*bad.0), Some("r2"), "{id}");
        let decision = stage.decision().expect("it was judged");
        assert!(decision.checks.iter().all(|check| check.allows), "{id}: {:?}", decision.checks);
    }
}

#[test]
fn healthy_traffic_over_hours_and_releases_is_nothing() {
    for Row { preset, healthy, .. } in ROWS {
        let mut stage = Stage::after_release(&presets(&[preset]), healthy);
        stage.run(HOUR);
        stage.release("r3");
        stage.run(2 * HOUR);
        stage.nothing();
    }
}

/// The service does not expose what the preset asks for: nothing is concluded, before and after a release.
#[test]
fn a_missing_metric_is_nothing() {
    for Row { id, preset, .. } in ROWS.into_iter().filter(|row| row.id != "T7") {
        let mut stage = Stage::new(&presets(&[preset]));
        stage.run(HOUR);
        stage.release("r2");
        stage.run(2 * HOUR);
        stage.nothing();
        let name = match preset {
            "error-rate-urgent" => "error-rate-high",
            other => other,
        };
        assert_eq!(stage.trigger(name).1, "unknown", "{id}");
    }
}

/// A metric that the new release no longer has says nothing of it, but a share of successes that has been seen before
/// does (T3 has its own tests).
#[test]
fn a_metric_that_the_new_release_lost_is_nothing() {
    for Row { preset, healthy, .. } in ROWS.into_iter().filter(|row| row.id != "T7" && row.id != "T8") {
        let mut stage = Stage::after_release(&presets(&[preset]), healthy);
        let process_start = stage.now().as_secs_f64();
        *stage.app() = crate::world::Endpoint::new(process_start);
        stage.release("r3");
        stage.run(2 * HOUR);
        stage.nothing();
    }
}

#[test]
fn without_any_release_change_people_are_told_and_nothing_is_done() {
    for Row { preset, healthy, broken, .. } in ROWS {
        let mut stage = Stage::new(&presets(&[preset]));
        healthy(&mut stage);
        stage.run(2 * HOUR);
        broken(&mut stage);
        stage.run(LONG_ENOUGH);
        stage.refused(DecisionKind::Escalate, "no_release");
    }
}

#[test]
fn a_breach_that_began_too_long_after_the_release_is_not_its_fault() {
    for Row { preset, healthy, broken, .. } in ROWS {
        let mut stage = Stage::after_release(&presets(&[preset]), healthy);
        stage.run(HOUR);
        broken(&mut stage);
        stage.run(LONG_ENOUGH);
        stage.refused(DecisionKind::Escalate, "not_after_release");
    }
}

/// The release may be the fix.
#[test]
fn a_breach_that_began_before_the_release_is_not_its_fault() {
    for Row { preset, healthy, broken, .. } in ROWS {
        let mut stage = Stage::after_release(&presets(&[preset]), healthy);
        stage.run(2 * HOUR);
        broken(&mut stage);
        stage.run(LONG_ENOUGH);
        stage.release("r3");
        stage.run(LONG_ENOUGH);
        stage.not_acted();
    }
}

/// Nothing was ever right, so nothing says that the release made it wrong.
#[test]
fn what_was_never_right_is_a_baseline() {
    for Row { preset, healthy, broken, .. } in ROWS {
        let mut stage = Stage::new(&presets(&[preset]));
        healthy(&mut stage);
        broken(&mut stage);
        stage.run(HOUR);
        stage.release("r2");
        stage.run(LONG_ENOUGH);
        stage.not_acted();
    }
}

/// As the preset comes: it only says what it would have done.
#[test]
fn while_it_observes_nothing_is_done() {
    for Row { id, preset, healthy, broken } in ROWS {
        let sources = changed(presets(&[preset]), "autonomy = \"act\"\nnotify", "autonomy = \"observe\"\nnotify");
        let mut stage = Stage::after_release(&sources, healthy);
        broken(&mut stage);
        stage.run(LONG_ENOUGH);
        stage.not_acted();
        assert_eq!(stage.decision().map(|decision| decision.kind), Some(DecisionKind::WouldRollBack), "{id}");
    }
}
