//! Hashes of the rows in a table, so that unchanged rows are not written again.
//!
//! The cache may be lost, stale or unavailable at any time, and no row may be lost by that. So:
//!
//! - a hash is stored only after its row was written;
//! - a hash that differs is deleted *before* the row is written: if the process dies between the write and the
//!   update, the key is unknown instead of wrong;
//! - a hash is valid only for the columns that it was computed from: other columns begin another generation;
//! - if hashes can't be deleted, all are invalidated: they are stored in a space whose name has the table's
//!   incarnation and a generation from the job's state, and a new generation is stored on disk before
//!   anything is written.

use std::sync::Arc;
use std::time::Duration;

use forebay_connect::cache::embedded::EmbeddedCache;
use forebay_connect::cache::{CacheBackend, CacheError, RowHash};
use forebay_connect::keyed::{ColumnSchema, PreparedTable, TableSchema};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::definition::RowHashCacheConfig;
use crate::engine::execution::JobExecution;
use crate::engine::outcome::JobFailure;
use crate::state::JobState;

/// Pause of a failed cache.
const CACHE_BACKOFF: Duration = Duration::from_secs(1);
/// Minimum interval between warnings of failed updates.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Hashes of the rows of a table.
pub(super) struct RowHashCache {
    cache: Box<dyn CacheBackend>,
    state: JobState,
    /// Fixed part of the space's name.
    stem: String,
    health: Mutex<CacheHealth>,
    /// Serializes the start of a generation.
    beginning: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct CacheHealth {
    generation: u64,
    /// The cache failed and is not used until then.
    rests_until: Option<Instant>,
    /// Time of the last warning of a failed update.
    reported_at: Option<Instant>,
}

/// The rows of a batch to write.
pub(super) struct WritePlan {
    /// Indexes of the rows.
    pub(super) wanted: Vec<usize>,
    /// Hashes of their keys and contents, in the same order.
    hashes: Vec<(RowHash, RowHash)>,
    /// Space of the hashes; `None` while the cache is not used.
    space: Option<String>,
}

impl RowHashCache {
    pub(super) async fn open(
        execution: &JobExecution,
        cache: &RowHashCacheConfig,
        shape: &TableSchema,
        prepared: &PreparedTable,
    ) -> Result<Option<Self>, JobFailure> {
        if matches!(cache, RowHashCacheConfig::None) {
            return Ok(None);
        }
        let generation = execution.state.meta("generation").await;
        let generation = generation.map_err(execution.state_failed())?;
        let generation = generation.and_then(|g| g.parse().ok()).unwrap_or(1);
        let id = execution
            .state
            .id()
            .await
            .map_err(execution.state_failed())?;
        let mut health = CacheHealth {
            generation,
            rests_until: None,
            reported_at: None,
        };
        let stem = format!("{id}:{}:{}", shape.table, prepared.incarnation);
        let columns = columns(shape);
        let before = execution.state.meta("columns").await;
        let before = before.map_err(execution.state_failed())?;
        // The hashes are invalid if the table was emptied, or if the values were written to other columns.
        if prepared.is_empty || before.as_ref() != Some(&columns) {
            health.generation += 1;
            let stored = execution
                .state
                .set_meta("generation", health.generation.to_string());
            stored.await.map_err(execution.state_failed())?;
            // After the generation: a kill in between begins another one.
            let stored = execution.state.set_meta("columns", columns).await;
            stored.map_err(execution.state_failed())?;
        }
        let space = space(&stem, health.generation);
        let cache =
            open(cache, execution, &space).map_err(|e| JobFailure::Destination(e.to_string()))?;
        Ok(Some(Self {
            cache,
            state: execution.state.clone(),
            stem,
            health: Mutex::new(health),
            beginning: tokio::sync::Mutex::new(()),
        }))
    }

    /// Selects the rows to write from `wanted`, whose keys and contents have these hashes. The cached hashes of
    /// the selected rows are deleted.
    pub(super) async fn plan(
        &self,
        wanted: &[usize],
        hashes: Vec<(RowHash, RowHash)>,
    ) -> Result<WritePlan, JobFailure> {
        let all = |space| WritePlan {
            wanted: wanted.to_vec(),
            hashes: hashes.clone(),
            space,
        };
        let Some(space) = self.space() else {
            return Ok(all(None));
        };
        match self.changed(&space, &hashes).await {
            Ok(changed) => {
                let pairs = wanted.iter().zip(&hashes).zip(&changed);
                let (wanted, hashes) = pairs
                    .filter(|(_, changed)| **changed)
                    .map(|((i, h), _)| (*i, *h))
                    .unzip();
                Ok(WritePlan {
                    wanted,
                    hashes,
                    space: Some(space),
                })
            }
            Err(error) => {
                self.begin_generation(&space, &error).await?;
                Ok(all(None))
            }
        }
    }

    /// Stores the hashes of the written rows, those whose index passes `is_written`.
    pub(super) async fn record_written(&self, plan: WritePlan, is_written: impl Fn(usize) -> bool) {
        let Some(space) = &plan.space else { return };
        let written = plan.wanted.iter().zip(&plan.hashes);
        let written = written.filter(|(index, _)| is_written(**index));
        let written: Vec<(RowHash, RowHash)> = written.map(|(_, h)| *h).collect();
        if let Err(error) = self.cache.put(space, &written).await {
            // These hashes were deleted, so nothing wrong is stored: the rows are written once more next time.
            // A full cache fails on every batch.
            let mut health = self.health.lock();
            let is_recent = health
                .reported_at
                .is_some_and(|at| at.elapsed() < WARNING_INTERVAL);
            if !is_recent {
                health.reported_at = Some(Instant::now());
                tracing::warn!(%error, "cache update failed");
            }
        }
    }

    /// Whether each row differs from its cached hash; deletes the hashes that differ.
    async fn changed(
        &self,
        space: &str,
        hashes: &[(RowHash, RowHash)],
    ) -> Result<Vec<bool>, CacheError> {
        let keys: Vec<RowHash> = hashes.iter().map(|(key, _)| *key).collect();
        let known = self.cache.get(space, &keys).await?;
        let pairs = || hashes.iter().zip(&known);
        let stale: Vec<RowHash> = pairs()
            .filter(|((_, hash), known)| known.is_some_and(|k| k != *hash))
            .map(|((key, _), _)| *key)
            .collect();
        self.cache.invalidate(space, &stale).await?;
        Ok(pairs()
            .map(|((_, hash), known)| *known != Some(*hash))
            .collect())
    }

    /// The current space; `None` while the cache is not used.
    fn space(&self) -> Option<String> {
        let mut health = self.health.lock();
        if health
            .rests_until
            .is_some_and(|until| until > Instant::now())
        {
            return None;
        }
        health.rests_until = None;
        Some(space(&self.stem, health.generation))
    }

    /// Begins a generation after a failure of the cache: all hashes are invalidated.
    async fn begin_generation(&self, failed: &str, error: &CacheError) -> Result<(), JobFailure> {
        let _one = self.beginning.lock().await;
        let generation = {
            let health = self.health.lock();
            if space(&self.stem, health.generation) != failed {
                // Another worker did it.
                return Ok(());
            }
            health.generation + 1
        };
        tracing::warn!(%error, generation, "cache failed: all hashes are invalidated");
        let stored = self.state.set_meta("generation", generation.to_string());
        stored.await.map_err(|e| JobFailure::State(e.to_string()))?;
        let mut health = self.health.lock();
        *health = CacheHealth {
            generation,
            rests_until: Some(Instant::now() + CACHE_BACKOFF),
            reported_at: health.reported_at,
        };
        Ok(())
    }
}

/// The columns that hashes are computed from.
fn columns(shape: &TableSchema) -> String {
    let column = |c: &ColumnSchema| {
        let key = if c.is_key { " key" } else { "" };
        format!("{} {}{key}", c.name, c.kind)
    };
    let columns: Vec<String> = shape.columns.iter().map(column).collect();
    columns.join(", ")
}

fn space(stem: &str, generation: u64) -> String {
    format!("{stem}:{generation}")
}

fn open(
    cache: &RowHashCacheConfig,
    execution: &JobExecution,
    space: &str,
) -> Result<Box<dyn CacheBackend>, CacheError> {
    match cache {
        RowHashCacheConfig::None => Err(CacheError("there is no cache".to_owned())),
        RowHashCacheConfig::Embedded { max_rows } => {
            let path = execution.state.dir().join("cache.db");
            let owner = Arc::new(execution.state.clone());
            let cache = EmbeddedCache::open(&path, space, *max_rows, owner)?;
            Ok(Box::new(cache))
        }
        #[cfg(feature = "redis")]
        RowHashCacheConfig::Redis { url, ttl, ca_file } => {
            use forebay_connect::cache::redis::{RedisCache, RedisConfig};
            let ca_pem = ca_file.as_deref().map(super::read_certificates);
            Ok(Box::new(RedisCache::open(RedisConfig {
                url: url.expose().into(),
                ttl: ttl.0,
                ca_pem: ca_pem.transpose().map_err(CacheError)?,
                timeout: Duration::from_secs(2),
            })?))
        }
        #[cfg(not(feature = "redis"))]
        RowHashCacheConfig::Redis { .. } => Err(CacheError(
            "this build has no Redis (cargo feature `redis`)".to_owned(),
        )),
    }
}
