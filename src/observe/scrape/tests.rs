use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::cache::{Cache, Refused, Scanned};
use super::{AT_ONCE, PATIENCE, Turns, target_labels};
use crate::exposition::Format;
use crate::promql::{Batch, Interest, Labels, LocalId, Selector};

fn interest(generation: u64, selectors: &[&str]) -> Arc<Interest> {
    let selectors: Vec<Selector> = selectors.iter().map(|text| Selector::parse(text).unwrap()).collect();
    Arc::new(Interest::compile(generation, &selectors))
}

fn cache(selectors: &[&str]) -> Cache {
    let labels = target_labels("app".to_owned(), "a:1".to_owned(), &[("zone".to_owned(), "z1".to_owned())]);
    Cache::new(labels, 50_000, interest(1, selectors))
}

fn read(cache: &mut Cache, body: &str) -> Batch {
    cache.read(Format::Text, body.as_bytes()).unwrap().batch
}

fn born(batch: &Batch) -> BTreeMap<LocalId, String> {
    batch.born.iter().map(|(id, labels)| (*id, labels.to_string())).collect()
}

#[test]
fn a_series_is_born_once_and_then_only_its_value_is_sent() {
    let mut cache = cache(&["requests_total"]);
    let first = read(&mut cache, "requests_total{code=\"200\"} 5\nother 1\nrequests_total{code=\"500\"} 1\n");
    assert!(first.rebind);
    assert_eq!(
        born(&first),
        BTreeMap::from([
            (LocalId(0), r#"requests_total{code="200", instance="a:1", job="app", zone="z1"}"#.to_owned()),
            (LocalId(1), r#"requests_total{code="500", instance="a:1", job="app", zone="z1"}"#.to_owned()),
        ])
    );
    assert_eq!(first.samples, [(LocalId(0), 5.0), (LocalId(1), 1.0)]);
    let second = read(&mut cache, "requests_total{code=\"500\"} 2\nrequests_total{code=\"200\"} 6\n");
    let expected = Batch { samples: vec![(LocalId(1), 2.0), (LocalId(0), 6.0)], ..Batch::default() };
    assert_eq!(second, expected);
}

#[test]
fn what_vanishes_is_told_once_and_what_comes_back_is_born_again() {
    let mut cache = cache(&["x"]);
    read(&mut cache, "x{a=\"1\"} 1\nx{a=\"2\"} 1\n");
    let without = read(&mut cache, "x{a=\"1\"} 1\n");
    assert_eq!((without.vanished, without.born.len()), (vec![LocalId(1)], 0));
    let still = read(&mut cache, "x{a=\"1\"} 1\n");
    assert!(still.vanished.is_empty());
    let back = read(&mut cache, "x{a=\"1\"} 1\nx{a=\"2\"} 1\n");
    assert_eq!(born(&back).into_keys().collect::<Vec<_>>(), [LocalId(1)], "within a few scrapes it has its id again");
    for _ in 0..6 {
        read(&mut cache, "x{a=\"1\"} 1\n");
    }
    let later = read(&mut cache, "x{a=\"1\"} 1\nx{a=\"2\"} 1\n");
    assert_eq!(born(&later).into_keys().collect::<Vec<_>>(), [LocalId(2)], "an id is not given to another series");
}

#[test]
fn of_the_same_series_twice_in_a_body_the_first_counts() {
    let mut cache = cache(&["x"]);
    for _ in 0..2 {
        // The last line is the same series in another spelling.
        let batch = read(&mut cache, "x{a=\"1\",b=\"2\"} 1\nx{a=\"1\",b=\"2\"} 7\nx{b=\"2\",a=\"1\"} 8\n");
        assert_eq!(batch.samples, [(LocalId(0), 1.0)]);
    }
    let other_spelling = read(&mut cache, "x{b=\"2\",a=\"1\"} 9\n");
    assert_eq!(other_spelling, Batch { samples: vec![(LocalId(0), 9.0)], ..Batch::default() });
}

#[test]
fn an_exposed_label_never_replaces_one_of_the_target() {
    let mut cache = cache(&[r#"x{job="app"}"#]);
    let batch = read(&mut cache, "x{job=\"batch\",instance=\"\",zone=\"a\",exported_zone=\"b\"} 1\n");
    let labels = Labels::from_pairs([
        ("__name__", "x"),
        ("job", "app"),
        ("exported_job", "batch"),
        ("instance", "a:1"),
        ("zone", "z1"),
        ("exported_zone", "b"),
        ("exported_exported_zone", "a"),
    ]);
    assert_eq!(batch.born, [(LocalId(0), labels)]);
}

#[test]
fn labels_of_the_target_can_be_set_and_taken_away() {
    let own = [("job".to_owned(), "shop".to_owned()), ("instance".to_owned(), String::new())];
    let labels = target_labels("app".to_owned(), "a:1".to_owned(), &own);
    assert_eq!(labels, [("job".to_owned(), "shop".to_owned())]);
}

#[test]
fn a_selector_on_labels_decides_after_the_name() {
    let mut cache = cache(&[r#"x{code=~"5.."}"#]);
    for expected_born in [1, 0, 0] {
        let batch = read(&mut cache, "x{code=\"200\"} 1\nx{code=\"503\"} 2\n");
        assert_eq!((batch.born.len(), batch.samples), (expected_born, vec![(LocalId(0), 2.0)]));
    }
}

#[test]
fn the_start_of_the_process_is_read_although_nobody_selects_it() {
    let mut cache = cache(&["x"]);
    let body = "process_start_time_seconds{app=\"shop\"} 1.5e9\nx 1\n";
    for _ in 0..2 {
        let batch = read(&mut cache, body);
        assert_eq!((batch.process_start, batch.samples.len()), (Some(1.5e9), 1));
    }
    let gathered = "process_start_time_seconds{app=\"a\"} 1\nprocess_start_time_seconds{app=\"b\"} 2\nx 1\n";
    assert_eq!(read(&mut cache, gathered).process_start, None, "several of them say nothing of this process");
}

#[test]
fn another_interest_or_format_makes_all_ids_new() {
    let mut cache = cache(&["x", "y"]);
    read(&mut cache, "x 1\ny 1\n");
    cache.retarget(interest(2, &["y"]));
    let Scanned { generation, batch, samples_exposed } = cache.read(Format::Text, b"x 2\ny 2\n").unwrap();
    assert_eq!((generation, samples_exposed, batch.rebind), (2, 2, true));
    assert_eq!(born(&batch).into_values().collect::<Vec<_>>(), [r#"y{instance="a:1", job="app", zone="z1"}"#]);
    cache.retarget(interest(2, &["y"]));
    assert!(!read(&mut cache, "x 2\ny 2\n").rebind);
    let batch = cache.read(Format::OpenMetrics, b"y 2\n# EOF\n").unwrap().batch;
    assert!(batch.rebind && batch.born.len() == 1);
}

#[test]
fn a_broken_body_changes_nothing_and_too_many_series_start_anew() {
    let mut cache = cache(&["x"]);
    read(&mut cache, "x{a=\"1\"} 1\n");
    let refused = cache.read(Format::Text, b"x{a=\"2\"} 1\nx{a=\"3\"} one\n").unwrap_err();
    let Refused::Scan(error) = refused else { panic!("{refused:?}") };
    assert_eq!(error.line, 2);
    assert_eq!(read(&mut cache, "x{a=\"1\"} 2\n"), Batch { samples: vec![(LocalId(0), 2.0)], ..Batch::default() });

    let mut small = Cache::new(Vec::new(), 2, interest(1, &[r#"x{a=~"[1-3]"}"#]));
    assert_eq!(read(&mut small, "x{a=\"1\"} 1\nx{a=\"2\"} 1\nx{a=\"9\"} 1\n").samples.len(), 2);
    let body = "x{a=\"1\"} 1\nx{a=\"2\"} 1\nx{a=\"3\"} 1\n";
    assert!(matches!(small.read(Format::Text, body.as_bytes()), Err(Refused::TooMany(2))));
    assert!(read(&mut small, "x{a=\"1\"} 1\n").rebind);
}

#[test]
fn series_that_are_always_new_do_not_pile_up() {
    let mut cache = cache(&["x"]);
    let mut rebinds = 0;
    let mut ids_max = 0;
    for scrape in 0..60 {
        let mut body = String::new();
        for series in 0..500 {
            writeln!(body, "x{{id=\"{scrape}-{series}\"}} 1\nnot_wanted{{id=\"{scrape}-{series}\"}} 1").unwrap();
        }
        let batch = read(&mut cache, &body);
        assert_eq!(batch.born.len(), 500);
        rebinds += usize::from(batch.rebind);
        ids_max = ids_max.max(batch.samples.iter().map(|(id, _)| id.0).max().unwrap());
    }
    assert!(cache.places() <= 500 * 5, "{}", cache.places());
    assert!(rebinds > 1 && ids_max < 10_000, "{rebinds} {ids_max}");
}

#[test]
fn two_processes_that_take_turns_fail_the_scrape() {
    let mut cache = cache(&["x_total", "y_total"]);
    let body = |process: u32, n: u32| {
        let (x, y) = if process == 0 { (1_000 + n, 900 + n) } else { (10 + n, 20 + n) };
        format!("x_total {x}\ny_total {y}\n")
    };
    let failed: Vec<bool> = (0..8).map(|n| cache.read(Format::Text, body(n % 2, n).as_bytes()).is_err()).collect();
    assert_eq!(failed, [false, false, false, false, true, true, true, true]);
    // One of them is gone: after ten calm scrapes the other counts again, with ids of its own.
    let calm: Vec<Result<bool, ()>> = (0..12)
        .map(|n| cache.read(Format::Text, body(0, n + 8).as_bytes()).map(|s| s.batch.rebind).map_err(|_| ()))
        .collect();
    assert_eq!(calm.iter().position(Result::is_ok), Some(10), "{calm:?}");
    assert_eq!(calm[10..], [Ok(true), Ok(false)]);
}

#[tokio::test(start_paused = true)]
async fn scrapes_that_are_due_at_once_take_turns_but_wait_for_none_for_long() {
    let turns = Turns::default();
    let mut under_way = Vec::new();
    for _ in 0..AT_ONCE {
        under_way.push(turns.next().await.expect("a turn"));
    }
    let moment = Duration::from_millis(1);
    assert!(timeout(PATIENCE.saturating_sub(moment), turns.next()).await.is_err(), "it waits");
    let waits_too_long = timeout(PATIENCE + moment, turns.next());
    assert!(waits_too_long.await.expect("it goes on").is_none());
    let waiting = tokio::spawn({
        let turns = turns.clone();
        async move { turns.next().await.is_some() }
    });
    tokio::task::yield_now().await;
    under_way.pop();
    assert!(waiting.await.unwrap(), "who waits is next");
}
