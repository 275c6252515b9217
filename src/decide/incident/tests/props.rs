//! Random events, and random situations.

use proptest::prelude::*;

use super::matrix::{self, check};
use super::*;
use crate::decide::event::{CheckAnswer, Retry};

/// A plan in which everything may happen.
pub(super) fn rich_plan() -> Plan {
    let mut plan = plan(3);
    plan.levels[0].steps[0].idempotent = true;
    plan.levels[0].steps[0].on_failure = OnFailure::Continue;
    plan.levels[0].steps[1].check = Some(matrix::question());
    plan.levels[0].steps[1].retry = Some(Retry { times: 2, wait: Duration::from_secs(7) });
    plan.levels[0].undo = vec![step("back"), step("and back")];
    plan.levels[0].undo[0].idempotent = true;
    plan.levels[0].undo[1].check = Some(matrix::question());
    plan.levels[0].undo[1].on_failure = OnFailure::Continue;
    plan.levels[1].deadline = Some(Duration::from_secs(90));
    plan.levels[1].steps[0].retry = Some(Retry { times: 4, wait: Duration::from_secs(20) });
    plan.levels[1].undo = vec![step("back")];
    plan.levels[1].undo[0].on_failure = OnFailure::Stop;
    plan.levels[2].steps[1].on_failure = OnFailure::Stop;
    plan
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order: nothing panics, and what always holds holds.
    #[test]
    fn no_sequence_of_events_breaks_an_incident(picks in prop::collection::vec((any::<u16>(), 0_i64..200), 1..80)) {
        let mut incident = opened();
        let mut now = 0;
        for (pick, seconds) in picks {
            now += seconds;
            let events = matrix::events(&incident);
            // Of ten, nine are events that fit, or hardly anything would ever get under way.
            let fitting: Vec<_> = events.iter().filter(|(_, event)| incident.takes(event)).collect();
            let (_, event) = match usize::from(pick) {
                pick if pick % 10 > 0 && !fitting.is_empty() => fitting[pick / 10 % fitting.len()],
                pick => &events[pick / 10 % events.len()],
            };
            let before = incident.clone();
            let taken = incident.takes(event);
            let effects = incident.apply(event, at(now));
            check(&incident);
            if !taken {
                prop_assert_eq!(&incident, &before);
                prop_assert_eq!(effects.len(), 0);
            }
            let begun = effects.iter().filter(|effect| matches!(effect, Effect::RunStep(_))).count();
            prop_assert!(begun == 0 || before.in_flight.is_none(), "a second step at once");
        }
    }

    /// Through any weather: it never turns in a circle, at most one step runs, no attempt begins twice, and the recorded
    /// events give the same state again.
    #[test]
    fn replay_of_a_random_incident_gives_its_state(turns in prop::collection::vec((any::<u32>(), 1_i64..120), 1..60)) {
        let mut live = opened();
        let mut events: Vec<(IncidentEvent, Timestamp)> = Vec::new();
        let plan = rich_plan();
        let admit = IncidentEvent::Admitted {
            deadline: deadline(&plan, 0, at(0)),
            plan: Box::new(plan),
            decision: decision(DecisionKind::RollBack, ""),
            facts: Vec::new(),
            running: Running::One(release("r2")),
            actor: None,
            receivers: Vec::new(),
        };
        let mut take = |live: &mut Incident, event: IncidentEvent, now: i64| {
            assert!(live.takes(&event), "{event:?} in {:?}", live.state);
            live.apply(&event, at(now));
            check(live);
            events.push((event, at(now)));
        };
        take(&mut live, admit, 0);
        let mut begun = std::collections::BTreeSet::new();
        let mut now = 0;
        for (bits, seconds) in turns {
            now += seconds;
            let odds = |shift: u32, of: u32| (bits >> shift) % of;
            let outcome = match odds(0, 8) {
                0 => Outcome::Failed,
                1 => Outcome::TimedOut,
                2 => Outcome::Ambiguous,
                _ => Outcome::Succeeded,
            };
            if let Some(attempt) = live.in_flight && odds(3, 4) > 0 {
                take(&mut live, IncidentEvent::StepFinished { attempt, result: Box::new(ended(outcome)) }, now);
            }
            if let State::Running { attempt } = live.state && odds(5, 8) == 0 {
                begun.remove(&attempt);
                take(&mut live, IncidentEvent::StepNotStarted { attempt, why: String::new() }, now);
            }
            if let State::Checking { attempt, ask_at, .. } = live.state && ask_at <= at(now) && odds(5, 4) > 0 {
                let answers = [CheckAnswer::TookEffect, CheckAnswer::DidNot, CheckAnswer::Unknown];
                let answer = answers[odds(7, 3) as usize];
                take(&mut live, IncidentEvent::StepChecked { attempt, answer, detail: String::new() }, now);
            }
            let running = match odds(9, 40) {
                0 => Running::One(release("r3")),
                1 => Running::Unknown("gone".to_owned()),
                _ if live.target_seen => Running::One(release("r1")),
                _ => Running::One(release("r2")),
            };
            let readings = [Reading::Breached, Reading::Breached, Reading::Clear, Reading::Unknown];
            let world = World {
                running,
                breach: if odds(15, 30) == 0 { Breach::Over } else { Breach::Firing },
                reading: readings[odds(20, 4) as usize],
                paused: odds(22, 8) == 0,
                draining: odds(25, 16) == 0,
                ..world()
            };
            if let (State::NeedsHuman { .. }, None) = (&live.state, live.in_flight) && odds(28, 2) == 0 {
                take(&mut live, IncidentEvent::Climbed { to: odds(29, 3) as usize, overrides: Vec::new() }, now);
            }
            for round in 0.. {
                let Some(next) = world.next(&live, now) else { break };
                prop_assert!(round < 20, "a circle");
                let Move::Event(event) = next else { panic!("a second admission") };
                if let IncidentEvent::StepIntended { attempt, .. } = &event {
                    prop_assert!(begun.insert(*attempt), "{:?} begins twice", attempt);
                }
                take(&mut live, event, now);
            }
        }
        let mut replayed = opened();
        for (event, at) in &events {
            replayed.apply(event, *at);
        }
        prop_assert_eq!(replayed, live);
    }
}
