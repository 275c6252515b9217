//! People: they deploy, answer, interfere, and change the configuration.

use std::collections::BTreeMap;

use backstop::decide::event::{Actor, Autonomy, IncidentId};
use backstop::machine::input::{Command, Question, ReleasePhase};

use super::fleet::{BREAKS_LATER_MS, Behaviour, ReleaseNo};
use super::oracle::{Broken, Known, counts};
use super::rng::Rng;
use super::setup;
use super::tally::Fault;
use super::world::{Script, World};
use crate::support::{SECOND, secs};

/// What each step does when all is well.
pub fn scripts(rng: &mut Rng) -> BTreeMap<&'static str, Script> {
    let rollback =
        [Script::Helps, Script::Helps, Script::Helps, Script::Helps, Script::Nothing, Script::Fails, Script::HalfWorks];
    let flag = [Script::FlagOff, Script::FlagOff, Script::Nothing, Script::Fails];
    let other = [Script::Nothing, Script::Nothing, Script::Nothing, Script::Fails];
    [
        ("rollback", rng.pick(&rollback)),
        ("flag", rng.pick(&flag)),
        ("note", rng.pick(&other)),
        ("scale", rng.pick(&other)),
        ("undo", rng.pick(&other)),
        ("purge", rng.pick(&other)),
    ]
    .into_iter()
    .collect()
}

/// What a release is like.
pub fn behaviour(rng: &mut Rng) -> Behaviour {
    let good = Behaviour::GOOD;
    let mut behaviour = match rng.below(12) {
        0..=3 => good,
        4..=6 => Behaviour { errors: 0.5, ..good },
        7 => Behaviour { crashes: true, ..good },
        8 => Behaviour { slow: true, ..good },
        9 => Behaviour { memory: true, ..good },
        10 => Behaviour { database: true, ..good },
        _ => Behaviour { boot_ms: 40 * SECOND, ..good },
    };
    if behaviour.boot_ms == good.boot_ms {
        behaviour.boot_ms = rng.within(SECOND, 4 * SECOND);
    }
    if rng.one_in(5) {
        behaviour.from_ms = rng.within(0, BREAKS_LATER_MS);
    }
    behaviour
}

/// A new release comes.
pub fn deploy(world: &mut World, service: usize, behaviour: impl FnOnce(&mut Rng) -> Behaviour) -> ReleaseNo {
    let behaviour = behaviour(&mut world.rng);
    let release = world.fleets[service].build(behaviour);
    world.note(|| format!("r{} of {service} is {behaviour:?}", release + 1));
    if world.is_frozen(service) {
        world.tally.fault(Fault::DeployInFreeze);
    }
    put(world, service, release);
    release
}

fn put(world: &mut World, service: usize, release: ReleaseNo) {
    let pace = world.rng.pick(&[0, 0, 3 * SECOND, 10 * SECOND]);
    world.fleets[service].flag_off = false;
    if world.rng.one_in(6) && world.fleets[service].processes.len() > 1 {
        // A canary: one process, and the rest later.
        world.tally.fault(Fault::Canary);
        world.install(service, release, 40 * SECOND);
    } else {
        world.install(service, release, pace);
    }
}

/// Tells backstop, where it wants to be told.
fn announce(world: &mut World, service: usize) -> Result<(), Broken> {
    let name = world.fleets[service].service.to_string();
    let release = world.fleets[service].names[usize::from(world.fleets[service].symlink)].to_string();
    world.command(Command::AnnounceRelease { service: name, release, phase: ReleasePhase::End })
}

pub fn act(world: &mut World) -> Result<(), Broken> {
    let service = world.rng.index(world.fleets.len());
    match world.rng.below(12) {
        0..=3 => {
            deploy(world, service, behaviour);
            world.tally.fault(Fault::DeployByOthers);
            if world.rng.one_in(2) {
                announce(world, service)?;
            }
            Ok(())
        }
        4 => {
            come_back(world, service);
            Ok(())
        }
        5 => reload(world),
        6..=8 => answer(world),
        _ => order(world, service),
    }
}

/// An old release returns.
pub fn come_back(world: &mut World, service: usize) {
    let bad = world.oracle.rolled_back(service);
    let known = world.fleets[service].behaviours.len();
    let release = match bad.first().and_then(|bad| world.fleets[service].release_of(bad)) {
        Some(bad) if world.rng.one_in(2) => {
            world.tally.fault(Fault::BadReleaseReturns);
            bad
        }
        Some(_) | None => {
            world.tally.fault(Fault::ReleaseReturns);
            ReleaseNo::try_from(world.rng.index(known)).unwrap_or(0)
        }
    };
    put(world, service, release);
}

/// Somebody, as they are known where they come in.
fn somebody(rng: &mut Rng) -> Actor {
    let (name, via) = rng.pick(&[
        ("ada", "cli"),
        ("uid:1000 (ada)", "cli"),
        ("bob", "api"),
        ("ada", "link:oncall"),
        ("bob", "link"),
        ("mallory", "api"),
        ("mallory", "cli"),
    ]);
    Actor { name: name.to_owned(), via: via.to_owned() }
}

/// Somebody answers, or several at once.
fn answer(world: &mut World) -> Result<(), Broken> {
    let open: Vec<(IncidentId, Known)> = world.oracle.open().map(|(id, known)| (id.clone(), known)).collect();
    if open.is_empty() {
        return Ok(());
    }
    let (id, known) = open[world.rng.index(open.len())].clone();
    respond(world, &id, known)
}

/// What people do about an incident, as far as they know of it.
pub fn respond(world: &mut World, id: &IncidentId, known: Known) -> Result<(), Broken> {
    let incident = id.to_string();
    let reason = || "simulated".to_owned();
    let approve = || Command::Approve { incident: incident.clone(), reason: reason() };
    let decline = || Command::Decline { incident: incident.clone(), reason: reason() };
    let dice = world.rng.below(12);
    let (fault, commands) = match (known, dice) {
        (_, 0) => (Fault::Acknowledge, vec![Command::Acknowledge { incident, reason: String::new() }]),
        (_, 1) => (Fault::Abort, vec![Command::Abort { incident, reason: reason() }]),
        (_, 3) => (Fault::Approve, vec![approve()]),
        (Known::Asks, 4 | 10) => (Fault::Decline, vec![decline()]),
        (Known::Asks, 5 | 11) => (Fault::ApproveTwice, vec![approve(), approve()]),
        (Known::Asks, 2 | 6) if world.rng.one_in(2) => (Fault::ApproveAndDecline, vec![decline(), approve()]),
        (Known::Asks, 2 | 6) => (Fault::ApproveAndDecline, vec![approve(), decline()]),
        (Known::Asks, 7..=9) => return answer_question(world, id),
        (Known::Asks | Known::Waits, _) | (Known::Held | Known::Acts, 2) => {
            let duration = secs(1 + world.rng.below(90));
            (Fault::Hold, vec![Command::Hold { incident, duration, reason: reason() }])
        }
        (Known::Held, 4..=7) | (Known::Acts, 4) => {
            (Fault::Unhold, vec![Command::Unhold { incident, reason: reason() }])
        }
        (Known::Held | Known::NeedsHuman, 8..=11) => {
            let Some(service) = world.oracle.service_of(id) else { return Ok(()) };
            let service = world.fleets[service].service.to_string();
            let rollback = Command::Rollback { service, reason: reason(), level: None, overrides: Vec::new() };
            (Fault::RollBackByHand, vec![rollback])
        }
        (Known::Acts | Known::NeedsHuman | Known::Held, _) => {
            let step = if world.rng.one_in(4) { Some(world.rng.index(2)) } else { None };
            (Fault::Skip, vec![Command::Skip { incident, step, reason: reason() }])
        }
    };
    world.tally.fault(fault);
    for command in commands {
        let actor = somebody(&mut world.rng);
        let approves = matches!(command, Command::Approve { .. });
        let named = world.oracle.approvers(id);
        if approves && !named.is_empty() && !counts(&actor, &named) {
            world.tally.fault(Fault::StrangerApproves);
        }
        world.command_by(actor, command)?;
        if world.rng.one_in(2) {
            world.settle()?;
        }
    }
    Ok(())
}

/// By the link of a notice, which may be an old one.
fn answer_question(world: &mut World, id: &IncidentId) -> Result<(), Broken> {
    let approves = world.rng.below(3) > 0;
    let mut actor = somebody(&mut world.rng);
    let answer = |question| {
        let (incident, reason) = (id.to_string(), "simulated".to_owned());
        Command::Answer { incident, approves, reason, question }
    };
    if world.rng.one_in(2) {
        let old = world.oracle.question(id, true).or_else(|| {
            let now = world.oracle.question(id, false)?;
            Some(Question { target: Some("r77".to_owned()), ..now })
        });
        let Some(old) = old else { return Ok(()) };
        world.tally.fault(Fault::AnswerStale);
        return world.command_stale(actor, answer(old));
    }
    let Some(question) = world.oracle.question(id, false) else { return Ok(()) };
    let named = world.oracle.approvers(id);
    let mut may = named.is_empty() || counts(&actor, &named);
    if !may && world.rng.one_in(2) {
        actor = Actor { name: named[0].clone(), via: "api".to_owned() };
        may = true;
    }
    world.tally.fault(if may { Fault::AnswerRight } else { Fault::StrangerApproves });
    world.command_by(actor, answer(question))
}

/// Somebody turns the kill switch, of all or of a service, by command or by file.
pub fn kill_switch(world: &mut World, place: usize) -> Result<(), Broken> {
    let reason = "simulated".to_owned();
    let known: Vec<_> = world.oracle.limits.kills().cloned().collect();
    let (service, on) = match known.first() {
        Some((_, true)) => return world.kill_file(false),
        Some((service, false)) => (service.clone(), false),
        None if world.rng.one_in(3) => {
            let until = world.t + world.rng.within(SECOND, 100 * SECOND);
            world.kill_file_until(until);
            return Ok(());
        }
        None => (world.rng.one_in(2).then(|| world.fleets[place].service.to_string()), true),
    };
    world.tally.fault(match (&service, on) {
        (None, true) => Fault::KillOn,
        (None, false) => Fault::KillOff,
        (Some(_), true) => Fault::KillServiceOn,
        (Some(_), false) => Fault::KillServiceOff,
    });
    world.command(Command::KillSwitch { service, on, reason })
}

/// Nothing stands in the way any more. False: the daemon could not be told yet.
pub fn let_go(world: &mut World) -> Result<bool, Broken> {
    let known: Vec<_> = world.oracle.limits.kills().cloned().collect();
    world.kill_file(false)?;
    for (service, _) in known.iter().filter(|(_, file)| !file) {
        world.tally.fault(if service.is_some() { Fault::KillServiceOff } else { Fault::KillOff });
        let (service, reason) = (service.clone(), "simulated".to_owned());
        world.command(Command::KillSwitch { service, on: false, reason })?;
    }
    Ok(known.is_empty())
}

fn order(world: &mut World, place: usize) -> Result<(), Broken> {
    let service = world.fleets[place].service.to_string();
    let reason = "simulated".to_owned();
    let (fault, command) = match world.rng.below(12) {
        0 | 1 => {
            let level = match world.rng.below(3) {
                0 => Some(world.rng.index(3)),
                _ => None,
            };
            (Fault::RollBackByHand, Command::Rollback { service, reason, level, overrides: Vec::new() })
        }
        8 | 9 => return kill_switch(world, place),
        10 | 11 => {
            let rules = world.rules.services.iter().find(|rules| *rules.name == *service);
            let mut overrides = vec!["kill-switch".to_owned()];
            if let Some(rules) = rules {
                overrides.extend(rules.guard.blockers.iter().map(|blocker| blocker.name.to_string()));
            }
            if world.rng.one_in(3) {
                overrides.swap_remove(0);
            }
            (Fault::Override, Command::Rollback { service, reason, level: None, overrides })
        }
        2 => {
            let service = world.rng.one_in(2).then_some(service);
            (Fault::Pause, Command::Pause { service, duration: secs(1 + world.rng.below(120)), reason })
        }
        3 => {
            let service = world.rng.one_in(2).then_some(service);
            (Fault::Resume, Command::Resume { service, reason: String::new() })
        }
        4 | 5 => {
            let ttl = secs(5 + world.rng.below(120));
            let name = world.rng.pick(&[setup::SIGNAL, setup::SIGNAL, setup::MIGRATION]);
            if name == setup::SIGNAL {
                world.oracle.signalled(place, world.t + i64::try_from(ttl.as_millis()).unwrap_or(0));
            }
            let (signal, detail) = (name.to_owned(), "CVE".to_owned());
            (Fault::Signal, Command::RaiseSignal { service, signal, ttl, detail })
        }
        6 => (
            Fault::SignalCleared,
            Command::ClearSignal { service, signal: setup::SIGNAL.to_owned(), reason: String::new() },
        ),
        _ => {
            let bad = world.oracle.rolled_back(place);
            let release = bad.first().cloned().unwrap_or_else(|| "r2".to_owned());
            (Fault::Forget, Command::Forget { service, release, reason: String::new() })
        }
    };
    world.tally.fault(fault);
    world.command(command)
}

/// Another valid configuration.
fn reload(world: &mut World) -> Result<(), Broken> {
    let mut rules = (*world.rules).clone();
    let dropped = world.configured.iter().position(|configured| !configured);
    let place = world.rng.index(rules.services.len().max(1));
    match (world.rng.below(6), dropped) {
        (_, Some(dropped)) => {
            // It comes back as a new configuration of the same name.
            let all = setup::configuration(&mut Rng::new(world.rng.below(1000)));
            let mut service = all.services[0].clone();
            service.name = setup::NAMES[dropped].into();
            // What is scraped stays what it was: the simulation's processes do not learn to show more.
            let asked = world.fleets[dropped].asked;
            service.triggers.retain(|trigger| match &*trigger.name {
                "error-rate" => asked.requests,
                "memory" => asked.memory,
                "database" => asked.database,
                "slow" => asked.histogram,
                _ => true,
            });
            if !asked.memory {
                service.criteria.clear();
            }
            service.guard.dependencies.clear();
            service.detectors = vec![crate::support::symlink()];
            rules.services.push(service);
            world.tally.fault(Fault::ReloadDropsService);
        }
        (0, None) if rules.services.len() > 1 => {
            rules.services.remove(place);
        }
        (1, None) => rules.services[place].guard.cooldown = secs(world.rng.pick(&[0, 60, 3600])),
        (2, None) => rules.services[place].ladder = setup::ladder(&mut world.rng),
        (3, None) => {
            rules.services[place].autonomy = world.rng.pick(&[Autonomy::Act, Autonomy::Propose, Autonomy::Observe]);
        }
        (4, None) => {
            for trigger in &mut rules.services[place].triggers {
                trigger.hold = secs(world.rng.below(5) * 10);
            }
        }
        (_, None) => {}
    }
    world.tally.fault(Fault::Reload);
    world.reload(rules)
}
