//! What must not lead to a rollback: nothing known, too little known, and a breach that no release explains.

use std::fmt::Write as _;

use super::process::Daemon;
use super::site::{File, Receiver, Site, until};
use super::wire::{Reply, Server};

const HTML: &str = "<!doctype html><html><body>502 Bad Gateway</body></html>\n";

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_hang_truncate_or_serve_html_are_counted_by_reason_and_nothing_is_rolled_back() {
    let site = Site::new();
    let (receiver, mut tables) = Receiver::start();
    let broken = "# TYPE app_broken gauge\napp_broken 1\n".to_owned();
    let kind = "text/plain; version=0.0.4";
    // All three come with the release: what they would say is that it is broken.
    let deaf = [
        ("hangs", Reply::Hang, "timeout"),
        ("truncates", Reply::CutShort { kind, body: broken.clone() }, "body"),
        ("html", Reply::Full { status: 200, kind: "text/html", body: HTML.to_owned() }, "content_type"),
        ("html-as-text", Reply::Full { status: 200, kind, body: HTML.to_owned() }, "exposition"),
        ("error", Reply::Full { status: 503, kind, body: broken }, "status"),
    ];
    let mut servers = Vec::new();
    for (name, reply, _) in &deaf {
        let (current, reply) = (site.path("current"), reply.clone());
        let server = Server::start(move |_| {
            let target = std::fs::read_link(&current).unwrap();
            if target.ends_with("v1") { Reply::metrics("app_broken 0\n".to_owned()) } else { reply.clone() }
        });
        write!(
            tables,
            "[services.api.scrapes.{name}]\nurl = \"http://{}/metrics\"\ninterval = \"250ms\"\ntimeout = \"250ms\"\n",
            server.address
        )
        .unwrap();
        let expr = format!("expr = 'app_broken{{job=\"{name}\"}}'");
        // Longer than a busy machine needs to see what works, so that only what is deaf is blind.
        write!(tables, "[services.api.triggers.{name}]\n{expr}\nabove = 0.5\ngap_tolerance = \"5s\"\n").unwrap();
        servers.push(server);
    }
    site.app.set(|mood| mood.broken.clear());
    site.write(&File { service: "notify = [\"team\"]".to_owned(), more: tables, ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    for (name, _, reason) in &deaf {
        let sample = format!("backstop_scrape_failures_total{{service=\"api\",source=\"{name}\",reason=\"{reason}\"}}");
        until(&format!("failures of {name}: {reason}"), async || (daemon.metric(&sample).await >= 12.0).then_some(()))
            .await;
        let blind = format!("backstop_verdict{{service=\"api\",trigger=\"{name}\",verdict=\"blind\"}}");
        until(&format!("{name} to be blind"), async || (daemon.metric(&blind).await > 0.0).then_some(())).await;
    }
    assert!(daemon.incidents().await.is_empty());
    assert!(site.ran().is_empty());
    // Not seeing is told, once for each.
    for (name, _, _) in &deaf {
        let words = format!("trigger {name} is blind");
        let told = || receiver.notices().iter().filter(|notice| notice["text"].to_string().contains(&words)).count();
        until(&words, async || (told() > 0).then_some(())).await;
        assert_eq!(told(), 1, "{words}: {:?}", receiver.notices());
    }
    assert_eq!(site.running(), "v2");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_request_at_low_traffic_is_no_error_rate() {
    let site = Site::new();
    let requests = |ok: u32, failed: u32| {
        format!("# TYPE req counter\nreq{{status=\"200\"}} {ok}\nreq{{status=\"500\"}} {failed}\n")
    };
    site.app.set(|mood| {
        mood.broken.clear();
        mood.more = requests(100, 0);
    });
    let rate = "[services.api.triggers.errors]\nratio = { part = 'req{status=~\"5..\"}', whole = 'req', window = \
                \"1s\", widen_to = \"6s\" }\nabove = \"15%\"";
    site.write(&File { more: rate.to_owned(), ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    let finding =
        |finding: &str| format!("backstop_findings_total{{service=\"api\",trigger=\"errors\",finding=\"{finding}\"}}");
    // Enough traffic once, so that it is known to have been right before the release.
    site.app.set(|mood| mood.more = requests(150, 0));
    until("a clear finding", async || (daemon.metric(&finding("clear")).await > 0.0).then_some(())).await;

    site.deploy("v2");
    until("v2", async || (daemon.service().await["running"]["release"] == "v2").then_some(())).await;
    // The window has to fill first: what the old release did does not count.
    let needs = async |have: &str| {
        until(&format!("{have} where 20 are needed"), async || {
            let trigger = daemon.trigger("errors").await;
            let few = trigger["sentence"].as_str().unwrap().contains(&format!("{have}, 20 are needed"));
            (few && trigger["finding"] == "unknown").then_some(trigger)
        })
        .await
    };
    needs("0 events").await;
    site.app.set(|mood| mood.more = requests(152, 1));
    let trigger = needs("3 events").await;
    assert_ne!(trigger["verdict"], "blind", "too little traffic is in the nature of things: {trigger}");
    let unknown = daemon.metric(&finding("unknown")).await;
    until("20 more looks", async || (daemon.metric(&finding("unknown")).await > unknown + 20.0).then_some(())).await;
    assert!(daemon.metric(&finding("breached")).await.abs() < f64::EPSILON);
    assert!(daemon.incidents().await.is_empty());

    // The same share of enough requests is one.
    site.app.set(|mood| mood.more = requests(192, 21));
    // Customers go on buying, and it takes them to prove the recovery.
    let mut ok = 192;
    until("the recovery", async || {
        if !site.ran().is_empty() {
            ok += 30;
            site.app.set(|mood| mood.more = requests(ok, 21));
        }
        daemon.incidents().await.iter().any(|incident| incident["state"] == "recovered").then_some(())
    })
    .await;
    assert_eq!(site.ran(), ["v1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_without_a_change_of_the_release_calls_people() {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    site.write(&File { service: "notify = [\"team\"]".to_owned(), more: tables, ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.app.set(|mood| mood.broken.extend(["v1".to_owned(), "v3".to_owned()]));
    let incident = daemon.incident("escalated").await;
    assert_eq!(incident["release_bad"], "v1");
    let notice = receiver.told("escalated").await;
    assert_eq!(notice["action_required"], true);
    assert_eq!(notice["guard"]["decision"], "escalate");

    // A deployment in the middle of the outage is not to blame, and not hindered.
    site.deploy("v3");
    receiver.told("superseded").await;
    let incident = daemon.incident("escalated").await;
    assert_eq!(incident["release_bad"], "v3");
    let reason = &incident["decision"]["reasons"][0];
    assert_eq!(reason["code"], "before_release", "{incident}");
    // It was mended by hand.
    site.app.set(|mood| mood.broken.clear());
    daemon.incident("cleared").await;
    assert!(site.ran().is_empty());
    receiver.told("recovered").await;
    assert_eq!(receiver.types(), ["escalated", "superseded", "escalated", "recovered"]);
    assert_eq!(site.running(), "v3");
    daemon.stop().await;
}
