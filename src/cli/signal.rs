//! `backstop signal`

use std::time::Duration;

use super::client::{Connect, path};
use super::failure::Failure;
use super::table::duration;
use crate::serve::wire::SignalBody;

const AFTER_HELP: &str = "\
A signal is a fact that a trigger of type `signal` asks for. It ends by itself; raising it again makes it last anew.

Examples:
  backstop signal api critical-vulnerability --for 24h --detail 'CVE-2026-1234 in libfoo'
  backstop signal api critical-vulnerability --clear";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    service: String,
    /// As the trigger names it
    name: String,
    /// How long it stays raised
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration, allow_hyphen_values = true)]
    duration: Duration,
    /// What was found; it stands in the notices
    #[arg(long, value_name = "TEXT", default_value = "")]
    detail: String,
    /// Clear it instead
    #[arg(long, conflicts_with_all = ["duration", "detail"])]
    clear: bool,
    /// Why it is cleared; it stands in the audit trail
    #[arg(long, value_name = "TEXT", requires = "clear")]
    reason: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = path(&["services", &args.service, "signals", &args.name]);
    if args.clear {
        let query = args.reason.as_ref().map_or_else(String::new, |reason| {
            let mut query = url::form_urlencoded::Serializer::new("?".to_owned());
            query.append_pair("reason", reason).finish()
        });
        return args.connect.delete(&format!("{path}{query}"));
    }
    args.connect.command(&path, &SignalBody { ttl: args.duration, detail: args.detail.clone() })
}
