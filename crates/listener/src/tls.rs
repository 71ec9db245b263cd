//! TLS of the listener.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::config::TlsConfig;

/// Why TLS can't be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or has nothing of the kind in it.
    #[error("{what} file {path}: {cause}")]
    File {
        /// Which file.
        what: &'static str,
        /// Where it is.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// Certificate and key are no pair, or of a kind that is not known.
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

/// Reads certificate and key.
pub(super) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let path = &config.cert_file;
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| broken("certificate", path, e))?;
    if certificates.is_empty() {
        return Err(broken("certificate", path, "it holds no certificate"));
    }
    let path = &config.key_file;
    let key = PrivateKeyDer::from_pem_file(path).map_err(|e| broken("key", path, e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
