//! Services of the API that the binary implements with the data plane, which this crate does not know.

use std::sync::Arc;

use bytes::Bytes;
use forebay_api::status::{DefinitionsStatusView, VolumeStatusView};
use forebay_api::tap::TapStageName;
use forebay_connect::table::Table;
use forebay_model::{
    PathUse, Sink, SinkId, SinkKey, SourceKey, TableBackend, TopicKind, TopicStatistics,
};
use futures::stream::BoxStream;

/// Live records of this node.
pub trait TapService: Send + Sync {
    /// Opens a tap; it is closed when the stream is dropped.
    ///
    /// # Errors
    /// When a part of the request is invalid, or too many taps are open.
    fn open(&self, request: TapRequest) -> Result<TapStream, TapError>;
}

/// Lines of JSON, each with its line end.
pub type TapStream = BoxStream<'static, Bytes>;

pub type TapStage = TapStageName;

/// The records to show.
#[derive(Clone, Debug)]
pub struct TapRequest {
    pub source: SourceKey,
    pub sink: Option<SinkId>,
    pub stage: TapStage,
    /// Conditions; may be empty.
    pub filter: String,
    /// Paths of values to hide; may be empty.
    pub redact: String,
    /// Every how many records are shown.
    pub sample: u64,
    /// Ends the stream after so many records; 0 means never.
    pub limit: u64,
}

/// A tap that was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    #[error("{0}")]
    Invalid(String),
    /// As many are open as are allowed.
    #[error("{0} taps are open, which is the maximum")]
    TooMany(usize),
    /// A retry may succeed.
    #[error("{0}")]
    Unavailable(String),
}

/// The server itself.
pub trait NodeService: Send + Sync {
    /// Version of the program.
    fn version(&self) -> String;

    /// Volumes of the log.
    fn volumes(&self) -> Vec<VolumeStatusView>;

    /// Error of the metadata store.
    fn store_error(&self) -> Option<String>;

    /// Definitions that the server applies itself, if it does.
    fn definitions(&self) -> Option<DefinitionsStatusView>;
}

/// Path statistics of this node's data plane.
pub trait PathUses: Send + Sync {
    /// Failed lookups of a sink's paths; `None` if it received no record since the start of this
    /// node or the last change of its mapping.
    fn path_use(&self, sink: &SinkKey) -> Option<PathUse>;
}

/// Table backends of this node.
pub trait TableBackends: Send + Sync {
    /// The backend of a type, if configured.
    fn get(&self, backend: TableBackend) -> Option<Arc<dyn Table>>;
}

/// Topics and providers of this node.
pub trait TopicService: Send + Sync {
    /// Sorted names of the configured providers of a kind, or why this server has none.
    fn providers(&self, kind: TopicKind) -> Result<Vec<String>, String>;

    /// Names of the headers that an HTTP provider sets on each request: messages can't set them.
    fn headers(&self, provider: &str) -> Vec<String>;

    /// Message counts of a topic.
    fn statistics(&self, sink: &Sink) -> TopicStatistics;

    /// Sends the waiting messages of a topic now.
    fn retry(&self, sink: &SinkKey);
}
