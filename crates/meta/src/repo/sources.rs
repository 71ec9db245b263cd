//! Sources: made, changed, deleted with their sinks, and brought back.

use std::mem::discriminant;

use forebay_model::{
    BranchKey, Deleted, Sink, Source, SourceKey, Stamp, Version, VolumeId, limits,
};

use super::audit::Action;
use super::definitions::{Branch, DefinitionError, Refusal, SourceContent, next_version};
use super::{Attempts, Draft, Listing, Repo, Revised};
use crate::keys::{self, Key};
use crate::store::Revision;
use crate::stored::definition::KeptVersion;

impl Repo {
    /// Makes a source. An id that exists only as deleted is brought back under the new content:
    /// `created` is kept, numbering goes on, its old sinks stay deleted, for good.
    ///
    /// Never more than [`limits::SOURCES_MAX`] of a branch: each creation writes the branch, so two
    /// at the same time see each other.
    ///
    /// # Errors
    /// [`DefinitionError::SourceExists`], a limit, no such branch, or the store.
    pub async fn create_source(
        &self,
        key: &SourceKey,
        content: SourceContent,
        description: &str,
        stamp: &Stamp,
    ) -> Result<Revised<Source>, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            let branch = self.read::<Branch>(Key::Branch(&key.branch)).await?;
            let branch = branch.ok_or(DefinitionError::BranchNotFound(key.branch))?;
            if self.read::<Source>(Key::Source(key)).await?.is_some() {
                return Err(DefinitionError::SourceExists(key.clone()));
            }
            let siblings = self.count(&keys::below(keys::SOURCES, &key.branch)).await?;
            if siblings >= limits::SOURCES_MAX {
                return Err(DefinitionError::LimitReached {
                    what: "source count",
                    max: limits::SOURCES_MAX,
                });
            }
            let deleted = self.read::<Source>(Key::DeletedSource(key)).await?;
            let source = new_source(key, &content, description, stamp, deleted.as_ref())?;
            let mut draft = Draft::default();
            draft.unchanged(Key::Branch(&key.branch), &branch);
            draft.put(Key::Branch(&key.branch), &branch.value)?;
            draft.absent(Key::Source(key));
            draft.as_read(Key::DeletedSource(key), deleted.as_ref());
            if deleted.is_some() {
                draft.delete(Key::DeletedSource(key));
                self.abandon_sinks(key, &mut draft).await?;
            }
            put_source(&mut draft, &source)?;
            let before = deleted.as_ref().map(|d| &d.version);
            let versions = (before, Some(&source.version));
            draft.audit_source(key, Action::Create, versions, stamp)?;
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: source,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }

    /// Sinks that were deleted with a source no longer come back with it.
    async fn abandon_sinks(
        &self,
        key: &SourceKey,
        draft: &mut Draft,
    ) -> Result<(), DefinitionError> {
        let prefix = keys::below(keys::DELETED_SINKS, key);
        for mut sink in self.read_all::<Sink>(&prefix).await? {
            let at = sink.value.key.clone();
            if let Some(deleted) = &mut sink.value.deleted
                && deleted.with_parent
            {
                deleted.with_parent = false;
                draft.unchanged(Key::DeletedSink(&at), &sink);
                draft.put(Key::DeletedSink(&at), &sink.value)?;
            }
        }
        Ok(())
    }

    /// A source that is not deleted.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`], or the store.
    pub async fn source(&self, key: &SourceKey) -> Result<Revised<Source>, DefinitionError> {
        let found = self.read(Key::Source(key)).await?;
        found.ok_or_else(|| DefinitionError::SourceNotFound(key.clone()))
    }

    /// Sources of a branch after the id `after` (empty for the beginning), sorted by id.
    ///
    /// # Errors
    /// The store's.
    pub async fn sources(
        &self,
        branch: &BranchKey,
        after: &str,
        limit: usize,
    ) -> Result<Listing<Source>, DefinitionError> {
        let prefix = keys::below(keys::SOURCES, branch);
        Ok(self.list(&prefix, after, limit).await?)
    }

    /// Deleted sources of a branch.
    ///
    /// # Errors
    /// The store's.
    pub async fn deleted_sources(
        &self,
        branch: &BranchKey,
        after: &str,
        limit: usize,
    ) -> Result<Listing<Source>, DefinitionError> {
        let prefix = keys::below(keys::DELETED_SOURCES, branch);
        Ok(self.list(&prefix, after, limit).await?)
    }

    /// A source that is deleted.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`], or the store.
    pub async fn deleted_source(
        &self,
        key: &SourceKey,
    ) -> Result<Revised<Source>, DefinitionError> {
        let found = self.read(Key::DeletedSource(key)).await?;
        found.ok_or_else(|| DefinitionError::SourceNotFound(key.clone()))
    }

    /// Changes a source by `change`, which may be called several times. It is a new version, also
    /// when nothing is different. Open files of its sinks stay as they are: settings of a source
    /// hold from the next file on.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`], what `change` refuses, a limit, or the store.
    pub async fn update_source(
        &self,
        key: &SourceKey,
        description: &str,
        stamp: &Stamp,
        mut change: impl FnMut(&mut SourceContent) -> Result<(), Refusal> + Send,
    ) -> Result<Revised<Source>, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.source(key).await?;
            let mut content = SourceContent::of(&read);
            change(&mut content).map_err(DefinitionError::Refused)?;
            let mut source = read.value.clone();
            source.version =
                next_version(source.version.number, content.hash(), description, stamp)?;
            content.write_into(&mut source);
            let mut draft = Draft::default();
            draft.unchanged(Key::Source(key), &read);
            put_source(&mut draft, &source)?;
            let versions = (Some(&read.version), Some(&source.version));
            draft.audit_source(key, Action::Update, versions, stamp)?;
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: source,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }

    /// Gives a source the content that it had as version `number`, as a new version. Its secret
    /// stays the present one: one that was rotated away never opens anything again.
    ///
    /// # Errors
    /// [`DefinitionError::VersionNotFound`], and those of [`Self::update_source`].
    pub async fn rollback_source(
        &self,
        key: &SourceKey,
        number: u32,
        stamp: &Stamp,
    ) -> Result<Revised<Source>, DefinitionError> {
        let content = self.source_version(key, number).await?.content;
        let description = format!("Rollback to version \"{number}\".");
        self.update_source(key, &description, stamp, move |now| {
            let kind = now.kind.clone();
            *now = content.clone();
            if discriminant(&kind) == discriminant(&now.kind) {
                now.kind = kind;
            }
            Ok(())
        })
        .await
    }

    /// Deletes a source and its sinks, which are marked as deleted with it, and closes the sinks'
    /// files: all in one transaction. Afterwards none of its sinks has a file that is written.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`], or the store.
    pub async fn delete_source(
        &self,
        key: &SourceKey,
        stamp: &Stamp,
    ) -> Result<Revision, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.source(key).await?;
            let mut draft = Draft::default();
            // A sink that is made meanwhile writes the source too.
            draft.unchanged(Key::Source(key), &read);
            draft.delete(Key::Source(key));
            let mut source = read.value;
            source.deleted = Some(Deleted {
                stamp: stamp.clone(),
                with_parent: false,
            });
            draft.put(Key::DeletedSource(key), &source)?;
            draft.audit_source(key, Action::Delete, (Some(&source.version), None), stamp)?;
            for sink in self
                .read_all::<Sink>(&keys::below(keys::SINKS, key))
                .await?
            {
                self.draft_sink_deletion(&mut draft, sink, stamp, true)
                    .await?;
            }
            if let Some(revision) = self.commit(draft).await? {
                return Ok(revision);
            }
            attempts.again().await?;
        }
    }

    /// Brings a deleted source back, with the sinks that were deleted with it, and opens their
    /// files. A new version of the source; its sinks keep theirs.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`] when it is not among the deleted, a limit, no volumes,
    /// or the store.
    pub async fn undelete_source(
        &self,
        key: &SourceKey,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Revised<Source>, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.read::<Source>(Key::DeletedSource(key)).await?;
            let read = read.ok_or_else(|| DefinitionError::SourceNotFound(key.clone()))?;
            let branch = self.read::<Branch>(Key::Branch(&key.branch)).await?;
            let branch = branch.ok_or(DefinitionError::BranchNotFound(key.branch))?;
            let siblings = self.count(&keys::below(keys::SOURCES, &key.branch)).await?;
            if siblings >= limits::SOURCES_MAX {
                return Err(DefinitionError::LimitReached {
                    what: "source count",
                    max: limits::SOURCES_MAX,
                });
            }
            let mut source = read.value.clone();
            source.deleted = None;
            source.version = undeleted_version(&source.version, stamp)?;
            let mut draft = Draft::default();
            draft.unchanged(Key::Branch(&key.branch), &branch);
            draft.put(Key::Branch(&key.branch), &branch.value)?;
            draft.unchanged(Key::DeletedSource(key), &read);
            draft.delete(Key::DeletedSource(key));
            draft.absent(Key::Source(key));
            put_source(&mut draft, &source)?;
            let versions = (Some(&read.version), Some(&source.version));
            draft.audit_source(key, Action::Undelete, versions, stamp)?;
            let prefix = keys::below(keys::DELETED_SINKS, key);
            for sink in self.read_all::<Sink>(&prefix).await? {
                if sink.deleted.as_ref().is_some_and(|d| d.with_parent) {
                    self.draft_sink_return(&mut draft, &source, sink, None, volumes, stamp)
                        .await?;
                }
            }
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: source,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }

    /// All versions of a source, oldest first.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`], or the store.
    pub async fn source_versions(&self, key: &SourceKey) -> Result<Vec<Version>, DefinitionError> {
        self.source(key).await?;
        let prefix = keys::below(keys::SOURCE_VERSIONS, key);
        let kept = self.read_all::<KeptVersion<SourceContent>>(&prefix).await?;
        Ok(kept.into_iter().map(|k| k.value.version).collect())
    }

    /// One version of a source, with its content.
    ///
    /// # Errors
    /// [`DefinitionError::VersionNotFound`], or the store.
    pub async fn source_version(
        &self,
        key: &SourceKey,
        number: u32,
    ) -> Result<KeptVersion<SourceContent>, DefinitionError> {
        let found = self.read(Key::SourceVersion(key, number)).await?;
        let found: Option<Revised<_>> = found;
        found
            .map(|r| r.value)
            .ok_or(DefinitionError::VersionNotFound(number))
    }
}

/// The version that a definition has when it is brought back.
pub(super) fn undeleted_version(
    version: &Version,
    stamp: &Stamp,
) -> Result<Version, DefinitionError> {
    let description = format!("Undeleted to version \"{}\".", version.number);
    next_version(version.number, version.hash.clone(), &description, stamp)
}

fn new_source(
    key: &SourceKey,
    content: &SourceContent,
    description: &str,
    stamp: &Stamp,
    deleted: Option<&Revised<Source>>,
) -> Result<Source, DefinitionError> {
    let number = deleted.map_or(0, |d| d.version.number);
    Ok(Source {
        key: key.clone(),
        kind: content.kind.clone(),
        name: content.name.clone(),
        description: content.description.clone(),
        settings: content.settings.clone(),
        version: next_version(number, content.hash(), description, stamp)?,
        created: deleted.map_or_else(|| stamp.clone(), |d| d.created.clone()),
        deleted: None,
        disabled: None,
    })
}

/// Writes a source and its present version.
pub(super) fn put_source(draft: &mut Draft, source: &Source) -> Result<(), DefinitionError> {
    draft.put(Key::Source(&source.key), source)?;
    let kept = KeptVersion {
        version: source.version.clone(),
        content: SourceContent::of(source),
    };
    draft.put(
        Key::SourceVersion(&source.key, source.version.number),
        &kept,
    )?;
    Ok(())
}
