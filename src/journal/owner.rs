//! One owner per state directory: a lock that the kernel gives back when the process ends, however it ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::OpenError;

/// Held for as long as the journal lives. The file stays behind: to remove it would let two daemons lock two files of
/// the same name.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Makes the directory if it is missing, and locks it.
pub(super) fn take(state_dir: &Path) -> Result<Lock, OpenError> {
    make_directory(state_dir)?;
    let path = state_dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| OpenError::io("open the lock", &path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(OpenError::Owned { pid: read_pid(&mut file), state_dir: state_dir.to_owned() });
        }
        Err(errno) => return Err(OpenError::io("lock", &path, errno.into())),
    }
    write_pid(&mut file).map_err(|source| OpenError::io("write the process id to", &path, source))?;
    Ok(Lock { _file: file })
}

fn make_directory(state_dir: &Path) -> Result<(), OpenError> {
    match std::fs::metadata(state_dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(OpenError::NotADirectory { path: state_dir.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|source| OpenError::io("make the state directory", state_dir, source)),
        Err(source) => Err(OpenError::io("look at the state directory", state_dir, source)),
    }
}

/// The owner may be about to write it: then it is not known, which must not hide that there is one.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// On a full disk the id may not fit; the lock counts, not its text.
fn write_pid(file: &mut File) -> std::io::Result<()> {
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(()),
        other => other,
    }
}
