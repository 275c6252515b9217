//! The one place where the templates of steps are checked.

use super::super::cursor::{Cx, Text};
use super::super::places::Problem;
use super::http::check_url;
use crate::act::template::{self, TemplateError, TemplateNames};

/// Where a template stands.
#[derive(Clone, Copy)]
pub(super) enum Stands {
    /// Text goes around it: a header, a variable, a body.
    Anywhere,
    /// An argument of a command.
    Argument,
    /// Where no value from outside may have a say: a program, a directory.
    Nowhere,
}

/// Reports what is wrong with a template, at the bytes that are.
pub(super) fn check(cx: &Cx<'_>, text: &Text, names: &TemplateNames, stands: Stands) -> bool {
    let checked = match stands {
        Stands::Anywhere => template::check(&text.value, names),
        Stands::Argument => template::check_argument(&text.value, names),
        Stands::Nowhere => template::check_literal(&text.value),
    };
    let Err(TemplateError { message, range, help }) = checked else { return true };
    cx.error(Problem::at(text.part(range.as_ref()), message).help_if(help));
    false
}

/// A URL with templates behind its host: a value from outside must not choose where a request goes.
pub(super) fn check_url_template(cx: &Cx<'_>, text: &Text, names: &TemplateNames) -> bool {
    if !check(cx, text, names, Stands::Anywhere) {
        return false;
    }
    let Some(first) = text.value.find("{{") else { return check_url(cx, text, &text.value) };
    let fixed = &text.value[..first];
    let host_is_fixed = fixed.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?']));
    if !host_is_fixed {
        let place = text.part(Some(&(first..text.value.len())));
        let problem = Problem::at(place, "a template cannot choose the host that a request goes to");
        cx.error(problem.help("write scheme, host and port out; templates may stand in the path and the query"));
        return false;
    }
    check_url(cx, text, fixed)
}
