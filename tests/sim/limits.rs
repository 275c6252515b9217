//! What forbids backstop to begin anything, as the world knows it: the kill switch, freezes, clocks that jumped,
//! dependencies that are down.

use std::collections::BTreeMap;

use backstop::decide::event::Actor;
use backstop::decide::freeze::{Freeze, Span};
use backstop::decide::rules::{Rules, ServiceRules};
use backstop::time::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::support::{INTERVAL, SECOND};

/// After a jump of a clock, or a stop, nothing is begun for this long (README).
const TILT_MS: i64 = 10 * SECOND;

/// Which switch: of a service or of all, and whether it is a file.
type Switch = (Option<String>, bool);

#[derive(Debug, Default)]
pub struct Limits {
    kills: BTreeMap<Switch, Timestamp>,
    jumped: Option<i64>,
    /// By service and process: since when the probe's looks say this. None: it could not be sent.
    probes: BTreeMap<(usize, usize), Probed>,
}

#[derive(Clone, Copy, Debug)]
struct Probed {
    failed: bool,
    since: i64,
    latest: i64,
}

impl Limits {
    pub fn turned(&mut self, service: Option<&str>, on: bool, actor: &Actor, at: Timestamp) {
        let switch = (service.map(str::to_owned), actor.via == "file");
        if on {
            self.kills.insert(switch, at);
        } else {
            self.kills.remove(&switch);
        }
    }

    /// What is on, as it is known on the disk.
    pub fn kills(&self) -> impl Iterator<Item = &Switch> {
        self.kills.keys()
    }

    /// A rollback that was ordered over the switch is stopped by what was turned on later.
    pub fn is_killed(&self, service: &str, passed: Option<Timestamp>) -> bool {
        let concerns = |of: &Option<String>| of.as_deref().is_none_or(|of| of == service);
        self.kills.iter().any(|((of, _), since)| concerns(of) && passed.is_none_or(|passed| *since > passed))
    }

    pub fn jumped(&mut self, t: i64) {
        self.jumped = Some(t);
    }

    /// A stop ended sooner than it was to.
    pub fn woken(&mut self, t: i64) {
        self.jumped = self.jumped.filter(|jumped| *jumped <= t);
    }

    /// Is it too soon after a jump?
    pub fn is_tilted(&self, t: i64) -> bool {
        self.jumped.is_some_and(|jumped| t > jumped && t < jumped + TILT_MS)
    }

    pub fn probed(&mut self, service: usize, process: usize, failed: bool, t: i64) {
        let probed = self.probes.entry((service, process)).or_insert(Probed { failed, since: t, latest: t });
        if probed.failed != failed {
            (probed.failed, probed.since) = (failed, t);
        }
        probed.latest = t;
    }

    pub fn not_probed(&mut self, service: usize, process: usize) {
        self.probes.remove(&(service, process));
    }

    /// The latest look at one of its processes before `t` failed, and nothing else was seen since.
    pub fn is_down(&self, service: usize, t: i64) -> bool {
        self.probes.iter().any(|((of, _), probed)| {
            *of == service && probed.failed && probed.since < t && t - probed.latest < INTERVAL
        })
    }

    /// Another daemon: nothing was handed to it yet, and its clocks are as they are.
    pub fn restarted(&mut self) {
        self.jumped = None;
        self.probes.clear();
    }
}

/// Does one of the freezes cover this instant on the wall? The simulation's are all from one instant to another, in UTC.
pub fn is_frozen(rules: &Rules, service: &ServiceRules, wall: Timestamp) -> bool {
    let millis = |at: DateTime| TimeZone::UTC.to_timestamp(at).map_or(i64::MIN, jiff::Timestamp::as_millisecond);
    let covers = |freeze: &Freeze| match &freeze.span {
        Span::Dates { from, to } => (millis(*from)..millis(*to)).contains(&wall.as_millis()),
        Span::Weekly { .. } => false,
    };
    rules.freeze.iter().chain(&service.guard.freeze).any(covers)
}
