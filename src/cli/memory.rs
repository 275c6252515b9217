//! How much memory the windows of an expression may take: what the configuration allows, since nobody knows yet what will
//! be exposed.

use std::time::Duration;

use crate::config::model::{Config, QuerySpec, ScrapeSpec};
use crate::promql::{Expr, Need, Selector, quarter_more};

/// A value that is no whole number, and its instant where scrapes were missed. A counter at a steady pace takes one or two
/// bytes for each sample.
const SAMPLE_BYTES: u64 = 12;
/// A series without its samples: labels of about the usual length, its places in the indices, its window's head.
const SERIES_BYTES: u64 = 768;

/// What one selector of an expression may take, at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    pub selector: String,
    /// Of one series.
    pub samples: u64,
    pub series_bytes: u64,
    /// As many as its sources may show together.
    pub series_max: u64,
}

impl Windows {
    pub fn bytes_max(&self) -> u64 {
        self.bytes_of(self.series_max)
    }

    pub fn bytes_of(&self, series: u64) -> u64 {
        self.series_bytes.saturating_mul(series)
    }
}

/// One entry for each selector, in the order of the text. A series that several selectors or triggers ask for is kept once.
pub(super) fn windows(config: &Config, service: &str, expr: &Expr) -> Vec<Windows> {
    let of_selector = |(selector, need): (&Selector, Need)| {
        let (interval, series_max) = source(config, service, selector.exact_name().unwrap_or_default());
        let samples = match need {
            Need::Reach(reach) => samples_in(reach, interval),
            Need::Newest => samples_in(Duration::ZERO, interval),
            // A streak is of samples, not of time.
            Need::Samples(of) => u64::from(of) + 1,
        };
        let kept = usize::try_from(samples).unwrap_or(usize::MAX);
        let room = samples.saturating_add(u64::try_from(quarter_more(kept)).unwrap_or(u64::MAX));
        let series_bytes = room.saturating_mul(SAMPLE_BYTES).saturating_add(SERIES_BYTES);
        Windows { selector: selector.to_string(), samples, series_bytes, series_max }
    };
    expr.needs().into_iter().map(of_selector).collect()
}

/// With the interval behind the reach that is kept too, and the sample before it.
fn samples_in(reach: Duration, interval: Duration) -> u64 {
    let whole = reach.as_millis().div_ceil(interval.as_millis().max(1));
    u64::try_from(whole).unwrap_or(u64::MAX).saturating_add(3)
}

/// The fastest interval of the sources that could show a metric, and how many series they may.
fn source(config: &Config, service: &str, metric: &str) -> (Duration, u64) {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut queries = config.queries.iter().filter(|query| *query.service == *service);
    if let Some(QuerySpec { interval, series_max, .. }) = queries.find(|query| *query.name == *metric) {
        return (*interval, count(*series_max));
    }
    if metric.starts_with("probe_") {
        let probes = || config.probes.iter().filter(|probe| *probe.service == *service);
        let fastest = probes().map(|probe| probe.interval).min().unwrap_or(Duration::MAX);
        return (fastest, count(probes().map(|probe| probe.targets.len()).sum()));
    }
    let mine = |scrape: &&ScrapeSpec| scrape.service.as_ref().is_none_or(|own| **own == *service);
    let scrapes = || config.scrapes.iter().filter(mine);
    let fastest = scrapes().map(|scrape| scrape.interval).min().unwrap_or(Duration::MAX);
    let series = scrapes().map(|scrape| count(scrape.targets.len()).saturating_mul(count(scrape.samples_max))).sum();
    (fastest, series)
}

/// `77 MB`, `1.5 kB`: nobody needs it more exactly.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().si().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Source};

    #[test]
    fn what_may_be_kept_follows_reach_interval_and_limits() {
        let text = r#"
            [services.api.scrapes.app]
            targets = ["http://a/", "http://b/"]
            interval = "10s"
            samples_max = 100
            [services.api.probes.health]
            tcp = "a:1"
            interval = "5s"
            [services.api.queries.far]
            expr = "sum(x)"
            server = "http://p/"
            interval = "30s"
            series_max = 7
            [services.api.triggers.a]
            expr = "far > rate(near[5m])"
            above = 0
        "#;
        let source = Source { path: "a.toml".into(), text: text.to_owned() };
        let environment = Environment { variable: &|_| None, hostname: "h" };
        let config = crate::config::parse(&[source], &environment, 1).unwrap();
        let of = |expr: &Expr| windows(&config, "api", expr);
        let expr = Expr::parse("far > rate(near[5m])").unwrap();
        let [far, near] = <[Windows; 2]>::try_from(of(&expr)).unwrap();
        assert_eq!((far.samples, far.series_max), (3, 7), "only the newest is looked at");
        assert_eq!((near.samples, near.series_max), (33, 200));
        assert_eq!(near.series_bytes, (33 + 12) * 12 + 768);
        assert_eq!(near.bytes_max(), 200 * ((33 + 12) * 12 + 768));
        let streak = &of(&Expr::streak(Selector::parse("probe_success").unwrap(), 3, 5))[0];
        assert_eq!((streak.samples, streak.series_max), (6, 1));
    }
}
