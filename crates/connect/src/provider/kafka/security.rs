//! Encryption and who we are.
//!
//! Invariant: a secret is in the client's configuration and nowhere else; no error and no debug
//! text shows one.

use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

use super::KafkaConfigError;

/// A certificate or key.
#[derive(Clone, Debug)]
pub enum PemSource {
    /// A file in PEM.
    File(PathBuf),
    /// The PEM itself.
    Text(SecretString),
}

/// Encryption. Needs the feature `kafka-tls`.
#[derive(Clone, Debug)]
pub struct KafkaTlsConfig {
    /// Certificates of the authorities that may have signed the broker's. Default: those of the
    /// operating system.
    pub ca: Option<PemSource>,
    /// Certificate and key that we show to the broker.
    pub identity: Option<ClientIdentity>,
    /// Whether the broker's certificate has to name the host that we connect to. Default: yes.
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

/// Who we are, by a certificate (mutual TLS).
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The certificate, and those between it and the authority.
    pub certificate: PemSource,
    /// Its private key.
    pub key: PemSource,
    /// The password of the key, if it has one.
    pub key_password: Option<SecretString>,
}

/// How a password is shown to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// As it is: only with [`KafkaTlsConfig`].
    Plain,
    /// Salted, by SHA-256. Needs the feature `kafka-tls`.
    ScramSha256,
    /// Salted, by SHA-512. Needs the feature `kafka-tls`.
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

/// Who we are, by SASL.
#[derive(Clone, Debug)]
pub enum SaslConfig {
    /// A user with a password.
    Password {
        /// How the password is shown.
        mechanism: SaslMechanism,
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A token (OAUTHBEARER) in a file: a JWT with `sub` and `exp`. The file is read again before
    /// the token expires. Needs the feature `kafka-tls`.
    Token {
        /// The file.
        file: PathBuf,
    },
}

/// Encryption and authentication of the way to the brokers.
#[derive(Clone, Debug, Default)]
pub struct KafkaSecurity {
    /// Encryption. Default: none.
    pub tls: Option<KafkaTlsConfig>,
    /// Authentication by user or token. Default: none.
    pub sasl: Option<SaslConfig>,
}

impl KafkaSecurity {
    /// Puts it into the client's settings.
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
                "this program was built without TLS and SCRAM to Kafka: build it with the feature `kafka-tls`",
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
                        return Err(KafkaConfigError::new(name, "it is empty"));
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
            // OpenSSL is linked statically, and does not know where this system keeps them.
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

/// The client is given the text: so a file that can't be read is refused now, by its name, and one
/// that is put in its place later is seen when the process starts anew.
fn set(client: &mut ClientConfig, prefix: &str, pem: &PemSource) -> Result<(), KafkaConfigError> {
    let name = format!("{prefix}.pem");
    let refused = |problem: &dyn fmt::Display| KafkaConfigError::new(&name, problem);
    let text = match pem {
        PemSource::Text(text) => text.clone(),
        PemSource::File(file) => {
            let read = std::fs::read_to_string(file);
            let text = read.map_err(|e| refused(&format_args!("{}: {e}", file.display())))?;
            SecretString::from(text)
        }
    };
    if !text.expose_secret().contains("-----BEGIN ") {
        let source = match pem {
            PemSource::File(file) => format!("{}: ", file.display()),
            PemSource::Text(_) => String::new(),
        };
        return Err(refused(&format_args!(
            "{source}not PEM, there is no line that begins with -----BEGIN"
        )));
    }
    client.set(&name, text.expose_secret());
    Ok(())
}
