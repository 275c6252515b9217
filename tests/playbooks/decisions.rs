//! D2 to D8: who decides, what stops it, and how long people may hold it.

use std::time::Duration;

use backstop::config::Source;
use backstop::decide::event::{CheckOutcome, DecisionKind};
use backstop::machine::input::{Answer, Command, Refusal};

use crate::stage::{MINUTE, Stage, changed, presets};
use crate::world::Health;

/// The rule of T1 holds for 40 scrapes of 15 s; its window of a minute is full after 4.
const HOLD: Duration = Duration::from_mins(12);

/// `r2` fails a fifth of the requests, until T1 has fired.
fn broken(sources: &[Source]) -> Stage {
    let mut stage = healthy(sources);
    breaks(&mut stage);
    stage
}

fn healthy(sources: &[Source]) -> Stage {
    Stage::after_release(sources, |stage| stage.app().requests(1000, 0))
}

fn breaks(stage: &mut Stage) {
    stage.app().requests(1000, 200);
    stage.run(HOLD);
}

fn of_severity(severity: &str) -> Vec<Source> {
    changed(presets(&["people", "error-rate"]), "for   = \"10m\"", &format!("for = \"10m\"\nseverity = \"{severity}\""))
}

fn approve(stage: &mut Stage, name: &str) -> Answer {
    let incident = stage.incident();
    stage.command_by(name, Command::Approve { incident, reason: "seen".to_owned() })
}

#[test]
fn d2_critical_acts_at_once_and_asks_nobody() {
    let stage = broken(&of_severity("critical"));
    assert_eq!(stage.steps.len(), 1);
}

#[test]
fn d2_high_waits_for_a_senior_who_is_asked_again() {
    let mut stage = broken(&of_severity("high"));
    stage.refused(DecisionKind::Propose, "autonomy");
    assert!(matches!(approve(&mut stage, "team"), Answer::Refused(Refusal::NotAllowed(_))));
    stage.run(20 * MINUTE);
    assert_eq!(stage.stands().0, "proposed", "no answer within 15 minutes asks again");
    stage.not_acted();
    assert!(matches!(approve(&mut stage, "senior-on-call"), Answer::Done { .. }));
    assert_eq!(stage.steps.len(), 1);
}

#[test]
fn d2_medium_waits_two_hours_for_one_of_the_team_and_then_takes_silence_for_a_no() {
    let mut stage = broken(&of_severity("medium"));
    stage.run(105 * MINUTE);
    assert_eq!(stage.stands().0, "proposed");
    stage.run(15 * MINUTE);
    assert_eq!(stage.stands().0, "expired");
    stage.not_acted();
}

#[test]
fn d3_the_severity_decides_which_level_is_tried_first() {
    let two_levels = |start: &str| {
        let sources = changed(of_severity("critical"), "start_level = 1", start);
        let level = "[[services.api.rollback]]\nname = \"flag off\"\nverify = { within = \"15m\", soak = \"1m\" }\n\
                     steps = [{ command = [\"/opt/api/flag.sh\"], timeout = \"1m\" }]\n\n[[services.api.rollback]]";
        broken(&changed(sources, "[[services.api.rollback]]", level))
    };
    let begun = |stage: &Stage| stage.steps.iter().map(|(_, order)| order.attempt.level).collect::<Vec<_>>();
    assert_eq!(begun(&two_levels("start_level = 1")), [0]);
    assert_eq!(begun(&two_levels("start_level = \"previous release\"")), [1]);
}

#[test]
fn d4_and_d5_each_blocker_alone_stops_it_and_calls_a_person() {
    for check in ["schema", "migration", "old-is-vulnerable"] {
        let mut stage = healthy(&presets(&["blockers", "error-rate"]));
        stage.checks.insert(check, CheckOutcome::Failed("exit status 1".to_owned()));
        breaks(&mut stage);
        stage.refused(DecisionKind::Escalate, "blocked");
    }
    for signal in ["external-contract-changed", "secrets-rotated"] {
        let mut stage = healthy(&presets(&["blockers", "error-rate"]));
        let (service, signal) = ("api".to_owned(), signal.to_owned());
        let ttl = Duration::from_hours(24);
        stage.command(Command::RaiseSignal { service, signal, ttl, detail: "by hand".to_owned() });
        breaks(&mut stage);
        stage.refused(DecisionKind::Escalate, "blocked");
    }
}

#[test]
fn d4_a_blocker_that_cannot_be_asked_stops_it_too() {
    let mut stage = healthy(&presets(&["blockers", "error-rate"]));
    stage.checks.insert("schema", CheckOutcome::Unknown("no such program".to_owned()));
    breaks(&mut stage);
    stage.refused(DecisionKind::Escalate, "blocker_unknown");
}

#[test]
fn d4_it_acts_when_nothing_is_in_the_way() {
    assert_eq!(broken(&presets(&["blockers", "way-back", "error-rate"])).steps.len(), 1);
}

#[test]
fn d6_a_provider_that_is_down_is_waited_for() {
    let mut stage = healthy(&presets(&["dependencies", "error-rate"]));
    stage.health = Health::Unavailable;
    breaks(&mut stage);
    stage.refused(DecisionKind::Hold, "dependency");
    stage.health = Health::Healthy;
    stage.app().requests(1000, 0);
    stage.run(15 * MINUTE);
    stage.not_acted();
    assert_eq!(stage.stands().0, "cleared");
}

#[test]
fn d7_a_way_back_that_is_gone_is_not_gone() {
    let mut stage = healthy(&presets(&["way-back", "error-rate"]));
    stage.checks.insert("image exists", CheckOutcome::Failed("status 404".to_owned()));
    breaks(&mut stage);
    stage.refused(DecisionKind::Escalate, "way_back_not_ready");
    // It is back: what stood in the way is looked at again.
    stage.checks.clear();
    stage.run(MINUTE);
    assert_eq!(stage.steps.len(), 1);
}

#[test]
fn d8_people_hold_it_for_a_quarter_of_an_hour_and_then_it_goes_on() {
    let mut stage = healthy(&presets(&["people", "error-rate"]));
    stage.app().requests(1000, 200);
    stage.run(HOLD);
    let incident = stage.incident();
    let hold =
        |duration| Command::Hold { incident: incident.clone(), duration, reason: "a fix is on its way".to_owned() };
    assert!(matches!(stage.command(hold(16 * MINUTE)), Answer::Refused(_)), "longer than hold_max");
    assert!(matches!(stage.command(hold(15 * MINUTE)), Answer::Done { .. }));
    stage.run(14 * MINUTE);
    assert_eq!(stage.stands().0, "held_by_person");
    stage.run(2 * MINUTE);
    assert_eq!(stage.stands().0, "proposed");
    stage.not_acted();
}
