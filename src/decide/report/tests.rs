use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::text::{block, code, offset, plain};
use super::{Delivery, LevelStanding, Report, Standing, markdown, span};
use crate::decide::event::{
    Action, Actor, Attempt, Decision, DecisionKind, Entry, Evidence, GuardCheck, IncidentEvent, IncidentId, Level,
    Notice, NoticeKind, NoticeStatus, OnFailure, Outcome, Plan, Reason, Record, Release, Running, SelectorFact, Seq,
    Severity, Step, StepResult, TriggerFact, Verified, Verify, WhyHuman,
};
use crate::time::{BootId, Timestamp};

/// 2026-11-20T03:00:00Z; the monotonic timeline of these tests lies an hour behind the wall.
const WALL_MS: i64 = 1_795_143_600_000;
const BEHIND_MS: i64 = 3_600_000;

/// Seconds after the breach began, on the monotonic timeline.
fn at(secs: f64) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]
    Timestamp::from_millis(WALL_MS - BEHIND_MS + (secs * 1000.0).round() as i64)
}

/// Writes the journal of one incident.
struct Script {
    records: Vec<Record>,
}

impl Script {
    fn new() -> Script {
        Script { records: Vec::new() }
    }

    fn entry(mut self, secs: f64, entry: Entry) -> Script {
        self.records.push(Record {
            seq: Seq(self.records.len() as u64 + 17),
            at: at(secs),
            wall: at(secs).plus_millis(BEHIND_MS),
            boot: BootId(Arc::from("boot")),
            entry,
        });
        self
    }

    fn event(self, secs: f64, event: IncidentEvent) -> Script {
        self.entry(secs, Entry::Incident { incident: id(), event: Box::new(event) })
    }

    fn opened(self) -> Script {
        let release = Some(Release(Arc::from("2.4.0")));
        self.event(600.02, IncidentEvent::Opened { service: "api".to_owned(), release, fact: Box::new(fact()) })
            .event(600.02, IncidentEvent::Judged { decision: decision(DecisionKind::RollBack) })
    }

    fn admitted(self) -> Script {
        self.opened().event(
            600.05,
            IncidentEvent::Admitted {
                plan: Box::new(plan()),
                decision: decision(DecisionKind::RollBack),
                facts: vec![fact()],
                running: Running::One(Release(Arc::from("2.4.0"))),
                actor: None,
                receivers: vec!["oncall".to_owned()],
                deadline: at(3_000.0),
            },
        )
    }

    /// The only step of a level, from its intent to its end two seconds later.
    fn step(self, secs: f64, level: usize, outcome: Outcome, detail: &str) -> Script {
        let attempt = Attempt { level, step: 0, attempt: 1, undo: false };
        let output = if level == 1 { "switching current -> 2.3.1\nrestarted api\n".to_owned() } else { String::new() };
        let result = StepResult {
            outcome,
            detail: detail.to_owned(),
            output,
            truncated: false,
            captures: BTreeMap::new(),
            duration_ms: 2_000,
        };
        let pid = (level == 1).then_some(4711);
        self.event(secs, IncidentEvent::StepIntended { attempt, input_hash: "c0ffee".to_owned() })
            .event(secs + 0.01, IncidentEvent::StepStarted { attempt, pid, process_start: None })
            .event(secs + 2.0, IncidentEvent::StepFinished { attempt, result: Box::new(result) })
    }

    /// Level 1 is carried out and does not help; then level 2 is carried out.
    fn climbed(self) -> Script {
        self.admitted()
            .step(600.06, 0, Outcome::Succeeded, "HTTP 200")
            .event(602.07, IncidentEvent::LevelFinished { level: 0, at: at(602.06) })
            .event(
                725.0,
                IncidentEvent::LevelFailed {
                    level: 0,
                    verified: Verified::NotRecovered,
                    why: "error-rate was still at 41 %".to_owned(),
                },
            )
            .event(725.0, IncidentEvent::Climbed { to: 1, overrides: Vec::new() })
            .step(725.1, 1, Outcome::Succeeded, "exit status 0")
            .event(727.11, IncidentEvent::LevelFinished { level: 1, at: at(727.1) })
    }
}

fn id() -> IncidentId {
    IncidentId(Arc::from("api-17"))
}

fn alice() -> Actor {
    Actor { name: "alice".to_owned(), via: "cli".to_owned() }
}

fn fact() -> TriggerFact {
    TriggerFact {
        trigger: "error-rate".to_owned(),
        severity: Severity::High,
        expression: "observed_increase(http_requests_total{status=~\"5..|429\"}[1m]) / …".to_owned(),
        threshold: "above 15 %".to_owned(),
        value: Some("43 %".to_owned()),
        labels: "{}".to_owned(),
        hold_ms: 600_000,
        since: at(0.0),
        fired: Some(at(600.0)),
        sentence: "error-rate: 43 % of 120 requests failed in 1 m, above 15 % for 10 m".to_owned(),
        evidence: Evidence {
            selectors: vec![SelectorFact {
                selector: "http_requests_total{status=~\"5..|429\"}".to_owned(),
                targets: 3,
                targets_fresh: 3,
                series: 4,
                observed_ms: 60_000,
            }],
            events: Some(120.0),
            window_ms: 60_000,
            value: Some(0.433),
        },
    }
}

fn decision(kind: DecisionKind) -> Decision {
    let reasons = match kind {
        DecisionKind::RollBack | DecisionKind::Propose => vec![],
        DecisionKind::WouldRollBack => vec![("autonomy", "autonomy is observe")],
        DecisionKind::Hold => vec![("cut_off", "no reference answers: it may be we who are cut off")],
        DecisionKind::Escalate => vec![("not_after_release", "the breach began before the release changed")],
    };
    let reason = |(code, sentence): (&str, &str)| Reason { code: code.to_owned(), sentence: sentence.to_owned() };
    let check = |check: &str, allows, sentence: &str| GuardCheck {
        check: check.to_owned(),
        allows,
        sentence: sentence.to_owned(),
    };
    Decision {
        kind,
        reasons: reasons.into_iter().map(reason).collect(),
        checks: vec![
            check("release", true, "the breach began 2 m after 2.4.0 appeared"),
            check("way_back", kind != DecisionKind::Hold, "2.3.1 ran for 3 d and was good"),
        ],
    }
}

fn plan() -> Plan {
    let step = |name: &str| Step {
        name: name.to_owned(),
        action: Action::Command {
            argv: vec!["/opt/api/rollback.sh".to_owned()],
            env: BTreeMap::new(),
            inherit: Vec::new(),
            directory: None,
        },
        timeout: Duration::from_mins(5),
        idempotent: false,
        on_failure: OnFailure::Climb,
        retry: None,
        check: None,
    };
    let level = |name: &str, step: Step| Level {
        name: name.to_owned(),
        steps: vec![step],
        verify: Verify {
            within: Duration::from_mins(2),
            soak: Duration::from_mins(1),
            probes: Vec::new(),
            checks: Vec::new(),
            still_wrong: Vec::new(),
            serves_target: false,
        },
        autonomy: None,
        deadline: None,
        undo: Vec::new(),
    };
    Plan {
        bad: Release(Arc::from("2.4.0")),
        target: Some(Release(Arc::from("2.3.1"))),
        levels: vec![
            level("feature flag off", step("new-checkout off")),
            level("previous release", step("rollback.sh")),
        ],
        start_level: 0,
        variables: BTreeMap::new(),
        autonomy: Vec::new(),
        aside: Vec::new(),
    }
}

fn notice(id: &str, incident: IncidentId) -> Box<Notice> {
    Box::new(Notice {
        id: id.to_owned(),
        seq: 1,
        kind: NoticeKind::Started,
        status: NoticeStatus::Firing,
        dedup_key: "api-17".to_owned(),
        severity: Severity::High,
        action_required: false,
        incident: Some(incident),
        service: Some("api".to_owned()),
        labels: BTreeMap::new(),
        release_bad: None,
        release_target: None,
        release_running: None,
        trigger: None,
        decision: None,
        reasons: Vec::new(),
        level: None,
        eta: None,
        respond_by: None,
        actor: None,
        text: "started".to_owned(),
        occurred_at: at(0.0),
        config_hash: "c0ffee".to_owned(),
        drill: false,
        question: None,
    })
}

fn recovered() -> Vec<Record> {
    Script::new()
        .climbed()
        .event(750.0, IncidentEvent::CameClear { at: at(749.5) })
        .event(1_650.0, IncidentEvent::Recovered { clear_since: Some(at(749.5)) })
        .records
}

#[test]
fn a_full_incident_reads_from_breach_to_recovery() {
    insta::assert_snapshot!("recovered", markdown(&recovered()));
}

#[test]
fn its_times_are_those_that_a_review_asks_for() {
    let report = Report::of(&recovered()).unwrap();
    let times = report.times();
    assert_eq!(times.detect, Some(Duration::from_mins(10)));
    assert_eq!(times.decide, Some(Duration::from_millis(50)));
    assert_eq!(times.roll_back, Some(Duration::from_millis(127_050)));
    assert_eq!(times.recover, Some(Duration::from_millis(749_500)));
    assert_eq!(times.began_wall, Some(Timestamp::from_millis(WALL_MS)), "monotonic instants become wall time");
    assert_eq!(report.standing, Standing::Recovered);
    assert_eq!(report.levels[1].standing, LevelStanding::Helped);
    assert_eq!(report.stays.len(), 1, "level 1 did not help and was not undone: {:?}", report.stays);
    assert!(report.stays[0].contains("new-checkout off"));
}

#[test]
fn a_wall_clock_that_jumped_changes_no_duration() {
    let mut records = recovered();
    for record in &mut records[8..] {
        record.wall = record.wall.plus_millis(-7_200_000);
    }
    let (jumped, steady) = (Report::of(&records).unwrap(), Report::of(&recovered()).unwrap());
    let durations = |report: &Report| {
        let times = report.times();
        (times.detect, times.decide, times.roll_back, times.recover)
    };
    assert_eq!(durations(&jumped), durations(&steady));
    let kinds =
        |report: &Report| report.timeline.iter().map(|moment| (moment.offset_ms, moment.kind)).collect::<Vec<_>>();
    assert_eq!(kinds(&jumped), kinds(&steady));
}

/// Each way in which an incident can end, or wait.
#[test]
fn every_ending_has_its_report() {
    let declined = Actor { name: "bob".to_owned(), via: "api".to_owned() };
    let propose = decision(DecisionKind::Propose);
    let proposed = || {
        Script::new().opened().event(
            600.1,
            IncidentEvent::Proposed { level: 0, respond_by: at(1_500.1), decision: propose.clone(), asked: None },
        )
    };
    let judged = |kind| Script::new().opened().event(600.1, IncidentEvent::Judged { decision: decision(kind) });
    let reason = "we know better".to_owned();
    let endings: Vec<(&str, Script)> = vec![
        ("declined", proposed().event(700.0, IncidentEvent::Declined { actor: declined, reason: reason.clone() })),
        ("expired", proposed().event(1_500.1, IncidentEvent::Expired)),
        ("held", judged(DecisionKind::Hold)),
        ("escalated_and_cleared", judged(DecisionKind::Escalate).event(2_000.0, IncidentEvent::Cleared)),
        ("would_roll_back", judged(DecisionKind::WouldRollBack)),
        (
            "superseded",
            Script::new()
                .climbed()
                .event(760.0, IncidentEvent::Superseded { by: Running::One(Release(Arc::from("2.5.0"))) }),
        ),
        ("aborted", Script::new().climbed().event(760.0, IncidentEvent::Aborted { actor: alice(), reason })),
        (
            "needs_human",
            Script::new()
                .climbed()
                .event(
                    1_400.0,
                    IncidentEvent::LevelFailed {
                        level: 1,
                        verified: Verified::NotRecovered,
                        why: "still breached".to_owned(),
                    },
                )
                .event(
                    1_400.0,
                    IncidentEvent::NeedsHuman {
                        why: WhyHuman::LadderExhausted,
                        text: "the last level did not help".to_owned(),
                    },
                )
                .event(1_700.0, IncidentEvent::Reminded)
                .event(1_760.0, IncidentEvent::Acknowledged { actor: alice(), reason: String::new() }),
        ),
        (
            "step_ambiguous",
            Script::new()
                .admitted()
                .step(600.1, 0, Outcome::Ambiguous, "the connection was lost after the request was sent")
                .event(
                    602.2,
                    IncidentEvent::NeedsHuman {
                        why: WhyHuman::StepAmbiguous,
                        text: "it is not known whether new-checkout off took effect".to_owned(),
                    },
                ),
        ),
    ];
    for (name, script) in endings {
        insta::assert_snapshot!(name, markdown(&script.records));
    }
}

#[test]
fn any_prefix_of_an_incident_has_a_report() {
    let records = recovered();
    assert_eq!(markdown(&[]), "There is no incident in these entries.\n");
    for length in 1..records.len() {
        let report = Report::of(&records[..length]).unwrap();
        assert!(report.standing.is_open(), "{length} entries");
        assert_eq!(report.ended_wall, None);
        assert!(report.timeline.is_sorted_by_key(|moment| moment.offset_ms));
        assert!(report.markdown().contains("not yet; this report is of an open incident"));
    }
    // Without its head too: a journal that was cut must still be readable.
    for start in 1..records.len() {
        let report = Report::of(&records[start..]).unwrap();
        assert_eq!(report.id, id());
        assert!(report.markdown().starts_with("# Incident api-17"));
    }
}

#[test]
fn a_second_breach_is_a_second_episode() {
    let again = TriggerFact { since: at(5_000.0), fired: Some(at(5_600.0)), ..fact() };
    let mut script = Script::new();
    script.records = recovered();
    let report = Report::of(&script.event(5_600.5, IncidentEvent::Reopened { fact: Box::new(again) }).records).unwrap();
    assert_eq!(report.episodes.len(), 2);
    assert_eq!(report.episodes[0].recover, Some(Duration::from_millis(749_500)));
    assert_eq!(report.times().detect, Some(Duration::from_mins(10)));
    assert_eq!(report.times().decide, None);
    assert_eq!(report.ended_wall, None, "it is open again");
}

#[test]
fn an_order_by_hand_begins_with_itself() {
    let now = at(600.0);
    let order = TriggerFact { since: now, fired: Some(now), sentence: "by hand: checkout fails".to_owned(), ..fact() };
    let opened = IncidentEvent::Opened { service: "api".to_owned(), release: None, fact: Box::new(order) };
    let report = Report::of(&Script::new().event(600.0, opened).records).unwrap();
    let kinds: Vec<_> = report.timeline.iter().map(|moment| moment.kind).collect();
    assert_eq!(kinds, ["fired", "opened"]);
    assert_eq!(report.facts[0].since_wall, now.plus_millis(BEHIND_MS));
}

#[test]
fn notices_of_this_incident_are_followed_to_their_receivers() {
    let other = IncidentId(Arc::from("web-3"));
    let receivers = || vec!["oncall".to_owned(), "chat".to_owned()];
    let records = Script::new()
        .admitted()
        .entry(601.0, Entry::NoticeQueued { notice: notice("n1", id()), receivers: receivers() })
        .entry(601.0, Entry::NoticeQueued { notice: notice("n2", other), receivers: receivers() })
        .entry(602.0, Entry::NoticeDelivered { notice: "n1".to_owned(), receiver: "oncall".to_owned() })
        .entry(602.0, Entry::NoticeDelivered { notice: "n2".to_owned(), receiver: "chat".to_owned() })
        .entry(603.0, Entry::NoticeDead { notice: "n1".to_owned(), receiver: "chat".to_owned(), why: "410".to_owned() })
        .entry(
            604.0,
            Entry::NoticeFellBack { notice: "n1".to_owned(), receiver: "chat".to_owned(), fallback: "mail".to_owned() },
        )
        .records;
    let report = Report::of(&records).unwrap();
    assert_eq!(report.notices.len(), 1);
    assert_eq!(
        report.notices[0].receivers,
        [
            ("oncall".to_owned(), Delivery::Delivered(at(602.0).plus_millis(BEHIND_MS))),
            ("chat".to_owned(), Delivery::Dead("410".to_owned())),
            ("mail".to_owned(), Delivery::Queued),
        ]
    );
}

#[test]
fn text_from_outside_cannot_break_the_page() {
    assert_eq!(plain("a|b\n<img> *x* snake_case _x_"), "a\\|b &lt;img> \\*x\\* snake_case \\_x\\_");
    assert_eq!(code("a ``b` c"), "```a ``b` c```");
    assert_eq!(code("`"), "`` ` ``");
    assert_eq!(block("x\n````\ny\u{1b}[31m\n"), "`````text\nx\n````\ny\u{fffd}[31m\n`````");
}

#[test]
fn durations_read_as_people_say_them() {
    let cases = [
        (0, "0 ms"),
        (999, "999 ms"),
        (3_260, "3.2 s"),
        (59_999, "59.9 s"),
        (60_000, "1 m"),
        (603_000, "10 m 3 s"),
        (7_500_000, "2 h 5 m"),
        (273_600_000, "3 d 4 h"),
    ];
    for (millis, text) in cases {
        assert_eq!(span(Duration::from_millis(millis)), text);
    }
    assert_eq!(offset(-1_500), "-1.5 s");
}
