//! Configuration of staging.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Location of staging.
#[derive(Clone, Debug)]
pub enum StagingConfig {
    Local(LocalStaging),
    /// A bucket of AWS S3 or a compatible server. Requires the feature `s3`.
    S3(Box<S3Staging>),
}

/// A local folder, created if missing.
#[derive(Clone, Debug)]
pub struct LocalStaging {
    /// The staging root.
    pub dir: PathBuf,
    /// Sync each object and its folder before reporting it as written. The log may delete a slice
    /// that is in staging, so turn this off only where data loss is acceptable: in tests.
    pub sync: bool,
}

impl LocalStaging {
    /// A folder with syncs.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            sync: true,
        }
    }
}

/// A bucket, and a prefix in it.
#[derive(Clone, Debug)]
pub struct S3Staging {
    /// Must exist.
    pub bucket: String,
    /// Path of the staging root in the bucket; empty for the whole bucket.
    pub prefix: String,
    /// Region of request signatures (`AWS_REGION`). Most servers other than AWS accept any.
    pub region: String,
    /// URL of a server other than AWS, such as `http://127.0.0.1:8333` (`AWS_ENDPOINT_URL_S3`).
    pub endpoint: Option<String>,
    /// Don't sign requests: for a public bucket, without keys.
    pub anonymous: bool,
    /// `AWS_ACCESS_KEY_ID`. Without keys, those of the machine's role are requested (EC2, ECS),
    /// which only works without an endpoint.
    pub access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<SecretString>,
    /// `AWS_SESSION_TOKEN` of temporary keys.
    pub session_token: Option<SecretString>,
    /// Address the bucket by path instead of host name (virtual host). Required by most servers
    /// other than AWS.
    pub path_style: bool,
    /// Allow an endpoint without TLS on another machine.
    pub allow_http: bool,
    /// CA certificates (PEM) trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    pub connect_timeout: Duration,
    /// Limit of a request without progress.
    pub request_timeout: Duration,
    /// Maximum of retries of a request.
    pub retries: usize,
    /// Limit of the time spent on retries.
    pub retry_timeout: Duration,
}

impl S3Staging {
    /// A bucket of AWS in a region, with default timeouts and without keys.
    pub fn new(bucket: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            region: region.into(),
            endpoint: None,
            anonymous: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            path_style: false,
            allow_http: false,
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            retries: 4,
            retry_timeout: Duration::from_secs(60),
        }
    }

    /// A bucket on another server, addressed by path.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self.path_style = true;
        self
    }

    #[must_use]
    pub fn with_keys(mut self, id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.access_key_id = Some(id.into());
        self.secret_access_key = Some(secret.into());
        self
    }
}
