//! Session: a lease that is kept alive as long as its node runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::kv::store::{LeaseId, Store, StoreError};

#[derive(Debug)]
pub struct Session {
    store: Arc<dyn Store>,
    lease: LeaseId,
    ttl: Duration,
}

impl Session {
    /// Grants a lease of `ttl`. It expires unless [`Self::keep_alive`] runs.
    pub async fn open(store: Arc<dyn Store>, ttl: Duration) -> Result<Self, StoreError> {
        let lease = store.grant(ttl).await?;
        Ok(Self { store, lease, ttl })
    }

    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Keeps the lease alive until `stop`, then revokes it with all its keys. Retries while the
    /// store is unavailable.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] if the lease has expired: other nodes regard this node as
    /// removed, so it has to stop its work under the lease and open a new session.
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
                    tracing::warn!(error = %e, "lease keep-alive failed, retrying");
                }
                Err(e) => return Err(e),
            }
        }
        self.store.revoke(self.lease).await
    }
}
