//! Parses messages from a stream of bytes.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::ValueEnum;
use forebay_buffer::Message;
use forebay_record::line::text_of_line;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Format of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// One message per line, without its newline
    #[default]
    Lines,
    /// One JSON object per line: {"topic", "key", "payload", "headers", "timestamp"}
    Ndjson,
    /// Frames: a 4-byte big-endian length, then the payload
    Frames,
}

/// Message with its topic, if it has one.
pub(super) type IncomingMessage = (Option<Arc<str>>, Message);

#[derive(Debug)]
pub(super) enum InputError {
    /// This message is invalid; the next one may be valid.
    Invalid(String),
    /// The input can't be read.
    Broken(io::Error),
}

pub(super) struct InputReader<R> {
    reader: R,
    format: InputFormat,
    max_bytes: usize,
    number: u64,
}

impl<R: BufRead> InputReader<R> {
    pub(super) fn new(reader: R, format: InputFormat, max_bytes: usize) -> Self {
        Self {
            reader,
            format,
            max_bytes,
            number: 0,
        }
    }

    /// The next message; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<IncomingMessage>, InputError> {
        loop {
            self.number += 1;
            let message = match self.format {
                InputFormat::Frames => self.frame()?.map(Message::new),
                InputFormat::Lines => self.line()?.map(Message::new),
                InputFormat::Ndjson => match self.line()? {
                    None => None,
                    Some(line) => {
                        self.check_encoding(&line)?;
                        match line.get(text_of_line(&line)) {
                            // Blank lines are skipped, as in NDJSON.
                            None | Some([]) => continue,
                            Some(text) => return self.json(text).map(Some),
                        }
                    }
                },
            };
            return Ok(message.map(|message| (None, message)));
        }
    }

    fn invalid(&self, problem: impl std::fmt::Display) -> InputError {
        InputError::Invalid(format!("message {} of the input: {problem}", self.number))
    }

    /// Reports a wrong encoding once, not for each line.
    fn check_encoding(&self, line: &[u8]) -> Result<(), InputError> {
        let is_wide = self.number == 1
            && matches!(
                line,
                [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..]
            );
        if !is_wide {
            return Ok(());
        }
        Err(InputError::Broken(io::Error::new(
            io::ErrorKind::InvalidData,
            "the input is UTF-16, allowed is UTF-8 (`iconv -f UTF-16 -t UTF-8`)",
        )))
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        let mut line = Vec::new();
        // More than a message may have, for the JSON around it, but never a whole file without a
        // newline.
        let limit = self.max_bytes as u64 * 2 + 1_024;
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut line);
        if read.map_err(InputError::Broken)? == 0 {
            return Ok(None);
        }
        if line.pop_if(|last| *last == b'\n').is_none() && line.len() as u64 >= limit {
            self.reader.skip_until(b'\n').map_err(InputError::Broken)?;
            return Err(self.invalid(format_args!("longer than {limit} bytes")));
        }
        Ok(Some(line))
    }

    fn frame(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        let mut head = [0; 4];
        if self
            .reader
            .fill_buf()
            .map_err(InputError::Broken)?
            .is_empty()
        {
            return Ok(None);
        }
        self.reader
            .read_exact(&mut head)
            .map_err(InputError::Broken)?;
        let len = u32::from_be_bytes(head);
        if len as usize > self.max_bytes {
            // After an invalid length no frame boundary is known.
            let what = format!(
                "frame {} has {len} bytes, at most {} are allowed",
                self.number, self.max_bytes
            );
            return Err(InputError::Broken(io::Error::new(
                io::ErrorKind::InvalidData,
                what,
            )));
        }
        let mut payload = vec![0; len as usize];
        self.reader
            .read_exact(&mut payload)
            .map_err(InputError::Broken)?;
        Ok(Some(payload))
    }

    fn json(&self, line: &[u8]) -> Result<IncomingMessage, InputError> {
        let line: JsonMessage = serde_json::from_slice(line).map_err(|e| self.invalid(e))?;
        let part = |name: &str, value: Option<&RawValue>| {
            bytes(value).map_err(|e| self.invalid(format_args!("`{name}`: {e}")))
        };
        let mut headers = Vec::new();
        for (name, value) in line.headers.unwrap_or_default() {
            headers.push((Arc::from(name), part("headers", Some(&value))?));
        }
        let message = Message {
            key: part("key", line.key.as_deref())?,
            payload: part("payload", line.payload.as_deref())?,
            headers,
            timestamp_ms: line.timestamp,
        };
        Ok((line.topic.map(Arc::from), message))
    }
}

/// Message as JSON, as the file provider writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonMessage {
    topic: Option<String>,
    key: Option<Box<RawValue>>,
    payload: Option<Box<RawValue>>,
    headers: Option<Vec<(String, Box<RawValue>)>>,
    timestamp: Option<i64>,
    /// Written by the file provider; ignored.
    #[serde(default, rename = "sequence")]
    _sequence: Option<u64>,
}

/// A string is its text, `{"base64": "…"}` its decoded bytes, any other JSON the text as sent, byte for
/// byte.
fn bytes(value: Option<&RawValue>) -> Result<Option<Bytes>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Base64Payload {
        base64: String,
    }
    let Some(sent) = value.map(RawValue::get).filter(|sent| *sent != "null") else {
        return Ok(None);
    };
    if sent.starts_with('"') {
        let text: String = serde_json::from_str(sent).map_err(|e| e.to_string())?;
        return Ok(Some(Bytes::from(text)));
    }
    match serde_json::from_str::<Base64Payload>(sent) {
        Ok(encoded) if sent.starts_with('{') => {
            let decoded = STANDARD.decode(encoded.base64);
            Ok(Some(Bytes::from(
                decoded.map_err(|e| format!("base64: {e}"))?,
            )))
        }
        _ => Ok(Some(Bytes::copy_from_slice(sent.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], format: InputFormat) -> Vec<Result<IncomingMessage, String>> {
        let mut input = InputReader::new(bytes, format, 8);
        let mut all = Vec::new();
        loop {
            match input.next() {
                Ok(None) => return all,
                Ok(Some(message)) => all.push(Ok(message)),
                Err(InputError::Invalid(text)) => all.push(Err(text)),
                Err(InputError::Broken(error)) => {
                    all.push(Err(error.to_string()));
                    return all;
                }
            }
        }
    }

    #[test]
    fn lines_are_messages_with_any_bytes() {
        let read = all(b"a\n\n\xff\0\nlast", InputFormat::Lines);
        let want = [&b"a"[..], b"", b"\xff\0", b"last"];
        assert_eq!(read, want.map(|p| Ok((None, Message::new(p)))));
    }

    #[test]
    fn frames_may_hold_newlines() {
        let read = all(b"\0\0\0\x02a\n\0\0\0\0\0\0\0\x09", InputFormat::Frames);
        assert_eq!(read[0], Ok((None, Message::new("a\n"))));
        assert_eq!(read[1], Ok((None, Message::new(""))));
        assert_eq!(
            read[2],
            Err("frame 3 has 9 bytes, at most 8 are allowed".to_owned())
        );
    }

    #[test]
    fn byte_order_marks_and_blank_lines_of_json_are_skipped() {
        let read = all(
            b"\xEF\xBB\xBF{\"payload\":\"a\"}\r\n\r\n \n{\"payload\":\"b\"}\n\xEF\xBB\xBF{\"payload\":\"c\"}\n\n",
            InputFormat::Ndjson,
        );
        assert_eq!(read, ["a", "b", "c"].map(|p| Ok((None, Message::new(p)))));
        assert_eq!(all(b"\xEF\xBB\xBF\n", InputFormat::Ndjson), []);
        let wide = all(b"\xff\xfe{\0}\0\n\0{\0}\0\n\0", InputFormat::Ndjson);
        assert!(
            matches!(&wide[..], [Err(e)] if e.contains("UTF-16")),
            "{wide:?}"
        );
    }

    #[test]
    fn json_that_is_no_string_is_passed_on_byte_for_byte() {
        for sent in [
            r#"{"id":12345678901234567890123}"#,
            "10.00",
            "1E5",
            "-0",
            r#"{"a":1,"a":2}"#,
            "1e400",
            r#"{ "a" : [ 1.0,  "\u00e9" ] }"#,
            "true",
            r#"{"base64":5}"#,
            r#"{"base64":"YQ==","other":1}"#,
            r#"["YQ=="]"#,
        ] {
            let line = format!(r#"{{"key":{sent},"payload": {sent} ,"headers":[["h",{sent}]]}}"#);
            let mut input = InputReader::new(line.as_bytes(), InputFormat::Ndjson, 1000);
            let (_, message) = input.next().unwrap().unwrap();
            let bytes = Some(Bytes::copy_from_slice(sent.as_bytes()));
            assert_eq!((&message.key, &message.payload), (&bytes, &bytes), "{sent}");
            assert_eq!(message.headers[0].1, bytes, "{sent}");
        }
    }

    #[test]
    fn json_lines_have_topic_key_and_headers() {
        let line = br#"{"topic":"t","key":"k","payload":{"base64":"/w=="},"headers":[["h",1]],"timestamp":5}
{"payload":{"a":[1]}}
{"payload":"x","colour":"red"}
"#;
        let read = all(line, InputFormat::Ndjson);
        let message = Message::keyed("k", &b"\xff"[..]).header("h", "1").at(5);
        assert_eq!(read[0], Ok((Some(Arc::from("t")), message)));
        assert_eq!(read[1], Ok((None, Message::new(r#"{"a":[1]}"#))));
        let error = read[2].clone().unwrap_err();
        assert!(
            error.starts_with("message 3 of the input: unknown field `colour`"),
            "{error}"
        );
    }
}
