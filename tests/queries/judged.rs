//! What answers of queries do to verdicts and decisions, on a machine whose clock the test turns.

use std::time::Duration;

use backstop::decide::rules::{Trigger, ValueKind};
use backstop::machine::input::{Input, Observation, QueryAnswer, ScrapeFailure, TargetKey, TargetKind};
use backstop::machine::snapshot::TriggerView;
use backstop::promql::{Comparison, Expr, Labels, TargetId};
use backstop::time::Timestamp;

use crate::support::{Behaviour, INTERVAL, MINUTE, SECOND, World, secs, trigger, world};

const QUERY: TargetId = TargetId(950);
/// How far the query of these tests looks back.
const WINDOW: i64 = 2 * MINUTE;

fn over(limit: f64) -> Trigger {
    let expr = Expr::parse("error_ratio").unwrap();
    trigger("errors", ValueKind::Expr, expr, Comparison::Above, limit, 10)
}

/// Its trigger asks a query, and nothing else.
fn watched_by_a_query() -> World {
    let mut world = world(|service| service.triggers = vec![over(0.1)]);
    world.fleet.behaviours.insert("r2".to_owned(), Behaviour::BROKEN);
    come(&mut world);
    world
}

fn come(world: &mut World) {
    let key = TargetKey {
        service: Some("api".into()),
        kind: TargetKind::Query,
        source: "error_ratio".into(),
        address: "http://prometheus:9090".into(),
    };
    let (labels, interval) = (Labels::default(), secs(5));
    world.input(Input::Observation(Observation::TargetUp { target: QUERY, key, labels, interval }));
}

fn answer(world: &mut World, outcome: Result<QueryAnswer, ScrapeFailure>) {
    let at = Timestamp::from_millis(world.now);
    world.input(Input::Observation(Observation::Queried { target: QUERY, at, duration: secs(0), outcome }));
    world.settle();
}

#[expect(clippy::unnecessary_wraps, reason = "one of several outcomes")]
fn values(values: &[(&str, f64)], window: i64) -> Result<QueryAnswer, ScrapeFailure> {
    let series =
        values.iter().map(|(pod, value)| (Labels::from_pairs([("__name__", "error_ratio"), ("pod", pod)]), *value));
    let window = Duration::from_millis(u64::try_from(window).unwrap());
    Ok(QueryAnswer { series: series.collect(), window })
}

fn refused() -> Result<QueryAnswer, ScrapeFailure> {
    Err(ScrapeFailure { reason: "refused", detail: "the connection was refused".to_owned() })
}

/// Looks for so long, with this answer at every interval.
fn run(world: &mut World, millis: i64, outcome: &Result<QueryAnswer, ScrapeFailure>) {
    let until = world.now + millis;
    while world.now < until {
        world.run(INTERVAL);
        answer(world, outcome.clone());
    }
}

fn shown(world: &World) -> TriggerView {
    world.service().triggers.remove(0)
}

#[track_caller]
fn says(world: &World, finding: &str, sentence: &str) {
    let trigger = shown(world);
    assert_eq!(trigger.finding, finding, "{}\n{}", trigger.sentence, world.story());
    assert!(trigger.sentence.contains(sentence), "{}", trigger.sentence);
}

#[test]
fn an_answer_is_judged_as_if_it_had_been_scraped() {
    let mut world = watched_by_a_query();
    run(&mut world, 6 * MINUTE, &values(&[("a", 0.01), ("b", 0.02)], WINDOW));
    says(&world, "clear", "0.01");
    world.fleet.deploy("r2", world.now);
    run(&mut world, 40 * SECOND, &values(&[("a", 0.5), ("b", 0.02)], 0));
    assert_eq!(world.state(), "verifying", "{}", world.story());
    assert_eq!(world.steps_begun().len(), 1);
    assert_eq!(world.fleet.symlink, "r1");
    let incident = &world.incidents()[0];
    assert!(
        incident.sentence.contains("errors: 0.5 for error_ratio{pod=\"a\"}, above 0.1 for 10s"),
        "{}",
        incident.sentence
    );
}

#[test]
fn what_a_server_saw_before_the_release_never_counts_against_it() {
    let mut world = watched_by_a_query();
    run(&mut world, 6 * MINUTE, &values(&[("a", 0.01)], WINDOW));
    world.fleet.deploy("r2", world.now);
    // Broken at once, as far as the server can tell: its window still holds the old release.
    run(&mut world, WINDOW - 10 * SECOND, &values(&[("a", 0.5)], WINDOW));
    says(&world, "unknown", "of 2m");
    assert_eq!(world.state(), "none", "{}", world.story());
    run(&mut world, 40 * SECOND, &values(&[("a", 0.5)], WINDOW));
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    // The same after the level: what was wrong before it is no proof that it did not help.
    run(&mut world, 90 * SECOND, &values(&[("a", 0.5)], WINDOW));
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
    says(&world, "unknown", "of 2m");
}

#[test]
fn a_server_that_does_not_answer_moves_nothing_and_is_named() {
    let mut world = watched_by_a_query();
    run(&mut world, 6 * MINUTE, &values(&[("a", 0.01)], 0));
    world.fleet.deploy("r2", world.now);
    run(&mut world, 10 * MINUTE, &refused());
    says(&world, "unknown", "query error_ratio: the connection was refused");
    assert_eq!(shown(&world).verdict, "blind");
    assert_eq!(world.state(), "none", "{}", world.story());
    let snapshot = world.snapshot();
    let key = ("api".into(), "error_ratio".into(), "refused".to_owned());
    assert!(snapshot.counters.failures[&key] >= 100, "{:?}", snapshot.counters.failures);
    let view = world.service().targets.into_iter().find(|target| target.kind == "query").unwrap();
    assert_eq!((view.up, view.error.as_deref()), (Some(false), Some("the connection was refused")));
    // What is known again counts again.
    run(&mut world, MINUTE, &values(&[("a", 0.5)], 0));
    assert_eq!(world.steps_begun().len(), 1, "{}", world.story());
}

#[test]
fn nan_is_unknown_and_an_empty_answer_is_clear_only_where_it_was_allowed() {
    let mut world = watched_by_a_query();
    run(&mut world, MINUTE, &values(&[("a", f64::NAN)], 0));
    says(&world, "unknown", "the value is NaN");
    run(&mut world, MINUTE, &values(&[("a", f64::INFINITY)], 0));
    says(&world, "unknown", "the value is inf");
    // An answer without series gets here only where `on_empty = "clear"`.
    run(&mut world, MINUTE, &values(&[], 0));
    says(&world, "clear", "nothing matches");
    let empty = Err(ScrapeFailure { reason: "empty", detail: "its answer is empty".to_owned() });
    run(&mut world, MINUTE, &empty);
    says(&world, "unknown", "query error_ratio: its answer is empty");
    // Never seen, and then nothing: still an answer.
    let mut fresh = watched_by_a_query();
    fresh.run(INTERVAL);
    says(&fresh, "unknown", "query error_ratio: not asked yet");
    run(&mut fresh, MINUTE, &values(&[], 0));
    says(&fresh, "clear", "nothing matches");
}

#[test]
fn a_server_that_answers_is_no_sign_that_the_release_has_started() {
    let mut world = watched_by_a_query();
    run(&mut world, 6 * MINUTE, &values(&[("a", 0.01)], 0));
    world.fleet.behaviours.insert("r2".to_owned(), Behaviour::CRASHES);
    world.fleet.deploy("r2", world.now);
    // `startup` is 10 s; the process never answers.
    run(&mut world, 10 * SECOND, &values(&[("a", 0.5)], 0));
    says(&world, "unknown", "the new release is starting");
}

#[test]
fn a_server_that_answers_is_no_proof_that_the_way_to_the_service_is_open() {
    let mut world = world(|service| service.triggers = vec![crate::support::down()]);
    come(&mut world);
    run(&mut world, 6 * MINUTE, &values(&[("a", 0.01)], 0));
    world.fleet.deploy("r2", world.now);
    let until = world.now + 30 * MINUTE;
    world.fleet.processes[0].cut_until = until;
    run(&mut world, 5 * MINUTE, &values(&[("a", 0.01)], 0));
    assert!(world.steps_begun().is_empty(), "{}", world.story());
    let incident = &world.incidents()[0];
    assert_eq!(incident.reasons, ["no_reference"], "{}", world.story());
}

#[test]
fn a_query_down_is_not_the_service_down() {
    let up = Expr::parse("up == 0").unwrap().split_comparison().unwrap().0;
    let mut world = world(|service| {
        service.triggers = vec![trigger("down", ValueKind::Expr, up, Comparison::Equal, 0.0, 10)];
    });
    come(&mut world);
    run(&mut world, 6 * MINUTE, &values(&[("a", 0.01)], 0));
    world.fleet.deploy("r2", world.now);
    run(&mut world, 5 * MINUTE, &refused());
    says(&world, "clear", "1");
    assert_eq!(world.state(), "none", "{}", world.story());
}

#[test]
fn the_series_of_a_query_survive_a_restart() {
    let mut world = watched_by_a_query();
    run(&mut world, 6 * MINUTE, &values(&[("a", 0.01)], 0));
    let kept = |world: &mut World| {
        world.checkpoint();
        let windows = &world.checkpoints.last().unwrap().windows;
        let (_, dump) = windows.iter().find(|(key, _)| key.kind == TargetKind::Query).unwrap();
        dump.series.iter().map(|series| (series.labels.clone(), series.samples.len())).collect::<Vec<_>>()
    };
    let before = kept(&mut world);
    assert!(before[0].1 > 0, "{before:?}");
    world.restart();
    come(&mut world);
    assert_eq!(kept(&mut world), before);
    run(&mut world, 2 * INTERVAL, &values(&[("a", 0.02)], 0));
    says(&world, "clear", "0.02");
    assert!(kept(&mut world)[0].1 >= before[0].1, "the window goes on");
}
