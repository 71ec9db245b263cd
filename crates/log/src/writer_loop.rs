//! The loop of the writer's thread: waits for operations, commits them and reports the outcome.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::commit::{CommitGroup, WriterDriver};
use crate::error::CommitError;
use crate::io_failure::WriteFailure;
use crate::queue::WriterState;
use crate::shared::SharedVolume;

impl SharedVolume {
    /// The writer's thread.
    pub(crate) fn run(&self) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work_loop()));
        if outcome.is_err() {
            // Otherwise every waiter for a ticket would wait forever.
            self.latch(
                "an internal error",
                "the writer panicked; please report this",
            );
        }
        if self.is_orphaned.load(Ordering::Relaxed) {
            self.finish();
        }
    }

    fn work_loop(&self) {
        loop {
            let mut queue = self.queue.lock();
            while queue.ops.is_empty() && queue.writer_state == WriterState::Running {
                self.work.wait(&mut queue);
            }
            if queue.ops.is_empty() {
                return;
            }
            drop(queue);
            self.wait_sync_interval();
            self.step();
        }
    }

    /// Waits until the next sync may start.
    fn wait_sync_interval(&self) {
        let interval = self.config.sync_interval;
        if interval.is_zero() {
            return;
        }
        let last = self.writer.lock().last_sync;
        let mut queue = self.queue.lock();
        while queue.writer_state == WriterState::Running {
            let remaining = (last + interval).saturating_sub(self.env.elapsed());
            if remaining.is_zero() {
                return;
            }
            // The interval is measured by the environment's clock, the condition variable by the
            // real one.
            let step = remaining.min(Duration::from_millis(10));
            self.work.wait_for(&mut queue, step);
        }
    }

    /// Commits queued operations. `false` when there were none.
    pub(crate) fn step(&self) -> bool {
        let mut writer = self.writer.lock();
        let (ops, group) = self.queue.lock().take();
        if ops.is_empty() {
            return false;
        }
        match writer.commit(self, &ops, &group) {
            Ok(()) => {}
            Err(WriteFailure::Full) => self.reject_batch(&group, &CommitError::Full),
            Err(WriteFailure::Scarce { path, source }) => {
                let cause = format!("{}: {source}", path.display());
                self.reject_batch(&group, &CommitError::Scarce(cause.into()));
            }
            Err(WriteFailure::Io {
                during,
                path,
                source,
            }) => {
                let cause = format!("{}: {source}", path.display());
                let latched = self.latch(during, &cause);
                group.fail(CommitError::MayHaveHappened(latched));
            }
        }
        self.release_queue_space();
        writer.reclaim(self);
        true
    }

    /// Rejects all queued operations because the volume is full or a resource is scarce. Their
    /// sequences are unassigned, so no gap remains.
    fn reject_batch(&self, group: &CommitGroup, error: &CommitError) {
        let table = self.committed.read();
        let mut queue = self.queue.lock();
        let needed = (queue.writing + queue.bytes) as u64;
        let (_, waiting) = queue.take();
        queue.reset(&table);
        // Make the next append ask the file system again.
        queue.space.free = 0;
        queue.space.reject(needed);
        drop(queue);
        drop(table);
        group.fail(error.clone());
        waiting.fail(error.clone());
    }
}

impl WriterDriver for SharedVolume {
    fn drive(&self) -> bool {
        self.step()
    }
}
