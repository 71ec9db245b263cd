//! Content codings: bounded decompression of bodies.

use std::io::{self, Read};

use bytes::Bytes;

/// Maximum codings of one body, because each costs memory and time.
const CODINGS_MAX: usize = 4;
/// Largest Zstandard window (RFC 9659) as a power of two: 8 MB.
const ZSTD_WINDOW: u32 = 23;
/// Maximum growth of a byte by deflate.
const DEFLATE_GROWS_TO: u64 = 1032;

/// Supported codings, by their names in requests.
pub const SUPPORTED: &str = "gzip, deflate, zstd";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// One or more gzip members.
    Gzip,
    /// The zlib format or raw deflate: senders disagree on the meaning of the name.
    Deflate,
    /// One or more Zstandard frames.
    Zstd,
}

/// Name of an unsupported coding: 415.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCoding(pub String);

/// The codings of a body in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentCodings(Vec<ContentCoding>);

/// Error of decompressing a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Too large after decompression: 413.
    #[error("the body is larger than {0} bytes after decompression")]
    TooLarge(usize),
    /// Invalid, truncated, or followed by other bytes: 400.
    #[error("the body is not valid {coding}: {cause}")]
    Broken { coding: &'static str, cause: String },
}

impl ContentCodings {
    /// Adds the codings of a `Content-Encoding` value. Fails at the first unknown one and above the
    /// maximum number.
    pub fn add(&mut self, value: &str) -> Result<(), UnknownCoding> {
        for name in value.split(',').map(str::trim) {
            let coding = match name.to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => ContentCoding::Gzip,
                "deflate" => ContentCoding::Deflate,
                "zstd" => ContentCoding::Zstd,
                _ => return Err(UnknownCoding(name.to_owned())),
            };
            if self.0.len() == CODINGS_MAX {
                return Err(UnknownCoding(value.to_owned()));
            }
            self.0.push(coding);
        }
        Ok(())
    }

    /// Whether the body is not compressed.
    pub(crate) fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// Upper bound of the memory for decompression, beside the `len` bytes of the body.
    pub fn peak_bytes(&self, len: usize, max: usize) -> u64 {
        let max = max as u64;
        match self.0.as_slice() {
            [] => 0,
            [ContentCoding::Zstd] => max,
            [_] => (len as u64).saturating_mul(DEFLATE_GROWS_TO).min(max),
            // The output of one coding is held while the next one is undone.
            _ => max.saturating_mul(2),
        }
    }

    /// Decompresses a body, the last coding first. Each step returns at most `max` bytes; memory is
    /// bounded by twice `max`, small buffers and Zstandard's window.
    pub fn undo(&self, body: &Bytes, max: usize) -> Result<Bytes, InflateError> {
        let mut body = body.clone();
        for coding in self.0.iter().rev() {
            body = coding.undo(&body, max)?;
        }
        Ok(body)
    }
}

impl ContentCoding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    fn undo(self, body: &[u8], max: usize) -> Result<Bytes, InflateError> {
        let mut out = InflateBuffer {
            bytes: Vec::with_capacity(body.len().saturating_mul(4).min(max)),
            max,
        };
        let undone = match self {
            Self::Gzip => gzip(body, &mut out),
            Self::Deflate => deflate(body, &mut out),
            Self::Zstd => zstd(body, &mut out),
        };
        match undone {
            Ok(()) => Ok(out.bytes.into()),
            Err(InflateFailure::Full) => Err(InflateError::TooLarge(max)),
            Err(InflateFailure::Broken(cause)) => {
                let coding = self.name();
                Err(InflateError::Broken { coding, cause })
            }
        }
    }
}

/// Decompresses a gzip body of one or more members.
pub fn inflate(body: &[u8], max: usize) -> Result<Bytes, InflateError> {
    ContentCoding::Gzip.undo(body, max)
}

enum InflateFailure {
    Full,
    Broken(String),
}

impl From<io::Error> for InflateFailure {
    fn from(error: io::Error) -> Self {
        Self::Broken(match error.kind() {
            io::ErrorKind::UnexpectedEof => "it is truncated".to_owned(),
            _ => error.to_string(),
        })
    }
}

/// Decompressed bytes, at most `max`.
struct InflateBuffer {
    bytes: Vec<u8>,
    max: usize,
}

impl InflateBuffer {
    fn take(&mut self, reader: &mut impl Read) -> Result<(), InflateFailure> {
        let mut buffer = [0; 8192];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) if self.bytes.len() + n > self.max => return Err(InflateFailure::Full),
                Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn gzip(body: &[u8], out: &mut InflateBuffer) -> Result<(), InflateFailure> {
    // One decoder for all members: a body may consist of thousands of empty members.
    let mut reader = flate2::bufread::GzDecoder::new(body);
    loop {
        out.take(&mut reader)?;
        let rest = *reader.get_ref();
        let zeros = rest.iter().take_while(|b| **b == 0).count();
        match rest.get(zeros..) {
            // Zero padding, as from tar or a block device, is ignored as in gzip(1).
            None | Some([]) => return Ok(()),
            Some([0x1F, 0x8B, ..]) if zeros == 0 => {
                reader.reset(rest);
            }
            Some(behind) => return Err(trailing_bytes(body.len() - behind.len(), behind.len())),
        }
    }
}

fn deflate(body: &[u8], out: &mut InflateBuffer) -> Result<(), InflateFailure> {
    // A zlib header is no valid start of raw deflate: a stored block with non-zero padding, which
    // no encoder writes.
    let is_zlib = matches!(body, [cmf, flg, ..]
        if cmf & 0x0F == 8 && cmf >> 4 <= 7 && u16::from_be_bytes([*cmf, *flg]) % 31 == 0);
    let rest = if is_zlib {
        let mut reader = flate2::bufread::ZlibDecoder::new(body);
        out.take(&mut reader)?;
        reader.into_inner()
    } else {
        let mut reader = flate2::bufread::DeflateDecoder::new(body);
        out.take(&mut reader)?;
        reader.into_inner()
    };
    match rest.len() {
        0 => Ok(()),
        count => Err(trailing_bytes(body.len() - count, count)),
    }
}

fn zstd(body: &[u8], out: &mut InflateBuffer) -> Result<(), InflateFailure> {
    if body.is_empty() {
        return Err(InflateFailure::Broken("it is truncated".to_owned()));
    }
    let mut reader = zstd::stream::read::Decoder::with_buffer(body)?;
    reader.window_log_max(ZSTD_WINDOW)?;
    out.take(&mut reader)
}

fn trailing_bytes(offset: usize, count: usize) -> InflateFailure {
    InflateFailure::Broken(format!(
        "{count} unexpected bytes after its end at byte {offset}"
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn packed(coding: &str, data: &[u8]) -> Vec<u8> {
        let level = Compression::best();
        match coding {
            "gzip" => {
                let mut out = GzEncoder::new(Vec::new(), level);
                out.write_all(data).unwrap();
                out.finish().unwrap()
            }
            "zlib" => {
                let mut out = ZlibEncoder::new(Vec::new(), level);
                out.write_all(data).unwrap();
                out.finish().unwrap()
            }
            "deflate" => {
                let mut out = DeflateEncoder::new(Vec::new(), level);
                out.write_all(data).unwrap();
                out.finish().unwrap()
            }
            _ => zstd::encode_all(data, 3).unwrap(),
        }
    }

    fn undo(list: &str, body: Vec<u8>, max: usize) -> Result<Bytes, InflateError> {
        let mut codings = ContentCodings::default();
        codings.add(list).unwrap();
        codings.undo(&body.into(), max)
    }

    #[test]
    fn each_coding_is_undone_within_the_limit() {
        let data = b"some text, and some text again".repeat(500);
        for (name, format) in [
            ("gzip", "gzip"),
            ("X-GZip", "gzip"),
            ("deflate", "zlib"),
            ("deflate", "deflate"),
            ("zstd", "zstd"),
        ] {
            let body = packed(format, &data);
            assert_eq!(
                undo(name, body.clone(), data.len()).unwrap(),
                data,
                "{name}"
            );
            let error = undo(name, body.clone(), data.len() - 1).unwrap_err();
            assert_eq!(error, InflateError::TooLarge(data.len() - 1), "{name}");
            for end in [0, 1, body.len() / 2, body.len() - 1] {
                let cut = undo(name, body[..end].to_vec(), data.len());

                assert!(
                    matches!(cut, Err(InflateError::Broken { .. })),
                    "{name} {end}"
                );
            }
            let more = [&body[..], b"more"].concat();
            let error = undo(name, more, data.len()).unwrap_err();
            assert!(
                matches!(error, InflateError::Broken { .. }),
                "{name}: {error}"
            );
        }
        let empty = packed("zlib", b"");
        assert_eq!(undo("deflate", empty, 0).unwrap(), Bytes::new());
    }

    #[test]
    fn several_codings_are_undone_in_their_order() {
        let data = b"{\"a\":1}";
        let twice = packed("zstd", &packed("gzip", data));
        assert_eq!(
            undo("gzip, identity,zstd", twice.clone(), 100).unwrap(),
            &data[..]
        );
        assert!(undo("zstd, gzip", twice, 100).is_err());
        let mut codings = ContentCodings::default();
        codings.add("gzip").unwrap();
        codings.add(" deflate ,").unwrap();
        assert_eq!(codings.0, [ContentCoding::Gzip, ContentCoding::Deflate]);
        for (list, named) in [
            ("br", "br"),
            ("gzip, compress", "compress"),
            ("gzip;q=1", "gzip;q=1"),
        ] {
            let error = ContentCodings::default().add(list).unwrap_err();
            assert_eq!(error, UnknownCoding(named.to_owned()));
        }
        assert!(
            ContentCodings::default()
                .add("gzip,gzip,gzip,gzip,gzip")
                .is_err()
        );
    }

    #[test]
    fn each_step_is_bounded() {
        let bomb = packed("gzip", &packed("gzip", &vec![0; 10_000_000]));
        assert!(bomb.len() < 200);
        let error = undo("gzip, gzip", bomb, 100_000).unwrap_err();
        assert_eq!(error, InflateError::TooLarge(100_000));
        let bomb = packed("zstd", &vec![0; 10_000_000]);
        let error = undo("zstd", bomb, 100_000).unwrap_err();
        assert_eq!(error, InflateError::TooLarge(100_000));
        let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(27).unwrap();
        wide.write_all(&[7; 1000]).unwrap();
        let wide = wide.finish().unwrap();
        let error = undo("zstd", wide, 100_000).unwrap_err();
        assert!(error.to_string().contains("too much memory"), "{error}");
    }

    #[test]
    fn zeros_after_gzip_are_padding_and_other_bytes_are_an_error() {
        let member = packed("gzip", b"x");
        let with = |behind: &[u8]| undo("gzip", [&member[..], behind].concat(), 2000);
        assert_eq!(with(&[0; 512]).unwrap(), "x");
        assert_eq!(with(&[0]).unwrap(), "x");
        assert_eq!(with(&member).unwrap(), "xx");
        let behind = [&member[..], &[0, 0, 7, 0]].concat();
        let error = with(&behind).unwrap_err().to_string();
        let at = 2 * member.len() + 2;
        assert_eq!(
            error,
            format!("the body is not valid gzip: 2 unexpected bytes after its end at byte {at}")
        );
        assert_eq!(with(&member.repeat(1000)).unwrap(), "x".repeat(1001));
        assert!(with(&[0, 0x1F, 0x8B]).is_err() && with(&[0x1F, 0x8B]).is_err());
    }
}
