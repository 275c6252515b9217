//! The page before a fake engine: what it says when the daemon cannot take an answer, or asks something else by now.

use std::sync::{Arc, Mutex};

use backstop::config::model::Approvals;
use backstop::decide::event::{Actor, Entry, IncidentEvent, OnSilence, SecretRef, Severity};
use backstop::engine::handle::{CommandMessage, Handle};
use backstop::link::{self, Keys, Link};
use backstop::machine::input::{Answer, Command, Question, Refusal};
use backstop::machine::snapshot::{JournalHealth, QuestionView, Snapshot};
use backstop::platform::clock::Clock;
use backstop::serve::Metrics;
use backstop::serve::approvals::{Parts, start};
use backstop::time::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake_daemon;

struct Served {
    url: String,
    snapshot: watch::Sender<Arc<Snapshot>>,
    approvals: watch::Sender<Option<Arc<Approvals>>>,
    answer: Arc<Mutex<Answer>>,
    commands: Arc<Mutex<Vec<(Actor, Command)>>>,
    draining: CancellationToken,
    keys: Keys,
    tasks: Vec<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// `api-17` asks whether to go back from 2.4.0 to 2.3.1.
fn proposed() -> Snapshot {
    let mut snapshot = fake_daemon::snapshot();
    let incident = &mut snapshot.incidents[0];
    incident.state = "proposed";
    incident.severity = Severity::High;
    incident.respond_by_wall = Some(fake_daemon::wall(1_500));
    incident.question = Some(QuestionView {
        number: 2,
        level: (1, 2, "previous release".to_owned()),
        bad: Some("2.4.0".to_owned()),
        target: Some("2.3.1".to_owned()),
        approvers: Vec::new(),
        on_silence: OnSilence::Escalate,
    });
    snapshot
}

fn done() -> Answer {
    Answer::Done {
        message: "api-17 is approved".to_owned(),
        incident: None,
        details: std::collections::BTreeMap::new(),
    }
}

async fn served() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "k".repeat(32)).unwrap();
    let keys = vec![SecretRef::File(key.to_str().unwrap().to_owned())];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let url = format!("http://{listen}");
    let read = Keys::read(&keys).unwrap();
    let spec = Approvals { listen, external_url: url.clone(), keys, expires_after: None };
    let (approvals, approvals_seen) = watch::channel(Some(Arc::new(spec)));
    let (snapshot, seen) = watch::channel(Arc::new(proposed()));
    let (to_engine, mut from_page) = mpsc::channel::<CommandMessage>(8);
    let (answer, commands) = (Arc::new(Mutex::new(done())), Arc::<Mutex<Vec<_>>>::default());
    let (says, taken) = (Arc::clone(&answer), Arc::clone(&commands));
    let engine = tokio::spawn(async move {
        while let Some(CommandMessage { actor, command, reply }) = from_page.recv().await {
            taken.lock().unwrap().push((actor, command));
            let answer = says.lock().unwrap().clone();
            reply.send(answer).expect("the page waits");
        }
    });
    let draining = CancellationToken::new();
    let parts = Parts {
        handle: Handle::new(to_engine, seen),
        approvals: approvals_seen,
        metrics: Arc::new(Metrics::new()),
        clock: Clock::start(None, None),
        draining: draining.clone(),
    };
    let serving = tokio::spawn(start(listener, parts, CancellationToken::new()));
    let tasks = vec![engine, serving];
    Served { url, snapshot, approvals, answer, commands, draining, keys: read, tasks, _folder: folder }
}

impl Served {
    fn link(&self, change: impl FnOnce(&mut Link)) -> String {
        let mut link = Link {
            incident: "api-17".to_owned(),
            number: 2,
            level: 0,
            bad: Some("2.4.0".to_owned()),
            target: Some("2.3.1".to_owned()),
            receiver: "oncall".to_owned(),
            expires: Timestamp::MAX,
        };
        change(&mut link);
        format!("{}{}{}", self.url, link::PATH, link::sign(&link, &self.url, &self.keys).unwrap())
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = proposed();
        change(&mut next);
        self.snapshot.send_replace(Arc::new(next));
    }

    async fn get(&self, url: &str) -> (u16, String) {
        let answer = fake_daemon::over_tcp().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn post(&self, url: &str, form: &'static str) -> (u16, String) {
        let request = fake_daemon::over_tcp().post(url).header("origin", &self.url).body(form);
        let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test]
async fn the_answer_reaches_the_machine_as_what_was_signed() {
    let served = served().await;
    let url = served.link(|_| {});
    let (status, page) = served.get(&url).await;
    assert_eq!(status, 200, "{page}");
    for part in
        ["1 of 2: <bdi>previous release</bdi>", "43 %", "above 15 %", "without an answer it asks again", "host-1"]
    {
        assert!(page.contains(part), "{part} is missing: {page}");
    }
    assert_eq!(served.post(&url, "answer=approve&reason=+go%0D%0A%07on+").await.0, 200);
    assert_eq!(served.post(&url, "answer=decline&name=alice").await.0, 200);
    let question = Question { number: 2, level: 0, bad: Some("2.4.0".to_owned()), target: Some("2.3.1".to_owned()) };
    let answer = |approves, reason: &str| {
        let actor = Actor { name: "the link of oncall".to_owned(), via: "link:oncall".to_owned() };
        let (incident, reason) = ("api-17".to_owned(), reason.to_owned());
        (actor, Command::Answer { incident, approves, reason, question: question.clone() })
    };
    assert_eq!(*served.commands.lock().unwrap(), [answer(true, "go \n on"), answer(false, "")]);
}

#[tokio::test]
async fn a_daemon_that_cannot_take_an_answer_says_so() {
    let served = served().await;
    let url = served.link(|_| {});
    served.publish(|snapshot| {
        let why = "no space left on device".to_owned();
        snapshot.journal = JournalHealth::Failing { since_wall: fake_daemon::wall(0), why };
    });
    let (status, page) = served.get(&url).await;
    assert!(status == 503 && page.contains("no space left on device") && !page.contains("<form"), "{status} {page}");
    *served.answer.lock().unwrap() = Answer::Refused(Refusal::Unavailable("the journal cannot be written".to_owned()));
    assert_eq!(served.post(&url, "answer=approve").await.0, 503);

    served.publish(|_| {});
    let (status, page) = served.post(&url, "answer=approve").await;
    assert!(status == 503 && page.contains("the journal cannot be written"), "{status} {page}");
    served.draining.cancel();
    let (status, page) = served.get(&url).await;
    assert!(status == 503 && page.contains("backstop is stopping") && !page.contains("<form"), "{status} {page}");
}

#[tokio::test]
async fn what_the_machine_refuses_stands_on_the_page_and_can_be_asked_again() {
    let served = served().await;
    let url = served.link(|_| {});
    let conflict = Refusal::Conflict("api-17 cannot be approved now: it is paused".to_owned());
    let not_allowed = Refusal::NotAllowed("api-17 may be approved by alice, not by <b>".to_owned());
    for (refusal, expected, text) in
        [(conflict, 409, "cannot be approved now: it is paused"), (not_allowed, 403, "not by &lt;b&gt;")]
    {
        *served.answer.lock().unwrap() = Answer::Refused(refusal);
        let (status, page) = served.post(&url, "answer=approve").await;
        assert_eq!(status, expected, "{page}");
        assert!(page.contains(text) && page.contains("<form"), "{page}");
    }
}

#[tokio::test]
async fn another_way_back_is_another_question_and_a_new_one_says_what_it_is() {
    let served = served().await;
    let others: [fn(&mut Link); 5] = [
        |link| link.number = 1,
        |link| link.level = 1,
        |link| link.bad = Some("2.4.1".to_owned()),
        |link| link.target = Some("2.2.0".to_owned()),
        |link| link.target = None,
    ];
    for other in others {
        let (status, page) = served.get(&served.link(other)).await;
        assert_eq!(status, 409, "{page}");
        assert!(page.contains("Now it is about 2.4.0 back to 2.3.1, at level 1") && !page.contains("<form"), "{page}");
    }
    // It changed between the page and the button: the machine sees it first.
    let url = served.link(|_| {});
    *served.answer.lock().unwrap() =
        Answer::Refused(Refusal::Conflict("api-17 is proposed: it asks another question by now".to_owned()));
    served.publish(|snapshot| {
        let question = snapshot.incidents[0].question.as_mut().unwrap();
        (question.number, question.target) = (3, Some("2.2.0".to_owned()));
    });
    let (status, page) = served.post(&url, "answer=approve").await;
    assert!(status == 409 && page.contains("back to 2.2.0"), "{status} {page}");
}

#[tokio::test]
async fn what_is_over_too_old_or_turned_off_answers_nothing() {
    let served = served().await;
    let url = served.link(|_| {});
    served.publish(|snapshot| {
        snapshot.incidents[0].question = None;
        snapshot.incidents[0].state = "verifying";
    });
    let (status, page) = served.get(&url).await;
    assert!(status == 410 && page.contains("Verifying level 1") && !page.contains("<form"), "{status} {page}");
    served.publish(|snapshot| snapshot.incidents.clear());
    let (status, page) = served.get(&url).await;
    assert!(status == 410 && page.contains("does not keep it any more"), "{status} {page}");
    served.publish(|_| {});
    let late = served.link(|link| link.expires = Timestamp::from_millis(1));
    let (status, page) = served.post(&late, "answer=approve").await;
    assert!(status == 410 && page.contains("It counted until 1970-01-01 00:00:00 UTC"), "{status} {page}");
    assert!(served.commands.lock().unwrap().is_empty(), "the machine was not asked");

    // A reload took the links out of the file.
    served.approvals.send_replace(None);
    assert_eq!(served.get(&url).await.0, 404);
}

#[tokio::test]
async fn names_are_text_on_the_page_whatever_they_are() {
    const HOSTILE: &str = "<script>alert(1)</script>\u{202e}'\"&<img src=x onerror=alert(2)>";
    const ESCAPED: &str =
        "&lt;script&gt;alert(1)&lt;/script&gt;\u{fffd}&#39;&quot;&amp;&lt;img src=x onerror=alert(2)&gt;";
    let served = served().await;
    let hostile = |snapshot: &mut Snapshot| {
        snapshot.instance = HOSTILE.into();
        let incident = &mut snapshot.incidents[0];
        (incident.service, incident.sentence) = (HOSTILE.into(), HOSTILE.to_owned());
        let question = incident.question.as_mut().unwrap();
        question.approvers = vec!["link".to_owned(), HOSTILE.to_owned()];
        question.level.2 = HOSTILE.to_owned();
        (question.bad, question.target) = (Some(HOSTILE.to_owned()), Some(HOSTILE.to_owned()));
        let mut history = incident.history.to_vec();
        for record in &mut history {
            let Entry::Incident { event, .. } = &mut record.entry else { continue };
            match &mut **event {
                IncidentEvent::Opened { fact, .. } => {
                    (fact.sentence, fact.value, fact.threshold) =
                        (HOSTILE.to_owned(), Some(HOSTILE.to_owned()), HOSTILE.to_owned());
                }
                IncidentEvent::Admitted { decision, facts, .. } => {
                    facts.clear();
                    decision.reasons[0].sentence = HOSTILE.to_owned();
                }
                _ => {}
            }
        }
        incident.history = Arc::new(history);
    };
    served.publish(hostile);
    let named = |link: &mut Link| {
        (link.bad, link.target, link.receiver) =
            (Some(HOSTILE.to_owned()), Some(HOSTILE.to_owned()), HOSTILE.to_owned());
    };
    let (asks, changed) = (served.link(named), served.link(|link| (named(link), link.number = 1).1));
    let mut pages = vec![(served.get(&asks).await, 200, 10), (served.get(&changed).await, 409, 5)];
    *served.answer.lock().unwrap() = Answer::Refused(Refusal::Conflict(HOSTILE.to_owned()));
    pages.push((served.post(&asks, "answer=approve").await, 409, 11));
    served.publish(|snapshot| {
        hostile(snapshot);
        snapshot.incidents[0].question = None;
    });
    pages.push((served.get(&asks).await, 410, 4));
    for ((status, page), expected, times) in pages {
        assert_eq!(status, expected, "{page}");
        assert!(page.matches(ESCAPED).count() >= times, "{} of {times}: {page}", page.matches(ESCAPED).count());
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
    }
}
