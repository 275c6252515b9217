//! The way to a running daemon: its unix socket, or a URL with a token.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::failure::{Exit, Failure, clean, print, print_json};
use crate::config::model;
use crate::decide::event::SecretRef;
use crate::platform::{http, secret};
use crate::serve::wire::{CommandAnswer, ErrorBody};

/// Where a daemon listens unless its configuration says otherwise, then where one in a container does, whose only
/// folder of its own is the state directory.
const SOCKETS: [&str; 2] = [model::SOCKET, "/var/lib/backstop/backstop.sock"];
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Longer than the daemon takes to give up, so that its own words arrive.
const ANSWER_WITHIN: Duration = Duration::from_secs(35);
/// Of an answer; a report with the outputs of many steps is a few megabytes at most.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Where the daemon is")]
pub(super) struct Connect {
    /// The daemon's unix socket [default: $BACKSTOP_SOCKET, else /run/backstop/backstop.sock, else
    /// /var/lib/backstop/backstop.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// The daemon's address, such as http://127.0.0.1:9464; commands need a token then
    #[arg(long)]
    url: Option<url::Url>,
    /// A file with the bearer token for --url
    #[arg(long, value_name = "PATH", requires = "url")]
    token_file: Option<PathBuf>,
    /// Print what the daemon answered, as JSON
    #[arg(long)]
    pub json: bool,
}

/// A path of the API, each part escaped.
pub(super) fn path(parts: &[&str]) -> String {
    let mut url = url::Url::parse("http://backstop").expect("a constant URL is valid");
    url.path_segments_mut().expect("http has a path").extend(["v1"]).extend(parts);
    url.path().to_owned()
}

impl Connect {
    /// The answer's JSON, for [`json`] or [`parse`].
    pub fn get(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let body = self.call(&Method::GET, path, None::<&()>)?;
        parse::<IgnoredAny>(&body)?;
        Ok(body)
    }

    pub fn get_text(&self, path: &str) -> Result<String, Failure> {
        let body = self.call(&Method::GET, path, None::<&()>)?;
        String::from_utf8(body).map_err(|_| strange("the answer is not UTF-8"))
    }

    /// Sends a command, and prints what came of it.
    pub fn command<B: Serialize>(&self, path: &str, body: &B) -> Result<(), Failure> {
        self.tell(&self.call(&Method::POST, path, Some(body))?)
    }

    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        self.tell(&self.call(&Method::DELETE, path, None::<&()>)?)
    }

    fn tell(&self, body: &[u8]) -> Result<(), Failure> {
        if self.json {
            return print_json(&json(body)?);
        }
        let answer: CommandAnswer = parse(body)?;
        let mut lines = vec![clean(&answer.message)];
        if let Some(incident) = &answer.incident
            && !answer.message.contains(incident.as_str())
        {
            lines.push(format!("incident: {}", clean(incident)));
        }
        lines.extend(answer.details.iter().map(|(name, detail)| format!("{}: {}", clean(name), clean(detail))));
        print(&lines.join("\n"))
    }

    fn call<B: Serialize>(&self, method: &Method, path: &str, body: Option<&B>) -> Result<Vec<u8>, Failure> {
        http::install_crypto();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::because(Exit::Unavailable, "no runtime", &error))?;
        let (request, place) = self.request(method, path)?;
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        runtime.block_on(async {
            let unreachable = |connected: bool, error: &dyn std::error::Error| {
                let help = match (connected, method == Method::GET) {
                    (false, _) => "nothing was sent: does it run, and is daemon.listen this address?",
                    (true, true) => "was it stopped meanwhile? try again",
                    (true, false) => {
                        "was it stopped meanwhile? the command may have been carried out: look at `backstop status`"
                    }
                };
                Failure::because(Exit::Unavailable, &format!("the daemon at {place} did not answer"), error).help(help)
            };
            let sent = request.send().await;
            let response = sent.map_err(|error| unreachable(!error.is_connect(), &error.without_url()))?;
            let status = response.status();
            let body = http::body(response, BODY_BYTES_MAX).await.map_err(|error| unreachable(true, &error))?;
            if status.is_success() { Ok(body) } else { Err(refused(status, &body, &place)) }
        })
    }

    /// The request without a body, and where it goes, for people.
    fn request(&self, method: &Method, path: &str) -> Result<(RequestBuilder, String), Failure> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("backstop/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .no_proxy();
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| Failure::because(Exit::Unavailable, "no HTTP client", &error))
        };
        let Some(url) = &self.url else {
            let socket = self.find_socket()?;
            let client = built(builder.unix_socket(socket.as_path()))?;
            let place = socket.display().to_string();
            return Ok((client.request(method.clone(), format!("http://backstop{path}")), place));
        };
        let full = url.join(path).map_err(|error| {
            Failure::because(Exit::Usage, &format!("{url} is not an address of a daemon"), &error)
                .help("it looks like http://127.0.0.1:9464")
        })?;
        let mut request = built(builder)?.request(method.clone(), full);
        if let Some(path) = &self.token_file {
            let token = secret::read(&SecretRef::File(path.display().to_string()))
                .map_err(|error| Failure::because(Exit::NotAllowed, "no token", &error))?;
            request = request.bearer_auth(token.expose_secret());
        }
        Ok((request, url.to_string()))
    }

    /// The first socket where somebody answers.
    fn find_socket(&self) -> Result<PathBuf, Failure> {
        let named = self.socket.clone().or_else(|| std::env::var_os("BACKSTOP_SOCKET").map(PathBuf::from));
        let candidates = named.map_or_else(|| SOCKETS.iter().map(PathBuf::from).collect(), |path| vec![path]);
        let mut tried = Vec::new();
        let mut exit = Exit::Unavailable;
        for path in candidates {
            match UnixStream::connect(&path) {
                Ok(_) => return Ok(path),
                Err(error) => {
                    if error.kind() == io::ErrorKind::PermissionDenied {
                        exit = Exit::NotAllowed;
                    }
                    tried.push(why_not(&path, &error));
                }
            }
        }
        let help = if exit == Exit::NotAllowed {
            "the socket has mode 0660: run this as the daemon's user or in its group (sudo -u backstop …)"
        } else {
            "start it with `backstop run FILE` (systemctl start backstop), or name its socket with --socket"
        };
        Err(Failure::new(exit, format!("no daemon can be reached\n  {}", tried.join("\n  "))).help(help))
    }
}

fn why_not(path: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody answers; a daemon that died left it behind".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission".to_owned(),
        _ => error.to_string(),
    };
    format!("{}: {why}", path.display())
}

fn refused(status: StatusCode, body: &[u8], place: &str) -> Failure {
    let exit = match status.as_u16() {
        401 | 403 => Exit::NotAllowed,
        404 | 405 | 409 | 413 | 415 | 422 => Exit::Refused,
        _ => Exit::Unavailable,
    };
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => {
            let failure = Failure::new(exit, error.message).help(error.help);
            if exit == Exit::NotAllowed { failure.also("here: --token-file FILE") } else { failure }
        }
        Err(_) => Failure::new(Exit::Unavailable, format!("{place} answered {status}, but not as a backstop does"))
            .help("is this the address of a backstop?"),
    }
}

/// As it is to be printed: also what a newer daemon says.
pub(super) fn json(body: &[u8]) -> Result<Value, Failure> {
    parse(body)
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| strange(&error.to_string()))
}

fn strange(why: &str) -> Failure {
    Failure::new(Exit::Unavailable, format!("the daemon's answer cannot be read: {why}"))
        .help("is the daemon of another version than this command? try --json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_the_path() {
        assert_eq!(path(&["services", "a/../b?c", "rollback"]), "/v1/services/a%2F..%2Fb%3Fc/rollback");
        assert_eq!(path(&["incidents", "api-17"]), "/v1/incidents/api-17");
    }
}
