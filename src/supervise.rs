//! Named tasks: the death of one is a typed reason, and shutdown has a bound.

use std::any::Any;
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// What a critical task ends with. `Ok` is right only once shutdown was asked for.
pub type TaskResult = Result<(), Box<dyn Error + Send + Sync>>;

/// Why a task that the daemon cannot do without is no longer there.
#[derive(Debug, thiserror::Error)]
pub enum Death {
    #[error("{task} panicked: {message}")]
    Panicked { task: &'static str, message: String },
    #[error("{task} failed")]
    Failed {
        task: &'static str,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It returned without an error, though nobody had asked it to.
    #[error("{task} ended by itself")]
    Ended { task: &'static str },
}

/// Owns every long-lived task of the daemon. Nothing is detached: a task that is dropped with the supervisor is
/// aborted, so shutdown goes through [`Supervisor::drain`].
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<TaskResult>,
    names: HashMap<Id, &'static str>,
    shutdown: CancellationToken,
}

impl Supervisor {
    /// `shutdown` is what the tasks listen to; cancelling it tells them to end.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Supervisor {
        Supervisor { tasks: JoinSet::new(), names: HashMap::new(), shutdown }
    }

    /// Must be called inside the runtime.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = TaskResult> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Waits until a task dies. A task that ends well after shutdown was asked for is no death; with no task left
    /// this waits for ever. May be cancelled.
    pub async fn next_death(&mut self) -> Death {
        loop {
            let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
            if let Some(death) = self.judge(ended) {
                return death;
            }
        }
    }

    /// Waits until all tasks have ended, at most `limit`. Shutdown must have been asked for.
    pub async fn drain(mut self, limit: Duration) -> Drained {
        let mut drained = Drained::default();
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                ended = self.tasks.join_next_with_id() => match ended {
                    None => return drained,
                    Some(ended) => drained.deaths.extend(self.judge(ended)),
                },
                () = &mut deadline => {
                    drained.left_over = self.names.values().copied().collect();
                    drained.left_over.sort_unstable();
                    return drained;
                }
            }
        }
    }

    fn judge(&mut self, ended: Result<(Id, TaskResult), JoinError>) -> Option<Death> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let task = self.names.remove(&id).expect("every spawned task has a name");
        match ended {
            Ok((_, Ok(()))) if self.shutdown.is_cancelled() => None,
            Ok((_, Ok(()))) => Some(Death::Ended { task }),
            Ok((_, Err(source))) => Some(Death::Failed { task, source }),
            Err(error) => Some(Death::Panicked { task, message: panic_message(error) }),
        }
    }
}

/// How a drain went.
#[derive(Debug, Default)]
pub struct Drained {
    /// Tasks that ended badly.
    pub deaths: Vec<Death>,
    /// Tasks that had not ended at the limit.
    pub left_over: Vec<&'static str>,
}

/// What a task said when it panicked.
pub fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => payload_text(payload.as_ref()),
        Err(error) => error.to_string(),
    }
}

fn payload_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> (Supervisor, CancellationToken) {
        let shutdown = CancellationToken::new();
        (Supervisor::new(shutdown.clone()), shutdown)
    }

    #[tokio::test]
    async fn a_panic_is_named_with_its_message() {
        let (mut supervisor, _shutdown) = supervisor();
        supervisor.spawn("quiet", std::future::pending());
        supervisor.spawn("engine", async { panic!("window {} is gone", 7) });
        let death = supervisor.next_death().await;
        assert_eq!(death.to_string(), "engine panicked: window 7 is gone");
    }

    #[tokio::test]
    async fn an_error_and_an_early_end_are_deaths() {
        let (mut supervisor, _shutdown) = supervisor();
        supervisor.spawn("api", async { Err("address in use".into()) });
        let death = supervisor.next_death().await;
        assert!(matches!(&death, Death::Failed { task: "api", source } if source.to_string() == "address in use"));
        supervisor.spawn("api", async { Ok(()) });
        assert!(matches!(supervisor.next_death().await, Death::Ended { task: "api" }));
    }

    #[tokio::test]
    async fn after_shutdown_an_end_is_as_it_should_be() {
        let (mut supervisor, shutdown) = supervisor();
        let token = shutdown.clone();
        supervisor.spawn("good", async move {
            token.cancelled().await;
            Ok(())
        });
        supervisor.spawn("bad", async { Err("late".into()) });
        shutdown.cancel();
        let drained = supervisor.drain(Duration::from_mins(1)).await;
        assert_eq!(drained.deaths.len(), 1);
        assert_eq!(drained.left_over, Vec::<&str>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn the_drain_has_a_bound_and_names_who_did_not_end() {
        let (mut supervisor, shutdown) = supervisor();
        supervisor.spawn("stuck", std::future::pending());
        supervisor.spawn("fine", async { Ok(()) });
        shutdown.cancel();
        let drained = supervisor.drain(Duration::from_secs(30)).await;
        assert_eq!(drained.left_over, ["stuck"]);
        assert!(drained.deaths.is_empty());
    }
}
