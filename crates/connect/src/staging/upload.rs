//! Upload of one object from a stream of unknown length, in bounded memory.

use std::io;

use bytes::Bytes;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

/// Size of a part. Some servers require equal sizes, and an upload has at most 10,000 parts: so an
/// object has up to 78 GiB.
const PART: usize = 8 << 20;
/// Parts uploaded concurrently.
const IN_FLIGHT: usize = 2;

/// Origin of a failed upload.
pub(super) enum UploadFailure {
    Input(io::Error),
    Store(object_store::Error),
}

impl From<object_store::Error> for UploadFailure {
    fn from(e: object_store::Error) -> Self {
        Self::Store(e)
    }
}

/// Uploads an object in one request if it fits into one part, otherwise in parts.
pub(super) async fn put(
    store: &dyn ObjectStore,
    location: &Path,
    stream: UploadStream<'_>,
) -> Result<u64, UploadFailure> {
    let mut parts = UploadParts::new(stream);
    let first = parts.next().await?;
    let mut size = first.content_length() as u64;
    if first.content_length() < PART {
        store.put(location, first).await?;
        return Ok(size);
    }
    let mut upload = UploadGuard::begin(store.put_multipart(location).await?);
    let result = send(&mut upload, first, &mut parts, &mut size).await;
    match result {
        Ok(()) => Ok(size),
        Err(e) => {
            upload.abort().await;
            Err(e)
        }
    }
}

async fn send(
    upload: &mut UploadGuard,
    first: PutPayload,
    parts: &mut UploadParts<'_>,
    size: &mut u64,
) -> Result<(), UploadFailure> {
    let mut in_flight = FuturesUnordered::new();
    let mut part = first;
    loop {
        let is_last = part.content_length() < PART;
        if part.content_length() > 0 {
            in_flight.push(upload.inner()?.put_part(part));
        }
        if is_last {
            break;
        }
        while in_flight.len() >= IN_FLIGHT {
            in_flight.try_next().await?;
        }
        part = parts.next().await?;
        *size += part.content_length() as u64;
    }
    while in_flight.try_next().await?.is_some() {}
    upload.inner()?.complete().await?;
    upload.0 = None;
    Ok(())
}

/// Aborts the upload on drop, unless it was completed.
struct UploadGuard(Option<Box<dyn MultipartUpload>>);

impl UploadGuard {
    fn begin(upload: Box<dyn MultipartUpload>) -> Self {
        Self(Some(upload))
    }

    fn inner(&mut self) -> Result<&mut Box<dyn MultipartUpload>, object_store::Error> {
        self.0.as_mut().ok_or_else(|| object_store::Error::Generic {
            store: "upload",
            source: "the upload has ended".into(),
        })
    }

    async fn abort(&mut self) {
        if let Some(mut upload) = self.0.take() {
            clean_up(&mut *upload).await;
        }
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        // The future was dropped by a timeout or a shutdown. No task awaits this cleanup; the
        // request timeouts limit it.
        if let (Some(mut upload), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            drop(runtime.spawn(async move { clean_up(&mut *upload).await }));
        }
    }
}

async fn clean_up(upload: &mut dyn MultipartUpload) {
    if let Err(e) = upload.abort().await {
        tracing::warn!(error = %e, "can't abort upload, its parts remain in staging");
    }
}

/// Splits a stream into parts of [`PART`] bytes; the last one is shorter and may be empty.
struct UploadParts<'a> {
    stream: UploadStream<'a>,
    rest: Bytes,
}

impl<'a> UploadParts<'a> {
    fn new(stream: UploadStream<'a>) -> Self {
        Self {
            stream,
            rest: Bytes::new(),
        }
    }

    async fn next(&mut self) -> Result<PutPayload, UploadFailure> {
        let mut chunks = Vec::new();
        let mut missing = PART;
        while missing > 0 {
            if self.rest.is_empty() {
                match self.stream.next().await {
                    None => break,
                    Some(chunk) => self.rest = chunk.map_err(UploadFailure::Input)?,
                }
            }
            let chunk = self.rest.split_to(missing.min(self.rest.len()));
            missing -= chunk.len();
            chunks.push(chunk);
        }
        Ok(chunks.into_iter().collect())
    }
}

/// Data to upload. Chunks may have any size; errors are the reader's.
pub type UploadStream<'a> = BoxStream<'a, Result<Bytes, io::Error>>;
