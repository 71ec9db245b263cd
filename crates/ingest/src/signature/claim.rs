//! What a request says about its signature, by the form of each sender. Pure functions.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use forebay_model::{SignatureEncoding, SignatureHash};
use http::HeaderMap;

use super::scheme::{SignatureProblem, SignatureScheme};

const GITHUB: &str = "X-Hub-Signature-256";
const STRIPE: &str = "Stripe-Signature";
const SLACK: &str = "X-Slack-Signature";
const SLACK_TIME: &str = "X-Slack-Request-Timestamp";
const SHOPIFY: &str = "X-Shopify-Hmac-Sha256";
/// Headers of Standard Webhooks, id, time and signature, and those of Svix, from which it comes.
const STANDARD: [[&str; 3]; 2] = [
    ["webhook-id", "webhook-timestamp", "webhook-signature"],
    ["svix-id", "svix-timestamp", "svix-signature"],
];

/// Maximum number of signatures of a request.
const SIGNATURES_MAX: usize = 16;
/// Maximum digits of a time in seconds: more is not a time.
const TIME_DIGITS_MAX: usize = 12;
/// Bytes of the longest signature, which is by SHA-512.
const SIGNATURE_BYTES_MAX: usize = 64;

/// Base64 with and without padding; each signature has one form otherwise.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The signed parts of a request, or why there is no signature.
pub(crate) type SignatureClaim = Result<SignedParts, SignatureProblem>;

/// A decoded signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SignatureBytes {
    bytes: [u8; SIGNATURE_BYTES_MAX],
    length: usize,
}

impl SignatureBytes {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Signed bytes besides the body, and the signatures, one of which has to be right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignedParts {
    /// Header of the signatures.
    pub(super) header: String,
    /// Signed before the body.
    pub(super) before_body: Vec<u8>,
    /// Time of the request in seconds, and its header.
    pub(super) sent_at: Option<(&'static str, u64)>,
    pub(super) signatures: Vec<SignatureBytes>,
}

impl SignatureScheme {
    /// Reads the signature of a request.
    pub(super) fn claim(&self, headers: &HeaderMap) -> SignatureClaim {
        match self {
            Self::Github => body_only(headers, GITHUB, "sha256=", |text| hex(text, 32)),
            Self::Shopify => body_only(headers, SHOPIFY, "", |text| base64(text, 32)),
            Self::Hmac(header) => {
                let length = match header.hash {
                    SignatureHash::Sha256 => 32,
                    SignatureHash::Sha512 => 64,
                    SignatureHash::Sha1 => 20,
                };
                body_only(headers, &header.name, &header.prefix, |text| {
                    match header.encoding {
                        // Some senders write upper-case digits.
                        SignatureEncoding::Hex => hex(&text.to_ascii_lowercase(), length),
                        SignatureEncoding::Base64 => base64(text, length),
                    }
                })
            }
            Self::Stripe => stripe(headers),
            Self::Slack => slack(headers),
            Self::Standard => standard(headers),
        }
    }
}

/// A signature of the body alone.
fn body_only(
    headers: &HeaderMap,
    name: &str,
    prefix: &str,
    decode: impl Fn(&str) -> Option<SignatureBytes>,
) -> SignatureClaim {
    let text = value(headers, name)?;
    let Some(text) = text.strip_prefix(prefix) else {
        return malformed(name, "does not begin with the prefix of the signature");
    };
    let Some(signature) = decode(text) else {
        return malformed(
            name,
            "is not a signature in the encoding and length that the type has",
        );
    };
    Ok(SignedParts {
        header: name.to_owned(),
        signatures: vec![signature],
        ..SignedParts::default()
    })
}

/// `t=<seconds>,v1=<hex>[,v1=<hex>…]`; elements with other names are ignored.
fn stripe(headers: &HeaderMap) -> SignatureClaim {
    let mut time = None;
    let mut signatures = Vec::new();
    for element in value(headers, STRIPE)?.split(',') {
        match element.trim().split_once('=') {
            Some(("t", _)) if time.is_some() => {
                return malformed(STRIPE, "has more than one element t");
            }
            Some(("t", text)) => time = Some(text),
            Some(("v1", text)) => signatures.extend(hex(text, 32)),
            _ => {}
        }
    }
    let Some((text, seconds)) = time.and_then(|text| Some((text, seconds(text)?))) else {
        return malformed(STRIPE, "has no element t with a time in seconds");
    };
    Ok(SignedParts {
        before_body: [text, "."].concat().into_bytes(),
        sent_at: Some((STRIPE, seconds)),
        signatures: bounded(STRIPE, signatures)?,
        header: STRIPE.to_owned(),
    })
}

/// `v0=<hex>`, with the time in another header.
fn slack(headers: &HeaderMap) -> SignatureClaim {
    let text = value(headers, SLACK_TIME)?;
    let Some(seconds) = seconds(text) else {
        return malformed(SLACK_TIME, "is not a time in seconds");
    };
    let signed = body_only(headers, SLACK, "v0=", |text| hex(text, 32))?;
    Ok(SignedParts {
        before_body: ["v0:", text, ":"].concat().into_bytes(),
        sent_at: Some((SLACK_TIME, seconds)),
        ..signed
    })
}

/// `v1,<base64>[ v1,<base64>…]`, with id and time in other headers; other versions are ignored.
fn standard(headers: &HeaderMap) -> SignatureClaim {
    let [standard, svix] = STANDARD;
    let is_svix = |names: [&str; 3]| names.iter().any(|name| headers.contains_key(*name));
    let names = if !is_svix(standard) && is_svix(svix) {
        svix
    } else {
        standard
    };
    let [id_name, time_name, signature_name] = names;
    let id = value(headers, id_name)?;
    // Else a part of the body could be taken for the time.
    if id.is_empty() || id.contains('.') {
        return malformed(id_name, "is empty or has a full stop");
    }
    let text = value(headers, time_name)?;
    let Some(seconds) = seconds(text) else {
        return malformed(time_name, "is not a time in seconds");
    };
    let signatures = value(headers, signature_name)?.split_ascii_whitespace();
    let signatures = signatures.filter_map(|element| match element.split_once(',') {
        Some(("v1", text)) => base64(text, 32),
        _ => None,
    });
    Ok(SignedParts {
        before_body: [id, ".", text, "."].concat().into_bytes(),
        sent_at: Some((time_name, seconds)),
        signatures: bounded(signature_name, signatures.collect())?,
        header: signature_name.to_owned(),
    })
}

fn bounded(
    name: &str,
    signatures: Vec<SignatureBytes>,
) -> Result<Vec<SignatureBytes>, SignatureProblem> {
    match signatures.len() {
        0 => malformed(name, "has no signature of the version v1"),
        n if n > SIGNATURES_MAX => malformed(name, "has more than 16 signatures"),
        _ => Ok(signatures),
    }
}

fn malformed<T>(name: &str, what: &'static str) -> Result<T, SignatureProblem> {
    Err(SignatureProblem::Malformed(name.to_owned(), what))
}

/// The only value of a header. Of several it would be unclear which one the sender wrote.
fn value<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, SignatureProblem> {
    let mut all = headers.get_all(name).iter();
    let Some(value) = all.next() else {
        return Err(SignatureProblem::Missing(name.to_owned()));
    };
    if all.next().is_some() {
        return malformed(name, "appears more than once");
    }
    match value.to_str() {
        Ok(text) => Ok(text),
        Err(_) => malformed(name, "has other characters than printable ASCII"),
    }
}

/// Seconds since 1970, in digits only.
fn seconds(text: &str) -> Option<u64> {
    let is_number =
        (1..=TIME_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Lower-case digits only, as all senders write them.
fn hex(text: &str, length: usize) -> Option<SignatureBytes> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * length || length > SIGNATURE_BYTES_MAX {
        return None;
    }
    let mut bytes = [0; SIGNATURE_BYTES_MAX];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(SignatureBytes { bytes, length })
}

fn base64(text: &str, length: usize) -> Option<SignatureBytes> {
    // Base64 decodes in groups of three bytes.
    let mut decoded = [0; SIGNATURE_BYTES_MAX + 3];
    if BASE64.decode_slice(text, &mut decoded).ok()? != length {
        return None;
    }
    let mut bytes = [0; SIGNATURE_BYTES_MAX];
    bytes
        .get_mut(..length)?
        .copy_from_slice(decoded.get(..length)?);
    Some(SignatureBytes { bytes, length })
}
