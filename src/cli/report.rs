//! `backstop report`

use super::client::{Connect, json, path};
use super::failure::{Exit, Failure, print, print_json};
use super::journal::{Incidents, Offline};
use crate::decide::report::Report;
use crate::serve::wire::IncidentBody;

const AFTER_HELP: &str = "\
Examples:
  backstop report api-17
  backstop report api-17 > incident.md
  backstop report api-17 --json | jq .times
  backstop report api-17 --state-dir /var/lib/backstop    also while the daemon is down";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The incident, as `backstop incidents` lists it
    id: String,
    #[command(flatten)]
    offline: Offline,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let asked = if args.connect.json {
        args.connect.get(&path(&["incidents", &args.id])).and_then(|body| json(&body)).map(Answer::Json)
    } else {
        args.connect.get_text(&path(&["incidents", &args.id, "report"])).map(Answer::Markdown)
    };
    let answer = match asked {
        Ok(answer) => answer,
        Err(failure) => from_journal(args, &args.offline.instead(failure)?)?,
    };
    match answer {
        Answer::Json(value) => print_json(&value),
        Answer::Markdown(text) => print(&text),
    }
}

enum Answer {
    Json(serde_json::Value),
    Markdown(String),
}

fn from_journal(args: &Args, known: &Incidents) -> Result<Answer, Failure> {
    let report: &Report = known.reports.iter().find(|report| *report.id.0 == *args.id).ok_or_else(|| {
        Failure::new(Exit::Refused, format!("there is no incident {} in the journal", args.id))
            .help("`backstop incidents --state-dir DIR` lists them")
    })?;
    if args.connect.json {
        let body = IncidentBody::new(report.into(), report);
        let value = serde_json::to_value(body);
        return value
            .map(Answer::Json)
            .map_err(|error| Failure::because(Exit::Output, "the report cannot be written as JSON", &error));
    }
    let mut text = report.markdown();
    if let Some(why) = known.unreadable.get(&report.id) {
        text.push_str("\nThis version cannot read every entry of this incident: ");
        text.push_str(why);
        text.push('\n');
    }
    Ok(Answer::Markdown(text))
}
