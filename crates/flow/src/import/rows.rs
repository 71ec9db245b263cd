//! From objects in staging to rows: fetched, decompressed and parsed on a thread of its own, in
//! batches of bounded size, and counted. A slice that has another number of rows than the log
//! counted ends the stream with an error, and so the import without a row.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use forebay_model::Slice;
use forebay_record::block::Decoder;
use forebay_record::csv_read::{CsvError, CsvReader, CsvRecord};
use forebay_remote::staging::{DownloadStream, Staging, StagingError, StagingErrorKind};
use forebay_remote::table::{RowBatch, RowError, RowStream};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Bytes of a batch: large enough that its handling costs nothing beside its rows.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait for the table.
const BATCHES: usize = 2;

type Sender = mpsc::Sender<Result<RowBatch, RowError>>;

/// The slice whose object is missing in staging or is not what was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreadable(Arc<Mutex<Option<Slice>>>);

impl Unreadable {
    fn set(&self, slice: Slice) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(slice);
    }

    /// The slice, if there was one.
    pub(super) fn take(&self) -> Option<Slice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The rows of `slices`, which are in staging, in that order; and, if the stream has ended with an
/// error, the slice that could not be read.
///
/// Dropping the stream ends the thread that reads with its next batch.
pub(super) fn rows(
    staging: Staging,
    slices: Vec<Slice>,
    columns: usize,
) -> (RowStream<'static>, Unreadable) {
    let (sender, receiver) = mpsc::channel(BATCHES);
    let unreadable = Unreadable::default();
    // It ends with the stream; awaiting it would add nothing that the stream has not said.
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
    sender: Sender,
    unreadable: Unreadable,
) {
    // One of which the log has lost everything has an object, and nothing in it.
    for slice in slices.into_iter().filter(|s| s.statistics.records > 0) {
        let read = match staging.get(&slice.staging_path).await {
            Ok(object) => read_on_a_thread(object, slice.clone(), columns, &sender).await,
            Err(e) => {
                if e.kind() == StagingErrorKind::Missing {
                    unreadable.set(slice);
                }
                // Nobody listens any more when this fails.
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
    sender: &Sender,
) -> Result<(), RowError> {
    let sender = sender.clone();
    let bytes = object.map_err(std::io::Error::other);
    let reader = SyncIoBridge::new(StreamReader::new(bytes));
    let thread = tokio::task::spawn_blocking(move || read(reader, &slice, columns, &sender));
    match thread.await {
        Ok(done) => done,
        Err(e) => Err(RowError {
            retryable: true,
            message: format!("reading a slice was broken off: {e}"),
        }),
    }
}

fn read(reader: impl Read, slice: &Slice, columns: usize, sender: &Sender) -> Result<(), RowError> {
    let name = &slice.staging_path;
    let expected = slice.statistics;
    let decoder =
        Decoder::new(reader, slice.compression, expected.uncompressed_bytes).map_err(|e| {
            RowError {
                retryable: true,
                message: format!("{name}: {e}"),
            }
        })?;
    let mut csv = CsvReader::new(decoder);
    let mut record = CsvRecord::default();
    let mut batch = RowBatch::new(columns);
    let mut count = 0;
    while csv.read(&mut record).map_err(|e| from_csv(name, &e))? {
        if record.len() != columns {
            return Err(broken(
                name,
                &format!(
                    "row {} has {} cells instead of {columns}",
                    count + 1,
                    record.len()
                ),
            ));
        }
        batch.push_row(record.iter());
        count += 1;
        if batch.bytes() >= BATCH_BYTES {
            let full = std::mem::replace(&mut batch, RowBatch::new(columns));
            if sender.blocking_send(Ok(full)).is_err() {
                return Ok(());
            }
        }
    }
    if count != expected.records {
        return Err(broken(
            name,
            &format!("it has {count} rows, the log counted {}", expected.records),
        ));
    }
    if !batch.is_empty() && sender.blocking_send(Ok(batch)).is_err() {
        return Ok(());
    }
    Ok(())
}

/// An object that reads the same way each time: repeating helps only after it was written anew.
fn broken(name: &str, problem: &str) -> RowError {
    RowError {
        retryable: false,
        message: format!("the staged slice {name} is not as it was uploaded: {problem}"),
    }
}

fn from_csv(name: &str, e: &CsvError) -> RowError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match e {
        // Of the transfer, which can be repeated. What the decompressor says is of these kinds.
        CsvError::Io { error, .. }
            if !matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) =>
        {
            RowError {
                retryable: true,
                message: format!("{name}: {e}"),
            }
        }
        other => broken(name, &other.to_string()),
    }
}
