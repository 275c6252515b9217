//! The daemon as a process: what it tells systemd, a reload that changes nothing when it is invalid, a bounded stop, one
//! owner of a state directory, and a whole rollback from the scrape to the verified end.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

/// Long enough for a machine that does other things; a test that waits for it has failed.
const SOON: Duration = Duration::from_mins(1);

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A folder with releases, `current`, and the daemon's files. The app behind it exposes what its release says.
struct Site {
    folder: TempDir,
    app: SocketAddr,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        for (release, broken) in [("v1", "0"), ("v2", "1")] {
            fs::create_dir_all(folder.path().join(release)).unwrap();
            fs::write(folder.path().join(release).join("broken"), broken).unwrap();
        }
        let site = Site { app: serve_app(folder.path().join("current")), folder };
        site.deploy("v1");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn deploy(&self, release: &str) {
        let (new, current) = (self.path("new"), self.path("current"));
        symlink(self.path(release), &new).unwrap();
        fs::rename(new, current).unwrap();
    }

    fn running(&self) -> String {
        let target = fs::read_link(self.path("current")).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// `extra` goes to the end, into the last table: the rollback's level.
    fn write_config(&self, threshold: &str, extra: &str) -> PathBuf {
        let (root, app) = (self.folder.path().display(), self.app);
        let mut text = String::new();
        write!(
            text,
            r#"
[daemon]
state_dir = "{root}/state"
listen = "127.0.0.1:0"

[services.api]
autonomy = "act"
startup = "200ms"
release = [{{ symlink = "{root}/current", interval = "200ms" }}]
guard = {{ good_after = "1s", release_window = "1m", cooldown = "1s" }}

[services.api.scrapes.app]
url = "http://{app}/metrics"
interval = "200ms"
timeout = "200ms"

[services.api.triggers.broken]
expr = "app_broken"
above = {threshold}
for = "600ms"
# A machine that is busy with something else misses a few looks.
gap_tolerance = "20s"

[[services.api.rollback]]
name = "previous release"
steps = [{{ command = ["/bin/ln", "-sfn", "{root}/v1", "{root}/current"], timeout = "60s" }}]
verify = {{ within = "60s", soak = "600ms" }}
{extra}
"#
        )
        .unwrap();
        let path = self.path("backstop.toml");
        fs::write(&path, text).unwrap();
        path
    }
}

/// One thread that answers every request with the metric of the release that `current` points to. It ends with the
/// test's process.
fn serve_app(current: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let Ok(_) = stream.read(&mut request) else { continue };
            let broken = fs::read_to_string(current.join("broken")).unwrap_or_default();
            let body = format!("# TYPE app_broken gauge\napp_broken {broken}\n");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close";
            // A scraper that went away in between is its own affair.
            drop(write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        }
    });
    address
}

/// What comes to this address, read at once as systemd does: the kernel keeps but ten of them, and the watchdog alone
/// fills that in two seconds. The thread ends with the test's process.
fn listen(address: &Path) -> mpsc::Receiver<String> {
    let socket = UnixDatagram::bind(address).unwrap();
    let (send, datagrams) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            if send.send(String::from_utf8(buffer[..length].to_vec()).unwrap()).is_err() {
                return;
            }
        }
    });
    datagrams
}

struct Daemon {
    child: Child,
    datagrams: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Daemon {
    fn start(site: &Site, config: &Path) -> Daemon {
        let datagrams = listen(&site.path("notify"));
        let log = site.path("log");
        let child = command(config)
            .env("NOTIFY_SOCKET", site.path("notify"))
            .env("WATCHDOG_USEC", "400000")
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Daemon { child, datagrams, log }
    }

    fn datagram(&self) -> String {
        self.datagrams.recv_timeout(SOON).unwrap_or_else(|error| panic!("{error}; log:\n{}", self.log()))
    }

    /// The next datagram that is neither the watchdog's nor a status.
    fn told(&self) -> String {
        loop {
            let datagram = self.datagram();
            if datagram != "WATCHDOG=1\n" && !datagram.starts_with("STATUS=") {
                return datagram;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn ended(&mut self) -> ExitStatus {
        wait_for("the daemon's end", || self.child.try_wait().unwrap())
    }

    fn get(&self, path: &str) -> serde_json::Value {
        let log = self.log();
        let address = log.split("listen=\"http://").nth(1).and_then(|rest| rest.split('"').next());
        let mut stream = TcpStream::connect(address.expect("the log names the address")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
    command.env_remove("BACKSTOP_LOG").env_remove("JOURNAL_STREAM").env_remove("WATCHDOG_PID");
    command
}

#[test]
fn systemd_hears_of_start_reload_life_and_stop() {
    let site = Site::new();
    let config = site.write_config("0.5", "");
    let mut daemon = Daemon::start(&site, &config);
    assert!(daemon.told().starts_with("READY=1\nSTATUS=watching 1 service"));
    while daemon.datagram() != "WATCHDOG=1\n" {}
    let hash = daemon.get("/v1/status")["config_hash"].clone();
    assert!(hash.is_string());

    site.write_config("0.5", "colour = 1");
    daemon.signal(Signal::HUP);
    assert!(daemon.told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    let told = daemon.told();
    assert!(told.starts_with("READY=1\nSTATUS=the reload failed and changed nothing"), "{told}");
    assert!(daemon.log().contains("colour"), "the log shows what is wrong");
    assert_eq!(daemon.get("/v1/status")["config_hash"], hash);

    site.write_config("0.7", "");
    daemon.signal(Signal::HUP);
    assert!(daemon.told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(daemon.told().starts_with("READY=1\nSTATUS=watching 1 service"));
    wait_for("the new configuration", || (daemon.get("/v1/status")["config_hash"] != hash).then_some(()));

    daemon.signal(Signal::TERM);
    assert!(daemon.told().starts_with("STOPPING=1\n"));
    assert!(daemon.ended().success());
    assert!(!site.path("state/backstop.sock").exists(), "the socket's file goes with the daemon");
}

#[test]
fn an_invalid_configuration_exits_with_64_and_shows_the_place() {
    let site = Site::new();
    let config = site.write_config("0.5", "colour = 1");
    let output = command(&config).stderr(Stdio::piped()).output().unwrap();
    let shown = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{shown}");
    assert!(shown.contains("colour") && shown.contains("backstop.toml:"), "{shown}");
}

#[test]
fn a_second_daemon_on_the_same_state_exits_and_says_who_owns_it() {
    let site = Site::new();
    let config = site.write_config("0.5", "");
    let daemon = Daemon::start(&site, &config);
    assert!(daemon.told().starts_with("READY=1"));
    let output = command(&config).stderr(Stdio::piped()).output().unwrap();
    let shown = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains(&format!("process {}", daemon.child.id())), "{shown}");
}

#[test]
fn a_broken_release_is_rolled_back_and_a_restart_remembers_it() {
    let site = Site::new();
    let config = site.write_config("0.5", "");
    let mut daemon = Daemon::start(&site, &config);
    assert!(daemon.told().starts_with("READY=1"));
    wait_for("a good release", || {
        let status = daemon.get("/v1/status");
        status["services"][0]["releases"].as_array()?.iter().any(|release| release["good"] == true).then_some(())
    });
    site.deploy("v2");
    let recovered = |daemon: &Daemon| {
        let incidents = daemon.get("/v1/incidents");
        (incidents["incidents"][0]["state"] == "recovered").then(|| incidents["incidents"][0]["id"].clone())
    };
    let id = wait_for("the rollback", || recovered(&daemon));
    assert_eq!(site.running(), "v1");
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());

    fs::remove_file(site.path("notify")).unwrap();
    let daemon = Daemon::start(&site, &config);
    assert!(daemon.told().starts_with("READY=1"));
    assert_eq!(wait_for("the incident", || recovered(&daemon)), id);
}

#[test]
fn a_step_that_runs_is_waited_for_and_a_second_signal_does_not_wait() {
    let site = Site::new();
    let slow = site.write_config("0.5", "");
    let text = fs::read_to_string(&slow).unwrap();
    let root = site.folder.path().display();
    let from = format!("[\"/bin/ln\", \"-sfn\", \"{root}/v1\", \"{root}/current\"]");
    let to = format!("[\"/bin/sh\", \"-c\", \"touch {root}/began; sleep 300; ln -sfn {root}/v1 {root}/current\"]");
    assert!(text.contains(&from));
    fs::write(&slow, text.replace(&from, &to)).unwrap();
    let mut daemon = Daemon::start(&site, &slow);
    assert!(daemon.told().starts_with("READY=1"));
    wait_for("a good release", || {
        let status = daemon.get("/v1/status");
        status["services"][0]["releases"].as_array()?.iter().any(|release| release["good"] == true).then_some(())
    });
    site.deploy("v2");
    wait_for("the step", || site.path("began").exists().then_some(()));
    daemon.signal(Signal::TERM);
    assert!(daemon.told().starts_with("STOPPING=1\n"));
    assert!(daemon.child.try_wait().unwrap().is_none(), "the step still runs");
    // One that follows at once counts as the same.
    let ended = wait_for("the end", || {
        let ended = daemon.child.try_wait().unwrap();
        if ended.is_none() {
            daemon.signal(Signal::TERM);
        }
        ended
    });
    assert_eq!(ended.code(), Some(1));
    assert!(daemon.log().contains("second signal"));
    assert_eq!(site.running(), "v2", "the step did not come to its end");
}
