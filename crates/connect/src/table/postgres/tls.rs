//! TLS to a PostgreSQL server.

use tokio_postgres_rustls::MakeRustlsConnect;

use crate::table::TableError;
use crate::table::postgres::SslMode;
use crate::tls::{ServerVerification, client_config};

/// TLS connector of a mode. `ca_pem` replaces the system's certificates.
pub(super) fn connector(
    mode: SslMode,
    ca_pem: Option<&[u8]>,
) -> Result<MakeRustlsConnect, TableError> {
    let verify = match mode {
        SslMode::VerifyFull => ServerVerification::Full,
        // These modes promise encryption only.
        SslMode::Disable | SslMode::Prefer | SslMode::Require => ServerVerification::Nothing,
    };
    let config = client_config(verify, ca_pem).map_err(|e| {
        TableError::Terminal(format!("PostgreSQL with sslmode {}: {e}", mode.name()))
    })?;
    Ok(MakeRustlsConnect::new(config))
}
