//! What a daemon that was stopped or killed still owes.

use std::fs;
use std::time::Duration;

use backstop::decide::event::{Entry, IncidentEvent, Record};
use backstop::time::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::process::{Being, Daemon, alive, descendants};
use super::site::{File, Receiver, Site, until};
use super::wire::Refusing;

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_for_the_whole_incident_gets_every_notice_although_the_daemon_is_killed_twice() {
    let site = Site::new();
    let port = Refusing::new();
    site.write(&File {
        service: "notify = [\"team\"]".to_owned(),
        verify: "{ within = \"60s\", soak = \"5s\" }",
        more: Receiver::tables(port.address),
        ..File::default()
    });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let verifying = daemon.incident("verifying").await;
    daemon.kill().await;

    let daemon = Daemon::start(&site).await;
    let recovered = daemon.incident("recovered").await;
    assert_eq!(recovered["id"], verifying["id"]);
    assert_eq!(site.ran(), ["v1"]);
    daemon.kill().await;

    let daemon = Daemon::start(&site).await;
    until("an attempt that was refused", async || {
        let status = daemon.get("/v1/status").await;
        let receiver = &status["receivers"][0];
        assert_eq!(receiver["dead"], 0);
        receiver["last_error"].is_string().then_some(())
    })
    .await;
    let receiver = Receiver::open(port);
    until("the last notice", async || receiver.types().contains(&"recovered".to_owned()).then_some(())).await;
    until("an empty outbox", async || {
        (daemon.metric("backstop_outbox_depth{receiver=\"team\"}").await == 0.0).then_some(())
    })
    .await;
    let notices = once_each(receiver.notices());
    let told: Vec<_> = notices.iter().map(|notice| notice["type"].as_str().unwrap()).collect();
    assert_eq!(told, ["started", "level_finished", "recovered"]);
    for (place, notice) in notices.iter().enumerate() {
        assert_eq!(notice["seq"], place + 1);
        assert_eq!(notice["incident"], verifying["id"]);
        assert_eq!(notice["dedup_key"], notices[0]["dedup_key"]);
        let last = place == 2;
        assert_eq!(notice["outdated"], !last, "{notice}");
        assert_eq!(notice["status"], if last { "resolved" } else { "firing" });
        assert_eq!(notice["text"].as_str().unwrap().starts_with("No longer true"), !last, "{notice}");
    }
    daemon.stop().await;
}

/// Without repetitions, which may come but are the same notice.
fn once_each(notices: Vec<Value>) -> Vec<Value> {
    let mut once: Vec<Value> = Vec::new();
    for notice in notices {
        assert!(notice["forged"].is_null(), "{notice}");
        match once.iter().find(|seen| seen["id"] == notice["id"]) {
            Some(seen) => assert_eq!((&seen["seq"], &seen["type"]), (&notice["seq"], &notice["type"])),
            None => once.push(notice),
        }
    }
    once
}

/// Blocks until somebody writes into the pipe, and leaves a grandchild behind that no signal but KILL ends.
const BLOCKS: &str = r"
if [ -e ROOT/blocks ]; then
    (setsid /bin/sh -c 'trap '' '' TERM HUP INT; echo $$ > ROOT/tmp.$$; mv ROOT/tmp.$$ ROOT/grandchild; exec sleep 300' &)
    read -r line < ROOT/pipe
fi";

/// Kills the daemon in the middle of its step; gives what it had started.
async fn killed_in_a_step(site: &Site, file: &File) -> Vec<Being> {
    site.script(BLOCKS);
    site.write(file);
    fs::write(site.path("blocks"), "").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(site.path("pipe")).status().unwrap().success());
    let daemon = Daemon::start(site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let grandchild =
        until("the grandchild", async || fs::read_to_string(site.path("grandchild")).ok()?.trim().parse::<u32>().ok())
            .await;
    until("the step's start in the journal", async || {
        daemon.events().iter().any(|event| matches!(event, IncidentEvent::StepStarted { .. })).then_some(())
    })
    .await;
    let started = descendants(daemon.pid());
    assert!(started.iter().any(|(pid, _)| *pid == grandchild), "{started:?} without {grandchild}");
    daemon.kill().await;
    until("the end of all that it had started", async || alive(&started).is_empty().then_some(())).await;
    fs::remove_file(site.path("blocks")).unwrap();
    started
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_the_daemon_died_in_is_not_run_again_and_a_person_is_called() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    let file = File { service: "notify = [\"team\"]".to_owned(), more: tables, ..File::default() };
    killed_in_a_step(&site, &file).await;

    let daemon = Daemon::start(&site).await;
    let incident = daemon.incident("needs_human").await;
    let step = &incident["levels"][0]["steps"][0];
    assert_eq!(step["outcome"], "ambiguous", "{incident}");
    assert_eq!(step["attempt"], 1);
    let notice = receiver.told("needs_human").await;
    assert_eq!(notice["action_required"], true);
    assert_eq!(receiver.types(), ["started", "step_failed", "needs_human"]);
    // It looks at the service again and again, and still does nothing.
    let looks = "backstop_looks_total{service=\"api\",source=\"app\"}";
    until("some more looks", async || (daemon.metric(looks).await > 10.0).then_some(())).await;
    assert_eq!(site.ran(), ["v1"], "the script was started once");
    assert_eq!(site.running(), "v2");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_step_that_the_daemon_died_in_is_run_again() {
    let site = Site::new();
    let mut file = File::default();
    file.level = file.level.replace(", timeout", ", idempotent = true, timeout");
    killed_in_a_step(&site, &file).await;

    let daemon = Daemon::start(&site).await;
    let incident = daemon.incident("recovered").await;
    let steps = incident["levels"][0]["steps"].as_array().unwrap();
    let outcomes: Vec<_> = steps.iter().map(|step| (step["attempt"].as_u64(), step["outcome"].as_str())).collect();
    assert_eq!(outcomes, [(Some(1), Some("ambiguous")), (Some(2), Some("succeeded"))]);
    assert_eq!(site.ran(), ["v1", "v1"]);
    assert_eq!(site.running(), "v1");
    daemon.stop().await;
}

async fn held(daemon: &Daemon) -> Duration {
    let trigger = daemon.trigger("broken").await;
    humantime::parse_duration(trigger["held"].as_str().unwrap()).unwrap()
}

fn at(records: &[Record], which: impl Fn(&Entry) -> bool) -> Timestamp {
    records.iter().rev().find(|record| which(&record.entry)).expect("it is in the journal").at
}

/// After a restart what is missing is held, no more and no less: `had` at most, `had_least` at least were credited.
async fn goes_on_holding(site: &Site, hold: Duration, had_least: Duration, had: Duration) {
    let daemon = Daemon::start(site).await;
    // From zero it would take longer to get there than any machine needs for an answer.
    let at_first = held(&daemon).await;
    assert!(at_first >= had_least, "{at_first:?} after the start, and {had_least:?} before");
    daemon.incident("recovered").await;
    let records = daemon.records();
    let started = at(&records, |entry| matches!(entry, Entry::DaemonStarted { .. }));
    let opened = at(
        &records,
        |entry| matches!(entry, Entry::Incident { event, .. } if matches!(**event, IncidentEvent::Opened { .. })),
    );
    let took = opened.since(started);
    assert!(
        took >= hold.saturating_sub(had),
        "it fired {took:?} after the start, with {had:?} of {hold:?} held before"
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_goes_on_after_an_orderly_restart() {
    let (site, hold) = (Site::new(), Duration::from_secs(15));
    site.write(&File { hold: "15s", ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    let deployed = Instant::now();
    site.deploy("v2");
    let had_least =
        until("a third of the hold", async || Some(held(&daemon).await).filter(|held| *held >= Duration::from_secs(5)))
            .await;
    assert!(daemon.incidents().await.is_empty());
    daemon.stop().await;
    // It went on holding until it ended, but not for longer than v2 was there.
    goes_on_holding(&site, hold, had_least, deployed.elapsed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_goes_on_from_the_last_checkpoint_after_a_kill() {
    let (site, hold) = (Site::new(), Duration::from_secs(25));
    site.write(&File { hold: "25s", ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    let deployed = Instant::now();
    site.deploy("v2");
    let saved = || fs::metadata(site.path("state/windows")).and_then(|file| file.modified()).ok();
    let had_least =
        until("some of the hold", async || Some(held(&daemon).await).filter(|held| *held >= Duration::from_secs(1)))
            .await;
    // Held time is credited as of a checkpoint. One may be on its way to the disk already; what the next one after it
    // saves was taken later than this.
    for _ in 0..2 {
        let before = saved();
        until("a checkpoint in the middle of the hold", async || (saved() != before).then_some(())).await;
    }
    assert!(daemon.incidents().await.is_empty());
    daemon.kill().await;
    goes_on_holding(&site, hold, had_least, deployed.elapsed()).await;
}
