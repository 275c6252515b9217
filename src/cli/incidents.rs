//! `backstop incidents`

use super::client::{Connect, json, parse, path};
use super::failure::{Exit, Failure, print, print_json};
use super::journal::Offline;
use super::table::{instant, or_dash, table};
use crate::serve::wire::{IncidentList, IncidentSummary};

const AFTER_HELP: &str = "\
Examples:
  backstop incidents
  backstop incidents --open
  backstop incidents --service api --json | jq -r '.incidents[].id'
  backstop incidents --state-dir /var/lib/backstop    also while the daemon is down";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Only those of this service
    #[arg(long)]
    service: Option<String>,
    /// Only those that are open
    #[arg(long)]
    open: bool,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    offline: Offline,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let body = match args.connect.get(&query(args)) {
        Ok(body) => body,
        Err(failure) => from_journal(args, failure)?,
    };
    if args.connect.json { print_json(&json(&body)?) } else { print(&show(&parse(&body)?)) }
}

fn query(args: &Args) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &args.limit.to_string());
    if args.open {
        query.append_pair("open", "true");
    }
    if let Some(service) = &args.service {
        query.append_pair("service", service);
    }
    format!("{}?{}", path(&["incidents"]), query.finish())
}

fn from_journal(args: &Args, failure: Failure) -> Result<Vec<u8>, Failure> {
    let known = args.offline.instead(failure)?;
    let mut incidents: Vec<IncidentSummary> = known.reports.iter().rev().map(Into::into).collect();
    incidents.retain(|incident| {
        (!args.open || incident.open) && args.service.as_ref().is_none_or(|service| *service == incident.service)
    });
    incidents.truncate(args.limit);
    serde_json::to_vec(&IncidentList { incidents })
        .map_err(|error| Failure::because(Exit::Output, "the incidents cannot be written as JSON", &error))
}

fn show(list: &IncidentList) -> String {
    if list.incidents.is_empty() {
        return "no incidents\n".to_owned();
    }
    let rows = list.incidents.iter().map(|incident| {
        vec![
            incident.id.clone(),
            instant(&incident.opened),
            state(incident),
            or_dash(incident.release_bad.as_deref()),
            or_dash(incident.release_target.as_deref()),
            incident.triggers.join(", "),
            incident.sentence.clone(),
        ]
    });
    table(&["incident", "opened (UTC)", "state", "release", "way back", "triggers", ""], rows)
}

fn state(incident: &IncidentSummary) -> String {
    let acknowledged = if incident.acknowledged { ", acknowledged" } else { "" };
    format!("{}{acknowledged}", incident.state)
}

/// Where an open incident stands and, if it waits for an answer, what to type.
pub(super) fn standing(incident: &IncidentSummary) -> String {
    let (id, stands) = (&incident.id, format!("is {}: {}", state(incident), incident.sentence));
    if incident.state != "proposed" {
        let next = incident.next.as_deref().map_or_else(String::new, |next| format!("; next: {next}"));
        return format!("{stands}{next}");
    }
    let until = incident.respond_by.as_deref().map_or_else(String::new, |by| format!(" until {}", instant(by)));
    format!("{stands}; `backstop approve {id}` or `decline {id}`{until}")
}

/// The latest first.
pub(super) fn ended_incidents(connect: &Connect) -> Result<Vec<IncidentSummary>, Failure> {
    let list: IncidentList = parse(&connect.get(&format!("{}?open=false", path(&["incidents"])))?)?;
    Ok(list.incidents)
}

pub(super) fn open_incidents(connect: &Connect) -> Result<Vec<IncidentSummary>, Failure> {
    let list: IncidentList = parse(&connect.get(&format!("{}?open=true", path(&["incidents"])))?)?;
    Ok(list.incidents)
}
