//! The compiled configuration: what the pure rooms get ([`Rules`]) and what only the adapters need.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::decide::event::{SecretRef, TextOrSecret};
use crate::decide::rules::Rules;
use crate::promql::{Interest, Selector};

pub use crate::platform::http::{AuthSpec, ClientSpec, RequestLimits, TlsSpec};

/// A whole configuration, valid.
#[derive(Clone, Debug)]
pub struct Config {
    pub rules: Arc<Rules>,
    pub interest: Arc<Interest>,
    pub daemon: Daemon,
    pub scrapes: Vec<ScrapeSpec>,
    pub probes: Vec<ProbeSpec>,
    pub queries: Vec<QuerySpec>,
    /// Detectors that `observe` reads by itself.
    pub detectors: Vec<DetectorSpec>,
    pub references: Vec<ReferenceSpec>,
    pub receivers: Vec<ReceiverSpec>,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<super::Diagnostic>,
    /// The texts, with secrets covered, to show the warnings with.
    pub sources: Arc<[super::Source]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    pub state_dir: PathBuf,
    /// Read-only pages and metrics.
    pub listen: Option<SocketAddr>,
    /// The unix socket for commands, if the file names one; see [`Daemon::socket_with`].
    pub socket: Option<PathBuf>,
    /// Where people reach the pages, for the links in notices: http or https, no credentials, no slash at the end.
    pub external_url: Option<String>,
    /// Links in notices with which people answer; None: there are none.
    pub approvals: Option<Approvals>,
    /// Bearer tokens by the name of who holds them: mutations over HTTP.
    pub tokens: BTreeMap<String, SecretRef>,
    /// While it exists, nothing is begun; see [`Daemon::kill_file_in`].
    pub kill_file: Option<PathBuf>,
}

/// Links in notices, and the listener behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    pub listen: SocketAddr,
    /// Where people reach it: http or https, no credentials, no slash at the end; with the prefix of its paths.
    pub external_url: String,
    /// The first one signs, all are believed.
    pub keys: Vec<SecretRef>,
    /// A link counts no longer than this, even where the question is still open.
    pub expires_after: Option<Duration>,
}

/// Where the journal is unless the file says otherwise.
pub const STATE_DIR: &str = "/var/lib/backstop";
/// In the runtime directory of the systemd unit.
pub const SOCKET: &str = "/run/backstop/backstop.sock";

impl Daemon {
    /// The kill switch that works when nothing else does: the file named, or `KILL` in the state directory.
    #[must_use]
    pub fn kill_file_in(&self, state_dir: &Path) -> PathBuf {
        self.kill_file.clone().unwrap_or_else(|| state_dir.join("KILL"))
    }

    /// The unix socket of a daemon whose journal is in `state_dir`, which need not be the one in the file.
    ///
    /// By default it is not in the state directory, which is nobody else's (0700): the group that may use the socket
    /// (0660) could not reach it there. A state directory of its own is a second daemon or a trial, and has its socket
    /// with it.
    #[must_use]
    pub fn socket_with(&self, state_dir: &Path) -> PathBuf {
        match &self.socket {
            Some(socket) => socket.clone(),
            None if state_dir == Path::new(STATE_DIR) => PathBuf::from(SOCKET),
            None => state_dir.join("backstop.sock"),
        }
    }
}

/// One address of a scrape or probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSpec {
    pub address: Arc<str>,
    /// Beside `job` and `instance`.
    pub labels: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeSpec {
    /// None: shared by all services.
    pub service: Option<Arc<str>>,
    pub name: Arc<str>,
    pub targets: Vec<TargetSpec>,
    pub interval: Duration,
    pub limits: RequestLimits,
    pub samples_max: usize,
    pub client: ClientSpec,
    /// Overrides `job`; default: the scrape's name.
    pub job: Option<String>,
}

/// One expression, asked of a Prometheus-compatible server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuerySpec {
    pub service: Arc<str>,
    /// Also the name of the series that the result is kept as.
    pub name: Arc<str>,
    /// As it is sent.
    pub expr: String,
    /// The server's URL; the path of the API is appended.
    pub server: Arc<str>,
    pub interval: Duration,
    pub limits: RequestLimits,
    pub client: ClientSpec,
    pub series_max: usize,
    /// An answer that says it is of an instant further away from ours than this is stale.
    pub max_age: Duration,
    /// How far back the expression looks: so long after a release or a level, the answer still rests on what was before.
    pub window: Duration,
    /// On every series of the result.
    pub labels: Vec<(String, String)>,
    pub on_empty: OnEmpty,
    pub on_warning: OnWarning,
}

/// What an answer without series means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEmpty {
    /// The default: there is no data.
    Unknown,
    /// Nothing is wrong: the expression compares, and nothing passes.
    Clear,
}

/// What an answer with warnings is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnWarning {
    /// The default: a part of the data may be missing.
    Unknown,
    Accept,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    pub service: Arc<str>,
    pub name: Arc<str>,
    pub targets: Vec<TargetSpec>,
    pub interval: Duration,
    pub timeout: Duration,
    pub kind: ProbeKind,
    /// JSON pointer whose value names the release (from `release = [{ probe = …, json = … }]`).
    pub release_pointer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// The target's address is the URL.
    Http(Box<HttpProbe>),
    /// The target's address is `host:port`.
    Tcp,
    /// The target's address is the command line as people read it.
    Command { argv: Vec<String>, env: BTreeMap<String, TextOrSecret>, inherit: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    pub method: String,
    /// Statuses that mean success; empty stands for 200–299.
    pub status: Vec<u16>,
    pub json: Vec<JsonCheck>,
    pub body_contains: Option<String>,
    /// A slower answer is a failure.
    pub latency_max: Option<Duration>,
    pub limits: RequestLimits,
    pub client: ClientSpec,
    pub body: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonCheck {
    /// RFC 6901.
    pub pointer: String,
    pub expect: JsonExpect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonExpect {
    Exists,
    Equals(serde_json::Value),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorSpec {
    pub service: Arc<str>,
    /// Its place in the service's list.
    pub index: usize,
    pub interval: Duration,
    pub kind: DetectorSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectorSource {
    /// The release is the last part of the link's target.
    Symlink(PathBuf),
    /// The release is the first line that it prints.
    Command { argv: Vec<String>, timeout: Duration },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceSpec {
    pub name: Arc<str>,
    pub url: String,
    pub interval: Duration,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverSpec {
    pub name: Arc<str>,
    pub kind: ReceiverKind,
    pub limits: RequestLimits,
    /// Its notices that ask have a link to answer with, where there is a listener for it.
    pub approve_link: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverKind {
    /// The generic webhook.
    Webhook { url: TextOrSecret, secrets: Vec<SecretRef>, client: ClientSpec },
}

/// A metric that names the release, for the scrape's interest.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseMetric {
    pub selector: Selector,
    pub label: Arc<str>,
}
