//! The scan of scrape bodies against the data of the Prometheus project, against another parser, and against noise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use backstop::exposition::{Format, Limits, NORMAL_NAN_BITS, Names, Options, Sample, ScanError, scan, scan_with};
use base64::Engine;
use proptest::prelude::*;
use serde_json::Value;

/// Cases in which the scan does not do what Prometheus's own parser does, each with its reason. A case that is not
/// listed and deviates fails the test, and so does one that is listed and agrees.
const DEVIATIONS: &[(&str, &str)] = &[
    ("text_parse_test.go/testTextParseError/2", RAW_NEWLINE),
    ("text_parse_test.go/testTextParseError/39", RAW_NEWLINE),
    ("text_parse_test.go/testTextParseError/40", RAW_NEWLINE),
    ("fuzz/from_test_parse_error_2", RAW_NEWLINE),
    ("text_parse_test.go/testTextParseError/4", LABEL_TWICE),
    ("text_parse_test.go/testTextParseError/34", LABEL_TWICE),
    ("fuzz/from_test_parse_error_4", LABEL_TWICE),
    ("text_parse_test.go/testTextParseError/32", HEXADECIMAL),
    ("text_parse_test.go/testTextParseError/33", HEXADECIMAL),
];

const RAW_NEWLINE: &str = "a raw newline within quotes is refused: the format's page demands \\n, the other official parser \
     refuses it too, and a newline that always ends a line is what lets unselected lines be skipped";
const LABEL_TWICE: &str =
    "a label given twice is refused at once; Prometheus refuses it after its parser, in the scrape";
const HEXADECIMAL: &str = "a hexadecimal le or quantile stays as exposed; the other official parser refuses it, and nobody \
     exposes one";

type Read = (Vec<(String, String)>, u64, Option<i64>);

fn read(body: &[u8], options: &Options) -> Result<Vec<Read>, ScanError> {
    let mut read = Vec::new();
    scan(body, options, |sample| read.push(owned(&sample)))?;
    Ok(read)
}

fn owned(sample: &Sample<'_>) -> Read {
    let labels = sample.labels().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    (labels, sample.value.to_bits(), sample.timestamp)
}

fn everything(format: Format) -> Options {
    Options { format, names: Names::all(), limits: Limits::DEFAULT, accept_cut_body: false }
}

struct Case {
    id: String,
    body: Vec<u8>,
    /// `None` where Prometheus's parser refuses the body.
    gold: Option<Vec<Read>>,
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn gold_sample(sample: &Value) -> Read {
    let labels = sample["l"].as_array().expect("labels");
    let labels = labels.iter().map(|pair| (text(&pair[0]).to_owned(), text(&pair[1]).to_owned())).collect();
    let bits = u64::from_str_radix(text(&sample["v"]), 16).expect("hexadecimal bits");
    (labels, bits, sample["t"].as_i64())
}

fn case(line: &str) -> Case {
    let case: Value = serde_json::from_str(line).expect("a case is a JSON object");
    assert_eq!(case["fmt"], "prom");
    let gold = &case["gold"];
    Case {
        id: text(&case["id"]).to_owned(),
        body: base64::engine::general_purpose::STANDARD.decode(text(&case["in"])).expect("base64"),
        gold: text(&gold["err"])
            .is_empty()
            .then(|| gold["samples"].as_array().expect("samples").iter().map(gold_sample).collect()),
    }
}

/// The cases, or nothing where the data is absent, which only a developer's machine may be.
fn cases() -> Option<Vec<Case>> {
    let folder = std::env::var_os("BACKSTOP_CONFORMANCE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"), PathBuf::from);
    let path = folder.join("exposition/cases.jsonl");
    if !path.exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no conformance data at {}", path.display());
        println!("skipped: no conformance data at {}", path.display());
        return None;
    }
    let lines = std::fs::read_to_string(&path).expect("readable conformance data");
    Some(lines.lines().map(case).collect())
}

#[test]
fn agrees_with_the_parser_of_prometheus() {
    let Some(cases) = cases() else { return };
    assert!(cases.len() > 100, "only {} cases", cases.len());
    let options = Options { accept_cut_body: true, ..everything(Format::Text) };
    let deviations: BTreeMap<&str, &str> = DEVIATIONS.iter().copied().collect();
    let mut deviating = BTreeSet::new();
    let mut complaints = Vec::new();
    for Case { id, body, gold } in &cases {
        let ours = read(body, &options).map(|mut samples| {
            for (labels, _, _) in &mut samples {
                // Prometheus sorts the labels of a series.
                labels.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            samples
        });
        let agrees = match (&ours, gold) {
            (Ok(ours), Some(gold)) => ours == gold,
            (Err(_), None) => true,
            (Ok(_), None) | (Err(_), Some(_)) => false,
        };
        if !agrees {
            deviating.insert(id.as_str());
        }
        if agrees == deviations.contains_key(id.as_str()) {
            complaints.push(format!("{id}: agrees: {agrees}\n  ours: {ours:?}\n  gold: {gold:?}"));
        }
    }
    println!("{} cases, {} agree", cases.len(), cases.len() - deviating.len());
    for id in &deviating {
        println!("{id}: {}", deviations.get(id).copied().unwrap_or("not listed"));
    }
    for id in deviations.keys() {
        if !cases.iter().any(|case| case.id == *id) {
            complaints.push(format!("{id} is listed, but there is no such case"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What OpenMetrics 1.0 forbids and the scan reads nevertheless, by how the cases of its parser suite are called, each
/// with its reason. What the scan refuses, the specification refuses.
const OPENMETRICS_READ: &[(&str, &str)] = &[
    ("bad_clashing_names", FAMILIES),
    ("bad_counter_values", VALUES),
    ("bad_exemplar_complex_chars", EXEMPLARS),
    ("bad_exemplars_6", EXEMPLARS),
    ("bad_exemplars_on_unallowed", EXEMPLARS),
    ("bad_grouping_or_ordering", FAMILIES),
    ("bad_histograms", VALUES),
    ("bad_info_and_stateset_values", VALUES),
    ("bad_metadata_in_wrong_place", FAMILIES),
    ("bad_missing_or_extra_commas_2", TRAILING_COMMA),
    ("bad_missing_or_invalid_labels_for_a_type", VALUES),
    ("bad_repeated_metadata", FAMILIES),
    ("bad_stateset_info_values", VALUES),
    ("bad_unit_6", FAMILIES),
    ("bad_unit_7", FAMILIES),
];

const FAMILIES: &str = "which families there are, in which order, and what is said of them twice or late: the scan reads \
     lines, most of which nobody asked for, and Prometheus's parser reads these too, so refusing them would blind a \
     watchdog to a target that its operator sees in Prometheus";
const VALUES: &str = "what a value or a label means for its type: Prometheus reads these too; a NaN is Unknown to every \
     trigger, and a counter that goes down was reset";
const EXEMPLARS: &str = "exemplars are checked for their form and dropped; how long they are and on which samples they stand \
     changes nothing, and Prometheus 3 reads them too";
const TRAILING_COMMA: &str = "Prometheus 3 reads a comma after the last label, and client libraries have written one";

/// The parser suite of OpenMetrics (github.com/prometheus/OpenMetrics, `tests/testdata/parsers`): one folder a case.
#[test]
fn agrees_with_the_suite_of_openmetrics() {
    let Some(folder) = std::env::var_os("BACKSTOP_OPENMETRICS").map(PathBuf::from) else {
        println!("skipped: BACKSTOP_OPENMETRICS does not say where tests/testdata/parsers of OpenMetrics is");
        return;
    };
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("a folder of cases")
        .map(|entry| entry.expect("a case").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert!(names.len() > 200, "only {} cases", names.len());
    let mut complaints = Vec::new();
    let mut deviating = 0;
    for name in &names {
        let case = folder.join(name);
        let told = std::fs::read_to_string(case.join("test.json")).expect("what is expected");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let body = std::fs::read(case.join(text(&told["file"]))).expect("a body");
        let expected = told["shouldParse"].as_bool().expect("a verdict");
        let ours = read(&body, &everything(Format::OpenMetrics));
        if ours.is_ok() == expected {
            continue;
        }
        deviating += 1;
        let listed = OPENMETRICS_READ.iter().find(|(start, _)| name.starts_with(start));
        match listed {
            Some((_, reason)) if !expected => println!("{name}: {reason}"),
            Some(_) | None => complaints.push(format!("{name}: should parse: {expected}, ours: {ours:?}")),
        }
    }
    println!("{} cases, {} agree", names.len(), names.len() - deviating);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

// Length: a list of bodies, one a line.
/// The rules of OpenMetrics 1.0 that are kept, and those that are not, in bodies of our own.
#[test]
fn keeps_the_rules_of_openmetrics_for_lines() {
    let options = everything(Format::OpenMetrics);
    let scanned = |body: &str| read(format!("{body}# EOF\n").as_bytes(), &options);
    for body in [
        "",
        "# TYPE a counter\n# HELP a \\\\ \\n \\\"\n# UNIT a_seconds seconds\n",
        "# TYPE a unknown\na 1\n",
        "# TYPE a stateset\na{a=\"x\"} 1\na{a=\"y\"} 0\n",
        "# TYPE a info\na_info{v=\"1\"} 1\n",
        "# TYPE a gaugehistogram\na_bucket{le=\"+Inf\"} 1\na_gcount 1\na_gsum -1\n",
        "# TYPE a counter\na_total 1 12.5 # {t=\"\u{e9}\"} 0.5 12.25\na_created 1.5e9\n",
        "a{} 1\na{b=\"\"} 1\n",
        "a{b=\"#\",c=\"} # {\"} 1 # {} 2\n",
        "a{b=\"\0\"} +1.e-3\n",
        "a -0 -1\n",
        "a nan\na -inf\n",
    ] {
        assert!(scanned(body).is_ok(), "{body:?}: {:?}", scanned(body));
    }
    for body in [
        "\n",
        "#\n",
        "# a\n",
        "# TYPE a\n",
        "# TYPE a meter\n",
        "# TYPE a counter gauge\n",
        "# TYPE 1a counter\n",
        "# HELP a\n",
        "# UNIT a b\n",
        " # TYPE a counter\n",
        "a\n",
        "a \n",
        "a  1\n",
        "a 1 \n",
        "a 1\t\n",
        "a 1\r\n",
        "a 1 1 1\n",
        "a 1 #\n",
        "a 1 # x\n",
        "a 1 # {a=\"b\"}\n",
        "a 1 # {a=\"b\"} 1 NaN\n",
        "a 1 # {a=\"b\"} 1 # {} 1\n",
        "a 1_0\n",
        "a 0x1\n",
        "a 1 +Inf\n",
        "a{b='c'} 1\n",
        "a{b=c} 1\n",
        "a{b} 1\n",
        "a{,} 1\n",
        "a{b=\"c\",,} 1\n",
        "a{b=\"c\"d=\"e\"} 1\n",
        "a{b=\"c\", d=\"e\"} 1\n",
        "a{b=\"c\",b=\"d\"} 1\n",
        "a{b:c=\"d\"} 1\n",
        "a{b=\"c} 1\n",
        "a{b=\"c\n\"} 1\n",
        "1a 1\n",
        "# EOF\na 1\n",
    ] {
        assert!(scanned(body).is_err(), "{body:?}");
    }
    for body in [
        "# TYPE a counter\na_total -1\na_total NaN\n",
        "# TYPE a counter\n# TYPE a gauge\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\n",
        "a 1 2\na 1 1\na 1\n",
        "a 1\n# TYPE a gauge\n",
        "# TYPE a gauge\na 1 # {b=\"c\"} 1\n",
        "a{b=\"c\",} 1\n",
    ] {
        assert!(scanned(body).is_ok(), "read for a reason that OPENMETRICS_READ tells: {body:?}");
    }
}

/// A sample as text of which prometheus-parse is known to read every part rightly: braces absent or not empty, no
/// blank, comma, equals sign, closing brace, quote or backslash in a label value.
fn simple_sample() -> impl Strategy<Value = String> {
    let label_value = "[a-zA-Z0-9_./:;<>{#@!é漢-]{0,12}";
    let labels = prop::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,8}", label_value, 0..5);
    let value = prop_oneof![
        any::<i32>().prop_map(|value| value.to_string()),
        any::<u64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:e}")),
        (-1e6..1e6_f64).prop_map(|value| value.to_string()),
        Just("NaN".to_owned()),
        Just("+Inf".to_owned()),
        Just("-Inf".to_owned()),
    ];
    let timestamp = prop::option::of(0..4_000_000_000_000_i64);
    ("[a-zA-Z_][a-zA-Z0-9_]{0,20}", labels, value, timestamp).prop_map(|(name, labels, value, timestamp)| {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let timestamp = timestamp.map(|timestamp| format!(" {timestamp}")).unwrap_or_default();
        format!("{name}{labels} {value}{timestamp}\n")
    })
}

/// A document of simple samples, comments and blank lines. Families of histograms and summaries are left out, since
/// prometheus-parse turns them into something else.
fn simple_document() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        8 => simple_sample(),
        1 => "# HELP [a-z_]{1,8} [ -~]{1,20}\n",
        1 => "# TYPE [a-z_]{1,8} (counter|gauge|untyped)\n",
        1 => "#[a-z ]{0,8}\n",
        1 => Just("\n".to_owned()),
    ];
    prop::collection::vec(line, 1..40).prop_map(|lines| lines.concat())
}

fn other_side(document: &str) -> Vec<(BTreeMap<String, String>, f64, i64)> {
    let lines = document.lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).expect("reading from memory");
    let samples = scrape.samples.into_iter().map(|sample| {
        let value = match sample.value {
            prometheus_parse::Value::Counter(value)
            | prometheus_parse::Value::Gauge(value)
            | prometheus_parse::Value::Untyped(value) => value,
            other => panic!("no family was declared as {other:?}"),
        };
        let mut labels: BTreeMap<String, String> =
            sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        labels.insert("__name__".to_owned(), sample.metric);
        (labels, value, sample.timestamp.timestamp_millis())
    });
    samples.collect()
}

/// Bodies to be damaged: every construct of both formats.
const TEXT: &str = "# HELP a help \\\\ text\n# TYPE a histogram\na_bucket{le=\"1\",b=\"x\\\"y\\n\"} 1\n\
     a_bucket{le=\"+Inf\",b=\"} 9 # \"} 2 123\na_sum{} 1.5e-3\n\n# comment\n{\"my.metric\",\"l.x\"=\"é\"} NaN\nz +Inf\n";
const OPEN: &str = "# TYPE a histogram\n# UNIT a_seconds seconds\na_bucket{le=\"1\"} 1 # {t=\"}\\\"\"} 0.5 1.5\n\
     a_bucket{le=\"+Inf\",b=\"} 9 # \"} 2 12.5 # {} 1\na_created 1.5\n{\"my.metric\",l=\"é\"} NaN\nz +Inf\n# EOF\n";

/// Scans in every way and looks at every label; the caller of `known` may even lie.
fn scan_in_every_way(body: &[u8]) {
    for format in [Format::Text, Format::OpenMetrics] {
        for names in [Names::all(), Names::new(["a_bucket", "my.metric"], Vec::new(), false)] {
            for accept_cut_body in [false, true] {
                let options = Options { format, names: names.clone(), limits: Limits::DEFAULT, accept_cut_body };
                let mut selected = 0;
                let scanned = scan(body, &options, |sample| {
                    selected += 1;
                    let labels: Vec<_> = sample.labels().collect();
                    assert_eq!(labels[0].0, "__name__");
                    assert!(!labels[0].1.is_empty(), "a series has a name");
                    assert!(names.wants(&labels[0].1), "only what is wanted is delivered");
                    let distinct: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
                    assert_eq!(distinct.len(), labels.len(), "no label is given twice");
                    assert!(!sample.value.is_nan() || sample.value.to_bits() == NORMAL_NAN_BITS);
                });
                match scanned {
                    Ok(summary) => {
                        assert_eq!(summary.selected, selected);
                        assert!(summary.selected <= summary.samples_exposed);
                        assert!(summary.samples_exposed <= summary.lines);
                    }
                    Err(error) => assert!(error.line >= 1 && !error.to_string().is_empty()),
                }
                let mut labels = 0;
                let lied_to = scan_with(body, &options, |_| Some(()), |sample, _| labels += sample.labels().count());
                assert!(lied_to.is_err() || labels >= selected);
            }
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_prometheus_parse_where_that_is_right(document in simple_document()) {
        let theirs = other_side(&document);
        let mut ours = Vec::new();
        scan(document.as_bytes(), &everything(Format::Text), |sample| ours.push(owned(&sample))).expect("valid");
        prop_assert_eq!(ours.len(), theirs.len());
        for ((labels, bits, timestamp), (their_labels, their_value, their_timestamp)) in ours.into_iter().zip(theirs) {
            prop_assert_eq!(labels.into_iter().collect::<BTreeMap<_, _>>(), their_labels);
            let value = f64::from_bits(bits);
            prop_assert!(value.to_bits() == their_value.to_bits() || value.is_nan() && their_value.is_nan());
            // Without a timestamp the other side puts in the present.
            prop_assert!(timestamp.is_none_or(|timestamp| timestamp == their_timestamp));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        scan_in_every_way(&body);
    }

    #[test]
    fn arbitrary_syntax_never_panics(body in "([a-c_]{0,2}[\"{}=,\\\\ \t#\n0-9é]{0,6}){0,20}(# EOF\n)?") {
        scan_in_every_way(body.as_bytes());
    }

    #[test]
    fn damaged_bodies_never_panic(
        open in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, "[\"{}=,\\\\ \t#\n0-9aé\u{0}]{0,3}"), 1..6),
    ) {
        let mut body = if open { OPEN } else { TEXT }.as_bytes().to_vec();
        for (at, removed, inserted) in damage {
            let at = at.index(body.len() + 1);
            let end = (at + removed).min(body.len());
            body.splice(at..end, inserted.bytes());
        }
        scan_in_every_way(&body);
    }
}

#[test]
fn the_bodies_to_be_damaged_are_whole() {
    assert_eq!(read(TEXT.as_bytes(), &everything(Format::Text)).expect("valid").len(), 5);
    assert_eq!(read(OPEN.as_bytes(), &everything(Format::OpenMetrics)).expect("valid").len(), 5);
    scan_in_every_way(TEXT.as_bytes());
    scan_in_every_way(OPEN.as_bytes());
}
