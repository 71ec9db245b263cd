//! What the management API asks of the paths of mappings, answered by the data plane of this node.

use std::sync::Arc;

use forebay_control::api::PathUses;
use forebay_flow::dispatch::Dispatcher;
use forebay_model::{PathUse, SinkKey};

/// The mappings that this node's records go through.
pub(crate) struct NodePathUses(pub(crate) Arc<Dispatcher>);

impl PathUses for NodePathUses {
    fn path_use(&self, sink: &SinkKey) -> Option<PathUse> {
        let pipeline = self.0.table().sink(sink)?.pipeline()?;
        Some(pipeline.mapping().path_use())
    }
}
