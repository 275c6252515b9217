//! Promise: who did what stands in the journal, with the reason, also what was refused; a loop of refusals cannot fill it;
//! and it is read back without a daemon.

mod support;

use std::process::Command as Program;

use backstop::decide::audit::{Act, Wanted};
use backstop::decide::event::{Actor, Autonomy, Entry, Gate, RefusedAs, Seq};
use backstop::decide::rules::{Detector, DetectorKind, ServiceRules};
use backstop::journal::{Journal, read_back};
use backstop::machine::input::{Answer, Command, CommandId, Input, ReleasePhase};
use support::*;

fn s(text: &str) -> String {
    text.to_owned()
}

fn broken(change: impl FnOnce(&mut ServiceRules)) -> World {
    let mut world = world(change);
    world.run(6 * MINUTE);
    world.fleet.behaviours.insert(s("r2"), Behaviour::BROKEN);
    world.fleet.deploy("r2", world.now);
    world
}

fn proposed() -> World {
    let mut world = broken(|service| {
        service.autonomy = Autonomy::Propose;
        service.ladder[0].steps = vec![step("drain"), step("rollback")];
        service.triggers.push(signal("cve", Gate::None));
        let kind = DetectorKind::Announced;
        service.detectors.push(Detector { describe: "announced".into(), kind, interval: secs(5) });
    });
    world.run_until(3 * MINUTE, "the question", |world| world.state() == "proposed");
    world
}

fn incident(world: &World) -> String {
    world.incidents()[0].id.to_string()
}

fn trail(world: &World) -> Vec<Act> {
    world.disk.iter().filter_map(Act::of).collect()
}

/// What people did, as `NAME: DID: REASON`.
fn by_people(world: &World) -> Vec<String> {
    let acts = trail(world).into_iter().filter(Act::is_by_people);
    acts.map(|act| format!("{}: {}: {}", act.actor.name, act.did, act.reason)).collect()
}

fn order(world: &mut World, command: Command) {
    let answer = world.command(command);
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}\n{}", world.story());
}

#[test]
fn every_command_that_is_carried_out_names_who_and_why() {
    let mut world = proposed();
    let id = incident(&world);
    let (api, why) = (s("api"), s("because"));
    let service = || Some(s("api"));
    let commands = [
        Command::Hold { incident: id.clone(), duration: secs(600), reason: why.clone() },
        Command::Unhold { incident: id.clone(), reason: why.clone() },
        Command::Pause { service: service(), duration: secs(60), reason: why.clone() },
        Command::Resume { service: service(), reason: why.clone() },
        Command::KillSwitch { service: None, on: true, reason: why.clone() },
        Command::KillSwitch { service: None, on: false, reason: why.clone() },
        Command::RaiseSignal { service: api.clone(), signal: s("cve"), ttl: secs(60), detail: why.clone() },
        Command::ClearSignal { service: api.clone(), signal: s("cve"), reason: why.clone() },
        Command::AnnounceRelease { service: api.clone(), release: s("r2"), phase: ReleasePhase::End },
        Command::TestNotify { receiver: Some(s("oncall")) },
        Command::Acknowledge { incident: id.clone(), reason: why.clone() },
        Command::Decline { incident: id.clone(), reason: why.clone() },
        Command::Rollback { service: api.clone(), reason: why.clone(), level: None, overrides: Vec::new() },
        Command::Abort { incident: id.clone(), reason: why.clone() },
        Command::Forget { service: api, release: s("r2"), reason: why },
    ];
    for command in commands {
        if matches!(command, Command::Decline { .. }) {
            world.run_until(MINUTE, "the question", |world| world.state() == "proposed");
        }
        order(&mut world, command);
        world.run(SECOND);
    }
    let admitted = by_people(&world).iter().find(|line| line.contains("begin the rollback")).cloned();
    let expected = [
        "ada: hold --for 10m: because",
        "ada: unhold: because",
        "ada: pause api --for 1m: because",
        "ada: resume api: because",
        "ada: kill-switch on: because",
        "ada: kill-switch off: because",
        "ada: signal api cve --for 1m: because",
        "ada: signal api cve --clear: because",
        "ada: release end api r2: ",
        "ada: test-notify oncall: ",
        "ada: acknowledge: because",
        "ada: decline: because",
        "ada: approve: because",
        &admitted.expect("the admission names her too"),
        "ada: abort: because",
        "ada: forget api r2: because",
    ];
    assert_eq!(by_people(&world), expected, "{}", world.story());
    for act in trail(&world) {
        assert_eq!(act.incident.as_ref().map(ToString::to_string), act.incident.as_ref().map(|_| id.clone()));
        assert!(!act.actor.name.is_empty() && !act.did.is_empty(), "{act:?}");
    }
}

#[test]
fn an_approval_and_a_skip_and_what_the_machine_did_stand_in_it() {
    let mut world = proposed();
    world.scripts.insert(s("drain"), Script::HalfWorks);
    let id = incident(&world);
    order(&mut world, Command::Approve { incident: id.clone(), reason: s("go") });
    world.run_until(MINUTE, "a person", |world| world.state() == "needs_human");
    order(&mut world, Command::Skip { incident: id, step: None, reason: s("by hand") });
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    let did: Vec<String> = trail(&world).into_iter().map(|act| format!("{}: {}", act.actor.name, act.did)).collect();
    let from = did.iter().position(|line| line.contains("ask whether")).expect("it asks");
    let expected = [
        "backstop: ask whether to roll back from r2 to r1 (question 1) at level 1",
        "ada: approve",
        "ada: begin the rollback from r2 to r1 at level 1",
        "backstop: begin step 1 of level 1",
        "backstop: end of step 1 of level 1: timed out",
        "backstop: call a person",
        "ada: skip step 1 of level 1",
        "backstop: begin step 2 of level 1",
        "backstop: end of step 2 of level 1: succeeded",
        "backstop: close it: recovered",
    ];
    assert_eq!(did[from..], expected);
}

#[test]
fn what_is_refused_is_written_with_why_and_changes_nothing() {
    let mut world = proposed();
    let id = incident(&world);
    let refused = |world: &mut World, command: Command| {
        assert!(matches!(world.command(command), Answer::Refused(_)));
        world.settle();
        let act = trail(world).pop().expect("an act");
        let refused = act.refused.clone().expect("it was refused");
        (act, refused)
    };
    let overrides = vec![s("schema")];
    let by_hand = Command::Rollback { service: s("api"), reason: s("now"), level: None, overrides };
    let (act, why) = refused(&mut world, by_hand);
    assert_eq!((act.actor.name.as_str(), act.did.as_str()), ("ada", "rollback api --override schema"));
    assert_eq!((act.reason.as_str(), act.service.as_deref(), act.incident), ("now", Some("api"), None));
    assert_eq!((why.kind, why.why.as_str()), (RefusedAs::Invalid, "there is no blocker \"schema\" to override"));
    let (act, why) = refused(&mut world, Command::Unhold { incident: id.clone(), reason: String::new() });
    assert_eq!((act.incident.map(|id| id.to_string()), act.service), (Some(id), Some(s("api"))));
    assert_eq!(why.kind, RefusedAs::Conflict);
    // Names from outside are cut, and are no names of ours.
    let long = "x\u{1b}[31m".repeat(2000);
    let (act, why) = refused(&mut world, Command::Abort { incident: long, reason: "y".repeat(4000) });
    assert_eq!((&act.incident, &act.service, why.kind), (&None, &None, RefusedAs::NotFound));
    assert!(act.did.len() < 600 && act.reason.len() < 600 && why.why.len() < 600, "{act:?}");
    assert!(!act.did.contains('\u{1b}'));
    // No detail of a signal that was not raised: it may hold anything.
    let (service, signal) = (s("api"), s("nope"));
    refused(&mut world, Command::RaiseSignal { service, signal, ttl: secs(60), detail: s("token=s3cret") });
    assert!(!world.disk.iter().any(|record| format!("{record:?}").contains("s3cret")));
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0));
    world.checkpoint();
    world.restart();
    world.run(MINUTE);
    assert_eq!(world.state(), "proposed", "{}", world.story());
}

#[test]
fn a_loop_of_refused_commands_does_not_fill_the_journal() {
    let mut world = proposed();
    let before = world.disk.len();
    let orders = |world: &mut World, name: &str, n: u64| {
        for id in 0..n {
            let actor = Actor { name: s(name), via: s("api") };
            let command = Command::Abort { incident: s("api-4711"), reason: String::new() };
            world.input(Input::Command { id: CommandId(10_000 + id), actor, command });
        }
        world.settle();
    };
    orders(&mut world, "script", 5000);
    let written = world.disk.len() - before;
    assert!(written <= 30, "{written} of 5000");
    // Nobody else is kept from the record by it.
    orders(&mut world, "bob", 1);
    assert_eq!(trail(&world).pop().map(|act| act.actor.name), Some(s("bob")));
    assert_eq!(world.snapshot().counters.refused.get("not_found"), Some(&5001), "all of them are counted");
    world.run(6 * MINUTE);
    orders(&mut world, "script", 1);
    let act = trail(&world).pop().expect("an act");
    assert_eq!((act.actor.name.as_str(), act.unwritten), ("script", 4980));
}

#[test]
fn it_is_read_back_in_pieces_and_without_a_daemon() {
    let mut world = proposed();
    let id = incident(&world);
    assert!(matches!(
        world.command(Command::Unhold { incident: id.clone(), reason: String::new() }),
        Answer::Refused(_)
    ));
    order(&mut world, Command::Approve { incident: id.clone(), reason: s("go") });
    world.run_until(5 * MINUTE, "the end", |world| world.state() == "recovered");
    let folder = tempfile::tempdir().unwrap();
    let mut opened = Journal::open(folder.path()).unwrap();
    opened.journal.append(world.disk.clone()).unwrap();
    drop(opened.events);
    opened.journal.close().unwrap();

    let mut back = Vec::new();
    let mut before = None;
    loop {
        let page = read_back(folder.path(), before, 7).unwrap();
        assert!(page.records.len() <= 7);
        back.extend(page.records);
        before = page.older;
        if before.is_none() {
            break;
        }
    }
    back.reverse();
    assert_eq!(back, world.disk);
    assert_eq!(read_back(folder.path(), Some(Seq(1)), 7).unwrap().records, []);

    let audit = |args: &[&str]| {
        let mut program = Program::new(env!("CARGO_BIN_EXE_backstop"));
        program.arg("audit").args(args).args(["--json", "--socket", "/nonexistent", "--state-dir"]);
        let output = program.arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let trail: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        trail["acts"].as_array().unwrap().clone()
    };
    let wanted = Wanted::default();
    let all: Vec<_> = trail(&world).iter().filter(|act| wanted.takes(act)).map(|act| act.seq.0).collect();
    let shown: Vec<_> = audit(&[]).iter().map(|act| act["seq"].as_u64().unwrap()).collect();
    assert_eq!(shown, all, "the latest last");
    let people = audit(&["--people", "--incident", &id, "--service", "api"]);
    let people: Vec<_> = people.iter().map(|act| (act["did"].clone(), act["refused"]["code"].clone())).collect();
    assert_eq!(people[0], (format!("unhold {id}").into(), "conflict".into()));
    assert_eq!(people[1], ("approve".into(), serde_json::Value::Null));
    assert_eq!(audit(&["--limit", "1"])[0]["did"], "close it: recovered");
    assert_eq!(audit(&["--since", "2100-01-01T00:00:00Z"]).len(), 0);
}

#[test]
fn a_piece_of_a_forged_journal_is_not_shown() {
    let world = proposed();
    let folder = tempfile::tempdir().unwrap();
    let mut opened = Journal::open(folder.path()).unwrap();
    opened.journal.append(world.disk.clone()).unwrap();
    drop(opened.events);
    opened.journal.close().unwrap();
    let database = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    database
        .execute_batch("DROP TRIGGER journal_is_not_changed; UPDATE journal SET wall = wall + 1 WHERE seq = 3")
        .unwrap();
    drop(database);
    assert!(read_back(folder.path(), None, 100).unwrap_err().to_string().contains("damaged at entry 3"));
    assert!(read_back(folder.path(), Some(Seq(3)), 100).is_ok(), "what is before it is as it was");
}

/// An act is made of the entry alone, so that an old journal has it too.
#[test]
fn an_entry_of_an_older_backstop_is_read_without_a_reason() {
    let body = r#"{"kind":"resumed","service":null,"actor":{"name":"ada","via":"cli"}}"#;
    let entry = backstop::journal::form::decode("resumed", Entry::VERSION, body).unwrap();
    assert!(matches!(entry, Entry::Resumed { reason, .. } if reason.is_empty()));
}
