//! Builds route tables from sources and sinks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forebay_meta::{Versioned, catalog::keys};
use forebay_model::quota::{QuotaOverrides, SourceQuota};
use forebay_model::{
    HandshakeSettings, ProjectId, SignatureSettings, Sink, SinkKey, SinkSettings, Source, SourceId,
    SourceKey, SourceKind,
};

use super::store_snapshot::StoreSnapshot;
use crate::dispatch::{BranchRoute, RouteTable, SinkRoute};
use crate::quota::LimiterRegistry;
use crate::signature::SignatureVerifier;

/// Routes of all known sinks, which each new table reuses.
#[derive(Debug, Default)]
pub(super) struct SinkRoutes {
    sinks: HashMap<SinkKey, Arc<SinkRoute>>,
    /// Input of the current table.
    built_from: Option<(
        SnapshotEntries<Source>,
        SnapshotEntries<Sink>,
        SnapshotEntries<QuotaOverrides>,
    )>,
}

/// Map of a snapshot. It is replaced exactly when something in it changes.
type SnapshotEntries<T> = Arc<BTreeMap<String, Versioned<Arc<T>>>>;

impl SinkRoutes {
    pub(super) fn sink(&mut self, key: &SinkKey) -> &Arc<SinkRoute> {
        self.sinks
            .entry(key.clone())
            .or_insert_with(|| SinkRoute::new(key.clone()))
    }

    /// Builds a new table, if sources, sinks or quotas have changed since the last call.
    pub(super) fn table(
        &mut self,
        view: &StoreSnapshot,
        limiters: &Arc<LimiterRegistry>,
    ) -> Option<RouteTable> {
        let (sources, sinks) = (&view.sources.entries, &view.sinks.entries);
        let quotas = &view.quotas.entries;
        if let Some((a, b, c)) = &self.built_from
            && Arc::ptr_eq(a, sources)
            && Arc::ptr_eq(b, sinks)
            && Arc::ptr_eq(c, quotas)
        {
            return None;
        }
        self.built_from = Some((Arc::clone(sources), Arc::clone(sinks), Arc::clone(quotas)));
        let mut by_source: HashMap<SourceKey, Vec<Arc<SinkRoute>>> = HashMap::new();
        for sink in sinks.values().filter(|s| s.is_active()) {
            let route = Arc::clone(self.sink(&sink.key));
            by_source
                .entry(sink.key.source.clone())
                .or_default()
                .push(route);
        }
        self.sinks.retain(|_, route| {
            // Otherwise only this map has it: no table and no pipeline uses it.
            Arc::strong_count(route) > 1 || route.pipeline().is_some()
        });
        let allowed = source_quotas(view, limiters.quotas().source);
        let own = |project| project_quota(view, project);
        let mut builder = limiters.builder();
        let sources = sources.values().map(|source| {
            let SourceKind::Http { secret, verify } = &source.kind;
            let branch = BranchRoute {
                key: source.key.clone(),
                disabled: !source.is_active(),
                handshakes: handshakes(source, verify.as_ref()),
                verifier: verify.as_ref().map(|verify| {
                    let key = &source.key;
                    SignatureVerifier::new(key.branch.project, &key.source, verify)
                }),
                sinks: by_source.remove(&source.key).unwrap_or_default(),
            };
            (secret.clone(), branch)
        });
        let table = RouteTable::with_limiters(sources, |project, source| {
            let quota = allowed.get(&(project, source)).copied();
            builder.source_limiter(project, source, quota.unwrap_or_default(), &own(project))
        });
        builder.finish(|project, source| allowed.contains_key(&(project, source)));
        Some(table)
    }
}

/// Handshakes that a source answers: those of its settings, and that of the senders whose signature
/// it requires. The server has no such settings.
fn handshakes(source: &Source, verify: Option<&SignatureSettings>) -> HandshakeSettings {
    let mut handshakes = match source.settings.is_empty() {
        true => HandshakeSettings::default(),
        false => SinkSettings::default().with(&source.settings).handshakes,
    };
    if let Some(kind) = verify.and_then(|verify| verify.r#type.handshake()) {
        handshakes.include(kind);
    }
    handshakes
}

/// Quota overrides of a project.
fn project_quota(view: &StoreSnapshot, project: ProjectId) -> QuotaOverrides {
    let key = keys::StoreKey::Quota(project).to_string();
    view.quotas.get(&key).map(|q| *q.value).unwrap_or_default()
}

/// Quota of each source: its own, or that of its project's sources, or the server's. For a source
/// in several branches the strictest applies.
fn source_quotas(
    view: &StoreSnapshot,
    server: SourceQuota,
) -> HashMap<(ProjectId, &SourceId), SourceQuota> {
    let mut allowed: HashMap<_, SourceQuota> = HashMap::new();
    for source in view.sources.entries.values() {
        let project = source.key.branch.project;
        let defaults = SinkSettings {
            quota: project_quota(view, project).source(server),
            ..SinkSettings::default()
        };
        let quota = match source.settings.is_empty() {
            true => defaults.quota,
            false => defaults.with(&source.settings).quota,
        };
        let of_all = allowed
            .entry((project, &source.key.source))
            .or_insert(quota);
        *of_all = of_all.stricter(quota);
    }
    allowed
}
