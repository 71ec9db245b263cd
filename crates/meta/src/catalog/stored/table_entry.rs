//! Owners of tables.

use forebay_model::{ProjectId, TableBackend, Timestamp};
use serde::{Deserialize, Serialize};

use super::common::AuditStampForm;
use super::{Stored, StoredError, decode_only_form, decode_part};
use crate::catalog::tables::{PendingDrop, TableEntry};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableEntryV1 {
    pub backend: String,
    pub table: String,
    pub owner: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<u64>,
    pub claimed: AuditStampForm,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assigned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropping: Option<PendingDropForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingDropForm {
    pub source: String,
    pub since: Timestamp,
}

impl Stored for TableEntry {
    const WHAT: &'static str = "table owner";
    const VERSION: u32 = 1;
    type Form = TableEntryV1;

    fn to_form(&self) -> TableEntryV1 {
        let dropping = self.dropping.as_ref().map(|d| PendingDropForm {
            source: d.source.to_string(),
            since: d.since,
        });
        TableEntryV1 {
            backend: self.backend.name().to_owned(),
            table: self.table.to_string(),
            owner: self.owner.0,
            shared_with: self.shared_with.iter().map(|p| p.0).collect(),
            claimed: (&self.claimed).into(),
            assigned: self.assigned,
            filled_at: self.filled_at,
            found: self.found,
            dropping,
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: TableEntryV1 = decode_only_form::<Self, _>(version, value)?;
        let dropping = match form.dropping {
            Some(d) => Some(PendingDrop {
                source: decode_part::<Self, _, _>(d.source.parse())?,
                since: d.since,
            }),
            None => None,
        };
        Ok(Self {
            backend: decode_part::<Self, _, _>(backend(&form.backend))?,
            table: decode_part::<Self, _, _>(form.table.parse())?,
            owner: ProjectId(form.owner),
            shared_with: form.shared_with.into_iter().map(ProjectId).collect(),
            claimed: form.claimed.into(),
            assigned: form.assigned,
            filled_at: form.filled_at,
            found: form.found,
            dropping,
        })
    }
}

pub(super) fn backend(name: &str) -> Result<TableBackend, String> {
    TableBackend::from_name(name).ok_or_else(|| format!("unknown table backend \"{name}\""))
}
