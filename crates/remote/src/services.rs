//! For tests of real services: where they are, and what happens when they are not there.
//!
//! `scripts/services/up` starts them and writes the environment variables to a file that test
//! commands source. Tests are the one place that reads the environment.

#![expect(
    clippy::print_stderr,
    reason = "what was not tested must be seen in a test's output"
)]

use secrecy::SecretString;

pub mod faults;
pub mod proxy;

/// The PostgreSQL server of the tests.
#[derive(Clone, Debug)]
pub struct PostgresService {
    /// With rights to create schemas.
    pub url: String,
    /// File of the CA that signed the server's certificate, when it has one.
    pub ca_file: Option<String>,
}

/// The S3 server of the tests.
#[derive(Clone, Debug)]
pub struct S3Service {
    /// `http://127.0.0.1:…`
    pub endpoint: String,
    /// A bucket that is there.
    pub bucket: String,
    /// Key that may read and write objects.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretString,
}

impl S3Service {
    /// A staging root of its own for each test: `prefix` below the bucket.
    #[cfg(feature = "s3")]
    pub fn staging(&self, prefix: &str) -> crate::staging::S3Staging {
        let mut config = crate::staging::S3Staging::new(&self.bucket, "us-east-1")
            .with_endpoint(&self.endpoint)
            .with_keys(&self.access_key, self.secret_key.clone());
        config.prefix = prefix.to_owned();
        config
    }
}

/// The PostgreSQL server, by `FOREBAY_TEST_POSTGRES_URL` and `FOREBAY_TEST_POSTGRES_CA`. Nothing
/// when it is not set: then the test says so and passes.
///
/// # Panics
/// When it is not set and `CI=true`: there, nothing may go untested.
pub fn postgres(test: &str) -> Option<PostgresService> {
    let url = variable(test, "FOREBAY_TEST_POSTGRES_URL")?;
    let ca_file = std::env::var("FOREBAY_TEST_POSTGRES_CA").ok();
    Some(PostgresService { url, ca_file })
}

/// The S3 server, by `FOREBAY_TEST_S3_ENDPOINT`, `_BUCKET`, `_ACCESS_KEY` and `_SECRET_KEY`. Nothing
/// when one is not set: then the test says so and passes.
///
/// # Panics
/// When one is not set and `CI=true`: there, nothing may go untested.
pub fn s3(test: &str) -> Option<S3Service> {
    Some(S3Service {
        endpoint: variable(test, "FOREBAY_TEST_S3_ENDPOINT")?,
        bucket: variable(test, "FOREBAY_TEST_S3_BUCKET")?,
        access_key: variable(test, "FOREBAY_TEST_S3_ACCESS_KEY")?,
        secret_key: variable(test, "FOREBAY_TEST_S3_SECRET_KEY")?.into(),
    })
}

/// A Kafka broker, by `FOREBAY_TEST_KAFKA_BROKERS`. Nothing when it is not set: then the test says
/// so and passes.
///
/// # Panics
/// When it is not set and `CI=true`: there, nothing may go untested.
pub fn kafka(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_KAFKA_BROKERS")
}

/// Encrypted listeners of a Kafka broker.
#[derive(Clone, Debug)]
pub struct KafkaTls {
    /// The first of its ports; see `scripts/services/kafka.sh`.
    pub port: u16,
    /// Directory of the certificates.
    pub dir: std::path::PathBuf,
}

/// The encrypted listeners of the Kafka broker, by `FOREBAY_TEST_KAFKA_TLS_PORT` and
/// `FOREBAY_TEST_KAFKA_TLS`. Nothing when one is not set: then the test says so and passes.
///
/// # Panics
/// When one is not set and `CI=true`: there, nothing may go untested. When the port is none.
pub fn kafka_tls(test: &str) -> Option<KafkaTls> {
    let port = variable(test, "FOREBAY_TEST_KAFKA_TLS_PORT")?;
    Some(KafkaTls {
        port: port.parse().expect("FOREBAY_TEST_KAFKA_TLS_PORT is a port"),
        dir: variable(test, "FOREBAY_TEST_KAFKA_TLS")?.into(),
    })
}

/// The address of the Redis server, by `FOREBAY_TEST_REDIS_URL`. Nothing when it is not set: then
/// the test says so and passes.
///
/// # Panics
/// When it is not set and `CI=true`: there, nothing may go untested.
pub fn redis(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_REDIS_URL")
}

/// Address of a Redis server with TLS and its CA's certificate, by `FOREBAY_TEST_REDIS_TLS_URL` and
/// `FOREBAY_TEST_REDIS_CA`. Nothing when one is not set: then the test says so and passes.
///
/// # Panics
/// When one is not set and `CI=true`: there, nothing may go untested.
pub fn redis_tls(test: &str) -> Option<(String, String)> {
    let url = variable(test, "FOREBAY_TEST_REDIS_TLS_URL")?;
    Some((url, variable(test, "FOREBAY_TEST_REDIS_CA")?))
}

/// The certificate of the CA of the Cassandra node, by `FOREBAY_TEST_CASSANDRA_CA`. Nothing when it
/// is not set: then the test says so and passes.
///
/// # Panics
/// When it is not set and `CI=true`: there, nothing may go untested.
pub fn cassandra_ca(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_CASSANDRA_CA")
}

/// Host and port of the Cassandra node, by `FOREBAY_TEST_CASSANDRA_NODE`. Nothing when it is not
/// set: then the test says so and passes.
///
/// # Panics
/// When it is not set and `CI=true`: there, nothing may go untested.
pub fn cassandra(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_CASSANDRA_NODE")
}

/// Host and port of a Cassandra node that asks for a login, by
/// `FOREBAY_TEST_CASSANDRA_PASSWORDS_NODE`; user and password are `cassandra`. Nothing when it is not
/// set: then the test says so and passes.
///
/// # Panics
/// When it is not set and `CI=true`: there, nothing may go untested.
pub fn cassandra_passwords(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_CASSANDRA_PASSWORDS_NODE")
}

/// A Chromium and the driver's modules (`ui/install`), by `FOREBAY_TEST_CHROMIUM`. Nothing when it is
/// not set: then the test says so and passes.
///
/// # Panics
/// When it is not set and `CI=true`: there, nothing may go untested.
pub fn chromium(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_CHROMIUM")
}

/// The folder of the tools for OpenAPI documents, by `FOREBAY_TEST_OPENAPI_TOOLS`. Nothing when it is
/// not set: then the test says so and passes.
///
/// # Panics
/// When it is not set and `CI=true`: there, nothing may go untested.
pub fn openapi_tools(test: &str) -> Option<std::path::PathBuf> {
    variable(test, "FOREBAY_TEST_OPENAPI_TOOLS").map(Into::into)
}

fn variable(test: &str, name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Some(value),
        _ => {
            let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                !is_ci,
                "{name} is not set: CI has to run {test} against the real service (scripts/services/up)"
            );
            eprintln!("SKIPPED: {test}: {name} is not set, see scripts/services/README.md");
            None
        }
    }
}
