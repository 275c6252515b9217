//! `[services.X.scrapes.Y]` and the shared `[scrapes.Y]`.

use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Got, Table};
use super::super::model::{ScrapeSpec, TargetSpec};
use super::super::places::{Place, Problem};
use super::super::tree::{Key, Node};
use super::http::{client, labels, limits, targets, url};
use super::{name, setting};

/// Below, the daemon would spend its time asking.
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(100);
pub(super) const INTERVAL: Duration = Duration::from_secs(15);
const INTERVAL_MAX: Duration = Duration::from_hours(1);

/// What `[defaults.scrape]` and `[defaults.probe]` may set.
#[derive(Clone)]
pub(super) struct Pace {
    pub interval: Got<Duration>,
    pub timeout: Got<Duration>,
    pub body_max: Got<usize>,
    pub samples_max: Got<usize>,
}

impl Pace {
    pub fn unset() -> Pace {
        Pace { interval: Got::Absent, timeout: Got::Absent, body_max: Got::Absent, samples_max: Got::Absent }
    }

    pub fn read(table: &mut Table<'_, '_>) -> Pace {
        const WHY: &str = "an interval is between 100 ms and an hour";
        Pace {
            interval: table.get("interval", |cx, node| cx.duration_in(node, INTERVAL_MIN..INTERVAL_MAX, WHY)),
            timeout: table
                .get("timeout", |cx, node| cx.some_duration(node, "how long an answer may take, such as \"2s\"")),
            body_max: table.get("body_max", |cx, node| cx.size(node, 1024..256 << 20)),
            samples_max: Got::Absent,
        }
    }

    pub fn read_with_samples(table: &mut Table<'_, '_>) -> Pace {
        let samples_max = table.get("samples_max", |cx, node| {
            let most = cx.whole(node, 1..5_000_000, "how many samples of one scrape are kept at most")?;
            usize::try_from(most).ok()
        });
        Pace { samples_max, ..Pace::read(table) }
    }

    /// A timeout may not be longer than its interval; one that is not given is cut to it.
    pub fn times(
        &self,
        cx: &Cx<'_>,
        shared: &Pace,
        interval: Duration,
        timeout: Duration,
    ) -> Option<(Duration, Duration)> {
        let own_place = self.timeout.place().or(self.interval.place());
        let interval = setting(self.interval, &shared.interval, interval)?;
        let given = self.timeout.or_else(shared.timeout);
        let timeout = match given {
            Got::Absent => timeout.min(interval),
            Got::Bad => return None,
            Got::Is(timeout, place) => {
                if timeout > interval {
                    too_slow(cx, own_place.unwrap_or(place), timeout, interval);
                    return None;
                }
                timeout
            }
        };
        Some((interval, timeout))
    }
}

fn too_slow(cx: &Cx<'_>, place: Place, timeout: Duration, interval: Duration) {
    let (timeout, interval) = (humantime::format_duration(timeout), humantime::format_duration(interval));
    let problem = Problem::at(place, format!("the timeout of {timeout} is longer than the interval of {interval}"));
    cx.error(
        problem.help(format!("set the timeout to at most \"{interval}\", or the interval to at least \"{timeout}\"")),
    );
}

/// One that could not be compiled still has a name and perhaps an interval, for those that refer to it.
pub(super) struct Compiled {
    pub interval: Option<Duration>,
    pub spec: Option<ScrapeSpec>,
}

pub(super) fn scrapes(cx: &Cx<'_>, node: Option<&Node>, service: Option<&Arc<str>>, shared: &Pace) -> Vec<Compiled> {
    let Some(node) = node else { return Vec::new() };
    let entries = cx.named(node, "a table for each scrape: [services.NAME.scrapes.NAME]");
    entries.into_iter().flatten().map(|(key, node)| scrape(cx, key, node, service, shared)).collect()
}

fn scrape(cx: &Cx<'_>, key: &Key, node: &Node, service: Option<&Arc<str>>, shared: &Pace) -> Compiled {
    let name = name(cx, key, "a scrape");
    let Some(mut table) = cx.table(node, format!("the scrape `{}`", key.text)) else {
        return Compiled { interval: None, spec: None };
    };
    let addresses = addresses(&mut table);
    let own = Pace::read_with_samples(&mut table);
    let times = own.times(cx, shared, INTERVAL, Duration::from_secs(10));
    let client = client(&mut table);
    let job = table.get("job", |cx, node| cx.some_text(node, "the value of the label `job`"));
    let labels = table.get("labels", labels);
    table.not_yet(
        "honor_timestamps",
        "take it out: what a target exposes beside a value is ignored, and the instant of the scrape counts",
    );
    table.finish();
    let spec = || {
        let (interval, timeout) = times?;
        let body_bytes_max = setting(own.body_max, &shared.body_max, 16 << 20)?;
        Some(ScrapeSpec {
            service: service.cloned(),
            name: name?,
            targets: with_labels(addresses?, &labels.or(Vec::new())?),
            interval,
            limits: limits(timeout, body_bytes_max),
            samples_max: setting(own.samples_max, &shared.samples_max, 50_000)?,
            client: client?,
            job: job.optional()?.map(|text| text.value),
        })
    };
    Compiled { interval: times.map(|(interval, _)| interval), spec: spec() }
}

fn addresses(table: &mut Table<'_, '_>) -> Option<Vec<TargetSpec>> {
    let found = table.one_of(&["url", "targets"], &[], "write url = \"http://host:port/metrics\"")?;
    match found {
        ("url", node) => Some(vec![TargetSpec { address: url(table.cx, node)?.into(), labels: Vec::new() }]),
        (_, node) => targets(table.cx, node, "url", url, labels),
    }
}

/// A target's own labels win over those of the whole scrape or probe.
pub(super) fn with_labels(mut targets: Vec<TargetSpec>, labels: &[(String, String)]) -> Vec<TargetSpec> {
    for target in &mut targets {
        for (name, value) in labels {
            if target.labels.iter().all(|(have, _)| have != name) {
                target.labels.push((name.clone(), value.clone()));
            }
        }
    }
    targets
}
