//! Length: one test for each thing that an operator may write.

use std::time::Duration;

use proptest::prelude::*;

use super::model::{AuthSpec, ProbeKind};
use super::scalar;
use super::*;
use crate::decide::event::{Action, Autonomy, BodyTemplate, Gate, SecretRef, Severity, TextOrSecret};
use crate::decide::rules::{DetectorKind, FireWhen, OnUnknown, Question, Unit, ValueKind};
use crate::promql::{Comparison, Expr, Labels, Selector};

const EXAMPLE: &str = include_str!("../../config/backstop.toml");

fn variable(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${PORT}".to_owned()),
        _ => None,
    }
}

const ENVIRONMENT: Environment<'static> = Environment { variable: &variable, hostname: "host-1" };

fn of(texts: &[&str]) -> Result<Config, Report> {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| Source { path: format!("{n}.toml").into(), text: (*text).to_owned() })
        .collect();
    parse(&sources, &ENVIRONMENT, 7)
}

fn good(text: &str) -> Config {
    of(&[text]).unwrap_or_else(|report| panic!("{report}"))
}

fn errors(texts: &[&str]) -> Vec<String> {
    of(texts).expect_err("it is wrong").errors.into_iter().map(|error| error.message).collect()
}

const API: &str = r#"
[services.api.probes.health]
http = { url = "http://127.0.0.1:${PORT}/health" }
[services.api.scrapes.app]
url = "http://127.0.0.1:8080/metrics"
"#;

fn with(text: &str) -> String {
    format!("{API}{text}")
}

#[test]
fn durations() {
    let ms = |text| scalar::duration(text).map(|duration| duration.as_millis());
    assert_eq!(ms("500ms"), Ok(500));
    assert_eq!(ms("1.5m"), Ok(90_000));
    assert_eq!(ms("1h 30m"), Ok(5_400_000));
    assert_eq!(ms("1h30m"), Ok(5_400_000));
    assert_eq!(ms("7d"), Ok(604_800_000));
    assert_eq!(ms("0s"), Ok(0));
    for wrong in ["", "10", "-5m", "1M", "1y", "5 parsecs", "m", "1..5s", "400d", "1e3s", "99999999999999999999h"] {
        assert!(scalar::duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn percentages_and_sizes() {
    assert_eq!(scalar::percentage("15%"), Some(0.15));
    assert_eq!(scalar::percentage("99.9 %"), Some(0.999));
    assert_eq!(scalar::percentage("15"), None);
    assert_eq!(scalar::percentage("nan%"), None);
    assert_eq!(scalar::size("16MiB"), Ok(16 << 20));
    assert!(scalar::size("much").is_err());
    assert_eq!(scalar::failures("3 of 5"), Some((3, 5)));
    assert_eq!(scalar::failures("3/5"), None);
}

#[test]
fn variables_are_put_in_once() {
    let put = |text| scalar::substitute(text, &variable).map(|(value, _)| value);
    assert_eq!(put("a:${PORT}/b").as_deref(), Ok("a:8080/b"));
    assert_eq!(put("$$").as_deref(), Ok("$"));
    assert_eq!(put("$${PORT}").as_deref(), Ok("${PORT}"));
    assert_eq!(put("5..$").as_deref(), Ok("5..$"));
    assert_eq!(put("${EMPTY}").as_deref(), Ok(""));
    assert_eq!(put("${NESTED}").as_deref(), Ok("${PORT}"), "what a variable holds is not looked at again");
    let wrong = put("${NO}${ALSO_NO}").expect_err("neither is set");
    assert_eq!(wrong.iter().map(|wrong| wrong.range.clone()).collect::<Vec<_>>(), [0..5, 5..15]);
    assert!(put("${PORT").is_err() && put("${}").is_err() && put("${A B}").is_err() && put("${1}").is_err());
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = good(&with("[services.api.triggers.down]\nhealth = { probe = \"health\" }"));
    assert_eq!(config.daemon.state_dir, PathBuf::from("/var/lib/backstop"));
    assert_eq!(config.daemon.socket_with(&config.daemon.state_dir), PathBuf::from("/run/backstop/backstop.sock"));
    assert_eq!(config.daemon.listen, None);
    assert_eq!(&*config.rules.instance, "host-1");
    assert_eq!(config.rules.generation, 7);
    assert_eq!(config.rules.hash.len(), 12);
    let api = &config.rules.services[0];
    assert_eq!(api.autonomy, Autonomy::Observe);
    assert_eq!(api.startup, Duration::from_mins(1));
    assert_eq!(api.remind_every, Duration::from_mins(15));
    assert_eq!(api.respond_within, Duration::from_mins(15));
    assert_eq!(api.guard.release_window, Duration::from_hours(1));
    assert_eq!(api.guard.good_after, Duration::from_mins(30));
    assert_eq!(api.guard.cooldown, Duration::from_hours(1));
    let trigger = &api.triggers[0];
    assert_eq!((trigger.hold, trigger.severity, trigger.gate), (Duration::ZERO, Severity::High, Gate::Release));
    assert_eq!((trigger.fire_when, trigger.on_unknown), (FireWhen::Any, OnUnknown::Pause));
    assert_eq!((trigger.interval, trigger.gap_tolerance), (Duration::from_secs(10), Duration::from_secs(20)));
    let (probe, scrape) = (&config.probes[0], &config.scrapes[0]);
    assert_eq!((probe.interval, probe.timeout), (Duration::from_secs(10), Duration::from_secs(2)));
    assert_eq!(&*probe.targets[0].address, "http://127.0.0.1:8080/health");
    assert_eq!((scrape.interval, scrape.limits.timeout), (Duration::from_secs(15), Duration::from_secs(10)));
    assert_eq!((scrape.limits.body_bytes_max, scrape.samples_max), (16 << 20, 50_000));
    assert_eq!(scrape.limits.connect_timeout, Duration::from_secs(3));
}

#[test]
fn a_default_timeout_is_never_longer_than_the_interval() {
    let config = good("[services.api.scrapes.app]\nurl = \"http://a/\"\ninterval = \"1s\"");
    assert_eq!(config.scrapes[0].limits.timeout, Duration::from_secs(1));
    assert_eq!(config.scrapes[0].limits.connect_timeout, Duration::from_secs(1));
}

#[test]
fn a_service_overrides_the_defaults_key_by_key() {
    let config = good(&with(
        r#"
[defaults]
startup = "10s"
rto = "1h"
labels = { team = "platform", tier = "2" }
guard = { cooldown = "5m", good_after = "10m" }
probe = { interval = "30s" }
scrape = { interval = "20s", timeout = "5s" }
[services.api]
startup = "20s"
labels = { tier = "1" }
[services.api.guard]
good_after = "20m"
[services.web.probes.health]
tcp = "127.0.0.1:80"
interval = "5s"
"#,
    ));
    let api = &config.rules.services[0];
    assert_eq!((api.startup, api.rto), (Duration::from_secs(20), Some(Duration::from_hours(1))));
    assert_eq!((api.guard.cooldown, api.guard.good_after), (Duration::from_mins(5), Duration::from_mins(20)));
    let labels: Vec<(&str, &str)> = api.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(labels, [("team", "platform"), ("tier", "1")]);
    assert_eq!(config.rules.services[1].startup, Duration::from_secs(10));
    let intervals: Vec<u64> = config.probes.iter().map(|probe| probe.interval.as_secs()).collect();
    assert_eq!(intervals, [30, 5]);
    assert_eq!(config.scrapes[0].limits.timeout, Duration::from_secs(5));
}

#[test]
fn files_merge_and_the_order_in_them_is_kept() {
    let more = r#"
[services.api]
startup = "30s"
[services.api.triggers.second]
signal = "b"
[services.api.triggers.a-third]
signal = "a"
[services.web.probes.health]
tcp = "127.0.0.1:80"
"#;
    let first = with("[services.api.triggers.down]\nhealth = { probe = \"health\" }");
    let config = of(&[&first, more]).unwrap_or_else(|report| panic!("{report}"));
    let names: Vec<&str> = config.rules.services[0].triggers.iter().map(|trigger| &*trigger.name).collect();
    assert_eq!(names, ["down", "second", "a-third"]);
    assert_eq!(config.rules.services[0].startup, Duration::from_secs(30));
    assert_eq!(config.rules.services.len(), 2);
}

#[test]
fn a_name_defined_twice_shows_both_places() {
    let report = of(&[API, "\n\n[services.api.scrapes.app]\nurl = \"http://b/\""]).expect_err("it is there twice");
    let [error] = report.errors.as_slice() else { panic!("one mistake, one message: {report}") };
    assert_eq!((error.file.to_str(), error.line, error.column), (Some("1.toml"), 3, 23));
    assert_eq!(error.also[0].file.to_str(), Some("0.toml"));
    assert_eq!(&API[error.also[0].span.clone()], "app");
}

#[test]
fn every_kind_of_trigger_compiles_to_its_question() {
    let config = good(&with(
        r#"
[services.api.triggers.a-ratio]
ratio = { part = 'a_total{x="1"}', whole = 'a_total', window = "1m" }
above = 0.15
[services.api.triggers.b-increase]
increase = { counter = 'b_total', window = "2m" }
above = 5
[services.api.triggers.c-quantile]
quantile = { histogram = 'c_seconds', q = "95%", window = "5m", min_events = 10 }
at_least = "5s"
[services.api.triggers.d-health]
health = { probe = "health", failures = "3 of 5" }
[services.api.triggers.e-split]
expr = '0.95 < e'
[services.api.triggers.f-beside]
expr = 'f / g'
at_most = "2%"
[services.api.triggers.g-equal]
expr = 'up == 0'
[services.api.triggers.h-signal]
signal = "stop"
"#,
    ));
    let selector = |text| Selector::parse(text).expect("a selector");
    let minute = Duration::from_mins(1);
    let expected = [
        (
            ValueKind::Ratio,
            Expr::ratio(selector("a_total{x=\"1\"}"), selector("a_total"), minute, 20.0, minute * 10),
            (Comparison::Above, 0.15, Unit::Percent),
        ),
        (ValueKind::Increase, Expr::increase(selector("b_total"), minute * 2), (Comparison::Above, 5.0, Unit::Number)),
        (
            ValueKind::Quantile,
            Expr::quantile(selector("c_seconds"), 0.95, minute * 5, 10.0).expect("a histogram"),
            (Comparison::AtLeast, 5.0, Unit::Seconds),
        ),
        (
            ValueKind::Health,
            Expr::streak(selector("probe_success{job=\"health\"}"), 3, 5),
            (Comparison::AtLeast, 3.0, Unit::Failures { of: 5 }),
        ),
        (ValueKind::Expr, Expr::parse("e").expect("PromQL"), (Comparison::Above, 0.95, Unit::Number)),
        (ValueKind::Expr, Expr::parse("f / g").expect("PromQL"), (Comparison::AtMost, 0.02, Unit::Percent)),
        (ValueKind::Expr, Expr::parse("up").expect("PromQL"), (Comparison::Equal, 0.0, Unit::Number)),
    ];
    let triggers = &config.rules.services[0].triggers;
    for (trigger, (kind, expr, (comparison, threshold, unit))) in triggers.iter().zip(expected) {
        let question = Question::Value { kind, expr: expr.into(), comparison, threshold, unit };
        assert_eq!(trigger.question, question, "{}", trigger.name);
    }
    assert_eq!(triggers[7].question, Question::Signal { name: "stop".into() });
}

#[test]
fn the_interval_of_a_trigger_is_the_longest_of_its_sources() {
    let config = good(&with(
        r#"
[scrapes.node]
url = "http://127.0.0.1:9100/metrics"
interval = "40s"
[services.api.probes.slow]
tcp = "127.0.0.1:1"
interval = "2m"
[services.api.triggers.a]
expr = 'x > 1'
[services.api.triggers.b]
expr = 'up < 1'
[services.api.triggers.c]
expr = 'probe_duration_seconds > 1'
[services.api.triggers.d]
health = { probe = "health" }
[services.api.triggers.e]
signal = "x"
"#,
    ));
    let seconds: Vec<u64> =
        config.rules.services[0].triggers.iter().map(|trigger| trigger.interval.as_secs()).collect();
    assert_eq!(seconds, [40, 120, 120, 10, 120]);
}

#[test]
fn a_window_is_long_enough_on_the_boundary() {
    let of_window = |window: &str| {
        let trigger =
            format!("[services.api.triggers.a]\nincrease = {{ counter = 'a', window = \"{window}\" }}\nabove = 5");
        of(&[&with(&trigger)])
    };
    assert!(of_window("30s").is_ok());
    assert!(of_window("29999ms").is_err());
}

#[test]
fn release_detectors_keep_their_order_and_reach_the_probe() {
    let config = good(EXAMPLE);
    let api = &config.rules.services[0];
    assert!(matches!(api.detectors[0].kind, DetectorKind::Outside));
    assert!(matches!(&api.detectors[1].kind, DetectorKind::Metric { label, .. } if &**label == "version"));
    assert!(matches!(&api.detectors[2].kind, DetectorKind::Probe { probe } if &**probe == "health"));
    assert_eq!(&*api.detectors[0].describe, "symlink /opt/api/current");
    assert_eq!(config.detectors.iter().map(|spec| spec.index).collect::<Vec<_>>(), [0, 3]);
    let health = config.probes.iter().find(|probe| &*probe.name == "health").expect("it is in the example");
    assert_eq!(health.release_pointer.as_deref(), Some("/version"));
    let build = Labels::from_pairs([("__name__", "app_build_info"), ("app", "api"), ("version", "1")]);
    assert!(config.interest.wants(&build), "the detector's series is scraped");
    assert!(config.interest.wants(&Labels::from_pairs([("__name__", "probe_success"), ("job", "health")])));
    assert!(!config.interest.wants(&Labels::from_pairs([("__name__", "go_goroutines")])));
}

#[test]
fn steps_are_plans_without_secrets() {
    let config = good(EXAMPLE);
    let ladder = &config.rules.services[0].ladder;
    let Action::Http { headers, captures, method, .. } = &ladder[0].steps[0].action else { panic!("an http step") };
    let bearer = TextOrSecret::Secret { prefix: "Bearer ".into(), secret: SecretRef::Credential("flags".into()) };
    assert_eq!((headers.get("Authorization"), method.as_str()), (Some(&bearer), "GET"));
    assert_eq!(captures[0].pointer, "/id");
    let Action::Http { body: BodyTemplate::Json(body), expect, .. } = &ladder[0].steps[1].action else {
        panic!("a json step")
    };
    assert_eq!((body["enabled"].as_bool(), expect.as_slice()), (Some(false), [200, 204].as_slice()));
    assert_eq!(ladder[0].steps[1].name, "PATCH flags.example.com");
    assert_eq!(ladder[1].steps[0].name, "rollback.sh");
    assert_eq!(ladder[1].verify.probes, ["health", "sign-in"]);
    let app = config.scrapes.iter().find(|scrape| &*scrape.name == "app").expect("it is in the example");
    assert!(matches!(&app.client.auth, Some(AuthSpec::Basic { username, .. }) if username == "backstop"));
    let records = config.probes.iter().find(|probe| &*probe.name == "records").expect("it is in the example");
    assert!(matches!(&records.kind, ProbeKind::Command { argv, .. } if argv.len() == 3));
}

#[test]
fn one_mistake_is_one_message() {
    // What refers to the wrong thing is not wrong itself.
    let wrong_probe = r#"
[services.api]
autonomy = "act"
release = [{ probe = "health", json = "/version" }, { announced = true }]
[services.api.probes.health]
http = { url = "nowhere" }
interval = "10"
[services.api.triggers.down]
health = { probe = "health" }
[[services.api.rollback]]
steps = [{ command = ["/opt/rollback"] }]
verify = { within = "1m", soak = "1m", probes = ["health"] }
"#;
    assert_eq!(
        errors(&[wrong_probe]),
        ["this is not a URL: `http://` or `https://` is missing", "the duration has no unit"]
    );
    let wrong_release = "[services.api]\nautonomy = \"act\"\nrelease = [{ symlink = 1 }]\n[[services.api.rollback]]\nsteps = 1\nverify = 1";
    assert_eq!(errors(&[wrong_release]).len(), 3);
    assert_eq!(errors(&[&with("[services.api.triggers.a]\nexpr = 'a > '")]).len(), 1);
    assert_eq!(errors(&["services = 1"]).len(), 1);
    assert_eq!(errors(&["[daemon]\nsocket = 1\n[services]"]).len(), 2);
}

#[test]
fn a_file_that_is_no_toml_does_not_make_the_others_wrong() {
    let notify = with("[services.api]\nnotify = [\"oncall\"]");
    assert_eq!(errors(&[&notify, "[receivers.oncall"]).len(), 1);
    let act = with("[services.api]\nautonomy = \"act\"\nnotify = [\"oncall\"]");
    assert_eq!(errors(&[&act, "[[services.api.rollback"]).len(), 1);
}

#[test]
fn places_are_exact_behind_other_scripts_and_line_ends() {
    let text = "# Größe 🚀\r\n[services.api]\r\nlabels = { ort = \"Zürich\" }\r\nstartup = \"bald\"\r\n";
    let report = of(&[text]).expect_err("not a duration");
    assert_eq!((report.errors[0].line, report.errors[0].column), (4, 11));
    assert_eq!(&text[report.errors[0].span.clone()], "\"bald\"");
    let text = "[services.api]\nlabels = { ort = \"Zürich\" }\nnotify = [\"ü\", \"x\"]\n";
    let report = of(&[text]).expect_err("no such receivers");
    assert_eq!((report.errors[1].line, report.errors[1].column), (3, 16), "columns count characters");
}

#[test]
fn secrets_are_never_shown() {
    let broken = [
        "[receivers.a]\nwebhook = { url = \"http://a/\", secret = \"S3CRET",
        "[receivers.a]\nwebhook = { url = \"http://a/\", secret = \"S3CRET\", secret = \"S3CRET\" }",
        "[receivers.a]\nwebhook = { url = \"http://a/\", secret = [\"S3CRET\", \"S3CRET\"] }",
        "[receivers.a]\nwebhook = { url = \"http://u:S3CRET@a/\" }",
        "[receivers.a]\nwebhook = { url = \"http://u:S3CRET@a/\" ",
        "[receivers.a]\nwebhook = { url = \"http://a/\", secret = { env = \"S3CRET/+=\" } }",
        "[receivers.a]\npassword = S3CRET",
        "[services.a.scrapes.b]\nurl = \"u:S3CRET@a/metrics\"",
        "[services.a.scrapes.b]\nurl = u:S3CRET@a",
        "[services.a.scrapes.b]\nurl = \"http://u:S3/S3CRET@a/metrics\"",
        "[services.a.scrapes.b]\nurl = \"http://S3CRET@a/metrics\"",
        "[services.a]\nurl = \"http://u:S3CRET@a/metrics\"",
        "[services.a.scrapes.b]\nurl = \"http://a/\"\nbasic = { username = \"u\", password = \"S3CRET\" }",
        "[services.a.scrapes.b]\nurl = \"http://a/\"\nbasic = \"u:S3CRET\"",
        "[services.a.scrapes.b]\nurl = \"http://a/\"\nbearer = '''\nS3CRET'''",
        "[services.a.scrapes.b]\nurl = \"http://a/\"\nheaders = { X-Api-Key = \"S3CRET\", Cookie = \"S3CRET\" }",
        "[daemon]\ntokens = { me = \"S3CRET\" }",
        "[services.a.probes.b]\ncommand = [\"x\"]\nenv = { PGPASSWORD = \"S3CRET\", DB_TOKEN = \"S3CRET\" }",
    ];
    for text in broken {
        let report = of(&[text]).expect_err("an inline secret is refused");
        for style in [Style::Plain, Style::Coloured] {
            assert!(!report.render(style).contains("S3CRET"), "{text}\n{}", report.render(style));
        }
        assert!(!format!("{report:?} {:?}", report.errors).contains("S3CRET"), "{text}");
    }
}

#[test]
fn warnings_tell_what_is_probably_not_meant() {
    let config = good(&with(
        "[services.api.triggers.a]\nexpr = 'a > 1'\nautonomy = \"act\"\n[receivers.x]\nwebhook = { url = \"http://x/\" }",
    ));
    let messages: Vec<&str> = config.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "this changes nothing: the service's autonomy is \"observe\"",
            "the webhook is not signed: its receiver cannot tell who sent it"
        ]
    );
    let shown = config.render_warnings(Style::Plain).expect("there are some");
    assert!(shown.contains("0.toml:8:12") && shown.ends_with("2 warnings\n"), "{shown}");
}

#[test]
fn a_reload_tells_what_changed() {
    let old = good(EXAMPLE);
    assert_eq!(diff(&old, &good(EXAMPLE)), Vec::<String>::new());
    let changes = [
        ("cooldown     = \"30m\"", "cooldown     = \"31m\"", "guard.cooldown of service api was 30m, is 31m"),
        ("dependencies = [\"postgres\"]", "", "guard.dependencies of service api changed"),
        ("worsened_by    = 2 ", "worsened_by    = 3 ", "guard.worsened_by of service api changed"),
        ("\"the night of the weekend\"", "\"nights\"", "guard.freeze of service api changed"),
        ("\"Christmas\"", "\"holidays\"", "freeze changed"),
        ("[services.api.triggers.slow]", "[services.api.triggers.tardy]", "trigger tardy of service api is new"),
        ("above    = 5\n", "above    = 6\n", "trigger database-errors of service api changed"),
        ("listen    = \"127.0.0.1:9464\"", "", "listen changed; this takes effect when backstop is restarted"),
        ("backstop.example.com", "backstop.example.org", "external_url changed"),
        ("give_up_after  = \"24h\"", "give_up_after  = \"23h\"", "receiver oncall changed"),
        (
            "autonomy = \"act\"\nnotify",
            "autonomy = \"propose\"\nnotify",
            "the autonomy of service api was act, is propose",
        ),
        ("tcp = \"127.0.0.1:5432\"", "tcp = \"127.0.0.1:5433\"", "probe database of service api changed"),
        ("[scrapes.node]", "[scrapes.host]", "shared scrape node is gone"),
        ("name     = \"feature flag off\"", "name     = \"flag off\"", "level \"flag off\" of service api is new"),
        ("{ announced = true },", "", "the release detectors of service api changed"),
    ];
    for (from, to, words) in changes {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE, "{from} is not in the example");
        let said = diff(&old, &good(&text));
        assert!(said.iter().any(|said| said == words), "{words} is not among {said:?}");
    }
    let other = format!("{EXAMPLE}\n[services.web.probes.health]\ntcp = \"127.0.0.1:80\"\n");
    assert_eq!(diff(&old, &good(&other)), ["service web is new"]);
    assert_eq!(diff(&good(&other), &old), ["service web is gone"]);
}

#[test]
fn the_hash_is_that_of_the_texts() {
    let hash = |texts: &[&str]| of(texts).map(|config| config.rules.hash.to_string()).expect("valid");
    let more = "[services.web.probes.health]\ntcp = \"127.0.0.1:80\"\n";
    assert_eq!(hash(&[API]), hash(&[API]));
    assert_ne!(hash(&[API]), hash(&[&format!("{API} ")]));
    assert_ne!(hash(&[API, more]), hash(&[&format!("{API}{more}")]));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    for text in [format!("x = {}", "[".repeat(20_000)), format!("x = {}", "{a=".repeat(20_000))] {
        assert!(of(&[&text]).is_err());
    }
    let dotted = format!("{}x = 1", "a.".repeat(2_000));
    assert!(of(&[&dotted]).is_err());
}

/// Pieces that a configuration is made of, in any order.
fn toml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[services.api]\n"),
        Just("[services.api.triggers.x]\n"),
        Just("[[services.api.rollback]]\n"),
        Just("[defaults]\n"),
        Just("[receivers.x]\n"),
        Just("ratio = { part = 'a{b=~\"5..\"}', whole = 'a', window = \"1m\" }\n"),
        Just("expr = 'sum(rate(a[5m])) / b > 1'\n"),
        Just("above = \"15%\"\n"),
        Just("steps = [{ command = [\"a\", \"{{ release.target }}\"] }]\n"),
        Just("verify = { within = \"1m\", soak = \"1m\" }\n"),
        Just("secret = \"x\"\n"),
        Just("notify = [\"x\", "),
        Just("= "),
        Just("\"${PORT}\" "),
        Just("'''\n"),
        Just("ü🚀"),
        Just("{ "),
        Just("] "),
        Just("1e400\n"),
        Just("-5\n"),
        Just("\r\n"),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn survives(text: &str) {
    match of(&[text, API]) {
        Ok(config) => drop(config.render_warnings(Style::Coloured)),
        Err(report) => {
            assert!(!report.errors.is_empty());
            drop(report.render(Style::Plain));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        survives(&text);
    }

    #[test]
    fn nothing_like_a_configuration_makes_it_panic(text in toml_like()) {
        survives(&text);
    }

    #[test]
    fn no_change_of_the_example_makes_it_panic(
        edits in proptest::collection::vec((0.0..1.0_f64, 0_usize..12, "[a-z0-9=\"'{}\\[\\]$%.\n ü-]{0,6}"), 1..4),
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, removed, inserted) in edits {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a small text")]
            let at = ((text.len() as f64) * at) as usize;
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }
}

#[test]
fn the_external_url_is_a_base_for_links() {
    let with_url = |url: &str| of(&[&format!("{API}[daemon]\nexternal_url = \"{url}\"\n")]);
    for (url, base) in [
        ("https://b.example.com", "https://b.example.com"),
        ("http://b.example.com:8080//", "http://b.example.com:8080"),
        ("https://ops.example.com/backstop/", "https://ops.example.com/backstop"),
        ("http://[::1]:9464", "http://[::1]:9464"),
    ] {
        let config = with_url(url).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(config.daemon.external_url.as_deref(), Some(base));
    }
    for wrong in [
        "",
        "b.example.com",
        "ftp://b.example.com",
        "https://",
        "https://u:S3CRET@b/",
        "https://S3CRET@b/",
        "https://b/?a=1",
        "https://b/#a",
    ] {
        let report = with_url(wrong).expect_err("no base for links");
        assert_eq!(report.errors.len(), 1, "{wrong}: {report}");
        assert!(!report.render(Style::Plain).contains("S3CRET"), "{report}");
    }
    assert_eq!(good(API).daemon.external_url, None);
}

#[test]
fn the_default_socket_goes_with_a_state_directory_of_its_own() {
    let socket = |daemon: &str, state_dir: Option<&str>| {
        let daemon = good(&format!("{API}[daemon]\n{daemon}")).daemon;
        let state_dir = state_dir.map_or_else(|| daemon.state_dir.clone(), PathBuf::from);
        daemon.socket_with(&state_dir).display().to_string()
    };
    let (elsewhere, named) = ("state_dir = \"/srv/b\"", "state_dir = \"/srv/b\"\nsocket = \"/srv/b/s\"");
    assert_eq!(socket("", None), "/run/backstop/backstop.sock");
    assert_eq!(socket("state_dir = \"/var/lib/backstop/\"", None), "/run/backstop/backstop.sock");
    assert_eq!(socket("", Some("/tmp/x")), "/tmp/x/backstop.sock");
    assert_eq!(socket(elsewhere, None), "/srv/b/backstop.sock");
    assert_eq!(socket(elsewhere, Some("/tmp/x")), "/tmp/x/backstop.sock");
    assert_eq!(socket(elsewhere, Some("/var/lib/backstop")), "/run/backstop/backstop.sock");
    assert_eq!(socket(named, Some("/tmp/x")), "/srv/b/s");
}

#[test]
fn names_on_their_boundaries() {
    let named = |name: &str| of(&[&format!("[services.\"{name}\".probes.a]\ntcp = \"a:1\"")]);
    let longest = "n".repeat(64);
    for fits in ["a", "A-1", "_x", "0", "a-", longest.as_str()] {
        assert!(named(fits).is_ok(), "{fits}");
    }
    for wrong in ["", "-a", "a.b", "a b", "a/b", "ä", "a\\n", &"n".repeat(65)] {
        let report = named(wrong).expect_err("not a name");
        assert_eq!(report.errors.len(), 1, "{wrong}: {report}");
    }
    for kind in [
        "probes.\"b.c\"]\ntcp = \"a:1\"",
        "scrapes.\"b.c\"]\nurl = \"http://a/\"",
        "triggers.\"b.c\"]\nsignal = \"x.y\"",
    ] {
        let report = of(&[&format!("[services.a.{kind}")]).expect_err("not a name");
        let [error] = report.errors.as_slice() else { panic!("one mistake, one message: {report}") };
        assert!(error.help.as_deref().is_some_and(|help| help.starts_with("write `b-c`, for example")), "{report}");
    }
}

#[test]
fn an_escape_sequence_in_a_key_does_not_reach_the_terminal() {
    let report = of(&["[services.\"a\\u001b[31mred\"]\nautonomy = \"act\"\n"]).expect_err("no name of a service");
    assert!(!report.render(Style::Plain).contains('\u{1b}'), "{report}");
}
