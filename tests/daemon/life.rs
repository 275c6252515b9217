//! Start, reload and stop; what systemd and probes are told of them.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Output, Stdio};
use std::time::Duration;

use backstop::decide::event::{Entry, IncidentEvent};
use backstop::platform::clock::Clock;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::process::{Daemon, command};
use super::site::{File, Site, until};
use super::wire::Reply;

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_all_or_nothing_and_a_hold_goes_on_across_it() {
    let site = Site::new();
    let file = File { hold: "15s", ..File::default() };
    site.write(&file);
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let before = until("a part of the hold", async || {
        let trigger = daemon.trigger("broken").await;
        (trigger["verdict"] == "pending" && held(&trigger) >= Duration::from_secs(3)).then_some(trigger)
    })
    .await;
    let unknown = "backstop_findings_total{service=\"api\",trigger=\"broken\",finding=\"unknown\"}";
    let unknown_before = daemon.metric(unknown).await;
    let failed_before = failed_looks(&daemon).await;
    let status = daemon.get("/v1/status").await;

    site.write(&File { service: "colour = \"blue\"".to_owned(), ..file.clone() });
    daemon.signal(Signal::HUP);
    until("the log's word on the reload", async || daemon.log().contains("the reload changed nothing").then_some(()))
        .await;
    assert!(daemon.log().contains("`colour`"), "the log shows what is wrong:\n{}", daemon.log());
    let after = daemon.get("/v1/status").await;
    assert_eq!(after["config_hash"], status["config_hash"]);
    assert_eq!(after["generation"], 1);
    assert!(after["failed_reload"]["why"].as_str().unwrap().contains("`colour`"), "{after}");
    let shown = String::from_utf8(daemon.cli(&["status"]).stdout).unwrap();
    assert!(shown.contains("FAILED and changed nothing: ") && shown.contains("`colour`"), "{shown}");
    assert!(daemon.metric("backstop_config_last_reload_successful").await.abs() < f64::EPSILON);

    let slow = "[services.api.triggers.slow]\nexpr = \"app_seconds\"\nabove = 5";
    site.write(&File { more: slow.to_owned(), ..file });
    daemon.signal(Signal::HUP);
    let after = until("the new configuration", async || {
        let status = daemon.get("/v1/status").await;
        (status["generation"] == 2 && status["failed_reload"].is_null()).then_some(status)
    })
    .await;
    assert_ne!(after["config_hash"], status["config_hash"]);
    let service = &after["services"][0];
    assert_eq!(service["triggers"].as_array().unwrap().len(), 2);
    assert_eq!(service["running"], status["services"][0]["running"]);
    let kept = service["triggers"].as_array().unwrap().iter().find(|trigger| trigger["name"] == "broken").unwrap();
    assert_eq!((kept["verdict"].as_str(), kept["finding"].as_str()), (Some("pending"), Some("breached")));
    assert!(held(kept) >= held(&before), "what was held before counts: {before} and then {kept}");
    // The wall's time of an instant is computed anew each time, from two clocks that are read one after the other.
    let instant = |value: &serde_json::Value| humantime::parse_rfc3339(value.as_str().unwrap()).unwrap();
    let (since, kept) = (instant(&before["since"]), instant(&kept["since"]));
    let apart = since.duration_since(kept).or_else(|_| kept.duration_since(since)).unwrap();
    assert!(apart < Duration::from_secs(1), "{apart:?}");

    let breached = unknown.replace("unknown", "breached");
    let breached_then = daemon.metric(&breached).await;
    until("more findings", async || (daemon.metric(&breached).await > breached_then + 3.0).then_some(())).await;
    assert!(daemon.incidents().await.is_empty());
    // On a busy machine a look may take longer than its 200 ms; the reload itself must not cost one.
    let not_seen = daemon.metric(unknown).await - unknown_before;
    let failed = failed_looks(&daemon).await - failed_before;
    assert!(not_seen <= failed, "not seen {not_seen} times, though only {failed} looks failed");

    daemon.incident("recovered").await;
    let took = opened_after(&daemon);
    assert!(took >= Duration::from_secs(15), "it fired after {took:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_state_directory_ends_and_the_first_goes_on() {
    let site = Site::new();
    site.write(&File::default());
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    let Output { status, stderr, .. } = command(&site).stderr(Stdio::piped()).output().unwrap();
    let shown = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{shown}");
    let owner = format!("another backstop (process {}) owns", daemon.pid());
    assert!(shown.contains(&owner) && shown.contains("state_dir"), "{shown}");

    site.deploy("v2");
    daemon.incident("recovered").await;
    assert_eq!(site.running(), "v1");
    daemon.stop().await;
}

/// A daemon that was told to stop while its step waits for a line in the pipe.
async fn stopping_in_a_step(site: &Site) -> Daemon {
    site.script("touch ROOT/began\nread -r line < ROOT/pipe");
    site.write(&File::default());
    assert!(std::process::Command::new("mkfifo").arg(site.path("pipe")).status().unwrap().success());
    let mut daemon = Daemon::start(site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    until("the step", async || site.path("began").exists().then_some(())).await;
    daemon.signal(Signal::TERM);
    until("the log's word on the stop", async || daemon.log().contains("stopping: running steps").then_some(())).await;
    assert!(daemon.is_running(), "the step still runs:\n{}", daemon.log());
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_running_step_and_the_next_start_verifies_it() {
    let site = Site::new();
    let mut daemon = stopping_in_a_step(&site).await;
    let pipe = site.path("pipe");
    tokio::task::spawn_blocking(move || fs::write(pipe, "go on\n")).await.unwrap().unwrap();
    assert!(daemon.ended().await.success(), "{}", daemon.log());
    assert_eq!(site.running(), "v1");
    let finished = |event: &IncidentEvent| matches!(event, IncidentEvent::StepFinished { .. });
    assert!(daemon.events().iter().any(finished), "the end of the step is in the journal");
    drop(daemon);

    let daemon = Daemon::start(&site).await;
    let incident = daemon.incident("recovered").await;
    assert_eq!(incident["levels"][0]["steps"].as_array().unwrap().len(), 1);
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_the_step() {
    let site = Site::new();
    let mut daemon = stopping_in_a_step(&site).await;
    // One that follows at once counts as the same.
    until("the daemon's end", async || {
        daemon.signal(Signal::TERM);
        (!daemon.is_running()).then_some(())
    })
    .await;
    assert_eq!(daemon.ended().await.code(), Some(1));
    assert!(daemon.log().contains("second signal"), "{}", daemon.log());
    assert_eq!(site.running(), "v2");
}

/// What a trigger has held so far.
fn held(trigger: &serde_json::Value) -> Duration {
    humantime::parse_duration(trigger["held"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_whose_secret_is_missing_is_warned_of_at_the_start() {
    let site = Site::new();
    let receivers = "[receivers.team]\nwebhook = { url = \"http://127.0.0.1:1/\", secret = { env = \"TEAM_SECRET\" } }\n\
                     [receivers.other]\nwebhook = { url = \"http://127.0.0.1:1/\", secret = { file = \"ROOT/none\" } }";
    site.write(&File { more: receivers.to_owned(), ..File::default() });
    let daemon = Daemon::start(&site).await;
    let log = daemon.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("no notice can be sent")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("receivers.other: ") && warnings[0].contains("cannot read the secret file"), "{log}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_warned_of_while_it_differs_from_what_runs() {
    let site = Site::new();
    let file = File::default();
    site.write(&file);
    let daemon = Daemon::start(&site).await;
    let bound = fs::read_to_string(site.config()).unwrap();
    let other = bound.replace("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:1\"");
    assert_ne!(bound, other);
    let warned = || daemon.log().matches("daemon.listen has changed").count();
    // Another address, still that address, and the one that is in use all the time.
    for (generation, text, warnings) in [(2, &other, 1), (3, &other, 2), (4, &bound, 2)] {
        fs::write(site.config(), text).unwrap();
        daemon.signal(Signal::HUP);
        until("the reload", async || (daemon.log().matches(" reloaded").count() + 1 == generation).then_some(())).await;
        assert_eq!(warned(), warnings, "{}", daemon.log());
    }
    daemon.stop().await;
}

/// From the beginning of the breach to the opening of the first incident.
fn opened_after(daemon: &Daemon) -> Duration {
    let opened = daemon.records().into_iter().find_map(|record| match record.entry {
        Entry::Incident { event, .. } => match *event {
            IncidentEvent::Opened { fact, .. } => Some(record.at.since(fact.since)),
            _ => None,
        },
        _ => None,
    });
    opened.unwrap()
}

/// All failed looks of the daemon so far.
async fn failed_looks(daemon: &Daemon) -> f64 {
    let (_, text) = daemon.text("/metrics").await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with("backstop_scrape_failures_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// The lines of each datagram that comes, without those that only say `STATUS=`.
struct Systemd(UnixDatagram);

impl Systemd {
    fn listen(site: &Site) -> Systemd {
        let socket = UnixDatagram::bind(site.path("notify")).unwrap();
        socket.set_read_timeout(Some(super::site::SOON)).unwrap();
        Systemd(socket)
    }

    fn told(&self) -> Vec<String> {
        loop {
            let mut buffer = [0; 4096];
            let length = self.0.recv(&mut buffer).expect("systemd to be told something");
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if !(lines.len() == 1 && lines[0].starts_with("STATUS=")) {
                return lines;
            }
        }
    }

    /// The next one that is not only about life.
    fn told_more(&self) -> Vec<String> {
        loop {
            let lines = self.told();
            if lines != ["WATCHDOG=1"] {
                return lines;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_start_life_reload_and_stop() {
    let site = Site::new();
    site.write(&File::default());
    let systemd = Systemd::listen(&site);
    let notify = site.path("notify");
    let environment = [("NOTIFY_SOCKET", notify.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let clock = Clock::start(None, None);
    let from = clock.uptime();
    let mut daemon = Daemon::spawn(&site, &environment);
    let ready = systemd.told_more();
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].starts_with("STATUS=watching 1 service"), "{ready:?}");

    // Again and again, and not more often than twice as often as systemd asks for: then one may be late.
    for _ in 0..5 {
        assert_eq!(systemd.told(), ["WATCHDOG=1"]);
    }
    let took = clock.uptime().checked_sub(from).unwrap();
    assert!(took >= Duration::from_millis(4 * 300), "5 in {took:?}");

    for (service, status) in
        [("colour = 1", "STATUS=the reload failed and changed nothing"), ("rto = \"1h\"", "STATUS=watching 1 service")]
    {
        site.write(&File { service: service.to_owned(), ..File::default() });
        let before = clock.uptime().as_micros();
        daemon.signal(Signal::HUP);
        let reloading = systemd.told_more();
        assert_eq!(reloading[0], "RELOADING=1");
        let micros = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u128>().unwrap();
        assert!(micros > 0, "{micros}");
        // CLOCK_BOOTTIME, which `uptime` reads, is never behind CLOCK_MONOTONIC.
        assert!(micros <= before + super::site::SOON.as_micros(), "{micros} is after {before}");
        let ready = systemd.told_more();
        assert_eq!(ready[0], "READY=1");
        assert!(ready[1].starts_with(status), "{ready:?}");
    }

    daemon.signal(Signal::TERM);
    let stopping = systemd.told_more();
    assert_eq!(stopping[0], "STOPPING=1");
    assert!(daemon.ended().await.success());
    assert!(!daemon.socket.exists(), "the socket's file goes with the daemon");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_healthy_at_once_ready_after_the_first_look_and_tells_of_itself() {
    let site = Site::new();
    let answer = CancellationToken::new();
    site.app.set(|mood| mood.instead = Some(Reply::HangUntil(answer.clone())));
    site.write(&File::default());
    // The first look takes as long as this test wants.
    let text = fs::read_to_string(site.config()).unwrap();
    let slow = [
        ("timeout = \"200ms\"", "timeout = \"50s\""),
        ("/metrics\"\ninterval = \"200ms\"", "/metrics\"\ninterval = \"50s\""),
        ("gap_tolerance = \"20s\"", ""),
    ];
    let text = slow.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from));
        text.replace(from, to)
    });
    fs::write(site.config(), text).unwrap();
    let daemon = Daemon::start(&site).await;
    assert_eq!(daemon.text("/healthz").await, Some((200, "ok\n".to_owned())));
    let (status, text) = daemon.text("/readyz").await.unwrap();
    assert_eq!(status, 503, "{text}");
    let waits = "not ready\napi: the scrape app has not looked at http://127.0.0.1:";
    until("what it waits for", async || {
        let (status, text) = daemon.text("/readyz").await?;
        (status == 503 && text.starts_with(waits)).then_some(())
    })
    .await;
    assert!(daemon.metric("backstop_ready").await.abs() < f64::EPSILON);
    answer.cancel();
    until("readiness", async || (daemon.text("/readyz").await? == (200, "ready\n".to_owned())).then_some(())).await;
    assert!((daemon.metric("backstop_ready").await - 1.0).abs() < f64::EPSILON);

    // The same over TCP, at the address that the log names.
    let log = daemon.log();
    let address = log.split("listen=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("the log names it");
    let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(format!("{address}/metrics")).send().await;
    let answer = answer.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for sample in ["backstop_build_info{version=", "backstop_journal_writing 1", "backstop_config_info{hash="] {
        assert!(text.lines().any(|line| line.starts_with(sample)), "{sample} in\n{text}");
    }
    daemon.stop().await;
}
