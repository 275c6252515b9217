//! What daemon and helper say to each other: one JSON value per line. Both are the same binary.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CommandOutcome;

/// Holds secrets: it can neither be printed nor logged.
#[derive(Serialize, Deserialize)]
pub struct Order {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub directory: Option<PathBuf>,
    pub timeout: Duration,
    pub grace: Duration,
    pub output_bytes_max: usize,
}

#[derive(Serialize, Deserialize)]
pub enum Report {
    Started { pid: u32, process_start: String },
    Ended(End),
}

#[derive(Serialize, Deserialize)]
pub struct End {
    pub outcome: CommandOutcome,
    pub output: String,
    pub truncated: bool,
    pub left_behind: Vec<u32>,
}
