//! What a check wants of a JSON answer.

use serde_json::Value;

use crate::decide::event::{CheckOutcome, JsonTest, Wants};

/// How much of a value a sentence shows.
const SHOWN_CHARS_MAX: usize = 60;

/// Every test must be met; the first that is not is told. A body that is not JSON is an answer, and not the right one.
pub fn judge(body: &[u8], tests: &[JsonTest]) -> CheckOutcome {
    let json: Value = match serde_json::from_slice(body) {
        Ok(json) => json,
        Err(error) => return CheckOutcome::Failed(format!("the body of the answer is not JSON: {error}")),
    };
    tests.iter().find_map(|test| unmet(&json, test)).map_or(CheckOutcome::Passed, CheckOutcome::Failed)
}

fn unmet(json: &Value, JsonTest { pointer, wants }: &JsonTest) -> Option<String> {
    let place = if pointer.is_empty() { "the answer" } else { pointer.as_str() };
    let found = json.pointer(pointer);
    match (found, wants) {
        (None, _) => Some(format!("there is no {place}")),
        (Some(Value::Null), Wants::Exists) => Some(format!("{place} is null")),
        (Some(_), Wants::Exists) => None,
        (Some(found), Wants::Equals(expected)) => {
            (!is_equal(found, expected)).then(|| format!("{place} is {}, not {}", shown(found), shown(expected)))
        }
        (Some(found), Wants::Count { at_least, at_most }) => {
            let count = match found {
                Value::Array(items) => items.len(),
                Value::Object(members) => members.len(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    return Some(format!("{place} is {}, nothing that can be counted", shown(found)));
                }
            };
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            if at_least.is_some_and(|least| count < least) {
                return at_least.map(|least| format!("{place} has {count} entries, fewer than {least}"));
            }
            at_most.filter(|most| count > *most).map(|most| format!("{place} has {count} entries, more than {most}"))
        }
    }
}

/// `1` and `1.0` are the same number.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_test_must_be_met() {
        let body = br#"{"status": "ready", "checks": {"database": "ok", "redis": null}, "rows": [1, 2, 3], "n": 2.0}"#;
        let count = |at_least, at_most| Wants::Count { at_least, at_most };
        let cases = [
            ("/status", Wants::Equals(json!("ready")), None),
            ("/checks/database", Wants::Exists, None),
            ("/n", Wants::Equals(json!(2)), None),
            ("/rows", count(Some(3), Some(3)), None),
            ("/checks", count(Some(2), None), None),
            ("", count(Some(4), None), None),
            ("/status", Wants::Equals(json!("ok")), Some("/status is \"ready\", not \"ok\"")),
            ("/checks/redis", Wants::Exists, Some("/checks/redis is null")),
            ("/checks/queue", Wants::Exists, Some("there is no /checks/queue")),
            ("/rows", count(Some(4), None), Some("/rows has 3 entries, fewer than 4")),
            ("/rows", count(None, Some(2)), Some("/rows has 3 entries, more than 2")),
            ("/status", count(Some(1), None), Some("/status is \"ready\", nothing that can be counted")),
        ];
        for (pointer, wants, expected) in cases {
            let test = JsonTest { pointer: pointer.to_owned(), wants };
            let outcome = expected.map_or(CheckOutcome::Passed, |why| CheckOutcome::Failed(why.to_owned()));
            assert_eq!(judge(body, std::slice::from_ref(&test)), outcome, "{test:?}");
        }
        let exists = |pointer: &str| JsonTest { pointer: pointer.to_owned(), wants: Wants::Exists };
        let both = [exists("/status"), exists("/nothing")];
        assert_eq!(judge(body, &both), CheckOutcome::Failed("there is no /nothing".to_owned()));
        assert!(matches!(judge(b"<html>", &both), CheckOutcome::Failed(why) if why.contains("is not JSON")));
    }
}
