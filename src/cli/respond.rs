//! `backstop approve`, `decline`, `acknowledge` and `abort`: a person's word on an incident.

use super::client::{Connect, path};
use super::failure::Failure;
use crate::serve::wire::{EmptyBody, ReasonBody};

const AFTER_HELP: &str = "\
Examples:
  backstop incidents --open                       which incidents wait for an answer
  backstop approve api-17
  backstop decline api-17 --reason 'fixed forward'
  backstop acknowledge api-17                     I am on it: no more reminders
  backstop abort api-17 --reason 'we deploy a fix now'

An approval counts for the release, the way back and the level that were proposed; the guard looks again. No answer \
within the time that the proposal names declines.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ReasonArgs {
    /// The incident, as `backstop incidents` lists it
    id: String,
    /// Why; it stands in the report
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct AcknowledgeArgs {
    /// The incident, as `backstop incidents` lists it
    id: String,
    #[command(flatten)]
    connect: Connect,
}

/// `verb` is the last part of the route: `approve`, `decline`, `abort`.
pub(super) fn reason(args: &ReasonArgs, verb: &str) -> Result<(), Failure> {
    args.connect.command(&path(&["incidents", &args.id, verb]), &ReasonBody { reason: args.reason.clone() })
}

pub(super) fn acknowledge(args: &AcknowledgeArgs) -> Result<(), Failure> {
    args.connect.command(&path(&["incidents", &args.id, "acknowledge"]), &EmptyBody {})
}
