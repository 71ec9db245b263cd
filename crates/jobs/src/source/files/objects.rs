//! Files in S3: resolves paths of a definition to objects.
//!
//! A key is an opaque string: steps may be empty, and it may contain any character. A key that can't be read is
//! reported with its name, and the others are read.

use std::sync::Arc;

use forebay_connect::staging::S3Staging;
use forebay_connect::staging::keys::{TextKeyBucket, is_addressable};
use futures::{StreamExt, TryStreamExt};
use glob::{MatchOptions, Pattern};

use super::file_errors::FileErrors;
use super::file_ref::{FILES_MAX, FilePacking, FileRef, packing, with_hint};
use super::local::AS_A_SHELL;
use super::name::{name_of_step, shown};
use crate::definition::S3ServerConfig;

/// Keys per page of a listing.
const PAGE: u16 = 1000;
/// Characters that make a step a pattern.
const WILD: [char; 3] = ['*', '?', '['];

const WITH_DOTS: MatchOptions = MatchOptions {
    require_literal_leading_dot: false,
    ..AS_A_SHELL
};

/// The objects that match a path.
pub(super) struct FoundObjects {
    pub(super) files: Vec<FileRef>,
    /// There is a file, or an error in its place.
    pub(super) is_any: bool,
}

/// Lists the objects of `bucket/prefix` or `bucket/pattern`, in the order of their names.
///
/// # Errors
/// The bucket can't be listed, or the pattern is invalid.
pub(super) async fn find(
    rest: &str,
    s3: &S3ServerConfig,
    variable: &(dyn Fn(&str) -> Option<String> + Send + Sync),
    errors: &mut FileErrors,
) -> Result<FoundObjects, String> {
    let (name, text) = rest.split_once('/').unwrap_or((rest, ""));
    let bucket = TextKeyBucket::open(&config(name, s3, variable)?);
    let bucket = Arc::new(bucket.map_err(|e| e.to_string())?);
    let failed = |e: &dyn std::fmt::Display| match s3.anonymous {
        true => unsigned(&e.to_string()),
        false => with_hint(&e.to_string()),
    };
    let wanted = wanted(&bucket, text).await;
    let (prefix, pattern) = wanted.map_err(|e| failed(&e))?;
    let before = errors.count();
    let mut files = Vec::new();
    {
        let mut listed = bucket.list(&prefix, PAGE);
        while let Some(object) = listed.try_next().await.map_err(|e| failed(&e))? {
            let key = object.key;
            let is_wanted = match &pattern {
                // Keys that can't be read are reported rather than hidden.
                Some(pattern) if !is_addressable(&key) => pattern.matches_with(&key, WITH_DOTS),
                Some(pattern) => pattern.matches_with(&key, AS_A_SHELL),
                None => !is_hidden(&prefix, &key),
            };
            let is_named = pattern.is_none() && key == prefix;
            let packing = packing(key.as_bytes()).or(is_named.then_some(FilePacking::Plain));
            let (true, Some(packing)) = (is_wanted, packing) else {
                continue;
            };
            let shown = format!("s3://{name}/{}", shown(key.as_bytes()));
            if !is_addressable(&key) {
                errors.add(format!(
                    "{shown} can't be read: its key has a step `.` or `..`"
                ));
                continue;
            }
            let version = (object.size, object.etag);
            files.push(FileRef::object(&bucket, shown, key, packing, version));
            if files.len() > FILES_MAX {
                return Err(format!("more than {FILES_MAX} files match s3://{rest}"));
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let is_any = !files.is_empty() || errors.count() > before;
    Ok(FoundObjects { files, is_any })
}

/// The prefix to list, and the pattern if there is one. A step with brackets is a literal name if there are
/// keys with it.
async fn wanted(
    bucket: &Arc<TextKeyBucket>,
    text: &str,
) -> Result<(String, Option<Pattern>), String> {
    let mut plain = String::new();
    let mut rest = text;
    loop {
        let (step, after) = match rest.split_once('/') {
            Some((step, after)) => (step, Some(after)),
            None => (rest, None),
        };
        let slash = if after.is_some() { "/" } else { "" };
        let name = name_of_step(step);
        let is_name = name.is_some();
        let with_step = format!("{plain}{}{slash}", name.as_deref().unwrap_or(step));
        if !is_name && (step.contains(['*', '?']) || !has(bucket, &with_step).await?) {
            break;
        }
        plain = with_step;
        match after {
            Some(after) => rest = after,
            None => return Ok((plain, None)),
        }
    }
    let pattern = format!("{}{rest}", Pattern::escape(&plain));
    let pattern = Pattern::new(&pattern).map_err(|e| format!("{text} is not a pattern: {e}"))?;
    plain.push_str(rest.split(WILD).next().unwrap_or_default());
    Ok((plain, Some(pattern)))
}

async fn has(bucket: &Arc<TextKeyBucket>, prefix: &str) -> Result<bool, String> {
    let first = bucket.list(prefix, 1).next().await;
    let first = first.transpose().map_err(|e| e.to_string())?;
    Ok(first.is_some())
}

/// Whether a step of a key beyond the prefix begins with a dot.
fn is_hidden(prefix: &str, key: &str) -> bool {
    let rest = key.strip_prefix(prefix).unwrap_or(key);
    let mut steps = rest.split('/');
    if !prefix.is_empty() && !prefix.ends_with('/') {
        // The prefix ends within this step.
        steps.next();
    }
    steps.any(|step| step.starts_with('.') && !matches!(step, "." | ".."))
}

fn config(
    bucket: &str,
    s3: &S3ServerConfig,
    variable: &(dyn Fn(&str) -> Option<String> + Send + Sync),
) -> Result<S3Staging, String> {
    let mut config = s3.settings().resolve(bucket, &|name| variable(name));
    if let Some(file) = &s3.ca_file {
        let pem = std::fs::read(file);
        let pem = pem.map_err(|e| format!("source.s3.caFile: can't read {}: {e}", file.display()));
        config.ca_pem = Some(pem?);
    }
    Ok(config)
}

/// Adds a hint to an error of a bucket that is accessed without signatures.
fn unsigned(text: &str) -> String {
    let is_closed = ["AccessDenied", "403"]
        .iter()
        .any(|code| text.contains(code));
    if is_closed {
        return format!("the bucket is not public (anonymous): {text}");
    }
    with_hint(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_keys_have_to_be_named() {
        assert!(is_hidden("", ".a.jsonl") && is_hidden("in/", "in/.a") && is_hidden("in", "in/.a"));
        assert!(!is_hidden("in/.a", "in/.a.jsonl") && !is_hidden("in/a", "in/a.jsonl"));
        assert!(!is_hidden("in", "in.jsonl") && !is_hidden("in/", "in/./a"));
    }
}
