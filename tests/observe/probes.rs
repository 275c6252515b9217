use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use backstop::config::model::{AuthSpec, HttpProbe, JsonCheck, JsonExpect, ProbeKind};
use backstop::decide::event::{SecretRef, TextOrSecret};
use backstop::machine::input::{Observation, ProbeOutcome, TargetKind};
use backstop::promql::Labels;
use serde_json::json;

use crate::support::{
    PATIENCE, Server, Tls, Watch, config, http_probe, nobody, probe, probe_once, response, unresolvable,
};

const TIMEOUT: Duration = Duration::from_millis(200);

async fn service() -> Server {
    let health = r#"{"status":"healthy","db":{"pool":[1,2]},"version":"v42","odd":"a b","n":7}"#;
    Server::axum(
        axum::Router::new()
            .route("/health", get(move || async move { health }))
            .route("/sick", get(move || async move { (StatusCode::SERVICE_UNAVAILABLE, health) }))
            .route("/moved", get(|| async { (StatusCode::FOUND, [("location", "/health")]) }))
            .route("/page", get(|| async { "<html>all is well</html>" }))
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(Duration::from_millis(80)).await;
                    "late"
                }),
            )
            .route("/big", get(|| async { "x".repeat(2 << 20) }))
            .route(
                "/echo",
                post(|headers: HeaderMap, body: String| async move {
                    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
                    format!("{} {}", authorization.unwrap_or("nobody"), body)
                }),
            ),
    )
    .await
}

fn http(url: &str, change: impl FnOnce(&mut HttpProbe)) -> backstop::config::model::ProbeSpec {
    let mut spec = http_probe();
    change(&mut spec);
    probe(url, ProbeKind::Http(Box::new(spec)))
}

fn equals(pointer: &str, value: serde_json::Value) -> JsonCheck {
    JsonCheck { pointer: pointer.to_owned(), expect: JsonExpect::Equals(value) }
}

fn up(status: u16) -> ProbeOutcome {
    ProbeOutcome::Up { status: Some(status), release: None }
}

fn failed(status: u16, why: &str) -> ProbeOutcome {
    ProbeOutcome::Failed { status: Some(status), why: why.to_owned(), reached: true, release: None }
}

#[tokio::test]
async fn an_answer_is_judged_by_status_json_text_and_time() {
    let server = service().await;
    let url = |path: &str| server.url(path);
    let exists = |pointer: &str| JsonCheck { pointer: pointer.to_owned(), expect: JsonExpect::Exists };
    let cases = [
        (http(&url("/health"), |_| ()), up(200)),
        (http(&url("/health"), |p| p.status = vec![204, 200]), up(200)),
        (http(&url("/health"), |p| p.status = vec![204]), failed(200, "it answered with status 200")),
        (http(&url("/sick"), |_| ()), failed(503, "it answered with status 503")),
        (http(&url("/sick"), |p| p.status = vec![503]), up(503)),
        (http(&url("/moved"), |_| ()), failed(302, "it answered with status 302 (redirects are not followed)")),
        (http(&url("/missing"), |_| ()), failed(404, "it answered with status 404")),
        (http(&url("/health"), |p| p.json = vec![equals("/status", json!("healthy")), exists("/db/pool/1")]), up(200)),
        (http(&url("/health"), |p| p.json = vec![equals("/n", json!(7.0))]), up(200)),
        (
            http(&url("/health"), |p| p.json = vec![equals("/status", json!("fine"))]),
            failed(200, r#"/status is "healthy" and not "fine""#),
        ),
        (http(&url("/health"), |p| p.json = vec![exists("/cache")]), failed(200, "there is no /cache in its JSON")),
        (
            http(&url("/page"), |p| p.json = vec![exists("/status")]),
            failed(200, "the body is not JSON: expected value at line 1 column 1"),
        ),
        (http(&url("/page"), |p| p.body_contains = Some("is well".to_owned())), up(200)),
        (
            http(&url("/page"), |p| p.body_contains = Some("is ill".to_owned())),
            failed(200, r#"the body does not contain "is ill""#),
        ),
        (http(&url("/slow"), |p| p.latency_max = Some(PATIENCE)), up(200)),
        (http(&url("/big"), |_| ()), up(200)),
        (
            http(&url("/big"), |p| p.body_contains = Some("y".to_owned())),
            failed(200, "the body is larger than 1048576 bytes"),
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(probe_once(spec.clone()).await, expected, "{spec:?}");
    }
    let slow = probe_once(http(&url("/slow"), |p| p.latency_max = Some(Duration::from_millis(20)))).await;
    let ProbeOutcome::Failed { status: Some(200), why, .. } = slow else { panic!("{slow:?}") };
    assert!(why.starts_with("it took ") && why.ends_with("to answer, more than 20ms"), "{why}");
}

#[tokio::test]
async fn the_release_is_read_even_when_the_probe_fails() {
    let server = service().await;
    for (path, pointer, release) in [
        ("/health", "/version", Some("v42")),
        ("/sick", "/version", Some("v42")),
        ("/health", "/n", Some("7")),
        ("/health", "/odd", None),
        ("/health", "/db", None),
        ("/health", "/missing", None),
        ("/page", "/version", None),
    ] {
        let mut spec = http(&server.url(path), |_| ());
        spec.release_pointer = Some(pointer.to_owned());
        let found = match probe_once(spec).await {
            ProbeOutcome::Up { release, .. } => {
                assert_ne!(path, "/sick");
                release
            }
            ProbeOutcome::Failed { release, .. } => {
                assert_eq!(path, "/sick", "what cannot be read as a release is no failure");
                release
            }
            ProbeOutcome::Unsent(why) => panic!("{why}"),
        };
        assert_eq!(found.as_deref(), release, "{path} {pointer}");
    }
}

#[tokio::test]
async fn method_body_headers_and_secrets_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "t0ken").unwrap();
    let secret = SecretRef::File(file.to_str().unwrap().to_owned());
    let server = service().await;
    let spec = http(&server.url("/echo"), |p| {
        p.method = "POST".to_owned();
        p.body = Some("ping".to_owned());
        p.client.auth = Some(AuthSpec::Bearer(secret.clone()));
        p.body_contains = Some("Bearer t0ken ping".to_owned());
    });
    assert_eq!(probe_once(spec.clone()).await, up(200));
    std::fs::remove_file(&file).unwrap();
    let unsent = probe_once(spec).await;
    assert!(matches!(unsent, ProbeOutcome::Unsent(_)), "a secret that is missing here says nothing of the target");
}

#[tokio::test]
async fn silence_and_refusal_are_failures_and_what_we_cannot_send_is_not() {
    let (silent, refused) = (Server::silent().await, nobody());
    let tls = Tls::new();
    let encrypted = tls.serve(&response("text/plain", "hello")).await;
    let status_of = |outcome: ProbeOutcome| match outcome {
        ProbeOutcome::Up { .. } => "up",
        ProbeOutcome::Failed { reached: true, .. } => "failed",
        ProbeOutcome::Failed { reached: false, .. } => "silent",
        ProbeOutcome::Unsent(_) => "unsent",
    };
    let lost = Server::bytes("").await;
    let https = format!("https://{}/", encrypted.at);
    for (address, expected) in [
        (silent.url("/"), "silent"),
        (format!("http://{refused}/"), "failed"),
        (https.clone(), "failed"),
        (lost.url("/"), "failed"),
        (format!("http://{}/", unresolvable()), "unsent"),
        ("http://255.255.255.255:9/".to_owned(), "unsent"),
    ] {
        let mut spec = http(&address, |_| ());
        if expected == "silent" {
            spec.timeout = Duration::from_secs(3);
        }
        let outcome = probe_once(spec).await;
        assert_eq!(status_of(outcome.clone()), expected, "{address}: {outcome:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, &tls.ca_pem).unwrap();
    assert_eq!(probe_once(http(&https, |p| p.client.tls.ca_file = Some(ca_file))).await, up(200));

    let listening = silent.at.to_string();
    for (address, expected) in [
        (listening, "up"),
        (refused.to_string(), "failed"),
        (unresolvable(), "unsent"),
        ("255.255.255.255:9".to_owned(), "unsent"),
    ] {
        let outcome = probe_once(probe(&address, ProbeKind::Tcp)).await;
        assert_eq!(status_of(outcome.clone()), expected, "{address}: {outcome:?}");
    }
}

#[tokio::test]
async fn each_http_probe_makes_a_connection_of_its_own() {
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&connections);
    let server = Server::raw(move |mut stream| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            loop {
                if crate::support::read_head(&mut stream).await.is_empty() {
                    return;
                }
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.ok();
            }
        }
    })
    .await;
    let mut config = config(&[]);
    config.probes.push(http(&server.url("/"), |_| ()));
    let mut watch = Watch::start(&config);
    for _ in 0..3 {
        assert_eq!(watch.probed().await, up(200));
    }
    assert!(connections.load(std::sync::atomic::Ordering::SeqCst) >= 3);
}

fn command(argv: &[&str], env: BTreeMap<String, TextOrSecret>) -> backstop::config::model::ProbeSpec {
    let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
    let line = argv.join(" ");
    probe(&line, ProbeKind::Command { argv, env, inherit: Vec::new() })
}

#[tokio::test]
async fn a_command_is_judged_by_its_exit() {
    let failed = |why: &str| ProbeOutcome::Failed { status: None, why: why.to_owned(), reached: false, release: None };
    let none = BTreeMap::new;
    assert_eq!(probe_once(command(&["true"], none())).await, ProbeOutcome::Up { status: None, release: None });
    let noisy = command(&["sh", "-c", "echo checking; echo 'no database' >&2; exit 3"], none());
    assert_eq!(probe_once(noisy).await, failed("it exited with 3: no database"));
    let mut endless = command(&["sleep", "600"], none());
    endless.timeout = TIMEOUT;
    assert_eq!(probe_once(endless).await, failed("it did not end within 200ms"));
    let missing = command(&["/nonexistent/check"], none());
    assert_eq!(probe_once(missing).await, ProbeOutcome::Unsent("there is no such program".to_owned()));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hush").unwrap();
    let secret = SecretRef::File(file.to_str().unwrap().to_owned());
    let env = BTreeMap::from([("DB".to_owned(), TextOrSecret::Secret { prefix: "pw=".to_owned(), secret })]);
    let with_env = command(&["sh", "-c", "test \"$DB\" = pw=hush"], env);
    assert_eq!(probe_once(with_env.clone()).await, ProbeOutcome::Up { status: None, release: None });
    std::fs::remove_file(&file).unwrap();
    let outcome = probe_once(with_env).await;
    assert!(matches!(outcome, ProbeOutcome::Unsent(_)), "{outcome:?}");
}

#[tokio::test]
async fn probe_targets_are_told_with_their_labels() {
    let address = nobody().to_string();
    let mut config = config(&[]);
    config.probes = vec![
        probe(&address, ProbeKind::Tcp),
        http("http://127.0.0.1/health", |_| ()),
        command(&["true", "-x"], BTreeMap::new()),
    ];
    config.probes[0].targets[0].labels = vec![("zone".to_owned(), "z1".to_owned())];
    let mut watch = Watch::start(&config);
    let mut labels = Vec::new();
    for _ in 0..3 {
        let (key, found) = watch
            .first(|observation| match observation {
                Observation::TargetUp { key, labels, .. } => Some((key.clone(), labels.clone())),
                _ => None,
            })
            .await;
        assert_eq!((key.service.as_deref(), key.kind, &*key.source), (Some("api"), TargetKind::Probe, "health"));
        labels.push(found);
    }
    let expected = [
        Labels::from_pairs([("job", "health"), ("instance", address.as_str()), ("zone", "z1")]),
        Labels::from_pairs([("job", "health"), ("instance", "127.0.0.1:80")]),
        Labels::from_pairs([("job", "health"), ("instance", "true -x")]),
    ];
    assert_eq!(labels, expected);
}
