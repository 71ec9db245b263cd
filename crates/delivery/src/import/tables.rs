//! Registry of a node's table backends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use forebay_connect::table::Table;
use forebay_model::TableBackend;

/// Backends that a node can import into.
#[derive(Clone, Default)]
pub struct TableRegistry {
    backends: BTreeMap<TableBackend, Arc<dyn Table>>,
    default: Option<TableBackend>,
}

impl fmt::Debug for TableRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables")
            .field("backends", &self.backends.keys())
            .field("default", &self.default)
            .finish()
    }
}

impl TableRegistry {
    /// Creates an empty registry; `default` is what `keboola` means as long as there is no such
    /// backend.
    pub fn new(default: TableBackend) -> Self {
        Self {
            backends: BTreeMap::new(),
            default: Some(default),
        }
    }

    #[must_use]
    pub fn with(mut self, table: Arc<dyn Table>) -> Self {
        self.backends.insert(table.backend(), table);
        self
    }

    pub fn get(&self, backend: TableBackend) -> Option<&Arc<dyn Table>> {
        let named = self.backends.get(&backend);
        if backend == TableBackend::Keboola {
            return named.or_else(|| self.backends.get(&self.default?));
        }
        named
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Table>> {
        self.backends.values()
    }
}
