//! Staging in memory: failed writes, lost responses, outages, and damaged or missing objects.

use forebay_test_support::SeededRandom;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::gate::{Gates, Step, Verdict};

/// Staging with injected failures. Clones are the same.
#[derive(Clone)]
pub(crate) struct SimStaging {
    objects: Arc<InMemory>,
    gates: Gates,
    outage: Arc<Mutex<bool>>,
}

impl fmt::Debug for SimStaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStaging")
    }
}

impl fmt::Display for SimStaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStaging")
    }
}

fn failed(why: &'static str) -> Error {
    Error::Generic {
        store: "simulated",
        source: why.into(),
    }
}

impl SimStaging {
    pub(crate) fn new(gates: Gates) -> Self {
        Self {
            objects: Arc::default(),
            gates,
            outage: Arc::default(),
        }
    }

    fn outage(&self) -> MutexGuard<'_, bool> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_outage(&self, outage: bool) {
        *self.outage() = outage;
    }

    fn available(&self) -> Result<()> {
        if *self.outage() {
            return Err(failed("outage"));
        }
        Ok(())
    }

    /// All objects, by name.
    pub(crate) async fn all(&self) -> BTreeMap<String, Bytes> {
        let mut all = BTreeMap::new();
        let listed: Vec<ObjectMeta> = self.objects.list(None).try_collect().await.unwrap();
        for meta in listed {
            let object = self.objects.get(&meta.location).await.unwrap();
            all.insert(meta.location.to_string(), object.bytes().await.unwrap());
        }
        all
    }

    /// Deletes, truncates, alters, extends or replaces an object; returns a description.
    pub(crate) async fn damage(&self, random: &mut SeededRandom) -> Option<String> {
        let all = self.all().await;
        let names: Vec<&String> = all.keys().collect();
        if names.is_empty() {
            return None;
        }
        let name = *random.pick(&names);
        let path = Path::parse(name).unwrap();
        let mut bytes = all[name].to_vec();
        let how = if bytes.is_empty() { 0 } else { random.index(5) };
        let what = match how {
            0 => {
                self.objects.delete(&path).await.unwrap();
                return Some(format!("{name} was deleted"));
            }
            1 => {
                bytes.truncate(random.index(bytes.len()));
                "cut"
            }
            2 => {
                bytes.extend_from_slice(&all[*random.pick(&names)]);
                "longer"
            }
            3 => {
                bytes = all[*random.pick(&names)].to_vec();
                "another"
            }
            _ => {
                let at = random.index(bytes.len());
                bytes[at] ^= 1 << random.index(8);
                "damaged"
            }
        };
        self.objects.put(&path, bytes.into()).await.unwrap();
        Some(format!("{name} is {what}"))
    }
}

#[async_trait]
impl ObjectStore for SimStaging {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if self.gates.pass(Step::Put, location.as_ref()).await == Verdict::Fail {
            return Err(failed("the write failed"));
        }
        self.available()?;
        let put = self.objects.put_opts(location, payload, opts).await?;
        if self.gates.pass(Step::PutDone, location.as_ref()).await == Verdict::Fail {
            return Err(failed("the answer to a write was lost"));
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        // Objects of a run are far too small for it.
        self.objects.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.gates.pass(Step::Fetch, location.as_ref()).await == Verdict::Fail {
            return Err(failed("the read failed"));
        }
        self.available()?;
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |location: Result<Path>| {
            let this = this.clone();
            async move {
                let location = location?;
                if this.gates.pass(Step::Delete, location.as_ref()).await == Verdict::Fail {
                    return Err(failed("the removal failed"));
                }
                this.available()?;
                this.objects.delete(&location).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
