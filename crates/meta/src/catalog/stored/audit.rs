//! Audit entries. The address of the client is beside the author, since only the audit has it.

use bytes::Bytes;
use forebay_model::{AuditStamp, ProjectId};
use serde::{Deserialize, Serialize};

use super::form::{Stored, StoredError, decode_form, encode_form};
use crate::catalog::audit::{AuditAction, AuditEvent, AuditSubject};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEventV1 {
    project: ProjectId,
    what: AuditSubject,
    action: AuditAction,
    description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    old_version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    new_version: Option<u32>,
    #[serde(flatten)]
    stamp: AuditStamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

impl Stored for AuditEvent {
    const WHAT: &'static str = "change";

    fn encode(&self) -> Result<Bytes, StoredError> {
        let event = self.clone();
        encode_form::<Self, _>(&AuditEventV1 {
            project: event.project,
            what: event.what,
            action: event.action,
            description: event.description,
            old_version: event.old_version,
            new_version: event.new_version,
            from: event.stamp.by.from.clone(),
            stamp: event.stamp,
        })
    }

    fn decode_version(_version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: AuditEventV1 = decode_form::<Self, _>(value)?;
        let mut stamp = form.stamp;
        stamp.by.from = form.from;
        Ok(Self {
            project: form.project,
            what: form.what,
            action: form.action,
            description: form.description,
            old_version: form.old_version,
            new_version: form.new_version,
            stamp,
        })
    }
}
