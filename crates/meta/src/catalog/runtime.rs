//! Runtime state: the cluster's id, live nodes and volumes, and the progress of source nodes.

use std::ops::ControlFlow;

use forebay_model::{NodeId, Timestamp, VolumeId};
use serde::{Deserialize, Serialize};

use super::Repo;
use super::transaction::either;
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::{LeaseId, Revision, StoreError};

/// The cluster: all nodes that share one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Random, generated once.
    pub id: String,
}

/// A live node. Its id has no `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    #[serde(rename = "node")]
    pub id: NodeId,
    pub started_at: Timestamp,
    pub roles: Vec<String>,
}

/// Progress of a source node in processing closed slices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessedRevision {
    pub node: NodeId,
    /// The node has detached from every slice that was closed up to this transaction.
    pub revision: Revision,
}

/// A writable volume. Its id has no `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredVolume {
    #[serde(rename = "volume")]
    pub id: VolumeId,
    pub node: NodeId,
}

impl Repo {
    /// Returns the cluster's id; the first call creates it from `random`.
    pub async fn cluster_id(&self, random: u128) -> Result<String, StoreError> {
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                if let Some(cluster) = txn.read::<ClusterInfo>(StoreKey::Cluster).await? {
                    return Ok(ControlFlow::Break(cluster));
                }
                let cluster = ClusterInfo {
                    id: format!("{random:032x}"),
                };
                txn.put(StoreKey::Cluster, &cluster)?;
                Ok(ControlFlow::Continue(cluster))
            })
        });
        done.await.map(|done| either(done).value.id)
    }

    /// Registers a node until the lease ends.
    pub async fn register_node(&self, node: &Node, lease: LeaseId) -> Result<(), StoreError> {
        let mut txn = self.begin();
        txn.put_leased(StoreKey::Node(&node.id), node, lease)?;
        self.commit(txn).await.map(drop)
    }

    /// Lists the live nodes.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let nodes = self.read_all(keys::NODES).await?;
        Ok(nodes.into_iter().map(|n| n.value).collect())
    }

    /// Registers a writable volume until the lease ends.
    pub async fn register_volume(
        &self,
        volume: &RegisteredVolume,
        lease: LeaseId,
    ) -> Result<(), StoreError> {
        let mut txn = self.begin();
        txn.put_leased(StoreKey::Volume(&volume.id), volume, lease)?;
        self.commit(txn).await.map(drop)
    }

    /// Lists the writable volumes, sorted by id.
    pub async fn volumes(&self) -> Result<Vec<RegisteredVolume>, StoreError> {
        let volumes = self.read_all(keys::VOLUMES).await?;
        Ok(volumes.into_iter().map(|v| v.value).collect())
    }

    /// Registers a source node, with no progress, until the lease ends. From then on no slice is
    /// uploaded before the node has detached from it. Must be called before the node writes into
    /// any slice.
    pub async fn register_source_node(
        &self,
        node: &NodeId,
        lease: LeaseId,
    ) -> Result<(), StoreError> {
        self.report_processed(node, Revision::default(), lease)
            .await
    }

    /// Reports that a source node has detached from every slice that was closed up to `revision`.
    /// Call it when something relevant to the node has changed ([`crate::Snapshot::changed_at`]),
    /// not for each revision: the report itself creates a revision.
    pub async fn report_processed(
        &self,
        node: &NodeId,
        revision: Revision,
        lease: LeaseId,
    ) -> Result<(), StoreError> {
        let processed = ProcessedRevision {
            node: node.clone(),
            revision,
        };
        let mut txn = self.begin();
        txn.put_leased(StoreKey::Processed(node), &processed, lease)?;
        self.commit(txn).await.map(drop)
    }

    /// Lists the progress of each live source node. A slice that was closed at revision *R* is
    /// complete when all of them are at *R* or later.
    pub async fn processed_revisions(&self) -> Result<Vec<ProcessedRevision>, StoreError> {
        let processed = self.read_all(keys::PROCESSED).await?;
        Ok(processed.into_iter().map(|p| p.value).collect())
    }
}
