//! Promise: what was said to be durable is read back, whole and in order, or an error says where it ends.

#[path = "support/foreign.rs"]
mod foreign;
#[path = "golden/samples.rs"]
mod samples;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backstop::decide::event::{Entry, IncidentEvent, IncidentId, Record, Seq};
use backstop::journal::{AppendError, Journal, JournalEvent, OpenError, Opened, form, read_only};
use backstop::time::BootId;
use foreign::append_foreign;
use rusqlite::Connection;
use samples::{actor, at, incident_id, samples, text};

fn record(seq: u64, entry: Entry) -> Record {
    let offset = i64::try_from(seq).unwrap();
    Record { seq: Seq(seq), at: at(offset), wall: at(offset + 5), boot: BootId("5b1c-boot".into()), entry }
}

fn records() -> Vec<Record> {
    samples().into_iter().zip(1..).map(|(entry, seq)| record(seq, entry)).collect()
}

fn started(seq: u64) -> Record {
    record(seq, Entry::DaemonStarted { version: format!("0.1.{seq}"), config_hash: text("c0ffee") })
}

/// Waits for the next event, at most a minute.
fn next(events: &mut tokio::sync::mpsc::Receiver<JournalEvent>) -> JournalEvent {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_mins(1), events.recv()).await.expect("an event in time").expect("an event")
    })
}

fn until_durable(events: &mut tokio::sync::mpsc::Receiver<JournalEvent>, seq: u64) {
    loop {
        match next(events) {
            JournalEvent::Durable(Seq(durable)) if durable >= seq => return,
            JournalEvent::Durable(_) => {}
            other @ (JournalEvent::Failed(_) | JournalEvent::Back) => panic!("{other:?}"),
        }
    }
}

fn write(state_dir: &Path, records: Vec<Record>) {
    let Opened { mut journal, mut events, .. } = Journal::open(state_dir).unwrap();
    let last = records.last().unwrap().seq.0;
    journal.append(records).unwrap();
    until_durable(&mut events, last);
    journal.close().unwrap();
}

fn open_error(state_dir: &Path) -> OpenError {
    match Journal::open(state_dir) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[test]
fn a_new_journal_in_place_of_one_that_was_moved_away_opens_even_if_nothing_was_written_to_it() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), records());
    for file in std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal.db")) {
            std::fs::remove_file(file).unwrap();
        }
    }
    for _ in 0..2 {
        let opened = Journal::open(folder.path()).unwrap();
        assert_eq!(opened.last, Seq(0));
        opened.journal.close().unwrap();
    }
}

#[test]
fn everything_written_is_read_back_in_order_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("made/for/us");
    let written = records();
    let (first, second) = written.split_at(10);
    write(&state_dir, first.to_vec());
    let opened = Journal::open(&state_dir).unwrap();
    assert_eq!(opened.records, first);
    assert_eq!(opened.last, Seq(10));
    drop(opened.events);
    opened.journal.close().unwrap();

    let Opened { mut journal, mut events, .. } = Journal::open(&state_dir).unwrap();
    for one in second {
        journal.append(vec![one.clone()]).unwrap();
    }
    until_durable(&mut events, written.len() as u64);
    assert_eq!(journal.waiting(), 0);
    // While the daemon is up.
    assert_eq!(read_only(&state_dir).unwrap().records, written);
    journal.close().unwrap();
    // And while it is down.
    let history = read_only(&state_dir).unwrap();
    assert_eq!(
        (history.records, history.unreadable, history.last),
        (written.clone(), vec![], Seq(written.len() as u64))
    );

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state_dir), 0o700);
    assert_eq!(mode(&state_dir.join("journal.db")), 0o600);
}

#[test]
fn sequences_have_no_holes() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut journal, .. } = Journal::open(folder.path()).unwrap();
    journal.append(vec![]).unwrap();
    match journal.append(vec![started(1), started(3)]) {
        Err(AppendError::OutOfOrder { expected: Seq(2), got: Seq(3), records }) => assert_eq!(records.len(), 2),
        other => panic!("{other:?}"),
    }
    journal.append(vec![started(1)]).unwrap();
    assert!(matches!(journal.append(vec![started(1)]), Err(AppendError::OutOfOrder { expected: Seq(2), .. })));
    journal.close().unwrap();
}

#[test]
fn one_directory_has_one_owner_which_the_second_daemon_names() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Journal::open(folder.path()).unwrap();
    let error = open_error(folder.path());
    assert!(matches!(error, OpenError::Owned { pid: Some(pid), .. } if pid == std::process::id()));
    let sentence = error.to_string();
    assert!(sentence.contains(&format!("another backstop (process {})", std::process::id())), "{sentence}");
    assert!(sentence.contains("stop it first"), "{sentence}");
    owner.journal.close().unwrap();
    Journal::open(folder.path()).unwrap().journal.close().unwrap();
}

#[test]
fn what_cannot_be_a_state_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(open_error(&file), OpenError::NotADirectory { path } if path == file));
    assert!(matches!(open_error(&file.join("below")), OpenError::NotADirectory { .. }));
    assert!(matches!(read_only(folder.path()), Err(OpenError::Missing { .. })));

    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    Connection::open(foreign.join("journal.db")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(open_error(&foreign), OpenError::NotAJournal { .. }));
    assert!(matches!(read_only(&foreign), Err(OpenError::NotAJournal { .. })));
}

/// What an operator, or a bad disk, could do to the table.
fn tamper(state_dir: &Path, sql: &str) {
    let triggers = "DROP TRIGGER journal_is_not_changed; DROP TRIGGER journal_is_not_cut;";
    let connection = Connection::open(state_dir.join("journal.db")).unwrap();
    connection.execute_batch(&format!("{triggers}{sql}")).unwrap();
}

#[test]
fn the_table_cannot_be_edited_by_a_slip() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), vec![started(1)]);
    let connection = Connection::open(folder.path().join("journal.db")).unwrap();
    for slip in ["UPDATE journal SET body = '{}'", "DELETE FROM journal"] {
        let error = connection.execute_batch(slip).unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}

#[test]
fn a_broken_chain_names_the_entry_and_changes_nothing() {
    let changes = [
        ("UPDATE journal SET body = replace(body, '0.1.3', '0.1.4') WHERE seq = 3", 3),
        ("UPDATE journal SET wall = wall + 1 WHERE seq = 2", 2),
        ("UPDATE journal SET boot = 'other' WHERE seq = 1", 1),
        ("UPDATE journal SET checksum = x'00' WHERE seq = 4", 4),
        ("DELETE FROM journal WHERE seq = 2", 2),
        ("DELETE FROM journal WHERE seq = 1", 1),
        ("DELETE FROM journal WHERE seq = 2; UPDATE journal SET seq = seq - 1 WHERE seq > 2", 2),
    ];
    for (sql, expected) in changes {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), (1..=5).map(started).collect());
        tamper(folder.path(), sql);
        let error = open_error(folder.path());
        let OpenError::Damaged { seq, .. } = &error else { panic!("{sql}: {error}") };
        assert_eq!(*seq, Seq(expected), "{sql}");
        let sentence = error.to_string();
        assert!(sentence.contains(&format!("damaged at entry {expected}")) && sentence.contains("move the file away"));
        assert!(matches!(read_only(folder.path()), Err(OpenError::Damaged { .. })));
        let connection = Connection::open(folder.path().join("journal.db")).unwrap();
        let rows: i64 = connection.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)).unwrap();
        assert!(rows >= 4, "nothing was cut off: {rows} rows");
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_an_empty_journal() {
    for (from, to) in [(0, 100), (4096, 4196)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), records());
        let path = folder.path().join("journal.db");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[from..to].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let error = open_error(folder.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), records());
    let path = folder.path().join("journal.db");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    assert!(matches!(open_error(folder.path()), OpenError::Damaged { .. }));
}

#[test]
fn a_newer_schema_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), vec![started(1)]);
    tamper(folder.path(), "PRAGMA user_version = 2");
    let error = open_error(folder.path());
    assert!(matches!(error, OpenError::TooNew { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("newer backstop"));
}

#[test]
fn entries_of_another_version_are_told_and_not_guessed_at() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), vec![started(1)]);
    let paused = form::encode(&Entry::Resumed { service: None, actor: actor(), reason: String::new() }).unwrap();
    append_foreign(folder.path(), "incident.quarantined", 1, r#"{"kind":"incident","incident":"api-1"}"#);
    append_foreign(folder.path(), "resumed", 2, &paused.body);
    append_foreign(folder.path(), "resumed", 1, r#"{"kind":"resumed","service":7}"#);
    append_foreign(folder.path(), "paused", 1, &paused.body);
    let Opened { mut journal, mut events, records, unreadable, last } = Journal::open(folder.path()).unwrap();
    assert_eq!(records, [started(1)]);
    let told: Vec<_> = unreadable.iter().map(|one| (one.seq.0, one.kind.as_str(), one.why.as_str())).collect();
    assert_eq!(told[0].1, "incident.quarantined");
    assert!(told[0].2.contains("not known to this version"), "{told:?}");
    assert_eq!(unreadable[0].incident, Some(IncidentId("api-1".into())));
    assert!(told[1].2.contains("version 2"), "{told:?}");
    assert!(told[2].2.contains("form of its kind"), "{told:?}");
    assert!(told[3].2.contains("filed as paused"), "{told:?}");
    // It goes on behind them.
    assert_eq!(last, Seq(5));
    journal.append(vec![started(6)]).unwrap();
    until_durable(&mut events, 6);
    journal.close().unwrap();
    assert_eq!(read_only(folder.path()).unwrap().records, [started(1), started(6)]);
}

#[test]
fn an_outage_is_told_once_and_what_was_kept_is_written_in_order_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut journal, mut events, .. } = Journal::open(folder.path()).unwrap();
    journal.append(vec![started(1)]).unwrap();
    until_durable(&mut events, 1);
    // From outside: every insert fails from now on.
    let saboteur = Connection::open(folder.path().join("journal.db")).unwrap();
    saboteur
        .execute_batch("CREATE TRIGGER outage BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'an outage'); END")
        .unwrap();
    journal.append(vec![started(2), started(3)]).unwrap();
    match next(&mut events) {
        JournalEvent::Failed(why) => assert!(why.contains("an outage"), "{why}"),
        other @ (JournalEvent::Durable(_) | JournalEvent::Back) => panic!("{other:?}"),
    }
    for seq in 4..50 {
        journal.append(vec![started(seq)]).unwrap();
    }
    assert_eq!(journal.waiting(), 48);
    saboteur.execute_batch("DROP TRIGGER outage").unwrap();
    let mut told = Vec::new();
    // Entries that came last may be written in a transaction after the one that ended the outage.
    while !(told.contains(&JournalEvent::Back) && told.contains(&JournalEvent::Durable(Seq(49)))) {
        told.push(next(&mut events));
    }
    assert!(!told.iter().any(|event| matches!(event, JournalEvent::Failed(_))), "{told:?}");
    assert_eq!(told.iter().filter(|event| **event == JournalEvent::Back).count(), 1, "{told:?}");
    journal.close().unwrap();
    assert_eq!(read_only(folder.path()).unwrap().records, (1..50).map(started).collect::<Vec<_>>());
}

#[test]
fn memory_during_an_outage_is_bounded_and_refused_entries_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut journal, mut events, .. } = Journal::open(folder.path()).unwrap();
    let saboteur = Connection::open(folder.path().join("journal.db")).unwrap();
    saboteur
        .execute_batch("CREATE TRIGGER outage BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'an outage'); END")
        .unwrap();
    let mut seq = 1;
    let refused = loop {
        match journal.append((seq..seq + 1000).map(started).collect()) {
            Ok(()) => seq += 1000,
            Err(AppendError::Full(records)) => break records,
            Err(other) => panic!("{other}"),
        }
        assert!(seq < 100_000, "no limit");
    };
    assert_eq!(refused.first().unwrap().seq, Seq(seq));
    assert!(matches!(next(&mut events), JournalEvent::Failed(_)));
    saboteur.execute_batch("DROP TRIGGER outage").unwrap();
    while next(&mut events) != JournalEvent::Back {}
    // Nothing was skipped: the same entries are the next ones.
    journal.append(refused).unwrap();
    until_durable(&mut events, seq + 999);
    journal.close().unwrap();
    assert_eq!(read_only(folder.path()).unwrap().last, Seq(seq + 999));
}

#[test]
fn closing_during_an_outage_says_how_much_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut journal, events, .. } = Journal::open(folder.path()).unwrap();
    Connection::open(folder.path().join("journal.db"))
        .unwrap()
        .execute_batch("CREATE TRIGGER outage BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'an outage'); END")
        .unwrap();
    journal.append(vec![started(1), started(2)]).unwrap();
    drop(events);
    let error = journal.close().unwrap_err();
    assert_eq!(error.to_string(), "2 entries could not be written before the end");
}

/// Runs one of the ignored tests below in a process of its own.
fn child(test: &str, state_dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("BACKSTOP_TEST_STATE_DIR", state_dir);
    command
}

fn state_dir_of_child() -> PathBuf {
    PathBuf::from(std::env::var_os("BACKSTOP_TEST_STATE_DIR").expect("run by another test"))
}

/// Says each entry that is durable, until it is killed.
#[test]
#[ignore = "the child of a_killed_daemon_leaves_everything_that_it_called_durable"]
fn child_appends_until_killed() {
    let Opened { mut journal, mut events, last, .. } = Journal::open(&state_dir_of_child()).unwrap();
    for seq in last.0 + 1.. {
        journal.append(vec![started(seq)]).unwrap();
        until_durable(&mut events, seq);
        println!("\ndurable {seq}");
    }
}

#[test]
fn a_killed_daemon_leaves_everything_that_it_called_durable() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for round in 1..=4u64 {
        let mut daemon =
            child("child_appends_until_killed", folder.path()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
        for line in lines {
            if let Some(seq) = line.unwrap().strip_prefix("durable ") {
                expected = seq.parse().unwrap();
            }
            if expected >= round * 25 {
                break;
            }
        }
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let opened = Journal::open(folder.path()).expect("the lock of a dead process is free");
        assert!(opened.last.0 >= expected, "{} of {expected}", opened.last.0);
        assert_eq!(opened.records, (1..=opened.last.0).map(started).collect::<Vec<_>>());
        opened.journal.close().unwrap();
    }
}

/// On a small file system that is filled to the last byte.
#[test]
#[ignore = "the child of a_full_disk_has_room_for_one_more_incident"]
fn child_on_a_full_disk() {
    let state_dir = state_dir_of_child();
    let Opened { mut journal, mut events, .. } = Journal::open(&state_dir).unwrap();
    journal.append(vec![started(1)]).unwrap();
    until_durable(&mut events, 1);
    let ballast = state_dir.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    assert_eq!(std::fs::metadata(state_dir.join("reserve")).unwrap().len(), 4 * 1024 * 1024);

    // An incident of two steps with the longest outputs, as many turns.
    let output = "x".repeat(64 * 1024);
    let mut seq = 2;
    for event in samples::events() {
        let event = match event {
            IncidentEvent::StepFinished { attempt, mut result } => {
                result.output.clone_from(&output);
                IncidentEvent::StepFinished { attempt, result }
            }
            other => other,
        };
        journal.append(vec![record(seq, Entry::Incident { incident: incident_id(), event: Box::new(event) })]).unwrap();
        // Panics on a failure: the disk is full, and the journal is not.
        until_durable(&mut events, seq);
        seq += 1;
    }
    assert_eq!(std::fs::metadata(state_dir.join("reserve")).unwrap().len(), 0);

    // And when even that is used up: told, kept, and written once there is room.
    while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    let failed = loop {
        journal
            .append(vec![record(
                seq,
                Entry::NoticeDead { notice: output.clone(), receiver: text("r"), why: text("w") },
            )])
            .unwrap();
        seq += 1;
        match next(&mut events) {
            JournalEvent::Durable(_) => {}
            JournalEvent::Failed(why) => break why,
            JournalEvent::Back => panic!("back before it failed"),
        }
    };
    assert!(failed.contains("full"), "{failed}");
    drop(file);
    std::fs::remove_file(ballast).unwrap();
    while next(&mut events) != JournalEvent::Back {}
    journal.append(vec![started(seq)]).unwrap();
    until_durable(&mut events, seq);
    journal.close().unwrap();
    assert_eq!(std::fs::metadata(state_dir.join("reserve")).unwrap().len(), 4 * 1024 * 1024, "reserved again");
    assert_eq!(read_only(&state_dir).unwrap().last, Seq(seq));
}

/// Needs a file system of its own: a tmpfs in a mount namespace, which unprivileged user namespaces give on most
/// systems. Where they do not, the unit test with SQLite's own limit stands alone, and this one says so.
#[test]
fn a_full_disk_has_room_for_one_more_incident() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        unshare.arg(folder.path()).arg(std::env::current_exe().unwrap());
        unshare
    };
    let mount = "mount -t tmpfs -o size=24m backstop-test \"$1\"";
    if !inside(mount).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no user namespaces here, so no file system of our own to fill");
        return;
    }
    let script = format!(
        "{mount} && BACKSTOP_TEST_STATE_DIR=\"$1\" exec \"$2\" --exact child_on_a_full_disk --ignored --nocapture"
    );
    let output = inside(&script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
