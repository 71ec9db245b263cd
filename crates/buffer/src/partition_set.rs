//! The partitions of a buffer.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::partition::PartitionState;
use crate::shared::BufferState;

/// The partitions of a buffer, and the state that they share.
pub(crate) struct PartitionSet {
    pub(crate) shared: Arc<BufferState>,
    pub(crate) by_name: RwLock<HashMap<Arc<str>, Arc<PartitionState>>>,
}

impl PartitionSet {
    pub(crate) fn new(shared: Arc<BufferState>) -> Self {
        Self {
            shared,
            by_name: RwLock::default(),
        }
    }

    /// All partitions, sorted by name.
    pub(crate) fn all(&self) -> Vec<Arc<PartitionState>> {
        let partitions = self.by_name.read();
        let mut all: Vec<_> = partitions.values().cloned().collect();
        drop(partitions);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
