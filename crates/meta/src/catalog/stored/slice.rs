//! Slices.

use forebay_model::{BlockCompression, Slice, SliceState, Timestamp};
use serde::{Deserialize, Serialize};

use super::common::{RetryForm, StatisticsForm};
use super::{Stored, StoredError, decode_only_form, decode_part};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceV1 {
    pub key: String,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploading_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "RetryForm::is_empty")]
    pub retry: RetryForm,
    pub compression: CompressionForm,
    pub is_empty: bool,
    pub staging_path: String,
    pub statistics: StatisticsForm,
    pub staging_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_crc32c: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum CompressionForm {
    None,
    Gzip { level: u8 },
    Zstd { level: u8 },
}

impl Stored for Slice {
    const WHAT: &'static str = "slice";
    const VERSION: u32 = 1;
    type Form = SliceV1;

    fn to_form(&self) -> SliceV1 {
        SliceV1 {
            key: self.key.to_string(),
            state: self.state.name().to_owned(),
            closing_at: self.closing_at,
            uploading_at: self.uploading_at,
            uploaded_at: self.uploaded_at,
            imported_at: self.imported_at,
            retry: (&self.retry).into(),
            compression: match self.compression {
                BlockCompression::None => CompressionForm::None,
                BlockCompression::Gzip { level } => CompressionForm::Gzip { level },
                BlockCompression::Zstd { level } => CompressionForm::Zstd { level },
            },
            is_empty: self.is_empty,
            staging_path: self.staging_path.clone(),
            statistics: (&self.statistics).into(),
            staging_bytes: self.staging_bytes,
            staging_crc32c: self.staging_crc32c,
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: SliceV1 = decode_only_form::<Self, _>(version, value)?;
        let state = SliceState::ALL
            .into_iter()
            .find(|s| s.name() == form.state)
            .ok_or_else(|| format!("unknown state \"{}\"", form.state));
        Ok(Self {
            key: decode_part::<Self, _, _>(form.key.parse())?,
            state: decode_part::<Self, _, _>(state)?,
            closing_at: form.closing_at,
            uploading_at: form.uploading_at,
            uploaded_at: form.uploaded_at,
            imported_at: form.imported_at,
            retry: form.retry.into(),
            compression: match form.compression {
                CompressionForm::None => BlockCompression::None,
                CompressionForm::Gzip { level } => BlockCompression::Gzip { level },
                CompressionForm::Zstd { level } => BlockCompression::Zstd { level },
            },
            is_empty: form.is_empty,
            staging_path: form.staging_path,
            statistics: form.statistics.into(),
            staging_bytes: form.staging_bytes,
            staging_crc32c: form.staging_crc32c,
        })
    }
}
