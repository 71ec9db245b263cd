//! Who is there: the cluster's id, live nodes and volumes, and how far source nodes have followed.

use forebay_model::{NodeId, Timestamp, VolumeId};

use super::{Repo, TxnAttempts, TxnBuilder};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::{LeaseId, Revision, StoreError};

/// The cluster: everything that shares one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Made once, at random.
    pub id: String,
}

/// A live node. Its id has no `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Since when.
    pub started_at: Timestamp,
    /// What it does.
    pub roles: Vec<String>,
}

/// How far a source node has followed files and slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessedRevision {
    /// Which node.
    pub node: NodeId,
    /// It has left every slice that was closed up to this transaction.
    pub revision: Revision,
}

/// A volume that can be written to. Its id has no `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredVolume {
    /// Which.
    pub id: VolumeId,
    /// On which node.
    pub node: NodeId,
}

impl Repo {
    /// The cluster's id; made of `random` by the first who asks.
    ///
    /// # Errors
    /// The store's.
    pub async fn cluster_id(&self, random: u128) -> Result<String, StoreError> {
        let mut attempts = TxnAttempts::default();
        loop {
            if let Some(cluster) = self.read::<ClusterInfo>(StoreKey::Cluster).await? {
                return Ok(cluster.value.id);
            }
            let cluster = ClusterInfo {
                id: format!("{random:032x}"),
            };
            let mut builder = TxnBuilder::default();
            builder.expect_absent(StoreKey::Cluster);
            builder.put(StoreKey::Cluster, &cluster)?;
            if self.commit(builder).await?.is_some() {
                return Ok(cluster.id);
            }
            attempts.retry().await?;
        }
    }

    /// Says that a node is there, as long as the lease lives.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`], or the store's.
    pub async fn register_node(&self, node: &Node, lease: LeaseId) -> Result<(), StoreError> {
        let mut builder = TxnBuilder::default();
        builder.put_leased(StoreKey::Node(&node.id), node, lease)?;
        self.commit(builder).await.map(drop)
    }

    /// Live nodes.
    ///
    /// # Errors
    /// The store's.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let nodes = self.read_all(keys::NODES).await?;
        Ok(nodes.into_iter().map(|n| n.value).collect())
    }

    /// Says that a volume can be written to, as long as the lease lives.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`], or the store's.
    pub async fn register_volume(
        &self,
        volume: &RegisteredVolume,
        lease: LeaseId,
    ) -> Result<(), StoreError> {
        let mut builder = TxnBuilder::default();
        builder.put_leased(StoreKey::Volume(&volume.id), volume, lease)?;
        self.commit(builder).await.map(drop)
    }

    /// Volumes that can be written to, sorted by id.
    ///
    /// # Errors
    /// The store's.
    pub async fn volumes(&self) -> Result<Vec<RegisteredVolume>, StoreError> {
        let volumes = self.read_all(keys::VOLUMES).await?;
        Ok(volumes.into_iter().map(|v| v.value).collect())
    }

    /// Says that a source node takes records from now on, and has followed nothing yet. From then on
    /// no slice is uploaded before the node has left it, as long as the lease lives. It must be
    /// called before the node writes into any slice.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`], or the store's.
    pub async fn register_source_node(
        &self,
        node: &NodeId,
        lease: LeaseId,
    ) -> Result<(), StoreError> {
        self.report_processed(node, Revision::default(), lease)
            .await
    }

    /// Says that a source node has left every slice that was closed up to `revision`. To be called
    /// when something has changed that the node follows ([`crate::Snapshot::changed_at`]), not for
    /// each revision: the report is a revision itself.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`], or the store's.
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
        let mut builder = TxnBuilder::default();
        builder.put_leased(StoreKey::Processed(node), &processed, lease)?;
        self.commit(builder).await.map(drop)
    }

    /// How far each live source node is. A slice that was closed at *R* is complete when all of
    /// them are at *R* or further.
    ///
    /// # Errors
    /// The store's.
    pub async fn processed_revisions(&self) -> Result<Vec<ProcessedRevision>, StoreError> {
        let processed = self.read_all(keys::PROCESSED).await?;
        Ok(processed.into_iter().map(|p| p.value).collect())
    }
}
