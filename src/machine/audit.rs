//! The audit trail of commands: each stands in the journal with who ordered it, also one that was refused.
//!
//! What was carried out is written by what it does; only where that names nobody, and for a refusal, there is an entry of
//! its own. Refusals cost nothing to make, so they are bounded: of one actor [`REFUSALS_AT_ONCE`] are written, and then
//! one every [`ANOTHER_EVERY`], which says how many were not. An entry is under 3 KiB, so a script in a loop adds less
//! than a megabyte a day. Actors beyond [`ACTORS_MAX`] share one allowance.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Machine;
use super::input::{Command, Question, Refusal, ReleasePhase};
use crate::decide::event::{Actor, Entry, Ordered, Refused, RefusedAs};
use crate::decide::trigger::short;
use crate::time::{Now, Timestamp};

const REFUSALS_AT_ONCE: u32 = 20;
const ANOTHER_EVERY: Duration = Duration::from_mins(5);
const ACTORS_MAX: usize = 64;

/// Of the command line, of a reason and of a refusal: enough to know what was meant.
const TEXT_BYTES_MAX: usize = 512;

/// How much each actor's refusals may still write. A restart forgets it.
#[derive(Debug, Default)]
pub(super) struct Allowances {
    by_actor: BTreeMap<String, Allowance>,
}

#[derive(Debug)]
struct Allowance {
    left: u32,
    /// Up to then it was filled.
    filled: Timestamp,
    unwritten: u64,
}

impl Allowances {
    /// How many refusals were not written before this one, if this one may be.
    fn take(&mut self, actor: &Actor, now: Timestamp) -> Option<u64> {
        let mut key = format!("{} {}", actor.via, actor.name);
        if self.by_actor.len() >= ACTORS_MAX && !self.by_actor.contains_key(&key) {
            key.clear();
        }
        let fresh = || Allowance { left: REFUSALS_AT_ONCE, filled: now, unwritten: 0 };
        let allowance = self.by_actor.entry(key).or_insert_with(fresh);
        while allowance.left < REFUSALS_AT_ONCE && now.since(allowance.filled) >= ANOTHER_EVERY {
            allowance.left += 1;
            allowance.filled = allowance.filled + ANOTHER_EVERY;
        }
        if allowance.left == REFUSALS_AT_ONCE {
            allowance.filled = now;
        }
        if allowance.left == 0 {
            allowance.unwritten += 1;
            return None;
        }
        allowance.left -= 1;
        Some(std::mem::take(&mut allowance.unwritten))
    }
}

/// A command, as the trail tells it.
pub(super) struct Told {
    line: String,
    service: Option<String>,
    incident: Option<String>,
    reason: String,
    /// Nothing that it does names who ordered it.
    leaves_no_trace: bool,
}

impl Machine {
    /// What was carried out, where nothing else says so.
    pub(super) fn record_done(&mut self, now: &Now, actor: &Actor, told: Told) {
        if told.leaves_no_trace {
            self.record_ordered(now, actor, told, None, 0);
        }
    }

    pub(super) fn record_refused(&mut self, now: &Now, actor: &Actor, told: Told, refusal: &Refusal) {
        let kind = kind_of(refusal);
        *self.counters.refused.entry(kind.as_str()).or_default() += 1;
        // It could not be written, and what waits to be is not to grow with every try.
        if self.journal_failing.is_some() {
            return;
        }
        let Some(unwritten) = self.allowances.take(actor, now.monotonic) else { return };
        let refused = Refused { kind, why: cut(&refusal.to_string()) };
        self.record_ordered(now, actor, told, Some(refused), unwritten);
    }

    fn record_ordered(&mut self, now: &Now, actor: &Actor, told: Told, refused: Option<Refused>, unwritten: u64) {
        let incident = told.incident.and_then(|name| self.find_incident(&name).ok());
        let of = incident.as_ref().and_then(|id| self.incidents.get(id)).map(|incident| incident.service.clone());
        let service = of.or(told.service.filter(|name| self.service_index(name).is_some()));
        let ordered = Ordered {
            actor: Actor { name: cut(&actor.name), via: cut(&actor.via) },
            command: cut(&told.line),
            service,
            incident,
            reason: cut(&told.reason),
            refused,
            unwritten,
        };
        self.record(now, Entry::Command(Box::new(ordered)));
    }
}

const fn kind_of(refusal: &Refusal) -> RefusedAs {
    match refusal {
        Refusal::NotFound(_) => RefusedAs::NotFound,
        Refusal::Conflict(_) => RefusedAs::Conflict,
        Refusal::Invalid(_) => RefusedAs::Invalid,
        Refusal::NotAllowed(_) => RefusedAs::NotAllowed,
        Refusal::Unavailable(_) => RefusedAs::Unavailable,
    }
}

/// One line, and not a long one.
fn cut(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > TEXT_BYTES_MAX {
        line.truncate(line.floor_char_boundary(TEXT_BYTES_MAX));
        line.push('…');
    }
    line
}

// Length: one arm per command.
/// In the words of the command line.
pub(super) fn told(command: &Command) -> Told {
    let of_incident = |line: String, incident: &String, reason: &String| Told {
        line,
        service: None,
        incident: Some(incident.clone()),
        reason: reason.clone(),
        leaves_no_trace: false,
    };
    let of_service = |line: String, service: Option<&String>, reason: &str| Told {
        line,
        service: service.cloned(),
        incident: None,
        reason: reason.to_owned(),
        leaves_no_trace: false,
    };
    let which = |service: &Option<String>| service.as_ref().map_or_else(String::new, |service| format!(" {service}"));
    match command {
        Command::Rollback { service, reason, level, overrides } => {
            let level = level.map_or_else(String::new, |level| format!(" --level {}", level + 1));
            let overrides: Vec<String> = overrides.iter().map(|name| format!(" --override {name}")).collect();
            let overrides = overrides.concat();
            of_service(format!("rollback {service}{level}{overrides}"), Some(service), reason)
        }
        Command::Approve { incident, reason } => of_incident(format!("approve {incident}"), incident, reason),
        Command::Decline { incident, reason } => of_incident(format!("decline {incident}"), incident, reason),
        Command::Answer { incident, approves, reason, question: Question { number, .. } } => {
            let verb = if *approves { "approve" } else { "decline" };
            of_incident(format!("{verb} {incident} --question {number}"), incident, reason)
        }
        Command::Hold { incident, duration, reason } => {
            of_incident(format!("hold {incident} --for {}", short(*duration)), incident, reason)
        }
        Command::Unhold { incident, reason } => of_incident(format!("unhold {incident}"), incident, reason),
        Command::Skip { incident, step, reason } => {
            let step = step.map_or_else(String::new, |step| format!(" --step {}", step + 1));
            of_incident(format!("skip {incident}{step}"), incident, reason)
        }
        Command::Acknowledge { incident, reason } => of_incident(format!("acknowledge {incident}"), incident, reason),
        Command::Abort { incident, reason } => of_incident(format!("abort {incident}"), incident, reason),
        Command::Pause { service, duration, reason } => {
            of_service(format!("pause{} --for {}", which(service), short(*duration)), service.as_ref(), reason)
        }
        Command::Resume { service, reason } => {
            of_service(format!("resume{}", which(service)), service.as_ref(), reason)
        }
        Command::KillSwitch { service, on, reason } => {
            let turn = if *on { "on" } else { "off" };
            of_service(format!("kill-switch {turn}{}", which(service)), service.as_ref(), reason)
        }
        Command::RaiseSignal { service, signal, ttl, detail: _ } => {
            of_service(format!("signal {service} {signal} --for {}", short(*ttl)), Some(service), "")
        }
        Command::ClearSignal { service, signal, reason } => {
            of_service(format!("signal {service} {signal} --clear"), Some(service), reason)
        }
        Command::AnnounceRelease { service, release, phase } => {
            let phase = match phase {
                ReleasePhase::Begin => "begin",
                ReleasePhase::End => "end",
            };
            let told = of_service(format!("release {phase} {service} {release}"), Some(service), "");
            Told { leaves_no_trace: true, ..told }
        }
        Command::Forget { service, release, reason } => {
            of_service(format!("forget {service} {release}"), Some(service), reason)
        }
        Command::TestNotify { receiver } => {
            Told { leaves_no_trace: true, ..of_service(format!("test-notify{}", which(receiver)), None, "") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(name: &str) -> Actor {
        Actor { name: name.to_owned(), via: "api".to_owned() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_loop_of_refusals_writes_little_and_says_how_many_were_not_written() {
        let mut allowances = Allowances::default();
        let mut written = 0;
        let mut told = 0;
        let day = 24 * 3600;
        for second in 0..day {
            if let Some(unwritten) = allowances.take(&actor("script"), at(second)) {
                written += 1;
                told += unwritten;
            }
        }
        assert!((280..=310).contains(&written), "{written} of {day}");
        let untold = allowances.by_actor.values().map(|allowance| allowance.unwritten).sum::<u64>();
        assert_eq!(written + told + untold, u64::try_from(day).unwrap(), "none is lost sight of");
        assert_eq!(allowances.take(&actor("ada"), at(day)), Some(0), "nobody else's are held back by that");
        // Whoever is quiet for long enough may be refused as often again.
        for _ in 0..REFUSALS_AT_ONCE {
            assert!(allowances.take(&actor("script"), at(2 * day)).is_some());
        }
        assert_eq!(allowances.take(&actor("script"), at(2 * day)), None);
    }

    #[test]
    fn names_without_number_share_one_allowance() {
        let mut allowances = Allowances::default();
        let written = (0..10_000).filter(|n| allowances.take(&actor(&n.to_string()), at(0)).is_some()).count();
        assert_eq!(written, ACTORS_MAX + usize::try_from(REFUSALS_AT_ONCE).unwrap());
        assert!(allowances.by_actor.len() <= ACTORS_MAX + 1);
    }

    #[test]
    fn what_is_written_is_one_short_line() {
        let long = "ä\n".repeat(5000);
        let line = cut(&long);
        assert!(line.len() <= TEXT_BYTES_MAX + '…'.len_utf8() && !line.contains('\n'), "{}", line.len());
        assert_eq!(cut("as it is"), "as it is");
        let overrides = vec!["schema".to_owned()];
        let command = Command::Rollback { service: "api".into(), reason: "now".into(), level: Some(1), overrides };
        assert_eq!(told(&command).line, "rollback api --level 2 --override schema");
        let command = Command::RaiseSignal {
            service: "api".into(),
            signal: "cve".into(),
            ttl: Duration::from_hours(1),
            detail: "token=s3cret".into(),
        };
        assert_eq!((told(&command).line.as_str(), told(&command).reason.as_str()), ("signal api cve --for 1h", ""));
    }
}
