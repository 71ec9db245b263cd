//! Limits of a listener.

use std::fmt;
use std::sync::Arc;

use crate::ListenerLimits;
use crate::client_counter::ExemptClients;
use crate::tls::ReloadableTls;

pub struct ListenerOptions {
    pub limits: ListenerLimits,
    /// The certificate; without one the listener serves plain HTTP.
    pub tls: Option<Arc<ReloadableTls>>,
    /// Clients that `max_connections_per_client` does not count.
    pub exempt: Option<ExemptClients>,
    /// Whether responses have a `Date` header.
    pub has_date: bool,
    pub metrics: ListenerMetrics,
}

impl fmt::Debug for ListenerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerOptions")
            .field("limits", &self.limits)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub struct ListenerMetrics {
    /// Open connections.
    pub connections: metrics::Gauge,
    /// Connections rejected because of a limit.
    pub rejected: metrics::Counter,
}

impl fmt::Debug for ListenerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListenerMetrics")
    }
}
