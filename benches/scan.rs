//! How fast a scrape body is scanned, beside prometheus-parse (which always parses all) and a bare search for newlines
//! (below which no scan by lines can get): of 95,000 samples, of as many in small families, and of fewer with long
//! labels, 0.1 %, 10 % and all are selected.
//!
//! `cargo bench --bench scan`
//!
//! All take turns on one thread, and the least CPU time of each counts, so that the ratios mean something on a machine
//! that has other work.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use backstop::exposition::{Format, Limits, Memory, Names, Options, scan, scan_remembering};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 30;

/// A body as a large service exposes it: families with help and type, and values of which a third are not integers.
struct Body {
    title: &'static str,
    families: usize,
    /// In each family.
    series: usize,
    labels: fn(usize) -> String,
}

const BODIES: [Body; 3] = [
    Body { title: "95,000 samples, five labels", families: 1000, series: 95, labels: five_labels },
    Body { title: "95,000 samples in families of five", families: 19_000, series: 5, labels: five_labels },
    Body { title: "20,000 samples, long labels", families: 1000, series: 20, labels: long_labels },
];

fn five_labels(series: usize) -> String {
    format!(
        "method=\"GET\",path=\"/api/v1/things/{series}\",status=\"200\",zone=\"eu-west-1a\",version=\"2026.11.{series}\""
    )
}

/// A kilobyte. Without escapes, braces, commas and equals signs in the values, for which prometheus-parse would drop
/// the line.
fn long_labels(series: usize) -> String {
    let mut labels = String::new();
    for label in 0..12 {
        let value = "/a/long/segment/of/a/path with blanks and straße ".repeat(1 + label % 4);
        write!(labels, "a_rather_long_label_name_{label}=\"{value}{series}\",").expect("writing to memory");
    }
    labels + "statement=\"SELECT name FROM customers WHERE id > ?\""
}

impl Body {
    fn text(&self) -> String {
        let mut text = String::new();
        for family in 0..self.families {
            let name = name(family);
            let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("writing to memory");
            line(format_args!("# HELP {name} What the service did in its part number {family}."));
            line(format_args!("# TYPE {name} counter"));
            for series in 0..self.series {
                let count = family * 7919 + series * 104_729;
                let fraction = if series % 3 == 0 { ".0625" } else { "" };
                line(format_args!("{name}{{{}}} {count}{fraction}", (self.labels)(series)));
            }
        }
        text
    }

    fn samples(&self) -> usize {
        self.families * self.series
    }

    /// The names of every `nth` family.
    fn names(&self, nth: usize) -> Names {
        let wanted: Vec<String> = (0..self.families).step_by(nth).map(name).collect();
        Names::new(wanted.iter().map(String::as_str), Vec::new(), false)
    }
}

fn name(family: usize) -> String {
    format!("service_part_{family}_requests_total")
}

fn options(names: Names) -> Options {
    let limits = Limits { samples: usize::MAX, ..Limits::DEFAULT };
    Options { format: Format::Text, names, limits, accept_cut_body: false }
}

/// As the daemon's cache remembers what it keeps, without the rest of the daemon.
struct Remembered<'m> {
    series: &'m [Box<[u8]>],
    next: usize,
}

impl Memory for Remembered<'_> {
    type Handle = usize;

    fn expected(&self) -> Option<&[u8]> {
        self.series.get(self.next).map(|series| &**series)
    }

    fn confirm(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn find(&mut self, _series: &[u8]) -> Option<usize> {
        None
    }
}

/// The answer of each is how many samples it read.
type Contender<'b> = (&'static str, Box<dyn FnMut() -> usize + 'b>);

fn contenders<'b>(body: &Body, text: &'b str) -> Vec<Contender<'b>> {
    let samples = body.samples();
    let mut all: Vec<Contender<'b>> = vec![(
        "prometheus-parse",
        Box::new(move || {
            let lines = black_box(text).lines().map(|line| Ok(line.to_owned()));
            prometheus_parse::Scrape::parse(lines).expect("the body is valid").samples.len()
        }),
    )];
    all.push((
        "newlines only",
        Box::new(move || {
            black_box(memchr::memchr_iter(b'\n', black_box(text.as_bytes())).fold(0, |sum, at| sum ^ at));
            samples
        }),
    ));
    for (title, names) in [
        ("scan, 0.1 % selected", body.names(1000)),
        ("scan, 10 % selected", body.names(10)),
        ("scan, 100 % selected by name", body.names(1)),
        ("scan, 100 % selected, any name", Names::all()),
    ] {
        let options = options(names);
        all.push((
            title,
            Box::new(move || {
                let mut sum = 0.0;
                let summary = scan(black_box(text.as_bytes()), &options, |sample| sum += sample.value);
                black_box(sum);
                let summary = summary.expect("the body is valid");
                assert_eq!(summary.samples_exposed, samples);
                summary.selected
            }),
        ));
    }
    let options = options(Names::all());
    let mut series: Vec<Box<[u8]>> = Vec::new();
    scan(text.as_bytes(), &options, |sample| series.push(sample.series.into())).expect("the body is valid");
    let mut values = vec![0.0; series.len()];
    all.push((
        "scan, 100 % selected and seen before",
        Box::new(move || {
            let memory = Remembered { series: &series, next: 0 };
            let body = black_box(text.as_bytes());
            let summary = scan_remembering(body, &options, memory, |sample, place| {
                values[place.expect("the body is the same")] = sample.value;
            });
            summary.expect("the body is valid").selected
        }),
    ));
    all
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.expect("not negative"), nanos.expect("below a second"))
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { ROUNDS };
    for body in BODIES {
        let text = body.text();
        let mut contenders = contenders(&body, &text);
        let mut least = vec![Duration::MAX; contenders.len()];
        let mut read = vec![0; contenders.len()];
        for round in 0..rounds {
            for (index, (_, run)) in contenders.iter_mut().enumerate() {
                // It is known to be slow, and a few rounds of it are as long as all of the others.
                if index == 0 && round % 10 != 0 {
                    continue;
                }
                let start = cpu_time();
                read[index] = run();
                assert!(index != 0 || read[index] == body.samples(), "prometheus-parse reads all of it");
                least[index] = least[index].min(cpu_time().saturating_sub(start));
            }
        }
        println!("{} ({} bytes)", body.title, text.len());
        println!("  {:38} {:>9} {:>9} {:>8} {:>18}", "", "samples", "ms", "MB/s", "× prometheus-parse");
        for (index, (title, _)) in contenders.iter().enumerate() {
            let seconds = least[index].as_secs_f64();
            let ratio = least[0].as_secs_f64() / seconds;
            #[expect(clippy::cast_precision_loss, reason = "a body has far fewer than 2^52 bytes")]
            let megabytes = text.len() as f64 / 1e6 / seconds;
            println!("  {title:38} {:>9} {:>9.2} {megabytes:>8.0} {ratio:>18.1}", read[index], seconds * 1e3);
        }
    }
}
