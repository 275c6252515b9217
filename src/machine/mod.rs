//! One owner of all state: windows, verdicts, releases, incidents and outbox, behind one `handle`. Pure.

pub mod checkpoint;
pub mod input;
pub mod output;
pub mod snapshot;
