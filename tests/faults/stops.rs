//! Stopped, continued, asked to end, restarted: in the middle of a hold and in the middle of a step.

use std::fs;
use std::time::Duration;

use backstop::decide::event::{Entry, IncidentEvent};
use backstop::platform::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};

use super::places::tolerate_gaps;
use super::process::{Daemon, alive, descendants};
use super::site::{File, Receiver, Site, until};

const MINUTE: Duration = Duration::from_mins(1);

/// The fault itself, not a wait for something.
async fn stopped_for_a_minute(daemon: &Daemon) {
    daemon.signal(Signal::STOP);
    tokio::time::sleep(MINUTE).await;
    daemon.signal(Signal::CONT);
}

/// It knows, says so in one line of `status`, and only watches.
async fn notices_that_it_was_stopped(daemon: &Daemon) {
    let line = daemon.says("ONLY WATCHING until ", "backstop was stopped, or starved, for ").await;
    println!("{line}");
    assert!(daemon.metric("backstop_tilts_total").await >= 1.0);
}

fn wall() -> Duration {
    let now = Clock::start(None, None).now().wall;
    Duration::from_millis(u64::try_from(now.as_millis()).unwrap())
}

/// When this first happened to an incident, by the wall.
fn first(daemon: &Daemon, is_it: impl Fn(&IncidentEvent) -> bool) -> Duration {
    let is_it = |entry: &Entry| matches!(entry, Entry::Incident { event, .. } if is_it(event));
    let record = daemon.records().into_iter().find(|record| is_it(&record.entry)).expect("such an event");
    Duration::from_millis(u64::try_from(record.wall.as_millis()).unwrap())
}

fn opened(daemon: &Daemon) -> Duration {
    first(daemon, |event| matches!(event, IncidentEvent::Opened { .. }))
}

async fn held(daemon: &Daemon, at_least: Duration) -> Duration {
    until(&format!("{at_least:?} of the hold"), async || {
        let trigger = daemon.trigger("broken").await;
        let held = humantime::parse_duration(trigger["held"].as_str().unwrap()).unwrap();
        (held >= at_least).then_some(held)
    })
    .await
}

/// After it was stopped; two intervals are shorter here.
const ONLY_WATCHES: Duration = Duration::from_secs(10);

async fn looks(daemon: &Daemon) {
    let before = daemon.looks().await;
    until("some more looks", async || (daemon.looks().await > before + 10.0).then_some(())).await;
}

/// What `status` shows is up to a snapshot and a look old.
const SLACK: Duration = Duration::from_millis(700);

/// The release may be judged by a breach that begins after the minute.
fn write(site: &Site, file: &File) {
    site.write(file);
    let text = fs::read_to_string(site.config()).unwrap();
    let (short, long) = ("release_window = \"1m\"", "release_window = \"10m\"");
    assert!(text.contains(short));
    fs::write(site.config(), text.replace(short, long)).unwrap();
}

/// Longer than `gap_tolerance`, here 2 s: what was held before is lost, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_minute_in_which_the_daemon_was_stopped_is_not_held() {
    let site = Site::new();
    let hold = Duration::from_secs(6);
    write(&site, &File { hold: "6s", ..File::default() });
    tolerate_gaps(&site, "2s");
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    held(&daemon, Duration::from_secs(2)).await;
    stopped_for_a_minute(&daemon).await;
    let back = wall();
    notices_that_it_was_stopped(&daemon).await;
    daemon.incident("recovered").await;
    let took = opened(&daemon).saturating_sub(back);
    assert!(took + SLACK >= hold, "it fired {took:?} after it was continued, though {hold:?} were missing");
    let began = first(&daemon, |event| matches!(event, IncidentEvent::StepIntended { .. }));
    assert!(began.saturating_sub(back) + SLACK >= ONLY_WATCHES, "no rollback while it only watches");
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}

/// The hold was nearly full, and no gap is too long here: only what is seen now keeps it from acting.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_mended_while_the_daemon_was_stopped_for_a_minute_is_not_rolled_back() {
    let site = Site::new();
    write(&site, &File { hold: "6s", ..File::default() });
    tolerate_gaps(&site, "1h");
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    held(&daemon, Duration::from_secs(4)).await;
    daemon.signal(Signal::STOP);
    site.app.set(|mood| mood.broken.clear());
    tokio::time::sleep(MINUTE).await;
    daemon.signal(Signal::CONT);
    daemon.says("broken ", "quiet").await;
    let before = daemon.looks().await;
    until("looks for longer than a hold", async || (daemon.looks().await > before + 40.0).then_some(())).await;
    assert!(daemon.incidents().await.is_empty());
    assert_eq!((site.ran().len(), site.running().as_str()), (0, "v2"));
    daemon.stop().await;
}

/// Longer than the step may take with all its limits: its end came in time, and was only read late.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_stopped_for_a_minute_during_a_step_takes_its_end_when_it_goes_on() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    site.script("touch ROOT/began\nsleep 1");
    let mut file = File { service: "notify = [\"team\"]".to_owned(), more: tables, ..File::default() };
    file.level = file.level.replace("timeout = \"60s\"", "timeout = \"20s\"");
    write(&site, &file);
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    until("the step", async || site.path("began").exists().then_some(())).await;
    stopped_for_a_minute(&daemon).await;
    notices_that_it_was_stopped(&daemon).await;
    let incident = daemon.incident("recovered").await;
    let steps = incident["levels"][0]["steps"].as_array().unwrap();
    assert_eq!((steps.len(), steps[0]["outcome"].as_str()), (1, Some("succeeded")), "{incident}");
    assert_eq!(site.ran(), ["v1"]);
    receiver.told("recovered").await;
    // It was blind as well, and told so.
    let of_incident = receiver.notices().into_iter().filter(|notice| !notice["incident"].is_null());
    let told: Vec<String> = of_incident.map(|notice| notice["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, ["started", "level_finished", "recovered"], "nothing is told twice, nobody is called");
    daemon.stop().await;
}

/// Above the command is a helper of backstop's own. Killed with it, neither the command nor what it started lives on.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_helper_leaves_behind_is_ended_and_a_person_is_called() {
    let site = Site::new();
    // In a session of its own, where neither the group of the command nor its parent leads to it.
    site.script(
        "setsid sh -c 'while :; do sleep 0.1; done' &\nsetsid sleep 300 &\nsleep 0.3\ntouch ROOT/began\nsleep 300",
    );
    site.write(&File::default());
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    until("the step", async || site.path("began").exists().then_some(())).await;
    let below = descendants(daemon.pid());
    assert!(below.len() >= 5, "helper, script and three that it started: {below:?}");
    let (helper, _) = below[0];
    kill_process(Pid::from_raw(i32::try_from(helper).unwrap()).unwrap(), Signal::KILL).unwrap();
    let incident = daemon.incident("needs_human").await;
    let step = &incident["levels"][0]["steps"][0];
    assert_eq!(step["outcome"], "ambiguous", "{incident}");
    assert_eq!(alive(&below), [], "by the time that a person is called");
    looks(&daemon).await;
    assert_eq!((site.ran().len(), site.running().as_str()), (1, "v2"), "it is not run again");
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
    looks(&daemon).await;
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
