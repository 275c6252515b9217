//! The link in a notice that asks, made when it is sent: the key and what it signs are in no entry and no queue.

use std::time::Duration;

use secrecy::SecretString;

use crate::config::model::Approvals;
use crate::link::{self, KeyError, Keys, Link, TooLong};
use crate::machine::output::DeliveryOrder;
use crate::time::Now;

/// A key on a disk that hangs costs the notice its link and this long, not its being sent: people can still answer by
/// the command line.
const KEY_WITHIN: Duration = Duration::from_secs(2);

/// Where a notice can be answered.
#[derive(Debug)]
pub(super) struct ApproveUrl {
    pub url: String,
    /// What must not come back in an error.
    pub token: SecretString,
}

#[derive(Debug, thiserror::Error)]
enum Unsigned {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("its key could not be read within {}", humantime::format_duration(KEY_WITHIN))]
    Slow,
    #[error("the reading of its key died")]
    Died(#[source] tokio::task::JoinError),
}

/// None where nothing is asked (any more), and where no link can be made, which is logged.
pub(super) async fn of(order: &DeliveryOrder, approvals: &Approvals, now: &Now) -> Option<ApproveUrl> {
    let link = asks(order, approvals).filter(|link| !order.outdated && now.wall < link.expires)?;
    match signed(&link, approvals).await {
        Ok(token) => {
            let url = format!("{}{}{token}", approvals.external_url, link::PATH);
            Some(ApproveUrl { url, token: SecretString::from(token) })
        }
        Err(error) => {
            let (notice, receiver) = (&order.notice.id, &order.receiver);
            tracing::error!(notice, receiver = &**receiver, "sent without its link: {}", super::with_causes(&error));
            None
        }
    }
}

fn asks(order: &DeliveryOrder, approvals: &Approvals) -> Option<Link> {
    let notice = &order.notice;
    let question = notice.question.as_ref()?;
    // From when it was asked, so that the link is the same on every attempt.
    let limit = approvals.expires_after.map(|limit| notice.occurred_at + limit);
    Some(Link {
        incident: notice.incident.as_ref()?.to_string(),
        number: question.number,
        level: u32::try_from(question.level).ok()?,
        bad: question.bad.clone(),
        target: question.target.clone(),
        receiver: order.receiver.to_string(),
        expires: limit.into_iter().fold(notice.respond_by?, std::cmp::Ord::min),
    })
}

async fn signed(link: &Link, approvals: &Approvals) -> Result<String, Unsigned> {
    let references = approvals.keys.clone();
    let read = tokio::task::spawn_blocking(move || Keys::read(&references));
    let keys = tokio::time::timeout(KEY_WITHIN, read).await.map_err(|_| Unsigned::Slow)?.map_err(Unsigned::Died)??;
    Ok(link::sign(link, &approvals.external_url, &keys)?)
}
