use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::SecretString;

use super::*;
use crate::decide::event::{IncidentId, Notice, NoticeKind, NoticeLevel, NoticeStatus, NoticeTrigger, Severity};
use crate::time::{BootId, Timestamp};

/// 2026-11-20T03:00:00Z.
const WALL: Timestamp = Timestamp::from_millis(1_795_143_600_000);

fn order(text: &str) -> DeliveryOrder {
    let notice = Notice {
        id: "01930d2e-0000-7000-8000-000000000001".to_owned(),
        seq: 1,
        kind: NoticeKind::Started,
        status: NoticeStatus::Firing,
        dedup_key: "api-17".to_owned(),
        severity: Severity::High,
        action_required: false,
        incident: Some(IncidentId("api-17".into())),
        service: Some("api".to_owned()),
        labels: BTreeMap::from([("team".to_owned(), text.to_owned()), (text.to_owned(), text.to_owned())]),
        release_bad: Some(text.to_owned()),
        release_target: Some(text.to_owned()),
        release_running: Some(text.to_owned()),
        trigger: Some(NoticeTrigger {
            name: text.to_owned(),
            value: Some(text.to_owned()),
            threshold: text.to_owned(),
            hold_ms: 600_000,
            since: WALL,
            sentence: text.to_owned(),
        }),
        decision: Some(text.to_owned()),
        reasons: vec![text.to_owned(); 40],
        level: Some(NoticeLevel { n: 1, of: 2, name: text.to_owned() }),
        eta: Some(Timestamp::MAX),
        respond_by: None,
        actor: Some(text.to_owned()),
        text: text.to_owned(),
        occurred_at: WALL,
        config_hash: "c0ffee".to_owned(),
        drill: false,
        question: None,
    };
    DeliveryOrder { receiver: "oncall".into(), notice, attempt: 1, outdated: false, age: Duration::ZERO }
}

fn render(order: &DeliveryOrder) -> (usize, serde_json::Value) {
    let now = Now { monotonic: WALL, wall: WALL, boot: BootId("b".into()), since_boot: Duration::ZERO };
    let origin = Origin {
        instance: "host".into(),
        public_url: Some("https://backstop.example.com".to_owned()),
        approvals: None,
    };
    let body = body::render(order, &origin, None, &now).unwrap();
    (body.len(), serde_json::from_slice(&body).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_body_is_short_whatever_the_texts_are(text in "(.|\u{1}|\u{7f}|é|🦀){0,40}", times in 1usize..3_000) {
        let (length, body) = render(&order(&text.repeat(times)));
        prop_assert!(length < BODY_BYTES_MAX, "{} bytes", length);
        let whole = text.repeat(times);
        prop_assert_eq!(body["truncated"].as_bool(), Some(body["text"].as_str() != Some(whole.as_str())
            || body["guard"]["reasons"].as_array().unwrap().len() < 40));
        prop_assert_eq!(body["id"].as_str(), Some("01930d2e-0000-7000-8000-000000000001"));
    }

    #[test]
    fn backoff_doubles_from_two_seconds_to_five_minutes(attempt in 0u32..100) {
        let limit = Duration::from_secs(2u64.saturating_pow(attempt.max(1)).min(300));
        let waits: Vec<_> = (0..64).map(|_| retry::backoff(attempt)).collect();
        prop_assert!(waits.iter().all(|wait| (Duration::from_secs(1)..=limit).contains(wait)));
        // Full jitter: 64 draws all in one half of the range have a chance of 2 in 2^64.
        let middle = Duration::from_secs(1) + limit.saturating_sub(Duration::from_secs(1)) / 2;
        prop_assert!(waits.iter().any(|wait| *wait < middle) && waits.iter().any(|wait| *wait > middle));
    }
}

#[test]
fn what_is_late_and_no_longer_true_says_so_in_its_text() {
    let mut order = order("api is being rolled back");
    assert_eq!(render(&order).1["text"], "api is being rolled back");
    order.outdated = true;
    order.age = Duration::from_millis(723_400);
    let (_, body) = render(&order);
    assert_eq!(body["text"], "No longer true (delivered 12m 3s late): api is being rolled back");
    assert_eq!(body["outdated"], true);
}

#[test]
fn times_that_have_no_name_are_null_and_the_page_is_linked() {
    let (_, body) = render(&order("x"));
    assert_eq!(body["eta"], serde_json::Value::Null);
    assert_eq!(body["occurred_at"], "2026-11-20T03:00:00.000Z");
    assert_eq!(body["trigger"]["for"], "10m");
    assert_eq!(body["url"], "https://backstop.example.com/v1/incidents/api-17");
}

fn asked(after: &str, date: Option<&str>) -> Option<u64> {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_str(after).unwrap());
    if let Some(date) = date {
        headers.insert(DATE, HeaderValue::from_str(date).unwrap());
    }
    retry::asked(&headers, WALL).map(|wait| wait.as_secs())
}

#[test]
fn retry_after_is_read_in_both_forms_and_capped() {
    assert_eq!(asked("120", None), Some(120));
    assert_eq!(asked("0", None), Some(1));
    assert_eq!(asked("3601", None), Some(3600));
    assert_eq!(asked("99999999999999999999999", None), Some(3600));
    assert_eq!(asked("Fri, 20 Nov 2026 03:00:42 GMT", None), Some(42));
    assert_eq!(asked("Fri, 20 Nov 2026 05:00:00 GMT", None), Some(3600));
    assert_eq!(asked("Fri, 20 Nov 2026 02:00:00 GMT", None), Some(1), "in the past");
    // The receiver's clock is an hour behind ours: its own Date counts.
    assert_eq!(asked("Fri, 20 Nov 2026 02:00:42 GMT", Some("Fri, 20 Nov 2026 02:00:00 GMT")), Some(42));
    for nonsense in ["", "-5", "1.5", "soon", "Fri, 20 Nov 2026 03:00:42 CET", "Fri, 31 Foo 2026 03:00:42 GMT"] {
        assert_eq!(asked(nonsense, None), None, "{nonsense:?}");
    }
}

#[test]
fn signatures_are_those_of_the_published_example() {
    // The example of the Standard Webhooks libraries (their test vectors).
    let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let header = sign::signatures(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
    assert_eq!(header.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert!(sign::signatures(&[SecretString::from("whsec_%%%")], "a", "1", b"").is_err());
}
