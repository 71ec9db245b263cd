//! Path statistics of mappings on this node, for the management API.

use std::sync::Arc;

use forebay_control::api::PathUses;
use forebay_ingest::dispatch::Dispatcher;
use forebay_model::{PathUse, SinkKey};

/// The mappings of this node's records.
pub(crate) struct NodePathUses(pub(crate) Arc<Dispatcher>);

impl PathUses for NodePathUses {
    fn path_use(&self, sink: &SinkKey) -> Option<PathUse> {
        let pipeline = self.0.table().sink(sink)?.pipeline()?;
        Some(pipeline.mapping().path_use())
    }
}
