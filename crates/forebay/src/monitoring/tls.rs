//! Metrics of certificates.

use std::sync::Arc;

use forebay_listener::ReloadableTls;
use forebay_model::{MetricDefinition, MetricFamily};

/// Certificates of the listeners, by configuration section.
pub(crate) type ListenerTls = Vec<(&'static str, Arc<ReloadableTls>)>;

const EXPIRY: MetricDefinition = MetricDefinition::gauge(
    "forebay_tls_certificate_expiry_timestamp_seconds",
    "When the first certificate of a listener's chain expires, in seconds since 1970-01-01T00:00:00Z.",
)
.labels(&["section"]);

pub(super) const DEFINITIONS: [MetricDefinition; 1] = [EXPIRY];

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
pub(super) fn expiry(tls: &ListenerTls) -> MetricFamily {
    let mut family = MetricFamily::new(&EXPIRY);
    for (section, tls) in tls {
        if let Some(at) = tls.expires_at() {
            family.push(&[section], at as f64);
        }
    }
    family
}
