//! Which values of several detectors name the same release.
//!
//! An alias is learned only for what belongs together. Outside the process a deployment shows first (the symlink is
//! flipped), inside it after the restart: a symlink that changed while the process has not is not yet that process's
//! release. A value that was seen under two releases names neither.
//!
//! What was learned is kept over a restart: a release that was rolled back is the same one under its other name. But
//! only what this run has watched begin is kept, or what moved on together from a pair that is kept: whether a symlink
//! and a process that were found together belong together, nobody knows.
//!
//! An announcement says what was deployed then. Another release that is seen later makes it outdated.

use std::sync::Arc;
use std::time::Duration;

use super::super::event::{Release, Running};
use super::super::rules::DetectorKind;
use super::{Reading, Releases, STALE_INTERVALS};
use crate::time::Timestamp;

/// Of one release and detector. A detector that says something else at each look must not fill the journal.
const KEPT_MAX: usize = 8;

/// What was flipped outside of the processes has come to all of them within this time.
const DEPLOYED_WITHIN: Duration = Duration::from_mins(5);

/// Another name of a release, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The first detector of the list, which names the releases. Under another one they have other names.
    pub first: Arc<str>,
    pub detector: Arc<str>,
    pub value: String,
    /// None: it was seen under several, so it names none of them.
    pub release: Option<Release>,
}

impl Releases {
    /// The release that a detector's value stands for. None: a stand-in that was never matched with the first.
    pub(super) fn alias(&self, index: usize, value: &str) -> Option<Release> {
        let reader = &self.readers[index];
        let plain = Release(value.into());
        match reader.aliases.get(value) {
            Some(release) => release.clone(),
            None if index == 0 => Some(plain),
            None if reader.matched => Some(plain),
            None if self.known.is_empty() || self.known.iter().any(|known| known.release == plain) => Some(plain),
            None => None,
        }
    }

    /// A stand-in had named this release before the first detector could be read again: the identity is kept. Until the
    /// stand-in has shown the same for long enough it is not sure whether the first detector shows that release or a
    /// third one: of several that have come meanwhile one process may be left, and a symlink may already be at the next.
    pub(super) fn adopt_name(&mut self, readings: &[Reading], now: Timestamp) -> Option<Running> {
        let Reading::One(name) = &readings[0] else { return None };
        if self.readers[0].aliases.contains_key(name) || self.known.iter().any(|known| *known.release.0 == **name) {
            return None;
        }
        let (named_since, _) = self.readers[0].times()?;
        let judged = self.judged.clone()?;
        // The first detector was read under the judged release already, so that another value is another release.
        let began = self.change.as_ref()?.first_seen;
        if self.readers[0].seen.values().any(|seen| seen.before_read.is_some_and(|read| read > began)) {
            return None;
        }
        if let Some(waiting) = self.first_look_of_stand_in(now) {
            return Some(waiting);
        }
        let stand_in = readings.iter().enumerate().skip(1).find_map(|(index, reading)| {
            let reader = &self.readers[index];
            // One that uses the same words would have said this one: it is another release.
            let has_other_words = !reader.alike && !reader.aliases.contains_key(&*judged.0);
            let shows = match reading {
                Reading::One(value) => *value == *judged.0,
                Reading::Mix(shares) => shares.iter().any(|(value, _)| *value == *judged.0),
                Reading::Unreadable(_) => reader.seen.values().any(|seen| *seen.value == *judged.0),
            };
            let (since, at) = reader.times()?;
            // What was found at the start was there before.
            let was_before = since < named_since || reader.seen.values().all(|seen| seen.before_read.is_none());
            (has_other_words && shows && was_before).then_some((index, since, at))
        });
        let (index, since, at) = stand_in?;
        let pulls = !matches!(self.detectors[index].kind, DetectorKind::Announced);
        let shown_alone = matches!(readings[index], Reading::One(_));
        let seen_together = if pulls && shown_alone { at } else { now }.since(named_since.max(since));
        let doubted_for = if shown_alone { self.doubted_for(index, named_since) } else { DEPLOYED_WITHIN };
        if seen_together < doubted_for {
            return Some(Running::Unknown(format!(
                "{} says {name}: it is not known yet whether that is {}, which {} has shown",
                self.detectors[0].describe, judged.0, self.detectors[index].describe
            )));
        }
        if !shown_alone {
            return None;
        }
        self.readers[0].aliases.insert(name.clone(), Some(judged.clone()));
        // What was only announced cannot be looked at again.
        if pulls {
            self.keep(0, name, &judged);
        }
        None
    }

    /// Right after a start, a name that nobody knows may be another one of what ran before: a stand-in is given its time to
    /// tell.
    fn first_look_of_stand_in(&self, now: Timestamp) -> Option<Running> {
        let asked_since = self.asked_since?;
        let unread = self.detectors.iter().zip(&self.readers).skip(1).find(|(detector, reader)| {
            let pulls = !matches!(detector.kind, DetectorKind::Announced);
            let is_unread = reader.seen.is_empty() && reader.error.is_none();
            pulls && is_unread && now.since(asked_since) <= detector.interval * STALE_INTERVALS
        });
        unread.map(|(detector, _)| Running::Unknown(format!("{} has not been read yet", detector.describe)))
    }

    /// How long the first detector and a stand-in must have been seen together until what they say is the same release.
    fn doubted_for(&self, index: usize, named_since: Timestamp) -> Duration {
        let settle = self.settle(index);
        let previous = self.change.as_ref().and_then(|change| change.previous.as_ref());
        // The release before the judged one was the last that the first detector named: both moved on from it.
        let moved_together = self.named_last.as_ref().is_some_and(|(release, at)| {
            previous == Some(release) && (self.is_inside(0) || named_since.since(*at) <= settle)
        });
        if moved_together { settle } else { DEPLOYED_WITHIN }
    }

    /// Two detectors that follow the same deployment both show it within this time of each other.
    fn settle(&self, index: usize) -> Duration {
        (self.detectors[0].interval + self.detectors[index].interval) * 2
    }

    /// The symlink was taken for a name of what ran inside, and the process moves on while the symlink stays: it was
    /// flipped for what comes now, and names that.
    pub(super) fn part_names(&mut self, readings: &[Reading]) {
        let Some(Reading::One(name)) = readings.first() else { return };
        let (Some(Some(release)), Some((named_since, _))) =
            (self.readers[0].aliases.get(name), self.readers[0].times())
        else {
            return;
        };
        if self.is_inside(0) || *release.0 == **name {
            return;
        }
        let moved_on =
            readings.iter().enumerate().skip(1).filter(|(index, _)| self.is_inside(*index)).any(|(index, reading)| {
                let Reading::One(value) = reading else { return false };
                let reader = &self.readers[index];
                let is_other = *value != *release.0
                    && reader.aliases.get(value).is_none_or(|alias| alias.as_ref() != Some(release));
                is_other && reader.seen.values().any(|seen| seen.before_read.is_some_and(|read| read > named_since))
            });
        if moved_on {
            let (name, own) = (name.clone(), Release(name.as_str().into()));
            if self.readers[0].kept.contains_key(&name) {
                self.learn(0, &name, Some(own));
            } else {
                self.readers[0].aliases.insert(name, Some(own));
            }
        }
    }

    /// An announcement of something else than what was seen since stands in for nothing.
    pub(super) fn drop_outdated(&self, readings: &mut [Reading]) {
        let Some(change) = &self.change else { return };
        for (index, reading) in readings.iter_mut().enumerate().skip(1) {
            let Reading::One(value) = reading else { continue };
            let is_judged = self.alias(index, value).is_some_and(|release| release == change.release);
            if self.is_outdated(index, change.first_seen) && !is_judged {
                *reading = Reading::Unreadable(format!(
                    "{}: {value} was announced before {} was seen",
                    self.detectors[index].describe, change.release.0
                ));
            }
        }
    }

    /// Was it announced so long before this instant that it is not of what came then?
    fn is_outdated(&self, index: usize, instant: Timestamp) -> bool {
        let is_announced = matches!(self.detectors[index].kind, DetectorKind::Announced);
        is_announced && self.readers[index].times().is_some_and(|(_, at)| at + self.settle(index) < instant)
    }

    pub(super) fn learn_aliases(&mut self, readings: &[Reading]) {
        let Reading::One(name) = &readings[0] else { return };
        let (Some(release), Some(first)) = (self.alias(0, name), self.readers[0].times()) else { return };
        for (index, reading) in readings.iter().enumerate().skip(1) {
            let Reading::One(value) = reading else { continue };
            let Some(own) = self.readers[index].times() else { continue };
            if self.is_outdated(index, first.0) {
                continue;
            }
            self.readers[index].alike |= value == name;
            if !self.readers[index].matched {
                self.readers[index].matched = true;
                self.readers[index].aliases.entry(value.clone()).or_insert_with(|| Some(release.clone()));
                continue;
            }
            let settle = self.settle(index);
            // Both must have been read again since, not only be remembered: a process that has died shows nothing.
            let read = |detector: usize, at: Timestamp| match self.detectors[detector].kind {
                DetectorKind::Announced => Timestamp::MAX,
                DetectorKind::Metric { .. } | DetectorKind::Probe { .. } | DetectorKind::Outside => at,
            };
            if read(0, first.1).min(read(index, own.1)).since(first.0.max(own.0)) <= settle {
                continue;
            }
            let linked = match (self.is_inside(0), self.is_inside(index)) {
                (true, false) => first.0 + settle >= own.0,
                (false, true) => own.0 + settle >= first.0,
                (true, true) | (false, false) => true,
            };
            let watched = self.watched(index, (first.0, own.0), settle);
            let contradicts =
                matches!(self.readers[index].kept.get(value), Some(kept) if *kept != Some(release.clone()));
            let linked = linked && (watched || !contradicts);
            let aliases = &mut self.readers[index].aliases;
            match aliases.get(value) {
                Some(Some(known)) if *known == release => {}
                Some(_) if !linked => {
                    aliases.insert(value.clone(), None);
                }
                None if !linked => {}
                Some(_) | None => {
                    aliases.insert(value.clone(), Some(release.clone()));
                }
            }
            if linked && (watched || self.moved_on(index, value, &release)) {
                self.keep(index, value, &release);
                // What was only announced cannot be looked at again.
                if !matches!(self.detectors[index].kind, DetectorKind::Announced) {
                    self.keep(0, name, &release);
                }
            } else if watched && self.readers[index].aliases.get(value) == Some(&None) {
                self.unkeep(index, value);
            }
        }
    }

    /// Did what is inside the process begin in this run, or, of two of a kind, either?
    fn watched(&self, index: usize, (first, own): (Timestamp, Timestamp), settle: Duration) -> bool {
        let began = match (self.is_inside(0), self.is_inside(index)) {
            (true, false) => first,
            (false, true) => own,
            (true, true) | (false, false) => first.max(own),
        };
        self.asked_since.is_some_and(|asked| began > asked + settle)
    }

    /// Is the release before this one kept under another value? Then both detectors have moved on from it.
    fn moved_on(&self, index: usize, value: &str, release: &Release) -> bool {
        let change = self.change.as_ref().filter(|change| change.release == *release);
        let Some(previous) = change.and_then(|change| change.previous.as_ref()) else { return false };
        let kept = &self.readers[index].kept;
        !kept.contains_key(value) && kept.values().any(|kept| kept.as_ref() == Some(previous))
    }

    fn keep(&mut self, index: usize, value: &str, release: &Release) {
        let kept = &self.readers[index].kept;
        let is_new = match kept.get(value) {
            // Its own name is no other name.
            None => *release.0 != *value && kept.values().flatten().filter(|kept| *kept == release).count() < KEPT_MAX,
            Some(kept) => kept.as_ref() != Some(release),
        };
        if is_new {
            self.learn(index, value, Some(release.clone()));
        }
    }

    fn unkeep(&mut self, index: usize, value: &str) {
        if matches!(self.readers[index].kept.get(value), Some(Some(_))) {
            self.learn(index, value, None);
        }
    }

    fn learn(&mut self, index: usize, value: &str, release: Option<Release>) {
        let describe = |index: usize| Arc::clone(&self.detectors[index].describe);
        let named = Named { first: describe(0), detector: describe(index), value: value.to_owned(), release };
        self.learned.push(named.clone());
        self.remember(named);
    }

    /// What was learned since the last call, to be recorded.
    pub fn take_learned(&mut self) -> Vec<Named> {
        std::mem::take(&mut self.learned)
    }

    /// Takes another name, live or from the journal.
    pub fn remember(&mut self, named: Named) {
        self.restore(&named);
        let same = |other: &&mut Named| {
            other.value == named.value && other.detector == named.detector && other.first == named.first
        };
        match self.names.iter_mut().find(same) {
            Some(other) => *other = named,
            None => self.names.push(named),
        }
    }

    /// Puts it back where its detectors still are what they were.
    pub(super) fn restore(&mut self, named: &Named) {
        if self.detectors.first().is_none_or(|first| first.describe != named.first) {
            return;
        }
        for (detector, reader) in self.detectors.iter().zip(&mut self.readers) {
            if detector.describe == named.detector {
                reader.aliases.insert(named.value.clone(), named.release.clone());
                reader.kept.insert(named.value.clone(), named.release.clone());
            }
        }
    }
}
