//! Sources and sinks as a table of routes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forebay_meta::{Revised, keys};
use forebay_model::quota::{OwnQuota, SourceQuota};
use forebay_model::{
    Handshakes, ProjectId, Sink, SinkKey, SinkSettings, Source, SourceId, SourceKey, SourceKind,
};

use super::View;
use crate::dispatch::{BranchRoute, SinkRoute, Table};
use crate::quota::Gates;

/// The routes of all sinks that have been seen, so that a new table goes on with them.
#[derive(Debug, Default)]
pub(super) struct Routes {
    sinks: HashMap<SinkKey, Arc<SinkRoute>>,
    /// What the table in force was made of.
    shown: Option<(Entries<Source>, Entries<Sink>, Entries<OwnQuota>)>,
}

/// A snapshot's map. It is replaced by another exactly when something in it changes.
type Entries<T> = Arc<BTreeMap<String, Revised<Arc<T>>>>;

impl Routes {
    /// The route of a sink.
    pub(super) fn sink(&mut self, key: &SinkKey) -> &Arc<SinkRoute> {
        self.sinks
            .entry(key.clone())
            .or_insert_with(|| SinkRoute::new(key.clone()))
    }

    /// A new table, if sources, sinks or quotas are others than at the last call.
    pub(super) fn table(&mut self, view: &View, gates: &Arc<Gates>) -> Option<Table> {
        let (sources, sinks) = (&view.sources.entries, &view.sinks.entries);
        let quotas = &view.quotas.entries;
        if let Some((a, b, c)) = &self.shown
            && Arc::ptr_eq(a, sources)
            && Arc::ptr_eq(b, sinks)
            && Arc::ptr_eq(c, quotas)
        {
            return None;
        }
        self.shown = Some((Arc::clone(sources), Arc::clone(sinks), Arc::clone(quotas)));
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
        let allowed = allowed(view, gates.quotas().source);
        let own = |project| own(view, project);
        let mut maker = gates.maker();
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
        let table = Table::gated(sources, |project, source| {
            let quota = allowed.get(&(project, source)).copied();
            maker.gate(project, source, quota.unwrap_or_default(), &own(project))
        });
        maker.finish(|project, source| allowed.contains_key(&(project, source)));
        Some(table)
    }
}

/// What a source answers to webhook senders: the server itself has no such settings.
fn handshakes(source: &Source) -> Handshakes {
    match source.settings.is_empty() {
        true => Handshakes::default(),
        false => SinkSettings::default().with(&source.settings).handshakes,
    }
}

/// What a project has of its own.
fn own(view: &View, project: ProjectId) -> OwnQuota {
    let key = keys::Key::Quota(project).to_string();
    view.quotas.get(&key).map(|q| *q.value).unwrap_or_default()
}

/// What each source may use: what is set on it, or what its project's sources may, or what the
/// server says. Of a source that is in several branches the strictest holds.
fn allowed(view: &View, server: SourceQuota) -> HashMap<(ProjectId, &SourceId), SourceQuota> {
    let mut allowed: HashMap<_, SourceQuota> = HashMap::new();
    for source in view.sources.entries.values() {
        let project = source.key.branch.project;
        let defaults = SinkSettings {
            quota: own(view, project).source(server),
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
