//! From a value to a decision: finding, verdict, release, guard, incident, plan, verification, report. All pure.
//!
//! Reading order: [`rules`] (what the operator asked for), [`trigger`] (value → finding), [`verdict`] (findings over
//! time), [`release`] (what runs, since when, and the way back), [`guard`] (may we act), [`incident`] (the state
//! machine), [`verify`] (did it help), [`report`] (as people read it). What outlives the process is in [`event`].

pub mod event;
pub mod guard;
pub mod incident;
pub mod release;
pub mod report;
pub mod rules;
pub mod trigger;
pub mod verdict;
pub mod verify;
