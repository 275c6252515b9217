use serde::{Deserialize, Serialize};

use super::{Actor, IncidentId};

/// A command as the audit trail has it. Bounded in length, and without what only the command's effect needs: the detail
/// of a signal that was not raised is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    pub actor: Actor,
    /// In one line, as it would be typed: `rollback api --level 2`.
    pub command: String,
    /// Where it is one that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// None: it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// So many more commands of the same actor were refused since the last one that was written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unwritten: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    #[serde(rename = "as")]
    pub kind: RefusedAs,
    /// As the actor was told.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedAs {
    NotFound,
    /// It exists, but not now.
    Conflict,
    Invalid,
    NotAllowed,
    /// Backstop could not, whoever asked.
    Unavailable,
}

impl RefusedAs {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RefusedAs::NotFound => "not_found",
            RefusedAs::Conflict => "conflict",
            RefusedAs::Invalid => "invalid",
            RefusedAs::NotAllowed => "not_allowed",
            RefusedAs::Unavailable => "unavailable",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}
