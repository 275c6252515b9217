use std::io::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use backstop::config::model::AuthSpec;
use backstop::decide::event::{SecretRef, TextOrSecret};
use backstop::machine::input::{Observation, TargetKey, TargetKind};
use backstop::promql::{Labels, LocalId};
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    INTERVAL, PATIENCE, Server, Tls, Watch, config, nobody, read_head, response, scrape, scrape_once, unresolvable,
};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn gzipped_response(body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {TEXT}\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

#[tokio::test]
async fn a_target_comes_up_then_its_series_are_born_once_and_their_values_follow() {
    let count = Arc::new(AtomicUsize::new(0));
    let heads: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let seen = Arc::clone(&heads);
    let app = axum::Router::new().route(
        "/metrics",
        get(move |headers: HeaderMap| async move {
            seen.lock().unwrap().push(headers);
            let n = count.fetch_add(1, Ordering::SeqCst);
            let body = format!(
                "# TYPE hits counter\nhits_total{{job=\"theirs\"}} {n}\nhits_created 1\nunwanted 1\n\
                 process_start_time_seconds 1.5e9\n# EOF\n"
            );
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], body)
        }),
    );
    let server = Server::axum(app).await;
    let url = server.url("/metrics");
    let mut config = config(&["hits_total"]);
    config.scrapes.push(scrape(&[&url]));
    config.scrapes[0].targets[0].labels.push(("zone".to_owned(), "z1".to_owned()));
    config.scrapes[0].client.headers.insert("x-scope".to_owned(), TextOrSecret::Text("tests".to_owned()));
    let mut watch = Watch::start(&config);

    let first = watch.first(|observation| Some(observation.clone())).await;
    let Observation::TargetUp { target, key, labels, interval } = first else { panic!("{first:?}") };
    let instance = server.at.to_string();
    let expected = [("job", "app"), ("instance", &instance), ("zone", "z1")];
    assert_eq!(labels, Labels::from_pairs(expected));
    assert_eq!(interval, INTERVAL);
    let source = "app".into();
    assert_eq!(
        key,
        TargetKey { service: Some("api".into()), kind: TargetKind::Scrape, source, address: url.as_str().into() }
    );

    let mut values = Vec::new();
    for scrape in 0..3 {
        let (of, outcome) = watch
            .first(|observation| match observation {
                Observation::Scraped { target, outcome, .. } => Some((*target, outcome.clone())),
                _ => None,
            })
            .await;
        let found = outcome.unwrap();
        assert_eq!((of, found.generation, found.samples_exposed), (target, 1, 4));
        assert!(found.body_bytes > 100);
        assert_eq!(found.batch.process_start, Some(1.5e9));
        assert_eq!(found.batch.rebind, scrape == 0);
        let born: Vec<String> = found.batch.born.iter().map(|(_, labels)| labels.to_string()).collect();
        let series =
            format!("hits_total{{exported_job=\"theirs\", instance=\"{instance}\", job=\"app\", zone=\"z1\"}}");
        assert_eq!(born, if scrape == 0 { vec![series] } else { vec![] });
        assert_eq!(found.batch.samples.len(), 1);
        assert_eq!(found.batch.samples[0].0, LocalId(0));
        values.push(found.batch.samples[0].1);
    }
    assert!(values.is_sorted() && values[0] < values[2], "{values:?}");
    let heads = heads.lock().unwrap();
    let accept = heads[0][header::ACCEPT].to_str().unwrap();
    assert!(
        accept.starts_with("application/openmetrics-text;version=1.0.0") && accept.contains("text/plain;version=0.0.4")
    );
    assert!(!accept.contains("protobuf"));
    assert_eq!(heads[0][header::ACCEPT_ENCODING], "gzip");
    assert!(heads[0][header::USER_AGENT].to_str().unwrap().starts_with("backstop/"));
    assert_eq!(heads[0]["x-scope"], "tests");
}

/// The stable reason and the sentence of a failed scrape.
async fn reason(url: &str) -> (&'static str, String) {
    let mut spec = scrape(&[url]);
    spec.limits.timeout = Duration::from_secs(5);
    let failure = scrape_once(spec, &["x"]).await.expect_err("the scrape must fail");
    (failure.reason, failure.detail)
}

#[tokio::test]
async fn what_does_not_answer_fails_with_the_reason() {
    let refused = nobody();
    let (code, detail) = reason(&format!("http://{refused}/metrics")).await;
    assert_eq!((code, detail.as_str()), ("refused", "the connection was refused"));

    let (code, detail) = reason(&format!("http://{}/metrics", unresolvable())).await;
    assert_eq!(code, "dns");
    assert!(detail.starts_with("the name could not be resolved"), "{detail}");

    let (code, detail) = reason("http://255.255.255.255:9/metrics").await;
    assert_eq!(code, "unsent", "{detail}");

    let silent = Server::silent().await;
    let mut spec = scrape(&[&silent.url("/metrics")]);
    spec.limits.timeout = Duration::from_millis(150);
    assert_eq!(scrape_once(spec, &["x"]).await.unwrap_err().reason, "timeout");

    let slow = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {TEXT}\r\n\r\nx 1\n");
        stream.write_all(head.as_bytes()).await.ok();
        std::future::pending::<()>().await;
    })
    .await;
    let mut spec = scrape(&[&slow.url("/metrics")]);
    spec.limits.timeout = Duration::from_millis(150);
    assert_eq!(scrape_once(spec, &["x"]).await.unwrap_err().reason, "timeout", "a body that never ends");
}

#[tokio::test]
async fn what_is_not_a_whole_exposition_fails_with_the_reason() {
    let html = "<!doctype html><html><body>x 1</body></html>\n";
    let cut = |length: usize, body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: {TEXT}\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("longer length", cut(500, "x 1\nx{a=\"b\"} 1\n").into(), "body", "ended before a whole answer"),
        ("shorter length", cut(6, "x 1\nx{a=\"b\"} 12345\n").into(), "body", "line 2"),
        (
            "no length, cut in a line",
            format!("HTTP/1.1 200 OK\r\ncontent-type: {TEXT}\r\n\r\nx 1\nx 12").into(),
            "body",
            "cut short",
        ),
        (
            "no length, cut OpenMetrics",
            "HTTP/1.1 200 OK\r\ncontent-type: application/openmetrics-text\r\n\r\nx 1\n".into(),
            "body",
            "# EOF",
        ),
        (
            "broken chunks",
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {TEXT}\r\ntransfer-encoding: chunked\r\n\r\n4\r\nx 1\n\r\n9\r\nx"
            )
            .into(),
            "body",
            "",
        ),
        ("nothing", Vec::new(), "body", "ended before a whole answer"),
        ("empty body", response(TEXT, "").into(), "body", "the body is empty"),
        ("not HTTP", "SSH-2.0-OpenSSH_9.2\r\n".into(), "body", ""),
        ("html", response("text/html", html).into(), "content_type", "web page"),
        ("html as text", response(TEXT, html).into(), "exposition", "line 1"),
        ("json", response("application/json", "{\"x\": 1}").into(), "content_type", "JSON"),
        ("protobuf", response("application/vnd.google.protobuf", "x").into(), "content_type", "protobuf"),
        ("a selected line is broken", response(TEXT, "y 1\ny oops\nx one\nx 1\n").into(), "exposition", "line 3"),
        (
            "a label value is too long",
            response(TEXT, &format!("x{{a=\"{}\"}} 1\n", "v".repeat(2000))).into(),
            "limit",
            "line 1",
        ),
        ("status", "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nx 1\n".into(), "status", "503"),
        ("other success", "HTTP/1.1 204 No Content\r\n\r\n".into(), "status", "204"),
        (
            "redirect",
            "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n".into(),
            "redirect",
            "pointed to /login; redirects are not followed",
        ),
        ("broken gzip", gzipped_response(b"x 1\n"), "body", ""),
        ("cut gzip", gzipped_response(&gzip(&b"x 1\n".repeat(5000))[..40]), "body", ""),
        ("gzip bomb", gzipped_response(&gzip(&b"x 1\n".repeat(4 << 20))), "body", "larger than 1048576 bytes"),
    ];
    for (what, answer, expected, part) in cases {
        let server = Server::bytes(answer).await;
        let (code, detail) = reason(&server.url("/metrics")).await;
        assert_eq!(code, expected, "{what}: {detail}");
        assert!(detail.contains(part), "{what}: {detail}");
    }
}

#[tokio::test]
async fn a_missing_content_type_and_gzip_are_read() {
    let plain = Server::bytes("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nx 1\n").await;
    assert_eq!(scrape_once(scrape(&[&plain.url("/")]), &["x"]).await.unwrap().batch.samples, [(LocalId(0), 1.0)]);
    let zipped = Server::bytes(gzipped_response(&gzip(b"x 2\n"))).await;
    let found = scrape_once(scrape(&[&zipped.url("/")]), &["x"]).await.unwrap();
    assert_eq!((found.batch.samples, found.body_bytes), (vec![(LocalId(0), 2.0)], 4), "counted as decompressed");
}

#[tokio::test]
async fn more_series_than_allowed_fail_the_scrape_and_unwanted_ones_do_not_count() {
    let body = "x{a=\"1\"} 1\nx{a=\"2\"} 1\nx{a=\"3\"} 1\ny 1\n";
    let server = Server::bytes(response(TEXT, body)).await;
    let mut spec = scrape(&[&server.url("/")]);
    spec.samples_max = 2;
    let failure = scrape_once(spec.clone(), &["x"]).await.unwrap_err();
    assert_eq!(failure.reason, "limit");
    assert_eq!(scrape_once(spec, &[r#"x{a!="3"}"#]).await.unwrap().batch.samples.len(), 2);
}

/// Answers only to this authorization.
async fn guarded(authorization: &'static str) -> Server {
    Server::axum(axum::Router::new().route(
        "/metrics",
        get(move |headers: HeaderMap| async move {
            match headers.get(header::AUTHORIZATION) {
                Some(given) if given == authorization => "x 1\n".into_response(),
                Some(_) | None => StatusCode::UNAUTHORIZED.into_response(),
            }
        }),
    ))
    .await
}

#[tokio::test]
async fn bearer_and_basic_come_from_secrets_and_a_rotated_file_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let secret = SecretRef::File(file.to_str().unwrap().to_owned());

    std::fs::write(&file, "open sesame\n").unwrap();
    let server = guarded("Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==").await;
    let mut spec = scrape(&[&server.url("/metrics")]);
    spec.client.auth = Some(AuthSpec::Basic { username: "aladdin".to_owned(), password: secret.clone() });
    scrape_once(spec, &["x"]).await.unwrap();

    let server = guarded("Bearer new").await;
    let mut config = config(&["x"]);
    config.scrapes.push(scrape(&[&server.url("/metrics")]));
    config.scrapes[0].client.auth = Some(AuthSpec::Bearer(secret));
    std::fs::remove_file(&file).unwrap();
    let mut watch = Watch::start(&config);
    let failure = watch.scraped().await.unwrap_err();
    assert_eq!(failure.reason, "secret");
    assert!(failure.detail.contains(file.to_str().unwrap()), "{failure}");
    for (text, expected) in [("old", "status"), ("two\nlines", "secret")] {
        std::fs::write(&file, text).unwrap();
        while watch.scraped().await.unwrap_err().reason != expected {}
    }
    std::fs::write(&file, "new\n").unwrap();
    while watch.scraped().await.is_err() {}
}

#[tokio::test]
async fn a_secret_is_not_told_when_it_cannot_be_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hush\x01hush").unwrap();
    let mut spec = scrape(&["http://127.0.0.1:9/"]);
    let secret = SecretRef::File(file.to_str().unwrap().to_owned());
    spec.client.headers.insert("x-key".to_owned(), TextOrSecret::Secret { prefix: String::new(), secret });
    let failure = scrape_once(spec, &["x"]).await.unwrap_err();
    assert_eq!(failure.reason, "secret");
    assert!(failure.detail.contains("x-key") && !failure.detail.contains("hush"), "{failure}");
}

#[tokio::test]
async fn tls_needs_a_certificate_that_somebody_trusted_vouches_for() {
    let (tls, stranger) = (Tls::new(), Tls::new());
    let server = tls.serve(&response(TEXT, "x 1\n")).await;
    let url = format!("https://{}/metrics", server.at);
    let failure = scrape_once(scrape(&[&url]), &["x"]).await.unwrap_err();
    assert_eq!(failure.reason, "tls");
    assert!(failure.detail.contains("UnknownIssuer") && failure.detail.contains("tls.ca_file"), "{failure}");

    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, &stranger.ca_pem).unwrap();
    let mut config = config(&["x"]);
    config.scrapes.push(scrape(&[&url]));
    config.scrapes[0].client.tls.ca_file = Some(ca_file.clone());
    let mut watch = Watch::start(&config);
    assert_eq!(watch.scraped().await.unwrap_err().reason, "tls", "somebody else is trusted");
    // What is renewed on the disk is seen without a reload, and so is what is broken there.
    std::fs::write(&ca_file, "not a certificate").unwrap();
    while !watch.scraped().await.unwrap_err().detail.contains("holds no certificate") {}
    std::fs::write(&ca_file, &tls.ca_pem).unwrap();
    while watch.scraped().await.is_err() {}

    let plain = Server::axum(axum::Router::new()).await;
    let failure = scrape_once(scrape(&[&format!("https://{}/", plain.at)]), &["x"]).await.unwrap_err();
    assert_eq!(failure.reason, "tls", "{failure}");
    let deaf = Server::raw(|stream| async move { drop(stream) }).await;
    let failure = scrape_once(scrape(&[&format!("https://{}/", deaf.at)]), &["x"]).await.unwrap_err();
    assert!(matches!(failure.reason, "tls" | "body"), "{failure:?}");
}

#[tokio::test]
async fn two_processes_behind_one_address_fail_the_scrape() {
    let count = Arc::new(AtomicUsize::new(0));
    let app = axum::Router::new().route(
        "/metrics",
        get(move || async move {
            let start = if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { 100 } else { 200 };
            format!("process_start_time_seconds {start}\nx 1\n")
        }),
    );
    let server = Server::axum(app).await;
    let mut config = config(&["x"]);
    config.scrapes.push(scrape(&[&server.url("/metrics")]));
    let mut watch = Watch::start(&config);
    assert_eq!(watch.scraped().await.unwrap().batch.process_start, Some(100.0));
    assert_eq!(watch.scraped().await.unwrap().batch.process_start, Some(200.0), "this may be a restart");
    for _ in 0..3 {
        let failure = watch.scraped().await.unwrap_err();
        assert_eq!(failure.reason, "several_processes");
        assert!(failure.detail.starts_with("several processes behind one address"), "{failure}");
    }
}

#[tokio::test]
async fn a_scrape_never_overlaps_with_itself() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
    let app = axum::Router::new().route(
        "/metrics",
        get(move || async move {
            highest.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(INTERVAL * 3).await;
            counted.fetch_sub(1, Ordering::SeqCst);
            "x 1\n"
        }),
    );
    let server = Server::axum(app).await;
    let mut config = config(&["x"]);
    config.scrapes.push(scrape(&[&server.url("/metrics")]));
    let mut watch = Watch::start(&config);
    for _ in 0..4 {
        watch.scraped().await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn scrapes_that_nobody_read_are_a_gap_and_their_series_stay_known() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let app = axum::Router::new().route(
        "/metrics",
        get(move || async move {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            let mut body = "x{a=\"always\"} 1\n".to_owned();
            if n >= 2 {
                body += "x{a=\"later\"} 1\n";
            }
            body
        }),
    );
    let server = Server::axum(app).await;
    let mut config = config(&["x"]);
    config.scrapes.push(scrape(&[&server.url("/metrics")]));
    let mut watch = Watch::start(&config);
    // While the fifth is asked for, the fourth has been sent.
    tokio::time::timeout(PATIENCE, async {
        while count.load(Ordering::SeqCst) < 5 {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    let first_three: Vec<Observation> = std::iter::from_fn(|| watch.seen.try_recv()).take(3).collect();
    let [Observation::TargetUp { .. }, Observation::Overrun { at: lost, .. }, Observation::Scraped { at, outcome, .. }] =
        first_three.as_slice()
    else {
        panic!("{first_three:?}")
    };
    let batch = &outcome.as_ref().unwrap().batch;
    assert!(lost < at && batch.rebind && batch.born.len() == 2 && batch.samples.len() == 2, "{batch:?}");
}
