//! Own metrics, in OpenMetrics text. `docs/metrics.md` documents every family of [`FAMILIES`]; a test compares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::machine::snapshot::{AskedView, JournalHealth, ReceiverView, ServiceView, Snapshot};

/// What is sent with [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From half a millisecond to ten seconds. The promise is 10 ms for a decision and one disk sync to the first step, so
/// both have a bound on either side of the usual.
const LAG_BUCKETS_S: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A family that [`Metrics::render`] exports.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// As its samples are called; histograms add `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    /// None for histograms, which are kept where they are observed.
    read: fn(&Seen) -> Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Info,
    Histogram,
}

/// The values of a family's labels, in its order, and the value.
type Sample = (Vec<String>, f64);

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Seen) -> Vec<Sample>,
) -> Family {
    Family { name, kind: Kind::Counter, help, labels, read }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Seen) -> Vec<Sample>,
) -> Family {
    Family { name, kind: Kind::Gauge, help, labels, read }
}

const DECISION_LAG: Family = Family {
    name: "backstop_decision_lag_seconds",
    kind: Kind::Histogram,
    help: "From the end of the scrape that completed a hold to the decision",
    labels: &[],
    read: |_| Vec::new(),
};
const SYNC_LAG: Family = Family {
    name: "backstop_sync_lag_seconds",
    kind: Kind::Histogram,
    help: "From a turn's entries to their being on the disk, which the first step of a rollback waits for",
    labels: &[],
    read: |_| Vec::new(),
};

/// Every family, in the order in which they are exported.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "backstop_build_info",
        kind: Kind::Info,
        help: "The version that runs",
        labels: &["version"],
        read: |seen| vec![(vec![seen.snapshot.version.to_owned()], 1.0)],
    },
    Family {
        name: "backstop_config_info",
        kind: Kind::Info,
        help: "The configuration that is in force",
        labels: &["hash"],
        read: |seen| vec![(vec![seen.snapshot.config_hash.to_string()], 1.0)],
    },
    gauge(
        "backstop_config_last_reload_successful",
        &[],
        "0 while the latest reload is one that failed and changed nothing",
        |seen| one(flag(seen.reloaded)),
    ),
    gauge("backstop_start_time_seconds", &[], "When the daemon started, in seconds since 1970", |seen| {
        one(seen.snapshot.started_wall.as_secs_f64())
    }),
    gauge("backstop_ready", &[], "1 while GET /readyz answers 200", |seen| one(flag(seen.ready))),
    gauge("backstop_paused", &["service"], "1 while the service, or the whole daemon, is paused", |seen| {
        let all = seen.snapshot.pause.is_some();
        let services = seen.snapshot.services.iter();
        services.map(|service| (vec![service.name.to_string()], flag(all || service.pause.is_some()))).collect()
    }),
    gauge(
        "backstop_kill_switch",
        &["service"],
        "1 while the service's kill switch, or the daemon's, is on: nothing is begun",
        |seen| {
            let all = seen.snapshot.kill_switch.is_some();
            let services = seen.snapshot.services.iter();
            services.map(|s| (vec![s.name.to_string()], flag(all || s.kill_switch.is_some()))).collect()
        },
    ),
    gauge("backstop_freeze", &["service"], "1 while a freeze turns a rollback into a proposal", |seen| {
        let services = seen.snapshot.services.iter();
        services.map(|service| (vec![service.name.to_string()], flag(service.freeze.is_some()))).collect()
    }),
    gauge("backstop_tilt", &[], "1 while backstop only watches, after a jump of the clock or a stop", |seen| {
        one(flag(seen.snapshot.tilt.is_some()))
    }),
    counter("backstop_tilts_total", &[], "Jumps of the wall clock and stops of the process", |seen| {
        one(count(seen.snapshot.counters.tilts))
    }),
    gauge(
        "backstop_guard_refusal",
        &["service", "reason"],
        "1 for each reason that keeps an open incident from being acted on",
        refusals,
    ),
    counter("backstop_findings_total", &["service", "trigger", "finding"], "Evaluations by their finding", |seen| {
        let findings = seen.snapshot.counters.findings.iter();
        findings.map(|((a, b, c), n)| (vec![a.to_string(), b.to_string(), (*c).to_owned()], count(*n))).collect()
    }),
    gauge(
        "backstop_verdict",
        &["service", "trigger", "verdict"],
        "1 for the verdict that the trigger has now",
        verdicts,
    ),
    gauge(
        "backstop_trigger_never_fires",
        &["service", "trigger"],
        "1 while the trigger's threshold lies beyond the highest finite bucket of its histogram: it can never fire",
        never_fires,
    ),
    gauge("backstop_trigger_value", &["service", "trigger"], "The trigger's latest value, where it has one", values),
    gauge(
        "backstop_target_up",
        &["service", "kind", "source", "address"],
        "1 if the latest look succeeded, 0 if it failed; absent before the first",
        targets,
    ),
    counter("backstop_looks_total", &["service", "source"], "Looks at targets that succeeded", |seen| {
        let looks = seen.snapshot.counters.looks.iter();
        looks.map(|((a, b), n)| (vec![a.to_string(), b.to_string()], count(*n))).collect()
    }),
    counter(
        "backstop_scrape_failures_total",
        &["service", "source", "reason"],
        "Looks at targets that failed, by reason",
        |seen| {
            let failures = seen.snapshot.counters.failures.iter();
            failures.map(|((a, b, c), n)| (vec![a.to_string(), b.to_string(), c.clone()], count(*n))).collect()
        },
    ),
    counter("backstop_overruns_total", &[], "Observations that a newer one replaced before they were read", |seen| {
        one(count(seen.snapshot.counters.overruns))
    }),
    gauge(
        "backstop_open_incidents",
        &["service", "state"],
        "Open incidents by state; needs_human is the one to alert on",
        open_incidents,
    ),
    gauge(
        "backstop_needs_human",
        &["service", "reason"],
        "Open incidents that wait for a person, by why; acknowledged ones too",
        needs_human,
    ),
    counter("backstop_incidents_total", &["service", "outcome"], "Incidents that ended, by outcome", |seen| {
        outcomes(&seen.snapshot.counters.incidents)
    }),
    counter("backstop_steps_total", &["service", "outcome"], "Steps that finished, by outcome", |seen| {
        outcomes(&seen.snapshot.counters.steps)
    }),
    gauge(
        "backstop_way_back_ready",
        &["service", "check"],
        "1 while the check finds the way back there, 0 if not or if it gives no answer; absent before the first answer",
        |seen| {
            ways_back(seen, |asked| match asked.standing {
                "free" => Some(1.0),
                "holds" | "unknown" => Some(0.0),
                _unasked => None,
            })
        },
    ),
    gauge("backstop_way_back_age_seconds", &["service", "check"], "How long ago the way back was looked at", |seen| {
        ways_back(seen, |asked| Some(seen.snapshot.wall.since(asked.last_wall?).as_secs_f64()))
    }),
    counter(
        "backstop_checks_total",
        &["service", "asker", "outcome"],
        "Answers of checks, by who asked and by outcome",
        |seen| {
            let checks = seen.snapshot.counters.checks.iter();
            let labels = |(service, asker, outcome): &(Arc<str>, &str, &str)| {
                vec![service.to_string(), (*asker).to_owned(), (*outcome).to_owned()]
            };
            checks.map(|(of, n)| (labels(of), count(*n))).collect()
        },
    ),
    gauge("backstop_outbox_depth", &["receiver"], "Notices that wait for this receiver", |seen| {
        receivers(seen, |receiver| count(receiver.queued as u64))
    }),
    gauge(
        "backstop_outbox_oldest_seconds",
        &["receiver"],
        "Age of the oldest notice that waits for this receiver; 0 if none does",
        |seen| {
            let age = |oldest| seen.snapshot.wall.since(oldest).as_secs_f64();
            receivers(seen, |receiver| receiver.oldest_wall.map_or(0.0, age))
        },
    ),
    gauge("backstop_dead_letters", &["receiver"], "Notices that this receiver will never get", |seen| {
        receivers(seen, |receiver| count(receiver.dead as u64))
    }),
    counter("backstop_notices_delivered_total", &[], "Notices that a receiver took", |seen| {
        one(count(seen.snapshot.counters.notices_delivered))
    }),
    counter("backstop_notices_dead_total", &[], "Notices that were given up", |seen| {
        one(count(seen.snapshot.counters.notices_dead))
    }),
    gauge(
        "backstop_journal_writing",
        &[],
        "1 while the journal can be written; without it no rollback starts",
        |seen| one(flag(seen.snapshot.journal == JournalHealth::Writing)),
    ),
    counter("backstop_commands_refused_total", &["refusal"], "Commands that were refused, by why", |seen| {
        let refused = seen.snapshot.counters.refused.iter();
        refused.map(|(why, n)| (vec![(*why).to_owned()], count(*n))).collect()
    }),
    counter("backstop_journal_errors_total", &[], "Failed writes of the journal", |seen| {
        one(count(seen.snapshot.counters.journal_errors))
    }),
    counter(
        "backstop_approval_links_total",
        &["result"],
        "Links of notices that were opened or answered, by what came of it",
        |seen| {
            let uses = LinkUse::ALL.iter().zip(&seen.links);
            uses.map(|(what, n)| (vec![what.as_str().to_owned()], count(*n))).collect()
        },
    ),
    DECISION_LAG,
    SYNC_LAG,
];

/// What came of a link that somebody opened, or answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkUse {
    /// The question and its buttons.
    Shown,
    Approved,
    Declined,
    /// By the machine: not an approver, or the guard does not let it.
    Refused,
    /// It is answered, or has ended without an answer.
    Over,
    /// It asks another question by now.
    Changed,
    Expired,
    Forged,
    Malformed,
    /// A page of another origin sent it.
    Foreign,
    /// The daemon stops, or the journal or the key fails.
    Unavailable,
}

impl LinkUse {
    const ALL: [LinkUse; 11] = [
        LinkUse::Shown,
        LinkUse::Approved,
        LinkUse::Declined,
        LinkUse::Refused,
        LinkUse::Over,
        LinkUse::Changed,
        LinkUse::Expired,
        LinkUse::Forged,
        LinkUse::Malformed,
        LinkUse::Foreign,
        LinkUse::Unavailable,
    ];

    /// The value of the label `result`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LinkUse::Shown => "shown",
            LinkUse::Approved => "approved",
            LinkUse::Declined => "declined",
            LinkUse::Refused => "refused",
            LinkUse::Over => "over",
            LinkUse::Changed => "changed",
            LinkUse::Expired => "expired",
            LinkUse::Forged => "forged",
            LinkUse::Malformed => "malformed",
            LinkUse::Foreign => "foreign",
            LinkUse::Unavailable => "unavailable",
        }
    }
}

/// What only the engine can measure, and what only the page of links sees. Cheap to clone; everything else is read from
/// the snapshot.
#[derive(Clone, Debug)]
pub struct Metrics {
    decision_lag: Histogram,
    sync_lag: Histogram,
    /// In the order of [`LinkUse::ALL`].
    links: Arc<[AtomicU64; LinkUse::ALL.len()]>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Metrics {
        let links = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Metrics { decision_lag: Histogram::new(LAG_BUCKETS_S), sync_lag: Histogram::new(LAG_BUCKETS_S), links }
    }

    pub fn count_link(&self, what: LinkUse) {
        for (counted, n) in LinkUse::ALL.iter().zip(self.links.iter()) {
            if *counted == what {
                n.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// From the end of the scrape that completed a hold to the decision.
    pub fn observe_decision_lag(&self, lag: Duration) {
        self.decision_lag.observe(lag.as_secs_f64());
    }

    /// From a turn's entries to their being on the disk.
    pub fn observe_sync_lag(&self, lag: Duration) {
        self.sync_lag.observe(lag.as_secs_f64());
    }

    /// All families as of `snapshot`.
    pub fn render(&self, snapshot: Arc<Snapshot>, ready: bool, reloaded: bool) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let links = self.links.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        registry.register_collector(Box::new(Seen { snapshot, ready, reloaded, links }));
        for (family, histogram) in [(DECISION_LAG, &self.decision_lag), (SYNC_LAG, &self.sync_lag)] {
            let name = family.name.trim_end_matches("_seconds");
            registry.register_with_unit(name, family.help, Unit::Seconds, histogram.clone());
        }
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

/// What is exported as it stands when it is asked for.
#[derive(Debug)]
struct Seen {
    snapshot: Arc<Snapshot>,
    ready: bool,
    reloaded: bool,
    /// In the order of [`LinkUse::ALL`].
    links: Vec<u64>,
}

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in FAMILIES {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Info => MetricType::Info,
                Kind::Histogram => continue,
            };
            // The encoder adds these by itself.
            let name = family.name.trim_end_matches("_total").trim_end_matches("_info");
            let mut metric = encoder.encode_descriptor(name, family.help, None, kind)?;
            for (values, value) in (family.read)(self) {
                let values = values.iter().map(String::as_str);
                let labels: Vec<(&str, &str)> = family.labels.iter().copied().zip(values).collect();
                if family.kind == Kind::Info {
                    metric.encode_info(&labels)?;
                } else if labels.is_empty() {
                    put(&mut metric, family.kind, value)?;
                } else {
                    put(&mut metric.encode_family(&labels)?, family.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn put(metric: &mut MetricEncoder, kind: Kind, value: f64) -> fmt::Result {
    if kind == Kind::Counter {
        metric.encode_counter::<NoLabelSet, f64, f64>(&value, None)
    } else {
        metric.encode_gauge(&value)
    }
}

fn one(value: f64) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

const fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 is not reached")]
const fn count(n: u64) -> f64 {
    n as f64
}

fn verdicts(seen: &Seen) -> Vec<Sample> {
    let mut samples = Vec::new();
    for service in &seen.snapshot.services {
        for trigger in &service.triggers {
            for verdict in ["quiet", "pending", "firing", "blind"] {
                let labels = vec![service.name.to_string(), trigger.name.to_string(), verdict.to_owned()];
                samples.push((labels, flag(trigger.verdict == verdict)));
            }
        }
    }
    samples
}

fn never_fires(seen: &Seen) -> Vec<Sample> {
    let of = |service: &ServiceView| {
        let name = service.name.to_string();
        let triggers = service.triggers.iter();
        triggers.map(|t| (vec![name.clone(), t.name.to_string()], flag(t.never_fires.is_some()))).collect::<Vec<_>>()
    };
    seen.snapshot.services.iter().flat_map(of).collect()
}

fn values(seen: &Seen) -> Vec<Sample> {
    let of = |service: &ServiceView| {
        let name = service.name.to_string();
        let triggers = service.triggers.iter();
        triggers.filter_map(|t| Some((vec![name.clone(), t.name.to_string()], t.value?))).collect::<Vec<_>>()
    };
    seen.snapshot.services.iter().flat_map(of).collect()
}

fn ways_back(seen: &Seen, value: impl Fn(&AskedView) -> Option<f64>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for service in &seen.snapshot.services {
        for asked in service.asked.iter().filter(|asked| asked.kind == "way_back") {
            let labels = vec![service.name.to_string(), asked.name.to_string()];
            samples.extend(value(asked).map(|value| (labels, value)));
        }
    }
    samples
}

fn targets(seen: &Seen) -> Vec<Sample> {
    // The same address may be listed twice under one source; two samples of one label set would spoil the whole page.
    let mut samples = BTreeMap::new();
    for service in &seen.snapshot.services {
        for target in &service.targets {
            let Some(up) = target.up else { continue };
            let kind = target.kind.to_owned();
            let labels = vec![service.name.to_string(), kind, target.source.to_string(), target.address.to_string()];
            samples.insert(labels, flag(up));
        }
    }
    samples.into_iter().collect()
}

fn open_incidents(seen: &Seen) -> Vec<Sample> {
    let mut counts: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for incident in seen.snapshot.incidents.iter().filter(|incident| incident.open) {
        *counts.entry(vec![incident.service.to_string(), incident.state.to_owned()]).or_default() += 1.0;
    }
    counts.into_iter().collect()
}

fn needs_human(seen: &Seen) -> Vec<Sample> {
    let mut counts: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for incident in &seen.snapshot.incidents {
        if let Some(why) = incident.needs_human {
            *counts.entry(vec![incident.service.to_string(), why.to_owned()]).or_default() += 1.0;
        }
    }
    counts.into_iter().collect()
}

fn refusals(seen: &Seen) -> Vec<Sample> {
    let mut samples = BTreeMap::new();
    for incident in seen.snapshot.incidents.iter().filter(|incident| incident.open) {
        for reason in &incident.reasons {
            samples.insert(vec![incident.service.to_string(), reason.clone()], 1.0);
        }
    }
    samples.into_iter().collect()
}

fn outcomes(counts: &BTreeMap<(Arc<str>, &'static str), u64>) -> Vec<Sample> {
    counts.iter().map(|((service, outcome), n)| (vec![service.to_string(), (*outcome).to_owned()], count(*n))).collect()
}

fn receivers(seen: &Seen, value: impl Fn(&ReceiverView) -> f64) -> Vec<Sample> {
    seen.snapshot.receivers.iter().map(|receiver| (vec![receiver.name.to_string()], value(receiver))).collect()
}
