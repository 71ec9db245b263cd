//! Where records come from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forebay_connect::staging::S3Settings;
use forebay_model::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndConditions, Paging, SecretText};

/// Where records come from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobSource {
    /// A paged HTTP API.
    HttpApi(Box<HttpApi>),
    /// Files of JSON lines, in a folder or in S3.
    Files(FileSourceConfig),
}

/// A paged HTTP API. Without further keys: `GET {baseUrl}/messages`, then
/// `{baseUrl}/messages/{cursor}`, answered with `{"results": [...], "cursor": n}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpApi {
    /// `https://api.example.com`, without a slash at its end.
    pub base_url: String,
    /// Path of the first page.
    #[serde(default = "path")]
    pub path: String,
    /// Parameters of each request, `name: value`.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Who is asking.
    #[serde(default)]
    pub auth: Option<HttpAuth>,
    /// Headers of each request, `name: value`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long a request may take, its answer included. 1ms to 1h.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// An answer is at most this long. 1KB to 1GB.
    #[serde(default = "max_page_size")]
    pub max_page_size: ByteSize,
    /// Requests in a length of time; without it as many as there are.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// How one page leads to the next.
    #[serde(default)]
    pub paging: Paging,
    /// JSON path of the records in an answer; empty when the answer itself is the array.
    #[serde(default = "results")]
    pub results: String,
    /// When it ends; without any condition it goes on for ever.
    #[serde(default)]
    pub until: EndConditions,
    /// How long to wait after a page without records. 1ms to 1h.
    #[serde(default = "wait")]
    pub empty_page_wait: HumanDuration,
    /// How long to wait after the first failed request; doubles with each further one. 1ms to 1h.
    #[serde(default = "wait")]
    pub error_wait: HumanDuration,
    /// How long to wait between failed requests at most. 1ms to 1h.
    #[serde(default = "error_wait_max")]
    pub error_wait_max: HumanDuration,
    /// How long the API may ask to wait (`Retry-After`); also the next run waits, if this one is
    /// killed. 1ms to 168h.
    #[serde(default = "retry_after_max")]
    pub retry_after_max: HumanDuration,
    /// Failed requests in a row after which the job ends; without it, it tries for ever.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub give_up_after: Option<u32>,
}

/// Who is asking: a token in a header of its own, or as `Authorization: Bearer`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpAuth {
    /// `bearer` for `Authorization: Bearer TOKEN`, else the name of the header.
    #[serde(default = "header")]
    pub header: String,
    /// The token: `${API_TOKEN}` or `${file:/run/secrets/token}`.
    pub token: SecretText,
}

/// So many requests in any length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Requests at most. 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests: u32,
    /// In any such length of time. 1ms to 24h.
    pub period: HumanDuration,
}

/// Files of JSON lines: `.jsonl`, also with `.gz` or `.zst` behind it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSourceConfig {
    /// `data/products-*.jsonl`, `/data/**/*.jsonl.gz` or `s3://bucket/prefix/*.jsonl`; a path of
    /// the local kind counts from the definition's folder. Files are read in the order of their
    /// names. Hidden ones have to be named (`.*.jsonl`); `[*]`, `[?]` and `[[]` stand for the
    /// characters themselves, and a name with brackets that is there is taken as it is.
    #[schemars(length(min = 1))]
    pub paths: Vec<String>,
    /// The definition's folder, which local paths count from. It is never a pattern.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The S3 server, when it is not the one of the variables `AWS_REGION` (`AWS_DEFAULT_REGION`),
    /// `AWS_ENDPOINT_URL_S3` (`AWS_ENDPOINT_URL`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
    /// `AWS_SESSION_TOKEN`.
    #[serde(default)]
    pub s3: Box<S3ServerConfig>,
    /// A line is at most this long. 1KB to 1GB.
    #[serde(default = "max_line_size")]
    pub max_line_size: ByteSize,
    /// Size of the parts that files are split into. 4KB to 64MB.
    #[serde(default = "chunk_size")]
    pub chunk_size: ByteSize,
    /// Files, or pieces of large plain ones, that are read at once. 1 to 64.
    #[serde(default = "readers")]
    #[schemars(range(min = 1, max = 64))]
    pub readers: u32,
    /// Bad lines that are set aside before the job gives up.
    #[serde(default = "max_errors", alias = "max_errors")]
    pub max_errors: u64,
}

impl FileSourceConfig {
    /// A path of the definition, for people.
    #[must_use]
    pub fn display_path(&self, path: &str) -> String {
        if path.contains("://") {
            path.to_owned()
        } else {
            self.folder.join(path).display().to_string()
        }
    }
}

/// An S3 server; what is left out comes from the environment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct S3ServerConfig {
    /// Region that requests are signed for.
    pub region: Option<String>,
    /// Address of a server other than AWS.
    pub endpoint: Option<String>,
    /// Requests are not signed, whatever keys the environment has: a bucket that everybody may read.
    pub anonymous: bool,
    /// Access key. Key, secret and token come from here, or all three from the environment.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<SecretText>,
    /// Token of temporary keys.
    pub session_token: Option<SecretText>,
    /// The bucket in the path (true) or before the host name (false). Without it: with an endpoint, in
    /// the path.
    pub path_style: Option<bool>,
    /// Allow an `http://` endpoint that is not on this machine.
    pub allow_http: bool,
    /// File of certificates (PEM) to trust besides those of the system, counted from the definition's
    /// folder.
    pub ca_file: Option<PathBuf>,
}

impl S3ServerConfig {
    /// As the client takes them.
    #[must_use]
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
