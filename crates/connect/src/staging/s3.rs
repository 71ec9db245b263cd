//! Staging in S3-compatible storage.

use std::net::IpAddr;
use std::sync::Arc;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use secrecy::ExposeSecret;

mod requests;

use requests::S3Connector;

use crate::staging::{S3Staging, StagingError};

/// A bucket as an object store, for readers of other than staged objects, and its name for errors.
/// Doesn't contact the server.
///
/// # Errors
/// Terminal when the configuration is invalid.
pub fn bucket(config: &S3Staging) -> Result<(Arc<dyn ObjectStore>, String), StagingError> {
    let (store, name) = checked(config)?;
    Ok((Arc::new(store), name))
}

/// The client of a bucket whose configuration is valid, and the bucket's name for errors.
pub(super) fn checked(config: &S3Staging) -> Result<(AmazonS3, String), StagingError> {
    let name = name_of(config);
    let invalid =
        |cause: &dyn std::fmt::Display| StagingError::terminal(format!("{name}: {cause}"));
    if let Some(problem) = violation(config) {
        return Err(invalid(&problem));
    }
    let store = build(config).map_err(|e| invalid(&e))?;
    Ok((store, name))
}

fn name_of(config: &S3Staging) -> String {
    match &config.endpoint {
        Some(endpoint) => format!("bucket \"{}\" at {endpoint}", config.bucket),
        None => format!("bucket \"{}\" in {}", config.bucket, config.region),
    }
}

/// The bucket as an object store, its name for errors, and the prefix of staged objects.
pub(super) fn open(
    config: &S3Staging,
) -> Result<(Arc<dyn ObjectStore>, String, Path), StagingError> {
    let (store, name) = bucket(config)?;
    let prefix = Path::parse(&config.prefix)
        .map_err(|e| StagingError::terminal(format!("{name}: the prefix is not valid: {e}")))?;
    Ok((store, name, prefix))
}

/// First violation in the configuration.
pub(super) fn violation(config: &S3Staging) -> Option<&'static str> {
    if config.bucket.is_empty() {
        return Some("the bucket's name is empty");
    }
    if config.access_key_id.is_some() != config.secret_access_key.is_some() {
        return Some("access key id and secret access key must be given together");
    }
    let endpoint = config.endpoint.as_deref()?;
    if config.access_key_id.is_none() && !config.anonymous {
        return Some(
            "an endpoint needs an access key id and a secret access key, or `anonymous: true`",
        );
    }
    let Some((_, address)) = split(endpoint) else {
        return Some("the endpoint must begin with https:// or http://");
    };
    let host = host_of(address);
    if host.is_empty() {
        return Some("the endpoint has no host");
    }
    let ip = host.parse::<IpAddr>();
    if !config.path_style && ip.is_ok() {
        return Some("an IP address can't have a host name per bucket (pathStyle: false)");
    }
    let is_loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    let is_plain = endpoint.starts_with("http://");
    (is_plain && !config.allow_http && !is_loopback)
        .then_some("an http:// endpoint on another machine must be allowed (allowHttp: true)")
}

/// Scheme and the rest of an endpoint.
fn split(endpoint: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = endpoint.split_once("://")?;
    matches!(scheme, "http" | "https").then_some((scheme, rest))
}

fn host_of(address: &str) -> &str {
    let authority = address.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => authority.split(':').next(),
    };
    host.unwrap_or_default()
}

/// URL of the bucket without a trailing slash: the bucket is in the path or the host name.
pub(super) fn address(config: &S3Staging) -> String {
    let (bucket, region) = (&config.bucket, &config.region);
    let Some(endpoint) = &config.endpoint else {
        return match config.path_style {
            true => format!("https://s3.{region}.amazonaws.com/{bucket}"),
            false => format!("https://{bucket}.s3.{region}.amazonaws.com"),
        };
    };
    let endpoint = endpoint.trim_end_matches('/');
    let own = format!("{bucket}.");
    match split(endpoint) {
        Some((scheme, rest)) if !config.path_style => match rest.starts_with(&own) {
            true => endpoint.to_owned(),
            false => format!("{scheme}://{own}{rest}"),
        },
        _ => format!("{endpoint}/{bucket}"),
    }
}

pub(super) fn client_options(config: &S3Staging) -> Result<ClientOptions, object_store::Error> {
    // No timeout of a request as a whole: a download takes as long as the table it is imported
    // into.
    let mut client = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(config.connect_timeout)
        .with_read_timeout(config.request_timeout)
        .with_allow_http(true);
    if let Some(pem) = &config.ca_pem {
        for certificate in Certificate::from_pem_bundle(pem)? {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

fn build(config: &S3Staging) -> Result<AmazonS3, object_store::Error> {
    let client = client_options(config)?;
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: config.retries,
        retry_timeout: config.retry_timeout,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_client_options(client)
        .with_http_connector(S3Connector {
            connect_timeout: config.connect_timeout,
            read_timeout: config.request_timeout,
            ca_pem: config.ca_pem.clone(),
        })
        .with_retry(retry);
    if let Some(endpoint) = &config.endpoint {
        // With virtual hosts, the library expects the endpoint of the bucket.
        let endpoint = match config.path_style {
            true => endpoint.trim_end_matches('/').to_owned(),
            false => address(config),
        };
        builder = builder.with_endpoint(endpoint).with_allow_http(true);
    }
    if config.anonymous {
        return builder.with_skip_signature(true).build();
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
        builder = builder
            .with_access_key_id(id)
            .with_secret_access_key(secret.expose_secret());
    }
    if let Some(token) = &config.session_token {
        builder = builder.with_token(token.expose_secret());
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str) -> S3Staging {
        S3Staging::new("b", "eu-central-1")
            .with_endpoint(endpoint)
            .with_keys("id", "secret")
    }

    #[test]
    fn only_loopback_may_go_without_tls() {
        for endpoint in [
            "http://127.0.0.1:8333",
            "http://localhost/",
            "http://[::1]:80/x",
            "https://s3.example",
        ] {
            assert_eq!(violation(&config(endpoint)), None, "{endpoint}");
            open(&config(endpoint)).unwrap();
        }
        for endpoint in [
            "http://10.0.0.1",
            "http://localhost.example",
            "http://127.0.0.1.example:1",
            "ftp://localhost",
            "localhost:80",
        ] {
            let error = open(&config(endpoint)).unwrap_err();
            assert!(!error.is_retryable() && error.to_string().contains(endpoint));
        }
        let mut allowed = config("http://10.0.0.1");
        allowed.allow_http = true;
        open(&allowed).unwrap();
    }

    #[test]
    fn a_bucket_is_in_the_path_or_before_the_host() {
        let mut staging = S3Staging::new("b", "eu-1");
        assert_eq!(address(&staging), "https://b.s3.eu-1.amazonaws.com");
        staging.path_style = true;
        assert_eq!(address(&staging), "https://s3.eu-1.amazonaws.com/b");
        let mut own = config("https://s3.example:9000/");
        assert_eq!(address(&own), "https://s3.example:9000/b");
        own.path_style = false;
        assert_eq!(address(&own), "https://b.s3.example:9000");
        own.endpoint = Some("https://b.s3.example".to_owned());
        assert_eq!(address(&own), "https://b.s3.example");
        own.endpoint = Some("https://[::1]:9000".to_owned());
        assert!(violation(&own).unwrap().contains("pathStyle"));
    }

    #[test]
    fn keys_are_given_in_pairs_and_not_shown() {
        let mut half = config("https://s3.example");
        half.secret_access_key = None;
        assert!(open(&half).unwrap_err().to_string().contains("together"));
        let mut none = config("https://s3.example");
        (none.secret_access_key, none.access_key_id) = (None, None);
        assert!(
            open(&none)
                .unwrap_err()
                .to_string()
                .contains("needs an access key")
        );
        let whole = config("https://s3.example");
        let shown = format!("{whole:?} {:?}", open(&whole).unwrap());
        assert!(!shown.contains("\"secret\""), "{shown}");
    }
}
