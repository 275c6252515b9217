//! What runs, since when, and the way back.
//!
//! Detectors may speak different languages (a symlink says `2026-11-20_42`, a metric says `1.4.2`), so the first one
//! that can be read names the release, and the others are learned as aliases while both can be read. A detector that
//! stands in for the first one names a new release only by a value that is none of the aliases.

mod dating;
mod names;

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{IncidentId, Release, Running};
use super::rules::{Detector, DetectorKind};
use crate::promql::TargetId;
use crate::time::Timestamp;

pub use dating::Change;
pub use names::Named;

/// A detector's value is stale after this many of its intervals.
const STALE_INTERVALS: u32 = 3;

/// One release of the service's history.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub release: Release,
    pub first_seen: Timestamp,
    /// When its latest stint began: releases are ordered by it.
    pub started: Timestamp,
    pub good: bool,
    pub bad: Option<IncidentId>,
}

#[derive(Clone, Debug, PartialEq)]
struct Seen {
    value: String,
    /// Since when it has this value.
    since: Timestamp,
    /// When it was last read.
    at: Timestamp,
    /// When the value before was last read.
    before_read: Option<Timestamp>,
    /// The latest attempt to read it failed. Outside the process that is the whole answer; inside, the value stands
    /// until it is stale or a stand-in knows better.
    failed: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Reader {
    seen: BTreeMap<Option<TargetId>, Seen>,
    error: Option<String>,
    /// Its values, as the first detector names them. None: it was seen under several, so it names none of them.
    aliases: BTreeMap<String, Option<Release>>,
    /// Those of them that are in the journal, as it has them.
    kept: BTreeMap<String, Option<Release>>,
    /// It was matched with the first detector in this run.
    matched: bool,
    /// It was seen in this run to call a release as the first detector does.
    alike: bool,
}

impl Reader {
    /// When its newest value appeared, and when it was last read.
    fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let since = self.seen.values().map(|seen| seen.since).max()?;
        let at = self.seen.values().map(|seen| seen.at).max()?;
        Some((since, at))
    }
}

/// What a detector says of the whole service.
#[derive(Clone, Debug, PartialEq)]
enum Reading {
    One(String),
    Mix(Vec<(String, f64)>),
    Unreadable(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Releases {
    detectors: Vec<Detector>,
    readers: Vec<Reader>,
    known: Vec<Known>,
    pub running: Running,
    /// The newest release that was seen running: what is judged.
    pub judged: Option<Release>,
    pub change: Option<Change>,
    /// The last instant at which `judged` was seen.
    judged_last_seen: Option<Timestamp>,
    /// The detector that names what runs.
    namer: usize,
    /// The detector that named `judged` before the restart, until it is seen in this run.
    judged_by: Option<String>,
    /// Since when it has run, as far as we watched, without a firing verdict.
    calm_since: Option<Timestamp>,
    /// When this run of the daemon (or this list of detectors) was first asked what runs.
    asked_since: Option<Timestamp>,
    /// The release that the first detector itself named last in this run, and when.
    named_last: Option<(Release, Timestamp)>,
    /// What the journal has of other names, also of detectors that are not in the list now.
    names: Vec<Named>,
    /// Of it, what is to be recorded.
    learned: Vec<Named>,
}

impl Releases {
    #[must_use]
    pub fn new(detectors: &[Detector]) -> Releases {
        Releases {
            readers: vec![Reader::default(); detectors.len()],
            detectors: detectors.to_vec(),
            known: Vec::new(),
            running: Running::Unknown(
                if detectors.is_empty() {
                    "no release detector is configured"
                } else {
                    "no release detector has been read yet"
                }
                .to_owned(),
            ),
            judged: None,
            change: None,
            judged_last_seen: None,
            namer: 0,
            judged_by: None,
            calm_since: None,
            asked_since: None,
            named_last: None,
            names: Vec::new(),
            learned: Vec::new(),
        }
    }

    /// Other detectors after a reload. What was known stays known; readings start anew where the list changed.
    pub fn reconfigure(&mut self, detectors: &[Detector]) {
        if self.detectors != detectors {
            self.detectors = detectors.to_vec();
            self.readers = vec![Reader::default(); detectors.len()];
            self.asked_since = None;
            self.named_last = None;
            // Other detectors may call the same release by another name: the first name they give is no change.
            self.judged_last_seen = None;
            for named in self.names.clone() {
                self.restore(&named);
            }
        }
    }

    /// A detector was read. Says whether the value of that target (or of the service) is another one than before.
    pub fn read(
        &mut self,
        detector: usize,
        target: Option<TargetId>,
        value: Result<String, String>,
        at: Timestamp,
    ) -> bool {
        let Some(reader) = self.readers.get_mut(detector) else { return false };
        match value {
            Err(why) => {
                // Outside the process one failed look is the whole answer; a target that fails goes stale by itself.
                if let Some(seen) = reader.seen.get_mut(&None).filter(|_| target.is_none()) {
                    seen.failed = true;
                }
                reader.error = Some(why);
                false
            }
            Ok(value) => {
                reader.error = None;
                match reader.seen.get_mut(&target) {
                    Some(seen) if seen.value == value => {
                        seen.at = at;
                        seen.failed = false;
                        false
                    }
                    Some(seen) => {
                        *seen = Seen { value, since: at, at, before_read: Some(seen.at), failed: false };
                        true
                    }
                    None => {
                        let seen = Seen { value, since: at, at, before_read: None, failed: false };
                        reader.seen.insert(target, seen);
                        false
                    }
                }
            }
        }
    }

    /// A look at a target failed, so that what is inside its process could not be read.
    pub fn unread(&mut self, target: TargetId) {
        for reader in &mut self.readers {
            if let Some(seen) = reader.seen.get_mut(&Some(target)) {
                seen.failed = true;
            }
        }
    }

    /// A target went away, and its voice with it.
    pub fn target_gone(&mut self, target: TargetId) {
        for reader in &mut self.readers {
            reader.seen.remove(&Some(target));
        }
    }

    fn reading(&self, index: usize, now: Timestamp) -> Reading {
        let reader = &self.readers[index];
        let detector = &self.detectors[index];
        let fresh = |seen: &&Seen| is_fresh(detector, seen, now);
        let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
        let mut count = 0.0;
        for seen in reader.seen.values().filter(fresh) {
            *shares.entry(&seen.value).or_default() += 1.0;
            count += 1.0;
        }
        let mut shares: Vec<_> = shares.into_iter().map(|(value, n)| (value.to_owned(), n / count)).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        match shares.as_slice() {
            [] => Reading::Unreadable(match &reader.error {
                Some(why) => format!("{}: {why}", detector.describe),
                None => format!("{} has not been read", detector.describe),
            }),
            [(value, _)] => Reading::One(value.clone()),
            [_, ..] => Reading::Mix(shares),
        }
    }

    /// The detector that names what runs.
    #[must_use]
    pub fn named_by(&self) -> Option<&str> {
        self.detectors.get(self.namer).map(|namer| &*namer.describe)
    }

    /// Takes an appearance, live or from the journal.
    pub fn take(&mut self, change: Change) {
        match self.known.iter_mut().find(|known| known.release == change.release) {
            Some(known) => known.started = change.first_seen,
            None => self.known.push(Known {
                release: change.release.clone(),
                first_seen: change.first_seen,
                started: change.first_seen,
                good: false,
                bad: None,
            }),
        }
        self.judged = Some(change.release.clone());
        self.judged_last_seen = Some(change.first_seen);
        self.judged_by = None;
        self.calm_since = None;
        self.change = Some(change);
    }

    fn name(&mut self, now: Timestamp) -> Running {
        if self.readers.is_empty() {
            return self.running.clone();
        }
        let mut readings: Vec<Reading> = (0..self.readers.len()).map(|index| self.reading(index, now)).collect();
        // Right after the start a stand-in may be read before the first detector: that one is given its time.
        let asked_since = *self.asked_since.get_or_insert(now);
        let (first, never_read) =
            (&self.detectors[0], self.readers[0].seen.is_empty() && self.readers[0].error.is_none());
        let pulls = !matches!(first.kind, DetectorKind::Announced);
        if pulls && never_read && now.since(asked_since) <= first.interval * STALE_INTERVALS {
            return Running::Unknown(unreadable(&readings[0]));
        }
        self.part_names(&readings);
        if let Some(waiting) = self.adopt_name(&readings, now) {
            return waiting;
        }
        self.learn_aliases(&readings);
        self.drop_outdated(&mut readings);
        if let Some(running) = self.name_of_mute(&readings) {
            return running;
        }
        for (index, reading) in readings.iter().enumerate() {
            match reading {
                Reading::Unreadable(_) => {}
                Reading::One(value) => {
                    self.namer = index;
                    return match self.alias(index, value) {
                        Some(release) => {
                            if index == 0 {
                                self.named_last = Some((release.clone(), now));
                            }
                            Running::One(release)
                        }
                        None => Running::Unknown(format!(
                            "{}; {} says {value}, which does not tell the release",
                            unreadable(&readings[0]),
                            self.detectors[index].describe
                        )),
                    };
                }
                Reading::Mix(shares) => {
                    self.namer = index;
                    let mut named: Vec<(Release, f64)> = Vec::new();
                    for (value, share) in shares {
                        let Some(release) = self.alias(index, value) else {
                            return Running::Unknown(unreadable(&readings[0]));
                        };
                        match named.iter_mut().find(|(known, _)| *known == release) {
                            Some((_, sum)) => *sum += share,
                            None => named.push((release, *share)),
                        }
                    }
                    return match named.as_slice() {
                        [(release, _)] => Running::One(release.clone()),
                        [] | [_, _, ..] => Running::Mix(named),
                    };
                }
            }
        }
        let why: Vec<String> = readings.iter().map(unreadable).collect();
        Running::Unknown(why.join("; "))
    }

    /// While no process can be read, one outside that shows another release is to be believed: waiting until the first
    /// detector is stale would blame the old release for the crash of the new one.
    fn name_of_mute(&mut self, readings: &[Reading]) -> Option<Running> {
        let is_mute = self.is_inside(0) && self.readers[0].seen.values().all(|seen| seen.failed);
        if !is_mute {
            return None;
        }
        let outside = readings.iter().enumerate().skip(1).filter(|(index, _)| !self.is_inside(*index));
        let (index, release) = outside.into_iter().find_map(|(index, reading)| match reading {
            Reading::One(value) => Some((index, self.alias(index, value)?)),
            Reading::Mix(_) | Reading::Unreadable(_) => None,
        })?;
        self.namer = index;
        Some(Running::One(release))
    }

    fn is_inside(&self, index: usize) -> bool {
        match self.detectors[index].kind {
            DetectorKind::Metric { .. } | DetectorKind::Probe { .. } => true,
            DetectorKind::Outside | DetectorKind::Announced => false,
        }
    }

    /// Does a detector inside this target's process show the judged release (or a value that came with it)? None: no
    /// detector inside a process has ever been read on any target, so nothing can be said.
    #[must_use]
    pub fn shows_judged(&self, target: TargetId) -> Option<bool> {
        let inside = || (0..self.readers.len()).filter(|index| self.is_inside(*index));
        if inside().all(|index| self.readers[index].seen.is_empty()) {
            return None;
        }
        let changed = self.change.as_ref().and_then(|change| change.old_last_seen);
        Some(inside().any(|index| {
            let reader = &self.readers[index];
            reader.seen.get(&Some(target)).is_some_and(|seen| {
                let named = match reader.aliases.get(&seen.value) {
                    Some(alias) => alias.as_ref() == self.judged.as_ref(),
                    None => self.judged.as_ref().is_some_and(|judged| *judged.0 == *seen.value),
                };
                named || changed.is_some_and(|changed| seen.since > changed)
            })
        }))
    }

    /// The way back from `judged`: the newest release before it that is known good and not known bad.
    #[must_use]
    pub fn way_back(&self, judged: &Release) -> Option<&Release> {
        let started = self.known.iter().find(|known| known.release == *judged)?.started;
        self.known
            .iter()
            .filter(|known| known.good && known.bad.is_none() && known.release != *judged && known.started < started)
            .max_by_key(|known| known.started)
            .map(|known| &known.release)
    }

    /// How long `before` had run, this last time, when `judged` came.
    #[must_use]
    pub fn ran_before(&self, before: &Release, judged: &Release) -> Duration {
        let started = |release: &Release| self.known.iter().find(|known| known.release == *release);
        match (started(before), started(judged)) {
            (Some(before), Some(judged)) => judged.started.since(before.started),
            (Some(_) | None, Some(_) | None) => Duration::ZERO,
        }
    }

    /// Called at each turn: has the judged release now run for `good_after` without a firing verdict? `calm` says that
    /// none fires and that something is known; `clear`, that none is pending either: what may fire in a moment is not
    /// called good now, and loses no time by it if it does not fire. Returns the release once.
    pub fn grow(&mut self, calm: bool, clear: bool, good_after: Duration, now: Timestamp) -> Option<Release> {
        let Running::One(running) = &self.running else {
            self.calm_since = None;
            return None;
        };
        if !calm {
            self.calm_since = None;
            return None;
        }
        let since = *self.calm_since.get_or_insert(now);
        let known = self.known.iter().find(|known| known.release == *running)?;
        let has_run = clear && now.since(since) >= good_after;
        (!known.good && known.bad.is_none() && has_run).then(|| running.clone())
    }

    /// A trigger fired while it ran: whatever comes of that, it must earn its good mark anew.
    pub fn doubt(&mut self, release: &Release) {
        if let Some(known) = self.known.iter_mut().find(|known| known.release == *release) {
            known.good = false;
        }
        if self.judged.as_ref() == Some(release) {
            self.calm_since = None;
        }
    }

    /// When the running release will have become good, if nothing fires until then.
    #[must_use]
    pub fn good_at(&self, good_after: Duration) -> Option<Timestamp> {
        let known = self.known.iter().find(|known| Some(&known.release) == self.judged.as_ref())?;
        if known.good || known.bad.is_some() {
            return None;
        }
        self.calm_since.map(|since| since + good_after)
    }

    pub fn mark_good(&mut self, release: &Release) {
        if let Some(known) = self.known.iter_mut().find(|known| known.release == *release) {
            known.good = true;
        }
    }

    pub fn mark_bad(&mut self, release: &Release, incident: IncidentId) {
        if let Some(known) = self.known.iter_mut().find(|known| known.release == *release) {
            known.bad = Some(incident);
        }
    }

    /// Clears a bad mark; false when there is no such release or no mark.
    pub fn forget(&mut self, release: &str) -> bool {
        self.known.iter_mut().find(|known| *known.release.0 == *release).is_some_and(|known| known.bad.take().is_some())
    }

    #[must_use]
    pub fn known(&self) -> &[Known] {
        &self.known
    }

    #[must_use]
    pub fn is_bad(&self, release: &Release) -> Option<&IncidentId> {
        self.known.iter().find(|known| known.release == *release).and_then(|known| known.bad.as_ref())
    }

    /// Have the detectors been read since `instant`, so that a change before it would have been seen? Those outside the
    /// process count, as far as they can be read; where there are none, one inside is enough.
    #[must_use]
    pub fn read_since(&self, instant: Timestamp, now: Timestamp) -> bool {
        let pairs = || self.detectors.iter().zip(&self.readers);
        let read = |reader: &Reader| reader.seen.values().any(|seen| seen.at >= instant);
        let mut outside = pairs()
            .filter(|(detector, reader)| {
                matches!(detector.kind, DetectorKind::Outside)
                    && reader.seen.values().any(|seen| is_fresh(detector, seen, now))
            })
            .peekable();
        if outside.peek().is_some() {
            return outside.all(|(_, reader)| read(reader));
        }
        pairs().any(|(detector, reader)| matches!(detector.kind, DetectorKind::Announced) || read(reader))
    }

    /// The longest interval of a detector: how long to wait for one to be read.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.detectors.iter().map(|detector| detector.interval).max().unwrap_or_default()
    }

    /// After a restart: `judged` was last seen at `at` at the latest. What was announced is remembered: nobody announces
    /// it again for us.
    pub fn resume(&mut self, at: Timestamp) {
        self.calm_since = None;
        let Some(judged) = self.judged.clone() else { return };
        self.judged_last_seen = self.judged_last_seen.max(Some(at));
        if let (Some(reader), Some(DetectorKind::Announced)) =
            (self.readers.first_mut(), self.detectors.first().map(|detector| &detector.kind))
        {
            let since = self.change.as_ref().map_or(at, |change| change.first_seen);
            let seen = Seen { value: judged.0.to_string(), since, at, before_read: None, failed: false };
            reader.seen.entry(None).or_insert(seen);
        }
    }

    #[must_use]
    pub fn detectors(&self) -> &[Detector] {
        &self.detectors
    }
}

fn is_fresh(detector: &Detector, seen: &Seen, now: Timestamp) -> bool {
    match detector.kind {
        DetectorKind::Announced => true,
        DetectorKind::Metric { .. } | DetectorKind::Probe { .. } | DetectorKind::Outside => {
            let failed = seen.failed && matches!(detector.kind, DetectorKind::Outside);
            !failed && now.since(seen.at) <= detector.interval * STALE_INTERVALS
        }
    }
}

fn unreadable(reading: &Reading) -> String {
    match reading {
        Reading::Unreadable(why) => why.clone(),
        Reading::One(value) => value.clone(),
        Reading::Mix(_) => "several releases run".to_owned(),
    }
}

#[cfg(test)]
mod tests;
