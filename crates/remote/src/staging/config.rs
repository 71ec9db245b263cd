//! Where staging is.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Where staging is.
#[derive(Clone, Debug)]
pub enum StagingConfig {
    /// A folder of this machine.
    Local(LocalStaging),
    /// A bucket of AWS S3, or of anything that speaks its protocol. Needs the feature `s3`.
    S3(Box<S3Staging>),
}

/// A folder of this machine, made when it is not there.
#[derive(Clone, Debug)]
pub struct LocalStaging {
    /// The staging root.
    pub dir: PathBuf,
    /// Sync each object and its folder before it counts as written. The log may let go of a slice
    /// that is in staging, so this is off only where losing data is acceptable: in tests.
    pub sync: bool,
}

impl LocalStaging {
    /// In a folder, synced.
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
    /// The bucket; it must exist.
    pub bucket: String,
    /// Path of the staging root in the bucket; empty for the bucket itself.
    pub prefix: String,
    /// Region that requests are signed for (`AWS_REGION`). Most servers other than AWS take any.
    pub region: String,
    /// Address of a server other than AWS, such as `http://127.0.0.1:8333` (`AWS_ENDPOINT_URL_S3`).
    pub endpoint: Option<String>,
    /// Requests are not signed: a bucket that everybody may read. Has no keys then.
    pub anonymous: bool,
    /// `AWS_ACCESS_KEY_ID`. Without keys, those of the machine's role are asked for (EC2, ECS),
    /// which only works without an endpoint.
    pub access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<SecretString>,
    /// `AWS_SESSION_TOKEN`, of temporary keys.
    pub session_token: Option<SecretString>,
    /// The bucket in the path and not in the host name (virtual host). What most servers other than AWS
    /// expect.
    pub path_style: bool,
    /// Allow an endpoint without TLS that is not on this machine.
    pub allow_http: bool,
    /// PEM certificates to trust besides those of the system, for an endpoint with an own CA.
    pub ca_pem: Option<Vec<u8>>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a request may go without a sign of life.
    pub request_timeout: Duration,
    /// How often a failed request is repeated before the operation fails.
    pub retries: usize,
    /// How long requests are repeated before the operation fails.
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

    /// The same bucket name on another server, addressed by path.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self.path_style = true;
        self
    }

    /// With keys.
    #[must_use]
    pub fn with_keys(mut self, id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.access_key_id = Some(id.into());
        self.secret_access_key = Some(secret.into());
        self
    }
}
