//! GETs of one address over plain HTTP/1.1, on a connection of which only the socket is kept from one to the next.
//!
//! For scrapes, which never end and are many. A connection of a pool keeps its buffer, which grows with the bodies, and a
//! task of its own, and each request and each part of a body goes from one task to the other. Here a connection costs a
//! socket while nothing is asked, and one task does all the work (`benches/daemon.rs` shows what either way costs).

use std::future::poll_fn;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::response::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::{
    NOT_READ, NoAddress, RequestLimits, Resolver, Trouble, TroubleKind, USER_AGENT_VALUE, io_trouble, not_connected,
    not_whole, room_for,
};

/// Of a connection while a request is under way. An answer's head must fit.
const BUFFER_BYTES: usize = 64 << 10;
/// Notices a server that is gone without a word while nothing is asked. These four are reqwest's.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
const UNANSWERED_MAX: Duration = Duration::from_secs(30);
/// After so long a name is looked up again.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// Asks one address again and again.
#[derive(Debug)]
pub struct PlainClient {
    connector: HttpConnector<Resolver>,
    address: Uri,
    /// What the request line says.
    path: Uri,
    host: HeaderValue,
    connect_timeout: Duration,
    body_bytes_max: usize,
    /// Of the last answer, if that was read to its end and the server keeps the connection; and since when.
    kept: Option<(Socket, Instant)>,
}

type Socket = TokioIo<TcpStream>;

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug)]
pub enum GetError<R> {
    Trouble(Trouble),
    /// The body is larger than so many bytes, decompressed.
    TooLarge(usize),
    /// The caller's, who saw its head.
    Refused(R),
}

impl PlainClient {
    /// None where `url` is not plain HTTP. No proxy is used.
    #[must_use]
    pub fn new(url: &url::Url, limits: &RequestLimits) -> Option<PlainClient> {
        let address: Uri = url.as_str().parse().ok().filter(|_| url.scheme() == "http")?;
        let mut connector = HttpConnector::new_with_resolver(Resolver::within(limits));
        connector.set_connect_timeout(Some(limits.connect_timeout));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE));
        connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        connector.set_tcp_user_timeout(Some(UNANSWERED_MAX));
        Some(PlainClient {
            connector,
            path: Uri::from(address.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"))),
            host: HeaderValue::from_str(address.authority()?.as_str()).ok()?,
            address,
            connect_timeout: limits.connect_timeout,
            body_bytes_max: limits.body_bytes_max,
            kept: None,
        })
    }

    /// What `judge` made of the answer's head, and the body, decompressed. Has no limit in time but for making the
    /// connection; after being dropped halfway, the next one makes a new connection.
    pub async fn get<T, R>(
        &mut self,
        headers: &HeaderMap,
        judge: impl FnOnce(&Parts) -> Result<T, R>,
    ) -> Result<(T, Vec<u8>), GetError<R>> {
        let mut exchange = self.ask(headers).await.map_err(GetError::Trouble)?;
        let verdict = judge(&exchange.head).map_err(GetError::Refused)?;
        let body = exchange.body(self.body_bytes_max).await?;
        self.kept = exchange.end().await.map(|socket| (socket, Instant::now()));
        Ok((verdict, body))
    }

    async fn ask(&mut self, headers: &HeaderMap) -> Result<Exchange, Trouble> {
        // Servers close what was quiet for long, perhaps in this very moment: that is no failure, and a GET does no harm
        // twice.
        if let Some((kept, since)) = self.kept.take()
            && since.elapsed() < IDLE_MAX
            && is_quiet(&kept)
            && let Ok(exchange) = Exchange::begin(kept, self.request(headers)).await
        {
            return Ok(exchange);
        }
        let new = timeout(self.connect_timeout, self.connect()).await;
        let new = new.unwrap_or_else(|_| Err(io_trouble(&io::ErrorKind::TimedOut.into())))?;
        Exchange::begin(new, self.request(headers)).await.map_err(|error| not_whole(&error))
    }

    async fn connect(&mut self) -> Result<Socket, Trouble> {
        poll_fn(|context| self.connector.poll_ready(context)).await.map_err(|error| not_connected(&error))?;
        self.connector.call(self.address.clone()).await.map_err(|error| not_connected(&error))
    }

    fn request(&self, own: &HeaderMap) -> Request<String> {
        let mut request = Request::new(String::new());
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        *headers = own.clone();
        let defaults: [(HeaderName, HeaderValue); 3] = [
            (HOST, self.host.clone()),
            (USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE)),
            (ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
        ];
        for (name, value) in defaults {
            headers.entry(name).or_insert(value);
        }
        request
    }
}

/// Whether a connection on which nothing is awaited says nothing; one that was closed says so. The kernel is asked: the
/// runtime may not have heard yet, and what came unasked must not pass for the next answer.
fn is_quiet(socket: &Socket) -> bool {
    rustix::io::read(socket.inner(), &mut [0_u8]) == Err(Errno::AGAIN)
}

/// One request whose answer has begun.
struct Exchange {
    connection: Driven,
    sender: http1::SendRequest<String>,
    head: Parts,
    incoming: hyper::body::Incoming,
}

impl Exchange {
    async fn begin(socket: Socket, request: Request<String>) -> hyper::Result<Exchange> {
        let mut builder = http1::Builder::new();
        builder.read_buf_exact_size(Some(BUFFER_BYTES));
        let (mut sender, connection) = builder.handshake(socket).await?;
        let mut connection = Driven(Some(connection));
        let answer = connection.until(sender.send_request(request)).await?;
        let (head, incoming) = answer.into_parts();
        Ok(Exchange { connection, sender, head, incoming })
    }

    async fn body<R>(&mut self, max: usize) -> Result<Vec<u8>, GetError<R>> {
        let announced = hyper::body::Body::size_hint(&self.incoming).exact();
        let bounded = Bounded { bytes: room_for(announced, max), max };
        let mut body = match self.head.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            Some(b"gzip" | b"x-gzip") => Body::Gzip(MultiGzDecoder::new(bounded)),
            _ => Body::AsItIs(bounded),
        };
        while let Some(frame) = self.connection.until(self.incoming.frame()).await {
            let frame = frame.map_err(|error| GetError::Trouble(not_whole(&error)))?;
            if let Some(data) = frame.data_ref() {
                body.add(data).map_err(|error| unread(&error, max))?;
            }
        }
        body.end().map_err(|error| unread(&error, max))
    }

    /// The socket, if it can serve the next request.
    async fn end(mut self) -> Option<Socket> {
        self.connection.until(self.sender.ready()).await.ok()?;
        let parts = self.connection.0?.into_parts();
        parts.read_buf.is_empty().then_some(parts.io)
    }
}

/// Does a connection's work while something is awaited from it. None when it has ended: what it had not done by then, it
/// tells who waits for it, with the reason, by being gone.
struct Driven(Option<http1::Connection<Socket, String>>);

impl Driven {
    async fn until<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = pin!(wanted);
        poll_fn(|context| {
            if self.0.as_mut().is_some_and(|connection| connection.poll_without_shutdown(context).is_ready()) {
                self.0 = None;
            }
            wanted.as_mut().poll(context)
        })
        .await
    }
}

enum Body {
    AsItIs(Bounded),
    Gzip(MultiGzDecoder<Bounded>),
}

impl Body {
    fn add(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Body::AsItIs(bounded) => bounded.write_all(data),
            Body::Gzip(decoder) => decoder.write_all(data),
        }
    }

    fn end(self) -> io::Result<Vec<u8>> {
        match self {
            Body::AsItIs(bounded) => Ok(bounded.bytes),
            Body::Gzip(decoder) => Ok(decoder.finish()?.bytes),
        }
    }
}

/// What [`Body`] and [`Bounded`] say of it.
fn unread<R>(error: &io::Error, max: usize) -> GetError<R> {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return GetError::TooLarge(max);
    }
    GetError::Trouble(Trouble::new(TroubleKind::Lost, NOT_READ, error))
}

/// Takes so many bytes, and not one more.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.max - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = NoAddress;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoAddress>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoAddress>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = *self;
        Box::pin(async move { Ok(resolver.look_up(name.as_str()).await.map_err(NoAddress)?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread::{self, JoinHandle};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Takes one request for each answer, on as many connections as there are lists.
    fn serve(connections: Vec<Vec<Vec<u8>>>, between: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = url::Url::parse(&format!("http://{}/metrics", listener.local_addr().unwrap())).unwrap();
        let thread = thread::spawn(move || {
            let mut open = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in answers {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        stream.read_exact(&mut byte).unwrap();
                        head.extend(byte);
                    }
                    stream.write_all(&answer).unwrap();
                    between(&mut stream);
                }
                open.push(stream);
            }
        });
        (client(&url), thread)
    }

    type Served = (PlainClient, JoinHandle<()>);

    fn client(url: &url::Url) -> PlainClient {
        let limit = Duration::from_mins(1);
        let limits = RequestLimits { connect_timeout: limit, timeout: limit, body_bytes_max: 100 };
        PlainClient::new(url, &limits).expect("plain HTTP")
    }

    fn answer(headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    async fn get(client: &mut PlainClient) -> Result<String, String> {
        let headers = HeaderMap::new();
        let answer = timeout(Duration::from_mins(1), client.get(&headers, |_| Ok::<(), ()>(())));
        match answer.await.expect("an answer in time") {
            Ok(((), body)) => Ok(String::from_utf8(body).unwrap()),
            Err(GetError::Trouble(trouble)) => Err(trouble.detail),
            Err(GetError::TooLarge(max)) => Err(format!("more than {max}")),
            Err(GetError::Refused(())) => unreachable!(),
        }
    }

    #[tokio::test]
    async fn answers_of_every_kind_follow_each_other_on_one_connection() {
        let zipped = "content-encoding: gzip\r\n";
        let kinds = vec![
            answer("", b"plain"),
            answer(zipped, &gzip("zipped")),
            [b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", &*answer("", b"hinted")].concat(),
            answer(zipped, &[gzip("two "), gzip("members")].concat()),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nend\r\n0\r\nx-trailer: y\r\n\r\n".to_vec(),
            answer("", b""),
            answer("", b"last"),
        ];
        let (mut client, server) = serve(vec![kinds], |_| ());
        for expected in ["plain", "zipped", "hinted", "two members", "end", "", "last"] {
            assert_eq!(get(&mut client).await.as_deref(), Ok(expected));
        }
        server.join().unwrap();
    }

    #[tokio::test]
    async fn a_body_that_is_broken_or_too_large_is_none() {
        let zipped = "content-encoding: gzip\r\n";
        let whole = gzip("whole");
        let mut wrong = whole.clone();
        let sum = wrong.len() - 8;
        wrong[sum] ^= 1;
        let connections = vec![
            vec![answer(zipped, &whole[..whole.len() - 3])],
            vec![answer(zipped, &wrong)],
            vec![answer(zipped, &[&*whole, b"garbage"].concat())],
            vec![answer(zipped, &gzip(&"x".repeat(101)))],
            // What was read to its end leaves the connection good.
            vec![answer(zipped, &gzip(&"x".repeat(100))), answer("", &[b'y'; 100]), answer("", &[b'y'; 101])],
        ];
        let (mut client, server) = serve(connections, |_| ());
        for broken in ["cut", "wrong sum", "garbage"] {
            let why = get(&mut client).await.unwrap_err();
            assert!(why.starts_with("the answer cannot be read: "), "{broken}: {why}");
        }
        assert_eq!(get(&mut client).await, Err("more than 100".to_owned()));
        assert_eq!(get(&mut client).await, Ok("x".repeat(100)));
        assert_eq!(get(&mut client).await, Ok("y".repeat(100)));
        assert_eq!(get(&mut client).await, Err("more than 100".to_owned()));
        server.join().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_long_is_not_used_again() {
        let (mut client, server) = serve(vec![vec![answer("", b"first")], vec![answer("", b"second")]], |_| ());
        assert_eq!(get(&mut client).await.as_deref(), Ok("first"));
        tokio::time::pause();
        tokio::time::advance(IDLE_MAX).await;
        tokio::time::resume();
        assert_eq!(get(&mut client).await.as_deref(), Ok("second"), "the server reads the first one no more");
        server.join().unwrap();
    }

    #[tokio::test]
    async fn what_came_unasked_is_seen_before_the_runtime_has_heard_of_it() {
        let (go, ask) = mpsc::channel::<()>();
        let (done, said) = mpsc::channel();
        let stale = answer("", b"stale");
        let (mut client, server) =
            serve(vec![vec![answer("", b"first")], vec![answer("", b"second")]], move |stream| {
                // After the second answer nobody asks any more.
                if ask.recv().is_ok() {
                    stream.write_all(&stale).unwrap();
                    done.send(()).unwrap();
                }
            });
        assert_eq!(get(&mut client).await.as_deref(), Ok("first"));
        // On this thread the runtime also waits for sockets: until the next `await` it hears nothing.
        go.send(()).unwrap();
        said.recv().unwrap();
        drop(go);
        assert_eq!(get(&mut client).await.as_deref(), Ok("second"));
        server.join().unwrap();
    }
}
