//! Nodes, volumes, delivered streams and the cluster.

use forebay_model::{NodeId, Timestamp, VolumeId};
use serde::{Deserialize, Serialize};

use super::{Stored, StoredError, decode_only_form, decode_part};
use crate::catalog::delivered_streams::DeliveredStream;
use crate::catalog::runtime::{ClusterInfo, Node, ProcessedRevision, RegisteredVolume};
use crate::kv::store::Revision;

macro_rules! stored {
    ($type:ident, $what:literal, $form:ident, |$s:ident| $to:expr, |$f:ident| $from:expr) => {
        impl Stored for $type {
            const WHAT: &'static str = $what;
            const VERSION: u32 = 1;
            type Form = $form;

            fn to_form(&self) -> $form {
                let $s = self;
                $to
            }

            fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
                let $f: $form = decode_only_form::<Self, _>(version, value)?;
                Ok($from)
            }
        }
    };
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeV1 {
    pub node: String,
    pub started_at: Timestamp,
    pub roles: Vec<String>,
}

stored!(
    Node,
    "node",
    NodeV1,
    |s| NodeV1 {
        node: s.id.0.clone(),
        started_at: s.started_at,
        roles: s.roles.clone(),
    },
    |f| Self {
        id: NodeId(f.node),
        started_at: f.started_at,
        roles: f.roles,
    }
);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessedRevisionV1 {
    pub node: String,
    pub revision: u64,
}

stored!(
    ProcessedRevision,
    "processed revision",
    ProcessedRevisionV1,
    |s| ProcessedRevisionV1 {
        node: s.node.0.clone(),
        revision: s.revision.0,
    },
    |f| Self {
        node: NodeId(f.node),
        revision: Revision(f.revision),
    }
);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeV1 {
    pub volume: String,
    pub node: String,
}

stored!(
    RegisteredVolume,
    "volume",
    VolumeV1,
    |s| VolumeV1 {
        volume: s.id.0.clone(),
        node: s.node.0.clone(),
    },
    |f| Self {
        id: VolumeId(f.volume),
        node: NodeId(f.node),
    }
);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterV1 {
    pub id: String,
}

stored!(
    ClusterInfo,
    "cluster",
    ClusterV1,
    |s| ClusterV1 { id: s.id.clone() },
    |f| Self { id: f.id }
);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveredStreamV1 {
    pub volume: String,
    pub stream: String,
    pub slice: String,
}

impl Stored for DeliveredStream {
    const WHAT: &'static str = "delivered stream";
    const VERSION: u32 = 1;
    type Form = DeliveredStreamV1;

    fn to_form(&self) -> DeliveredStreamV1 {
        DeliveredStreamV1 {
            volume: self.volume.0.clone(),
            stream: self.stream.clone(),
            slice: self.slice.to_string(),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: DeliveredStreamV1 = decode_only_form::<Self, _>(version, value)?;
        Ok(Self {
            volume: VolumeId(form.volume),
            stream: form.stream,
            slice: decode_part::<Self, _, _>(form.slice.parse())?,
        })
    }
}
