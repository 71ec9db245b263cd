//! Blocks: rows collected and compressed at once.
//!
//! A sealed block is complete: one gzip member or one Zstandard frame, so that the concatenated
//! blocks of a slice are a valid `.gz` or `.zst` file.

use std::io::{self, Read};

use forebay_model::BlockCompression;

/// A compressed block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlock {
    pub payload: Vec<u8>,
    /// Bytes of the rows before compression.
    pub raw_len: usize,
    pub records: u32,
}

/// A reusable compressor: creating one costs more than compressing a small block.
pub struct BlockEncoder {
    codec: CompressionCodec,
}

enum CompressionCodec {
    None,
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl std::fmt::Debug for BlockEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockEncoder").finish_non_exhaustive()
    }
}

impl BlockEncoder {
    /// Creates a compressor; levels are clamped to 1 to 9.
    pub fn new(compression: BlockCompression) -> io::Result<Self> {
        let codec = match compression {
            BlockCompression::None => CompressionCodec::None,
            BlockCompression::Gzip { level } => {
                let level = libdeflater::CompressionLvl::new(i32::from(level.clamp(1, 9)))
                    .unwrap_or_default();
                CompressionCodec::Gzip(libdeflater::Compressor::new(level))
            }
            BlockCompression::Zstd { level } => {
                let level = i32::from(level.clamp(1, 9));
                CompressionCodec::Zstd(zstd::bulk::Compressor::new(level)?)
            }
        };
        Ok(Self { codec })
    }

    /// Encodes `raw` as one gzip member, one Zstandard frame or unchanged.
    pub fn encode(&mut self, raw: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self.codec {
            CompressionCodec::None => Ok(raw.to_vec()),
            CompressionCodec::Gzip(compressor) => {
                let mut out = vec![0; compressor.gzip_compress_bound(raw.len())];
                let written = compressor
                    .gzip_compress(raw, &mut out)
                    .map_err(io::Error::other)?;
                out.truncate(written);
                Ok(out)
            }
            CompressionCodec::Zstd(compressor) => compressor.compress(raw),
        }
    }
}

/// Decompresses one block of exactly `raw_len` raw bytes.
pub fn decode(
    payload: &[u8],
    compression: BlockCompression,
    raw_len: usize,
) -> io::Result<Vec<u8>> {
    let mut rows = Vec::new();
    // A corrupt length must not allocate memory that the payload can't fill.
    let guess = raw_len.min(payload.len().saturating_mul(32));
    rows.try_reserve(guess).map_err(io::Error::other)?;
    let mut reader = BlockDecoder::new(payload, compression, raw_len as u64)?;
    reader.read_to_end(&mut rows)?;
    if rows.len() != raw_len {
        let text = format!("the block has {} bytes instead of {raw_len}", rows.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(rows)
}

/// Reads concatenated blocks back as rows. Fails after `max` bytes, so that a corrupt or hostile
/// file can't fill a disk.
pub struct BlockDecoder<R: Read> {
    source: CompressedReader<R>,
    remaining: u64,
}

enum CompressedReader<R: Read> {
    None(R),
    // Boxed because it is by far the largest; one allocation per slice is negligible.
    Gzip(Box<flate2::read::MultiGzDecoder<R>>),
    Zstd(zstd::stream::read::Decoder<'static, io::BufReader<R>>),
}

impl<R: Read> std::fmt::Debug for BlockDecoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let remaining = &self.remaining;
        f.debug_struct("BlockDecoder")
            .field("remaining", remaining)
            .finish_non_exhaustive()
    }
}

/// Largest window of a Zstandard frame: 2^27 bytes, the default of `zstd`.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl<R: Read> BlockDecoder<R> {
    /// `reader` is at the start of a block.
    pub fn new(reader: R, compression: BlockCompression, max: u64) -> io::Result<Self> {
        let source = match compression {
            BlockCompression::None => CompressedReader::None(reader),
            BlockCompression::Gzip { .. } => {
                CompressedReader::Gzip(Box::new(flate2::read::MultiGzDecoder::new(reader)))
            }
            BlockCompression::Zstd { .. } => {
                let mut decoder = zstd::stream::read::Decoder::new(reader)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                CompressedReader::Zstd(decoder)
            }
        };
        Ok(Self {
            source,
            remaining: max,
        })
    }
}

impl<R: Read> Read for BlockDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.source {
            CompressedReader::None(reader) => reader.read(buffer)?,
            CompressedReader::Gzip(reader) => reader.read(buffer)?,
            CompressedReader::Zstd(reader) => reader.read(buffer)?,
        };
        match self.remaining.checked_sub(n as u64) {
            Some(left) => {
                self.remaining = left;
                Ok(n)
            }
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "more bytes after decompression than allowed",
            )),
        }
    }
}
