//! Virtual time around the real machine: every source is looked at on its interval, every entry is durable at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstop::config::model::{Config, HttpProbe, ProbeKind};
use backstop::config::{Environment, Source, Style, parse};
use backstop::decide::event::{
    Action, Actor, CheckOutcome, Decision, DecisionKind, Entry, IncidentEvent, Outcome, Record, Release, StepResult,
};
use backstop::exposition::Format;
use backstop::machine::input::{
    Answer, Command, CommandId, DeliveryOutcome, Input, Observation, ProbeOutcome, ScrapeFailure, TargetKey, TargetKind,
};
use backstop::machine::output::{Output, StepOrder};
use backstop::machine::{Machine, Recovered};
use backstop::observe::{Cache, Clients, HttpCheck, Prober, Reply, Scraper, read};
use backstop::promql::TargetId;
use backstop::time::{BootId, Now, Timestamp};

use crate::world::{Endpoint, Health, Manner};

/// From the instant of a look to the machine's hearing of it.
pub const LAG: Duration = Duration::from_millis(20);

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub const MINUTE: Duration = Duration::from_mins(1);
pub const HOUR: Duration = Duration::from_hours(1);

/// What is looked at.
enum Eye {
    Scrape { target: TargetId, address: Arc<str>, cache: Box<Cache> },
    Probe { target: TargetId, check: Box<HttpCheck> },
    Release { detector: usize },
    Reference { name: Arc<str> },
}

struct Watched {
    name: String,
    service: Arc<str>,
    eye: Eye,
    interval: Duration,
    next: Timestamp,
}

pub struct Stage {
    machine: Machine,
    now: Timestamp,
    sources: Vec<Watched>,
    endpoints: BTreeMap<Arc<str>, Endpoint>,
    pub health: Health,
    pub references_up: bool,
    /// Where the symlink points.
    running: String,
    records: Vec<Record>,
    pub steps: Vec<(Timestamp, StepOrder)>,
    /// What the operator's checks answer, by name; the others say yes.
    pub checks: BTreeMap<&'static str, CheckOutcome>,
    answers: Vec<Answer>,
    commands: u64,
}

/// `config/presets/base.toml`, with leave to act as its comment says, and these presets beside it.
pub fn presets(names: &[&str]) -> Vec<Source> {
    let base = preset("base");
    let text = base.text.replace(r#"autonomy = "observe""#, r#"autonomy = "act""#);
    assert_ne!(text, base.text, "the base preset observes unless it is changed");
    let base = Source { text, ..base };
    [base].into_iter().chain(names.iter().map(|name| preset(name))).collect()
}

pub fn preset(name: &str) -> Source {
    let path = std::path::PathBuf::from(format!("config/presets/{name}.toml"));
    let text = std::fs::read_to_string(&path).expect("the presets are part of the repository");
    Source { path, text }
}

/// More of the operator's own text.
pub fn beside(mut sources: Vec<Source>, text: &str) -> Vec<Source> {
    sources.push(Source { path: "own.toml".into(), text: text.to_owned() });
    sources
}

/// The sources with one text replaced, which must be there.
pub fn changed(sources: Vec<Source>, from: &str, to: &str) -> Vec<Source> {
    let mut found = 0;
    let changed = sources.into_iter().map(|source| {
        found += source.text.matches(from).count();
        Source { text: source.text.replace(from, to), ..source }
    });
    let changed: Vec<Source> = changed.collect();
    assert_eq!(found, 1, "{from:?} stands there once");
    changed
}

fn compile(sources: &[Source]) -> Config {
    let environment = Environment { variable: &|_| None, hostname: "test" };
    parse(sources, &environment, 1).unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)))
}

impl Stage {
    /// Nothing was seen yet.
    pub fn new(sources: &[Source]) -> Stage {
        let config = compile(sources);
        let mut out = Vec::new();
        let machine = Machine::new(Arc::clone(&config.rules), &now_at(START), Recovered::default(), &mut out);
        let mut stage = Stage {
            machine,
            now: START,
            sources: Vec::new(),
            endpoints: BTreeMap::new(),
            health: Health::Healthy,
            references_up: true,
            running: "r1".to_owned(),
            records: Vec::new(),
            steps: Vec::new(),
            checks: BTreeMap::new(),
            answers: Vec::new(),
            commands: 0,
        };
        stage.take(out);
        stage.open_eyes(&config);
        stage
    }

    fn open_eyes(&mut self, config: &Config) {
        let mut id = 0;
        let mut target_id = || {
            id += 1;
            TargetId(id)
        };
        for spec in &config.scrapes {
            for address in &spec.targets {
                let scraper = Scraper::new(&spec.name, spec, address, &mut Clients::default()).expect("a URL");
                let (target, labels) = (target_id(), scraper.labels());
                let cache = Box::new(scraper.cache(Arc::clone(&config.interest)));
                let key = TargetKey {
                    service: spec.service.clone(),
                    kind: TargetKind::Scrape,
                    source: Arc::clone(&spec.name),
                    address: Arc::clone(&address.address),
                };
                self.endpoints.insert(Arc::clone(&address.address), Endpoint::new(self.now.as_secs_f64()));
                let interval = spec.interval;
                self.input(Input::Observation(Observation::TargetUp { target, key, labels, interval }));
                let eye = Eye::Scrape { target, address: Arc::clone(&address.address), cache };
                self.see(&spec.name, spec.service.clone(), eye, interval);
            }
        }
        for spec in &config.probes {
            for address in &spec.targets {
                let ProbeKind::Http(http) = &spec.kind else { continue };
                let prober = Prober::new(&spec.name, spec, address).expect("a URL");
                let (target, labels) = (target_id(), prober.labels());
                let key = TargetKey {
                    service: Some(Arc::clone(&spec.service)),
                    kind: TargetKind::Probe,
                    source: Arc::clone(&spec.name),
                    address: Arc::clone(&address.address),
                };
                let interval = spec.interval;
                self.input(Input::Observation(Observation::TargetUp { target, key, labels, interval }));
                let check = Box::new(check(&address.address, http, spec.timeout, spec.release_pointer.clone()));
                self.see(&spec.name, Some(Arc::clone(&spec.service)), Eye::Probe { target, check }, interval);
            }
        }
        for spec in &config.detectors {
            let eye = Eye::Release { detector: spec.index };
            self.see("release", Some(Arc::clone(&spec.service)), eye, spec.interval);
        }
        for spec in &config.references {
            self.see("reference", None, Eye::Reference { name: Arc::clone(&spec.name) }, spec.interval);
        }
    }

    /// The first source is looked at on the full interval, each other one a little later, so that no two looks fall
    /// together and every decision belongs to one of them.
    fn see(&mut self, name: &str, service: Option<Arc<str>>, eye: Eye, interval: Duration) {
        let offset = Duration::from_millis(100) * u32::try_from(self.sources.len()).unwrap();
        let service = service.unwrap_or_else(|| "".into());
        let next = START + interval + offset;
        self.sources.push(Watched { name: name.to_owned(), service, eye, interval, next });
    }

    /// The endpoint at the address that ends so.
    pub fn endpoint(&mut self, ends: &str) -> &mut Endpoint {
        let mut found = self.endpoints.iter_mut().filter(|(address, _)| address.ends_with(ends));
        let (_, endpoint) = found.next().expect("such an address is scraped");
        assert!(found.next().is_none(), "{ends:?} names one endpoint");
        endpoint
    }

    /// The service's own exposition.
    pub fn app(&mut self) -> &mut Endpoint {
        self.endpoint(":8080/metrics")
    }

    /// Lets time go on until this source was looked at so many times more, and what follows from it is settled.
    pub fn look(&mut self, source: &str, times: usize) {
        for _ in 0..times {
            loop {
                if self.next_look() == source {
                    break;
                }
            }
        }
    }

    pub fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.sources.iter().map(|source| source.next + LAG).min().is_some_and(|next| next <= until) {
            self.next_look();
        }
        self.tick_until(until);
        self.now = until;
    }

    /// The name of the source that was looked at.
    fn next_look(&mut self) -> String {
        let place = (0..self.sources.len()).min_by_key(|place| self.sources[*place].next).expect("there are sources");
        let at = self.sources[place].next;
        self.tick_until(at + LAG);
        self.now = at + LAG;
        let observation = self.observe(place, at);
        let source = &mut self.sources[place];
        source.next = at + source.interval;
        let name = source.name.clone();
        self.input(Input::Observation(observation));
        self.tick_until(self.now);
        name
    }

    fn observe(&mut self, place: usize, at: Timestamp) -> Observation {
        let source = &mut self.sources[place];
        match &mut source.eye {
            Eye::Scrape { target, address, cache } => {
                let endpoint = self.endpoints.get_mut(address).expect("every address has its endpoint");
                let body = endpoint.scrape();
                let failed = |reason, detail: &str| Err(ScrapeFailure { reason, detail: detail.to_owned() });
                let outcome = match endpoint.manner {
                    Manner::Answers | Manner::CutsShort => {
                        let format = Format::from_content_type(Some("text/plain; version=0.0.4; charset=utf-8"));
                        read(cache, format.expect("exposition text"), &body)
                    }
                    Manner::Refuses => failed("refused", "connection refused"),
                    Manner::Hangs => failed("timeout", "no whole answer"),
                };
                Observation::Scraped { target: *target, at, duration: LAG, outcome }
            }
            Eye::Probe { target, check } => {
                let failed =
                    |why: &str, reached| ProbeOutcome::Failed { status: None, why: why.into(), reached, release: None };
                let outcome = match (self.health.answer(), self.health) {
                    (Some((status, body)), _) => check.judge(&Reply { status, body: Some(Ok(body.to_vec())) }, LAG),
                    (None, Health::Hangs) => failed("no answer", false),
                    (None, _) => failed("connection refused", true),
                };
                Observation::Probed { target: *target, at, duration: LAG, outcome }
            }
            Eye::Release { detector } => Observation::Release {
                service: Arc::clone(&source.service),
                detector: *detector,
                at,
                outcome: Ok(self.running.clone()),
            },
            Eye::Reference { name } => Observation::Reference { name: Arc::clone(name), at, up: self.references_up },
        }
    }

    fn tick_until(&mut self, until: Timestamp) {
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.input(Input::Tick);
        }
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(&now_at(self.now), input, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Append(records) => {
                    let last = records.last().expect("a turn that is appended has entries").seq;
                    self.records.extend(records);
                    self.input(Input::Durable(last));
                }
                Output::RunStep(order) => self.steps.push((self.now, *order)),
                Output::Deliver(order) => self.input(Input::Delivery {
                    receiver: order.receiver,
                    notice: order.notice.id,
                    outcome: DeliveryOutcome::Delivered,
                }),
                Output::Reply { answer, .. } => self.answers.push(answer),
                Output::RunCheck(order) => {
                    let outcome = self.checks.get(order.check.name.as_str()).cloned();
                    self.input(Input::Checked { id: order.id, outcome: outcome.unwrap_or(CheckOutcome::Passed) });
                }
                Output::Log { .. } => {}
            }
        }
    }

    /// The step that was begun last installs its target, and ends well.
    pub fn step_helps(&mut self) {
        let (_, order) = self.steps.last().expect("a step was begun").clone();
        let (incident, attempt) = (order.incident.clone(), order.attempt);
        self.input(Input::StepStarted { incident, attempt, pid: None, process_start: None });
        let target = order.target.expect("the plan has a way back");
        self.release(&target.0);
        let result = StepResult {
            outcome: Outcome::Succeeded,
            detail: "exit status 0".to_owned(),
            output: String::new(),
            truncated: false,
            captures: BTreeMap::new(),
            duration_ms: 1000,
        };
        self.input(Input::StepFinished { incident: order.incident, attempt, result });
        // The machine settles at most once per 5 ms.
        self.run(Duration::from_millis(33));
    }

    /// A person or a program asks; what follows at that instant is settled.
    pub fn command(&mut self, command: Command) -> Answer {
        self.command_by("ops", command)
    }

    pub fn command_by(&mut self, name: &str, command: Command) -> Answer {
        // The machine settles at most once per 5 ms: what came before shall be settled, and no look is due just now.
        self.run(Duration::from_millis(33));
        self.commands += 1;
        let actor = Actor { name: name.to_owned(), via: "api".to_owned() };
        self.answers.clear();
        self.input(Input::Command { id: CommandId(self.commands), actor, command });
        self.tick_until(self.now);
        assert_eq!(self.answers.len(), 1, "a command is answered once");
        self.answers.remove(0)
    }

    /// Another release takes over: its process begins anew, and the symlink points to it.
    pub fn release(&mut self, release: &str) {
        release.clone_into(&mut self.running);
        let now = self.now.as_secs_f64();
        let own = self.endpoints.iter_mut().filter(|(address, _)| address.contains("//127.0.0.1:808"));
        for (_, endpoint) in own {
            endpoint.restart(now);
        }
    }

    /// r1 runs until it is known to be good, then r2 comes and runs well for 10 minutes: every window is filled by r2.
    /// Ends with a scrape of the service.
    pub fn after_release(sources: &[Source], healthy: impl FnOnce(&mut Stage)) -> Stage {
        let mut stage = Stage::new(sources);
        healthy(&mut stage);
        stage.run(35 * MINUTE);
        stage.release("r2");
        stage.run(10 * MINUTE);
        stage.look("app", 1);
        stage.nothing();
        stage
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn events(&self) -> impl DoubleEndedIterator<Item = (&Record, &IncidentEvent)> {
        self.records.iter().filter_map(|record| match &record.entry {
            Entry::Incident { event, .. } => Some((record, &**event)),
            _ => None,
        })
    }

    /// The latest incident.
    pub fn incident(&self) -> String {
        let latest = self.records.iter().rev().find_map(|record| match &record.entry {
            Entry::Incident { incident, .. } => Some(incident.to_string()),
            _ => None,
        });
        latest.expect("an incident")
    }

    fn admissions(&self) -> Vec<Timestamp> {
        let admitted = self.events().filter(|(_, event)| matches!(event, IncidentEvent::Admitted { .. }));
        admitted.map(|(record, _)| record.at).collect()
    }

    /// The guard's latest word on an incident.
    pub fn decision(&self) -> Option<&Decision> {
        self.events().rev().find_map(|(_, event)| match event {
            IncidentEvent::Judged { decision }
            | IncidentEvent::Proposed { decision, .. }
            | IncidentEvent::Admitted { decision, .. } => Some(decision),
            _ => None,
        })
    }

    /// How the triggers stand, for a failed assertion.
    fn state(&self) -> String {
        let snapshot = self.machine.snapshot(&now_at(self.now));
        let triggers = snapshot.services.iter().flat_map(|service| &service.triggers).map(|trigger| {
            format!(
                "{}: {} {} held {:?}: {}",
                trigger.name, trigger.verdict, trigger.finding, trigger.held, trigger.sentence
            )
        });
        let incidents = snapshot.incidents.iter().map(|i| format!("{} {}: {}", i.id, i.state, i.sentence));
        let lines: Vec<String> = triggers.chain(incidents).collect();
        format!("at {}\n{}", self.now, lines.join("\n"))
    }

    /// No incident was ever opened.
    #[track_caller]
    pub fn nothing(&self) {
        assert_eq!(self.events().count(), 0, "{}", self.state());
        assert!(self.steps.is_empty(), "{}", self.state());
    }

    /// Nothing was admitted and no step started.
    #[track_caller]
    pub fn not_acted(&self) {
        assert_eq!(self.admissions(), [], "{}", self.state());
        assert!(self.steps.is_empty(), "{}", self.state());
    }

    /// At this very instant, and never before, r2 was condemned and its way back to r1 begun.
    #[track_caller]
    pub fn acts_now(&self) {
        self.acts_at(self.now, "r1");
    }

    #[track_caller]
    pub fn acts_at(&self, instant: Timestamp, target: &str) {
        assert_eq!(self.admissions(), [instant], "{}", self.state());
        let [(at, order)] = self.steps.as_slice() else { panic!("{} steps\n{}", self.steps.len(), self.state()) };
        assert_eq!(*at, instant);
        assert_eq!(order.target, Some(Release(target.into())));
        assert_eq!(order.expect_release, Some(Release(self.running.as_str().into())));
        let Action::Command { argv, .. } = &order.step.action else { panic!("{:?}", order.step.action) };
        assert_eq!(argv[0], "/opt/api/rollback.sh");
    }

    /// People were told and nothing was done, for this reason.
    #[track_caller]
    pub fn refused(&self, kind: DecisionKind, code: &str) {
        self.not_acted();
        let decision = self.decision().unwrap_or_else(|| panic!("no incident\n{}", self.state()));
        let codes: Vec<&str> = decision.reasons.iter().map(|reason| reason.code.as_str()).collect();
        assert_eq!((decision.kind, codes.contains(&code)), (kind, true), "{codes:?}\n{}", self.state());
    }

    /// The state of the service's latest incident, and what people read about it.
    pub fn stands(&self) -> (&'static str, String) {
        let snapshot = self.machine.snapshot(&now_at(self.now));
        let own = snapshot.incidents.into_iter().filter(|incident| *incident.service == *"api");
        let latest = own.max_by_key(|incident| incident.id.to_string());
        latest.map_or(("none", String::new()), |incident| (incident.state, incident.sentence))
    }

    /// What the snapshot says of a trigger: verdict, finding, sentence.
    pub fn trigger(&self, name: &str) -> (&'static str, &'static str, String) {
        let snapshot = self.machine.snapshot(&now_at(self.now));
        let mut triggers = snapshot.services.into_iter().flat_map(|service| service.triggers);
        let trigger = triggers.find(|trigger| *trigger.name == *name).expect("the trigger exists");
        (trigger.verdict, trigger.finding, trigger.sentence)
    }
}

fn check(address: &str, http: &HttpProbe, limit: Duration, pointer: Option<String>) -> HttpCheck {
    HttpCheck::new("a probe", address.parse().expect("a URL"), http, limit, pointer).expect("a probe")
}

fn now_at(monotonic: Timestamp) -> Now {
    Now { monotonic, wall: monotonic, boot: BootId("boot".into()), since_boot: Duration::ZERO }
}
