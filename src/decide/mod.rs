//! From a value to a decision: finding, verdict, release, guard, incident, plan, verification, report. All pure.
//!
//! Reading order: [`rules`] (what the operator asked for), [`trigger`] (value → finding), [`verdict`] (findings over
//! time), [`regression`] (how it was before the release), [`worsened`] (is it clearly worse than before the release), [`release`] (what runs, since when, and the way
//! back), [`guard`] (may we act), [`freeze`] (not now, by the calendar), [`incident`] (the state machine), [`verify`] (did it help), [`report`] (as people read it),
//! [`audit`] (who did what). What outlives the process is in [`event`].

pub mod audit;
pub mod event;
pub mod freeze;
pub mod guard;
pub mod incident;
pub mod regression;
pub mod release;
pub mod report;
pub mod rules;
pub mod trigger;
pub mod verdict;
pub mod verify;
pub mod worsened;
