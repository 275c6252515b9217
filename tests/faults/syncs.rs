//! Killed at every sync point of an incident of two levels: no step runs more often than it may, every notice arrives,
//! the incident ends.
//!
//! strace lets the daemon hang as it enters its N-th fsync, and there it is killed; the next daemon at one of its first,
//! the third lives. N grows until a daemon comes to the end of the incident and of itself without another sync.
//!
//! With `BACKSTOP_FAULTS=all` the daemon also dies without the pause before its death, and at each write beside each
//! sync; the last line says what was tried, and how long it took.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};
use std::fs;
use std::ops::AddAssign;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use backstop::decide::event::{Entry, IncidentEvent, Outcome};
use backstop::journal;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Duration, Instant, sleep, timeout};

use super::places::{all, can_trace, tolerate_gaps, tracer};
use super::process::Daemon;
use super::site::{File, Receiver, Site, until};

/// For a whole incident with its deaths, on a machine that does other things.
const INCIDENT_MAX: Duration = Duration::from_mins(3);
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// So many incidents at a time: each mostly waits.
const AT_ONCE: u32 = 4;

#[derive(Clone, Copy, Debug)]
struct Case {
    /// The level that helps; None: none does.
    helps: Option<usize>,
    idempotent: bool,
    /// The system calls to be killed at.
    calls: &'static str,
    death: Death,
}

/// What the rest of the daemon may do while the call hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// What must wait for the call gets its chance not to.
    AfterAWhile,
    /// What was begun just before is cut off.
    AtOnce,
}

/// What the ladder's steps are called, by level.
const STEPS: [&[&str]; 2] = [&["flag"], &["note", "switch"]];

fn steps() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().flatten().copied()
}

const LINK_EVERY: &str = "/current\", interval = \"100ms\"";

impl Case {
    /// The step that brings the old release back.
    fn switches(self, step: &str) -> bool {
        self.helps.is_some_and(|level| STEPS[level].last() == Some(&step))
    }

    /// Each step writes a line before it does anything.
    fn write(self, site: &Site, tables: &str) {
        let root = site.root().display();
        for step in steps() {
            let switch = format!("ln -s {root}/releases/\"$1\" {root}/next.$$ && mv -T {root}/next.$$ {root}/current");
            let does = if self.switches(step) { &switch } else { ":" };
            fs::write(site.path(&format!("{step}.sh")), format!("echo {step} >> {root}/ran\n{does}\n")).unwrap();
        }
        let mut level = String::new();
        for (number, names) in STEPS.iter().enumerate() {
            if number > 0 {
                // The proof of a recovery takes a look; where none comes, one second is enough to know.
                let within = if self.helps == Some(number) { "60s" } else { "1s" };
                level.push_str("[[services.api.rollback]]\n");
                writeln!(level, "name = \"level 2\"\nverify = {{ within = \"{within}\", soak = \"300ms\" }}").unwrap();
            }
            let command = |name: &&str| {
                let argv = format!("[\"/bin/sh\", \"{root}/{name}.sh\", \"{{{{ release.target }}}}\"]");
                format!("{{ command = {argv}, idempotent = {}, timeout = \"60s\" }}", self.idempotent)
            };
            let steps: Vec<String> = names.iter().map(command).collect();
            writeln!(level, "steps = [{}]", steps.join(", ")).unwrap();
        }
        site.write(&File {
            service: "notify = [\"team\"]".to_owned(),
            hold: "300ms",
            level,
            verify: if self.helps == Some(0) {
                "{ within = \"60s\", soak = \"300ms\" }"
            } else {
                "{ within = \"1s\", soak = \"300ms\" }"
            },
            more: tables.to_owned(),
            ..File::default()
        });
        // Between a death and the next start is a gap in what is known, which is not what this is about.
        tolerate_gaps(site, "1h");
        // Nor is it about a machine so busy that the link is not read for three intervals.
        let text = fs::read_to_string(site.config()).unwrap();
        assert!(text.contains(LINK_EVERY));
        fs::write(site.config(), text.replace(LINK_EVERY, "/current\", interval = \"400ms\"")).unwrap();
    }
}

/// The state of a daemon that knows v1 to be good and was stopped.
async fn calm_state() -> TempDir {
    let site = Site::new();
    let (_receiver, tables) = Receiver::start();
    Case { helps: None, idempotent: false, calls: "", death: Death::AtOnce }.write(&site, &tables);
    let daemon = Daemon::start(&site).await;
    daemon.knows_good("v1").await;
    daemon.stop().await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["journal.db", "windows"] {
        fs::copy(site.path("state").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// For so long a call hangs that a daemon is to die in, with [`Death::AfterAWhile`].
const HANGS: Duration = Duration::from_millis(300);

/// A daemon that hangs as it enters one of its system calls, as on a slow disk, and is killed there.
struct Mortal {
    daemon: Daemon,
    /// The thread that hangs, and since when it was seen.
    hangs: Option<(String, Instant)>,
}

impl Mortal {
    /// `dies_at` counts these calls from 1; None: it does not die.
    fn start(site: &Site, case: Case, dies_at: Option<u32>) -> Mortal {
        let what = match case.death {
            // Longer than anybody waits for anything here, so that the call never goes on.
            Death::AfterAWhile => "delay_enter=900s",
            Death::AtOnce => "signal=KILL",
        };
        let wrapper = dies_at.map(|call| tracer(&format!("{}:{what}:when={call}", case.calls))).unwrap_or_default();
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        Mortal { daemon: Daemon::spawn_under(site, &wrapper, &[]), hangs: None }
    }

    /// Whether it is dead, or has ended as it was asked to.
    async fn is_over(&mut self) -> Option<Over> {
        if !self.daemon.is_running() {
            let status = self.daemon.ended().await;
            let killed = status.signal() == Some(Signal::KILL.as_raw());
            assert!(killed || status.success(), "{status}: {}", self.daemon.log());
            return Some(if killed { Over::Killed } else { Over::Stopped });
        }
        let stopped = stopped_thread(self.daemon.pid());
        let since = match (self.hangs.take(), stopped) {
            (Some((thread, since)), Some(now)) if thread == now => (thread, since),
            (_, Some(thread)) => (thread, Instant::now()),
            (_, None) => return None,
        };
        if since.1.elapsed() >= HANGS {
            let tracer = tracer_of(self.daemon.pid());
            self.daemon.signal(Signal::KILL);
            // It would wait for the call to go on, and keep the dead from their parent.
            if let Some(tracer) = tracer {
                kill_process(tracer, Signal::KILL).unwrap_or_default();
            }
        }
        self.hangs = Some(since);
        None
    }
}

impl Drop for Mortal {
    /// Without its tracer it can be waited for, whatever it hangs in.
    fn drop(&mut self) {
        if let Some(tracer) = tracer_of(self.daemon.pid()) {
            kill_process(tracer, Signal::KILL).unwrap_or_default();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Killed,
    Stopped,
}

fn tracer_of(pid: u32) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    Pid::from_raw(tracer.trim().parse().ok()?)
}

/// A thread that its tracer has stopped, at this moment.
fn stopped_thread(pid: u32) -> Option<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let stopped = |task: &fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name stands in brackets and may hold anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('t'))
    };
    let task = tasks.filter_map(Result::ok).find(stopped)?;
    task.file_name().to_str().map(str::to_owned)
}

/// What was tried, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    incidents: u32,
    deaths: u32,
    /// Executions of all steps.
    steps: u32,
    /// Executions of the step that ran most often in its incident.
    most: u32,
    notices: u32,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.incidents += other.incidents;
        self.deaths += other.deaths;
        self.steps += other.steps;
        self.most = self.most.max(other.most);
        self.notices += other.notices;
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { incidents, deaths, steps, most, notices } = self;
        write!(f, "{incidents} incidents, {deaths} deaths, {steps} steps run, none more often than {most} in its ")?;
        write!(f, "incident, {notices} notices, each arrived")
    }
}

/// One incident, in which the first daemons die as `deaths` says.
async fn incident(case: Case, calm: &Path, deaths: Vec<u32>) -> Tally {
    let site = Site::new();
    let (receiver, tables) = Receiver::start();
    case.write(&site, &tables);
    site.app.set(|mood| mood.broken.clear());
    fs::create_dir(site.path("state")).unwrap();
    for file in fs::read_dir(calm).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), site.path("state").join(file.file_name())).unwrap();
    }
    let mut deaths = deaths.into_iter();
    let mut died = 0;
    let mut deployed = false;
    let mut ending = false;
    let mut life = Mortal::start(&site, case, deaths.next());
    let deadline = Instant::now() + INCIDENT_MAX;
    loop {
        assert!(Instant::now() < deadline, "{case:?}: the incident does not end");
        match life.is_over().await {
            None => {}
            Some(Over::Killed) => {
                died += 1;
                if ending {
                    break;
                }
                life = Mortal::start(&site, case, deaths.next());
            }
            Some(Over::Stopped) => break,
        }
        // A daemon that hangs may take a request and never answer it.
        if let Ok(Some(status)) = timeout(ANSWER_MAX, life.daemon.try_get("/v1/status")).await {
            let service = &status["services"][0];
            if !deployed && service["running"]["release"] == "v1" && service["triggers"][0]["finding"] == "clear" {
                site.deploy("v2");
                deployed = true;
            }
            // A scrape that began before the link was read would date the breach before the release.
            if deployed && service["running"]["release"] == "v2" {
                site.app.set(|mood| mood.broken.extend(["v2".to_owned()]));
            }
            if deployed && !ending && timeout(ANSWER_MAX, is_over(&site, &life.daemon)).await == Ok(true) {
                // The end of the daemon has sync points, too.
                ending = true;
                life.daemon.signal(Signal::TERM);
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
    let ran = fs::read_to_string(site.path("ran")).unwrap_or_default();
    let notices = judge(case, &site, &receiver, &ran);

    let daemon = Daemon::start(&site).await;
    let looks = "backstop_looks_total{service=\"api\",source=\"app\"}";
    until("some looks", async || (daemon.metric(looks).await > 3.0).then_some(())).await;
    daemon.stop().await;
    assert_eq!(fs::read_to_string(site.path("ran")).unwrap_or_default(), ran, "a start after the end adds nothing");
    let times = |step: &str| u32::try_from(ran.lines().filter(|line| *line == step).count()).unwrap();
    let (steps, most) = (steps().map(times).sum(), steps().map(times).max().unwrap());
    Tally { incidents: 1, deaths: died, steps, most, notices }
}

/// The incident is over, or a person was called; and then, everybody has been told.
async fn is_over(site: &Site, daemon: &Daemon) -> bool {
    let Some(incidents) = daemon.try_get("/v1/incidents").await else { return false };
    match incidents["incidents"][0]["state"].as_str() {
        Some("recovered" | "cleared" | "superseded") => {}
        // A step that was cut off after it had switched: the person who is called sees the breach end.
        Some("needs_human") if site.running() == "v2" => {}
        _ => return false,
    }
    daemon.try_get("/v1/status").await.is_some_and(|status| status["receivers"][0]["queued"] == 0)
}

/// Compares what happened in the world with what was promised and with what the journal says. Gives back how many
/// notices there were.
// Length: one oracle, its claims one after another.
fn judge(case: Case, site: &Site, receiver: &Receiver, ran: &str) -> u32 {
    let history = journal::read_only(&site.path("state")).unwrap();
    assert!(history.unreadable.is_empty());
    let mut opened = BTreeSet::new();
    let mut admitted = 0;
    let mut intended: BTreeMap<&str, u32> = BTreeMap::new();
    let mut ambiguous = 0;
    let mut queued = BTreeMap::new();
    let mut last = None;
    // What must have been told, how often.
    let mut due = BTreeMap::from([("started", 0), ("level_finished", 0), ("recovered", 0), ("needs_human", 0)]);
    for record in &history.records {
        match &record.entry {
            Entry::Incident { incident, event } => {
                opened.insert(incident.clone());
                let told = match &**event {
                    IncidentEvent::Admitted { .. } => {
                        admitted += 1;
                        "started"
                    }
                    IncidentEvent::Climbed { .. } => "started",
                    IncidentEvent::LevelFinished { .. } | IncidentEvent::LevelFailed { .. } => "level_finished",
                    IncidentEvent::Recovered { .. } | IncidentEvent::Cleared => "recovered",
                    IncidentEvent::Superseded { .. } => "superseded",
                    IncidentEvent::NeedsHuman { .. } => "needs_human",
                    IncidentEvent::StepIntended { attempt, .. } => {
                        *intended.entry(STEPS[attempt.level][attempt.step]).or_default() += 1;
                        continue;
                    }
                    IncidentEvent::StepFinished { result, .. } => {
                        ambiguous += u32::from(result.outcome == Outcome::Ambiguous);
                        continue;
                    }
                    _ => continue,
                };
                *due.entry(told).or_insert(0) += 1;
                last = Some(told);
            }
            Entry::NoticeQueued { notice, .. } => {
                queued.insert(notice.id.clone(), notice.kind.as_str());
            }
            _ => {}
        }
    }
    assert_eq!((opened.len(), admitted), (1, 1), "one incident, admitted once");

    let most = if case.idempotent { 3 } else { 1 };
    for step in steps() {
        let times = u32::try_from(ran.lines().filter(|line| *line == step).count()).unwrap();
        let intended = intended.get(step).copied().unwrap_or(0);
        assert!(times <= most, "{step} ran {times} times, {most} at most");
        assert!(times <= intended, "{step} ran {times} times and was intended {intended} times");
    }
    // A step that was cut off may have written its line and not switched.
    let helped = ran.lines().any(|line| case.switches(line));
    let switched = site.running() == "v1";
    assert!(switched == helped || (helped && ambiguous > 0), "nobody else changed the world");
    let called = due["needs_human"] > 0;
    assert_eq!(called, !switched || (ambiguous > 0 && !case.idempotent), "{ambiguous} ambiguous, {last:?}");
    let expected = last.expect("it has an end");
    match (switched, called) {
        (true, false) => assert_eq!(expected, "recovered"),
        (true, true) => assert!(["recovered", "superseded"].contains(&expected), "{expected}"),
        (false, _) => assert_eq!(expected, "needs_human"),
    }
    if case.helps.is_none() && ambiguous == 0 {
        assert_eq!(ran, "flag\nnote\nswitch\n", "each level was tried, once");
    }

    // Everything that was queued has arrived, under the id that it had; nothing else did; without a gap, in order.
    let mut arrived = BTreeMap::new();
    let mut order = Vec::new();
    for notice in receiver.notices() {
        assert!(notice["forged"].is_null(), "{notice}");
        let (id, kind) = (notice["id"].as_str().unwrap().to_owned(), notice["type"].as_str().unwrap().to_owned());
        let seq = notice["seq"].as_u64().unwrap();
        if let Some(before) = arrived.insert(id, (kind.clone(), seq)) {
            assert_eq!(before, (kind, seq), "a repetition is the same notice");
        } else {
            order.push((seq, kind));
        }
    }
    let sent: BTreeMap<String, &str> = arrived.iter().map(|(id, (kind, _))| (id.clone(), kind.as_str())).collect();
    assert_eq!(sent, queued);
    let numbers: Vec<u64> = order.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=order.len() as u64).collect::<Vec<_>>(), "{order:?}");
    let kinds: Vec<&str> = order.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"started"), Some(&expected)), "{kinds:?}");
    for (kind, times) in due {
        assert_eq!(kinds.iter().filter(|told| **told == kind).count(), times, "{kind} in {kinds:?}");
    }
    u32::try_from(order.len()).unwrap()
}

/// So many failures are enough to see what is wrong.
const FAILURES_MAX: usize = 5;

/// Kills at point 1, 2, 3, … until a daemon no longer meets its point. How many points there were. A failure does not
/// keep the rest from being tried.
async fn at_every_point(case: Case, calm: &Path, tally: &mut Tally, failures: &mut Vec<String>) -> u32 {
    let mut next = 1;
    loop {
        let mut incidents = JoinSet::new();
        let points: BTreeMap<_, _> = (next..next + AT_ONCE)
            .map(|point| {
                let calm = calm.to_owned();
                // The one that takes over dies soon, too: recovery has sync points of its own.
                let deaths = vec![point, 1 + point % 4];
                (incidents.spawn_local(async move { incident(case, &calm, deaths).await }).id(), point)
            })
            .collect();
        let mut lived = None;
        while let Some(ended) = incidents.join_next_with_id().await {
            match ended {
                Ok((id, of_one)) => {
                    if of_one.deaths == 0 {
                        lived = lived.into_iter().chain([points[&id]]).min();
                    }
                    *tally += of_one;
                }
                Err(error) => failures.push(format!("{case:?}, point {}: {error}", points[&error.id()])),
            }
        }
        if let Some(point) = lived {
            return point - 1;
        }
        if failures.len() >= FAILURES_MAX {
            return next;
        }
        next += AT_ONCE;
    }
}

async fn killed_everywhere(cases: &[Case]) {
    if !can_trace() {
        return;
    }
    let calm = calm_state().await;
    let begun = Instant::now();
    let (mut total, mut points_total, mut failures) = (Tally::default(), 0, Vec::new());
    for case in cases {
        let (mut tally, since) = (Tally::default(), Instant::now());
        let tried = at_every_point(*case, calm.path(), &mut tally, &mut failures);
        let points = LocalSet::new().run_until(tried).await;
        println!("{case:?}: killed at each of {points} points in {} s: {tally}", since.elapsed().as_secs());
        if points < 15 {
            failures.push(format!("{case:?}: only {points} points were met; is the daemon traced at all?"));
        }
        total += tally;
        points_total += points;
        if failures.len() >= FAILURES_MAX {
            break;
        }
    }
    println!("in all: {points_total} points in {} s: {total}", begun.elapsed().as_secs());
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), total.incidents, failures.join("\n"));
}

/// The calls by which a journal becomes durable. SQLite uses one or the other, as it was compiled.
const SYNCS: &str = "fsync,fdatasync";

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_sync_of_an_incident_whose_second_level_helps() {
    killed_everywhere(&[Case { helps: Some(1), idempotent: false, calls: SYNCS, death: Death::AfterAWhile }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_sync_of_an_incident_in_which_no_level_helps() {
    killed_everywhere(&[Case { helps: None, idempotent: true, calls: SYNCS, death: Death::AtOnce }]).await;
}

/// The rest of the variants; and each write beside each sync: what a power cut leaves of a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_sync_and_write_of_every_kind_of_incident() {
    if !all() {
        eprintln!("skipped: half an hour; BACKSTOP_FAULTS=all runs it");
        return;
    }
    let mut cases = Vec::new();
    for (calls, death) in [(SYNCS, Death::AfterAWhile), (SYNCS, Death::AtOnce), ("pwrite64", Death::AfterAWhile)] {
        for helps in [Some(0), Some(1), None] {
            cases.extend([false, true].map(|idempotent| Case { helps, idempotent, calls, death }));
        }
    }
    killed_everywhere(&cases).await;
}
