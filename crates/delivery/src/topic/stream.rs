//! Appends messages to a topic's stream.

use std::sync::Arc;

use forebay_buffer::CODEC_MESSAGES_STANDALONE;
use forebay_log::StreamId;
use forebay_model::SinkKey;
use futures::FutureExt;
use parking_lot::Mutex;

use super::TopicRegistry;
use super::shared_topic::SharedTopic;
use forebay_ingest::pipeline::{
    BlockAppendError, BlockStream, BlockTicket, BlockToAppend, LocalStream,
};

/// A topic's stream, at its end. It is created with the first block.
#[derive(Debug)]
pub(super) struct TopicStream {
    topics: Arc<TopicRegistry>,
    sink: SinkKey,
    shared: Arc<SharedTopic>,
    current: Mutex<Option<(String, Arc<LocalStream>)>>,
}

impl TopicStream {
    pub(super) fn new(topics: Arc<TopicRegistry>, sink: SinkKey) -> Self {
        Self {
            shared: topics.shared_topic(&sink),
            topics,
            sink,
            current: Mutex::new(None),
        }
    }

    /// Returns the stream that accepts messages now, if it has capacity.
    fn stream(&self) -> Result<Arc<LocalStream>, BlockAppendError> {
        let log = &self.topics.deps.log;
        let mut now = self.current.lock();
        if let Some((name, stream)) = &*now {
            match log.find(name).and_then(|id| log.stats(id)) {
                Some(s) if s.closed => {}
                Some(s) => return self.topics.check_waiting(s.id).map(|()| Arc::clone(stream)),
                None => return Ok(Arc::clone(stream)),
            }
        }
        let name = self.topics.open_stream(&self.sink);
        let stream = LocalStream::with_codec(log, name.clone(), Some(CODEC_MESSAGES_STANDALONE));
        let stream = Arc::new(stream);
        *now = Some((name, Arc::clone(&stream)));
        Ok(stream)
    }
}

impl TopicRegistry {
    /// Checks that a stream has capacity for more waiting messages.
    pub(super) fn check_waiting(&self, stream: StreamId) -> Result<(), BlockAppendError> {
        let max = self.deps.config.max_bytes;
        let waiting = self.deps.log.stats(stream).map_or(0, |s| s.stored_bytes);
        if waiting < max.0 {
            return Ok(());
        }
        let text = format!("{max} of the sink wait for delivery, the maximum");
        Err(BlockAppendError::Full(text.into()))
    }
}

impl BlockStream for TopicStream {
    fn append(&self, block: BlockToAppend) -> Result<BlockTicket, BlockAppendError> {
        let ticket = self.stream()?.append(block)?;
        let shared_topic = Arc::clone(&self.shared);
        Ok(ticket.inspect(move |_| shared_topic.wake_worker()).boxed())
    }
}
