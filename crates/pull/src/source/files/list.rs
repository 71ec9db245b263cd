//! Which files there are.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path as LocalPath, PathBuf};
use std::sync::Arc;

use forebay_remote::staging::{S3Staging, bucket};
use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectStore};
use sha2::{Digest, Sha256};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::definition::{Files, S3};

/// Files at most: a pattern that matches more was not meant.
const FILES_MAX: usize = 1_000_000;
/// Bytes behind a piece of an object in which its last line should end.
const LINE_REST: u64 = 64 << 10;
/// Bytes of a file's beginning by which it is known again.
const FINGERPRINT: u64 = 1024;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A file.
#[derive(Clone, Debug)]
pub(super) struct FileRef {
    /// As people and the state know it.
    pub(super) name: Arc<str>,
    place: Place,
    pub(super) packing: Packing,
    /// Bytes, as it is stored.
    pub(super) size: u64,
    /// Of an object.
    etag: String,
}

#[derive(Clone, Debug)]
enum Place {
    Local(PathBuf),
    Object(Arc<dyn ObjectStore>, ObjectPath),
}

/// All files of a definition, in the order of its patterns, each pattern's by name.
///
/// # Errors
/// When a folder or bucket can't be listed, or a pattern matches nothing.
pub(super) async fn list(
    files: &Files,
    variable: &(dyn Fn(&str) -> Option<String> + Send + Sync),
) -> Result<Vec<FileRef>, String> {
    let mut all: Vec<FileRef> = Vec::new();
    let mut seen = HashSet::new();
    for pattern in &files.paths {
        let mut found = match pattern.strip_prefix("s3://") {
            Some(rest) => objects(rest, &files.s3, variable).await?,
            None => local(pattern)?,
        };
        if found.is_empty() {
            return Err(format!(
                "no file matches {pattern} (names end with .jsonl, .jsonl.gz, .jsonl.zst, or .ndjson or .json in place of .jsonl)"
            ));
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        all.extend(
            found
                .into_iter()
                .filter(|f| seen.insert(Arc::clone(&f.name))),
        );
        if all.len() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files match {pattern}"));
        }
    }
    Ok(all)
}

fn packing(name: &str) -> Option<Packing> {
    let (stem, packing) = match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Packing::Gzip),
        Some((stem, "zst")) => (stem, Packing::Zstd),
        _ => (name, Packing::Plain),
    };
    let kind = stem.rsplit_once('.').map(|(_, kind)| kind);
    matches!(kind, Some("jsonl" | "ndjson" | "json")).then_some(packing)
}

fn local(pattern: &str) -> Result<Vec<FileRef>, String> {
    let is_folder = LocalPath::new(pattern).is_dir();
    let pattern = if is_folder {
        format!("{}/*", pattern.trim_end_matches('/'))
    } else {
        pattern.to_owned()
    };
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::default()
    };
    let paths = glob::glob_with(&pattern, options)
        .map_err(|e| format!("{pattern} is not a pattern: {e}"))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|e| e.to_string())?;
        let name = path.to_string_lossy().into_owned();
        let metadata = path.metadata().map_err(|e| format!("{name}: {e}"))?;
        // A file that is named by itself may have any name.
        let packing = packing(&name).or_else(|| (name == pattern).then_some(Packing::Plain));
        if let (true, Some(packing)) = (metadata.is_file(), packing) {
            found.push(FileRef {
                name: name.into(),
                place: Place::Local(path),
                packing,
                size: metadata.len(),
                etag: String::new(),
            });
        }
    }
    Ok(found)
}

async fn objects(
    rest: &str,
    s3: &S3,
    variable: &(dyn Fn(&str) -> Option<String> + Send + Sync),
) -> Result<Vec<FileRef>, String> {
    let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
    let (store, place) = bucket(&config(name, s3, variable)).map_err(|e| e.to_string())?;
    // A prefix as it is, or a pattern whose beginning is one.
    let is_pattern = key.contains(['*', '?', '[']);
    let plain = key.split(['*', '?', '[']).next().unwrap_or_default();
    let folder = match plain.rsplit_once('/') {
        Some((folder, _)) => ObjectPath::from(folder),
        None => ObjectPath::default(),
    };
    let pattern = Pattern::new(key).map_err(|e| format!("s3://{rest} is not a pattern: {e}"))?;
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::default()
    };
    let listed: Vec<_> = store
        .list(Some(&folder))
        .try_collect()
        .await
        .map_err(|e| format!("can't list {place}: {}", words(&e)))?;
    let matches = |key: &str| {
        if is_pattern {
            pattern.matches_with(key, options)
        } else {
            key.starts_with(plain)
        }
    };
    let found = listed.into_iter().filter_map(|object| {
        let key = object.location.as_ref().to_owned();
        let packing = packing(&key).or_else(|| (key == plain).then_some(Packing::Plain))?;
        matches(&key).then(|| FileRef {
            name: format!("s3://{name}/{key}").into(),
            place: Place::Object(Arc::clone(&store), object.location),
            packing,
            size: object.size,
            etag: object.e_tag.unwrap_or_default(),
        })
    });
    Ok(found.collect())
}

fn config(
    bucket: &str,
    s3: &S3,
    variable: &(dyn Fn(&str) -> Option<String> + Send + Sync),
) -> S3Staging {
    let first = |names: &[&str]| names.iter().find_map(|n| variable(n));
    let region = s3.region.clone();
    let region = region.or_else(|| first(&["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_S3_REGION"]));
    let mut config = S3Staging::new(bucket, region.unwrap_or_else(|| "us-east-1".to_owned()));
    let endpoint = s3.endpoint.clone();
    if let Some(endpoint) = endpoint.or_else(|| first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
    {
        config = config.at(endpoint);
    }
    let id = s3.access_key_id.clone();
    config.access_key_id = id.or_else(|| variable("AWS_ACCESS_KEY_ID"));
    let secret = s3.secret_access_key.as_ref().map(|s| s.expose().to_owned());
    let secret = secret.or_else(|| variable("AWS_SECRET_ACCESS_KEY"));
    config.secret_access_key = secret.map(Into::into);
    config.session_token = variable("AWS_SESSION_TOKEN").map(Into::into);
    config
}

/// The library's error in words that a person can act on.
fn words(error: &object_store::Error) -> String {
    let text = error.to_string();
    let hint = if text.contains("NoSuchBucket") || text.contains("404") {
        "there is no such bucket: "
    } else if [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "AccessDenied",
        "403",
    ]
    .iter()
    .any(|code| text.contains(code))
    {
        "the keys are not accepted: "
    } else {
        ""
    };
    format!("{hint}{text}")
}

impl FileRef {
    /// What it is known by: of an object its version, of a local file the file and its beginning.
    /// A plain file that has grown is the same; a packed one is another.
    pub(super) fn identity(&self) -> Result<String, String> {
        match &self.place {
            Place::Object(..) => Ok(format!("{}:{}", self.etag, self.size)),
            Place::Local(path) => self.local_identity(path, self.size.min(FINGERPRINT)),
        }
    }

    /// Whether it is the file of an identity that was noted.
    pub(super) fn is(&self, noted: &str) -> bool {
        match &self.place {
            Place::Object(..) => self.identity().is_ok_and(|i| i == noted),
            Place::Local(path) => {
                let length = noted.rsplit(':').nth(1).and_then(|n| n.parse().ok());
                length.is_some_and(|n| {
                    n <= self.size && self.local_identity(path, n).is_ok_and(|i| i == noted)
                })
            }
        }
    }

    fn local_identity(&self, path: &LocalPath, length: u64) -> Result<String, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", self.name);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut beginning = Vec::new();
        file.take(length)
            .read_to_end(&mut beginning)
            .map_err(failed)?;
        let hash = Sha256::digest(&beginning);
        let hash: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
        let size = match self.packing {
            Packing::Plain => 0,
            Packing::Gzip | Packing::Zstd => self.size,
        };
        let (dev, ino) = (metadata.dev(), metadata.ino());
        Ok(format!("{dev}:{ino}:{size}:{length}:{hash}"))
    }

    /// Opens it at a byte of what is stored; it can be read to its end, and is meant to be read to
    /// `to` and little more. Blocks; within a runtime.
    pub(super) fn open(&self, at: u64, to: Option<u64>) -> Result<Box<dyn Read + Send>, String> {
        match &self.place {
            Place::Local(path) => {
                let failed = |e: std::io::Error| format!("{}: {e}", self.name);
                let mut file = File::open(path).map_err(failed)?;
                file.seek(SeekFrom::Start(at)).map_err(failed)?;
                Ok(Box::new(file))
            }
            // A range behind the last byte is none.
            Place::Object(..) if at >= self.size => Ok(Box::new(std::io::empty())),
            Place::Object(..) => Ok(Box::new(Ranges {
                inner: self.range(at, to.map(|to| to + LINE_REST))?,
                file: self.clone(),
                next: at,
            })),
        }
    }

    /// A range of an object, to its end without `to`.
    fn range(&self, at: u64, to: Option<u64>) -> Result<Box<dyn Read + Send>, String> {
        let Place::Object(store, path) = &self.place else {
            return Err(format!("{} is no object", self.name));
        };
        let to = to.filter(|to| *to < self.size);
        let options = GetOptions {
            range: match to {
                Some(to) => Some(GetRange::Bounded(at..to)),
                None => (at > 0).then_some(GetRange::Offset(at)),
            },
            if_match: Some(self.etag.clone()).filter(|e| !e.is_empty()),
            ..GetOptions::default()
        };
        let runtime = tokio::runtime::Handle::current();
        let got = runtime
            .block_on(store.get_opts(path, options))
            .map_err(|e| format!("{}: {}", self.name, words(&e)))?;
        let stream = got.into_stream().map_err(std::io::Error::other);
        Ok(Box::new(SyncIoBridge::new(StreamReader::new(stream))))
    }
}

/// An object from a byte on, range after range: what is asked for is what is read.
struct Ranges {
    file: FileRef,
    inner: Box<dyn Read + Send>,
    /// The byte that is read next.
    next: u64,
}

impl Read for Ranges {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() && self.next < self.file.size {
            let more = self.file.range(self.next, Some(self.next + LINE_REST));
            self.inner = more.map_err(std::io::Error::other)?;
            read = self.inner.read(buffer)?;
        }
        self.next += read as u64;
        Ok(read)
    }
}
