//! `backstop approve`, `decline`, `acknowledge`, `hold`, `unhold`, `skip` and `abort`: a person's word on an incident.

use std::time::Duration;

use super::client::{Connect, path};
use super::failure::Failure;
use super::table::duration;
use crate::serve::wire::{HoldBody, ReasonBody, SkipBody};

const AFTER_HELP: &str = "\
Examples:
  backstop incidents --open                       which incidents wait for an answer
  backstop approve api-17
  backstop decline api-17 --reason 'fixed forward'
  backstop acknowledge api-17                     I am on it: no more reminders
  backstop hold api-17 --for 15m --reason 'the fix is being deployed'
  backstop unhold api-17
  backstop skip api-17 --step 2 --reason 'done by hand'
  backstop abort api-17 --reason 'we deploy a fix now'

An approval counts for the release, the way back and the level that were proposed; the guard looks again. No answer \
within the time that the proposal names declines, unless on_silence says otherwise.";

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
pub(super) struct HoldArgs {
    /// The incident, as `backstop incidents` lists it
    id: String,
    /// How long; hold_max of the service limits it
    #[arg(long = "for", value_name = "DURATION", default_value = "15m", value_parser = duration, allow_hyphen_values = true)]
    duration: Duration,
    /// Why; it stands in the notices and in the report
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct SkipArgs {
    /// The incident, as `backstop incidents` lists it
    id: String,
    /// The step that is meant, counted from 1; refused if another one is next
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    step: Option<u16>,
    /// Why; it stands in the report
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

/// `verb` is the last part of the route: `approve`, `decline`, `abort`.
pub(super) fn reason(args: &ReasonArgs, verb: &str) -> Result<(), Failure> {
    args.connect.command(&path(&["incidents", &args.id, verb]), &ReasonBody { reason: args.reason.clone() })
}

pub(super) fn hold(args: &HoldArgs) -> Result<(), Failure> {
    let body = HoldBody { duration: args.duration, reason: args.reason.clone() };
    args.connect.command(&path(&["incidents", &args.id, "hold"]), &body)
}

pub(super) fn skip(args: &SkipArgs) -> Result<(), Failure> {
    let body = SkipBody { step: args.step.map(usize::from), reason: args.reason.clone() };
    args.connect.command(&path(&["incidents", &args.id, "skip"]), &body)
}
