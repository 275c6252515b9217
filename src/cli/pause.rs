//! `backstop pause` and `resume`

use std::time::Duration;

use super::client::{Connect, path};
use super::failure::Failure;
use super::table::duration;
use crate::serve::wire::{PauseBody, ResumeBody};

const AFTER_HELP: &str = "\
A pause stops new rollbacks and new levels; a running level finishes. Watching and telling go on, and a pause ends by \
itself.

Examples:
  backstop pause --reason 'load test'             all services, for one hour
  backstop pause api --for 20m --reason 'migration'
  backstop resume api";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct PauseArgs {
    /// Default: all services
    service: Option<String>,
    /// How long
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration, allow_hyphen_values = true)]
    duration: Duration,
    /// Why; it stands in the notices
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ResumeArgs {
    /// Default: the pause of all services
    service: Option<String>,
    /// Why; it stands in the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn pause(args: &PauseArgs) -> Result<(), Failure> {
    let body = PauseBody { service: args.service.clone(), duration: args.duration, reason: args.reason.clone() };
    args.connect.command(&path(&["pause"]), &body)
}

pub(super) fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    let body = ResumeBody { service: args.service.clone(), reason: args.reason.clone() };
    args.connect.command(&path(&["resume"]), &body)
}
