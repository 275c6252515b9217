use serde::{Deserialize, Serialize};

use super::{Actor, Release, Severity};

/// What a proposal shows, and whose answer counts: frozen when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Counts the questions of one incident from 1. Another way back, or a question after an answer, is another one;
    /// other reasons for the same question are not.
    pub number: u32,
    /// What would be rolled back, where it is known.
    pub bad: Option<Release>,
    /// The way back that was shown.
    pub target: Option<Release>,
    /// [`Level::hash`](super::Level::hash) of the level that was asked about. Absent in journals of versions that bound
    /// only its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_hash: Option<String>,
    /// Whose policy counts.
    pub severity: Severity,
    /// Names of who may approve; empty stands for everyone who may command.
    pub approvers: Vec<String>,
    pub on_silence: OnSilence,
}

/// What no answer means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSilence {
    /// Nothing is done, and people are told.
    #[default]
    Decline,
    /// The guard looks again; where only a person's word was missing, it is taken as given.
    Approve,
    /// People are told again, and the question stays open.
    Escalate,
}

impl OnSilence {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OnSilence::Decline => "decline",
            OnSilence::Approve => "approve",
            OnSilence::Escalate => "escalate",
        }
    }
}

impl Actor {
    /// [`Actor::via`] of what nobody did: the end of a time limit.
    pub const TIMER: &str = "timer";
    /// [`Actor::via`] of an approval that nobody's silence gave.
    pub const SILENCE: &str = "silence";
    /// [`Actor::via`] of a link in a notice, with the receiver that it was sent to: `link:oncall`.
    pub const LINK: &str = "link";

    /// Is it one of these names? A person at the socket is `alice` or `uid:1000`, a token's holder its name. Whoever has
    /// the link is `link`, or `link:oncall` for the one that was sent to that receiver: the name that is typed in there
    /// is nobody's proof.
    #[must_use]
    pub fn is_one_of(&self, names: &[String]) -> bool {
        let is = |name: &str| names.iter().any(|allowed| allowed == name);
        if self.via == Actor::LINK || self.via.starts_with("link:") {
            return is(Actor::LINK) || is(&self.via);
        }
        let login = self.name.strip_suffix(')').and_then(|name| name.split_once(" ("));
        match login {
            Some((uid, login)) if uid.starts_with("uid:") => is(login) || is(uid),
            Some(_) | None => is(&self.name),
        }
    }

    /// A person, or a program of theirs: not the end of a time limit.
    #[must_use]
    pub fn is_somebody(&self) -> bool {
        self.via != Actor::TIMER && self.via != Actor::SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_where_it_is_proved() {
        let actor = |name: &str, via: &str| Actor { name: name.to_owned(), via: via.to_owned() };
        let allowed = |names: &[&str], actor: &Actor| {
            actor.is_one_of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let alice = actor("uid:1000 (alice)", "cli");
        assert!(allowed(&["alice"], &alice) && allowed(&["uid:1000"], &alice));
        assert!(!allowed(&["bob", "uid:100", "link", "lice"], &alice));
        assert!(allowed(&["deploys"], &actor("deploys", "api")));
        // What is typed into the page proves nothing.
        let typed = actor("alice", "link:oncall");
        assert!(!allowed(&["alice"], &typed) && !allowed(&["link:team"], &typed));
        assert!(allowed(&["link"], &typed) && allowed(&["link:oncall"], &typed));
        assert!(!allowed(&[], &alice));
    }
}
