//! `staging`: where slices wait until their file is imported.

use std::path::{Path, PathBuf};

use forebay_model::Span;
use forebay_remote::staging::{LocalStaging, S3Staging, StagingConfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::secret::Secret;
use super::validate::Ranges;

/// Kinds of staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StagingType {
    /// A folder of this machine.
    Local,
    /// A bucket of AWS S3, or of anything that speaks its protocol.
    S3,
}

/// Where slices wait until their file is imported.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StagingSection {
    /// A folder of this machine (`local`), or a bucket of S3 or of anything that speaks its
    /// protocol (`s3`).
    #[serde(rename = "type")]
    pub(crate) kind: StagingType,
    pub(crate) local: LocalSection,
    pub(crate) s3: S3Section,
}

/// A folder of this machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LocalSection {
    /// The folder, made when it is not there. Without it `staging` in the data directory.
    pub(crate) dir: Option<PathBuf>,
}

/// A bucket of S3.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct S3Section {
    /// The bucket; it must exist.
    pub(crate) bucket: String,
    /// Path in the bucket under which everything is put; empty for the bucket itself.
    pub(crate) prefix: String,
    /// Region that requests are signed for. Without it `AWS_REGION`, or `us-east-1`; most servers
    /// other than AWS take any.
    pub(crate) region: Option<String>,
    /// Address of a server other than AWS, such as `http://127.0.0.1:8333`.
    pub(crate) endpoint: Option<String>,
    /// Id of the access key. Without it `AWS_ACCESS_KEY_ID`, or the role of the machine.
    pub(crate) access_key_id: Option<String>,
    /// The access key. Without it `AWS_SECRET_ACCESS_KEY`.
    pub(crate) secret_access_key: Option<Secret>,
    /// Token of temporary keys. Without it `AWS_SESSION_TOKEN`.
    pub(crate) session_token: Option<Secret>,
    /// The bucket in the path and not in the host name. Without it: with an endpoint, yes.
    pub(crate) path_style: Option<bool>,
    /// Allow an endpoint without TLS that is not on this machine.
    pub(crate) allow_http: bool,
    /// File with certificates to trust besides those of the system, PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// How long connecting may take. 100ms to 5m.
    pub(crate) connect_timeout: Span,
    /// How long a request may go without a sign of life. 1s to 30m.
    pub(crate) request_timeout: Span,
    /// How often a failed request is repeated before the upload fails. 0 to 20.
    pub(crate) retries: u32,
    /// How long requests are repeated before the upload fails. 1s to 30m.
    pub(crate) retry_timeout: Span,
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
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            path_style: None,
            allow_http: false,
            ca_file: None,
            connect_timeout: Span(s3.connect_timeout),
            request_timeout: Span(s3.request_timeout),
            retries: u32::try_from(s3.retries).unwrap_or(u32::MAX),
            retry_timeout: Span(s3.retry_timeout),
        }
    }
}

impl StagingSection {
    /// Folder of local staging.
    pub(crate) fn local_dir(&self, data_dir: &Path) -> PathBuf {
        let made = || data_dir.join("staging");
        self.local.dir.clone().unwrap_or_else(made)
    }

    /// As staging takes it.
    ///
    /// # Errors
    /// When the file with certificates can't be read.
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

    /// Everything that is out of range or missing.
    pub(crate) fn problems(&self) -> Vec<String> {
        match self.kind {
            StagingType::Local => Vec::new(),
            StagingType::S3 => self.s3.problems(),
        }
    }
}

impl S3Section {
    fn resolve(&self, env: &Environment) -> Result<S3Staging, String> {
        let given =
            |own: &Option<String>, variable: &str| own.clone().or_else(|| env.get(variable));
        let secret = |own: &Option<Secret>, variable: &str| {
            let own = own.as_ref().map(|s| s.inner().clone());
            own.or_else(|| env.get(variable).map(Into::into))
        };
        let region = given(&self.region, "AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned());
        let mut s3 = S3Staging::new(&self.bucket, region);
        s3.prefix = self.prefix.clone();
        s3.endpoint = given(&self.endpoint, "AWS_ENDPOINT_URL_S3");
        s3.access_key_id = given(&self.access_key_id, "AWS_ACCESS_KEY_ID");
        s3.secret_access_key = secret(&self.secret_access_key, "AWS_SECRET_ACCESS_KEY");
        s3.session_token = secret(&self.session_token, "AWS_SESSION_TOKEN");
        s3.path_style = self.path_style.unwrap_or(s3.endpoint.is_some());
        s3.allow_http = self.allow_http;
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

    fn problems(&self) -> Vec<String> {
        let mut ranges = Ranges::default();
        if self.bucket.is_empty() {
            ranges.say("bucket is \"\", but staging.type s3 needs the name of a bucket");
        }
        ranges.check(
            "connectTimeout",
            self.connect_timeout,
            Span::millis(100),
            Span::mins(5),
        );
        ranges.check(
            "requestTimeout",
            self.request_timeout,
            Span::secs(1),
            Span::mins(30),
        );
        ranges.check("retries", self.retries, 0, 20);
        ranges.check(
            "retryTimeout",
            self.retry_timeout,
            Span::secs(1),
            Span::mins(30),
        );
        ranges
            .problems
            .into_iter()
            .map(|p| format!("s3.{p}"))
            .collect()
    }
}

/// Content of a file with certificates, of which there is at least one.
pub(super) fn read_pem(key: &str, file: &Path) -> Result<Vec<u8>, String> {
    let place = file.display();
    let pem = std::fs::read(file).map_err(|e| format!("{key}: can't read {place}: {e}"))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(found) if found.is_empty() => Err(format!("{key}: {place} holds no certificate")),
        Ok(_) => Ok(pem),
        Err(e) => Err(format!("{key}: {place} can't be read as PEM: {e}")),
    }
}
