//! The kill switch that an operator can reach when nothing else works: `touch` a file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::machine::input::Input;
use crate::supervise::TaskResult;

/// So soon it is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The reason that is read from the file.
const SAYS_BYTES_MAX: u64 = 200;

/// One look. A file that is there and cannot be read is there.
pub(super) async fn look(path: &Path) -> Input {
    let says = match tokio::fs::symlink_metadata(path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        // It may be there: what cannot be known counts as the safe side.
        Err(error) => Some(format!("whether the file is there cannot be seen: {error}")),
        Ok(_) => Some(first_line(path).await.unwrap_or_else(|| "no reason is written in the file".to_owned())),
    };
    Input::KillFile { path: Arc::from(path.to_string_lossy()), says }
}

async fn first_line(path: &Path) -> Option<String> {
    // Only of a file: a pipe would wait for its writer.
    if !tokio::fs::metadata(path).await.ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await.ok()?.take(SAYS_BYTES_MAX).read_to_end(&mut bytes).await.ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next()?.trim().replace(char::is_control, " ");
    (!line.is_empty()).then_some(line)
}

/// Tells the engine of each change, until `stop`.
pub(super) async fn watch(path: PathBuf, control: mpsc::Sender<Input>, stop: CancellationToken) -> TaskResult {
    // The first look is told in any case: the file may have come or gone while the daemon started.
    let mut told = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let input = look(&path).await;
        let is_there = matches!(&input, Input::KillFile { says: Some(_), .. });
        if told.replace(is_there) == Some(is_there) {
            continue;
        }
        if control.send(input).await.is_err() {
            stop.cancelled().await;
            return Ok(());
        }
    }
}
