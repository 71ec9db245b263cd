//! The signature that requests to a source must have, in a file or as arguments.

use forebay_api::source::{
    SourceVerifyEncoding, SourceVerifyHash, SourceVerifyType, SourceVerifyView, SourceView,
};
use forebay_model::signature::TOLERANCE_DEFAULT;
use forebay_model::{HumanDuration, SigningSecret};
use forebay_schema::SecretText;
use serde::Deserialize;
use serde_json::{Value, json};

use super::column::text;
use crate::config::{Environment, substitute};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VerifyDefinition {
    /// `none` for no signature.
    #[serde(rename = "type")]
    pub(crate) kind: SourceVerifyType,
    /// Default: those of the server.
    #[serde(default)]
    pub(crate) secrets: Vec<SecretText>,
    #[serde(default, deserialize_with = "text")]
    pub(crate) tolerance: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(crate) header: Option<String>,
    #[serde(default)]
    pub(crate) hash: Option<SourceVerifyHash>,
    #[serde(default)]
    pub(crate) encoding: Option<SourceVerifyEncoding>,
    #[serde(default, deserialize_with = "text")]
    pub(crate) prefix: Option<String>,
}

impl VerifyDefinition {
    /// Replaces `${NAME}` and `${file:/path}` in secrets.
    pub(super) fn substitute(&mut self, env: &Environment) -> Result<(), String> {
        for (at, secret) in self.secrets.iter_mut().enumerate() {
            let replaced = substitute(secret.expose(), env);
            let replaced = replaced.map_err(|e| format!("verify.secrets[{at}]: {e}"))?;
            if let Some(text) = replaced {
                *secret = SecretText::from(text);
            }
        }
        Ok(())
    }

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

    /// Whether a source on the server requires the same.
    pub(super) fn matches(&self, source: &SourceView) -> bool {
        let Some(shown) = &source.verify else {
            return self.kind == SourceVerifyType::None;
        };
        self.kind == shown.r#type
            && self.has_settings_of(shown)
            && self.has_secrets_of(source, shown)
    }

    fn has_settings_of(&self, shown: &SourceVerifyView) -> bool {
        let duration = |text: Option<&str>| match text {
            Some(text) => text.parse::<HumanDuration>().ok(),
            None => Some(TOLERANCE_DEFAULT),
        };
        let is_hmac = self.kind == SourceVerifyType::Hmac;
        let hash = self.hash.or(is_hmac.then_some(SourceVerifyHash::Sha256));
        let encoding = self
            .encoding
            .or(is_hmac.then_some(SourceVerifyEncoding::Hex));
        duration(self.tolerance.as_deref()) == duration(shown.tolerance.as_deref())
            && self.header == shown.header
            && hash == shown.hash
            && encoding == shown.encoding
            && self.prefix.as_deref().unwrap_or_default()
                == shown.prefix.as_deref().unwrap_or_default()
    }

    /// Compares fingerprints, which contain the secret of the source's URL.
    fn has_secrets_of(&self, source: &SourceView, shown: &SourceVerifyView) -> bool {
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
        shown.secret_fingerprints == Some(prints.collect())
    }
}
