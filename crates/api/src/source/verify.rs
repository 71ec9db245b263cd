//! Signatures that the requests to a source must have.

use std::fmt;

use forebay_model::{SignatureEncoding, SignatureHash, SignatureType, SigningSecret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The signature that requests to a source must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SourceVerifyRequest)]
#[serde(rename_all = "camelCase")]
pub struct SourceVerifyRequest {
    /// Form of the signatures; `none` removes the requirement.
    pub r#type: SourceVerifyType,
    /// Secrets that the sender signs with, 1 to 4, each of 8 to 512 characters; a signature by any
    /// of them is right. Without this field the present ones stay, if the type does. They are never
    /// returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, nullable = false)]
    pub secrets: Option<Vec<SigningSecret>>,
    /// Only for types `stripe`, `slack` and `standard`: greatest difference between the time of a
    /// request and that of the server, 1s to 24h; default 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "5m")]
    pub tolerance: Option<String>,
    /// Only for type `hmac`: name of the header with the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "X-Signature")]
    pub header: Option<String>,
    /// Only for type `hmac`: hash function of the HMAC; default `sha256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hash: Option<SourceVerifyHash>,
    /// Only for type `hmac`: text form of the signature; default `hex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub encoding: Option<SourceVerifyEncoding>,
    /// Only for type `hmac`: text before the signature in the header's value; empty by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "sha256=")]
    pub prefix: Option<String>,
}

/// The signature that requests to a source must have, without its secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SourceVerify)]
#[serde(rename_all = "camelCase")]
pub struct SourceVerifyView {
    /// Form of the signatures.
    pub r#type: SourceVerifyType,
    /// Twelve hexadecimal digits for each secret, in the order of the secrets; only with an admin
    /// token. They change with the secret and with the source's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub secret_fingerprints: Option<Vec<String>>,
    /// Only for types `stripe`, `slack` and `standard`: greatest difference between the time of a
    /// request and that of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "5m0s")]
    pub tolerance: Option<String>,
    /// Only for type `hmac`: name of the header with the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub header: Option<String>,
    /// Only for type `hmac`: hash function of the HMAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hash: Option<SourceVerifyHash>,
    /// Only for type `hmac`: text form of the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub encoding: Option<SourceVerifyEncoding>,
    /// Only for type `hmac`: text before the signature in the header's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub prefix: Option<String>,
}

/// Form of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceVerifyType {
    /// No signature is needed.
    None,
    /// GitHub.
    Github,
    /// Stripe.
    Stripe,
    /// Slack; its handshake is answered too.
    Slack,
    /// Shopify.
    Shopify,
    /// Standard Webhooks, and Svix.
    Standard,
    /// An HMAC of the body in a header.
    Hmac,
}

impl SourceVerifyType {
    /// Type of signatures; `None` if no signature is needed.
    pub fn signature(self) -> Option<SignatureType> {
        match self {
            Self::None => None,
            Self::Github => Some(SignatureType::Github),
            Self::Stripe => Some(SignatureType::Stripe),
            Self::Slack => Some(SignatureType::Slack),
            Self::Shopify => Some(SignatureType::Shopify),
            Self::Standard => Some(SignatureType::Standard),
            Self::Hmac => Some(SignatureType::Hmac),
        }
    }
}

impl From<SignatureType> for SourceVerifyType {
    fn from(of: SignatureType) -> Self {
        match of {
            SignatureType::Github => Self::Github,
            SignatureType::Stripe => Self::Stripe,
            SignatureType::Slack => Self::Slack,
            SignatureType::Shopify => Self::Shopify,
            SignatureType::Standard => Self::Standard,
            SignatureType::Hmac => Self::Hmac,
        }
    }
}

impl fmt::Display for SourceVerifyType {
    /// As in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Hash function of an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceVerifyHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-1.
    Sha1,
}

impl From<SourceVerifyHash> for SignatureHash {
    fn from(hash: SourceVerifyHash) -> Self {
        match hash {
            SourceVerifyHash::Sha256 => Self::Sha256,
            SourceVerifyHash::Sha512 => Self::Sha512,
            SourceVerifyHash::Sha1 => Self::Sha1,
        }
    }
}

impl From<SignatureHash> for SourceVerifyHash {
    fn from(hash: SignatureHash) -> Self {
        match hash {
            SignatureHash::Sha256 => Self::Sha256,
            SignatureHash::Sha512 => Self::Sha512,
            SignatureHash::Sha1 => Self::Sha1,
        }
    }
}

/// Text form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceVerifyEncoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64, with or without padding.
    Base64,
}

impl From<SourceVerifyEncoding> for SignatureEncoding {
    fn from(encoding: SourceVerifyEncoding) -> Self {
        match encoding {
            SourceVerifyEncoding::Hex => Self::Hex,
            SourceVerifyEncoding::Base64 => Self::Base64,
        }
    }
}

impl From<SignatureEncoding> for SourceVerifyEncoding {
    fn from(encoding: SignatureEncoding) -> Self {
        match encoding {
            SignatureEncoding::Hex => Self::Hex,
            SignatureEncoding::Base64 => Self::Base64,
        }
    }
}
