//! Delivers notices: message forms, one file per kind of receiver.
//!
//! One call of [`Notifier::deliver`] is one attempt. The machine holds the queues, their order, what is retried and
//! when, and the dead letters; the journal makes them outlive the process. docs/webhook.md tells receivers the rest.

mod body;
mod link;
mod retry;
mod sign;
#[cfg(test)]
mod tests;
mod webhook;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use crate::config::model::{Approvals, ReceiverKind, ReceiverSpec};
use crate::machine::input::DeliveryOutcome;
use crate::machine::output::DeliveryOrder;
use crate::platform::http::ClientError;
use crate::time::Now;

/// The `schema` of the generic webhook's body. A field may be added without a new one; none changes its meaning.
pub const SCHEMA: &str = "backstop/notice/v1";
/// A body is shorter than this many bytes (Standard Webhooks, "Payload size").
pub const BODY_BYTES_MAX: usize = 20_000;

/// Who sends: the same for all receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `Rules::instance`.
    pub instance: Arc<str>,
    /// Where people reach this daemon's pages, without a slash at the end; None when it does not know.
    pub public_url: Option<String>,
    /// With which links people may answer; None while nobody listens for them.
    pub approvals: Option<Approvals>,
}

/// A receiver that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("receivers.{receiver}: {why}")]
pub struct NotifierError {
    pub receiver: Arc<str>,
    #[source]
    pub why: ReceiverError,
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    #[error("{url:?} is not an address for HTTP: {why}")]
    Url { url: String, why: String },
    #[error("{0:?} is not a header's name")]
    HeaderName(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// All receivers of a configuration. Cheap to clone; a clone goes on with the configuration it was cloned with.
#[derive(Clone, Debug)]
pub struct Notifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    origin: Origin,
    receivers: BTreeMap<Arc<str>, Receiver>,
}

#[derive(Debug)]
struct Receiver {
    kind: Kind,
    /// `ReceiverSpec::approve_link`.
    approve_link: bool,
}

#[derive(Debug)]
enum Kind {
    Webhook(Arc<webhook::Webhook>),
}

impl Notifier {
    /// Secrets are not read yet: they may be rotated, or come later.
    pub fn new(receivers: &[ReceiverSpec], origin: Origin) -> Result<Notifier, NotifierError> {
        let mut built = BTreeMap::new();
        for spec in receivers {
            let kind = match &spec.kind {
                ReceiverKind::Webhook { url, secrets, client } => {
                    webhook::Webhook::new(&spec.name, url, secrets, client, &spec.limits)
                        .map(|webhook| Kind::Webhook(Arc::new(webhook)))
                        .map_err(|why| NotifierError { receiver: Arc::clone(&spec.name), why })?
                }
            };
            built.insert(Arc::clone(&spec.name), Receiver { kind, approve_link: spec.approve_link });
        }
        Ok(Notifier { inner: Arc::new(Inner { origin, receivers: built }) })
    }

    /// Takes another configuration, or on an error keeps the one it has. Attempts under way end with the old one.
    pub fn reconfigure(&mut self, receivers: &[ReceiverSpec], origin: Origin) -> Result<(), NotifierError> {
        *self = Notifier::new(receivers, origin)?;
        Ok(())
    }

    /// One attempt. `Retry` says when the next one should be; it never takes longer than the receiver's limits (plus
    /// the reading of secrets, which has the same limit, and of the key of links, which has two seconds).
    pub async fn deliver(&self, order: &DeliveryOrder, now: &Now) -> DeliveryOutcome {
        let Some(receiver) = self.inner.receivers.get(&order.receiver) else {
            return DeliveryOutcome::Dead {
                why: format!("there is no receiver {:?} in the configuration any more", order.receiver),
            };
        };
        let approve = match &self.inner.origin.approvals {
            Some(approvals) if receiver.approve_link => link::of(order, approvals, now).await,
            Some(_) | None => None,
        };
        let approve_url = approve.as_ref().map(|approve| approve.url.as_str());
        let body = match body::render(order, &self.inner.origin, approve_url, now) {
            Ok(body) => body,
            Err(error) => return DeliveryOutcome::Dead { why: format!("it cannot be written as JSON: {error}") },
        };
        let token = approve.map(|approve| approve.token);
        match &receiver.kind {
            Kind::Webhook(webhook) => webhook::Webhook::deliver(webhook, order, body, token, now).await,
        }
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut deeper = error.source();
    while let Some(cause) = deeper {
        text = format!("{text}: {cause}");
        deeper = cause.source();
    }
    text
}
