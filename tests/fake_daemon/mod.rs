//! The real server before a fake engine: a snapshot to read, and a record of every command with a canned answer.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop::decide::event::{
    Actor, Attempt, Decision, DecisionKind, Entry, Evidence, GuardCheck, IncidentEvent, IncidentId, Notice, NoticeKind,
    NoticeStatus, Outcome, Plan, Reason, Record, Release, Running, SecretRef, SelectorFact, Seq, Severity, StepResult,
    TriggerFact,
};
use backstop::engine::handle::{CommandMessage, Handle};
use backstop::machine::input::{Answer, Command, Refusal};
use backstop::machine::snapshot::{
    AskedView, Counters, IncidentView, JournalHealth, PauseView, ReceiverView, ReleaseView, ServiceView, SignalView,
    Snapshot, TargetView, TriggerView,
};
use backstop::serve::{FailedReload, Listeners, Metrics, Parts, Past, Piece, Tokens, bind_unix, start};
use backstop::time::{BootId, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// 2026-11-20T03:00:00Z
pub const WALL_MS: i64 = 1_795_143_600_000;

pub struct Daemon {
    pub dir: tempfile::TempDir,
    pub socket: PathBuf,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub commands: Arc<Mutex<Vec<(Actor, Command)>>>,
    /// For a command to `slow`.
    pub let_go: Arc<Notify>,
    pub snapshot: Option<watch::Sender<Arc<Snapshot>>>,
    pub tokens: watch::Sender<Arc<Tokens>>,
    pub failed_reload: watch::Sender<Option<Arc<FailedReload>>>,
    pub metrics: Arc<Metrics>,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<()>,
    pub engine: JoinHandle<()>,
}

impl Daemon {
    /// One token, `ci`, whose secret `s3cret` is in the file `token`.
    pub async fn start() -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("backstop.sock");
        let token = dir.path().join("token");
        std::fs::write(&token, "s3cret\n").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", tcp.local_addr().unwrap());
        let unix = bind_unix(&socket).await.unwrap();
        let (snapshot, seen) = watch::channel(Arc::new(snapshot()));
        let (to_engine, from_serve) = mpsc::channel(8);
        let secret = SecretRef::File(token.display().to_string());
        let (tokens, tokens_seen) = watch::channel(Arc::new(Tokens::from([("ci".to_owned(), secret)])));
        let metrics = Arc::new(Metrics::new());
        let (failed_reload, failed_seen) = watch::channel(None);
        let parts = Parts {
            handle: Handle::new(to_engine, seen),
            tokens: tokens_seen,
            metrics: Arc::clone(&metrics),
            failed_reload: failed_seen,
            past: past(),
        };
        let shutdown = CancellationToken::new();
        let listeners = Listeners { tcp: Some(tcp), unix: Some(unix) };
        let serving = tokio::spawn(start(listeners, parts, shutdown.clone()));
        let commands = Arc::default();
        let let_go = Arc::new(Notify::new());
        let engine = tokio::spawn(answer(from_serve, Arc::clone(&commands), Arc::clone(&let_go)));
        let snapshot = Some(snapshot);
        Daemon {
            dir,
            socket,
            url,
            commands,
            let_go,
            snapshot,
            tokens,
            failed_reload,
            metrics,
            shutdown,
            serving,
            engine,
        }
    }

    pub fn token_file(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    /// Publishes a changed snapshot.
    pub fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = snapshot();
        change(&mut next);
        self.snapshot.as_ref().unwrap().send_replace(Arc::new(next));
    }

    /// The commands so far, without their actors.
    pub fn taken(&self) -> Vec<Command> {
        self.commands.lock().unwrap().iter().map(|(_, command)| command.clone()).collect()
    }

    pub fn last_actor(&self) -> Actor {
        self.commands.lock().unwrap().last().unwrap().0.clone()
    }
}

/// Names decide the answer: `nope` is not found, `busy` conflicts, `odd` is invalid, `ill` is unavailable, and `slow`
/// waits until it is let go.
async fn answer(
    mut from_serve: mpsc::Receiver<CommandMessage>,
    commands: Arc<Mutex<Vec<(Actor, Command)>>>,
    let_go: Arc<Notify>,
) {
    while let Some(message) = from_serve.recv().await {
        let CommandMessage { actor, command, reply } = message;
        let service = match &command {
            Command::Rollback { service, .. } => service.clone(),
            _ => String::new(),
        };
        commands.lock().unwrap().push((actor, command));
        let text = || format!("no such service {service}; there is api");
        let done = Answer::Done {
            message: "done".to_owned(),
            incident: Some(IncidentId(Arc::from("api-17"))),
            details: BTreeMap::from([("level".to_owned(), "1".to_owned())]),
        };
        let answer = match service.as_str() {
            "nope" => Answer::Refused(Refusal::NotFound(text())),
            "busy" => Answer::Refused(Refusal::Conflict("api-17 is open".to_owned())),
            "odd" => Answer::Refused(Refusal::Invalid("there are 2 levels".to_owned())),
            "ill" => Answer::Refused(Refusal::Unavailable("the journal cannot be written".to_owned())),
            "slow" => {
                let_go.notified().await;
                done
            }
            _ => done,
        };
        // The asker may have gone away; the real engine does not mind either.
        drop(reply.send(answer));
    }
}

pub fn wall(secs: i64) -> Timestamp {
    Timestamp::from_millis(WALL_MS + secs * 1000)
}

fn release(name: &str) -> Release {
    Release(Arc::from(name))
}

pub fn snapshot() -> Snapshot {
    Snapshot {
        at: wall(900),
        wall: wall(900),
        started_wall: wall(-86_400),
        version: "0.1.0",
        instance: Arc::from("host-1"),
        config_hash: Arc::from("c0ffee123456"),
        generation: 2,
        settled: true,
        journal: JournalHealth::Writing,
        pause: None,
        kill_switch: None,
        tilt: None,
        services: vec![service()],
        incidents: vec![incident()],
        receivers: vec![ReceiverView {
            name: Arc::from("oncall"),
            queued: 2,
            dead: 1,
            oldest_wall: Some(wall(840)),
            last_error: Some("HTTP 503".to_owned()),
            dead_letters: vec![(notice(), "410 Gone".to_owned())],
        }],
        counters: counters(),
    }
}

fn asked(name: &str, standing: &'static str, sentence: &str) -> AskedView {
    let last_wall = Some(wall(600));
    AskedView { kind: "way_back", name: Arc::from(name), standing, sentence: sentence.to_owned(), last_wall }
}

fn triggers() -> Vec<TriggerView> {
    let errors = TriggerView {
        name: Arc::from("error-rate"),
        severity: Severity::High,
        verdict: "firing",
        finding: "breached",
        since_wall: Some(wall(600)),
        value: Some(0.43),
        value_text: Some("43 %".to_owned()),
        threshold: "above 15 %".to_owned(),
        held: Duration::from_mins(10),
        hold: Duration::from_mins(10),
        sentence: "43 % of 120 requests failed in 1 m".to_owned(),
        never_fires: None,
    };
    let beyond = "above 5 s can never fire: the highest finite bucket of its histogram ends at 2.5 s";
    let slow = TriggerView {
        name: Arc::from("slow"),
        severity: Severity::High,
        verdict: "quiet",
        finding: "clear",
        since_wall: Some(wall(0)),
        value: Some(0.9),
        value_text: Some("0.9 s".to_owned()),
        threshold: "above 5 s".to_owned(),
        held: Duration::ZERO,
        hold: Duration::from_mins(10),
        sentence: "0.9 s (above 5 s)".to_owned(),
        never_fires: Some(beyond.to_owned()),
    };
    vec![errors, slow]
}

fn service() -> ServiceView {
    let target = |source: &str, up, error: Option<&str>| TargetView {
        kind: "scrape",
        source: Arc::from(source),
        address: Arc::from("http://127.0.0.1:8080/metrics"),
        up,
        last_wall: up.map(|_| wall(899)),
        error: error.map(str::to_owned),
        series: 3,
    };
    ServiceView {
        name: Arc::from("api"),
        autonomy: "act",
        running: Running::Mix(vec![(release("2.4.0"), 0.75), (release("2.3.1"), 0.25)]),
        running_since_wall: Some(wall(0)),
        way_back: Some("2.3.1".to_owned()),
        releases: vec![ReleaseView {
            name: "2.3.1".to_owned(),
            first_seen_wall: wall(-86_000),
            good: true,
            bad: false,
        }],
        triggers: triggers(),
        targets: vec![target("app", Some(true), None), target("db", Some(false), Some("connection refused"))],
        signals: vec![SignalView {
            name: "cve".to_owned(),
            until_wall: wall(3_600),
            detail: "CVE-2026-1\u{1b}[31m".to_owned(),
        }],
        asked: vec![
            asked("image", "free", ""),
            asked("volume", "holds", "2.3.1 cannot be gone back to: volume: exit status 1"),
        ],
        pause: Some(PauseView { until_wall: wall(1_800), actor: alice(), reason: "migration".to_owned() }),
        kill_switch: None,
        freeze: None,
        incident: Some(IncidentId(Arc::from("api-17"))),
    }
}

/// Entry `n` of the journal, of as many as the audit trail is asked about.
pub const ENTRIES: u64 = 25_000;

/// Every thousandth is a pause by alice; the others are no acts.
fn past() -> Past {
    Past::new(|before, most| {
        let newest = before.map_or(ENTRIES, |before| before.0 - 1);
        let oldest = newest.saturating_sub(most as u64) + 1;
        let entry = |n: u64| match n % 1000 {
            0 => Entry::Paused { service: None, until: wall(3600), actor: alice(), reason: format!("pause {n}") },
            _ => Entry::NoticeDelivered { notice: "n".to_owned(), receiver: "oncall".to_owned() },
        };
        let record = |n| Record { seq: Seq(n), at: wall(0), wall: wall(0), boot: BootId("b".into()), entry: entry(n) };
        let records = (oldest..=newest).rev().map(record).collect();
        Ok(Piece { records, unreadable: 0, older: (oldest > 1).then_some(Seq(oldest)) })
    })
}

fn counters() -> Counters {
    let api = || Arc::<str>::from("api");
    Counters {
        findings: BTreeMap::from([((api(), Arc::from("error-rate"), "breached"), 41)]),
        looks: BTreeMap::from([((api(), Arc::from("app")), 60)]),
        failures: BTreeMap::from([((api(), Arc::from("db"), "quoted \"\\\n reason".to_owned()), 7)]),
        overruns: 1,
        tilts: 2,
        incidents: BTreeMap::from([((api(), "recovered"), 1)]),
        steps: BTreeMap::from([((api(), "succeeded"), 2)]),
        checks: BTreeMap::from([((api(), "way_back", "passed"), 3)]),
        refused: BTreeMap::from([("conflict", 4)]),
        journal_errors: 0,
        notices_delivered: 5,
        notices_dead: 1,
    }
}

fn alice() -> Actor {
    Actor { name: "alice".to_owned(), via: "cli".to_owned() }
}

fn incident() -> IncidentView {
    IncidentView {
        id: IncidentId(Arc::from("api-17")),
        service: Arc::from("api"),
        release_bad: Some("2.4.0".to_owned()),
        release_target: Some("2.3.1".to_owned()),
        state: "verifying",
        sentence: "Verifying level 1 (previous release)".to_owned(),
        reasons: Vec::new(),
        needs_human: None,
        open: true,
        acknowledged: false,
        severity: Severity::High,
        triggers: vec!["error-rate".to_owned()],
        level: Some((1, 1, "previous release".to_owned())),
        opened_wall: wall(600),
        ended_wall: None,
        respond_by_wall: None,
        question: None,
        next: None,
        history: Arc::new(history()),
    }
}

fn decision() -> Decision {
    Decision {
        kind: DecisionKind::RollBack,
        reasons: vec![Reason { code: "none".to_owned(), sentence: "nothing stands against it".to_owned() }],
        checks: vec![GuardCheck { check: "release".to_owned(), allows: true, sentence: "2 m after 2.4.0".to_owned() }],
    }
}

fn fact() -> TriggerFact {
    let selector = SelectorFact {
        selector: "http_requests_total".to_owned(),
        targets: 1,
        targets_fresh: 1,
        series: 2,
        observed_ms: 60_000,
    };
    TriggerFact {
        trigger: "error-rate".to_owned(),
        severity: Severity::High,
        expression: "ratio(…)".to_owned(),
        threshold: "above 15 %".to_owned(),
        value: Some("43 %".to_owned()),
        labels: "{}".to_owned(),
        hold_ms: 600_000,
        since: wall(0),
        fired: Some(wall(600)),
        sentence: "error-rate: 43 % of 120 requests failed".to_owned(),
        evidence: Evidence { selectors: vec![selector], events: Some(120.0), window_ms: 60_000, value: Some(0.43) },
    }
}

/// An incident that is being verified.
pub fn history() -> Vec<Record> {
    let attempt = Attempt { level: 0, step: 0, attempt: 1, undo: false };
    let plan = Plan {
        bad: release("2.4.0"),
        target: Some(release("2.3.1")),
        levels: Vec::new(),
        start_level: 0,
        variables: BTreeMap::new(),
        autonomy: Vec::new(),
        aside: Vec::new(),
    };
    let result = StepResult {
        outcome: Outcome::Succeeded,
        detail: "exit status 0".to_owned(),
        output: "switched\n".to_owned(),
        truncated: false,
        captures: BTreeMap::new(),
        duration_ms: 2_000,
    };
    let events = [
        (
            600,
            IncidentEvent::Opened {
                service: "api".to_owned(),
                release: Some(release("2.4.0")),
                fact: Box::new(fact()),
            },
        ),
        (
            601,
            IncidentEvent::Admitted {
                plan: Box::new(plan),
                decision: decision(),
                facts: vec![fact()],
                running: Running::One(release("2.4.0")),
                actor: Some(alice()),
                receivers: vec!["oncall".to_owned()],
                deadline: wall(3_000),
            },
        ),
        (602, IncidentEvent::StepIntended { attempt, input_hash: "c0ffee".to_owned() }),
        (603, IncidentEvent::StepStarted { attempt, pid: Some(4711), process_start: None }),
        (605, IncidentEvent::StepFinished { attempt, result: Box::new(result) }),
        (606, IncidentEvent::LevelFinished { level: 0, at: wall(605) }),
    ];
    let record = |(n, (secs, event)): (usize, (i64, IncidentEvent))| Record {
        seq: Seq(n as u64 + 1),
        at: wall(secs),
        wall: wall(secs),
        boot: BootId(Arc::from("boot")),
        entry: Entry::Incident { incident: IncidentId(Arc::from("api-17")), event: Box::new(event) },
    };
    events.into_iter().enumerate().map(record).collect()
}

fn notice() -> Notice {
    Notice {
        id: "n-1".to_owned(),
        seq: 1,
        kind: NoticeKind::Started,
        status: NoticeStatus::Firing,
        dedup_key: "api-17".to_owned(),
        severity: Severity::High,
        action_required: false,
        incident: Some(IncidentId(Arc::from("api-17"))),
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
        text: "the rollback of api began".to_owned(),
        occurred_at: wall(601),
        config_hash: "c0ffee123456".to_owned(),
        drill: false,
        question: None,
    }
}

/// A client that goes through the unix socket, whatever host is asked.
pub fn through(socket: &Path) -> reqwest::Client {
    backstop::platform::http::install_crypto();
    reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap()
}

pub fn over_tcp() -> reqwest::Client {
    backstop::platform::http::install_crypto();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
