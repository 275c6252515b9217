//! Every state against every event: what it becomes, or that nothing happens.
//!
//! Length: the table, and one sample of each of its rows and columns.

use super::*;
use crate::decide::event::{Ask, Check, CheckAnswer, CheckOutcome};

/// The name of a state's row. A new state does not compile until it is named here, and has no row until it has a sample.
macro_rules! rows {
    ($($pattern:pat => $name:literal,)*) => {
        const ROWS: &[&str] = &[$($name,)*];
        fn row(state: &State) -> &'static str {
            match state { $($pattern => $name,)* }
        }
    };
}

rows! {
    State::Firing => "firing",
    State::Held => "held",
    State::Escalated => "escalated",
    State::WouldRollBack => "would_roll_back",
    State::HeldByPerson { .. } => "held_by_person",
    State::Proposed { .. } => "proposed",
    State::Ready { attempt: Attempt { undo: false, .. }, .. } => "ready",
    State::Ready { attempt: Attempt { undo: true, .. }, .. } => "ready_undo",
    State::Running { attempt: Attempt { undo: false, .. } } => "running",
    State::Running { attempt: Attempt { undo: true, .. } } => "running_undo",
    State::Checking { .. } => "checking",
    State::Stepped { attempt: Attempt { undo: false, .. }, .. } => "stepped",
    State::Stepped { attempt: Attempt { undo: true, .. }, .. } => "stepped_undo",
    State::Verifying { .. } => "verifying",
    State::LevelOver { undo: false, .. } => "level_over",
    State::LevelOver { undo: true, .. } => "level_over_undo",
    State::NeedsHuman { .. } => "needs_human",
    State::Recovered => "recovered",
    State::Declined => "declined",
    State::Expired => "expired",
    State::Superseded => "superseded",
    State::Aborted => "aborted",
    State::Cleared => "cleared",
}

macro_rules! columns {
    ($($pattern:pat => $name:literal,)*) => {
        const COLUMNS: &[&str] = &[$($name,)*];
        fn column(event: &IncidentEvent) -> &'static str {
            match event { $($pattern => $name,)* }
        }
    };
}

columns! {
    IncidentEvent::Opened { .. } => "opened",
    IncidentEvent::Reopened { .. } => "reopened",
    IncidentEvent::Joined { .. } => "joined",
    IncidentEvent::Judged { decision: Decision { kind: DecisionKind::Hold, .. } } => "judged_hold",
    IncidentEvent::Judged { decision: Decision { kind: DecisionKind::Escalate, .. } } => "judged_escalate",
    IncidentEvent::Judged { decision: Decision { kind: DecisionKind::WouldRollBack, .. } } => "judged_observe",
    IncidentEvent::Judged { decision: Decision { kind: DecisionKind::RollBack | DecisionKind::Propose, .. } } => "judged",
    IncidentEvent::Proposed { .. } => "proposed",
    IncidentEvent::Unanswered { .. } => "unanswered",
    IncidentEvent::HoldOrdered { .. } => "hold_ordered",
    IncidentEvent::HoldEnded { .. } => "hold_ended",
    IncidentEvent::StepSkipped { .. } => "step_skipped",
    IncidentEvent::Approved { .. } => "approved",
    IncidentEvent::Declined { .. } => "declined",
    IncidentEvent::Expired => "expired",
    IncidentEvent::Admitted { .. } => "admitted",
    IncidentEvent::StepIntended { .. } => "step_intended",
    IncidentEvent::StepStarted { .. } => "step_started",
    IncidentEvent::StepFinished { .. } => "step_finished",
    IncidentEvent::StepNotStarted { .. } => "step_not_started",
    IncidentEvent::StepChecked { .. } => "step_checked",
    IncidentEvent::LevelFinished { .. } => "level_finished",
    IncidentEvent::CheckAnswered { .. } => "check_answered",
    IncidentEvent::CameClear { .. } => "came_clear",
    IncidentEvent::Relapsed => "relapsed",
    IncidentEvent::LevelFailed { .. } => "level_failed",
    IncidentEvent::UndoBegan { .. } => "undo_began",
    IncidentEvent::UndoFinished { .. } => "undo_finished",
    IncidentEvent::Climbed { .. } => "climbed",
    IncidentEvent::Recovered { .. } => "recovered",
    IncidentEvent::Superseded { .. } => "superseded",
    IncidentEvent::Aborted { .. } => "aborted",
    IncidentEvent::NeedsHuman { .. } => "needs_human",
    IncidentEvent::Reminded => "reminded",
    IncidentEvent::Acknowledged { .. } => "acknowledged",
    IncidentEvent::RtoPassed { .. } => "rto_passed",
    IncidentEvent::Cleared => "cleared",
}

pub(super) fn question() -> Check {
    let ask = Ask::Command { argv: vec!["/c".to_owned()], env: BTreeMap::new(), inherit: Vec::new(), directory: None };
    Check { name: "c".to_owned(), ask, timeout: Duration::from_secs(30) }
}

/// One event of each kind, about what the incident is at, so that it fits wherever one of its kind can.
pub(super) fn events(incident: &Incident) -> Vec<(&'static str, IncidentEvent)> {
    let level = incident.level().unwrap_or(0);
    let fallback = Attempt { level, step: 0, attempt: 1, undo: false };
    let attempt = match &incident.state {
        State::Ready { attempt, .. }
        | State::Running { attempt }
        | State::Checking { attempt, .. }
        | State::Stepped { attempt, .. } => *attempt,
        _ => incident.in_flight.unwrap_or(fallback),
    };
    let (decided, reason) = (|kind| decision(kind, "why"), || "why".to_owned());
    let mut events = vec![
        IncidentEvent::Opened { service: "api".to_owned(), release: None, fact: Box::new(fact("o")) },
        IncidentEvent::Reopened { fact: Box::new(fact("r")) },
        IncidentEvent::Joined { fact: Box::new(fact("j")), aside: false },
        IncidentEvent::Proposed { level, respond_by: at(900), decision: decided(DecisionKind::Propose), asked: None },
        IncidentEvent::Unanswered { respond_by: at(950) },
        IncidentEvent::HoldOrdered { actor: actor(), reason: reason(), until: at(900) },
        IncidentEvent::HoldEnded { actor: None, reason: reason() },
        IncidentEvent::StepSkipped {
            attempt: incident.skippable().unwrap_or(attempt),
            actor: actor(),
            reason: reason(),
        },
        IncidentEvent::Approved { actor: actor(), reason: reason() },
        IncidentEvent::Declined { actor: actor(), reason: reason() },
        IncidentEvent::Expired,
        IncidentEvent::Admitted {
            deadline: at(90_000),
            plan: Box::new(super::props::rich_plan()),
            decision: decided(DecisionKind::RollBack),
            facts: Vec::new(),
            running: Running::One(release("r2")),
            actor: None,
            receivers: Vec::new(),
        },
        IncidentEvent::StepIntended { attempt, input_hash: String::new() },
        IncidentEvent::StepStarted { attempt, pid: None, process_start: None },
        IncidentEvent::StepFinished { attempt, result: Box::new(ended(Outcome::Succeeded)) },
        IncidentEvent::StepNotStarted { attempt, why: reason() },
        IncidentEvent::StepChecked { attempt, answer: CheckAnswer::TookEffect, detail: String::new() },
        IncidentEvent::LevelFinished { level, at: at(100) },
        IncidentEvent::CheckAnswered { level, check: "c".to_owned(), outcome: CheckOutcome::Passed },
        IncidentEvent::CameClear { at: at(100) },
        IncidentEvent::Relapsed,
        IncidentEvent::LevelFailed { level, verified: Verified::NotReached, why: reason() },
        IncidentEvent::UndoBegan { level },
        IncidentEvent::UndoFinished { level, failed: None, running: Running::One(release("r2")) },
        IncidentEvent::Climbed { to: 1, overrides: Vec::new() },
        IncidentEvent::Recovered { clear_since: None },
        IncidentEvent::Superseded { by: Running::One(release("r3")) },
        IncidentEvent::Aborted { actor: actor(), reason: reason() },
        IncidentEvent::NeedsHuman { why: WhyHuman::Unreadable, text: reason() },
        IncidentEvent::Reminded,
        IncidentEvent::Acknowledged { actor: actor(), reason: reason() },
        IncidentEvent::RtoPassed { rto_ms: 1 },
        IncidentEvent::Cleared,
    ];
    let kinds = [DecisionKind::Hold, DecisionKind::Escalate, DecisionKind::WouldRollBack, DecisionKind::RollBack];
    events.extend(kinds.map(|kind| IncidentEvent::Judged { decision: decided(kind) }));
    events.into_iter().map(|event| (column(&event), event)).collect()
}

/// What holds in every state, however it was reached.
pub(super) fn check(incident: &Incident) {
    let state = &incident.state;
    assert_eq!(incident.ended.is_some(), !state.is_open(), "{incident:?}");
    if let State::Running { attempt } = state {
        assert_eq!(incident.in_flight, Some(*attempt), "{incident:?}");
    }
    let acts = matches!(
        state,
        State::Ready { .. }
            | State::Checking { .. }
            | State::Stepped { .. }
            | State::Verifying { .. }
            | State::LevelOver { .. }
    );
    assert!(!acts || incident.in_flight.is_none(), "a step runs beside {incident:?}");
    assert!(!acts || incident.plan.is_some(), "{incident:?}");
    let attempt = match state {
        State::Ready { attempt, .. }
        | State::Running { attempt }
        | State::Checking { attempt, .. }
        | State::Stepped { attempt, .. } => Some(attempt),
        _ => None,
    };
    if let Some(attempt) = attempt {
        assert!(incident.step(*attempt).is_some(), "no such step: {incident:?}");
        assert_eq!(attempt.undo, incident.undo.is_some(), "{incident:?}");
    }
    if let State::Verifying { level, .. } | State::LevelOver { level, .. } = state {
        assert!(incident.tried.contains_key(level), "{incident:?}");
    }
}

/// One incident in each state, reached by events that fit.
fn samples() -> Vec<(String, Incident)> {
    let mut samples = Vec::new();
    let mut add = |name: &str, incident: &Incident| {
        check(incident);
        let row = row(&incident.state);
        samples.push((if name.is_empty() { row.to_owned() } else { format!("{row}_{name}") }, incident.clone()));
    };
    let take = |incident: &Incident, event: IncidentEvent| {
        let mut next = incident.clone();
        assert!(next.takes(&event), "{event:?} in {:?}", next.state);
        next.apply(&event, at(50));
        next
    };
    let by = |incident: &Incident, column: &str| {
        let event = events(incident).into_iter().find(|(name, _)| *name == column).expect("a column").1;
        take(incident, event)
    };
    let firing = opened();
    let proposed = by(&firing, "proposed");
    add("", &firing);
    for judged in ["judged_hold", "judged_escalate", "judged_observe"] {
        add("", &by(&firing, judged));
    }
    add("", &by(&firing, "hold_ordered"));
    add("", &proposed);
    for end in ["declined", "expired", "superseded", "aborted", "cleared"] {
        add("", &by(&proposed, end));
    }
    let ready = by(&firing, "admitted");
    let running = by(&ready, "step_intended");
    add("", &ready);
    add("", &running);
    let second = by(&by(&running, "step_finished"), "step_intended");
    let checking = by(&second, "step_finished");
    let attempt = second.in_flight.expect("it runs");
    let stepped = by(&checking, "step_checked");
    add("", &checking);
    add("", &stepped);
    let verifying = by(&stepped, "level_finished");
    add("", &verifying);
    add("", &by(&verifying, "recovered"));
    let failed = |verified| take(&verifying, IncidentEvent::LevelFailed { level: 0, verified, why: String::new() });
    let over = failed(Verified::NotReached);
    add("", &over);
    add("climb", &by(&over, "proposed"));
    let to_undo = failed(Verified::NotRecovered);
    add("", &to_undo);
    let ready_undo = by(&to_undo, "undo_began");
    let running_undo = by(&ready_undo, "step_intended");
    add("", &ready_undo);
    add("", &running_undo);
    let failed = IncidentEvent::StepFinished {
        attempt: running_undo.in_flight.expect("it runs"),
        result: Box::new(ended(Outcome::Failed)),
    };
    add("", &take(&running_undo, failed));
    add("", &by(&verifying, "needs_human"));
    add("stuck", &by(&stepped, "needs_human"));
    add("in_flight", &by(&running, "needs_human"));
    add("in_flight", &by(&running, "aborted"));
    assert_eq!(attempt.step, 1);
    samples
}

/// What an event makes of a state. What is not named changes nothing at all.
const TABLE: &str = "
    firing: joined→firing proposed→proposed hold_ordered→held_by_person approved→firing admitted→ready
        superseded→superseded aborted→aborted needs_human→needs_human acknowledged→firing rto_passed→firing
        cleared→cleared judged_hold→held judged_escalate→escalated judged_observe→would_roll_back judged→firing
    held: joined→held proposed→proposed hold_ordered→held_by_person approved→held admitted→ready
        superseded→superseded aborted→aborted needs_human→needs_human acknowledged→held rto_passed→held
        cleared→cleared judged_hold→held judged_escalate→escalated judged_observe→would_roll_back judged→held
    escalated: joined→escalated proposed→proposed hold_ordered→held_by_person approved→escalated admitted→ready
        superseded→superseded aborted→aborted needs_human→needs_human acknowledged→escalated
        rto_passed→escalated cleared→cleared judged_hold→held judged_escalate→escalated
        judged_observe→would_roll_back judged→escalated
    would_roll_back: joined→would_roll_back proposed→proposed hold_ordered→held_by_person
        approved→would_roll_back admitted→ready superseded→superseded aborted→aborted needs_human→needs_human
        acknowledged→would_roll_back rto_passed→would_roll_back cleared→cleared judged_hold→held
        judged_escalate→escalated judged_observe→would_roll_back judged→would_roll_back
    held_by_person: joined→held_by_person hold_ordered→held_by_person hold_ended→firing approved→held_by_person
        admitted→ready superseded→superseded aborted→aborted needs_human→needs_human acknowledged→held_by_person
        rto_passed→held_by_person cleared→cleared
    proposed: joined→proposed proposed→proposed unanswered→proposed hold_ordered→held_by_person
        approved→proposed declined→declined expired→expired admitted→ready superseded→superseded aborted→aborted
        needs_human→needs_human acknowledged→proposed rto_passed→proposed cleared→cleared judged_hold→held
        judged_escalate→escalated judged_observe→would_roll_back judged→proposed
    declined: reopened→firing
    expired: reopened→firing
    superseded: reopened→firing
    aborted: reopened→firing
    cleared: reopened→firing
    ready: joined→ready step_skipped→ready step_intended→running level_failed→level_over superseded→superseded
        aborted→aborted needs_human→needs_human acknowledged→ready rto_passed→ready
    running: joined→running step_started→running step_finished→ready step_not_started→ready aborted→aborted needs_human→needs_human
        acknowledged→running rto_passed→running
    checking: joined→checking step_checked→stepped superseded→superseded aborted→aborted needs_human→needs_human
        acknowledged→checking rto_passed→checking
    stepped: joined→stepped level_finished→verifying level_failed→level_over aborted→aborted
        needs_human→needs_human acknowledged→stepped rto_passed→stepped
    verifying: joined→verifying check_answered→verifying came_clear→verifying relapsed→verifying
        level_failed→level_over recovered→recovered superseded→superseded aborted→aborted
        needs_human→needs_human acknowledged→verifying rto_passed→verifying
    recovered: reopened→firing
    level_over: joined→level_over proposed→proposed climbed→ready superseded→superseded aborted→aborted
        needs_human→needs_human acknowledged→level_over rto_passed→level_over
    proposed_climb: joined→proposed unanswered→proposed approved→proposed declined→declined
        check_answered→proposed climbed→ready superseded→superseded aborted→aborted needs_human→needs_human
        acknowledged→proposed rto_passed→proposed cleared→cleared
    level_over_undo: joined→level_over_undo undo_began→ready_undo superseded→superseded aborted→aborted
        needs_human→needs_human acknowledged→level_over_undo rto_passed→level_over_undo
    ready_undo: joined→ready_undo step_skipped→ready_undo step_intended→running_undo superseded→superseded
        aborted→aborted needs_human→needs_human acknowledged→ready_undo rto_passed→ready_undo
    running_undo: joined→running_undo step_started→running_undo step_finished→ready_undo
        step_not_started→ready_undo aborted→aborted
        needs_human→needs_human acknowledged→running_undo rto_passed→running_undo
    stepped_undo: joined→stepped_undo undo_finished→level_over aborted→aborted needs_human→needs_human
        acknowledged→stepped_undo rto_passed→stepped_undo
    needs_human: joined→needs_human approved→needs_human check_answered→needs_human climbed→ready
        superseded→superseded aborted→aborted needs_human→needs_human reminded→needs_human
        acknowledged→needs_human rto_passed→needs_human cleared→cleared
    needs_human_stuck: joined→needs_human step_skipped→stepped approved→needs_human climbed→ready
        superseded→superseded aborted→aborted needs_human→needs_human reminded→needs_human
        acknowledged→needs_human rto_passed→needs_human cleared→cleared
    needs_human_in_flight: joined→needs_human approved→needs_human step_started→needs_human
        step_finished→needs_human step_not_started→needs_human aborted→aborted needs_human→needs_human
        reminded→needs_human acknowledged→needs_human rto_passed→needs_human
    aborted_in_flight: reopened→firing step_started→aborted step_finished→aborted step_not_started→aborted
";

#[test]
fn every_state_meets_every_event_as_the_table_says() {
    let samples = samples();
    let mut seen: Vec<&str> = samples.iter().map(|(_, incident)| row(&incident.state)).collect();
    seen.sort_unstable();
    seen.dedup();
    let mut rows = ROWS.to_vec();
    rows.sort_unstable();
    assert_eq!(seen, rows, "a state without a sample has no row");
    let mut table: Vec<String> = Vec::new();
    for (name, incident) in &samples {
        let events = events(incident);
        let mut columns: Vec<&str> = events.iter().map(|(name, _)| *name).collect();
        columns.sort_unstable();
        columns.dedup();
        assert_eq!(columns.len(), COLUMNS.len(), "an event without a sample has no column");
        let mut cells = Vec::new();
        for (column, event) in events {
            let mut after = incident.clone();
            let effects = after.apply(&event, at(200));
            check(&after);
            if incident.takes(&event) {
                cells.push(format!("{column}→{}", row(&after.state)));
                let runs = effects.iter().any(|effect| matches!(effect, Effect::RunStep(_)));
                assert_eq!(runs, column == "step_intended", "{name} {column}");
            } else {
                assert_eq!((&after, effects), (incident, Vec::new()), "{name} {column}");
            }
        }
        table.push(format!("{name}:"));
        table.extend(cells);
    }
    let expected: Vec<&str> = TABLE.split_whitespace().collect();
    let mut row = "";
    for (is, says) in table.iter().zip(&expected) {
        row = if says.ends_with(':') { says } else { row };
        assert_eq!(is, says, "in the row {row}");
    }
    assert_eq!(table.len(), expected.len());
}

#[test]
fn a_closed_incident_comes_back_only_with_a_new_breach() {
    for (name, incident) in samples().iter().filter(|(_, incident)| !incident.state.is_open()) {
        for (column, event) in events(incident) {
            let mut after = incident.clone();
            after.apply(&event, at(200));
            assert_eq!(after.state.is_open(), column == "reopened", "{name} {column}");
        }
    }
}
