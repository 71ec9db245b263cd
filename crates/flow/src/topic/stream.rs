//! The way into a topic's stream.

use std::sync::{Arc, Mutex, PoisonError};

use forebay_buffer::CODEC_MESSAGES_APART;
use forebay_log::StreamId;
use forebay_model::SinkKey;
use futures::FutureExt;

use super::Topics;
use super::outlets::Place;
use crate::pipeline::{AppendError, BlockStream, BlockTicket, BlockToAppend, LocalStream};

/// A topic's stream, at its end. It is made with the first block.
#[derive(Debug)]
pub(super) struct TopicStream {
    topics: Arc<Topics>,
    sink: SinkKey,
    place: Arc<Place>,
    now: Mutex<Option<(String, Arc<LocalStream>)>>,
}

impl TopicStream {
    pub(super) fn new(topics: Arc<Topics>, sink: SinkKey) -> Self {
        Self {
            place: topics.place(&sink),
            topics,
            sink,
            now: Mutex::new(None),
        }
    }

    /// The stream that takes messages now, if it has room.
    fn stream(&self) -> Result<Arc<LocalStream>, AppendError> {
        let log = &self.topics.deps.log;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, stream)) = &*now {
            match log.find(name).and_then(|id| log.stats(id)) {
                Some(s) if s.closed => {}
                Some(s) => return self.topics.check_waiting(s.id).map(|()| Arc::clone(stream)),
                None => return Ok(Arc::clone(stream)),
            }
        }
        let name = self.topics.open_stream(&self.sink);
        let stream = LocalStream::of(log, name.clone(), Some(CODEC_MESSAGES_APART));
        let stream = Arc::new(stream);
        *now = Some((name, Arc::clone(&stream)));
        Ok(stream)
    }
}

impl Topics {
    /// Whether a stream has room for more that waits.
    pub(super) fn check_waiting(&self, stream: StreamId) -> Result<(), AppendError> {
        let max = self.deps.config.max_bytes;
        let waiting = self.deps.log.stats(stream).map_or(0, |s| s.stored_bytes);
        if waiting < max.0 {
            return Ok(());
        }
        let text = format!("{max} of the sink wait for their delivery, the maximum");
        Err(AppendError::Full(text.into()))
    }
}

impl BlockStream for TopicStream {
    fn append(&self, block: BlockToAppend) -> Result<BlockTicket, AppendError> {
        let ticket = self.stream()?.append(block)?;
        let place = Arc::clone(&self.place);
        Ok(ticket.inspect(move |_| place.wake()).boxed())
    }
}
