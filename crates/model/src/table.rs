//! The table at the end of a sink.

use std::fmt;
use std::str::FromStr;

/// `<in|out>.<bucket>.<table>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    stage: Stage,
    bucket: String,
    table: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    In,
    Out,
}

impl TableId {
    /// `<stage>.<bucket>`.
    #[must_use]
    pub fn bucket_id(&self) -> String {
        let stage = match self.stage {
            Stage::In => "in",
            Stage::Out => "out",
        };
        format!("{stage}.{}", self.bucket)
    }

    /// The last part.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.bucket_id(), self.table)
    }
}

/// Why a text is not a table id, in the words of the compatible API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid table ID \"{id}\": {reason}")]
pub struct InvalidTableId {
    /// The text.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for TableId {
    type Err = InvalidTableId;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        let invalid = |reason: String| InvalidTableId {
            id: id.to_owned(),
            reason,
        };
        let parts: Vec<&str> = id.split('.').collect();
        let [stage, bucket, table] = parts[..] else {
            return Err(invalid("unexpected number of fragments".to_owned()));
        };
        let in_bucket =
            |reason: &str| invalid(format!("invalid bucket ID \"{stage}.{bucket}\": {reason}"));
        let stage = match stage {
            "in" => Stage::In,
            "out" => Stage::Out,
            other => return Err(in_bucket(&format!("unexpected stage \"{other}\""))),
        };
        if bucket.is_empty() {
            return Err(in_bucket("bucket ID cannot be empty"));
        }
        if table.is_empty() {
            return Err(invalid("table ID cannot be empty".to_owned()));
        }
        if id.contains('\0') {
            return Err(invalid("it has a NUL character".to_owned()));
        }
        Ok(Self {
            stage,
            bucket: bucket.to_owned(),
            table: table.to_owned(),
        })
    }
}

/// What keeps the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableBackend {
    /// The server's default backend, under the name that clients of the compatible API use.
    Keboola,
    /// The embedded SQLite database in the data directory.
    Sqlite,
    /// The configured PostgreSQL server.
    Postgres,
}

impl TableBackend {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Keboola, Self::Sqlite, Self::Postgres];

    /// Its name in the API, in definition files and in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Keboola => "keboola",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_ids_parse_or_say_what_is_wrong() {
        let id: TableId = "in.c-b.t".parse().unwrap();
        assert_eq!(
            (id.bucket_id().as_str(), id.table(), id.to_string().as_str()),
            ("in.c-b", "t", "in.c-b.t")
        );
        for (bad, reason) in [
            ("x", "unexpected number of fragments"),
            ("x.b.t", "invalid bucket ID \"x.b\": unexpected stage \"x\""),
            ("in..t", "bucket ID cannot be empty"),
            ("in.b.", "table ID cannot be empty"),
        ] {
            let error = bad.parse::<TableId>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
