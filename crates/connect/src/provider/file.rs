//! Provider that writes to a file or standard output, for trials.
//!
//! One JSON line per message: `{"topic":…,"sequence":…,"timestamp":…,"key":…,"payload":…}`. Bytes
//! that are not UTF-8 are written as `{"base64":…}`, headers as a list of pairs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use forebay_buffer::{
    Ack, MessageBatch, MessageDelivery, MessageHeader, Partition, Provider, ProviderConnection,
    SendError,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub struct FileProvider {
    name: String,
    out: Arc<Mutex<LineOutput>>,
}

enum LineOutput {
    Stdout,
    File(File, PathBuf),
}

impl FileProvider {
    pub fn stdout() -> Self {
        Self {
            name: "standard output".to_owned(),
            out: Arc::new(Mutex::new(LineOutput::Stdout)),
        }
    }

    /// Appends to a file, which is created if missing. It is synced after each batch, so that
    /// acknowledged messages survive a power failure.
    pub fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            name: format!("file {}", path.display()),
            out: Arc::new(Mutex::new(LineOutput::File(file, path.to_owned()))),
        })
    }
}

impl Provider for FileProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, _partition: &Partition) -> Result<Box<dyn ProviderConnection>, SendError> {
        Ok(Box::new(FileConnection(self.out.clone())))
    }
}

struct FileConnection(Arc<Mutex<LineOutput>>);

impl ProviderConnection for FileConnection {
    fn send(&mut self, batch: &MessageBatch, ack: Ack) {
        let mut lines = Vec::new();
        for delivery in batch.messages() {
            lines.extend_from_slice(json_line(delivery).to_string().as_bytes());
            lines.push(b'\n');
        }
        let mut out = self.0.lock();
        let written = match &mut *out {
            LineOutput::Stdout => write_out(&mut io::stdout().lock(), &lines),
            LineOutput::File(file, path) => append(file, &lines)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
        };
        match written {
            Ok(()) => ack.taken(),
            Err(error) => ack.failed(&SendError::retry(error.to_string())),
        }
    }
}

fn write_out(out: &mut impl Write, lines: &[u8]) -> io::Result<()> {
    out.write_all(lines)?;
    out.flush()
}

/// All or nothing: a failed batch is truncated, so that its messages are not duplicated.
fn append(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(lines)
        .and_then(|()| file.sync_data())
        .inspect_err(|_| {
            // If this fails too, lines may be duplicated, as with any provider.
            drop(file.set_len(before));
        })
}

pub fn json_line(delivery: &MessageDelivery) -> Value {
    let message = &delivery.message;
    let mut line = json!({
        "topic": &*delivery.topic,
        "sequence": delivery.sequence,
        "timestamp": message.timestamp_ms,
        "key": json_bytes(message.key.as_deref()),
        "payload": json_bytes(message.payload.as_deref()),
    });
    if !message.headers.is_empty() {
        let pair = |(name, value): &MessageHeader| json!([&**name, json_bytes(value.as_deref())]);
        line["headers"] = message.headers.iter().map(pair).collect();
    }
    line
}

/// Bytes as JSON: text if they are UTF-8, otherwise base64.
pub(crate) fn json_bytes(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|b| (std::str::from_utf8(b), b)) {
        None => Value::Null,
        Some((Ok(text), _)) => Value::from(text),
        Some((Err(_), raw)) => json!({ "base64": STANDARD.encode(raw) }),
    }
}
