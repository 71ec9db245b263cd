//! Staging: stores the slices of a file, one object each, until the file is imported. A local
//! folder or S3-compatible storage; all paths are below its root.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload};

mod config;
mod error;
#[cfg(feature = "s3")]
pub mod keys;
mod local;
pub mod metrics;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod settings;
mod upload;

pub use config::{LocalStaging, S3Staging, StagingConfig};
pub use error::{StagingError, StagingErrorKind};
#[cfg(feature = "s3")]
pub use s3::bucket;
#[cfg(feature = "s3")]
pub use settings::S3Settings;

use self::metrics::measured;
pub use upload::UploadStream;

pub type DownloadStream = BoxStream<'static, Result<Bytes, StagingError>>;

/// The object that [`Staging::check`] writes and deletes.
const PROBE: &str = ".forebay-check";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedObject {
    /// Relative to the staging root.
    pub path: String,
    /// In bytes.
    pub size: u64,
}

/// The staging storage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Staging {
    store: Arc<dyn ObjectStore>,
    root: Arc<StagingRoot>,
}

/// The root as shown in errors, and state of the kind of storage.
#[derive(Debug)]
struct StagingRoot {
    name: String,
    prefix: Path,
    local: Option<local::StagingFolder>,
}

impl Staging {
    /// Opens the storage. A local folder is created if missing; S3 is not contacted, see
    /// [`Staging::check`].
    ///
    /// # Errors
    /// Terminal when the configuration is invalid or the folder can't be created.
    pub fn open(config: &StagingConfig) -> Result<Self, StagingError> {
        match config {
            StagingConfig::Local(config) => {
                let (store, name, folder) = local::open(config)?;
                let root = StagingRoot {
                    name,
                    prefix: Path::default(),
                    local: Some(folder),
                };
                Ok(Self::new(store, root))
            }
            #[cfg(feature = "s3")]
            StagingConfig::S3(config) => {
                let (store, name, prefix) = s3::open(config)?;
                let root = StagingRoot {
                    name,
                    prefix,
                    local: None,
                };
                Ok(Self::new(store, root))
            }
            #[cfg(not(feature = "s3"))]
            StagingConfig::S3(_) => Err(StagingError::terminal(
                "this build of Forebay has no S3 support: build it with the feature \"s3\"",
            )),
        }
    }

    /// Uses all of an object store. `name` is used in errors.
    #[must_use]
    pub fn with_store(store: Arc<dyn ObjectStore>, name: &str) -> Self {
        let root = StagingRoot {
            name: name.to_owned(),
            prefix: Path::default(),
            local: None,
        };
        Self::new(store, root)
    }

    fn new(store: Arc<dyn ObjectStore>, root: StagingRoot) -> Self {
        Self {
            store,
            root: Arc::new(root),
        }
    }

    /// Location of the root for logs and start-up messages, without keys.
    pub fn display_name(&self) -> &str {
        &self.root.name
    }

    /// Writes an object and returns its size. The object is visible only when it is complete, and
    /// replaces one of the same path, so an upload may be repeated. Needs a few parts of 8 MiB in
    /// memory, whatever the length. The parts of an upload that failed or was dropped are deleted.
    ///
    /// # Errors
    /// When the storage fails, or the stream does ([`StagingErrorKind::Input`]).
    pub async fn put(&self, path: &str, stream: UploadStream<'_>) -> Result<u64, StagingError> {
        let location = self.location("write", path)?;
        let put = async {
            let put = upload::put(&*self.store, &location, stream).await;
            put.map_err(|failure| match failure {
                upload::UploadFailure::Input(e) => StagingError::input(&self.root.name, path, e),
                upload::UploadFailure::Store(e) => self.failed("write", path, e).for_write(),
            })
        };
        let bytes = measured("write", put).await?;
        tracing::debug!(path, bytes, "object staged");
        Ok(bytes)
    }

    /// Reads an object. Interrupted transfers are resumed, within the configured limits.
    ///
    /// # Errors
    /// When it is missing ([`StagingErrorKind::Missing`]) or can't be read; the stream fails in the
    /// same ways.
    pub async fn get(&self, path: &str) -> Result<DownloadStream, StagingError> {
        let location = self.location("read", path)?;
        let get = async {
            let object = self.store.get(&location).await;
            object.map_err(|e| self.failed("read", path, e))
        };
        let object = measured("read", get).await?;
        let (this, path) = (self.clone(), path.to_owned());
        let chunks = match object.payload {
            GetResultPayload::File(file, _) => local::chunks(file),
            GetResultPayload::Stream(chunks) => chunks,
        };
        Ok(chunks
            .map_err(move |e| this.failed("read", &path, e))
            .boxed())
    }

    /// Size of an object; `None` if it doesn't exist.
    pub async fn size(&self, path: &str) -> Result<Option<u64>, StagingError> {
        let location = self.location("look up", path)?;
        measured("look up", async {
            match self.store.head(&location).await {
                Ok(meta) => Ok(Some(meta.size)),
                // A HEAD response has no body that tells a missing object from a missing bucket.
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(self.failed("look up", path, e)),
            }
        })
        .await
    }

    /// Deletes an object. A missing object is no error.
    pub async fn delete(&self, path: &str) -> Result<(), StagingError> {
        let location = self.location("delete", path)?;
        if let Some(folder) = &self.root.local {
            folder.sweep(path).await;
        }
        measured("delete", async {
            match self.store.delete(&location).await {
                Ok(()) => Ok(()),
                Err(e) => match self.failed("delete", path, e) {
                    e if e.kind() == StagingErrorKind::Missing => Ok(()),
                    e => Err(e),
                },
            }
        })
        .await
    }

    /// All objects below a prefix of complete path segments; an empty prefix lists all.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<StagedObject, StagingError>> {
        let location = match self.location("list", prefix) {
            Ok(location) => location,
            Err(e) => return futures::stream::once(async { Err(e) }).boxed(),
        };
        let (this, prefix) = (self.clone(), prefix.to_owned());
        let failed = self.clone();
        self.store
            .list(Some(&location))
            .map_err(move |e| failed.failed("list", &prefix, e))
            .map_ok(move |meta| StagedObject {
                path: this.below_root(&meta.location),
                size: meta.size,
            })
            .boxed()
    }

    /// Lists objects, writes one and deletes it, for health checks and start-up; the error states
    /// whether the bucket, the keys or the connection is wrong.
    pub async fn check(&self) -> Result<(), StagingError> {
        // The listing comes first: for a missing bucket some servers report only "access denied" on
        // a write.
        self.list("").try_next().await?;
        let location = self.location("write", PROBE)?;
        self.store
            .put(&location, PutPayload::from_static(b"forebay\n"))
            .await
            .map_err(|e| self.failed("write", PROBE, e))?;
        self.delete(PROBE).await
    }

    fn location(&self, operation: &'static str, path: &str) -> Result<Path, StagingError> {
        let below = Path::parse(path).map_err(|e| self.failed(operation, path, e.into()))?;
        Ok(self.root.prefix.parts().chain(below.parts()).collect())
    }

    fn below_root(&self, location: &Path) -> String {
        match location.prefix_match(&self.root.prefix) {
            Some(parts) => parts.collect::<Path>().to_string(),
            None => location.to_string(),
        }
    }

    fn failed(
        &self,
        operation: &'static str,
        path: &str,
        error: object_store::Error,
    ) -> StagingError {
        StagingError::from_store(&self.root.name, operation, path, error)
    }
}
