//! Threads: a delivery thread per partition, and the housekeeping thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::delivery_loop::{DeliveryLoop, NextStep};
use crate::error::WriteError;
use crate::partition_set::PartitionSet;
use crate::provider::ProviderHealth;
use crate::retention;

/// How often waiting writes check their deadlines.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn spawn_delivery(mut delivery_loop: DeliveryLoop) -> std::io::Result<JoinHandle<()>> {
    let thread = Builder::new().name("buffer-delivery".to_owned());
    thread.spawn(move || {
        let partition = delivery_loop.partition.clone();
        let work = AssertUnwindSafe(|| {
            loop {
                match delivery_loop.step() {
                    NextStep::Again => {}
                    NextStep::Wait(limit) => partition.wait(limit, delivery_loop.is_paused()),
                    NextStep::Finished => break,
                }
            }
        });
        if catch_unwind(work).is_err() {
            // The provider panicked. Buffered messages are on disk; direct writers get an error.
            let error = "the provider panicked; reopen the buffer";
            tracing::error!(partition = %partition.name, error);
            *partition.state.lock() = ProviderHealth::Down {
                error: error.to_owned(),
                since: partition.shared.env.elapsed(),
            };
            let mut intake = partition.intake.lock();
            if intake.direct {
                intake.closed = true;
                intake.fail_all(&WriteError::Closed);
            }
        }
    })
}

/// Handle that stops the housekeeping thread.
#[derive(Default)]
pub(crate) struct Housekeeping {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Housekeeping {
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }

    /// Waits for the next tick; `false` once stopped.
    fn tick(&self) -> bool {
        let running = |stopped: &mut bool| !*stopped;
        let mut stopped = self.stopped.lock();
        self.changed.wait_while_for(&mut stopped, running, TICK);
        !*stopped
    }
}

/// Starts the thread that drops old messages and wakes waiting writes.
pub(crate) fn spawn_housekeeping(
    housekeeping: Arc<Housekeeping>,
    partitions: Arc<PartitionSet>,
) -> std::io::Result<JoinHandle<()>> {
    let thread = Builder::new().name("buffer-timer".to_owned());
    thread.spawn(move || {
        while housekeeping.tick() {
            retention::drop_aged(&partitions);
            partitions.shared.change.notify();
        }
    })
}
