//! A place where a service lives: releases behind a symlink, the process that runs them, whoever is told, and the file
//! that the daemon reads.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::wire::{Refusing, Reply, Request, Server};

/// Long enough for a machine that does other things; a test that waits for it has failed.
pub const SOON: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(LOOK_EVERY).await;
    }
}

/// How the app behaves, whatever runs.
#[derive(Debug, Default)]
pub struct Mood {
    /// These releases say of themselves that they are broken.
    pub broken: BTreeSet<String>,
    /// Appended to what `/metrics` exposes.
    pub more: String,
    /// What `/metrics` answers instead.
    pub instead: Option<Reply>,
}

/// `/metrics` of a process that runs what `current` points to.
#[derive(Debug)]
pub struct App {
    server: Server,
    mood: Arc<Mutex<Mood>>,
}

impl App {
    fn start(current: PathBuf, host: IpAddr) -> App {
        let mood = Mood { broken: BTreeSet::from(["v2".to_owned()]), ..Mood::default() };
        let mood = Arc::new(Mutex::new(mood));
        let seen = Arc::clone(&mood);
        let server = Refusing::at(host).open(move |_| {
            let mood = seen.lock().unwrap();
            if let Some(instead) = &mood.instead {
                return instead.clone();
            }
            let release = release_of(&current);
            let broken = u8::from(mood.broken.contains(&release));
            Reply::metrics(format!("# TYPE app_broken gauge\napp_broken {broken}\n{}", mood.more))
        });
        App { server, mood }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub fn set(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.mood.lock().unwrap());
    }
}

fn release_of(current: &Path) -> String {
    let target = fs::read_link(current).unwrap();
    target.file_name().unwrap().to_str().unwrap().to_owned()
}

/// What a test changes of the file.
#[derive(Clone, Debug)]
pub struct File {
    pub autonomy: &'static str,
    /// More lines of `[daemon]`.
    pub daemon: String,
    /// More lines of `[services.api]`.
    pub service: String,
    pub guard: String,
    /// `for` of the trigger.
    pub hold: &'static str,
    /// More lines of the first level.
    pub level: String,
    pub verify: &'static str,
    /// More tables.
    pub more: String,
}

impl Default for File {
    fn default() -> File {
        File {
            autonomy: "act",
            daemon: String::new(),
            service: String::new(),
            guard: String::new(),
            hold: "500ms",
            level: "steps = [{ command = [\"/bin/sh\", \"ROOT/rollback.sh\", \"{{ release.target }}\"], timeout = \"60s\" }]"
                .to_owned(),
            verify: "{ within = \"60s\", soak = \"500ms\" }",
            more: String::new(),
        }
    }
}

/// Writes down that it ran, runs what the test adds, and switches.
const ROLLBACK: &str = r#"
echo "$1" >> ROOT/ran
MORE
ln -s "ROOT/releases/$1" ROOT/next.$$
mv -T ROOT/next.$$ ROOT/current
echo "switched to $1"
"#;

#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    pub app: App,
}

impl Site {
    /// Three releases of which v1 runs, and v2 is broken.
    pub fn new() -> Site {
        Site::at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// With its app at this address.
    pub fn at(host: IpAddr) -> Site {
        let folder = tempfile::tempdir().unwrap();
        for release in ["v1", "v2", "v3"] {
            fs::create_dir_all(folder.path().join("releases").join(release)).unwrap();
        }
        symlink(folder.path().join("releases/v1"), folder.path().join("current")).unwrap();
        let site = Site { app: App::start(folder.path().join("current"), host), folder };
        site.script("");
        site
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn here(&self, text: &str) -> String {
        text.replace("ROOT", self.root().to_str().unwrap())
    }

    /// The rollback script, with `more` before it switches. `ROOT` is the site's folder.
    pub fn script(&self, more: &str) {
        fs::write(self.path("rollback.sh"), self.here(&ROLLBACK.replace("MORE", more))).unwrap();
    }

    /// What the rollback script was called with, each time.
    pub fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn deploy(&self, release: &str) {
        let next = self.path("next");
        symlink(self.path("releases").join(release), &next).unwrap();
        fs::rename(next, self.path("current")).unwrap();
    }

    pub fn running(&self) -> String {
        release_of(&self.path("current"))
    }

    pub fn config(&self) -> PathBuf {
        self.path("backstop.toml")
    }

    pub fn write(&self, file: &File) {
        let File { autonomy, daemon, service, guard, hold, level, verify, more } = file;
        let app = self.app.address();
        let mut text = String::new();
        write!(
            text,
            r#"
[daemon]
state_dir = "ROOT/state"
listen = "127.0.0.1:0"
instance = "test"
{daemon}

[services.api]
autonomy = "{autonomy}"
startup = "200ms"
release = [{{ symlink = "ROOT/current", interval = "100ms" }}]
{service}

[services.api.guard]
good_after = "500ms"
release_window = "1m"
cooldown = "0s"
{guard}

[services.api.scrapes.app]
url = "http://{app}/metrics"
interval = "200ms"
timeout = "200ms"

[services.api.triggers.broken]
expr = "app_broken"
above = 0.5
for = "{hold}"
# A machine that is busy with something else misses a few looks.
gap_tolerance = "20s"

[[services.api.rollback]]
name = "previous release"
verify = {verify}
{level}

{more}
"#
        )
        .unwrap();
        fs::write(self.config(), self.here(&text)).unwrap();
    }
}

/// What `secret` of a receiver is, everywhere here.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Takes webhooks, and refuses what is not signed as it should be.
#[derive(Debug)]
pub struct Receiver {
    _server: Server,
    arrived: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    pub fn start() -> (Receiver, String) {
        Receiver::at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    pub fn at(host: IpAddr) -> (Receiver, String) {
        let port = Refusing::at(host);
        let tables = Receiver::tables(port.address);
        (Receiver::open(port), tables)
    }

    pub fn open(port: Refusing) -> Receiver {
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&arrived);
        let answer = move |request: Request| {
            let verifier = standardwebhooks::Webhook::new(SECRET).unwrap();
            if let Err(error) = verifier.verify(&request.body, &request.headers) {
                taken.lock().unwrap().push(serde_json::json!({ "forged": error.to_string() }));
                return Reply::Full { status: 401, kind: "text/plain", body: error.to_string() };
            }
            let notice = request.json();
            assert_eq!(notice["id"].as_str(), request.headers["webhook-id"].to_str().ok());
            taken.lock().unwrap().push(notice);
            Reply::Full { status: 204, kind: "text/plain", body: String::new() }
        };
        Receiver { _server: port.open(answer), arrived }
    }

    /// For the file: a receiver `team` at this address. The daemon needs `TEAM_SECRET`.
    pub fn tables(address: SocketAddr) -> String {
        format!("[receivers.team]\nwebhook = {{ url = \"http://{address}/\", secret = {{ env = \"TEAM_SECRET\" }} }}\n")
    }

    pub fn notices(&self) -> Vec<Value> {
        self.arrived.lock().unwrap().clone()
    }

    /// Their types, in the order in which they came.
    pub fn types(&self) -> Vec<String> {
        self.notices().iter().map(|notice| notice["type"].as_str().unwrap_or("forged").to_owned()).collect()
    }

    pub async fn told(&self, kind: &str) -> Value {
        until(&format!("the notice {kind}"), async || self.notices().into_iter().find(|notice| notice["type"] == kind))
            .await
    }
}
