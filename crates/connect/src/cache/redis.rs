//! Cache of row hashes in Redis: one round trip per batch of keys.

use std::time::Duration;

use async_trait::async_trait;
use forebay_model::words::short;
use redis::TlsCertificates;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use crate::cache::{CacheBackend, CacheError, RowHash};

/// Keys per round trip.
const KEYS_PER_COMMAND: usize = 1000;

#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// `redis://user:password@host:6379/0`, or `rediss://…` for TLS. May contain a password, so it
    /// is never shown.
    pub url: SecretString,
    /// Time to live of an entry.
    pub ttl: Duration,
    /// CA certificates (PEM) that replace the system's, for `rediss://`.
    pub ca_pem: Option<Vec<u8>>,
    /// Limit of connecting, and of each response.
    pub timeout: Duration,
}

pub struct RedisCache {
    client: redis::Client,
    config: RedisConfig,
    /// Created on first use, as the server may be down at start-up.
    manager: Mutex<Option<ConnectionManager>>,
}

impl RedisCache {
    /// Parses the address without connecting. The error does not show the address.
    pub fn open(config: RedisConfig) -> Result<Self, CacheError> {
        // The client uses the process-wide crypto provider and panics without one; it may be
        // installed already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let url = config.url.expose_secret();
        let client = match &config.ca_pem {
            None => redis::Client::open(url),
            Some(pem) => redis::Client::build_with_tls(
                url,
                TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone()),
                },
            ),
        };
        let client = client.map_err(|_| {
            CacheError(
                "invalid Redis address or CA certificates: expected redis://user:password@host:6379/0"
                    .to_owned(),
            )
        })?;
        Ok(Self {
            client,
            config,
            manager: Mutex::new(None),
        })
    }

    async fn connection(&self) -> Result<ConnectionManager, CacheError> {
        let mut manager = self.manager.lock().await;
        if let Some(manager) = &*manager {
            return Ok(manager.clone());
        }
        // Retries in the client would hide an outage from the caller.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(self.config.timeout))
            .set_response_timeout(Some(self.config.timeout));
        let made = ConnectionManager::new_with_config(self.client.clone(), config).await;
        let made = made.map_err(|e| failed(&e))?;
        *manager = Some(made.clone());
        Ok(made)
    }
}

/// A failed pipeline has an error per command; the first one is enough.
fn failed(error: &redis::RedisError) -> CacheError {
    let text = error.to_string();
    let text = match text.split_once("), (Index ") {
        Some((first, _)) => {
            let first = first
                .split_once("error: ")
                .map_or(first, |(_, cause)| cause);
            format!("{first} (and further commands of the pipeline)")
        }
        None => text,
    };
    CacheError(format!("Redis: {}", short(&text)))
}

fn name(space: &str, key: &RowHash) -> Vec<u8> {
    let mut name = Vec::with_capacity(space.len() + 9 + key.len());
    name.extend_from_slice(b"forebay:");
    name.extend_from_slice(space.as_bytes());
    name.push(b':');
    name.extend_from_slice(key);
    name
}

#[async_trait]
impl CacheBackend for RedisCache {
    async fn get(&self, space: &str, keys: &[RowHash]) -> Result<Vec<Option<RowHash>>, CacheError> {
        let mut found = Vec::with_capacity(keys.len());
        for part in keys.chunks(KEYS_PER_COMMAND) {
            let mut command = redis::cmd("MGET");
            for key in part {
                command.arg(name(space, key));
            }
            let mut connection = self.connection().await?;
            let values: Vec<Option<Vec<u8>>> = command
                .query_async(&mut connection)
                .await
                .map_err(|e| failed(&e))?;
            // A value that is no hash is foreign: treat it as a miss.
            found.extend(values.into_iter().map(|v| RowHash::try_from(v?).ok()));
        }
        Ok(found)
    }

    async fn invalidate(&self, space: &str, keys: &[RowHash]) -> Result<(), CacheError> {
        for part in keys.chunks(KEYS_PER_COMMAND) {
            let mut command = redis::cmd("DEL");
            for key in part {
                command.arg(name(space, key));
            }
            let mut connection = self.connection().await?;
            let _: i64 = command
                .query_async(&mut connection)
                .await
                .map_err(|e| failed(&e))?;
        }
        Ok(())
    }

    async fn put(&self, space: &str, entries: &[(RowHash, RowHash)]) -> Result<(), CacheError> {
        let millis = u64::try_from(self.config.ttl.as_millis()).unwrap_or(u64::MAX);
        for part in entries.chunks(KEYS_PER_COMMAND) {
            let mut pipe = redis::pipe();
            for (key, hash) in part {
                pipe.cmd("SET")
                    .arg(name(space, key))
                    .arg(&hash[..])
                    .arg("PX")
                    .arg(millis)
                    .ignore();
            }
            let mut connection = self.connection().await?;
            let () = pipe
                .query_async(&mut connection)
                .await
                .map_err(|e| failed(&e))?;
        }
        Ok(())
    }
}
