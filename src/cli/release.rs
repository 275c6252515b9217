//! `backstop release`

use super::client::{Connect, path};
use super::failure::Failure;
use crate::serve::wire::{PhaseBody, ReleaseBody};

const AFTER_HELP: &str = "\
For deployments that can say so themselves: it dates the change exactly. The service needs the announced detector in \
its `release` list.

Examples:
  backstop release api 2.4.0 --begin              before the first process is replaced
  backstop release api 2.4.0                      after the last one";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    service: String,
    release: String,
    /// The deployment begins
    #[arg(long)]
    begin: bool,
    /// The deployment has ended (default)
    #[arg(long, conflicts_with = "begin")]
    end: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let phase = if args.begin { PhaseBody::Begin } else { PhaseBody::End };
    let body = ReleaseBody { service: args.service.clone(), release: args.release.clone(), phase };
    args.connect.command(&path(&["releases"]), &body)
}
