//! Random bodies against the scan: it must not panic, must read exactly what another reader reads, and must name the
//! line of an error. Whatever it is told to select, whatever it remembers of earlier bodies.
//!
//! `FUZZ_MINUTES=60 cargo test --release --test fuzz_scan -- --nocapture` runs on all cores (`FUZZ_CORES`) and prints how
//! many bodies it tried; without it, a few thousand. `FUZZ_SEED=7` tries one body again and shows it.

mod fuzz;
#[path = "fuzz_scan/reference.rs"]
mod reference;

use std::collections::HashMap;
use std::fmt::Write as _;

use backstop::exposition::{Format, Limits, Memory, Names, Options, Sample, ScanError, scan, scan_remembering};
use fuzz::Random;
use reference::Line;

/// Without an order to go on: what every run of the tests can afford.
const BODIES_BY_DEFAULT: u64 = 20_000;
const WANTED: [&str; 4] = ["a", "http_requests_total", "h_bucket", "my.metric"];

const NAMES: [&str; 9] = [
    "a",
    "ab",
    "a:b",
    "http_requests_total",
    "http_requests_totals",
    "h_bucket",
    "h_sum",
    "_",
    "a_long_name_of_a_metric_1",
];
const LABEL_NAMES: [&str; 8] = ["b", "le", "quantile", "status", "a_label_name_of_20", "c", "__name__", "b2"];
const QUOTED: [&str; 7] = ["my.metric", "a", "l x", "", "é", "q\\\"q", "b\\t"];
const VALUES: [&str; 16] = [
    "",
    "1",
    "500",
    "+Inf",
    "0.25",
    "} 9 # ",
    "/users/{id}",
    "é漢",
    "\\\\",
    "\\\"",
    "\\n",
    "\\x",
    ",b=",
    "1234567",
    "12345678",
    "a value of more than thirty-two bytes, and of more than sixty-four, too; with a blank or two",
];
const NUMBERS: [&str; 20] = [
    "0",
    "1",
    "-1",
    "+1",
    "7",
    "12345",
    "123456789012345",
    "1234567890123456",
    "18446744073709551616",
    "0.0625",
    "1.",
    ".5",
    "1e3",
    "1e400",
    "NaN",
    "+Inf",
    "-inf",
    "nan",
    "1_0",
    "0x1",
];
const TIMES: [&str; 8] =
    ["1395066363000", "0", "-1", "1.5", "1e3", "NaN", "9223372036854775808", "12345678901234567890.5"];
const COMMENTS: [&str; 12] = [
    "# HELP a text",
    "# TYPE h histogram",
    "# TYPE s summary",
    "# TYPE a counter",
    "# TYPE a unknown",
    "# TYPE a untyped",
    "# TYPE a  gauge",
    "# UNIT a_s s",
    "# UNIT a s",
    "# a comment",
    "#",
    "# HELP \"my.metric\" x",
];
const BLANKS: [&str; 6] = ["", "", "", "", " ", "\t"];
/// What is put into the middle of something.
const DIRT: [&[u8]; 16] =
    [b"\"", b"\\", b"{", b"}", b",", b"=", b" ", b"\t", b"#", b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"1", b"# EOF\n"];

fn labels(random: &mut Random, text: &mut String, blanks: &[&str]) {
    text.push('{');
    let count = if random.once_in(200) { 70 } else { random.below(5) };
    for label in 0..count {
        text.push_str(random.of(blanks));
        match random.below(12) {
            0 => write!(text, "\"{}\"", random.of(&QUOTED)).unwrap(),
            1 => write!(text, "\"{}\"=\"{}\"", random.of(&QUOTED), random.of(&VALUES)).unwrap(),
            2 => write!(text, "l{label}=\"{}\"", random.of(&VALUES).repeat(random.below(40))).unwrap(),
            _ => write!(
                text,
                "{}{}={}\"{}\"",
                random.of(&LABEL_NAMES),
                random.of(blanks),
                random.of(blanks),
                random.of(&VALUES)
            )
            .unwrap(),
        }
        text.push_str(random.of(blanks));
        if label + 1 < count && !random.once_in(30) || random.once_in(6) {
            text.push(',');
        }
    }
    text.push('}');
}

fn line(random: &mut Random, open: bool) -> String {
    let mut text = String::new();
    let blanks: &[&str] = if open && !random.once_in(40) { &[""] } else { &BLANKS };
    if random.once_in(6) {
        return random.of(&COMMENTS).to_owned();
    }
    if !open && random.once_in(20) {
        return random.of(blanks).to_owned();
    }
    text.push_str(random.of(blanks));
    if random.once_in(12) {
        write!(text, "{{\"{}\"", random.of(&QUOTED)).unwrap();
        let mut rest = String::new();
        labels(random, &mut rest, blanks);
        write!(text, ",{}", &rest[1..]).unwrap();
    } else {
        text.push_str(random.of(&NAMES));
        text.push_str(random.of(blanks));
        if !random.once_in(4) {
            labels(random, &mut text, blanks);
        }
    }
    if !random.once_in(30) {
        text.push(' ');
    }
    text.push_str(random.of(blanks));
    let numbers = if random.once_in(3) { NUMBERS.len() } else { 12 };
    text.push_str(random.of(&NUMBERS[..numbers]));
    if random.once_in(5) {
        write!(text, " {}", random.of(&TIMES)).unwrap();
    }
    if open && random.once_in(6) {
        text.push_str(" # ");
        labels(random, &mut text, blanks);
        write!(text, " {}", random.of(&NUMBERS)).unwrap();
        if random.once_in(3) {
            write!(text, " {}", random.of(&TIMES)).unwrap();
        }
    }
    text + random.of(blanks)
}

/// Mostly well formed: a body of which nothing is right is refused at its first line, and finds nothing.
fn body(random: &mut Random, open: bool) -> Vec<u8> {
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..random.below(20) {
        let again = if lines.is_empty() { None } else { Some(random.below(lines.len())) };
        // Most lines of real bodies are like one before.
        let line = match again {
            Some(again) if random.once_in(2) => {
                let (old, new) = (random.of(&VALUES), random.of(&VALUES));
                lines[again].replace(old, new)
            }
            Some(_) | None => line(random, open),
        };
        let is_right = reference::line(line.as_bytes(), open).is_some();
        if is_right || random.once_in(15) {
            lines.push(line);
        }
    }
    let mut body: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
    if open && !random.once_in(30) {
        body.extend(b"# EOF");
        body.extend(if random.once_in(8) { b"".as_slice() } else { b"\n" });
    }
    if random.once_in(3) {
        for _ in 0..=random.below(3) {
            let from = random.below(body.len() + 1);
            let to = (from + random.below(4)).min(body.len());
            let put: &[u8] = if random.once_in(3) { b"" } else { random.of(&DIRT) };
            body.splice(from..to, put.iter().copied());
        }
    }
    if random.once_in(20) {
        body.truncate(random.below(body.len() + 1));
    }
    body
}

/// A sample as it was delivered, with the line that it stands on.
#[derive(Clone, Debug)]
struct Delivered {
    line: usize,
    labels: Vec<(String, String)>,
    value: f64,
    millis: Option<i64>,
}

fn delivered(body: &[u8], sample: &Sample<'_>) -> Delivered {
    let offset = sample.series.as_ptr().addr() - body.as_ptr().addr();
    Delivered {
        line: body[..offset].split(|byte| *byte == b'\n').count(),
        labels: sample.labels().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        value: sample.value,
        millis: sample.timestamp,
    }
}

/// Equal bits, or both not a number.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

fn agree(ours: &Delivered, theirs: &reference::Sample) {
    let context = || format!("ours: {ours:?}\ntheirs: {theirs:?}");
    assert_eq!(ours.line, theirs.line, "{}", context());
    assert!(same(ours.value, theirs.value) && ours.millis == theirs.millis, "{}", context());
    assert_eq!(ours.labels[0], ("__name__".to_owned(), theirs.name.clone()), "{}", context());
    assert_eq!(ours.labels.len() - 1, theirs.labels.len(), "{}", context());
    for ((name, value), (their_name, their_value)) in ours.labels[1..].iter().zip(&theirs.labels) {
        assert_eq!(name, their_name, "{}", context());
        let numbers = value.parse::<f64>().ok().zip(their_value.parse::<f64>().ok());
        let is_same_number =
            theirs.numeric == Some(name) && numbers.is_some_and(|(ours, theirs)| same_bound(ours, theirs));
        assert!(value == their_value || is_same_number, "{}", context());
    }
}

/// Zero has one spelling as a bound.
fn same_bound(a: f64, b: f64) -> bool {
    same(a, b) || a == 0.0 && b == 0.0
}

fn options(open: bool, names: Names) -> Options {
    // Without limits, of which the other reader knows nothing.
    let limits =
        Limits { samples: usize::MAX, labels: usize::MAX, label_value_bytes: usize::MAX, name_bytes: usize::MAX };
    let format = if open { Format::OpenMetrics } else { Format::Text };
    Options { format, names, limits, accept_cut_body: false }
}

fn read(body: &[u8], options: &Options) -> Result<Vec<Delivered>, ScanError> {
    let mut read = Vec::new();
    let summary = scan(body, options, |sample| read.push(delivered(body, &sample)))?;
    assert_eq!(summary.selected, read.len());
    assert!(summary.selected <= summary.samples_exposed && summary.samples_exposed <= summary.lines);
    Ok(read)
}

/// Series of an earlier body, in an order that need not be that of the next.
struct Remembered<'m> {
    order: &'m [Vec<u8>],
    known: &'m HashMap<Vec<u8>, usize>,
    next: usize,
}

impl Memory for Remembered<'_> {
    type Handle = usize;

    fn expected(&self) -> Option<&[u8]> {
        self.order.get(self.next).map(Vec::as_slice)
    }

    fn confirm(&mut self) -> usize {
        self.next += 1;
        self.known[&self.order[self.next - 1]]
    }

    fn find(&mut self, series: &[u8]) -> Option<usize> {
        let place = *self.known.get(series)?;
        self.next = place + 1;
        Some(place)
    }
}

/// Everything selected: the two readers agree on the whole body, or on the line that is wrong.
fn check_all(body: &[u8], open: bool) -> Option<Vec<Delivered>> {
    let ours = read(body, &options(open, Names::all()));
    match (ours, reference::body(body, open)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "ours: {ours:?}\ntheirs: {theirs:?}");
            ours.iter().zip(&theirs).for_each(|(ours, theirs)| agree(ours, theirs));
            Some(ours)
        }
        (Err(error), Err(line)) => {
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().starts_with("line "), "{error}");
            None
        }
        (Ok(ours), Err(line)) => panic!("read, but line {line} is wrong: {ours:?}"),
        (Err(error), Ok(theirs)) => panic!("refused: {error}\ntheirs: {theirs:?}"),
    }
}

/// Some selected: every line that is wanted and right is delivered, and no other; a body that is right is not refused,
/// nor is one accepted of which a wanted line is wrong.
fn check_some(body: &[u8], open: bool, all: Option<&[Delivered]>) {
    let wanted = |delivered: &Delivered| WANTED.contains(&delivered.labels[0].1.as_str());
    let ours = read(body, &options(open, Names::new(WANTED, Vec::new(), false)));
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    match (ours, all) {
        (Ok(ours), all) => {
            assert!(ours.iter().all(wanted), "{ours:?}");
            let mut right = Vec::new();
            for (index, line) in lines.iter().enumerate() {
                if let Some(Line::Sample(name, ..)) = reference::line(line, open)
                    && WANTED.contains(&name.as_str())
                {
                    right.push(index + 1);
                }
            }
            assert_eq!(ours.iter().map(|one| one.line).collect::<Vec<_>>(), right);
            if let Some(all) = all {
                let values: Vec<u64> = ours.iter().map(|one| one.value.to_bits()).collect();
                let of_all: Vec<u64> = all.iter().filter(|one| wanted(one)).map(|one| one.value.to_bits()).collect();
                assert_eq!(values, of_all);
            }
        }
        (Err(error), None) => assert!((1..=lines.len()).contains(&error.line), "{error}"),
        (Err(error), Some(_)) => panic!("a body that is right was refused: {error}"),
    }
}

/// With a memory of it, or of half of it, or in another order, a body says the same.
fn check_memory(random: &mut Random, body: &[u8], open: bool, all: &[Delivered]) {
    let options = options(open, Names::all());
    let mut order: Vec<Vec<u8>> = Vec::new();
    let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
    let forgets = random.once_in(2);
    scan(body, &options, |sample| {
        let series = sample.series.to_vec();
        let is_forgotten = forgets && random.once_in(3);
        if !is_forgotten && !known.contains_key(&series) {
            known.insert(series.clone(), order.len());
            order.push(series);
        }
    })
    .expect("read before");
    let mut expected = order.clone();
    if random.once_in(2) && expected.len() > 1 {
        let (a, b) = (random.below(expected.len()), random.below(expected.len()));
        expected.swap(a, b);
    }
    let memory = Remembered { order: &expected, known: &known, next: 0 };
    let mut again = Vec::new();
    scan_remembering(body, &options, memory, |sample, place| {
        assert_eq!(place, known.get(sample.series).copied());
        again.push(delivered(body, &sample));
    })
    .expect("read before");
    assert_eq!(format!("{again:?}"), format!("{all:?}"));
}

fn try_one(seed: u64) {
    let mut random = Random(seed);
    let open = random.once_in(2);
    let body = body(&mut random, open);
    let all = check_all(&body, open);
    check_some(&body, open, all.as_deref());
    if let Some(all) = all {
        check_memory(&mut random, &body, open, &all);
    }
}

#[test]
fn the_scan_reads_what_another_reader_reads() {
    if let Some(seed) = fuzz::setting("FUZZ_SEED") {
        let mut random = Random(seed);
        let open = random.once_in(2);
        println!("OpenMetrics: {open}\n{}", String::from_utf8_lossy(&body(&mut random, open)).escape_debug());
    }
    fuzz::drive("fuzz_scan", BODIES_BY_DEFAULT, try_one);
}

/// A fuzzer whose bodies are all refused, or all read, tests little.
#[test]
fn the_bodies_are_of_all_kinds() {
    let mut kinds = [0_u32; 4];
    for seed in 0..2000 {
        let mut random = Random(seed);
        let open = random.once_in(2);
        let body = body(&mut random, open);
        let is_read = reference::body(&body, open).is_ok_and(|samples| samples.len() > 3);
        kinds[usize::from(open) * 2 + usize::from(is_read)] += 1;
    }
    assert!(kinds.iter().all(|count| *count > 200), "{kinds:?}");
}
