//! Sources, sinks and their versions. A definition has what a user can change in one part, the same
//! as each of its versions.

use bytes::Bytes;
use forebay_model::{
    AuditStamp, DefinitionVersion, DeletionInfo, DisableInfo, PauseInfo, Sink, SinkKey, Source,
    SourceKey,
};
use serde::{Deserialize, Serialize};

use super::form::{Stored, StoredError, decode_form, encode_form};
use crate::catalog::definitions::{SinkContent, SourceContent};

/// A definition: key, content and metadata.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DefinitionV1<K, C> {
    key: K,
    content: C,
    version: DefinitionVersion,
    created: AuditStamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<DeletionInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled: Option<DisableInfo>,
    /// Only of sinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<PauseInfo>,
}

impl Stored for Source {
    const WHAT: &'static str = "source";

    fn encode(&self) -> Result<Bytes, StoredError> {
        encode_form::<Self, _>(&DefinitionV1 {
            key: self.key.clone(),
            content: SourceContent::from_source(self),
            version: self.version.clone(),
            created: self.created.clone(),
            deleted: self.deleted.clone(),
            disabled: self.disabled.clone(),
            paused: None,
        })
    }

    fn decode_version(_version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: DefinitionV1<SourceKey, SourceContent> = decode_form::<Self, _>(value)?;
        Ok(Self {
            key: form.key,
            kind: form.content.kind,
            name: form.content.name,
            description: form.content.description,
            settings: form.content.settings,
            definition_set: form.content.definition_set,
            version: form.version,
            created: form.created,
            deleted: form.deleted,
            disabled: form.disabled,
        })
    }
}

impl Stored for Sink {
    const WHAT: &'static str = "sink";

    fn encode(&self) -> Result<Bytes, StoredError> {
        encode_form::<Self, _>(&DefinitionV1 {
            key: self.key.clone(),
            content: SinkContent::from_sink(self),
            version: self.version.clone(),
            created: self.created.clone(),
            deleted: self.deleted.clone(),
            disabled: self.disabled.clone(),
            paused: self.paused.clone(),
        })
    }

    fn decode_version(_version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: DefinitionV1<SinkKey, SinkContent> = decode_form::<Self, _>(value)?;
        Ok(Self {
            key: form.key,
            name: form.content.name,
            description: form.content.description,
            target: form.content.target,
            settings: form.content.settings,
            definition_set: form.content.definition_set,
            version: form.version,
            created: form.created,
            deleted: form.deleted,
            disabled: form.disabled,
            paused: form.paused,
        })
    }
}

/// A version with its content, for a rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVersion<C> {
    pub version: DefinitionVersion,
    pub content: C,
}
