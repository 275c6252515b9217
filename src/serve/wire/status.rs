use serde::{Deserialize, Serialize};

use super::{duration, instant, severity};
use crate::decide::event::Running;
use crate::machine::snapshot::{
    AskedView, JournalHealth, KillView, PauseView, ReceiverView, ReleaseView, ServiceView, SignalView, Snapshot,
    TargetView, TriggerView,
};
use crate::serve::FailedReload;

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusBody {
    pub version: String,
    pub instance: String,
    pub config_hash: String,
    /// Counts reloads of the configuration.
    pub generation: u64,
    /// The latest reload, if it failed and changed nothing.
    #[serde(default)]
    pub failed_reload: Option<FailedReloadBody>,
    /// The instant that all of this describes.
    pub at: String,
    pub started: String,
    pub ready: bool,
    /// Why it is not ready, one sentence each.
    pub not_ready: Vec<String>,
    pub journal: JournalBody,
    /// Of the whole daemon.
    pub pause: Option<PauseState>,
    /// Of the whole daemon, by command or by file.
    #[serde(default)]
    pub kill_switch: Option<KillSwitchState>,
    /// The clock jumped, or backstop was stopped: no rollback starts until then.
    #[serde(default)]
    pub tilt: Option<TiltState>,
    pub services: Vec<ServiceBody>,
    pub receivers: Vec<ReceiverBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedReloadBody {
    pub at: String,
    /// The first mistake; the daemon's log has all of them, with their places.
    pub why: String,
}

/// `GET /readyz`, asked for JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyBody {
    pub ready: bool,
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JournalBody {
    Writing,
    /// No new rollback starts.
    Failing {
        since: String,
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseState {
    pub until: String,
    pub actor: String,
    pub reason: String,
}

/// Nothing is begun while it is on; it has no end of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitchState {
    pub since: String,
    pub actor: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TiltState {
    pub until: String,
    pub why: String,
}

/// An action is a proposal until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeState {
    pub until: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceBody {
    pub name: String,
    pub autonomy: String,
    pub running: RunningBody,
    pub running_since: Option<String>,
    pub way_back: Option<String>,
    pub pause: Option<PauseState>,
    #[serde(default)]
    pub kill_switch: Option<KillSwitchState>,
    #[serde(default)]
    pub freeze: Option<FreezeState>,
    /// The open incident.
    pub incident: Option<String>,
    pub triggers: Vec<TriggerBody>,
    pub targets: Vec<TargetBody>,
    pub signals: Vec<SignalState>,
    /// Blockers, and the checks of the way back.
    #[serde(default)]
    pub asked: Vec<AskedBody>,
    pub releases: Vec<ReleaseState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunningBody {
    One {
        release: String,
    },
    /// The largest share first.
    Mix {
        releases: Vec<ShareBody>,
    },
    Unknown {
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareBody {
    pub release: String,
    /// Of the targets, 0–1.
    pub share: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerBody {
    pub name: String,
    pub severity: String,
    /// `quiet`, `pending`, `firing`, `blind`.
    pub verdict: String,
    /// `clear`, `breached`, `unknown`.
    pub finding: String,
    pub since: Option<String>,
    /// None too where it is not a finite number, which JSON cannot say.
    pub value: Option<f64>,
    pub value_text: Option<String>,
    pub threshold: String,
    pub held: String,
    pub hold: String,
    pub sentence: String,
    /// Why its threshold is never reached; None where that is not known.
    #[serde(default)]
    pub never_fires: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetBody {
    /// `scrape`, `probe` or `query`.
    pub kind: String,
    pub source: String,
    pub address: String,
    /// None before the first look.
    pub up: Option<bool>,
    pub last: Option<String>,
    pub error: Option<String>,
    pub series: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBody {
    /// `blocker` or `way_back`.
    pub kind: String,
    pub name: String,
    /// `free`, `holds`, `unknown`, `unasked`.
    pub standing: String,
    /// Why it stops a rollback; empty where it does not.
    pub sentence: String,
    /// When it was last asked.
    pub last: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalState {
    pub name: String,
    pub until: String,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseState {
    pub name: String,
    pub first_seen: String,
    pub good: bool,
    pub bad: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverBody {
    pub name: String,
    pub queued: usize,
    /// All of them; `dead_letters` shows the latest.
    pub dead: usize,
    pub oldest: Option<String>,
    pub last_error: Option<String>,
    pub dead_letters: Vec<DeadLetterBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterBody {
    pub id: String,
    /// As the webhook's `type` has it.
    pub kind: String,
    pub incident: Option<String>,
    pub occurred: String,
    pub text: String,
    pub why: String,
}

impl StatusBody {
    /// `not_ready` as `GET /readyz` has it.
    #[must_use]
    pub fn new(snapshot: &Snapshot, not_ready: Vec<String>, failed_reload: Option<&FailedReload>) -> StatusBody {
        StatusBody {
            version: snapshot.version.to_owned(),
            instance: snapshot.instance.to_string(),
            config_hash: snapshot.config_hash.to_string(),
            generation: snapshot.generation,
            failed_reload: failed_reload
                .map(|failed| FailedReloadBody { at: instant(failed.wall), why: failed.why.clone() }),
            at: instant(snapshot.wall),
            started: instant(snapshot.started_wall),
            ready: not_ready.is_empty(),
            not_ready,
            journal: match &snapshot.journal {
                JournalHealth::Writing => JournalBody::Writing,
                JournalHealth::Failing { since_wall, why } => {
                    JournalBody::Failing { since: instant(*since_wall), why: why.clone() }
                }
            },
            pause: snapshot.pause.as_ref().map(Into::into),
            kill_switch: snapshot.kill_switch.as_ref().map(Into::into),
            tilt: snapshot.tilt.as_ref().map(|(until, why)| TiltState { until: instant(*until), why: why.clone() }),
            services: snapshot.services.iter().map(Into::into).collect(),
            receivers: snapshot.receivers.iter().map(Into::into).collect(),
        }
    }
}

impl From<&PauseView> for PauseState {
    fn from(pause: &PauseView) -> PauseState {
        PauseState {
            until: instant(pause.until_wall),
            actor: format!("{} ({})", pause.actor.name, pause.actor.via),
            reason: pause.reason.clone(),
        }
    }
}

impl From<&KillView> for KillSwitchState {
    fn from(kill: &KillView) -> KillSwitchState {
        KillSwitchState {
            since: instant(kill.since_wall),
            actor: format!("{} ({})", kill.actor.name, kill.actor.via),
            reason: kill.reason.clone(),
        }
    }
}

impl From<&ServiceView> for ServiceBody {
    fn from(service: &ServiceView) -> ServiceBody {
        ServiceBody {
            name: service.name.to_string(),
            autonomy: service.autonomy.to_owned(),
            running: (&service.running).into(),
            running_since: service.running_since_wall.map(instant),
            way_back: service.way_back.clone(),
            pause: service.pause.as_ref().map(Into::into),
            kill_switch: service.kill_switch.as_ref().map(Into::into),
            freeze: service
                .freeze
                .as_ref()
                .map(|(reason, until)| FreezeState { until: instant(*until), reason: reason.clone() }),
            incident: service.incident.as_ref().map(ToString::to_string),
            triggers: service.triggers.iter().map(Into::into).collect(),
            targets: service.targets.iter().map(Into::into).collect(),
            signals: service.signals.iter().map(Into::into).collect(),
            asked: service.asked.iter().map(Into::into).collect(),
            releases: service.releases.iter().map(Into::into).collect(),
        }
    }
}

impl From<&AskedView> for AskedBody {
    fn from(asked: &AskedView) -> AskedBody {
        AskedBody {
            kind: asked.kind.to_owned(),
            name: asked.name.to_string(),
            standing: asked.standing.to_owned(),
            sentence: asked.sentence.clone(),
            last: asked.last_wall.map(instant),
        }
    }
}

impl From<&Running> for RunningBody {
    fn from(running: &Running) -> RunningBody {
        match running {
            Running::One(release) => RunningBody::One { release: release.to_string() },
            Running::Mix(shares) => {
                let share =
                    |(release, share): &(_, f64)| ShareBody { release: ToString::to_string(release), share: *share };
                RunningBody::Mix { releases: shares.iter().map(share).collect() }
            }
            Running::Unknown(why) => RunningBody::Unknown { why: why.clone() },
        }
    }
}

impl From<&TriggerView> for TriggerBody {
    fn from(trigger: &TriggerView) -> TriggerBody {
        TriggerBody {
            name: trigger.name.to_string(),
            severity: severity(trigger.severity).to_owned(),
            verdict: trigger.verdict.to_owned(),
            finding: trigger.finding.to_owned(),
            since: trigger.since_wall.map(instant),
            value: trigger.value.filter(|value| value.is_finite()),
            value_text: trigger.value_text.clone(),
            threshold: trigger.threshold.clone(),
            held: duration(trigger.held),
            hold: duration(trigger.hold),
            sentence: trigger.sentence.clone(),
            never_fires: trigger.never_fires.clone(),
        }
    }
}

impl From<&TargetView> for TargetBody {
    fn from(target: &TargetView) -> TargetBody {
        TargetBody {
            kind: target.kind.to_owned(),
            source: target.source.to_string(),
            address: target.address.to_string(),
            up: target.up,
            last: target.last_wall.map(instant),
            error: target.error.clone(),
            series: target.series,
        }
    }
}

impl From<&SignalView> for SignalState {
    fn from(signal: &SignalView) -> SignalState {
        SignalState { name: signal.name.clone(), until: instant(signal.until_wall), detail: signal.detail.clone() }
    }
}

impl From<&ReleaseView> for ReleaseState {
    fn from(release: &ReleaseView) -> ReleaseState {
        ReleaseState {
            name: release.name.clone(),
            first_seen: instant(release.first_seen_wall),
            good: release.good,
            bad: release.bad,
        }
    }
}

impl From<&ReceiverView> for ReceiverBody {
    fn from(receiver: &ReceiverView) -> ReceiverBody {
        let dead_letters = receiver.dead_letters.iter().map(|(notice, why)| DeadLetterBody {
            id: notice.id.clone(),
            kind: notice.kind.as_str().to_owned(),
            incident: notice.incident.as_ref().map(ToString::to_string),
            occurred: instant(notice.occurred_at),
            text: notice.text.clone(),
            why: why.clone(),
        });
        ReceiverBody {
            name: receiver.name.to_string(),
            queued: receiver.queued,
            dead: receiver.dead,
            oldest: receiver.oldest_wall.map(instant),
            last_error: receiver.last_error.clone(),
            dead_letters: dead_letters.collect(),
        }
    }
}
