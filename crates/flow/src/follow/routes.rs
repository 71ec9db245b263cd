//! Sources and sinks as a table of routes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forebay_meta::Revised;
use forebay_model::{Sink, SinkKey, Source, SourceKey, SourceKind};

use super::View;
use crate::dispatch::{BranchRoute, SinkRoute, Table};

/// The routes of all sinks that have been seen, so that a new table goes on with them.
#[derive(Debug, Default)]
pub(super) struct Routes {
    sinks: HashMap<SinkKey, Arc<SinkRoute>>,
    /// What the table in force was made of.
    shown: Option<(Entries<Source>, Entries<Sink>)>,
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

    /// A new table, if sources or sinks are others than at the last call.
    pub(super) fn table(&mut self, view: &View) -> Option<Table> {
        let (sources, sinks) = (&view.sources.entries, &view.sinks.entries);
        if let Some((a, b)) = &self.shown
            && Arc::ptr_eq(a, sources)
            && Arc::ptr_eq(b, sinks)
        {
            return None;
        }
        self.shown = Some((Arc::clone(sources), Arc::clone(sinks)));
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
        let sources = sources.values().map(|source| {
            let SourceKind::Http { secret } = &source.kind;
            let branch = BranchRoute {
                key: source.key.clone(),
                disabled: !source.is_active(),
                sinks: by_source.remove(&source.key).unwrap_or_default(),
            };
            (secret.clone(), branch)
        });
        Some(Table::new(sources))
    }
}
