//! How far the journal was durable, in a file of its own: what lets a damaged end be told from one that was never
//! written.
//!
//! SQLite stops reading its log at the first frame that does not fit its checksum, because that is what a power cut
//! leaves. Where a bit has flipped, or an old copy was put back, the entries behind it are gone as silently, and a step
//! that ran would look as if it had not. So the newest entry is noted here after each sync of the journal. The note is
//! not synced itself: it may lag behind the journal, and never runs ahead of it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::form::Checksum;

pub(super) const FILE: &str = "head";

/// 20 digits and twice 16 hexadecimal ones, with a blank between them, and the end of the line.
const LINE_BYTES: usize = 20 + 1 + 16 + 1 + 16 + 1;

/// The newest entry that was durable, and the beginning of its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub seq: u64,
    checksum: u64,
}

impl Noted {
    pub fn new(seq: u64, checksum: &Checksum) -> Noted {
        Noted { seq, checksum: beginning(checksum) }
    }

    fn line(self) -> String {
        let Noted { seq, checksum } = self;
        let text = format!("{seq:020} {checksum:016x}");
        let sum: Checksum = Sha256::digest(&text).into();
        format!("{text} {:016x}\n", beginning(&sum))
    }
}

fn beginning(checksum: &Checksum) -> u64 {
    checksum.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[derive(Debug)]
pub(super) struct Mark {
    /// None where it cannot be opened.
    file: Option<File>,
    path: PathBuf,
    /// One warning is enough.
    failing: bool,
}

impl Mark {
    /// Never an error: a journal without its mark is as good, only its end is less well guarded.
    pub fn open(state_dir: &Path) -> Mark {
        let path = state_dir.join(FILE);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut mark = Mark { file: None, path, failing: false };
        match opened {
            Ok(file) => mark.file = Some(file),
            Err(error) => mark.warn(&error),
        }
        mark
    }

    /// What an earlier daemon noted. None where there is nothing, or nothing that can be believed: a flipped bit in here
    /// must not call a whole journal damaged.
    pub fn read(&self) -> Option<Noted> {
        let mut line = [0; LINE_BYTES];
        self.file.as_ref()?.read_exact_at(&mut line, 0).ok()?;
        let mut words = std::str::from_utf8(&line).ok()?.split(' ');
        let seq = words.next()?.parse().ok()?;
        let checksum = u64::from_str_radix(words.next()?, 16).ok()?;
        let noted = Noted { seq, checksum };
        (noted.line().as_bytes() == line).then_some(noted)
    }

    pub fn note(&mut self, noted: Noted) {
        let Some(file) = &self.file else { return };
        match file.write_all_at(noted.line().as_bytes(), 0) {
            Ok(()) => self.failing = false,
            Err(error) => self.warn(&error),
        }
    }

    fn warn(&mut self, error: &std::io::Error) {
        if !self.failing {
            tracing::warn!(path = %self.path.display(), %error, "how far the journal goes cannot be noted");
        }
        self.failing = true;
    }
}
