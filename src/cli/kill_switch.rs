//! `backstop kill-switch`

use super::client::{Connect, path};
use super::failure::Failure;
use crate::serve::wire::KillSwitchBody;

const AFTER_HELP: &str = "\
While it is on nothing is begun: no rollback, no level, no step. A step that runs is not killed. Watching and telling go \
on. Unlike a pause it has no end, and it holds across restarts. `backstop rollback --override kill-switch` passes over it.

When the daemon does not answer, create the file KILL in its state directory (daemon.kill_file): it is the same switch, \
and is on while the file is there.

Examples:
  backstop kill-switch on --reason 'the database is being moved'
  backstop kill-switch on api --reason 'we are debugging it'
  backstop kill-switch off --reason 'moved'";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    #[arg(value_enum)]
    turn: Turn,
    /// Default: all services
    service: Option<String>,
    /// Why; it stands in the notices
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Turn {
    On,
    Off,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let on = matches!(args.turn, Turn::On);
    let body = KillSwitchBody { service: args.service.clone(), on, reason: args.reason.clone() };
    args.connect.command(&path(&["kill-switch"]), &body)
}
