//! How fast a scrape body is scanned: 95,000 samples of which 0.1 %, 10 % and all are selected, beside prometheus-parse
//! (which always parses all) and a bare search for newlines (below which no scan by lines can get).
//!
//! `cargo bench --bench scan`

use std::collections::HashMap;
use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use backstop::exposition::{Format, Limits, Names, Options, scan, scan_with};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const FAMILIES: usize = 1000;
const SERIES: usize = 95;

/// A body as a large service exposes it: families with help, type, five labels, some of them with blanks to quote,
/// and values of which a third are not integers.
fn body() -> String {
    let mut body = String::new();
    for family in 0..FAMILIES {
        let name = name(family);
        let mut line = |text: std::fmt::Arguments<'_>| writeln!(body, "{text}").expect("writing to memory");
        line(format_args!("# HELP {name} What the service did in its part number {family}."));
        line(format_args!("# TYPE {name} counter"));
        for series in 0..SERIES {
            let count = family * 7919 + series * 104_729;
            let fraction = if series % 3 == 0 { ".0625" } else { "" };
            line(format_args!(
                "{name}{{method=\"GET\",path=\"/api/v1/things/{series}\",status=\"200\",zone=\"eu-west-1a\",\
                 version=\"2026.11.{series}\"}} {count}{fraction}"
            ));
        }
    }
    body
}

fn name(family: usize) -> String {
    format!("service_part_{family}_requests_total")
}

fn options(families: usize) -> Options {
    let wanted: Vec<String> = (0..families).map(|family| name(family * (FAMILIES / families))).collect();
    let any = families == FAMILIES;
    let names = Names::new(wanted.iter().map(String::as_str), Vec::new(), any);
    let limits = Limits { samples: usize::MAX, ..Limits::DEFAULT };
    Options { format: Format::Text, names, limits, accept_cut_body: false }
}

fn selected(body: &str, options: &Options) -> usize {
    let mut sum = 0.0;
    let summary = scan(body.as_bytes(), options, |sample| sum += sample.value).expect("the body is valid");
    black_box(sum);
    assert_eq!(summary.samples_exposed, FAMILIES * SERIES);
    summary.selected
}

fn bench(criterion: &mut Criterion) {
    let body = body();
    let mut group = criterion.benchmark_group("95000 samples");
    group.throughput(Throughput::Bytes(body.len() as u64)).sample_size(20).measurement_time(Duration::from_secs(4));

    group.bench_function("newlines only", |bencher| {
        bencher.iter(|| memchr::memchr_iter(b'\n', black_box(body.as_bytes())).fold(0, |sum, at| sum ^ at));
    });
    for (label, families) in [("0.1 %", 1), ("10 %", 100), ("100 %", FAMILIES)] {
        let options = options(families);
        assert_eq!(selected(&body, &options), families * SERIES);
        group.bench_function(format!("scan, {label} selected"), |bencher| {
            bencher.iter(|| selected(black_box(&body), &options));
        });
    }

    let options = options(FAMILIES);
    let mut cache: HashMap<Vec<u8>, usize> = HashMap::new();
    scan(body.as_bytes(), &options, |sample| {
        let id = cache.len();
        cache.insert(sample.series.to_vec(), id);
    })
    .expect("the body is valid");
    let mut values = vec![0.0; cache.len()];
    group.bench_function("scan, 100 % selected, all known", |bencher| {
        bencher.iter(|| {
            let known = |series: &[u8]| cache.get(series).copied();
            scan_with(black_box(body.as_bytes()), &options, known, |sample, id| {
                values[id.expect("the body is the same")] = sample.value;
            })
        });
    });

    group.sample_size(10);
    group.bench_function("prometheus-parse", |bencher| {
        bencher.iter(|| {
            let lines = black_box(&body).lines().map(|line| Ok(line.to_owned()));
            prometheus_parse::Scrape::parse(lines).map(|scrape| scrape.samples.len())
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
