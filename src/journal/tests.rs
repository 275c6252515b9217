use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::mark::{Mark, Noted};
use super::reserve::{RESERVE_BYTES, Reserve};
use super::store::Store;
use super::writer::Writer;
use super::*;
use crate::decide::event::{Entry, Record};
use crate::time::{BootId, Timestamp};

fn record(seq: u64, text: &str) -> Record {
    Record {
        seq: Seq(seq),
        at: Timestamp::from_millis(1_000 + seq.cast_signed()),
        wall: Timestamp::from_millis(2_000 + seq.cast_signed()),
        boot: BootId("boot".into()),
        entry: Entry::DaemonStarted { version: text.to_owned(), config_hash: "c0ffee".to_owned() },
    }
}

struct Bench {
    writer: Writer,
    turns: std::sync::mpsc::Sender<Vec<Record>>,
    events: mpsc::Receiver<JournalEvent>,
}

/// A writer that is driven by hand instead of by its thread.
fn bench(state_dir: &Path) -> Bench {
    let lock = owner::take(state_dir).unwrap();
    let (store, _) = Store::open(state_dir, None).unwrap();
    let reserve = Reserve::open(state_dir).unwrap();
    let (turns, turns_in) = std::sync::mpsc::channel();
    let (events_out, events) = mpsc::channel(16);
    let waiting = Arc::new(AtomicUsize::new(1_000));
    Bench {
        writer: Writer::new(store, Mark::open(state_dir), reserve, turns_in, events_out, waiting, lock),
        turns,
        events,
    }
}

#[test]
fn a_full_disk_takes_the_reserve_first_and_fails_only_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let reserve = folder.path().join("reserve");
    let Bench { mut writer, turns, mut events } = bench(folder.path());
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), RESERVE_BYTES);
    turns.send(vec![record(1, "fits")]).unwrap();
    writer.wait();
    writer.write();
    assert_eq!(events.try_recv().unwrap(), JournalEvent::Durable(Seq(1)));

    // No page more: SQLite says "full", as it does on a full disk, and goes on saying so.
    writer.store().limit_pages(Some(0));
    turns.send(vec![record(2, &"x".repeat(20_000))]).unwrap();
    writer.wait();
    writer.write();
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 0, "the reserve was given away before giving up");
    assert!(matches!(events.try_recv().unwrap(), JournalEvent::Failed(_)));

    turns.send(vec![record(3, "later")]).unwrap();
    writer.wait();
    writer.write();
    assert!(events.try_recv().is_err(), "one outage is told once");

    writer.store().limit_pages(None);
    writer.wait();
    writer.write();
    assert_eq!(events.try_recv().unwrap(), JournalEvent::Durable(Seq(3)));
    assert_eq!(events.try_recv().unwrap(), JournalEvent::Back);
    drop(turns);
    assert_eq!(writer.run(), 0);
    let history = read_only(folder.path()).unwrap();
    assert_eq!(history.records.iter().map(|record| record.seq.0).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_commit_that_reported_an_error_and_is_on_the_disk_is_not_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ours, _) = Store::open(folder.path(), None).unwrap();
    ours.append(&[record(1, "a")]).unwrap();
    // Another handle stands for what the disk has and we do not know of.
    let (mut disk, _) = Store::open(folder.path(), None).unwrap();
    let turns = [vec![record(2, "b"), record(3, "c")], vec![record(4, "d")]];
    disk.append(&turns[0]).unwrap();
    assert_eq!(ours.reconcile(&turns).unwrap(), 1);
    ours.append(&turns[1]).unwrap();
    assert_eq!(ours.reconcile(&turns).unwrap(), 0);
    // Another's entry is not taken for ours.
    (disk, _) = Store::open(folder.path(), None).unwrap();
    disk.append(&[record(5, "not ours")]).unwrap();
    let error = ours.reconcile(&[vec![record(5, "ours")]]).unwrap_err();
    assert!(error.to_string().contains("entry 4"), "{error}");
}

#[test]
fn a_mark_is_read_as_it_was_noted_and_a_damaged_one_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Mark::open(folder.path()).read(), None, "nothing was noted yet");
    for seq in [1, 10, u64::MAX] {
        let noted = Noted::new(seq, &[0xa5; 32]);
        Mark::open(folder.path()).note(noted);
        assert_eq!(Mark::open(folder.path()).read(), Some(noted));
    }
    let path = folder.path().join("head");
    let whole = std::fs::read(&path).unwrap();
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Mark::open(folder.path()).read(), None, "byte {index}");
        std::fs::write(&path, &whole[..index]).unwrap();
        assert_eq!(Mark::open(folder.path()).read(), None, "cut at {index}");
    }
    // One that cannot be opened stops nobody.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let mut mark = Mark::open(folder.path());
    mark.note(Noted::new(1, &[0; 32]));
    assert_eq!(mark.read(), None);
}

#[test]
fn errors_of_the_directory_say_what_to_do() {
    use std::io::{Error, ErrorKind};
    let text = |kind| OpenError::io("open the lock", Path::new("/var/lib/backstop"), Error::from(kind)).to_string();
    assert!(text(ErrorKind::PermissionDenied).contains("must belong to the user that backstop runs as"));
    assert!(text(ErrorKind::ReadOnlyFilesystem).contains("read-only file system"));
    assert!(text(ErrorKind::NotADirectory).contains("not a directory"));
    assert_eq!(text(ErrorKind::Other), "cannot open the lock /var/lib/backstop");
}
