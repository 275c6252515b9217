use super::*;
use crate::decide::event::{Action, Attempt, BodyTemplate, IncidentId, OnFailure, Release, Step};
use crate::machine::output::StepOrder;
use std::time::Duration;

fn names() -> TemplateNames {
    TemplateNames { captures: vec!["token".to_owned()], no_incident: false }
}

fn order() -> StepOrder {
    let release = |name: &str| Some(Release(name.into()));
    StepOrder {
        incident: IncidentId("api-17".into()),
        service: "api".into(),
        attempt: Attempt { level: 1, step: 0, attempt: 0, undo: false },
        step: Step {
            name: "step".to_owned(),
            action: Action::Http {
                method: "POST".to_owned(),
                url: "http://127.0.0.1/".to_owned(),
                headers: BTreeMap::new(),
                body: BodyTemplate::None,
                expect: Vec::new(),
                captures: Vec::new(),
            },
            timeout: Duration::from_secs(1),
            idempotent: false,
            on_failure: OnFailure::Climb,
            retry: None,
            check: None,
        },
        idempotency_key: "key".to_owned(),
        expect_release: None,
        bad: release("2.0"),
        target: None,
        running: release("feature/x+1"),
        variables: BTreeMap::from([
            ("trigger".to_owned(), "error-rate".to_owned()),
            ("value".to_owned(), "43 %".to_owned()),
            ("labels.pod".to_owned(), "api-0; rm -rf /".to_owned()),
        ]),
        captures: BTreeMap::from([("token".to_owned(), "t0k".to_owned())]),
    }
}

fn rendered(text: &str, place: Place) -> Result<String, TemplateError> {
    render(text, &Context::of(&order()), place)
}

#[test]
fn what_is_known_passes() {
    for text in [
        "plain",
        "",
        "{{ release.bad }}",
        "a {{release.target}} b {{ captures.token }}",
        "{{ labels.pod | upper }}",
        "{{ release.target | default(\"none\") }}",
        "{{ release.bad if release.target is defined else service }}",
        "{{ \"}} {{\" }}",
        "{{ release.bad | split(\":\") | last }}",
        "{ \"a\": {\"b\": 1}}",
        "{{ level }} {{ incident }} {{ trigger }} {{ value }} {{ service }} {{ release.running }}",
    ] {
        assert_eq!(check(text, &names()), Ok(()), "{text}");
    }
}

#[test]
fn each_mistake_is_found_at_its_place() {
    let cases = [
        ("to {{ release.tagret }}", "release.tagret", "release.tagret is not defined"),
        ("{{ release }}", "release", "release is not defined"),
        ("{{ release[\"bad\"] }}", "release", "release is not defined"),
        ("{{ labels }}", "labels", "labels is not defined"),
        ("{{ labels.a.b }}", "labels.a.b", "labels.a.b is not defined"),
        ("{{ captures.id }}", "captures.id", "no earlier step of this level captures id"),
        ("{{ service | nosuch }}", "nosuch", "there is no filter nosuch"),
        ("{{ 1 if service else service | nosuch }}", "nosuch", "there is no filter nosuch"),
        ("{{ 1 if service is nosuch else 2 }}", "nosuch", "there is no test nosuch"),
        ("{{ 1 if service is not nosuch else 2 }}", "nosuch", "there is no test nosuch"),
        ("{{ range(10) }}", "range", "range is not defined"),
        ("a {{ service", "{{ service", "the template is not closed"),
        ("{{ }}", " ", "the template is empty"),
        ("{% if service %}x{% endif %}", "{%", "statements ({% … ) are not supported in templates"),
        ("{# c #}", "{#", "comments ({# … ) are not supported in templates"),
        ("{{- service -}}", "- service -", "whitespace control ({{- … -}}) is not supported"),
    ];
    for (text, place, message) in cases {
        let error = check(text, &names()).expect_err(text);
        assert_eq!(error.message, message, "{text}");
        assert_eq!(error.range.map(|range| &text[range]), Some(place), "{text}");
        assert!(error.help.is_some(), "{text}");
    }
    for text in ["{{ service service }}", "{{ service + }}", "{{ 'a }}' }", "{{ service | split }}{{ a b }}"] {
        let error = check(text, &names()).expect_err(text);
        assert!(error.range.is_some(), "{text}: {error}");
    }
}

#[test]
fn an_argument_is_a_template_as_a_whole_or_not_at_all() {
    assert_eq!(check_argument("{{ release.target }}", &names()), Ok(()));
    assert_eq!(check_argument("--to", &names()), Ok(()));
    for text in ["--to={{ release.target }}", "{{ release.target }} ", "{{ service }}{{ level }}"] {
        let error = check_argument(text, &names()).expect_err(text);
        assert_eq!(error.message, "a template must be a whole argument");
        assert!(rendered(text, Place::Argument).is_err(), "{text}");
    }
    assert!(check_literal("/opt/api/rollback.sh").is_ok());
    assert!(check_literal("/srv/{{ release.target }}").is_err());
}

#[test]
fn values_are_rendered_for_their_place() {
    assert_eq!(rendered("{{ release.bad }}", Place::Argument).as_deref(), Ok("2.0"));
    assert_eq!(rendered("{{ release.running }}", Place::Argument).as_deref(), Ok("feature/x+1"));
    assert_eq!(
        rendered("/v1/{{ release.running }}?l={{ level }}", Place::Url).as_deref(),
        Ok("/v1/feature%2Fx%2B1?l=2")
    );
    assert_eq!(rendered("{{ trigger }}: {{ value }}", Place::Json).as_deref(), Ok("error-rate: 43 %"));
    assert_eq!(rendered("{{ labels.pod }}", Place::Json).as_deref(), Ok("api-0; rm -rf /"));
    assert_eq!(rendered("{{ captures.token }}", Place::Plain).as_deref(), Ok("t0k"));
    for place in [Place::Argument, Place::Plain, Place::Url] {
        let error = rendered("{{ labels.pod }}", place).expect_err("a shell's metacharacters");
        assert!(error.message.contains("api-0; rm -rf /"), "{error}");
        assert!(rendered("{{ \"-x\" }}", place).is_err(), "an option");
        assert!(rendered("{{ \"\" }}", place).is_err(), "empty");
    }
}

#[test]
fn what_is_not_known_at_run_time_is_an_error_and_not_empty() {
    let error = rendered("{{ release.target }}", Place::Json).expect_err("no way back");
    assert_eq!(error.message, "release.target is not known");
    assert_eq!(rendered("{{ labels.zone }}", Place::Json).expect_err("no label").message, "labels.zone is not known");
    assert_eq!(rendered("{{ release.target | default(\"none\") }}", Place::Argument).as_deref(), Ok("none"));
    assert_eq!(
        rendered("{{ release.target | upper }}", Place::Json).expect_err("filter").message,
        "release.target is not known"
    );
    assert!(rendered("{{ release.bad | split(\".\") }}", Place::Json).is_err(), "a list is not a text");
}

#[test]
fn safe_values_are_those_of_the_design() {
    for good in ["a", "v1.2.3", "a/b:c@d+e_f-g", &"x".repeat(128)] {
        assert!(is_safe_value(good), "{good}");
    }
    for bad in ["", "-a", "a b", "a\n", "a;b", "$(a)", "ä", "a%b", "a'b", &"x".repeat(129)] {
        assert!(!is_safe_value(bad), "{bad}");
    }
}

#[test]
fn a_template_that_gives_too_much_stops() {
    assert!(rendered("{{ \"x\" * 10000000 }}", Place::Json).is_err());
}
