//! What a reload changed, in words.

use std::fmt::Debug;

use super::model::Config;
use crate::decide::rules::ServiceRules;

/// One sentence per change; empty when nothing that matters is different.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut words = Vec::new();
    let (before, after) = (&*old.rules, &*new.rules);
    changed(&mut words, "the instance's name", &before.instance, &after.instance);
    changed(&mut words, "the budget of the daemon", &before.budget, &after.budget);
    changed(&mut words, "breaching_share_max", &before.breaching_share_max, &after.breaching_share_max);
    changed(&mut words, "the heartbeat", &before.heartbeat, &after.heartbeat);
    restart(&mut words, "state_dir", &old.daemon.state_dir, &new.daemon.state_dir);
    restart(&mut words, "kill_file", &old.daemon.kill_file, &new.daemon.kill_file);
    restart(&mut words, "listen", &old.daemon.listen, &new.daemon.listen);
    let approvals = |config: &Config| config.daemon.approvals.as_ref().map(|approvals| approvals.listen);
    restart(&mut words, "approvals.listen", &approvals(old), &approvals(new));
    let links = |config: &Config| {
        let approvals = config.daemon.approvals.clone();
        approvals.map(|approvals| (approvals.external_url, approvals.keys, approvals.expires_after))
    };
    changed(&mut words, "the links of approvals", &links(old), &links(new));
    let socket = |config: &Config| config.daemon.socket_with(&config.daemon.state_dir);
    restart(&mut words, "socket", &socket(old), &socket(new));
    changed(&mut words, "freeze", &before.freeze, &after.freeze);
    changed(&mut words, "external_url", &old.daemon.external_url, &new.daemon.external_url);
    changed(&mut words, "the tokens", &old.daemon.tokens, &new.daemon.tokens);
    let rules = |config: &Config| -> Vec<(String, _)> {
        let specs = config.receivers.iter().cloned();
        let rules = config.rules.receivers.iter().cloned();
        specs.zip(rules).map(|(spec, rules)| (spec.name.to_string(), (spec, rules))).collect()
    };
    named(&mut words, "receiver", "", &rules(old), &rules(new));
    let shared = |config: &Config| -> Vec<_> {
        let shared = config.scrapes.iter().filter(|scrape| scrape.service.is_none());
        shared.map(|scrape| (scrape.name.to_string(), scrape.clone())).collect()
    };
    named(&mut words, "shared scrape", "", &shared(old), &shared(new));
    for service in &after.services {
        match before.services.iter().find(|was| was.name == service.name) {
            None => words.push(format!("service {} is new", service.name)),
            Some(was) => service_changes(&mut words, old, new, was, service),
        }
    }
    for service in &before.services {
        if after.services.iter().all(|is| is.name != service.name) {
            words.push(format!("service {} is gone", service.name));
        }
    }
    words
}

fn service_changes(words: &mut Vec<String>, old: &Config, new: &Config, was: &ServiceRules, is: &ServiceRules) {
    let of = format!(" of service {}", is.name);
    if was.autonomy != is.autonomy {
        let word = |autonomy| format!("{autonomy:?}").to_lowercase();
        words.push(format!("the autonomy{of} was {}, is {}", word(was.autonomy), word(is.autonomy)));
    }
    let times = [
        ("startup", was.startup, is.startup),
        ("remind_every", was.remind_every, is.remind_every),
        ("respond_within", was.respond_within, is.respond_within),
        ("hold_max", was.hold_max, is.hold_max),
        ("guard.release_window", was.guard.release_window, is.guard.release_window),
        ("guard.good_after", was.guard.good_after, is.guard.good_after),
        ("guard.cooldown", was.guard.cooldown, is.guard.cooldown),
    ];
    for (name, before, after) in times {
        if before != after {
            let (before, after) = (humantime::format_duration(before), humantime::format_duration(after));
            words.push(format!("{name}{of} was {before}, is {after}"));
        }
    }
    changed(words, &format!("rto{of}"), &was.rto, &is.rto);
    changed(words, &format!("severity{of}"), &was.severities, &is.severities);
    changed(words, &format!("guard.budget{of}"), &was.guard.budget, &is.guard.budget);
    changed(words, &format!("guard.references{of}"), &was.guard.references, &is.guard.references);
    changed(words, &format!("guard.worsened_by{of}"), &was.guard.worsened_by, &is.guard.worsened_by);
    changed(words, &format!("guard.dependencies{of}"), &was.guard.dependencies, &is.guard.dependencies);
    changed(words, &format!("guard.freeze{of}"), &was.guard.freeze, &is.guard.freeze);
    changed(words, &format!("notify{of}"), &was.notify, &is.notify);
    changed(words, &format!("the labels{of}"), &was.labels, &is.labels);
    changed(words, &format!("the release detectors{of}"), &detectors(old, was), &detectors(new, is));
    let triggers = |service: &ServiceRules| -> Vec<_> {
        service.triggers.iter().map(|trigger| (trigger.name.to_string(), trigger.clone())).collect()
    };
    named(words, "trigger", &of, &triggers(was), &triggers(is));
    let probes = |config: &Config| -> Vec<_> {
        let own = config.probes.iter().filter(|probe| probe.service == is.name);
        own.map(|probe| (probe.name.to_string(), probe.clone())).collect()
    };
    named(words, "probe", &of, &probes(old), &probes(new));
    let scrapes = |config: &Config| -> Vec<_> {
        let own = config.scrapes.iter().filter(|scrape| scrape.service.as_ref() == Some(&is.name));
        own.map(|scrape| (scrape.name.to_string(), scrape.clone())).collect()
    };
    named(words, "scrape", &of, &scrapes(old), &scrapes(new));
    let queries = |config: &Config| -> Vec<_> {
        let own = config.queries.iter().filter(|query| query.service == is.name);
        own.map(|query| (query.name.to_string(), query.clone())).collect()
    };
    named(words, "query", &of, &queries(old), &queries(new));
    let levels = |service: &ServiceRules| -> Vec<_> {
        service.ladder.iter().map(|level| (format!("\"{}\"", level.name), level.clone())).collect()
    };
    named(words, "level", &of, &levels(was), &levels(is));
    let order = |service: &ServiceRules| -> Vec<_> { service.ladder.iter().map(|level| level.name.clone()).collect() };
    let (before, after) = (order(was), order(is));
    let same_names = before.len() == after.len() && before.iter().all(|name| after.contains(name));
    if same_names && before != after {
        words.push(format!("the order of the levels{of} changed"));
    }
}

fn detectors(config: &Config, service: &ServiceRules) -> impl PartialEq + Debug + use<> {
    let specs: Vec<_> = config.detectors.iter().filter(|spec| spec.service == service.name).cloned().collect();
    (service.detectors.clone(), specs)
}

fn changed<T: PartialEq>(words: &mut Vec<String>, what: &str, old: &T, new: &T) {
    if old != new {
        words.push(format!("{what} changed"));
    }
}

/// What a running daemon cannot change.
fn restart<T: PartialEq>(words: &mut Vec<String>, what: &str, old: &T, new: &T) {
    if old != new {
        words.push(format!("{what} changed; this takes effect when backstop is restarted"));
    }
}

fn named<T: PartialEq>(words: &mut Vec<String>, kind: &str, of: &str, old: &[(String, T)], new: &[(String, T)]) {
    for (name, value) in new {
        match old.iter().find(|(was, _)| was == name) {
            None => words.push(format!("{kind} {name}{of} is new")),
            Some((_, was)) if was != value => words.push(format!("{kind} {name}{of} changed")),
            Some(_) => {}
        }
    }
    for (name, _) in old {
        if new.iter().all(|(is, _)| is != name) {
            words.push(format!("{kind} {name}{of} is gone"));
        }
    }
}
