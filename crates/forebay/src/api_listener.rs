//! Listeners with the limits of the management API.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use forebay_listener::{
    Listener, ListenerMetrics, ListenerOptions, LoadedTls, ReloadableTls, RouterService,
};
use tokio::net::TcpListener;

use crate::cli_error::CliError;
use crate::config::Config;

/// Open connections of a listener other than the source's.
pub(crate) const CONNECTIONS: &str = "forebay_listener_connections";
/// Connections of such a listener rejected because there were too many.
pub(crate) const CONNECTIONS_REJECTED: &str = "forebay_listener_connections_rejected_total";

/// Serves routes on a listener with the limits of the API.
pub(crate) fn serve(
    name: &'static str,
    socket: TcpListener,
    tls: Option<Arc<ReloadableTls>>,
    router: Router,
    config: &Config,
) -> Listener {
    let limits = config.api.limits();
    let options = ListenerOptions {
        limits,
        tls,
        exempt: None,
        has_date: true,
        metrics: ListenerMetrics {
            connections: metrics::gauge!(CONNECTIONS, "listener" => name),
            rejected: metrics::counter!(CONNECTIONS_REJECTED, "listener" => name),
        },
    };
    let service = RouterService::new(router, "stream.api.", &limits);
    Listener::start(socket, options, service)
}

/// Binds the API listener.
pub(crate) async fn listen(config: &Config) -> Result<(TcpListener, SocketAddr), CliError> {
    listen_at(config.api.listen, "--api-listen or api.listen").await
}

/// Binds a listener. The hint names the setting.
pub(crate) async fn listen_at(
    address: SocketAddr,
    hint: &'static str,
) -> Result<(TcpListener, SocketAddr), CliError> {
    let bound = forebay_listener::bind(address).await;
    bound.map_err(|e| CliError::new(e).hint(format_args!("choose another address with {hint}")))
}

/// Loads the certificate of the API and metrics listeners, if there is one.
pub(crate) fn api_tls(config: &Config) -> Result<Option<Arc<ReloadableTls>>, CliError> {
    let Some((key, named)) = config.all_tls().find(|(key, _)| *key == "api.tls") else {
        return Ok(None);
    };
    let loaded = LoadedTls::read(named);
    let loaded = loaded.map_err(|e| CliError::new(format_args!("{key}: {e}")))?;
    Ok(Some(ReloadableTls::new(loaded)))
}
