//! The API keeps its promises: reading is open, commanding is not, every answer has its documented form.

mod fake_daemon;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use backstop::machine::input::{Command, ReleasePhase};
use backstop::machine::snapshot::JournalHealth;
use backstop::serve::metrics::{FAMILIES, Kind};
use backstop::serve::{BindError, FailedReload, Tokens, bind_unix};
use fake_daemon::{Daemon, over_tcp, through, wall};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// Longer than anything here takes on a busy machine; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a request's head may take while the daemon runs (`serve::listen`); its end does not wait for that.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);

async fn pretty(response: Response) -> String {
    serde_json::to_string_pretty(&response.json::<Value>().await.unwrap()).unwrap()
}

/// The status, and the code of the error if it is one: always with a message and a way out.
async fn outcome(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if status < 400 {
        return (status, String::new());
    }
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1);
    let error = &body["error"];
    for part in ["message", "help"] {
        assert!(error[part].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
    (status, error["code"].as_str().unwrap().to_owned())
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn what_is_read_has_its_documented_form() {
    let daemon = Daemon::start().await;
    let (tcp, unix) = (over_tcp(), through(&daemon.socket));
    for (name, path) in [("status", "/v1/status"), ("incidents", "/v1/incidents"), ("incident", "/v1/incidents/api-17")]
    {
        let by_tcp = pretty(tcp.get(format!("{}{path}", daemon.url)).send().await.unwrap()).await;
        let by_unix = pretty(unix.get(format!("http://backstop{path}")).send().await.unwrap()).await;
        assert_eq!(by_tcp, by_unix);
        insta::assert_snapshot!(name, by_tcp);
    }
    let report = tcp.get(format!("{}/v1/incidents/api-17/report", daemon.url)).send().await.unwrap();
    assert_eq!(report.headers()["content-type"], "text/markdown; charset=utf-8");
    assert!(report.text().await.unwrap().starts_with("# Incident api-17: api, a rollback, being verified"));
}

#[tokio::test]
async fn the_audit_trail_comes_in_bounded_pieces() {
    let daemon = Daemon::start().await;
    let get = async |query: &str| -> Value {
        over_tcp().get(format!("{}/v1/audit{query}", daemon.url)).send().await.unwrap().json().await.unwrap()
    };
    let seqs = |body: &Value| -> Vec<u64> {
        body["acts"].as_array().unwrap().iter().map(|act| act["seq"].as_u64().unwrap()).collect()
    };
    let first = get("?limit=3").await;
    assert_eq!((seqs(&first), first["before"].as_u64()), (vec![25_000, 24_000, 23_000], Some(23_000)));
    insta::assert_snapshot!("audit", serde_json::to_string_pretty(&first["acts"][0]).unwrap());
    let next = get("?limit=3&before=23000").await;
    assert_eq!((seqs(&next), next["before"].as_u64()), (vec![22_000, 21_000, 20_000], Some(20_000)));
    // Of a filter that takes nothing, and of a long journal, no request reads more than so much.
    let none = get("?service=web").await;
    assert_eq!((seqs(&none), none["before"].as_u64()), (vec![], Some(15_001)));
    let last = get("?before=2000").await;
    assert_eq!((seqs(&last), last["before"].as_u64()), (vec![1000], None));
    assert_eq!(seqs(&get("?since=2100-01-01T00:00:00Z").await), [0; 0]);
    for query in ["?limit=0", "?limit=1001", "?since=yesterday", "?colour=red", "?before=x"] {
        let request = over_tcp().get(format!("{}/v1/audit{query}", daemon.url));
        assert_eq!(outcome(request).await, code(422, "invalid"), "{query}");
    }
}

#[tokio::test]
async fn incidents_are_filtered() {
    let daemon = Daemon::start().await;
    daemon.publish(|snapshot| {
        let mut older = snapshot.incidents[0].clone();
        older.id = backstop::decide::event::IncidentId(Arc::from("api-3"));
        older.open = false;
        older.opened_wall = wall(-600);
        snapshot.incidents.insert(0, older);
    });
    for (query, ids) in [
        ("", vec!["api-17", "api-3"]),
        ("?open=true", vec!["api-17"]),
        ("?open=false", vec!["api-3"]),
        ("?service=api", vec!["api-17", "api-3"]),
        ("?limit=1", vec!["api-17"]),
    ] {
        let body: Value =
            over_tcp().get(format!("{}/v1/incidents{query}", daemon.url)).send().await.unwrap().json().await.unwrap();
        let found: Vec<&str> =
            body["incidents"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
    }
    let typo = over_tcp().get(format!("{}/v1/incidents?opened=true", daemon.url));
    assert_eq!(outcome(typo).await, code(422, "invalid"));
    let unknown = || over_tcp().get(format!("{}/v1/incidents?service=appi", daemon.url));
    assert_eq!(outcome(unknown()).await, code(404, "not_found"));
    let body: Value = unknown().send().await.unwrap().json().await.unwrap();
    assert_eq!(body["error"]["message"], "there is no service appi");
    assert_eq!(body["error"]["help"], "there is: api", "it names those that there are");
    // What it did is not forgotten when a service is no longer watched.
    daemon.publish(|snapshot| snapshot.services.clear());
    let gone = over_tcp().get(format!("{}/v1/incidents?service=api", daemon.url)).send().await.unwrap();
    assert_eq!(gone.json::<Value>().await.unwrap()["incidents"][0]["id"], "api-17");
}

#[tokio::test]
async fn the_first_page_names_every_route_that_there_is_to_read() {
    let daemon = Daemon::start().await;
    let page = over_tcp().get(&daemon.url).send().await.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    let page = page.text().await.unwrap();
    let doc = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md")).unwrap();
    let routes = doc.lines().filter_map(|line| line.strip_prefix("| `GET /")?.split(['`', '?']).next());
    let routes: Vec<String> =
        routes.filter(|route| !route.is_empty()).map(|route| route.replace("{id}", "ID")).collect();
    assert!(routes.len() >= 7, "{routes:?}");
    for route in routes {
        assert!(page.contains(&format!("GET /{route} ")), "GET /{route} is missing in\n{page}");
        let there = over_tcp().get(format!("{}/{}", daemon.url, route.replace("ID", "api-17"))).send().await.unwrap();
        assert_ne!(there.status().as_u16(), 404, "{route}");
    }
}

#[tokio::test]
async fn a_failed_reload_is_told_until_one_succeeds() {
    let daemon = Daemon::start().await;
    let status =
        async || over_tcp().get(format!("{}/v1/status", daemon.url)).send().await.unwrap().json::<Value>().await;
    let metric = async || over_tcp().get(format!("{}/metrics", daemon.url)).send().await.unwrap().text().await;
    assert!(status().await.unwrap()["failed_reload"].is_null());
    assert!(metric().await.unwrap().contains("\nbackstop_config_last_reload_successful 1.0\n"));
    let failed = FailedReload { wall: wall(60), why: "there is no key `colour`".to_owned() };
    daemon.failed_reload.send_replace(Some(Arc::new(failed)));
    let told = json!({ "at": "2026-11-20T03:01:00.000Z", "why": "there is no key `colour`" });
    assert_eq!(status().await.unwrap()["failed_reload"], told);
    assert!(metric().await.unwrap().contains("\nbackstop_config_last_reload_successful 0.0\n"));
}

#[tokio::test]
async fn what_is_not_there_is_said_as_json() {
    let daemon = Daemon::start().await;
    let at = |method, path: &str| over_tcp().request(method, format!("{}{path}", daemon.url));
    assert_eq!(outcome(at(Method::GET, "/v1/nothing")).await, code(404, "not_found"));
    assert_eq!(outcome(at(Method::GET, "/v1/incidents/api-99")).await, code(404, "not_found"));
    assert_eq!(outcome(at(Method::GET, "/v1/incidents/api-99/report")).await, code(404, "not_found"));
    assert_eq!(outcome(at(Method::POST, "/v1/status")).await, code(405, "method_not_allowed"));
    assert_eq!(outcome(at(Method::GET, "/v1/pause")).await, code(405, "method_not_allowed"));
}

#[tokio::test]
async fn over_tcp_a_command_needs_a_token() {
    let daemon = Daemon::start().await;
    let resume = || over_tcp().post(format!("{}/v1/resume", daemon.url)).json(&json!({}));
    assert_eq!(outcome(resume()).await, code(401, "unauthorized"));
    assert_eq!(outcome(resume().bearer_auth("s3cre")).await, code(401, "unauthorized"));
    assert_eq!(outcome(resume().bearer_auth("s3crets")).await, code(401, "unauthorized"));
    assert_eq!(outcome(resume().bearer_auth("")).await, code(401, "unauthorized"));
    assert_eq!(outcome(resume().basic_auth("ci", Some("s3cret"))).await, code(401, "unauthorized"));
    let refused = resume().send().await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert!(daemon.taken().is_empty(), "nothing reached the engine");

    assert_eq!(outcome(resume().bearer_auth("s3cret")).await.0, 200);
    assert_eq!((daemon.last_actor().name.as_str(), daemon.last_actor().via.as_str()), ("ci", "api"));

    std::fs::write(daemon.token_file(), "rotated").unwrap();
    assert_eq!(outcome(resume().bearer_auth("s3cret")).await, code(401, "unauthorized"));
    assert_eq!(outcome(resume().bearer_auth("rotated")).await.0, 200);

    std::fs::remove_file(daemon.token_file()).unwrap();
    assert_eq!(outcome(resume().bearer_auth("rotated")).await, code(401, "unauthorized"));
    daemon.tokens.send_replace(Arc::new(Tokens::new()));
    assert_eq!(outcome(resume().bearer_auth("rotated")).await, code(403, "forbidden"));
    assert_eq!(daemon.taken().len(), 2);
}

#[tokio::test]
async fn the_socket_knows_who_commands() {
    let daemon = Daemon::start().await;
    let mode = std::fs::metadata(&daemon.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let resume = through(&daemon.socket).post("http://backstop/v1/resume").json(&json!({}));
    assert_eq!(outcome(resume).await.0, 200);
    let actor = daemon.last_actor();
    let uid = rustix::process::getuid().as_raw();
    assert!(actor.name == format!("uid:{uid}") || actor.name.starts_with(&format!("uid:{uid} (")), "{actor:?}");
    assert_eq!(actor.via, "cli");
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_command() {
    let daemon = Daemon::start().await;
    let host = daemon.url.trim_start_matches("http://").to_owned();
    let tcp = || over_tcp().post(format!("{}/v1/resume", daemon.url)).bearer_auth("s3cret").json(&json!({}));
    let unix = || through(&daemon.socket).post("http://backstop/v1/resume").json(&json!({}));
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(outcome(tcp().header("origin", origin)).await, code(403, "forbidden"), "{origin}");
        assert_eq!(outcome(unix().header("origin", origin)).await, code(403, "forbidden"), "{origin}");
    }
    assert_eq!(outcome(tcp().header("sec-fetch-site", "cross-site")).await, code(403, "forbidden"));
    let clear = over_tcp().delete(format!("{}/v1/services/api/signals/cve", daemon.url)).bearer_auth("s3cret");
    assert_eq!(outcome(clear.header("origin", "https://evil.example")).await, code(403, "forbidden"));
    assert!(daemon.taken().is_empty());
    assert_eq!(outcome(tcp().header("origin", format!("http://{host}"))).await.0, 200);

    // What a form of another page can send without asking.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let form = through(&daemon.socket).post("http://backstop/v1/resume").header("content-type", kind).body("{}");
        assert_eq!(outcome(form).await, code(415, "unsupported_media_type"), "{kind}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_understood_does_nothing() {
    let daemon = Daemon::start().await;
    let post = |path: &str, body: &Value| through(&daemon.socket).post(format!("http://backstop/v1/{path}")).json(body);
    let bad = [
        ("services/api/rollback", json!({})),
        ("services/api/rollback", json!({"reason": "  "})),
        ("services/api/rollback", json!({"reason": "x", "levle": 1})),
        ("services/api/rollback", json!({"reason": "x", "level": 0})),
        ("services/api/rollback", json!({"reason": "x", "level": -1})),
        ("services/api/rollback", json!({"reason": "x".repeat(5_000)})),
        ("pause", json!({"reason": "x", "for": "90"})),
        ("pause", json!({"reason": "x", "for": 90})),
        ("pause", json!({"reason": "x", "for": "0s"})),
        ("pause", json!({"reason": "x", "for": "2years"})),
        ("pause", json!({"for": "1h"})),
        ("kill-switch", json!({"reason": "x"})),
        ("kill-switch", json!({"on": true, "reason": " "})),
        ("releases", json!({"service": "api", "release": "--force", "phase": "end"})),
        ("releases", json!({"service": "api", "release": "a b", "phase": "end"})),
        ("releases", json!({"service": "api", "release": "2.4.0", "phase": "middle"})),
        ("services/api/signals/two%20words", json!({})),
        ("services/api/signals/cve", json!({"ttl": "1000years"})),
        ("incidents/api-17/acknowledge", json!({"until": "not taken here"})),
        ("resume", json!([])),
    ];
    for (path, body) in bad {
        assert_eq!(outcome(post(path, &body)).await, code(422, "invalid"), "{path} {body}");
    }
    let cut = through(&daemon.socket).post("http://backstop/v1/resume").header("content-type", "application/json");
    assert_eq!(outcome(cut.body("{\"service\": ")).await, code(422, "invalid"));
    let large = json!({"receiver": "x".repeat(65 * 1024)});
    assert_eq!(outcome(post("test-notify", &large)).await, code(413, "too_large"));
    assert!(daemon.taken().is_empty());
}

// Length: one row per route.
#[tokio::test]
async fn every_route_asks_for_its_command() {
    let daemon = Daemon::start().await;
    let api = || "api".to_owned();
    let incident = || "api-17".to_owned();
    let why = || "because".to_owned();
    let hour = Duration::from_hours(1);
    let routes = [
        (
            "services/api/rollback",
            json!({"reason": " because ", "level": 2, "overrides": ["kill-switch"]}),
            Command::Rollback { service: api(), reason: why(), level: Some(1), overrides: vec!["kill-switch".into()] },
        ),
        (
            "services/api/rollback",
            json!({"reason": "because"}),
            Command::Rollback { service: api(), reason: why(), level: None, overrides: vec![] },
        ),
        ("incidents/api-17/approve", json!({}), Command::Approve { incident: incident(), reason: String::new() }),
        (
            "incidents/api-17/decline",
            json!({"reason": "because"}),
            Command::Decline { incident: incident(), reason: why() },
        ),
        (
            "incidents/api-17/acknowledge",
            json!({}),
            Command::Acknowledge { incident: incident(), reason: String::new() },
        ),
        (
            "incidents/api-17/abort",
            json!({"reason": "because"}),
            Command::Abort { incident: incident(), reason: why() },
        ),
        ("pause", json!({"reason": "because"}), Command::Pause { service: None, duration: hour, reason: why() }),
        (
            "pause",
            json!({"service": "api", "for": "1h 30m", "reason": "because"}),
            Command::Pause { service: Some(api()), duration: Duration::from_mins(90), reason: why() },
        ),
        (
            "kill-switch",
            json!({"service": "api", "on": true, "reason": "because"}),
            Command::KillSwitch { service: Some(api()), on: true, reason: why() },
        ),
        (
            "kill-switch",
            json!({"on": false, "reason": "because"}),
            Command::KillSwitch { service: None, on: false, reason: why() },
        ),
        (
            "resume",
            json!({"service": "api", "reason": "over"}),
            Command::Resume { service: Some(api()), reason: "over".into() },
        ),
        (
            "services/api/signals/cve",
            json!({"ttl": "1d", "detail": "CVE\u{1b}-1"}),
            Command::RaiseSignal {
                service: api(),
                signal: "cve".into(),
                ttl: Duration::from_hours(24),
                detail: "CVE -1".into(),
            },
        ),
        (
            "releases",
            json!({"service": "api", "release": "2.4.0", "phase": "begin"}),
            Command::AnnounceRelease { service: api(), release: "2.4.0".into(), phase: ReleasePhase::Begin },
        ),
        (
            "services/api/forget",
            json!({"release": "2.4.0"}),
            Command::Forget { service: api(), release: "2.4.0".into(), reason: String::new() },
        ),
        ("test-notify", json!({}), Command::TestNotify { receiver: None }),
    ];
    for (path, body, command) in routes {
        let request = through(&daemon.socket).post(format!("http://backstop/v1/{path}")).json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer, json!({"message": "done", "incident": "api-17", "details": {"level": "1"}}), "{path}");
        assert_eq!(daemon.taken().last(), Some(&command), "{path}");
    }
    let clear = through(&daemon.socket).delete("http://backstop/v1/services/api/signals/cve");
    assert_eq!(outcome(clear).await.0, 200);
    assert_eq!(
        daemon.taken().last(),
        Some(&Command::ClearSignal { service: api(), signal: "cve".into(), reason: String::new() })
    );
}

#[tokio::test]
async fn what_the_machine_refuses_has_a_status_of_its_own() {
    let daemon = Daemon::start().await;
    for (service, expected) in [
        ("nope", code(404, "not_found")),
        ("busy", code(409, "conflict")),
        ("odd", code(422, "invalid")),
        ("ill", code(503, "unavailable")),
    ] {
        let request = through(&daemon.socket)
            .post(format!("http://backstop/v1/services/{service}/rollback"))
            .json(&json!({"reason": "x"}));
        assert_eq!(outcome(request).await, expected);
    }
    daemon.engine.abort();
    assert!(daemon.engine.await.unwrap_err().is_cancelled());
    let request = through(&daemon.socket).post("http://backstop/v1/resume").json(&json!({}));
    assert_eq!(outcome(request).await, code(503, "unavailable"));
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let mut daemon = Daemon::start().await;
    let get = |path: &str| over_tcp().get(format!("{}{path}", daemon.url));
    let ready = get("/readyz").send().await.unwrap();
    assert_eq!((ready.status().as_u16(), ready.text().await.unwrap().as_str()), (200, "ready\n"));

    daemon.publish(|snapshot| {
        snapshot.journal = JournalHealth::Failing { since_wall: wall(890), why: "no space left".to_owned() };
        snapshot.services[0].targets[0].up = None;
    });
    let not = get("/readyz").header("accept", "application/json").send().await.unwrap();
    assert_eq!(not.status().as_u16(), 503);
    let expected = json!({"ready": false, "reasons": [
        "the journal cannot be written since 2026-11-20T03:14:50.000Z: no space left",
        "api: the scrape app has not looked at http://127.0.0.1:8080/metrics yet",
    ]});
    assert_eq!(not.json::<Value>().await.unwrap(), expected);
    let text = get("/readyz").send().await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    let status: Value = get("/v1/status").send().await.unwrap().json().await.unwrap();
    assert_eq!((&status["ready"], &status["not_ready"]), (&json!(false), &expected["reasons"]));
    assert!(get("/metrics").send().await.unwrap().text().await.unwrap().contains("\nbackstop_ready 0.0\n"));

    daemon.publish(|_| {});
    let ended = get("/readyz");
    daemon.snapshot = None;
    let ended = ended.send().await.unwrap();
    assert_eq!(ended.status().as_u16(), 503);
    assert!(ended.text().await.unwrap().contains("the engine has ended"));
    let alive = over_tcp().get(format!("{}/healthz", daemon.url)).send().await.unwrap();
    assert_eq!(alive.status().as_u16(), 200, "the process is alive all the same");
}

#[tokio::test]
async fn own_metrics_are_openmetrics_and_documented() {
    let daemon = Daemon::start().await;
    daemon.metrics.observe_decision_lag(Duration::from_millis(3));
    daemon.metrics.observe_sync_lag(Duration::from_millis(30));
    let response = over_tcp().get(format!("{}/metrics", daemon.url)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"));
    insta::assert_snapshot!("metrics", text);

    let doc = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    for family in FAMILIES {
        let (name, kind) = match family.kind {
            Kind::Counter => (family.name.trim_end_matches("_total"), "counter"),
            Kind::Gauge => (family.name, "gauge"),
            Kind::Info => (family.name.trim_end_matches("_info"), "info"),
            Kind::Histogram => (family.name, "histogram"),
        };
        assert_eq!(text.matches(&format!("# TYPE {name} {kind}\n")).count(), 1, "{name}");
        assert!(text.contains(&format!("# HELP {name} {}", family.help)), "{name}");
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = format!("| `{}` | {kind} | {} | {} |", family.name, labels.join(", "), family.help);
        assert!(doc.contains(&row), "docs/metrics.md lacks this line:\n{row}");
    }
    let exported = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(exported, FAMILIES.len(), "every family is in the table");
    let documented = doc.lines().filter(|line| line.starts_with("| `backstop_")).count();
    assert_eq!(documented, FAMILIES.len(), "the page documents nothing that is gone");
    samples_are_well_formed(&text);
}

#[tokio::test]
async fn why_a_person_is_needed_is_a_metric() {
    let daemon = Daemon::start().await;
    daemon.publish(|snapshot| {
        snapshot.incidents[0].state = "needs_human";
        snapshot.incidents[0].needs_human = Some(backstop::decide::event::WhyHuman::StepAmbiguous.as_str());
    });
    let text = over_tcp().get(format!("{}/metrics", daemon.url)).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("\nbackstop_needs_human{service=\"api\",reason=\"step_ambiguous\"} 1.0\n"), "{text}");
    assert!(text.contains("\nbackstop_open_incidents{service=\"api\",state=\"needs_human\"} 1.0\n"), "{text}");
}

/// Each sample belongs to the family announced before it, and no series is there twice.
fn samples_are_well_formed(text: &str) {
    let mut family = "";
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(series.starts_with(family), "{line} under {family}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(series.to_owned()), "{series} twice");
    }
    assert!(
        seen.contains(r#"backstop_scrape_failures_total{service="api",source="db",reason="quoted \"\\\n reason"}"#)
    );
}

#[tokio::test]
async fn a_request_under_way_is_answered_at_the_end() {
    let daemon = Daemon::start().await;
    let slow =
        through(&daemon.socket).post("http://backstop/v1/services/slow/rollback").json(&json!({"reason": "x"})).send();
    let mut idle = tokio::net::UnixStream::connect(&daemon.socket).await.unwrap();
    let asking = tokio::spawn(slow);
    let deadline = Instant::now() + PATIENCE;
    while daemon.taken().is_empty() {
        assert!(Instant::now() < deadline, "the command did not reach the engine");
        tokio::task::yield_now().await;
    }
    daemon.shutdown.cancel();
    let closed = tokio::time::timeout(PATIENCE, idle.read(&mut [0])).await;
    assert_eq!(closed.expect("an idle connection is closed").unwrap(), 0);
    assert!(!asking.is_finished() && !daemon.serving.is_finished(), "what is under way is waited for");
    daemon.let_go.notify_one();
    tokio::time::timeout(PATIENCE, daemon.serving).await.expect("it ends").unwrap();
    assert_eq!(asking.await.unwrap().unwrap().status().as_u16(), 200);
    assert!(!daemon.socket.exists(), "the socket's file is gone");
}

#[tokio::test]
async fn half_a_request_does_not_hold_up_the_end() {
    let daemon = Daemon::start().await;
    let mut slow = tokio::net::TcpStream::connect(daemon.url.trim_start_matches("http://")).await.unwrap();
    slow.write_all(b"POST /v1/resume HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n").await.unwrap();
    // A second request on a door that is still open: by then the first is being read.
    assert_eq!(over_tcp().get(format!("{}/healthz", daemon.url)).send().await.unwrap().status().as_u16(), 200);
    let began = Instant::now();
    daemon.shutdown.cancel();
    daemon.serving.await.unwrap();
    assert!(began.elapsed() < HEADERS_WITHIN, "{:?}", began.elapsed());
    let mut rest = Vec::new();
    // Closed, with or without an answer; a reset counts as closed.
    drop(slow.read_to_end(&mut rest).await);
    assert!(daemon.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let daemon = Daemon::start().await;
    assert!(matches!(bind_unix(&daemon.socket).await, Err(BindError::InUse { .. })));
    let stale = daemon.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let bound = bind_unix(&stale).await.unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&stale).is_ok());
    drop(bound);
    assert!(!stale.exists());
    let nowhere = daemon.dir.path().join("no/such/dir.sock");
    let error = bind_unix(&nowhere).await.unwrap_err().to_string();
    let folder = daemon.dir.path().join("no/such").display().to_string();
    assert!(error.contains(&format!("there is no folder {folder}; create it, or set daemon.socket")), "{error}");
    let below_a_file = daemon.dir.path().join("token/backstop.sock");
    let error = bind_unix(&below_a_file).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create the socket {}", below_a_file.display()));
}
