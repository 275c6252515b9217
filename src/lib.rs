//! backstop watches a service; when a release breaks it, it rolls the release back, proves that it recovered, and tells
//! everyone who must know.
//!
//! # The way of a datum
//!
//! ```text
//!  observe/     the world → Observation                                  I/O; knows nothing of triggers
//!     │  exposition/ turns a scrape body into values of the series that somebody asked for
//!     ▼
//!  engine/      two lanes in → Machine::handle(now, Input) → Outputs     I/O; no decisions
//!     ▼
//!  machine/     one owner of all state                                   pure
//!     │  promql/   samples → windows → values with evidence
//!     │  decide/   value → finding → verdict → guard → incident → effects
//!     ▼
//!  journal/     entries, durable before the effects that depend on them  I/O
//!     ▼
//!  act/         effect → the world → StepFinished ──► engine             I/O
//!  notify/      one queue per receiver                                   I/O
//! ```
//!
//! # What always holds
//!
//! - Only [`platform`] reads a clock. Everything else is handed [`time::Now`]; the monotonic timeline orders decisions,
//!   the wall is for people.
//! - The pure rooms ([`exposition`], [`promql`], [`decide`], [`machine`], [`time`]) do no I/O and know of no runtime;
//!   `tests/tidy.rs` checks it on the parsed source.
//! - A step leaves the machine only after the entry that says so is durable ([`machine::output::Output::RunStep`]).
//! - Unknown is a value. Nothing turns a missing sample into a zero but an operator's explicit `on_unknown`.
//! - What an incident does is derived from its recorded events by one function, live and after a crash
//!   ([`decide::incident`]).
//!
//! # Rooms, in reading order
//!
//! [`time`], [`exposition`], [`promql`], [`decide`], [`machine`] are the pure core. [`engine`] and [`supervise`] are the
//! shell around it; [`app`] puts everything together. [`config`] compiles the operator's file. [`observe`],
//! [`journal`], [`act`], [`notify`] and [`serve`] are the ways to the world, [`platform`] what the operating system
//! gives, [`cli`] the command line. [`link`] is what [`notify`] signs and [`serve`] believes.

pub mod act;
pub mod app;
pub mod cli;
pub mod config;
pub mod decide;
pub mod engine;
pub mod exposition;
pub mod journal;
pub mod link;
pub mod machine;
pub mod notify;
pub mod observe;
pub mod platform;
pub mod promql;
pub mod serve;
pub mod supervise;
pub mod time;
