//! Decompresses files, member by member, as far as they are intact.
//!
//! A file may have any number of gzip members or zstd frames, including none. Zeros after the last one are
//! padding to a block of a disk or tape. Anything else there is extra data: the compressed content is complete
//! nevertheless.

use std::io::{self, BufRead, Read};
use std::mem;

use flate2::bufread::GzDecoder;

use super::file_ref::FilePacking;

/// Bytes of the extra data that an error quotes.
const QUOTED: usize = 40;

/// Reason for ending decompression before the end of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnpackError {
    /// The last member is incomplete.
    #[error("the compressed file is truncated: the lines after this one are missing")]
    Short,
    /// A member can't be decompressed.
    #[error("the compressed file is damaged: the lines after this one can't be read: {0}")]
    Damaged(String),
    /// All members are complete, but other data follows them.
    #[error("the compressed file is complete, but followed by other data, which is ignored: {0}")]
    Extra(String),
}

/// Reads the content of a compressed file.
pub(super) struct UnpackReader<R> {
    packing: FilePacking,
    part: MemberDecoder<R>,
    /// Members read to their end.
    parts: u64,
}

enum MemberDecoder<R> {
    /// Between two members.
    None(R),
    Gzip(Box<GzDecoder<R>>),
    Zstd(Box<zstd::Decoder<'static, R>>),
    /// The end was reached.
    Over,
}

impl<R: BufRead> UnpackReader<R> {
    pub(super) fn new(raw: R, packing: FilePacking) -> Self {
        Self {
            packing,
            part: MemberDecoder::None(raw),
            parts: 0,
        }
    }

    /// Begins the next member; false at the end.
    fn begin(&mut self, mut raw: R) -> io::Result<bool> {
        if raw.fill_buf()?.is_empty() {
            return Ok(false);
        }
        if self.parts > 0 && !skip_zeros(&mut raw)? {
            return Ok(false);
        }
        if self.parts > 0 && !is_begin(raw.fill_buf()?, self.packing) {
            let broken = UnpackError::Extra(quoted(raw.fill_buf()?));
            return Err(io::Error::other(broken));
        }
        self.part = match self.packing {
            FilePacking::Zstd => {
                MemberDecoder::Zstd(Box::new(zstd::Decoder::with_buffer(raw)?.single_frame()))
            }
            FilePacking::Gzip | FilePacking::Plain => {
                MemberDecoder::Gzip(Box::new(GzDecoder::new(raw)))
            }
        };
        Ok(true)
    }
}

impl<R: BufRead> Read for UnpackReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.part {
                MemberDecoder::Gzip(decoder) => decoder.read(buffer)?,
                MemberDecoder::Zstd(decoder) => decoder.read(buffer)?,
                MemberDecoder::None(_) | MemberDecoder::Over => 0,
            };
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let raw = match mem::replace(&mut self.part, MemberDecoder::Over) {
                MemberDecoder::Over => return Ok(0),
                MemberDecoder::None(raw) => raw,
                MemberDecoder::Gzip(decoder) => {
                    self.parts += 1;
                    decoder.into_inner()
                }
                MemberDecoder::Zstd(decoder) => {
                    self.parts += 1;
                    decoder.finish()
                }
            };
            if !self.begin(raw)? {
                return Ok(0);
            }
        }
    }
}

/// The cause of a decompression error.
pub(super) fn unpack_error(error: &io::Error) -> UnpackError {
    let own = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<UnpackError>());
    match own {
        Some(broken) => broken.clone(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => UnpackError::Short,
        None => UnpackError::Damaged(error.to_string()),
    }
}

/// Skips zeros; false if nothing follows them.
fn skip_zeros(raw: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = raw.fill_buf()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        let is_more = zeros < bytes.len();
        raw.consume(zeros);
        if is_more {
            return Ok(true);
        }
    }
}

/// Whether the bytes are the beginning of a member, as far as there are bytes.
fn is_begin(bytes: &[u8], packing: FilePacking) -> bool {
    let is = |magic: &[u8]| bytes.iter().zip(magic).all(|(a, b)| a == b);
    match packing {
        FilePacking::Gzip | FilePacking::Plain => is(&[0x1f, 0x8b]),
        // A frame, or a skippable frame: 0x184D2A50 to 5F.
        FilePacking::Zstd => {
            is(&[0x28, 0xb5, 0x2f, 0xfd])
                || bytes.first().is_some_and(|b| b & 0xf0 == 0x50)
                    && bytes
                        .iter()
                        .skip(1)
                        .zip([0x2a, 0x4d, 0x18])
                        .all(|(a, b)| *a == b)
        }
    }
}

fn quoted(bytes: &[u8]) -> String {
    let shown = bytes.get(..QUOTED).unwrap_or(bytes);
    format!("\"{}\"", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &[u8], packing: FilePacking) -> Vec<u8> {
        match packing {
            FilePacking::Zstd => zstd::encode_all(text, 1).unwrap(),
            FilePacking::Gzip | FilePacking::Plain => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// Decompresses with a small buffer; returns the content and the error at its end.
    fn unpack(
        bytes: &[u8],
        packing: FilePacking,
        capacity: usize,
    ) -> (Vec<u8>, Option<UnpackError>) {
        let raw = io::BufReader::with_capacity(capacity, bytes);
        let mut reader = UnpackReader::new(raw, packing);
        let mut all = Vec::new();
        let mut buffer = [0; 7];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return (all, None),
                Ok(n) => all.extend_from_slice(&buffer[..n]),
                Err(e) => return (all, Some(unpack_error(&e))),
            }
        }
    }

    #[test]
    fn all_data_is_decompressed_however_the_file_ends() {
        for packing in [FilePacking::Gzip, FilePacking::Zstd] {
            for capacity in [1, 2, 5, 1 << 16] {
                let (one, two, empty) = (
                    packed(b"one\n", packing),
                    packed(b"two\n", packing),
                    packed(b"", packing),
                );
                let unpack = |parts: &[&[u8]]| unpack(&parts.concat(), packing, capacity);
                let whole = |parts: &[&[u8]], text: &[u8]| {
                    assert_eq!(
                        unpack(parts),
                        (text.to_vec(), None),
                        "{packing:?} {parts:?}"
                    );
                };
                whole(&[], b"");
                whole(&[&empty], b"");
                whole(&[&one, &empty, &two], b"one\ntwo\n");
                whole(&[&one, &[0; 512]], b"one\n");
                whole(&[&one, &[0; 3], &two, &[0]], b"one\ntwo\n");
                let (text, end) = unpack(&[&one, b"garbage"]);
                assert_eq!(text, b"one\n");
                assert!(matches!(end, Some(UnpackError::Extra(t)) if t.contains('g')));
                let (text, end) = unpack(&[&one, &two[..two.len() - 1]]);
                assert!(text.starts_with(b"one\n"), "{packing:?} {text:?}");
                assert_eq!(end, Some(UnpackError::Short), "{packing:?}");
                let (text, end) = unpack(&[b"no such thing"]);
                assert!(
                    text.is_empty() && matches!(end, Some(UnpackError::Damaged(_))),
                    "{end:?}"
                );
                let (_, end) = unpack(&[&[0; 512]]);
                assert!(
                    matches!(end, Some(UnpackError::Damaged(_))),
                    "only zeros: {end:?}"
                );
            }
        }
    }

    #[test]
    fn skippable_frames_are_skipped() {
        let skipped = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let one = packed(b"one\n", FilePacking::Zstd);
        let bytes = [&skipped[..], &one, &skipped, &one, &skipped].concat();
        let read = unpack(&bytes, FilePacking::Zstd, 4);
        assert_eq!(read, (b"one\none\n".to_vec(), None));
    }
}
