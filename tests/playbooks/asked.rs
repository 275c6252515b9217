//! T10 and T13: what is pushed in and what a person orders. The bodies are those of the API.

use std::time::Duration;

use backstop::config::Source;
use backstop::decide::event::{DecisionKind, IncidentEvent};
use backstop::machine::input::{Answer, Command, Refusal};
use backstop::serve::wire::{RollbackBody, SignalBody};

use crate::stage::{HOUR, MINUTE, Stage, changed, presets};

/// As `POST /v1/services/api/signals/NAME` reads it.
fn raise(stage: &mut Stage, signal: &str, body: &str) -> Answer {
    let body: SignalBody = serde_json::from_str(body).expect("a signal's body");
    let (service, signal) = ("api".to_owned(), signal.to_owned());
    stage.command(Command::RaiseSignal { service, signal, ttl: body.ttl, detail: body.detail })
}

fn clear(stage: &mut Stage, signal: &str) -> Answer {
    stage.command(Command::ClearSignal { service: "api".to_owned(), signal: signal.to_owned(), reason: String::new() })
}

/// As `POST /v1/services/api/rollback` reads it.
fn by_hand(stage: &mut Stage, body: &str) -> Answer {
    let body: RollbackBody = serde_json::from_str(body).expect("an order's body");
    let service = "api".to_owned();
    let RollbackBody { reason, level, overrides } = body;
    stage.command(Command::Rollback { service, reason, level: level.map(|level| level - 1), overrides })
}

#[track_caller]
fn done(answer: &Answer) {
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
}

fn vulnerability() -> Vec<Source> {
    presets(&["vulnerability"])
}

fn t10(sources: &[Source]) -> Stage {
    Stage::after_release(sources, |stage| stage.app().requests(1000, 0))
}

fn held_for(hold: &str) -> Vec<Source> {
    changed(vulnerability(), "gate     = \"none\"", &format!("gate = \"none\"\nfor = \"{hold}\""))
}

const CVE: &str = r#"{"ttl":"7days","detail":"CVE-2026-0001 in libfoo"}"#;

#[test]
fn t10_a_signal_acts_at_once() {
    let mut stage = t10(&vulnerability());
    done(&raise(&mut stage, "vulnerability", CVE));
    stage.acts_now();
}

#[test]
fn t10_no_signal_is_clear() {
    let mut stage = t10(&vulnerability());
    stage.run(HOUR);
    stage.nothing();
    assert_eq!(stage.trigger("vulnerability").1, "clear");
}

#[test]
fn t10_a_signal_of_another_name_is_refused_and_nothing_follows() {
    let mut stage = t10(&vulnerability());
    let answer = raise(&mut stage, "vulnerabilty", CVE);
    assert!(matches!(&answer, Answer::Refused(Refusal::NotFound(why)) if why.contains("vulnerability")), "{answer:?}");
    stage.run(HOUR);
    stage.nothing();
}

/// `gate = "none"`: a vulnerability is wrong whatever was deployed last, however long ago.
#[test]
fn t10_it_does_not_wait_for_a_release() {
    let mut stage = t10(&vulnerability());
    stage.run(5 * HOUR);
    done(&raise(&mut stage, "vulnerability", CVE));
    stage.acts_now();
}

#[test]
fn t10_with_the_gate_of_a_release_it_would_not_act_hours_later() {
    let sources = changed(vulnerability(), "gate     = \"none\"", "gate = \"release\"");
    let mut stage = t10(&sources);
    stage.run(5 * HOUR);
    done(&raise(&mut stage, "vulnerability", CVE));
    stage.run(MINUTE);
    stage.refused(DecisionKind::Escalate, "not_after_release");
}

#[test]
fn t10_without_an_earlier_release_there_is_no_way_back() {
    let mut stage = Stage::new(&vulnerability());
    stage.app().requests(1000, 0);
    stage.run(2 * HOUR);
    done(&raise(&mut stage, "vulnerability", CVE));
    stage.run(MINUTE);
    stage.refused(DecisionKind::Escalate, "no_way_back");
}

/// The previous release may have the same hole: `autonomy = "propose"` asks, and a yes acts.
#[test]
fn t10_a_person_is_asked_where_the_trigger_says_so() {
    let sources = changed(vulnerability(), "gate     = \"none\"", "gate = \"none\"\nautonomy = \"propose\"");
    let mut stage = t10(&sources);
    done(&raise(&mut stage, "vulnerability", CVE));
    stage.refused(DecisionKind::Propose, "autonomy");
    stage.run(5 * MINUTE);
    stage.not_acted();
    let incident = stage.incident();
    done(&stage.command(Command::Approve { incident, reason: "roll it back".to_owned() }));
    stage.acts_now();
}

/// A proposal for a signal whose time is over, or that was taken back, is closed and nothing was done.
#[test]
fn t10_it_ends_with_its_time_to_live_or_when_it_is_cleared() {
    let sources = changed(vulnerability(), "gate     = \"none\"", "gate = \"none\"\nautonomy = \"propose\"");
    let cleared = |stage: &Stage| stage.events().filter(|(_, event)| **event == IncidentEvent::Cleared).count();
    let mut stage = t10(&sources);
    done(&raise(&mut stage, "vulnerability", r#"{"ttl":"10m"}"#));
    stage.run(Duration::from_secs(599));
    assert_eq!(cleared(&stage), 0);
    stage.run(Duration::from_secs(2));
    assert_eq!(cleared(&stage), 1);
    done(&raise(&mut stage, "vulnerability", r#"{"ttl":"10m"}"#));
    stage.refused(DecisionKind::Propose, "autonomy");
    done(&clear(&mut stage, "vulnerability"));
    assert_eq!(cleared(&stage), 2);
    stage.not_acted();
}

/// With a `for` of its own: the timer at its end acts, and not a second before.
#[test]
fn t10_held_for_exactly_its_time_it_acts_and_a_second_less_is_nothing() {
    let mut stage = t10(&held_for("5m"));
    done(&raise(&mut stage, "vulnerability", CVE));
    let raised = stage.now();
    stage.run(Duration::from_secs(299));
    stage.nothing();
    stage.run(Duration::from_secs(2));
    stage.acts_at(raised + 5 * MINUTE, "r1");

    let mut stage = t10(&held_for("5m"));
    done(&raise(&mut stage, "vulnerability", CVE));
    stage.run(Duration::from_secs(299));
    done(&clear(&mut stage, "vulnerability"));
    stage.run(HOUR);
    stage.nothing();
}

#[test]
fn t10_a_signal_that_ends_before_its_hold_is_nothing() {
    for (ttl, acts) in [("4m 59s", false), ("5m 1s", true)] {
        let mut stage = t10(&held_for("5m"));
        done(&raise(&mut stage, "vulnerability", &format!(r#"{{"ttl":"{ttl}"}}"#)));
        stage.run(HOUR);
        assert_eq!(stage.steps.len(), usize::from(acts), "{ttl}");
    }
}

fn watched() -> Vec<Source> {
    presets(&["error-rate"])
}

const ORDER: &str = r#"{"reason":"customers call"}"#;

#[test]
fn t13_an_order_by_hand_acts_at_once_though_nothing_is_wrong() {
    let mut stage = t10(&watched());
    done(&by_hand(&mut stage, ORDER));
    stage.acts_now();
}

#[test]
fn t13_without_an_order_nothing_happens() {
    let mut stage = t10(&watched());
    stage.run(5 * HOUR);
    stage.nothing();
}

#[test]
fn t13_an_order_skips_autonomy_gate_and_pause() {
    let mut stage = t10(&changed(watched(), "autonomy = \"act\"\nnotify", "autonomy = \"observe\"\nnotify"));
    stage.run(5 * HOUR);
    let pause = Command::Pause { service: None, duration: HOUR, reason: "holiday".to_owned() };
    done(&stage.command(pause));
    stage.run(MINUTE);
    done(&by_hand(&mut stage, ORDER));
    stage.acts_now();
}

#[test]
fn t13_an_order_without_a_way_back_is_refused() {
    let mut stage = Stage::new(&watched());
    stage.app().requests(1000, 0);
    stage.run(2 * HOUR);
    let answer = by_hand(&mut stage, ORDER);
    assert!(
        matches!(&answer, Answer::Refused(Refusal::Conflict(why)) if why.contains("known to be good")),
        "{answer:?}"
    );
    stage.run(MINUTE);
    stage.not_acted();
}

#[test]
fn t13_a_second_order_does_not_act_twice() {
    let mut stage = t10(&watched());
    done(&by_hand(&mut stage, ORDER));
    let ordered = stage.now();
    stage.run(MINUTE);
    let answer = by_hand(&mut stage, ORDER);
    assert!(matches!(&answer, Answer::Refused(Refusal::Conflict(_))), "{answer:?}");
    stage.acts_at(ordered, "r1");
}

#[test]
fn t13_an_order_for_a_level_that_does_not_exist_is_refused() {
    let mut stage = t10(&watched());
    let answer = by_hand(&mut stage, r#"{"reason":"customers call","level":2}"#);
    assert!(matches!(&answer, Answer::Refused(Refusal::Invalid(_))), "{answer:?}");
    stage.run(MINUTE);
    stage.nothing();
}

/// An order needs no trigger, and takes over what a trigger only asked for.
#[test]
fn t13_an_order_goes_before_an_incident_that_was_only_escalated() {
    let mut stage = t10(&watched());
    stage.run(5 * HOUR);
    stage.app().requests(1000, 500);
    stage.run(HOUR / 2);
    stage.refused(DecisionKind::Escalate, "not_after_release");
    done(&by_hand(&mut stage, ORDER));
    stage.acts_now();
}
