//! Ids and keys. A key is a path: `project/branch/source/sink/file/volume/slice`; metadata keys,
//! staging paths and stream names are built from its text.

use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time::Timestamp;

/// A project: the unit of isolation between users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProjectId(pub u64);

/// A branch of a project. One node without a Keboola backend has the default branch only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BranchId(pub u64);

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Error of parsing an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// [`slug`] leaves nothing of the text.
    #[error("must not be empty")]
    Empty,
    /// Longer than allowed.
    #[error("\"{id}\" has {chars} characters, the maximum is {max}")]
    TooLong {
        /// The id made from the text.
        id: String,
        /// Length of the id.
        chars: usize,
        /// Maximum length.
        max: usize,
    },
}

/// Converts a name to an id: a `-` before each series of ASCII capitals, one `-` for each series of
/// characters other than letters of the Latin blocks and digits, accents dropped, lower case
/// (`spec/stream-api.md`, section 5).
pub fn slug(name: &str) -> String {
    let mut dashed = String::with_capacity(name.len() + 8);
    let mut in_capitals = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && !in_capitals {
            dashed.push('-');
        }
        in_capitals = c.is_ascii_uppercase();
        dashed.push(c);
    }
    let mut id = String::with_capacity(dashed.len());
    let mut in_gap = false;
    for c in dashed.chars() {
        let kept = c.is_ascii_alphanumeric()
            || ('\u{e1}'..='\u{17e}').contains(&c)
            || ('\u{c1}'..='\u{17d}').contains(&c);
        if kept {
            id.push(c);
        } else if !in_gap {
            id.push('-');
        }
        in_gap = !kept;
    }
    let plain: String = id.nfd().filter(|c| !is_combining_mark(*c)).collect();
    plain.trim_matches('-').to_lowercase()
}

macro_rules! named_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// Converts a name or id given by a user by [`slug`].
            ///
            /// # Errors
            /// When the result is empty, or longer than any configuration allows.
            pub fn from_name(text: &str) -> Result<Self, InvalidId> {
                Self::from_name_within(text, limits::ID_CHARS_MAX)
            }

            /// Like [`Self::from_name`], with at most `max` characters.
            ///
            /// # Errors
            /// When the result is empty or too long.
            pub fn from_name_within(text: &str, max: usize) -> Result<Self, InvalidId> {
                let id = slug(text);
                let chars = id.chars().count();
                match chars {
                    0 => Err(InvalidId::Empty),
                    n if n > max => Err(InvalidId::TooLong { id, chars, max }),
                    _ => Ok(Self(id)),
                }
            }

            /// Takes an id from a request path or the store, unchanged: an id that no name maps to
            /// is simply not found.
            pub fn from_raw(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

named_id!(
    /// A source within its branch.
    SourceId
);
named_id!(
    /// A sink within its source.
    SinkId
);

/// A volume: 10 random characters, written into its directory at creation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeId(pub String);

/// A dead letter of a sink: its volume and its number there, which is never reused within the sink.
/// As text `<volume>-<number>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterId {
    /// Volume of the dead letter.
    pub volume: VolumeId,
    /// Number, from 0.
    pub number: u64,
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.volume, self.number)
    }
}

impl FromStr for DeadLetterId {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let parsed = text.rsplit_once('-').and_then(|(volume, number)| {
            let number = number.parse().ok()?;
            let volume = VolumeId(volume.to_owned());
            (!volume.0.is_empty()).then_some(Self { volume, number })
        });
        parsed.ok_or_else(|| InvalidKey {
            text: text.to_owned(),
            form: "<volume>-<number>",
        })
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node: one process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Key of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BranchKey {
    /// Project of the branch.
    pub project: ProjectId,
    /// Id of the branch.
    pub branch: BranchId,
}

/// Key of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceKey {
    /// Branch of the source.
    pub branch: BranchKey,
    /// Id of the source.
    pub source: SourceId,
}

/// Key of a sink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkKey {
    /// Source of the sink.
    pub source: SourceKey,
    /// Id of the sink.
    pub sink: SinkId,
}

/// Key of a file: its sink and opening time. The opener of files ensures that no two files of a
/// sink share a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    /// Sink of the file.
    pub sink: SinkKey,
    /// Opening time.
    pub opened_at: Timestamp,
}

/// Key of a slice: its file, volume and opening time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    /// File of the slice.
    pub file: FileKey,
    /// Volume of the slice.
    pub volume: VolumeId,
    /// Opening time.
    pub opened_at: Timestamp,
}

impl fmt::Display for BranchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.branch)
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.branch, self.source)
    }
}

impl fmt::Display for SinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.sink)
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sink, self.opened_at)
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.file, self.volume, self.opened_at)
    }
}

/// A text that is not a key of the expected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a key of the form {form}")]
pub struct InvalidKey {
    /// The text.
    pub text: String,
    /// The expected form.
    pub form: &'static str,
}

/// Splits `text` into exactly `N` non-empty parts.
fn split_key<const N: usize>(text: &str, form: &'static str) -> Result<[String; N], InvalidKey> {
    let all: Vec<String> = text.split('/').map(str::to_owned).collect();
    let invalid = || InvalidKey {
        text: text.to_owned(),
        form,
    };
    if all.iter().any(String::is_empty) {
        return Err(invalid());
    }
    all.try_into().map_err(|_: Vec<String>| invalid())
}

macro_rules! key_from_str {
    ($name:ident, $n:literal, $form:literal, |$p:ident| $make:expr) => {
        impl FromStr for $name {
            type Err = InvalidKey;

            fn from_str(text: &str) -> Result<Self, InvalidKey> {
                let $p: [String; $n] = split_key(text, $form)?;
                let made: Option<Self> = (|| Some($make))();
                made.ok_or_else(|| InvalidKey {
                    text: text.to_owned(),
                    form: $form,
                })
            }
        }
    };
}

fn source_key(p: &[String]) -> Option<SourceKey> {
    let [project, branch, source, ..] = p else {
        return None;
    };
    Some(SourceKey {
        branch: BranchKey {
            project: ProjectId(project.parse().ok()?),
            branch: BranchId(branch.parse().ok()?),
        },
        source: SourceId::from_raw(source),
    })
}

fn file_key(p: &[String]) -> Option<FileKey> {
    Some(FileKey {
        sink: SinkKey {
            source: source_key(p)?,
            sink: SinkId::from_raw(p.get(3)?),
        },
        opened_at: p.get(4)?.parse().ok()?,
    })
}

key_from_str!(SourceKey, 3, "project/branch/source", |p| source_key(&p)?);
key_from_str!(SinkKey, 4, "project/branch/source/sink", |p| SinkKey {
    source: source_key(&p)?,
    sink: SinkId::from_raw(&p[3]),
});
key_from_str!(FileKey, 5, "project/branch/source/sink/file", |p| file_key(
    &p
)?);
key_from_str!(
    SliceKey,
    7,
    "project/branch/source/sink/file/volume/slice",
    |p| SliceKey {
        file: file_key(&p)?,
        volume: VolumeId(p[5].clone()),
        opened_at: p[6].parse().ok()?,
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_the_same_ids_as_in_the_reference() {
        for (name, id) in [
            ("My Source", "my-source"),
            ("myHTTPSource", "my-httpsource"),
            ("HTTPSource", "httpsource"),
            ("GitHub", "git-hub"),
            ("x1Y2", "x1-y2"),
            ("a__b--c", "a-b-c"),
            ("a.b/c", "a-b-c"),
            ("Žluťoučký kůň", "zlutoucky-kun"),
            ("łódź", "łodz"),
            ("Straße", "straße"),
            ("ÀÇ foo", "c-foo"),
            ("ÁBC", "a-bc"),
            ("naïve Ünï", "naive-uni"),
            ("!!!!~~~~weird|||id##", "weird-id"),
        ] {
            assert_eq!(slug(name), id, "{name}");
        }
        assert_eq!(SourceId::from_name("日本語"), Err(InvalidId::Empty));
        assert!(matches!(
            SinkId::from_name(&"Ab".repeat(40)),
            Err(InvalidId::TooLong { chars: 119, .. })
        ));
    }

    #[test]
    fn keys_print_and_parse_back() {
        let text = "1/2/src/snk/2026-11-21T05:01:49.120Z/vol1/2026-11-21T05:01:50.000Z";
        let key: SliceKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(key.file.to_string().parse::<FileKey>().unwrap(), key.file);
        for bad in ["", "1/2/src", "x/2/s/k", "1/2//k", "1/2/s/k/l"] {
            assert!(bad.parse::<SinkKey>().is_err(), "{bad}");
        }
    }
}
