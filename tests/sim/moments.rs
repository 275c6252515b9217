//! Chaos that is aimed: what comes between one event of an incident and the next, in the moment before anything has been
//! concluded from it, or around its deadline. What is judged does not rest on it.

use backstop::decide::event::{Entry, IncidentEvent, IncidentId, Record};
use backstop::journal::form;
use backstop::machine::input::Command;

use super::people;
use super::setup;
use super::tally::Fault;
use super::world::World;
use crate::support::{MINUTE, SECOND, secs};

/// Something has just happened to an incident.
#[derive(Debug)]
pub struct Moment {
    incident: IncidentId,
    name: &'static str,
    /// Of a level's undo.
    undo: bool,
    /// The deadline that came with it, on backstop's timeline.
    deadline: Option<i64>,
}

pub fn of(records: &[Record]) -> Vec<Moment> {
    let one = |record: &Record| {
        let Entry::Incident { incident, event } = &record.entry else { return None };
        let deadline = match &**event {
            IncidentEvent::Admitted { deadline, .. } => Some(deadline.as_millis()),
            _ => None,
        };
        let undo = match &**event {
            IncidentEvent::StepIntended { attempt, .. }
            | IncidentEvent::StepStarted { attempt, .. }
            | IncidentEvent::StepFinished { attempt, .. }
            | IncidentEvent::StepChecked { attempt, .. } => attempt.undo,
            IncidentEvent::UndoBegan { .. } | IncidentEvent::UndoFinished { .. } => true,
            _ => false,
        };
        let name = form::kind(&record.entry).trim_start_matches("incident.");
        Some(Moment { incident: incident.clone(), name, undo, deadline })
    };
    records.iter().filter_map(one).collect()
}

/// Something happens now, before backstop has gone on.
pub fn at(world: &mut World, moment: &Moment) {
    let Moment { incident: id, name, undo, deadline } = moment;
    if let Some(deadline) = deadline {
        world.deadlines.insert(id.clone(), deadline - world.monotonic_offset());
    }
    let is_told = matches!(*name, "proposed" | "needs_human" | "hold_ordered" | "unanswered");
    for _ in 0..if is_told { 2 } else { 0 } {
        let after = world.rng.within(0, 25 * SECOND);
        if world.rng.below(3) > 0 {
            world.respond_later(after, id);
        }
    }
    let is_rare = *undo || matches!(*name, "level_failed" | "step_checked" | "aborted");
    if !world.rng.one_in(if is_rare { 2 } else { 5 }) {
        return;
    }
    match world.rng.below(12) {
        0 | 1 => {
            sleep(world, id);
            world.tally.fault(Fault::Aimed);
        }
        2..=4 => {
            // All stands still until about the deadline, and people and the world go on.
            let near = if world.rng.one_in(2) { world.rng.within(-8 * SECOND, 2 * SECOND) } else { -40 * SECOND };
            let until = world.deadlines.get(id).map_or(world.t, |deadline| deadline + near);
            let until = until.clamp(world.t + 10 * SECOND, world.t + 20 * MINUTE);
            world.kill_file_until(until);
            world.tally.fault(Fault::Aimed);
            for _ in 0..2 {
                let after = world.rng.within(100, (until - world.t).min(MINUTE));
                world.again_later(after, id);
            }
        }
        _ => again(world, id),
    }
}

/// People, deployments, other triggers: what comes without having been waited for.
pub fn again(world: &mut World, id: &IncidentId) {
    let Some(service) = service_of(world, id) else { return };
    world.tally.fault(Fault::Aimed);
    let incident = id.to_string();
    let reason = || "simulated".to_owned();
    match world.rng.below(14) {
        0..=2 => world.push_command(Command::Acknowledge { incident, reason: String::new() }),
        3 | 4 => world.push_command(Command::Abort { incident, reason: reason() }),
        5 => world.push_command(Command::Skip { incident, step: None, reason: reason() }),
        6 => {
            let duration = secs(1 + world.rng.below(60));
            world.push_command(Command::Hold { incident, duration, reason: reason() });
        }
        7..=9 => {
            // Another trigger joins, or the one that was clear comes back.
            let (ttl, detail) = (secs(20 + world.rng.below(200)), "CVE".to_owned());
            let until = world.t + i64::try_from(ttl.as_millis()).unwrap_or(0);
            let name = world.fleets[service].service.to_string();
            let signal = setup::SIGNAL.to_owned();
            if world.rng.one_in(3) {
                world.push_command(Command::ClearSignal { service: name, signal, reason: String::new() });
                world.again_later(300, id);
            } else {
                world.oracle.signalled(service, until);
                world.push_command(Command::RaiseSignal { service: name, signal, ttl, detail });
            }
        }
        10 => {
            people::deploy(world, service, people::behaviour);
            world.glance(service);
        }
        11 => {
            people::come_back(world, service);
            world.glance(service);
        }
        12 => {
            let t = world.t;
            let fleet = &mut world.fleets[service];
            if fleet.blocked.is_none() {
                fleet.blocked = Some(t);
                world.tally.fault(Fault::Blocker);
            }
        }
        _ => {
            world.fleets[service].symlink_readable = false;
            world.tally.fault(Fault::DetectorUnreadable);
            world.glance(service);
        }
    }
}

fn service_of(world: &World, id: &IncidentId) -> Option<usize> {
    let (name, _) = id.0.rsplit_once('-')?;
    world.fleets.iter().position(|fleet| *fleet.service == *name)
}

/// The host sleeps until about the deadline of the incident, or so long that people are reminded.
fn sleep(world: &mut World, id: &IncidentId) {
    let near = world.rng.within(-8 * SECOND, 20 * SECOND);
    let until = world.deadlines.get(id).map_or(world.t + MINUTE, |deadline| deadline + near);
    let millis = (until - world.t).clamp(SECOND, 15 * MINUTE);
    world.stop_for(millis);
    world.tally.fault(Fault::Sleeps);
}
