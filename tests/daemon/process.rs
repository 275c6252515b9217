//! The daemon as a process: started, asked, signalled, and ended whatever becomes of the test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use backstop::decide::event::{Entry, IncidentEvent, Record};
use backstop::journal;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::site::{SECRET, Site, until};

#[derive(Debug)]
pub struct Daemon {
    child: Child,
    pub socket: PathBuf,
    state: PathBuf,
    log: PathBuf,
    client: reqwest::Client,
}

/// `backstop run`, free of what the test's own environment says.
pub fn command(site: &Site) -> Command {
    command_under(site, &[])
}

/// The same as the last arguments of another program, such as `strace`.
pub fn command_under(site: &Site, wrapper: &[&str]) -> Command {
    let mut words = wrapper.iter().copied().chain([env!("CARGO_BIN_EXE_backstop"), "run"]);
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).arg(site.config()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for name in ["BACKSTOP_LOG", "BACKSTOP_SOCKET", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
    {
        command.env_remove(name);
    }
    command.env("TEAM_SECRET", SECRET);
    command
}

impl Daemon {
    /// Answers when this returns.
    pub async fn start(site: &Site) -> Daemon {
        Daemon::start_with(site, &[]).await
    }

    pub async fn start_with(site: &Site, environment: &[(&str, &str)]) -> Daemon {
        let daemon = Daemon::spawn(site, environment);
        until("the daemon's answer", async || daemon.try_get("/v1/status").await).await;
        daemon
    }

    /// Does not wait for anything.
    pub fn spawn(site: &Site, environment: &[(&str, &str)]) -> Daemon {
        Daemon::spawn_under(site, &[], environment)
    }

    /// As the last arguments of another program, which must become it (`exec`), so that its number is the daemon's.
    pub fn spawn_under(site: &Site, wrapper: &[&str], environment: &[(&str, &str)]) -> Daemon {
        backstop::platform::http::install_crypto();
        let (log, socket) = (site.path("log"), site.path("state/backstop.sock"));
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = command_under(site, wrapper).envs(environment.iter().copied()).stderr(file).spawn().unwrap();
        let client = reqwest::Client::builder().unix_socket(socket.clone()).no_proxy().build().unwrap();
        Daemon { child, socket, state: site.path("state"), log, client }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        until("the daemon's end", async || self.child.try_wait().unwrap()).await
    }

    /// As a power cut would.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.ended().await.signal(), Some(Signal::KILL.as_raw()));
    }

    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.ended().await.success());
    }

    pub async fn text(&self, path: &str) -> Option<(u16, String)> {
        let answer = self.client.get(format!("http://backstop{path}")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    pub async fn try_get(&self, path: &str) -> Option<Value> {
        let (status, text) = self.text(path).await?;
        (status == 200).then(|| serde_json::from_str(&text).unwrap())
    }

    pub async fn get(&self, path: &str) -> Value {
        self.try_get(path).await.unwrap_or_else(|| panic!("no answer for {path}"))
    }

    pub async fn service(&self) -> Value {
        self.get("/v1/status").await["services"][0].clone()
    }

    pub async fn trigger(&self, name: &str) -> Value {
        let service = self.service().await;
        let triggers = service["triggers"].as_array().unwrap();
        triggers.iter().find(|trigger| trigger["name"] == name).unwrap().clone()
    }

    /// A release that one may go back to.
    pub async fn knows_good(&self, name: &str) {
        until(&format!("{name} to be good"), async || {
            let service = self.service().await;
            let releases = service["releases"].as_array().unwrap();
            releases.iter().any(|release| release["name"] == name && release["good"] == true).then_some(())
        })
        .await;
    }

    pub async fn incidents(&self) -> Vec<Value> {
        self.get("/v1/incidents").await["incidents"].as_array().unwrap().clone()
    }

    /// The latest incident, once it is in this state.
    pub async fn incident(&self, state: &str) -> Value {
        let id = until(&format!("an incident that is {state}"), async || {
            let latest = self.incidents().await.into_iter().next()?;
            (latest["state"] == state).then(|| latest["id"].as_str().unwrap().to_owned())
        })
        .await;
        self.get(&format!("/v1/incidents/{id}")).await
    }

    /// The value of one sample of `/metrics`, named as it stands there; 0 where it is absent.
    pub async fn metric(&self, sample: &str) -> f64 {
        let (status, text) = self.text("/metrics").await.expect("an answer");
        assert_eq!(status, 200, "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Looks at all targets so far, whether they succeeded or not.
    pub async fn looks(&self) -> f64 {
        let (_, text) = self.text("/metrics").await.expect("an answer");
        let families = ["backstop_looks_total{", "backstop_scrape_failures_total{"];
        let lines = text.lines().filter(|line| families.iter().any(|family| line.starts_with(family)));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    pub fn records(&self) -> Vec<Record> {
        journal::read_only(&self.state).unwrap().records
    }

    /// The events of all incidents, oldest first.
    pub fn events(&self) -> Vec<IncidentEvent> {
        let event = |record: Record| match record.entry {
            Entry::Incident { event, .. } => Some(*event),
            _ => None,
        };
        self.records().into_iter().filter_map(event).collect()
    }

    /// The command line against this daemon.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
        command.args(arguments).arg("--socket").arg(&self.socket).env_remove("BACKSTOP_SOCKET");
        command.output().unwrap()
    }

    /// What it prints as JSON, and that it is content.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let output = self.cli(&arguments);
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {shown}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The line of `backstop status` that begins with this, once it says that.
    pub async fn says(&self, begins: &str, part: &str) -> String {
        until(&format!("`status` to say {part:?} of {begins:?}"), async || {
            let shown = String::from_utf8(self.cli(&["status"]).stdout).unwrap();
            let mut lines = shown.lines().map(str::trim_start);
            lines.find(|line| line.starts_with(begins) && line.contains(part)).map(str::to_owned)
        })
        .await
    }

    /// What it says when it refuses, with this exit code.
    pub fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.cli(arguments);
        let shown = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {shown}");
        assert!(shown.starts_with("error: "), "{shown}");
        shown
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
            for record in journal::read_only(&self.state).map(|history| history.records).unwrap_or_default() {
                eprintln!("{} {:?}", record.at.as_millis(), record.entry);
            }
        }
    }
}

/// A process and when it started: its number alone may be given to another one.
pub type Being = (u32, String);

/// Parents and start times of all processes that have not ended; one that is only waited for has.
fn beings() -> BTreeMap<u32, (u32, String)> {
    let folders = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    let read = pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (state, parent, started) = (*fields.first()?, fields.get(1)?.parse().ok()?, *fields.get(19)?);
        (state != "Z").then(|| (pid, (parent, started.to_owned())))
    });
    read.collect()
}

/// Everything that descends from a process.
pub fn descendants(of: u32) -> Vec<Being> {
    let all = beings();
    let mut found: Vec<Being> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for (pid, (_, started)) in all.iter().filter(|(_, (of, _))| *of == parent) {
            found.push((*pid, started.clone()));
            parents.push(*pid);
        }
    }
    found
}

/// Those that still live.
pub fn alive(who: &[Being]) -> Vec<Being> {
    let all = beings();
    let lives = |(pid, started): &&Being| all.get(pid).is_some_and(|(_, since)| since == started);
    who.iter().filter(lives).cloned().collect()
}
