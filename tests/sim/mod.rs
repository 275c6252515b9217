//! A world of services, releases, people and faults, made from a seed, around the real machine; and a judge who sees only
//! that world.
//!
//! Faults first, then healing, then progress is demanded.

pub mod disk;
pub mod faults;
pub mod fleet;
pub mod holds;
pub mod limits;
pub mod moments;
pub mod oracle;
pub mod pairs;
pub mod people;
pub mod rng;
pub mod setup;
pub mod tally;
pub mod world;

use backstop::decide::event::Autonomy;
use backstop::decide::rules::DetectorKind;
use oracle::Broken;
use tally::Tally;
use world::World;

use crate::support::{MINUTE, SECOND};

/// From the end of the faults until every incident has ended or called a person, but for what acts until its deadline.
const HEALS_WITHIN_MS: i64 = 12 * MINUTE;

/// No ladder of the simulation has a later deadline.
const ACTS_FOR_MAX_MS: i64 = 60 * MINUTE;

/// How late a deadline may be noticed.
const LATE_MS: i64 = 15 * SECOND;

/// From a release that is plainly broken, in a world that is well, until a person knows of it: the longest hold and window.
const ANSWERED_WITHIN_MS: i64 = 4 * MINUTE;

/// People try so often to turn off what stops backstop: the daemon may just be starting.
const LETS_GO_TRIES: u32 = 6;

/// How a seed ended.
#[derive(Debug)]
pub struct Ended {
    pub result: Result<(), Broken>,
    pub tally: Tally,
    /// What happened, if it was asked for.
    pub story: Vec<String>,
}

/// The same seed gives the same story.
pub fn run(seed: u64, tells: bool) -> Ended {
    let mut world = match World::new(seed, tells) {
        Ok(world) => world,
        Err(broken) => return Ended { result: Err(broken), tally: Tally::new(), story: Vec::new() },
    };
    let result = play(&mut world);
    let mut story = world.story.take().unwrap_or_default();
    if tells {
        story.push(world.oracle.tell());
        story.push(world.status());
    }
    world.tally.seeds = 1;
    Ended { result, tally: world.tally, story }
}

fn play(world: &mut World) -> Result<(), Broken> {
    // Long enough for the first release to be known good.
    world.advance(2 * MINUTE)?;
    let rounds = 1 + world.rng.below(3);
    for _ in 0..rounds {
        // Faults meet a rollback that has begun in calm, more often than not.
        if world.rng.below(5) > 0 {
            let acts = |service: &usize| {
                let rules = world.rules.services.iter().find(|rules| rules.name == world.fleets[*service].service);
                rules.is_some_and(|rules| rules.autonomy == Autonomy::Act)
            };
            let acting: Vec<usize> = (0..world.fleets.len()).filter(acts).collect();
            let any = world.rng.index(world.fleets.len());
            let service = if acting.is_empty() { any } else { world.rng.pick(&acting) };
            if world.rng.one_in(8) {
                // It was wrong before, and the release makes it worse.
                faults::outage(world, service, 0.2);
                world.advance(world.t + 90 * SECOND)?;
                world.tally.fault(tally::Fault::Worsens);
                people::deploy(world, service, |_| fleet::Behaviour { errors: 0.9, ..fleet::Behaviour::GOOD });
                let calm = world.rng.within(30 * SECOND, 100 * SECOND);
                world.advance(world.t + calm)?;
            } else if let Some(broken) = faults::plainly_broken(world, service) {
                people::deploy(world, service, |_| broken);
                let calm = world.rng.within(5 * SECOND, 100 * SECOND);
                world.advance(world.t + calm)?;
            }
        }
        let until = world.t + world.rng.within(2 * MINUTE, 6 * MINUTE);
        faults::storm(world, until)?;
        // Now and then the world is well for long enough that a release becomes good.
        let calm = world.rng.within(SECOND, 3 * MINUTE);
        world.advance(world.t + calm)?;
    }
    for service in 0..world.fleets.len() {
        world.fleets[service].count_all(world.t);
        world.fleets[service].rate = 20.0;
    }
    for _ in 0..LETS_GO_TRIES {
        if people::let_go(world)? {
            break;
        }
        world.advance(world.t + 20 * SECOND)?;
    }
    rests(world)?;
    demand_progress(world)?;
    rests(world)
}

/// What acts is waited for until its deadline: what it depends on may be wrong for good and hold it until then, and it may
/// have begun a moment ago, when a budget was free again.
fn rests(world: &mut World) -> Result<(), Broken> {
    world.advance(world.t + HEALS_WITHIN_MS)?;
    if let Some(deadline) = world.oracle.acts_until(&world.configured) {
        let until = deadline.as_millis() - world.monotonic_offset();
        if until > world.t + ACTS_FOR_MAX_MS {
            return Err(format!("promise 4: something acts until {deadline}, which is too long"));
        }
        world.advance(until.max(world.t) + LATE_MS)?;
    }
    world.oracle.at_rest(world.monotonic(), world.t, &world.configured)
}

/// The world is well, and a release comes that is plainly broken: it is acted on, or somebody is told.
fn demand_progress(world: &mut World) -> Result<(), Broken> {
    let service = world.rng.index(world.fleets.len());
    let Some(mut broken) = faults::plainly_broken(world, service).filter(|_| world.configured[service]) else {
        return Ok(());
    };
    let name = &world.fleets[service].service;
    let rules = world.rules.services.iter().find(|rules| rules.name == *name);
    if rules.is_some_and(|rules| rules.triggers.iter().any(|trigger| *trigger.name == *setup::MEMORY)) {
        // It fills its memory when it has long been seen: from then on every look counts.
        broken = fleet::Behaviour { memory: true, from_ms: 70 * SECOND, ..fleet::Behaviour::GOOD };
    }
    // Named from inside the processes, a release that never starts is nothing new where nothing has run for long.
    let outside =
        rules.is_some_and(|rules| rules.detectors.first().is_some_and(|seen| seen.kind == DetectorKind::Outside));
    if broken.crashes && !outside && world.oracle.is_wrong(service, world.t) {
        return Ok(());
    }
    let since = world.t;
    let release = people::deploy(world, service, |_| broken);
    world.advance(since + ANSWERED_WITHIN_MS)?;
    world.tally.expected += 1;
    if world.oracle.answered(service, since) {
        return Ok(());
    }
    Err(format!("r{} of service {service} came at {since} and is plainly broken, and nobody was told", release + 1))
}
