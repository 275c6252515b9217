use serde::{Deserialize, Serialize};

use super::instant;
use crate::decide::audit::Act;

/// `GET /v1/audit`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBody {
    /// The newest first.
    pub acts: Vec<ActBody>,
    /// Older ones are got with `before` set to this; none when there are none.
    pub before: Option<u64>,
    /// Entries that this version cannot read, among those that were looked at.
    pub unreadable: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActBody {
    /// Of the journal's entry.
    pub seq: u64,
    pub at: String,
    pub actor: String,
    /// `cli`, `api`, `link:RECEIVER`, `file`, `silence`, `timer`, `machine`.
    pub via: String,
    pub service: Option<String>,
    pub incident: Option<String>,
    /// A command as it would be typed, or a few words.
    pub did: String,
    pub reason: String,
    /// None: it was done.
    pub refused: Option<RefusedBody>,
    /// So many more refusals of this actor came before this one and were not written.
    pub unwritten: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedBody {
    /// `not_found`, `conflict`, `invalid`, `not_allowed`, `unavailable`.
    pub code: String,
    pub why: String,
}

impl From<&Act> for ActBody {
    fn from(act: &Act) -> ActBody {
        ActBody {
            seq: act.seq.0,
            at: instant(act.wall),
            actor: act.actor.name.clone(),
            via: act.actor.via.clone(),
            service: act.service.clone(),
            incident: act.incident.as_ref().map(ToString::to_string),
            did: act.did.clone(),
            reason: act.reason.clone(),
            refused: act
                .refused
                .as_ref()
                .map(|refused| RefusedBody { code: refused.kind.as_str().to_owned(), why: refused.why.clone() }),
            unwritten: act.unwritten,
        }
    }
}
