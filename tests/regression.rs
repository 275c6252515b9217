//! A release that is slower than the one before is rolled back, by its own measure.

mod support;

use backstop::decide::rules::{Unit, ValueKind};
use backstop::promql::{Comparison, Expr};
use support::{Behaviour, INTERVAL, MINUTE, World, trigger, world};

/// More than half as much again as in the hour before; `app_errors` stands for a latency.
fn slower() -> World {
    let mut world = world(|service| {
        let expr = Expr::parse("max(app_errors)").expect("an expression");
        let mut slower = trigger("slower", ValueKind::Regression, expr, Comparison::Above, 0.5, 30);
        if let backstop::decide::rules::Question::Value { unit, .. } = &mut slower.question {
            *unit = Unit::Percent;
        }
        service.triggers = vec![slower];
    });
    world.fleet.errors_anyway = 0.1;
    world.run(50 * MINUTE);
    world
}

fn deploy(world: &mut World, release: &str, errors: f64) {
    world.fleet.behaviours.insert(release.to_owned(), Behaviour { errors, crashes: false });
    let now = world.now;
    world.fleet.deploy(release, now);
}

#[test]
fn a_release_that_is_slower_is_rolled_back_and_a_little_slower_is_not() {
    let mut world = slower();
    deploy(&mut world, "r2", 0.14);
    world.run(5 * MINUTE);
    assert!(world.steps_begun().is_empty(), "40 % is not 50 %: {}", world.story());
    assert_eq!(world.fleet.symlink, "r2");
    // Its hour is too short: the older median stays, and 0.16 is 60 % more than it.
    deploy(&mut world, "r3", 0.16);
    world.run_until(4 * MINUTE, "rolled back", |world| world.fleet.symlink != "r3");
    let story = world.story();
    assert!(story.contains("60 %") && story.contains("above its median before the release"), "{story}");
    // Verified by the same measure, not by that of the release that was worse.
    world.run_until(4 * MINUTE, "recovered", |world| world.state() == "recovered");
}

#[test]
fn without_a_baseline_nothing_is_done() {
    let mut world = world(|service| {
        let expr = Expr::parse("max(app_errors)").expect("an expression");
        service.triggers = vec![trigger("slower", ValueKind::Regression, expr, Comparison::Above, 0.5, 30)];
    });
    world.fleet.errors_anyway = 0.1;
    world.run(10 * MINUTE);
    deploy(&mut world, "r2", 0.9);
    world.run(20 * MINUTE);
    assert!(world.steps_begun().is_empty(), "{}", world.story());
    let finding = format!("{:?}", world.service());
    assert!(finding.contains("to compare with, 30m are needed"), "{finding}");
}

#[test]
fn the_baseline_survives_a_restart() {
    let mut world = slower();
    deploy(&mut world, "r2", 0.3);
    world.run(3 * INTERVAL);
    world.checkpoint();
    world.restart();
    world.run_until(5 * MINUTE, "rolled back", |world| world.fleet.symlink == "r1");
}
