//! Queries against servers that answer as Prometheus, Thanos, Mimir and VictoriaMetrics do, and against those that do not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use axum::routing::post;
use backstop::config::model::AuthSpec;
use backstop::decide::event::{SecretRef, TextOrSecret};
use backstop::machine::input::{Observation, TargetKind};
use backstop::platform::clock::wall;

use crate::support::{Server, Tls, Watch, config, nobody, query, query_once, response, unresolvable};

const JSON: &str = "application/json";

fn one(value: &str) -> String {
    let now = wall().as_secs_f64();
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"pod":"a"}},"value":[{now:.3},"{value}"]}}]}}}}"#
    )
}

#[tokio::test]
async fn a_query_is_one_form_under_the_servers_own_path_with_its_headers() {
    let seen: Arc<Mutex<Vec<(HeaderMap, String)>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let app = axum::Router::new().route(
        "/prometheus/api/v1/query",
        post(move |headers: HeaderMap, uri: axum::http::Uri, body: String| async move {
            noted.lock().unwrap().push((headers, format!("{uri} {body}")));
            ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], one("0.5"))
        }),
    );
    let server = Server::axum(app).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let mut spec = query(&server.url("/prometheus?dedup=false"));
    spec.client.headers.insert("X-Scope-OrgID".to_owned(), TextOrSecret::Text("shop".to_owned()));
    spec.client.auth = Some(AuthSpec::Bearer(SecretRef::File(token.to_str().unwrap().to_owned())));
    spec.labels.push(("region".to_owned(), "eu".to_owned()));

    let mut configured = config(&["errors"]);
    configured.queries.push(spec.clone());
    let mut watch = Watch::start(&configured);
    let (key, labels) = watch
        .first(|observation| match observation {
            Observation::TargetUp { key, labels, .. } => Some((key.clone(), labels.clone())),
            _ => None,
        })
        .await;
    assert_eq!((key.service.as_deref(), key.kind, &*key.source), (Some("api"), TargetKind::Query, "errors"));
    assert_eq!(&*key.address, &*spec.server);
    assert_eq!(labels.to_string(), r#"{region="eu"}"#);
    let answered = |observation: &Observation| match observation {
        Observation::Queried { outcome, .. } => Some(outcome.clone().unwrap()),
        _ => None,
    };
    let answer = watch.first(answered).await;
    assert_eq!(answer.window, Duration::from_mins(1));
    assert_eq!(answer.series.len(), 1);
    assert_eq!(answer.series[0].0.to_string(), r#"errors{pod="a", region="eu"}"#);
    assert!((answer.series[0].1 - 0.5).abs() < f64::EPSILON);

    // A rotated token is seen at the next look.
    std::fs::write(&token, "second\n").unwrap();
    watch
        .first(|_| {
            let seen = seen.lock().unwrap();
            seen.iter().any(|(headers, _)| headers["authorization"] == "Bearer second").then_some(())
        })
        .await;
    watch.observers.stop().await;
    let (headers, sent) = seen.lock().unwrap()[0].clone();
    assert_eq!(
        sent,
        "/prometheus/api/v1/query?dedup=false query=sum%28rate%28errors_total%5B1m%5D%29%29&timeout=57000ms"
    );
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(headers["x-scope-orgid"], "shop");
    assert_eq!(headers["authorization"], "Bearer first");
}

#[tokio::test]
async fn every_way_to_get_no_answer_has_its_reason_and_its_sentence() {
    let page = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>";
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n";
    let refused = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let bad = r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected end of input"}"#;
    let slow = r#"{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}"#;
    let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    let old = one("1").replace("value\":[", "value\":[1");
    let whole = response(JSON, &one("1"));
    let with = |more: &str| one("1").replacen('{', &format!("{{{more},"), 1);
    for (answer, reason, words) in [
        (page.to_owned(), "status", "it answered 502 Bad Gateway"),
        (moved.to_owned(), "redirect", "pointed to http://elsewhere/"),
        (refused("400 Bad Request", bad), "error", "bad_data: 1:5: parse error: unexpected end of input"),
        (refused("503 Service Unavailable", slow), "error", "timeout: query timed out"),
        (response(JSON, bad), "error", "bad_data"),
        (response("text/html", "<html>Sign in</html>"), "content_type", "with text/html, not with JSON"),
        (response(JSON, matrix), "result", "range of samples"),
        (response(JSON, empty), "empty", "no series"),
        (response(JSON, &old), "stale", "in the future"),
        (response(JSON, &with(r#""isPartial":true"#)), "partial", "partial"),
        (response(JSON, &with(r#""warnings":["store 10.0.0.1:10901 did not answer"]"#)), "warnings", "store 10.0.0.1"),
        (whole[..whole.len() - 9].to_owned(), "body", "ended"),
        ("HTTP/9 what\r\n\r\n".to_owned(), "body", "the connection ended"),
    ] {
        let server = Server::bytes(answer.clone()).await;
        let failure = query_once(query(&server.url(""))).await.expect_err(&answer);
        assert_eq!(failure.reason, reason, "{failure}\n{answer}");
        assert!(failure.detail.contains(words), "{failure}\n{answer}");
    }

    let mut spec = query(&format!("http://{}", nobody()));
    let failure = query_once(spec.clone()).await.unwrap_err();
    assert_eq!((failure.reason, failure.detail.as_str()), ("refused", "the connection was refused"));
    spec.server = format!("http://{}", unresolvable()).into();
    assert_eq!(query_once(spec).await.unwrap_err().reason, "dns");

    let silent = Server::silent().await;
    let mut spec = query(&silent.url(""));
    spec.limits.timeout = Duration::from_millis(200);
    assert_eq!(query_once(spec).await.unwrap_err().reason, "timeout");

    let large = Server::bytes(response(JSON, &one("1"))).await;
    let mut spec = query(&large.url(""));
    spec.limits.body_bytes_max = 20;
    let failure = query_once(spec.clone()).await.unwrap_err();
    assert_eq!(failure.reason, "body");
    assert!(failure.detail.contains("larger than 20 bytes"), "{failure}");
    spec.client.auth = Some(AuthSpec::Bearer(SecretRef::File("/nonexistent/token".to_owned())));
    assert_eq!(query_once(spec).await.unwrap_err().reason, "secret");
}

#[tokio::test]
async fn a_server_is_trusted_by_its_certificate() {
    let tls = Tls::new();
    let server = tls.serve(&response(JSON, &one("1"))).await;
    let mut spec = query(&server.url("").replace("http:", "https:"));
    assert_eq!(query_once(spec.clone()).await.unwrap_err().reason, "tls");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &tls.ca_pem).unwrap();
    spec.client.tls.ca_file = Some(ca);
    assert_eq!(query_once(spec).await.unwrap().series.len(), 1);
}
