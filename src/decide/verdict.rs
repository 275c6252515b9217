//! A trigger's findings over time: quiet, pending, firing, or blind. One per result label set.

use std::time::Duration;

use super::worsened::{Measure, Past};
use crate::time::Timestamp;

/// So long before a release a trigger must have been seen right for the release to be blamed. Deployments that stop a
/// service before they change it keep it out of sight for a few minutes.
const RIGHT_WITHIN: Duration = Duration::from_mins(5);

/// Where a verdict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Quiet,
    /// Breached, but not yet for long enough.
    Pending,
    Firing,
    /// Not known for longer than the tolerance.
    Blind,
}

impl Phase {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Quiet => "quiet",
            Phase::Pending => "pending",
            Phase::Firing => "firing",
            Phase::Blind => "blind",
        }
    }
}

/// The memory of one label set of one trigger. Every instant is on the monotonic timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub phase: Phase,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// When the breach began that is pending or firing.
    pub began: Option<Timestamp>,
    /// Breached time credited so far.
    pub held: Duration,
    /// The latest evaluation that was not Unknown, and whether it was Breached.
    pub known: Option<(Timestamp, bool)>,
    /// Since when evaluations are Unknown, if the latest one is.
    pub unknown_since: Option<Timestamp>,
    /// Since when its window fills, if it does. Not kept over a restart.
    pub filling_since: Option<Timestamp>,
    /// The breach goes back to before the release that runs now (or before backstop first looked): since when, as far
    /// as it is known. Only Clear ends it.
    pub inherited: Option<Timestamp>,
    /// Until then it is known to have been right: the latest Clear, or too little traffic right after it. None: it was never
    /// seen to be right, or nothing was seen for a while when the release that runs now came.
    pub right_until: Option<Timestamp>,
    /// The first Breached (or failed look) since the last Clear, whatever was not known in between. Where there was none before a restart,
    /// what is wrong after it may have been wrong at any time before (the beginning of time), until a Clear is seen.
    pub wrong_since: Option<Timestamp>,
    /// Must see one fresh Breached before it may fire: after a restart.
    pub unproven: bool,
    /// What an inherited breach is compared with.
    pub past: Past,
}

/// What an evaluation says, without its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Clear,
    /// Not breached, but the latest look failed: of a streak that has begun.
    Failing,
    Breached,
    Unknown(Blank),
}

/// How a finding that is not known counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blank {
    /// Somebody must look: nothing is seen, or nonsense.
    Blind,
    /// A window of this length fills again and will be known when it is full. Not full in twice that time, it never will be
    /// as things are, and somebody must look.
    Filling(Duration),
    /// In the nature of things: a release that is starting, too little traffic.
    Natural,
}

/// How a verdict counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// `for`.
    pub hold: Duration,
    /// A pause in known findings longer than this starts the count anew.
    pub gap_tolerance: Duration,
}

impl Verdict {
    /// Nothing is known yet. Not blind at once: it has `gap_tolerance` to see something.
    #[must_use]
    pub const fn new(at: Timestamp) -> Verdict {
        Verdict {
            phase: Phase::Quiet,
            since: at,
            began: None,
            held: Duration::ZERO,
            known: None,
            unknown_since: Some(at),
            filling_since: None,
            inherited: None,
            right_until: None,
            wrong_since: None,
            unproven: false,
            past: Past::new(),
        }
    }

    /// Takes the finding of an evaluation at `at`. Time is credited only between two Breached evaluations that no
    /// Unknown and no gap separates.
    pub fn take(&mut self, says: Says, at: Timestamp, hold: Hold) {
        let fills = matches!(says, Says::Unknown(Blank::Filling(_)));
        self.filling_since = fills.then(|| self.filling_since.unwrap_or(at));
        match says {
            Says::Clear => self.clear(at),
            Says::Failing => self.failing(at),
            Says::Breached => self.breached(at, hold),
            Says::Unknown(blank) => self.unknown(blank, at, hold),
        }
    }

    fn enter(&mut self, phase: Phase, at: Timestamp) {
        if self.phase != phase {
            self.phase = phase;
            self.since = at;
        }
    }

    fn clear(&mut self, at: Timestamp) {
        self.not_breached(at);
        self.inherited = None;
        self.right_until = Some(at);
        self.wrong_since = None;
    }

    /// What fails already is no longer right, although it may end before it is breached. A breach that was there goes on in
    /// memory, too.
    fn failing(&mut self, at: Timestamp) {
        self.not_breached(at);
        self.wrong_since.get_or_insert(at);
    }

    fn not_breached(&mut self, at: Timestamp) {
        self.enter(Phase::Quiet, at);
        self.began = None;
        self.held = Duration::ZERO;
        self.known = Some((at, false));
        self.unknown_since = None;
        self.unproven = false;
    }

    fn breached(&mut self, at: Timestamp, hold: Hold) {
        // Of a count that was lost before a restart, or in a gap after it, the restart itself must bring nothing back.
        let is_lost = self.unproven && !matches!(self.phase, Phase::Pending | Phase::Firing);
        let credit = match (self.known, self.began) {
            (Some((last, true)), Some(_)) if !is_lost && at.since(last) <= hold.gap_tolerance => {
                let broken = self.unknown_since.is_some() || self.unproven;
                Some(if broken { Duration::ZERO } else { at.since(last) })
            }
            (Some(_) | None, _) => None,
        };
        if let Some(credit) = credit {
            self.held += credit;
        } else {
            self.began = Some(at);
            self.held = Duration::ZERO;
        }
        if self.right_until.is_none() && self.inherited.is_none() {
            self.inherited = Some(at);
        }
        self.wrong_since.get_or_insert(at);
        self.known = Some((at, true));
        self.unknown_since = None;
        self.unproven = false;
        self.enter(if self.held >= hold.hold { Phase::Firing } else { Phase::Pending }, at);
    }

    fn unknown(&mut self, blank: Blank, at: Timestamp, hold: Hold) {
        let since = *self.unknown_since.get_or_insert(at);
        let last_known = self.known.map_or(since, |(last, _)| last);
        let over = at.since(last_known) > hold.gap_tolerance;
        if blank == Blank::Natural
            && self.began.is_none()
            && let Some(until) = self.right_until.filter(|until| at.since(*until) <= hold.gap_tolerance)
        {
            self.right_until = Some(at.max(until));
        }
        // A restart has torn a hole into the window: until it is full again nothing can be known, and what was held
        // before the restart must not be lost to that. What was lost to a gap by then stays lost.
        if self.unproven
            && matches!(blank, Blank::Filling(_))
            && !over
            && let Some((last, _)) = &mut self.known
        {
            *last = at.max(*last);
        }
        let blinds = match blank {
            Blank::Blind => true,
            Blank::Filling(window) => {
                let most = window.saturating_mul(2).saturating_add(hold.gap_tolerance);
                self.filling_since.is_some_and(|since| at.since(since) > most)
            }
            Blank::Natural => false,
        };
        if over && blinds {
            self.enter(Phase::Blind, at);
        } else if self.phase == Phase::Blind && !blinds {
            self.enter(Phase::Quiet, at);
        } else if over && matches!(self.phase, Phase::Pending | Phase::Firing) {
            // The count is lost by now; what was breached stays remembered in `began` until a finding says otherwise.
            self.enter(Phase::Quiet, at);
        }
    }

    /// Another release runs now: the hold starts anew, and what burned before is remembered as inherited. A breach that
    /// began after `old_last_seen`, the last sight of what ran before, began after the change and is not. What was right
    /// long before that sight, and was not seen since, may have been wrong by then.
    pub fn release_changed(&mut self, at: Timestamp, old_last_seen: Option<Timestamp>, gap_tolerance: Duration) {
        let right_within = gap_tolerance.max(RIGHT_WITHIN);
        // Nobody may have watched since: then it is still the last thing that was known.
        let wrong_since = self.wrong_since.filter(|since| *since > Timestamp::MIN);
        if self.inherited.is_none()
            && let Some(since) = [self.began, wrong_since].into_iter().flatten().min()
            && old_last_seen.is_none_or(|old_last_seen| since <= old_last_seen)
        {
            self.inherited = Some(since);
        }
        let is_seen = |until: &Timestamp| old_last_seen.is_some_and(|seen| seen.since(*until) <= right_within);
        if self.inherited.is_none() {
            self.right_until = self.right_until.filter(is_seen);
        }
        self.unwatched(at);
    }

    /// Nobody watched for a while: the hold starts anew.
    pub fn unwatched(&mut self, at: Timestamp) {
        self.enter(Phase::Quiet, at);
        self.began = None;
        self.held = Duration::ZERO;
        self.known = None;
        self.unknown_since = Some(at);
    }

    /// The same for what it is compared with.
    pub fn baseline_from(&mut self, old_last_seen: Option<Timestamp>, measure: Option<Measure>) {
        self.past.release_changed(old_last_seen, measure);
    }

    /// Comes back from a checkpoint at `at`: held time is kept, the time in between earns no credit and is no
    /// gap either, and one fresh Breached is needed before it fires.
    pub fn restored(&mut self, at: Timestamp) {
        self.unproven = true;
        self.wrong_since.get_or_insert(Timestamp::MIN);
        if let Some((last, breached)) = self.known {
            self.known = Some((last.max(at), breached));
        }
        self.unknown_since = None;
        self.past.restored(at);
    }

    /// When it was last seen to be breached, if it was not seen to be well since. Of a breach that another release took
    /// over, nothing is known but when that came.
    #[must_use]
    pub fn last_breached(&self) -> Option<Timestamp> {
        match self.known {
            Some((at, breached)) => breached.then_some(at),
            None => self.inherited.and(Some(self.unknown_since.unwrap_or(self.since))),
        }
    }

    /// Did it become wrong after `instant`? Known only where it was seen to be right before.
    #[must_use]
    pub fn went_wrong_after(&self, instant: Timestamp) -> bool {
        self.right_until.is_some() && self.wrong_since.is_some_and(|since| since > instant)
    }

    /// Firing, and the latest evaluation says so.
    #[must_use]
    pub fn fires(&self) -> bool {
        self.phase == Phase::Firing && self.unknown_since.is_none() && !self.unproven
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Hold = Hold { hold: Duration::from_mins(1), gap_tolerance: Duration::from_secs(20) };
    const FILLING: Blank = Blank::Filling(Duration::from_mins(5));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn clear_then_breached(from: i64, to: i64) -> Verdict {
        let mut verdict = Verdict::new(at(0));
        verdict.take(Says::Clear, at(0), HOLD);
        for second in (from..=to).step_by(10) {
            verdict.take(Says::Breached, at(second), HOLD);
        }
        verdict
    }

    #[test]
    fn fires_when_the_hold_is_complete_and_not_before() {
        assert_eq!(clear_then_breached(10, 60).phase, Phase::Pending);
        let verdict = clear_then_breached(10, 70);
        assert_eq!(verdict.phase, Phase::Firing);
        assert_eq!(verdict.began, Some(at(10)));
        assert!(verdict.fires());
    }

    #[test]
    fn one_clear_resets_at_once() {
        let mut verdict = clear_then_breached(10, 60);
        verdict.take(Says::Clear, at(65), HOLD);
        verdict.take(Says::Breached, at(70), HOLD);
        assert_eq!((verdict.phase, verdict.held, verdict.began), (Phase::Pending, Duration::ZERO, Some(at(70))));
    }

    #[test]
    fn unknown_pauses_and_earns_nothing() {
        let mut verdict = clear_then_breached(10, 60);
        verdict.take(Says::Unknown(Blank::Blind), at(70), HOLD);
        assert_eq!(verdict.held, Duration::from_secs(50));
        verdict.take(Says::Breached, at(80), HOLD);
        assert_eq!((verdict.phase, verdict.held), (Phase::Pending, Duration::from_secs(50)));
        verdict.take(Says::Breached, at(90), HOLD);
        assert_eq!(verdict.phase, Phase::Firing);
    }

    #[test]
    fn a_gap_longer_than_the_tolerance_starts_anew() {
        let mut verdict = clear_then_breached(10, 60);
        verdict.take(Says::Breached, at(81), HOLD);
        assert_eq!((verdict.held, verdict.began), (Duration::ZERO, Some(at(81))));
    }

    #[test]
    fn unknown_never_fires_and_blinds_after_the_tolerance() {
        let mut verdict = clear_then_breached(10, 70);
        verdict.take(Says::Unknown(Blank::Blind), at(80), HOLD);
        assert!(!verdict.fires());
        assert_eq!(verdict.phase, Phase::Firing);
        verdict.take(Says::Unknown(Blank::Blind), at(91), HOLD);
        assert_eq!(verdict.phase, Phase::Blind);
    }

    #[test]
    fn a_window_that_fills_or_too_little_traffic_is_not_blindness() {
        let mut verdict = Verdict::new(at(0));
        verdict.take(Says::Unknown(Blank::Natural), at(500), HOLD);
        assert_eq!(verdict.phase, Phase::Quiet);
    }

    #[test]
    fn a_window_that_is_not_full_in_twice_its_time_is_blindness() {
        let mut verdict = clear_then_breached(10, 5);
        for (second, phase) in [(10, Phase::Quiet), (629, Phase::Quiet), (630, Phase::Quiet), (631, Phase::Blind)] {
            verdict.take(Says::Unknown(FILLING), at(second), HOLD);
            assert_eq!(verdict.phase, phase, "{second}");
        }
        verdict.take(Says::Clear, at(640), HOLD);
        assert_eq!(verdict.phase, Phase::Quiet);
    }

    #[test]
    fn what_burned_before_the_release_is_inherited_until_it_is_clear() {
        let mut verdict = clear_then_breached(10, 40);
        verdict.release_changed(at(45), Some(at(44)), HOLD.gap_tolerance);
        assert_eq!((verdict.phase, verdict.held, verdict.inherited), (Phase::Quiet, Duration::ZERO, Some(at(10))));
        verdict.take(Says::Breached, at(50), HOLD);
        assert_eq!(verdict.inherited, Some(at(10)));
        verdict.take(Says::Clear, at(60), HOLD);
        assert_eq!(verdict.inherited, None);
    }

    #[test]
    fn what_burned_when_nobody_could_watch_any_more_is_inherited_by_the_next_release() {
        for restarts in [false, true] {
            let mut verdict = clear_then_breached(10, 40);
            if restarts {
                verdict.restored(at(45));
            }
            verdict.unwatched(at(50));
            verdict.take(Says::Unknown(Blank::Blind), at(60), HOLD);
            verdict.release_changed(at(75), Some(at(40)), HOLD.gap_tolerance);
            verdict.take(Says::Breached, at(80), HOLD);
            assert_eq!(verdict.inherited, Some(at(10)), "restarts: {restarts}");
        }
    }

    #[test]
    fn a_streak_that_has_begun_before_the_release_is_inherited() {
        for (old_last_seen, inherited) in [(9, None), (10, Some(at(10)))] {
            let mut verdict = clear_then_breached(10, 5);
            for second in [10, 15] {
                verdict.take(Says::Failing, at(second), HOLD);
            }
            assert_eq!((verdict.phase, verdict.right_until), (Phase::Quiet, Some(at(0))));
            verdict.release_changed(at(20), Some(at(old_last_seen)), HOLD.gap_tolerance);
            verdict.take(Says::Breached, at(25), HOLD);
            assert_eq!(verdict.inherited, inherited, "old release last seen at {old_last_seen}");
            verdict.take(Says::Clear, at(30), HOLD);
            verdict.take(Says::Breached, at(35), HOLD);
            assert_eq!(verdict.inherited, None);
        }
    }

    #[test]
    fn what_was_right_long_before_the_release_came_and_not_seen_since_is_not_known_to_have_been_right() {
        for (blank, until, known) in [
            (Blank::Blind, 300, true),
            (Blank::Blind, 301, false),
            (FILLING, 400, false),
            // Traffic stops; looks go on.
            (Blank::Natural, 400, true),
        ] {
            let mut verdict = clear_then_breached(10, 5);
            for second in 1..=until {
                verdict.take(Says::Unknown(blank), at(second), HOLD);
            }
            verdict.release_changed(at(until + 5), Some(at(until)), HOLD.gap_tolerance);
            verdict.take(Says::Breached, at(until + 10), HOLD);
            assert_eq!(verdict.inherited.is_none(), known, "{blank:?} until {until}");
            verdict.take(Says::Clear, at(until + 15), HOLD);
            verdict.take(Says::Breached, at(until + 20), HOLD);
            assert_eq!(verdict.inherited, None);
        }
    }

    #[test]
    fn too_little_traffic_after_blindness_shows_nothing() {
        let mut verdict = clear_then_breached(10, 5);
        for second in 1..=30 {
            verdict.take(Says::Unknown(Blank::Blind), at(second), HOLD);
        }
        verdict.take(Says::Unknown(Blank::Natural), at(31), HOLD);
        verdict.release_changed(at(335), Some(at(332)), HOLD.gap_tolerance);
        assert_eq!(verdict.right_until, None);
    }

    #[test]
    fn what_began_after_the_last_sight_of_the_old_release_began_after_the_change() {
        for (old_last_seen, inherited) in [(9, None), (10, Some(at(10))), (11, Some(at(10)))] {
            let mut verdict = clear_then_breached(10, 20);
            verdict.release_changed(at(25), Some(at(old_last_seen)), HOLD.gap_tolerance);
            assert_eq!(verdict.inherited, inherited, "old release last seen at {old_last_seen}");
        }
    }

    #[test]
    fn a_window_that_fills_again_after_a_restart_keeps_what_was_held() {
        let mut verdict = clear_then_breached(10, 60);
        verdict.restored(at(100));
        for second in (105..150).step_by(10) {
            verdict.take(Says::Unknown(FILLING), at(second), HOLD);
        }
        verdict.take(Says::Breached, at(155), HOLD);
        assert_eq!((verdict.phase, verdict.held), (Phase::Pending, Duration::from_secs(50)));
        verdict.take(Says::Unknown(FILLING), at(160), HOLD);
        verdict.take(Says::Breached, at(176), HOLD);
        assert_eq!(verdict.held, Duration::ZERO, "later a gap is a gap");
    }

    #[test]
    fn blindness_after_a_restart_is_a_gap_even_if_a_window_fills_next() {
        let mut verdict = clear_then_breached(10, 60);
        verdict.restored(at(100));
        for second in (105..=130).step_by(5) {
            verdict.take(Says::Unknown(Blank::Blind), at(second), HOLD);
        }
        for second in (135..=160).step_by(5) {
            verdict.take(Says::Unknown(FILLING), at(second), HOLD);
        }
        verdict.take(Says::Breached, at(165), HOLD);
        assert_eq!((verdict.held, verdict.began), (Duration::ZERO, Some(at(165))));
    }

    #[test]
    fn what_was_lost_to_a_gap_before_a_restart_is_not_found_again() {
        let mut verdict = clear_then_breached(10, 60);
        for second in (65..=90).step_by(5) {
            verdict.take(Says::Unknown(Blank::Blind), at(second), HOLD);
        }
        verdict.restored(at(100));
        verdict.take(Says::Breached, at(105), HOLD);
        assert_eq!((verdict.held, verdict.began), (Duration::ZERO, Some(at(105))));
    }

    #[test]
    fn a_gap_or_another_release_is_no_new_breach_and_a_clear_makes_one() {
        let mut verdict = clear_then_breached(10, 70);
        for second in (75..=150).step_by(5) {
            verdict.take(Says::Unknown(FILLING), at(second), HOLD);
        }
        verdict.take(Says::Breached, at(155), HOLD);
        assert_eq!((verdict.began, verdict.went_wrong_after(at(100))), (Some(at(155)), false));
        assert!(verdict.went_wrong_after(at(9)));
        verdict.release_changed(at(160), Some(at(159)), HOLD.gap_tolerance);
        verdict.take(Says::Breached, at(165), HOLD);
        assert!(!verdict.went_wrong_after(at(100)));
        verdict.take(Says::Clear, at(170), HOLD);
        verdict.take(Says::Breached, at(175), HOLD);
        assert!(verdict.went_wrong_after(at(100)));
    }

    #[test]
    fn after_a_restart_only_a_clear_makes_a_new_breach() {
        let clear = clear_then_breached(10, 5);
        for mut verdict in [clear, Verdict::new(at(0))] {
            if verdict.right_until.is_some() {
                verdict.restored(at(100));
            }
            verdict.take(Says::Breached, at(110), HOLD);
            assert!(!verdict.went_wrong_after(at(50)));
            verdict.take(Says::Clear, at(120), HOLD);
            verdict.take(Says::Breached, at(130), HOLD);
            assert!(verdict.went_wrong_after(at(50)));
        }
    }

    #[test]
    fn what_is_wrong_at_the_first_look_is_a_baseline() {
        let mut verdict = Verdict::new(at(0));
        verdict.take(Says::Breached, at(10), HOLD);
        assert_eq!(verdict.inherited, Some(at(10)));
    }

    #[test]
    fn after_a_restart_downtime_earns_nothing_and_one_fresh_breach_is_needed() {
        let mut verdict = clear_then_breached(10, 60);
        verdict.restored(at(3000));
        assert!(!verdict.fires());
        verdict.take(Says::Breached, at(3010), HOLD);
        assert_eq!((verdict.phase, verdict.held), (Phase::Pending, Duration::from_secs(50)));
        verdict.take(Says::Breached, at(3020), HOLD);
        assert_eq!(verdict.phase, Phase::Firing);
    }
}
