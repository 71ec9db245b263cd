//! The signature that requests to a source must have, in a file or as arguments.

use forebay_api::source::{
    SourceVerifyEncoding, SourceVerifyHash, SourceVerifyType, SourceVerifyView, SourceView,
};
use forebay_model::signature::TOLERANCE_DEFAULT;
use forebay_model::{HumanDuration, SigningSecret};
use forebay_schema::{MASK, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::FieldDifference;
use super::column::text;
use super::diff::differences;
use crate::config::reference;

/// Names of the types of signatures.
pub(crate) const VERIFY_TYPES: [&str; 7] = [
    "none", "github", "stripe", "slack", "shopify", "standard", "hmac",
];
/// Names of the hash functions of an HMAC.
pub(crate) const VERIFY_HASHES: [&str; 3] = ["sha256", "sha512", "sha1"];
/// Names of the text forms of an HMAC.
pub(crate) const VERIFY_ENCODINGS: [&str; 2] = ["hex", "base64"];

/// The signature that requests to a source must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VerifyDefinition {
    /// Sender, and so the form of its signatures; `none` for no signature.
    #[serde(rename = "type")]
    #[schemars(with = "String", extend("enum" = VERIFY_TYPES))]
    pub(crate) kind: SourceVerifyType,
    /// Secrets that the sender signs with, 1 to 4; a signature by any of them is right. Default: those
    /// of the server, if the type is the same.
    #[serde(
        default,
        serialize_with = "references",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) secrets: Vec<SecretText>,
    /// Of types `stripe`, `slack` and `standard`: greatest difference between the time of a request and
    /// that of the server. Default: 5m.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String")]
    pub(crate) tolerance: Option<String>,
    /// Of type `hmac`: name of the header with the signature.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String")]
    pub(crate) header: Option<String>,
    /// Of type `hmac`: hash function. Default: sha256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("enum" = VERIFY_HASHES))]
    pub(crate) hash: Option<SourceVerifyHash>,
    /// Of type `hmac`: text form of the signature. Default: hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("enum" = VERIFY_ENCODINGS))]
    pub(crate) encoding: Option<SourceVerifyEncoding>,
    /// Of type `hmac`: text before the signature in the header. Default: none.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String")]
    pub(crate) prefix: Option<String>,
}

/// Writes references to secrets; a secret itself is masked.
fn references<S: Serializer>(secrets: &[SecretText], to: S) -> Result<S::Ok, S::Error> {
    let shown = secrets.iter().map(|secret| match secret.expose() {
        text if text.starts_with("${") && text.ends_with('}') => text,
        _ => MASK,
    });
    to.collect_seq(shown)
}

impl VerifyDefinition {
    /// Its form in the API.
    pub(crate) fn request(&self) -> Value {
        let mut request = json!({ "type": self.kind });
        if !self.secrets.is_empty() {
            let secrets = self.secrets.iter().map(SecretText::expose);
            request["secrets"] = secrets.collect::<Vec<_>>().into();
        }
        let fields = [
            ("tolerance", self.tolerance.as_ref().map(|t| json!(t))),
            ("header", self.header.as_ref().map(|h| json!(h))),
            ("hash", self.hash.map(|h| json!(h))),
            ("encoding", self.encoding.map(|e| json!(e))),
            ("prefix", self.prefix.as_ref().map(|p| json!(p))),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                request[name] = value;
            }
        }
        request
    }

    /// Requirement of a source on the server, without secrets.
    fn from_view(view: Option<&SourceVerifyView>) -> Self {
        Self {
            kind: view.map_or(SourceVerifyType::None, |view| view.r#type),
            secrets: Vec::new(),
            tolerance: view.and_then(|view| view.tolerance.clone()),
            header: view.and_then(|view| view.header.clone()),
            hash: view.and_then(|view| view.hash),
            encoding: view.and_then(|view| view.encoding),
            prefix: view.and_then(|view| view.prefix.clone()),
        }
    }

    /// Requirement of a source on the server, without defaults, with references to variables
    /// in place of its secrets.
    pub(super) fn exported(source: &SourceView) -> Option<Self> {
        let view = source.verify.as_ref()?;
        let count = view.secret_fingerprints.as_ref().map_or(1, Vec::len);
        let id = &source.source_id;
        let name = |number: usize| match number {
            1 => format!("{id}_verify_secret"),
            number => format!("{id}_verify_secret_{number}"),
        };
        let mut verify = Self::from_view(Some(view));
        let secrets = (1..=count).map(|number| SecretText::from(reference(&name(number))));
        verify.secrets = secrets.collect();
        let is_default = |text: &String| text.parse::<HumanDuration>() == Ok(TOLERANCE_DEFAULT);
        verify.tolerance = verify.tolerance.filter(|text| !is_default(text));
        verify.hash = verify.hash.filter(|h| *h != SourceVerifyHash::Sha256);
        verify.encoding = verify.encoding.filter(|e| *e != SourceVerifyEncoding::Hex);
        verify.prefix = verify.prefix.filter(|prefix| !prefix.is_empty());
        Some(verify)
    }

    /// The fields that differ from those of a source on the server, or of a new one.
    pub(super) fn differences(&self, source: Option<&SourceView>) -> Vec<FieldDifference> {
        let old = match source {
            Some(source) if self.matches(source) => return Vec::new(),
            Some(source) => json!({ "verify": Self::from_view(source.verify.as_ref()).settings() }),
            None => json!({}),
        };
        let new = json!({ "verify": self.settings() });
        let mut found = differences(&old, &new, &[]);
        if !source.is_some_and(|source| self.has_secrets_of(source)) && !self.secrets.is_empty() {
            let secrets = FieldDifference::new("verify.secrets", None, None);
            found.push(FieldDifference {
                is_secret: true,
                ..secrets
            });
        }
        found
    }

    /// Whether a source on the server requires the same.
    fn matches(&self, source: &SourceView) -> bool {
        let shown = Self::from_view(source.verify.as_ref());
        self.settings() == shown.settings() && self.has_secrets_of(source)
    }

    /// All but the secrets, with the defaults, in one form.
    fn settings(&self) -> Value {
        let mut complete = self.clone();
        complete.secrets.clear();
        let has_time = self.kind.signature().is_some_and(|of| of.has_time());
        let canonical = |text: String| match text.parse::<HumanDuration>() {
            Ok(duration) => duration.to_string(),
            Err(_) => text,
        };
        let default = has_time.then(|| TOLERANCE_DEFAULT.to_string());
        complete.tolerance = complete.tolerance.map(canonical).or(default);
        if self.kind == SourceVerifyType::Hmac {
            complete.hash.get_or_insert(SourceVerifyHash::Sha256);
            complete.encoding.get_or_insert(SourceVerifyEncoding::Hex);
        }
        complete.prefix = complete.prefix.filter(|prefix| !prefix.is_empty());
        complete.request()
    }

    /// Compares fingerprints, which contain the secret of the source's URL.
    fn has_secrets_of(&self, source: &SourceView) -> bool {
        if self.secrets.is_empty() {
            return true;
        }
        let url = source.http.as_ref().map(|http| http.url.as_str());
        let Some((_, address_secret)) = url.and_then(|url| url.rsplit_once('/')) else {
            return false;
        };
        let secrets = self.secrets.iter();
        let prints = secrets.map(|secret| {
            SigningSecret::from(secret.expose().to_owned()).fingerprint(address_secret)
        });
        let prints = Some(prints.collect());
        let shown = source.verify.as_ref();
        shown.is_some_and(|shown| shown.secret_fingerprints == prints)
    }
}

#[cfg(test)]
mod tests;
