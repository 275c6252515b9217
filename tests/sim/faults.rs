//! What goes wrong by chance, and when.

use super::disk::State;
use super::fleet::{Behaviour, Lie, MILD_MAX};
use super::oracle::Broken;
use super::tally::Fault;
use super::world::{Manner, Weather, World};
use super::{people, setup};
use crate::support::{MINUTE, SECOND};

/// One thing happens.
pub fn strike(world: &mut World) -> Result<(), Broken> {
    if world.rng.one_in(3) {
        return people::act(world);
    }
    match world.rng.below(10) {
        9 => ground(world),
        0 | 1 => network(world),
        2 => traffic(world),
        3 => clock(world),
        4 => disk(world),
        5 => crash(world)?,
        6 => receivers(world),
        7 => detectors(world),
        _ => counters(world),
    }
    if world.disk.state != State::Writes && world.rng.one_in(2) {
        world.disk_back();
    }
    Ok(())
}

fn service(world: &mut World) -> usize {
    let count = world.fleets.len();
    world.rng.index(count)
}

fn process(world: &mut World) -> (usize, usize) {
    let service = service(world);
    let count = world.fleets[service].processes.len();
    (service, world.rng.index(count))
}

fn network(world: &mut World) {
    let until = world.t + world.rng.within(SECOND, 60 * SECOND);
    match world.rng.below(13) {
        0 => {
            let service = service(world);
            for process in &mut world.fleets[service].processes {
                process.cut_until = until;
            }
            world.tally.fault(Fault::TargetsCut);
        }
        1 | 2 => {
            world.go_dark(until);
            world.tally.fault(Fault::NetworkGone);
        }
        3 => {
            let name = world.rng.pick(&setup::REFERENCES);
            world.references.insert(name, until);
            world.tally.fault(Fault::ReferenceDown);
        }
        4 | 5 => {
            // Of all processes of a service.
            let service = service(world);
            for process in &mut world.fleets[service].processes {
                process.lie = Some((Lie::Hangs, until));
            }
            world.note(|| format!("scrapes of {service} hang until {}", until / 1000));
            world.tally.fault(Fault::ScrapeHangs);
        }
        _ => {
            let (service, process) = process(world);
            let (lie, fault) = world.rng.pick(&[
                (Lie::Hangs, Fault::ScrapeHangs),
                (Lie::Refused, Fault::ScrapeRefused),
                (Lie::Truncated, Fault::ScrapeTruncated),
                (Lie::Limit, Fault::ScrapeLimit),
                (Lie::SeveralProcesses, Fault::SeveralProcesses),
                (Lie::Wrong, Fault::ScrapeLies),
                (Lie::NaN, Fault::ScrapeNaN),
                (Lie::Unsent, Fault::ProbeUnsent),
            ]);
            world.note(|| format!("{service}/{process}: {lie:?} until {}", until / 1000));
            world.fleets[service].processes[process].lie = Some((lie, until));
            world.tally.fault(fault);
        }
    }
}

fn traffic(world: &mut World) {
    let service = service(world);
    let t = world.t;
    world.fleets[service].count_all(t);
    let rate = &mut world.fleets[service].rate;
    let fault = match world.rng.below(6) {
        0 => {
            *rate = 0.2;
            Fault::TrafficLow
        }
        1 => {
            *rate = 0.0;
            Fault::TrafficStops
        }
        2 => {
            *rate = 300.0;
            Fault::TrafficBurst
        }
        3 => {
            *rate = 0.1;
            let count = world.fleets[service].processes.len();
            let index = world.rng.index(count);
            world.fleets[service].fail_once(index, t);
            Fault::OneError
        }
        _ => {
            *rate = 20.0;
            return;
        }
    };
    world.note(|| format!("{service}: {}", fault.name()));
    world.tally.fault(fault);
}

fn clock(world: &mut World) {
    match world.rng.below(4) {
        0 => {
            let jump = world.rng.within(SECOND, 30 * MINUTE);
            world.note(|| format!("the wall jumps forward by {} s", jump / 1000));
            world.jump(jump);
            world.tally.fault(Fault::WallForward);
        }
        1 => {
            let jump = world.rng.within(SECOND, 30 * MINUTE);
            world.note(|| format!("the wall jumps back by {} s", jump / 1000));
            world.jump(-jump);
            world.tally.fault(Fault::WallBack);
        }
        _ => {
            let millis = world.rng.within(SECOND, 90 * SECOND);
            world.stop_for(millis);
            world.tally.fault(Fault::ProcessStopped);
        }
    }
}

fn disk(world: &mut World) {
    if world.rng.one_in(2) {
        world.disk_stalls(State::Stalls);
        world.tally.fault(Fault::DiskStalls);
    } else {
        world.disk_stalls(State::Fails);
        world.tally.fault(Fault::DiskFails);
    }
}

fn crash(world: &mut World) -> Result<(), Broken> {
    match world.rng.below(8) {
        0 => {
            world.tally.fault(Fault::Drain);
            world.drain()?;
        }
        1 | 2 => world.crash_at_sync = true,
        3 => {
            world.power_cut = true;
            world.tally.fault(Fault::Reboot);
            world.crash_in = Some(0);
        }
        4 => {
            // Between two lives the clock on the wall is set.
            let jump = world.rng.within(-20 * MINUTE, 20 * MINUTE);
            world.wall_offset += jump;
            world.tally.fault(Fault::WallJumpsWhileDown);
            world.crash_in = Some(0);
        }
        _ => world.crash_in = Some(u32::try_from(world.rng.below(12)).unwrap_or(0)),
    }
    Ok(())
}

/// What a rollback stands on.
fn ground(world: &mut World) {
    let t = world.t;
    let place = service(world);
    let blocks = world.rng.one_in(2);
    let fleet = &mut world.fleets[place];
    let ground = if blocks { &mut fleet.blocked } else { &mut fleet.image_gone };
    *ground = if ground.is_some() { None } else { Some(t) };
    world.tally.fault(if blocks { Fault::Blocker } else { Fault::ImageGone });
    world.note(|| format!("{place}: what a rollback stands on changes"));
}

fn receivers(world: &mut World) {
    let name = world.rng.pick(&["oncall", "second"]);
    let manner = world.rng.pick(&[
        Manner::Takes,
        Manner::Takes,
        Manner::Refuses,
        Manner::Redirects,
        Manner::Slow,
        Manner::Mute,
        Manner::Gone,
    ]);
    world.note(|| format!("{name} {manner:?}"));
    world.receivers.insert(name.to_owned(), manner);
}

fn detectors(world: &mut World) {
    let until = world.t + world.rng.within(SECOND, 40 * SECOND);
    let (service, process) = process(world);
    match world.rng.below(4) {
        0 | 1 => {
            let fleet = &mut world.fleets[service];
            fleet.symlink_readable = !fleet.symlink_readable;
            if !fleet.symlink_readable {
                world.tally.fault(Fault::DetectorUnreadable);
            }
        }
        2 => {
            let fleet = &mut world.fleets[service];
            fleet.symlink_late = Some((fleet.symlink, until));
            world.tally.fault(Fault::DetectorSlow);
        }
        _ => {
            world.fleets[service].processes[process].lie = Some((Lie::Version, until));
            world.tally.fault(Fault::DetectorsDisagree);
        }
    }
    let readable = world.fleets[service].symlink_readable;
    world.note(|| format!("{service}: the detector outside is readable: {readable}"));
}

fn counters(world: &mut World) {
    let t = world.t;
    let (service, process) = process(world);
    match world.rng.below(8) {
        5 => {
            let needs: Vec<usize> = (0..world.fleets.len()).filter(|other| needs(world, *other, service)).collect();
            if !needs.is_empty() {
                world.note(|| format!("{service} is down, and with it {needs:?}"));
                world.tally.fault(Fault::SharedOutage);
                outage(world, service, 0.6);
                for other in needs {
                    outage(world, other, 0.6);
                }
            }
        }
        6 => {
            let level = world.fleets[service].errors_anyway;
            if level > 0.0 && level < MILD_MAX {
                world.tally.fault(Fault::Worsens);
                people::deploy(world, service, |_| Behaviour { errors: 0.9, ..Behaviour::GOOD });
            } else {
                outage(world, service, 0.2);
            }
        }
        7 => {
            world.oracle.truth(service, &world.fleets[service], t);
            let fleet = &mut world.fleets[service];
            fleet.memory_anyway = !fleet.memory_anyway;
            if fleet.memory_anyway {
                world.tally.fault(Fault::StillWrong);
            }
            world.note(|| format!("{service}: memory fills, or is free again, whatever runs"));
        }
        0 => {
            world.fleets[service].reset_counters(process, t);
            world.tally.fault(Fault::CounterReset);
        }
        1 | 2 => {
            let release = world.fleets[service].processes[process].release;
            world.note(|| format!("{service}/{process} restarts"));
            world.fleets[service].restart(process, release, t);
            world.oracle.disturbed(service, t);
            world.tally.fault(Fault::RestartWithoutDeploy);
        }
        3 => {
            world.note(|| format!("a dependency of {service} is down"));
            outage(world, service, 0.6);
            world.tally.fault(Fault::DependencyOutage);
        }
        _ => {
            world.note(|| "all services fail at once".to_owned());
            for service in 0..world.fleets.len() {
                outage(world, service, 0.6);
            }
            world.tally.fault(Fault::AllBreach);
        }
    }
}

/// Begins, or ends.
pub fn outage(world: &mut World, service: usize, share: f64) {
    let t = world.t;
    world.oracle.truth(service, &world.fleets[service], t);
    let fleet = &mut world.fleets[service];
    fleet.count_all(t);
    fleet.errors_anyway = if fleet.errors_anyway > 0.0 { 0.0 } else { share };
}

/// Is the one named as a dependency of the other?
fn needs(world: &World, service: usize, dependency: usize) -> bool {
    let name = &world.fleets[dependency].service;
    let rules = world.rules.services.iter().find(|rules| rules.name == world.fleets[service].service);
    rules.is_some_and(|rules| rules.guard.dependencies.contains(name))
}

/// The intent of a step is on its way to the disk.
pub fn before_a_step(world: &mut World) {
    match world.rng.below(12) {
        0 => {
            world.disk_stalls(State::Stalls);
            world.tally.fault(Fault::DiskStalls);
        }
        1 => world.crash_at_sync = true,
        2 => world.crash_in = Some(u32::try_from(world.rng.below(4)).unwrap_or(0)),
        3 | 4 => {
            // The disk is slow, and somebody deploys meanwhile.
            world.disk_stalls(State::Stalls);
            world.tally.fault(Fault::DiskStalls);
            let service = service(world);
            people::deploy(world, service, people::behaviour);
            world.tally.fault(Fault::DeployBeforeStep);
        }
        5 => {
            let until = world.t + world.rng.within(SECOND, 20 * SECOND);
            world.go_dark(until);
            world.tally.fault(Fault::NetworkGone);
        }
        _ => {}
    }
}

pub fn during_a_step(world: &mut World, service: usize) {
    match world.rng.below(10) {
        0 => {
            people::deploy(world, service, people::behaviour);
            world.tally.fault(Fault::DeployDuringStep);
        }
        1 | 2 => world.crash_in = Some(u32::try_from(world.rng.below(4)).unwrap_or(0)),
        4 => world.crash_at_sync = true,
        3 => {
            let millis = world.rng.within(SECOND, 90 * SECOND);
            world.stop_for(millis);
            world.tally.fault(Fault::ProcessStopped);
        }
        _ => {}
    }
}

/// Rolls dice until the chaos is over.
pub fn storm(world: &mut World, until: i64) -> Result<(), Broken> {
    world.weather = Weather::Chaos;
    world.oracle.calm_from(i64::MAX);
    let apart = world.rng.pick(&[8 * SECOND, 20 * SECOND, 60 * SECOND]);
    while world.t < until {
        let next = world.t + world.rng.within(SECOND, apart);
        world.advance(next.min(until))?;
        strike(world)?;
        if world.rng.one_in(20) {
            world.look_at_status();
        }
    }
    world.heal();
    Ok(())
}

/// A release that is plainly broken in a way that the service's triggers ask for. None when they ask for nothing plain.
pub fn plainly_broken(world: &World, service: usize) -> Option<Behaviour> {
    let name = &world.fleets[service].service;
    let rules = world.rules.services.iter().find(|rules| rules.name == *name)?;
    let has = |wanted: &str| rules.triggers.iter().any(|trigger| *trigger.name == *wanted);
    if has("error-rate") {
        Some(Behaviour { errors: 0.6, ..Behaviour::GOOD })
    } else if has("down") {
        Some(Behaviour { crashes: true, ..Behaviour::GOOD })
    } else {
        None
    }
}
