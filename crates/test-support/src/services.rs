//! Addresses of the real services that tests use.
//!
//! `scripts/services/up` starts them and writes the environment variables to a file that test
//! commands source. Only tests read the environment.
//!
//! Each function returns `None` if a variable is not set; then the test prints a notice and passes.
//! With `CI=true` the function panics instead, so that nothing remains untested.

#![expect(
    clippy::print_stderr,
    reason = "skipped tests must be visible in the output"
)]

use secrecy::SecretString;

#[derive(Clone, Debug)]
pub struct PostgresService {
    /// A user who may create schemas.
    pub url: String,
    /// CA of the server's certificate, if it has one.
    pub ca_file: Option<String>,
}

#[derive(Clone, Debug)]
pub struct S3Service {
    /// `http://127.0.0.1:…`
    pub endpoint: String,
    /// An existing bucket.
    pub bucket: String,
    pub access_key: String,
    pub secret_key: SecretString,
}

/// From `FOREBAY_TEST_POSTGRES_URL` and `FOREBAY_TEST_POSTGRES_CA`.
pub fn postgres(test: &str) -> Option<PostgresService> {
    let url = variable(test, "FOREBAY_TEST_POSTGRES_URL")?;
    let ca_file = std::env::var("FOREBAY_TEST_POSTGRES_CA").ok();
    Some(PostgresService { url, ca_file })
}

/// From `FOREBAY_TEST_S3_ENDPOINT`, `_BUCKET`, `_ACCESS_KEY` and `_SECRET_KEY`.
pub fn s3(test: &str) -> Option<S3Service> {
    Some(S3Service {
        endpoint: variable(test, "FOREBAY_TEST_S3_ENDPOINT")?,
        bucket: variable(test, "FOREBAY_TEST_S3_BUCKET")?,
        access_key: variable(test, "FOREBAY_TEST_S3_ACCESS_KEY")?,
        secret_key: variable(test, "FOREBAY_TEST_S3_SECRET_KEY")?.into(),
    })
}

/// Kafka brokers, from `FOREBAY_TEST_KAFKA_BROKERS`.
pub fn kafka(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_KAFKA_BROKERS")
}

/// Encrypted listeners of a Kafka broker.
#[derive(Clone, Debug)]
pub struct KafkaTls {
    /// The first of the ports; see `scripts/services/kafka.sh`.
    pub port: u16,
    /// Directory of the certificates.
    pub dir: std::path::PathBuf,
}

/// From `FOREBAY_TEST_KAFKA_TLS_PORT` and `FOREBAY_TEST_KAFKA_TLS`.
pub fn kafka_tls(test: &str) -> Option<KafkaTls> {
    let port = variable(test, "FOREBAY_TEST_KAFKA_TLS_PORT")?;
    Some(KafkaTls {
        port: port.parse().expect("FOREBAY_TEST_KAFKA_TLS_PORT is a port"),
        dir: variable(test, "FOREBAY_TEST_KAFKA_TLS")?.into(),
    })
}

/// URL of a Redis server, from `FOREBAY_TEST_REDIS_URL`.
pub fn redis(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_REDIS_URL")
}

/// URL of a Redis server with TLS and its CA certificate, from `FOREBAY_TEST_REDIS_TLS_URL` and
/// `FOREBAY_TEST_REDIS_CA`.
pub fn redis_tls(test: &str) -> Option<(String, String)> {
    let url = variable(test, "FOREBAY_TEST_REDIS_TLS_URL")?;
    Some((url, variable(test, "FOREBAY_TEST_REDIS_CA")?))
}

/// CA certificate of the Cassandra node, from `FOREBAY_TEST_CASSANDRA_CA`.
pub fn cassandra_ca(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_CASSANDRA_CA")
}

/// Host and port of the Cassandra node, from `FOREBAY_TEST_CASSANDRA_NODE`.
pub fn cassandra(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_CASSANDRA_NODE")
}

/// Host and port of a Cassandra node that requires a login (user and password are `cassandra`),
/// from `FOREBAY_TEST_CASSANDRA_PASSWORDS_NODE`.
pub fn cassandra_passwords(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_CASSANDRA_PASSWORDS_NODE")
}

/// Chromium and the driver's modules (`ui/install`), from `FOREBAY_TEST_CHROMIUM`.
pub fn chromium(test: &str) -> Option<String> {
    variable(test, "FOREBAY_TEST_CHROMIUM")
}

/// Folder of the OpenAPI tools, from `FOREBAY_TEST_OPENAPI_TOOLS`.
pub fn openapi_tools(test: &str) -> Option<std::path::PathBuf> {
    variable(test, "FOREBAY_TEST_OPENAPI_TOOLS").map(Into::into)
}

/// Folder of the libraries of webhook senders, from `FOREBAY_TEST_WEBHOOK_TOOLS`.
pub fn webhook_tools(test: &str) -> Option<std::path::PathBuf> {
    variable(test, "FOREBAY_TEST_WEBHOOK_TOOLS").map(Into::into)
}

fn variable(test: &str, name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Some(value),
        _ => {
            let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                !is_ci,
                "{name} is not set: CI must run {test} against the real service (scripts/services/up)"
            );
            eprintln!("SKIPPED: {test}: {name} is not set, see scripts/services/README.md");
            None
        }
    }
}
