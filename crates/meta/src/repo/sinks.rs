//! Sinks: a change of a sink and what it means for its file are one transaction.
//!
//! | change                  | its file                          |
//! | ----------------------- | --------------------------------- |
//! | create, undelete        | opened                            |
//! | update, settings, rollback | rotated: closed, and a new one opened |
//! | disable, enable (also with its source) | closed, opened |
//! | delete (also with its source) | closed                      |
//!
//! A table sink has an open file if and only if it and its source take records; a topic has none.

use forebay_model::{
    Deleted, Disabled, Sink, SinkKey, Source, SourceKey, Stamp, Version, VolumeId,
};

use super::audit::Action;
use super::definitions::{Counted, DefinitionError, Refusal, SinkContent};
use super::portions::SinkPages;
use super::turn::{Turn, Under};
use super::{Attempts, Draft, Listing, Repo, Revised};
use crate::keys::{self, Key};
use crate::store::Revision;
use crate::stored::book::Book;
use crate::stored::definition::KeptVersion;

impl Repo {
    /// Makes a sink and opens its first file. An id that exists only as deleted is brought back
    /// under the new content: `created` is kept and numbering goes on.
    ///
    /// Never more of a source than [`forebay_model::DefinitionLimits`] says: each creation writes the
    /// source, so two at the same time see each other.
    ///
    /// # Errors
    /// [`DefinitionError::SinkExists`], no such source, a limit, no volumes, or the store.
    pub async fn create_sink(
        &self,
        key: &SinkKey,
        content: SinkContent,
        description: &str,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
        let _turn = self.lines.wait(Key::Source(&key.source).to_string()).await;
        let mut attempts = Attempts::default();
        loop {
            let source = self.source(&key.source).await?;
            if self.read::<Sink>(Key::Sink(key)).await?.is_some() {
                return Err(DefinitionError::SinkExists(key.clone()));
            }
            self.check_sink_count(&key.source).await?;
            let deleted = self.read::<Sink>(Key::DeletedSink(key)).await?;
            let number = deleted.as_ref().map_or(0, |d| d.version.number);
            let (what, hash) = (Counted::SinkVersions, content.hash());
            let sink = Sink {
                key: key.clone(),
                name: content.name.clone(),
                description: content.description.clone(),
                target: content.target.clone(),
                settings: content.settings.clone(),
                version: self.next_version(what, number, hash, description, stamp)?,
                created: deleted
                    .as_ref()
                    .map_or_else(|| stamp.clone(), |d| d.created.clone()),
                deleted: None,
                disabled: None,
                paused: None,
            };
            let mut draft = Draft::default();
            draft.unchanged(Key::Source(&key.source), &source);
            draft.put(Key::Source(&key.source), &source.value)?;
            draft.absent(Key::Sink(key));
            draft.as_read(Key::DeletedSink(key), deleted.as_ref());
            if deleted.is_some() {
                draft.delete(Key::DeletedSink(key));
            }
            put_sink(&mut draft, &sink)?;
            let versions = (deleted.as_ref().map(|d| &d.version), Some(&sink.version));
            draft.audit_sink(key, Action::Create, versions, stamp)?;
            self.draft_hold(&mut draft, &sink, stamp).await?;
            self.draft_turn(&mut draft, &source, &sink, volumes, stamp)
                .await?;
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: sink,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }

    /// Makes a sink a holder of its table.
    pub(super) async fn draft_hold(
        &self,
        draft: &mut Draft,
        sink: &Sink,
        stamp: &Stamp,
    ) -> Result<(), DefinitionError> {
        if let Some(table) = sink.target.table() {
            self.draft_claim(draft, &sink.key, table, stamp).await??;
        }
        Ok(())
    }

    /// The same of a sink that comes with its source: one whose table is not its project's any more
    /// is switched off, and its source goes on without it.
    pub(super) async fn draft_hold_or_disable(
        &self,
        draft: &mut Draft,
        sink: &mut Sink,
        stamp: &Stamp,
    ) -> Result<(), DefinitionError> {
        if let Some(table) = sink.target.table()
            && let Err(refusal) = self.draft_claim(draft, &sink.key, table, stamp).await?
        {
            sink.disabled = Some(Disabled {
                stamp: stamp.clone(),
                reason: format!("Switched off: {refusal}."),
                with_parent: false,
            });
        }
        Ok(())
    }

    /// Closes the sink's open file, if there is one, and opens one if the sink takes records.
    pub(super) async fn draft_turn(
        &self,
        draft: &mut Draft,
        source: &Source,
        sink: &Sink,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Turn, DefinitionError> {
        let shelf = self.shelf(&sink.key).await?;
        let is_table = sink.target.table().is_some();
        let open = source.is_active() && sink.is_active() && is_table;
        let under = open.then_some(Under {
            source,
            sink,
            volumes,
        });
        if !is_table && shelf.book.is_none() {
            // By its book a sink is remembered when all else of it is forgotten: then its stream is.
            draft.put(Key::Book(&sink.key), &Book::default())?;
        }
        Ok(self.draft_file_turn(draft, &shelf, under, stamp.at)?)
    }

    /// A sink that is not deleted.
    ///
    /// # Errors
    /// [`DefinitionError::SinkNotFound`], or the store.
    pub async fn sink(&self, key: &SinkKey) -> Result<Revised<Sink>, DefinitionError> {
        let found = self.read(Key::Sink(key)).await?;
        found.ok_or_else(|| DefinitionError::SinkNotFound(key.clone()))
    }

    /// Sinks of a source after the id `after` (empty for the beginning), sorted by id.
    ///
    /// # Errors
    /// The store's.
    pub async fn sinks(
        &self,
        source: &SourceKey,
        after: &str,
        limit: usize,
    ) -> Result<Listing<Sink>, DefinitionError> {
        let prefix = keys::below(keys::SINKS, source);
        Ok(self.list(&prefix, after, limit).await?)
    }

    /// All sinks of a source, sorted by id; `max` of them at most.
    ///
    /// # Errors
    /// The store's.
    pub async fn first_sinks(
        &self,
        source: &SourceKey,
        max: usize,
    ) -> Result<Vec<Sink>, DefinitionError> {
        self.first_of(keys::below(keys::SINKS, source), max).await
    }

    /// All deleted sinks of a source, sorted by id.
    ///
    /// # Errors
    /// The store's.
    pub async fn all_deleted_sinks(
        &self,
        source: &SourceKey,
    ) -> Result<Vec<Sink>, DefinitionError> {
        let prefix = keys::below(keys::DELETED_SINKS, source);
        self.first_of(prefix, usize::MAX).await
    }

    async fn first_of(&self, prefix: String, max: usize) -> Result<Vec<Sink>, DefinitionError> {
        let mut pages = SinkPages::new(prefix);
        let mut sinks = Vec::new();
        while sinks.len() < max
            && let Some(sink) = pages.next(self).await?
        {
            sinks.push(sink.value);
        }
        Ok(sinks)
    }

    /// Deleted sinks of a source.
    ///
    /// # Errors
    /// The store's.
    pub async fn deleted_sinks(
        &self,
        source: &SourceKey,
        after: &str,
        limit: usize,
    ) -> Result<Listing<Sink>, DefinitionError> {
        let prefix = keys::below(keys::DELETED_SINKS, source);
        Ok(self.list(&prefix, after, limit).await?)
    }

    /// A sink that is deleted.
    ///
    /// # Errors
    /// [`DefinitionError::SinkNotFound`], or the store.
    pub async fn deleted_sink(&self, key: &SinkKey) -> Result<Revised<Sink>, DefinitionError> {
        let found = self.read(Key::DeletedSink(key)).await?;
        found.ok_or_else(|| DefinitionError::SinkNotFound(key.clone()))
    }

    /// Changes a sink by `change`, which may be called several times, and rotates its file, so that
    /// rows taken under the old definition are imported under it. It is a new version, also when
    /// nothing is different.
    ///
    /// # Errors
    /// [`DefinitionError::SinkNotFound`], what `change` refuses, a limit, no volumes, or the store.
    pub async fn update_sink(
        &self,
        key: &SinkKey,
        description: &str,
        volumes: &[VolumeId],
        stamp: &Stamp,
        mut change: impl FnMut(&mut SinkContent) -> Result<(), Refusal> + Send,
    ) -> Result<Revised<Sink>, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            let source = self.source(&key.source).await?;
            let read = self.sink(key).await?;
            let mut content = SinkContent::of(&read);
            change(&mut content).map_err(DefinitionError::Refused)?;
            let mut sink = read.value.clone();
            let (what, number) = (Counted::SinkVersions, sink.version.number);
            sink.version = self.next_version(what, number, content.hash(), description, stamp)?;
            content.write_into(&mut sink);
            let mut draft = Draft::default();
            // The source decides settings and activity of the file that is opened.
            draft.unchanged(Key::Source(&key.source), &source);
            draft.unchanged(Key::Sink(key), &read);
            put_sink(&mut draft, &sink)?;
            let versions = (Some(&read.version), Some(&sink.version));
            draft.audit_sink(key, Action::Update, versions, stamp)?;
            let table = |s: &Sink| {
                let table = s.target.table();
                table.map(|t| self.table_key(t.backend, &t.table))
            };
            if table(&sink) != table(&read) {
                self.draft_hold(&mut draft, &sink, stamp).await?;
            }
            self.draft_turn(&mut draft, &source, &sink, volumes, stamp)
                .await?;
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: sink,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }

    /// Gives a sink the content that it had as version `number`, as a new version.
    ///
    /// # Errors
    /// [`DefinitionError::VersionNotFound`], and those of [`Self::update_sink`].
    pub async fn rollback_sink(
        &self,
        key: &SinkKey,
        number: u32,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
        let content = self.sink_version(key, number).await?.content;
        let description = format!("Rollback to version \"{number}\".");
        self.update_sink(key, &description, volumes, stamp, move |now| {
            *now = content.clone();
            Ok(())
        })
        .await
    }

    /// Deletes a sink and closes its file. What was accepted goes on its way to the table.
    ///
    /// # Errors
    /// [`DefinitionError::SinkNotFound`], or the store.
    pub async fn delete_sink(
        &self,
        key: &SinkKey,
        stamp: &Stamp,
    ) -> Result<Revision, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            let sink = self.sink(key).await?;
            let mut draft = Draft::default();
            let versions = (Some(&sink.version), None);
            draft.audit_sink(key, Action::Delete, versions, stamp)?;
            self.draft_sink_deletion(&mut draft, sink, stamp, false)
                .await?;
            if let Some(revision) = self.commit(draft).await? {
                return Ok(revision);
            }
            attempts.again().await?;
        }
    }

    /// Moves a sink to the deleted and closes its file.
    pub(super) async fn draft_sink_deletion(
        &self,
        draft: &mut Draft,
        sink: Revised<Sink>,
        stamp: &Stamp,
        with_parent: bool,
    ) -> Result<(), DefinitionError> {
        let key = sink.key.clone();
        draft.unchanged(Key::Sink(&key), &sink);
        draft.delete(Key::Sink(&key));
        let mut sink = sink.value;
        sink.deleted = Some(Deleted {
            stamp: stamp.clone(),
            with_parent,
        });
        draft.put(Key::DeletedSink(&key), &sink)?;
        let shelf = self.shelf(&key).await?;
        self.draft_file_turn(draft, &shelf, None, stamp.at)?;
        Ok(())
    }

    /// Brings a deleted sink back and opens its file.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`] when its source is deleted,
    /// [`DefinitionError::SinkNotFound`] when it is not among the deleted, a limit, no volumes, or
    /// the store.
    pub async fn undelete_sink(
        &self,
        key: &SinkKey,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            let source = self.source(&key.source).await?;
            let read = self.read::<Sink>(Key::DeletedSink(key)).await?;
            let read = read.ok_or_else(|| DefinitionError::SinkNotFound(key.clone()))?;
            self.check_sink_count(&key.source).await?;
            let version = self.undeleted_version(Counted::SinkVersions, &read.version, stamp)?;
            let mut draft = Draft::default();
            draft.unchanged(Key::Source(&key.source), &source);
            draft.put(Key::Source(&key.source), &source.value)?;
            let versions = (Some(&read.version), Some(&version));
            draft.audit_sink(key, Action::Undelete, versions, stamp)?;
            let sink = self
                .draft_sink_return(&mut draft, &source, read, Some(version), volumes, stamp)
                .await?;
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: sink,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }

    /// Moves a sink back from the deleted and opens its file.
    pub(super) async fn draft_sink_return(
        &self,
        draft: &mut Draft,
        source: &Source,
        read: Revised<Sink>,
        version: Option<Version>,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Sink, DefinitionError> {
        let key = read.key.clone();
        draft.unchanged(Key::DeletedSink(&key), &read);
        draft.delete(Key::DeletedSink(&key));
        draft.absent(Key::Sink(&key));
        let mut sink = read.value;
        sink.deleted = None;
        if source.is_active() {
            // Its source was switched on while the sink was deleted.
            sink.disabled = sink.disabled.filter(|d| !d.with_parent);
        }
        match version {
            Some(version) => {
                self.draft_hold(draft, &sink, stamp).await?;
                sink.version = version;
                put_sink(draft, &sink)?;
            }
            None => {
                self.draft_hold_or_disable(draft, &mut sink, stamp).await?;
                draft.put(Key::Sink(&key), &sink)?;
            }
        }
        self.draft_turn(draft, source, &sink, volumes, stamp)
            .await?;
        Ok(sink)
    }

    /// All versions of a sink, oldest first.
    ///
    /// # Errors
    /// [`DefinitionError::SinkNotFound`], or the store.
    pub async fn sink_versions(&self, key: &SinkKey) -> Result<Vec<Version>, DefinitionError> {
        self.sink(key).await?;
        let prefix = keys::below(keys::SINK_VERSIONS, key);
        let kept = self.read_all::<KeptVersion<SinkContent>>(&prefix).await?;
        Ok(kept.into_iter().map(|k| k.value.version).collect())
    }

    /// One version of a sink, with its content.
    ///
    /// # Errors
    /// [`DefinitionError::VersionNotFound`], or the store.
    pub async fn sink_version(
        &self,
        key: &SinkKey,
        number: u32,
    ) -> Result<KeptVersion<SinkContent>, DefinitionError> {
        let found: Option<Revised<_>> = self.read(Key::SinkVersion(key, number)).await?;
        found
            .map(|r| r.value)
            .ok_or(DefinitionError::VersionNotFound(number))
    }
}

/// Writes a sink and its present version.
pub(super) fn put_sink(draft: &mut Draft, sink: &Sink) -> Result<(), DefinitionError> {
    draft.put(Key::Sink(&sink.key), sink)?;
    let kept = KeptVersion {
        version: sink.version.clone(),
        content: SinkContent::of(sink),
    };
    draft.put(Key::SinkVersion(&sink.key, sink.version.number), &kept)?;
    Ok(())
}
