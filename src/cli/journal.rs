//! Incidents without a daemon: read from the journal in its state directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};
use crate::decide::event::{Entry, IncidentId, Record};
use crate::decide::report::Report;
use crate::journal;

#[derive(Debug, clap::Args)]
pub(super) struct Offline {
    /// Where the journal is, to read it if the daemon is down
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// What the journal can tell of its incidents.
pub(super) struct Incidents {
    /// In the order in which they were opened.
    pub reports: Vec<Report>,
    /// Incidents of which this version cannot read every entry, with the reason.
    pub unreadable: BTreeMap<IncidentId, String>,
}

impl Offline {
    /// The journal's incidents, if `failure` means that there is no daemon and a state directory was named; otherwise
    /// `failure` itself.
    pub fn instead(&self, failure: Failure) -> Result<Incidents, Failure> {
        read(self.state_dir(failure)?)
    }

    /// The directory that was named, on the same terms.
    pub fn state_dir(&self, failure: Failure) -> Result<&Path, Failure> {
        match (&self.state_dir, failure.exit()) {
            (Some(state_dir), Exit::Unavailable | Exit::NotAllowed) => Ok(state_dir),
            (None, Exit::Unavailable) => Err(failure.also("with --state-dir DIR it is read from the journal")),
            (Some(_) | None, _) => Err(failure),
        }
    }
}

fn read(state_dir: &Path) -> Result<Incidents, Failure> {
    let history = journal::read_only(state_dir).map_err(|error| {
        Failure::because(Exit::Unavailable, "the daemon is down, and its journal cannot be read", &error)
    })?;
    let unreadable = history.unreadable.into_iter().filter_map(|entry| Some((entry.incident?, entry.why)));
    Ok(Incidents { reports: reports(&history.records), unreadable: unreadable.collect() })
}

fn reports(records: &[Record]) -> Vec<Report> {
    let mut order = Vec::new();
    let mut entries: BTreeMap<&IncidentId, Vec<Record>> = BTreeMap::new();
    let mut notices: BTreeMap<&str, &IncidentId> = BTreeMap::new();
    for record in records {
        let incident = match &record.entry {
            Entry::Incident { incident, .. } => Some(incident),
            Entry::NoticeQueued { notice, .. } => {
                if let Some(incident) = &notice.incident {
                    notices.insert(&notice.id, incident);
                }
                notice.incident.as_ref()
            }
            Entry::NoticeDelivered { notice, .. }
            | Entry::NoticeDead { notice, .. }
            | Entry::NoticeFellBack { notice, .. } => notices.get(notice.as_str()).copied(),
            Entry::DaemonStarted { .. }
            | Entry::ReleaseSeen { .. }
            | Entry::ReleaseNamed { .. }
            | Entry::ReleaseGood { .. }
            | Entry::ReleaseBad { .. }
            | Entry::ReleaseForgotten { .. }
            | Entry::Paused { .. }
            | Entry::Resumed { .. }
            | Entry::KillSwitch { .. }
            | Entry::SignalRaised { .. }
            | Entry::SignalCleared { .. }
            | Entry::Command(_) => None,
        };
        let Some(incident) = incident else { continue };
        let of = entries.entry(incident).or_default();
        if of.is_empty() {
            order.push(incident);
        }
        of.push(record.clone());
    }
    order.iter().filter_map(|incident| Report::of(entries.get(incident)?)).collect()
}
