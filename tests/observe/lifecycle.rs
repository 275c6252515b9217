use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use axum::routing::get;
use backstop::config::model::{DetectorSource, DetectorSpec, ProbeKind};
use backstop::machine::input::Observation;
use backstop::observe::lane::lane;
use backstop::observe::{ObserveError, Observers};
use backstop::platform::clock::Clock;
use backstop::promql::TargetId;
use tokio::time::timeout;

use crate::support::{PATIENCE, Server, Watch, config, interest, nobody, probe, scrape, target};

async fn metrics() -> Server {
    Server::axum(axum::Router::new().route("/metrics", get(|| async { "x 1\ny 1\n" }))).await
}

/// The ids of targets that come up, by address, and those that are told gone.
fn comings(watch: &mut Watch) -> (BTreeMap<String, TargetId>, Vec<TargetId>) {
    let (mut up, mut gone) = (BTreeMap::new(), Vec::new());
    while let Some(observation) = watch.seen.try_recv() {
        match observation {
            Observation::TargetUp { target, key, .. } => drop(up.insert(key.address.to_string(), target)),
            Observation::TargetGone { target, .. } => gone.push(target),
            _ => {}
        }
    }
    (up, gone)
}

#[tokio::test]
async fn a_reload_keeps_the_tasks_and_ids_of_what_did_not_change() {
    let (a, b, c) = (metrics().await, metrics().await, metrics().await);
    let [a, b, c] = [&a, &b, &c].map(|server| server.url("/metrics"));
    let mut before = config(&["x"]);
    before.scrapes.push(scrape(&[&a, &b]));
    before.probes.push(probe(&nobody().to_string(), ProbeKind::Tcp));
    let mut watch = Watch::start(&before);
    let (up, gone) = comings(&mut watch);
    assert_eq!((up.len(), gone.len()), (3, 0));
    while watch.scraped().await.unwrap().generation != 1 {}

    let mut after = before.clone();
    after.interest = interest(2, &["y"]);
    after.scrapes[0].targets = vec![target(&c), target(&a)];
    after.probes[0].timeout = Duration::from_secs(1);
    watch.observers.reconfigure(&after).await.unwrap();

    let (mut came, mut gone, mut kept) = (BTreeMap::new(), Vec::new(), None);
    while kept.is_none() || came.len() < 2 {
        let observation = watch.first(|observation| Some(observation.clone())).await;
        match observation {
            Observation::TargetUp { target, key, .. } => {
                assert_eq!(gone.len(), 2, "what goes is told before what comes");
                came.insert(key.address.to_string(), target);
            }
            Observation::TargetGone { target, .. } => gone.push(target),
            Observation::Scraped { target, outcome, .. } if target == up[&a] => {
                let found = outcome.unwrap();
                if found.generation == 2 {
                    assert!(found.batch.rebind);
                    kept = Some(found.batch.born[0].1.name().to_owned());
                }
            }
            Observation::Scraped { target, .. } | Observation::Probed { target, .. } => {
                assert!(!gone.contains(&target), "nothing comes from a target that is gone");
            }
            _ => {}
        }
    }
    assert_eq!(kept.as_deref(), Some("y"), "the kept target selects by the new interest");
    gone.sort();
    let probe_address = before.probes[0].targets[0].address.to_string();
    let mut expected = vec![up[&b], up[&probe_address]];
    expected.sort();
    assert_eq!(gone, expected);
    assert_eq!(came.keys().cloned().collect::<Vec<_>>().len(), 2);
    let highest = up.values().max().unwrap();
    assert!(came.values().all(|id| id > highest), "ids are not given twice");
    assert!(came.contains_key(&c) && came.contains_key(&probe_address));
}

#[tokio::test]
async fn a_reload_that_cannot_be_observed_changes_nothing() {
    let server = metrics().await;
    let mut before = config(&["x"]);
    before.scrapes.push(scrape(&[&server.url("/metrics")]));
    let mut watch = Watch::start(&before);
    watch.scraped().await.unwrap();

    let mut after = before.clone();
    after.interest = interest(2, &["y"]);
    after.scrapes[0].client.tls.ca_file = Some(PathBuf::from("/nonexistent/ca.pem"));
    let error = watch.observers.reconfigure(&after).await.unwrap_err();
    assert!(matches!(error, ObserveError::Client { .. }));
    assert!(error.to_string().starts_with("scrape app of service api (http://127.0.0.1"), "{error}");
    for _ in 0..2 {
        assert_eq!(watch.scraped().await.unwrap().generation, 1);
    }
    assert_eq!(comings(&mut watch).1, [], "nothing was told gone");
}

#[tokio::test]
async fn what_is_wrong_in_itself_is_refused_at_the_start() {
    for (address, header) in [
        ("ftp://127.0.0.1/", "x-a"),
        ("metrics", "x-a"),
        ("http://127.0.0.1/", "two words"),
        ("http://me:hush@127.0.0.1/", "x-a"),
    ] {
        let mut config = config(&[]);
        config.scrapes.push(scrape(&[address]));
        let text = backstop::decide::event::TextOrSecret::Text("v".to_owned());
        config.scrapes[0].client.headers.insert(header.to_owned(), text);
        let error = Observers::start(&config, Clock::start(None, None), lane().0).unwrap_err();
        assert!(matches!(error, ObserveError::Invalid { .. }), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn stopping_does_not_wait_for_those_that_do_not_answer() {
    let silent = Server::silent().await;
    let mut config = config(&["x"]);
    config.scrapes.push(scrape(&[&silent.url("/metrics")]));
    let argv = vec!["sleep".to_owned(), "600".to_owned()];
    config.detectors.push(DetectorSpec {
        service: "api".into(),
        index: 0,
        interval: PATIENCE,
        kind: DetectorSource::Command { argv, timeout: PATIENCE },
    });
    let mut watch = Watch::start(&config);
    assert!(matches!(watch.seen.recv().await, Some(Observation::TargetUp { .. })));
    timeout(PATIENCE / 2, watch.observers.stop()).await.expect("stopped in time");
    // Every sender is gone with the observers, and no target was told gone.
    assert_eq!(watch.seen.recv().await, None);
}
