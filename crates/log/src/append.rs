//! Appending blocks: admission, sequences and tickets.

use std::sync::Arc;

use crate::bytefields::to_usize;
use crate::change_future::ChangeFuture;
use crate::commit::{AppendedRange, Ticket, WriterDriver};
use crate::config::{LogConfig, SyncPolicy};
use crate::error::LogAppendError;
use crate::log::Log;
use crate::queue::{AppendQueue, NewBlock, WriteOp};
use crate::reservation::Reservation;
use crate::stream::StreamId;

impl Log {
    /// Appends a block. Returns at once; the ticket resolves when the block is on disk.
    ///
    /// # Errors
    /// [`LogAppendError::Busy`] when the queue is full: use [`Log::append_wait`] or
    /// [`Log::append_async`] to wait for space. Nothing is written in any error case.
    pub fn append(&self, block: NewBlock) -> Result<Ticket, LogAppendError> {
        self.append_with(block, None)
    }

    /// Like [`Log::append`], on reserved space.
    pub fn append_reserved(
        &self,
        block: NewBlock,
        reservation: &Reservation,
    ) -> Result<Ticket, LogAppendError> {
        self.append_with(block, Some(reservation))
    }

    fn append_with(
        &self,
        block: NewBlock,
        reservation: Option<&Reservation>,
    ) -> Result<Ticket, LogAppendError> {
        let shared = self.shared();
        validate(&block, &shared.config)?;
        // On the appender's thread: there is only one writer.
        let crc = crc32c::crc32c(&block.payload);
        let mut queue = shared.queue.lock();
        self.enqueue(&mut queue, block, crc, reservation)
    }

    /// Like [`Log::append`], but blocks the thread while the queue is full.
    pub fn append_wait(&self, block: NewBlock) -> Result<Ticket, LogAppendError> {
        let shared = self.shared();
        validate(&block, &shared.config)?;
        let crc = crc32c::crc32c(&block.payload);
        let mut queue = shared.queue.lock();
        loop {
            match self.enqueue(&mut queue, block.clone(), crc, None) {
                Err(LogAppendError::Busy) if shared.config.manual => {
                    drop(queue);
                    shared.step();
                    queue = shared.queue.lock();
                }
                Err(LogAppendError::Busy) => {
                    shared.space.wait(&mut queue);
                }
                outcome => return outcome,
            }
        }
    }

    /// Like [`Log::append`], but waits while the queue is full.
    pub async fn append_async(&self, block: NewBlock) -> Result<Ticket, LogAppendError> {
        loop {
            match self.append(block.clone()) {
                Err(LogAppendError::Busy) => self.queue_space().await,
                outcome => return outcome,
            }
        }
    }

    /// Waits until the queue has space. Another appender may be faster: try, and wait again.
    #[must_use]
    pub fn queue_space(&self) -> ChangeFuture {
        ChangeFuture::queue_space(self.shared().clone())
    }

    fn enqueue(
        &self,
        queue: &mut AppendQueue,
        block: NewBlock,
        crc: u32,
        reservation: Option<&Reservation>,
    ) -> Result<Ticket, LogAppendError> {
        queue.check()?;
        match queue.streams.get(&block.stream.0) {
            None => return Err(LogAppendError::UnknownStream),
            Some(assigned) if assigned.closed => return Err(LogAppendError::Closed),
            Some(_) => {}
        }
        let needed = disk_len(&block);
        let drawn = reservation.map_or(0, |r| r.remaining().min(needed));
        self.admit(queue, needed, drawn)?;
        if let Some(reservation) = reservation {
            reservation.draw(drawn);
            queue.space.reserved -= drawn;
        }
        self.put(queue, block, crc)
    }

    /// Checks whether `needed` bytes fit, of which `drawn` were reserved.
    fn admit(
        &self,
        queue: &mut AppendQueue,
        needed: u64,
        drawn: u64,
    ) -> Result<(), LogAppendError> {
        let shared = self.shared();
        let pending = queue.bytes + queue.writing;
        if pending > 0 && pending + to_usize(needed) > shared.config.queue_bytes {
            return Err(LogAppendError::Busy);
        }
        let max = shared.config.max_bytes;
        if queue.available(max) < needed - drawn {
            shared.refresh_free_space(queue);
            let available = queue.available(max);
            if available < needed - drawn {
                queue.space.reject(needed - drawn);
                return Err(LogAppendError::Full { needed, available });
            }
        }
        Ok(())
    }

    /// Control blocks are small and may free space: they are admitted even when no data block is.
    /// Still bounded.
    pub(crate) fn admit_control(&self, queue: &AppendQueue) -> Result<(), LogAppendError> {
        queue.check()?;
        let bound = self
            .shared()
            .config
            .queue_bytes
            .saturating_mul(2)
            .max(1 << 20);
        if queue.bytes + queue.writing > bound {
            Err(LogAppendError::Busy)
        } else {
            Ok(())
        }
    }

    fn put(
        &self,
        queue: &mut AppendQueue,
        block: NewBlock,
        crc: u32,
    ) -> Result<Ticket, LogAppendError> {
        let records = block.records;
        let first_seq = queue.assign(block.stream, records)?;
        self.declare(queue, block.stream);
        let index = queue.push(WriteOp::Data {
            first_seq,
            crc,
            block,
        });
        let appended = AppendedRange {
            first_seq,
            next_seq: first_seq + u64::from(records),
        };
        Ok(self.ticket(queue, index, appended))
    }

    /// Declares a stream whose declaration was rejected, before its next operation.
    pub(crate) fn declare(&self, queue: &mut AppendQueue, stream: StreamId) {
        if queue.declare(stream) {
            self.shared().work.notify_one();
        }
    }

    pub(crate) fn ticket(
        &self,
        queue: &AppendQueue,
        index: usize,
        appended: AppendedRange,
    ) -> Ticket {
        let shared = self.shared();
        if index == 0 {
            shared.work.notify_one();
        }
        let group = (shared.config.sync != SyncPolicy::None).then(|| queue.group.clone());
        let driver = shared
            .config
            .manual
            .then(|| shared.clone() as Arc<dyn WriterDriver>);
        Ticket::new(group, index, appended, driver)
    }
}

fn disk_len(block: &NewBlock) -> u64 {
    crate::block::block_len(block.payload.len())
}

fn validate(block: &NewBlock, config: &LogConfig) -> Result<(), LogAppendError> {
    if block.records == 0 {
        return Err(LogAppendError::Invalid("a block needs at least one record"));
    }
    if block.payload.len() > config.max_payload {
        return Err(LogAppendError::Invalid(
            "the payload of the block is larger than `max_payload`",
        ));
    }
    Ok(())
}
