//! [`Log`]: the public handle of a volume.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::catalog::{ControlBlock, MAX_NAME, SequenceRange};
use crate::change_future::ChangeFuture;
use crate::commit::{AppendedRange, Ticket};
use crate::config::LogConfig;
use crate::env::Env;
use crate::error::{CommitError, LatchedFailure, LogAppendError, LogOpenError, LogReadError};
use crate::open;
use crate::queue::{AppendQueue, WriteOp, WriterState};
use crate::read::{BlockReader, OnLost};
use crate::reservation::Reservation;
use crate::shared::SharedVolume;
use crate::stats::{RecoveryReport, SegmentStats, StreamStats, VolumeStats};
use crate::stream::StreamId;
use crate::table::CommittedStream;

/// A durable log: many streams of blocks in one directory. Cheap to clone.
///
/// Dropping the last handle writes all queued blocks and stops the log's threads.
#[derive(Clone)]
pub struct Log {
    inner: Arc<LogInner>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.inner.shared.dir())
            .finish_non_exhaustive()
    }
}

struct LogInner {
    shared: Arc<SharedVolume>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Log {
    /// Opens a directory, and creates it if it doesn't exist.
    ///
    /// Damaged content is no error: the report lists what was lost.
    ///
    /// # Errors
    /// [`LogOpenError`]: locked, newer version, not writable, invalid settings.
    pub fn open(
        env: Arc<dyn Env>,
        dir: &Path,
        config: LogConfig,
    ) -> Result<(Self, RecoveryReport), LogOpenError> {
        let (shared, report) = open::open(env, dir, config)?;
        let shared = Arc::new(shared);
        let mut threads = Vec::new();
        if !shared.config.manual {
            let failed = |source| LogOpenError::Io {
                path: dir.to_owned(),
                source,
            };
            let writer = shared.clone();
            let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
            threads.push(
                named("log-writer")
                    .spawn(move || writer.run())
                    .map_err(failed)?,
            );
            let preallocator = shared.clone();
            let run_preallocator = move || {
                preallocator
                    .segment_pool
                    .run(&preallocator.data_space(), preallocator.config.segment_size)
            };
            threads.push(
                named("log-preallocate")
                    .spawn(run_preallocator)
                    .map_err(failed)?,
            );
        }
        let inner = LogInner {
            shared,
            threads: Mutex::new(threads),
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            report,
        ))
    }

    pub(crate) fn shared(&self) -> &Arc<SharedVolume> {
        &self.inner.shared
    }

    /// Returns the stream with this name, and creates it if it doesn't exist. The declaration is on
    /// disk no later than the stream's first block. A stream whose declaration was rejected (a full
    /// volume) stays known, empty, until the log is closed, and is declared again with its next
    /// operation: its id stays valid.
    pub fn stream(&self, name: &str) -> Result<StreamId, LogAppendError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(LogAppendError::Invalid(
                "the name of a stream must have 1 to 512 bytes",
            ));
        }
        let shared = self.shared();
        let mut queue = shared.queue.lock();
        if let Some(&id) = queue.names.get(name) {
            return Ok(StreamId(id));
        }
        self.admit_control(&queue)?;
        if queue.streams.len() >= shared.config.max_streams {
            return Err(LogAppendError::TooManyStreams(shared.config.max_streams));
        }
        let id = queue.next_stream;
        queue.next_stream += 1;
        let name: Arc<str> = Arc::from(name);
        let assigned = crate::queue::AssignedStream {
            name: name.clone(),
            next_seq: 0,
            closed: false,
            declared: true,
        };
        queue.names.insert(name.clone(), id);
        queue.streams.insert(id, assigned);
        queue.push(WriteOp::Control(ControlBlock::Declare { stream: id, name }));
        shared.work.notify_one();
        Ok(StreamId(id))
    }

    /// The stream with this name, if it exists.
    pub fn find(&self, name: &str) -> Option<StreamId> {
        self.shared()
            .queue
            .lock()
            .names
            .get(name)
            .map(|&id| StreamId(id))
    }

    fn append_control(
        &self,
        id: StreamId,
        control: impl FnOnce(&mut AppendQueue) -> ControlBlock,
    ) -> Result<Ticket, LogAppendError> {
        let mut queue = self.shared().queue.lock();
        self.admit_control(&queue)?;
        let next_seq = queue
            .streams
            .get(&id.0)
            .ok_or(LogAppendError::UnknownStream)?
            .next_seq;
        self.declare(&mut queue, id);
        let control = control(&mut queue);
        let index = queue.push(WriteOp::Control(control));
        Ok(self.ticket(
            &queue,
            index,
            AppendedRange {
                first_seq: next_seq,
                next_seq,
            },
        ))
    }

    /// Closes a stream for good: it rejects all further appends. When the ticket resolves, this is
    /// on disk, together with all blocks appended before; its `next_seq` is the stream's final one.
    /// Closing a closed stream is fine.
    pub fn close_stream(&self, id: StreamId) -> Result<Ticket, LogAppendError> {
        self.append_control(id, |queue| {
            if let Some(assigned) = queue.streams.get_mut(&id.0) {
                assigned.closed = true;
            }
            ControlBlock::Close { stream: id.0 }
        })
    }

    /// Frees the records below `up_to`. A block that begins below and ends above stays readable as
    /// a whole.
    pub fn trim(&self, id: StreamId, up_to: u64) -> Result<Ticket, LogAppendError> {
        self.append_control(id, |queue| {
            let next_seq = queue.streams.get(&id.0).map_or(0, |s| s.next_seq);
            ControlBlock::Trim {
                stream: id.0,
                up_to: up_to.min(next_seq),
                lost_before: 0,
            }
        })
    }

    /// Reports that a stream has accepted records up to `end`, according to another store: those
    /// that the log does not have are recorded as lost, and their sequences are not assigned again.
    /// Does nothing if the log has as many.
    pub fn report_lost(&self, id: StreamId, end: u64) -> Result<Ticket, LogAppendError> {
        self.append_control(id, |queue| {
            let mut range = SequenceRange { first: end, end };
            if let Some(assigned) = queue.streams.get_mut(&id.0) {
                range.first = assigned.next_seq;
                range.end = end.max(assigned.next_seq);
                assigned.next_seq = range.end;
            }
            ControlBlock::Lost {
                stream: id.0,
                range,
            }
        })
    }

    /// Deletes a stream and frees its blocks. Its number is not reused; its name may be.
    pub fn delete_stream(&self, id: StreamId) -> Result<Ticket, LogAppendError> {
        self.append_control(id, |queue| {
            if let Some(assigned) = queue.streams.remove(&id.0)
                && queue.names.get(&assigned.name) == Some(&id.0)
            {
                queue.names.remove(&assigned.name);
            }
            ControlBlock::Delete { stream: id.0 }
        })
    }

    /// Reads a stream from the block that holds `from`, or the first one after it. Only committed
    /// blocks are visible.
    pub fn reader(&self, id: StreamId, from: u64) -> Result<BlockReader, LogReadError> {
        let shared = self.shared().clone();
        let on_lost: OnLost = Arc::new(move |stream, range| record_loss(&shared, stream, range));
        if self.committed(id).is_none() {
            return Err(LogReadError::UnknownStream);
        }
        Ok(BlockReader::new(
            self.shared().committed.clone(),
            id.0,
            from,
            Some(on_lost),
        ))
    }

    /// The sequence up to which a stream is committed.
    pub fn committed(&self, id: StreamId) -> Option<u64> {
        let committed = self
            .shared()
            .committed
            .read()
            .streams
            .get(&id.0)
            .map(|s| s.state.next_seq);
        committed.or_else(|| self.declared(id).map(|_| 0))
    }

    /// The name of a declared stream, which may not be committed yet.
    fn declared(&self, id: StreamId) -> Option<Arc<str>> {
        self.shared()
            .queue
            .lock()
            .streams
            .get(&id.0)
            .map(|assigned| assigned.name.clone())
    }

    /// Waits for the next commit of any stream. Create it before checking [`Log::committed`] or
    /// reading to the end, and await it after: then no commit is missed.
    #[must_use]
    pub fn changed(&self) -> ChangeFuture {
        ChangeFuture::commit(self.shared().clone())
    }

    /// Statistics of a stream.
    pub fn stats(&self, id: StreamId) -> Option<StreamStats> {
        let committed = self
            .shared()
            .committed
            .read()
            .streams
            .get(&id.0)
            .map(StreamStats::from_stream);
        committed.or_else(|| {
            Some(StreamStats::from_stream(&CommittedStream::empty(
                id.0,
                self.declared(id)?,
            )))
        })
    }

    /// Statistics of all committed streams, by number.
    pub fn streams(&self) -> Vec<StreamStats> {
        let table = self.shared().committed.read();
        let mut all: Vec<_> = table
            .streams
            .values()
            .map(StreamStats::from_stream)
            .collect();
        all.sort_by_key(|s| s.id);
        all
    }

    /// Statistics of the volume.
    pub fn volume_stats(&self) -> VolumeStats {
        self.shared().volume_stats()
    }

    /// Statistics of the segment files.
    pub fn segments(&self) -> Vec<SegmentStats> {
        self.shared().committed.read().segment_stats()
    }

    /// Reserves bytes for the lifetime of the reservation.
    ///
    /// # Errors
    /// [`LogAppendError::Full`] when fewer are available.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, LogAppendError> {
        let shared = self.shared();
        let mut queue = shared.queue.lock();
        queue.check()?;
        shared.refresh_free_space(&mut queue);
        let available = queue.available(shared.config.max_bytes);
        if available < bytes {
            return Err(LogAppendError::Full {
                needed: bytes,
                available,
            });
        }
        queue.space.reserved += bytes;
        Ok(Reservation::new(shared.clone(), bytes))
    }

    /// Whether the volume accepts data; the error is the failure that latched it.
    pub fn health(&self) -> Result<(), LatchedFailure> {
        match &self.shared().queue.lock().writer_state {
            WriterState::Latched(latched) => Err(latched.clone()),
            WriterState::Running | WriterState::Shutdown => Ok(()),
        }
    }

    /// Commits queued operations on this thread, for `LogConfig::manual`; `false` when there were
    /// none.
    pub fn step(&self) -> bool {
        self.shared().step()
    }

    /// Commits queued operations, seals the open segment, stops the threads and releases the lock.
    /// Appends are rejected from now on; reads continue.
    pub fn shutdown(&self) {
        self.inner.shutdown();
    }
}

impl LogInner {
    fn shutdown(&self) {
        let shared = &self.shared;
        let mut queue = shared.queue.lock();
        if queue.writer_state == WriterState::Running {
            queue.writer_state = WriterState::Shutdown;
        }
        drop(queue);
        shared.work.notify_all();
        shared.space.notify_all();
        shared.segment_pool.stop();
        let this = std::thread::current().id();
        let mut by_writer = false;
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A waker that the writer calls may hold the last handle; the writer can't wait for itself.
            if thread.thread().id() == this {
                by_writer = true;
                continue;
            }
            // A panic of the writer is latched already.
            drop(thread.join());
        }
        if by_writer {
            shared.is_orphaned.store(true, Ordering::Relaxed);
        } else {
            shared.finish();
        }
    }
}

impl Drop for LogInner {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl SharedVolume {
    /// Commits queued operations, seals the open segment, releases the lock.
    pub(crate) fn finish(&self) {
        while self.step() {}
        let waiting = self.queue.lock().take().1;
        waiting.fail(CommitError::Shutdown);
        let mut writer = self.writer.lock();
        if self.queue.lock().writer_state == WriterState::Shutdown && writer.rotate(self).is_err() {
            // The blocks are on disk; without an index the next opening takes a little longer.
            writer.active = None;
        }
        drop(writer);
        *self.lock.lock() = None;
        for waker in std::mem::take(&mut *self.watchers.lock()) {
            waker.wake();
        }
    }
}

/// Records a loss, so that it is known after a restart.
fn record_loss(shared: &SharedVolume, stream: u64, range: SequenceRange) {
    let mut queue = shared.queue.lock();
    if queue.check().is_ok() {
        let index = queue.push(WriteOp::Control(ControlBlock::Lost { stream, range }));
        if index == 0 {
            shared.work.notify_one();
        }
    }
}
