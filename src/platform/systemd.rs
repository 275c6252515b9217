//! Tells systemd how the daemon is: ready, reloading, stopping, alive (`sd_notify(3)`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;

/// Where notifications go. Without a socket every call is a success that says nothing.
///
/// `sd_notify` formats the messages; the socket is ours, because that crate reads the environment at each call and
/// takes an abstract name (`@…`) for a path.
#[derive(Clone, Debug)]
pub struct Systemd {
    socket: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As `$NOTIFY_SOCKET` and `$WATCHDOG_USEC` say; both absent when nothing supervises.
    pub fn from_env() -> io::Result<Systemd> {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = socket.map(|name| address(name.as_bytes())).transpose()?;
        let watchdog = socket.as_ref().and_then(|_| sd_notify::watchdog_enabled());
        Ok(Systemd { socket, watchdog })
    }

    /// For tests and for embedding: this socket, this watchdog.
    #[must_use]
    pub const fn new(socket: Option<SocketAddr>, watchdog: Option<Duration>) -> Systemd {
        Systemd { socket, watchdog }
    }

    /// How often to call [`Systemd::alive`]: half of the time after which systemd gives the daemon up
    /// (`sd_watchdog_enabled(3)` recommends half). None: nobody watches.
    #[must_use]
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2).filter(|every| !every.is_zero())
    }

    pub fn ready(&self, status: &str) -> io::Result<()> {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))])
    }

    /// Must be followed by [`Systemd::ready`], also when the reload changed nothing.
    pub fn reloading(&self) -> io::Result<()> {
        // systemd compares this with its own CLOCK_MONOTONIC to know which reload it is; one datagram with RELOADING=1.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&[NotifyState::Reloading, NotifyState::MonotonicUsec(micros)])
    }

    pub fn stopping(&self, status: &str) -> io::Result<()> {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))])
    }

    pub fn status(&self, status: &str) -> io::Result<()> {
        self.send(&[NotifyState::Status(&one_line(status))])
    }

    /// The engine made progress.
    pub fn alive(&self) -> io::Result<()> {
        self.send(&[NotifyState::Watchdog])
    }

    fn send(&self, states: &[NotifyState<'_>]) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        lines.push(String::new());
        let message = lines.join("\n");
        let from = UnixDatagram::unbound()?;
        // systemd reads slowly when it is busy; the engine must not wait for it.
        from.set_nonblocking(true)?;
        from.send_to_addr(message.as_bytes(), socket)?;
        Ok(())
    }
}

/// `@name` is a socket in the abstract namespace.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}

/// A line end would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listener {
        socket: UnixDatagram,
        _folder: tempfile::TempDir,
        systemd: Systemd,
    }

    fn listener() -> Listener {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let address = address(path.as_os_str().as_bytes()).unwrap();
        Listener { socket, _folder: folder, systemd: Systemd::new(Some(address), Some(Duration::from_secs(10))) }
    }

    impl Listener {
        fn datagram(&self) -> String {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        }
    }

    #[test]
    fn each_message_is_one_datagram() {
        let listener = listener();
        listener.systemd.ready("watching 2 services").unwrap();
        assert_eq!(listener.datagram(), "READY=1\nSTATUS=watching 2 services\n");
        listener.systemd.alive().unwrap();
        assert_eq!(listener.datagram(), "WATCHDOG=1\n");
        listener.systemd.status("first\nREADY=1").unwrap();
        assert_eq!(listener.datagram(), "STATUS=first READY=1\n");
        listener.systemd.stopping("waiting").unwrap();
        assert_eq!(listener.datagram(), "STOPPING=1\nSTATUS=waiting\n");
    }

    #[test]
    fn a_reload_carries_the_kernels_monotonic_time_in_the_same_datagram() {
        let listener = listener();
        let before = clock_gettime(ClockId::Monotonic);
        listener.systemd.reloading().unwrap();
        let text = listener.datagram();
        let micros: i64 = text
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|rest| rest.strip_suffix('\n'))
            .unwrap_or_else(|| panic!("unexpected datagram {text:?}"))
            .parse()
            .unwrap();
        assert!(micros >= before.tv_sec * 1_000_000 + before.tv_nsec / 1_000);
        assert!(micros < before.tv_sec * 1_000_000 + before.tv_nsec / 1_000 + 60_000_000);
    }

    #[test]
    fn the_watchdog_is_told_twice_as_often_as_it_asks() {
        assert_eq!(listener().systemd.watchdog_every(), Some(Duration::from_secs(5)));
        assert_eq!(Systemd::new(None, None).watchdog_every(), None);
    }

    #[test]
    fn without_a_socket_nothing_is_said_and_nothing_fails() {
        Systemd::new(None, None).ready("x").unwrap();
    }

    #[test]
    fn an_abstract_name_is_an_address() {
        let name = format!("@backstop-test-{}", std::process::id());
        let address = address(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Systemd::new(Some(address), None).alive().unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
    }
}
