//! HTTP as bytes: a server whose every answer the test decides, also answers that no library would give.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A request of the daemon is a few kilobytes.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Request {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Clone, Debug)]
pub enum Reply {
    Full {
        status: u16,
        kind: &'static str,
        body: String,
    },
    /// Says that more comes than does.
    CutShort {
        kind: &'static str,
        body: String,
    },
    /// Nothing, until the client has had enough.
    Hang,
    /// Nothing, until the client has had enough or the test lets go.
    HangUntil(CancellationToken),
    /// The connection ends without an answer.
    Close,
}

impl Reply {
    pub fn metrics(body: String) -> Reply {
        Reply::Full { status: 200, kind: "text/plain; version=0.0.4", body }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Reply {
        Reply::Full { status, kind: "application/json", body: body.to_string() }
    }
}

/// A port that is taken and refuses: bound, and nobody listens.
#[derive(Debug)]
pub struct Refusing {
    socket: TcpSocket,
    pub address: SocketAddr,
}

impl Refusing {
    pub fn new() -> Refusing {
        Refusing::at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    pub fn at(host: IpAddr) -> Refusing {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((host, 0))).unwrap();
        let address = socket.local_addr().unwrap();
        Refusing { socket, address }
    }

    /// From here on somebody answers.
    pub fn open(self, answer: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = self.socket.listen(64).unwrap();
        Server { address: self.address, task: tokio::spawn(serve(listener, Arc::new(answer))) }
    }
}

/// Answers one request per connection. Ends with its value.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub fn start(answer: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Server {
        Refusing::new().open(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, answer: Arc<dyn Fn(Request) -> Reply + Send + Sync>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = Arc::clone(&answer);
        connections.spawn(async move {
            // A client that goes away in between is what some tests are about.
            drop(talk(stream, answer).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn talk(mut stream: TcpStream, answer: Arc<dyn Fn(Request) -> Reply + Send + Sync>) -> std::io::Result<()> {
    let Some(request) = read(&mut stream).await? else { return Ok(()) };
    match answer(request) {
        Reply::Full { status, kind, body } => {
            stream.write_all(head(status, kind, body.len()).as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
        }
        Reply::CutShort { kind, body } => {
            stream.write_all(head(200, kind, body.len() + 100).as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
        }
        Reply::Hang => while stream.read(&mut [0; 1024]).await? > 0 {},
        Reply::HangUntil(let_go) => let_go.cancelled().await,
        Reply::Close => {}
    }
    stream.shutdown().await
}

fn head(status: u16, kind: &str, length: usize) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 || body.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(Request { method, path, headers, body }))
}
