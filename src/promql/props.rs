//! Properties of windows and of evaluation, over random histories and expressions.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::testkit::{API, Kit, at, expr, selector};
use super::{Expr, Instant, evaluate};

/// One scrape: how long after the one before it, whether the process was replaced since, and what each series counted.
#[derive(Clone, Debug)]
struct Scrape {
    after_secs: i64,
    replaced: bool,
    events: Vec<u32>,
}

/// The first scrape at which each series is shown; before, it has not counted anything.
fn history() -> impl Strategy<Value = (Vec<usize>, Vec<Scrape>)> {
    (1_usize..4).prop_flat_map(|series| {
        let scrape = (1_i64..=37, prop::bool::weighted(0.1), prop::collection::vec(0_u32..50, series))
            .prop_map(|(after_secs, replaced, events)| Scrape { after_secs, replaced, events });
        (prop::collection::vec(0_usize..10, series), prop::collection::vec(scrape, 1..60))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A process is replaced only right after a scrape, so that no event goes unseen: then the observed increase is the
    /// number of events between the anchor and the last scrape, exactly, whether the replacement is seen by the
    /// process's start or only by the value.
    #[test]
    fn the_observed_increase_is_the_number_of_events((first_shown, scrapes) in history(), window_secs in 1_u64..900,
        idle_secs in 0_i64..30, tells_start in any::<bool>())
    {
        let window = Duration::from_secs(window_secs);
        let question = Expr::increase(selector("c"), window);
        let mut kit = Kit::new(std::slice::from_ref(&question));
        let mut now = 0;
        let mut start = 1000.0;
        let mut values = vec![0_u32; first_shown.len()];
        let mut counted: Vec<(i64, Vec<Option<u32>>)> = Vec::new();
        for (place, scrape) in scrapes.iter().enumerate() {
            now += scrape.after_secs;
            if scrape.replaced {
                start += 1.0;
            }
            let mut shown = Vec::new();
            let mut increments = Vec::new();
            for (series, value) in values.iter_mut().enumerate() {
                let before = *value;
                if scrape.replaced {
                    *value = 0;
                }
                if place < first_shown[series] {
                    increments.push(None);
                    continue;
                }
                *value += scrape.events[series];
                // Unless the process says so, a replacement shows only where the value went down.
                let seen_replaced = scrape.replaced && (tells_start || *value < before);
                increments.push(Some(if seen_replaced { *value } else { *value - before.min(*value) }));
                shown.push((format!("c{{s=\"{series}\"}}"), f64::from(*value)));
            }
            let shown: Vec<(&str, f64)> = shown.iter().map(|(text, value)| (text.as_str(), *value)).collect();
            kit.scrape_of(0, now, tells_start.then_some(start), &shown);
            counted.push((now, increments));
        }
        let end = now + idle_secs;
        let after = end - i64::try_from(window_secs).expect("small");
        let anchor = counted.iter().rposition(|(secs, _)| *secs <= after).unwrap_or(0);
        let in_window = counted.iter().any(|(secs, increments)| *secs > after && increments.iter().any(Option::is_some));
        let truth: u32 = counted[anchor + 1..].iter().flat_map(|(_, increments)| increments.iter().flatten()).sum();
        let observed = kit.value(&question, end);
        prop_assert_eq!(observed, in_window.then_some(f64::from(truth)));
    }

    /// A checkpoint taken anywhere changes no answer.
    #[test]
    fn a_restored_store_answers_as_before((first_shown, scrapes) in history(), window_secs in 1_u64..900) {
        let question = Expr::increase(selector("c"), Duration::from_secs(window_secs));
        let mut kit = Kit::new(std::slice::from_ref(&question));
        let mut now = 0;
        let mut values = vec![0_u32; first_shown.len()];
        let mut start = 1.0;
        for (place, scrape) in scrapes.iter().enumerate() {
            now += scrape.after_secs;
            start += f64::from(u8::from(scrape.replaced));
            let mut shown = Vec::new();
            for (series, value) in values.iter_mut().enumerate() {
                *value = if scrape.replaced { 0 } else { *value } + scrape.events[series];
                if place >= first_shown[series] {
                    shown.push((format!("c{{s=\"{series}\"}}"), f64::from(*value)));
                }
            }
            let shown: Vec<(&str, f64)> = shown.iter().map(|(text, value)| (text.as_str(), *value)).collect();
            kit.scrape_of(0, now, Some(start), &shown);
        }
        let mut back = Kit::new(std::slice::from_ref(&question));
        for dump in kit.dump() {
            back.store.restore(dump.target, dump);
        }
        for one in kit.store.dump_ever() {
            back.store.restore_ever(&one);
        }
        prop_assert_eq!(back.ask(&question, now), kit.ask(&question, now));
        prop_assert_eq!(back.dump(), kit.dump());
    }
}

/// Two and a half intervals: what is watched at all.
const TOLERANCE_MS: i64 = 37_500;

/// One look at the target, and what happened since the one before.
#[derive(Clone, Copy, Debug)]
enum Look {
    Whole,
    /// It was tried, and failed.
    Failed,
    /// Nobody tried.
    Missed,
    /// Whole, by a daemon that has just come back from its checkpoint.
    Restarted,
}

#[derive(Clone, Debug)]
struct Happened {
    after_ms: i64,
    look: Look,
    replaced: bool,
    events: Vec<u32>,
}

fn a_life() -> impl Strategy<Value = (Vec<usize>, Vec<Happened>)> {
    (1_usize..4).prop_flat_map(|series| {
        let look = prop_oneof![
            20 => Just(Look::Whole),
            2 => Just(Look::Failed),
            2 => Just(Look::Missed),
            1 => Just(Look::Restarted),
        ];
        // Around fifteen seconds, with jitter.
        let happened = (13_000_i64..17_000, look, prop::bool::weighted(0.1), prop::collection::vec(0_u32..50, series))
            .prop_map(|(after_ms, look, replaced, events)| Happened { after_ms, look, replaced, events });
        (prop::collection::vec(0_usize..20, series), prop::collection::vec(happened, 2..80))
    })
}

/// A scrape that got through, with all that had truly been counted of each series since the beginning of the world.
struct Whole {
    at_ms: i64,
    counted: Vec<Option<u32>>,
    /// The attempt before it got through too, by the same daemon, at most two and a half intervals ago.
    follows: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a count of every event that is kept beside it: the observed increase is exact between two scrapes, through
    /// resets, gaps, jitter, late series, replaced processes and restarts of the daemon; where the target was not watched
    /// for too much of the window, it is Unknown; and where it was watched without a break, no event of any series is
    /// missing, whenever the series appeared.
    #[test]
    fn what_is_observed_is_what_happened_or_is_unknown((first_shown, life) in a_life(), window_secs in 30_u64..900) {
        let question = Expr::increase(selector("c"), Duration::from_secs(window_secs));
        let mut kit = Kit::new(std::slice::from_ref(&question));
        let (mut now, mut start) = (0, 1000.0);
        let mut shown_value = vec![0_u32; first_shown.len()];
        let mut counted = vec![0_u32; first_shown.len()];
        let mut wholes: Vec<Whole> = Vec::new();
        // Did the last attempt get through, and was it the last look too?
        let (mut got_through, mut just_seen) = (false, false);
        for (place, happened) in life.iter().enumerate() {
            now += happened.after_ms;
            // A process is replaced right after a scrape that got through: what it counts unseen, nobody can know.
            if happened.replaced && just_seen {
                start += 1.0;
                shown_value.fill(0);
            }
            for (series, events) in happened.events.iter().enumerate().filter(|(series, _)| place >= first_shown[*series]) {
                shown_value[series] += events;
                counted[series] += events;
            }
            match happened.look {
                Look::Missed => {
                    just_seen = false;
                    continue;
                }
                Look::Failed => {
                    kit.fail_at(now);
                    (got_through, just_seen) = (false, false);
                    continue;
                }
                Look::Restarted => {
                    kit.come_back(&question);
                    got_through = false;
                }
                Look::Whole => {}
            }
            let is_there = |series: usize| place >= first_shown[series];
            let shown: Vec<(String, f64)> = (0..shown_value.len())
                .filter(|series| is_there(*series))
                .map(|series| (format!("c{{s=\"{series}\"}}"), f64::from(shown_value[series])))
                .collect();
            let shown: Vec<(&str, f64)> = shown.iter().map(|(text, value)| (text.as_str(), *value)).collect();
            kit.scrape_at(now, Some(start), &shown);
            let counted = (0..counted.len()).map(|series| is_there(series).then_some(counted[series])).collect();
            let follows = got_through && wholes.last().is_some_and(|last| now - last.at_ms <= TOLERANCE_MS);
            wholes.push(Whole { at_ms: now, counted, follows });
            (got_through, just_seen) = (true, true);
        }
        let Some(newest) = wholes.last() else { return Ok(()) };
        let end = newest.at_ms;
        let after = end - i64::try_from(window_secs * 1000).expect("small");
        let answer = kit.ask_at(&question, end);
        let value = match &answer.value {
            super::Value::Vector(rows) => rows.first().map(|row| row.1),
            super::Value::Scalar(_) => None,
        };
        prop_assert_eq!(value, truth(&wholes, first_shown.len(), after), "{:?}", answer.evidence);
        // Seen without a break from before the window on: nothing of any series is missing.
        let anchor = wholes.iter().rposition(|whole| whole.at_ms <= after);
        if let Some(anchor) = anchor
            && wholes[anchor + 1..].iter().all(|whole| whole.follows)
            && newest.counted.iter().any(Option::is_some)
        {
            let all = |whole: &Whole| whole.counted.iter().flatten().sum::<u32>();
            prop_assert_eq!(value, Some(f64::from(all(newest) - all(&wholes[anchor]))));
            prop_assert_eq!(answer.evidence[0].gap(), None);
        }
        // What was not watched for more than a fifth of the window is not known.
        let edges = wholes.iter().map(|whole| whole.at_ms.max(after)).filter(|at| *at >= after);
        let edges: Vec<i64> = edges.collect();
        let watched: i64 = edges.windows(2).map(|pair| pair[1] - pair[0]).filter(|pause| *pause <= TOLERANCE_MS).sum();
        if watched * 5 < (end - after) * 4 && answer.evidence[0].targets > 0 {
            prop_assert!(answer.evidence[0].gap().is_some(), "{} of {} ms", watched, end - after);
        }
    }
}

/// Per series: from its last sample before the window, if the target was watched from there on, else from zero or from its
/// first sample in the window, to its last sample.
fn truth(wholes: &[Whole], series: usize, after: i64) -> Option<f64> {
    let mut sum = None;
    for series in 0..series {
        let points: Vec<(usize, &Whole, u32)> = wholes
            .iter()
            .enumerate()
            .filter_map(|(place, whole)| Some((place, whole, whole.counted[series]?)))
            .collect();
        let Some((place, first, in_window)) = points.iter().find(|(_, whole, _)| whole.at_ms > after) else { continue };
        let before = points.iter().rev().find(|(_, whole, _)| whole.at_ms <= after);
        let was_watched = place.checked_sub(1).is_some_and(|last| first.at_ms - wholes[last].at_ms <= TOLERANCE_MS);
        let from = match before {
            Some((_, _, counted)) if was_watched => *counted,
            None if first.follows => 0,
            Some(_) | None => *in_window,
        };
        let last = points.last().map_or(0, |(_, _, counted)| *counted);
        *sum.get_or_insert(0.0) += f64::from(last - from);
    }
    sum
}

const OF_ONE: &[&str] = &[
    "abs",
    "absent",
    "ceil",
    "exp",
    "ln",
    "sgn",
    "sqrt",
    "scalar",
    "sort",
    "timestamp",
    "vector",
    "round",
    "hour",
    "day_of_month",
    "days_in_month",
    "year",
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "stddev",
    "stdvar",
    "group",
    "topk by (x) (2,",
    "bottomk(scalar(b),",
    "quantile(0.9,",
    "count_values(\"v\",",
    "-",
    "histogram_quantile(0.5,",
    "clamp_max(1,",
    "label_join(",
    "count without (x)",
];
const OF_RANGE: &[&str] = &[
    "rate",
    "increase",
    "irate",
    "idelta",
    "delta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "sum_over_time",
    "last_over_time",
    "absent_over_time",
    "stdvar_over_time",
    "quantile_over_time(NaN,",
    "predict_linear",
];
const OPERATORS: &[&str] = &[
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "atan2",
    ">",
    "<= bool",
    "==",
    "!=",
    "and",
    "or on (x)",
    "unless",
    "+ on (x) group_left (le)",
    "/ ignoring (x, le)",
    "> on () group_right",
];

/// PromQL that mostly parses.
fn promql() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("b{x=\"1\"}".to_owned()),
        Just("{__name__=~\"a|b\"}".to_owned()),
        Just("h_bucket offset 30s".to_owned()),
        Just("time()".to_owned()),
        Just("vector(0)".to_owned()),
        any::<f32>().prop_map(|number| format!("{number:e}")),
        Just("Inf".to_owned()),
        Just("NaN".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let of_one = prop::sample::select(OF_ONE);
        let of_range = prop::sample::select(OF_RANGE);
        let range = prop::sample::select(vec!["a[1m]", "b[5m] offset 1m", "{__name__=~\".+\"}[2m]", "h_bucket[1m]"]);
        let operator = prop::sample::select(OPERATORS);
        prop_oneof![
            (of_one, inner.clone()).prop_map(|(function, inner)| match function {
                "-" => format!("-({inner})"),
                "label_join(" => format!("label_join({inner}, \"x\", \"-\", \"x\", \"le\")"),
                function if function.ends_with(',') => format!("{function} {inner})"),
                function => format!("{function}({inner})"),
            }),
            (of_range.clone(), range).prop_map(|(function, range)| match function {
                "predict_linear" => format!("predict_linear({range}, 60)"),
                function if function.ends_with(',') => format!("{function} {range})"),
                function => format!("{function}({range})"),
            }),
            (of_range, inner.clone()).prop_map(|(function, inner)| match function {
                "predict_linear" => format!("predict_linear(({inner})[2m:20s], 60)"),
                function if function.ends_with(',') => format!("{function} ({inner})[2m:20s])"),
                function => format!("{function}(({inner})[2m:20s])"),
            }),
            (inner.clone(), operator, inner)
                .prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})")),
        ]
    })
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -1e3..1e3_f64,
        1 => any::<f64>(),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, f64::MIN_POSITIVE]),
    ]
}

const SERIES: [&str; 6] = [
    "a{x=\"1\"}",
    "a{x=\"2\"}",
    "b{x=\"1\"}",
    "h_bucket{le=\"1\"}",
    "h_bucket{le=\"+Inf\"}",
    "h_bucket{le=\"nonsense\"}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Evaluation gives a value or an `EvalError`, and never panics; and what is shown parses to the same tree.
    #[test]
    fn evaluation_never_panics(text in promql(),
        rounds in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.8, any_value()), SERIES.len()), 0..12),
        late_secs in -100_i64..400)
    {
        let Ok(tree) = Expr::parse(&text) else { return Ok(()) };
        let shown = tree.source();
        let again = Expr::parse(&shown);
        prop_assert!(again.is_ok(), "{} → {}: {:?}", text, shown, again);
        prop_assert_eq!(again.map(|again| again.source()), Ok(shown));
        let mut kit = Kit::new(std::slice::from_ref(&tree));
        let mut now = 0;
        for (round, values) in rounds.iter().enumerate() {
            now = i64::try_from(round).expect("few") * 15;
            if values[0].is_none() && values[1].is_none() {
                kit.fail(now);
                continue;
            }
            let series: Vec<(&str, f64)> =
                SERIES.iter().zip(values).filter_map(|(series, value)| Some((*series, (*value)?))).collect();
            kit.scrape(now, &series);
        }
        let instant = Instant { at: at(now + late_secs), wall_offset_ms: 1_700_000_000_123 };
        let answer = evaluate(&tree, &kit.store, API, instant);
        // The same question has the same answer; NaN is compared as text.
        prop_assert_eq!(format!("{answer:?}"), format!("{:?}", evaluate(&tree, &kit.store, API, instant)));
        prop_assert!(answer.is_err() || tree.selectors().len() == answer.map_or(0, |answer| answer.evidence.len()));
    }

    #[test]
    fn parsing_never_panics(words in prop::collection::vec(prop::sample::select(vec![
        "a", "rate", "(", ")", "[5m]", "[", "]", "{", "}", "\"x\"", "`\\d", "`", "'", "\"", "=~", "=", "!=", ",", "offset",
        "1e309", "-", "5m", ":", "@", "by", "on", "bool", "0x", "é", "\\", "#", "\n", " ", "or", "sum", "9999999999999y",
        "group_left", "start()", "1_000", "[1y9999999999d]", "[0.0000001]", "offset -3h",
    ]), 0..14)) {
        let text: String = words.concat();
        if let Ok(tree) = Expr::parse(&text) {
            prop_assert!(Expr::parse(&tree.source()).is_ok(), "{} → {}", text, tree.source());
        }
    }

    #[test]
    fn patterns_never_panic(pattern in "[\\[\\]a-c{}0-9,^&~\\-\\\\dwsbQE:().*+?|$ ]{0,12}") {
        if let Ok(pattern) = super::selector::compile_pattern(&pattern) {
            let _: bool = pattern.is_match("a[b]");
        }
    }
}

#[test]
fn the_grammar_of_the_properties_is_mostly_promql() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let parsed = (0..400)
        .filter(|_| {
            let text = promql().new_tree(&mut runner).expect("a tree").current();
            Expr::parse(&text).is_ok()
        })
        .count();
    assert!(parsed > 150, "{parsed} of 400 parse: the property would test nothing");
    assert!(expr("a").selectors().len() == 1);
}
