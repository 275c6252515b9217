//! What the operating system's signals ask of the daemon.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
}

/// From its creation on, these signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Must be called inside the runtime.
    pub fn install() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one. May be cancelled: a signal that came meanwhile is not lost. Several of a kind that came before
    /// anyone looked count as one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            // Stopping is more urgent than reloading.
            biased;
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_signal_that_came_while_nobody_looked_is_not_lost() {
        let mut signals = Signals::install().unwrap();
        kill_process(getpid(), Number::HUP).unwrap();
        let asked = tokio::time::timeout(Duration::from_mins(1), signals.next()).await;
        assert_eq!(asked, Ok(Asked::Reload));
    }
}
