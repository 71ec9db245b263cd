//! View of the metadata store that the reconciler applies.

use std::collections::HashMap;
use std::sync::Arc;

use forebay_meta::{Revision, Snapshot};
use forebay_model::quota::QuotaOverrides;
use forebay_model::{File, ProjectId, Sink, Slice, SliceState, Source};

/// View of the store at one moment.
pub(super) struct StoreSnapshot {
    pub(super) sources: Arc<Snapshot<Source>>,
    pub(super) sinks: Arc<Snapshot<Sink>>,
    pub(super) files: Arc<Snapshot<File>>,
    pub(super) slices: Arc<Snapshot<Slice>>,
    pub(super) quotas: Arc<Snapshot<QuotaOverrides>>,
}

impl StoreSnapshot {
    /// Revision of the last change that is wholly visible. The other parts may be ahead of the
    /// slices: a rotation's change of a file may be visible while its change of the slice is not.
    pub(super) fn changed_at(&self) -> Revision {
        let changes = [
            self.sources.changed_at,
            self.sinks.changed_at,
            self.files.changed_at,
            self.slices.changed_at,
            self.quotas.changed_at,
        ];
        let last = changes.into_iter().max().unwrap_or_default();
        last.min(self.slices.revision)
    }
}

/// Staged bytes by project.
pub(super) fn staged(view: &StoreSnapshot) -> HashMap<ProjectId, u64> {
    let mut bytes = HashMap::new();
    for slice in view.slices.entries.values() {
        if slice.state == SliceState::Uploaded {
            let project = slice.key.file.sink.source.branch.project;
            *bytes.entry(project).or_default() += slice.staging_bytes;
        }
    }
    bytes
}
