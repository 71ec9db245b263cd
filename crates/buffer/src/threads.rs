//! The threads: one for each lane, and one that keeps time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::delivery_loop::{DeliveryLoop, NextStep};
use crate::error::WriteError;
use crate::retention;
use crate::shared::BufferState;
use crate::stats::ProviderHealth;
use crate::sync::lock;

/// How often waiting writes look at their deadlines.
const TICK: Duration = Duration::from_millis(50);

/// Starts the thread of a lane.
pub(crate) fn spawn_delivery(mut delivery_loop: DeliveryLoop) -> std::io::Result<JoinHandle<()>> {
    let thread = Builder::new().name("buffer-lane".to_owned());
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
            // A provider's panic. What waits is on disk; who waits for the provider has to be told.
            let error = "the provider has panicked; open the buffer anew";
            tracing::error!(lane = %partition.name, error);
            *lock(&partition.state) = ProviderHealth::Down {
                error: error.to_owned(),
                since: partition.shared.env.elapsed(),
            };
            let mut intake = lock(&partition.intake);
            if intake.direct {
                intake.closed = true;
                intake.fail_all(&WriteError::Closed);
            }
        }
    })
}

/// Stops the thread that keeps time.
#[derive(Default)]
pub(crate) struct Housekeeping {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Housekeeping {
    pub(crate) fn stop(&self) {
        *lock(&self.stopped) = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *lock(&self.stopped)
    }

    /// Waits for the next tick; `false` at the end.
    fn tick(&self) -> bool {
        let go_on = |stopped: &mut bool| !*stopped;
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.stopped), TICK, go_on);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Starts the thread that keeps time.
pub(crate) fn spawn_housekeeping(
    housekeeping: Arc<Housekeeping>,
    shared: Arc<BufferState>,
) -> std::io::Result<JoinHandle<()>> {
    let thread = Builder::new().name("buffer-keeper".to_owned());
    thread.spawn(move || {
        while housekeeping.tick() {
            retention::drop_aged(&shared);
            shared.change.notify();
        }
    })
}
