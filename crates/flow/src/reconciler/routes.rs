//! Sources and sinks as a table of routes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forebay_meta::{Versioned, catalog::keys};
use forebay_model::quota::{QuotaOverrides, SourceQuota};
use forebay_model::{
    HandshakeSettings, ProjectId, Sink, SinkKey, SinkSettings, Source, SourceId, SourceKey,
    SourceKind,
};

use super::StoreSnapshot;
use crate::dispatch::{BranchRoute, RouteTable, SinkRoute};
use crate::quota::LimiterRegistry;

/// The routes of all sinks that have been seen, so that a new table goes on with them.
#[derive(Debug, Default)]
pub(super) struct SinkRoutes {
    sinks: HashMap<SinkKey, Arc<SinkRoute>>,
    /// What the table in force was made of.
    built_from: Option<(
        SnapshotEntries<Source>,
        SnapshotEntries<Sink>,
        SnapshotEntries<QuotaOverrides>,
    )>,
}

/// A snapshot's map. It is replaced by another exactly when something in it changes.
type SnapshotEntries<T> = Arc<BTreeMap<String, Versioned<Arc<T>>>>;

impl SinkRoutes {
    /// The route of a sink.
    pub(super) fn sink(&mut self, key: &SinkKey) -> &Arc<SinkRoute> {
        self.sinks
            .entry(key.clone())
            .or_insert_with(|| SinkRoute::new(key.clone()))
    }

    /// A new table, if sources, sinks or quotas are others than at the last call.
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
            // Only this map has it: no sink and no pipeline any more.
            Arc::strong_count(route) > 1 || route.pipeline().is_some()
        });
        let allowed = source_quotas(view, limiters.quotas().source);
        let own = |project| project_quota(view, project);
        let mut builder = limiters.builder();
        let sources = sources.values().map(|source| {
            let SourceKind::Http { secret } = &source.kind;
            let branch = BranchRoute {
                key: source.key.clone(),
                disabled: !source.is_active(),
                handshakes: handshakes(source),
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

/// What a source answers to webhook senders: the server itself has no such settings.
fn handshakes(source: &Source) -> HandshakeSettings {
    match source.settings.is_empty() {
        true => HandshakeSettings::default(),
        false => SinkSettings::default().with(&source.settings).handshakes,
    }
}

/// What a project has of its own.
fn project_quota(view: &StoreSnapshot, project: ProjectId) -> QuotaOverrides {
    let key = keys::StoreKey::Quota(project).to_string();
    view.quotas.get(&key).map(|q| *q.value).unwrap_or_default()
}

/// What each source may use: what is set on it, or what its project's sources may, or what the
/// server says. Of a source that is in several branches the strictest holds.
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
