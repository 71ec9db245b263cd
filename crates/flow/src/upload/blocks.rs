//! Blocks of a stream as the bytes of an object. Small blocks, which a sink with little traffic has,
//! are in the log as they came; here they are joined and compressed.

use std::io;

use bytes::Bytes;
use forebay_log::{BlockReader, ReadItem};
use forebay_model::BlockCompression;
use forebay_model::failpoint::{self, FailPoint};
use forebay_record::block::BlockEncoder;
use tokio::sync::mpsc::Sender;

use crate::streams::compression as compression_of;

/// Small blocks are joined until they have so many bytes before compression.
const JOINED_BYTES: usize = 256 << 10;

/// What was read of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadCounts {
    pub(super) records: u64,
    /// Damaged on disk.
    pub(super) lost: u64,
}

/// Reads the stream to its end. Chunks are whole members or frames.
pub(super) fn read(
    mut reader: BlockReader,
    compression: BlockCompression,
    sender: &Sender<Result<Bytes, io::Error>>,
) -> io::Result<ReadCounts> {
    let result = send_all(&mut reader, compression, sender);
    if let Err(e) = &result {
        // The upload must not succeed with what was read so far. Nobody listens if it has failed.
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
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload was broken off");
        sender.blocking_send(Ok(bytes)).map_err(gone)
    };
    for item in reader {
        match item.map_err(io::Error::other)? {
            ReadItem::Gap(gap) => {
                let (stream, first, records) = (&gap.name, gap.first_seq, gap.records);
                tracing::error!(
                    stream,
                    first,
                    records,
                    "records of a slice are lost in the log"
                );
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

/// Rows of small blocks.
struct JoinedBlocks {
    rows: Vec<u8>,
    encoder: BlockEncoder,
}

impl JoinedBlocks {
    /// As one member or frame; nothing if there are none.
    fn take(&mut self) -> io::Result<Option<Bytes>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let bytes = self.encoder.encode(&self.rows)?;
        self.rows.clear();
        Ok(Some(bytes.into()))
    }
}
