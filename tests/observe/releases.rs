use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::get;
use backstop::config::model::{Config, DetectorSource, DetectorSpec, ReferenceSpec};
use backstop::machine::input::Observation;

use crate::support::{INTERVAL, PATIENCE, Server, Watch, config, nobody};

fn with_detector(kind: DetectorSource) -> Config {
    let mut config = config(&[]);
    config.detectors.push(DetectorSpec { service: "api".into(), index: 2, interval: INTERVAL, kind });
    config
}

/// Replaces a symlink as deployments do: in one step.
fn relink(target: &str, link: &Path) {
    let new = link.with_extension("new");
    symlink(target, &new).unwrap();
    std::fs::rename(&new, link).unwrap();
}

#[tokio::test]
async fn a_symlink_is_followed_from_release_to_release() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("current");
    let mut watch = Watch::start(&with_detector(DetectorSource::Symlink(link.clone())));
    let first = watch.first(|observation| Some(observation.clone())).await;
    let Observation::Release { service, detector, outcome: Err(why), .. } = first else { panic!("{first:?}") };
    assert_eq!((&*service, detector), ("api", 2));
    assert!(why.ends_with("current does not exist"), "{why}");
    for release in ["releases/v1", "/opt/api/releases/v2/"] {
        relink(release, &link);
        let name = Path::new(release).file_name().unwrap().to_str().unwrap();
        watch.release(|found| *found != Ok(name.to_owned())).await.unwrap();
    }
    relink("releases/not a name", &link);
    let why = watch.release(Result::is_ok).await.unwrap_err();
    assert!(why.contains("cannot name a release"), "{why}");
    std::fs::remove_file(&link).unwrap();
    std::fs::write(&link, "").unwrap();
    watch.release(|found| !found.as_ref().is_err_and(|why| why.ends_with("is not a symlink"))).await.unwrap_err();
}

#[tokio::test]
async fn a_command_names_the_release_by_its_first_line() {
    for (script, expected) in [
        ("echo v7; echo more", Ok("v7")),
        ("echo '  registry/shop@sha256:00  '", Ok("registry/shop@sha256:00")),
        ("echo v7; exit 1", Err("it exited with 1")),
        ("true", Err("is empty")),
        ("echo; echo v7", Err("is empty")),
        ("echo '$(reboot)'", Err("cannot name a release")),
        ("echo v7; head -c 100000 /dev/zero", Err("printed more than")),
        ("echo v7; exec sleep 600", Err("it did not end within")),
    ] {
        let argv = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        let timeout = if script.contains("sleep") { Duration::from_millis(200) } else { PATIENCE };
        let mut watch = Watch::start(&with_detector(DetectorSource::Command { argv, timeout }));
        let found = watch.release(|_| false).await;
        match expected {
            Ok(name) => assert_eq!(found, Ok(name.to_owned()), "{script}"),
            Err(part) => assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{script}: {found:?}"),
        }
        watch.observers.stop().await;
    }
}

#[tokio::test]
async fn a_reference_is_up_when_it_answers_anything() {
    let broken =
        Server::axum(axum::Router::new().route("/", get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "broken") })))
            .await;
    let silent = Server::silent().await;
    let refused = nobody();
    for (url, expected) in [(broken.url("/"), true), (silent.url("/"), false), (format!("http://{refused}/"), false)] {
        let mut config = config(&[]);
        let timeout = if expected { PATIENCE } else { Duration::from_millis(300) };
        config.references.push(ReferenceSpec { name: "net".into(), url, interval: INTERVAL, timeout });
        let mut watch = Watch::start(&config);
        let (name, up) = watch
            .first(|observation| match observation {
                Observation::Reference { name, up, .. } => Some((name.clone(), *up)),
                _ => None,
            })
            .await;
        assert_eq!((&*name, up), ("net", expected));
    }
}
