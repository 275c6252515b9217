//! T8: memory, of the host, as the node exporter tells it.

use crate::stage::{HOUR, MINUTE, Stage, changed, presets};
use crate::world::Manner;

const ALL: f64 = 16_000_000_000.0;
const FIVE_PERCENT: f64 = 800_000_000.0;
/// Scrapes in the two minutes of the preset's `for`.
const HOLD: usize = 8;

fn memory(stage: &mut Stage, available: f64) {
    stage.endpoint(":9100/metrics").gauge("node_memory_MemAvailable_bytes", available);
    stage.endpoint(":9100/metrics").gauge("node_memory_MemTotal_bytes", ALL);
}

fn t8() -> Stage {
    let mut stage = Stage::after_release(&presets(&["memory"]), |stage| memory(stage, ALL / 2.0));
    stage.look("node", 1);
    stage
}

#[test]
fn t8_a_byte_more_than_95_percent_for_2_minutes_acts_with_the_scrape_that_completes_them() {
    let mut stage = t8();
    memory(&mut stage, FIVE_PERCENT - 1.0);
    stage.look("node", HOLD);
    stage.nothing();
    stage.look("node", 1);
    stage.acts_now();
}

#[test]
fn t8_exactly_95_percent_is_not_above() {
    let mut stage = t8();
    memory(&mut stage, FIVE_PERCENT);
    stage.run(HOUR);
    stage.nothing();
    assert_eq!(stage.trigger("memory"), ("quiet", "clear", "95 % (above 95 %)".to_owned()));
}

#[test]
fn t8_one_interval_short_of_2_minutes_is_nothing() {
    let mut stage = t8();
    for _ in 0..3 {
        memory(&mut stage, 0.0);
        stage.look("node", HOLD);
        memory(&mut stage, ALL);
        stage.look("node", 1);
    }
    stage.run(MINUTE);
    stage.nothing();
}

/// A scrape that all services share is judged alike.
#[test]
fn t8_a_shared_exporter_acts_too() {
    let sources = changed(presets(&["memory"]), "[services.api.scrapes.node]", "[scrapes.node]");
    let mut stage = Stage::after_release(&sources, |stage| memory(stage, ALL / 2.0));
    stage.look("node", 1);
    memory(&mut stage, 0.0);
    stage.look("node", HOLD);
    stage.nothing();
    stage.look("node", 1);
    stage.acts_now();
}

/// The exporter's own failure says nothing of the memory: it pauses the hold, and costs the interval before and after.
#[test]
fn t8_a_missed_scrape_of_the_exporter_pauses_the_hold() {
    let mut stage = t8();
    memory(&mut stage, 0.0);
    stage.look("node", 5);
    stage.endpoint(":9100/metrics").manner = Manner::Refuses;
    stage.look("node", 1);
    stage.endpoint(":9100/metrics").manner = Manner::Answers;
    // 4 intervals are held; 4 more begin with the next scrape.
    stage.look("node", 4);
    stage.nothing();
    stage.look("node", 1);
    stage.acts_now();
}

#[test]
fn t8_an_exporter_that_is_gone_is_not_a_full_memory() {
    let mut stage = t8();
    stage.endpoint(":9100/metrics").manner = Manner::Refuses;
    stage.run(HOUR);
    stage.nothing();
    assert_eq!(stage.trigger("memory").1, "unknown");
}

/// One of the two series is missing: half of an expression is not zero.
#[test]
fn t8_a_missing_series_is_not_a_full_memory() {
    let mut stage = t8();
    stage.endpoint(":9100/metrics").drop_series("node_memory_MemAvailable_bytes");
    stage.run(HOUR);
    stage.nothing();
}
