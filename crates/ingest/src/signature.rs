//! Signatures of webhook senders: a verifier holds the keys of a source and checks requests.
//!
//! The check takes the same time for a right and for a wrong signature, and also without one: each
//! key hashes the whole body before anything is compared, and comparisons take constant time.

mod claim;
mod scheme;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use forebay_model::signature::TOLERANCE_DEFAULT;
use forebay_model::{ProjectId, SignatureSettings, SourceId, Timestamp};
use http::HeaderMap;
use subtle::{Choice, ConstantTimeEq};

use crate::metrics::SignatureMeters;
pub(crate) use claim::SignatureClaim;
use claim::SignedParts;
pub(crate) use scheme::SignatureProblem;
use scheme::SignatureScheme;

/// Checks the signatures of requests to a source.
pub struct SignatureVerifier {
    scheme: SignatureScheme,
    /// One for each secret; without any every request is rejected.
    keys: Vec<hmac::Key>,
    tolerance: Duration,
    meters: SignatureMeters,
}

impl fmt::Debug for SignatureVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureVerifier")
            .field("scheme", &self.scheme)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl SignatureVerifier {
    /// Prepares the keys of a source.
    pub fn new(project: ProjectId, source: &SourceId, settings: &SignatureSettings) -> Arc<Self> {
        let scheme = SignatureScheme::from(settings);
        let algorithm = scheme.algorithm();
        let keys = settings.secrets.iter();
        let keys = keys.filter_map(|secret| secret.key(settings.r#type));
        Arc::new(Self {
            keys: keys.map(|key| hmac::Key::new(algorithm, &key)).collect(),
            scheme,
            tolerance: settings.tolerance.unwrap_or(TOLERANCE_DEFAULT).0,
            meters: SignatureMeters::new(project, source),
        })
    }

    /// Number of times that the body is hashed.
    pub(crate) fn passes(&self) -> usize {
        self.keys.len()
    }

    /// Reads the signature of a request.
    pub(crate) fn claim(&self, headers: &HeaderMap) -> SignatureClaim {
        self.scheme.claim(headers)
    }

    /// Checks a signature against the body as sent.
    pub(crate) fn check(
        &self,
        claim: SignatureClaim,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureProblem> {
        let nothing = SignedParts::default();
        let is_signed = self.is_signed(claim.as_ref().unwrap_or(&nothing), body);
        let checked = claim.and_then(|signed| {
            if !is_signed {
                return Err(SignatureProblem::Mismatch(signed.header));
            }
            // Only now: a stranger learns nothing about the clock.
            match &signed.sent_at {
                Some((header, seconds)) => self.check_time(header, *seconds, now),
                None => Ok(()),
            }
        });
        if let Err(problem) = &checked {
            self.meters.rejected(problem.cause());
        }
        checked
    }

    /// Whether one of the signatures is that of one of the keys.
    fn is_signed(&self, signed: &SignedParts, body: &[u8]) -> bool {
        let mut found = Choice::from(0);
        for key in &self.keys {
            let mut hash = hmac::Context::with_key(key);
            hash.update(&signed.before_body);
            hash.update(body);
            let expected = hash.sign();
            for signature in &signed.signatures {
                found |= expected.as_ref().ct_eq(signature.as_bytes());
            }
        }
        found.into()
    }

    fn check_time(&self, header: &str, sent: u64, now: Timestamp) -> Result<(), SignatureProblem> {
        let now = u64::try_from(now.as_millis() / 1000).unwrap_or_default();
        let difference = Duration::from_secs(sent.abs_diff(now));
        if difference <= self.tolerance {
            return Ok(());
        }
        Err(SignatureProblem::Expired {
            header: header.to_owned(),
            seconds: difference.as_secs(),
            side: if sent > now { "after" } else { "before" },
            allowed: self.tolerance.as_secs(),
        })
    }
}

#[cfg(test)]
mod tests;
