//! Blocks: rows gathered, then compressed in one shot.
//!
//! A sealed block stands for itself: with gzip it is one complete member, with Zstandard one frame,
//! so that the blocks of a slice joined are a valid `.gz` or `.zst` file.

use std::io::{self, Read};

use forebay_model::BlockCompression;

/// Rows of a block that still takes more.
#[derive(Debug, Default)]
pub struct OpenBlock {
    rows: Vec<u8>,
    records: u32,
}

impl OpenBlock {
    /// An empty block with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            rows: Vec::with_capacity(capacity),
            records: 0,
        }
    }

    /// Lets `write` append one row. The record counts only if that succeeds; what a failed `write`
    /// appended is taken back.
    pub fn append<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.rows.len();
        let result = write(&mut self.rows);
        match result {
            Ok(()) => self.records += 1,
            Err(_) => self.rows.truncate(start),
        }
        result
    }

    /// Appends `records` rows that were rendered elsewhere.
    pub fn append_rows(&mut self, rows: &[u8], records: u32) {
        self.rows.extend_from_slice(rows);
        self.records += records;
    }

    /// Rows so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Compresses the rows and empties the block, which keeps its memory for the next rows.
    ///
    /// # Errors
    /// If the compressor fails, which it does for want of memory only; the rows are then still
    /// there.
    pub fn seal(&mut self, encoder: &mut BlockEncoder) -> io::Result<SealedBlock> {
        let payload = encoder.encode(&self.rows)?;
        let block = SealedBlock {
            payload,
            raw_len: self.rows.len(),
            records: self.records,
        };
        self.rows.clear();
        self.records = 0;
        Ok(block)
    }
}

/// A block as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlock {
    /// The compressed rows.
    pub payload: Vec<u8>,
    /// Bytes of the rows before compression.
    pub raw_len: usize,
    /// Rows in it.
    pub records: u32,
}

/// A compressor, to be kept: setting one up costs more than a small block.
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
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl BlockEncoder {
    /// Sets a compressor up; levels outside 1 to 9 are taken as the nearer end.
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

    /// `raw` as one gzip member, one Zstandard frame, or as it is.
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

/// Decompresses one block whose raw length is known.
///
/// # Errors
/// If the payload is not one block of that codec and exactly that length.
pub fn decode(
    payload: &[u8],
    compression: BlockCompression,
    raw_len: usize,
) -> io::Result<Vec<u8>> {
    let mut rows = Vec::new();
    // A damaged length must not make us ask for memory that the payload can't fill.
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

/// Reads joined blocks (or a whole file of them) back as rows, in pieces of any size, and at most
/// `max` bytes of them: past that the read fails, so that a damaged or hostile file can't fill a
/// disk.
pub struct BlockDecoder<R: Read> {
    source: CompressedReader<R>,
    remaining: u64,
}

enum CompressedReader<R: Read> {
    None(R),
    // The largest by far; a decoder lives for a whole slice, so the box costs nothing.
    Gzip(Box<flate2::read::MultiGzDecoder<R>>),
    Zstd(zstd::stream::read::Decoder<'static, io::BufReader<R>>),
}

impl<R: Read> std::fmt::Debug for BlockDecoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left = &self.remaining;
        f.debug_struct("Decoder")
            .field("left", left)
            .finish_non_exhaustive()
    }
}

/// Largest window that a Zstandard frame may ask for: 2^27 bytes, what `zstd` takes by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl<R: Read> BlockDecoder<R> {
    /// Starts at the first byte of a block.
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
                "more bytes after decompression than there may be",
            )),
        }
    }
}
