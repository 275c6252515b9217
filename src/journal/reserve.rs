//! Space for one whole incident, kept in a file of no content, so that a full disk does not disarm.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

use super::OpenError;

/// An admission with plan and evidence is some 20 KiB, a step's output at most 64 KiB and twice that as JSON, a notice
/// under 20 kB: this holds an incident of 20 steps with full outputs and all its notices.
pub(super) const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

const FILE: &str = "reserve";

#[derive(Debug)]
pub(super) struct Reserve {
    file: File,
    path: PathBuf,
    held: bool,
}

/// Frees what an earlier daemon had reserved, so that the journal can be opened on a full disk. False where there was
/// nothing.
pub(super) fn give_away(state_dir: &Path) -> bool {
    let path = state_dir.join(FILE);
    let given = OpenOptions::new().write(true).open(&path).and_then(|file| {
        let held = file.metadata()?.len() > 0;
        file.set_len(0)?;
        Ok(held)
    });
    let given = given.unwrap_or(false);
    if given {
        tracing::error!(path = %path.display(), "the disk is full: the space reserved for an incident is given up to start");
    }
    given
}

impl Reserve {
    /// Takes the space, or goes on without it where the disk is full already: that is when one must not refuse to
    /// start.
    pub fn open(state_dir: &Path) -> Result<Reserve, OpenError> {
        let path = state_dir.join(FILE);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| OpenError::io("open the reserve", &path, source))?;
        let mut reserve = Reserve { file, path, held: false };
        match reserve.take() {
            Ok(()) => Ok(reserve),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                tracing::error!(path = %reserve.path.display(), "the disk is full: no space is reserved for an incident");
                Ok(reserve)
            }
            Err(source) => Err(OpenError::io("reserve space in", &reserve.path, source)),
        }
    }

    pub const fn held(&self) -> bool {
        self.held
    }

    /// Gives the space to whoever writes next; says whether there was any.
    pub fn release(&mut self) -> bool {
        if !self.held {
            return false;
        }
        if let Err(error) = self.file.set_len(0) {
            tracing::error!(path = %self.path.display(), %error, "the reserved space cannot be released");
            return false;
        }
        self.held = false;
        tracing::error!(
            path = %self.path.display(),
            "the disk is full: the space reserved for an incident is in use now; free some"
        );
        true
    }

    /// Takes the space back once there is clearly more than that; otherwise the next entry would free it again.
    pub fn take_back(&mut self) {
        if self.held || self.free_bytes().is_none_or(|free| free < 4 * RESERVE_BYTES) {
            return;
        }
        match self.take() {
            Ok(()) => tracing::info!(path = %self.path.display(), "space for an incident is reserved again"),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "space for an incident cannot be reserved yet");
            }
        }
    }

    /// Less is free than one entry may need.
    pub fn disk_is_full(&self) -> bool {
        self.free_bytes().is_some_and(|free| free < 256 * 1024)
    }

    fn free_bytes(&self) -> Option<u64> {
        let stat = fstatvfs(&self.file).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn take(&mut self) -> std::io::Result<()> {
        let taken = match fallocate(&self.file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            // NFS and some others cannot: written zeros take the space as well.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(),
            Err(errno) => Err(errno.into()),
            Ok(()) => Ok(()),
        };
        match taken {
            Ok(()) => {
                self.held = true;
                Ok(())
            }
            Err(error) => {
                // A part of it must not stay taken.
                self.file.set_len(0)?;
                Err(error)
            }
        }
    }

    fn write_zeros(&mut self) -> std::io::Result<()> {
        self.file.rewind()?;
        let zeros = vec![0; 64 * 1024];
        for _ in 0..RESERVE_BYTES / 65_536 {
            self.file.write_all(&zeros)?;
        }
        self.file.sync_data()
    }
}
