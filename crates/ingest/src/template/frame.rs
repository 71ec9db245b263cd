//! Protocol between the pool and a worker process: frames of a length, a kind and a payload,
//! numbers little-endian. Both ends are the same binary, so there is one version, and it is only
//! checked.

use std::sync::Arc;

use forebay_model::Timestamp;
use forebay_record::{
    BodyFormat, BodyPart, RecordContext, RecordErrorKind, RequestHeaders, RequestInfo,
    TemplateError, TemplateId, TemplateProgram,
};

/// Incremented with every change of a frame.
pub(super) const VERSION: u32 = 2;

/// Largest frame: a record's body and headers are far below it.
const FRAME_MAX: usize = 256 << 20;

/// From the pool: limits, before everything else.
pub(super) const CONFIG: u8 = 1;
/// From the pool: a program, before the first record that needs it.
pub(super) const DEFINE: u8 = 2;
/// From the pool: a record and the programs to evaluate.
pub(super) const RECORD: u8 = 3;
/// From the worker: it is ready.
pub(super) const HELLO: u8 = 4;
/// From the worker: the next evaluation's result; they come in order.
pub(super) const RESULT: u8 = 5;
/// From the worker: the next evaluation took too long. The worker ends.
pub(super) const TIMEOUT: u8 = 6;
/// From the worker: it has grown too large and ends; what is unanswered stays so.
pub(super) const GOODBYE: u8 = 7;

/// A malformed frame. It can't occur between two ends of one binary.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken frame between template pool and worker")]
pub(super) struct MalformedFrame;

/// Appends one frame.
pub(super) fn write(kind: u8, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    payload(out);
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// A complete frame.
pub(super) struct WorkerFrame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    /// Length of the whole frame, header included.
    pub(super) len: usize,
}

/// Returns the first frame of `buffer`, if it is complete.
pub(super) fn next(buffer: &[u8]) -> Result<Option<WorkerFrame<'_>>, MalformedFrame> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(*head) as usize;
    if len == 0 || len > FRAME_MAX {
        return Err(MalformedFrame);
    }
    let Some(frame) = buffer.get(4..4 + len) else {
        return Ok(None);
    };
    Ok(Some(WorkerFrame {
        kind: frame[0],
        payload: &frame[1..],
        len: 4 + len,
    }))
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads the parts of a payload in order.
struct PayloadReader<'a>(&'a [u8]);

impl<'a> PayloadReader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], MalformedFrame> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(MalformedFrame)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedFrame> {
        self.take(N)?.try_into().map_err(|_| MalformedFrame)
    }

    fn u32(&mut self) -> Result<u32, MalformedFrame> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, MalformedFrame> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], MalformedFrame> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn text(&mut self) -> Result<&'a str, MalformedFrame> {
        std::str::from_utf8(self.bytes()?).map_err(|_| MalformedFrame)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerLimits {
    pub(super) version: u32,
    /// CPU time of one evaluation, in milliseconds.
    pub(super) time_ms: u64,
    /// Memory in addition to that of the process at its start, in bytes.
    pub(super) memory: u64,
}

impl WorkerLimits {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write(CONFIG, out, |out| {
            out.extend_from_slice(&self.version.to_le_bytes());
            out.extend_from_slice(&self.time_ms.to_le_bytes());
            out.extend_from_slice(&self.memory.to_le_bytes());
        });
    }

    pub(super) fn read(payload: &[u8]) -> Result<Self, MalformedFrame> {
        let mut parts = PayloadReader(payload);
        Ok(Self {
            version: parts.u32()?,
            time_ms: parts.u64()?,
            memory: parts.u64()?,
        })
    }
}

pub(super) fn write_define(template: &TemplateProgram, out: &mut Vec<u8>) {
    write(DEFINE, out, |out| {
        out.extend_from_slice(&template.id().0);
        out.push(u8::from(template.raw_string()));
        out.extend_from_slice(template.source().as_bytes());
    });
}

pub(super) fn read_define(payload: &[u8]) -> Result<(TemplateId, TemplateProgram), MalformedFrame> {
    let mut parts = PayloadReader(payload);
    let id = TemplateId(parts.array()?);
    let raw_string = parts.array::<1>()?[0] != 0;
    let source = std::str::from_utf8(parts.0).map_err(|_| MalformedFrame)?;
    Ok((id, TemplateProgram::new(source, raw_string)))
}

/// Parts of a record that its templates use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequiredParts {
    pub(super) body: bool,
    pub(super) headers: bool,
}

/// Size of the result of [`encode_record`], or slightly more.
pub(super) fn record_size(record: &RecordContext, needs: RequiredParts) -> usize {
    let mut size = 64;
    if needs.body {
        size += record.body().len();
    }
    if let BodyFormat::Other(text) = record.format() {
        size += text.len();
    }
    if needs.headers {
        let entries = record.request().headers.entries().iter();
        size += entries.map(|(n, v)| n.len() + v.len() + 8).sum::<usize>();
    }
    size
}

/// Encodes a record without the list of templates that a [`RECORD`] frame starts with.
pub(super) fn encode_record(record: &RecordContext, needs: RequiredParts) -> Vec<u8> {
    let body = if needs.body { record.body() } else { &[][..] };
    let mut out = Vec::with_capacity(record_size(record, needs));
    let request = record.request();
    out.extend_from_slice(&request.received.as_millis().to_le_bytes());
    match request.client_ip {
        std::net::IpAddr::V4(ip) => put_bytes(&ip.octets(), &mut out),
        std::net::IpAddr::V6(ip) => put_bytes(&ip.octets(), &mut out),
    }
    let (tag, other) = match record.format() {
        _ if record.is_of_batch() => (2, ""),
        BodyFormat::Json => (0u8, ""),
        BodyFormat::Form => (1, ""),
        BodyFormat::Other(text) => (3, text.as_str()),
    };
    out.push(tag);
    put_bytes(other.as_bytes(), &mut out);
    // Line 0 is no line: they count from 1.
    let line = record.line().unwrap_or(0) as u64;
    out.extend_from_slice(&line.to_le_bytes());
    let headers = if needs.headers {
        request.headers.entries()
    } else {
        &[]
    };
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for (name, value) in headers {
        put_bytes(name.as_bytes(), &mut out);
        put_bytes(value.as_bytes(), &mut out);
    }
    out.extend_from_slice(body);
    out
}

/// Writes a [`RECORD`] frame: these templates for that record.
pub(super) fn write_record<'a>(
    templates: impl Iterator<Item = &'a Arc<TemplateProgram>> + Clone,
    record: &[u8],
    out: &mut Vec<u8>,
) {
    write(RECORD, out, |out| {
        let count = u32::try_from(templates.clone().count()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for template in templates {
            out.extend_from_slice(&template.id().0);
        }
        out.extend_from_slice(record);
    });
}

pub(super) fn read_record(
    payload: &[u8],
) -> Result<(Vec<TemplateId>, RecordContext), MalformedFrame> {
    let mut parts = PayloadReader(payload);
    let count = parts.u32()?;
    let mut templates = Vec::new();
    for _ in 0..count {
        templates.push(TemplateId(parts.array()?));
    }
    let received = Timestamp::from_millis(i64::from_le_bytes(parts.array()?));
    let ip = parts.bytes()?;
    let client_ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
        (Ok(v4), _) => std::net::IpAddr::from(v4),
        (_, Ok(v6)) => std::net::IpAddr::from(v6),
        _ => return Err(MalformedFrame),
    };
    let tag = parts.array::<1>()?[0];
    let other = parts.text()?;
    let format = match tag {
        0 | 2 => BodyFormat::Json,
        1 => BodyFormat::Form,
        _ => BodyFormat::Other(other.to_owned()),
    };
    let line = usize::try_from(parts.u64()?).map_err(|_| MalformedFrame)?;
    let count = parts.u32()?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((parts.text()?.to_owned(), parts.text()?.to_owned()));
    }
    let request = Arc::new(RequestInfo {
        received,
        client_ip,
        headers: RequestHeaders::from_entries(headers),
    });
    let body = parts.0.to_vec().into();
    let record = if tag == 2 {
        let line = (line > 0).then_some(line);
        // Broken records do not get here, and only their errors name the byte.
        let byte = 0;
        RecordContext::from_batch_part(request, BodyPart { body, line, byte })
    } else {
        RecordContext::with_format(request, body, format)
    };
    Ok((templates, record))
}

const KINDS: [RecordErrorKind; 8] = [
    RecordErrorKind::UnsupportedMediaType,
    RecordErrorKind::TooLarge,
    RecordErrorKind::Body,
    RecordErrorKind::PathNotFound,
    RecordErrorKind::Template,
    RecordErrorKind::TemplateLimit,
    RecordErrorKind::Unavailable,
    RecordErrorKind::PathLimit,
];

pub(super) fn write_result(result: &Result<Vec<u8>, TemplateError>, out: &mut Vec<u8>) {
    write(RESULT, out, |out| match result {
        Ok(text) => {
            out.push(0);
            out.extend_from_slice(text);
        }
        Err(e) => {
            let kind = KINDS.iter().position(|k| *k == e.kind).unwrap_or(4);
            out.push(u8::try_from(kind + 1).unwrap_or(1));
            out.extend_from_slice(e.message.as_bytes());
        }
    });
}

pub(super) fn read_result(
    payload: &[u8],
) -> Result<Result<Vec<u8>, TemplateError>, MalformedFrame> {
    let (&tag, text) = payload.split_first().ok_or(MalformedFrame)?;
    let Some(kind) = usize::from(tag).checked_sub(1) else {
        return Ok(Ok(text.to_vec()));
    };
    Ok(Err(TemplateError {
        kind: *KINDS.get(kind).ok_or(MalformedFrame)?,
        message: String::from_utf8_lossy(text).into_owned(),
    }))
}
