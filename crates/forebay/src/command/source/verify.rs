//! `forebay source verify`.

use std::path::{Path, PathBuf};

use forebay_api::source::{SourceVerifyView, SourceView};
use forebay_schema::SecretText;
use reqwest::Method;
use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde_json::json;

use super::super::common::ServerArgs;
use crate::api_client::{ApiClient, SOURCES, encoded};
use crate::cli_error::CliError;
use crate::definitions::{VERIFY_ENCODINGS, VERIFY_HASHES, VERIFY_TYPES, VerifyDefinition};
use crate::terminal;

/// Largest file of secrets.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Requires a signature of each request to a source.
///
/// Requests without a right signature are rejected with 401, from now on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file has one secret per line; a signature by any of them is right, so that a secret can be
replaced without rejecting requests. Without --secrets the present ones stay, if the type does.

Examples:
  forebay source verify my-events github --secrets /run/secrets/github
  printf '%s\\n' \"$NEW\" \"$OLD\" | forebay source verify my-events stripe --secrets -
  forebay source verify my-events hmac --secrets secret.txt --header X-Signature --encoding base64
  forebay source verify my-events none")]
pub(crate) struct SourceVerifyArgs {
    /// Id of the source
    id: String,
    /// Sender, and so the form of its signatures
    #[arg(value_name = "TYPE", value_parser = VERIFY_TYPES)]
    kind: String,
    /// File with the secrets, - for standard input
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Greatest difference between the time of a request and that of the server (stripe, slack,
    /// standard) [default: 5m]
    #[arg(long, value_name = "DURATION")]
    tolerance: Option<String>,
    /// Header with the signature (hmac)
    #[arg(long, value_name = "NAME")]
    header: Option<String>,
    /// Hash function (hmac) [default: sha256]
    #[arg(long, value_name = "NAME", value_parser = VERIFY_HASHES)]
    hash: Option<String>,
    /// Text form of the signature (hmac) [default: hex]
    #[arg(long, value_name = "NAME", value_parser = VERIFY_ENCODINGS)]
    encoding: Option<String>,
    /// Text before the signature in the header (hmac), like sha256=
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

impl SourceVerifyArgs {
    pub(super) fn server(&self) -> &ServerArgs {
        &self.server
    }
}

pub(super) async fn verify(api: &ApiClient, args: SourceVerifyArgs) -> Result<(), CliError> {
    let secrets = args.secrets.as_deref().map(read_secrets).transpose()?;
    let definition = VerifyDefinition {
        kind: word(&args.kind)?,
        secrets: secrets.unwrap_or_default(),
        tolerance: args.tolerance,
        header: args.header,
        hash: args.hash.as_deref().map(word).transpose()?,
        encoding: args.encoding.as_deref().map(word).transpose()?,
        prefix: args.prefix,
    };
    let path = format!("{SOURCES}/{}", encoded(&args.id));
    let body = json!({
        "changeDescription": "Changed the required signature.",
        "verify": definition.request(),
    });
    api.run_task(Method::PATCH, &path, Some(&body)).await?;
    let now: SourceView = api.get(&path).await?;
    terminal::line(format_args!(
        "source {} requires {}",
        args.id,
        describe(now.verify.as_ref())
    ))
}

/// A word that is also one in JSON.
fn word<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, CliError> {
    let deserializer = StrDeserializer::<ValueError>::new(text);
    T::deserialize(deserializer).map_err(CliError::usage)
}

/// Text of the requirement of a source.
pub(super) fn describe(verify: Option<&SourceVerifyView>) -> String {
    let Some(verify) = verify else {
        return "no signature".to_owned();
    };
    let mut parts = vec![format!("signatures of type {}", verify.r#type)];
    if let Some(header) = &verify.header {
        let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let prefix = verify.prefix.as_deref().unwrap_or_default();
        parts.push(format!(
            "header {header}: {prefix}<{} in {}>",
            name(json!(verify.hash)),
            name(json!(verify.encoding))
        ));
    }
    if let Some(tolerance) = &verify.tolerance {
        parts.push(format!("tolerance {tolerance}"));
    }
    if let Some(prints) = &verify.secret_fingerprints {
        let (count, plural) = (prints.len(), if prints.len() == 1 { "" } else { "s" });
        let prints = prints.join(", ");
        parts.push(format!(
            "{count} secret{plural} with the fingerprint{plural} {prints}"
        ));
    }
    parts.join("; ")
}

/// The lines of a file that are not empty.
fn read_secrets(file: &Path) -> Result<Vec<SecretText>, CliError> {
    let shown = file.display();
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|e| CliError::usage(format_args!("can't read {shown}: {e}")))?;
    if text.len() > FILE_BYTES_MAX {
        return Err(CliError::usage(format_args!(
            "{shown} is larger than {FILE_BYTES_MAX} bytes; it has one secret per line"
        )));
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let secrets: Vec<SecretText> = lines.map(SecretText::from).collect();
    if secrets.is_empty() {
        return Err(CliError::usage(format_args!(
            "{shown} has no secret; it has one per line"
        )));
    }
    Ok(secrets)
}
