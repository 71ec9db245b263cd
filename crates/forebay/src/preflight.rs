//! Checks of a start that need no writes: a start that fails one of them leaves no files behind.

use std::path::Path;

use forebay_connect::staging::{Staging, StagingConfig};
use forebay_connect::table::postgres::PostgresTable;
use forebay_ingest::source::http::HttpSourceServer;
use forebay_listener::LoadedTls;

use crate::api_listener;
use crate::cli_error::CliError;
use crate::config::{Config, Environment, NodeRole};
use crate::data_dir::check_dir;
use crate::topics::ProviderRegistry;

pub(crate) async fn check(config: &Config, env: &Environment) -> Result<(), CliError> {
    if let Some(first) = violations(config, env).into_iter().next() {
        return Err(first);
    }
    if config.has(NodeRole::Api) {
        drop(api_listener::listen(config).await?);
    }
    if let Some(address) = config.telemetry.metrics.listen {
        drop(api_listener::listen_at(address, "telemetry.metrics.listen").await?);
    }
    if config.has(NodeRole::Source) {
        HttpSourceServer::probe(&config.source.http)
            .await
            .map_err(crate::roles::source_bind_failure)?;
    }
    Ok(())
}

/// Violations beyond the values that need no writes and no requests: files that the configuration
/// names, and settings of clients.
pub(crate) fn violations(config: &Config, env: &Environment) -> Vec<CliError> {
    let dir = config.data_dir.as_path();
    let mut found = vec![check_dir(dir, config.token_file.as_deref())];
    found.push(check_staging(config, env));
    found.push(check_postgres(config));
    found.push(check_sqlite(config));
    if let Some(copies) = &config.metadata.copies_dir {
        found.push(check_folder("metadata.copiesDir", copies));
    }
    for (key, tls) in config.all_tls() {
        let read = LoadedTls::read(tls).map(drop);
        found.push(read.map_err(|e| CliError::usage(format_args!("{key}: {e}"))));
    }
    let found = found.into_iter().filter_map(Result::err);
    found.chain(ProviderRegistry::violations(config)).collect()
}

fn check_staging(config: &Config, env: &Environment) -> Result<(), CliError> {
    let resolved = config.staging.resolve(&config.data_dir, env);
    let resolved = resolved.map_err(CliError::usage)?;
    match &resolved {
        StagingConfig::Local(local) => check_folder("staging.local.dir", &local.dir),
        // Sends no request yet.
        StagingConfig::S3(_) => Staging::open(&resolved)
            .map(drop)
            .map_err(|e| CliError::usage(format_args!("staging.s3: {e}"))),
    }
}

fn check_postgres(config: &Config) -> Result<(), CliError> {
    let resolved = config.table.resolve_postgres().map_err(CliError::usage)?;
    let opened = resolved.map(|postgres| PostgresTable::open(&postgres));
    match opened {
        Some(Err(e)) => Err(CliError::usage(format_args!("table.postgres: {e}"))),
        _ => Ok(()),
    }
}

fn check_sqlite(config: &Config) -> Result<(), CliError> {
    let Some(path) = &config.table.sqlite.path else {
        return Ok(());
    };
    let shown_path = path.display();
    let key = "table.sqlite.path";
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    match parent {
        _ if path.is_dir() => Err(format!("{key}: {shown_path} is a directory")),
        // The data directory will be created.
        Some(folder) if !folder.is_dir() && folder != config.data_dir => Err(format!(
            "{key}: directory {} does not exist",
            folder.display()
        )),
        _ => Ok(()),
    }
    .map_err(CliError::usage)
}

/// Checks that a path is a directory or does not exist.
fn check_folder(key: &str, path: &Path) -> Result<(), CliError> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            let shown_path = path.display();
            Err(CliError::usage(format_args!(
                "{key}: {shown_path} is not a directory"
            )))
        }
        _ => Ok(()),
    }
}
