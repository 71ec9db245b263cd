//! Blocks of a stream as the bytes of an object. Small blocks, which a sink with little traffic has,
//! are in the log as they came; here they are joined and compressed.

use std::io;

use bytes::Bytes;
use forebay_log::{Item, Reader};
use forebay_model::Compression;
use forebay_model::failpoint::{self, Point};
use forebay_record::block::Encoder;
use tokio::sync::mpsc::Sender;

use crate::pipeline::compression as compression_of;

/// Small blocks are joined until they have so many bytes before compression.
const JOINED_BYTES: usize = 256 << 10;

/// What was read of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) records: u64,
    /// Damaged on disk.
    pub(super) lost: u64,
}

/// Reads the stream to its end. Chunks are whole members or frames.
pub(super) fn read(
    mut reader: Reader,
    compression: Compression,
    sender: &Sender<Result<Bytes, io::Error>>,
) -> io::Result<Read> {
    let result = send_all(&mut reader, compression, sender);
    if let Err(e) = &result {
        // The upload must not succeed with what was read so far. Nobody listens if it has failed.
        drop(sender.blocking_send(Err(io::Error::new(e.kind(), e.to_string()))));
    }
    result
}

fn send_all(
    reader: &mut Reader,
    compression: Compression,
    sender: &Sender<Result<Bytes, io::Error>>,
) -> io::Result<Read> {
    let mut read = Read::default();
    let mut joined = Joined {
        rows: Vec::new(),
        encoder: Encoder::new(compression)?,
    };
    let send = |bytes: Bytes| {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload was broken off");
        sender.blocking_send(Ok(bytes)).map_err(gone)
    };
    for item in reader {
        match item.map_err(io::Error::other)? {
            Item::Gap(gap) => {
                let (stream, first, records) = (&gap.name, gap.first_seq, gap.records);
                tracing::error!(
                    stream,
                    first,
                    records,
                    "records of a slice are lost in the log"
                );
                read.lost += records;
            }
            Item::Block(block) => {
                read.records += u64::from(block.records);
                failpoint::at(Point::UploadReading);
                let is_plain = compression_of(block.codec) == Some(Compression::None);
                if !is_plain || compression == Compression::None {
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
struct Joined {
    rows: Vec<u8>,
    encoder: Encoder,
}

impl Joined {
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
