use std::collections::HashSet;

use proptest::prelude::*;
use regex::Regex;

use super::*;

fn options(format: Format, names: Names) -> Options {
    Options { format, names, limits: Limits::DEFAULT, accept_cut_body: false }
}

type Read = (Vec<(String, String)>, f64, Option<i64>);

fn read_with(body: &[u8], options: &Options) -> Result<Vec<Read>, ScanError> {
    let mut read = Vec::new();
    let summary = scan(body, options, |sample| {
        let labels = sample.labels().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        read.push((labels, sample.value, sample.timestamp));
    })?;
    assert_eq!(summary.selected, read.len());
    Ok(read)
}

fn read(body: &str) -> Result<Vec<Read>, ScanError> {
    read_with(body.as_bytes(), &options(Format::Text, Names::all()))
}

fn read_open(body: &str) -> Result<Vec<Read>, ScanError> {
    read_with(body.as_bytes(), &options(Format::OpenMetrics, Names::all()))
}

fn sample(labels: &[(&str, &str)], value: f64, timestamp: Option<i64>) -> Read {
    (labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), value, timestamp)
}

#[track_caller]
fn refused(body: &str, reason: &Reason) {
    assert_eq!(read(body).map_err(|error| error.reason), Err(reason.clone()), "{body:?}");
}

#[track_caller]
fn refused_open(body: &str, reason: &Reason) {
    assert_eq!(read_open(body).map_err(|error| error.reason), Err(reason.clone()), "{body:?}");
}

/// Only `wanted` is selected.
fn only_wanted(format: Format) -> Options {
    options(format, Names::new(["wanted"], Vec::new(), false))
}

#[test]
fn braces_within_a_label_value_do_not_end_the_labels() {
    let body = "c{uri=\"/users/{id}\",status=\"500\"} 7\n";
    let expected = sample(&[("__name__", "c"), ("uri", "/users/{id}"), ("status", "500")], 7.0, None);
    assert_eq!(read(body), Ok(vec![expected.clone()]));
    assert_eq!(read_open(&format!("{body}# EOF\n")), Ok(vec![expected]));
}

#[test]
fn a_label_value_cannot_forge_the_value() {
    let body = "x{a=\"} 9 # \"} 1\n";
    let expected = sample(&[("__name__", "x"), ("a", "} 9 # ")], 1.0, None);
    assert_eq!(read(body), Ok(vec![expected.clone()]));
    assert_eq!(read_open(&format!("{body}# EOF\n")), Ok(vec![expected]));
}

#[test]
fn a_label_value_cannot_forge_a_line() {
    let body = "login{user=\"x\\nwanted 1\\n\"} 2\nwanted 7\n";
    assert_eq!(
        read_with(body.as_bytes(), &only_wanted(Format::Text)),
        Ok(vec![sample(&[("__name__", "wanted")], 7.0, None)])
    );
    let user = sample(&[("__name__", "login"), ("user", "x\nwanted 1\n")], 2.0, None);
    assert_eq!(read(body), Ok(vec![user, sample(&[("__name__", "wanted")], 7.0, None)]));
}

#[test]
fn a_label_value_cannot_forge_a_label() {
    let body = r#"x{user="a\",status=\"500",status="200"} 1"#;
    let labels = [("__name__", "x"), ("user", "a\",status=\"500"), ("status", "200")];
    assert_eq!(read(&format!("{body}\n")), Ok(vec![sample(&labels, 1.0, None)]));
}

#[test]
fn a_body_cut_in_the_middle_of_a_value_is_refused() {
    let whole = "a 1\nb{c=\"d\"} 12345\n";
    assert!(read(whole).is_ok());
    for cut in 0..whole.len() {
        // A cut right after a newline cannot be told from a shorter body; transport framing has to.
        let at_newline = whole[..cut].ends_with('\n');
        assert_eq!(read(&whole[..cut]).is_ok(), at_newline, "{:?}", &whole[..cut]);
    }
    let open = "a 1\nb{c=\"d\"} 12345\n# EOF\n";
    for cut in 0..open.len() - "\n".len() {
        assert!(read_open(&open[..cut]).is_err(), "{:?}", &open[..cut]);
    }
    assert!(read_open(open.trim_end()).is_ok(), "the newline after the end mark is optional");
}

#[test]
fn the_line_and_its_excerpt_are_named() {
    let error = read("a 1\nb{c=\"d\"} 1\r\n").expect_err("a carriage return is no part of a number");
    assert_eq!((error.line, &error.reason), (2, &Reason::Value));
    assert_eq!(error.to_string(), "line 2: the value is not a decimal number, NaN, +Inf or -Inf: b{c=\"d\"} 1\\r");
    let long = format!("a {}\n", "x".repeat(500));
    let error = read(&long).expect_err("letters");
    assert_eq!(error.excerpt.chars().count(), 121);
}

#[test]
fn unselected_lines_in_the_middle_are_free_and_selected_ones_are_not() {
    let options = only_wanted(Format::Text);
    let body = b"a 1\n<p>\nbroken{ 3\n# TYPE x nonsense\n\xff\xff 1\nwantedly{ 3\nwanted{b=\"c\"} 3\na 1\n";
    let mut values = Vec::new();
    let summary = scan(body, &options, |sample| values.push(sample.value)).expect("only free lines are broken");
    assert_eq!(values, [3.0]);
    assert_eq!(summary, Summary { lines: 8, samples_exposed: 7, selected: 1 });
    for broken in
        ["wanted{b=\"c} 3", "wanted{b=c} 3", "wanted{b=\"c\"}", "wanted", "wanted 1 2 3", "wanted{b=\"\\\"} 3"]
    {
        let body = format!("a 1\nwanted 1\n{broken}\na 1\n");
        let error = read_with(body.as_bytes(), &options).expect_err(broken);
        assert_eq!(error.line, 3, "{broken}");
    }
    let error = read_with(b"a 1\nwanted{b=\"\xff\"} 1\na 1\n", &options).expect_err("not UTF-8");
    assert_eq!(error.reason, Reason::NotUtf8);
}

#[test]
fn the_first_and_the_last_line_must_be_exposition() {
    let options = only_wanted(Format::Text);
    for (body, line) in [
        ("<!DOCTYPE html>\n<html>\nwanted 1\n</html>\n", 1),
        ("\n\n<html>\n", 3),
        ("{\"status\": \"ok\"}\n", 1),
        ("[1]\n", 1),
        ("OK\n", 1),
        ("# TYPE x nonsense\nwanted 1\n", 1),
        ("# a comment\nbroken\nwanted 1\n", 2),
        ("wanted 1\n</html>\n", 2),
        ("wanted 1\nother 1 2 3\n\n", 2),
        ("a 1\na x\n", 2),
        ("wanted 1\na 1\n# TYPE x\n", 3),
        ("\u{feff}wanted 1\n", 1),
    ] {
        let error = read_with(body.as_bytes(), &options).expect_err(body);
        assert_eq!(error.line, line, "{body:?}: {error}");
    }
    let body = "a 1\n# TYPE x nonsense\nwanted 1\n\n \t\n";
    assert_eq!(read_with(body.as_bytes(), &options).map(|read| read.len()), Ok(1));
    let long = format!("a{{b=\"{}\"}} 1\nwanted 1\n", "x".repeat(2000));
    assert!(read_with(long.as_bytes(), &options).is_ok(), "limits are for what is selected");
    let wide = format!("a{{{}}} 1\nwanted 1\n", "b=\"\",".repeat(1_000_000));
    assert!(read_with(wide.as_bytes(), &options).is_ok(), "and no hostile line takes quadratic time");
}

#[test]
fn an_unselected_line_without_a_readable_name_is_refused() {
    let options = only_wanted(Format::Text);
    let error = read_with(b"a 1\n{\"wan\na 1\n", &options).expect_err("the name is cut");
    assert_eq!((error.line, error.reason), (2, Reason::OpenQuote));
    let body = b"a 1\n{\"free\", and broken\n{x=\"y\", \"wanted\"} 2\na 1\n";
    let labels = [("__name__", "wanted"), ("x", "y")];
    assert_eq!(read_with(body, &options), Ok(vec![sample(&labels, 2.0, None)]));
}

#[test]
fn names_are_selected_whole() {
    let pattern = Regex::new("^(?s:http_.*_total)$").expect("valid");
    let names = Names::new(["up", "my.metric", "a\"b"], vec![pattern], false);
    let body = "up 1\nup_again 2\nupper{} 3\nhttp_requests_total 4\nhttp_requests_totals 5\nhttp_x_total{} 6\n\
                {\"my.metric\"} 7\n{\"my.metric2\"} 8\nup{} 9\n{\"up\"} 10\n{\"a\\\"b\"} 11\nshttp_x_total 12\n";
    let read = read_with(body.as_bytes(), &options(Format::Text, names)).expect("valid");
    let values: Vec<f64> = read.iter().map(|(_, value, _)| *value).collect();
    assert_eq!(values, [1.0, 4.0, 6.0, 7.0, 9.0, 10.0, 11.0]);
}

#[test]
fn values_are_what_go_reads() {
    for (text, expected) in [
        ("0", 0.0),
        ("-0", -0.0),
        ("+7", 7.0),
        ("007", 7.0),
        ("123456789012345", 123_456_789_012_345.0),
        ("12345678901234567890", 12_345_678_901_234_567_890.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E-3", -0.0015),
        ("1e-400", 0.0),
        ("Inf", f64::INFINITY),
        ("+inf", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
        ("NaN", f64::from_bits(NORMAL_NAN_BITS)),
        ("nan", f64::from_bits(NORMAL_NAN_BITS)),
    ] {
        let read = read(&format!("a {text}\n")).expect(text);
        assert_eq!(read[0].1.to_bits(), expected.to_bits(), "{text}");
    }
    for text in [
        "1_2", "0x1", "0x1p3", "0b1", "1e400", "-1e400", "+NaN", "-nan", "--1", "-", "+", ".", "e5", "1e", "1f", "1,0",
        "\u{661}", "true", "1{", "\"1\"", "in", "1\0",
    ] {
        assert!(read(&format!("a {text}\n")).is_err(), "{text}");
    }
}

#[test]
fn timestamps_have_the_unit_of_their_format() {
    assert_eq!(read("a 1 1395066363000\n").map(|read| read[0].2), Ok(Some(1_395_066_363_000)));
    for text in ["1.5", "-1", "1e3", "9223372036854775808", "x"] {
        refused(&format!("a 1 {text}\n"), &Reason::TimestampMillis);
    }
    for (text, millis) in [
        ("1395066363.25", 1_395_066_363_250),
        ("-1.5", -1500),
        ("1e3", 1_000_000),
        ("0", 0),
        ("12345678901234567890.1234567890", i64::MAX),
        ("-1e306", i64::MIN),
    ] {
        assert_eq!(read_open(&format!("a 1 {text}\n# EOF\n")).map(|read| read[0].2), Ok(Some(millis)), "{text}");
    }
    for text in ["NaN", "+Inf", "1e400", "x"] {
        refused_open(&format!("a 1 {text}\n# EOF\n"), &Reason::TimestampSeconds);
    }
}

#[test]
fn blanks_are_free_in_the_text_format() {
    let body = " \t name2 {\tlabelname\t= \"val1\" , b=\"c\" d=\"e\", }-Inf \t 5 \t\n";
    let labels = [("__name__", "name2"), ("labelname", "val1"), ("b", "c"), ("d", "e")];
    assert_eq!(read(body), Ok(vec![sample(&labels, f64::NEG_INFINITY, Some(5))]));
}

#[test]
fn broken_labels_are_told_apart() {
    for (body, reason) in [
        ("a{,b=\"c\"} 1\n", Reason::LabelName),
        ("a{b=\"c\",,} 1\n", Reason::LabelName),
        ("a{1=\"c\"} 1\n", Reason::LabelName),
        ("a{b:c=\"c\"} 1\n", Reason::Equal),
        ("a{\"\"=\"c\"} 1\n", Reason::LabelName),
        ("a{b} 1\n", Reason::Equal),
        ("a{b=\"c\" 1\n", Reason::OpenBrace),
        ("a{b=c} 1\n", Reason::LabelValue),
        ("a{b=\"c\",b=\"d\"} 1\n", Reason::LabelTwice),
        ("a{b=\"c\",\"b\"=\"c\"} 1\n", Reason::LabelTwice),
        ("a{\"b\\\\\"=\"c\",\"b\\\\\"=\"c\"} 1\n", Reason::LabelTwice),
        ("a{__name__=\"b\"} 1\n", Reason::LabelTwice),
        ("a{\"b\\t\"=\"c\",\"b\\\\t\"=\"c\"} 1\n", Reason::LabelEscape),
        ("a{\"b\"} 1\n", Reason::NameTwice),
        ("{\"a\",\"b\"} 1\n", Reason::NameTwice),
        ("{\"\"} 1\n", Reason::NoName),
        ("{} 1\n", Reason::NoName),
        ("{a=\"b\"} 1\n", Reason::NoName),
        ("a{b=\"c\"} } 1\n", Reason::Value),
        ("a{b=\"c\"} 1 # {d=\"e\"} 1\n", Reason::Value),
        ("a{b=\"c\n\"} 1\n", Reason::OpenBrace),
        ("a{b=\"}\n", Reason::OpenQuote),
        ("9 1\n", Reason::NotALine),
        ("a{}\n", Reason::NoValue),
    ] {
        refused(body, &reason);
    }
}

#[test]
fn limits_refuse_the_scrape() {
    let limits = Limits { samples: 2, labels: 2, label_value_bytes: 3, name_bytes: 4 };
    let options = Options { limits, ..options(Format::Text, Names::all()) };
    let reason = |body: &str| read_with(body.as_bytes(), &options).err().map(|error| error.reason);
    assert_eq!(reason("name{nam1=\"123\",nam2=\"123\"} 1\nb 2\n"), None);
    assert_eq!(reason("a 1\nb 2\nc 3\n"), Some(Reason::TooManySamples(2)));
    assert_eq!(reason("a{b=\"\",c=\"\",d=\"\"} 1\n"), Some(Reason::TooManyLabels(2)));
    assert_eq!(reason("a{b=\"1234\"} 1\n"), Some(Reason::LabelValueTooLong(3)));
    assert_eq!(reason("names 1\n"), Some(Reason::NameTooLong(4)));
    assert_eq!(reason("{\"names\"} 1\n"), Some(Reason::NameTooLong(4)));
    assert_eq!(reason("a{names=\"1\"} 1\n"), Some(Reason::NameTooLong(4)));
}

#[test]
fn exemplars_and_metadata_of_openmetrics() {
    let body = "# TYPE foo histogram\n# UNIT foo_seconds seconds\n# UNIT foo \n# UNIT \"foo.x_s\" s\n# HELP foo text\n\
                foo_bucket{le=\"1\"} 17 # {trace_id=\"}\\\"x\"} 0.5 1520879607.789\n\
                foo_bucket{le=\"+Inf\"} 18 2.5 # {} 0.5\nfoo_created 1520430000.123\n\
                {\"my.metric\",a=\"b\",} 1\n# EOF\n";
    assert_eq!(
        read_open(body),
        Ok(vec![
            sample(&[("__name__", "foo_bucket"), ("le", "1.0")], 17.0, None),
            sample(&[("__name__", "foo_bucket"), ("le", "+Inf")], 18.0, Some(2500)),
            sample(&[("__name__", "foo_created")], 1_520_430_000.123, None),
            sample(&[("__name__", "my.metric"), ("a", "b")], 1.0, None),
        ])
    );
    for exemplar in
        ["# {a=b} 1", "# {a=\"b\"}", "# {\"a\"} 1", "# {a=\"b\"} x", "# {a=\"b\"} 1 NaN", "# {a=\"b\"} 1 1 1"]
    {
        refused_open(&format!("foo 1 {exemplar}\n# EOF\n"), &Reason::Exemplar);
    }
}

#[test]
fn openmetrics_is_strict_where_prometheus_is() {
    for (body, reason) in [
        ("", Reason::NoEof),
        ("a 1\n", Reason::NoEof),
        ("a 1\n#EOF\n", Reason::CommentKind),
        ("\na 1\n# EOF\n", Reason::Blank),
        (" a 1\n# EOF\n", Reason::Blank),
        ("# EOF\na 1\n", Reason::AfterEof),
        ("# EOF\n\n", Reason::AfterEof),
        ("#  TYPE c counter\n# EOF\n", Reason::CommentKind),
        ("#\tTYPE c counter\n# EOF\n", Reason::CommentKind),
        ("# TYPE c  counter\n# EOF\n", Reason::CommentType),
        ("# TYPE c counter \n# EOF\n", Reason::CommentType),
        ("# TYPE c untyped\n# EOF\n", Reason::CommentType),
        ("# TYPE \n# EOF\n", Reason::CommentName),
        ("# TYPE m\n# EOF\n", Reason::CommentType),
        ("# HELP m\n# EOF\n", Reason::CommentName),
        ("# a comment\n# EOF\n", Reason::CommentKind),
        ("# UNIT a seconds\n# EOF\n", Reason::CommentUnit),
        ("# UNIT aseconds seconds\n# EOF\n", Reason::CommentUnit),
        ("# UNIT seconds seconds\n# EOF\n", Reason::CommentUnit),
        ("# UNIT a_seconds seconds \n# EOF\n", Reason::CommentUnit),
        ("a\t1\n# EOF\n", Reason::NoValue),
        ("a{}1\n# EOF\n", Reason::NoValue),
        ("a  1\n# EOF\n", Reason::NoValue),
        ("a 1\t2\n# EOF\n", Reason::Value),
        ("a 1 2 \n# EOF\n", Reason::Trailing),
        ("a 1 2 #\n# EOF\n", Reason::Trailing),
        ("a 1 1 1\n# EOF\n", Reason::Trailing),
        ("a 1 \n# EOF\n", Reason::Blank),
        ("a{b=\"c\"d=\"e\"} 1\n# EOF\n", Reason::Comma),
        ("a{ b=\"c\"} 1\n# EOF\n", Reason::LabelName),
        ("a{b=\"c\", d=\"e\"} 1\n# EOF\n", Reason::LabelName),
        ("a{b=\n# EOF\n", Reason::OpenBrace),
    ] {
        refused_open(body, &reason);
    }
    let indented = read_with(b"a 1\n wanted 1\na 1\n# EOF\n", &only_wanted(Format::OpenMetrics));
    assert_eq!(indented.map_err(|error| error.reason), Err(Reason::Blank));
    let reason = |body: &str| {
        read_with(body.as_bytes(), &only_wanted(Format::OpenMetrics)).err().map(|error| (error.line, error.reason))
    };
    assert_eq!(reason("a 1\n\n b 2\n # free\nwanted 1\na 1\n# EOF\n"), None);
    assert_eq!(reason("a 1\nwanted 1\n # EOF\n"), Some((3, Reason::NoEof)));
    assert_eq!(reason("a 1\nwanted 1\n b 1\n# EOF\n"), Some((3, Reason::NotALine)));
    assert_eq!(reason("# TYPE a gauge\n a 1\nwanted 1\n# EOF\n"), Some((2, Reason::NotALine)));
}

#[test]
fn bucket_bounds_and_quantiles_are_written_as_prometheus_stores_them() {
    for (exposed, stored) in [
        ("1", "1.0"),
        ("-1", "-1.0"),
        ("0", "0.0"),
        ("-0", "0.0"),
        ("0.25", "0.25"),
        ("1e3", "1000.0"),
        ("100000", "100000.0"),
        ("1000000", "1e+06"),
        ("123456789", "1.23456789e+08"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("1.5e-300", "1.5e-300"),
        ("inf", "+Inf"),
        ("-Inf", "-Inf"),
        ("nan", "NaN"),
        ("", ""),
        ("bla", "bla"),
    ] {
        for (kind, label) in [("histogram", "le"), ("summary", "quantile")] {
            let body = format!("# TYPE m {kind}\nm{{{label}=\"{exposed}\",le2=\"1\"}} 1\n");
            let labels = [("__name__", "m"), (label, stored), ("le2", "1")];
            assert_eq!(read(&body), Ok(vec![sample(&labels, 1.0, None)]), "{exposed}");
        }
    }
    let labels = [("__name__", "m"), ("le", "1")];
    assert_eq!(read("# TYPE m summary\nm{le=\"1\"} 1\n"), Ok(vec![sample(&labels, 1.0, None)]));
    let body = b"# TYPE m histogram\nm 1\n# TYPE n gaugehistogram\nm{le=\"1\"} 1\nm 1\n";
    let names = Names::new(["m"], Vec::new(), false);
    assert_eq!(read_with(body, &options(Format::Text, names)).expect("free comment")[1], sample(&labels, 1.0, None));
}

#[test]
fn a_known_series_is_delivered_with_what_the_caller_knows() {
    let options = options(Format::Text, Names::all());
    let body = b"a{b=\"c\"} 1\na{b=\"d\"} 2\n";
    let mut cache: HashSet<Vec<u8>> = HashSet::new();
    scan(body, &options, |sample| cache.extend([sample.series.to_vec()])).expect("valid");
    let next = b"a{b=\"c\"} 3 77\na{b=\"e\"} 4\n";
    let mut read = Vec::new();
    let known = |series: &[u8]| cache.contains(series).then_some("old");
    scan_with(next, &options, known, |sample, known| read.push((sample.value, sample.timestamp, known)))
        .expect("valid");
    assert_eq!(read, [(3.0, Some(77), Some("old")), (4.0, None, None)]);
    let known = |series: &[u8]| cache.contains(series).then_some(());
    let error = scan_with(b"a{b=\"c\"} x\n", &options, known, |_, _| {}).expect_err("values are always checked");
    assert_eq!(error.reason, Reason::Value);
}

/// A guess is right only if the whole series is the expected one.
#[test]
fn an_expected_series_is_not_taken_for_a_longer_one() {
    for (expected, line, found) in [
        ("a", "a 3", true),
        ("a", "a\t3", false),
        ("a", "ab 3", false),
        ("a", "a{b=\"c\"} 3", false),
        ("a", "a {b=\"c\"} 3", false),
        ("a", "a  {b=\"c\"} 3", false),
        ("a{b=\"c\"}", "a{b=\"c\"} 3", true),
        ("a{b=\"c\"}", "a{b=\"c\"}3", true),
        ("a{b=\"c\"}", "a{b=\"c\",d=\"e\"} 3", false),
    ] {
        let mut memory = Remembered { series: vec![expected.as_bytes().to_vec()], next: 0 };
        let body = format!("{line}\n");
        let mut read = Vec::new();
        scan_remembering(body.as_bytes(), &options(Format::Text, Names::all()), &mut memory, |sample, known| {
            read.push((sample.series, sample.value, known));
        })
        .expect("valid");
        let series = if found { expected } else { line.trim_end_matches(['3', ' ', '\t']) };
        let known = (found || expected == series).then_some(());
        assert_eq!(read, [(series.as_bytes(), 3.0, known)], "{expected} {line}");
    }
}

#[test]
fn content_types() {
    for (header, format) in [
        (None, Format::Text),
        (Some(""), Format::Text),
        (Some("text/plain"), Format::Text),
        (Some("Text/Plain; charset=utf-8"), Format::Text),
        (Some("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"), Format::Text),
        (Some("text/plain;Version=\"1.0.0\""), Format::Text),
        (Some("application/openmetrics-text; version=1.0.0; charset=utf-8"), Format::OpenMetrics),
        (Some("application/openmetrics-text"), Format::OpenMetrics),
    ] {
        assert_eq!(Format::from_content_type(header), Ok(format), "{header:?}");
    }
    for header in [
        "text/html; charset=utf-8",
        "application/json",
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
        "text/plain; version=0.0.3",
        "application/openmetrics-text; version=2.0.0",
        "text/plainer",
        "nonsense",
    ] {
        let error = Format::from_content_type(Some(header)).expect_err(header);
        assert!(error.to_string().contains("is not a Prometheus or OpenMetrics text exposition"), "{error}");
    }
}

proptest! {
    /// What is selected does not depend on how much else is: scanning for one name gives what scanning for all
    /// gives for it.
    #[test]
    fn selecting_less_gives_the_same_samples(lines in prop::collection::vec((0..4usize, 0..3usize, 0..100u32), 1..30)) {
        let names = ["a", "ab", "a:b", "wanted"];
        let labels = ["", "{x=\"y\"}", "{x=\"} 1\\n\\\"\", y=\"\"}"];
        let lines: Vec<String> =
            lines.iter().map(|(name, label, value)| format!("{}{} {value}\n", names[*name], labels[*label])).collect();
        let body = lines.concat();
        let mut all = read(&body).expect("valid");
        all.retain(|(labels, _, _)| labels[0].1 == "wanted");
        prop_assert_eq!(read_with(body.as_bytes(), &only_wanted(Format::Text)).expect("valid"), all);
    }

    /// A known series is split from its value as an unknown one is.
    #[test]
    fn a_cache_changes_nothing(value in "[ -~é]{0,20}", number in 0..1000u32) {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        let body = format!("m{{a=\"{escaped}\",b=\"{escaped}\"}} {number}\n");
        let options = options(Format::Text, Names::all());
        let mut first = Vec::new();
        scan(body.as_bytes(), &options, |sample| first.push((sample.series, sample.value))).expect("valid");
        let mut again = Vec::new();
        let known = |series: &[u8]| (series == first[0].0).then_some(());
        scan_with(body.as_bytes(), &options, known, |sample, known| again.push((sample.series, sample.value, known)))
            .expect("valid");
        prop_assert_eq!(again, vec![(first[0].0, f64::from(number), Some(()))]);
        prop_assert_eq!(read(&body).expect("valid")[0].0[1].1.clone(), value);
    }

    /// What was checked before, in whatever order, only spares work: a line means the same alone and among others.
    #[test]
    fn a_line_means_the_same_alone_and_among_others(
        lines in prop::collection::vec((0..3usize, 0..9usize, "[ -~é\n]{0,12}", "(0|1|-)?[0-9.]{0,9}(e2)?"), 1..30),
        open in any::<bool>(),
    ) {
        let names = ["a", "ab_bucket", "a:b"];
        let format = if open { Format::OpenMetrics } else { Format::Text };
        let end = if open { "# EOF\n" } else { "" };
        let lines: Vec<String> = lines.iter().map(|(name, shape, value, number)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let labels = [
                String::new(),
                format!("{{x=\"{value}\"}}"),
                format!("{{x=\"{value}\",}}"),
                format!("{{x=\"{value}\",yy=\"{value}\"}}"),
                format!("{{yy=\"{value}\",x=\"\"}}"),
                format!("{{x=\"{value}\",le=\"1\",yy=\"{value}\"}}"),
                format!("{{x=\"{value}\",x=\"1\"}}"),
                format!("{{x=\"{value}\",\"y\"=\"\"}}"),
                format!("{{x=\"{value}\" "),
            ];
            format!("{}{} {number}\n", names[*name], labels[*shape])
        }).collect();
        let options = options(format, Names::all());
        let alone: Vec<_> = lines.iter().map(|line| read_with(format!("{line}{end}").as_bytes(), &options)).collect();
        let body = lines.concat() + end;
        let together = read_with(body.as_bytes(), &options);
        let expected = match alone.iter().position(Result::is_err) {
            Some(broken) => {
                let error = alone[broken].clone().expect_err("found as one");
                Err(ScanError { line: broken + 1, ..error })
            }
            None => Ok(alone.into_iter().flatten().flatten().collect::<Vec<_>>()),
        };
        prop_assert_eq!(&together, &expected);

        // And again for a caller that remembers some of it, expects what may not come, and knows the rest by looking.
        let Ok(expected) = expected else { return Ok(()) };
        let mut memory = Remembered::default();
        for _ in 0..2 {
            let mut values = Vec::new();
            let mut unknown = Vec::new();
            memory.next = 0;
            scan_remembering(body.as_bytes(), &options, &mut memory, |sample, place| {
                if place.is_none() && values.len() % 3 != 0 {
                    unknown.push(sample.series.to_vec());
                }
                values.push(sample.value);
            }).expect("as before");
            memory.series.extend(unknown);
            prop_assert_eq!(values, expected.iter().map(|(_, value, _)| *value).collect::<Vec<_>>());
        }
    }

    /// A decimal is the number that the standard library reads.
    #[test]
    fn short_numbers_are_exact(text in "-?[0-9]{0,17}[.]?[0-9]{0,17}") {
        let read = read(&format!("a {text}\n"));
        match text.parse::<f64>() {
            Ok(number) => prop_assert_eq!(read.expect("a number")[0].1.to_bits(), number.to_bits()),
            Err(_) => prop_assert!(read.is_err()),
        }
    }
}

#[derive(Debug, Default)]
struct Remembered {
    series: Vec<Vec<u8>>,
    next: usize,
}

impl Memory for &mut Remembered {
    type Handle = ();

    fn expected(&self) -> Option<&[u8]> {
        self.series.get(self.next).map(Vec::as_slice)
    }

    fn confirm(&mut self) {
        self.next += 1;
    }

    fn find(&mut self, series: &[u8]) -> Option<()> {
        let place = self.series.iter().position(|known| known == series)?;
        self.next = place + 1;
        Some(())
    }
}
