//! The command line as people and scripts meet it: the real binary, against a served fake engine.

mod fake_daemon;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use backstop::decide::event::{Actor, OnSilence};
use backstop::journal::Journal;
use backstop::machine::input;
use backstop::machine::snapshot::QuestionView;
use fake_daemon::Daemon;
use serde_json::Value;

fn backstop(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
    command.args(args).env_remove("BACKSTOP_SOCKET").env("NO_COLOR", "1").env("COLUMNS", "100");
    command
}

/// Runs it beside the runtime that serves.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Standard output of a command that must succeed.
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Standard error of a command that must end with `code`.
fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

async fn at(daemon: &Daemon, args: &[&str]) -> Output {
    let mut command = backstop(args);
    command.arg("--socket").arg(&daemon.socket);
    run(command).await
}

#[test]
fn help_and_version_need_nothing() {
    let version = done(&backstop(&["--version"]).output().unwrap());
    assert_eq!(version, format!("backstop {}\n", env!("CARGO_PKG_VERSION")));
    let help = done(&backstop(&["--help"]).output().unwrap());
    for word in ["Examples:", "Exit codes:", "rollback", "acknowledge", "test-notify"] {
        assert!(help.contains(word), "{word}:\n{help}");
    }
    for sub in [
        "run",
        "demo",
        "check",
        "explain",
        "eval",
        "status",
        "incidents",
        "audit",
        "report",
        "rollback",
        "approve",
        "decline",
        "acknowledge",
        "abort",
        "kill-switch",
        "pause",
        "resume",
        "signal",
        "release",
        "forget",
        "test-notify",
    ] {
        assert!(done(&backstop(&[sub, "--help"]).output().unwrap()).contains("Usage: backstop "), "{sub}");
    }
}

#[test]
fn wrong_arguments_are_64() {
    for args in [
        &["rollback", "api"][..],
        &["rollback", "api", "--reason", "x", "--level", "0"],
        &["kill-switch", "--reason", "x"],
        &["kill-switch", "on"],
        &["pause", "--reason", "x", "--for", "90"],
        &["release", "api", "2.4.0", "--begin", "--end"],
        &["signal", "api", "cve", "--clear", "--detail", "x"],
        &["demo", "--healthy", "--crash"],
        &["status", "--token-file", "x"],
        &["status", "--url", "not an url"],
        &["statsu"],
        &[],
    ] {
        assert!(!failed(&backstop(args).output().unwrap(), 64).is_empty(), "{args:?}");
    }
}

#[test]
fn without_a_daemon_it_says_what_was_tried() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("backstop.sock");
    let error = failed(&backstop(&["status", "--socket"]).arg(&missing).output().unwrap(), 69);
    let path = missing.display();
    assert_eq!(
        error,
        format!(
            "error: no daemon can be reached\n  {path}: no such socket\n  help: start it with `backstop run FILE` \
             (systemctl start backstop), or name its socket with --socket\n"
        )
    );
    drop(std::os::unix::net::UnixListener::bind(&missing).unwrap());
    let error = failed(&backstop(&["status"]).env("BACKSTOP_SOCKET", &missing).output().unwrap(), 69);
    assert!(error.contains("nobody answers; a daemon that died left it behind"), "{error}");
    let error = failed(&backstop(&["status", "--url", "http://127.0.0.1:1"]).output().unwrap(), 69);
    assert!(error.contains("the daemon at http://127.0.0.1:1/ did not answer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_for_people() {
    let daemon = Daemon::start().await;
    insta::assert_snapshot!("status", done(&at(&daemon, &["status"]).await));
    insta::assert_snapshot!("status_service", done(&at(&daemon, &["status", "api"]).await));
    insta::assert_snapshot!("incidents", done(&at(&daemon, &["incidents"]).await));
    assert!(!done(&at(&daemon, &["status"]).await).contains('\u{1b}'), "a signal's detail holds an escape sequence");
    let error = failed(&at(&daemon, &["incidents", "--service", "web"]).await, 65);
    assert!(error.contains("there is no service web") && error.contains("there is: api"), "{error}");
    assert!(done(&at(&daemon, &["report", "api-17"]).await).starts_with("# Incident api-17: api, "));
    let error = failed(&at(&daemon, &["status", "ap"]).await, 65);
    assert!(error.contains("there is no service ap") && error.contains("there is: api"), "{error}");
    daemon.publish(|snapshot| snapshot.incidents.clear());
    assert_eq!(done(&at(&daemon, &["incidents", "--service", "api"]).await), "no incidents\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_what_the_api_answered() {
    let daemon = Daemon::start().await;
    for (args, path) in [
        (&["status", "--json"][..], "/v1/status"),
        (&["incidents", "--json"], "/v1/incidents?limit=100"),
        (&["report", "api-17", "--json"], "/v1/incidents/api-17"),
    ] {
        let printed: Value = serde_json::from_str(&done(&at(&daemon, args).await)).unwrap();
        let answered: Value =
            fake_daemon::over_tcp().get(format!("{}{path}", daemon.url)).send().await.unwrap().json().await.unwrap();
        assert_eq!(printed, answered, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_reaches_the_engine() {
    let daemon = Daemon::start().await;
    let told = done(&at(&daemon, &["rollback", "api", "--reason", "checkout fails", "--level", "2"]).await);
    assert_eq!(told, "done\nincident: api-17\nlevel: 1\n");
    for args in [
        &["approve", "api-17"][..],
        &["decline", "api-17", "--reason", "x"],
        &["acknowledge", "api-17"],
        &["abort", "api-17"],
        &["kill-switch", "on", "--reason", "x"],
        &["kill-switch", "off", "api", "--reason", "x"],
        &["pause", "--reason", "x"],
        &["pause", "api", "--for", "20m", "--reason", "x"],
        &["resume"],
        &["signal", "api", "cve", "--for", "1d", "--detail", "d"],
        &["signal", "api", "cve", "--clear"],
        &["release", "api", "2.4.0", "--begin"],
        &["release", "api", "2.4.0"],
        &["forget", "api", "2.4.0"],
        &["forget", "api", "2.4.0", "--reason", "it was the network"],
        &["resume", "api", "--reason", "over"],
        &["signal", "api", "cve", "--clear", "--reason", "patched"],
        &["test-notify"],
        &["test-notify", "oncall"],
    ] {
        done(&at(&daemon, args).await);
    }
    let taken: Vec<String> = daemon.taken().iter().map(|command| format!("{command:?}")).collect();
    insta::assert_snapshot!("commands", taken.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_binds_to_the_question_that_is_shown() {
    let daemon = Daemon::start().await;
    let (bad, target) = (Some("2.4.0".to_owned()), Some("2.3.1".to_owned()));
    let asked = input::Question { number: 2, level: 0, bad: bad.clone(), target: target.clone() };
    let shown = QuestionView {
        number: 2,
        level: (1, 1, "previous release".to_owned()),
        bad,
        target,
        approvers: Vec::new(),
        on_silence: OnSilence::Decline,
    };
    daemon.publish(|snapshot| {
        snapshot.incidents[0].state = "proposed";
        snapshot.incidents[0].question = Some(shown.clone());
    });
    let shown = done(&at(&daemon, &["approve", "api-17", "--reason", "go"]).await);
    assert!(shown.starts_with("api-17 asks (question 2) to roll back from 2.4.0 to 2.3.1 at level 1\n"), "{shown}");
    let answer = |approves, question: &input::Question| {
        let (incident, reason) = ("api-17".to_owned(), if approves { "go".to_owned() } else { String::new() });
        input::Command::Answer { incident, approves, reason, question: question.clone() }
    };
    // What was read may be older than what is asked: that is for the daemon to refuse.
    done(&at(&daemon, &["decline", "api-17", "--question", "1"]).await);
    let older = input::Question { number: 1, ..asked.clone() };
    assert_eq!(daemon.taken(), [answer(true, &asked), answer(false, &older)]);
    let json: Value = serde_json::from_str(&done(&at(&daemon, &["approve", "api-17", "--json"]).await)).unwrap();
    assert_eq!(json["message"], "done");
    // One that an older backstop asked has no number.
    daemon.publish(|snapshot| snapshot.incidents[0].state = "proposed");
    done(&at(&daemon, &["approve", "api-17", "--reason", "go"]).await);
    let plain = input::Command::Approve { incident: "api-17".to_owned(), reason: "go".to_owned() };
    assert_eq!(daemon.taken().last(), Some(&plain));
    let error = failed(&at(&daemon, &["approve", "api-17", "--question", "1"]).await, 65);
    assert!(error.contains("nobody knows which question api-17 asks"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_is_shown_by_the_daemon_the_latest_last() {
    let daemon = Daemon::start().await;
    let trail: Value = serde_json::from_str(&done(&at(&daemon, &["audit", "--json"]).await)).unwrap();
    let seqs: Vec<u64> = trail["acts"].as_array().unwrap().iter().map(|act| act["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=fake_daemon::ENTRIES / 1000).map(|n| n * 1000).collect::<Vec<_>>());
    let table = done(&at(&daemon, &["audit", "--limit", "2"]).await);
    let lines: Vec<&str> = table.lines().skip(1).collect();
    assert!(lines.len() == 2 && lines[0].contains("pause 24000") && lines[1].contains("pause 25000"), "{table}");
    assert!(lines[1].contains("alice (cli)") && lines[1].contains("pause --for 1h"), "{table}");
    assert_eq!(done(&at(&daemon, &["audit", "--service", "web"]).await), "nothing was done\n");
    assert_eq!(done(&at(&daemon, &["audit", "--since", "2030-01-01T00:00:00Z"]).await), "nothing was done\n");
    failed(&at(&daemon, &["audit", "--since", "yesterday"]).await, 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_its_exit_code_and_the_way_out() {
    let daemon = Daemon::start().await;
    for (service, code, why) in [
        ("nope", 65, "no such service nope; there is api"),
        ("busy", 65, "api-17 is open"),
        ("odd", 65, "there are 2 levels"),
        ("ill", 69, "the journal cannot be written"),
    ] {
        let error = failed(&at(&daemon, &["rollback", service, "--reason", "x"]).await, code);
        assert!(error.starts_with(&format!("error: {why}\n  help: ")), "{error}");
    }
    let error = failed(&at(&daemon, &["report", "api-99"]).await, 65);
    assert!(error.contains("there is no incident api-99"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_a_command_takes_the_token_from_a_file() {
    let daemon = Daemon::start().await;
    let error = failed(&run(backstop(&["resume", "--url", &daemon.url])).await, 77);
    assert!(error.contains("a command over TCP needs a token"), "{error}");
    let token = daemon.token_file().display().to_string();
    done(&run(backstop(&["resume", "--url", &daemon.url, "--token-file", &token])).await);
    assert_eq!(daemon.last_actor(), Actor { name: "ci".to_owned(), via: "api".to_owned() });
    assert_eq!(daemon.taken(), [input::Command::Resume { service: None, reason: String::new() }]);
    done(&run(backstop(&["status", "--url", &daemon.url])).await);
}

/// A state directory as a daemon left it.
fn journal(dir: &Path) {
    let mut opened = Journal::open(dir).unwrap();
    opened.journal.append(fake_daemon::history()).unwrap();
    opened.journal.close().unwrap();
}

#[test]
fn reports_outlive_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    journal(&state);
    let state = state.display().to_string();
    let missing = dir.path().join("no.sock").display().to_string();
    let offline = |args: &[&str]| backstop(args).args(["--socket", &missing, "--state-dir", &state]).output().unwrap();
    let report = done(&offline(&["report", "api-17"]));
    assert_eq!(report, backstop::decide::report::markdown(&fake_daemon::history()));
    let list: Value = serde_json::from_str(&done(&offline(&["incidents", "--json"]))).unwrap();
    assert_eq!(list["incidents"][0]["id"], "api-17");
    assert_eq!(list["incidents"][0]["state"], "verifying");
    assert!(done(&offline(&["incidents", "--open"])).contains("api-17"));
    assert_eq!(done(&offline(&["incidents", "--service", "web"])), "no incidents\n");
    assert!(failed(&offline(&["report", "api-99"]), 65).contains("in the journal"));

    // Meanwhile somebody else may listen at its address.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<p/>").unwrap();
    });
    let list = backstop(&["incidents", "--url", &url, "--state-dir", &state]).output().unwrap();
    assert!(done(&list).contains("api-17"));
    answer.join().unwrap();

    let error = failed(&backstop(&["report", "api-17", "--socket", &missing]).output().unwrap(), 69);
    assert!(error.contains("with --state-dir DIR it is read from the journal"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let nothing = backstop(&["incidents", "--socket", &missing, "--state-dir"]).arg(empty.path()).output().unwrap();
    assert!(failed(&nothing, 69).contains("there is no journal at"));
}

const GOOD: &str = r#"
[daemon]
state_dir = "/var/lib/backstop"

[services.api]
[services.api.scrapes.app]
url = "http://127.0.0.1:8080/metrics"
interval = "15s"

[services.api.triggers.error-rate]
ratio = { part = 'http_requests_total{status=~"5.."}', whole = 'http_requests_total', window = "1m" }
above = "15%"
for = "10m"

[services.api.triggers.cve]
signal = "critical-vulnerability"
"#;

#[test]
fn check_says_whether_the_daemon_would_run() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.toml"), dir.path().join("bad.toml"));
    std::fs::write(&good, GOOD).unwrap();
    std::fs::write(&bad, GOOD.replace("above =", "abvoe =").replace("10m", "10")).unwrap();
    let summary = done(&backstop(&["check"]).arg(&good).output().unwrap());
    assert!(summary.starts_with("valid: 1 service, 2 triggers, 0 receivers (configuration "), "{summary}");
    let error = failed(&backstop(&["check"]).arg(&bad).output().unwrap(), 64);
    for part in ["bad.toml:12", "abvoe", "bad.toml:13"] {
        assert!(error.contains(part), "{part}:\n{error}");
    }
    let output = backstop(&["check", "--json"]).arg(&bad).output().unwrap();
    failed(&output, 64);
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed["valid"], false);
    assert!(listed["errors"].as_array().unwrap().len() >= 2, "{listed}");
    assert!(listed["errors"].as_array().unwrap().iter().any(|error| error["line"] == 13), "{listed}");
    let missing = failed(&backstop(&["check", "/no/such/file.toml"]).output().unwrap(), 64);
    assert!(missing.contains("there is no such file"), "{missing}");
}

#[test]
fn explain_prints_what_a_trigger_asks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("good.toml");
    std::fs::write(&file, GOOD).unwrap();
    let explain = |args: &[&str]| backstop(&["explain"]).arg(&file).args(args).output().unwrap();
    insta::assert_snapshot!("explain", done(&explain(&[])));
    let one = done(&explain(&["api", "cve"]));
    assert!(one.contains("signal: critical-vulnerability") && !one.contains("error-rate"), "{one}");
    let listed: Value = serde_json::from_str(&done(&explain(&["api", "error-rate", "--json"]))).unwrap();
    assert_eq!(listed["triggers"][0]["selectors"].as_array().unwrap().len(), 2);
    let error = failed(&explain(&["web"]), 64);
    assert_eq!(error, "error: there is no service web\n  help: there is: api\n");
    let error = failed(&explain(&["api", "latency"]), 64);
    assert!(error.starts_with("error: there is no trigger latency\n  help: there is: "), "{error}");
}
