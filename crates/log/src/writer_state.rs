//! State that only the writer touches.

use std::sync::Arc;
use std::time::Duration;

use crate::active_segment::ActiveSegment;
use crate::env::EnvFile;

/// The open segment of a volume, and the next one.
pub(crate) struct LogWriter {
    pub(crate) active: Option<ActiveSegment>,
    pub(crate) last_segment: u64,
    pub(crate) last_sync: Duration,
    /// The file of the next segment, already renamed, after a later step failed for lack of a
    /// resource. The next attempt continues with it.
    pub(crate) prepared: Option<PreparedSegment>,
}

/// A segment file without content.
pub(crate) struct PreparedSegment {
    pub(crate) file: Arc<dyn EnvFile>,
    pub(crate) allocated: u64,
}

impl LogWriter {
    pub(crate) fn new(last_segment: u64) -> Self {
        Self {
            active: None,
            last_segment,
            last_sync: Duration::ZERO,
            prepared: None,
        }
    }
}
