//! `backstop forget`

use super::client::{Connect, path};
use super::failure::Failure;
use crate::serve::wire::ForgetBody;

const AFTER_HELP: &str = "\
Examples:
  backstop status api                             shows which releases are marked bad
  backstop forget api 2.4.0";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    service: String,
    release: String,
    /// Why; it stands in the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let body = ForgetBody { release: args.release.clone(), reason: args.reason.clone() };
    args.connect.command(&path(&["services", &args.service, "forget"]), &body)
}
