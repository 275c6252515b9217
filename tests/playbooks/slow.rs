//! T5: the 95th percentile of the response time.
//!
//! The window of 5 m holds twenty scrapes. Prometheus's quantile is linear within a bucket, so with 950 of 1000 requests
//! below 5 s it is exactly 5 s, and with 949 it is above.

use crate::stage::{HOUR, Stage, presets};

const WINDOW: usize = 20;
const HOLD: usize = 20;

/// Before each scrape: so many requests within 1 s, 5 s, 10 s, and any time. Each bucket holds those before it.
fn requests(stage: &mut Stage, within: [u32; 4]) {
    let app = stage.app();
    for (le, count) in ["1", "5", "10", "+Inf"].iter().zip(within) {
        app.each(&format!("http_request_duration_seconds_bucket{{le=\"{le}\"}}"), count);
    }
    app.each("http_request_duration_seconds_count", within[3]);
}

fn t5() -> Stage {
    Stage::after_release(&presets(&["slow"]), |stage| requests(stage, [1000; 4]))
}

#[test]
fn t5_just_above_5_seconds_for_5_minutes_acts_with_the_scrape_that_completes_them() {
    let mut stage = t5();
    requests(&mut stage, [900, 949, 1000, 1000]);
    stage.look("app", WINDOW + HOLD - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t5_exactly_5_seconds_is_not_above() {
    let mut stage = t5();
    requests(&mut stage, [900, 950, 1000, 1000]);
    stage.run(HOUR);
    stage.nothing();
    assert_eq!(stage.trigger("slow"), ("quiet", "clear", "5 s (above 5 s)".to_owned()));
}

#[test]
fn t5_one_interval_short_of_5_minutes_is_nothing() {
    let mut stage = t5();
    requests(&mut stage, [900, 949, 1000, 1000]);
    stage.look("app", WINDOW + HOLD - 1);
    requests(&mut stage, [1000; 4]);
    stage.run(HOUR);
    stage.nothing();
}

/// Beyond the last finite bucket the quantile is that bucket's bound: 10 s is above 5 s.
#[test]
fn t5_requests_beyond_every_bucket_count_as_slow() {
    let mut stage = t5();
    requests(&mut stage, [0, 0, 0, 1000]);
    // More than a twentieth of the window is slow at the second scrape.
    stage.look("app", 2 + HOLD - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

/// In each five minutes so many requests, all of them slow.
fn low_traffic(per_window: usize, scrapes: usize) -> Stage {
    let mut stage = t5();
    requests(&mut stage, [0; 4]);
    for scrape in 0..scrapes {
        requests(&mut stage, if scrape % WINDOW < per_window { [0, 0, 1, 1] } else { [0; 4] });
        stage.look("app", 1);
    }
    stage
}

#[test]
fn t5_20_requests_in_the_window_are_enough() {
    // Until the window has lost what was fast before, and then the hold.
    let mut stage = low_traffic(20, WINDOW + HOLD - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t5_19_requests_in_the_window_conclude_nothing() {
    let stage = low_traffic(19, 10 * WINDOW);
    stage.nothing();
    assert_eq!(stage.trigger("slow"), ("quiet", "unknown", "19 events, 20 are needed".to_owned()));
}
