//! Encodes the blocks of a stream as the bytes of an object. Small blocks, as of a sink with little
//! traffic, are uncompressed in the log; here they are joined and compressed.

use std::io;

use bytes::Bytes;
use forebay_log::{BlockReader, ReadItem};
use forebay_model::BlockCompression;
use forebay_model::failpoint::{self, FailPoint};
use forebay_record::block::BlockEncoder;
use tokio::sync::mpsc::Sender;

use forebay_ingest::streams::compression as compression_of;

/// Small blocks are joined up to this size before compression.
const JOINED_BYTES: usize = 256 << 10;

/// Record counts of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadCounts {
    pub(super) records: u64,
    /// Damaged on disk.
    pub(super) lost: u64,
}

/// Reads the stream to its end and sends it in chunks of whole members or frames.
pub(super) fn read(
    mut reader: BlockReader,
    compression: BlockCompression,
    sender: &Sender<Result<Bytes, io::Error>>,
) -> io::Result<ReadCounts> {
    let result = send_all(&mut reader, compression, sender);
    if let Err(e) = &result {
        // The upload must not succeed with partial data. If it has failed, the receiver is closed.
        drop(sender.blocking_send(Err(io::Error::new(e.kind(), e.to_string()))));
    }
    result
}

fn send_all(
    reader: &mut BlockReader,
    compression: BlockCompression,
    sender: &Sender<Result<Bytes, io::Error>>,
) -> io::Result<ReadCounts> {
    let mut read = ReadCounts::default();
    let mut joined = JoinedBlocks {
        rows: Vec::new(),
        encoder: BlockEncoder::new(compression)?,
    };
    let send = |bytes: Bytes| {
        let closed = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload was aborted");
        sender.blocking_send(Ok(bytes)).map_err(closed)
    };
    for item in reader {
        match item.map_err(io::Error::other)? {
            ReadItem::Gap(gap) => {
                let (stream, first, records) = (&gap.name, gap.first_seq, gap.records);
                tracing::error!(stream, first, records, "log has lost records of a slice");
                read.lost += records;
            }
            ReadItem::Block(block) => {
                read.records += u64::from(block.records);
                failpoint::at(FailPoint::UploadReading);
                let is_plain = compression_of(block.codec) == Some(BlockCompression::None);
                if !is_plain || compression == BlockCompression::None {
                    if let Some(bytes) = joined.take()? {
                        send(bytes)?;
                    }
                    send(block.payload)?;
                    continue;
                }
                joined.rows.extend_from_slice(&block.payload);
                if joined.rows.len() >= JOINED_BYTES
                    && let Some(bytes) = joined.take()?
                {
                    send(bytes)?;
                }
            }
        }
    }
    if let Some(bytes) = joined.take()? {
        send(bytes)?;
    }
    Ok(read)
}

struct JoinedBlocks {
    rows: Vec<u8>,
    encoder: BlockEncoder,
}

impl JoinedBlocks {
    /// Encodes the rows as one member or frame; `None` if there are none.
    fn take(&mut self) -> io::Result<Option<Bytes>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let bytes = self.encoder.encode(&self.rows)?;
        self.rows.clear();
        Ok(Some(bytes.into()))
    }
}
