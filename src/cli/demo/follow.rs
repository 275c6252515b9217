//! What the demo prints: read from the daemon's own API and from the notices that arrive, as it happens.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::platform::clock::Clock;
use crate::platform::http;
use crate::serve::wire::{IncidentBody, IncidentList, RunningBody, ServiceBody, StatusBody};
use crate::time::Timestamp;

/// The daemon answers from memory; a machine that is very busy takes its time all the same.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A reader of the daemon's API over its socket.
#[derive(Debug)]
pub struct Reader {
    client: reqwest::Client,
}

impl Reader {
    pub fn new(socket: PathBuf) -> Result<Reader, reqwest::Error> {
        http::install_crypto();
        let client = reqwest::Client::builder().unix_socket(socket).timeout(ANSWER_WITHIN).no_proxy().build()?;
        Ok(Reader { client })
    }

    /// None while the daemon does not answer.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        serde_json::from_slice(&self.get_bytes(path).await?).ok()
    }

    async fn get_bytes(&self, path: &str) -> Option<Vec<u8>> {
        let response = self.client.get(format!("http://backstop{path}")).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        http::body(response, BODY_BYTES_MAX).await.ok()
    }

    pub async fn service(&self) -> Option<ServiceBody> {
        let status: StatusBody = self.get("/v1/status").await?;
        status.services.into_iter().next()
    }

    /// Oldest first.
    pub async fn incidents(&self) -> Vec<IncidentBody> {
        let Some(list) = self.get::<IncidentList>("/v1/incidents").await else { return Vec::new() };
        let mut incidents = Vec::new();
        for summary in list.incidents {
            incidents.extend(self.get::<IncidentBody>(&format!("/v1/incidents/{}", summary.id)).await);
        }
        incidents.sort_by(|a, b| a.summary.opened.cmp(&b.summary.opened));
        incidents
    }

    pub async fn report(&self, incident: &str) -> Option<String> {
        let bytes = self.get_bytes(&format!("/v1/incidents/{incident}/report")).await?;
        String::from_utf8(bytes).ok()
    }
}

/// Prints each thing once, with the seconds since the curtain rose.
#[derive(Debug)]
pub struct Narrator {
    clock: Clock,
    began: Timestamp,
    told: BTreeSet<String>,
    trigger_words: Vec<String>,
    running: String,
}

impl Narrator {
    pub fn new() -> Narrator {
        let clock = Clock::start(None, None);
        let began = clock.monotonic();
        Narrator { clock, began, told: BTreeSet::new(), trigger_words: Vec::new(), running: String::new() }
    }

    /// A stage direction: what the demo itself does.
    pub fn stage(&self, text: &str) {
        self.line("demo", text);
    }

    fn line(&self, who: &str, text: &str) {
        let seconds = self.clock.monotonic().since(self.began).as_secs_f64();
        println!("{seconds:6.1} s  {who:<8}  {text}");
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic().since(self.began)
    }

    pub fn notice(&self, kind: &str, text: &str) {
        self.line("webhook", &format!("{kind}: {text}"));
    }

    /// What the service looks like to the daemon, when it has changed.
    pub fn service(&mut self, service: &ServiceBody) {
        let running = match &service.running {
            RunningBody::One { release } => format!("{release} runs"),
            RunningBody::Mix { .. } => "several releases run".to_owned(),
            RunningBody::Unknown { why } => format!("what runs is not known: {why}"),
        };
        if running != self.running {
            self.line("backstop", &running);
            self.running = running;
        }
        for (place, trigger) in service.triggers.iter().enumerate() {
            let words = format!("{} is {}", trigger.name, trigger.verdict);
            if self.trigger_words.len() <= place {
                self.trigger_words.push(String::new());
            }
            if self.trigger_words[place] != words {
                let known = trigger.verdict != "quiet" || !self.trigger_words[place].is_empty();
                if known {
                    self.line("backstop", &format!("trigger {words}: {}", trigger.sentence));
                }
                self.trigger_words[place] = words;
            }
        }
    }

    /// The lines of an incident's timeline that were not printed yet.
    pub fn incident(&mut self, incident: &IncidentBody) {
        for moment in &incident.timeline {
            let key = format!("{} {} {} {}", incident.summary.id, moment.at, moment.kind, moment.text);
            if self.told.insert(key) {
                self.line("backstop", &format!("{}: {}", incident.summary.id, moment.text));
            }
        }
    }
}
