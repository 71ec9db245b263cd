//! Decompression of responses (`Content-Encoding`): gzip, deflate, zstd and Brotli, also nested,
//! and even if not requested, as some servers compress anyway.
//!
//! reqwest decompresses too, but matches names exactly (`gzip`, not `x-gzip` or `GZIP`) and
//! supports no lists.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};

/// Value of `Accept-Encoding`.
pub(super) const ACCEPTED: &str = "gzip, deflate, zstd, br";
/// Maximum of nested codings.
const CODINGS_MAX: usize = 3;
/// Maximum window of zstd, as a power of two: what RFC 9659 allows.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Buffer size.
const READ: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseCoding {
    Gzip,
    Deflate,
    Zstd,
    Brotli,
}

/// A compressed body.
#[derive(Debug)]
pub(super) struct EncodedBody {
    codings: Vec<ResponseCoding>,
}

impl EncodedBody {
    /// Takes the codings from the headers and removes them there; `None` when the body is not
    /// compressed. Fails for an unsupported coding.
    pub(super) fn from_headers(headers: &mut HeaderMap) -> Result<Option<Self>, String> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
                match name.to_ascii_lowercase().as_str() {
                    "identity" => {}
                    "gzip" | "x-gzip" => codings.push(ResponseCoding::Gzip),
                    "deflate" => codings.push(ResponseCoding::Deflate),
                    "zstd" => codings.push(ResponseCoding::Zstd),
                    "br" => codings.push(ResponseCoding::Brotli),
                    _ => {
                        let name = name.escape_debug();
                        return Err(format!(
                            "the response has the Content-Encoding \"{name}\"; supported are {ACCEPTED}"
                        ));
                    }
                }
            }
        }
        if codings.len() > CODINGS_MAX {
            let count = codings.len();
            return Err(format!(
                "the response has {count} nested codings, at most {CODINGS_MAX} are supported"
            ));
        }
        if codings.is_empty() {
            return Ok(None);
        }
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
        Ok(Some(Self { codings }))
    }

    /// At most `max` decompressed bytes, and whether there are more. `is_cut`: the body is
    /// truncated. CPU-bound: not for an async thread. Fails when the body is damaged or ends early.
    pub(super) fn unpack(
        &self,
        body: Bytes,
        is_cut: bool,
        max: usize,
    ) -> Result<(Bytes, bool), String> {
        if body.is_empty() {
            return Ok((body, is_cut));
        }
        let failed = |e: io::Error| format!("the response can't be unpacked: {e}");
        let mut reader: Box<dyn Read> = Box::new(body.reader());
        for coding in self.codings.iter().rev() {
            reader = coding.reader(reader).map_err(failed)?;
        }
        let mut unpacked = Vec::new();
        let read = reader.take(max as u64 + 1).read_to_end(&mut unpacked);
        match read {
            Ok(_) => {}
            // The end of a truncated body is missing.
            Err(_) if is_cut => {}
            Err(e) => return Err(failed(e)),
        }
        let is_long = unpacked.len() > max;
        unpacked.truncate(max);
        Ok((Bytes::from(unpacked), is_cut || is_long))
    }
}

impl ResponseCoding {
    fn reader(self, packed: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
        let mut packed = io::BufReader::with_capacity(READ, packed);
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Deflate if is_zlib(&mut packed)? => Box::new(ZlibDecoder::new(packed)),
            // Some servers omit the zlib wrapper that the standard requires.
            Self::Deflate => Box::new(DeflateDecoder::new(packed)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            Self::Brotli => Box::new(brotli_decompressor::Decompressor::new(packed, READ)),
        })
    }
}

/// Whether a stream begins with a zlib header (RFC 1950).
fn is_zlib(packed: &mut impl io::BufRead) -> io::Result<bool> {
    let [first, second, ..] = *packed.fill_buf()? else {
        return Ok(false);
    };
    let header = u16::from_be_bytes([first, second]);
    Ok(first & 0x0f == 8 && header % 31 == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn read(coding: &str, body: &[u8], max: usize) -> Result<(Bytes, bool), String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
        headers.insert(CONTENT_LENGTH, body.len().into());
        let packed = EncodedBody::from_headers(&mut headers)?;
        let Some(packed) = packed else {
            return Ok((Bytes::copy_from_slice(body), false));
        };
        assert!(headers.is_empty(), "{headers:?}");
        packed.unpack(Bytes::copy_from_slice(body), false, max)
    }

    #[test]
    fn all_supported_codings_are_unpacked() {
        let text = b"{\"results\":[1,2,3]}".repeat(100);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(&text).unwrap();
        let raw = raw.finish().unwrap();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        let members = [gzip(&text[..7]), gzip(&text[7..])].concat();
        for (coding, body) in [
            ("gzip", gzip(&text)),
            ("x-gzip", gzip(&text)),
            ("GZip", members),
            ("deflate", zlib),
            ("deflate", raw),
            ("zstd", zstd.clone()),
            ("identity", text.clone()),
            ("", text.clone()),
            ("zstd, gzip", gzip(&zstd)),
            ("identity,gzip", gzip(&text)),
        ] {
            let whole = read(coding, &body, 1 << 20);
            assert_eq!(
                whole,
                Ok((Bytes::copy_from_slice(&text), false)),
                "{coding}"
            );
        }
        // "hello" of a Brotli encoder.
        let brotli = [0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03];
        assert_eq!(
            read("br", &brotli, 64),
            Ok((Bytes::from_static(b"hello"), false))
        );
    }

    #[test]
    fn output_is_limited() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let (body, is_cut) = read("gzip", &bomb, 1000).unwrap();
        assert_eq!((body.len(), is_cut), (1000, true));
        let twice = gzip(&bomb);
        let (body, is_cut) = read("gzip, gzip", &twice, 1000).unwrap();
        assert_eq!((body.len(), is_cut), (1000, true));
        let exact = read("gzip", &gzip(&[7; 1000]), 1000).unwrap();
        assert_eq!((exact.0.len(), exact.1), (1000, false));
        assert!(read("gzip, gzip, gzip, gzip", b"", 1).is_err());
    }

    #[test]
    fn damage_and_unsupported_codings_are_errors() {
        let packed = gzip(b"hello");
        for body in [&packed[..packed.len() - 1], b"not packed", b"x"] {
            for coding in ["gzip", "zstd", "br"] {
                let error = read(coding, body, 100).unwrap_err();
                assert!(error.contains("can't be unpacked"), "{error}");
            }
        }
        let error = read("compress", b"x", 100).unwrap_err();
        assert!(error.contains("\"compress\""), "{error}");
        // As in a response to HEAD, or 204.
        assert_eq!(read("gzip", b"", 100), Ok((Bytes::new(), false)));
    }
}
