//! The shell around the machine: two lanes in, outputs out; no decisions.

pub mod handle;
