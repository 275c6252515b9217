//! Promise: `backstop demo` and its variants end as they say, print what happened, and leave nothing behind, also when
//! somebody has seen enough.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;
use tokio::time::Instant;

/// Each is a daemon, a shop and its customers; on a machine with many cores the tests would start all at once.
const AT_ONCE_MAX: usize = 2;
static PLAYING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of the places of [`AT_ONCE_MAX`].
struct Place;

impl Place {
    fn take() -> Place {
        let (playing, left) = &PLAYING;
        let playing = playing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut playing =
            left.wait_while(playing, |playing| *playing >= AT_ONCE_MAX).unwrap_or_else(PoisonError::into_inner);
        *playing += 1;
        Place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (playing, left) = &PLAYING;
        *playing.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        left.notify_one();
    }
}

/// A running demo, in a folder of its own for what is temporary.
struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    temporary: TempDir,
    told: String,
    _place: Place,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        let place = Place::take();
        let temporary = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_backstop"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", temporary.path())
            .env_remove("BACKSTOP_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(temporary.path().with_extension("err")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Demo { child, out, temporary, told: String::new(), _place: place }
    }

    /// Reads on until a line has this in it.
    fn says(&mut self, text: &str) {
        let from = self.told.len();
        while !self.told[from..].contains(text) {
            let read = self.out.read_line(&mut self.told).unwrap();
            assert!(read > 0, "the demo ended before it said {text:?}:\n{}{}", self.told, self.errors());
        }
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.temporary.path().with_extension("err")).unwrap()
    }

    /// Waits for its end; gives its exit code, what it printed, and its errors. Nothing of it is left then.
    fn end(mut self) -> (Option<i32>, String, String) {
        self.out.read_to_string(&mut self.told).unwrap();
        let code = self.child.wait().unwrap().code();
        let left: Vec<_> = fs::read_dir(self.temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "it left {left:?}");
        let deadline = Instant::now() + Duration::from_mins(1);
        while !processes_of(self.temporary.path()).is_empty() {
            assert!(Instant::now() < deadline, "it left {:?}", processes_of(self.temporary.path()));
            thread::sleep(Duration::from_millis(20));
        }
        (code, self.told.clone(), self.errors())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // A demo that has ended is waited for already, and its number is not used again before this.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).unwrap();
            drop(self.child.wait());
        }
        drop(fs::remove_file(self.temporary.path().with_extension("err")));
    }
}

/// Command lines of the processes that name this folder in their arguments or their environment, as all of a demo's do.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbered = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    let read =
        |path: std::path::PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\0', " ");
    let named = numbered.filter_map(|entry| {
        let arguments = read(entry.path().join("cmdline"));
        let names = arguments.contains(folder) || read(entry.path().join("environ")).contains(folder);
        names.then_some(arguments)
    });
    named.collect()
}

/// Runs to its end; gives what it printed.
fn plays(arguments: &[&str]) -> String {
    let demo = Demo::start(arguments);
    let (code, told, errors) = demo.end();
    assert_eq!(code, Some(0), "{told}{errors}");
    assert!(told.contains("\nIt went as said: "), "{told}");
    told
}

/// That these stand in the text one after the other.
#[track_caller]
fn in_order(told: &str, texts: &[&str]) {
    let mut rest = told;
    for text in texts {
        let Some(at) = rest.find(text) else { panic!("{text:?} is missing, or too early, in\n{told}") };
        rest = &rest[at + text.len()..];
    }
}

#[test]
fn a_broken_release_is_rolled_back_and_verified() {
    let told = plays(&[]);
    in_order(
        &told,
        &[
            "v1 runs",
            "deploys v2",
            "error-rate begins to breach",
            "Fired: error-rate",
            "Rollback of v2 to v1 admitted",
            "level 1",
            "Recovered",
            "# ",
            "It went as said",
        ],
    );
    assert!(told.contains("trigger error-rate is "), "{told}");
    assert!(told.contains("rolling back v2 to v1"), "{told}");
    for kind in ["started: ", "level_finished: ", "recovered: "] {
        assert!(told.contains(kind), "the notice {kind} is missing in\n{told}");
    }
    assert!(told.contains("current -> releases/v1"), "the report shows what the script printed:\n{told}");
}

#[test]
fn a_healthy_release_is_left_alone() {
    let told = plays(&["--healthy"]);
    in_order(&told, &["deploys v2", "v2 runs", "nothing was rolled back"]);
    assert!(!told.contains("webhook"), "nobody is told of anything:\n{told}");
}

#[test]
fn what_was_broken_before_is_a_matter_for_people() {
    let told = plays(&["--broken-before"]);
    in_order(&told, &["escalated: ", "deploys v2", "escalated: ", "It went as said"]);
    assert!(!told.contains("started: "), "{told}");
}

#[test]
fn a_rollback_that_does_not_help_climbs_and_then_calls_a_person() {
    let told = plays(&["--unhelpful"]);
    in_order(
        &told,
        &["deploys v2", "Rollback of v2 to v1 admitted", "did not help", "level 2", "did not help", "It went as said"],
    );
    assert!(told.contains("rolling back v2 to v1") && told.contains("needs_human: "), "{told}");
    assert!(told.contains("cache emptied"), "the report shows what the second level printed:\n{told}");
}

#[test]
fn a_release_that_dies_at_start_is_rolled_back() {
    let told = plays(&["--crash"]);
    let texts = ["deploys v2", "Fired: down", "Rollback of v2 to v1 admitted", "Recovered", "It went as said"];
    in_order(&told, &texts);
    assert!(told.contains("recovered: "), "{told}");
}

#[test]
fn an_interrupt_ends_everything() {
    // As a terminal does it, to all of the group; and as a program does it, to the demo alone; and as systemd does it.
    for (signal, to_all) in [(Signal::INT, true), (Signal::INT, false), (Signal::TERM, false)] {
        let mut demo = Demo::start(&[]);
        demo.says("deploys v2");
        demo.says("trigger error-rate is");
        let pid = Pid::from_child(&demo.child);
        if to_all {
            kill_process_group(pid, signal).unwrap();
        } else {
            kill_process(pid, signal).unwrap();
        }
        let (code, told, errors) = demo.end();
        assert_eq!(code, Some(69), "{told}{errors}");
        assert!(errors.starts_with("error: interrupted"), "{errors}");
    }
}
