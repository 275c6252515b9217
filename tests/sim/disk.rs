//! The disk: entries in the journal's own form, and the checkpoint's bytes, which nobody syncs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use backstop::decide::event::{Record, Seq};
use backstop::decide::rules::Rules;
use backstop::journal::Frames;
use backstop::journal::form::{self, Encoded};
use backstop::machine::checkpoint::{Checkpoint, View};
use backstop::time::{BootId, Timestamp};

use super::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Writes,
    /// Appends neither succeed nor fail.
    Stalls,
    /// Appends fail; they are tried again when it is back.
    Fails,
}

/// The entries of one turn, and when they were appended.
#[derive(Debug)]
pub struct Turn {
    pub at: i64,
    /// What was in force then.
    pub rules: Arc<Rules>,
    pub records: Vec<Record>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    seq: Seq,
    at: Timestamp,
    wall: Timestamp,
    boot: BootId,
    encoded: Encoded,
}

#[derive(Debug)]
pub struct Disk {
    pub state: State,
    rows: Vec<Row>,
    pub pending: VecDeque<Turn>,
    pub appended: Seq,
    /// The checkpoint's file, and where its frames end.
    file: Vec<u8>,
    frames: Option<Frames>,
    /// When each checkpoint was made, by backstop's timeline and by the world's.
    saved: BTreeMap<Timestamp, i64>,
}

impl Disk {
    pub fn new() -> Disk {
        Disk {
            state: State::Writes,
            rows: Vec::new(),
            pending: VecDeque::new(),
            appended: Seq(0),
            file: Vec::new(),
            frames: None,
            saved: BTreeMap::new(),
        }
    }

    /// What was handed over is kept in the form in which it would be written, and read back from it.
    pub fn append(&mut self, records: Vec<Record>, at: i64, rules: &Arc<Rules>) -> Result<(), String> {
        let mut rows = Vec::with_capacity(records.len());
        for record in &records {
            if record.seq.0 != self.appended.0 + 1 {
                return Err(format!("promise 3: entry {} follows {}", record.seq.0, self.appended.0));
            }
            self.appended = record.seq;
            let encoded = form::encode(&record.entry).map_err(|error| format!("journal: {error}"))?;
            let entry = form::decode(encoded.kind, encoded.version, &encoded.body)
                .map_err(|error| format!("journal: an entry cannot be read back: {error}: {}", encoded.body))?;
            if entry != record.entry {
                return Err(format!("journal: written {:?}, read {entry:?}", record.entry));
            }
            let Record { seq, at, wall, ref boot, .. } = *record;
            rows.push(Row { seq, at, wall, boot: boot.clone(), encoded });
        }
        self.pending.push_back(Turn { at, rules: Arc::clone(rules), records, rows });
        Ok(())
    }

    /// The oldest turn becomes durable.
    pub fn write(&mut self) -> Option<Turn> {
        let mut turn = self.pending.pop_front()?;
        self.rows.append(&mut turn.rows);
        Some(turn)
    }

    pub fn lose_pending(&mut self) {
        self.pending.clear();
        self.appended = self.last();
    }

    pub fn last(&self) -> Seq {
        self.rows.last().map(|row| row.seq).unwrap_or_default()
    }

    /// When the newest entry was made, on the machine's timeline.
    pub fn newest(&self) -> Option<Timestamp> {
        self.rows.last().map(|row| row.at)
    }

    /// Reads the journal from its written form, as a start does.
    pub fn read(&self) -> Result<Vec<Record>, String> {
        let read = |row: &Row| {
            let Encoded { kind, version, body } = &row.encoded;
            let entry = form::decode(kind, *version, body).map_err(|error| format!("journal: {error}"))?;
            Ok(Record { seq: row.seq, at: row.at, wall: row.wall, boot: row.boot.clone(), entry })
        };
        self.rows.iter().map(read).collect()
    }

    pub fn save(&mut self, checkpoint: &View<'_>, t: i64) -> Result<(), String> {
        self.saved.insert(checkpoint.now.monotonic, t);
        let told = |error: backstop::journal::CheckpointError| format!("checkpoint: {error}");
        match &mut self.frames {
            Some(frames) if self.file.len() < 64 * 1024 => {
                let more = frames.next(checkpoint).map_err(told)?;
                self.file.extend(more);
            }
            Some(_) | None => {
                let (frames, bytes) = Frames::begin(checkpoint).map_err(told)?;
                self.file = bytes;
                self.frames = Some(frames);
            }
        }
        Ok(())
    }

    /// A power cut: of the file that nobody synced any part may be left.
    pub fn tear_checkpoint(&mut self, rng: &mut Rng) {
        let kept = rng.index(self.file.len() + 1);
        self.file.truncate(kept);
    }

    pub fn lose_checkpoint(&mut self) {
        self.file.clear();
    }

    /// The world's time of a checkpoint that was saved.
    pub fn saved_at(&self, checkpoint: &Checkpoint) -> Option<i64> {
        self.saved.get(&checkpoint.now.monotonic).copied()
    }

    /// The process that wrote is gone; the next one writes whole.
    pub fn checkpoint(&mut self) -> Option<Checkpoint> {
        self.frames = None;
        Frames::read(&self.file)
    }
}
