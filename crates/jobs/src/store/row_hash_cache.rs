//! What is known to be in a table, so that an unchanged row is not written again.
//!
//! The cache may be lost, stale or away at any time, and no row may be lost by that. So:
//!
//! - a hash is noted only after its row was written;
//! - a hash that differs is forgotten *before* the row is written: if the process dies between the
//!   write and the note, nothing is known of the key, instead of something wrong;
//! - a hash says nothing of other columns than those that it was made of: with others, another
//!   generation begins too;
//! - when the cache can't be told to forget, everything is forgotten: hashes are kept in a space
//!   that has the table's incarnation and a generation of the job's state in its name, and another
//!   generation is begun, on disk, before anything is written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_connect::cache::embedded::EmbeddedCache;
use forebay_connect::cache::{CacheBackend, CacheError, RowHash};
use forebay_connect::keyed::{ColumnSchema, PreparedTable, TableSchema};
use tokio::time::Instant;

use crate::definition::RowHashCacheConfig;
use crate::engine::JobExecution;
use crate::engine::outcome::JobFailure;
use crate::state::JobState;

/// How long a cache that failed is left alone.
const CACHE_BACKOFF: Duration = Duration::from_secs(1);
/// How long a cache that can't be told anything is not spoken of again.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Hashes of the rows of a table.
pub(super) struct RowHashCache {
    cache: Box<dyn CacheBackend>,
    state: JobState,
    /// The part of the space's name that stays.
    stem: String,
    health: Mutex<CacheHealth>,
    /// One generation is begun at a time.
    beginning: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct CacheHealth {
    generation: u64,
    /// The cache failed, and is left alone until then.
    rests_until: Option<Instant>,
    /// Time of the last warning that the cache can't tell what was written.
    reported_at: Option<Instant>,
}

/// What of a batch has to be written.
pub(super) struct WritePlan {
    /// Places of the rows.
    pub(super) wanted: Vec<usize>,
    /// Their keys and hashes, in the same order.
    hashes: Vec<(RowHash, RowHash)>,
    /// Where they are noted afterwards; nowhere when the cache is left alone.
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
        // Someone may have emptied it; or the same values were written into other columns: what is
        // known of its rows is not true any more.
        if prepared.is_empty || before.as_ref() != Some(&columns) {
            health.generation += 1;
            let kept = execution
                .state
                .set_meta("generation", health.generation.to_string());
            kept.await.map_err(execution.state_failed())?;
            // After the generation: killed in between, another one is begun.
            let kept = execution.state.set_meta("columns", columns).await;
            kept.map_err(execution.state_failed())?;
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

    /// Which of the `wanted` rows have to be written, whose keys and contents have these hashes.
    /// What is known of them is forgotten.
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

    /// Notes what was written: rows of those places for which `is_written` says so.
    pub(super) async fn record_written(&self, plan: WritePlan, is_written: impl Fn(usize) -> bool) {
        let Some(space) = &plan.space else { return };
        let written = plan.wanted.iter().zip(&plan.hashes);
        let written = written.filter(|(place, _)| is_written(**place));
        let written: Vec<(RowHash, RowHash)> = written.map(|(_, h)| *h).collect();
        if let Err(error) = self.cache.put(space, &written).await {
            // They are forgotten, so nothing wrong is known: they are written once more next time.
            // A cache that is full says so of each batch.
            let mut health = self.health.lock().unwrap_or_else(|e| e.into_inner());
            let is_told = health
                .reported_at
                .is_some_and(|at| at.elapsed() < WARNING_INTERVAL);
            if !is_told {
                health.reported_at = Some(Instant::now());
                tracing::warn!(%error, "the cache can't be told what was written");
            }
        }
    }

    /// Whether each row has another content than is known; what is known of those is forgotten.
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

    /// The space to use now, when the cache is not left alone.
    fn space(&self) -> Option<String> {
        let mut health = self.health.lock().unwrap_or_else(|e| e.into_inner());
        if health
            .rests_until
            .is_some_and(|until| until > Instant::now())
        {
            return None;
        }
        health.rests_until = None;
        Some(space(&self.stem, health.generation))
    }

    /// The cache has failed: nothing of what it knows counts any more.
    async fn begin_generation(&self, failed: &str, error: &CacheError) -> Result<(), JobFailure> {
        let _one = self.beginning.lock().await;
        let generation = {
            let health = self.health.lock().unwrap_or_else(|e| e.into_inner());
            if space(&self.stem, health.generation) != failed {
                // Another worker was here before.
                return Ok(());
            }
            health.generation + 1
        };
        tracing::warn!(%error, generation, "the cache has failed: rows are written as if it knew none");
        let kept = self.state.set_meta("generation", generation.to_string());
        kept.await.map_err(|e| JobFailure::State(e.to_string()))?;
        let mut health = self.health.lock().unwrap_or_else(|e| e.into_inner());
        *health = CacheHealth {
            generation,
            rests_until: Some(Instant::now() + CACHE_BACKOFF),
            reported_at: health.reported_at,
        };
        Ok(())
    }
}

/// The columns that hashes are made of.
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
