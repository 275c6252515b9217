//! Tells whether one address answers for several processes (a load balancer, a shared listener).
//!
//! Counters of two processes behind one address look like one counter that is reset all the time, and each false reset
//! counts as errors and requests that nobody made. So the scrape fails instead. Two signs are looked for:
//!
//! - `process_start_time_seconds` goes back to a value that it had before another one. A restart only ever brings a
//!   value that was not there before.
//! - Where no such metric says that the process was restarted: at least two counters went down and, one scrape later,
//!   up again to at least where they had been, while none grew steadily; and that twice within ten scrapes. A gauge
//!   that is wrongly named `…_total` does the first, but not beside a counter that grows.
//!
//! Once seen, ten scrapes in a row must be free of the signs before one counts again.

use std::collections::VecDeque;

/// The kernel derives start times from a boot time that it rounds to seconds, so that one process may show two.
const SAME_START_SECONDS: f64 = 1.5;
/// Earlier start times that are remembered: more replicas than this behind one address still repeat within them.
const STARTS_MAX: usize = 16;
const SCRAPES_SUSPECT: u32 = 10;
const JUMPS_WITHIN: u16 = (1 << 10) - 1;

/// What one scrape shows of the process behind it.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Signs {
    pub start: Option<f64>,
    /// Counters that were lower one scrape ago than two scrapes ago, and now are at least where they were.
    pub jumped: usize,
    /// Counters that grew from each of the last three scrapes to the next.
    pub grew: usize,
}

#[derive(Debug, Default)]
pub struct Processes {
    /// Distinct start times, the last seen one last.
    starts: VecDeque<f64>,
    /// For how many scrapes in a row the start time, or its absence, has not changed.
    steady: u32,
    /// One bit per scrape, the latest lowest: did counters jump.
    jumps: u16,
    suspect_for: u32,
    why: &'static str,
}

impl Processes {
    /// Why this scrape must not count, if so: one sentence.
    pub fn judge(&mut self, signs: Signs) -> Option<String> {
        let alternates = signs.start.is_some_and(|start| self.note_start(start));
        // The counters are compared over three scrapes, all of which must claim to be of one process.
        let jumped = self.steady >= 2 && signs.jumped >= 2 && signs.grew == 0;
        self.steady = self.steady.saturating_add(1);
        self.jumps = (self.jumps << 1 | u16::from(jumped)) & JUMPS_WITHIN;
        if alternates {
            self.suspect("process_start_time_seconds went back to an earlier process");
        } else if jumped && self.jumps.count_ones() >= 2 {
            self.suspect("counters jump back and forth");
        }
        if self.suspect_for == 0 {
            return None;
        }
        self.suspect_for -= 1;
        Some(format!("several processes behind one address: {}; give each process its own target", self.why))
    }

    fn suspect(&mut self, why: &'static str) {
        self.suspect_for = SCRAPES_SUSPECT;
        self.why = why;
    }

    /// Whether this start time was there before another one.
    fn note_start(&mut self, start: f64) -> bool {
        let known = self.starts.iter().position(|seen| (seen - start).abs() <= SAME_START_SECONDS);
        let is_last = known.is_some_and(|at| at + 1 == self.starts.len());
        if !is_last {
            self.steady = 0;
        }
        if let Some(at) = known {
            self.starts.remove(at);
        } else if self.starts.len() == STARTS_MAX {
            self.starts.pop_front();
        }
        self.starts.push_back(start);
        known.is_some() && !is_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(seconds: f64) -> Signs {
        Signs { start: Some(seconds), ..Signs::default() }
    }

    /// Which of these scrapes fail.
    fn failing(signs: impl IntoIterator<Item = Signs>) -> Vec<bool> {
        let mut processes = Processes::default();
        signs.into_iter().map(|signs| processes.judge(signs).is_some()).collect()
    }

    #[test]
    fn restarts_are_not_several_processes() {
        assert!(failing([100.0, 100.0, 160.0, 170.0, 170.0, 300.0].map(start)).iter().all(|failed| !failed));
    }

    #[test]
    fn a_start_time_that_is_rounded_differently_is_the_same_process() {
        assert!(failing([100.0, 101.0, 100.0, 101.0, 100.0].map(start)).iter().all(|failed| !failed));
    }

    #[test]
    fn an_earlier_process_that_is_back_fails_the_scrape_and_those_that_follow() {
        let mut scrapes = vec![start(100.0), start(200.0), start(100.0)];
        scrapes.extend([start(100.0); 12]);
        let failed = failing(scrapes);
        assert_eq!(failed[..2], [false, false]);
        assert!(failed[2..12].iter().all(|failed| *failed));
        assert_eq!(failed[12..], [false; 3], "ten scrapes of one process in a row count again");
    }

    #[test]
    fn counters_that_jump_twice_are_several_processes() {
        let jump = Signs { start: None, jumped: 2, grew: 0 };
        let calm = Signs { start: None, jumped: 0, grew: 1 };
        let failed = failing([calm, calm, calm, jump, calm, jump, calm]);
        assert_eq!(failed, [false, false, false, false, false, true, true]);
        let apart = [[calm; 3].as_slice(), &[jump], &[calm; 10], &[jump]].concat();
        assert!(failing(apart).iter().all(|failed| !failed));
    }

    #[test]
    fn a_gauge_that_is_named_like_a_counter_is_not_enough() {
        let alone = Signs { start: None, jumped: 1, grew: 0 };
        let beside_a_counter = Signs { start: None, jumped: 3, grew: 1 };
        assert!(failing([alone; 8]).iter().all(|failed| !failed));
        assert!(failing([beside_a_counter; 8]).iter().all(|failed| !failed));
    }

    #[test]
    fn counters_of_a_process_that_restarts_again_and_again_may_jump() {
        let scrapes = (0..12).map(|n| Signs { start: Some(f64::from(n / 2) * 60.0), jumped: 5, grew: 0 });
        assert!(failing(scrapes).iter().all(|failed| !failed));
    }
}
