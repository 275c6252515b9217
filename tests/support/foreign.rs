//! What another version of backstop could have written.

use std::path::Path;

use rusqlite::Connection;

/// Appends a row as another version of backstop could have written it, chained rightly.
pub fn append_foreign(state_dir: &Path, kind: &str, version: u32, body: &str) {
    use sha2::Digest;
    let connection = Connection::open(state_dir.join("journal.db")).unwrap();
    let (seq, before): (i64, Vec<u8>) = connection
        .query_row("SELECT seq, checksum FROM journal ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let (seq, at, wall) = (seq + 1, 10i64, 11i64);
    let mut hash = sha2::Sha256::new();
    hash.update(before);
    hash.update(seq.to_le_bytes());
    hash.update(at.to_le_bytes());
    hash.update(wall.to_le_bytes());
    hash.update(version.to_le_bytes());
    for text in ["b", kind, body] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let checksum: [u8; 32] = hash.finalize().into();
    connection
        .execute(
            "INSERT INTO journal VALUES (?1, ?2, ?3, 'b', ?4, ?5, ?6, ?7)",
            rusqlite::params![seq, at, wall, kind, version, body, checksum.as_slice()],
        )
        .unwrap();
}
