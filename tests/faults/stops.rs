//! Stopped, continued, asked to end, restarted: in the middle of a hold and in the middle of a step.

use std::time::Duration;

use backstop::decide::event::{Entry, IncidentEvent};
use backstop::platform::clock::Clock;
use rustix::process::Signal;

use super::places::{all, tolerate_gaps};
use super::process::Daemon;
use super::site::{File, Site, until};

/// The fault itself, not a wait for something.
async fn stopped_for_a_while(daemon: &Daemon) {
    daemon.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(if all() { 60 } else { 8 })).await;
    daemon.signal(Signal::CONT);
}

fn wall() -> Duration {
    let now = Clock::start(None).now().wall;
    Duration::from_millis(u64::try_from(now.as_millis()).unwrap())
}

/// When the first incident was opened, by the wall.
fn opened(daemon: &Daemon) -> Duration {
    let opened = |entry: &Entry| matches!(entry, Entry::Incident { event, .. } if matches!(**event, IncidentEvent::Opened { .. }));
    let record = daemon.records().into_iter().find(|record| opened(&record.entry)).expect("an incident");
    Duration::from_millis(u64::try_from(record.wall.as_millis()).unwrap())
}

async fn held(daemon: &Daemon, at_least: Duration) -> Duration {
    until(&format!("{at_least:?} of the hold"), async || {
        let trigger = daemon.trigger("broken").await;
        let held = humantime::parse_duration(trigger["held"].as_str().unwrap()).unwrap();
        (held >= at_least).then_some(held)
    })
    .await
}

/// What `status` shows is up to a snapshot and a look old.
const SLACK: Duration = Duration::from_millis(700);

/// Longer than `gap_tolerance`, here 2 s: what was held before is lost, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_in_which_the_daemon_was_stopped_is_not_held() {
    let site = Site::new();
    let hold = Duration::from_secs(6);
    site.write(&File { hold: "6s", ..File::default() });
    tolerate_gaps(&site, "2s");
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    held(&daemon, Duration::from_secs(2)).await;
    stopped_for_a_while(&daemon).await;
    let back = wall();
    daemon.incident("recovered").await;
    let took = opened(&daemon).saturating_sub(back);
    assert!(took + SLACK >= hold, "it fired {took:?} after it was continued, though {hold:?} were missing");
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_stopped_during_a_step_takes_its_end_when_it_goes_on() {
    let site = Site::new();
    site.script("touch ROOT/began\nsleep 1");
    let mut file = File::default();
    file.level = file.level.replace("timeout = \"30s\"", "timeout = \"20s\"");
    site.write(&file);
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    until("the step", async || site.path("began").exists().then_some(())).await;
    stopped_for_a_while(&daemon).await;
    let incident = daemon.incident("recovered").await;
    let steps = incident["levels"][0]["steps"].as_array().unwrap();
    assert_eq!((steps.len(), steps[0]["outcome"].as_str()), (1, Some("succeeded")), "{incident}");
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_nobody_waited_for_at_the_end_is_ambiguous_and_not_run_again() {
    let site = Site::new();
    site.script("touch ROOT/began\nexec sleep 300");
    site.write(&File::default());
    let mut daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    until("the step", async || site.path("began").exists().then_some(())).await;
    daemon.signal(Signal::TERM);
    until("the log's word on the stop", async || daemon.log().contains("stopping: running steps").then_some(())).await;
    until("the daemon's end", async || {
        daemon.signal(Signal::TERM);
        (!daemon.is_running()).then_some(())
    })
    .await;
    assert_eq!(daemon.ended().await.code(), Some(1));
    drop(daemon);

    let daemon = Daemon::start(&site).await;
    let incident = daemon.incident("needs_human").await;
    assert_eq!(incident["levels"][0]["steps"][0]["outcome"], "ambiguous", "{incident}");
    let looks = "backstop_looks_total{service=\"api\",source=\"app\"}";
    until("some more looks", async || (daemon.metric(looks).await > 10.0).then_some(())).await;
    assert_eq!((site.ran().len(), site.running().as_str()), (1, "v2"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_20_seconds_is_full_after_two_restarts_and_not_earlier_and_not_from_zero() {
    let site = Site::new();
    let hold = Duration::from_secs(20);
    site.write(&File { hold: "20s", ..File::default() });
    tolerate_gaps(&site, "5m");
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    held(&daemon, Duration::from_secs(6)).await;
    daemon.stop().await;
    // Downtime earns nothing.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let daemon = Daemon::start(&site).await;
    let had = held(&daemon, Duration::from_secs(12)).await;
    daemon.stop().await;
    let daemon = Daemon::start(&site).await;
    let back = wall();
    assert!(daemon.incidents().await.is_empty());
    daemon.incident("recovered").await;
    let took = opened(&daemon).saturating_sub(back);
    let missing = hold.saturating_sub(had);
    assert!(took + SLACK + SLACK >= missing, "it fired {took:?} after the start, though {missing:?} were missing");
    assert!(took < hold, "it fired {took:?} after the start: from zero");
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}
