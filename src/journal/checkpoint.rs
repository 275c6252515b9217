//! The checkpoint's file: a whole frame, then what changed, appended; rewritten when that has become longer.
//!
//! Never synced: a power cut may cost the newest frames, or all of them. Each frame's checksum continues the one
//! before, so that a reader takes what is whole and stops at the first that is not.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::wire::{Read, VERSION, Written};
use crate::machine::checkpoint::{Checkpoint, View};

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

/// So many samples of new series are encoded at once, some hundred kilobytes: whoever encodes has other things to
/// do, and a whole file at once could be as large as all windows.
const SAMPLES_AT_ONCE: usize = 1 << 14;

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

/// The checkpoint of a state directory whose [`super::Journal`] is owned by this process. It shares nothing with the
/// journal's thread.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    log: Option<Log>,
}

/// A file that this process writes whole, and appends to.
#[derive(Debug, Default)]
struct Log {
    /// None before its first bytes.
    file: Option<File>,
    frames: Frames,
    /// It has everything, and has taken the place of the one before.
    in_place: bool,
    whole_bytes: u64,
    changes_bytes: u64,
}

/// What is to be written next.
#[derive(Debug)]
pub struct Unwritten {
    log: Log,
    bytes: Vec<u8>,
    is_all: bool,
}

/// The bytes of a checkpoint's file, without the file. [`CheckpointFile`] writes them; so can whoever keeps them
/// elsewhere.
#[derive(Debug, Default)]
pub struct Frames {
    written: Written,
    sum: Sum,
    /// Of the newest frame; the next one is about as long.
    length: usize,
}

impl Frames {
    /// The bytes that a file begins with: its header and a whole frame.
    pub fn begin(view: &View<'_>) -> Result<(Frames, Vec<u8>), CheckpointError> {
        let mut frames = Frames::default();
        let mut bytes = header();
        frames.append(view, usize::MAX, &mut bytes)?;
        Ok((frames, bytes))
    }

    /// The bytes to append: what changed since the frame before.
    pub fn next(&mut self, view: &View<'_>) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = Vec::new();
        self.append(view, usize::MAX, &mut bytes)?;
        Ok(bytes)
    }

    /// The newest checkpoint of which every byte is there; None when there is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Checkpoint> {
        decode(bytes).0
    }

    /// `room`: see [`Written::frame`]. Returns whether all of `view` is there.
    fn append(&mut self, view: &View<'_>, room: usize, bytes: &mut Vec<u8>) -> Result<bool, CheckpointError> {
        let head = bytes.len();
        bytes.reserve_exact(self.length + self.length / 8 + FRAME_HEAD_BYTES);
        bytes.resize(head + FRAME_HEAD_BYTES, 0);
        let is_all = self.written.frame(view, room, bytes)?;
        let (head, payload) = bytes[head..].split_at_mut(FRAME_HEAD_BYTES);
        self.length = payload.len();
        let length = u32::try_from(payload.len()).map_err(|_| CheckpointError::TooLong(payload.len()))?;
        self.sum = sum_of(&self.sum, payload);
        let (of_length, of_sum) = head.split_at_mut(FRAME_HEAD_BYTES - SUM_BYTES);
        of_length.copy_from_slice(&length.to_le_bytes());
        of_sum.copy_from_slice(&self.sum);
        Ok(is_all)
    }
}

impl CheckpointFile {
    #[must_use]
    pub fn open(state_dir: &Path) -> CheckpointFile {
        CheckpointFile { path: state_dir.join("windows"), log: None }
    }

    /// The newest checkpoint that is whole. None when there is none, or none that can be used: why is logged, and the
    /// daemon starts with empty windows. Blocks.
    #[must_use]
    pub fn load(&self) -> Option<Checkpoint> {
        let read = match File::open(&self.path) {
            Ok(file) => decode(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => (None, Some(Lost::Io(error.to_string()))),
        };
        match read {
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

    /// What changed since the last save; or the next part of everything, for another file that takes this one's place
    /// once it has all. Until this is [written](CheckpointFile::write), or if it never is, the next save begins a new
    /// file. Does not block, and costs as much as is new.
    pub fn encode(&mut self, view: &View<'_>) -> Result<Unwritten, CheckpointError> {
        let grows = |log: &Log| log.changes_bytes <= CHANGES_BYTES_MIN.max(CHANGES_PER_WHOLE_MAX * log.whole_bytes);
        let mut log = self.log.take().filter(grows).unwrap_or_default();
        let mut bytes = if log.file.is_none() { header() } else { Vec::new() };
        let room = if log.in_place { usize::MAX } else { SAMPLES_AT_ONCE };
        let is_all = log.frames.append(view, room, &mut bytes)?;
        Ok(Unwritten { log, bytes, is_all })
    }

    /// Returns whether everything is saved; if not, there should be another save soon. Blocks.
    pub fn write(&mut self, unwritten: Unwritten) -> Result<bool, CheckpointError> {
        let Unwritten { mut log, bytes, is_all } = unwritten;
        let io = |source| CheckpointError::Io { path: self.path.clone(), source };
        let beside = self.path.with_extension("new");
        let mut file = match log.file {
            Some(file) => file,
            None => OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(io)?,
        };
        file.write_all(&bytes).map_err(io)?;
        log.file = Some(file);
        if log.in_place {
            log.changes_bytes += bytes.len() as u64;
        } else {
            log.whole_bytes += bytes.len() as u64;
            if is_all {
                std::fs::rename(&beside, &self.path).map_err(io)?;
                log.in_place = true;
            }
        }
        self.log = Some(log);
        Ok(is_all)
    }
}

fn header() -> Vec<u8> {
    let mut bytes = Vec::from(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes
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

/// What can be used, and why the rest cannot. Never more than one frame is held beside what it led to.
fn decode(mut from: impl std::io::Read) -> (Option<Checkpoint>, Option<Lost>) {
    let mut header = [0; HEADER_BYTES];
    match from.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return (None, Some(Lost::NotOurs)),
        Err(error) => return (None, Some(Lost::Io(error.to_string()))),
    }
    let Some(version) = header.strip_prefix(&MAGIC).and_then(|version| version.try_into().ok()).map(u32::from_le_bytes)
    else {
        return (None, Some(Lost::NotOurs));
    };
    if version != VERSION {
        return (None, Some(Lost::Version(version)));
    }
    let mut read = Read::default();
    let (mut sum, mut payload) = (Sum::default(), Vec::new());
    let mut number = 0;
    loop {
        number += 1;
        match next_frame(&mut from, &mut sum, &mut payload) {
            Ok(Next::Frame) => {}
            Ok(Next::End) if number > 1 => return (read.finish(), None),
            Ok(Next::End | Next::Damaged) => return (read.finish(), Some(Lost::Frame(number))),
            Err(error) => return (read.finish(), Some(Lost::Io(error.to_string()))),
        }
        if read.apply(&payload).is_err() {
            return (None, Some(Lost::Frame(number)));
        }
    }
}

enum Next {
    Frame,
    End,
    Damaged,
}

fn next_frame(from: &mut impl std::io::Read, sum: &mut Sum, payload: &mut Vec<u8>) -> std::io::Result<Next> {
    payload.clear();
    let read = from.by_ref().take(FRAME_HEAD_BYTES as u64).read_to_end(payload)?;
    if read == 0 {
        return Ok(Next::End);
    }
    let Some((length, claimed)) = payload.split_first_chunk::<4>() else { return Ok(Next::Damaged) };
    let Ok(claimed) = Sum::try_from(claimed) else { return Ok(Next::Damaged) };
    let length = u64::from(u32::from_le_bytes(*length));
    payload.clear();
    // A damaged length claims what it likes: only what is there takes memory.
    from.by_ref().take(length).read_to_end(payload)?;
    let found = sum_of(sum, payload);
    if payload.len() as u64 != length || found != claimed {
        return Ok(Next::Damaged);
    }
    *sum = found;
    Ok(Next::Frame)
}
