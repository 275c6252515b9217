//! Answers of servers, as they send them, and what they are taken for.

use std::time::Duration;

use super::answer::{Reading, refusal};
use super::{endpoint, form};
use crate::config::model::{ClientSpec, OnEmpty, OnWarning, QuerySpec, RequestLimits};
use crate::machine::input::{QueryAnswer, ScrapeFailure};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn spec() -> QuerySpec {
    let second = Duration::from_secs(1);
    QuerySpec {
        service: "api".into(),
        name: "error_ratio".into(),
        expr: "errors".to_owned(),
        server: "http://127.0.0.1:9090".into(),
        interval: second,
        limits: RequestLimits { connect_timeout: second, timeout: second, body_bytes_max: 1 << 20 },
        client: ClientSpec::default(),
        series_max: 3,
        max_age: Duration::from_mins(1),
        window: Duration::from_mins(5),
        labels: vec![("team".to_owned(), "shop".to_owned())],
        on_empty: OnEmpty::Unknown,
        on_warning: OnWarning::Unknown,
    }
}

fn read_by(spec: &QuerySpec, body: &str) -> Result<QueryAnswer, ScrapeFailure> {
    Reading::of(spec).read(Some("application/json"), body.as_bytes(), NOW)
}

fn vector(elements: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{elements}]}}}}"#)
}

#[track_caller]
fn fails(body: &str, reason: &str, word: &str) {
    let failure = read_by(&spec(), body).expect_err(body);
    assert_eq!(failure.reason, reason, "{failure}");
    assert!(failure.detail.contains(word), "{failure}");
    assert!(!failure.detail.contains('\n'), "{failure}");
}

#[test]
fn a_vector_and_a_scalar_become_series_of_the_querys_name() {
    let body = vector(
        r#"{"metric":{"__name__":"x","pod":"b","team":"other"},"value":[1700000000.5,"0.25"]},
           {"metric":{"pod":"a"},"value":[1700000000,"NaN"]},{"metric":{},"value":[1699999990,"+Inf"]}"#,
    );
    let answer = read_by(&spec(), &body).unwrap();
    assert_eq!(answer.window, Duration::from_mins(5));
    let series: Vec<(String, f64)> = answer.series.iter().map(|(l, v)| (l.to_string(), *v)).collect();
    let names: Vec<&str> = series.iter().map(|(labels, _)| labels.as_str()).collect();
    assert_eq!(
        names,
        [r#"error_ratio{pod="a", team="shop"}"#, r#"error_ratio{pod="b", team="shop"}"#, r#"error_ratio{team="shop"}"#]
    );
    assert!(series[0].1.is_nan() && series[2].1 == f64::INFINITY);
    assert!((series[1].1 - 0.25).abs() < f64::EPSILON);

    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000,"-Inf"]}}"#;
    let answer = read_by(&spec(), scalar).unwrap();
    assert_eq!(answer.series.len(), 1);
    assert_eq!(answer.series[0].1.to_bits(), f64::NEG_INFINITY.to_bits());
}

#[test]
fn strings_matrices_and_histograms_are_no_values() {
    fails(r#"{"status":"success","data":{"resultType":"string","result":[1700000000,"a"]}}"#, "result", "a string");
    fails(r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#, "result", "range of samples");
    let histogram = r#"{"metric":{"a":"b"},"histogram":[1700000000,{"count":"1","sum":"2","buckets":[]}]}"#;
    fails(&vector(histogram), "result", "native histogram");
}

#[test]
fn an_empty_vector_is_not_clear_unless_the_operator_says_so() {
    fails(&vector(""), "empty", "empty");
    let lenient = QuerySpec { on_empty: OnEmpty::Clear, ..spec() };
    assert_eq!(read_by(&lenient, &vector("")).unwrap().series, []);
}

#[test]
fn a_warning_or_a_partial_answer_is_not_the_whole_truth() {
    let one = r#"{"metric":{},"value":[1700000000,"1"]}"#;
    let with = |more: &str| vector(one).replacen('{', &format!("{{{more},"), 1);
    let store = r#""warnings":["No StoreAPIs matched\nfor this query","again"]"#;
    fails(&with(store), "warnings", "No StoreAPIs matched for this query (and 1 more)");
    let lenient = QuerySpec { on_warning: OnWarning::Accept, ..spec() };
    assert_eq!(read_by(&lenient, &with(store)).unwrap().series.len(), 1);
    // Partial is partial, whatever becomes of warnings.
    for spec in [spec(), lenient] {
        assert_eq!(read_by(&spec, &with(r#""isPartial":true"#)).unwrap_err().reason, "partial");
    }
    for harmless in [
        r#""isPartial":false"#,
        r#""infos":["PromQL info: metric might not be a counter"]"#,
        r#""warnings":["PromQL info: metric might not be a counter"]"#,
        r#""warnings":null"#,
    ] {
        assert_eq!(read_by(&spec(), &with(harmless)).unwrap().series.len(), 1, "{harmless}");
    }
}

#[test]
fn what_is_too_old_or_of_the_future_is_stale() {
    let at = |at: &str| vector(&format!(r#"{{"metric":{{}},"value":[{at},"1"]}}"#));
    assert!(read_by(&spec(), &at("1699999940")).is_ok());
    fails(&at("1699999939"), "stale", "61 s old, 60 s are allowed");
    assert!(read_by(&spec(), &at("1700000060")).is_ok());
    fails(&at("1700000061"), "stale", "61 s in the future");
}

#[test]
fn too_many_series_and_equal_ones_are_refused() {
    let many: Vec<String> = (0..4).map(|n| format!(r#"{{"metric":{{"n":"{n}"}},"value":[1700000000,"1"]}}"#)).collect();
    assert_eq!(read_by(&spec(), &vector(&many[..3].join(","))).unwrap().series.len(), 3);
    fails(&vector(&many.join(",")), "limit", "4 series, 3 are allowed");
    let named = |name: &str| format!(r#"{{"metric":{{"__name__":"{name}"}},"value":[1700000000,"1"]}}"#);
    fails(&vector(&[named("a"), named("b")].join(",")), "result", "two of its series are error_ratio");
    let long = format!(r#"{{"metric":{{"a":"{}"}},"value":[1700000000,"1"]}}"#, "x".repeat(1025));
    fails(&vector(&long), "limit", "longer than 1024 bytes");
    let labels: Vec<String> = (0..65).map(|n| format!(r#""l{n}":"v""#)).collect();
    let wide = format!(r#"{{"metric":{{{}}},"value":[1700000000,"1"]}}"#, labels.join(","));
    fails(&vector(&wide), "limit", "more than 64 labels");
}

#[test]
fn what_is_no_answer_is_said() {
    fails(
        r#"{"status":"error","errorType":"execution","error":"expanding series: no store"}"#,
        "error",
        "execution: expanding",
    );
    fails("{", "body", "cannot be read");
    fails(r#"{"status":"success"}"#, "body", "no data");
    fails(&vector(r#"{"metric":{},"value":[1700000000,1]}"#), "body", "cannot be read");
    fails(&vector(r#"{"metric":{},"value":[1700000000,"many"]}"#), "body", "many is no number");
    let page = Reading::of(&spec()).read(Some("text/html"), b"<html>", NOW).unwrap_err();
    assert_eq!(page.reason, "content_type");
    assert!(page.detail.contains("server.url"), "{page}");
}

#[test]
fn refusals_carry_the_servers_words_and_a_way_out() {
    let bad = refusal(400, "400 Bad Request", br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#);
    assert_eq!((bad.reason, bad.detail.as_str()), ("error", "it answered 400 Bad Request: bad_data: parse error"));
    let tenant = refusal(401, "401 Unauthorized", b"no org id\n");
    assert_eq!(tenant.reason, "status");
    assert!(tenant.detail.starts_with("it answered 401 Unauthorized: no org id; "), "{tenant}");
    assert!(tenant.detail.contains("X-Scope-OrgID"), "{tenant}");
    let prefix = refusal(404, "404 Not Found", b"<html><body>404</body></html>");
    assert!(prefix.detail.starts_with("it answered 404 Not Found; server.url may lack"), "{prefix}");
    assert_eq!(refusal(503, "503 Service Unavailable", b"").detail, "it answered 503 Service Unavailable");
    let long = refusal(500, "500", "x".repeat(4000).as_bytes());
    assert!(long.detail.chars().count() < 330, "{long}");
}

#[test]
fn the_address_keeps_its_prefix_and_its_parameters() {
    let at = |text: &str| endpoint(text.parse().unwrap()).to_string();
    assert_eq!(at("http://p:9090"), "http://p:9090/api/v1/query");
    assert_eq!(at("http://p:9090/"), "http://p:9090/api/v1/query");
    assert_eq!(at("http://m/prometheus/"), "http://m/prometheus/api/v1/query");
    assert_eq!(at("http://t?dedup=false"), "http://t/api/v1/query?dedup=false");
    assert_eq!(form("a + b", Duration::from_secs(10)), "query=a+%2B+b&timeout=9500ms");
}
