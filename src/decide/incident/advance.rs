//! What an incident does next, derived from its state and the situation. Nothing here changes anything.

use std::time::Duration;

use super::people::asks_again_at;
use super::{Breach, Incident, Move, Patience, RELEASE_GRACE, Situation, State};
use crate::decide::event::{
    Attempt, Autonomy, Decision, DecisionKind, IncidentEvent, Outcome, Reason, Release, Running, Verified, Verify,
    WhyHuman,
};
use crate::decide::guard::{JUST_BACK, RELEASE_NOT_READ, asked};
use crate::decide::trigger::short;
use crate::decide::verify::{self, Reading, Voice};
use crate::time::Timestamp;

impl Incident {
    /// What happens next, if anything does at this instant. Called again after each event until it says None.
    #[must_use]
    pub fn advance(&self, situation: &Situation<'_>, now: Timestamp) -> Option<Move> {
        // Last: what ends at this instant has not taken too long.
        self.go_on(situation, now).or_else(|| self.takes_too_long(situation.patience.rto?, now).map(Move::Event))
    }

    fn takes_too_long(&self, rto: Duration, now: Timestamp) -> Option<IncidentEvent> {
        let late = self.state.is_open() && !self.rto_passed && now >= self.began + rto;
        late.then(|| IncidentEvent::RtoPassed { rto_ms: u64::try_from(rto.as_millis()).unwrap_or(u64::MAX) })
    }

    fn go_on(&self, situation: &Situation<'_>, now: Timestamp) -> Option<Move> {
        let event = match &self.state {
            State::Proposed { level, respond_by } if self.admitted.is_some() => {
                self.asking_to_climb(*level, *respond_by, situation, now)?
            }
            State::Firing | State::Held | State::Escalated | State::WouldRollBack | State::Proposed { .. } => {
                return self.wait(situation, now);
            }
            State::HeldByPerson { until } => self.held_by_person(*until, situation, now)?,
            State::Ready { attempt, since, after } => self.begin_step(*attempt, *since, *after, situation, now)?,
            State::Running { .. } => self.overdue(now)?,
            State::Checking { .. } => self.checking(situation, now)?,
            State::Stepped { attempt, outcome, at } => {
                self.after_step(*attempt, *outcome, now, || self.undone(attempt.level, *at, situation, now))?
            }
            State::Verifying { level, finished, clear_since } => {
                self.verifying(*level, *finished, *clear_since, situation, now)?
            }
            State::LevelOver { level, why, undo } => self.after_level(*level, why, *undo, situation, now)?,
            State::NeedsHuman { reminded, .. } => self.with_a_person(*reminded, situation, now)?,
            State::Recovered
            | State::Declined
            | State::Expired
            | State::Superseded
            | State::Aborted
            | State::Cleared => return None,
        };
        Some(Move::Event(event))
    }

    fn wait(&self, situation: &Situation<'_>, now: Timestamp) -> Option<Move> {
        if let (Some(judged), Running::One(running)) = (&self.release, situation.running)
            && running != judged
        {
            return Some(Move::Event(IncidentEvent::Superseded { by: situation.running.clone() }));
        }
        if situation.breach == Breach::Over {
            return Some(Move::Event(IncidentEvent::Cleared));
        }
        if let State::Proposed { level, respond_by } = &self.state
            && now >= *respond_by
        {
            return self.after_silence(*level, *respond_by, situation, now);
        }
        // What is not known now is not acted on, and changes no answer that was given on what was known.
        if situation.breach == Breach::Unclear && self.decision.is_some() {
            return None;
        }
        let decision = situation.decision.as_ref()?;
        if self.decision.as_ref().is_some_and(|before| same_answer(before, decision)) && !self.asks_anew(situation) {
            return None;
        }
        match decision.kind {
            // Over at the next look, most often: telling it would be noise, and it would end an open question.
            DecisionKind::Hold
                if waits_for_a_look(decision)
                    && (self.decision.is_some() || now <= self.told_from(&situation.patience)) =>
            {
                None
            }
            DecisionKind::RollBack if situation.breach == Breach::Firing && !situation.draining => {
                Some(Move::Admit { decision: decision.clone(), level: situation.level })
            }
            DecisionKind::RollBack => None,
            DecisionKind::Propose => Some(Move::Event(self.ask(situation.level, decision.clone(), situation, now))),
            DecisionKind::Hold | DecisionKind::Escalate | DecisionKind::WouldRollBack => {
                Some(Move::Event(IncidentEvent::Judged { decision: decision.clone() }))
            }
        }
    }

    fn begin_step(
        &self,
        attempt: Attempt,
        since: Timestamp,
        after: Option<Outcome>,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        if let Some(late) = self.overdue(now).or_else(|| self.out_of_time(attempt, after, now)) {
            return Some(late);
        }
        match self.runs_ours(situation.running) {
            Ours::Yes if self.bad_is_back(situation.running) => return Some(bad_came_back()),
            Ours::Yes => {}
            Ours::No => return Some(IncidentEvent::Superseded { by: situation.running.clone() }),
            Ours::Unknown(why) => {
                let unread_since = self.unread_since.unwrap_or(since);
                return (now.since(unread_since) >= RELEASE_GRACE).then(|| IncidentEvent::NeedsHuman {
                    why: WhyHuman::ReleaseUnknown,
                    text: format!("what runs cannot be read, so the next step is not started: {why}"),
                });
            }
        }
        if situation.draining || now < since {
            return None;
        }
        let first_of_level = attempt.step == 0 && self.try_of(attempt) == 1;
        // Taking back is the end of a level, not a new one.
        let held_up = (situation.paused || situation.outage.is_some()) && !self.ordered && !attempt.undo;
        if first_of_level && (situation.journal_failing || held_up) {
            return None;
        }
        Some(IncidentEvent::StepIntended { attempt, input_hash: String::new() })
    }

    fn overdue(&self, now: Timestamp) -> Option<IncidentEvent> {
        let deadline = self.deadline?;
        (now >= deadline).then(|| IncidentEvent::NeedsHuman {
            why: WhyHuman::DeadlineReached,
            text: "the deadline of the incident is reached; a step that still runs is not killed".to_owned(),
        })
    }

    fn verifying(
        &self,
        level: usize,
        finished: Timestamp,
        clear_since: Option<Timestamp>,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        match self.runs_ours(situation.running) {
            Ours::Yes if self.bad_is_back(situation.running) => return Some(bad_came_back()),
            Ours::Yes | Ours::Unknown(_) => {}
            Ours::No => return Some(IncidentEvent::Superseded { by: situation.running.clone() }),
        }
        let verify = self.verify(level);
        let from = self.soak.from.max(finished);
        let first_clear_by = self.first_clear_by(level, from, verify.within);
        let failed = |why: &str| {
            let why =
                format!("{why}{}{}", self.soak.complaint(&verify.checks, false), self.not_served(&verify, situation));
            IncidentEvent::LevelFailed { level, verified: Verified::NotRecovered, why }
        };
        match (situation.reading, clear_since) {
            (Reading::Breached, Some(_)) if now < first_clear_by => Some(IncidentEvent::Relapsed),
            (Reading::Breached, Some(_)) => Some(failed("it was clear, and breached again during the soak")),
            (Reading::Breached, None) if now >= first_clear_by => {
                Some(failed(&format!("still breached {} after it", short(first_clear_by.since(finished)))))
            }
            (Reading::Clear, None) => Some(IncidentEvent::CameClear { at: now }),
            (Reading::Clear, Some(since)) if self.soak.soaked >= verify.soak => {
                Some(IncidentEvent::Recovered { clear_since: Some(since) })
            }
            (Reading::Breached | Reading::Unknown, None) | (Reading::Clear | Reading::Unknown, Some(_)) => {
                // While it is clear its soak goes on, as far as the incident has time.
                let cannot_tell =
                    situation.reading != Reading::Clear && now >= self.told_by(level, finished, clear_since);
                (cannot_tell || self.deadline.is_some_and(|deadline| now >= deadline)).then(|| {
                    IncidentEvent::NeedsHuman {
                        why: WhyHuman::Inconclusive,
                        text: format!(
                            "verification could not tell whether it has recovered{}{}",
                            self.soak.complaint(&verify.checks, true),
                            because(situation.outage.as_deref())
                        ),
                    }
                })
            }
        }
    }

    /// For a sentence, where another release serves than the level wanted.
    fn not_served(&self, verify: &Verify, situation: &Situation<'_>) -> String {
        let target = self.plan.as_ref().and_then(|plan| plan.target.as_ref());
        match target.filter(|_| verify.serves_target) {
            Some(target) if verify::serves(situation.running, Some(target)) == Voice::Breached => {
                format!("; {target} does not serve alone")
            }
            Some(_) | None => String::new(),
        }
    }

    /// The deadline of the whole level cuts the wait for the first Clear. A soak that has begun is let come to its end:
    /// what helps is not given up for being late.
    fn first_clear_by(&self, level: usize, from: Timestamp, within: Duration) -> Timestamp {
        // A restart may come after that deadline, and nothing is known before something was read.
        self.level_end(level).map_or(from + within, |end| end.clamp(from, from + within))
    }

    /// What cannot be told then is for a person. What was clear once has kept the deadline of its level, so that only
    /// the limits of verification count.
    fn told_by(&self, level: usize, finished: Timestamp, clear_since: Option<Timestamp>) -> Timestamp {
        let verify = self.verify(level);
        let from = self.soak.from.max(finished);
        let first = match clear_since {
            None => self.first_clear_by(level, from, verify.within),
            Some(_) => from + verify.within,
        };
        first + verify.soak + self.soak.slack
    }

    /// What the check says comes as an event of its own.
    fn checking(&self, situation: &Situation<'_>, now: Timestamp) -> Option<IncidentEvent> {
        if let Some(late) = self.overdue(now) {
            return Some(late);
        }
        match self.runs_ours(situation.running) {
            Ours::No => Some(IncidentEvent::Superseded { by: situation.running.clone() }),
            Ours::Yes | Ours::Unknown(_) => None,
        }
    }

    fn after_level(
        &self,
        level: usize,
        why: &str,
        undo: bool,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        if let Some(late) = self.overdue(now) {
            return Some(match (late, situation.outage.as_deref()) {
                (IncidentEvent::NeedsHuman { why: late, .. }, Some(outage)) => IncidentEvent::NeedsHuman {
                    why: late,
                    text: format!("the deadline of the incident is reached: {why}{}", because(Some(outage))),
                },
                (late, _) => late,
            });
        }
        match self.runs_ours(situation.running) {
            Ours::No => return Some(IncidentEvent::Superseded { by: situation.running.clone() }),
            Ours::Yes if self.bad_is_back(situation.running) => return Some(bad_came_back()),
            Ours::Yes | Ours::Unknown(_) => {}
        }
        // What would be taken back may be what helps.
        if situation.outage.is_some() {
            return None;
        }
        if undo {
            let waits = situation.journal_failing || situation.draining;
            return (!waits).then_some(IncidentEvent::UndoBegan { level });
        }
        let levels = self.plan.as_ref().map_or(0, |plan| plan.levels.len());
        match self.untried(level + 1, levels) {
            Some(_) if situation.paused || situation.journal_failing || situation.draining => None,
            Some(to) if self.asks_before(to) => {
                let reason = Reason {
                    code: "autonomy".to_owned(),
                    sentence: format!("a person decides about level {}{}", to + 1, self.level_name(to)),
                };
                let decision = Decision { kind: DecisionKind::Propose, reasons: vec![reason], checks: Vec::new() };
                Some(self.ask(to, decision, situation, now))
            }
            Some(to) => Some(IncidentEvent::Climbed { to, overrides: Vec::new() }),
            None => Some(IncidentEvent::NeedsHuman {
                why: WhyHuman::LadderExhausted,
                text: format!("no level is left: {why}"),
            }),
        }
    }

    fn asks_before(&self, level: usize) -> bool {
        let Some(plan) = &self.plan else { return false };
        let own = plan.levels.get(level).and_then(|level| level.autonomy);
        plan.autonomy.get(level).copied().or(own).is_some_and(|autonomy| autonomy < Autonomy::Act)
    }

    fn asking_to_climb(
        &self,
        level: usize,
        respond_by: Timestamp,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        if let Ours::No = self.runs_ours(situation.running) {
            return Some(IncidentEvent::Superseded { by: situation.running.clone() });
        }
        if situation.breach == Breach::Over {
            return Some(IncidentEvent::Cleared);
        }
        if now < respond_by {
            return None;
        }
        self.climb_after_silence(level, situation, now).or_else(|| self.climb_is_late(&situation.patience, now))
    }

    fn with_a_person(&self, reminded: Timestamp, situation: &Situation<'_>, now: Timestamp) -> Option<IncidentEvent> {
        // While a step still runs nothing is over.
        if self.in_flight.is_none() {
            if let Ours::No = self.runs_ours(situation.running) {
                return Some(IncidentEvent::Superseded { by: situation.running.clone() });
            }
            if situation.breach == Breach::Over {
                return Some(IncidentEvent::Cleared);
            }
        }
        (!self.acknowledged && now.since(reminded) >= situation.patience.remind_every)
            .then_some(IncidentEvent::Reminded)
    }

    fn bad_is_back(&self, running: &Running) -> bool {
        let runs_bad = matches!((running, &self.plan), (Running::One(release), Some(plan)) if *release == plan.bad);
        self.target_seen && runs_bad
    }

    /// May its steps start, as far as the release is concerned? The machine asks again when the intent is durable.
    #[must_use]
    pub fn may_step(&self, running: &Running) -> bool {
        matches!(self.runs_ours(running), Ours::Yes) && !self.bad_is_back(running)
    }

    /// Does only the judged release run, or what this incident installs?
    fn runs_ours(&self, running: &Running) -> Ours {
        let Some(plan) = &self.plan else { return Ours::Unknown("nothing was admitted".to_owned()) };
        let ours = |release: &Release| *release == plan.bad || Some(release) == plan.target.as_ref();
        match running {
            Running::One(release) if ours(release) => Ours::Yes,
            Running::Mix(shares) if shares.iter().all(|(release, _)| ours(release)) => Ours::Yes,
            Running::One(_) | Running::Mix(_) => Ours::No,
            Running::Unknown(why) => Ours::Unknown(why.clone()),
        }
    }

    /// Until then nobody is told that the next look at the release is waited for.
    fn told_from(&self, patience: &Patience) -> Timestamp {
        self.opened + patience.release_read
    }

    /// Instants at which `advance` may say something although nothing happens until then.
    #[must_use]
    pub fn wakes(&self, patience: &Patience) -> Vec<Timestamp> {
        let mut wakes = self.wakes_of_state(patience);
        let rto = patience.rto.filter(|_| self.state.is_open() && !self.rto_passed);
        wakes.extend(rto.map(|rto| self.began + rto));
        wakes
    }

    fn wakes_of_state(&self, patience: &Patience) -> Vec<Timestamp> {
        let deadline = self.deadline.unwrap_or(Timestamp::MAX);
        match &self.state {
            State::Firing => vec![self.told_from(patience) + Duration::from_millis(1)],
            State::Proposed { respond_by, .. } => {
                let mut wakes = vec![*respond_by, asks_again_at(*respond_by, patience)];
                wakes.extend(self.climb_late_at(patience));
                wakes
            }
            State::HeldByPerson { until } => vec![*until],
            State::Ready { attempt, since, .. } => {
                let mut wakes = vec![self.unread_since.unwrap_or(*since) + RELEASE_GRACE, deadline, *since];
                wakes.extend(self.level_end(attempt.level).filter(|_| !attempt.undo));
                wakes
            }
            State::Running { .. } | State::LevelOver { .. } => vec![deadline],
            State::Checking { ask_at, .. } => vec![*ask_at, deadline],
            State::Stepped { attempt, at, .. } if attempt.undo => vec![*at + RELEASE_GRACE],
            State::Verifying { level, finished, clear_since } => {
                let verify = self.verify(*level);
                let first = self.first_clear_by(*level, self.soak.from.max(*finished), verify.within);
                let soaked = clear_since.map(|since| since.max(self.soak.from) + verify.soak);
                let mut wakes = vec![first, self.told_by(*level, *finished, *clear_since), deadline];
                wakes.extend(soaked);
                wakes
            }
            State::NeedsHuman { reminded, .. } if !self.acknowledged => vec![*reminded + patience.remind_every],
            State::Held
            | State::Escalated
            | State::WouldRollBack
            | State::Stepped { .. }
            | State::NeedsHuman { .. }
            | State::Recovered
            | State::Declined
            | State::Expired
            | State::Superseded
            | State::Aborted
            | State::Cleared => Vec::new(),
        }
    }
}

/// For a sentence: why nothing further was begun.
fn because(outage: Option<&str>) -> String {
    outage.map_or_else(String::new, |outage| format!("; nothing further was begun, because {outage}"))
}

fn bad_came_back() -> IncidentEvent {
    IncidentEvent::NeedsHuman {
        why: WhyHuman::BadReleaseCameBack,
        text: "the bad release has come back; backstop does not fight over it".to_owned(),
    }
}

enum Ours {
    Yes,
    No,
    Unknown(String),
}

/// Nothing but the next look, or the answer of a check that was asked, is waited for.
fn waits_for_a_look(decision: &Decision) -> bool {
    let is_waiting = |code: &str| [RELEASE_NOT_READ, JUST_BACK].contains(&code) || asked::WAITING.contains(&code);
    !decision.reasons.is_empty() && decision.reasons.iter().all(|reason| is_waiting(&reason.code))
}

/// The same answer for the same reasons; the sentences may differ in their numbers.
fn same_answer(a: &Decision, b: &Decision) -> bool {
    a.kind == b.kind && a.reasons.iter().map(|r| &r.code).eq(b.reasons.iter().map(|r| &r.code))
}
