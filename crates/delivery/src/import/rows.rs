//! Reads objects in staging as rows: fetched, decompressed and parsed on a separate thread, in
//! batches of bounded size, and counted. A slice with another number of rows than the log counted,
//! or an object with other bytes than were uploaded, ends the stream with an error, so that nothing
//! is imported.

use std::io::Read;
use std::sync::Arc;

use forebay_connect::staging::{DownloadStream, Staging, StagingError, StagingErrorKind};
use forebay_connect::table::{RowBatch, RowError, RowStream};
use forebay_model::{Slice, StagedChecksum};
use forebay_record::block::BlockDecoder;
use forebay_record::csv_reader::{CsvError, CsvReader, CsvRecord};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Bytes of a batch: large enough that its overhead is negligible.
const BATCH_BYTES: usize = 1 << 20;
/// Batches queued for the table.
const BATCHES: usize = 2;

type RowSender = mpsc::Sender<Result<RowBatch, RowError>>;

/// Slice whose object is missing in staging or differs from its upload.
#[derive(Clone, Debug, Default)]
pub(super) struct UnreadableSlice(Arc<Mutex<Option<Slice>>>);

impl UnreadableSlice {
    fn set(&self, slice: Slice) {
        *self.0.lock() = Some(slice);
    }

    pub(super) fn take(&self) -> Option<Slice> {
        self.0.lock().take()
    }
}

/// Returns the rows of staged `slices` in that order and, if the stream has ended with an error,
/// the slice that could not be read.
///
/// Dropping the stream ends the reading thread with its next batch.
pub(super) fn rows(
    staging: Staging,
    slices: Vec<Slice>,
    columns: usize,
) -> (RowStream<'static>, UnreadableSlice) {
    let (sender, receiver) = mpsc::channel(BATCHES);
    let unreadable = UnreadableSlice::default();
    // It ends with the stream; awaiting it would add nothing.
    drop(tokio::spawn(produce(
        staging,
        slices,
        columns,
        sender,
        unreadable.clone(),
    )));
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|batch| (batch, receiver))
    });
    (stream.boxed(), unreadable)
}

async fn produce(
    staging: Staging,
    slices: Vec<Slice>,
    columns: usize,
    sender: RowSender,
    unreadable: UnreadableSlice,
) {
    // A slice of which the log has lost everything has an empty object.
    for slice in slices.into_iter().filter(|s| s.statistics.records > 0) {
        let read = match staging.get(&slice.staging_path).await {
            Ok(object) => read_on_a_thread(object, slice.clone(), columns, &sender).await,
            Err(e) => {
                if e.kind() == StagingErrorKind::Missing {
                    unreadable.set(slice);
                }
                // The receiver is closed when this fails.
                drop(sender.send(Err(from_staging(&e))).await);
                return;
            }
        };
        if let Err(e) = read {
            if !e.retryable {
                unreadable.set(slice);
            }
            drop(sender.send(Err(e)).await);
            return;
        }
    }
}

fn from_staging(e: &StagingError) -> RowError {
    RowError {
        retryable: e.is_retryable(),
        message: e.to_string(),
    }
}

async fn read_on_a_thread(
    object: DownloadStream,
    slice: Slice,
    columns: usize,
    sender: &RowSender,
) -> Result<(), RowError> {
    let sender = sender.clone();
    let bytes = object.map_err(std::io::Error::other);
    let reader = SyncIoBridge::new(StreamReader::new(bytes));
    let thread = tokio::task::spawn_blocking(move || read(reader, &slice, columns, &sender));
    match thread.await {
        Ok(done) => done,
        Err(e) => Err(RowError {
            retryable: true,
            message: format!("reading a slice was aborted: {e}"),
        }),
    }
}

fn read(
    reader: impl Read,
    slice: &Slice,
    columns: usize,
    sender: &RowSender,
) -> Result<(), RowError> {
    let mut reader = ChecksumReader::new(reader);
    match send_rows(&mut reader, slice, columns, sender) {
        Ok(true) => reader.check(slice),
        // The receiver was dropped.
        Ok(false) => Ok(()),
        // The object differs from its upload, unless the transfer was incomplete: decompressors
        // return any kind of error.
        Err(e) => Err(RowError {
            retryable: reader.has_failed,
            ..e
        }),
    }
}

/// Sends all rows; `false` when the receiver was dropped.
fn send_rows(
    reader: impl Read,
    slice: &Slice,
    columns: usize,
    sender: &RowSender,
) -> Result<bool, RowError> {
    let name = &slice.staging_path;
    let expected = slice.statistics;
    let decoder = BlockDecoder::new(reader, slice.compression, expected.uncompressed_bytes);
    let decoder = decoder.map_err(|e| unread(name, &e))?;
    let mut csv = CsvReader::new(decoder);
    let mut record = CsvRecord::default();
    let mut batch = RowBatch::new(columns);
    let mut count = 0;
    while csv.read(&mut record).map_err(|e| from_csv(name, &e))? {
        if record.len() != columns {
            let (row, cells) = (count + 1, record.len());
            let problem = format!("row {row} has {cells} cells instead of {columns}");
            return Err(broken(name, &problem));
        }
        batch.push_row(record.iter());
        count += 1;
        if batch.bytes() >= BATCH_BYTES {
            let full = std::mem::replace(&mut batch, RowBatch::new(columns));
            if sender.blocking_send(Ok(full)).is_err() {
                return Ok(false);
            }
        }
    }
    if count != expected.records {
        let problem = format!("it has {count} rows, the log counted {}", expected.records);
        return Err(broken(name, &problem));
    }
    Ok(batch.is_empty() || sender.blocking_send(Ok(batch)).is_ok())
}

/// Sums up what is read of an object.
struct ChecksumReader<R> {
    reader: R,
    sum: StagedChecksum,
    /// The transfer failed.
    has_failed: bool,
}

impl<R: Read> ChecksumReader<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            sum: StagedChecksum::default(),
            has_failed: false,
        }
    }

    /// Reads the rest, which is empty for an intact object, and compares.
    fn check(mut self, slice: &Slice) -> Result<(), RowError> {
        let name = &slice.staging_path;
        let mut rest = vec![0; 64 << 10];
        while self.sum.bytes <= slice.staging_bytes {
            if self.read(&mut rest).map_err(|e| unread(name, &e))? == 0 {
                break;
            }
        }
        match difference(slice, self.sum) {
            None => Ok(()),
            Some(problem) => Err(broken(name, &problem)),
        }
    }
}

impl<R: Read> Read for ChecksumReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buffer).inspect_err(|e| {
            self.has_failed |= e.kind() != std::io::ErrorKind::Interrupted;
        })?;
        self.sum.bytes += n as u64;
        self.sum.crc32c = crc32c::crc32c_append(self.sum.crc32c, &buffer[..n]);
        Ok(n)
    }
}

/// Describes how an object differs from its upload.
fn difference(slice: &Slice, is: StagedChecksum) -> Option<String> {
    let Some(was) = slice.staged() else {
        return Some("its checksum was not recorded".to_owned());
    };
    if is == was {
        return None;
    }
    if is.bytes > was.bytes {
        return Some(format!("it has more than {} bytes", was.bytes));
    }
    let (bytes, crc32c) = (is.bytes, is.crc32c);
    Some(format!(
        "it has {bytes} bytes with CRC-32C {crc32c:08x}, uploaded were {} with {:08x}",
        was.bytes, was.crc32c
    ))
}

/// Returns the first slice whose object is missing or differs from its upload. A table that rejects
/// a row may have been given a row that was never sent.
pub(super) async fn damaged(
    staging: &Staging,
    slices: &[Slice],
) -> Result<Option<Slice>, StagingError> {
    for slice in slices.iter().filter(|s| s.statistics.records > 0) {
        let mut object = match staging.get(&slice.staging_path).await {
            Ok(object) => object,
            Err(e) if e.kind() == StagingErrorKind::Missing => return Ok(Some(slice.clone())),
            Err(e) => return Err(e),
        };
        let mut sum = StagedChecksum::default();
        while let Some(chunk) = object.try_next().await? {
            sum.bytes += chunk.len() as u64;
            sum.crc32c = crc32c::crc32c_append(sum.crc32c, &chunk);
        }
        if difference(slice, sum).is_some() {
            return Ok(Some(slice.clone()));
        }
    }
    Ok(None)
}

/// Error of an object that could not be read for now.
fn unread(name: &str, e: &std::io::Error) -> RowError {
    RowError {
        retryable: true,
        message: format!("{name}: {e}"),
    }
}

/// Error of an object that reads the same way each time: retrying helps only after it was written
/// again.
fn broken(name: &str, problem: &str) -> RowError {
    RowError {
        retryable: false,
        message: format!("the staged slice {name} is not as it was uploaded: {problem}"),
    }
}

fn from_csv(name: &str, e: &CsvError) -> RowError {
    broken(name, &e.to_string())
}
