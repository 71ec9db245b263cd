//! Rotation of a sink's file: the file is closed and its successor opened in the transaction of the
//! change that causes it.

use forebay_model::{
    File, FileKey, FileState, Sink, SinkKey, Slice, SliceKey, SliceState, Source, Timestamp,
    VolumeId,
};

use super::files::{FileError, OpenedFile, RotatedFile, check_states, next_opened_at};
use super::transaction::{TxnAttempts, TxnBuilder};
use super::{Repo, VOLUMES_MAX, Versioned};
use crate::catalog::keys::StoreKey;
use crate::catalog::stored::sink_state::SinkState;
use crate::kv::store::{Revision, TXN_BYTES_MAX};

/// Bytes of values up to which a file is opened in the same transaction: it needs the rest for a
/// mapping, the settings and its slices.
const BYTES_BEFORE_OPENING: usize = TXN_BYTES_MAX - (384 << 10);

/// Definition of a new file.
pub(super) struct ActiveSinkDefinition<'u> {
    pub(super) source: &'u Source,
    pub(super) sink: &'u Sink,
    pub(super) volumes: &'u [VolumeId],
}

/// State of a sink, and its open file.
pub(super) struct SinkFiles {
    sink: SinkKey,
    pub(super) state: Option<Versioned<SinkState>>,
    pub(super) open: Option<(Versioned<File>, Vec<Versioned<Slice>>)>,
}

/// Changes added by [`Repo::add_file_rotation`].
#[derive(Default)]
pub(super) struct FileRotation {
    closed: Option<File>,
    opened: Option<(File, Vec<Slice>)>,
}

impl Repo {
    /// Reads the state that [`Repo::add_file_rotation`] needs.
    pub(super) async fn sink_files(&self, sink: &SinkKey) -> Result<SinkFiles, FileError> {
        // Reads until two reads agree; the transaction is the caller's.
        let mut attempts = TxnAttempts::default();
        loop {
            let sink_state = self.read::<SinkState>(StoreKey::SinkState(sink)).await?;
            let Some(opened_at) = sink_state.as_ref().and_then(|b| b.writing) else {
                let sink = sink.clone();
                let open = None;
                return Ok(SinkFiles {
                    sink,
                    state: sink_state,
                    open,
                });
            };
            let key = FileKey {
                sink: sink.clone(),
                opened_at,
            };
            let file = self.read::<File>(StoreKey::File(&key)).await?;
            if let Some(file) = file.filter(|f| f.state == FileState::Writing) {
                let open = Some((file, self.file_slices(&key).await?));
                let sink = sink.clone();
                return Ok(SinkFiles {
                    sink,
                    state: sink_state,
                    open,
                });
            }
            // The file was rotated or closed between the two reads; that would look like an invalid
            // transition.
            attempts.retry().await?;
        }
    }

    /// Closes the open file, if there is one; opens one, if there is a definition and it fits into
    /// the transaction; writes the sink state.
    ///
    /// All that was read is a precondition. A concurrent slice rotation changes the predecessor,
    /// which fails its precondition.
    pub(super) fn add_file_rotation(
        &self,
        txn: &mut TxnBuilder<'_>,
        sink_files: &SinkFiles,
        definition: Option<ActiveSinkDefinition<'_>>,
        now: Timestamp,
    ) -> Result<FileRotation, FileError> {
        if sink_files.open.is_none() && definition.is_none() {
            // Nothing to close; the precondition is that no file is opened meanwhile.
            txn.expect_as_read(
                StoreKey::SinkState(&sink_files.sink),
                sink_files.state.as_ref(),
            );
            return Ok(FileRotation::default());
        }
        let mut sink_state = sink_files
            .state
            .as_ref()
            .map_or_else(SinkState::default, |b| b.value.clone());
        let mut rotation = FileRotation::default();
        if let Some((file, slices)) = &sink_files.open {
            rotation.closed = Some(add_closed_file(txn, file, slices, now)?);
        }
        sink_state.writing = None;
        // Otherwise it is opened when the sink is settled.
        let definition = definition.filter(|_| txn.bytes <= BYTES_BEFORE_OPENING);
        if let Some(definition) = definition {
            let opened_at = sink_state
                .last_opened_at
                .map_or(now, |last| next_opened_at(last, now));
            let (file, slices) = self.add_opened_file(txn, &definition, opened_at)?;
            sink_state.writing = Some(opened_at);
            sink_state.last_opened_at = Some(opened_at);
            rotation.opened = Some((file, slices));
        }
        txn.expect_as_read(
            StoreKey::SinkState(&sink_files.sink),
            sink_files.state.as_ref(),
        );
        txn.put(StoreKey::SinkState(&sink_files.sink), &sink_state)?;
        Ok(rotation)
    }

    fn add_opened_file(
        &self,
        txn: &mut TxnBuilder<'_>,
        definition: &ActiveSinkDefinition<'_>,
        opened_at: Timestamp,
    ) -> Result<(File, Vec<Slice>), FileError> {
        let volumes = definition.volumes;
        if volumes.is_empty() {
            return Err(FileError::NoVolumes);
        }
        let mut different: Vec<_> = volumes.iter().collect();
        different.sort_unstable();
        different.dedup();
        if different.len() != volumes.len() || volumes.len() > VOLUMES_MAX {
            return Err(FileError::BadVolumes(volumes.len()));
        }
        let key = FileKey {
            sink: definition.sink.key.clone(),
            opened_at,
        };
        let Some(table) = definition.sink.target.table() else {
            return Err(FileError::SinkNotActive(key.sink));
        };
        let settings = self
            .defaults
            .with(&definition.source.settings)
            .with(&definition.sink.settings);
        let compression = settings.compression();
        let file = File::open(key.clone(), table.clone(), settings);
        txn.expect_absent(StoreKey::File(&key));
        txn.put(StoreKey::File(&key), &file)?;
        let mut slices = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let slice = Slice::open(
                SliceKey {
                    file: key.clone(),
                    volume: volume.clone(),
                    opened_at,
                },
                compression,
            );
            txn.put(StoreKey::Slice(&slice.key), &slice)?;
            slices.push(slice);
        }
        Ok((file, slices))
    }

    /// The sink and its source if they are active; also a precondition of the transaction.
    async fn active_definition(
        &self,
        txn: &mut TxnBuilder<'_>,
        key: &SinkKey,
    ) -> Result<Option<(Source, Sink)>, FileError> {
        let source = txn.read::<Source>(StoreKey::Source(&key.source)).await?;
        let sink = txn.read::<Sink>(StoreKey::Sink(key)).await?;
        Ok(match (source, sink) {
            (Some(source), Some(sink))
                if source.is_active() && sink.is_active() && sink.target.table().is_some() =>
            {
                Some((source.value, sink.value))
            }
            _ => None,
        })
    }

    /// Closes a `writing` file and opens its successor, with the sink's present definition and
    /// settings; if the sink is inactive, only closes the file.
    pub async fn rotate_file(
        &self,
        key: &FileKey,
        volumes: &[VolumeId],
        now: Timestamp,
    ) -> Result<RotatedFile, FileError> {
        let done = self.transact(|txn| {
            Box::pin(async move {
                let sink_files = self.sink_files(&key.sink).await?;
                let open = sink_files.open.as_ref();
                if open.is_none_or(|(file, _)| file.key != *key) {
                    // The file is not the open one: report its state.
                    let mut file = self.file(key).await?.value;
                    file.transition(FileState::Closing, now)?;
                    return Err(FileError::Conflict);
                }
                let defined = self.active_definition(txn, &key.sink).await?;
                let definition = defined.as_ref().map(|(source, sink)| ActiveSinkDefinition {
                    source,
                    sink,
                    volumes,
                });
                let rotation = self.add_file_rotation(txn, &sink_files, definition, now)?;
                let closed = rotation.closed.ok_or(FileError::Conflict)?;
                Ok((closed, rotation.opened))
            })
        });
        let Versioned {
            value: (closed, opened),
            revision,
        } = done.await?;
        Ok(RotatedFile {
            closed: Versioned {
                value: closed,
                revision,
            },
            opened: opened.map(|(file, slices)| opened_file(file, slices, revision)),
        })
    }
}

fn opened_file(file: File, slices: Vec<Slice>, revision: Revision) -> OpenedFile {
    let revised = |value| Versioned { value, revision };
    OpenedFile {
        file: Versioned {
            value: file,
            revision,
        },
        slices: slices.into_iter().map(revised).collect(),
    }
}

/// Moves a file and its `writing` slices to `closing`.
fn add_closed_file(
    txn: &mut TxnBuilder<'_>,
    read: &Versioned<File>,
    slices: &[Versioned<Slice>],
    now: Timestamp,
) -> Result<File, FileError> {
    let mut file = read.value.clone();
    file.transition(FileState::Closing, now)?;
    txn.expect_unchanged(StoreKey::File(&file.key), read);
    txn.put(StoreKey::File(&file.key), &file)?;
    for read in slices {
        let mut slice = read.value.clone();
        if slice.state == SliceState::Writing {
            slice.transition(SliceState::Closing, now)?;
            txn.expect_unchanged(StoreKey::Slice(&slice.key), read);
            txn.put(StoreKey::Slice(&slice.key), &slice)?;
        }
        check_states(&file, &slice)?;
    }
    Ok(file)
}
