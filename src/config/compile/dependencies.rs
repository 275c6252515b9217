//! `guard.dependencies` of all services together: no service may wait for itself.

use std::sync::Arc;

use super::super::cursor::Cx;
use super::super::places::Problem;
use super::service::Compiled;

/// Each circle is told once, at its first service.
pub(super) fn check(cx: &Cx<'_>, services: &[Compiled]) {
    let mut told: Vec<Arc<str>> = Vec::new();
    for service in services {
        let mut way = Vec::new();
        if !told.contains(&service.rules.name) && leads_back(services, &service.rules.name, service, &mut way) {
            let names: Vec<&str> = way.iter().map(AsRef::as_ref).collect();
            let (header, place) = service.places;
            let name = &service.rules.name;
            let problem = Problem::at(place.unwrap_or(header), format!("`{name}` depends on itself"));
            let help = "when one of them breaches, each would wait for the other; leave one of the dependencies out";
            let circle = names.join(" → ");
            cx.error(problem.help(if way.len() > 1 {
                format!("{name} → {circle}: {help}")
            } else {
                help.to_owned()
            }));
            told.extend(way);
        }
    }
}

/// `way` ends with `to` when there is one from `service`.
fn leads_back(services: &[Compiled], to: &Arc<str>, service: &Compiled, way: &mut Vec<Arc<str>>) -> bool {
    for name in &service.rules.guard.dependencies {
        if way.contains(name) {
            continue;
        }
        way.push(Arc::clone(name));
        let next = services.iter().find(|other| other.rules.name == *name);
        if name == to || next.is_some_and(|next| leads_back(services, to, next, way)) {
            return true;
        }
        way.pop();
    }
    false
}
