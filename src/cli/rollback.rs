//! `backstop rollback`

use super::client::{Connect, path};
use super::failure::Failure;
use crate::serve::wire::RollbackBody;

const AFTER_HELP: &str = "\
A rollback by hand skips autonomy, release window, cooldown, budgets, references and a pause. It \
never skips the journal, an open incident, or the check of what runs.

Examples:
  backstop rollback api --reason 'checkout fails for everyone'
  backstop rollback api --level 2 --reason 'the flag alone does not help'";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    service: String,
    /// Why; it stands in the notices and in the report
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The level to begin with, counted from 1
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    level: Option<usize>,
    /// A blocker, or a check of the way back, that does not count this time; may be given several times
    #[arg(long = "override", value_name = "NAME")]
    overrides: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let body = RollbackBody { reason: args.reason.clone(), level: args.level, overrides: args.overrides.clone() };
    args.connect.command(&path(&["services", &args.service, "rollback"]), &body)
}
