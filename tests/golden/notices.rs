//! A notice of every kind, as the machine could make them: the examples of docs/webhook.md.

use std::collections::BTreeMap;

use backstop::decide::event::{
    IncidentId, Notice, NoticeKind, NoticeLevel, NoticeQuestion, NoticeStatus, NoticeTrigger, Severity,
};
use backstop::time::{BootId, Now, Timestamp};

/// Seconds after 2026-11-20T03:14:00Z, when the rollback of the examples starts.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_795_144_440_000 + seconds * 1000)
}

pub fn example_now(seconds: i64) -> Now {
    Now {
        monotonic: at(seconds),
        wall: at(seconds),
        boot: BootId("boot".into()),
        since_boot: std::time::Duration::ZERO,
    }
}

pub const KINDS: [NoticeKind; 20] = [
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

fn text(text: &str) -> String {
    text.to_owned()
}

fn reasons<const N: usize>(reasons: [&str; N]) -> Vec<String> {
    reasons.map(str::to_owned).to_vec()
}

/// Of an incident of the service `api`, where v42 fails 43 % of its requests.
fn of_incident(kind: NoticeKind, seq: u64, sentence: &str) -> Notice {
    Notice {
        id: format!("19aa0c25a40-i-api-17-{seq}"),
        seq,
        kind,
        status: NoticeStatus::Firing,
        dedup_key: "shop-1/api-17/1".to_owned(),
        severity: Severity::High,
        action_required: false,
        incident: Some(IncidentId("api-17".into())),
        service: Some(text("api")),
        labels: BTreeMap::from([("team".to_owned(), "checkout".to_owned())]),
        release_bad: Some(text("v42")),
        release_target: Some(text("v41")),
        release_running: Some(text("v42")),
        trigger: Some(NoticeTrigger {
            name: "error-rate".to_owned(),
            value: Some(text("43 %")),
            threshold: "above 15 %".to_owned(),
            hold_ms: 600_000,
            since: at(-600),
            sentence: "43 % of 1,204 requests failed in 1 m, above 15 % for 10 m".to_owned(),
        }),
        decision: Some(text("roll_back")),
        reasons: Vec::new(),
        level: None,
        eta: None,
        respond_by: None,
        actor: None,
        text: sentence.to_owned(),
        occurred_at: at(0),
        config_hash: "9f86d081884c".to_owned(),
        drill: false,
        question: None,
    }
}

/// Of the daemon, or of a service without an incident.
fn of_daemon(kind: NoticeKind, service: Option<&str>, sentence: &str) -> Notice {
    Notice {
        dedup_key: format!("shop-1/{}", service.unwrap_or("daemon")),
        severity: Severity::Low,
        incident: None,
        service: service.map(str::to_owned),
        labels: BTreeMap::new(),
        release_bad: None,
        release_target: None,
        release_running: None,
        trigger: None,
        decision: None,
        ..of_incident(kind, 1, sentence)
    }
}

fn level(n: usize) -> NoticeLevel {
    let name = if n == 1 { "feature flag off" } else { "previous release" };
    NoticeLevel { n, of: 2, name: name.to_owned() }
}

// Length: one arm per kind of notice, so that a new kind does not compile without its example.
#[expect(clippy::too_many_lines, reason = "one arm for each kind of notice")]
pub fn example(kind: NoticeKind) -> Notice {
    let resolved = NoticeStatus::Resolved;
    match kind {
        NoticeKind::WouldRollBack => Notice {
            decision: Some(text("would_roll_back")),
            reasons: reasons(["autonomy is observe"]),
            ..of_incident(
                kind,
                1,
                "api v42 fails 43 % of its requests; backstop would roll back to v41, but only observes",
            )
        },
        NoticeKind::Held => Notice {
            decision: Some(text("hold")),
            reasons: reasons(["no target answers and no reference does: it may be us who are cut off"]),
            ..of_incident(
                kind,
                1,
                "api v42 fails 43 % of its requests; not rolled back yet: it may be us who are cut off",
            )
        },
        NoticeKind::Escalated => Notice {
            action_required: true,
            decision: Some(text("escalate")),
            reasons: reasons(["the breach began 3 days after the last release: a rollback would not cure it"]),
            release_bad: None,
            release_target: None,
            ..of_incident(kind, 1, "api fails 43 % of its requests, and not because of a release: please look")
        },
        NoticeKind::ApprovalRequested => Notice {
            action_required: true,
            decision: Some(text("propose")),
            reasons: reasons(["autonomy is propose"]),
            level: Some(level(1)),
            respond_by: Some(at(900)),
            question: Some(Box::new(NoticeQuestion {
                number: 1,
                level: 0,
                bad: Some(text("v42")),
                target: Some(text("v41")),
            })),
            ..of_incident(
                kind,
                1,
                "Roll api back from v42 to v41? `backstop approve api-17` until 03:29 UTC; silence declines",
            )
        },
        NoticeKind::Declined => Notice {
            status: resolved,
            actor: Some(text("alice")),
            ..of_incident(kind, 2, "alice declined to roll api back from v42: known, the fix is on its way")
        },
        NoticeKind::Expired => Notice {
            action_required: true,
            status: resolved,
            ..of_incident(kind, 2, "Nobody answered: api is not rolled back from v42, which still fails")
        },
        NoticeKind::Started => Notice {
            level: Some(level(1)),
            eta: Some(at(180)),
            ..of_incident(kind, 1, "api is being rolled back from v42 to v41: 43 % of its requests fail")
        },
        NoticeKind::StepFailed => Notice {
            level: Some(level(1)),
            ..of_incident(kind, 2, "api: step 1 of level 1 (feature flag off) failed: HTTP 503; level 2 is next")
        },
        NoticeKind::LevelFinished => Notice {
            level: Some(level(2)),
            release_running: Some(text("v41")),
            eta: Some(at(1_500)),
            ..of_incident(kind, 3, "api: level 2 (previous release) is done; watching whether it recovers")
        },
        NoticeKind::Recovered => Notice {
            status: resolved,
            level: Some(level(2)),
            release_running: Some(text("v41")),
            ..of_incident(kind, 4, "api recovered with v41: all triggers have been clear for 15 m")
        },
        NoticeKind::Superseded => Notice {
            status: resolved,
            release_running: Some(text("v43")),
            ..of_incident(kind, 4, "api: someone deployed v43 during the rollback; backstop stepped back")
        },
        NoticeKind::NeedsHuman => Notice {
            severity: Severity::Critical,
            action_required: true,
            level: Some(level(2)),
            ..of_incident(
                kind,
                4,
                "api needs a person: the last level did not help. `backstop acknowledge api-17` stops the reminders",
            )
        },
        NoticeKind::ReleaseReappeared => Notice {
            severity: Severity::High,
            action_required: true,
            dedup_key: text("shop-1/api/release_reappeared/v42"),
            ..of_daemon(
                kind,
                Some("api"),
                "api: v42 was rolled back (api-17) and runs again; backstop does not fight over it",
            )
        },
        NoticeKind::Blind => Notice {
            severity: Severity::Medium,
            action_required: true,
            ..of_daemon(kind, Some("api"), "api: error-rate cannot be judged, 127.0.0.1:8080 refuses connections")
        },
        NoticeKind::Unblind => {
            Notice { status: resolved, seq: 2, ..of_daemon(kind, Some("api"), "api: error-rate can be judged again") }
        }
        NoticeKind::Paused => Notice {
            actor: Some(text("alice")),
            eta: Some(at(3_600)),
            ..of_daemon(kind, Some("api"), "alice paused rollbacks of api for 1 h: migration")
        },
        NoticeKind::Resumed => Notice {
            status: resolved,
            seq: 2,
            actor: Some(text("alice")),
            ..of_daemon(kind, Some("api"), "alice resumed rollbacks of api")
        },
        NoticeKind::Degraded => Notice {
            severity: Severity::Critical,
            action_required: true,
            ..of_daemon(kind, None, "The journal cannot be written (the disk is full): no rollback starts until it can")
        },
        NoticeKind::Heartbeat => {
            Notice { status: resolved, ..of_daemon(kind, None, "backstop on shop-1 watches 5 services") }
        }
        NoticeKind::Test => Notice {
            status: resolved,
            actor: Some(text("alice")),
            ..of_daemon(kind, None, "A test by alice: this receiver works")
        },
    }
}
