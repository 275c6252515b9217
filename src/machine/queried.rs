//! Answers of queries become samples; what a server said of itself becomes the reason why something is not known.

use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::input::{QueryAnswer, ScrapeFailure, TargetKind};
use super::output::{LogLevel, Output};
use super::service::Service;
use super::watch::{Look, Target, service_label, with_name};
use crate::decide::trigger::{Finding, Findings, Unknown};
use crate::promql::{Batch, Expr, Labels, LocalId, Scope, TargetId};
use crate::time::Timestamp;

impl Machine {
    /// A server looks back as far as the expression says, over releases and levels: its answer counts once all of that
    /// is newer than what forgot the service's own windows.
    pub(super) fn queried(
        &mut self,
        id: TargetId,
        at: Timestamp,
        duration: Duration,
        outcome: Result<QueryAnswer, ScrapeFailure>,
        out: &mut Vec<Output>,
    ) {
        let Some(scope) = self.targets.get(&id).map(|target| target.scope) else { return };
        let from = self.services.iter().find(|service| scope == Scope::Service(service.id)).map(counts_from);
        let Some(target) = self.targets.get_mut(&id) else { return };
        let names = (service_label(&target.key), Arc::clone(&target.key.source));
        let name = Arc::clone(&target.key.source);
        let whose = Labels::from_pairs(target.labels.iter().chain([("query", &*name)]));
        let success = if outcome.is_ok() { 1.0 } else { 0.0 };
        match outcome {
            Ok(answer) => {
                target.series = answer.series.len();
                target.saw(Look { at, ok: true, reached: true, sent: true, error: None });
                *self.counters.looks.entry(names).or_default() += 1;
                let counts = from.map_or(answer.window, |from| at.since(from));
                target.filling = (counts < answer.window).then_some((counts, answer.window));
                if target.filling.is_some() {
                    self.store.fail(id, at);
                } else {
                    self.store.push(id, at, &batch(answer.series));
                    self.store.show(id, &name);
                }
            }
            Err(failure) => {
                let reached = !matches!(failure.reason, "timeout" | "dns" | "unsent" | "unreachable" | "secret");
                if target.last.as_ref().is_none_or(|last| last.ok) {
                    let message = format!("query {name} to {} failed: {}", target.key.address, failure.detail);
                    out.push(Output::Log { level: LogLevel::Warn, service: target.key.service.clone(), message });
                }
                target.saw(Look { at, ok: false, reached, sent: true, error: Some(failure.detail) });
                target.filling = None;
                *self.counters.failures.entry((names.0, names.1, failure.reason.to_owned())).or_default() += 1;
                self.store.fail(id, at);
            }
        }
        self.store.push_own(id, at, &with_name(&whose, "query_success"), success);
        self.store.push_own(id, at, &with_name(&whose, "query_duration_seconds"), duration.as_secs_f64());
        self.looked(id, at);
    }

    /// Where a query has no answer that counts, its own reason says more than "its target does not answer".
    pub(super) fn with_queries(&self, service: &Service, expr: &Expr, findings: Findings) -> Findings {
        let is_blank = |finding: &Finding| {
            let Finding::Unknown(why) = finding else { return false };
            matches!(why, Unknown::Missing(_) | Unknown::Stale { .. } | Unknown::NotYetCovered { .. })
        };
        let blank = is_blank(&findings.others) || findings.sets.iter().any(|(_, finding, _)| is_blank(finding));
        let Some(why) = blank.then(|| self.unanswered(service, expr)).flatten() else { return findings };
        let told = |finding: Finding| if is_blank(&finding) { Finding::Unknown(why.clone()) } else { finding };
        let Findings { sets, others, evidence } = findings;
        let sets = sets.into_iter().map(|(labels, finding, value)| (labels, told(finding), value)).collect();
        Findings { sets, others: told(others), evidence }
    }

    /// Of the queries that an expression asks for, the first that has no answer.
    fn unanswered(&self, service: &Service, expr: &Expr) -> Option<Unknown> {
        expr.selectors().into_iter().find_map(|selector| {
            let name = selector.exact_name()?;
            let target = self.targets.values().find(|target| {
                target.key.kind == TargetKind::Query
                    && target.scope == Scope::Service(service.id)
                    && *target.key.source == *name
            })?;
            if let Some((observed, window)) = target.filling {
                return Some(Unknown::NotYetCovered { observed, window });
            }
            let why = match &target.last {
                None => "not asked yet".to_owned(),
                Some(look) => look.error.clone()?,
            };
            Some(Unknown::Unanswered { query: name.to_owned(), why })
        })
    }

    /// The targets that tell whether the way to a service is open: its own. A query's server is somewhere else, so it
    /// only counts for a service that is watched by nothing but queries.
    pub(super) fn near(&self, service: &Service) -> Vec<&Target> {
        let scope = Scope::Service(service.id);
        let own = move |target: &&Target| target.scope == scope;
        let is_near = |target: &Target| target.key.kind != TargetKind::Query;
        let any_near = self.targets.values().filter(own).any(is_near);
        self.targets.values().filter(own).filter(|target| is_near(target) || !any_near).collect()
    }
}

/// Since when samples count, with the first sight of the release that runs: of a query nobody knows from which process
/// its samples are.
fn counts_from(service: &Service) -> Timestamp {
    let change = service.releases.change.as_ref().filter(|change| change.old_last_seen.is_some());
    change.map_or(Timestamp::MIN, |change| change.first_seen).max(service.windows_from)
}

/// All series anew each time: what appears is a baseline, and what an answer lacks has ended.
fn batch(series: Vec<(Labels, f64)>) -> Batch {
    let mut batch = Batch { rebind: true, ..Batch::default() };
    for (id, (labels, value)) in (0..).map(LocalId).zip(series) {
        batch.born.push((id, labels));
        batch.samples.push((id, value));
    }
    batch
}
