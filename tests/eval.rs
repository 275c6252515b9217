//! Promise: an operator can try an expression on live metrics before writing it down: the value, the finding, and why it
//! is not known.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use backstop::platform::clock::wall;
use serde_json::Value;

#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/wire.rs"]
mod wire;

use wire::{Refusing, Reply, Request, Server};

async fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
    command.args(args).env_remove("BACKSTOP_SOCKET").env("NO_COLOR", "1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn done(args: &[&str]) -> String {
    let output = run(args).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

async fn json(args: &[&str]) -> Value {
    serde_json::from_str(&done(&[args, &["--json"]].concat()).await).unwrap()
}

async fn refused(args: &[&str]) -> String {
    let output = run(args).await;
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// Two queues, one of which is long, and a counter that grows by 10 at each look.
fn exposed() -> Server {
    let looks = AtomicU32::new(0);
    Server::start(move |_| {
        let hits = 10 * looks.fetch_add(1, Ordering::SeqCst);
        Reply::metrics(format!(
            "queue_length{{queue=\"a\"}} 9\nqueue_length{{queue=\"b\"}} 1\nhits_total {hits}\nodd NaN\n"
        ))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_label_set_has_its_value_and_its_finding() {
    let server = exposed();
    let url = format!("http://{}/metrics", server.address);
    let args = ["eval", "queue_length > 5", "--scrape", &url, "--every", "100ms", "--for", "1s"];
    let shown = done(&args).await;
    assert!(shown.starts_with("evaluated here: queue_length, breached when above 5\n"), "{shown}");
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let instance = server.address;
    for (finding, value, queue) in [("breached", "9", "a"), ("clear", "1", "b")] {
        let labels = format!("queue_length{{instance=\"{instance}\", job=\"eval\", queue=\"{queue}\"}}");
        let labels: Vec<&str> = labels.split(' ').collect();
        assert!(rows.contains(&[&[finding, value], labels.as_slice()].concat()), "{finding}:\n{shown}");
    }
    assert!(shown.contains("queue_length: 2 series on 1 of 1 targets"), "{shown}");

    let listed = json(&args).await;
    let result = &listed["results"][0];
    assert_eq!((&result["finding"], &result["breached"]), (&"breached".into(), &"above 5".into()));
    assert_eq!(result["values"].as_array().unwrap().len(), 2);
    assert!(result["looks"].as_u64().unwrap() > 1 && result["looks_failed"] == 0, "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_filled_or_says_how_long_it_would_take() {
    let server = exposed();
    let url = format!("http://{}/metrics", server.address);
    let filled = ["eval", "increase(hits_total[1s])", "--scrape", &url, "--every", "100ms", "--for", "3s"];
    let listed = json(&filled).await;
    let result = &listed["results"][0];
    assert_eq!(result["finding"], "known", "{result}");
    let value: f64 = result["values"][0]["value"].as_str().unwrap().parse().unwrap();
    assert!(value >= 10.0, "ten at each look: {value}");
    let shown = done(&["eval", "rate(hits_total[5m])", "--scrape", &url, "--every", "100ms", "--for", "1s"]).await;
    assert!(shown.contains("unknown: observed for "), "{shown}");
    assert!(shown.contains("help: --for 5m would cover its window"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_says_why() {
    let server = exposed();
    let url = format!("http://{}/metrics", server.address);
    let look = |expr| ["eval", expr, "--scrape", &url, "--every", "100ms", "--for", "1s"];
    let shown = done(&look("odd > 1")).await;
    assert!(shown.contains("unknown: the value is NaN"), "{shown}");
    let shown = done(&look("no_such_metric")).await;
    assert!(shown.contains("unknown: no_such_metric has not been seen on its targets"), "{shown}");
    let nobody = Refusing::new();
    let dark = format!("http://{}/metrics", nobody.address);
    let shown = done(&["eval", "queue_length", "--scrape", &dark, "--every", "100ms", "--for", "1s"]).await;
    assert!(shown.contains(&format!("{dark}: the connection was refused")), "{shown}");
    let listed = json(&["eval", "queue_length", "--query-server", &dark.replace("/metrics", "")]).await;
    assert_eq!(listed["results"][0]["why"], "query answer: the connection was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_expression_is_refused_with_its_name_and_place() {
    let scrape = ["--scrape", "http://127.0.0.1:1/"];
    let error = refused(&[&["eval", "1 + rat(x[5m])"], scrape.as_slice()].concat()).await;
    assert!(error.contains("rat") && error.contains("did you mean `rate`?"), "{error}");
    assert!(error.contains("expr = '1 + rat(x[5m])'\n"), "{error}");
    let caret = error.lines().find(|line| line.contains('^')).unwrap();
    let line = error.lines().find(|line| line.contains("expr = ")).unwrap();
    assert_eq!(caret.find('^'), line.find("rat("), "{error}");
    let error = refused(&[&["eval", "limitk(1, x)"], scrape.as_slice()].concat()).await;
    assert!(error.contains("`limitk` is an experimental aggregation that backstop does not evaluate"), "{error}");
    // The same where only a server would be asked: nothing is sent.
    let error = refused(&["eval", "x{a=", "--query-server", "http://127.0.0.1:1/"]).await;
    assert!(error.contains("expr = 'x{a='"), "{error}");
    let error = refused(&["eval", "1 + 1", "--scrape", "http://127.0.0.1:1/"]).await;
    assert!(error.contains("selects no series"), "{error}");
    let error = refused(&["eval", "x", "--query-server", "http://127.0.0.1:1/api/v1/query"]).await;
    assert!(error.contains("write \"http://127.0.0.1:1\""), "{error}");
    let error = text(&run(&["eval", "x"]).await.stderr);
    assert!(error.contains("--scrape"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_what_is_left_of_the_comparison_and_both_stand_side_by_side() {
    let server = exposed();
    let url = format!("http://{}/metrics", server.address);
    let there = Server::start(|request: Request| {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/prometheus/api/v1/query"));
        assert_eq!(request.headers["x-scope-orgid"], "shop");
        let sent = String::from_utf8(request.body).unwrap();
        assert!(sent.starts_with("query=max+by+%28queue%29+%28queue_length%29&"), "{sent}");
        let now = wall().as_secs_f64();
        let element = serde_json::json!({ "metric": { "queue": "a" }, "value": [now, "4"] });
        let data = serde_json::json!({ "resultType": "vector", "result": [element] });
        Reply::json(200, &serde_json::json!({ "status": "success", "data": data }))
    });
    let base = format!("http://{}/prometheus", there.address);
    let header = "X-Scope-OrgID: shop";
    let expr = "max by (queue) (queue_length) > 5";
    let args = ["eval", expr, "--scrape", &url, "--query-server", &base, "--header", header, "--for", "1s"];
    let listed = json(&[&args, ["--every", "100ms"].as_slice()].concat()).await;
    let results = listed["results"].as_array().unwrap();
    let of = |how: &str| results.iter().find(|result| result["evaluated"] == how).unwrap();
    assert_eq!(of("here")["finding"], "breached", "{listed}");
    assert_eq!(of("server")["finding"], "clear", "{listed}");
    assert_eq!(of("server")["values"][0]["value"], "4");
}

const NEVER: &str = r#"
[services.api.scrapes.app]
url = "URL"
interval = "100ms"

[services.api.triggers.slow]
quantile = { histogram = "seconds", q = 0.9, window = "1m" }
above = "5s"

[services.api.triggers.quick]
quantile = { histogram = "seconds", q = 0.9, window = "1m" }
above = "500ms"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_that_can_never_fire_is_told_after_a_look() {
    let server = Server::start(|_| {
        let buckets = "seconds_bucket{le=\"0.1\"} 5\nseconds_bucket{le=\"2.5\"} 8\nseconds_bucket{le=\"+Inf\"} 9\n";
        Reply::metrics(format!("{buckets}seconds_count 9\nseconds_sum 12\n"))
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backstop.toml");
    std::fs::write(&file, NEVER.replace("URL", &format!("http://{}/", server.address))).unwrap();
    let file = file.to_str().unwrap();
    let shown = done(&["explain", file, "--look"]).await;
    let told = "above 5 s can never fire: the highest finite bucket of its histogram ends at 2.5 s";
    let (slow, quick) = shown.split_at(shown.find("api / quick").unwrap());
    assert!(slow.contains(told), "{shown}");
    assert!(!quick.contains("can never fire"), "{shown}");
    assert!(quick.contains("seconds_bucket: 3 series on 1 of 1 targets"), "{shown}");
    // Without a look nobody is contacted.
    let shown = done(&["explain", file]).await;
    assert!(!shown.contains("can never fire") && !shown.contains("now: "), "{shown}");
    let listed = json(&["explain", file, "api", "slow", "--look"]).await;
    assert_eq!(listed["triggers"][0]["never_fires_above"], 2.5);
}
