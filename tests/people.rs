//! Promises: a severity says who may approve, how long, and what silence means; people can hold an incident back, let it
//! go on, and pass over a step; what they did stands in the report. The real machine in virtual time.
//!
//! Length: a list of short scenarios that share their beginning.

mod support;

use backstop::decide::event::{
    Actor, Autonomy, Entry, IncidentEvent, Notice, NoticeKind as N, OnFailure, OnSilence, Record, Severity,
};
use backstop::decide::report::Report;
use backstop::decide::rules::{ServiceRules, SeverityRules};
use backstop::machine::input::{Answer, Command, CommandId, Input, Question, Refusal};
use backstop::machine::output::StepOrder;
use support::*;

fn policy(autonomy: Option<Autonomy>, approvers: &[&str], on_silence: OnSilence) -> SeverityRules {
    let approvers = approvers.iter().map(|name| (*name).to_owned()).collect();
    SeverityRules { autonomy, approvers, respond_within: Some(secs(300)), on_silence }
}

/// An incident of severity `high` asks; every other one acts.
fn asks(approvers: &[&str], on_silence: OnSilence) -> impl FnOnce(&mut ServiceRules) {
    let rules = policy(Some(Autonomy::Propose), approvers, on_silence);
    move |service| drop(service.severities.insert(Severity::High, rules))
}

fn calm(world: &mut World) {
    world.run(6 * MINUTE);
    assert!(world.service().releases.iter().any(|release| release.name == "r1" && release.good), "{}", world.story());
}

/// `r2` is broken from now on.
fn broken(change: impl FnOnce(&mut ServiceRules)) -> World {
    let mut world = world(change);
    calm(&mut world);
    world.fleet.behaviours.insert("r2".to_owned(), Behaviour::BROKEN);
    world.fleet.deploy("r2", world.now);
    world
}

fn proposed(change: impl FnOnce(&mut ServiceRules)) -> World {
    let mut world = broken(change);
    world.run_until(3 * MINUTE, "the question", |world| world.state() == "proposed");
    world
}

fn incident(world: &World) -> String {
    world.incidents().first().map(|incident| incident.id.to_string()).unwrap_or_default()
}

/// Nothing else happens before it is answered.
fn command_of(world: &mut World, name: &str, via: &str, command: Command) -> CommandId {
    let id = CommandId(1_000_000 + u64::try_from(world.answers.len()).unwrap());
    let actor = Actor { name: name.to_owned(), via: via.to_owned() };
    world.input(Input::Command { id, actor, command });
    id
}

fn answer(world: &World, id: CommandId) -> Answer {
    let found = world.answers.iter().find(|(of, _)| *of == id).map(|(_, answer)| answer.clone());
    found.unwrap_or_else(|| panic!("no answer\n{}", world.story()))
}

fn ask_as(world: &mut World, name: &str, command: Command) -> Answer {
    let id = command_of(world, name, "cli", command);
    world.settle();
    answer(world, id)
}

fn approve(world: &World) -> Command {
    Command::Approve { incident: incident(world), reason: "go".to_owned() }
}

fn hold(world: &mut World, seconds: u64) -> Answer {
    let reason = "a fix is on its way".to_owned();
    let command = Command::Hold { incident: incident(world), duration: secs(seconds), reason };
    world.command(command)
}

fn unhold(world: &mut World) -> Answer {
    let command = Command::Unhold { incident: incident(world), reason: "the fix is out".to_owned() };
    world.command(command)
}

fn skip(world: &mut World, step: Option<usize>) -> Answer {
    let command = Command::Skip { incident: incident(world), step, reason: "done by hand".to_owned() };
    world.command(command)
}

fn done(answer: &Answer) -> &str {
    match answer {
        Answer::Done { message, .. } => message,
        Answer::Refused(why) => panic!("refused: {why}"),
    }
}

fn refused(answer: &Answer) -> &Refusal {
    match answer {
        Answer::Refused(why) => why,
        Answer::Done { message, .. } => panic!("done: {message}"),
    }
}

fn recovers(world: &mut World) {
    world.run_until(5 * MINUTE, "the recovery", |world| world.state() == "recovered");
}

fn begun(world: &World) -> Vec<&str> {
    world.steps_begun().into_iter().map(|order: &StepOrder| order.step.name.as_str()).collect()
}

/// What people did, as the report has it.
fn acts(world: &World) -> Vec<(String, &'static str, String)> {
    let view = world.incidents().remove(0);
    let report = Report::of(&view.history).expect("an incident");
    report.people.into_iter().map(|act| (act.actor, act.did, act.reason)).collect()
}

fn act(actor: &str, did: &'static str, reason: &str) -> (String, &'static str, String) {
    (actor.to_owned(), did, reason.to_owned())
}

fn question(world: &World) -> Question {
    let asked = world.disk.iter().rev().find_map(|record| match &record.entry {
        backstop::decide::event::Entry::Incident { event, .. } => match &**event {
            IncidentEvent::Proposed { asked, level, .. } => asked.clone().map(|asked| (*level, asked)),
            _ => None,
        },
        _ => None,
    });
    let (level, asked) = asked.expect("a question");
    let name = |release: &Option<backstop::decide::event::Release>| release.as_ref().map(ToString::to_string);
    Question { number: asked.number, level, bad: name(&asked.bad), target: name(&asked.target) }
}

fn told(world: &World) -> Vec<Notice> {
    let notice = |record: &Record| match &record.entry {
        Entry::NoticeQueued { notice, .. } => Some((**notice).clone()),
        _ => None,
    };
    world.disk.iter().filter_map(notice).collect()
}

// ------------------------------------------------------------------------------------------------------------ severity

#[test]
fn a_severity_that_acts_acts_and_one_that_proposes_asks() {
    let critical = |service: &mut ServiceRules| {
        asks(&[], OnSilence::Decline)(service);
        service.triggers[0].severity = Severity::Critical;
    };
    recovers(&mut broken(critical));

    let mut world = proposed(asks(&[], OnSilence::Decline));
    world.run(SECOND);
    assert_eq!((world.kinds(), world.steps_begun().len()), (vec![N::ApprovalRequested], 0));
    done(&{
        let command = approve(&world);
        world.command(command)
    });
    recovers(&mut world);
}

#[test]
fn a_severity_cannot_be_bolder_than_its_service() {
    let world = proposed(|service| {
        service.autonomy = Autonomy::Propose;
        let acts = policy(Some(Autonomy::Act), &[], OnSilence::Decline);
        service.severities.insert(Severity::High, acts);
    });
    assert_eq!(world.steps_begun().len(), 0);
}

#[test]
fn a_severer_trigger_that_joins_asks_by_its_own_policy() {
    let mut world = proposed(|service| {
        service.autonomy = Autonomy::Propose;
        service.triggers.push(signal("outage", backstop::decide::event::Gate::Release));
        service.triggers[2].severity = Severity::Critical;
        service.severities.insert(Severity::High, policy(None, &["alice"], OnSilence::Decline));
        let critical = SeverityRules { respond_within: Some(secs(60)), ..policy(None, &["bob"], OnSilence::Decline) };
        service.severities.insert(Severity::Critical, critical);
    });
    let before = world.incidents()[0].respond_by_wall;
    let (service, signal) = ("api".to_owned(), "outage".to_owned());
    done(&world.command(Command::RaiseSignal { service, signal, ttl: secs(3600), detail: "shop".to_owned() }));
    world.run(SECOND);
    assert!(world.incidents()[0].respond_by_wall < before, "the shorter time counts\n{}", world.story());
    let command = approve(&world);
    refused(&ask_as(&mut world, "alice", command.clone()));
    done(&ask_as(&mut world, "bob", command));
}

#[test]
fn only_approvers_approve_and_the_refusal_names_them() {
    let mut world = proposed(asks(&["alice", "uid:1000"], OnSilence::Decline));
    let command = approve(&world);
    let id = incident(&world);
    let why = ask_as(&mut world, "mallory", command.clone());
    let expected = format!("{id} may be approved by alice, uid:1000, not by mallory");
    assert_eq!(*refused(&why), Refusal::NotAllowed(expected));
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0));
    done(&ask_as(&mut world, "alice", command));
    recovers(&mut world);
    assert_eq!(acts(&world), [act("alice (cli)", "approved", "go")]);
}

#[test]
fn who_may_not_approve_may_not_order_the_same_by_hand() {
    let order = || {
        let (service, reason) = ("api".to_owned(), "now".to_owned());
        Command::Rollback { service, reason, level: None, overrides: Vec::new() }
    };
    let mut world = proposed(asks(&["alice"], OnSilence::Decline));
    assert!(matches!(refused(&ask_as(&mut world, "mallory", order())), Refusal::NotAllowed(_)));
    // Neither by holding what is asked first.
    done(&hold(&mut world, 600));
    assert!(matches!(refused(&ask_as(&mut world, "mallory", order())), Refusal::NotAllowed(_)), "{}", world.story());
    done(&ask_as(&mut world, "alice", order()));
    recovers(&mut world);
}

// ------------------------------------------------------------------------------------------------------------- silence

#[test]
fn silence_declines_unless_the_severity_says_otherwise() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    world.run(4 * MINUTE);
    assert_eq!(world.state(), "proposed");
    world.run(20 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("expired", 0));
    assert_eq!(world.kinds(), [N::ApprovalRequested, N::Expired]);
}

#[test]
fn silence_that_escalates_tells_again_and_goes_on_asking() {
    let mut world = proposed(asks(&[], OnSilence::Escalate));
    world.run(16 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0));
    assert_eq!(world.kinds(), [N::ApprovalRequested, N::Escalated, N::Escalated, N::Escalated]);
    let command = approve(&world);
    done(&world.command(command));
    recovers(&mut world);
}

#[test]
fn silence_that_approves_rolls_back_and_the_report_says_that_nobody_did() {
    let mut world = proposed(asks(&["alice"], OnSilence::Approve));
    world.run(4 * MINUTE);
    assert_eq!(world.steps_begun().len(), 0, "not before the time is over");
    recovers(&mut world);
    assert_eq!(acts(&world), [], "silence is no person");
    let report = Report::of(&world.incidents()[0].history).expect("an incident").markdown();
    let told = "nobody's answer (silence) approved: nobody answered in time, and on_silence is \"approve\"";
    assert!(report.contains(told), "{report}");
}

#[test]
fn silence_approves_nothing_that_is_not_known_to_be_wrong_still_and_asks_on() {
    let mut world = proposed(asks(&[], OnSilence::Approve));
    world.fleet.processes[0].gap_until = world.now + 40 * MINUTE;
    world.run(39 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0), "{}", world.story());
    let kinds = world.kinds();
    let again = kinds.iter().filter(|kind| **kind == N::Escalated).count();
    assert!((3..=6).contains(&again), "people are called again at their pace: {kinds:?}");
    assert!(!kinds.contains(&N::Expired), "{kinds:?}");
    assert!(!world.service().releases.iter().any(|release| release.name == "r2" && release.good), "{}", world.story());
    // It is known again, and still wrong.
    world.run_until(15 * MINUTE, "the recovery", |world| world.state() == "recovered");
}

/// Something makes the answer doubtful just when the time is over.
fn doubt(at: i64, what: impl FnOnce(&mut World)) {
    let mut world = proposed(asks(&[], OnSilence::Approve));
    world.run(at);
    what(&mut world);
    world.run(5 * MINUTE + 20 * SECOND - at);
    assert!(!world.kinds().contains(&N::Expired), "{}", world.story());
    recovers(&mut world);
    assert_eq!(world.kinds().iter().filter(|kind| **kind == N::ApprovalRequested).count(), 1, "{:?}", world.kinds());
}

#[test]
fn a_doubt_that_passes_does_not_make_silence_a_no() {
    let soon = 5 * MINUTE - 2 * SECOND;
    doubt(soon, |world| {
        world.checkpoint();
        world.restart();
    });
    // Scrapes fail for a moment.
    doubt(soon - 10 * SECOND, |world| world.fleet.processes[0].gap_until = world.now + 30 * SECOND);
    // Nothing answers, and then it does.
    doubt(soon, |world| world.fleet.processes[0].cut_until = world.now + 13 * SECOND);
}

#[test]
fn a_clock_that_jumps_just_when_the_time_is_over_only_delays_what_silence_approves() {
    let mut world = proposed(asks(&[], OnSilence::Approve));
    world.run(5 * MINUTE - 10);
    world.wall_offset += 60 * MINUTE;
    world.run(5 * SECOND);
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0), "{}", world.story());
    recovers(&mut world);
}

#[test]
fn silence_that_only_asks_for_a_person_expires() {
    // The cooldown of an earlier rollback asks for a person, whatever silence says.
    let mut world = proposed(asks(&[], OnSilence::Approve));
    let command = approve(&world);
    done(&world.command(command));
    recovers(&mut world);
    world.fleet.behaviours.insert("r3".to_owned(), Behaviour::BROKEN);
    world.fleet.deploy("r3", world.now);
    let last = |world: &World| {
        let of_r3 = world.incidents().into_iter().find(|it| it.release_bad.as_deref() == Some("r3"));
        of_r3.map_or("none", |it| it.state)
    };
    world.run_until(5 * MINUTE, "the question", |world| last(world) == "proposed");
    world.run_until(6 * MINUTE, "the end", |world| last(world) != "proposed");
    assert_eq!((last(&world), world.steps_begun().len()), ("expired", 1), "{}", world.story());
}

#[test]
fn silence_is_no_word_against_the_kill_switch() {
    let mut world = proposed(asks(&[], OnSilence::Approve));
    let reason = "the database is being moved".to_owned();
    done(&world.command(Command::KillSwitch { service: None, on: true, reason }));
    world.run(20 * MINUTE);
    assert_eq!(world.steps_begun().len(), 0, "{}", world.story());
}

#[test]
fn a_restart_gives_silence_neither_more_nor_less_time() {
    let mut world = proposed(asks(&[], OnSilence::Approve));
    world.run(3 * MINUTE);
    world.checkpoint();
    world.restart();
    world.run(MINUTE + 40 * SECOND);
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0), "{}", world.story());
    recovers(&mut world);
}

#[test]
fn the_question_says_whose_answer_counts_and_what_none_means() {
    let cases = [
        (&[][..], OnSilence::Decline, "asks to roll back at level 1: ", "; no answer declines"),
        (&["alice"][..], OnSilence::Escalate, "asks alice to roll back at level 1: ", "; no answer asks again"),
        (
            &["alice", "bob"][..],
            OnSilence::Approve,
            "asks alice or bob to roll back",
            "; no answer approves, if the guard",
        ),
    ];
    for (approvers, on_silence, whom, silence) in cases {
        let mut world = proposed(asks(approvers, on_silence));
        world.run(SECOND);
        let text = world.seen.iter().find_map(|seen| match seen {
            Seen::Delivered { notice, .. } => Some(notice.text.clone()),
            Seen::StepBegan { .. } | Seen::StepEnded { .. } | Seen::Crashed { .. } => None,
        });
        let text = text.unwrap_or_default();
        assert!(text.contains(whom) && text.contains(silence), "{text}");
    }
}

// ------------------------------------------------------------------------------------------------------------- answers

#[test]
fn of_two_who_approve_one_wins() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let command = approve(&world);
    let first = command_of(&mut world, "alice", "cli", command.clone());
    let second = CommandId(first.0 + 1);
    world.input(Input::Command { id: second, actor: Actor { name: "bob".to_owned(), via: "api".to_owned() }, command });
    world.settle();
    done(&answer(&world, first));
    assert!(matches!(refused(&answer(&world, second)), Refusal::Conflict(why) if why.contains("nothing is proposed")));
    recovers(&mut world);
    assert_eq!((begun(&world), acts(&world)), (vec!["rollback"], vec![act("alice (cli)", "approved", "go")]));
}

#[test]
fn of_an_approval_and_a_refusal_the_first_wins() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let (id, command) = (incident(&world), approve(&world));
    done(&ask_as(&mut world, "bob", Command::Decline { incident: id, reason: "no".to_owned() }));
    refused(&ask_as(&mut world, "alice", command));
    world.run(10 * MINUTE);
    assert_eq!((world.state(), begun(&world).len()), ("declined", 0));
    assert_eq!(acts(&world), [act("bob (cli)", "declined", "no")]);
}

#[test]
fn an_answer_to_what_is_not_asked_is_refused() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let asked = question(&world);
    assert_eq!((asked.number, asked.level), (1, 0));
    assert_eq!((asked.bad.as_deref(), asked.target.as_deref()), (Some("r2"), Some("r1")));
    let others = [
        Question { number: 2, ..asked.clone() },
        Question { level: 1, ..asked.clone() },
        Question { bad: Some("r3".to_owned()), ..asked.clone() },
        Question { target: Some("r0".to_owned()), ..asked.clone() },
        Question { target: None, ..asked.clone() },
    ];
    for (question, approves) in others.into_iter().flat_map(|other| [(other.clone(), true), (other, false)]) {
        let (incident, reason) = (incident(&world), "go".to_owned());
        let why = world.command(Command::Answer { incident, approves, reason, question });
        assert!(matches!(refused(&why), Refusal::Conflict(why) if why.contains("another question")), "{why:?}");
    }
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0));
    let (incident, reason) = (incident(&world), "go".to_owned());
    done(&world.command(Command::Answer { incident, approves: true, reason, question: asked }));
    recovers(&mut world);
}

#[test]
fn a_daemon_that_stops_takes_no_approval_neither_by_command_nor_by_answer() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    world.input(Input::Draining);
    let (incident, question, reason) = (incident(&world), question(&world), || "go".to_owned());
    let answer = |approves| Command::Answer {
        incident: incident.clone(),
        approves,
        reason: reason(),
        question: question.clone(),
    };
    for command in [Command::Approve { incident: incident.clone(), reason: reason() }, answer(true)] {
        let why = world.command(command);
        assert!(matches!(refused(&why), Refusal::Unavailable(why) if why.contains("is stopping")), "{why:?}");
    }
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0));
    // A no begins nothing.
    done(&world.command(answer(false)));
    assert_eq!(world.state(), "declined");
}

#[test]
fn the_notice_that_asks_carries_what_a_link_in_it_answers() {
    let mut world = proposed(asks(&[], OnSilence::Escalate));
    world.run_until(10 * MINUTE, "the second notice", |world| world.kinds().contains(&N::Escalated));
    let asked = question(&world);
    let asking = told(&world).into_iter().filter(|notice| matches!(notice.kind, N::ApprovalRequested | N::Escalated));
    let carried: Vec<_> = asking.map(|notice| notice.question.clone().expect("a question")).collect();
    assert_eq!(carried.len(), 2, "{}", world.story());
    for carried in carried {
        let carried =
            Question { number: carried.number, level: carried.level, bad: carried.bad, target: carried.target };
        assert_eq!(carried, asked);
    }
    done(&{
        let command = approve(&world);
        world.command(command)
    });
    recovers(&mut world);
    let others = told(&world).into_iter().filter(|notice| notice.kind == N::Recovered || notice.kind == N::Started);
    assert_eq!(others.map(|notice| notice.question).collect::<Vec<_>>(), [None, None]);
}

#[test]
fn a_daemon_that_stops_takes_no_approval_by_a_link_and_asks_on_when_it_has_started_anew() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let asked = question(&world);
    let answered = |world: &mut World| {
        let (incident, reason) = (incident(world), "go".to_owned());
        world.command(Command::Answer { incident, approves: true, reason, question: asked.clone() })
    };
    world.input(Input::Draining);
    let why = answered(&mut world);
    assert!(matches!(refused(&why), Refusal::Unavailable(_)), "{why:?}");
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0));
    world.checkpoint();
    world.restart();
    world.run(10 * SECOND);
    assert_eq!(question(&world), asked, "{}", world.story());
    done(&answered(&mut world));
    recovers(&mut world);
}

#[test]
fn an_answer_to_an_older_question_is_refused() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let old = question(&world);
    done(&hold(&mut world, 60));
    world.run_until(3 * MINUTE, "the next question", |world| world.state() == "proposed");
    let answered = |world: &mut World, question: Question| {
        let (incident, reason) = (incident(world), "go".to_owned());
        world.command(Command::Answer { incident, approves: true, reason, question })
    };
    let why = answered(&mut world, old);
    assert!(matches!(refused(&why), Refusal::Conflict(why) if why.contains("another question")), "{why:?}");
    let latest = question(&world);
    done(&answered(&mut world, latest));
    recovers(&mut world);
}

/// The configuration is read again, with another ladder.
fn ladder(world: &mut World, change: impl FnOnce(&mut Vec<backstop::decide::event::Level>)) {
    let mut rules = (*world.rules).clone();
    change(&mut rules.services[0].ladder);
    world.rules = std::sync::Arc::new(rules);
    world.input(Input::Reload(std::sync::Arc::clone(&world.rules)));
}

#[expect(clippy::ptr_arg, reason = "one of the changes of a ladder, of which others make it shorter")]
fn other_steps(ladder: &mut Vec<backstop::decide::event::Level>) {
    ladder[0].steps = vec![step("wipe")];
}

#[test]
fn a_yes_to_steps_that_were_changed_meanwhile_is_refused_and_they_are_asked_about_anew() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let old = question(&world);
    ladder(&mut world, other_steps);
    // Before any turn: the question that is open is the old one still.
    let command = approve(&world);
    let early = command_of(&mut world, "ada", "cli", command);
    world.settle();
    let why = refused(&answer(&world, early)).to_string();
    assert!(why.contains("it asks another question by now"), "{why}");
    world.run(10 * SECOND);
    assert_eq!((world.state(), world.steps_begun().len()), ("proposed", 0), "{}", world.story());
    assert_eq!(question(&world).number, old.number + 1, "{}", world.story());
    let (incident, reason) = (incident(&world), "go".to_owned());
    let why = world.command(Command::Answer { incident, approves: true, reason, question: old });
    assert!(matches!(refused(&why), Refusal::Conflict(why) if why.contains("another question")), "{why:?}");
    let command = approve(&world);
    done(&world.command(command));
    recovers(&mut world);
    assert_eq!(begun(&world), ["wipe"]);
}

#[test]
fn a_reload_that_leaves_the_ladder_as_it_is_asks_nothing_anew() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let old = question(&world);
    ladder(&mut world, |_| {});
    world.run(MINUTE);
    assert_eq!((question(&world), world.kinds()), (old, vec![N::ApprovalRequested]), "{}", world.story());
    let command = approve(&world);
    done(&world.command(command));
    recovers(&mut world);
}

#[test]
fn a_yes_to_a_level_that_is_gone_hangs_nothing() {
    for level_there in [false, true] {
        let mut world = proposed(|service| {
            asks(&[], OnSilence::Decline)(service);
            service.ladder.push(level("restore", vec![step("restore")]));
            service.triggers[0].start_level = 1;
        });
        assert_eq!(question(&world).level, 1);
        ladder(&mut world, |ladder| ladder.truncate(usize::from(level_there)));
        let command = approve(&world);
        refused(&world.command(command));
        world.run(20 * MINUTE);
        assert_eq!(world.steps_begun().len(), 0, "{}", world.story());
        // Nothing blocks what a person orders then.
        ladder(&mut world, |ladder| *ladder = vec![level("previous release", vec![step("rollback")])]);
        let (service, reason) = ("api".to_owned(), "now".to_owned());
        let order = Command::Rollback { service, reason, level: Some(0), overrides: Vec::new() };
        done(&world.command(order));
        recovers(&mut world);
    }
}

#[test]
fn silence_approves_no_steps_that_nobody_was_asked_about() {
    for change in [other_steps as fn(&mut Vec<_>), Vec::clear] {
        let mut world = proposed(asks(&[], OnSilence::Approve));
        world.run(5 * MINUTE - SECOND);
        ladder(&mut world, change);
        world.run(2 * MINUTE);
        assert_eq!(world.steps_begun().len(), 0, "{}", world.story());
    }
}

#[test]
fn a_ladder_that_was_changed_while_backstop_was_not_running_is_asked_about_anew() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let old = question(&world);
    world.checkpoint();
    let mut rules = (*world.rules).clone();
    other_steps(&mut rules.services[0].ladder);
    world.rules = std::sync::Arc::new(rules);
    world.restart();
    let command = approve(&world);
    let why = refused(&world.command(command)).to_string();
    assert!(why.contains("it asks another question by now"), "{why}");
    world.run(2 * MINUTE);
    assert_eq!((world.state(), question(&world).number), ("proposed", old.number + 1), "{}", world.story());
    let command = approve(&world);
    done(&world.command(command));
    recovers(&mut world);
    assert_eq!(begun(&world), ["wipe"]);
}

// --------------------------------------------------------------------------------------------------------------- holds

/// It waits for a person only because nothing was read yet; then it would act.
fn held(seconds: u64) -> World {
    let mut world = broken(|service| service.guard.cooldown = secs(0));
    let pause = Command::Pause { service: None, duration: secs(120), reason: "wait".to_owned() };
    done(&world.command(pause));
    world.run_until(3 * MINUTE, "the incident", |world| world.state() == "held");
    done(&hold(&mut world, seconds));
    done(&world.command(Command::Resume { service: None, reason: String::new() }));
    assert_eq!(world.state(), "held_by_person", "{}", world.story());
    world
}

#[test]
fn a_hold_keeps_it_from_acting_until_its_limit_and_then_it_acts() {
    let mut world = held(600);
    world.run(9 * MINUTE + 55 * SECOND);
    assert_eq!((world.state(), world.steps_begun().len()), ("held_by_person", 0), "{}", world.story());
    recovers(&mut world);
    assert_eq!(acts(&world), [act("ada (cli)", "held", "a fix is on its way")]);
}

#[test]
fn the_status_says_who_holds_it_until_when_and_why() {
    let mut world = held(600);
    let until = world.time().wall_of(backstop::time::Timestamp::from_millis(world.now + 10 * MINUTE));
    let expected = format!("held by ada until {until}, to fix it forward: a fix is on its way");
    assert_eq!(world.incidents()[0].sentence, expected);
    world.checkpoint();
    world.restart();
    assert_eq!(world.incidents()[0].sentence, expected);
}

#[test]
fn a_held_question_is_asked_anew_with_all_its_time() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    world.run(4 * MINUTE);
    done(&hold(&mut world, 600));
    world.run(9 * MINUTE);
    assert_eq!(world.state(), "held_by_person", "the time of the question does not run");
    world.run_until(2 * MINUTE, "the question", |world| world.state() == "proposed");
    world.run(4 * MINUTE);
    assert_eq!(world.state(), "proposed", "{}", world.story());
}

#[test]
fn nobody_holds_it_longer_than_hold_max_not_even_in_parts() {
    let mut world = held(1800);
    let too_long = refused(&hold(&mut world, 3700)).to_string();
    assert!(too_long.contains("can be held for 1h in all (hold_max)"), "{too_long}");
    world.run(20 * MINUTE);
    refused(&hold(&mut world, 2401));
    refused(&hold(&mut world, 0));
    done(&hold(&mut world, 2399));
    world.run(39 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("held_by_person", 0), "{}", world.story());
    recovers(&mut world);
}

#[test]
fn unhold_lets_it_go_on_at_once() {
    let mut world = held(3600);
    world.run(5 * MINUTE);
    done(&unhold(&mut world));
    recovers(&mut world);
    let expected =
        [act("ada (cli)", "held", "a fix is on its way"), act("ada (cli)", "ended the hold", "the fix is out")];
    assert_eq!(acts(&world), expected);
    refused(&unhold(&mut world));
}

#[test]
fn a_fix_during_a_hold_ends_it_without_a_rollback() {
    let mut world = held(3600);
    world.fleet.flag_off = true;
    world.run(5 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("cleared", 0), "{}", world.story());

    let mut world = held(3600);
    world.fleet.deploy("r3", world.now);
    world.run(5 * MINUTE);
    assert_eq!((world.state(), world.steps_begun().len()), ("superseded", 0), "{}", world.story());
    assert_eq!(world.kinds().last(), Some(&N::Superseded));
}

#[test]
fn a_restart_keeps_a_hold_and_its_limit() {
    let mut world = held(600);
    world.run(5 * MINUTE);
    world.checkpoint();
    world.restart();
    world.run(4 * MINUTE + 55 * SECOND);
    assert_eq!((world.state(), world.steps_begun().len()), ("held_by_person", 0), "{}", world.story());
    assert!(matches!(refused(&hold(&mut world, 3600)), Refusal::Invalid(_)), "what was held before counts");
    recovers(&mut world);
}

#[test]
fn what_acts_is_not_held_and_a_hold_needs_a_reason() {
    let mut world = broken(|_| {});
    world.run_until(3 * MINUTE, "the step", |world| world.steps_begun().len() == 1);
    let why = refused(&hold(&mut world, 60)).to_string();
    assert!(why.contains("already rolling back") && why.contains("backstop abort"), "{why}");
    recovers(&mut world);
    refused(&hold(&mut world, 60));

    let mut world = proposed(asks(&[], OnSilence::Decline));
    let (incident, reason) = (incident(&world), " ".to_owned());
    let silent = Command::Hold { incident, duration: secs(60), reason };
    assert_eq!(*refused(&world.command(silent)), Refusal::Invalid("a reason is needed".to_owned()));
}

// --------------------------------------------------------------------------------------------------------------- skips

fn two_steps(service: &mut ServiceRules) {
    service.ladder[0].steps = vec![step("drain"), step("rollback")];
    service.ladder[0].steps[0].on_failure = OnFailure::Stop;
}

#[test]
fn a_step_that_runs_is_not_skipped() {
    let mut world = broken(two_steps);
    world.scripts.insert("drain".to_owned(), Script::Nothing);
    world.run_until(3 * MINUTE, "the step", |world| world.steps_begun().len() == 1);
    let why = refused(&skip(&mut world, None)).to_string();
    assert!(why.contains("a step runs, and is not stopped"), "{why}");
    recovers(&mut world);
    assert_eq!(begun(&world), ["drain", "rollback"]);
}

#[test]
fn the_step_at_which_a_person_was_called_is_skipped_and_the_next_one_runs() {
    let mut world = broken(two_steps);
    world.scripts.insert("drain".to_owned(), Script::Fails);
    world.run_until(3 * MINUTE, "the call", |world| world.state() == "needs_human");
    let why = refused(&skip(&mut world, Some(1))).to_string();
    assert!(why.contains("the step that waits is 1, not 2"), "{why}");
    let next = world.incidents()[0].next.clone().unwrap_or_default();
    assert!(next.contains("backstop skip"), "{next}");
    done(&skip(&mut world, Some(0)));
    recovers(&mut world);
    assert_eq!(begun(&world), ["drain", "rollback"]);
    assert_eq!(acts(&world), [act("ada (cli)", "skipped a step", "done by hand")]);
}

#[test]
fn the_next_step_is_skipped_and_the_last_one_ends_the_level() {
    let mut world = broken(|service| {
        two_steps(service);
        service.ladder[0].steps[0].on_failure = OnFailure::Climb;
    });
    world.scripts.insert("drain".to_owned(), Script::Helps);
    world.run_until(3 * MINUTE, "the step", |world| world.steps_begun().len() == 1);
    // So that it stands before its second step.
    let on = |on| Command::KillSwitch { service: None, on, reason: "wait".to_owned() };
    done(&world.command(on(true)));
    world.run(10 * SECOND);
    assert_eq!(begun(&world), ["drain"], "{}", world.story());
    assert!(matches!(refused(&skip(&mut world, Some(0))), Refusal::Conflict(_)));
    done(&skip(&mut world, Some(1)));
    done(&world.command(on(false)));
    recovers(&mut world);
    assert_eq!(begun(&world), ["drain"]);
}

#[test]
fn a_skip_over_a_restart_is_not_forgotten() {
    let mut world = broken(two_steps);
    world.scripts.insert("drain".to_owned(), Script::Fails);
    world.run_until(3 * MINUTE, "the call", |world| world.state() == "needs_human");
    world.restart();
    done(&skip(&mut world, None));
    world.restart();
    recovers(&mut world);
    assert_eq!(begun(&world), ["drain", "rollback"]);
}

#[test]
fn where_no_step_waits_nothing_is_skipped() {
    let mut world = proposed(asks(&[], OnSilence::Decline));
    let why = refused(&skip(&mut world, None)).to_string();
    assert!(why.contains("no step waits"), "{why}");
    let command = approve(&world);
    done(&world.command(command));
    recovers(&mut world);
    refused(&skip(&mut world, None));
}

// -------------------------------------------------------------------------------------------------------------- record

#[test]
fn everything_that_people_did_stands_in_the_report_in_order_over_a_restart() {
    let mut world = proposed(|service| {
        asks(&[], OnSilence::Decline)(service);
        two_steps(service);
    });
    world.scripts.insert("drain".to_owned(), Script::Fails);
    done(&hold(&mut world, 600));
    done(&unhold(&mut world));
    world.run_until(MINUTE, "the question", |world| world.state() == "proposed");
    let command = approve(&world);
    done(&ask_as(&mut world, "alice", command));
    world.run_until(3 * MINUTE, "the call", |world| world.state() == "needs_human");
    let incident = incident(&world);
    done(&ask_as(&mut world, "bob", Command::Acknowledge { incident: incident.clone(), reason: "on it".to_owned() }));
    done(&skip(&mut world, None));
    done(&ask_as(&mut world, "carol", Command::Abort { incident, reason: "enough".to_owned() }));
    world.run(MINUTE);
    world.restart();
    let expected = [
        act("ada (cli)", "held", "a fix is on its way"),
        act("ada (cli)", "ended the hold", "the fix is out"),
        act("alice (cli)", "approved", "go"),
        act("bob (cli)", "acknowledged", "on it"),
        act("ada (cli)", "skipped a step", "done by hand"),
        act("carol (cli)", "aborted", "enough"),
    ];
    assert_eq!(acts(&world), expected, "{}", world.story());
}

#[test]
fn a_question_about_a_service_that_is_gone_is_repeated_at_human_pace() {
    let mut world = proposed(asks(&[], OnSilence::Escalate));
    let asked = world.kinds().len();
    let mut rules = (*world.rules).clone();
    rules.services[0].name = "web".into();
    world.rules = std::sync::Arc::new(rules);
    world.restart();
    world.run(60 * MINUTE);
    let told = world.disk.len();
    world.run(60 * MINUTE);
    assert!(world.disk.len() - told < 40, "{} entries in an hour", world.disk.len() - told);
    assert!(world.kinds().len() - asked < 20, "{:?}", world.kinds());
}
