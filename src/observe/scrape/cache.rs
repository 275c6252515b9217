//! The cache of one scrape target: raw series bytes → local id, and from one body to the next batch.
//!
//! A series is known by the bytes of its line, mostly without a look-up: it is compared with the one that followed the
//! same series the last time. Its labels are built once. Of two lines with the same series in one
//! body the first counts, as in Prometheus. A series that was not seen for a few scrapes is dropped from the cache.
//! Ids are dense and never given twice within one binding; when too many have been used up, or the interest set or the
//! format changed, or a scrape was refused after it was scanned, the next batch is a `rebind`: all ids are new.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::processes::{Processes, Signs};
use crate::exposition::{Format, Limits, Memory, Names, Options, Sample, ScanError, scan_remembering};
use crate::promql::{Batch, Interest, Labels, LocalId, Places, Texts, grow};

const PROCESS_START: &str = "process_start_time_seconds";
/// A kept series that comes back within so many scrapes needs no new labels. Small: with series that are new in each
/// scrape the cache holds this many times what one scrape shows.
const SCRAPES_UNSEEN_MAX: u64 = 3;
/// Used-up ids beyond the live ones before all are given anew; bounds what a reader that indexes by id must hold.
const IDS_SPENT_MAX: usize = 4096;

/// Why a body that arrived whole does not count.
#[derive(Debug)]
pub enum Refused {
    Scan(ScanError),
    /// More series are kept than allowed.
    TooMany(usize),
    SeveralProcesses(String),
}

/// What a body was turned into.
#[derive(Debug)]
pub struct Scanned {
    pub generation: u64,
    pub batch: Batch,
    pub samples_exposed: u64,
}

/// What is remembered of one target's series between two scrapes.
#[derive(Debug)]
pub struct Cache {
    target_labels: Vec<(Arc<str>, Arc<str>)>,
    texts: Texts,
    samples_max: usize,
    interest: Arc<Interest>,
    options: Options,
    by_bytes: Places,
    /// Two spellings of one series (another order of labels) share a place; these are the others.
    respelled: HashMap<Box<[u8]>, usize>,
    /// Those that are wanted.
    by_labels: Places,
    series: Vec<Series>,
    free: Vec<usize>,
    /// The place of the series that a body began with the last time.
    first: usize,
    /// Places and values of the scan under way; kept so that a body like the one before allocates nothing.
    places: Vec<(usize, f64)>,
    /// Bodies scanned since the cache was empty; series note the last one they were in.
    scan: u64,
    ids: u32,
    rebind: bool,
    processes: Processes,
}

#[derive(Debug)]
struct Series {
    /// As it was written when it was first seen.
    bytes: Box<[u8]>,
    /// The place of the series that came after it the last time.
    next: usize,
    /// `None`: nobody wants it, or nobody but us ([`PROCESS_START`]).
    labels: Option<Labels>,
    id: Option<LocalId>,
    /// The last scan that it was in, and the one before that; zero is none.
    seen: u64,
    is_process_start: bool,
    is_counter: bool,
    /// Its last two values, the older one first, and in how many scans in a row it was.
    last: [f64; 2],
    streak: u32,
}

impl Cache {
    /// `target_labels` are `job`, `instance` and the operator's.
    pub fn new(target_labels: Vec<(String, String)>, samples_max: usize, interest: Arc<Interest>) -> Cache {
        Cache {
            target_labels: target_labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            texts: Texts::default(),
            samples_max,
            options: options(&interest, Format::Text),
            interest,
            by_bytes: Places::default(),
            respelled: HashMap::new(),
            by_labels: Places::default(),
            series: Vec::new(),
            free: Vec::new(),
            first: 0,
            places: Vec::new(),
            scan: 0,
            ids: 0,
            rebind: true,
            processes: Processes::default(),
        }
    }

    /// From now on these series are wanted.
    pub fn retarget(&mut self, interest: Arc<Interest>) {
        if interest.generation != self.interest.generation {
            self.options = options(&interest, self.options.format);
            self.interest = interest;
            self.forget();
        }
    }

    /// Scans a body and makes the next batch of it. A body that is refused as broken changes nothing.
    pub fn read(&mut self, format: Format, body: &[u8]) -> Result<Scanned, Refused> {
        if format != self.options.format {
            self.options.format = format;
            self.forget();
        }
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        let scanned = self.scan_into(&mut places, body);
        let judged = scanned.and_then(|samples_exposed| self.judge(&places, samples_exposed));
        self.places = places;
        judged
    }

    /// Scans a body into the places and values of its samples. The answer is how many it has, selected or not.
    fn scan_into(&mut self, places: &mut Vec<(usize, f64)>, body: &[u8]) -> Result<u64, Refused> {
        let mut unknown: Vec<(usize, Sample<'_>)> = Vec::new();
        let memory =
            Known { by_bytes: &self.by_bytes, respelled: &self.respelled, series: &self.series, next: self.first };
        let summary = scan_remembering(body, &self.options, memory, |sample, place| {
            if place.is_none() {
                unknown.push((places.len(), sample));
            }
            places.push((place.unwrap_or(usize::MAX), sample.value));
        })
        .map_err(Refused::Scan)?;
        for (at, sample) in &unknown {
            places[*at].0 = self.place(sample);
        }
        Ok(u64::try_from(summary.samples_exposed).unwrap_or(u64::MAX))
    }

    fn judge(&mut self, places: &[(usize, f64)], samples_exposed: u64) -> Result<Scanned, Refused> {
        self.scan += 1;
        let seen = self.touch(places);
        self.sweep();
        if seen.kept > self.samples_max {
            // What a body like this needs is more than the target is allowed to hold.
            self.forget();
            return Err(Refused::TooMany(self.samples_max));
        }
        if let Some(why) = self.processes.judge(seen.signs) {
            self.rebind = true;
            return Err(Refused::SeveralProcesses(why));
        }
        let batch = self.batch(places, seen.signs.start);
        Ok(Scanned { generation: self.interest.generation, batch, samples_exposed })
    }

    /// How many series the cache has room for.
    #[cfg(test)]
    pub fn places(&self) -> usize {
        self.series.len()
    }

    /// Empties the cache.
    fn forget(&mut self) {
        self.by_bytes = Places::default();
        self.respelled = HashMap::new();
        self.by_labels = Places::default();
        self.texts = Texts::default();
        self.series = Vec::new();
        self.free = Vec::new();
        self.scan = 0;
        self.rebind = true;
    }

    /// The place of a series that is not known by these bytes.
    fn place(&mut self, sample: &Sample<'_>) -> usize {
        if let Some(place) = place_of(sample.series, &self.by_bytes, &self.respelled, &self.series) {
            return place;
        }
        let labels = self.labels_of(sample);
        if let Some(place) = self.by_labels.find(&labels, labels_at(&self.series)) {
            self.respelled.insert(sample.series.into(), place);
            return place;
        }
        let wanted = self.interest.wants(&labels);
        self.insert(sample.series, &labels, wanted)
    }

    fn insert(&mut self, bytes: &[u8], labels: &Labels, wanted: bool) -> usize {
        let name = labels.name();
        let series = Series {
            bytes: bytes.into(),
            next: usize::MAX,
            labels: wanted.then(|| labels.clone()),
            id: None,
            seen: 0,
            is_process_start: name == PROCESS_START,
            is_counter: ["_total", "_count", "_bucket"].iter().any(|end| name.ends_with(end)),
            last: [f64::NAN; 2],
            streak: 0,
        };
        let place = if let Some(place) = self.free.pop() {
            self.series[place] = series;
            place
        } else {
            grow(&mut self.series);
            self.series.push(series);
            self.series.len() - 1
        };
        self.by_bytes.insert(place, bytes_at(&self.series));
        if wanted {
            self.by_labels.insert(place, labels_at(&self.series));
        }
        place
    }

    /// The exposed labels and the target's. Where both have a name the target's counts, and the exposed one is called
    /// `exported_…`, as Prometheus does it (`honor_labels: false`).
    fn labels_of(&mut self, sample: &Sample<'_>) -> Labels {
        let exposed: Vec<(Cow<'_, str>, Cow<'_, str>)> =
            sample.labels().filter(|(_, value)| !value.is_empty()).collect();
        let (target_labels, texts) = (&self.target_labels, &mut self.texts);
        let of_target = |name: &str| target_labels.iter().any(|(label, _)| **label == *name);
        let renamed = exposed.iter().map(|(name, value)| {
            let mut name = Cow::clone(name);
            if of_target(&name) {
                while of_target(&name) || exposed.iter().any(|(other, _)| *other == name) {
                    name.to_mut().insert_str(0, "exported_");
                }
            }
            (texts.shared(&name), texts.shared(value))
        });
        Labels::from_pairs(renamed.chain(target_labels.iter().cloned()))
    }

    /// Notes each series of a scan once, with its first value, and gathers what they show.
    fn touch(&mut self, places: &[(usize, f64)]) -> Seen {
        let mut seen = Seen::default();
        let mut starts = 0;
        let mut before = None;
        for (place, value) in places {
            match before.replace(*place) {
                Some(before) => self.series[before].next = *place,
                None => self.first = *place,
            }
            let series = &mut self.series[*place];
            if series.seen == self.scan {
                continue;
            }
            series.streak = if series.seen + 1 == self.scan { series.streak.saturating_add(1) } else { 1 };
            series.seen = self.scan;
            seen.kept += usize::from(series.labels.is_some());
            if series.is_process_start {
                starts += 1;
                seen.signs.start = Some(*value).filter(|value| value.is_finite());
            }
            if series.is_counter && series.streak >= 3 {
                let [first, second] = series.last;
                seen.signs.jumped += usize::from(second < first && *value >= first);
                seen.signs.grew += usize::from(first < second && second < *value);
            }
            series.last = [series.last[1], *value];
        }
        if starts > 1 {
            // Somebody else's processes, gathered under one address: it says nothing of this one.
            seen.signs.start = None;
        }
        seen
    }

    /// Drops what was not seen for a while.
    fn sweep(&mut self) {
        let scan = self.scan;
        let is_spent = |series: &Series| {
            let unseen_max = if series.labels.is_some() { SCRAPES_UNSEEN_MAX } else { 0 };
            // A free place is one that was never seen.
            series.seen > 0 && series.seen + unseen_max < scan
        };
        if !self.series.iter().any(is_spent) {
            return;
        }
        let mut spent: Vec<usize> = Vec::new();
        let series = &self.series;
        self.by_bytes.retain(|place| !is_spent(&series[place]));
        self.respelled.retain(|_, place| !is_spent(&series[*place]));
        self.by_labels.retain(|place| !is_spent(&series[place]));
        self.texts.sweep();
        for (place, series) in self.series.iter_mut().enumerate() {
            if is_spent(series) {
                spent.push(place);
                series.seen = 0;
                series.labels = None;
                series.id = None;
                series.bytes = Box::default();
            }
        }
        self.free.extend(spent);
    }

    fn batch(&mut self, places: &[(usize, f64)], process_start: Option<f64>) -> Batch {
        let live = self.by_labels.len();
        if usize::try_from(self.ids).unwrap_or(usize::MAX) > 2 * live + IDS_SPENT_MAX {
            self.rebind = true;
        }
        let mut batch = Batch { process_start, rebind: self.rebind, ..Batch::default() };
        if self.rebind {
            self.ids = 0;
            for series in &mut self.series {
                series.id = None;
            }
        }
        for series in &self.series {
            if let Some(id) = series.id
                && series.seen + 1 == self.scan
            {
                batch.vanished.push(id);
            }
        }
        let mut sampled = vec![false; self.series.len()];
        for (place, value) in places {
            let series = &mut self.series[*place];
            let Some(labels) = &series.labels else { continue };
            if std::mem::replace(&mut sampled[*place], true) {
                continue;
            }
            let id = if let Some(id) = series.id {
                if series.streak == 1 {
                    batch.born.push((id, labels.clone()));
                }
                id
            } else {
                let id = LocalId(self.ids);
                self.ids += 1;
                series.id = Some(id);
                batch.born.push((id, labels.clone()));
                id
            };
            batch.samples.push((id, *value));
        }
        self.rebind = false;
        batch
    }
}

fn bytes_at<'s>(series: &'s [Series]) -> impl Fn(usize) -> &'s [u8] {
    |place| &series[place].bytes
}

/// Of a series that is wanted.
fn labels_at<'s>(series: &'s [Series]) -> impl Fn(usize) -> &'s Labels {
    |place| series[place].labels.as_ref().expect("a wanted series")
}

/// The place of the series that was written with these bytes before.
fn place_of(
    bytes: &[u8],
    by_bytes: &Places,
    respelled: &HashMap<Box<[u8]>, usize>,
    series: &[Series],
) -> Option<usize> {
    by_bytes.find(bytes, bytes_at(series)).or_else(|| respelled.get(bytes).copied())
}

/// The cache as a scan asks it.
struct Known<'c> {
    by_bytes: &'c Places,
    respelled: &'c HashMap<Box<[u8]>, usize>,
    series: &'c [Series],
    next: usize,
}

impl Memory for Known<'_> {
    type Handle = usize;

    fn expected(&self) -> Option<&[u8]> {
        self.series.get(self.next).filter(|series| series.seen > 0).map(|series| &*series.bytes)
    }

    fn confirm(&mut self) -> usize {
        let place = self.next;
        self.next = self.series[place].next;
        place
    }

    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let place = place_of(bytes, self.by_bytes, self.respelled, self.series)?;
        self.next = self.series[place].next;
        Some(place)
    }
}

#[derive(Debug, Default)]
struct Seen {
    kept: usize,
    signs: Signs,
}

fn options(interest: &Interest, format: Format) -> Options {
    let exact: Vec<&str> = interest.exact_names().chain([PROCESS_START]).collect();
    let names = Names::new(exact, interest.name_patterns(), interest.any_name());
    // What is kept is counted here: a wanted name may have many series that no selector matches. The size of the body
    // bounds those.
    let limits = Limits { samples: usize::MAX, ..Limits::DEFAULT };
    Options { format, names, limits, accept_cut_body: false }
}
