//! Live records of this node, for the management API.

mod filter;
mod redaction;

use std::sync::Arc;

use bytes::Bytes;
use forebay_api::tap::TapLine;
use forebay_control::api::{TapError, TapRequest, TapService, TapStage, TapStream};
use forebay_ingest::tap::{
    RecordSample, RecordTaps, TapEvent, TapOpenError, TapReader, TapSelection,
    TapStage as SampleStage,
};
use forebay_record::json::JsonDocument;
use futures::StreamExt;
use futures::stream;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use filter::SampleFilter;
use redaction::Redaction;

/// Pauses of a reader without samples until a line reports that the tap is alive: 15 s.
const IDLE_MAX: u32 = 300;
/// Pauses between reports of lost samples: 1 s.
const LOST_EVERY: u32 = 20;

/// Taps of the node's records.
pub(crate) struct NodeTaps {
    pub(crate) taps: Arc<RecordTaps>,
    /// Maximum of open taps.
    pub(crate) max: usize,
    /// Maximum samples per second of a tap.
    pub(crate) per_second: u64,
}

impl TapService for NodeTaps {
    fn open(&self, request: TapRequest) -> Result<TapStream, TapError> {
        let is_row = request.stage == TapStage::Row;
        let filter = SampleFilter::parse(&request.filter, is_row).map_err(TapError::Invalid)?;
        let redaction = Redaction::parse(&request.redact).map_err(TapError::Invalid)?;
        let selection = TapSelection {
            source: request.source,
            sink: request.sink,
            stage: match request.stage {
                TapStage::In => SampleStage::Received,
                TapStage::Row => SampleStage::Row,
                TapStage::Dead => SampleStage::Rejected,
            },
            every: request.sample.max(1),
            per_second: self.per_second,
        };
        let opened = self.taps.open(selection, self.max);
        let reader = opened.map_err(|e| match e {
            TapOpenError::TooMany(max) => TapError::TooMany(max),
            TapOpenError::Stopping => TapError::Unavailable(e.to_string()),
        })?;
        let lines = TapLines {
            reader,
            filter,
            redaction,
            left: (request.limit > 0).then_some(request.limit),
            idle: 0,
            reported: 0,
            is_started: false,
        };
        Ok(stream::unfold(lines, |mut lines| async {
            let line = lines.next().await?;
            Some((line, lines))
        })
        .boxed())
    }
}

/// The lines of one tap.
struct TapLines {
    reader: TapReader,
    filter: SampleFilter,
    redaction: Redaction,
    /// Samples until the end.
    left: Option<u64>,
    /// Pauses since the last line.
    idle: u32,
    /// Lost samples in the last report.
    reported: u64,
    is_started: bool,
}

impl TapLines {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.is_started {
            // Tells the client that records are shown from now on.
            self.is_started = true;
            return Some(self.report());
        }
        if self.left == Some(0) {
            return None;
        }
        loop {
            match self.reader.next().await? {
                TapEvent::Sample(sample) => {
                    if !self.filter.matches(&sample) {
                        continue;
                    }
                    self.idle = 0;
                    self.left = self.left.map(|left| left - 1);
                    return Some(encode(&line(&sample, &self.redaction)));
                }
                TapEvent::Idle => {
                    self.idle += 1;
                    let has_lost = self.reader.lost() > self.reported;
                    if (has_lost && self.idle >= LOST_EVERY) || self.idle >= IDLE_MAX {
                        return Some(self.report());
                    }
                }
            }
        }
    }

    fn report(&mut self) -> Bytes {
        self.idle = 0;
        self.reported = self.reader.lost();
        encode(&TapLine {
            lost: Some(self.reported),
            ..TapLine::default()
        })
    }
}

fn encode(line: &TapLine) -> Bytes {
    // Its maps have string keys, and no serializer of it fails.
    let mut line = serde_json::to_vec(line).unwrap_or_default();
    line.push(b'\n');
    Bytes::from(line)
}

/// What a client gets of a sample.
fn line(sample: &RecordSample, redaction: &Redaction) -> TapLine {
    let hidden = redaction.of(sample);
    let request = &sample.request;
    let is_row = sample.stage == SampleStage::Row;
    let cells = sample.cells.iter();
    let cells = cells.map(|(name, cell)| (name.clone(), Value::from(hidden.cell(cell))));
    let headers = request.headers.entries().iter().map(|(name, value)| {
        let value = hidden.header(name, value);
        (name.clone(), Value::from(value))
    });
    TapLine {
        sink_id: sample.sink.as_ref().map(|key| key.sink.to_string()),
        received_at: Some(request.received),
        client_ip: (!is_row).then(|| request.client_ip.to_canonical().to_string()),
        line: sample.line,
        headers: (!is_row).then(|| headers.collect()),
        body: (!is_row).then(|| json_or_text(hidden.body())).flatten(),
        body_bytes: (!is_row && sample.body_bytes > sample.body.len()).then_some(sample.body_bytes),
        row: is_row.then(|| cells.collect::<Map<String, Value>>()),
        column: sample.error.as_ref().map(|e| e.column.clone()),
        error: sample.error.as_ref().map(|e| hidden.text(&e.message)),
        kept: sample.error.as_ref().map(|_| sample.is_kept),
        lost: None,
    }
}

/// JSON on one line with the digits of its numbers, or the text as a JSON string.
fn json_or_text(body: &Bytes) -> Option<Box<RawValue>> {
    let json = match JsonDocument::parse(body.clone()) {
        Ok(document) => {
            let mut compact = Vec::with_capacity(body.len());
            document.compact(document.root(), |part| compact.extend_from_slice(part));
            String::from_utf8(compact).ok()
        }
        Err(_) => serde_json::to_string(&String::from_utf8_lossy(body)).ok(),
    };
    RawValue::from_string(json?).ok()
}

#[cfg(test)]
mod tests {
    use forebay_model::Timestamp;
    use forebay_record::{RecordError, RecordErrorKind, RequestInfo};
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    pub(super) fn sample(stage: SampleStage, headers: &[(&str, &str)], body: &str) -> RecordSample {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        RecordSample {
            stage,
            sink: Some("1/2/s/k".parse().unwrap()),
            request: Arc::new(RequestInfo {
                received: Timestamp::from_millis(0),
                client_ip: [192, 0, 2, 7].into(),
                headers: map.into(),
            }),
            line: None,
            body: Bytes::from(body.to_owned()),
            body_bytes: body.len(),
            is_of_batch: false,
            cells: Vec::new(),
            error: None,
            is_kept: false,
        }
    }

    fn shown(sample: &RecordSample, redact: &str) -> String {
        let line = line(sample, &Redaction::parse(redact).unwrap());
        String::from_utf8(encode(&line).to_vec()).unwrap()
    }

    #[test]
    fn a_received_record_keeps_its_digits_on_one_line() {
        let body = "{ \"n\": 1.10,\n \"big\": 123456789012345678901 }";
        let shown = shown(&sample(SampleStage::Received, &[("x-a", "b")], body), "");
        assert_eq!(
            shown,
            "{\"sinkId\":\"k\",\"receivedAt\":\"1970-01-01T00:00:00.000Z\",\"clientIp\":\"192.0.2.7\",\
             \"headers\":{\"X-A\":\"b\"},\"body\":{\"n\":1.10,\"big\":123456789012345678901}}\n"
        );
    }

    #[test]
    fn secrets_are_nowhere_in_a_line() {
        let headers = [
            ("authorization", "Bearer sesame-123"),
            ("cookie", "id=chocolate"),
            ("x-hub-signature-256", "sha256=abcdef"),
            ("x-api-key", "key<&>\"1"),
            ("content-type", "text/plain"),
        ];
        let mut of_row = sample(SampleStage::Row, &headers, "x sesame-123 y");
        let all = String::from_utf8(of_row.request.headers.json().to_vec()).unwrap();
        of_row.cells = vec![
            ("headers".to_owned(), all.into_bytes()),
            ("token".to_owned(), b"sesame-123".to_vec()),
            ("other".to_owned(), b"plain".to_vec()),
        ];
        let mut rejected = sample(SampleStage::Rejected, &headers, "x sesame-123 y");
        rejected.error = Some(RecordError {
            column: "c".to_owned(),
            kind: RecordErrorKind::Body,
            message: "near sesame-123".to_owned(),
        });
        let received = sample(SampleStage::Received, &headers, "x sesame-123 y");
        for sample in [of_row, rejected, received] {
            let shown = shown(&sample, "");
            for secret in [
                "sesame",
                "chocolate",
                "abcdef",
                "key<",
                "key\\u003c",
                "key\\\\u003c",
            ] {
                assert!(!shown.contains(secret), "{secret} in {shown}");
            }
            assert!(shown.contains("text/plain"), "{shown}");
        }
    }

    #[test]
    fn redacted_values_are_hidden_in_body_and_row() {
        let body = "{\"user\":{\"email\":\"ada@example.org\",\"pin\":12},\"list\":[{\"k\":\"one-two\"},{\"k\":\"three-four\"}],\"ok\":1}";
        let redact = "user.email,user.pin,$.list[*].k";
        let received = shown(&sample(SampleStage::Received, &[], body), redact);
        assert!(
            received.contains("\"body\":{\"user\":{\"email\":\"[redacted]\",\"pin\":\"[redacted]\"},\"list\":[{\"k\":\"[redacted]\"},{\"k\":\"[redacted]\"}],\"ok\":1}"),
            "{received}"
        );
        let mut of_row = sample(SampleStage::Row, &[], body);
        of_row.cells = [
            ("email", "ada@example.org"),
            ("pin", "12"),
            ("both", "ada@example.org/x"),
            ("twelve", "112"),
            ("body", body),
        ]
        .map(|(n, c)| (n.to_owned(), c.as_bytes().to_vec()))
        .to_vec();
        let row = shown(&of_row, redact);
        for hidden in ["ada@", "one-two", "three-four", "\"pin\\\":12"] {
            assert!(!row.contains(hidden), "{hidden} in {row}");
        }
        assert!(
            row.contains("\"pin\":\"[redacted]\"") && row.contains("\"112\""),
            "{row}"
        );
        // What can't be redacted is not shown.
        for body in ["user.email=ada@example.org", "{\"user\":{\"email\":\"ada"] {
            let shown = shown(&sample(SampleStage::Received, &[], body), redact);
            assert!(!shown.contains("ada"), "{shown}");
        }
    }
}
