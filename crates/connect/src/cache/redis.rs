//! A cache of row hashes in Redis: one round trip for a batch of keys.

use std::time::Duration;

use async_trait::async_trait;
use forebay_model::words::short;
use redis::TlsCertificates;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use crate::cache::{CacheBackend, CacheError, RowHash};

/// Keys of one round trip.
const KEYS_PER_COMMAND: usize = 1000;

/// A Redis server.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// `redis://user:password@host:6379/0`, or `rediss://…` with TLS. May have a password in it, so
    /// it is never shown.
    pub url: SecretString,
    /// How long a hash is known.
    pub ttl: Duration,
    /// Certificates (PEM) that take the place of the system's, where the address is `rediss://`.
    pub ca_pem: Option<Vec<u8>>,
    /// How long connecting, and an answer, may take.
    pub timeout: Duration,
}

/// A cache in Redis.
pub struct RedisCache {
    client: redis::Client,
    config: RedisConfig,
    /// Made when it is first needed: a server that is down at the start may come later.
    manager: Mutex<Option<ConnectionManager>>,
}

impl RedisCache {
    /// Reads the address; nothing is asked yet.
    ///
    /// # Errors
    /// When the address can't be read; it is not shown.
    pub fn open(config: RedisConfig) -> Result<Self, CacheError> {
        // The client takes the process's choice of cryptography, and panics where there is none; it
        // may have been made before.
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
                "the address (or the CA certificates) of Redis can't be read: it should look like redis://user:password@host:6379/0"
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
        // Tries of its own would hide an outage from who has to know of it.
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

/// A pipeline that fails has a sentence for each of its commands: that of the first is enough.
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
            // What is no hash is not from us: nothing is known of it.
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
