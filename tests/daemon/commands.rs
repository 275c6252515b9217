//! The command line against a running daemon: what each command does there, its exit code, and its JSON.

use std::fs;

use super::process::Daemon;
use super::site::{File, Receiver, Site, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_to_read() {
    let site = Site::new();
    site.write(&File::default());
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    assert_eq!(daemon.json(&["incidents"])["incidents"], serde_json::json!([]));
    site.deploy("v2");
    daemon.incident("recovered").await;

    let status = daemon.json(&["status"]);
    let service = &status["services"][0];
    assert_eq!((service["name"].as_str(), service["autonomy"].as_str()), (Some("api"), Some("act")));
    assert_eq!(service["running"], serde_json::json!({ "state": "one", "release": "v1" }));
    let incidents = daemon.json(&["incidents", "--service", "api"]);
    let incident = &incidents["incidents"][0];
    let id = incident["id"].as_str().unwrap();
    assert_eq!((incident["release_bad"].as_str(), incident["state"].as_str()), (Some("v2"), Some("recovered")));
    assert_eq!(daemon.json(&["incidents", "--open"])["incidents"], serde_json::json!([]));
    let report = daemon.json(&["report", id]);
    assert_eq!(report["levels"][0]["state"], "helped");
    assert!(report["times"][0]["recover"].is_string(), "{report}");
    let markdown = String::from_utf8(daemon.cli(&["report", id]).stdout).unwrap();
    assert!(markdown.starts_with("# ") && markdown.contains(id) && markdown.contains("switched to v1"), "{markdown}");
    for table in [daemon.cli(&["status"]), daemon.cli(&["status", "api"]), daemon.cli(&["incidents"])] {
        assert!(table.status.success());
        assert!(String::from_utf8(table.stdout).unwrap().contains("api"));
    }
    assert!(daemon.refused(&["report", "api-4711"], 65).contains("there is no incident api-4711"));

    // Without the daemon: nothing answers, but the journal tells of incidents.
    let (socket, state) = (daemon.socket.clone(), site.path("state"));
    let id = id.to_owned();
    daemon.stop().await;
    let asked = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_backstop"));
        command.args(arguments).arg("--socket").arg(&socket).output().unwrap()
    };
    assert_eq!(asked(&["status"]).status.code(), Some(69));
    let offline = asked(&["report", &id, "--json", "--state-dir", state.to_str().unwrap()]);
    assert!(offline.status.success());
    let offline: serde_json::Value = serde_json::from_slice(&offline.stdout).unwrap();
    assert_eq!((&offline["state"], &offline["levels"]), (&report["state"], &report["levels"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_waits_for_a_person_who_approves() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    site.write(&File {
        autonomy: "propose",
        service: "notify = [\"team\"]".to_owned(),
        more: tables,
        ..File::default()
    });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let incident = daemon.incident("proposed").await;
    let id = incident["id"].as_str().unwrap();
    let asked = receiver.told("approval_requested").await;
    assert_eq!((asked["action_required"].as_bool(), asked["release"]["target"].as_str()), (Some(true), Some("v1")));
    assert_eq!(incident["release_target"], "v1", "whoever approves can see where it goes");
    assert!(incident["respond_by"].is_string());
    assert!(site.ran().is_empty());
    assert!(daemon.refused(&["approve", "api-4711"], 65).contains(id), "it names the open one");

    let answer = daemon.json(&["approve", id, "--reason", "go"]);
    assert_eq!(answer["incident"], id);
    let incident = daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1"]);
    let person = &incident["people"][0];
    assert_eq!(person["reason"], "go");
    assert!(daemon.refused(&["approve", id], 65).contains("nothing is proposed"));
    until("the last notice", async || receiver.types().contains(&"recovered".to_owned()).then_some(())).await;
    assert_eq!(receiver.types(), ["approval_requested", "started", "level_finished", "recovered"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_proposal_and_an_expired_one_change_nothing() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    let file = File {
        autonomy: "propose",
        service: "notify = [\"team\"]\nrespond_within = \"1m\"".to_owned(),
        more: tables,
        ..File::default()
    };
    site.app.set(|mood| mood.broken.extend(["v3".to_owned()]));
    site.write(&file);
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let incident = daemon.incident("proposed").await;
    let id = incident["id"].as_str().unwrap();
    let answer = daemon.json(&["decline", id, "--reason", "fixed forward"]);
    assert_eq!(answer["incident"], id);
    assert!(receiver.told("declined").await["text"].as_str().unwrap().contains("fixed forward"));
    assert!(daemon.refused(&["decline", id], 65).contains("nothing is proposed"));
    assert!(daemon.refused(&["acknowledge", id], 65).contains("it is over"));
    let shown = || String::from_utf8(daemon.cli(&["status"]).stdout).unwrap();
    let why = format!("{id} is declined: nothing more happens until this clears or another release runs");
    until(&why, async || shown().contains(&why).then_some(())).await;

    // The fix is good for a while, and the next release is not.
    let service = "notify = [\"team\"]\nrespond_within = \"1s\"".to_owned();
    site.write(&File { service, ..file });
    daemon.signal(rustix::process::Signal::HUP);
    until("the reload", async || (daemon.get("/v1/status").await["generation"] == 2).then_some(())).await;
    site.app.set(|mood| {
        mood.broken.remove("v2");
    });
    daemon.knows_good("v2").await;
    until("no more of that", async || (!shown().contains("nothing more happens")).then_some(())).await;
    site.deploy("v3");
    let expired = daemon.incident("expired").await;
    assert_eq!(expired["release_bad"], "v3");
    let notice = receiver.told("expired").await;
    assert_eq!((notice["status"].as_str(), notice["release"]["target"].as_str()), (Some("resolved"), Some("v2")));
    assert_eq!(receiver.types(), ["approval_requested", "declined", "approval_requested", "expired"]);
    assert!(site.ran().is_empty());
    assert_eq!(site.running(), "v3");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_by_hand_needs_no_breach_and_its_release_can_be_forgotten() {
    let site = Site::new();
    site.app.set(|mood| mood.broken.clear());
    // By hand skips what backstop may do by itself; probes prove the rest, for no trigger fired.
    let probe = format!(
        "[services.api.probes.alive]\nhttp = {{ url = \"http://{}/\" }}\ninterval = \"1s\"\ntimeout = \"1s\"",
        site.app.address()
    );
    site.write(&File {
        autonomy: "observe",
        verify: "{ within = \"60s\", soak = \"300ms\", probes = [\"alive\"] }",
        more: probe,
        ..File::default()
    });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    assert!(daemon.refused(&["rollback", "shop", "--reason", "x"], 65).contains("there is no service"));
    assert!(daemon.refused(&["rollback", "api", "--level", "2", "--reason", "x"], 65).contains("levels 1 to 1"));
    assert!(daemon.refused(&["rollback", "api", "--reason", "x"], 65).contains("no earlier release"));
    assert!(site.ran().is_empty());

    site.deploy("v2");
    until("v2", async || (daemon.service().await["running"]["release"] == "v2").then_some(())).await;
    let answer = daemon.json(&["rollback", "api", "--reason", "checkout fails"]);
    let id = answer["incident"].as_str().unwrap();
    let incident = daemon.incident("recovered").await;
    assert_eq!(incident["id"], id);
    assert_eq!((site.running().as_str(), site.ran().len()), ("v1", 1));
    assert!(incident["people"][0]["reason"].as_str().unwrap().contains("checkout fails"), "{incident}");

    let marked = async || {
        let service = daemon.service().await;
        let releases = service["releases"].as_array().unwrap();
        releases.iter().find(|release| release["name"] == "v2").unwrap()["bad"].clone()
    };
    assert_eq!(marked().await, true);
    assert!(daemon.json(&["forget", "api", "v2"])["message"].as_str().unwrap().contains("no longer marked bad"));
    assert_eq!(marked().await, false);
    assert!(daemon.refused(&["forget", "api", "v2"], 65).contains("v2"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_and_resuming_lets_go() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    site.write(&File { service: "notify = [\"team\"]".to_owned(), more: tables, ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    assert!(daemon.refused(&["resume", "api"], 65).contains("it is not paused"));
    daemon.json(&["pause", "api", "--for", "10m", "--reason", "migration"]);
    assert_eq!(daemon.service().await["pause"]["reason"], "migration");
    site.deploy("v2");
    let incident = daemon.incident("held").await;
    assert_eq!(incident["decision"]["reasons"][0]["code"], "paused");
    daemon.json(&["resume", "api"]);
    daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1"]);
    until("the last notice", async || receiver.types().contains(&"recovered".to_owned()).then_some(())).await;
    let types = receiver.types();
    assert_eq!(types, ["paused", "held", "resumed", "started", "level_finished", "recovered"]);

    // Of everything, and it ends by itself.
    daemon.json(&["pause", "--for", "300ms", "--reason", "a moment"]);
    until("the end of the pause", async || daemon.get("/v1/status").await["pause"].is_null().then_some(())).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_holds_by_command_and_by_file() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    let (service, kill) = ("notify = [\"team\"]".to_owned(), site.path("state/KILL"));
    site.write(&File { service, more: tables, ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    assert!(daemon.refused(&["kill-switch", "off", "--reason", "x"], 65).contains("the kill switch is not on"));
    daemon.json(&["kill-switch", "on", "--reason", "moving the database"]);
    site.deploy("v2");
    let incident = daemon.incident("held").await;
    assert_eq!(incident["decision"]["reasons"][0]["code"], "kill_switch");
    // The same by a file, which an operator can make when nothing else works.
    fs::write(&kill, "stop it\n").unwrap();
    let paused = || receiver.types().iter().filter(|kind| *kind == "paused").count();
    until("the file is seen", async || (paused() == 2).then_some(())).await;
    daemon.json(&["kill-switch", "off", "--reason", "moved"]);
    assert_eq!(daemon.get("/v1/status").await["kill_switch"]["reason"], "stop it");
    assert!(daemon.refused(&["kill-switch", "off", "--reason", "x"], 65).contains("remove it to turn it off"));
    assert!(daemon.refused(&["rollback", "api", "--reason", "now"], 65).contains("the kill switch is on: stop it"));
    assert!(site.ran().is_empty());
    fs::remove_file(&kill).unwrap();
    daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1"]);
    until("the end of it", async || receiver.types().contains(&"resumed".to_owned()).then_some(())).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_releases_and_test_notices_come_in_from_outside() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    let trigger = "[services.api.triggers.cve]\nsignal = \"vulnerability\"\ngate = \"none\"\nautonomy = \"propose\"\n";
    site.app.set(|mood| mood.broken.clear());
    site.write(&File {
        service: "notify = [\"team\"]".to_owned(),
        more: format!("{tables}\n{trigger}"),
        ..File::default()
    });
    let text = fs::read_to_string(site.config()).unwrap();
    let symlink = format!("{{ symlink = \"{}/current\", interval = \"100ms\" }}", site.root().display());
    assert!(text.contains(&symlink));
    fs::write(site.config(), text.replace(&symlink, "{ announced = true }")).unwrap();
    let daemon = Daemon::start(&site).await;
    until("the first look at the signal", async || (daemon.trigger("cve").await["finding"] == "clear").then_some(()))
        .await;
    assert_eq!(daemon.trigger("cve").await["sentence"], "not raised");

    assert!(daemon.json(&["test-notify", "team"])["message"].as_str().unwrap().contains("team"));
    assert_eq!(receiver.told("test").await["status"], "resolved");
    assert!(daemon.refused(&["test-notify", "nobody"], 65).contains("team"), "it names those that there are");

    for release in ["v1", "v2"] {
        daemon.json(&["release", "api", release, "--begin"]);
        daemon.json(&["release", "api", release]);
        until(release, async || (daemon.service().await["running"]["release"] == release).then_some(())).await;
        daemon.knows_good(release).await;
    }
    assert!(daemon.refused(&["release", "shop", "v3"], 65).contains("there is no service"));

    assert!(daemon.refused(&["signal", "api", "weather"], 65).contains("vulnerability"));
    daemon.json(&["signal", "api", "vulnerability", "--for", "5m", "--detail", "CVE-2026-1"]);
    let signal = daemon.service().await["signals"][0].clone();
    assert_eq!((signal["name"].as_str(), signal["detail"].as_str()), (Some("vulnerability"), Some("CVE-2026-1")));
    let incident = daemon.incident("proposed").await;
    assert_eq!(incident["triggers"], serde_json::json!(["cve"]));
    daemon.json(&["signal", "api", "vulnerability", "--clear"]);
    daemon.incident("cleared").await;
    assert!(daemon.refused(&["signal", "api", "vulnerability", "--clear"], 65).contains("is not raised"));
    assert!(site.ran().is_empty());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_reminded_until_one_acknowledges() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    let mut file =
        File { service: "notify = [\"team\"]\nremind_every = \"300ms\"".to_owned(), more: tables, ..File::default() };
    file.level = file.level.replace(", timeout", ", on_failure = \"stop\", timeout");
    site.script("exit 3");
    site.write(&file);
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let incident = daemon.incident("needs_human").await;
    assert_eq!(incident["levels"][0]["steps"][0]["detail"], "exit status 3");
    let id = incident["id"].as_str().unwrap();
    let reminders = || receiver.types().iter().filter(|kind| *kind == "needs_human").count();
    until("reminders", async || (reminders() >= 3).then_some(())).await;
    assert_eq!(daemon.json(&["acknowledge", id])["incident"], id);
    assert_eq!(daemon.incident("needs_human").await["acknowledged"], true);
    until("an empty outbox", async || {
        (daemon.metric("backstop_outbox_depth{receiver=\"team\"}").await == 0.0).then_some(())
    })
    .await;
    let told = reminders();
    let looks = "backstop_looks_total{service=\"api\",source=\"app\"}";
    let seen = daemon.metric(looks).await;
    until("a second of looks", async || (daemon.metric(looks).await > seen + 10.0).then_some(())).await;
    assert_eq!(reminders(), told, "no reminder after that");

    // A person takes it from there: the same level again, by hand.
    site.script("");
    daemon.json(&["rollback", "api", "--level", "1", "--reason", "the script is mended"]);
    daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1", "v1"]);
    daemon.stop().await;
}
