//! A record on its way through a job.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use forebay_remote::keyed::Row;

/// A record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) position: Position,
    pub(crate) origin: Origin,
    /// One JSON value.
    pub(crate) body: Bytes,
    /// The same as a row, once it is one.
    pub(crate) row: Option<Row>,
}

/// What a source knows a record by, to note that it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Of an API its number in the inbox, of files that of its part, of a replay that of its dead
    /// letter.
    pub(crate) batch: u64,
    /// Its number in the part of a file.
    pub(crate) index: u32,
}

/// Where a record comes from, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The number of a record of an API, from 1.
    Api(u64),
    /// A line of a file, from 1.
    Line(Arc<str>, u64),
    /// As it was noted with a dead letter.
    Noted(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(number) => write!(f, "record {number}"),
            Self::Line(file, line) => write!(f, "{file}:{line}"),
            Self::Noted(text) => f.write_str(text),
        }
    }
}

/// Where a record failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is not JSON, or no row of the table.
    Parse,
    /// The processing API.
    Processing,
    /// The destination.
    Storage,
}

impl Stage {
    /// Its name in dead letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Processing => "processing",
            Self::Storage => "storage",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Parse, Self::Processing, Self::Storage]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

/// A record that was given up, with what a person needs to mend it.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) position: Position,
    pub(crate) origin: Origin,
    pub(crate) stage: Stage,
    /// What the failed stage was given: a replay begins there.
    pub(crate) body: Bytes,
    /// Method and address of the last request, or the table.
    pub(crate) request: String,
    /// Of the last answer.
    pub(crate) status: Option<u16>,
    pub(crate) error: String,
    pub(crate) attempts: u32,
}

/// What has become of records.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// They are where they should be.
    pub(crate) done: Vec<Position>,
    pub(crate) dead: Vec<Dead>,
}
