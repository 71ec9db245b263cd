//! Content codings: what a body was compressed with, undone within a bound.

use std::io::{self, Read};

use bytes::Bytes;

/// Codings of one body, at most. Nobody needs two; each takes memory and time.
const CODINGS_MAX: usize = 4;
/// The largest window that senders may use (RFC 9659), as a power of two: 8 MB.
const ZSTD_WINDOW: u32 = 23;
/// Deflate makes at most so many bytes of one.
const DEFLATE_GROWS_TO: u64 = 1032;

/// Codings that are taken, as a request may name them.
pub const SUPPORTED: &str = "gzip, deflate, zstd";

/// A coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// Members of gzip, one after the other.
    Gzip,
    /// zlib's format, or deflate without it: senders disagree on what the name means.
    Deflate,
    /// Zstandard frames, one after the other.
    Zstd,
}

/// A coding that is not taken, by its name: 415.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCoding(pub String);

/// The codings of a body, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentCodings(Vec<ContentCoding>);

/// A compressed body that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// More than the limit after inflation: 413.
    #[error("the body is larger than {0} bytes after decompression")]
    TooLarge(usize),
    /// Not in that coding, cut short, or with something behind it: 400.
    #[error("the body is not valid {coding}: {cause}")]
    Broken {
        /// Name of the coding.
        coding: &'static str,
        /// What is wrong.
        cause: String,
    },
}

impl ContentCodings {
    /// Adds those of a `Content-Encoding` header's value, a list.
    ///
    /// # Errors
    /// The first one that is not known, or that is one too many.
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

    /// Whether the body is as it is.
    pub fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// Most bytes that undoing them holds besides the `len` bytes of the body.
    pub fn peak_bytes(&self, len: usize, max: usize) -> u64 {
        let max = max as u64;
        match self.0.as_slice() {
            [] => 0,
            [ContentCoding::Zstd] => max,
            [_] => (len as u64).saturating_mul(DEFLATE_GROWS_TO).min(max),
            // What one of them makes is held while the next one works.
            _ => max.saturating_mul(2),
        }
    }

    /// Undoes them, the last one first. Never holds more than twice `max` bytes and small buffers
    /// (and Zstandard's window), whatever the body promises.
    ///
    /// # Errors
    /// If more than `max` bytes come out of one, or the body is not in it to its last byte.
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

/// Inflates a gzip body of one or more members.
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
            io::ErrorKind::UnexpectedEof => "it is cut short".to_owned(),
            _ => error.to_string(),
        })
    }
}

/// What has come out, within the bound.
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
    // One for all members: a body may be nothing but their heads.
    let mut reader = flate2::bufread::GzDecoder::new(body);
    loop {
        out.take(&mut reader)?;
        let rest = *reader.get_ref();
        let zeros = rest.iter().take_while(|b| **b == 0).count();
        match rest.get(zeros..) {
            // As gzip(1) reads what tar or a block device has filled up.
            None | Some([]) => return Ok(()),
            Some([0x1F, 0x8B, ..]) if zeros == 0 => {
                reader.reset(rest);
            }
            Some(behind) => return Err(behind_the_end(body.len() - behind.len(), behind.len())),
        }
    }
}

fn deflate(body: &[u8], out: &mut InflateBuffer) -> Result<(), InflateFailure> {
    // The head of zlib's format is none of deflate: there it would be a stored block whose padding is
    // not zero, which nothing writes.
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
        count => Err(behind_the_end(body.len() - count, count)),
    }
}

fn zstd(body: &[u8], out: &mut InflateBuffer) -> Result<(), InflateFailure> {
    if body.is_empty() {
        return Err(InflateFailure::Broken("it is cut short".to_owned()));
    }
    let mut reader = zstd::stream::read::Decoder::with_buffer(body)?;
    reader.window_log_max(ZSTD_WINDOW)?;
    out.take(&mut reader)
}

fn behind_the_end(offset: usize, count: usize) -> InflateFailure {
    let text =
        format!("behind its end, at byte {offset}, there are {count} bytes that are none of it");
    InflateFailure::Broken(text)
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
    fn each_coding_is_undone_within_the_bound() {
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
                // A frame of nothing but skipped bytes is complete wherever one of them ends.
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
    fn zeros_behind_gzip_are_padding_and_anything_else_is_named() {
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
            format!(
                "the body is not valid gzip: behind its end, at byte {at}, there are 2 bytes that are none of it"
            )
        );
        assert_eq!(with(&member.repeat(1000)).unwrap(), "x".repeat(1001));
        assert!(with(&[0, 0x1F, 0x8B]).is_err() && with(&[0x1F, 0x8B]).is_err());
    }
}
