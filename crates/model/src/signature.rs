//! Signatures of webhook senders: what a source requires of a request before it accepts it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::handshake::HandshakeKind;
use crate::units::{HumanDuration, out_of_range};

/// Maximum number of secrets of a source: the present one, and those of a rotation.
pub const SIGNING_SECRETS_MAX: usize = 4;
/// Minimum length of a secret, in characters: a shorter one can be guessed.
pub const SIGNING_SECRET_MIN: usize = 8;
/// Maximum length of a secret, in characters.
pub const SIGNING_SECRET_MAX: usize = 512;
/// Maximum length of the header's name, and of the prefix of its value, in characters.
const TEXT_MAX: usize = 64;
/// Greatest difference between the time of a request and that of the server, by default.
pub const TOLERANCE_DEFAULT: HumanDuration = HumanDuration::mins(5);
const TOLERANCE_MIN: HumanDuration = HumanDuration::secs(1);
const TOLERANCE_MAX: HumanDuration = HumanDuration::hours(24);
/// Prefix of a secret of [`SignatureType::Standard`]; Base64 follows.
const STANDARD_SECRET: &str = "whsec_";

/// A secret that a webhook sender signs with. Printed as `***`; serialized for the store only.
#[derive(Clone)]
pub struct SigningSecret(SecretString);

impl SigningSecret {
    fn text(&self) -> &str {
        self.0.expose_secret()
    }

    /// Twelve hexadecimal digits that tell whether two secrets of a source are the same. They don't
    /// help to guess the secret without the source's address, which is a secret too.
    pub fn fingerprint(&self, address_secret: &str) -> String {
        let digest = Sha256::new()
            .chain_update(address_secret)
            .chain_update([0])
            .chain_update(self.text())
            .finalize();
        format!("{digest:.12x}")
    }

    /// Key of the hash; `None` if the text has not the form that the type requires.
    pub fn key(&self, of: SignatureType) -> Option<Vec<u8>> {
        if of != SignatureType::Standard {
            return Some(self.text().as_bytes().to_vec());
        }
        let text = self.text();
        let text = text.strip_prefix(STANDARD_SECRET).unwrap_or(text);
        let key = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok();
        key.filter(|key| !key.is_empty())
    }

    /// What is wrong with it, without a part of it.
    fn violation(&self, of: SignatureType) -> Option<String> {
        let text = self.text();
        let length = text.chars().count();
        if !(SIGNING_SECRET_MIN..=SIGNING_SECRET_MAX).contains(&length) {
            Some(format!(
                "has {length} characters, allowed are {SIGNING_SECRET_MIN} to {SIGNING_SECRET_MAX}"
            ))
        } else if text.trim() != text {
            Some("begins or ends with white space, which is not part of a secret".to_owned())
        } else if text.chars().any(char::is_control) {
            Some("has control characters, which are not allowed".to_owned())
        } else if self.key(of).is_none() {
            Some(format!(
                "is not Base64, as a secret of the type standard must be, with or without \"{STANDARD_SECRET}\" before it"
            ))
        } else {
            None
        }
    }
}

impl From<String> for SigningSecret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for SigningSecret {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for SigningSecret {}

impl Serialize for SigningSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for SigningSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Form of the signatures of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureType {
    /// `X-Hub-Signature-256`.
    Github,
    /// `Stripe-Signature`.
    Stripe,
    /// `X-Slack-Signature`.
    Slack,
    /// `X-Shopify-Hmac-Sha256`.
    Shopify,
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    Standard,
    /// A header of the user's choice.
    Hmac,
}

impl SignatureType {
    /// Whether requests have a time, which is signed too.
    pub fn has_time(self) -> bool {
        matches!(self, Self::Stripe | Self::Slack | Self::Standard)
    }

    /// The handshake that senders of this type begin with.
    pub fn handshake(self) -> Option<HandshakeKind> {
        (self == Self::Slack).then_some(HandshakeKind::Slack)
    }
}

/// Hash function of a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureHash {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-1, for senders that have no other: an HMAC by it is not broken, as its other uses are.
    Sha1,
}

/// Text form of a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureEncoding {
    /// Hexadecimal digits.
    #[default]
    Hex,
    /// Base64, with or without padding.
    Base64,
}

/// The header of [`SignatureType::Hmac`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureHeader {
    /// Name of the header.
    pub name: String,
    /// Hash function of the HMAC.
    pub hash: SignatureHash,
    /// Text form of the signature.
    pub encoding: SignatureEncoding,
    /// Text before the signature; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

impl SignatureHeader {
    fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if !(1..=TEXT_MAX).contains(&self.name.len()) || !self.name.chars().all(is_token) {
            violations.push(format!(
                "verify.header is \"{}\", allowed are 1 to {TEXT_MAX} characters of the name of an HTTP header",
                cut(&self.name)
            ));
        }
        let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
        let begins_with_space = self.prefix.starts_with(' ');
        if self.prefix.len() > TEXT_MAX || !self.prefix.chars().all(is_plain) || begins_with_space {
            violations.push(format!(
                "verify.prefix is \"{}\", allowed are at most {TEXT_MAX} printable ASCII characters, the first not a space",
                cut(&self.prefix)
            ));
        }
        violations
    }
}

/// The signature that a source requires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureSettings {
    /// Form of the signatures.
    pub r#type: SignatureType,
    /// A signature by any of them is right.
    pub secrets: Vec<SigningSecret>,
    /// Greatest difference between the time of a request and that of the server; only of types with
    /// a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<HumanDuration>,
    /// Only of [`SignatureType::Hmac`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<SignatureHeader>,
}

impl SignatureSettings {
    /// All violations; each names field, value and what is allowed, and no secret.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let count = self.secrets.len();
        if !(1..=SIGNING_SECRETS_MAX).contains(&count) {
            violations.push(format!(
                "verify.secrets has {count} secrets, allowed are 1 to {SIGNING_SECRETS_MAX}"
            ));
        }
        for (at, secret) in self.secrets.iter().take(SIGNING_SECRETS_MAX).enumerate() {
            if let Some(violation) = secret.violation(self.r#type) {
                violations.push(format!("verify.secrets[{at}] {violation}"));
            }
            if let Some(same) = self.secrets[..at].iter().position(|s| s == secret) {
                violations.push(format!(
                    "verify.secrets[{at}] is the same as verify.secrets[{same}], allowed is each secret once"
                ));
            }
        }
        match self.tolerance {
            Some(_) if !self.r#type.has_time() => violations.push(
                "verify.tolerance is only for the types stripe, slack and standard, whose requests have a time".to_owned(),
            ),
            Some(given) => {
                let (min, max) = (TOLERANCE_MIN, TOLERANCE_MAX);
                violations.extend(out_of_range("verify.tolerance", given, min, max));
            }
            None => {}
        }
        match (&self.header, self.r#type) {
            (Some(header), SignatureType::Hmac) => violations.extend(header.violations()),
            (None, SignatureType::Hmac) => violations.push(
                "verify.header is missing, the type hmac needs the name of the header with the signature"
                    .to_owned(),
            ),
            (Some(_), _) => violations.push(
                "verify.header, hash, encoding and prefix are only for the type hmac".to_owned(),
            ),
            (None, _) => {}
        }
        violations
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(of: SignatureType, secrets: &[&str]) -> SignatureSettings {
        SignatureSettings {
            r#type: of,
            secrets: secrets.iter().map(|s| (*s).to_owned().into()).collect(),
            tolerance: None,
            header: None,
        }
    }

    fn header(name: &str, prefix: &str) -> SignatureHeader {
        SignatureHeader {
            name: name.to_owned(),
            hash: SignatureHash::default(),
            encoding: SignatureEncoding::default(),
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn valid_settings_have_no_violations() {
        let mut all = vec![
            settings(
                SignatureType::Github,
                &["It's a Secret to Everybody", "é-é-é-é-é"],
            ),
            settings(
                SignatureType::Standard,
                &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "QUJDREVGRw=="],
            ),
        ];
        let mut own = settings(SignatureType::Hmac, &["12345678"]);
        own.header = Some(header("X-Sig", "sha256="));
        all.push(own);
        let mut stripe = settings(SignatureType::Stripe, &["whsec_12345678"]);
        stripe.tolerance = Some(TOLERANCE_MAX);
        all.push(stripe);
        for valid in all {
            assert_eq!(valid.violations(), Vec::<String>::new(), "{valid:?}");
            let stored = serde_json::to_string(&valid).unwrap();
            let read: SignatureSettings = serde_json::from_str(&stored).unwrap();
            assert_eq!(read, valid);
        }
    }

    #[test]
    fn every_violation_is_named_without_the_secret() {
        let wrong_secrets = [
            "short",
            " padded-padded",
            "tab\tinside-inside",
            "not base64!",
        ];
        let mut all = settings(SignatureType::Standard, &wrong_secrets);
        all.header = Some(header("x", ""));
        all.tolerance = Some(HumanDuration::millis(1));
        let mut violations = all.violations();
        let mut own = settings(SignatureType::Hmac, &[]);
        own.tolerance = Some(TOLERANCE_DEFAULT);
        violations.extend(own.violations());
        own.header = Some(header("a b", "é"));
        violations.extend(own.violations());
        violations.extend(settings(SignatureType::Slack, &["12345678", "12345678"]).violations());
        let said = violations.join("\n");
        for expected in [
            "verify.secrets[0] has 5 characters, allowed are 8 to 512",
            "verify.secrets[1] begins or ends with white space",
            "verify.secrets[2] has control characters",
            "verify.secrets[3] is not Base64",
            "verify.tolerance is 1ms, allowed is 1s to 24h0m0s",
            "verify.header, hash, encoding and prefix are only for the type hmac",
            "verify.secrets has 0 secrets, allowed are 1 to 4",
            "verify.tolerance is only for the types stripe, slack and standard",
            "verify.header is missing",
            "verify.header is \"a b\"",
            "verify.prefix is \"é\"",
            "verify.secrets[1] is the same as verify.secrets[0]",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        for secret in wrong_secrets.iter().chain(&["12345678"]) {
            assert!(!said.contains(secret.trim()), "{said}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let all = settings(SignatureType::Github, &["It's a Secret to Everybody"]);
        let printed = format!("{all:?} {all:#?}");
        assert!(
            printed.contains("***") && !printed.contains("Everybody"),
            "{printed}"
        );
    }

    #[test]
    fn a_fingerprint_depends_on_the_secret_and_on_the_address() {
        let secret = |text: &str| SigningSecret::from(text.to_owned());
        let print = secret("one").fingerprint("address");
        assert_eq!(print.len(), 12);
        assert_eq!(print, secret("one").fingerprint("address"));
        assert_ne!(print, secret("two").fingerprint("address"));
        assert_ne!(print, secret("one").fingerprint("other"));
    }
}
