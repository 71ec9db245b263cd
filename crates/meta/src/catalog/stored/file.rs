//! Files.

use forebay_model::{DeadRows, File, FileState, Timestamp};
use serde::{Deserialize, Serialize};

use super::common::{RetryForm, SettingsForm, settings, settings_form};
use super::table::TableForm;
use super::{Stored, StoredError, decode_only_form, decode_part};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileV1 {
    pub key: String,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importing_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "RetryForm::is_empty")]
    pub retry: RetryForm,
    pub table: TableForm,
    pub settings: SettingsForm,
    pub is_empty: bool,
    pub imported_rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_rows: Option<DeadRowsForm>,
}

/// Rows that become dead letters.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadRowsForm {
    pub cause: String,
    pub moved: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_dead_letter: Option<u64>,
}

impl Stored for File {
    const WHAT: &'static str = "file";
    const VERSION: u32 = 1;
    type Form = FileV1;

    fn to_form(&self) -> FileV1 {
        FileV1 {
            key: self.key.to_string(),
            state: self.state.name().to_owned(),
            closing_at: self.closing_at,
            importing_at: self.importing_at,
            imported_at: self.imported_at,
            retry: (&self.retry).into(),
            table: (&self.table).into(),
            settings: settings_form(&self.settings),
            is_empty: self.is_empty,
            imported_rows: self.imported_rows,
            lost_at: self.lost_at,
            dead_rows: self.dead_rows.clone().map(|d| DeadRowsForm {
                cause: d.cause,
                moved: d.moved,
                next_dead_letter: d.next_dead_letter,
            }),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: FileV1 = decode_only_form::<Self, _>(version, value)?;
        let state = FileState::ALL
            .into_iter()
            .find(|s| s.name() == form.state)
            .ok_or_else(|| format!("unknown state \"{}\"", form.state));
        Ok(Self {
            key: decode_part::<Self, _, _>(form.key.parse())?,
            state: decode_part::<Self, _, _>(state)?,
            closing_at: form.closing_at,
            importing_at: form.importing_at,
            imported_at: form.imported_at,
            retry: form.retry.into(),
            table: decode_part::<Self, _, _>(form.table.try_into())?,
            settings: settings(&form.settings),
            is_empty: form.is_empty,
            imported_rows: form.imported_rows,
            lost_at: form.lost_at,
            dead_rows: form.dead_rows.map(|d| DeadRows {
                cause: d.cause,
                moved: d.moved,
                next_dead_letter: d.next_dead_letter,
            }),
        })
    }
}
