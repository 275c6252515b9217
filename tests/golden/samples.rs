//! One value of every kind of entry, with every variant of what is inside.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop::decide::event::{
    Action, Actor, Ask, Attempt, Autonomy, BodyTemplate, Capture, Check, CheckAnswer, CheckOutcome, Decision,
    DecisionKind, Entry, Evidence, GuardCheck, IncidentEvent, IncidentId, JsonTest, Level, Notice, NoticeKind,
    NoticeLevel, NoticeQuestion, NoticeStatus, NoticeTrigger, OnFailure, Outcome, Plan, Proof, Reason, Release, Retry,
    Running, SecretRef, SelectorFact, Severity, Step, StepResult, TextOrSecret, TriggerFact, Verified, Verify, Wants,
    WhyHuman,
};
use backstop::decide::event::{Asked, OnSilence, Ordered, Refused, RefusedAs};
use backstop::time::Timestamp;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_795_143_600_000 + seconds * 1000)
}

pub fn text(text: &str) -> String {
    text.to_owned()
}

fn release(name: &str) -> Release {
    Release(name.into())
}

pub fn actor() -> Actor {
    Actor { name: text("alice"), via: text("cli") }
}

pub fn incident_id() -> IncidentId {
    IncidentId("api-17".into())
}

pub fn attempt() -> Attempt {
    Attempt { level: 0, step: 1, attempt: 2, undo: false }
}

pub fn fact() -> TriggerFact {
    TriggerFact {
        trigger: text("error-rate"),
        severity: Severity::High,
        expression: text("increase(http_requests_total{status=~\"5..\"}[1m]) / increase(http_requests_total[1m])"),
        threshold: text("above 15 %"),
        value: Some(text("43 %")),
        labels: text("{}"),
        hold_ms: 600_000,
        since: at(-600),
        fired: Some(at(0)),
        sentence: text("error-rate: 43 % of 120 requests failed in 1 m, above 15 % for 10 m"),
        evidence: Evidence {
            selectors: vec![SelectorFact {
                selector: text("http_requests_total"),
                targets: 3,
                targets_fresh: 2,
                series: 12,
                observed_ms: 60_000,
            }],
            events: Some(120.0),
            window_ms: 60_000,
            value: Some(0.4375),
        },
    }
}

fn signal_fact() -> TriggerFact {
    TriggerFact {
        trigger: text("cve"),
        severity: Severity::Critical,
        expression: text("signal cve"),
        threshold: text("raised"),
        value: None,
        labels: text("{}"),
        hold_ms: 0,
        since: at(0),
        fired: None,
        sentence: text("cve: the scanner found CVE-2026-0001"),
        evidence: Evidence::default(),
    }
}

fn decision(kind: DecisionKind) -> Decision {
    Decision {
        kind,
        reasons: vec![Reason { code: text("freeze"), sentence: text("a freeze is on until Monday 08:00") }],
        checks: vec![GuardCheck { check: text("way_back"), allows: true, sentence: text("v41 ran for 3 days") }],
    }
}

fn plan() -> Plan {
    let command = Action::Command {
        argv: vec![text("/opt/api/rollback.sh"), text("{{ release.target }}")],
        env: BTreeMap::from([
            (text("MODE"), TextOrSecret::Text(text("fast"))),
            (
                text("TOKEN"),
                TextOrSecret::Secret { prefix: text("Bearer "), secret: SecretRef::Credential(text("flags")) },
            ),
        ]),
        inherit: vec![text("LANG")],
        directory: Some(text("/opt/api")),
    };
    let http = |body| Action::Http {
        method: text("PATCH"),
        url: text("https://flags.example.com/new-checkout"),
        headers: BTreeMap::from([
            (text("a"), TextOrSecret::Secret { prefix: String::new(), secret: SecretRef::File(text("/run/a")) }),
            (text("b"), TextOrSecret::Secret { prefix: String::new(), secret: SecretRef::Env(text("B")) }),
        ]),
        body,
        expect: vec![200, 204],
        captures: vec![Capture { name: text("version"), pointer: text("/version") }],
    };
    let step = |name: &str, action, on_failure| Step {
        name: text(name),
        action,
        timeout: Duration::from_mins(5),
        idempotent: true,
        on_failure,
        retry: None,
        check: None,
    };
    Plan {
        bad: release("v42"),
        target: Some(release("v41")),
        levels: vec![Level {
            name: text("previous release"),
            steps: vec![
                step("roll back", command, OnFailure::Climb),
                step("flag", http(BodyTemplate::Json(serde_json::json!({ "enabled": false }))), OnFailure::Continue),
                step("tell", http(BodyTemplate::Raw(text("{{ service }}"))), OnFailure::Stop),
                step("look", http(BodyTemplate::None), OnFailure::Climb),
            ],
            verify: Verify {
                within: Duration::from_mins(10),
                soak: Duration::from_millis(1_500),
                probes: vec![text("health")],
                checks: Vec::new(),
                still_wrong: Vec::new(),
                serves_target: false,
            },
            autonomy: Some(Autonomy::Propose),
            deadline: None,
            undo: Vec::new(),
        }],
        start_level: 0,
        variables: BTreeMap::from([(text("service"), text("api"))]),
        autonomy: Vec::new(),
        aside: Vec::new(),
    }
}

pub fn notice(kind: NoticeKind) -> Notice {
    Notice {
        id: text("01930d2e-0000-7000-8000-000000000001"),
        seq: 3,
        kind,
        status: NoticeStatus::Firing,
        dedup_key: text("api-17"),
        severity: Severity::Medium,
        action_required: true,
        incident: Some(incident_id()),
        service: Some(text("api")),
        labels: BTreeMap::from([(text("team"), text("shop"))]),
        release_bad: Some(text("v42")),
        release_target: Some(text("v41")),
        release_running: Some(text("v42")),
        trigger: Some(NoticeTrigger {
            name: text("error-rate"),
            value: Some(text("43 %")),
            threshold: text("above 15 %"),
            hold_ms: 600_000,
            since: at(-600),
            sentence: text("43 % of 120 requests failed"),
        }),
        decision: Some(text("roll_back")),
        reasons: vec![text("a reason")],
        level: Some(NoticeLevel { n: 1, of: 2, name: text("feature flag off") }),
        eta: Some(at(120)),
        respond_by: Some(at(900)),
        actor: Some(text("alice")),
        text: text("api v42 is being rolled back to v41"),
        occurred_at: at(0),
        config_hash: text("c0ffee123456"),
        drill: false,
        question: None,
    }
}

fn bare_notice() -> Notice {
    Notice {
        status: NoticeStatus::Resolved,
        severity: Severity::Low,
        incident: None,
        service: None,
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
        ..notice(NoticeKind::Heartbeat)
    }
}

const NOTICE_KINDS: [NoticeKind; 20] = [
    NoticeKind::WouldRollBack,
    NoticeKind::Held,
    NoticeKind::Escalated,
    NoticeKind::ApprovalRequested,
    NoticeKind::Declined,
    NoticeKind::Expired,
    NoticeKind::Started,
    NoticeKind::StepFailed,
    NoticeKind::LevelFinished,
    NoticeKind::Recovered,
    NoticeKind::Superseded,
    NoticeKind::NeedsHuman,
    NoticeKind::ReleaseReappeared,
    NoticeKind::Blind,
    NoticeKind::Unblind,
    NoticeKind::Paused,
    NoticeKind::Resumed,
    NoticeKind::Degraded,
    NoticeKind::Heartbeat,
    NoticeKind::Test,
];

fn mix() -> Running {
    Running::Mix(vec![(release("v42"), 0.75), (release("v41"), 0.25)])
}

// Length: one of every kind.
/// A level with everything that a verification can ask.
fn checked_plan() -> Plan {
    let proof = |name: &str, ask, once| Proof {
        check: Check { name: text(name), ask, timeout: Duration::from_secs(30) },
        every: Duration::from_mins(1),
        once,
    };
    let command = Ask::Command {
        argv: vec![text("/opt/api/smoke.sh"), text("{{ release.target }}")],
        env: BTreeMap::from([(text("MODE"), TextOrSecret::Text(text("quick")))]),
        inherit: vec![text("HTTP_PROXY")],
        directory: Some(text("/opt/api")),
    };
    let json = |pointer: &str, wants| JsonTest { pointer: text(pointer), wants };
    let http = Ask::Http {
        method: text("POST"),
        url: text("https://api.example.com/login"),
        headers: BTreeMap::new(),
        body: BodyTemplate::Json(serde_json::json!({ "user": "probe" })),
        expect: vec![200],
        json: vec![
            json("/session", Wants::Exists),
            json("/status", Wants::Equals(serde_json::json!("ready"))),
            json("", Wants::Count { at_least: Some(3), at_most: None }),
            json("/rows", Wants::Count { at_least: None, at_most: Some(1_000) }),
        ],
    };
    let mut plan = plan();
    plan.levels[0].steps.clear();
    plan.levels[0].verify = Verify {
        within: Duration::from_mins(10),
        soak: Duration::from_mins(15),
        probes: Vec::new(),
        checks: vec![proof("smoke", command, true), proof("sign-in", http, false)],
        still_wrong: vec![text("previous release: errors")],
        serves_target: true,
    };
    plan
}

/// A level with a deadline and an undo, whose step is checked and tried again.
fn undoable_plan() -> Plan {
    let mut plan = plan();
    let level = &mut plan.levels[0];
    let mut step = level.steps.swap_remove(3);
    level.steps.clear();
    level.undo = vec![step.clone()];
    let ask = Ask::Command { argv: vec![text("/opt/c")], env: BTreeMap::new(), inherit: Vec::new(), directory: None };
    step.check = Some(Check { name: text("flag is off"), ask, timeout: Duration::from_secs(10) });
    step.retry = Some(Retry { times: 2, wait: Duration::from_secs(10) });
    level.steps = vec![step];
    level.deadline = Some(Duration::from_mins(20));
    plan
}

fn question(on_silence: OnSilence) -> Asked {
    Asked {
        number: 2,
        bad: Some(release("v42")),
        target: Some(release("v41")),
        level_hash: None,
        severity: Severity::High,
        approvers: vec![text("alice"), text("link:oncall")],
        on_silence,
    }
}

fn asks(asked: Asked) -> IncidentEvent {
    IncidentEvent::Proposed {
        level: 1,
        respond_by: at(900),
        decision: decision(DecisionKind::Propose),
        asked: Some(Box::new(asked)),
    }
}

// Length: one sample per line of a list.
#[expect(clippy::too_many_lines, reason = "one sample per line of a list")]
pub fn events() -> Vec<IncidentEvent> {
    let result = |outcome| StepResult {
        outcome,
        detail: text("exit status 3"),
        output: text("line 1\nline \"2\" é\n"),
        truncated: false,
        captures: BTreeMap::from([(text("version"), text("7"))]),
        duration_ms: 1_250,
    };
    let mut events = vec![
        IncidentEvent::Opened { service: text("api"), release: Some(release("v42")), fact: Box::new(fact()) },
        IncidentEvent::Opened { service: text("api"), release: None, fact: Box::new(signal_fact()) },
        IncidentEvent::Reopened { fact: Box::new(fact()) },
        IncidentEvent::Joined { fact: Box::new(signal_fact()), aside: false },
        IncidentEvent::Joined { fact: Box::new(signal_fact()), aside: true },
        IncidentEvent::Proposed {
            level: 1,
            respond_by: at(900),
            decision: decision(DecisionKind::Propose),
            asked: None,
        },
        asks(question(OnSilence::Escalate)),
        asks(Asked { number: 1, bad: None, target: None, ..question(OnSilence::Decline) }),
        asks(Asked { approvers: Vec::new(), severity: Severity::Critical, ..question(OnSilence::Approve) }),
        asks(Asked { level_hash: Some(text("5b492678c747a86b")), ..question(OnSilence::Decline) }),
        IncidentEvent::Unanswered { respond_by: at(1_800) },
        IncidentEvent::HoldOrdered { actor: actor(), reason: text("a fix is on its way"), until: at(900) },
        IncidentEvent::HoldEnded { actor: Some(actor()), reason: text("fixed") },
        IncidentEvent::HoldEnded { actor: None, reason: text("its time limit is reached") },
        IncidentEvent::StepSkipped {
            attempt: Attempt { level: 0, step: 1, attempt: 1, undo: false },
            actor: actor(),
            reason: text("done by hand"),
        },
        IncidentEvent::Approved { actor: actor(), reason: text("go") },
        IncidentEvent::Declined { actor: actor(), reason: text("known") },
        IncidentEvent::Expired,
        IncidentEvent::Admitted {
            plan: Box::new(plan()),
            decision: decision(DecisionKind::RollBack),
            facts: vec![fact(), signal_fact()],
            running: Running::One(release("v42")),
            actor: Some(actor()),
            receivers: vec![text("oncall")],
            deadline: at(3_600),
        },
        IncidentEvent::Admitted {
            plan: Box::new(checked_plan()),
            decision: decision(DecisionKind::RollBack),
            facts: Vec::new(),
            running: Running::One(release("v42")),
            actor: None,
            receivers: Vec::new(),
            deadline: at(3_600),
        },
        IncidentEvent::Admitted {
            plan: Box::new(undoable_plan()),
            decision: decision(DecisionKind::RollBack),
            facts: Vec::new(),
            running: Running::One(release("v42")),
            actor: None,
            receivers: Vec::new(),
            deadline: at(3_600),
        },
        IncidentEvent::Admitted {
            plan: Box::new(Plan {
                autonomy: vec![Autonomy::Act, Autonomy::Propose],
                aside: vec![text("corrupt")],
                ..checked_plan()
            }),
            decision: decision(DecisionKind::RollBack),
            facts: Vec::new(),
            running: Running::One(release("v42")),
            actor: None,
            receivers: Vec::new(),
            deadline: at(3_600),
        },
        IncidentEvent::StepIntended { attempt: attempt(), input_hash: text("9f86d081") },
        IncidentEvent::StepStarted { attempt: attempt(), pid: Some(4711), process_start: Some(text("88123")) },
        IncidentEvent::StepStarted { attempt: attempt(), pid: None, process_start: None },
        IncidentEvent::StepNotStarted { attempt: attempt(), why: text("the kill switch is on, and backstop stops") },
        IncidentEvent::LevelFinished { level: 0, at: at(30) },
        IncidentEvent::CheckAnswered { level: 0, check: text("smoke"), outcome: CheckOutcome::Passed },
        IncidentEvent::CheckAnswered {
            level: 0,
            check: text("smoke"),
            outcome: CheckOutcome::Failed(text("HTTP 500")),
        },
        IncidentEvent::CheckAnswered { level: 1, check: text("rows"), outcome: CheckOutcome::Unknown(text("refused")) },
        IncidentEvent::UndoBegan { level: 0 },
        IncidentEvent::UndoFinished { level: 0, failed: None, running: Running::One(release("v42")) },
        IncidentEvent::UndoFinished { level: 0, failed: Some(text("step 1 failed")), running: mix() },
        IncidentEvent::CameClear { at: at(60) },
        IncidentEvent::Relapsed,
        IncidentEvent::Climbed { to: 1, overrides: Vec::new() },
        IncidentEvent::Climbed { to: 2, overrides: vec![text("kill-switch"), text("schema")] },
        IncidentEvent::Recovered { clear_since: Some(at(60)) },
        IncidentEvent::Recovered { clear_since: None },
        IncidentEvent::Superseded { by: mix() },
        IncidentEvent::Superseded { by: Running::Unknown(text("the link cannot be read")) },
        IncidentEvent::Aborted { actor: actor(), reason: text("fixed by hand") },
        IncidentEvent::Reminded,
        IncidentEvent::Acknowledged { actor: actor(), reason: String::new() },
        IncidentEvent::Acknowledged { actor: actor(), reason: text("on it") },
        IncidentEvent::RtoPassed { rto_ms: 900_000 },
        IncidentEvent::Cleared,
    ];
    let decisions = [
        DecisionKind::RollBack,
        DecisionKind::WouldRollBack,
        DecisionKind::Propose,
        DecisionKind::Hold,
        DecisionKind::Escalate,
    ];
    events.extend(decisions.map(|kind| IncidentEvent::Judged { decision: decision(kind) }));
    let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Ambiguous];
    events.extend(
        outcomes.map(|outcome| IncidentEvent::StepFinished { attempt: attempt(), result: Box::new(result(outcome)) }),
    );
    let answers = [CheckAnswer::TookEffect, CheckAnswer::DidNot, CheckAnswer::Unknown];
    events.extend(answers.map(|answer| IncidentEvent::StepChecked {
        // The undo of a level is told apart only where it is one.
        attempt: Attempt { undo: answer == CheckAnswer::DidNot, ..attempt() },
        answer,
        detail: text("exit status 1"),
    }));
    let verified = [Verified::NotRecovered, Verified::Inconclusive, Verified::NotReached];
    events.extend(verified.map(|verified| IncidentEvent::LevelFailed { level: 0, verified, why: text("still 43 %") }));
    let whys = [
        WhyHuman::LadderExhausted,
        WhyHuman::Inconclusive,
        WhyHuman::StepTimedOut,
        WhyHuman::StepAmbiguous,
        WhyHuman::StepFailed,
        WhyHuman::DeadlineReached,
        WhyHuman::ReleaseUnknown,
        WhyHuman::BadReleaseCameBack,
        WhyHuman::Unreadable,
        WhyHuman::Blocked,
    ];
    events.extend(whys.map(|why| IncidentEvent::NeedsHuman { why, text: text("please look") }));
    events
}

/// At least one of every kind, with every variant of what is inside.
// Length: one value of each kind.
pub fn samples() -> Vec<Entry> {
    let (service, release) = (text("api"), release("v42"));
    let (notice_id, receiver) = (text("01930d2e"), text("oncall"));
    let seen = |old_last_seen, installed_by, named_by| {
        let (service, release, first_seen) = (text("api"), Release("v42".into()), at(0));
        Entry::ReleaseSeen { service, release, old_last_seen, first_seen, installed_by, named_by }
    };
    let mut samples = vec![
        Entry::DaemonStarted { version: text("0.1.0"), config_hash: text("c0ffee123456") },
        seen(Some(at(-10)), Some(incident_id()), None),
        seen(None, None, None),
        seen(None, None, Some(text("symlink /opt/api/current"))),
        Entry::ReleaseNamed {
            service: service.clone(),
            first: text("symlink /opt/api/current"),
            detector: text("label version of build_info"),
            value: text("1.4.2"),
            release: Some(release.clone()),
        },
        Entry::ReleaseNamed {
            service: service.clone(),
            first: text("symlink /opt/api/current"),
            detector: text("label version of build_info"),
            value: text("1.4.2"),
            release: None,
        },
        Entry::ReleaseGood { service: service.clone(), release: release.clone() },
        Entry::ReleaseBad { service: service.clone(), release: release.clone(), incident: incident_id() },
        Entry::ReleaseForgotten {
            service: service.clone(),
            release: release.clone(),
            actor: actor(),
            reason: String::new(),
        },
        Entry::ReleaseForgotten {
            service: service.clone(),
            release,
            actor: actor(),
            reason: text("it was the network"),
        },
        Entry::NoticeQueued { notice: Box::new(bare_notice()), receivers: vec![receiver.clone()] },
        Entry::NoticeDelivered { notice: notice_id.clone(), receiver: receiver.clone() },
        Entry::NoticeDead { notice: notice_id.clone(), receiver: receiver.clone(), why: text("HTTP 410 Gone") },
        Entry::NoticeFellBack { notice: notice_id, receiver, fallback: text("mail") },
        Entry::Paused { service: None, until: at(3_600), actor: actor(), reason: text("migration") },
        Entry::Paused { service: Some(service.clone()), until: at(60), actor: actor(), reason: String::new() },
        Entry::Resumed { service: None, actor: actor(), reason: String::new() },
        Entry::Resumed { service: Some(service.clone()), actor: actor(), reason: text("it is over") },
        Entry::KillSwitch { service: None, on: true, actor: actor(), reason: text("the database is being moved") },
        Entry::KillSwitch { service: Some(service.clone()), on: false, actor: actor(), reason: text("moved") },
        Entry::SignalRaised {
            service: service.clone(),
            signal: text("cve"),
            until: at(600),
            actor: actor(),
            detail: text("CVE-2026-0001"),
        },
        Entry::SignalCleared { service: service.clone(), signal: text("cve"), actor: actor(), reason: String::new() },
        Entry::SignalCleared { service: service.clone(), signal: text("cve"), actor: actor(), reason: text("patched") },
        Entry::Command(Box::new(Ordered {
            actor: actor(),
            command: text("approve api-17 --question 2"),
            service: Some(service),
            incident: Some(incident_id()),
            reason: text("go"),
            refused: Some(Refused { kind: RefusedAs::Conflict, why: text("it asks another question by now") }),
            unwritten: 3,
        })),
        Entry::Command(Box::new(Ordered {
            actor: actor(),
            command: text("test-notify"),
            service: None,
            incident: None,
            reason: String::new(),
            refused: None,
            unwritten: 0,
        })),
    ];
    samples.extend(NOTICE_KINDS.map(|kind| Entry::NoticeQueued { notice: Box::new(notice(kind)), receivers: vec![] }));
    // Written since there are links; both forms are read.
    let of = |bad, target| NoticeQuestion { number: 2, level: 0, bad, target };
    let asks = [of(Some(text("v42")), Some(text("v41"))), of(None, None)];
    samples.extend(asks.map(|question| {
        let notice = Notice { question: Some(Box::new(question)), ..notice(NoticeKind::ApprovalRequested) };
        Entry::NoticeQueued { notice: Box::new(notice), receivers: vec![] }
    }));
    samples
        .extend(events().into_iter().map(|event| Entry::Incident { incident: incident_id(), event: Box::new(event) }));
    samples
}
