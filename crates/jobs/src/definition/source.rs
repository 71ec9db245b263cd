//! Sources of records.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forebay_connect::staging::S3Settings;
use forebay_model::{ByteSize, HumanDuration};
use forebay_schema::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paging::{EndConditions, Paging};

/// Source of the records.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobSource {
    /// A paged HTTP API.
    HttpApi(Box<HttpApi>),
    /// JSON Lines files, local or in S3.
    Files(FileSourceConfig),
}

/// A paged HTTP API. Defaults: `GET {baseUrl}/messages`, then `{baseUrl}/messages/{cursor}`; responses are
/// `{"results": [...], "cursor": n}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpApi {
    /// `https://api.example.com`, without a trailing slash.
    pub base_url: String,
    /// Path of the first page.
    #[serde(default = "path")]
    pub path: String,
    /// Query parameters of each request, `name: value`.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Authentication.
    #[serde(default)]
    pub auth: Option<HttpAuth>,
    /// Headers of each request, `name: value`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Timeout of a request including its response. 1ms to 1h.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// Maximum size of a response. 1KB to 1GB.
    #[serde(default = "max_page_size")]
    pub max_page_size: ByteSize,
    /// Maximum request rate. Default: no limit.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// Pagination.
    #[serde(default)]
    pub paging: Paging,
    /// JSON path of the records in a response; empty if the response itself is the array.
    #[serde(default = "results")]
    pub results: String,
    /// End conditions. Default: the job runs for ever.
    #[serde(default)]
    pub until: EndConditions,
    /// Wait after a page without records. 1ms to 1h.
    #[serde(default = "wait")]
    pub empty_page_wait: HumanDuration,
    /// Wait after the first failed request; doubles with each further one. 1ms to 1h.
    #[serde(default = "wait")]
    pub error_wait: HumanDuration,
    /// Maximum wait between failed requests. 1ms to 1h.
    #[serde(default = "error_wait_max")]
    pub error_wait_max: HumanDuration,
    /// Maximum `Retry-After` of the API. After a kill, the next run waits for the rest. 1ms to 168h.
    #[serde(default = "retry_after_max")]
    pub retry_after_max: HumanDuration,
    /// Consecutive failed requests after which the job ends. Default: it retries for ever.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub give_up_after: Option<u32>,
}

/// Authentication: a token in its own header or as `Authorization: Bearer`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpAuth {
    /// `bearer` for `Authorization: Bearer TOKEN`, otherwise the name of the header.
    #[serde(default = "header")]
    pub header: String,
    /// The token: `${API_TOKEN}` or `${file:/run/secrets/token}`.
    pub token: SecretText,
}

/// Maximum number of requests in any window of a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Maximum number of requests. 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests: u32,
    /// Length of the window. 1ms to 24h.
    pub period: HumanDuration,
}

/// JSON Lines files: `.jsonl`, also with `.gz` or `.zst` appended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSourceConfig {
    /// `data/products-*.jsonl`, `/data/**/*.jsonl.gz` or `s3://bucket/prefix/*.jsonl`; local paths are
    /// relative to the definition's folder. Files are read in the order of their names. Hidden files must be
    /// named (`.*.jsonl`); `[*]`, `[?]` and `[[]` are the characters themselves, and an existing name with
    /// brackets is used literally.
    #[schemars(length(min = 1))]
    pub paths: Vec<String>,
    /// The definition's folder, the base of relative paths. It is never a pattern.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The S3 server. Defaults: the variables `AWS_REGION` (`AWS_DEFAULT_REGION`), `AWS_ENDPOINT_URL_S3`
    /// (`AWS_ENDPOINT_URL`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    #[serde(default)]
    pub s3: Box<S3ServerConfig>,
    /// Maximum size of a line. 1KB to 1GB.
    #[serde(default = "max_line_size")]
    pub max_line_size: ByteSize,
    /// Size of the chunks that files are split into. 4KB to 64MB.
    #[serde(default = "chunk_size")]
    pub chunk_size: ByteSize,
    /// Files, or segments of large uncompressed files, that are read in parallel. 1 to 64.
    #[serde(default = "readers")]
    #[schemars(range(min = 1, max = 64))]
    pub readers: u32,
    /// Maximum number of bad lines; one more ends the job.
    #[serde(default = "max_errors", alias = "max_errors")]
    #[schemars(extend("x-aliases" = ["max_errors"]))]
    pub max_errors: u64,
}

impl FileSourceConfig {
    /// A path of the definition as shown to people.
    pub(crate) fn display_path(&self, path: &str) -> String {
        if path.contains("://") {
            path.to_owned()
        } else {
            self.folder.join(path).display().to_string()
        }
    }
}

/// An S3 server. Missing settings come from the environment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct S3ServerConfig {
    /// Region that requests are signed for.
    pub region: Option<String>,
    /// URL of a server other than AWS.
    pub endpoint: Option<String>,
    /// Do not sign requests, regardless of keys in the environment: for a public bucket.
    pub anonymous: bool,
    /// Access key. Key, secret and token come from here, or all three from the environment.
    pub access_key_id: Option<String>,
    /// Secret of the access key.
    pub secret_access_key: Option<SecretText>,
    /// Session token of temporary keys.
    pub session_token: Option<SecretText>,
    /// The bucket is in the path (true) or in the host name (false). Default with an endpoint: in the path.
    pub path_style: Option<bool>,
    /// Allow an `http://` endpoint on another machine.
    pub allow_http: bool,
    /// File with certificates (PEM) to trust besides those of the system, relative to the definition's folder.
    pub ca_file: Option<PathBuf>,
}

impl S3ServerConfig {
    pub fn settings(&self) -> S3Settings {
        let secret = |s: &Option<SecretText>| s.as_ref().map(|s| s.expose().into());
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
}

fn path() -> String {
    "/messages".to_owned()
}

fn header() -> String {
    "X-Auth-Token".to_owned()
}

fn results() -> String {
    "results".to_owned()
}

fn timeout() -> HumanDuration {
    HumanDuration::secs(5)
}

fn wait() -> HumanDuration {
    HumanDuration::millis(500)
}

fn error_wait_max() -> HumanDuration {
    HumanDuration::secs(30)
}

fn retry_after_max() -> HumanDuration {
    HumanDuration::hours(24)
}

fn max_page_size() -> ByteSize {
    ByteSize::mb(64)
}

fn max_line_size() -> ByteSize {
    ByteSize::mb(16)
}

fn chunk_size() -> ByteSize {
    ByteSize::kb(256)
}

fn readers() -> u32 {
    4
}

fn max_errors() -> u64 {
    100
}
