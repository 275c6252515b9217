//! From the notice to the step: the real daemon behind an address that a proxy would have.

use std::fs;
use std::net::SocketAddr;

use reqwest::{Method, Response};
use rustix::process::Signal;

use super::process::Daemon;
use super::site::{File, Receiver, Site, until};

/// Where people would reach the listener; nobody answers there.
const OUTSIDE: &str = "https://backstop.example.com/ops";
const ORIGIN: &str = "https://backstop.example.com";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A site whose service asks before it acts, and tells `team`. `policy`: more lines of the severity.
struct Asking {
    site: Site,
    receiver: Receiver,
    file: File,
}

fn asking(policy: &str, more: &str) -> Asking {
    let site = Site::new();
    fs::write(site.path("key"), format!("{KEY}\n")).unwrap();
    let (receiver, tables) = Receiver::start();
    let approvals = format!(
        "[daemon.approvals]\nlisten = \"127.0.0.1:0\"\nexternal_url = \"{OUTSIDE}/\"\nkey = {{ file = \"ROOT/key\" }}\n{more}\n"
    );
    let severity = format!("[services.api.severity.high]\n{policy}\n");
    let file = File {
        autonomy: "propose",
        service: "notify = [\"team\"]".to_owned(),
        more: format!("{tables}\n{approvals}\n{severity}"),
        ..File::default()
    };
    site.write(&file);
    Asking { site, receiver, file }
}

impl Asking {
    /// v2 is broken, and the notice with its link has come.
    async fn asked(&self, daemon: &Daemon) -> Link {
        daemon.knows_good("v1").await;
        self.site.deploy("v2");
        Link::of(&self.receiver.told("approval_requested").await["approve_url"])
    }

    fn listener(&self) -> SocketAddr {
        let log = fs::read_to_string(self.site.path("log")).unwrap();
        let line = log.lines().rev().find(|line| line.contains("links in notices are answered here")).expect("told");
        let address = line.split("listen=").nth(1).expect("an address");
        address.split_whitespace().next().unwrap().trim_matches('"').parse().unwrap()
    }

    async fn ask(&self, method: Method, path: &str, form: Option<&str>, headers: &[(&str, &str)]) -> Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, format!("http://{}{path}", self.listener()));
        if let Some(form) = form {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn open(&self, link: &Link) -> (u16, String) {
        shown(self.ask(Method::GET, &link.path, None, &[]).await).await
    }

    /// As a browser sends it that opened the page at its outer address.
    async fn press(&self, link: &Link, form: &str) -> (u16, String) {
        let headers = [("origin", ORIGIN), ("sec-fetch-site", "same-origin"), ("host", "backstop.example.com")];
        shown(self.ask(Method::POST, &link.path, Some(form), &headers).await).await
    }
}

async fn shown(response: Response) -> (u16, String) {
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("form-action 'self'"));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    assert!(response.headers()["x-robots-tag"].to_str().unwrap().starts_with("noindex"));
    (response.status().as_u16(), response.text().await.unwrap())
}

#[derive(Clone, Debug)]
struct Link {
    /// With the prefix, as a proxy passes it on.
    path: String,
    token: String,
}

impl Link {
    fn of(url: &serde_json::Value) -> Link {
        let url = url.as_str().expect("a link");
        let token = url.strip_prefix(&format!("{OUTSIDE}/approve/")).expect("the outer address").to_owned();
        Link { path: format!("/ops/approve/{token}"), token }
    }

    fn with_token(token: &str) -> Link {
        Link { path: format!("/ops/approve/{token}"), token: token.to_owned() }
    }
}

async fn state(daemon: &Daemon) -> String {
    daemon.incidents().await[0]["state"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_changes_nothing_and_the_button_rolls_back_once() {
    let asking = asking("approvers = [\"link:team\"]", "");
    let daemon = Daemon::start(&asking.site).await;
    let link = asking.asked(&daemon).await;
    let events = daemon.events().len();
    for _ in 0..2 {
        let (status, page) = asking.open(&link).await;
        assert_eq!(status, 200, "{page}");
        for part in ["Roll api back?", "v2", "v1", "previous release", "link:team", "app_broken", "value=\"approve\""] {
            assert!(page.contains(part), "{part} is missing: {page}");
        }
        assert!(!page.contains("<script") && !page.contains("src="), "{page}");
        let head = asking.ask(Method::HEAD, &link.path, None, &[]).await;
        assert_eq!(head.status(), 200);
    }
    assert_eq!((state(&daemon).await.as_str(), daemon.events().len()), ("proposed", events));
    assert!(asking.site.ran().is_empty());

    let (status, page) = asking.press(&link, "answer=approve&reason=Ada%2C+it+burns").await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("<h1>Approved</h1>"), "{page}");
    let incident = daemon.incident("recovered").await;
    assert_eq!(asking.site.ran(), ["v1"]);
    let person = &incident["people"][0];
    assert_eq!((person["did"].as_str(), person["reason"].as_str()), (Some("approved"), Some("Ada, it burns")));
    assert!(person["actor"].as_str().unwrap().contains("link:team"), "{person}");

    // Used up, in whatever way it is asked.
    for (status, page) in [
        asking.press(&link, "answer=approve").await,
        asking.press(&link, "answer=decline").await,
        asking.open(&link).await,
    ] {
        assert_eq!(status, 410, "{page}");
        assert!(page.contains("This question is over") && page.contains("approved: Ada, it burns"), "{page}");
        assert!(!page.contains("<form"), "{page}");
    }
    assert_eq!((asking.site.ran().len(), daemon.events().iter().filter(|event| is_approval(event)).count()), (1, 1));
    let counted =
        async |result: &str| daemon.metric(&format!("backstop_approval_links_total{{result=\"{result}\"}}")).await;
    assert_eq!((counted("shown").await, counted("approved").await, counted("over").await), (4.0, 1.0, 3.0));

    // The token is nowhere but in the notice.
    let (_, status) = daemon.text("/v1/status").await.unwrap();
    for text in [daemon.log(), status, incident.to_string(), format!("{:?}", daemon.records())] {
        assert!(text.contains("api") && !text.contains(&link.token) && !text.contains(KEY), "{text}");
    }
    for file in fs::read_dir(asking.site.path("state")).unwrap().map(|file| file.unwrap().path()) {
        let Ok(bytes) = fs::read(&file) else { continue };
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds(&link.token) && !holds(KEY), "{}", file.display());
    }
    daemon.stop().await;
}

fn is_approval(event: &backstop::decide::event::IncidentEvent) -> bool {
    matches!(event, backstop::decide::event::IncidentEvent::Approved { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_learns_nothing_and_changes_nothing() {
    let asking = asking("", "");
    let daemon = Daemon::start(&asking.site).await;
    let link = asking.asked(&daemon).await;
    let altered = |at: usize| {
        let mut bytes = link.token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        Link::with_token(std::str::from_utf8(&bytes).unwrap())
    };
    // In the name of the incident, and in the signature.
    let forged = [altered(6), altered(link.token.len() - 20)];
    let malformed = [
        Link::with_token("x"),
        Link::with_token(&link.token[..link.token.len() - 9]),
        Link::with_token(&"A".repeat(9000)),
    ];
    let of = |links: &[Link], status: u16| links.iter().map(|link| (link.clone(), status)).collect::<Vec<_>>();
    for (bad, expected) in [of(&forged, 403), of(&malformed, 404)].concat() {
        for (status, page) in [asking.open(&bad).await, asking.press(&bad, "answer=approve").await] {
            assert_eq!(status, expected, "{page}");
            for secret in ["api", "v1", "v2", "team", "app_broken"] {
                assert!(!page.contains(secret), "{secret} stands there: {page}");
            }
        }
    }
    // Nothing else is served here, and the prefix is part of the path.
    for path in ["/", "/ops", "/ops/", "/ops/approve/", "/metrics", "/v1/status", "/healthz", "/ops/v1/status", "/opsx"]
    {
        assert_eq!(asking.ask(Method::GET, path, None, &[]).await.status(), 404, "{path}");
    }
    let bare = link.path.strip_prefix("/ops").unwrap();
    assert_eq!(asking.ask(Method::POST, bare, Some("answer=approve"), &[]).await.status(), 404);
    for method in [Method::PUT, Method::DELETE, Method::OPTIONS] {
        let refused = asking.ask(method, &link.path, None, &[]).await;
        assert_eq!((refused.status().as_u16(), refused.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD, POST"));
    }
    assert_eq!(state(&daemon).await, "proposed");

    // Another key: what was genuine is not, until the old one is named beside it.
    let other = "fedcba9876543210fedcba9876543210";
    fs::write(asking.site.path("key"), other).unwrap();
    assert_eq!(asking.press(&link, "answer=approve").await.0, 403);
    fs::write(asking.site.path("key"), "too short").unwrap();
    assert_eq!(asking.press(&link, "answer=approve").await.0, 503);
    assert_eq!(state(&daemon).await, "proposed");
    fs::write(asking.site.path("key"), other).unwrap();
    fs::write(asking.site.path("old"), KEY).unwrap();
    let more =
        asking.file.more.replace("{ file = \"ROOT/key\" }", "[{ file = \"ROOT/key\" }, { file = \"ROOT/old\" }]");
    asking.site.write(&File { more, ..asking.file.clone() });
    daemon.signal(Signal::HUP);
    until("the reload", async || (daemon.get("/v1/status").await["generation"] == 2).then_some(())).await;
    assert_eq!(asking.press(&link, "answer=approve").await.0, 200);
    daemon.incident("recovered").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_another_page_sends_is_refused() {
    let asking = asking("", "");
    let daemon = Daemon::start(&asking.site).await;
    let link = asking.asked(&daemon).await;
    let inside = format!("http://{}", asking.listener());
    let foreign: [&[(&str, &str)]; 7] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://backstop.example.com")],
        &[("origin", "https://backstop.example.com:8443")],
        // Where the proxy sends it to is not where people are.
        &[("origin", inside.as_str())],
        &[("sec-fetch-site", "cross-site")],
        &[("origin", ORIGIN), ("sec-fetch-site", "same-site")],
    ];
    for headers in foreign {
        let (status, page) = shown(asking.ask(Method::POST, &link.path, Some("answer=approve"), headers).await).await;
        assert_eq!(status, 403, "{headers:?}: {page}");
        assert!(!page.contains("v2"), "{page}");
    }
    for (form, kind, expected) in [
        ("answer=approve", "text/plain", 415),
        ("{\"answer\":\"approve\"}", "application/json", 415),
        ("", "application/x-www-form-urlencoded", 422),
        ("answer=maybe", "application/x-www-form-urlencoded", 422),
        ("answer=approve&answer=decline", "application/x-www-form-urlencoded", 422),
    ] {
        let headers = [("content-type", kind)];
        let answered = asking.ask(Method::POST, &link.path, None, &headers).await;
        assert!(answered.status() != 200);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = client.post(format!("{inside}{}", link.path)).header("content-type", kind).body(form).send().await;
        assert_eq!(sent.unwrap().status(), expected, "{form} as {kind}");
    }
    for length in [5 * 1024, 64 * 1024] {
        let form = format!("answer=approve&reason={}", "x".repeat(length));
        assert_eq!(asking.press(&link, &form).await.0, 413);
    }
    assert_eq!((state(&daemon).await.as_str(), asking.site.ran().len()), ("proposed", 0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_may_not_approve_says_who_may_and_may_decline() {
    let asking = asking("approvers = [\"alice\", \"link:other\"]", "");
    let daemon = Daemon::start(&asking.site).await;
    let link = asking.asked(&daemon).await;
    let (status, page) = asking.open(&link).await;
    assert_eq!(status, 200);
    assert!(page.contains("alice, link:other") && !page.contains("value=\"approve\""), "{page}");
    let (status, page) = asking.press(&link, "answer=approve&reason=alice").await;
    assert_eq!(status, 403, "{page}");
    assert!(page.contains("may be approved by alice, link:other, not by whoever has a link of team"), "{page}");
    assert_eq!(state(&daemon).await, "proposed");

    let (status, page) = asking.press(&link, "answer=decline&reason=mended").await;
    assert_eq!(status, 200, "{page}");
    let incident = daemon.incident("declined").await;
    assert_eq!((incident["people"][0]["did"].as_str(), asking.site.ran().len()), (Some("declined"), 0));
    let (status, page) = asking.press(&link, "answer=approve").await;
    assert_eq!(status, 410, "{page}");
    assert!(page.contains("declined: mended"), "{page}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_outlives_a_restart_and_stays_used_up_over_one() {
    let asking = asking("", "");
    let daemon = Daemon::start(&asking.site).await;
    let link = asking.asked(&daemon).await;
    daemon.stop().await;
    let daemon = Daemon::start(&asking.site).await;
    until("a look after the start", async || (daemon.looks().await > 3.0).then_some(())).await;
    assert_eq!(asking.open(&link).await.0, 200);
    let told = asking.receiver.types();
    assert_eq!(told, ["approval_requested"], "nobody is asked twice");
    assert_eq!(asking.press(&link, "answer=approve").await.0, 200);
    daemon.incident("recovered").await;
    daemon.stop().await;

    let daemon = Daemon::start(&asking.site).await;
    let (status, page) = asking.press(&link, "answer=approve").await;
    assert_eq!(status, 410, "{page}");
    assert_eq!(asking.site.ran(), ["v1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_an_older_question_is_refused() {
    let asking = asking("", "");
    let daemon = Daemon::start(&asking.site).await;
    let link = asking.asked(&daemon).await;
    let id = daemon.incidents().await[0]["id"].as_str().unwrap().to_owned();
    daemon.json(&["hold", &id, "--for", "10m", "--reason", "a fix comes"]);
    let (status, page) = asking.press(&link, "answer=approve").await;
    assert_eq!(status, 410, "{page}");
    assert!(page.contains("held") && page.contains("a fix comes"), "{page}");
    daemon.json(&["unhold", &id, "--reason", "the fix did not help"]);
    daemon.incident("proposed").await;
    for (status, page) in [asking.open(&link).await, asking.press(&link, "answer=approve").await] {
        assert_eq!(status, 409, "{page}");
        assert!(page.contains("It asks another question by now"), "{page}");
    }
    assert_eq!(state(&daemon).await, "proposed");
    let asked = || asking.receiver.notices().into_iter().filter(|notice| notice["type"] == "approval_requested");
    let latest = until("the second notice", async || asked().nth(1)).await;
    assert_eq!(asking.press(&Link::of(&latest["approve_url"]), "answer=approve").await.0, 200);
    daemon.incident("recovered").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_expires_before_its_question_where_the_file_says_so() {
    let asking = asking("", "expires_after = \"2s\"");
    let daemon = Daemon::start(&asking.site).await;
    let link = asking.asked(&daemon).await;
    let (_, page) =
        until("its end", async || Some(asking.open(&link).await).filter(|(status, _)| *status != 200)).await;
    assert!(page.contains("This link has expired") && page.contains("still open"), "{page}");
    let (status, page) = asking.press(&link, "answer=approve").await;
    assert_eq!((status, page.contains("This link has expired")), (410, true), "{page}");
    assert_eq!((state(&daemon).await.as_str(), asking.site.ran().len()), ("proposed", 0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_without_links_gets_none_and_a_key_that_fails_holds_up_no_notice() {
    let asking = asking("", "");
    let with = |more: &str| asking.file.more.replace("[receivers.team]\n", &format!("[receivers.team]\n{more}\n"));
    asking.site.write(&File { more: with("approve_link = false"), ..asking.file.clone() });
    let daemon = Daemon::start(&asking.site).await;
    daemon.knows_good("v1").await;
    asking.site.deploy("v2");
    let told = asking.receiver.told("approval_requested").await;
    assert!(told["approve_url"].is_null() && told["respond_by"].is_string(), "{told}");

    // The second question comes while the key cannot be read.
    asking.site.write(&asking.file);
    daemon.signal(Signal::HUP);
    until("the reload", async || (daemon.get("/v1/status").await["generation"] == 2).then_some(())).await;
    fs::remove_file(asking.site.path("key")).unwrap();
    let id = daemon.incidents().await[0]["id"].as_str().unwrap().to_owned();
    daemon.json(&["hold", &id, "--for", "10m", "--reason", "a fix comes"]);
    daemon.json(&["unhold", &id, "--reason", "it did not help"]);
    let asked = || asking.receiver.notices().into_iter().filter(|notice| notice["type"] == "approval_requested");
    let second = until("the second notice", async || asked().nth(1)).await;
    assert!(second["approve_url"].is_null(), "{second}");
    assert!(daemon.log().contains("sent without its link: cannot read the secret file"), "{}", daemon.log());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_a_reload_brings_wait_for_the_restart_that_opens_their_listener() {
    let asking = asking("", "");
    let (before, rest) = asking.file.more.split_once("[daemon.approvals]").unwrap();
    let severity = &rest[rest.find("[services").unwrap()..];
    asking.site.write(&File { more: format!("{before}{severity}"), ..asking.file.clone() });
    let daemon = Daemon::start(&asking.site).await;
    daemon.knows_good("v1").await;
    asking.site.write(&asking.file);
    daemon.signal(Signal::HUP);
    until("the reload", async || (daemon.get("/v1/status").await["generation"] == 2).then_some(())).await;
    assert!(daemon.log().contains("daemon.approvals.listen has changed; it stays as it was until a restart"));
    asking.site.deploy("v2");
    let told = asking.receiver.told("approval_requested").await;
    assert!(told["approve_url"].is_null(), "it would lead nowhere: {told}");
    daemon.stop().await;
}
