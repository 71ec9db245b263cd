//! Encryption and authentication.
//!
//! Invariant: secrets are only in the client's configuration; no error or debug output shows one.

use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

use super::error::KafkaConfigError;

#[derive(Clone, Debug)]
pub enum PemSource {
    /// PEM file.
    File(PathBuf),
    /// PEM text.
    Text(SecretString),
}

/// Encryption. Requires the feature `kafka-tls`.
#[derive(Clone, Debug)]
pub struct KafkaTlsConfig {
    /// CA certificates for the broker's certificate. Default: those of the operating system.
    pub ca: Option<PemSource>,
    /// Client certificate and key.
    pub identity: Option<ClientIdentity>,
    /// Whether the broker's certificate must name the host. Default: yes.
    pub verify_host: bool,
}

impl Default for KafkaTlsConfig {
    fn default() -> Self {
        Self {
            ca: None,
            identity: None,
            verify_host: true,
        }
    }
}

/// Client authentication by certificate (mutual TLS).
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The certificate, with intermediate certificates.
    pub certificate: PemSource,
    pub key: PemSource,
    /// Password of an encrypted key.
    pub key_password: Option<SecretString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// Plain text: only with [`KafkaTlsConfig`].
    Plain,
    /// Requires the feature `kafka-tls`.
    ScramSha256,
    /// Requires the feature `kafka-tls`.
    ScramSha512,
}

impl SaslMechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Authentication by SASL.
#[derive(Clone, Debug)]
pub enum SaslConfig {
    Password {
        mechanism: SaslMechanism,
        user: String,
        password: SecretString,
    },
    /// A token (OAUTHBEARER) in a file: a JWT with `sub` and `exp`. The file is read again before
    /// the token expires. Requires the feature `kafka-tls`.
    Token { file: PathBuf },
}

/// Encryption and authentication of the connections to brokers.
#[derive(Clone, Debug, Default)]
pub struct KafkaSecurity {
    /// Encryption. Default: none.
    pub tls: Option<KafkaTlsConfig>,
    /// Authentication by user or token. Default: none.
    pub sasl: Option<SaslConfig>,
}

impl KafkaSecurity {
    /// Adds these settings to the client's configuration.
    pub(super) fn apply(&self, client: &mut ClientConfig) -> Result<(), KafkaConfigError> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => return Ok(()),
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        let encrypted = matches!(
            self.sasl,
            Some(SaslConfig::Token { .. })
                | Some(SaslConfig::Password {
                    mechanism: SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512,
                    ..
                })
        );
        if cfg!(not(feature = "kafka-tls")) && (self.tls.is_some() || encrypted) {
            return Err(KafkaConfigError::new(
                "security.protocol",
                "this build has no TLS and SCRAM for Kafka: build it with the feature `kafka-tls`",
            ));
        }
        client.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            tls.apply(client)?;
        }
        match &self.sasl {
            None => {}
            Some(SaslConfig::Password {
                mechanism,
                user,
                password,
            }) => {
                for (name, value) in [
                    ("sasl.username", user.as_str()),
                    ("sasl.password", password.expose_secret()),
                ] {
                    if value.is_empty() {
                        return Err(KafkaConfigError::new(name, "must not be empty"));
                    }
                    client.set(name, value);
                }
                client.set("sasl.mechanisms", mechanism.name());
            }
            Some(SaslConfig::Token { .. }) => {
                client.set("sasl.mechanisms", "OAUTHBEARER");
            }
        }
        Ok(())
    }
}

impl KafkaTlsConfig {
    fn apply(&self, client: &mut ClientConfig) -> Result<(), KafkaConfigError> {
        match &self.ca {
            Some(ca) => set(client, "ssl.ca", ca)?,
            // OpenSSL is linked statically and doesn't know the system's certificate folder.
            None => _ = client.set("ssl.ca.location", "probe"),
        }
        if let Some(identity) = &self.identity {
            set(client, "ssl.certificate", &identity.certificate)?;
            set(client, "ssl.key", &identity.key)?;
            if let Some(password) = &identity.key_password {
                client.set("ssl.key.password", password.expose_secret());
            }
        }
        let check = if self.verify_host { "https" } else { "none" };
        client.set("ssl.endpoint.identification.algorithm", check);
        Ok(())
    }
}

/// Passes the PEM text and not the file name to the client: so an unreadable file is rejected now,
/// with its name. A replaced file takes effect at the next start.
fn set(client: &mut ClientConfig, prefix: &str, pem: &PemSource) -> Result<(), KafkaConfigError> {
    let name = format!("{prefix}.pem");
    let invalid = |problem: &dyn fmt::Display| KafkaConfigError::new(&name, problem);
    let text = match pem {
        PemSource::Text(text) => text.clone(),
        PemSource::File(file) => {
            let read = std::fs::read_to_string(file);
            let text = read.map_err(|e| invalid(&format_args!("{}: {e}", file.display())))?;
            SecretString::from(text)
        }
    };
    if !text.expose_secret().contains("-----BEGIN ") {
        let source = match pem {
            PemSource::File(file) => format!("{}: ", file.display()),
            PemSource::Text(_) => String::new(),
        };
        return Err(invalid(&format_args!(
            "{source}not PEM: no line begins with -----BEGIN"
        )));
    }
    client.set(&name, text.expose_secret());
    Ok(())
}
