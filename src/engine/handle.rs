//! How the rest of the process reaches the engine: the latest snapshot, and commands with their answers.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::decide::event::Actor;
use crate::machine::input::{Answer, Command, Refusal};
use crate::machine::snapshot::Snapshot;

/// A command on its way to the machine, with the way back for its answer.
#[derive(Debug)]
pub struct CommandMessage {
    pub actor: Actor,
    pub command: Command,
    pub reply: oneshot::Sender<Answer>,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<CommandMessage>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl Handle {
    #[must_use]
    pub const fn new(commands: mpsc::Sender<CommandMessage>, snapshot: watch::Receiver<Arc<Snapshot>>) -> Handle {
        Handle { commands, snapshot }
    }

    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// To be told of the next snapshot.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Answers when what the command caused is durable, or was refused.
    pub async fn command(&self, actor: Actor, command: Command) -> Answer {
        let gone = || Answer::Refused(Refusal::Unavailable("backstop is shutting down".to_owned()));
        let (reply, answer) = oneshot::channel();
        if self.commands.send(CommandMessage { actor, command, reply }).await.is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }
}
