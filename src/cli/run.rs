//! `backstop run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;

use super::failure::{Exit, Failure};
use crate::app::logging::LogFormat;
use crate::app::{self, AppError, Options};

/// A hundred targets of a thousand series each second are a twentieth of what one thread can do, and a second one would
/// mostly be woken to find nothing left. What may block has threads of its own.
const WORKERS: usize = 1;

/// After an end in order nothing runs any more; after a fault whatever still does is not waited for.
const RUNTIME_STOP_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration files; they merge
    #[arg(required_unless_present = "config", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A configuration file, too
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub config: Vec<PathBuf>,
    /// Where the journal is, instead of daemon.state_dir
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How lines of the log are written
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Exits with 0 after a stop that was asked for, with 64 when the configuration is invalid, with 70 after a fault of
/// backstop's own, else with 1.
#[must_use]
pub fn run(args: &RunArgs) -> ExitCode {
    if let Err(error) = app::logging::start(args.log_format) {
        return Failure::new(Exit::Usage, app::chain(&error)).tell();
    }
    let runtime = match Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(Exit::Unavailable, format!("cannot start the runtime: {error}")).tell(),
    };
    let files = [args.config.as_slice(), args.files.as_slice()].concat();
    let ended = Options::from_env(files, args.state_dir.clone())
        .and_then(|options| runtime.block_on(app::run(options, |_| {})));
    runtime.shutdown_timeout(RUNTIME_STOP_MAX);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // As `check` prints it: lines and carets do not fit into a line of the log.
            if let AppError::Config(report) = &error {
                eprintln!("{report}");
            } else {
                tracing::error!("{}", app::chain(&error));
            }
            ExitCode::from(error.exit_code())
        }
    }
}
