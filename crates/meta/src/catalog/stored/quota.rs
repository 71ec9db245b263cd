//! Quotas of projects.

use forebay_model::ByteSize;
use forebay_model::quota::QuotaOverrides;
use serde::{Deserialize, Serialize};

use super::{Stored, StoredError, decode_only_form};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaV1 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_requests_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_bytes_per_second: Option<u64>,
}

impl Stored for QuotaOverrides {
    const WHAT: &'static str = "quota";
    const VERSION: u32 = 1;
    type Form = QuotaV1;

    fn to_form(&self) -> QuotaV1 {
        QuotaV1 {
            requests_per_second: self.requests_per_second,
            bytes_per_second: self.bytes_per_second.map(|b| b.0),
            connections: self.connections,
            disk_bytes: self.disk_bytes.map(|b| b.0),
            source_requests_per_second: self.source_requests_per_second,
            source_bytes_per_second: self.source_bytes_per_second.map(|b| b.0),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: QuotaV1 = decode_only_form::<Self, _>(version, value)?;
        Ok(Self {
            requests_per_second: form.requests_per_second,
            bytes_per_second: form.bytes_per_second.map(ByteSize),
            connections: form.connections,
            disk_bytes: form.disk_bytes.map(ByteSize),
            source_requests_per_second: form.source_requests_per_second,
            source_bytes_per_second: form.source_bytes_per_second.map(ByteSize),
        })
    }
}
