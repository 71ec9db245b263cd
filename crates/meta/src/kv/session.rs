//! A lease that is kept alive as long as its node runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::kv::store::{LeaseId, Store, StoreError};

/// A granted lease.
#[derive(Debug)]
pub struct Session {
    store: Arc<dyn Store>,
    lease: LeaseId,
    ttl: Duration,
}

impl Session {
    /// Gets a lease of `ttl`. It ends unless [`Self::keep_alive`] runs.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(store: Arc<dyn Store>, ttl: Duration) -> Result<Self, StoreError> {
        let lease = store.grant(ttl).await?;
        Ok(Self { store, lease, ttl })
    }

    /// What keys are hung on.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Keeps the lease alive until `stop`, then ends it, with all its keys. While the store is not
    /// available it goes on trying.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] when the lease has ended meanwhile: others think that this node
    /// is gone, so it has to stop what it does under the lease, and open a new session.
    pub async fn keep_alive(self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut tick = interval(self.ttl / 3);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            match self.store.keep_alive(self.lease).await {
                Ok(()) => {}
                Err(e) if e.is_retryable() => {
                    tracing::warn!(error = %e, "the lease could not be kept alive, trying again");
                }
                Err(e) => return Err(e),
            }
        }
        self.store.revoke(self.lease).await
    }
}
