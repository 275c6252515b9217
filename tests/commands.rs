//! A command tells how it ended, and leaves no process behind: at its end, at its deadline, and when the daemon dies.
//!
//! Length: one list of ways in which a command may end; what runs it is set up once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use backstop::act::Executor;
use backstop::decide::event::{
    Action, Ask, Attempt, Check, CheckOutcome, IncidentId, OnFailure, Outcome, Release, SecretRef, Step, StepResult,
    TextOrSecret,
};
use backstop::machine::input::CheckId;
use backstop::machine::output::{CheckOrder, StepOrder};
use backstop::platform::clock::Clock;
use backstop::platform::process::{CommandEnd, CommandOutcome, CommandSpec, RUN, may_inherit, run, set_helper};
use secrecy::SecretString;

/// Longer than anything here takes on a busy machine; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Within this a command has started and done what it does first, also on a busy machine.
const START: Duration = Duration::from_secs(5);

/// Set for the copy of this test binary that plays the daemon.
const DAEMON_SCRIPT: &str = "TEST_DAEMON_SCRIPT";

/// In the environment of every process of a test's command, so that /proc tells which ones are left.
const MARKER: &str = "TEST_MARKER";

/// Writes its number to $1, and goes on as what is hardest to end: in a session of its own, orphaned, deaf to TERM,
/// and with its hands on the output pipe.
const DAEMONIZE: &str = r#"
    setsid sh -c '
        trap "" TERM INT HUP
        sh -c "echo \$\$ > \"\$0\"; while :; do sleep 0.2; done" "$0" &
    ' "$1" &
    while [ ! -s "$1" ]; do sleep 0.01; done
"#;

fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("marker-{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn spec(argv: &[&str], marker: &str) -> CommandSpec {
    set_helper(Path::new(env!("CARGO_BIN_EXE_backstop")));
    let mut spec = CommandSpec::new(argv.iter().map(|&word| word.to_owned()).collect(), PATIENCE);
    spec.env.insert(MARKER.to_owned(), SecretString::from(marker));
    spec.grace = Duration::from_millis(300);
    spec
}

fn shell(script: &str, marker: &str) -> CommandSpec {
    spec(&["sh", "-c", script], marker)
}

async fn ended(spec: CommandSpec) -> CommandEnd {
    run(spec, |_, _| {}).await
}

/// Processes whose environment or arguments hold the marker.
fn marked(marker: &str) -> Vec<u32> {
    let holds = |pid: u32, file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(marker.len()).any(|window| window == marker.as_bytes())
    };
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = std::process::id();
    pids.filter(|&pid| pid != own && (holds(pid, "environ") || holds(pid, "cmdline"))).collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn exit_status_and_signal_are_told_apart() {
    let marker = marker();
    assert_eq!(ended(shell("exit 0", &marker)).await.outcome, CommandOutcome::Exited(0));
    assert_eq!(ended(shell("exit 3", &marker)).await.outcome, CommandOutcome::Exited(3));
    assert_eq!(ended(shell("kill -9 $$", &marker)).await.outcome, CommandOutcome::Signalled(9));
    assert_eq!(ended(shell("exit 137", &marker)).await.outcome, CommandOutcome::Exited(137));
}

#[tokio::test]
async fn what_cannot_be_started_is_not_a_failure_of_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path.to_str().expect("Unicode").to_owned()
    };
    let marker = marker();
    let no_mode = write("no-mode", "#!/bin/sh\n", 0o644);
    let no_interpreter = write("no-interpreter", "#!/no/such/interpreter\n", 0o755);
    let cases = [
        ("/no/such/program", CommandOutcome::NotFound),
        ("no-such-program-anywhere", CommandOutcome::NotFound),
        ("/dev/null/x", CommandOutcome::NotFound),
        (no_mode.as_str(), CommandOutcome::NotExecutable),
        (no_interpreter.as_str(), CommandOutcome::NotExecutable),
        (folder.path().to_str().expect("Unicode"), CommandOutcome::NotExecutable),
    ];
    for (program, outcome) in cases {
        let mut started = false;
        let end = run(spec(&[program, "x"], &marker), |_, _| started = true).await;
        assert_eq!(end.outcome, outcome, "{program}");
        assert!(!started, "{program}");
    }
    let mut nowhere = shell("exit 0", &marker);
    nowhere.directory = Some("/no/such/directory".into());
    let outcome = ended(nowhere).await.outcome;
    assert_eq!(outcome, CommandOutcome::NotStarted("there is no directory /no/such/directory".to_owned()));
    let mut owned = shell("exit 0", &marker);
    owned.inherit = vec!["NOTIFY_SOCKET".to_owned()];
    assert!(matches!(ended(owned).await.outcome, CommandOutcome::NotStarted(_)));
    assert!(matches!(ended(spec(&[], &marker)).await.outcome, CommandOutcome::NotStarted(_)));
    assert!(matches!(ended(spec(&["sh", "a\0b"], &marker)).await.outcome, CommandOutcome::NotStarted(_)));
}

#[tokio::test]
async fn the_start_is_told_with_a_name_that_is_good_for_ever() {
    let mut told = None;
    let end = run(shell("cat /proc/$$/stat", &marker()), |pid, start| told = Some((pid, start))).await;
    let (pid, start) = told.expect("it was started");
    let fields: Vec<&str> = end.output.split_ascii_whitespace().collect();
    assert_eq!((fields[0], fields[21]), (pid.to_string().as_str(), start.as_str()));
    assert_eq!(fields[4], pid.to_string(), "a process group of its own");
}

const SAFE: [&str; 7] = ["PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "TMPDIR"];

#[tokio::test]
async fn the_environment_is_cleared() {
    let mut spec = spec(&["env"], "m");
    spec.env.insert("GIVEN".to_owned(), SecretString::from("a b=c"));
    // Whatever this test was given itself: how it is started differs.
    let is_candidate = |(name, value): &(String, String)| {
        may_inherit(name) && !SAFE.contains(&name.as_str()) && !value.is_empty() && !value.contains('\n')
    };
    let (name, value) = std::env::vars().find(is_candidate).expect("some variable is set");
    spec.inherit = vec![name.clone(), "TEST_NOT_SET_AT_ALL".to_owned()];
    let end = ended(spec).await;
    let seen: BTreeMap<&str, &str> = end.output.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(seen.get("GIVEN"), Some(&"a b=c"));
    assert_eq!(seen.get(name.as_str()), Some(&value.as_str()));
    assert!(seen.contains_key("PATH"));
    let others: Vec<_> =
        seen.keys().filter(|seen| !SAFE.contains(seen) && !["GIVEN", MARKER, RUN, &name].contains(seen)).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// Those of this process that do not close on exec.
fn given_descriptors() -> Vec<String> {
    let stays_open = |number: &String| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
        u32::from_str_radix(flags, 8).expect("octal") & 0o2_000_000 == 0
    };
    let all = fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    all.filter_map(|entry| entry.file_name().into_string().ok()).filter(stays_open).collect()
}

#[tokio::test]
async fn no_descriptor_reaches_the_command_but_the_standard_ones() {
    let end = ended(shell("exec ls -l /proc/self/fd", &marker())).await;
    let numbers: Vec<&str> =
        end.output.lines().filter_map(|line| line.split(" -> ").next()?.rsplit(' ').next()).collect();
    // `ls` itself opens the folder. What this test was itself given by its own parent cannot be closed without unsafe code.
    let given = given_descriptors();
    let strangers: Vec<_> = numbers[1..].iter().filter(|number| !given.contains(&(**number).to_owned())).collect();
    assert!(strangers.len() <= 1, "{}", end.output);
    assert!(given.len() < 10, "{given:?}");
    assert!(end.output.contains("0 -> /dev/null"), "{}", end.output);
}

#[tokio::test]
async fn the_end_of_a_chatty_commands_output_is_kept() {
    let mut spec = shell("head -c 1048576 /dev/zero | tr '\\0' 'x'; echo; echo the end >&2", &marker());
    spec.output_bytes_max = 64 * 1024;
    let end = ended(spec).await;
    assert_eq!(end.outcome, CommandOutcome::Exited(0));
    assert_eq!((end.output.len(), end.truncated), (64 * 1024, true));
    assert!(end.output.ends_with("xxx\nthe end\n"));
    let end = ended(shell("echo out; echo err >&2; printf '\\377'", &marker())).await;
    assert_eq!((end.output.as_str(), end.truncated), ("out\nerr\n\u{fffd}", false));
}

#[tokio::test]
async fn the_deadline_holds_for_a_command_that_ignores_term() {
    let marker = marker();
    let mut deaf = shell("trap '' TERM INT HUP; echo begun; while :; do sleep 0.1; done", &marker);
    deaf.timeout = START;
    let end = ended(deaf).await;
    assert_eq!((end.outcome, end.output.as_str()), (CommandOutcome::TimedOut, "begun\n"));
    assert!(end.duration >= START + Duration::from_millis(300), "the grace was not given: {:?}", end.duration);
    assert_eq!(marked(&marker), Vec::<u32>::new());
    let mut polite = shell("trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.05; done", &marker);
    polite.timeout = START;
    polite.grace = PATIENCE;
    let end = ended(polite).await;
    assert_eq!(end.outcome, CommandOutcome::TimedOut);
    // Before it, the shell tells that its `sleep` was terminated, too.
    assert!(end.output.ends_with("cleaned\n"), "{}", end.output);
    assert!(end.duration < PATIENCE, "it did not wait for more than it needed");
    let mut stopped = shell("kill -STOP $$", &marker);
    stopped.timeout = Duration::from_millis(300);
    assert_eq!(ended(stopped).await.outcome, CommandOutcome::TimedOut);
    assert_eq!(marked(&marker), Vec::<u32>::new());
}

/// Runs [`DAEMONIZE`], then `rest`; gives the end and the number of the grandchild.
async fn with_grandchild(rest: &str, timeout: Duration) -> (CommandEnd, u32, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let marker = marker();
    let script = format!("{DAEMONIZE}\n{rest}");
    let mut spec = spec(&["sh", "-c", &script, "sh", file.to_str().expect("Unicode")], &marker);
    spec.timeout = timeout;
    let end = ended(spec).await;
    let grandchild = fs::read_to_string(&file).expect("the grandchild ran").trim().parse().expect("a number");
    (end, grandchild, marker)
}

#[tokio::test]
async fn a_grandchild_in_its_own_session_is_gone_when_the_command_ends() {
    let (end, grandchild, marker) = with_grandchild("echo done; exit 4", PATIENCE).await;
    // It held the pipe open, too: the command is over when the leader is, not when the pipe closes.
    assert_eq!((end.outcome, end.output.as_str()), (CommandOutcome::Exited(4), "done\n"));
    assert!(end.duration < PATIENCE);
    assert_eq!(end.left_behind, Vec::<u32>::new());
    assert_eq!(marked(&marker), Vec::<u32>::new(), "grandchild {grandchild}");
    assert!(!Path::new(&format!("/proc/{grandchild}")).exists());
}

#[tokio::test]
async fn a_grandchild_in_its_own_session_is_gone_after_the_deadline() {
    let (end, grandchild, marker) = with_grandchild("while :; do sleep 0.1; done", START).await;
    assert_eq!((end.outcome, end.left_behind), (CommandOutcome::TimedOut, vec![]));
    assert_eq!(marked(&marker), Vec::<u32>::new(), "grandchild {grandchild}");
    assert!(!Path::new(&format!("/proc/{grandchild}")).exists());
}

#[tokio::test]
async fn a_crowd_of_orphans_is_gone_too() {
    let marker = marker();
    let crowd = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        setsid sh -c 'trap \"\" TERM; (sleep 100 & sleep 101 & wait) & sleep 102' & done; sleep 0.1; exit 0";
    let end = ended(shell(crowd, &marker)).await;
    assert_eq!((end.outcome, end.left_behind), (CommandOutcome::Exited(0), vec![]));
    assert_eq!(marked(&marker), Vec::<u32>::new());
}

/// Not a test of its own: the daemon of the tests below, when [`DAEMON_SCRIPT`] is set. Says when the command runs.
#[tokio::test]
async fn plays_the_daemon() {
    let (Ok(script), Ok(marker)) = (std::env::var(DAEMON_SCRIPT), std::env::var(MARKER)) else { return };
    let file = std::env::var("TEST_FILE").expect("set with the script");
    let spec = spec(&["sh", "-c", &script, "sh", &file], &marker);
    let end = run(spec, |pid, _| eprintln!("\nstarted {pid}")).await;
    eprintln!("\nended {:?}", end.outcome);
}

/// A copy of this binary that runs the script; ended by number however the test goes.
struct Daemon {
    child: Child,
    leader: u32,
    marker: String,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start(script: &str) -> Daemon {
        let folder = tempfile::tempdir().expect("a folder");
        let marker = marker();
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "plays_the_daemon", "--nocapture"])
            .env(DAEMON_SCRIPT, script)
            .env(MARKER, &marker)
            .env("TEST_FILE", folder.path().join("pid"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let leader = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("started ")?.parse().ok());
        Daemon { child, leader: leader.expect("the command was started"), marker, folder }
    }

    fn grandchild(&self) -> u32 {
        let file = self.folder.path().join("pid");
        let read = || fs::read_to_string(&file).unwrap_or_default().trim().parse().ok();
        wait_until("the grandchild has written its number", || read().is_some());
        read().expect("just seen")
    }

    /// The helper: the parent of the leader.
    fn helper(&self) -> u32 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.leader)).expect("the leader runs");
        let after_name = stat.rsplit_once(')').expect("a name").1;
        after_name.split_ascii_whitespace().nth(1).expect("its parent").parse().expect("a number")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const FOREVER: &str = "trap '' TERM INT HUP; while :; do sleep 0.1; done";

#[test]
fn nothing_outlives_a_daemon_that_is_killed() {
    let mut daemon = Daemon::start(&format!("{DAEMONIZE}\n{FOREVER}"));
    let grandchild = daemon.grandchild();
    let helper = daemon.helper();
    assert!(marked(&daemon.marker).contains(&grandchild), "the test can see what it looks for");
    daemon.child.kill().expect("it runs");
    daemon.child.wait().expect("it is our child");
    wait_until("no process of the command is left", || marked(&daemon.marker).is_empty());
    wait_until("the helper has ended", || !Path::new(&format!("/proc/{helper}")).exists());
}

#[test]
fn signals_that_are_meant_for_others_do_not_end_the_helper() {
    let daemon = Daemon::start(&format!("{DAEMONIZE}\n{FOREVER}"));
    let grandchild = daemon.grandchild();
    let helper = daemon.helper();
    let kill = |signal: &str, target: &str| {
        assert!(Command::new("kill").args(["-s", signal, "--", target]).status().expect("kill").success());
    };
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        kill(signal, &helper.to_string());
    }
    // To the whole group of the command, which is not the helper's.
    kill("KILL", &format!("-{}", daemon.leader));
    wait_until("the helper has ended what the leader left", || marked_below(&daemon).is_empty());
    // What has ended has no environment any more, but stays there until the helper takes its status.
    wait_until("the grandchild is gone", || !Path::new(&format!("/proc/{grandchild}")).exists());
}

/// The daemon itself carries the marker, too.
fn marked_below(daemon: &Daemon) -> Vec<u32> {
    marked(&daemon.marker).into_iter().filter(|&pid| pid != daemon.child.id()).collect()
}

#[tokio::test]
async fn a_helper_that_is_killed_leaves_the_outcome_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("started");
    let marker = marker();
    // The parent of the leader is the helper.
    let script = "while [ ! -e \"$0\" ]; do sleep 0.01; done; kill -KILL $PPID; while :; do sleep 0.1; done";
    let spec = spec(&["sh", "-c", script, file.to_str().expect("Unicode")], &marker);
    let end = run(spec, |_, _| fs::write(&file, "").expect("a file")).await;
    assert_eq!(end.outcome, CommandOutcome::Lost("the helper that ran the command died".to_owned()));
    wait_until("the group of the leader is gone", || marked(&marker).is_empty());
}

/// Leaves processes in sessions of their own, one of which goes on to make more.
fn scattered() -> String {
    format!("{DAEMONIZE}\nsetsid sleep 300 &\nsetsid sh -c 'while :; do sleep 0.05; done' &\n")
}

/// Nobody is told of orphans any more: they are found by what is in their environment.
#[tokio::test]
async fn what_a_killed_helper_watched_over_ends_in_every_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let (killed, other) = (marker(), marker());
    let bystander = tokio::spawn(run(shell(FOREVER, &other), |_, _| {}));
    let script = format!("{}kill -KILL $PPID\n{FOREVER}", scattered());
    let end = ended(spec(&["sh", "-c", &script, "sh", file.to_str().expect("Unicode")], &killed)).await;
    assert_eq!(end.outcome, CommandOutcome::Lost("the helper that ran the command died".to_owned()));
    assert_eq!(marked(&killed), [0; 0], "by the time that the outcome is told");
    assert_eq!(end.left_behind, [0; 0]);
    assert!(!marked(&other).is_empty(), "another command is not touched");
    bystander.abort();
    assert!(bystander.await.expect_err("aborted").is_cancelled());
}

#[tokio::test]
async fn what_a_helper_that_hangs_watched_over_ends_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let marker = marker();
    let script = format!("kill -STOP $PPID\n{}{FOREVER}", scattered());
    let mut spec = spec(&["sh", "-c", &script, "sh", file.to_str().expect("Unicode")], &marker);
    spec.timeout = Duration::from_secs(2);
    let end = ended(spec).await;
    assert_eq!(end.outcome, CommandOutcome::Lost("the helper did not report within its limit".to_owned()));
    assert_eq!(marked(&marker), [0; 0], "by the time that the outcome is told");
}

#[tokio::test]
async fn dropping_the_future_ends_the_command() {
    let marker = marker();
    let (started, runs) = tokio::sync::oneshot::channel();
    let command = tokio::spawn(run(shell(FOREVER, &marker), move |pid, _| {
        started.send(pid).expect("the test waits");
    }));
    let pid = tokio::time::timeout(PATIENCE, runs).await.expect("in time").expect("started");
    wait_until("it can be seen", || marked(&marker).contains(&pid));
    command.abort();
    assert!(command.await.expect_err("aborted").is_cancelled());
    wait_until("no process is left", || marked(&marker).is_empty());
}

/// In a process of its own: other tests open descriptors and start children meanwhile.
#[test]
fn many_commands_leave_neither_descriptors_nor_zombies() {
    let status = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "runs_many_commands", "--nocapture"])
        .env("TEST_MANY", "200")
        .stdout(Stdio::null())
        .status()
        .expect("it starts");
    assert!(status.success());
}

/// Not a test of its own: the work of the one above, when `TEST_MANY` is set.
#[tokio::test]
async fn runs_many_commands() {
    let Ok(count) = std::env::var("TEST_MANY") else { return };
    let descriptors = || fs::read_dir("/proc/self/fd").expect("/proc").count();
    let children = || {
        let tasks = fs::read_dir("/proc/self/task").expect("/proc").flatten();
        let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        lists.collect::<String>().split_ascii_whitespace().count()
    };
    // The first one opens what the runtime keeps.
    assert_eq!(ended(spec(&["true"], "m")).await.outcome, CommandOutcome::Exited(0));
    let before = descriptors();
    for _ in 0..count.parse::<u32>().expect("a number") / 4 {
        let quick = || ended(spec(&["true"], "m"));
        let (a, b, c, d) = tokio::join!(quick(), quick(), quick(), ended(spec(&["/no/such/program"], "m")));
        for end in [a, b, c] {
            assert_eq!(end.outcome, CommandOutcome::Exited(0));
        }
        assert_eq!(d.outcome, CommandOutcome::NotFound);
    }
    assert_eq!(descriptors(), before);
    assert_eq!(children(), 0);
}

fn order(argv: &[&str]) -> StepOrder {
    set_helper(Path::new(env!("CARGO_BIN_EXE_backstop")));
    let release = |name: &str| Some(Release(name.into()));
    StepOrder {
        incident: IncidentId("api-17".into()),
        service: "api".into(),
        attempt: Attempt { level: 1, step: 2, attempt: 1, undo: false },
        step: Step {
            name: "previous release".to_owned(),
            action: Action::Command {
                argv: argv.iter().map(|&word| word.to_owned()).collect(),
                env: BTreeMap::new(),
                inherit: Vec::new(),
                directory: None,
            },
            timeout: PATIENCE,
            idempotent: false,
            on_failure: OnFailure::Climb,
            retry: None,
            check: None,
        },
        idempotency_key: "api-17/1/2".to_owned(),
        expect_release: release("2.0"),
        bad: release("2.0"),
        target: release("1.9"),
        running: None,
        variables: BTreeMap::from([
            ("trigger".to_owned(), "error-rate".to_owned()),
            ("value".to_owned(), "43 %".to_owned()),
            ("labels.pod".to_owned(), "api-0".to_owned()),
            ("labels.path".to_owned(), "/users/{id}; rm".to_owned()),
        ]),
        captures: BTreeMap::from([("id".to_owned(), "dep_1".to_owned())]),
    }
}

async fn carried_out(order: &StepOrder) -> (StepResult, Option<u32>) {
    let mut started = None;
    let executor = Executor::new(Clock::start(None, None)).expect("a client");
    let result = executor.run(order, |pid, start| started = start.and(pid)).await;
    (result, started)
}

#[tokio::test]
async fn a_step_learns_what_it_is_about() {
    let mut order = order(&["sh", "-c", "echo \"$1\"; env", "sh", "{{ release.target }}"]);
    let Action::Command { env, directory, .. } = &mut order.step.action else { unreachable!("made above") };
    env.insert("TO".to_owned(), TextOrSecret::Text("release {{ release.target }}".to_owned()));
    env.insert("BACKSTOP_LEVEL".to_owned(), TextOrSecret::Text("9".to_owned()));
    *directory = Some("/".to_owned());
    let (result, started) = carried_out(&order).await;
    assert_eq!((result.outcome, result.detail.as_str()), (Outcome::Succeeded, "exit status 0"));
    assert!(started.is_some());
    assert!(result.output.starts_with("1.9\n"), "{}", result.output);
    let seen: BTreeMap<&str, &str> = result.output.lines().filter_map(|line| line.split_once('=')).collect();
    let ours: Vec<(&str, &str)> =
        seen.iter().filter(|(name, _)| name.starts_with("BACKSTOP_")).map(|(name, value)| (*name, *value)).collect();
    let expected = [
        ("BACKSTOP_ATTEMPT", "1"),
        ("BACKSTOP_CAPTURE_id", "dep_1"),
        ("BACKSTOP_EXPECT_RELEASE", "2.0"),
        ("BACKSTOP_IDEMPOTENCY_KEY", "api-17/1/2"),
        ("BACKSTOP_INCIDENT", "api-17"),
        ("BACKSTOP_LABEL_pod", "api-0"),
        ("BACKSTOP_LEVEL", "2"),
        ("BACKSTOP_RELEASE_BAD", "2.0"),
        ("BACKSTOP_RELEASE_TARGET", "1.9"),
        // Differs each time.
        (RUN, seen[RUN]),
        ("BACKSTOP_SERVICE", "api"),
        ("BACKSTOP_STEP", "3"),
        ("BACKSTOP_TRIGGER", "error-rate"),
    ];
    assert_eq!(ours, expected);
    assert_eq!(seen.get("TO"), Some(&"release 1.9"));
    assert_eq!(seen.get("PWD"), Some(&"/"));
}

#[tokio::test]
async fn a_step_with_a_value_that_cannot_be_passed_on_does_not_start() {
    let marker = tempfile::tempdir().expect("a folder");
    let file = marker.path().join("ran");
    let touch = ["touch", file.to_str().expect("Unicode")];
    let mut strange = order(&touch);
    strange.target = Some(Release("1.9; rm -rf /".into()));
    let mut option = order(&touch);
    option.bad = Some(Release("--force".into()));
    let mixed = order(&[touch[0], touch[1], "--to={{ release.target }}"]);
    let program = order(&["{{ release.target }}", touch[1]]);
    let unknown = order(&[touch[0], touch[1], "{{ release.running }}"]);
    let label = order(&[touch[0], touch[1], "{{ labels.path }}"]);
    let sentences = [
        (strange, "BACKSTOP_RELEASE_TARGET would be \"1.9; rm -rf /\", which cannot be passed to a command"),
        (option, "BACKSTOP_RELEASE_BAD would be \"--force\", which cannot be passed to a command"),
        (mixed, "argument 2: a template must be a whole argument"),
        (program, "the program: a template cannot stand here"),
        (unknown, "argument 2: release.running is not known"),
        (label, "argument 2: the value of labels.path cannot be passed on: \"/users/{id}; rm\""),
    ];
    for (order, sentence) in sentences {
        let (result, started) = carried_out(&order).await;
        assert_eq!((result.outcome, result.detail), (Outcome::Failed, format!("not started: {sentence}")));
        assert_eq!(started, None);
    }
    assert!(!file.exists());
}

#[tokio::test]
async fn a_steps_outcome_says_what_is_known() {
    let cases = [
        (order(&["sh", "-c", "exit 3"]), Outcome::Failed, "exit status 3"),
        (order(&["sh", "-c", "kill -TERM $$"]), Outcome::Failed, "ended by signal 15"),
        (order(&[]), Outcome::Failed, "not started: the command is empty"),
        (order(&["/no/such/program"]), Outcome::Failed, "there is no program /no/such/program"),
        (
            order(&["sh", "-c", "sleep 0.2; kill -KILL $PPID"]),
            Outcome::Ambiguous,
            "the helper that ran the command died",
        ),
    ];
    for (order, outcome, detail) in cases {
        let (result, _) = carried_out(&order).await;
        assert_eq!((result.outcome, result.detail.as_str()), (outcome, detail));
    }
    let mut slow = order(&["sleep", "100"]);
    slow.step.timeout = Duration::from_millis(300);
    let (result, _) = carried_out(&slow).await;
    assert_eq!((result.outcome, result.detail.as_str()), (Outcome::TimedOut, "deadline of 300ms"));
}

#[tokio::test]
async fn a_secret_reaches_the_command_and_not_the_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    fs::write(&file, "s3cr3t-token\n").expect("a file");
    let secret = SecretRef::File(file.to_str().expect("Unicode").to_owned());
    let mut order = order(&["sh", "-c", "[ \"$AUTH\" = 'Bearer s3cr3t-token' ] && echo \"sent $AUTH\""]);
    let Action::Command { env, .. } = &mut order.step.action else { unreachable!("made above") };
    env.insert("AUTH".to_owned(), TextOrSecret::Secret { prefix: "Bearer ".to_owned(), secret });
    let (result, _) = carried_out(&order).await;
    assert_eq!((result.outcome, result.output.as_str()), (Outcome::Succeeded, "sent Bearer [redacted]\n"));
}

fn question(argv: &[&str]) -> CheckOrder {
    let StepOrder { incident, service, attempt, bad, target, running, variables, captures, .. } = order(&[]);
    let ask = Ask::Command {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: BTreeMap::new(),
        inherit: Vec::new(),
        directory: None,
    };
    CheckOrder {
        id: CheckId(1),
        service,
        incident: Some(incident),
        check: Check { name: "image exists".to_owned(), ask, timeout: PATIENCE },
        level: Some(attempt.level),
        attempt: None,
        bad,
        target,
        running,
        variables,
        captures,
    }
}

async fn asked(order: &CheckOrder) -> CheckOutcome {
    Executor::new(Clock::start(None, None)).expect("a client").check(order).await
}

#[tokio::test]
async fn a_check_by_command_says_yes_no_or_nothing() {
    assert_eq!(asked(&question(&["true"])).await, CheckOutcome::Passed);
    let script =
        r#"echo looking; echo "no image of $1 at level $BACKSTOP_LEVEL, not $BACKSTOP_RELEASE_BAD" >&2; exit 3"#;
    let no = asked(&question(&["sh", "-c", script, "sh", "{{ release.target }}"])).await;
    assert_eq!(no, CheckOutcome::Failed("exit status 3: no image of 1.9 at level 2, not 2.0".to_owned()));
    let unset = r#"test -z "$BACKSTOP_STEP$BACKSTOP_ATTEMPT$BACKSTOP_IDEMPOTENCY_KEY$BACKSTOP_EXPECT_RELEASE""#;
    assert_eq!(asked(&question(&["sh", "-c", unset])).await, CheckOutcome::Passed, "it is about no step");

    let unknown = |outcome: CheckOutcome, part: &str| {
        assert!(matches!(&outcome, CheckOutcome::Unknown(why) if why.contains(part)), "{part}: {outcome:?}");
    };
    unknown(asked(&question(&["/no/such/check"])).await, "there is no program");
    unknown(asked(&question(&["sh", "-c", "kill -9 $$"])).await, "ended by signal 9");
    let mut slow = question(&["sleep", "60"]);
    slow.check.timeout = Duration::from_millis(300);
    unknown(asked(&slow).await, "deadline of 300ms");
    unknown(asked(&question(&["true", "{{ labels.path }}"])).await, "not asked");
}
