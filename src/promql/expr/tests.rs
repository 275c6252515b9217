use std::time::Duration;

use super::{Comparison, Expr, Node};
use crate::promql::testkit::{expr, labels, selector};
use crate::promql::{ParseError, Selector};

fn refusal(text: &str) -> ParseError {
    Expr::parse(text).expect_err(text)
}

#[test]
fn what_is_not_evaluated_is_refused_by_name() {
    for (text, word) in [
        ("x @ 100", "fixed time"),
        ("max_over_time(x[5m:1m] @ 3)", "fixed time"),
        ("x{a=\"1\" or b=\"2\"}", "`or`"),
        ("histogram_count(x)", "`histogram_count`"),
        ("histogram_avg(x)", "native"),
        ("x </ 3", "native"),
        ("histogram_quantiles(x, \"q\", 0.5)", "experimental"),
        ("info(x, {data=~\".*\"})", "`info`"),
        ("rate(x[2m*3])", "calculated"),
        ("rate(x[step()])", "calculated"),
        ("max_over_time(x[5m:1m+1m])", "calculated"),
        ("x offset (1m+1m)", "calculated"),
        ("x offset -max(1m, 2m)", "calculated"),
        ("mad_over_time(x[5m])", "`mad_over_time`"),
        ("double_exponential_smoothing(x[5m], 0.5, 0.5)", "experimental"),
        ("limitk(2, x)", "`limitk`"),
        ("limit_ratio(0.5, x)", "`limit_ratio`"),
        ("rate(x[5m] anchored)", "`anchored`"),
        ("x smoothed", "`smoothed`"),
        ("a + fill(0) b", "`fill`"),
        ("nonsense(x)", "nonsense"),
        ("x[5m]", "range of samples"),
        ("\"text\"", "string"),
        ("", "empty"),
        ("{a=~\".*\"}", "non-empty matcher"),
        ("x{a=~\"(\"}", "illegal regex"),
        ("label_replace(x, \"\", \"\", \"\", \"\")", "label"),
        ("ln(-1)", "`ln`"),
        ("sum(x) by (a) > ", "invalid"),
    ] {
        let error = refusal(text);
        assert!(error.message.contains(word), "{text}: {}", error.message);
    }
    assert!(refusal("x[5m] + 3 * y").message.find("calculated").is_none());
}

#[test]
fn a_fixed_time_is_for_recordings_and_the_ends_of_a_query_are_now() {
    for (text, shown) in [
        ("x @ 100", "x @ 100.000"),
        ("x @ -1.5 offset 1m", "x @ -1.500 offset 1m"),
        ("max_over_time(x[5m:1m] @ 3)", "max_over_time(x[5m:1m] @ 3.000)"),
    ] {
        let recorded = Expr::parse_recorded(text).expect(text);
        assert_eq!(recorded.source(), shown);
        assert!(!recorded.looks_only_back());
        assert!(recorded.reach() > Duration::from_hours(24 * 365 * 50), "all must be kept");
    }
    let live = expr("rate(x[5m] @ end()) / avg_over_time(rate(x[5m] @ start() offset 1m)[1h:1m])");
    assert_eq!(Expr::parse(&live.source()).as_ref(), Ok(&live));
    // The subquery around it looks back an hour, what is pinned to its end does not.
    assert_eq!(live.reach(), Duration::from_mins(6));
}

#[test]
fn faults_are_placed_where_they_can_be_found() {
    let placed = |text: &str| refusal(text).span.map(|span| text[span].to_owned());
    assert_eq!(placed("1 + mad_over_time(x[5m])").as_deref(), Some("mad_over_time"));
    assert_eq!(placed("x @ 100").as_deref(), Some("@"));
    assert_eq!(placed("x{a=\"@\"} @ 100").as_deref(), Some("@"));
    assert_eq!(placed("rate(x[5m] anchored)").as_deref(), Some("anchored"));
    assert_eq!(placed("x{a=\"1\" or b=\"2\"}").as_deref(), Some("or"));
    assert_eq!(placed("rate(x[99999999999999999999])").as_deref(), Some("99999999999999999999"));
}

#[test]
fn what_would_crash_the_parser_is_refused() {
    assert!(refusal(&"(".repeat(10_000)).message.contains("nested"));
    assert!(refusal(&format!("{}x", "-".repeat(10_000))).message.contains("nested"));
    assert!(refusal(&"x".repeat(20_000)).message.contains("longer"));
    for text in
        ["x[1e400]", "x offset 1e300", "rate(x[1e30])", "x offset -1e99", "rate(x[5m:1e99])", "rate(x[999999999999y])"]
    {
        assert!(Expr::parse(text).is_err(), "{text}");
    }
    assert!(refusal("max_over_time(x[30d:1s])").message.contains("11000"));
    assert!(refusal("max_over_time(max_over_time(x[100m:1s])[100m:1s])").message.contains("11000"));
}

#[test]
fn a_selector_is_only_a_selector() {
    assert!(Selector::parse("rate(x[5m])").is_err());
    assert!(Selector::parse("x offset 5m").is_err());
    assert!(Selector::parse("x[5m]").is_err());
    assert!(Selector::parse("{}").is_err());
    assert!(Selector::parse("{a=\"\"}").is_err());
    assert!(Selector::parse("{a!=\"b\"}").is_err());
    assert_eq!(selector("(x)").exact_name(), Some("x"));
    assert_eq!(selector("{__name__=\"x\"}").exact_name(), Some("x"));
    assert_eq!(selector("{__name__=~\"x\"}").exact_name(), None);
    assert_eq!(selector("x{a=\"b\"}"), selector("x{a='b'}"));
    assert_ne!(selector("x{a=\"b\"}"), selector("x{a=~\"b\"}"));
}

#[test]
fn matchers_match_as_in_prometheus() {
    let matches = |text: &str, series: &str| selector(text).matches(&labels(series));
    assert!(matches("x{a=\"\"}", "x") && !matches("x{a=\"\"}", "x{a=\"1\"}"));
    assert!(matches("x{a!=\"1\"}", "x") && !matches("x{a!=\"1\"}", "x{a=\"1\"}"));
    assert!(matches("x{a=~\"1|\"}", "x") && !matches("x{a=~\".+\"}", "x"));
    assert!(matches("x{a!~\"1.*\"}", "x{a=\"21\"}") && !matches("x{a!~\"1.*\"}", "x{a=\"12\"}"));
    assert!(!matches("x{a=~\"b\"}", "x{a=\"abc\"}"), "anchored");
    assert!(!matches("x{a=~\"a|b\"}", "x{a=\"bc\"}"), "the alternation as a whole");
    let newline = crate::promql::Labels::from_pairs([("__name__", "x"), ("a", "p\nq")]);
    assert!(selector("x{a=~\"p.q\"}").matches(&newline), "a dot is any character");
}

#[test]
fn patterns_mean_what_they_mean_in_go() {
    let matches = |pattern: &str, value: &str| {
        let series = crate::promql::Labels::from_pairs([("__name__", "x"), ("a", value)]);
        selector(&format!("x{{a=~`{pattern}`}}")).matches(&series)
    };
    assert!(matches(r"\d+", "42") && !matches(r"\d+", "٤٢"));
    assert!(matches(r"[\d]+", "42") && matches(r"[^\d]", "x") && !matches(r"[^\d]", "4"));
    assert!(matches(r"\w", "a") && !matches(r"\w", "é") && matches(r"\W", "é"));
    assert!(matches(r"a\bé", "aé"), "é is no word character");
    assert!(matches(r"[a&&b]+", "a&b"), "no set operations");
    assert!(matches("aaa{bbb}", "aaa{bbb}") && matches("a{2,3}", "aaa") && !matches("a{2,3}", "a"));
    assert!(matches("(?i)ABC", "abc") && matches("(?i:É)", "é"));
    assert!(matches("[[:alpha:]]+", "ab") && !matches("[[:alpha:]]+", "1"));
    assert!(matches("[]a]+", "a]"));
    assert!(matches(".", "é"), "one character, not one byte");
    for pattern in [r"a\B", r"\<a", r"(?x)a", r"(?-u:a)", r"\u{61}", r"(?R)a"] {
        let text = format!("x{{a=~`{pattern}`}}");
        assert!(refusal(&text).message.contains("regular expression"), "{text}: {}", refusal(&text).message);
    }
    assert!(matches(r"(?is-U:A.)", "a\n") && matches(r"(?P<n>a)(?<m>b)", "ab"));
}

#[test]
fn a_comparison_with_a_number_is_split() {
    let split = |text: &str| {
        expr(text).split_comparison().map(|(side, comparison, limit)| (side.to_string(), comparison, limit))
    };
    assert_eq!(split("x > 0.95"), Some(("x".to_owned(), Comparison::Above, 0.95)));
    assert_eq!(split("0.95 > x"), Some(("x".to_owned(), Comparison::Below, 0.95)));
    assert_eq!(split("2 * 3 <= sum(x)"), Some(("sum(x)".to_owned(), Comparison::AtLeast, 6.0)));
    assert_eq!(split("x >= -(1 + 1)"), Some(("x".to_owned(), Comparison::AtLeast, -2.0)));
    assert_eq!(split("x == 1"), Some(("x".to_owned(), Comparison::Equal, 1.0)));
    assert_eq!(split("1 != x"), Some(("x".to_owned(), Comparison::NotEqual, 1.0)));
    assert_eq!(split("x < bool 1"), None);
    assert_eq!(split("x > y"), None);
    assert_eq!(split("x > scalar(y)"), None);
    assert_eq!(split("x + 1"), None);
    assert_eq!(split("(x > 1) and y"), None);
}

#[test]
fn the_reach_is_the_longest_look_back() {
    let reach = |text: &str| expr(text).reach().as_secs();
    assert_eq!(reach("1"), 0);
    assert_eq!(reach("x"), 300);
    assert_eq!(reach("x offset 1h"), 3900);
    assert_eq!(reach("x offset -1h"), 300);
    assert_eq!(reach("rate(x[1m])"), 60);
    assert_eq!(reach("rate(x[10m] offset 5m) / y"), 900);
    let minute = Duration::from_mins(1);
    let ratio = Expr::ratio(selector("a"), selector("b"), minute, 20.0, minute * 10);
    assert_eq!((ratio.reach(), ratio.selectors().len()), (minute * 10, 2));
    assert_eq!(Expr::streak(selector("p"), 3, 5).reach(), Duration::ZERO);
}

#[test]
fn an_expression_is_shown_as_it_would_be_written() {
    for text in [
        "sum by (a, b) (rate(x{c=~\"d.*\"}[5m])) / ignoring (a) group_left (e) y",
        "a + b * c",
        "(a + b) * c",
        "a - (b - c)",
        "-a ^ b",
        "(-a) ^ b",
        "(a ^ b) ^ c",
        "(-Inf) ^ a",
        "(-0) ^ a",
        "a ^ b ^ c",
        "a or b and c",
        "(a or b) and on (x) c",
        "a > bool 1",
        "count_values(\"v\", x)",
        "quantile without (i) (0.9, x)",
        "max_over_time(rate(x[1m])[1h:5m] offset 1d)",
        "x offset -5m",
        "{__name__=~\"a.*\", b!~\"c\"}",
        "{\"a.b\"=\"c\", __name__=\"d\"}",
        "label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\\n\\\"\")",
        "1.5e30 * -+Inf",
        "a * on () b",
    ] {
        let tree = Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let again = Expr::parse(&tree.source()).unwrap_or_else(|error| panic!("{text} → {tree}: {error}"));
        assert_eq!(tree, again, "{text} → {tree}");
    }
    // A NaN has no sign that anybody sees, and is like no other, so that only the texts can be compared.
    for (text, shown) in [("Inf ^ (-(NaN))", "+Inf ^ NaN"), ("(-(NaN)) ^ a", "NaN ^ a"), ("-NaN * a", "NaN * a")] {
        assert_eq!((&*expr(text).source(), &*expr(shown).source()), (shown, shown), "{text}");
    }
    assert_eq!(expr("sum(rate(x{a='b'}[300s]))by(c)>1").source(), "sum by (c) (rate(x{a=\"b\"}[5m])) > 1");
}

#[test]
fn the_tree_has_one_node_a_line() {
    assert_eq!(
        expr("sum by (job) (rate(x[5m])) > 2 * y").tree(),
        ">\n  sum by (job)\n    rate()\n      x[5m]\n  *\n    2\n    y\n"
    );
    let minute = Duration::from_mins(1);
    let ratio = Expr::ratio(selector("a{s=\"500\"}"), selector("a"), minute, 20.0, minute * 10);
    assert_eq!(
        ratio.tree(),
        "ratio of observed increases over 1m, widened up to 10m for 20 events\n  part:  a{s=\"500\"}\n  whole: a\n"
    );
    assert_eq!(
        ratio.to_string(),
        "ratio(part = a{s=\"500\"}, whole = a, window = 1m, min_events = 20, widen_to = 10m)"
    );
    assert!(matches!(expr("(((1)))").root, Node::Number(_)));
}

/// The special cases of Go's `math.Pow`, by which Prometheus computes `^`.
#[test]
fn powers_are_those_of_prometheus() {
    const INF: f64 = f64::INFINITY;
    let nan = f64::NAN;
    // Prometheus's marker of a series that ended is a signaling NaN, for which C's `pow` has other rules.
    let marker = f64::from_bits(0x7ff0_0000_0000_0002);
    let power = |x, y| crate::promql::expr::Operator::Power.of_scalars(x, y).expect("a number");
    let any = [nan, -nan, marker, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.5];
    for x in any {
        assert_eq!((power(x, 0.0), power(x, -0.0), power(1.0, x)), (1.0, 1.0, 1.0), "{x}");
    }
    for x in any.into_iter().filter(|x| *x != 0.0) {
        assert!(power(x, nan).is_nan() || x.to_bits() == 1.0_f64.to_bits(), "{x} ^ NaN");
        assert!(power(nan, x).is_nan(), "NaN ^ {x}");
    }
    let cases = [
        (-1.0, INF, 1.0),
        (-1.0, -INF, 1.0),
        (0.0, -3.0, INF),
        (-0.0, -3.0, -INF),
        (-0.0, -2.0, INF),
        (-0.0, -INF, INF),
        (-0.0, INF, 0.0),
        (-0.0, 3.0, -0.0),
        (-0.0, 2.5, 0.0),
        (2.0, INF, INF),
        (-2.0, -INF, 0.0),
        (0.5, INF, 0.0),
        (-0.5, -INF, INF),
        (INF, 0.5, INF),
        (INF, -0.5, 0.0),
        (-INF, 3.0, -INF),
        (-INF, 2.0, INF),
        (-INF, -3.0, -0.0),
        (-8.0, 3.0, -512.0),
    ];
    for (x, y, expected) in cases {
        assert_eq!(power(x, y).to_bits(), f64::to_bits(expected), "{x} ^ {y} is {}", power(x, y));
    }
    assert!(power(-8.0, 1.0 / 3.0).is_nan());
}
