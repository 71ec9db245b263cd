//! The table of a sink.

use std::fmt;
use std::str::FromStr;

use crate::limits::TABLE_ID_BYTES_MAX;

/// `<in|out>.<bucket>.<table>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    stage: BucketStage,
    bucket: String,
    table: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum BucketStage {
    In,
    Out,
}

impl TableId {
    /// `<stage>.<bucket>`.
    pub fn bucket_id(&self) -> String {
        let stage = match self.stage {
            BucketStage::In => "in",
            BucketStage::Out => "out",
        };
        format!("{stage}.{}", self.bucket)
    }

    /// The last part of the id.
    pub fn table(&self) -> &str {
        &self.table
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.bucket_id(), self.table)
    }
}

/// Error of parsing a table id, in the words of the compatible API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid table ID \"{id}\": {reason}")]
pub struct InvalidTableId {
    /// The text.
    pub id: String,
    /// Reason of the error.
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
            "in" => BucketStage::In,
            "out" => BucketStage::Out,
            other => return Err(in_bucket(&format!("unexpected stage \"{other}\""))),
        };
        if bucket.is_empty() {
            return Err(in_bucket("bucket ID cannot be empty"));
        }
        if table.is_empty() {
            return Err(invalid("table ID cannot be empty".to_owned()));
        }
        if id.len() > TABLE_ID_BYTES_MAX {
            return Err(invalid(format!(
                "it has {} bytes, the maximum is {TABLE_ID_BYTES_MAX}",
                id.len()
            )));
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

/// The backend of a table.
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
    /// All backends.
    pub const ALL: [Self; 3] = [Self::Keboola, Self::Sqlite, Self::Postgres];

    /// Name in the API, in definition files and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keboola => "keboola",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// The backend with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.name() == name)
    }
}

/// The identity of a table in its backend: ids of one table have one key, and two tables never
/// share one. The owner of a table is recorded under it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableKey {
    backend: TableBackend,
    name: String,
}

impl TableKey {
    /// Creates the key of a table; `default` is what `keboola` means on this server.
    ///
    /// SQLite ignores the case of ASCII letters. PostgreSQL does not, since all names are quoted:
    /// `<stage>.<bucket>` is the schema and the last part the table. Neither backend normalizes
    /// other characters, and no part of an id has a dot.
    pub fn new(backend: TableBackend, table: &TableId, default: TableBackend) -> Self {
        let backend = match backend {
            TableBackend::Keboola => default,
            other => other,
        };
        let name = table.to_string();
        Self {
            name: match backend {
                TableBackend::Postgres => name,
                TableBackend::Sqlite | TableBackend::Keboola => name.to_ascii_lowercase(),
            },
            backend,
        }
    }

    /// The backend of the table; never `keboola`, unless that is the default.
    pub fn backend(&self) -> TableBackend {
        self.backend
    }
}

impl fmt::Display for TableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend.name(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_table_have_one_key() {
        let key = |backend, id: &str, default| {
            TableKey::new(backend, &id.parse().unwrap(), default).to_string()
        };
        use TableBackend::{Keboola, Postgres, Sqlite};
        assert_eq!(
            key(Sqlite, "in.C-b.\u{c4}T", Postgres),
            "sqlite/in.c-b.\u{c4}t"
        );
        assert_eq!(key(Keboola, "in.C-b.T", Sqlite), "sqlite/in.c-b.t");
        assert_eq!(key(Keboola, "in.C-b.T", Postgres), "postgres/in.C-b.T");
        assert_eq!(key(Postgres, "out.b.t", Sqlite), "postgres/out.b.t");
        assert_ne!(
            key(Sqlite, "in.b.\u{e4}", Sqlite),
            key(Sqlite, "in.b.\u{c4}", Sqlite)
        );
    }

    #[test]
    fn table_ids_parse_or_report_the_error() {
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
