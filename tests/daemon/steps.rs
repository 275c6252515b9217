//! Steps over HTTP, and what they hand on.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::process::Daemon;
use super::site::{File, Site};
use super::wire::{Reply, Request, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_is_turned_off_over_http_and_what_the_service_answered_reaches_the_next_step() {
    let site = Site::new();
    let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
    let taken = Arc::clone(&asked);
    let flags = Server::start(move |request| {
        let mut asked = taken.lock().unwrap();
        asked.push(request);
        // The first answer is lost on its way.
        if asked.len() == 1 { Reply::Close } else { Reply::json(200, &json!({ "change": { "id": "chg-7" } })) }
    });
    fs::write(site.path("token"), "t0p-s3cret\n").unwrap();
    // The app is well again as soon as the change is applied, on the release that runs.
    let script = "echo \"$1 $2\" > \"$(dirname \"$0\")/applied\"\necho \"applied with $TOKEN\"\n";
    fs::write(site.path("apply.sh"), script).unwrap();
    let level = format!(
        r#"steps = [
  {{ http = {{ method = "PATCH", url = "http://{}/flags/new-checkout", json = {{ enabled = false, why = "{{{{ trigger }}}}" }}, bearer = {{ file = "ROOT/token" }}, capture = {{ change = "/change/id" }} }}, timeout = "60s", idempotent = true }},
  {{ command = ["/bin/sh", "ROOT/apply.sh", "{{{{ captures.change }}}}", "{{{{ release.bad }}}}"], env = {{ TOKEN = {{ file = "ROOT/token" }} }}, timeout = "60s" }},
]

[[services.api.rollback]]
name = "the release before"
verify = {{ within = "60s", soak = "500ms" }}
steps = [{{ command = ["/bin/sh", "ROOT/rollback.sh", "{{{{ release.target }}}}"] }}]"#,
        flags.address
    );
    site.write(&File { level, ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    let applied = site.path("applied");
    super::site::until("the change", async || applied.exists().then_some(())).await;
    site.app.set(|mood| mood.broken.clear());
    let incident = daemon.incident("recovered").await;
    assert_eq!(fs::read_to_string(applied).unwrap(), "chg-7 v2\n");
    assert!(site.ran().is_empty(), "the second level was not needed");
    assert_eq!(site.running(), "v2");

    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    let key = |request: &Request| request.headers["idempotency-key"].to_str().unwrap().to_owned();
    assert_eq!(key(&asked[0]), key(&asked[1]), "a repetition is the same request to the service");
    assert!(key(&asked[0]).contains(incident["id"].as_str().unwrap()));
    for request in &asked {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PATCH", "/flags/new-checkout"));
        assert_eq!(request.json(), json!({ "enabled": false, "why": "broken" }));
        assert_eq!(request.headers["authorization"], "Bearer t0p-s3cret");
    }
    let levels = incident["levels"].as_array().unwrap();
    assert_eq!((levels[0]["state"].as_str(), levels[1]["state"].as_str()), (Some("helped"), Some("not_tried")));
    let steps = levels[0]["steps"].as_array().unwrap();
    let outcomes: Vec<_> = steps.iter().map(|step| step["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ambiguous", "succeeded", "succeeded"], "{incident}");
    let printed = steps[2]["output"].as_str().unwrap();
    assert!(printed.starts_with("applied with ") && !printed.contains("t0p-s3cret"), "{printed}");
    assert!(!incident.to_string().contains("t0p-s3cret") && !daemon.log().contains("t0p-s3cret"));
    daemon.stop().await;
}
