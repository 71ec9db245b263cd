//! `staging`: storage for slices until their file is imported.

use std::path::{Path, PathBuf};

use forebay_connect::staging::{LocalStaging, S3Settings, S3Staging, StagingConfig};
use forebay_model::HumanDuration;
use forebay_schema::SecretText;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::ranges::RangeViolations;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StagingType {
    /// A directory of this machine.
    Local,
    /// A bucket of AWS S3, or of a compatible server.
    S3,
}

/// Storage for slices until their file is imported.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StagingSection {
    /// A directory of this machine (`local`), or a bucket of S3 or a compatible server (`s3`).
    #[serde(rename = "type")]
    pub(crate) kind: StagingType,
    pub(crate) local: LocalSection,
    pub(crate) s3: S3Section,
}

/// A directory of this machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LocalSection {
    /// The directory, created if missing. Default: `staging` in the data directory.
    pub(crate) dir: Option<PathBuf>,
}

/// A bucket of S3.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct S3Section {
    /// The bucket; it must exist.
    pub(crate) bucket: String,
    /// Prefix of all objects; empty for the root of the bucket.
    pub(crate) prefix: String,
    /// Region for signing requests. Default: `AWS_REGION`, `AWS_DEFAULT_REGION`, or `us-east-1`; most
    /// servers other than AWS accept any.
    pub(crate) region: Option<String>,
    /// Address of a server other than AWS, such as `http://127.0.0.1:8333`. Default:
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`.
    pub(crate) endpoint: Option<String>,
    /// Send unsigned requests, even if the environment has keys: for a server without users.
    pub(crate) anonymous: bool,
    /// Id of the access key. Key, secret and token are set here, or all three by `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; without any, the role of the machine is used.
    pub(crate) access_key_id: Option<String>,
    /// The secret access key.
    pub(crate) secret_access_key: Option<SecretText>,
    /// Token of temporary credentials.
    pub(crate) session_token: Option<SecretText>,
    /// Address the bucket in the path (true) or in the host name (false). Default: in the path if there
    /// is an endpoint.
    pub(crate) path_style: Option<bool>,
    /// Allow an endpoint without TLS that is not on this machine.
    pub(crate) allow_http: bool,
    /// File with additional CA certificates (PEM).
    pub(crate) ca_file: Option<PathBuf>,
    /// Timeout of a connection attempt. 100ms to 5m.
    pub(crate) connect_timeout: HumanDuration,
    /// Timeout of a request without progress. 1s to 30m.
    pub(crate) request_timeout: HumanDuration,
    /// Retries of a failed request before the upload fails. 0 to 20.
    pub(crate) retries: u32,
    /// How long to retry a request before the upload fails. 1s to 30m.
    pub(crate) retry_timeout: HumanDuration,
}

impl Default for StagingSection {
    fn default() -> Self {
        Self {
            kind: StagingType::Local,
            local: LocalSection::default(),
            s3: S3Section::default(),
        }
    }
}

impl Default for S3Section {
    fn default() -> Self {
        let s3 = S3Staging::new("", "");
        Self {
            bucket: String::new(),
            prefix: String::new(),
            region: None,
            endpoint: None,
            anonymous: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            path_style: None,
            allow_http: false,
            ca_file: None,
            connect_timeout: HumanDuration(s3.connect_timeout),
            request_timeout: HumanDuration(s3.request_timeout),
            retries: u32::try_from(s3.retries).unwrap_or(u32::MAX),
            retry_timeout: HumanDuration(s3.retry_timeout),
        }
    }
}

impl StagingSection {
    /// Directory of local staging.
    pub(crate) fn local_dir(&self, data_dir: &Path) -> PathBuf {
        let made = || data_dir.join("staging");
        self.local.dir.clone().unwrap_or_else(made)
    }

    pub(crate) fn resolve(
        &self,
        data_dir: &Path,
        env: &Environment,
    ) -> Result<StagingConfig, String> {
        Ok(match self.kind {
            StagingType::Local => StagingConfig::Local(LocalStaging::new(self.local_dir(data_dir))),
            StagingType::S3 => StagingConfig::S3(Box::new(self.s3.resolve(env)?)),
        })
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        match self.kind {
            StagingType::Local => Vec::new(),
            StagingType::S3 => self.s3.violations(),
        }
    }
}

impl S3Section {
    fn resolve(&self, env: &Environment) -> Result<S3Staging, String> {
        let mut s3 = self.settings().resolve(&self.bucket, &|name| env.get(name));
        s3.prefix = self.prefix.clone();
        s3.connect_timeout = self.connect_timeout.0;
        s3.request_timeout = self.request_timeout.0;
        s3.retries = self.retries as usize;
        s3.retry_timeout = self.retry_timeout.0;
        s3.ca_pem = match &self.ca_file {
            None => None,
            Some(file) => Some(read_pem("staging.s3.caFile", file)?),
        };
        Ok(s3)
    }

    fn settings(&self) -> S3Settings {
        let secret = |s: &Option<SecretText>| s.as_ref().map(|s| s.inner().clone());
        S3Settings {
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            anonymous: self.anonymous,
            access_key_id: self.access_key_id.clone(),
            secret_access_key: secret(&self.secret_access_key),
            session_token: secret(&self.session_token),
            path_style: self.path_style,
            allow_http: self.allow_http,
        }
    }

    fn violations(&self) -> Vec<String> {
        let mut ranges = RangeViolations::default();
        for problem in self.settings().violations() {
            ranges.add_violation(&problem);
        }
        if self.bucket.is_empty() {
            ranges.add_violation("bucket is \"\", but staging.type s3 needs the name of a bucket");
        }
        ranges.check(
            "connectTimeout",
            self.connect_timeout,
            HumanDuration::millis(100),
            HumanDuration::mins(5),
        );
        ranges.check(
            "requestTimeout",
            self.request_timeout,
            HumanDuration::secs(1),
            HumanDuration::mins(30),
        );
        ranges.check("retries", self.retries, 0, 20);
        ranges.check(
            "retryTimeout",
            self.retry_timeout,
            HumanDuration::secs(1),
            HumanDuration::mins(30),
        );
        ranges
            .violations
            .into_iter()
            .map(|p| format!("s3.{p}"))
            .collect()
    }
}

/// Contents of a PEM file with at least one certificate.
pub(super) fn read_pem(key: &str, file: &Path) -> Result<Vec<u8>, String> {
    let shown_path = file.display();
    let pem = std::fs::read(file).map_err(|e| format!("{key}: can't read {shown_path}: {e}"))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(found) if found.is_empty() => {
            Err(format!("{key}: {shown_path} contains no certificate"))
        }
        Ok(_) => Ok(pem),
        Err(e) => Err(format!("{key}: {shown_path} is not valid PEM: {e}")),
    }
}
