//! Release detectors outside the process: a symlink's target, or the first line that a command prints.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::blocking::Blocking;
use super::lane::Sender;
use super::probe::command_ending;
use super::schedule::Ticks;
use crate::config::model::{DetectorSource, DetectorSpec};
use crate::machine::input::Observation;
use crate::platform::clock::Clock;
use crate::platform::process::{self, CommandOutcome, CommandSpec};

/// A link on a disk that hangs must not hold the detector up for ever.
const SYMLINK_LIMIT: Duration = Duration::from_secs(5);
/// Far more than one line that names a release; a command that prints more is not meant for this.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;
const GRACE: Duration = Duration::from_secs(1);

/// Whether a text from outside can name a release: `[A-Za-z0-9._:/@+-]{1,128}`, not beginning with `-`, since it may
/// become an argument of a command (DESIGN §7).
#[must_use]
pub fn is_release_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte))
}

/// Reads the detector until it is stopped. The first reading comes at once: until then nothing can be decided.
pub async fn run(spec: DetectorSpec, clock: Clock, lane: Sender, stop: CancellationToken) {
    let mut ticks = Ticks::new(Duration::ZERO, spec.interval);
    let mut links = Blocking::new();
    while ticks.next(&stop).await {
        // Before the reading: the old release was surely last seen then, however long its command took to say so.
        let at = clock.monotonic();
        let Some(outcome) = stop.run_until_cancelled(read(&spec.kind, &mut links)).await else { return };
        let outcome = outcome.and_then(|name| if is_release_name(&name) { Ok(name) } else { Err(not_a_name(&name)) });
        lane.send(Observation::Release { service: spec.service.clone(), detector: spec.index, at, outcome });
    }
}

fn not_a_name(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    format!("{shown:?} cannot name a release: 1 to 128 of A-Z a-z 0-9 . _ : / @ + - are allowed, not beginning with -")
}

async fn read(source: &DetectorSource, links: &mut Blocking<io::Result<PathBuf>>) -> Result<String, String> {
    match source {
        DetectorSource::Symlink(path) => symlink(path, links).await,
        DetectorSource::Command { argv, timeout } => command(argv.clone(), *timeout).await,
    }
}

async fn symlink(path: &Path, links: &mut Blocking<io::Result<PathBuf>>) -> Result<String, String> {
    let shown = path.display();
    let link = path.to_owned();
    let target = match links.run(SYMLINK_LIMIT, move || std::fs::read_link(link)).await {
        Some(Ok(target)) => target,
        Some(Err(error)) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => format!("{shown} does not exist"),
                io::ErrorKind::InvalidInput => format!("{shown} is not a symlink"),
                _ => format!("{shown} cannot be read: {error}"),
            });
        }
        None => return Err(format!("{shown} could not be read within {SYMLINK_LIMIT:?}")),
    };
    let name =
        target.file_name().ok_or_else(|| format!("{shown} points to {}, which has no last part", target.display()))?;
    let name = name.to_str().ok_or_else(|| format!("{shown} points to a name that is not UTF-8"))?;
    Ok(name.to_owned())
}

async fn command(argv: Vec<String>, limit: Duration) -> Result<String, String> {
    let program = argv.first().cloned().unwrap_or_default();
    let mut spec = CommandSpec::new(argv, limit);
    spec.grace = GRACE;
    spec.output_bytes_max = OUTPUT_BYTES_MAX;
    let end = process::run(spec, |_, _| ()).await;
    if end.outcome != CommandOutcome::Exited(0) {
        return Err(format!("{program}: {}", command_ending(&end.outcome, limit)));
    }
    if end.truncated {
        return Err(format!("{program} printed more than {OUTPUT_BYTES_MAX} bytes; its first line is lost"));
    }
    match end.output.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        Some(_) | None => Err(format!("the first line that {program} printed is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_releases() {
        for name in ["v1.2.3", "registry.example.com/shop@sha256:0a", "2026-11-20_1+rc", &"x".repeat(128)] {
            assert!(is_release_name(name), "{name}");
        }
        for name in ["", "-rf", "a b", "$(id)", "vé", "a\n", &"x".repeat(129)] {
            assert!(!is_release_name(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_symlink_names_the_release_by_its_last_part() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("current");
        let symlink = async |path: &Path| symlink(path, &mut Blocking::new()).await;
        let message = symlink(&link).await.unwrap_err();
        assert!(message.ends_with("current does not exist"), "{message}");
        std::os::unix::fs::symlink("/opt/api/releases/v41/", &link).unwrap();
        assert_eq!(symlink(&link).await, Ok("v41".to_owned()));
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("..", &link).unwrap();
        assert!(symlink(&link).await.unwrap_err().contains("has no last part"));
        std::fs::remove_file(&link).unwrap();
        std::fs::create_dir(&link).unwrap();
        let message = symlink(&link).await.unwrap_err();
        assert!(message.ends_with("is not a symlink"), "{message}");
        assert!(symlink(&link.join("x\0y")).await.is_err());
    }
}
