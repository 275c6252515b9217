//! Lines for people or for programs, on stderr.

use std::io::{self, IsTerminal};

use rustix::fs::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    /// One object per line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("BACKSTOP_LOG={value:?} is not a filter, such as `info` or `backstop::act=debug,warn`")]
    Filter {
        value: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

/// Sets up the log of this process: `$BACKSTOP_LOG` filters, `info` by default.
pub fn start(format: LogFormat) -> Result<(), LogError> {
    let filter = match std::env::var("BACKSTOP_LOG") {
        Ok(value) if !value.trim().is_empty() => {
            EnvFilter::try_new(&value).map_err(|source| LogError::Filter { value, source })?
        }
        Ok(_) | Err(_) => EnvFilter::new("info"),
    };
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
    // The journal has its own time for each line.
    let journald = is_journald(std::env::var("JOURNAL_STREAM").ok().as_deref());
    match (format, journald) {
        (LogFormat::Json, _) => lines.json().flatten_event(true).with_current_span(false).finish().try_init()?,
        (LogFormat::Text, true) => lines.without_time().finish().try_init()?,
        (LogFormat::Text, false) => lines.with_target(false).finish().try_init()?,
    }
    Ok(())
}

/// `$JOURNAL_STREAM` is `device:inode` of the journal's stream, and is inherited by programs whose stderr is not that
/// stream (systemd.exec(5)).
fn is_journald(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else { return false };
    fstat(io::stderr()).is_ok_and(|stat| stat.st_dev.to_string() == device && stat.st_ino.to_string() == inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_stream_is_known_by_device_and_inode() {
        let stat = fstat(io::stderr()).unwrap();
        assert!(is_journald(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!is_journald(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1))));
        assert!(!is_journald(Some("nonsense")));
        assert!(!is_journald(None));
    }
}
