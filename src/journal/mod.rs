//! Entries, durable before the effects that depend on them; and checkpoints of windows.
//!
//! [`Journal::open`] takes the state directory for as long as the journal lives and gives back everything that was
//! ever written. [`Journal::append`] hands the entries of one turn of the machine to a thread of its own and never
//! waits; [`JournalEvent::Durable`] says when they are on the disk. What is only observed goes to a [`CheckpointFile`],
//! which shares neither lock, nor thread, nor file with the journal.
//!
//! In the state directory: `journal.db` (SQLite; open it with `sqlite3`, read only), `lock` (who owns it), `reserve`
//! (space kept for the next incident), `head` (how far the journal goes), `windows` (the checkpoint).

mod checkpoint;
pub mod form;
mod mark;
mod owner;
mod reserve;
mod store;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::decide::event::{IncidentId, Record, Seq};

pub use checkpoint::{CheckpointError, CheckpointFile, Frames, Unwritten};

/// Entries that wait to be written, at most. In good times a handful wait. While the disk fails, an outage that
/// touches 1,000 services at once makes a few thousand; more than this is not an outage that memory should carry.
const RECORDS_WAITING_MAX: usize = 16_384;
/// Answers that the engine has not taken yet. It takes them before anything else, so that a few turns are enough;
/// when it does not, the thread waits and turns queue up behind it.
const EVENTS_MAX: usize = 1024;

/// Why a state directory cannot be used. Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the state directory {path} is not a directory: move that file away, or set daemon.state_dir")]
    NotADirectory { path: PathBuf },
    #[error("no permission for {path}: it must belong to the user that backstop runs as, mode 0700")]
    NoPermission { path: PathBuf },
    #[error("{path} is on a read-only file system: backstop must write its journal there; set daemon.state_dir")]
    ReadOnly { path: PathBuf },
    #[error("the disk of {path} is full, and no space is reserved there any more: free some, 1 MiB is enough to start")]
    Full { path: PathBuf },
    #[error("cannot {operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "another backstop{} owns {state_dir}: stop it first, or give this one a state_dir of its own",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Owned { pid: Option<u32>, state_dir: PathBuf },
    #[error("there is no journal at {path}: no backstop has run with this state directory")]
    Missing { path: PathBuf },
    #[error("{path} is a database of another program: move it away, or set daemon.state_dir")]
    NotAJournal { path: PathBuf },
    #[error(
        "{path} was written by a newer backstop (schema {found}, this one knows {known}): \
         install that version again, or move the file away and lose its memory of incidents"
    )]
    TooNew { path: PathBuf, found: i64, known: i64 },
    /// Nothing behind `seq` can be believed, and nothing was changed.
    #[error(
        "{path} is damaged at entry {}: {why}. Put back a copy from before, or move the file away (keep it, it tells \
         what happened) and start with an empty journal: backstop then knows nothing of earlier incidents and releases",
        seq.0
    )]
    Damaged { path: PathBuf, seq: Seq, why: String },
    #[error("cannot {operation} the journal {path}")]
    Sqlite {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
}

/// Entries were not taken; they come back, so that nothing is lost by asking.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk has failed for so long that no more entries fit into memory. Memory and journal part from here on:
    /// the daemon should end, and go on from the journal once the disk works.
    #[error("{RECORDS_WAITING_MAX} entries wait for the disk, the limit")]
    Full(Vec<Record>),
    /// A mistake of the caller: sequences have no holes.
    #[error("the next entry of the journal is {}, not {}", expected.0, got.0)]
    OutOfOrder { expected: Seq, got: Seq, records: Vec<Record> },
    /// The journal's thread ended; it should never.
    #[error("the journal's thread has ended")]
    Stopped(Vec<Record>),
}

/// What the journal tells the engine, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEvent {
    /// Every entry up to this one is on the disk.
    Durable(Seq),
    /// Entries could not be written; they are kept and tried again. Told once until `Back`.
    Failed(String),
    /// What had been kept is durable now.
    Back,
}

/// An entry that this version does not know. Never guessed at: its incident needs a human.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub seq: Seq,
    /// As the journal has it, such as `incident.opened`.
    pub kind: String,
    /// One sentence.
    pub why: String,
    /// The incident it belongs to, where at least that can be read.
    pub incident: Option<IncidentId>,
}

/// A piece of the journal, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub records: Vec<Record>,
    pub unreadable: Vec<Unreadable>,
    /// Older entries are before this one.
    pub older: Option<Seq>,
}

/// What the journal holds, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub records: Vec<Record>,
    pub unreadable: Vec<Unreadable>,
    /// The newest entry, readable or not; 0 when there is none.
    pub last: Seq,
}

/// A journal that is owned now.
#[derive(Debug)]
pub struct Opened {
    pub journal: Journal,
    pub events: mpsc::Receiver<JournalEvent>,
    pub records: Vec<Record>,
    pub unreadable: Vec<Unreadable>,
    /// The newest entry, readable or not; the next one to append follows it.
    pub last: Seq,
}

/// The writing end. Dropping it lets the thread finish what it has by itself; [`Journal::close`] waits for that.
#[derive(Debug)]
pub struct Journal {
    turns: std::sync::mpsc::Sender<Vec<Record>>,
    waiting: Arc<AtomicUsize>,
    next: u64,
    thread: JoinHandle<usize>,
}

/// The journal closed while the disk failed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error("{0} entries could not be written before the end")]
    Unwritten(usize),
    #[error("the journal's thread panicked")]
    Panicked,
}

impl Journal {
    /// Takes the state directory (made with mode 0700 if it is missing), reads and checks every entry.
    ///
    /// Blocking. Nothing is repaired: damage is an error that names the entry.
    pub fn open(state_dir: &Path) -> Result<Opened, OpenError> {
        let lock = owner::take(state_dir)?;
        let mut mark = mark::Mark::open(state_dir);
        let noted = mark.read();
        let (store, history) = match store::Store::open(state_dir, noted) {
            // To be up is the first use of what was kept for an incident.
            Err(OpenError::Full { .. }) if reserve::give_away(state_dir) => store::Store::open(state_dir, noted)?,
            other => other?,
        };
        // Also of a new journal in place of one that was moved away: what was noted of that one must not judge this one.
        mark.note(store.head());
        let reserve = reserve::Reserve::open(state_dir)?;
        let (turns, turns_in) = std::sync::mpsc::channel();
        let (events_out, events) = mpsc::channel(EVENTS_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = writer::Writer::new(store, mark, reserve, turns_in, events_out, Arc::clone(&waiting), lock);
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run()).map_err(|source| {
                OpenError::Io { operation: "start the thread that writes to", path: state_dir.to_owned(), source }
            })?;
        let History { records, unreadable, last } = history;
        let journal = Journal { turns, waiting, next: last.0 + 1, thread };
        Ok(Opened { journal, events, records, unreadable, last })
    }

    /// Hands over the entries of one turn: they become durable together or not at all. Never waits.
    pub fn append(&mut self, records: Vec<Record>) -> Result<(), AppendError> {
        let count = records.len();
        let expected = (self.next..).map(Seq);
        if let Some((expected, got)) =
            expected.zip(records.iter().map(|record| record.seq)).find(|(want, have)| want != have)
        {
            return Err(AppendError::OutOfOrder { expected, got, records });
        }
        if count == 0 {
            return Ok(());
        }
        // Only this call adds, so that the sum cannot pass the limit between the two lines.
        if self.waiting.load(Ordering::Acquire) + count > RECORDS_WAITING_MAX {
            return Err(AppendError::Full(records));
        }
        self.waiting.fetch_add(count, Ordering::AcqRel);
        self.turns.send(records).map_err(|refused| AppendError::Stopped(refused.0))?;
        self.next += count as u64;
        Ok(())
    }

    /// Entries that are not durable yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Writes what is left (one last try if the disk fails), gives the state directory back, and says what was lost.
    ///
    /// Blocking; the receiver of the events must be drained or dropped.
    pub fn close(self) -> Result<(), CloseError> {
        drop(self.turns);
        match self.thread.join() {
            Ok(0) => Ok(()),
            Ok(unwritten) => Err(CloseError::Unwritten(unwritten)),
            Err(_) => Err(CloseError::Panicked),
        }
    }
}

/// Reads a journal without owning it, for the command line while the daemon is down (it works while it is up, too).
pub fn read_only(state_dir: &Path) -> Result<History, OpenError> {
    store::read_only(state_dir)
}

/// Of the entries before `before` (None: of all) the newest `most`, the newest first. What it costs does not grow with
/// the journal; what is returned is checked against its neighbours, and not up to the first entry.
pub fn read_back(state_dir: &Path, before: Option<Seq>, most: usize) -> Result<Page, OpenError> {
    store::read_back(state_dir, before, most)
}

impl OpenError {
    /// Sorts the errors that an operator can do something about from the rest.
    fn io(operation: &'static str, path: &Path, source: std::io::Error) -> OpenError {
        use std::io::ErrorKind;
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::NotADirectory => OpenError::NotADirectory { path },
            ErrorKind::PermissionDenied => OpenError::NoPermission { path },
            ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path },
            _ => OpenError::Io { operation, path, source },
        }
    }
}
