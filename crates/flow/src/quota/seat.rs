//! Whose a connection is. Before its first request it is nobody's, afterwards its last request's
//! project's.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::Held;
use super::gate::{Over, SourceGate};

/// A connection's place among those of a project; given back when the connection ends.
#[derive(Debug, Default)]
pub struct Seat {
    of: Mutex<Option<Arc<Held>>>,
    /// Requests over a quota since the last one that was not.
    refused: AtomicU32,
}

impl Seat {
    /// Counts the connection as one of the gate's project, unless that has too many.
    pub(crate) fn take(&self, gate: &SourceGate) -> Result<(), Over> {
        let project = &gate.project;
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &project.held)) {
            return Ok(());
        }
        let max = project.connections;
        let more = |n: u64| (max == 0 || n < max).then_some(n + 1);
        if (project
            .held
            .connections
            .fetch_update(Relaxed, Relaxed, more))
        .is_err()
        {
            return Err(gate.too_many_connections());
        }
        if let Some(before) = of.replace(Arc::clone(&project.held)) {
            before.connections.fetch_sub(1, Relaxed);
        }
        Ok(())
    }

    /// A request was let through.
    pub(crate) fn passed(&self) {
        if self.refused.load(Relaxed) > 0 {
            self.refused.store(0, Relaxed);
        }
    }

    /// A request was refused. Whether the one before was as well.
    pub(crate) fn refused_again(&self) -> bool {
        self.refused.fetch_add(1, Relaxed) > 0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let of = self.of.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = of.take() {
            of.connections.fetch_sub(1, Relaxed);
        }
    }
}
