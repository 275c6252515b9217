//! The table: append-only, in SQLite, every row chained to the one before.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::form::{self, Checksum, GENESIS, Row};
use super::mark::{self, Noted};
use super::{History, OpenError, Page, Unreadable};
use crate::decide::event::{Record, Seq};
use crate::time::{BootId, Timestamp};

pub(super) const FILE: &str = "journal.db";
/// Of the table; the form of the entries has a version of its own.
const SCHEMA: i64 = 1;
/// "BkSt": tells our database from another program's.
const APPLICATION: i64 = 0x426b_5374;
/// Somebody may have the file open in `sqlite3`, or make a backup of it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// The triggers are for people with a shell: what was decided is not edited. A program that wants to forge it can, and
/// the chain shows it.
const CREATE: &str = "
    CREATE TABLE journal (
        seq      INTEGER PRIMARY KEY,
        at       INTEGER NOT NULL,  -- monotonic timeline, ms
        wall     INTEGER NOT NULL,  -- wall clock, ms since 1970
        boot     TEXT    NOT NULL,
        kind     TEXT    NOT NULL,
        version  INTEGER NOT NULL,
        body     TEXT    NOT NULL,  -- JSON
        checksum BLOB    NOT NULL   -- SHA-256 over the one before and all of the above
    ) STRICT;
    CREATE TRIGGER journal_is_not_changed BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    CREATE TRIGGER journal_is_not_cut BEFORE DELETE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
";

/// Where the chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    seq: u64,
    checksum: Checksum,
}

#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    head: Head,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("an entry cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// Somebody else wrote, or the file was exchanged.
    #[error("the database does not end with entry {0}, the last one written here: was the file exchanged?")]
    Diverged(u64),
}

impl WriteError {
    pub fn disk_is_full(&self) -> bool {
        self.has_code(ErrorCode::DiskFull)
    }

    /// Some file systems call a full disk an I/O error.
    pub fn may_be_full(&self) -> bool {
        self.has_code(ErrorCode::SystemIoFailure)
    }

    fn has_code(&self, code: ErrorCode) -> bool {
        match self {
            WriteError::Sqlite(error) => error.sqlite_error_code() == Some(code),
            WriteError::Encode(_) | WriteError::Diverged(_) => false,
        }
    }
}

impl Store {
    /// `noted` is how far an earlier daemon has come: a journal that ends before it, or that has another entry there, is
    /// not the whole one.
    pub fn open(state_dir: &Path, noted: Option<Noted>) -> Result<(Store, History), OpenError> {
        let path = state_dir.join(FILE);
        let (fresh, noted) = match create_file(state_dir, &path)? {
            // Moved away on purpose: what was noted was of another journal.
            Found::Nothing => {
                if let Some(noted) = noted {
                    let path = path.display();
                    tracing::error!(
                        "there was a journal of {} entries at {path}, and it is gone: a new one begins, which knows nothing \
                         of earlier incidents and releases",
                        noted.seq
                    );
                }
                (true, None)
            }
            Found::Empty => (true, noted),
            Found::Journal => (false, noted),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection =
            Connection::open_with_flags(&path, flags).map_err(|source| sqlite("open", &path, source))?;
        prepare(&mut connection, &path, fresh)?;
        let (history, head) = read(&connection, &path, noted)?;
        Ok((Store { connection, head }, history))
    }

    /// How far it goes.
    pub fn head(&self) -> Noted {
        Noted::new(self.head.seq, &self.head.checksum)
    }

    /// Writes whole turns in one transaction and syncs it. On an error nothing of it counts as written, though the
    /// disk may have it: see [`Store::reconcile`].
    pub fn append<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) -> Result<Seq, WriteError> {
        let transaction = self.connection.transaction()?;
        let mut head = self.head;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO journal (seq, at, wall, boot, kind, version, body, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for record in records {
                let encoded = form::encode(&record.entry)?;
                let row = Row::new(record, &encoded);
                head = Head { seq: row.seq, checksum: row.chained_to(&head.checksum) };
                insert.execute(params![
                    row.seq.cast_signed(),
                    row.at,
                    row.wall,
                    row.boot,
                    row.kind,
                    row.version,
                    row.body,
                    head.checksum.as_slice()
                ])?;
            }
        }
        transaction.commit()?;
        self.head = head;
        Ok(Seq(head.seq))
    }

    /// After a failed write: a commit that reported an error may be on the disk all the same. Gives the number of
    /// `turns` that are, so that they are not written twice.
    pub fn reconcile<'a>(&mut self, turns: impl IntoIterator<Item = &'a Vec<Record>>) -> Result<usize, WriteError> {
        let found = read_head(&self.connection)?;
        if found == self.head {
            return Ok(0);
        }
        let mut head = self.head;
        for (index, turn) in turns.into_iter().enumerate() {
            for record in turn {
                let encoded = form::encode(&record.entry)?;
                head = Head { seq: record.seq.0, checksum: Row::new(record, &encoded).chained_to(&head.checksum) };
            }
            if head == found {
                self.head = head;
                return Ok(index + 1);
            }
        }
        Err(WriteError::Diverged(self.head.seq))
    }

    /// Limits the size of the database, as a full disk does.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: Option<u32>) {
        let now: u32 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("page_count");
        let most = pages.map_or(1_000_000, |more| now + more);
        let set: u32 = self
            .connection
            .query_row(&format!("PRAGMA max_page_count = {most}"), [], |row| row.get(0))
            .expect("max_page_count");
        assert_eq!(set, most);
    }
}

/// What was there before.
enum Found {
    Nothing,
    /// A crash between the creation of the file and of the table; or somebody emptied it.
    Empty,
    Journal,
}

/// SQLite gives its other files the mode of this one, so it is made before SQLite sees it.
fn create_file(state_dir: &Path, path: &Path) -> Result<Found, OpenError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => {
            // Else a crash could take away the file's name, and with it entries that were said to be durable.
            File::open(state_dir)
                .and_then(|folder| folder.sync_all())
                .map_err(|source| OpenError::io("sync", state_dir, source))?;
            Ok(Found::Nothing)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let length = std::fs::metadata(path).map_err(|source| OpenError::io("look at", path, source))?.len();
            Ok(if length == 0 { Found::Empty } else { Found::Journal })
        }
        Err(source) => Err(OpenError::io("make the journal", path, source)),
    }
}

fn prepare(connection: &mut Connection, path: &Path, fresh: bool) -> Result<(), OpenError> {
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|source| sqlite("open", path, source))?;
    if !fresh {
        check_schema(connection, path)?;
    }
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|source| sqlite("switch to WAL in", path, source))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(OpenError::Io {
            operation: "use SQLite's WAL (no shared memory on this file system?) in",
            path: path.to_owned(),
            source: std::io::ErrorKind::Unsupported.into(),
        });
    }
    // A short WAL: on a full disk it is the reserve that it grows into.
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 256; PRAGMA foreign_keys = OFF;")
        .map_err(|source| sqlite("set up", path, source))?;
    if fresh {
        create_schema(connection).map_err(|source| sqlite("make the table of", path, source))?;
    }
    Ok(())
}

fn create_schema(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(CREATE)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}

fn check_schema(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |pragma: &str| -> Result<i64, OpenError> {
        connection.query_row(pragma, [], |row| row.get(0)).map_err(|source| sqlite("read", path, source))
    };
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    if application != APPLICATION {
        return Err(OpenError::NotAJournal { path: path.to_owned() });
    }
    if version > SCHEMA {
        return Err(OpenError::TooNew { path: path.to_owned(), found: version, known: SCHEMA });
    }
    if version < SCHEMA {
        return Err(damaged(path, 1, format!("schema {version} was never used")));
    }
    Ok(())
}

/// A row as it is stored, before anything of it is believed.
struct Raw {
    seq: u64,
    at: i64,
    wall: i64,
    boot: String,
    kind: String,
    version: u32,
    body: String,
    checksum: Vec<u8>,
}

impl Raw {
    fn from_row(row: &rusqlite::Row<'_>) -> Result<Raw, rusqlite::Error> {
        Ok(Raw {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            at: row.get(1)?,
            wall: row.get(2)?,
            boot: row.get(3)?,
            kind: row.get(4)?,
            version: row.get(5)?,
            body: row.get(6)?,
            checksum: row.get(7)?,
        })
    }

    fn row(&self) -> Row<'_> {
        Row {
            seq: self.seq,
            at: self.at,
            wall: self.wall,
            boot: &self.boot,
            kind: &self.kind,
            version: self.version,
            body: &self.body,
        }
    }
}

/// Reads and checks everything.
fn read(connection: &Connection, path: &Path, noted: Option<Noted>) -> Result<(History, Head), OpenError> {
    let mut history = History { records: Vec::new(), unreadable: Vec::new(), last: Seq(0) };
    let mut head = Head { seq: 0, checksum: GENESIS };
    let mut boot: Option<BootId> = None;
    let broken = |seq: u64, source: rusqlite::Error| unreadable_row(path, seq, source);
    let mut select = connection
        .prepare("SELECT seq, at, wall, boot, kind, version, body, checksum FROM journal ORDER BY seq")
        .map_err(|source| broken(1, source))?;
    let mut rows = select.query([]).map_err(|source| broken(1, source))?;
    while let Some(row) = rows.next().map_err(|source| broken(head.seq + 1, source))? {
        let expected = head.seq + 1;
        let raw = Raw::from_row(row).map_err(|source| broken(expected, source))?;
        if raw.seq != expected {
            return Err(damaged(path, expected, format!("it is missing, the next one there is {}", raw.seq)));
        }
        let checksum = raw.row().chained_to(&head.checksum);
        if checksum.as_slice() != raw.checksum {
            return Err(damaged(path, expected, "its checksum does not fit it and the one before".to_owned()));
        }
        head = Head { seq: expected, checksum };
        if noted.is_some_and(|noted| noted.seq == expected && noted != Noted::new(expected, &checksum)) {
            let why = "another entry was written there: is it the journal of this directory?";
            return Err(damaged(path, expected, why.to_owned()));
        }
        let boot = match &boot {
            Some(same) if *same.0 == *raw.boot => same.clone(),
            Some(_) | None => boot.insert(BootId(Arc::from(raw.boot.as_str()))).clone(),
        };
        take(&mut history, raw, boot);
    }
    if let Some(noted) = noted.filter(|noted| noted.seq > head.seq) {
        let why = format!(
            "it is missing, and entries up to {} were on the disk (remove the file {} beside it if an older copy was put \
             back on purpose)",
            noted.seq,
            mark::FILE
        );
        return Err(damaged(path, head.seq + 1, why));
    }
    history.last = Seq(head.seq);
    Ok((history, head))
}

fn take(history: &mut History, raw: Raw, boot: BootId) {
    let seq = Seq(raw.seq);
    match form::decode(&raw.kind, raw.version, &raw.body) {
        Ok(entry) => history.records.push(Record {
            seq,
            at: Timestamp::from_millis(raw.at),
            wall: Timestamp::from_millis(raw.wall),
            boot,
            entry,
        }),
        Err(error) => history.unreadable.push(Unreadable {
            seq,
            incident: form::incident_of(&raw.body),
            kind: raw.kind,
            why: error.to_string(),
        }),
    }
}

fn read_head(connection: &Connection) -> Result<Head, rusqlite::Error> {
    let mut select = connection.prepare_cached("SELECT seq, checksum FROM journal ORDER BY seq DESC LIMIT 1")?;
    let mut rows = select.query([])?;
    match rows.next()? {
        None => Ok(Head { seq: 0, checksum: GENESIS }),
        Some(row) => Ok(Head { seq: row.get::<_, i64>(0)?.cast_unsigned(), checksum: row.get(1)? }),
    }
}

pub(super) fn read_only(state_dir: &Path) -> Result<History, OpenError> {
    match look(state_dir)? {
        Some((path, connection)) => Ok(read(&connection, &path, None)?.0),
        None => Ok(History { records: Vec::new(), unreadable: Vec::new(), last: Seq(0) }),
    }
}

/// Of the entries before `before` (None: all) the newest `most`, the newest first, checked against each other; and the
/// oldest of them, where there are older ones.
pub(super) fn read_back(state_dir: &Path, before: Option<Seq>, most: usize) -> Result<Page, OpenError> {
    let mut page = Page { records: Vec::new(), unreadable: Vec::new(), older: None };
    let Some((path, connection)) = look(state_dir)? else { return Ok(page) };
    let broken = |source: rusqlite::Error| unreadable_row(&path, before.map_or(1, |before| before.0), source);
    let mut select = connection
        .prepare(
            "SELECT seq, at, wall, boot, kind, version, body, checksum FROM journal
             WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2",
        )
        .map_err(broken)?;
    let below = before.map_or(i64::MAX, |before| i64::try_from(before.0).unwrap_or(i64::MAX));
    // One more, which the oldest is chained to.
    let limit = i64::try_from(most.saturating_add(1)).unwrap_or(i64::MAX);
    let mut rows = select.query(params![below, limit]).map_err(broken)?;
    let mut newer: Option<Raw> = None;
    let mut history = History { records: Vec::new(), unreadable: Vec::new(), last: Seq(0) };
    let mut keep = |raw: Raw, before: &Checksum| {
        let seq = raw.seq;
        if raw.row().chained_to(before).as_slice() != raw.checksum {
            return Err(damaged(&path, seq, "its checksum does not fit it and the one before".to_owned()));
        }
        let boot = BootId(Arc::from(raw.boot.as_str()));
        take(&mut history, raw, boot);
        Ok(())
    };
    let mut read = 0;
    while let Some(row) = rows.next().map_err(broken)? {
        let raw = Raw::from_row(row).map_err(broken)?;
        if let Some(newer) = newer.take() {
            let checksum: Checksum = raw
                .checksum
                .as_slice()
                .try_into()
                .map_err(|_| damaged(&path, raw.seq, "its checksum has not the length of one".to_owned()))?;
            if newer.seq != raw.seq + 1 {
                return Err(damaged(&path, newer.seq - 1, "it is missing".to_owned()));
            }
            page.older = Some(Seq(newer.seq));
            keep(newer, &checksum)?;
        }
        read += 1;
        newer = Some(raw);
    }
    // The last one that was read is the first of all, or only there to be chained to.
    if let Some(first) = newer.filter(|_| read <= most) {
        page.older = None;
        keep(first, &GENESIS)?;
    }
    (page.records, page.unreadable) = (history.records, history.unreadable);
    Ok(page)
}

/// None: there is an empty file.
fn look(state_dir: &Path) -> Result<Option<(PathBuf, Connection)>, OpenError> {
    let path = state_dir.join(FILE);
    match std::fs::metadata(&path) {
        Ok(meta) if meta.len() == 0 => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(OpenError::Missing { path }),
        Err(source) => return Err(OpenError::io("look at", &path, source)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(|source| sqlite("open", &path, source))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|source| sqlite("open", &path, source))?;
    check_schema(&connection, &path)?;
    Ok(Some((path, connection)))
}

fn damaged(path: &Path, seq: u64, why: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), seq: Seq(seq), why }
}

/// Sorts damage, and what an operator can mend, from other errors of SQLite.
fn sqlite(operation: &'static str, path: &Path, source: rusqlite::Error) -> OpenError {
    let path: PathBuf = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(&path, 1, source.to_string()),
        Some(ErrorCode::ReadOnly) => OpenError::ReadOnly { path },
        Some(ErrorCode::DiskFull) => OpenError::Full { path },
        // SQLite's shared memory does not fit, which it calls an I/O error.
        Some(ErrorCode::SystemIoFailure) if is_about_shared_memory(&source) => OpenError::Full { path },
        Some(ErrorCode::PermissionDenied) => OpenError::NoPermission { path },
        Some(_) | None => OpenError::Sqlite { operation, path, source },
    }
}

fn is_about_shared_memory(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code.is_some_and(|code| [rusqlite::ffi::SQLITE_IOERR_SHMSIZE, rusqlite::ffi::SQLITE_IOERR_SHMMAP].contains(&code))
}

/// A row that SQLite cannot give, or not in the types of the table, is damage; a disk that does not answer is not.
fn unreadable_row(path: &Path, seq: u64, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
            damaged(path, seq, source.to_string())
        }
        Some(_) => sqlite("read", path, source),
    }
}
