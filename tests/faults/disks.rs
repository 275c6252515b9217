//! A disk that is full, and one that fails: no rollback starts that could not be remembered; watching goes on.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::places::{can_attach, inside, sh};
use super::process::Daemon;
use super::site::{File, Receiver, Site, until};

/// A site whose state is on a file system of its own. Only inside of a mount namespace.
fn on_a_small_disk(more: &str) -> (Site, Receiver) {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    site.write(&File {
        service: "notify = [\"team\"]".to_owned(),
        more: format!("{tables}\n{more}"),
        ..File::default()
    });
    fs::create_dir(site.path("state")).unwrap();
    sh(&format!("mount -t tmpfs -o size=24m backstop-test {}", site.path("state").display()));
    (site, receiver)
}

/// Takes every byte that is left.
fn fill(site: &Site) -> PathBuf {
    let ballast = site.path("state/ballast");
    let mut file = fs::File::options().create(true).append(true).open(&ballast).unwrap();
    while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    ballast
}

fn reserved(site: &Site) -> u64 {
    fs::metadata(site.path("state/reserve")).unwrap().len()
}

/// Not ready, and why, everywhere that people and programs look.
async fn says_that_it_cannot_write(daemon: &Daemon) {
    until("not ready", async || {
        let (status, text) = daemon.text("/readyz").await?;
        (status == 503 && text.contains("the journal cannot be written since")).then_some(())
    })
    .await;
    assert_eq!(daemon.text("/healthz").await, Some((200, "ok\n".to_owned())), "a restart would not mend it");
    let shown = String::from_utf8(daemon.cli(&["status"]).stdout).unwrap();
    assert!(shown.contains("NO ROLLBACK CAN START: the journal cannot be written since"), "{shown}");
    assert!(daemon.metric("backstop_journal_writing").await.abs() < f64::EPSILON);
    assert!(daemon.log().contains("the journal cannot be written; no new rollback starts until it can"));
}

async fn is_ready(daemon: &Daemon) {
    until("readiness", async || (daemon.text("/readyz").await?.0 == 200).then_some(())).await;
}

/// Long enough that a rollback would have begun.
async fn looks_on(daemon: &Daemon) {
    let looks = "backstop_looks_total{service=\"api\",source=\"app\"}";
    let before = daemon.metric(looks).await;
    until("more looks", async || (daemon.metric(looks).await > before + 20.0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs inside of a_full_disk_has_room_for_one_incident_and_then_starts_none"]
async fn inside_a_full_disk() {
    let (site, receiver) = on_a_small_disk("");
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    assert_eq!(reserved(&site), 4 * 1024 * 1024);
    let ballast = fill(&site);
    site.deploy("v2");
    daemon.incident("recovered").await;
    receiver.told("recovered").await;
    assert_eq!((site.ran().len(), site.running().as_str()), (1, "v1"));
    assert_eq!(receiver.types(), ["started", "level_finished", "recovered"]);

    // The space that was kept for that one is used up as well.
    fs::remove_file(site.path("state/windows")).unwrap_or_default();
    fill(&site);
    site.app.set(|mood| mood.broken.extend(["v3".to_owned()]));
    site.deploy("v3");
    fill(&site);
    // It may have had a page left for a while.
    until("an entry that does not fit", async || {
        fill(&site);
        let status = daemon.get("/v1/status").await;
        (status["journal"]["state"] == "failing" && status["services"][0]["running"]["release"] == "v3").then_some(())
    })
    .await;
    says_that_it_cannot_write(&daemon).await;
    let refused = daemon.refused(&["rollback", "api", "--reason", "by hand"], 69);
    assert!(refused.contains("journal"), "{refused}");
    looks_on(&daemon).await;
    assert_eq!((site.ran().len(), site.running().as_str()), (1, "v3"));

    fs::remove_file(ballast).unwrap();
    is_ready(&daemon).await;
    let incident = daemon.incident("recovered").await;
    assert_eq!((incident["release_bad"].as_str(), site.ran().len()), (Some("v3"), 2));
    receiver.told("degraded").await;
    until("the space for an incident", async || (reserved(&site) == 4 * 1024 * 1024).then_some(())).await;
    daemon.stop().await;
}

#[test]
fn a_full_disk_has_room_for_one_incident_and_then_starts_none() {
    inside(&["--mount"], "disks::inside_a_full_disk");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs inside of a_daemon_that_starts_on_a_full_disk_uses_its_reserve_or_says_what_is_wrong"]
async fn inside_a_disk_that_was_full_before() {
    let (site, _receiver) = on_a_small_disk("");
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    daemon.stop().await;
    let ballast = fill(&site);

    let daemon = Daemon::start(&site).await;
    assert!(daemon.log().contains("the space reserved for an incident is given up to start"), "{}", daemon.log());
    site.deploy("v2");
    daemon.incident("recovered").await;
    assert_eq!((site.ran().len(), site.running().as_str()), (1, "v1"));
    daemon.stop().await;

    fs::remove_file(site.path("state/reserve")).unwrap();
    fill(&site);
    let mut daemon = Daemon::spawn(&site, &[]);
    assert_eq!(daemon.ended().await.code(), Some(1));
    assert!(daemon.log().contains("is full, and no space is reserved there any more: free some"), "{}", daemon.log());
    fs::remove_file(ballast).unwrap();
    let daemon = Daemon::start(&site).await;
    assert_eq!(daemon.incident("recovered").await["release_bad"], "v2", "nothing was lost by it");
    is_ready(&daemon).await;
    assert_eq!(site.ran().len(), 1);
    daemon.stop().await;
}

#[test]
fn a_daemon_that_starts_on_a_full_disk_uses_its_reserve_or_says_what_is_wrong() {
    inside(&["--mount"], "disks::inside_a_disk_that_was_full_before");
}

/// strace, attached to a daemon, whose syncs fail until this is gone.
struct FailingSyncs(Child);

impl FailingSyncs {
    async fn attach(daemon: &Daemon) -> FailingSyncs {
        let pid = daemon.pid().to_string();
        let inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"];
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null"]).args(inject).args(["-p", &pid]);
        let strace = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("all threads to be traced", async || {
            let traced = |task: fs::DirEntry| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            };
            let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
            tasks.all(traced).then_some(())
        })
        .await;
        FailingSyncs(strace)
    }
}

impl Drop for FailingSyncs {
    /// TERM, and not KILL: strace lets go of the daemon first.
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, Signal::TERM).unwrap_or_default();
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_syncs_fail_no_rollback_starts_and_it_goes_on_by_itself_afterwards() {
    if !can_attach() {
        return;
    }
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    site.write(&File { service: "notify = [\"team\"]".to_owned(), more: tables, ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    let failing = FailingSyncs::attach(&daemon).await;
    site.deploy("v2");
    says_that_it_cannot_write(&daemon).await;
    let status = daemon.get("/v1/status").await;
    assert!(status["journal"]["why"].as_str().unwrap().contains("I/O error"), "{}", status["journal"]);
    looks_on(&daemon).await;
    assert!(site.ran().is_empty());
    assert_eq!(daemon.service().await["running"]["release"], "v2", "it sees all the same");

    drop(failing);
    is_ready(&daemon).await;
    daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1"]);
    receiver.told("recovered").await;
    // Told before it could be written, and again when it was over.
    let degraded: Vec<_> = receiver.notices().into_iter().filter(|notice| notice["type"] == "degraded").collect();
    assert_eq!(degraded.len(), 2, "{degraded:?}");
    assert_eq!((degraded[0]["status"].as_str(), degraded[1]["status"].as_str()), (Some("firing"), Some("resolved")));
    daemon.stop().await;
    let daemon = Daemon::start(&site).await;
    assert_eq!(daemon.incident("recovered").await["release_bad"], "v2");
    daemon.stop().await;
}

/// It is not needed for any promise: only held time is lost with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_written_stops_nothing() {
    let site = Site::new();
    site.write(&File::default());
    fs::create_dir_all(site.path("state/windows.new/in-the-way")).unwrap();
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    until("the log's word", async || daemon.log().contains("cannot write the checkpoint").then_some(())).await;
    site.deploy("v2");
    daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}
