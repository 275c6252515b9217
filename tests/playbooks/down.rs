//! T7: health checks fail, and the complete outage.
//!
//! Every answer goes through the probe's judge as status and body; a refused connection and a silent one have no bytes,
//! so what they are called is given directly.

use backstop::config::Source;
use backstop::decide::event::DecisionKind;

use crate::stage::{HOUR, MINUTE, Stage, presets};
use crate::world::{Health, Manner};

fn served(stage: &mut Stage) {
    stage.app().requests(1000, 0);
}

fn t7() -> Stage {
    let mut stage = Stage::after_release(&presets(&["down"]), served);
    stage.look("health", 1);
    stage
}

/// Three in a row alone, without its neighbour for flapping.
fn only_in_a_row() -> Vec<Source> {
    let mut sources = presets(&["down"]);
    let down = sources.last_mut().unwrap();
    let flapping = down.text.find("[services.api.triggers.flapping]").expect("it is the second trigger");
    down.text.truncate(flapping);
    sources
}

/// `F` is a failed check, `S` a success.
fn checks(stage: &mut Stage, failure: Health, pattern: &str) {
    for check in pattern.chars() {
        stage.health = if check == 'F' { failure } else { Health::Healthy };
        stage.look("health", 1);
    }
}

#[test]
fn t7_three_failures_in_a_row_act_once_the_release_was_read() {
    for failure in [Health::SaysSick, Health::Unavailable, Health::Refuses, Health::Hangs] {
        let mut stage = t7();
        checks(&mut stage, failure, "FF");
        stage.run(MINUTE / 12);
        stage.nothing();
        checks(&mut stage, failure, "F");
        // The preset has no `for`: the third failure is the breach, and only the look at the release is waited for.
        stage.not_acted();
        assert_eq!(stage.trigger("down").0, "firing");
        stage.look("release", 1);
        stage.acts_now();
    }
}

#[test]
fn t7_two_failures_and_a_success_are_nothing_however_often() {
    let mut stage = Stage::after_release(&only_in_a_row(), served);
    checks(&mut stage, Health::Unavailable, &"FFS".repeat(40));
    stage.nothing();
}

#[test]
fn t7_three_of_five_act() {
    for pattern in ["FSFSF", "FFSSF", "FSSFF"] {
        let mut stage = t7();
        checks(&mut stage, Health::Unavailable, pattern);
        assert_eq!(stage.trigger("flapping").0, "firing", "{pattern}");
        assert_eq!(stage.trigger("down").0, "quiet", "{pattern}");
        stage.look("release", 1);
        stage.acts_now();
    }
}

#[test]
fn t7_two_of_five_are_nothing() {
    let mut stage = t7();
    checks(&mut stage, Health::Unavailable, &"FFSSS".repeat(20));
    checks(&mut stage, Health::Unavailable, &"SFSSF".repeat(20));
    stage.nothing();
}

/// Failures of the old release do not count against the new one.
#[test]
fn t7_a_streak_begins_anew_with_a_release() {
    let mut stage = Stage::after_release(&only_in_a_row(), served);
    checks(&mut stage, Health::Unavailable, "FF");
    stage.release("r3");
    stage.look("release", 1);
    checks(&mut stage, Health::Unavailable, "F");
    stage.run(MINUTE / 12);
    stage.nothing();
}

fn outage(stage: &mut Stage, manner: Manner, health: Health) {
    stage.app().manner = manner;
    stage.health = health;
}

/// The process is gone: everything refuses, which shows that the way to it is open.
#[test]
fn t7_a_complete_outage_of_the_new_release_acts() {
    let mut stage = t7();
    outage(&mut stage, Manner::Refuses, Health::Refuses);
    stage.look("health", 3);
    stage.look("release", 1);
    stage.acts_now();
}

/// Nothing of the service answers, but the references do: it is the service and not we.
#[test]
fn t7_a_silent_outage_acts_while_the_references_answer() {
    let mut stage = t7();
    outage(&mut stage, Manner::Hangs, Health::Hangs);
    stage.run(2 * MINUTE);
    assert_eq!(stage.steps.len(), 1);
}

#[test]
fn t7_when_the_references_are_dark_too_it_is_we_who_are_cut_off() {
    let mut stage = t7();
    stage.references_up = false;
    outage(&mut stage, Manner::Hangs, Health::Hangs);
    stage.run(5 * MINUTE);
    stage.refused(DecisionKind::Hold, "cut_off");
    // The references come back and the service does not.
    stage.references_up = true;
    stage.run(MINUTE);
    assert_eq!(stage.steps.len(), 1);
}

/// The service was down before the release came: the release is not to blame, and may be its fix.
#[test]
fn t7_what_was_down_before_is_escalated() {
    let mut stage = Stage::new(&presets(&["down"]));
    served(&mut stage);
    stage.run(HOUR);
    stage.health = Health::Unavailable;
    stage.run(2 * MINUTE);
    stage.release("r2");
    stage.run(10 * MINUTE);
    stage.not_acted();
    assert_eq!(stage.decision().map(|decision| decision.kind), Some(DecisionKind::Escalate));
}
