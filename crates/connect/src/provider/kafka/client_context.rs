//! Callbacks of the client: errors, token refresh and delivery reports.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_buffer::SendError;
use forebay_model::words::short;
use parking_lot::Mutex;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientConfig, ClientContext};

use super::error::send_error;
use super::reports::ReportSlot;

/// Polls for a broker's response before the connection counts as open without one: the broker is
/// unavailable and did not reject the client.
const HANDSHAKE_POLLS: u32 = 60;
/// Limit of a metadata request for a topic.
const METADATA_TIMEOUT: Duration = Duration::from_millis(500);
/// Duration of one poll.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// Callbacks of a client; stores its last error.
#[derive(Default)]
pub(super) struct KafkaClientContext {
    token_file: Option<PathBuf>,
    trouble: Mutex<Option<String>>,
    /// The broker rejected the client, or the client doesn't trust the broker: waiting doesn't
    /// help.
    rejection: Mutex<Option<String>>,
    /// A message failed with a retryable error: later ones must not be delivered before it.
    broken: AtomicBool,
}

impl KafkaClientContext {
    pub(super) fn new(token_file: Option<PathBuf>) -> Self {
        Self {
            token_file,
            ..Self::default()
        }
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// The broker's error of a topic whose messages are not delivered, if there is one.
    pub(super) fn topic_trouble(&self, client: &Client<Self>, topic: &str) -> Option<String> {
        // An unreachable broker has no information on topics.
        let trouble = self.trouble();
        let is_open = |text: &String| !text.to_ascii_lowercase().contains("timed out");
        if let Some(trouble) = trouble.filter(is_open) {
            return Some(trouble);
        }
        let metadata = client.fetch_metadata(Some(topic), METADATA_TIMEOUT);
        let own = metadata.ok().and_then(|metadata| {
            let topics = metadata.topics().iter();
            let topic = topics
                .filter(|t| t.name() == topic)
                .find_map(|t| t.error())?;
            Some(Code::from(topic))
        });
        match own {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                Some(format!("unknown topic {topic}"))
            }
            // The topic is being created.
            Some(Code::LeaderNotAvailable) | None => self.trouble(),
            Some(code) => Some(format!("topic {topic}: {code}")),
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(super) fn mark_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Waits until a broker accepts or rejects the client. No response is no error: the client
    /// keeps retrying.
    pub(super) fn handshake(client: &Client<Self>, poll: impl Fn()) -> Result<(), SendError> {
        for _ in 0..HANDSHAKE_POLLS {
            poll();
            if let Some(rejection) = client.context().rejection.lock().take() {
                return Err(SendError::retry(rejection));
            }
            if client.fetch_cluster_id(POLL_TIMEOUT).is_some() {
                return Ok(());
            }
            if client.context().trouble().is_some() && client.context().rejection.lock().is_none() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl ClientContext for KafkaClientContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let text = short(&explained(format!("{error}: {reason}")));
        tracing::debug!(error = %text, "kafka client");
        if matches!(code, Some(Code::Authentication | Code::SSL)) {
            *self.rejection.lock() = Some(text.clone());
        }
        // The cause of the last broker's failure was reported before and is more specific.
        if code != Some(Code::AllBrokersDown) {
            *self.trouble.lock() = Some(text);
        }
    }

    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "kafka client");
        // A connection closed without an error code is only logged.
        if facility == "FAIL" {
            *self.trouble.lock() = Some(short(&explained(message.to_owned())));
        }
    }

    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let file = self.token_file.as_deref().ok_or("no token file")?;
        read_token(file).map_err(Into::into)
    }
}

impl ConsumerContext for KafkaClientContext {}

impl ProducerContext for KafkaClientContext {
    type DeliveryOpaque = Box<ReportSlot>;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: Box<ReportSlot>) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((
                KafkaError::MessageProduction(Code::UnknownTopic | Code::UnknownTopicOrPartition),
                message,
            )) => Err(SendError::retry(format!(
                "unknown topic {}",
                message.topic()
            ))),
            // The provider purged the message because it was stuck: report the cause.
            Err((KafkaError::MessageProduction(Code::PurgeQueue | Code::PurgeInflight), _)) => {
                let purged = "purged before the broker acknowledged it".to_owned();
                Err(SendError::retry(self.trouble().unwrap_or(purged)))
            }
            Err((error, _)) => Err(send_error(error)),
        };
        if result.as_ref().is_err_and(|e| !e.is_rejected()) {
            self.mark_broken();
        }
        slot.reports.set(slot.index, result);
    }
}

/// Adds a hint that the client lacks, at the beginning, as the end may be truncated.
fn explained(text: String) -> String {
    let hint = if text.contains("certificate verify failed") {
        "the certificate has expired, does not name this host, or is signed by an authority that is not trusted"
    } else if text.contains("Disconnected") && text.contains("APIVERSION_QUERY") {
        "this port may require TLS"
    } else if text.contains("Disconnected") && text.contains("SSL_HANDSHAKE") {
        "this port may not speak TLS"
    } else {
        return text;
    };
    format!("{hint}: {text}")
}

/// Errors show the file, never the token.
fn read_token(file: &Path) -> Result<OAuthToken, String> {
    let failed = |problem: String| format!("{}: {problem}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| failed(e.to_string()))?;
    let token = text.trim();
    let claims = token.split('.').nth(1).and_then(|part| {
        let json = URL_SAFE_NO_PAD.decode(part).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&json).ok()?;
        let seconds = claims.get("exp")?.as_i64()?;
        Some((claims.get("sub")?.as_str()?.to_owned(), seconds))
    });
    let (subject, seconds) =
        claims.ok_or_else(|| failed("no JWT with `sub` and `exp`".to_owned()))?;
    Ok(OAuthToken {
        token: token.to_owned(),
        principal_name: subject,
        lifetime_ms: seconds.saturating_mul(1_000),
    })
}

/// Configuration of a librdkafka client.
#[derive(Clone)]
pub(super) struct KafkaClientConfig {
    pub(super) config: ClientConfig,
    pub(super) token_file: Option<PathBuf>,
    /// The broker may reject the client.
    pub(super) is_secured: bool,
}
