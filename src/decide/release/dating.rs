//! When a release has appeared, and between which two instants it did.
//!
//! Several detectors may see the same change, each when it is read. The first that saw the new value dates its appearance,
//! and the earliest of their last looks at an old one is the last instant of what was before.

use super::super::event::{IncidentId, Release, Running};
use super::super::rules::DetectorKind;
use super::{Releases, Seen};
use crate::time::Timestamp;

/// The latest appearance of a release.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub release: Release,
    pub previous: Option<Release>,
    /// The last instant at which something else was seen; absent for the first release ever seen.
    pub old_last_seen: Option<Timestamp>,
    pub first_seen: Timestamp,
    /// It had run here before.
    pub returned: bool,
    pub installed_by: Option<IncidentId>,
}

impl Releases {
    /// Reads all detectors together. Returns the release that has just appeared, with the date of its change.
    pub fn update(&mut self, now: Timestamp) -> Option<Change> {
        self.running = self.name(now);
        let seen: Vec<Release> = match &self.running {
            Running::One(release) => vec![release.clone()],
            Running::Mix(shares) => shares.iter().map(|(release, _)| release.clone()).collect(),
            Running::Unknown(_) => return None,
        };
        let was = self.judged.clone();
        if was.as_ref().is_some_and(|judged| seen.contains(judged)) {
            self.judged_last_seen = Some(now);
            self.judged_by = None;
            let newcomer = seen.iter().find(|release| !self.runs_since_change(release));
            return newcomer.cloned().map(|release| self.appeared(release, now));
        }
        seen.first().cloned().map(|release| self.appeared(release, now))
    }

    /// In a mix the older releases are those we knew before the judged one.
    fn runs_since_change(&self, release: &Release) -> bool {
        self.judged.as_ref() == Some(release)
            || self.change.as_ref().is_some_and(|change| {
                change.previous.as_ref() == Some(release)
                    || self.known.iter().any(|known| known.release == *release && known.started < change.first_seen)
            })
    }

    fn appeared(&self, release: Release, now: Timestamp) -> Change {
        // Another detector may date the change better: one whose value has changed since the judged release began, and
        // whose value stands for the release that has appeared, or for none yet.
        let began = self.change.as_ref().map_or(Timestamp::MIN, |change| change.first_seen);
        let of_change: Vec<(usize, &Seen)> = self
            .readers
            .iter()
            .enumerate()
            .flat_map(|(index, reader)| reader.seen.values().map(move |seen| (index, reader, seen)))
            .filter(|(index, reader, seen)| match reader.aliases.get(&seen.value) {
                Some(alias) => alias.as_ref() == Some(&release),
                None => *index > 0 || *seen.value == *release.0,
            })
            .map(|(index, _, seen)| (index, seen))
            .filter(|(_, seen)| seen.since > began)
            .collect();
        // What was announced stood until the next announcement, however long ago it was said.
        let is_looked_at = |index: usize| !matches!(self.detectors[index].kind, DetectorKind::Announced);
        let looks = of_change.iter().filter(|(index, _)| is_looked_at(*index));
        let before = looks.filter_map(|(_, seen)| seen.before_read).min();
        let judged_last_seen = self.judged_last_seen.filter(|_| !self.is_renamed());
        let old_last_seen = judged_last_seen.map(|seen| before.map_or(seen, |before| seen.min(before)).max(began));
        let first_seen = of_change
            .iter()
            .map(|(_, seen)| seen.since)
            .filter(|since| old_last_seen.is_some_and(|old| *since > old))
            .fold(now, Timestamp::min);
        Change {
            returned: self.known.iter().any(|known| known.release == release),
            previous: self.judged.clone(),
            release,
            old_last_seen,
            first_seen,
            installed_by: None,
        }
    }

    /// What was taken last from the journal had its name from this detector.
    pub fn was_named_by(&mut self, detector: Option<&str>) {
        self.judged_by = detector.map(str::to_owned);
    }

    /// Another detector than before the restart may call the same release by another name: whether anything has changed is
    /// not known. A symlink that has moved says the same words in another place.
    fn is_renamed(&self) -> bool {
        fn words(detector: &str) -> &str {
            if detector.starts_with("symlink ") { "symlink" } else { detector }
        }
        self.judged_by.is_some() && self.judged_by.as_deref().map(words) != self.named_by().map(words)
    }
}
