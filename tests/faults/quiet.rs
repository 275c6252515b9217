//! What must not lead to a rollback, though a release has just come; and `backstop status` says why in one line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::Daemon;
use super::site::{File, Receiver, Site, until};
use super::wire::{Reply, Server};

/// A daemon that has just seen the release v2, with these tables more.
async fn after_a_release(site: &Site, more: &str) -> Daemon {
    site.app.set(|mood| mood.broken.clear());
    site.write(&File { more: more.to_owned(), ..File::default() });
    let daemon = Daemon::start(site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    until("v2", async || (daemon.service().await["running"]["release"] == "v2").then_some(())).await;
    daemon
}

async fn looks(daemon: &Daemon, more: f64) {
    let before = daemon.looks().await;
    until("more looks", async || (daemon.looks().await > before + more).then_some(())).await;
}

/// So long that every hold here would have been full.
async fn nothing_happens(site: &Site, daemon: Daemon) {
    looks(&daemon, 30.0).await;
    assert!(daemon.incidents().await.is_empty());
    assert!(site.ran().is_empty());
    assert_eq!(site.running(), "v2");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_gap_is_not_a_breach() {
    let site = Site::new();
    let daemon = after_a_release(&site, "").await;
    // What it would say, if it were heard, is that v2 is broken.
    site.app.set(|mood| {
        mood.broken.insert("v2".to_owned());
        mood.instead = Some(Reply::Hang);
    });
    daemon.says("broken ", "blind").await;
    daemon.says("scrape app ", "down").await;
    nothing_happens(&site, daemon).await;
}

fn requests(ok: u32, failed: u32) -> String {
    format!("# TYPE req counter\nreq{{status=\"200\"}} {ok}\nreq{{status=\"500\"}} {failed}\n")
}

const ERRORS: &str = "[services.api.triggers.errors]\nratio = { part = 'req{status=~\"5..\"}', whole = 'req', window = \
                      \"1s\", widen_to = \"3s\" }\nabove = \"15%\"\nfor = \"500ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_request_at_low_traffic_is_not_a_breach() {
    let site = Site::new();
    site.app.set(|mood| mood.more = requests(1000, 0));
    let daemon = after_a_release(&site, ERRORS).await;
    daemon.says("errors ", "0 events, 20 are needed").await;
    // A third of all that there is.
    site.app.set(|mood| mood.more = requests(1002, 1));
    daemon.says("errors ", "3 events, 20 are needed").await;
    let breached = "backstop_findings_total{service=\"api\",trigger=\"errors\",finding=\"breached\"}";
    assert!(daemon.metric(breached).await.abs() < f64::EPSILON);
    nothing_happens(&site, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_that_stops_is_not_a_breach() {
    let site = Site::new();
    site.app.set(|mood| mood.more = requests(1000, 0));
    let daemon = after_a_release(&site, ERRORS).await;
    daemon.says("errors ", "0 events, 20 are needed").await;
    nothing_happens(&site, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_reset_is_not_a_breach() {
    let site = Site::new();
    site.app.set(|mood| mood.more = requests(1000, 900));
    let daemon = after_a_release(&site, ERRORS).await;
    // The new process counts from zero, and has one failure in ten requests.
    let mut n = 0;
    until("30 looks at a process that began anew", async || {
        n += 1;
        site.app.set(|mood| mood.more = requests(9 * n, n));
        let clear = "backstop_findings_total{service=\"api\",trigger=\"errors\",finding=\"clear\"}";
        (daemon.metric(clear).await > 30.0).then_some(())
    })
    .await;
    let breached = "backstop_findings_total{service=\"api\",trigger=\"errors\",finding=\"breached\"}";
    assert!(daemon.metric(breached).await.abs() < f64::EPSILON);
    daemon.says("errors ", "quiet").await;
    nothing_happens(&site, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_is_down_is_not_a_breach() {
    let site = Site::new();
    let prometheus = Server::start(|request| {
        assert!(request.path.starts_with("/federate?"), "{}", request.path);
        Reply::metrics("# TYPE job_errors gauge\njob_errors 0\n".to_owned())
    });
    let tables = format!(
        "[services.api.scrapes.prometheus]\nurl = \"http://{}/federate?match%5B%5D=job_errors\"\ninterval = \"100ms\"\n\
         timeout = \"100ms\"\n[services.api.triggers.job]\nexpr = \"job_errors\"\nabove = 0.5\n",
        prometheus.address
    );
    let daemon = after_a_release(&site, &tables).await;
    until("a clear finding", async || (daemon.trigger("job").await["finding"] == "clear").then_some(())).await;
    drop(prometheus);
    daemon.says("job ", "blind").await;
    daemon.says("scrape prometheus ", "refused").await;
    nothing_happens(&site, daemon).await;
}

/// A database of its own process, with a service `db` that watches it, and on which `api` depends.
#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_that_fails_without_a_release_is_held_and_then_told_to_people() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    let down = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&down);
    let answer = move |_| Reply::json(if seen.load(Ordering::Relaxed) { 503 } else { 200 }, &serde_json::json!({}));
    let database = Server::start(answer);
    let address = database.address;
    let db = format!(
        "[services.db.probes.ping]\nhttp = {{ url = \"http://{address}/\" }}\n\
         interval = \"100ms\"\ntimeout = \"100ms\"\n\
         [services.db.triggers.down]\nhealth = {{ probe = \"ping\", failures = 3 }}\ngap_tolerance = \"20s\"\n"
    );
    site.write(&File {
        service: "notify = [\"team\"]".to_owned(),
        guard: "dependencies = [\"db\"]".to_owned(),
        more: format!("{tables}\n{db}"),
        ..File::default()
    });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    // The database fails, and api for it: nobody deployed anything.
    down.store(true, Ordering::Relaxed);
    daemon.says("down ", "firing").await;
    site.app.set(|mood| mood.broken.extend(["v1".to_owned()]));
    println!("{}", daemon.says("open incident ", "db: down breaches since").await);
    looks(&daemon, 40.0).await;
    assert!(site.ran().is_empty());

    // It answers again, and api does not recover by that: a person is told, and still nothing is rolled back.
    down.store(false, Ordering::Relaxed);
    println!("{}", daemon.says("open incident ", "no release").await);
    receiver.told("escalated").await;
    looks(&daemon, 40.0).await;
    assert!(site.ran().is_empty());
    assert_eq!(site.running(), "v1");
    daemon.stop().await;
}
