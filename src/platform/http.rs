//! HTTP clients with backstop's limits: no redirects, no proxy unless configured, bounded bodies.

mod plain;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustix::io::Errno;

pub use plain::{GetError, PlainClient};

use crate::decide::event::{SecretRef, TextOrSecret};

const USER_AGENT_VALUE: &str = concat!("backstop/", env!("CARGO_PKG_VERSION"));

/// Limits of one request, on by default (DESIGN §7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    pub connect_timeout: Duration,
    pub timeout: Duration,
    /// After decompression.
    pub body_bytes_max: usize,
}

/// How a server wants to be talked to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClientSpec {
    pub headers: BTreeMap<String, TextOrSecret>,
    pub auth: Option<AuthSpec>,
    pub tls: TlsSpec,
    pub proxy: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthSpec {
    Bearer(SecretRef),
    Basic { username: String, password: SecretRef },
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsSpec {
    /// PEM file of further trusted roots.
    pub ca_file: Option<PathBuf>,
    /// PEM file with certificate and key, for servers that ask for it.
    pub identity_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot read the certificates in {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} holds no certificate in PEM form")]
    NotPem { path: PathBuf },
    /// Does not show it: it may hold a password.
    #[error("the proxy is not a URL")]
    Proxy,
    #[error("the HTTP client cannot be built")]
    Build(#[source] reqwest::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body was cut short")]
    Cut(#[source] reqwest::Error),
}

/// Whether a client may use a connection for more than one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    Reused,
    /// Each request shows whether the server accepts a new connection: health is asked this way.
    Fresh,
}

/// Chooses the TLS implementation; call once, before the first client. A second call changes nothing.
pub fn install_crypto() {
    // The error says that a provider is installed already, which is what we want.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// A client as `spec` asks for; its headers and authentication are the caller's matter, since secrets are read at each
/// use. Keep it: connections are reused.
pub fn client(spec: &ClientSpec, limits: &RequestLimits) -> Result<reqwest::Client, ClientError> {
    client_with(spec, limits, Connections::Reused)
}

/// As [`client`], and says whether connections are reused.
///
/// Where the system has no CA certificates (a bare container), the client still works for plain HTTP and for servers
/// that `tls.ca_file` vouches for; any other handshake then fails with a sentence that says what to install.
pub fn client_with(
    spec: &ClientSpec,
    limits: &RequestLimits,
    connections: Connections,
) -> Result<reqwest::Client, ClientError> {
    install_crypto();
    match builder(spec, limits, connections)?.build() {
        Ok(client) => Ok(client),
        Err(error) if spec.tls.ca_file.is_none() => {
            let without_roots = builder(spec, limits, connections)?.tls_certs_only([]).build();
            // If that is not it either, the first error is the one to tell.
            without_roots.map_err(|_| ClientError::Build(error))
        }
        Err(error) => Err(ClientError::Build(error)),
    }
}

fn builder(
    spec: &ClientSpec,
    limits: &RequestLimits,
    connections: Connections,
) -> Result<reqwest::ClientBuilder, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT_VALUE)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits.connect_timeout)
        .timeout(limits.timeout)
        .dns_resolver(Resolver::within(limits))
        .no_proxy();
    if connections == Connections::Fresh {
        builder = builder.pool_max_idle_per_host(0);
    }
    if let Some(proxy) = &spec.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|_| ClientError::Proxy)?);
    }
    if let Some(path) = &spec.tls.ca_file {
        let not_pem = || ClientError::NotPem { path: path.clone() };
        let roots = reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(|_| not_pem())?;
        if roots.is_empty() {
            return Err(not_pem());
        }
        builder = builder.tls_certs_merge(roots);
    }
    if let Some(path) = &spec.tls.identity_file {
        let identity = reqwest::Identity::from_pem(&read(path)?).map_err(ClientError::Build)?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::Read { path: path.to_owned(), source })
}

/// The system's resolver, with a limit that ends before the connection's: a resolver that is silent is our trouble, and
/// must not look like a server that is.
#[derive(Clone, Copy, Debug)]
struct Resolver {
    limit: Duration,
}

impl Resolver {
    fn within(limits: &RequestLimits) -> Resolver {
        Resolver { limit: limits.connect_timeout.min(limits.timeout).mul_f64(0.75) }
    }

    async fn look_up(self, name: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(within(self.limit, tokio::net::lookup_host((name, 0))).await?.collect())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = *self;
        Box::pin(async move { Ok(Box::new(resolver.look_up(name.as_str()).await?.into_iter()) as Addrs) })
    }
}

async fn within<T>(limit: Duration, lookup: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, lookup).await {
        Ok(found) => found,
        Err(_) => Err(io::Error::other(format!("the resolver did not answer within {limit:?}"))),
    }
}

/// The body, at most `max` bytes after decompression; a longer one is an error, not a prefix.
pub async fn body(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = room_for(response.content_length(), max);
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Cut)? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLarge(max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// For a body of which so many bytes are announced. That is mostly right; of a lie no more is believed than a megabyte.
fn room_for(announced: Option<u64>, max: usize) -> Vec<u8> {
    const ANNOUNCED_MAX: usize = 1 << 20;
    let announced = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    Vec::with_capacity(announced.min(max).min(ANNOUNCED_MAX))
}

/// What kept a request from being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// Nothing, or not everything, came in time.
    Timeout,
    /// Nobody listens there, and the host itself said so.
    Refused,
    /// No connection, for a reason that says nothing of the host: a proxy that would not, a way that broke off.
    Unreachable,
    /// The name could not be resolved.
    Dns,
    /// The connection was made, but no agreement on encryption or trust.
    Tls,
    /// We could not even send it: no file handle, no route, no free port.
    Local,
    /// The connection ended, or broke the protocol, before a whole answer came. The server may have acted on it.
    Lost,
    /// The request itself is impossible, such as a URL without a host.
    Invalid,
}

/// Why a request was not answered, with one sentence (no full stop, no URL) for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Trouble {
    pub kind: TroubleKind,
    pub detail: String,
}

/// What an error of a request, or of reading its answer, means.
#[must_use]
pub fn trouble(error: &reqwest::Error) -> Trouble {
    // First: what a resolver's socket says is not about the server.
    if !error.is_dns() && error.is_timeout() {
        let detail = if error.is_connect() { "no connection in time" } else { "no answer in time" };
        return Trouble { kind: TroubleKind::Timeout, detail: detail.to_owned() };
    }
    if error.is_dns() {
        return Trouble::new(TroubleKind::Dns, NOT_RESOLVED, root(error));
    }
    let (kind, what) = if error.is_builder() {
        (TroubleKind::Invalid, "the request cannot be made")
    } else if error.is_connect() {
        (TroubleKind::Unreachable, NOT_CONNECTED)
    } else if error.is_decode() {
        (TroubleKind::Lost, NOT_READ)
    } else {
        (TroubleKind::Lost, NOT_WHOLE)
    };
    trouble_or(error, kind, what)
}

const NOT_RESOLVED: &str = "the name could not be resolved";
const NOT_CONNECTED: &str = "no connection";
const NOT_READ: &str = "the answer cannot be read";
const NOT_WHOLE: &str = "the connection ended before a whole answer came";

impl Trouble {
    fn new(kind: TroubleKind, what: &str, why: impl Display) -> Trouble {
        Trouble { kind, detail: format!("{what}: {why}") }
    }
}

/// An error and what caused it, one after the other.
fn links<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&link| link.source())
}

/// What the first link that decides it says of the whole. Where none does, it is of this kind, and the last link says why.
fn trouble_or(error: &(dyn Error + 'static), kind: TroubleKind, what: &str) -> Trouble {
    links(error).find_map(trouble_of).unwrap_or_else(|| Trouble::new(kind, what, root(error)))
}

fn root<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    links(error).last().unwrap_or(error)
}

/// What it means that no plain connection could be made.
fn not_connected(error: &(dyn Error + 'static)) -> Trouble {
    if let Some(NoAddress(why)) = links(error).find_map(|link| link.downcast_ref()) {
        return Trouble::new(TroubleKind::Dns, NOT_RESOLVED, why);
    }
    trouble_or(error, TroubleKind::Unreachable, NOT_CONNECTED)
}

/// What it means that a plain connection brought no whole answer.
fn not_whole(error: &hyper::Error) -> Trouble {
    trouble_or(error, TroubleKind::Lost, NOT_WHOLE)
}

/// A resolver's error, so that what its socket says is not taken for what the server's does.
#[derive(Debug, thiserror::Error)]
#[error("the resolver found no address")]
struct NoAddress(#[source] io::Error);

/// One link of an error's chain, if it decides what the whole means.
fn trouble_of(error: &(dyn Error + 'static)) -> Option<Trouble> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls_trouble(error));
    }
    let error = error.downcast_ref::<io::Error>()?;
    // What is wrapped in an I/O error is not among its sources: they begin one further on.
    if let Some(inner) = error.get_ref() {
        let tells = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::TimedOut);
        return trouble_of(inner).or_else(|| tells.then(|| io_trouble(error)));
    }
    error.raw_os_error().map(|_| io_trouble(error))
}

fn tls_trouble(error: &rustls::Error) -> Trouble {
    let unknown_issuer = matches!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
    let help = if unknown_issuer { " (set tls.ca_file, or install ca-certificates)" } else { "" };
    Trouble { kind: TroubleKind::Tls, detail: format!("the TLS handshake failed: {error}{help}") }
}

/// What an error of a socket means.
#[must_use]
pub fn io_trouble(error: &io::Error) -> Trouble {
    let (kind, detail) = match Errno::from_io_error(error) {
        // Also the limit of our own on making a connection, which has no number.
        _ if error.kind() == io::ErrorKind::TimedOut => (TroubleKind::Timeout, "no connection in time".to_owned()),
        Some(Errno::CONNREFUSED) => (TroubleKind::Refused, "the connection was refused".to_owned()),
        Some(Errno::MFILE | Errno::NFILE) => {
            (TroubleKind::Local, "there is no free file handle here to send it (raise LimitNOFILE)".to_owned())
        }
        Some(
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::ADDRNOTAVAIL
            | Errno::AFNOSUPPORT
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ACCESS
            | Errno::PERM,
        ) => (TroubleKind::Local, format!("it could not be sent from here: {error}")),
        Some(_) | None => (TroubleKind::Lost, format!("the connection ended before a whole answer came: {error}")),
    };
    Trouble { kind, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_sent_is_told_from_what_was_refused() {
        for (errno, expected) in [
            (Errno::CONNREFUSED, TroubleKind::Refused),
            (Errno::CONNRESET, TroubleKind::Lost),
            (Errno::TIMEDOUT, TroubleKind::Timeout),
            (Errno::MFILE, TroubleKind::Local),
            (Errno::NFILE, TroubleKind::Local),
            (Errno::NETUNREACH, TroubleKind::Local),
            (Errno::HOSTUNREACH, TroubleKind::Local),
            (Errno::ADDRNOTAVAIL, TroubleKind::Local),
        ] {
            assert_eq!(io_trouble(&io::Error::from(errno)).kind, expected, "{errno:?}");
            // As HTTP clients wrap it.
            let wrapped = io::Error::other(io::Error::from(errno));
            assert_eq!(trouble_of(&wrapped).map(|trouble| trouble.kind), Some(expected), "{errno:?}");
        }
        let limit = io::Error::new(io::ErrorKind::TimedOut, "a limit of our own");
        assert_eq!(trouble_of(&limit).map(|trouble| trouble.kind), Some(TroubleKind::Timeout));
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(trouble_of(&tls).map(|trouble| trouble.kind), Some(TroubleKind::Tls));
    }

    #[test]
    fn a_client_needs_certificates_that_can_be_read() {
        let limits = RequestLimits {
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            body_bytes_max: 1,
        };
        let with_ca = |path: &Path| {
            let mut spec = ClientSpec::default();
            spec.tls.ca_file = Some(path.to_owned());
            client(&spec, &limits)
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(with_ca(file.path()), Err(ClientError::NotPem { .. })));
        assert!(matches!(with_ca(Path::new("/nonexistent/ca.pem")), Err(ClientError::Read { .. })));
        let proxied = ClientSpec { proxy: Some("::".to_owned()), ..ClientSpec::default() };
        assert!(matches!(client(&proxied, &limits), Err(ClientError::Proxy)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_resolver_is_our_trouble() {
        let limits = RequestLimits {
            connect_timeout: Duration::from_secs(4),
            timeout: Duration::from_secs(2),
            body_bytes_max: 1,
        };
        let resolver = Resolver::within(&limits);
        assert!(resolver.limit < limits.timeout, "the connection's own limit must not come first");
        let error = within(resolver.limit, std::future::pending::<io::Result<()>>()).await.unwrap_err();
        assert_eq!(error.to_string(), "the resolver did not answer within 1.5s");
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_ok_and(|mut found| found.next().is_some()));
    }
}
