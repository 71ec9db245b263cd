//! Forms of signatures, and why one was not accepted.

use aws_lc_rs::hmac;
use forebay_model::{
    SignatureEncoding, SignatureHash, SignatureHeader, SignatureSettings, SignatureType,
};

/// Reason for which a signature is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureProblem {
    #[error("the header {0} is missing")]
    Missing(String),
    #[error("the header {0} {1}")]
    Malformed(String, &'static str),
    #[error("no secret of the source results in the signature of the header {0}")]
    Mismatch(String),
    #[error(
        "the time in the header {header} is {seconds} seconds {side} the time of the server, allowed are {allowed}"
    )]
    Expired {
        header: String,
        seconds: u64,
        side: &'static str,
        allowed: u64,
    },
}

impl SignatureProblem {
    /// Label of the metric.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Malformed(..) => "malformed",
            Self::Mismatch(_) => "mismatch",
            Self::Expired { .. } => "expired",
        }
    }
}

/// Form of the signatures that a source requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SignatureScheme {
    Github,
    Stripe,
    Slack,
    Shopify,
    Standard,
    Hmac(SignatureHeader),
}

impl SignatureScheme {
    pub(super) fn algorithm(&self) -> hmac::Algorithm {
        match self {
            Self::Hmac(header) => match header.hash {
                SignatureHash::Sha256 => hmac::HMAC_SHA256,
                SignatureHash::Sha512 => hmac::HMAC_SHA512,
                SignatureHash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            },
            _ => hmac::HMAC_SHA256,
        }
    }
}

impl From<&SignatureSettings> for SignatureScheme {
    fn from(settings: &SignatureSettings) -> Self {
        match settings.r#type {
            SignatureType::Github => Self::Github,
            SignatureType::Stripe => Self::Stripe,
            SignatureType::Slack => Self::Slack,
            SignatureType::Shopify => Self::Shopify,
            SignatureType::Standard => Self::Standard,
            // Settings without a header are not accepted by the API; an empty name matches none.
            SignatureType::Hmac => Self::Hmac(settings.header.clone().unwrap_or(SignatureHeader {
                name: String::new(),
                hash: SignatureHash::default(),
                encoding: SignatureEncoding::default(),
                prefix: String::new(),
            })),
        }
    }
}
