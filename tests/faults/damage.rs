//! State that is damaged, cut, or of a newer backstop: whole or refused, and never acted on twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use backstop::decide::event::{Record, Seq};
use backstop::journal::{Journal, JournalEvent, OpenError, Opened};
use rusqlite::Connection;

use super::foreign::append_foreign;
use super::places::all;
use super::process::{Daemon, command};
use super::samples::{at, samples};
use super::site::{File, Receiver, Site, until};

/// The files of a journal, by name.
type Files = Vec<(String, Vec<u8>)>;

fn files_of(state_dir: &Path) -> Files {
    let entries = fs::read_dir(state_dir).unwrap().map(|entry| entry.unwrap().path());
    // The reserve is empty space; the socket is none.
    let kept = entries.filter(|path| path.is_file() && !path.ends_with("reserve") && !path.ends_with("lock"));
    let mut files: Files =
        kept.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

fn put(files: &Files, state_dir: &Path) {
    fs::create_dir_all(state_dir).unwrap();
    for (name, bytes) in files {
        fs::write(state_dir.join(name), bytes).unwrap();
    }
}

/// Many entries as a daemon leaves them that is killed (most of them in SQLite's log), or that ends well.
async fn journals() -> (Vec<Record>, [Files; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let boot = backstop::time::BootId("5b1c-boot".into());
    let entries = samples().into_iter().zip(1..);
    let record = |(entry, seq): (_, i64)| Record {
        seq: Seq(seq.unsigned_abs()),
        at: at(seq),
        wall: at(seq + 5),
        boot: boot.clone(),
        entry,
    };
    let records: Vec<Record> = entries.map(record).collect();
    let Opened { mut journal, mut events, .. } = Journal::open(folder.path()).unwrap();
    for record in &records {
        journal.append(vec![record.clone()]).unwrap();
        while events.recv().await != Some(JournalEvent::Durable(record.seq)) {}
    }
    let killed = files_of(folder.path());
    drop(events);
    tokio::task::spawn_blocking(|| journal.close()).await.unwrap().unwrap();
    (records, [killed, files_of(folder.path())])
}

/// Opens it, and says whether it is whole. Anything between whole and refused fails the test.
fn is_whole(files: &Files, records: &[Record], what: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    put(files, folder.path());
    match Journal::open(folder.path()) {
        Ok(opened) => {
            assert_eq!(opened.records.len(), records.len(), "{what}: entries are missing, and nobody was told");
            assert!(opened.records == records && opened.unreadable.is_empty(), "{what}: an entry was changed");
            drop(opened.events);
            opened.journal.close().unwrap();
            true
        }
        Err(error) => {
            let sentence = error.to_string();
            let place = sentence.contains("journal.db");
            let known =
                matches!(error, OpenError::Damaged { .. } | OpenError::NotAJournal { .. } | OpenError::TooNew { .. });
            assert!(place && known, "{what}: {error:?}");
            false
        }
    }
}

/// Places to damage: all of them, or so many spread evenly, the first and the last among them.
fn spread(length: usize, sample: usize) -> Vec<usize> {
    let sample = if all() { length } else { sample.min(length) };
    let last = sample.saturating_sub(1).max(1);
    let mut places: Vec<usize> = (0..sample).map(|number| number * (length - 1) / last).collect();
    places.dedup();
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_with_any_byte_changed_is_whole_or_refused() {
    let (records, journals) = journals().await;
    for files in journals {
        assert!(is_whole(&files, &records, "undamaged"));
        let mut refused = 0;
        for (index, (name, bytes)) in files.iter().enumerate() {
            // The shared memory of SQLite is made anew by the first that opens; a few places show it.
            let sample = if name.ends_with("-shm") { 8 } else { 200 };
            for place in spread(bytes.len(), sample) {
                let mut damaged = files.clone();
                damaged[index].1[place] ^= if place % 2 == 0 { 0x01 } else { 0xff };
                let whole = is_whole(&damaged, &records, &format!("{name}, byte {place} of {}", bytes.len()));
                assert!(whole || name != "head", "a damaged mark must not refuse a whole journal");
                refused += usize::from(!whole);
            }
        }
        assert!(refused > 50, "only {refused} were refused: was anything damaged?");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_cut_anywhere_is_whole_or_refused() {
    let (records, journals) = journals().await;
    for files in journals {
        for (index, (name, bytes)) in files.iter().enumerate() {
            // Beside even places, those where SQLite's pages and frames end: what is cut there looks whole.
            let frames = (0..bytes.len().saturating_sub(32)).step_by(4096 + 24).map(|place| place + 32);
            let pages = (0..bytes.len()).step_by(4096);
            let places = spread(bytes.len(), 60).into_iter().chain(frames).chain(pages);
            for place in places {
                let mut cut = files.clone();
                cut[index].1.truncate(place);
                let whole = is_whole(&cut, &records, &format!("{name}, cut at {place} of {}", bytes.len()));
                assert!(whole || name != "head", "a mark that is cut must not refuse a whole journal");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_whose_log_is_gone_or_that_is_an_older_copy_is_refused() {
    let (records, [killed, ended]) = journals().await;
    let without_log: Files = killed.iter().filter(|(name, _)| !name.ends_with("-wal")).cloned().collect();
    assert!(!is_whole(&without_log, &records, "without its log"));

    let folder = tempfile::tempdir().unwrap();
    put(&ended, folder.path());
    let Opened { mut journal, mut events, .. } = Journal::open(folder.path()).unwrap();
    let more = Record { seq: Seq(records.len() as u64 + 1), ..records[0].clone() };
    journal.append(vec![more]).unwrap();
    while events.recv().await != Some(JournalEvent::Durable(Seq(records.len() as u64 + 1))) {}
    drop(events);
    tokio::task::spawn_blocking(|| journal.close()).await.unwrap().unwrap();
    let older = &ended.iter().find(|(name, _)| name == "journal.db").unwrap().1;
    fs::write(folder.path().join("journal.db"), older).unwrap();
    let Err(error) = Journal::open(folder.path()) else { panic!("it opened") };
    let sentence = error.to_string();
    assert!(sentence.contains("older copy") && sentence.contains("file head"), "{sentence}");
    // Whoever means it can say so.
    fs::remove_file(folder.path().join("head")).unwrap();
    let opened = Journal::open(folder.path()).unwrap();
    assert_eq!(opened.records, records);
    drop(opened.events);
    opened.journal.close().unwrap();
}

/// A site whose daemon was killed in the middle of a step that must not run twice.
async fn killed_in_a_step(receiver: Option<&str>) -> Site {
    let site = Site::new();
    site.script("exec sleep 300");
    let service = receiver.map_or_else(String::new, |_| "notify = [\"team\"]".to_owned());
    site.write(&File { service, more: receiver.unwrap_or_default().to_owned(), ..File::default() });
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    site.deploy("v2");
    until("the step", async || (site.ran() == ["v1"]).then_some(())).await;
    until("the step's start in the journal", async || {
        let started = |event: &_| matches!(event, backstop::decide::event::IncidentEvent::StepStarted { .. });
        daemon.events().iter().any(started).then_some(())
    })
    .await;
    daemon.kill().await;
    site
}

/// Starts a daemon that must either refuse with a sentence, or call a person; and never act.
async fn refuses_or_calls(site: &Site, what: &str) -> bool {
    let mut daemon = Daemon::spawn(site, &[]);
    let refused = until("an answer, or an end", async || {
        if !daemon.is_running() {
            return Some(true);
        }
        daemon.try_get("/v1/status").await.map(|_| false)
    })
    .await;
    if refused {
        let status = daemon.ended().await;
        let log = daemon.log();
        assert_eq!(status.code(), Some(1), "{what}: {log}");
        let error = log.lines().rfind(|line| line.contains("ERROR")).unwrap_or_default();
        assert!(error.contains("journal.db") && !log.contains("panicked"), "{what}: {log}");
    } else {
        daemon.incident("needs_human").await;
        daemon.stop().await;
    }
    assert_eq!((site.ran().len(), site.running().as_str()), (1, "v2"), "{what}: it acted again");
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_a_damaged_journal_refuses_or_calls_a_person_and_never_runs_a_step_again() {
    let site = killed_in_a_step(None).await;
    let state = site.path("state");
    let files = files_of(&state);
    let (mut refused, mut called) = (0, 0);
    for (index, (name, bytes)) in files.iter().enumerate() {
        let sample = if all() { 200 } else { 12 };
        let last = bytes.len().saturating_sub(1).max(1);
        // The very end is where the step's intent is.
        for number in 0..sample {
            let place = number * last / (sample - 1);
            let mut damaged = files.clone();
            damaged[index].1[place] ^= 0x10;
            if number % 3 == 2 {
                damaged[index].1.truncate(place);
            }
            fs::remove_dir_all(&state).unwrap();
            put(&damaged, &state);
            if refuses_or_calls(&site, &format!("{name}, byte {place} of {}", bytes.len())).await {
                refused += 1;
            } else {
                called += 1;
            }
        }
    }
    assert!(refused > 3 && called > 3, "{refused} refused, {called} called a person");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_newer_backstop_calls_a_person_and_nothing_is_done() {
    let (receiver, tables) = Receiver::start();
    let site = killed_in_a_step(Some(&tables)).await;
    let incident = "{\"kind\":\"incident\",\"incident\":\"api-4\",\"event\":{\"event\":\"quarantined\"}}";
    append_foreign(&site.path("state"), "incident.quarantined", 1, incident);
    assert!(!refuses_or_calls(&site, "an unknown kind").await);
    let daemon = Daemon::start(&site).await;
    let told = receiver.told("degraded").await;
    assert!(told["text"].as_str().unwrap().contains("cannot read"), "{told}");
    receiver.told("needs_human").await;
    daemon.stop().await;
    assert_eq!(site.ran().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_a_newer_backstop_is_refused_and_left_as_it_is() {
    let site = killed_in_a_step(None).await;
    let path = site.path("state/journal.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 7").unwrap();
    let before = fs::read(&path).unwrap();
    let Output { status, stderr, .. } = command(&site).stderr(Stdio::piped()).output().unwrap();
    let shown = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{shown}");
    assert!(
        shown.contains("was written by a newer backstop (schema 7") && shown.contains("install that version again")
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(site.ran().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_newer_backstop_costs_the_windows_and_no_promise() {
    let site = killed_in_a_step(None).await;
    let windows: PathBuf = site.path("state/windows");
    // Killed early, there may be none yet; its version stands behind the name.
    let mut bytes = fs::read(&windows).unwrap_or_else(|_| b"BkStWin\0\0\0\0\0".to_vec());
    bytes[8..12].copy_from_slice(&99_u32.to_le_bytes());
    fs::write(&windows, bytes).unwrap();
    assert!(!refuses_or_calls(&site, "a newer checkpoint").await);
    let log = fs::read_to_string(site.path("log")).unwrap();
    assert!(log.contains("it has version 99") && log.contains("windows start empty"), "{log}");
}
