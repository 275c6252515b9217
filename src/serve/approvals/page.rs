//! The pages, as HTML without scripts and without anything to load: for a phone at night, and for a screen by day.
//!
//! Every value is escaped, also those that come from the configuration: names of releases come from whoever deploys.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{Followed, actor};
use crate::decide::event::{Entry, IncidentEvent, OnSilence};
use crate::decide::report::{Moment, Report};
use crate::decide::trigger::short;
use crate::link::Link;
use crate::machine::snapshot::{IncidentView, QuestionView};
use crate::time::Timestamp;

const STYLE: &str = include_str!("style.css");
/// What happened since is a few lines; the report has the rest.
const MOMENTS_SHOWN: usize = 8;

/// Nothing is loaded and nothing runs; the one style counts by its hash, so that nobody can smuggle in another.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("visible characters")
});

pub(super) fn content_security_policy() -> HeaderValue {
    POLICY.clone()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub status: StatusCode,
    title: String,
    /// HTML.
    main: String,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Page { status, title, main } = self;
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex, nofollow\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
             <body>\n<main>\n{main}</main>\n</body>\n</html>\n",
            Escaped(&title)
        );
        (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
    }
}

/// Text as HTML shows it, and nothing else: no tags, and no characters that change how the rest reads.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' => f.write_char('\n')?,
                // A name with one of these could show "v1" where it says something else (Unicode UAX #9).
                '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                    f.write_char('\u{fffd}')?;
                }
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// What is said to those of whom nothing is known, and of errors that are not about an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    NothingHere,
    NoSuchMethod,
    Malformed,
    Forged,
    Foreign,
    NoKey,
    NoForm,
    TooLong,
    Slow,
    Forgotten,
}

impl Said {
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Said::NothingHere => ("There is nothing here", "Links to answer with stand in backstop's notices."),
            Said::NoSuchMethod => ("This cannot be done here", "Open the link, and answer with its buttons."),
            Said::Malformed => (
                "This is not a whole link",
                "Part of it may have been lost on the way. Copy all of it from the notice, or answer with `backstop approve`.",
            ),
            Said::Forged => (
                "This link is not genuine",
                "It was not made by this backstop, or its key was changed since. Take the link from the latest notice, or \
                 answer with `backstop approve`.",
            ),
            Said::Foreign => (
                "This answer did not come from here",
                "Another page sent it, so it was not taken. Open the link from the notice, and answer there.",
            ),
            Said::NoKey => (
                "No link can be checked now",
                "backstop cannot read its key; its log says why. Nothing was done. Answer with `backstop approve`.",
            ),
            Said::NoForm => (
                "This is not an answer",
                "Nothing was done. Open the link from the notice, and answer with one of its buttons.",
            ),
            Said::TooLong => ("The reason is too long", "Nothing was done. Shorten it, or link to the rest."),
            Said::Slow => (
                "backstop has not answered in time",
                "What you asked for may still happen. Open the link again to see how it stands.",
            ),
            Said::Forgotten => ("This question is over", "It is so long ago that backstop does not keep it any more."),
        }
    }
}

pub(super) fn plain(status: StatusCode, said: Said) -> Page {
    let (title, text) = said.words();
    let main = format!("<h1>{}</h1>\n<p>{}</p>\n", Escaped(title), code(text));
    Page { status, title: format!("backstop: {title}"), main }
}

/// Escaped, and what stands between backticks as code.
fn code(text: &str) -> String {
    let mut html = String::new();
    for (place, part) in text.split('`').enumerate() {
        let escaped = Escaped(part);
        let added = if place % 2 == 1 { write!(html, "<code>{escaped}</code>") } else { write!(html, "{escaped}") };
        added.expect("a string takes everything");
    }
    html
}

/// Collects HTML.
struct Html(String);

impl Html {
    /// Which backstop, and which incident.
    fn new(followed: &Followed) -> Html {
        let (instance, incident) = (&followed.snapshot.instance, &followed.link.incident);
        Html(format!("<p class=\"from\">backstop {} · {}</p>\n", Escaped(instance), Escaped(incident)))
    }

    fn add(&mut self, html: fmt::Arguments<'_>) {
        self.0.write_fmt(html).expect("a string takes everything");
        self.0.push('\n');
    }

    fn row(&mut self, name: &str, html: fmt::Arguments<'_>) {
        self.add(format_args!("<dt>{name}</dt><dd>{html}</dd>"));
    }

    fn way(&mut self, bad: Option<&str>, target: Option<&str>) {
        let bad = Escaped(bad.unwrap_or("an unknown release"));
        match target {
            Some(target) => self.add(format_args!(
                "<p class=\"way\"><bdi class=\"bad\">{bad}</bdi> <span class=\"to\"><span>→</span> \
                 <bdi class=\"good\">{}</bdi></span></p>",
                Escaped(target)
            )),
            None => self.add(format_args!("<p class=\"way\"><bdi class=\"bad\">{bad}</bdi></p>")),
        }
    }

    fn page(self, status: StatusCode, title: String) -> Page {
        Page { status, title, main: self.0 }
    }
}

/// Why the last answer was not taken, or why none can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Banner {
    pub status: StatusCode,
    pub text: String,
}

// Length: one list of what people should see before they answer.
/// The question and the buttons.
pub(super) fn asks(followed: &Followed, view: &IncidentView, question: &QuestionView, banner: Option<&Banner>) -> Page {
    let report = Report::of(&view.history);
    let (level, of, name) = &question.level;
    let climbs = report.as_ref().is_some_and(|report| !report.levels.is_empty());
    let title = if climbs {
        format!("{}: go on with level {level}?", view.service)
    } else {
        format!("Roll {} back?", view.service)
    };
    let mut html = Html::new(followed);
    html.add(format_args!("<h1>{}</h1>", Escaped(&title)));
    html.way(question.bad.as_deref(), question.target.as_deref());
    if let Some(banner) = banner {
        html.add(format_args!("<p class=\"banner\" role=\"alert\">{}</p>", code(&banner.text)));
    }
    html.add(format_args!("<dl>"));
    if let Some(report) = &report {
        let worst = report.facts.iter().max_by_key(|fact| fact.fact.severity);
        if let Some(fact) = worst.map(|fact| &fact.fact) {
            html.row("What is wrong", format_args!("{}", Escaped(&fact.sentence)));
            if let Some(value) = &fact.value {
                html.row("Value", format_args!("{} ({})", Escaped(value), Escaped(&fact.threshold)));
            }
        }
        let reasons = report.decision.iter().flat_map(|decision| &decision.reasons);
        let reasons: Vec<String> = reasons.map(|reason| Escaped(&reason.sentence).to_string()).collect();
        if !reasons.is_empty() {
            html.row("Why it asks", format_args!("{}", reasons.join("<br>")));
        }
    }
    html.row("Level", format_args!("{level} of {of}: <bdi>{}</bdi>", Escaped(name)));
    let may = question.approvers.is_empty() || actor(&followed.link).is_one_of(&question.approvers);
    html.row("Who may approve", format_args!("{}", Escaped(&who(question))));
    if let Some(until) = view.respond_by_wall {
        let left = until.since(followed.snapshot.wall);
        let silence = silence(question.on_silence);
        html.row("Until", format_args!("{} (in {}); {silence}", instant(until), short(whole_seconds(left))));
    }
    html.add(format_args!("</dl>"));
    let status = banner.map_or(StatusCode::OK, |banner| banner.status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        html.add(format_args!("<p class=\"note\">Open the link again to answer.</p>"));
    } else {
        form(&mut html, followed, may);
    }
    html.page(status, title)
}

/// The page's own address is where it goes: the link stands in no other place of it.
fn form(html: &mut Html, followed: &Followed, may: bool) {
    html.add(format_args!("<form method=\"post\">"));
    html.add(format_args!(
        "<label for=\"reason\">Reason <small>(optional; say who you are)</small></label>\n\
         <textarea id=\"reason\" name=\"reason\" rows=\"2\" maxlength=\"1000\"></textarea>"
    ));
    html.add(format_args!("<p class=\"buttons\">"));
    if may {
        html.add(format_args!("<button class=\"yes\" name=\"answer\" value=\"approve\">Approve</button>"));
    }
    html.add(format_args!("<button class=\"no\" name=\"answer\" value=\"decline\">Decline</button>"));
    html.add(format_args!("</p>\n</form>"));
    let (receiver, incident) = (&followed.link.receiver, &followed.link.incident);
    if may {
        let text = "The answer counts once, for what is shown here. The report says that it came by the link of";
        html.add(format_args!("<p class=\"note\">{text} <bdi>{}</bdi>.</p>", Escaped(receiver)));
    } else {
        html.add(format_args!(
            "<p class=\"note\">This is the link of <bdi>{}</bdi>, which may decline but not approve. Who may, answers \
             with <code>backstop approve {}</code>.</p>",
            Escaped(receiver),
            Escaped(incident)
        ));
    }
}

fn who(question: &QuestionView) -> String {
    if question.approvers.is_empty() {
        "everyone who may command backstop, and everyone who has this link".to_owned()
    } else {
        question.approvers.join(", ")
    }
}

const fn silence(on_silence: OnSilence) -> &'static str {
    match on_silence {
        OnSilence::Decline => "no answer declines",
        OnSilence::Approve => "no answer approves",
        OnSilence::Escalate => "without an answer it asks again",
    }
}

/// The answer was taken.
pub(super) fn done(followed: &Followed, approves: bool) -> Page {
    let mut html = Html::new(followed);
    let Link { bad, target, .. } = &followed.link;
    let title = if approves { "Approved" } else { "Declined" };
    html.add(format_args!("<h1>{title}</h1>"));
    html.way(bad.as_deref(), target.as_deref());
    let text = if approves {
        "backstop rolls back now, and tells with notices how it goes."
    } else {
        "Nothing is rolled back. The trigger still fires: mend it, or roll back by hand with `backstop rollback`."
    };
    html.add(format_args!("<p>{}</p>", code(text)));
    if let Some(view) = followed.incident() {
        now_and_since(&mut html, &followed.link, view);
    }
    html.page(StatusCode::OK, format!("backstop: {title}"))
}

/// It was answered, or ended without an answer.
pub(super) fn over(followed: &Followed, view: &IncidentView) -> Page {
    let title = "This question is over";
    let text = "The link counts no more. This is what became of it:";
    about(followed, view, StatusCode::GONE, title, text)
}

/// It asks something else by now.
pub(super) fn changed(followed: &Followed, view: &IncidentView, question: &QuestionView) -> Page {
    let title = "It asks another question by now";
    let name = |release: &Option<String>| release.clone().unwrap_or_else(|| "nothing".to_owned());
    let text = format!(
        "Nothing was done. Now it is about {} back to {}, at level {}. Take the link from the latest notice.",
        name(&question.bad),
        name(&question.target),
        question.level.0
    );
    about(followed, view, StatusCode::CONFLICT, title, &text)
}

/// Genuine, and too late.
pub(super) fn expired(followed: &Followed) -> Page {
    let title = "This link has expired";
    let text = format!("It counted until {}.", instant(followed.link.expires));
    match followed.incident() {
        Some(view) if view.question.is_some() => {
            let more = "The question is still open: take the link from the latest notice, or answer with";
            let text = format!("{text} {more} `backstop approve {}`.", view.id);
            about(followed, view, StatusCode::GONE, title, &text)
        }
        Some(view) => about(followed, view, StatusCode::GONE, title, &text),
        None => plain(StatusCode::GONE, Said::Forgotten),
    }
}

fn about(followed: &Followed, view: &IncidentView, status: StatusCode, title: &str, text: &str) -> Page {
    let mut html = Html::new(followed);
    let Link { bad, target, .. } = &followed.link;
    html.add(format_args!("<h1>{}</h1>", Escaped(title)));
    html.way(bad.as_deref(), target.as_deref());
    html.add(format_args!("<p>{}</p>", code(text)));
    now_and_since(&mut html, &followed.link, view);
    html.page(status, format!("backstop: {title}"))
}

/// How it stands, and what happened since this link's question.
fn now_and_since(html: &mut Html, link: &Link, view: &IncidentView) {
    let state = view.state.replace('_', " ");
    html.add(format_args!("<dl>"));
    html.row("Service", format_args!("<bdi>{}</bdi>", Escaped(&view.service)));
    if view.open {
        html.row("Now", format_args!("<b>{}</b>: {}", Escaped(&state), Escaped(&view.sentence)));
    } else {
        // Its sentence is still about the breach.
        html.row("Now", format_args!("<b>{}</b>", Escaped(&state)));
    }
    html.add(format_args!("</dl>"));
    let moments = since(link, view);
    if moments.is_empty() {
        return;
    }
    html.add(format_args!("<ol class=\"since\">"));
    for moment in moments {
        html.add(format_args!("<li><time>{}</time> {}</li>", instant(moment.wall), Escaped(&moment.text)));
    }
    html.add(format_args!("</ol>"));
}

fn since(link: &Link, view: &IncidentView) -> Vec<Moment> {
    let asked = view.history.iter().position(|record| {
        let Entry::Incident { event, .. } = &record.entry else { return false };
        matches!(&**event, IncidentEvent::Proposed { asked: Some(asked), .. } if asked.number == link.number)
    });
    let Some(asked) = asked else { return Vec::new() };
    // A question has one line; what was told before it has its lines before it.
    let before = Report::of(&view.history[..=asked]).map_or(0, |report| report.timeline.len());
    let moments = Report::of(&view.history).map(|report| report.timeline).unwrap_or_default();
    let own = |moment: &Moment| !matches!(moment.kind, "judged" | "step_intended" | "joined");
    moments.into_iter().skip(before).filter(own).take(MOMENTS_SHOWN).collect()
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// `2026-11-20 03:29:00 UTC`
fn instant(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) if text.ends_with('Z') => format!("{day} {time} UTC"),
        _ => text,
    }
}
