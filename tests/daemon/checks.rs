//! Checks by real commands: what proves a recovery, what stops a rollback, and whether the way back is there.

use std::fs;

use backstop::decide::event::{CheckOutcome, IncidentEvent};

use super::process::Daemon;
use super::site::{File, Receiver, Site, until};

/// A script that says yes while the file of the same name is there, and says why not otherwise.
fn yes_while_there(site: &Site, name: &str, why: &str) {
    let file = site.path(name);
    let script = format!("test -e '{}' && exit 0\necho \"{why} $1\"\nexit 3\n", file.display());
    fs::write(site.path(&format!("{name}.sh")), script).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smoke_test_must_pass_before_an_incident_counts_as_recovered() {
    let site = Site::new();
    yes_while_there(&site, "warm", "still cold on");
    let verify = r#"{ within = "60s", soak = "500ms", serves = "target", checks = [
  { name = "smoke", command = ["/bin/sh", "ROOT/warm.sh", "{{ release.target }}"], every = "1s", timeout = "30s" },
] }"#;
    site.write(&File { verify, ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let answers = |daemon: &Daemon| -> Vec<CheckOutcome> {
        let events = daemon.events().into_iter().filter_map(|event| match event {
            IncidentEvent::CheckAnswered { outcome, .. } => Some(outcome),
            _ => None,
        });
        events.collect()
    };
    until("an answer of the smoke test", async || (!answers(&daemon).is_empty()).then_some(())).await;
    assert_eq!(site.running(), "v1");
    assert_eq!(answers(&daemon), [CheckOutcome::Failed("exit status 3: still cold on v1".to_owned())]);
    assert_eq!(daemon.incidents().await[0]["state"], "verifying", "the triggers are quiet, the smoke test is not");
    fs::write(site.path("warm"), "").unwrap();
    let incident = daemon.incident("recovered").await;
    assert_eq!(answers(&daemon).last(), Some(&CheckOutcome::Passed));
    let id = incident["id"].as_str().unwrap();
    let (_, report) = daemon.text(&format!("/v1/incidents/{id}/report")).await.expect("a report");
    assert!(report.contains("The check smoke fails: exit status 3: still cold on v1"), "{report}");
    assert!(report.contains("The check smoke passes"), "{report}");
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocker_by_command_stops_the_rollback_until_it_does_not_hold() {
    let site = Site::new();
    yes_while_there(&site, "fits", "0042 drops a column of");
    let (receiver, tables) = Receiver::start();
    let more = format!(
        r#"[services.api.guard.blockers.schema]
command = ["/bin/sh", "ROOT/fits.sh", "{{{{ release.bad }}}}"]
says = "old code cannot read the new schema"
timeout = "20s"
max_age = "40s"
{tables}"#
    );
    let service = "notify = [\"team\"]".to_owned();
    site.write(&File { service, more, ..File::default() });
    let daemon = Daemon::start_with(&site, &[("TEAM_SECRET", super::site::SECRET)]).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let incident = daemon.incident("escalated").await;
    let says = "old code cannot read the new schema (blocker schema: exit status 3: 0042 drops a column of v2)";
    assert_eq!(incident["sentence"], says);
    let told = receiver.told("escalated").await;
    assert!(told["text"].as_str().unwrap().contains(says), "{told}");
    assert!(site.ran().is_empty());
    let answer = daemon.refused(&["rollback", "api", "--reason", "drill", "--override", "shema"], 65);
    assert!(answer.contains("there are: schema"), "{answer}");
    daemon.cli(&["rollback", "api", "--reason", "the column is empty", "--override", "schema"]);
    daemon.incident("recovered").await;
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_is_gone_is_told_before_it_is_needed() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    let guard = r#"ready = [{ name = "on disk", command = ["test", "-d", "ROOT/images/v1"], timeout = "10s" }]
ready_every = "10s""#
        .to_owned();
    fs::create_dir_all(site.path("images/v1")).unwrap();
    site.app.set(|mood| mood.broken.clear());
    let service = "notify = [\"team\"]".to_owned();
    site.write(&File { service, guard, more: tables, ..File::default() });
    let daemon = Daemon::start_with(&site, &[("TEAM_SECRET", super::site::SECRET)]).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let asked = async |standing: &str| {
        let service = daemon.service().await;
        let asked = service["asked"].as_array().cloned().unwrap_or_default();
        asked.into_iter().find(|asked| asked["standing"] == standing)
    };
    until("the first look", async || asked("free").await).await;
    let sample = "backstop_way_back_ready{service=\"api\",check=\"on disk\"}";
    assert!((daemon.metric(sample).await - 1.0).abs() < f64::EPSILON);
    fs::remove_dir(site.path("images/v1")).unwrap();
    let told = receiver.told("degraded").await;
    assert_eq!(told["text"], "api: v1 could not be gone back to: on disk: exit status 1");
    let gone = until("the next look", async || asked("holds").await).await;
    assert_eq!(gone["sentence"], "v1 cannot be gone back to: on disk: exit status 1");
    assert!(daemon.metric(sample).await.abs() < f64::EPSILON);
    site.app.set(|mood| mood.broken.extend(["v2".to_owned()]));
    let incident = daemon.incident("escalated").await;
    assert_eq!(incident["sentence"], "v1 cannot be gone back to: on disk: exit status 1");
    assert!(site.ran().is_empty());
    daemon.stop().await;
}
