//! `backstop test-notify`

use super::client::{Connect, path};
use super::failure::Failure;
use crate::serve::wire::TestNotifyBody;

const AFTER_HELP: &str = "\
The notice takes the same way as a real one; `backstop status` shows whether it was delivered.

Examples:
  backstop test-notify                            all receivers
  backstop test-notify oncall";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Default: all receivers
    receiver: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.connect.command(&path(&["test-notify"]), &TestNotifyBody { receiver: args.receiver.clone() })
}
