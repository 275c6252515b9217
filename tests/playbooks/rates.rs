//! T1, T2, T3: shares of what is counted.
//!
//! The service is scraped every 15 s, so a window of 1 m holds four scrapes. A share that is only just too high over
//! the whole window is so first at the fourth scrape after it began, and no more at the first scrape after it ended.

use std::time::Duration;

use backstop::decide::event::DecisionKind;
use backstop::machine::input::Command;

use crate::stage::{HOUR, MINUTE, Stage, beside, changed, presets};
use crate::world::Manner;

/// Scrapes until the window holds nothing else.
const FILLED: usize = 4;
const PER_MINUTE: usize = 4;

fn t1() -> Stage {
    Stage::after_release(&presets(&["error-rate"]), |stage| stage.app().requests(1000, 0))
}

#[test]
fn t1_just_above_15_percent_for_10_minutes_acts_with_the_scrape_that_completes_them() {
    let mut stage = t1();
    stage.app().requests(1000, 151);
    stage.look("app", FILLED + 10 * PER_MINUTE - 1);
    stage.run(Duration::from_secs(14));
    stage.nothing();
    assert_eq!(stage.trigger("error-rate").0, "pending");
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t1_exactly_15_percent_is_not_above() {
    let mut stage = t1();
    stage.app().requests(1000, 150);
    stage.run(HOUR / 2);
    stage.nothing();
    assert_eq!(stage.trigger("error-rate"), ("quiet", "clear", "15 % (above 15 %)".to_owned()));
}

#[test]
fn t1_one_interval_short_of_10_minutes_is_nothing() {
    let mut stage = t1();
    stage.app().requests(1000, 151);
    stage.look("app", FILLED + 10 * PER_MINUTE - 1);
    stage.app().requests(1000, 0);
    stage.run(HOUR);
    stage.nothing();
}

#[test]
fn t1_each_hold_starts_anew() {
    let mut stage = t1();
    for _ in 0..3 {
        stage.app().requests(1000, 151);
        stage.look("app", FILLED + 10 * PER_MINUTE - 1);
        stage.app().requests(1000, 0);
        stage.look("app", 1);
    }
    stage.run(10 * MINUTE);
    stage.nothing();
}

/// One request in each second scrape is 20 in any ten minutes; every one of them fails.
fn t1_low_traffic(per_ten_minutes: usize, scrapes: usize) -> Stage {
    let mut stage = t1();
    stage.app().requests(0, 0);
    // The window has to lose what was before.
    for scrape in 0..scrapes {
        let turn = (scrape / 2) % 20;
        if scrape % 2 == 0 && turn < per_ten_minutes {
            stage.app().count(r#"http_requests_total{method="GET",status="500"}"#, 1);
        }
        stage.look("app", 1);
    }
    stage
}

#[test]
fn t1_20_failed_requests_in_10_minutes_are_enough() {
    // The window grows to 10 minutes. For as long the 1000 of each scrape before are in it, then for as long it holds.
    let stage = t1_low_traffic(20, 40 + 40 + 2);
    assert_eq!(stage.steps.len(), 1, "{:?}", stage.trigger("error-rate"));
}

#[test]
fn t1_19_failed_requests_in_10_minutes_conclude_nothing() {
    let stage = t1_low_traffic(19, 400);
    stage.nothing();
    let (verdict, finding, why) = stage.trigger("error-rate");
    assert_eq!((verdict, finding, why.as_str()), ("quiet", "unknown", "19 events, 20 are needed"));
}

/// With one missed scrape the window is still covered, and two findings stand as far apart as the tolerance of two
/// intervals allows: the hold goes on. After two in a row it starts anew, once the window is covered again.
#[test]
fn t1_one_missed_scrape_keeps_the_hold_and_two_lose_it() {
    for manner in [Manner::Refuses, Manner::Hangs, Manner::CutsShort] {
        // 400 of 1000 is above 15 % from the second scrape on, so 18 of 40 intervals are held.
        for (missed, left) in [(1, 21), (2, 1 + FILLED + 10 * PER_MINUTE)] {
            let mut stage = t1();
            stage.app().requests(1000, 400);
            stage.look("app", 20);
            stage.app().manner = manner;
            stage.look("app", missed);
            stage.app().manner = Manner::Answers;
            stage.look("app", left - 1);
            stage.nothing();
            stage.look("app", 1);
            stage.acts_now();
        }
    }
}

#[test]
fn t1_a_release_that_was_rolled_back_by_hand_meanwhile_is_not_judged() {
    let mut stage = t1();
    stage.app().requests(1000, 900);
    stage.look("app", 9 * PER_MINUTE);
    stage.release("r1");
    stage.run(HOUR / 2);
    stage.refused(DecisionKind::Escalate, "returned_release");
}

/// Two processes behind the service, each a target.
fn t1_two_targets() -> Stage {
    let two = r#"targets = ["http://127.0.0.1:8080/metrics", "http://127.0.0.1:8081/metrics"]"#;
    let sources = changed(presets(&["error-rate"]), r#"url = "http://127.0.0.1:8080/metrics""#, two);
    Stage::after_release(&sources, |stage| {
        stage.app().requests(1000, 0);
        stage.endpoint(":8081/metrics").requests(1000, 0);
    })
}

/// 302 of 1000 on one and none on the other are 15.1 % of all; both are looked at in turn.
#[test]
fn t1_the_share_is_that_of_all_targets() {
    for (failed, acts) in [(300, false), (302, true)] {
        let mut stage = t1_two_targets();
        stage.app().requests(1000, failed);
        stage.look("app", 2 * (FILLED + 10 * PER_MINUTE) - 1);
        stage.nothing();
        stage.look("app", 1);
        if acts {
            stage.acts_now();
        } else {
            stage.run(HOUR);
            stage.nothing();
        }
    }
}

/// What one of two targets says is not what the service does.
#[test]
fn t1_half_of_the_targets_is_not_enough_to_conclude() {
    let mut stage = t1_two_targets();
    stage.endpoint(":8081/metrics").manner = Manner::Hangs;
    stage.app().requests(1000, 900);
    stage.run(HOUR);
    stage.nothing();
    let (_, finding, why) = stage.trigger("error-rate");
    assert_eq!(finding, "unknown");
    assert!(why.starts_with("only 1 of 2 targets"), "{why}");
}

/// As the comment of the preset says: the lower threshold leaves time for a person and asks one.
fn t2() -> Stage {
    let sources = presets(&["error-rate-urgent"]);
    let asks = "# With autonomy = \"act\" on the service, add autonomy = \"propose\" here.";
    let sources = changed(sources, asks, "autonomy = \"propose\"");
    Stage::after_release(&sources, |stage| stage.app().requests(1000, 0))
}

#[test]
fn t2_just_above_10_percent_for_5_minutes_acts_with_the_scrape_that_completes_them() {
    let mut stage = t2();
    stage.app().requests(1000, 101);
    stage.look("app", FILLED + 5 * PER_MINUTE - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t2_one_interval_short_of_5_minutes_is_nothing() {
    let mut stage = t2();
    stage.app().requests(1000, 101);
    stage.look("app", FILLED + 5 * PER_MINUTE - 1);
    stage.app().requests(1000, 0);
    stage.run(HOUR);
    stage.nothing();
}

#[test]
fn t2_exactly_10_percent_does_not_act_and_asks_a_person_as_it_is_above_5() {
    let mut stage = t2();
    stage.app().requests(1000, 100);
    // Above 5 % in five minutes needs more than half of the window, eleven scrapes; then ten minutes.
    stage.look("app", 11 + 10 * PER_MINUTE - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.refused(DecisionKind::Propose, "autonomy");
    assert_eq!(stage.trigger("error-rate-high").0, "quiet");
    stage.run(HOUR / 2);
    stage.not_acted();
}

#[test]
fn t2_5_percent_is_not_above_5_percent() {
    let mut stage = t2();
    stage.app().requests(1000, 50);
    stage.run(HOUR / 2);
    stage.nothing();
}

#[test]
fn t2_what_a_person_approves_is_done_at_once() {
    let mut stage = t2();
    stage.app().requests(1000, 60);
    stage.run(20 * MINUTE);
    stage.refused(DecisionKind::Propose, "autonomy");
    let incident = stage.incident();
    stage.command(Command::Approve { incident, reason: "yes".to_owned() });
    stage.acts_now();
}

const SIGNED_IN: &str = r#"auth_attempts_total{result="success"}"#;
const REFUSED: &str = r#"auth_attempts_total{result="failure"}"#;

fn sign_ins(stage: &mut Stage, succeed: u32, fail: u32) {
    stage.app().each(SIGNED_IN, succeed);
    stage.app().each(REFUSED, fail);
}

fn t3() -> Stage {
    Stage::after_release(&presets(&["auth"]), |stage| sign_ins(stage, 1000, 0))
}

#[test]
fn t3_just_below_80_percent_for_5_minutes_acts_with_the_scrape_that_completes_them() {
    let mut stage = t3();
    sign_ins(&mut stage, 799, 201);
    stage.look("app", FILLED + 5 * PER_MINUTE - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

#[test]
fn t3_exactly_80_percent_is_not_below() {
    let mut stage = t3();
    sign_ins(&mut stage, 800, 200);
    stage.run(HOUR / 2);
    stage.nothing();
    assert_eq!(stage.trigger("auth"), ("quiet", "clear", "80 % (below 80 %)".to_owned()));
}

#[test]
fn t3_one_interval_short_of_5_minutes_is_nothing() {
    let mut stage = t3();
    sign_ins(&mut stage, 799, 201);
    stage.look("app", FILLED + 5 * PER_MINUTE - 1);
    sign_ins(&mut stage, 1000, 0);
    stage.run(HOUR);
    stage.nothing();
}

/// Nobody can sign in: the counter of successes stands still.
#[test]
fn t3_zero_sign_ins_of_a_label_that_matched_before_act() {
    let mut stage = t3();
    sign_ins(&mut stage, 0, 1000);
    // 3/4, the first below 80 %, is at the first scrape.
    stage.look("app", 1 + 5 * PER_MINUTE - 1);
    stage.nothing();
    stage.look("app", 1);
    stage.acts_now();
}

/// The new process never shows a success at all: the label matched on the release before.
#[test]
fn t3_zero_sign_ins_of_a_new_process_that_never_shows_one_act() {
    let mut stage = t3();
    stage.app().drop_series(SIGNED_IN);
    stage.app().each(REFUSED, 1000);
    stage.release("r3");
    stage.run(10 * MINUTE);
    // r2 ran for less than 30 minutes, so the way back is r1.
    assert_eq!(stage.steps.len(), 1, "{:?}", stage.trigger("auth"));
    assert_eq!(stage.steps[0].1.target.as_ref().map(|target| &*target.0), Some("r1"));
}

/// The preset names a label that this service does not have.
#[test]
fn t3_a_renamed_label_is_not_0_percent_sign_ins() {
    let mut stage = Stage::after_release(&presets(&["auth"]), |stage| {
        stage.app().each(r#"auth_attempts_total{result="ok"}"#, 1000);
        stage.app().each(REFUSED, 10);
    });
    stage.run(HOUR);
    stage.nothing();
    let (_, finding, why) = stage.trigger("auth");
    assert_eq!(finding, "unknown");
    assert!(why.contains("has not been seen"), "{why}");
}

#[test]
fn t3_20_attempts_are_enough_and_19_conclude_nothing() {
    for (attempts, acts) in [(20, true), (19, false)] {
        let mut stage = t3();
        stage.app().each(SIGNED_IN, 0);
        for scrape in 0..200 {
            if scrape % 2 == 0 && (scrape / 2) % 20 < attempts {
                stage.app().count(REFUSED, 1);
            }
            stage.look("app", 1);
        }
        assert_eq!(stage.steps.len(), usize::from(acts), "{attempts}: {:?}", stage.trigger("auth"));
    }
}

/// The operator's own least count.
#[test]
fn t1_the_least_count_can_be_set() {
    let own = r#"
        [services.api.triggers.own]
        ratio = { part = 'http_requests_total{status=~"5.."}', whole = 'http_requests_total', window = "1m", min_events = 5, widen_to = "1m" }
        above = "15%"
    "#;
    for (failed, acts) in [(4, false), (5, true)] {
        let mut stage = Stage::after_release(&beside(presets(&[]), own), |stage| stage.app().requests(1000, 0));
        stage.app().requests(0, 0);
        stage.look("app", FILLED);
        stage.app().count(r#"http_requests_total{method="GET",status="500"}"#, failed);
        stage.look("app", 1);
        stage.look("release", 1);
        assert_eq!(stage.steps.len(), usize::from(acts), "{failed}: {:?}", stage.trigger("own"));
    }
}
