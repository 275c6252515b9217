//! How an entry is written: kind, version, JSON body, and the checksum that chains it to the one before.

use sha2::{Digest, Sha256};

use crate::decide::event::{Entry, IncidentEvent, IncidentId, Record};

/// An entry as the table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub kind: &'static str,
    pub version: u32,
    /// JSON.
    pub body: String,
}

/// Why an entry cannot be read, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("entry kind {0:?} is not known to this version of backstop")]
    UnknownKind(String),
    #[error("it has version {0}, and this backstop knows version {known}", known = Entry::VERSION)]
    UnknownVersion(u32),
    #[error("its body does not have the form of its kind: {0}")]
    Body(String),
}

/// One list gives both the kind of a value and the list of all kinds, so that a new variant does not compile until it
/// is named here, and has no golden file until it has one.
macro_rules! kinds {
    (entries { $($entry:pat => $entry_kind:literal,)* } events { $($event:pat => $event_kind:literal,)* }) => {
        /// Every kind of entry; an incident's carry the name of its event.
        pub const KINDS: &[&str] = &[$($entry_kind,)* $($event_kind,)*];

        /// As the journal's `kind` column has it.
        #[must_use]
        pub fn kind(entry: &Entry) -> &'static str {
            match entry {
                $($entry => $entry_kind,)*
                Entry::Incident { incident: _, event } => match event.as_ref() {
                    $($event => $event_kind,)*
                },
            }
        }
    };
}

kinds! {
    entries {
        Entry::DaemonStarted { .. } => "daemon_started",
        Entry::ReleaseSeen { .. } => "release_seen",
        Entry::ReleaseNamed { .. } => "release_named",
        Entry::ReleaseGood { .. } => "release_good",
        Entry::ReleaseBad { .. } => "release_bad",
        Entry::ReleaseForgotten { .. } => "release_forgotten",
        Entry::NoticeQueued { .. } => "notice_queued",
        Entry::NoticeDelivered { .. } => "notice_delivered",
        Entry::NoticeDead { .. } => "notice_dead",
        Entry::NoticeFellBack { .. } => "notice_fell_back",
        Entry::Paused { .. } => "paused",
        Entry::Resumed { .. } => "resumed",
        Entry::KillSwitch { .. } => "kill_switch",
        Entry::SignalRaised { .. } => "signal_raised",
        Entry::SignalCleared { .. } => "signal_cleared",
        Entry::Command(_) => "command",
    }
    events {
        IncidentEvent::Opened { .. } => "incident.opened",
        IncidentEvent::Reopened { .. } => "incident.reopened",
        IncidentEvent::Joined { .. } => "incident.joined",
        IncidentEvent::Judged { .. } => "incident.judged",
        IncidentEvent::Proposed { .. } => "incident.proposed",
        IncidentEvent::Unanswered { .. } => "incident.unanswered",
        IncidentEvent::HoldOrdered { .. } => "incident.hold_ordered",
        IncidentEvent::HoldEnded { .. } => "incident.hold_ended",
        IncidentEvent::StepSkipped { .. } => "incident.step_skipped",
        IncidentEvent::Approved { .. } => "incident.approved",
        IncidentEvent::Declined { .. } => "incident.declined",
        IncidentEvent::Expired => "incident.expired",
        IncidentEvent::Admitted { .. } => "incident.admitted",
        IncidentEvent::StepIntended { .. } => "incident.step_intended",
        IncidentEvent::StepStarted { .. } => "incident.step_started",
        IncidentEvent::StepFinished { .. } => "incident.step_finished",
        IncidentEvent::StepNotStarted { .. } => "incident.step_not_started",
        IncidentEvent::StepChecked { .. } => "incident.step_checked",
        IncidentEvent::LevelFinished { .. } => "incident.level_finished",
        IncidentEvent::CheckAnswered { .. } => "incident.check_answered",
        IncidentEvent::CameClear { .. } => "incident.came_clear",
        IncidentEvent::Relapsed => "incident.relapsed",
        IncidentEvent::LevelFailed { .. } => "incident.level_failed",
        IncidentEvent::UndoBegan { .. } => "incident.undo_began",
        IncidentEvent::UndoFinished { .. } => "incident.undo_finished",
        IncidentEvent::Climbed { .. } => "incident.climbed",
        IncidentEvent::Recovered { .. } => "incident.recovered",
        IncidentEvent::Superseded { .. } => "incident.superseded",
        IncidentEvent::Aborted { .. } => "incident.aborted",
        IncidentEvent::NeedsHuman { .. } => "incident.needs_human",
        IncidentEvent::Reminded => "incident.reminded",
        IncidentEvent::Acknowledged { .. } => "incident.acknowledged",
        IncidentEvent::RtoPassed { .. } => "incident.rto_passed",
        IncidentEvent::Cleared => "incident.cleared",
    }
}

/// Fails only if a map of the entry has keys that JSON cannot have, which no entry has.
pub fn encode(entry: &Entry) -> Result<Encoded, serde_json::Error> {
    Ok(Encoded { kind: kind(entry), version: Entry::VERSION, body: serde_json::to_string(entry)? })
}

/// Never guesses: another kind or version is an error.
pub fn decode(kind_written: &str, version: u32, body: &str) -> Result<Entry, DecodeError> {
    if version != Entry::VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    if !KINDS.contains(&kind_written) {
        return Err(DecodeError::UnknownKind(kind_written.to_owned()));
    }
    let entry: Entry = serde_json::from_str(body).map_err(|error| DecodeError::Body(error.to_string()))?;
    if kind(&entry) != kind_written {
        return Err(DecodeError::Body(format!("it is a {}, filed as {kind_written}", kind(&entry))));
    }
    Ok(entry)
}

/// The incident that an entry names, if that much can be read of an entry that cannot be decoded.
pub(super) fn incident_of(body: &str) -> Option<IncidentId> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    let name = body.get("incident")?.as_str()?;
    Some(IncidentId(name.into()))
}

/// SHA-256 over the checksum before and every field of a row.
pub(super) type Checksum = [u8; 32];

/// What the first entry is chained to.
pub(super) const GENESIS: Checksum = [0; 32];

/// A row without its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub seq: u64,
    pub at: i64,
    pub wall: i64,
    pub boot: &'a str,
    pub kind: &'a str,
    pub version: u32,
    pub body: &'a str,
}

impl<'a> Row<'a> {
    pub fn new(record: &'a Record, encoded: &'a Encoded) -> Row<'a> {
        Row {
            seq: record.seq.0,
            at: record.at.as_millis(),
            wall: record.wall.as_millis(),
            boot: &record.boot.0,
            kind: encoded.kind,
            version: encoded.version,
            body: &encoded.body,
        }
    }

    /// Texts go in with their length before them, so that no two rows give the same bytes.
    pub fn chained_to(&self, before: &Checksum) -> Checksum {
        let mut hash = Sha256::new();
        hash.update(before);
        hash.update(self.seq.to_le_bytes());
        hash.update(self.at.to_le_bytes());
        hash.update(self.wall.to_le_bytes());
        hash.update(self.version.to_le_bytes());
        for text in [self.boot, self.kind, self.body] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.finalize().into()
    }
}
