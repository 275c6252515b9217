//! The checkpoint's file: a whole frame, then what changed, appended; rewritten when that has become longer.
//!
//! Never synced: a power cut may cost the newest frames, or all of them. Each frame's checksum continues the one
//! before, so that a reader takes what is whole and stops at the first that is not.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::wire::{Frame, Read, VERSION, Written};
use crate::machine::checkpoint::Checkpoint;

const MAGIC: [u8; 8] = *b"BkStWin\0";
const HEADER_BYTES: usize = MAGIC.len() + 4;
/// Half of a SHA-256 is plenty against accidents.
const SUM_BYTES: usize = 16;
/// A frame's length and checksum stand before it.
const FRAME_HEAD_BYTES: usize = 4 + SUM_BYTES;
/// The file is rewritten once the changes are this many times as long as the whole was: each byte is then written about
/// twice, and a start reads at most three times the windows.
const CHANGES_PER_WHOLE_MAX: u64 = 2;
/// Below this, rewriting is not worth a file of its own.
const CHANGES_BYTES_MIN: u64 = 256 * 1024;

type Sum = [u8; SUM_BYTES];

/// The checkpoint was not saved; the next save writes it whole.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot write the checkpoint {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the checkpoint cannot be encoded")]
    Encode(#[from] postcard::Error),
    #[error("a checkpoint of {0} bytes is longer than its format can hold")]
    TooLong(usize),
}

/// Why a checkpoint, or its end, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Lost {
    #[error("it cannot be read: {0}")]
    Io(String),
    #[error("it is not a checkpoint of backstop")]
    NotOurs,
    #[error("it has version {0}, and this backstop knows version {VERSION}")]
    Version(u32),
    #[error("frame {0} is cut short or damaged")]
    Frame(usize),
}

/// The checkpoint of a state directory whose [`super::Journal`] is owned by this process.
///
/// It blocks: call it on a thread where that is allowed. It shares nothing with the journal's thread.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    log: Option<Log>,
}

/// A file that this process wrote whole, and appends to.
#[derive(Debug)]
struct Log {
    file: File,
    frames: Frames,
    whole_bytes: u64,
    changes_bytes: u64,
}

/// The bytes of a checkpoint's file, without the file. [`CheckpointFile`] writes them; so can whoever keeps them
/// elsewhere.
#[derive(Debug, Default)]
pub struct Frames {
    written: Written,
    sum: Sum,
}

impl Frames {
    /// The bytes that a file begins with: its header and a whole frame.
    pub fn begin(checkpoint: &Checkpoint) -> Result<(Frames, Vec<u8>), CheckpointError> {
        let mut frames = Frames::default();
        let mut bytes = Vec::from(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend(frames.next(checkpoint)?);
        Ok((frames, bytes))
    }

    /// The bytes to append: what changed since the frame before.
    pub fn next(&mut self, checkpoint: &Checkpoint) -> Result<Vec<u8>, CheckpointError> {
        encode(&self.written.frame(checkpoint), &mut self.sum)
    }

    /// The newest checkpoint of which every byte is there; None when there is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Checkpoint> {
        decode(bytes).0
    }
}

impl CheckpointFile {
    #[must_use]
    pub fn open(state_dir: &Path) -> CheckpointFile {
        CheckpointFile { path: state_dir.join("windows"), log: None }
    }

    /// The newest checkpoint that is whole. None when there is none, or none that can be used: why is logged, and the
    /// daemon starts with empty windows.
    #[must_use]
    pub fn load(&self) -> Option<Checkpoint> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => return self.lost(None, &Lost::Io(error.to_string())),
        };
        match decode(&bytes) {
            (checkpoint, None) => checkpoint,
            (checkpoint, Some(lost)) => self.lost(checkpoint, &lost),
        }
    }

    fn lost(&self, rest: Option<Checkpoint>, lost: &Lost) -> Option<Checkpoint> {
        let path = self.path.display();
        if let Some(older) = &rest {
            tracing::warn!(%path, %lost, "an older checkpoint of windows is used: {}", older.now.wall);
        } else {
            tracing::warn!(%path, %lost, "the checkpoint of windows is not used; windows start empty");
        }
        rest
    }

    /// Writes what changed since the last save, or everything into another file that then takes this one's place.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        // Taken out, so that after any error the next save is a whole one.
        let log = match self.log.take() {
            Some(log) if log.changes_bytes <= CHANGES_BYTES_MIN.max(CHANGES_PER_WHOLE_MAX * log.whole_bytes) => {
                self.append(log, checkpoint)?
            }
            Some(_) | None => self.rewrite(checkpoint)?,
        };
        self.log = Some(log);
        Ok(())
    }

    fn append(&self, mut log: Log, checkpoint: &Checkpoint) -> Result<Log, CheckpointError> {
        let bytes = log.frames.next(checkpoint)?;
        log.file.write_all(&bytes).map_err(|source| self.io(source))?;
        log.changes_bytes += bytes.len() as u64;
        Ok(log)
    }

    fn rewrite(&self, checkpoint: &Checkpoint) -> Result<Log, CheckpointError> {
        let (frames, bytes) = Frames::begin(checkpoint)?;
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .map_err(|source| self.io(source))?;
        file.write_all(&bytes).map_err(|source| self.io(source))?;
        std::fs::rename(&beside, &self.path).map_err(|source| self.io(source))?;
        Ok(Log { file, frames, whole_bytes: bytes.len() as u64, changes_bytes: 0 })
    }

    fn io(&self, source: std::io::Error) -> CheckpointError {
        CheckpointError::Io { path: self.path.clone(), source }
    }
}

fn sum_of(before: &Sum, payload: &[u8]) -> Sum {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(payload);
    let whole: [u8; 32] = hash.finalize().into();
    let mut sum = Sum::default();
    sum.copy_from_slice(&whole[..SUM_BYTES]);
    sum
}

fn encode(frame: &Frame, sum: &mut Sum) -> Result<Vec<u8>, CheckpointError> {
    let payload = postcard::to_stdvec(frame)?;
    let length = u32::try_from(payload.len()).map_err(|_| CheckpointError::TooLong(payload.len()))?;
    *sum = sum_of(sum, &payload);
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(sum);
    bytes.extend(payload);
    Ok(bytes)
}

/// What can be used, and why the rest cannot.
fn decode(bytes: &[u8]) -> (Option<Checkpoint>, Option<Lost>) {
    let Some((header, mut rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return (None, Some(Lost::NotOurs));
    };
    let Some(version) = header.strip_prefix(&MAGIC).and_then(|version| version.try_into().ok()).map(u32::from_le_bytes)
    else {
        return (None, Some(Lost::NotOurs));
    };
    if version != VERSION {
        return (None, Some(Lost::Version(version)));
    }
    let mut read = Read::default();
    let mut sum = Sum::default();
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let Some((frame, behind)) = next_frame(rest, &mut sum) else {
            return (read.finish(), Some(Lost::Frame(number)));
        };
        if read.apply(frame).is_err() {
            return (None, Some(Lost::Frame(number)));
        }
        rest = behind;
    }
    let lost = (number == 0).then_some(Lost::Frame(1));
    (read.finish(), lost)
}

fn next_frame<'a>(bytes: &'a [u8], sum: &mut Sum) -> Option<(Frame, &'a [u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (claimed, rest) = rest.split_first_chunk::<SUM_BYTES>()?;
    let (payload, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let real = sum_of(sum, payload);
    if real != *claimed {
        return None;
    }
    *sum = real;
    Some((postcard::from_bytes(payload).ok()?, rest))
}
