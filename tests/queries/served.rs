//! The daemon and a real Prometheus that scrapes a service: the service itself is watched by queries alone.

use std::fs;

use crate::process::Daemon;
use crate::prometheus::Prometheus;
use crate::site::{Site, until};

/// `ROOT` and `SERVER` are put in.
const FILE: &str = r#"
[daemon]
state_dir = "ROOT/state"
listen = "127.0.0.1:0"
instance = "test"

[defaults.query]
server = "http://SERVER"
interval = "200ms"
timeout = "200ms"

[services.api]
autonomy = "act"
startup = "200ms"
release = [{ symlink = "ROOT/current", interval = "100ms" }]

[services.api.guard]
good_after = "500ms"
release_window = "5m"
cooldown = "0s"

[services.api.queries.broken]
expr = 'max by (job) (max_over_time(app_broken[1s]))'
timeout = "150ms"

[services.api.queries.targets]
expr = 'count(up == 1)'

[services.api.triggers.broken]
expr = "broken > 0.5"
for = "500ms"
gap_tolerance = "20s"

[services.api.triggers.gone]
expr = "targets < 1"
gap_tolerance = "20s"

[[services.api.rollback]]
name = "previous release"
steps = [{ command = ["/bin/sh", "ROOT/rollback.sh", "{{ release.target }}"], timeout = "60s" }]
verify = { within = "60s", soak = "500ms" }
"#;

fn write(site: &Site, prometheus: &Prometheus) {
    let text = FILE.replace("ROOT", site.root().to_str().unwrap()).replace("SERVER", &prometheus.address.to_string());
    fs::write(site.config(), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breach_that_a_real_prometheus_found_rolls_the_release_back_and_proves_that_it_helped() {
    let site = Site::new();
    let prometheus = Prometheus::start(site.root(), &[site.app.address()]).await;
    write(&site, &prometheus);
    let daemon = Daemon::start(&site).await;
    until("an answer", async || (daemon.trigger("broken").await["finding"] == "clear").then_some(())).await;
    daemon.knows_good("v1").await;

    site.deploy("v2");
    let incident = daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1"]);
    assert_eq!(site.running(), "v1");
    let shown = incident.to_string();
    assert!(shown.contains(r#"broken: 1 for broken{job=\"shop\"}, above 0.5 for 500ms"#), "{shown}");
    let up = format!(
        "backstop_target_up{{service=\"api\",kind=\"query\",source=\"broken\",address=\"http://{}\"}}",
        prometheus.address
    );
    assert!((daemon.metric(&up).await - 1.0).abs() < f64::EPSILON);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_that_is_stopped_makes_it_unknown_and_rolls_nothing_back() {
    let site = Site::new();
    let mut prometheus = Prometheus::start(site.root(), &[site.app.address()]).await;
    write(&site, &prometheus);
    let daemon = Daemon::start(&site).await;
    until("an answer", async || (daemon.trigger("broken").await["finding"] == "clear").then_some(())).await;
    daemon.knows_good("v1").await;

    prometheus.stop().await;
    daemon.says("broken", "query broken: the connection was refused").await;
    site.deploy("v2");
    let failures = "backstop_scrape_failures_total{service=\"api\",source=\"broken\",reason=\"refused\"}";
    let before = daemon.metric(failures).await;
    until("many more looks", async || (daemon.metric(failures).await > before + 25.0).then_some(())).await;
    assert_eq!(daemon.incidents().await.len(), 0);
    assert_eq!(site.ran(), Vec::<String>::new());
    assert_eq!(daemon.trigger("broken").await["finding"], "unknown");

    // It comes back, has seen nothing in between, and then sees the release.
    prometheus.go_on(site.root()).await;
    daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_prometheus_refuses_is_said_in_its_own_words() {
    let site = Site::new();
    let prometheus = Prometheus::start(site.root(), &[site.app.address()]).await;
    write(&site, &prometheus);
    let text = fs::read_to_string(site.config()).unwrap();
    // This version of it does not know the function; the parser here is not asked.
    let newer = "expr = 'limitk(1, app_broken)'\ndialect = \"server\"\nwindow = \"0s\"";
    let with_newer = text.replace("expr = 'count(up == 1)'", newer);
    assert_ne!(text, with_newer);
    fs::write(site.config(), with_newer).unwrap();
    let daemon = Daemon::start(&site).await;
    let line = daemon.says("gone", "query targets: it answered 400 Bad Request: bad_data: ").await;
    assert!(line.contains("limitk"), "{line}");

    // No series of this name, a range, a string: each is told for what it is.
    for (expr, says) in [
        ("no_such_series", "its answer is empty"),
        ("app_broken[1m]", "its answer is a range of samples"),
        ("\"text\"", "its answer is a string"),
        ("app_broken / 0 * 0", "the value is NaN"),
    ] {
        let other = format!("expr = '{expr}'\ndialect = \"server\"\nwindow = \"0s\"");
        fs::write(site.config(), text.replace("expr = 'count(up == 1)'", &other)).unwrap();
        daemon.signal(rustix::process::Signal::HUP);
        daemon.says("gone", says).await;
    }
    assert_eq!(daemon.incidents().await.len(), 0);
    daemon.stop().await;

    let server = format!("http://{}", prometheus.address);
    let args = ["eval", "max(app_broken) > 0.5", "--query-server", &server];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_backstop")).args(args).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.starts_with("evaluated by the server: max(app_broken), breached when above 0.5\n"), "{shown}");
    let row = shown.lines().find(|line| line.contains("answer{}")).unwrap();
    assert_eq!(row.split_whitespace().take(2).collect::<Vec<_>>(), ["clear", "0"], "{shown}");
}
