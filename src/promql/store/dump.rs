//! What is kept of windows over a restart: lent while it is written, owned once it was read.
//!
//! All windows together are most of what the daemon holds, so nobody copies all of them at once.

use super::clock::Clock;
use super::ring::Ring;
use super::samples::{Instants, Samples, SamplesView};
use super::target::{Series, Target};
use super::{Scope, TargetId};
use crate::promql::Labels;
use crate::time::Timestamp;

/// The windows of one target, as they were read.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetDump {
    pub target: TargetId,
    pub process_start: Option<f64>,
    /// Instants of successful scrapes within reach: what was observed.
    pub scrapes: Instants,
    pub series: Vec<SeriesDump>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDump {
    pub labels: Labels,
    pub own: bool,
    /// Rising. Staleness markers among them, as the NaN that Prometheus uses: the bits of a value must survive.
    pub samples: Samples,
    /// The series is known to have begun at zero.
    pub from_zero: bool,
    /// Instants of samples that came from another process than the one before them although the value did not drop: the
    /// samples do not tell it. Rising, and none is the first sample's.
    pub replaced: Vec<Timestamp>,
}

/// The series that ever matched one selector, as hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EverDump {
    pub scope: Scope,
    pub selector: String,
    pub series: Vec<u64>,
}

/// The windows of one target, lent by the store, or by what was read.
#[derive(Clone, Copy, Debug)]
pub struct TargetView<'a>(Lender<'a>);

#[derive(Clone, Copy, Debug)]
enum Lender<'a> {
    Store(TargetId, &'a Target),
    Dump(&'a TargetDump),
}

/// One series of a target.
#[derive(Clone, Copy, Debug)]
pub struct SeriesView<'a> {
    /// Where the series stands among those of its target. It stays there as long as the store has it; then another may.
    pub place: usize,
    pub labels: &'a Labels,
    pub own: bool,
    /// Rising.
    pub samples: SamplesView<'a>,
    pub from_zero: bool,
    replaced: Replaced<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Replaced<'a> {
    Of(&'a Ring),
    At(&'a [Timestamp]),
}

impl<'a> TargetView<'a> {
    pub(super) fn of(id: TargetId, target: &'a Target) -> TargetView<'a> {
        TargetView(Lender::Store(id, target))
    }

    pub fn target(self) -> TargetId {
        match self.0 {
            Lender::Store(id, _) => id,
            Lender::Dump(dump) => dump.target,
        }
    }

    pub fn process_start(self) -> Option<f64> {
        match self.0 {
            Lender::Store(_, target) => target.process_start(),
            Lender::Dump(dump) => dump.process_start,
        }
    }

    /// Instants of successful scrapes.
    pub fn scrapes(self) -> &'a Instants {
        match self.0 {
            Lender::Store(_, target) => target.scrapes.instants(),
            Lender::Dump(dump) => &dump.scrapes,
        }
    }

    /// Those that have samples, by their place.
    pub fn series(self) -> impl Iterator<Item = SeriesView<'a>> {
        let (target, dump) = match self.0 {
            Lender::Store(_, target) => (Some(target), None),
            Lender::Dump(dump) => (None, Some(dump)),
        };
        let live = target
            .into_iter()
            .flat_map(|target| target.places().map(|(place, series)| series.lend(place, &target.clock)));
        let read = dump.into_iter().flat_map(|dump| dump.series.iter().enumerate());
        live.chain(read.map(|(place, series)| series.lend(place))).filter(|series| !series.is_empty())
    }

    /// A copy, sorted by labels.
    pub fn dump(self) -> TargetDump {
        let mut series: Vec<SeriesDump> = self.series().map(SeriesView::dump).collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        TargetDump {
            target: self.target(),
            process_start: self.process_start(),
            scrapes: self.scrapes().clone(),
            series,
        }
    }
}

impl TargetDump {
    pub fn lend(&self) -> TargetView<'_> {
        TargetView(Lender::Dump(self))
    }
}

impl SeriesView<'_> {
    fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// What [`SeriesDump::replaced`] says, as far as it is newer than `after`.
    pub fn replaced_after(&self, after: Timestamp) -> Vec<Timestamp> {
        match self.replaced {
            Replaced::Of(ring) => ring.replaced_after(after),
            Replaced::At(instants) => instants.iter().copied().filter(|at| *at > after).collect(),
        }
    }

    fn dump(self) -> SeriesDump {
        let first = self.samples.instant_at(0).unwrap_or(Timestamp::MAX);
        SeriesDump {
            labels: self.labels.clone(),
            own: self.own,
            samples: self.samples.iter().collect(),
            from_zero: self.from_zero,
            replaced: self.replaced_after(first),
        }
    }
}

impl Series {
    fn lend<'a>(&'a self, place: usize, clock: &'a Clock) -> SeriesView<'a> {
        SeriesView {
            place,
            labels: &self.labels,
            own: self.own,
            samples: self.ring.lend(clock),
            from_zero: self.ring.from_zero,
            replaced: Replaced::Of(&self.ring),
        }
    }
}

impl SeriesDump {
    fn lend(&self, place: usize) -> SeriesView<'_> {
        SeriesView {
            place,
            labels: &self.labels,
            own: self.own,
            samples: self.samples.lend(),
            from_zero: self.from_zero,
            replaced: Replaced::At(&self.replaced),
        }
    }
}
