//! TLS of a listener, with replaceable certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Certificate and key for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate and its chain.
    pub cert_file: PathBuf,
    /// PEM file with the private key of the certificate.
    pub key_file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is unreadable or lacks the expected content.
    #[error("{what} file {path}: {cause}")]
    File {
        what: &'static str,
        path: String,
        cause: String,
    },
    /// Certificate and key don't match, or are of an unknown type.
    #[error("certificate and key can't be used: {0}")]
    Unusable(#[from] rustls::Error),
}

fn broken(what: &'static str, path: &Path, cause: impl ToString) -> TlsError {
    TlsError::File {
        what,
        path: path.display().to_string(),
        cause: cause.to_string(),
    }
}

/// A valid certificate with its key.
#[derive(Clone, Debug)]
pub struct LoadedTls {
    config: Arc<ServerConfig>,
    expires_at: Option<u64>,
}

impl LoadedTls {
    /// Reads certificate and key, and checks that they match.
    pub fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let path = &config.cert_file;
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|e| broken("certificate", path, e))?;
        if certificates.is_empty() {
            return Err(broken("certificate", path, "it holds no certificate"));
        }
        let expires_at = certificates.iter().filter_map(expires_at).min();
        let path = &config.key_file;
        let key = PrivateKeyDer::from_pem_file(path).map_err(|e| broken("key", path, e))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(server),
            expires_at,
        })
    }
}

fn expires_at(certificate: &CertificateDer<'_>) -> Option<u64> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let not_after = parsed.tbs_certificate.validity.not_after;
    Some(not_after.to_unix_duration().as_secs())
}

/// TLS of a listener. Its certificate can be replaced at runtime: new handshakes use the new one,
/// open connections keep theirs.
#[derive(Debug)]
pub struct ReloadableTls(RwLock<LoadedTls>);

impl ReloadableTls {
    pub fn new(loaded: LoadedTls) -> Arc<Self> {
        Arc::new(Self(RwLock::new(loaded)))
    }

    /// Replaces the certificate.
    pub fn replace(&self, loaded: LoadedTls) {
        *self.0.write() = loaded;
    }

    /// When the first certificate of the chain expires, in seconds since 1970-01-01T00:00:00Z;
    /// `None` if a certificate does not tell.
    pub fn expires_at(&self) -> Option<u64> {
        self.0.read().expires_at
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let loaded = self.0.read();
        TlsAcceptor::from(Arc::clone(&loaded.config))
    }
}
