//! Reading from a disk that may hang, one thread at most for each reader.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// Runs blocking work on a thread of its own. Work that hangs cannot be ended; starting more of it at each interval
/// would use up the threads that the resolver needs too, and everything would look dark. So what still hangs is waited
/// for again.
#[derive(Debug)]
pub struct Blocking<T> {
    pending: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Blocking<T> {
    pub fn new() -> Blocking<T> {
        Blocking { pending: None }
    }

    /// What `work` returns (or the same work of an earlier call that still hung), or `None` if it takes longer than
    /// `limit` or panics. Losing this future loses nothing but the answer.
    pub async fn run(&mut self, limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let hangs = self.pending.take().filter(|pending| !pending.is_finished());
        let pending = self.pending.insert(hangs.unwrap_or_else(|| spawn_blocking(work)));
        let done = timeout(limit, pending).await.ok()?;
        self.pending = None;
        done.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn work_that_hangs_is_not_started_again() {
        let started = Arc::new(AtomicUsize::new(0));
        let (release, wait) = mpsc::channel::<usize>();
        let mut blocking = Blocking::new();
        let counted = Arc::clone(&started);
        let hanging = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            wait.recv().unwrap()
        };
        assert_eq!(blocking.run(Duration::from_millis(5), hanging).await, None);
        for _ in 0..3 {
            let counted = Arc::clone(&started);
            let again = move || counted.fetch_add(1, Ordering::SeqCst);
            assert_eq!(blocking.run(Duration::from_millis(5), again).await, None);
        }
        release.send(7).unwrap();
        assert_eq!(blocking.run(PATIENCE, || 8).await.map(|found| found == 7 || found == 8), Some(true));
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert_eq!(blocking.run(PATIENCE, || 9).await, Some(9));
        assert_eq!(blocking.run(PATIENCE, || panic!("oh")).await, None);
        assert_eq!(blocking.run(PATIENCE, || 10).await, Some(10));
    }
}
