//! A buffer that is open: its partitions and the threads that deliver them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_log::{LogAppendError, RecoveryReport};
use parking_lot::Mutex;

use crate::delivery_loop::{DeliveryLoop, NextStep};
use crate::error::WriteError;
use crate::partition::PartitionState;
use crate::partition_set::PartitionSet;
use crate::retention;
use crate::shared::{BufferState, PARTITION_PREFIX};
use crate::threads::{self, Housekeeping};

/// State that the handles of a buffer share. Closed when the last of them is dropped.
pub(crate) struct OpenBuffer {
    pub(crate) shared: Arc<BufferState>,
    pub(crate) partitions: Arc<PartitionSet>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) housekeeping: Arc<Housekeeping>,
    /// Delivery loops that [`OpenBuffer::step`] runs when there are no threads.
    pub(crate) manual: Mutex<Vec<DeliveryLoop>>,
    pub(crate) recovery: RecoveryReport,
}

impl OpenBuffer {
    /// The partition of this name, opened if it is not.
    pub(crate) fn partition_named(
        &self,
        name: &Arc<str>,
    ) -> Result<Arc<PartitionState>, WriteError> {
        let shared = &self.shared;
        let partitions = self.partitions.by_name.read();
        if let Some(partition) = partitions.get(name) {
            return Ok(partition.clone());
        }
        drop(partitions);
        let mut partitions = self.partitions.by_name.write();
        if let Some(partition) = partitions.get(name) {
            return Ok(partition.clone());
        }
        if self.housekeeping.is_stopped() {
            return Err(WriteError::Closed);
        }
        if partitions.len() >= shared.config.max_partitions {
            return Err(WriteError::Invalid {
                field: "topic",
                value: format!("{name:?}"),
                allowed: format!(
                    "at most {} partitions (`max_partitions`); put topics into groups",
                    partitions.len()
                ),
            });
        }
        let stream = shared.log.stream(&format!("{PARTITION_PREFIX}{name}"));
        let stream = stream.map_err(|e| match e {
            LogAppendError::Shutdown => WriteError::Closed,
            other => WriteError::Disk(other.to_string()),
        })?;
        let partition = Arc::new(PartitionState::new(shared.clone(), name.clone(), stream));
        let delivery_loop = DeliveryLoop::new(partition.clone());
        if shared.config.manual {
            self.manual.lock().push(delivery_loop);
        } else {
            let thread = threads::spawn_delivery(delivery_loop)
                .map_err(|e| WriteError::Scarce(format!("can't start a thread: {e}")))?;
            self.threads.lock().push(thread);
        }
        partitions.insert(name.clone(), partition.clone());
        Ok(partition)
    }

    /// Runs all due work on this thread. Returns the time until the next work is due, unless a write
    /// or an ack comes earlier.
    pub(crate) fn step(&self) -> Duration {
        let shared = &self.shared;
        while shared.log.step() {}
        retention::drop_aged(&self.partitions);
        let mut max_wait = Duration::from_secs(60);
        for delivery_loop in self.manual.lock().iter_mut() {
            loop {
                match delivery_loop.step() {
                    NextStep::Again => {}
                    NextStep::Wait(left) => {
                        max_wait = max_wait.min(left);
                        break;
                    }
                    NextStep::Finished => break,
                }
            }
        }
        shared.change.notify();
        max_wait
    }

    pub(crate) fn shutdown(&self) {
        self.housekeeping.stop();
        let partitions = self.partitions.all();
        for partition in &partitions {
            partition.intake.lock().closed = true;
            partition.stop();
        }
        for mut delivery_loop in std::mem::take(&mut *self.manual.lock()) {
            while delivery_loop.step() != NextStep::Finished {}
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A provider may hold the last handle, so that one of our threads drops it.
            if thread.thread().id() != std::thread::current().id() {
                // A panic was reported when it happened.
                drop(thread.join());
            }
        }
        self.shared.log.shutdown();
        self.shared.listeners.close();
        self.shared.change.notify();
        // Otherwise a handle of the closed buffer would still give out topics.
        self.partitions.by_name.write().clear();
    }
}

impl Drop for OpenBuffer {
    fn drop(&mut self) {
        self.shutdown();
    }
}
